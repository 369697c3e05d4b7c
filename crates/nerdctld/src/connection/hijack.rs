//! A connection that a handler has taken for itself.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::header::{HeaderMap, HeaderName};
use io_monitor::Duplex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tracing::Instrument as _;

use super::websocket::Handshake;

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
    /// `run` gets both directions; when it returns the connection closes.
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

    /// Write the head and run. `early` is what the client sent right behind its request.
    pub(super) async fn run<S>(self, mut stream: S, early: Bytes)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        // Flushed before anything else: the client starts its container only when it has seen the head.
        let head = format!("{}{}\r\n", self.head.text(), self.headers);
        let written = async {
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the client left before its stream began");
            return;
        }
        (self.run)(Duplex::new(Rewound { early, stream })).await;
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

/// A stream that first gives back what was already read from it.
struct Rewound<S> {
    early: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.early.has_remaining() {
            let count = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(count));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
