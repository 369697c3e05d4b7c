//! Sockets, and the loop that takes connections from them.
//!
//! There is no small limit on connections: ten thousand idle streams (events, logs, waits) are normal, so the soft limit
//! of open files is raised to the hard one at start. When three quarters of it are connections, further ones are
//! *crowded*: they are accepted and closed after one answer, `_ping` and `/version` as always and 503 for everything else;
//! with TLS, or when there are hundreds of them, they are closed at once. So the descriptors that the daemon needs for its
//! own work remain, and a health check gets through. When the descriptors are gone all the same, accepting pauses and goes
//! on; the loop never ends by itself.

mod door;
pub(crate) mod inherited;
mod stream;
mod tcp;
mod tls;
pub(crate) mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, ListenAddress};
use crate::connection::Welcome;
pub(crate) use door::Visit;
use door::{Accepted, Handshake, Place, Strangers};
pub(crate) use stream::Stream;

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Another process answers on the socket.
    #[error(
        "{path}: another daemon is listening on this socket; stop it, or choose another with --socket"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has the name.
    #[error("{path}: exists and is no socket; it is left alone")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else has been starting on the same folder for too long.
    #[error("{path}: another process has been holding a lock on this folder for too long")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A step failed.
    #[error("cannot {doing} {path}")]
    Io {
        /// The step.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An address of the network that is taken, or not ours.
    #[error("cannot listen on tcp://{address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
    /// Certificates that do not work.
    #[error("TLS cannot be served")]
    Tls(#[from] tls::TlsError),
    /// `fd://` without systemd (moby `daemon/listeners/listeners_linux.go`).
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NothingInherited,
    /// `fd://N`, but there are fewer.
    #[error("fd://{number}: systemd passed only the sockets 3 to {last}")]
    NotInherited {
        /// As asked.
        number: usize,
        /// The last one there is.
        last: usize,
    },
    /// A socket from systemd that is no Unix stream socket.
    #[error("fd://{number} is no listening Unix stream socket; nerdctld serves only those yet")]
    NotUnix {
        /// Its number.
        number: usize,
        /// The kernel's words.
        #[source]
        source: io::Error,
    },
}

/// A listening socket.
pub(crate) enum Socket {
    /// Of this machine.
    Unix(UnixListener),
    /// Of the network, in the clear.
    Tcp(TcpListener),
    /// Of the network, encrypted.
    Tls {
        /// The socket.
        listener: TcpListener,
        /// How clients and we agree.
        acceptor: TlsAcceptor,
        /// Those who are about to.
        strangers: Strangers,
    },
    /// For metrics, to anybody.
    Metrics {
        /// The socket.
        listener: TcpListener,
        /// All of its connections.
        readers: Strangers,
    },
}

impl Socket {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Client(Stream::Unix(stream)))
            }
            Self::Tcp(listener) => {
                let (stream, _) = tcp::accept(listener).await?;
                Ok(Accepted::Client(Stream::Tcp(stream)))
            }
            Self::Tls { listener, acceptor, strangers } => {
                let (stream, peer) = tcp::accept(listener).await?;
                // Who is there now says something; who came first may never.
                let place = strangers.place_of_the_first().await;
                let acceptor = acceptor.clone();
                Ok(Accepted::Handshake(Handshake { acceptor, stream, peer, place }))
            }
            Self::Metrics { listener, readers } => {
                let place = readers.place().await;
                let (stream, _) = tcp::accept(listener).await?;
                Ok(Accepted::Reader(Stream::Tcp(stream), place))
            }
        }
    }
}

/// A socket that is ready to accept.
pub(crate) struct Listener {
    /// The socket.
    pub(crate) socket: Socket,
    /// For the log: the path, the address, or `fd://3`.
    pub(crate) name: String,
    /// Our own socket file, to be removed at the end.
    pub(crate) _file: Option<unix::SocketFile>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.name).finish()
    }
}

/// Open everything that the configuration names. Must be called inside the runtime.
///
/// # Errors
/// The first that cannot be opened; those opened before are closed and their files removed.
pub(crate) fn open(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let mut inherited = inherited::Inherited::from_environment();
    let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
    let mut listeners = Vec::new();
    for address in &config.listen {
        match address {
            ListenAddress::Unix(path) => {
                listeners.push(unix::bind(path, config.root, config.group)?);
            }
            ListenAddress::Tcp(address) => {
                if config.tls.as_ref().is_none_or(|files| files.clients.is_none()) {
                    tracing::warn!(%address, "whoever can connect to this address is root on this host");
                }
                listeners.push(tcp::bind(*address, |listener| match &tls {
                    None => Socket::Tcp(listener),
                    Some(acceptor) => Socket::Tls {
                        listener,
                        acceptor: acceptor.clone(),
                        strangers: Strangers::new(),
                    },
                })?);
            }
            ListenAddress::Inherited(number) => listeners.extend(inherited.take(*number)?),
        }
    }
    Ok(listeners)
}

