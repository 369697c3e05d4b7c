//! `nerdctld dial-stdio`: standard input and output become a connection to the daemon.
//!
//! `DOCKER_HOST=ssh://host` makes the docker CLI run `docker system dial-stdio` on that host and speak HTTP through it
//! (docker/cli `cli/connhelper/connhelper.go`). The ends follow docker/cli `cli/command/system/dial_stdio.go`: the end of
//! input closes only our writing side, and the end of the daemon's answers ends the program.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::config::host_and_port;

/// What asks the docker CLI for TLS.
const TLS_VARIABLES: [&str; 2] = ["DOCKER_TLS_VERIFY", "DOCKER_TLS"];
/// The daemon of root.
const SYSTEM_SOCKET: &str = "/run/nerdctl.sock";
/// Bytes that are on their way at once.
const CHUNK: usize = 32 << 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// An address of a kind that is not dialled.
    #[error(
        "{origin}: cannot connect to {address:?}: write unix:///path/to.sock or tcp://host:port"
    )]
    Address {
        /// Flag or variable.
        origin: &'static str,
        /// As given.
        address: String,
    },
    /// TLS on this connection would be the caller's to speak, and what he says in the clear is for nobody else.
    #[error(
        "{origin}: dial-stdio does not speak TLS, which is asked for ({asked}), so it does not connect to {address:?}: \
         name the daemon's Unix socket, or take DOCKER_TLS_VERIFY, DOCKER_TLS, --tls and --tlsverify away"
    )]
    Tls {
        /// Flag or variable.
        origin: &'static str,
        /// What asks for TLS.
        asked: &'static str,
        /// As given.
        address: String,
    },
    /// Nobody answers there.
    #[error(
        "cannot connect to the daemon at {address}; is it running, and may you use its socket?"
    )]
    Connect {
        /// Where.
        address: String,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
    /// A stream broke in the middle.
    #[error("the connection to the daemon broke")]
    Copy(#[source] io::Error),
}

/// Where the daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
}

impl Target {
    /// The first that says something: the flags, `DOCKER_HOST`, a user's own daemon, the system's.
    ///
    /// # Errors
    /// [`DialError::Address`], or [`DialError::Tls`] where TLS is asked for (`tls`: by a flag).
    pub(crate) fn choose(
        flag: Option<&str>,
        tls: bool,
        variable: &dyn Fn(&str) -> Option<String>,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, DialError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let asked = tls.then_some("--tls");
        // Any value will do (docker/cli `cli/flags/options.go`).
        let asked = asked
            .or_else(|| TLS_VARIABLES.iter().copied().find(|variable| set(variable).is_some()));
        if let Some(address) = flag {
            return Self::parse("--addr", address, asked);
        }
        if let Some(address) = set("DOCKER_HOST") {
            return Self::parse("DOCKER_HOST", &address, asked);
        }
        let own = set("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("nerdctl.sock"));
        Ok(Self::Unix(own.filter(|socket| exists(socket)).unwrap_or(SYSTEM_SOCKET.into())))
    }

    fn parse(
        origin: &'static str,
        address: &str,
        tls: Option<&'static str>,
    ) -> Result<Self, DialError> {
        let unix = address.strip_prefix("unix://").unwrap_or(address);
        if unix.starts_with('/') {
            return Ok(Self::Unix(unix.into()));
        }
        let found = address.strip_prefix("tcp://").and_then(host_and_port);
        let Some((host, port)) = found.filter(|(host, _)| !host.contains('/')) else {
            return Err(DialError::Address { origin, address: address.to_owned() });
        };
        match tls {
            Some(asked) => Err(DialError::Tls { origin, asked, address: address.to_owned() }),
            None => Ok(Self::Tcp(format!("{host}:{port}"))),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp(host) => format!("tcp://{host}"),
        }
    }
}

/// Connect, and copy until the daemon has said its last.
///
/// # Errors
/// Nobody answers, or a stream broke.
pub(crate) fn run(target: &Target) -> Result<(), DialError> {
    let failed = |source| DialError::Connect { address: target.shown(), source };
    match target {
        Target::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(failed)?;
            let other = stream.try_clone().map_err(failed)?;
            copy(stream, other, |stream| stream.shutdown(Shutdown::Write))
        }
        Target::Tcp(host) => {
            let stream = TcpStream::connect(host).map_err(failed)?;
            let _ = stream.set_nodelay(true);
            let other = stream.try_clone().map_err(failed)?;
            copy(stream, other, |stream| stream.shutdown(Shutdown::Write))
        }
    }
}

