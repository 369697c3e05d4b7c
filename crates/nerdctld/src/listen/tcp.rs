//! Listening on an address of the network.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

use super::{ListenError, Listener, Socket};

/// A client whose machine has vanished is noticed after a few of these without an answer (Go's default).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Open the listener; `socket` says what it is for. Must be called inside the runtime.
///
/// # Errors
/// [`ListenError::Tcp`].
pub(super) fn bind(
    address: SocketAddr,
    socket: impl FnOnce(TcpListener) -> Socket,
) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Tcp { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    let bound = listener.local_addr().unwrap_or(address);
    Ok(Listener { socket: socket(listener), name: format!("tcp://{bound}"), _file: None })
}

/// Take a connection. Cancel-safe.
///
/// # Errors
/// Those of accept(2).
pub(super) async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    prepare(&stream);
    Ok((stream, peer))
}

/// Small packets go out at once, and dead peers are noticed. Failure costs only that.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE);
}
