//! The connection as hyper sees it: heads have a time limit, and its end may come later.

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
    head: Option<Head>,
    /// How long a head may take.
    patience: Duration,
}

/// A head that is coming.
struct Head {
    /// Requests before it.
    number: usize,
    /// When it must be complete.
    due: Pin<Box<Sleep>>,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, handle: Arc<Handle>, patience: Duration) -> Self {
        let head = Some(Head { number: 0, due: Box::pin(sleep(patience)) });
        Self { stream, handle, kept_back: None, head, patience }
    }

    /// Fails when the head that is coming has taken too long. `more` says that bytes have just come.
    fn poll_head(&mut self, more: bool, cx: &mut Context<'_>) -> io::Result<()> {
        let requests = self.handle.requests();
        let begun = requests.begun();
        self.head.take_if(|head| head.number != begun);
        if more && self.head.is_none() && requests.are_answered() {
            let due = Box::pin(sleep(self.patience));
            self.head = Some(Head { number: begun, due });
        }
        let head = self.head.as_mut().filter(|_| !more);
        if head.is_some_and(|head| head.due.as_mut().poll(cx).is_ready()) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a head took too long"));
        }
        Ok(())
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
        let more = buf.filled().len() > before;
        if more || polled.is_pending() {
            self.poll_head(more, cx)?;
        }
        let is_end = matches!(polled, Poll::Ready(Ok(()))) && !more;
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::super::busy::Busy;
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);
    const HANGS: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn heads_have_a_time_limit_and_idleness_and_bodies_have_none() {
        let handle = Arc::new(Handle::default());
        let (mut client, server) = tokio::io::duplex(64);
        let mut socket = Socket::new(server, Arc::clone(&handle), PATIENCE);
        let mut buffer = [0; 64];
        client.write_all(b"head").await.unwrap();
        assert_eq!(socket.read(&mut buffer).await.unwrap(), 4);
        let busy = Busy::new(&handle);
        client.write_all(b"body").await.unwrap();
        assert_eq!(socket.read(&mut buffer).await.unwrap(), 4);
        assert!(timeout(3 * PATIENCE, socket.read(&mut buffer)).await.is_err(), "a body");
        drop(busy);
        assert!(timeout(3 * PATIENCE, socket.read(&mut buffer)).await.is_err(), "idle");
        client.write_all(b"hea").await.unwrap();
        assert_eq!(socket.read(&mut buffer).await.unwrap(), 3);
        let late = timeout(HANGS, socket.read(&mut buffer)).await.unwrap();
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_connects_and_says_nothing_is_let_go() {
        let (_client, server) = tokio::io::duplex(64);
        let mut socket = Socket::new(server, Arc::default(), PATIENCE);
        let late = timeout(HANGS, socket.read(&mut [0])).await.unwrap();
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