/// The thread that reads our input may wait for ever; it ends with the process.
fn copy<S: Read + Write + Send + 'static>(
    mut answers: S,
    mut requests: S,
    close: fn(&S) -> io::Result<()>,
) -> Result<(), DialError> {
    let mut input = unbuffered(io::stdin()).map_err(DialError::Copy)?;
    let mut output = unbuffered(io::stdout()).map_err(DialError::Copy)?;
    std::thread::spawn(move || {
        // Whatever ends the input ends our side; a daemon that is gone is noticed on the other.
        let _ = pass_on(&mut input, &mut requests);
        let _ = close(&requests);
    });
    match pass_on(&mut answers, &mut output) {
        Ok(()) => Ok(()),
        // Who called us has left: nothing is wrong here.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(DialError::Copy(error)),
    }
}

/// Not `io::copy`: it splices, and a splice that waits for a socket keeps the reader of its pipe from what is in it already.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The standard library's own standard streams keep bytes back.
fn unbuffered(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(flag: Option<&str>, variables: &[(&str, &str)], sockets: &[&str]) -> String {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let exists = |path: &Path| sockets.iter().any(|socket| Path::new(socket) == path);
        match Target::choose(flag, false, &variable, &exists) {
            Ok(target) => target.shown(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_nearest_daemon_is_chosen() {
        let user = ("XDG_RUNTIME_DIR", "/run/user/7");
        let own = "/run/user/7/nerdctl.sock";
        let host = ("DOCKER_HOST", "unix:///d.sock");
        assert_eq!(chosen(Some("unix:///f.sock"), &[host, user], &[own]), "/f.sock");
        assert_eq!(chosen(None, &[host, user], &[own]), "/d.sock");
        assert_eq!(chosen(None, &[user], &[own]), own);
        assert_eq!(chosen(None, &[user], &[]), SYSTEM_SOCKET);
        assert_eq!(chosen(None, &[("DOCKER_HOST", "")], &[]), SYSTEM_SOCKET);
    }

    #[test]
    fn addresses_have_dockers_defaults() {
        for (given, dialled) in [
            ("tcp://[::1]:1", "tcp://[::1]:1"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://name/", "tcp://name:2375"),
            ("tcp://", "tcp://localhost:2375"),
        ] {
            assert_eq!(chosen(Some(given), &[], &[]), dialled);
        }
        for wrong in ["tcp://name:x", "tcp://name/path", "tcp://name:1/path"] {
            assert!(chosen(Some(wrong), &[], &[]).starts_with("--addr: cannot connect"), "{wrong}");
        }
    }

    #[test]
    fn what_asks_for_tls_is_not_answered_in_the_clear() {
        let host = ("DOCKER_HOST", "tcp://h:2376");
        for name in TLS_VARIABLES {
            let said = chosen(None, &[host, (name, "1")], &[]);
            assert!(said.starts_with("DOCKER_HOST: dial-stdio does not speak TLS"), "{said}");
            assert!(said.contains(name), "{said}");
            assert_eq!(chosen(None, &[("DOCKER_HOST", "unix:///d"), (name, "1")], &[]), "/d");
            assert_eq!(chosen(None, &[host, (name, "")], &[]), "tcp://h:2376");
        }
        let tls = Target::choose(Some("tcp://h"), true, &|_| None, &|_| false);
        assert!(matches!(tls, Err(DialError::Tls { asked: "--tls", .. })), "{tls:?}");
    }

    #[test]
    fn other_addresses_are_named_with_their_origin() {
        let text = chosen(None, &[("DOCKER_HOST", "ssh://there")], &[]);
        assert!(text.starts_with("DOCKER_HOST: cannot connect to \"ssh://there\""), "{text}");
        assert!(chosen(Some("fd://"), &[], &[]).starts_with("--addr: "));
    }
}
