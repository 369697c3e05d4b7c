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
    /// Host and port, without TLS.
    Tcp(String),
}

impl Target {
    /// The first that says something: the flags, `DOCKER_HOST`, a user's own daemon, the system's.
    ///
    /// # Errors
    /// [`DialError::Address`].
    pub(crate) fn choose(
        flag: Option<&str>,
        variable: &dyn Fn(&str) -> Option<String>,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, DialError> {
        if let Some(address) = flag {
            return Self::parse("--addr", address);
        }
        let set = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(address) = set("DOCKER_HOST") {
            return Self::parse("DOCKER_HOST", &address);
        }
        let own = set("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("nerdctl.sock"));
        Ok(Self::Unix(own.filter(|socket| exists(socket)).unwrap_or(SYSTEM_SOCKET.into())))
    }

    fn parse(origin: &'static str, address: &str) -> Result<Self, DialError> {
        let unix = address.strip_prefix("unix://").unwrap_or(address);
        if unix.starts_with('/') {
            return Ok(Self::Unix(unix.into()));
        }
        match address.strip_prefix("tcp://") {
            Some(host) if !host.is_empty() => Ok(Self::Tcp(host.to_owned())),
            _ => Err(DialError::Address { origin, address: address.to_owned() }),
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
        match Target::choose(flag, &variable, &exists) {
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
        assert_eq!(chosen(Some("tcp://[::1]:2375"), &[], &[]), "tcp://[::1]:2375");
    }

    #[test]
    fn other_addresses_are_named_with_their_origin() {
        let text = chosen(None, &[("DOCKER_HOST", "ssh://there")], &[]);
        assert!(text.starts_with("DOCKER_HOST: cannot connect to \"ssh://there\""), "{text}");
        assert!(chosen(Some("fd://"), &[], &[]).starts_with("--addr: "));
    }
}
