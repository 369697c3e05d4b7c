//! The connection as hyper sees it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::Handle;

/// How long an end of input is kept back. Handlers that take connections decide sooner; a client that leaves in the middle
/// of its request's body is noticed then.
const KEPT_BACK: Duration = Duration::from_secs(30);

/// Keeps the end of input back while a handler may take the connection: hyper would drop the handler, while to the
/// handler it only means that there is no stdin. When the handler has answered in HTTP, hyper reads again by itself.
pub(super) struct Socket<S> {
    stream: S,
    handle: Arc<Handle>,
    kept_back: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, handle: Arc<Handle>) -> Self {
        Self { stream, handle, kept_back: None }
    }

    /// The connection itself, whose end of input can be read again.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let is_end = matches!(polled, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        if !is_end || !self.handle.may_be_taken.load(Ordering::Relaxed) {
            return polled;
        }
        let kept_back = self.kept_back.get_or_insert_with(|| Box::pin(sleep(KEPT_BACK)));
        kept_back.as_mut().poll(cx).map(Ok)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
