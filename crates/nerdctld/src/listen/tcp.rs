//! Listening on an address of the network.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{ListenError, Listener, Socket};

/// A client whose machine has vanished is noticed after a few of these without an answer (Go's default).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Open the listener. Must be called inside the runtime.
///
/// # Errors
/// [`ListenError::Tcp`].
pub(super) fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Tcp { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let bound = listener.local_addr().unwrap_or(address);
    Ok(Listener {
        socket: Socket::Tcp { listener, tls },
        name: format!("tcp://{bound}"),
        _file: None,
    })
}

/// Small packets go out at once, and dead peers are noticed. Failure costs only that.
pub(super) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE);
}