/// Open the address for metrics, if there is one. Must be called inside the runtime.
///
/// # Errors
/// [`ListenError::Tcp`].
pub(crate) fn open_metrics(config: &Config) -> Result<Option<Listener>, ListenError> {
    let socket = |listener| Socket::Metrics { listener, readers: Strangers::new() };
    config.metrics.map(|address| tcp::bind(address, socket)).transpose()
}

/// The soft limit of open files; `None` is no limit.
pub(crate) fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raise the soft limit of open files to the hard one; returns what holds then.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // None is "no limit"; a number keeps the arithmetic of Connections simple.
    let wanted = limit.maximum.unwrap_or(1 << 20);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit.current.unwrap_or(wanted)
        }
    }
}

/// Crowded connections that get their one answer; each has a few seconds for it.
const CROWD: usize = 256;

/// How many connections the Docker API's clients have, and who is told when there are none.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    open: AtomicUsize,
    limit: usize,
    crowd: Arc<Semaphore>,
    tracker: TaskTracker,
    changed: Notify,
}

impl Connections {
    /// For a process that may open so many files.
    pub(crate) fn new(open_files: u64) -> Self {
        let limit = usize::try_from(open_files / 4 * 3).unwrap_or(usize::MAX).max(1);
        let counted = Counted {
            open: AtomicUsize::new(0),
            limit,
            crowd: Arc::new(Semaphore::new(CROWD)),
            tracker: TaskTracker::new(),
            changed: Notify::new(),
        };
        Self(Arc::new(counted))
    }

    /// Count one more until the guard goes; `None` if the crowd is too large even for a refusal.
    fn enter(&self) -> Option<Entered> {
        let (welcome, crowd) = match self.are_crowded() {
            false => (Welcome::Client, None),
            true => (Welcome::Crowded, Some(Arc::clone(&self.0.crowd).try_acquire_owned().ok()?)),
        };
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Some(Entered { connections: Some(self.clone()), welcome, _place: None, _crowd: crowd })
    }

    /// One more would be one too many.
    fn are_crowded(&self) -> bool {
        self.open() >= self.0.limit
    }

    /// Open ones.
    pub(crate) fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// The last connection has closed (it may be called again for the next time).
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Wait until every connection is closed; no new ones are expected.
    pub(crate) async fn drained(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Entered {
    /// Where it is counted, if it is.
    connections: Option<Connections>,
    welcome: Welcome,
    _place: Option<Place>,
    _crowd: Option<OwnedSemaphorePermit>,
}

impl Entered {
    /// A reader of metrics.
    fn reader(place: Place) -> Self {
        Self { connections: None, welcome: Welcome::Reader, _place: Some(place), _crowd: None }
    }

    /// How it is to be served.
    pub(crate) fn welcome(&self) -> Welcome {
        self.welcome
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Some(Connections(counted)) = &self.connections else { return };
        if counted.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            counted.changed.notify_one();
        }
    }
}

/// Take connections until the daemon stops; each becomes a task that `connections` owns.
///
/// `serve` drives one connection to its end.
pub(crate) async fn accept<F, Fut>(
    socket: &Socket,
    name: &str,
    connections: &Connections,
    stop: &CancellationToken,
    serve: F,
) where
    F: Fn(Visit) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            // TaskTracker::spawn is tokio::spawn with an owner: the second of the three places that may.
            Ok(accepted) => {
                if let Some(visit) = Visit::new(accepted, connections) {
                    connections.0.tracker.spawn(serve(visit));
                }
            }
            // The client left between connect and accept: nothing to wait for.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(listener = name, %error, open = connections.open(), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_beyond_three_quarters_of_the_files_are_crowded() {
        let connections = Connections::new(8);
        let enter = || connections.enter().unwrap();
        let entered: Vec<_> = (0..6).map(|_| enter()).collect();
        assert!(entered.iter().all(|one| one.welcome() == Welcome::Client));
        let late: Vec<_> = (0..CROWD).map(|_| enter()).collect();
        assert!(late.iter().all(|one| one.welcome() == Welcome::Crowded));
        assert!(connections.enter().is_none(), "a crowd has an end");
        drop(entered);
        drop(late);
        assert_eq!(connections.open(), 0);
        assert_eq!(enter().welcome(), Welcome::Client);
    }

    #[tokio::test]
    async fn the_last_one_to_leave_wakes_who_waits_for_idleness() {
        let connections = Connections::new(100);
        let (one, two) = (connections.enter().unwrap(), connections.enter().unwrap());
        drop(one);
        drop(two);
        connections.changed().await;
    }
}
