//! A syslog server behind TLS.
//!
//! The handshake waits, and only as long as a connection may; after it nothing does: what the socket does not take stays in
//! the session, which takes no more until it has gone out.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError,
    RootCertStore, SignatureScheme,
};

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
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if options.skip_verify {
        Arc::new(Believer { authorities: None, own: Vec::new(), provider: Arc::clone(&provider) })
    } else {
        Arc::new(Believer::new(options.ca.as_deref(), Arc::clone(&provider))?)
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (&options.certificate, &options.key) {
        (None, None) => builder.with_no_client_auth(),
        (certificate, key) => {
            let unusable = |error: String| format!("could not load X509 key pair: {error}");
            let file = |path: &Option<std::path::PathBuf>| path.clone().unwrap_or_default();
            let chain = certificates(&file(certificate)).map_err(unusable)?;
            let key = PrivateKeyDer::from_pem_file(file(key));
            let key = key.map_err(|error| unusable(error.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable(error.to_string()))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(found) }
}

/// Believes what the system's authorities and the named ones vouch for, and the named certificates themselves, as Go does;
/// or, without authorities, everybody who has the key to the certificate that is shown.
#[derive(Debug)]
struct Believer {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Believer {
    fn new(ca: Option<&Path>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // What of the system's is damaged vouches for nobody.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let own = match ca {
            None => Vec::new(),
            Some(path) => certificates(path).map_err(|error| {
                format!("could not read CA certificate {:?}: {error}", path.display().to_string())
            })?,
        };
        roots.add_parsable_certificates(own.iter().cloned());
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let authorities = Some(built.build().map_err(|error| error.to_string())?);
        Ok(Self { authorities, own, provider })
    }
}

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // An authority that is used as a server; one that is too old or too new has another error.
            Err(TlsError::InvalidCertificate(CertificateError::Other(_)))
                if self.own.iter().any(|own| own == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::process::Command;
    use std::thread::JoinHandle;

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
                certificates(certificate).unwrap(),
                PrivateKeyDer::from_pem_file(key).unwrap(),
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
