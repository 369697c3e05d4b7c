//! An accepted connection of any kind: one type, so that the HTTP server is compiled once.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Longest time a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a listener has accepted; on TLS it has to be agreed on first.
pub(crate) enum Accepted {
    /// Bytes can flow.
    Open(Stream),
    /// A client that has to say who it is.
    Handshake(TlsAcceptor, TcpStream, SocketAddr),
}

impl Accepted {
    /// The open stream; `None` if there was no agreement, which the log knows.
    pub(crate) async fn open(self) -> Option<Stream> {
        let (acceptor, stream, peer) = match self {
            Self::Open(stream) => return Some(stream),
            Self::Handshake(acceptor, stream, peer) => (acceptor, stream, peer),
        };
        match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a TLS client was refused");
                None
            }
            Err(_) => {
                tracing::debug!(%peer, "a TLS client said nothing");
                None
            }
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Of this machine.
    Unix(UnixStream),
    /// Of the network, in the clear.
    Tcp(TcpStream),
    /// Of the network. Closing one direction sends `close_notify`.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The same call on whatever stream it is.
macro_rules! on {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Unix($inner) => $call,
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        on!(self, stream => stream.is_write_vectored())
    }
}
