//! A connection that a handler has taken for itself.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::header::{HeaderMap, HeaderName};
use io_monitor::Duplex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Interval;
use tracing::Instrument as _;

use super::websocket::Handshake;

/// How often a client that has closed its sending side is looked after: nothing wakes who waits for the other side.
const LOOKS: Duration = Duration::from_secs(10);

type Run = Box<dyn FnOnce(Duplex) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The head that goes before the raw bytes, exactly as dockerd writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HijackHead {
    /// The request had an `Upgrade` header: `101 UPGRADED`.
    Upgraded {
        /// Of the stream.
        content_type: &'static str,
    },
    /// It had none: `200 OK` without any length.
    Plain {
        /// Of the stream.
        content_type: &'static str,
    },
    /// The request asked for a WebSocket (RFC 6455, section 4.2.2).
    WebSocket(Handshake),
}

impl HijackHead {
    /// Of the stream.
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Upgraded { content_type } | Self::Plain { content_type } => content_type,
            Self::WebSocket(_) => "application/octet-stream",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Upgraded { content_type } => format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            ),
            Self::Plain { content_type } => {
                format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n")
            }
            Self::WebSocket(Handshake { accept, protocol }) => {
                let protocol = protocol.as_ref().map_or(String::new(), |protocol| {
                    format!("Sec-WebSocket-Protocol: {protocol}\r\n")
                });
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{protocol}"
                )
            }
        }
    }
}

/// A wish for the raw connection: the head to write, and what to do then.
pub(crate) struct Hijack {
    head: HijackHead,
    /// Whether the headers of ordinary answers go behind those of the head.
    shows_headers: bool,
    headers: String,
    run: Run,
}

impl fmt::Debug for Hijack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hijack").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Hijack {
    /// `run` gets both directions; when it returns the connection closes. Behind the end of input there is one thing more
    /// to read: an error, once the client is gone altogether.
    pub(crate) fn new<F, Fut>(head: HijackHead, run: F) -> Self
    where
        F: FnOnce(Duplex) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let span = tracing::Span::current();
        let run: Run = Box::new(|stream| Box::pin(run(stream).instrument(span)));
        Self { head, shows_headers: false, headers: String::new(), run }
    }

    /// Show the headers of an ordinary answer as well: the start of an exec does, attach does not (moby
    /// `daemon/server/router/container/exec.go`).
    pub(crate) fn with_ordinary_headers(mut self) -> Self {
        self.shows_headers = true;
        self
    }

    /// What an ordinary answer's headers would be.
    pub(crate) fn set_headers(&mut self, headers: &HeaderMap) {
        if !self.shows_headers {
            return;
        }
        let mut lines: Vec<String> = headers
            .iter()
            .filter_map(|(name, value)| {
                Some(format!("{}: {}\r\n", title_case(name), value.to_str().ok()?))
            })
            .collect();
        lines.sort_unstable();
        self.headers = lines.concat();
    }

    /// The client asked to leave HTTP.
    pub(crate) fn upgrades(&self) -> bool {
        !matches!(self.head, HijackHead::Plain { .. })
    }

    /// The same work on a request whose body is the input: then the head is an ordinary one and hyper writes it.
    pub(crate) fn into_parts(self) -> (HijackHead, Run) {
        (self.head, self.run)
    }

    /// Write the head and run. `early` is what the client sent right behind its request. Returns the connection to be
    /// closed, if there still is one.
    pub(super) async fn run<S>(self, mut stream: S, early: Bytes) -> Option<S>
    where
        S: AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static,
    {
        // Flushed before anything else: the client starts its container only when it has seen the head.
        let head = format!("{}{}\r\n", self.head.text(), self.headers);
        let written = async {
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the client left before its stream began");
            return None;
        }
        let (back, mut returned) = oneshot::channel();
        (self.run)(Duplex::new(Taken { early, stream: Lent::new(stream, back), ended: None }))
            .await;
        returned.try_recv().ok()
    }
}

/// As Go writes names of headers: `Api-Version`.
fn title_case(name: &HeaderName) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    };
    name.as_str().split('-').map(word).collect::<Vec<_>>().join("-")
}

/// A stream that comes back when its borrower drops it.
struct Lent<S> {
    stream: Option<S>,
    back: Option<oneshot::Sender<S>>,
}

impl<S> Lent<S> {
    fn new(stream: S, back: oneshot::Sender<S>) -> Self {
        Self { stream: Some(stream), back: Some(back) }
    }

    /// There always is one until the drop.
    fn get(&mut self) -> io::Result<&mut S> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Nobody wants it back where the daemon stops.
            let _ = back.send(stream);
        }
    }
}

/// A connection as its taker sees it: first what was already read from it, then the rest, then whether anybody is there.
struct Taken<S> {
    early: Bytes,
    stream: Lent<S>,
    /// The end of input has been read; when to look for the client.
    ended: Option<Interval>,
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Taken<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.has_remaining() {
            let count = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let Self { stream, ended, .. } = &mut *self;
        let stream = stream.get()?;
        if let Some(looks) = ended {
            loop {
                ready!(looks.poll_tick(cx));
                if is_gone(stream) {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
        }
        let before = buf.filled().len();
        let outcome = ready!(Pin::new(stream).poll_read(cx, buf));
        if outcome.is_err() || buf.filled().len() == before {
            *ended = Some(tokio::time::interval(LOOKS));
        }
        Poll::Ready(outcome)
    }
}

/// The client has closed both directions, or its machine has said that it knows no such connection.
fn is_gone(stream: &impl AsFd) -> bool {
    // Hang-ups and errors are told without being asked for.
    let mut looked = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut looked, Some(&at_once)).is_ok()
        && looked[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get()?).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get()?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get()?).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get()?).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_that_has_closed_its_side_only_is_there() {
        let (client, ours) = UnixStream::pair().unwrap();
        assert!(!is_gone(&ours));
        client.shutdown(Shutdown::Write).unwrap();
        assert!(!is_gone(&ours));
        drop(client);
        assert!(is_gone(&ours));
    }
}
