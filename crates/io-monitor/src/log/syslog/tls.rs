//! A syslog server behind TLS.
//!
//! The handshake waits, and only as long as a connection may; after it nothing does: what the socket does not take stays in
//! the session, which takes no more until it has gone out.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};
use trust::{Authorities, Identity};

use crate::log_config::SyslogTls;

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Tls {
    stream: TcpStream,
    session: Box<ClientConnection>,
}

impl Tls {
    /// Shake hands over `stream`, whose other end says to be `host`.
    pub(super) fn connect(
        config: &Arc<ClientConfig>,
        host: &str,
        mut stream: TcpStream,
        patience: Duration,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut session = Box::new(session);
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream, session })
    }

    /// Take all, or nothing while what was taken before has not gone out.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.listen()?;
        self.flush()?;
        let taken = self.session.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Send what was taken.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    /// Read what the server says beside the protocol's replies: nothing, or that it goes.
    fn listen(&mut self) -> io::Result<()> {
        match self.session.read_tls(&mut self.stream) {
            Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            read => drop(read?),
        }
        self.session.process_new_packets().map_err(io::Error::other)?;
        match self.session.reader().read(&mut [0; 256]) {
            // It has said goodbye.
            Ok(0) => Err(io::ErrorKind::ConnectionAborted.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

/// What the options say about certificates (moby `daemon/logger/syslog`, docker/go-connections `tlsconfig`).
///
/// # Errors
/// A sentence about the file that cannot be used.
pub(super) fn config(options: &SyslogTls) -> Result<Arc<ClientConfig>, String> {
    let authorities = match options.skip_verify {
        true => None,
        false => Some(authorities(options.ca.as_deref())?),
    };
    let identity = match (&options.certificate, &options.key) {
        (None, None) => None,
        (certificate, key) => {
            let file = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
            let pair = Identity::read(&file(certificate), &file(key));
            Some(pair.map_err(|error| format!("could not load X509 key pair: {}", error.problem))?)
        }
    };
    let config = trust::client(authorities, identity).map_err(|error| error.to_string())?;
    Ok(Arc::new(config))
}

/// The system's and those of the named file, as far as they can be used.
fn authorities(ca: Option<&Path>) -> Result<Authorities, String> {
    let mut authorities = Authorities::of_system();
    if let Some(path) = ca {
        authorities.add_parsable(path).map_err(|error| {
            let path = path.display().to_string();
            format!("could not read CA certificate {path:?}: {}", error.problem)
        })?;
    }
    Ok(authorities)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::process::Command;
    use std::thread::JoinHandle;

    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::super::tests::{client, line};
    use super::*;
    use crate::frames::Stream;
    use crate::log_config::{SyslogAddress, SyslogFormat};

    /// A self-signed certificate for 127.0.0.1 and its key; `None` where there is no openssl.
    fn certificate(dir: &Path) -> Option<(PathBuf, PathBuf)> {
        let (certificate, key) = (dir.join("ca.pem"), dir.join("key.pem"));
        let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                       -subj /CN=test -addext subjectAltName=IP:127.0.0.1";
        let made = Command::new("openssl")
            .args(request.split_whitespace())
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output();
        made.is_ok_and(|made| made.status.success()).then_some((certificate, key))
    }

    /// Takes one connection and gives its lines.
    fn server((certificate, key): &(PathBuf, PathBuf)) -> (String, JoinHandle<Vec<String>>) {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                trust::certificates(certificate).unwrap(),
                trust::private_key(key).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = move || {
            let session = ServerConnection::new(Arc::new(config)).unwrap();
            let stream = StreamOwned::new(session, listener.accept().unwrap().0);
            // A client that ends without a goodbye ends with an error.
            BufReader::new(stream).lines().map_while(Result::ok).collect()
        };
        (address, std::thread::spawn(serve))
    }

    fn over_tls(address: &str, tls: SyslogTls) -> super::super::Syslog {
        let mut client = client(SyslogAddress::Tls(address.to_owned()), SyslogFormat::Rfc5424);
        client.options.tls = tls;
        client
    }

    #[test]
    fn lines_arrive_with_their_lengths() {
        const LINES: usize = 5000;
        let dir = tempfile::tempdir().unwrap();
        let Some(pair) = certificate(dir.path()) else { return };
        for tls in [
            SyslogTls { ca: Some(pair.0.clone()), ..SyslogTls::default() },
            SyslogTls { skip_verify: true, ..SyslogTls::default() },
        ] {
            let (address, lines) = server(&pair);
            let mut client = over_tls(&address, tls);
            client.open().unwrap();
            for number in 0..LINES {
                let text = format!("{number:0500}\n");
                while let Err(error) = client.send(&line(Stream::Stdout, &text)) {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            while client.flush().is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(client);
            let got = lines.join().unwrap();
            assert_eq!(got.len(), LINES);
            for (number, line) in got.iter().enumerate() {
                let (length, message) = line.split_once(' ').unwrap();
                assert_eq!(length.parse::<usize>().unwrap(), message.len() + 1);
                assert!(message.ends_with(&format!(" - {number:0500}")), "{message}");
            }
        }
    }

    #[test]
    fn a_server_that_nobody_vouches_for_gets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let Some(pair) = certificate(dir.path()) else { return };
        let (address, lines) = server(&pair);
        let refused = over_tls(&address, SyslogTls::default()).open().unwrap_err();
        assert!(
            refused.starts_with(&format!("dial {address}: invalid peer certificate")),
            "{refused}"
        );
        assert!(lines.join().unwrap().is_empty());
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        let with = |tls: SyslogTls| over_tls("127.0.0.1:1", tls).open().unwrap_err();
        let missing = Some(PathBuf::from("/nowhere/ca.pem"));
        let ca = with(SyslogTls { ca: missing.clone(), ..SyslogTls::default() });
        assert!(ca.starts_with(r#"could not read CA certificate "/nowhere/ca.pem": "#), "{ca}");
        let key = with(SyslogTls { key: missing, ..SyslogTls::default() });
        assert!(key.starts_with("could not load X509 key pair: "), "{key}");
    }
}
