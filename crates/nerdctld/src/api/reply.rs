//! What a handler gives back, and how it becomes bytes.

mod at_stop;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use docker_wire::progress::ProgressMessage;
use futures_util::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use io_monitor::Duplex;
use serde::Serialize;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::connection::Hijack;
pub(crate) use at_stop::AtStop;

/// Exactly this text: the Go client compares it (moby `client/request.go`).
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Output that may wait for a slow client in [`over_body`].
const OVER_BODY_BUFFER: usize = 64 * 1024;

/// Chunks of a body; an error cuts the connection, so that the client can tell it from an end.
pub(crate) type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A handler's answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Status.
    pub(crate) status: StatusCode,
    /// Headers besides those that every answer has.
    pub(crate) headers: HeaderMap,
    /// The rest.
    pub(crate) content: Content,
}

/// The rest of an answer.
pub(crate) enum Content {
    /// A body that is ready, perhaps empty.
    Full(Bytes),
    /// A body that is made while it is sent. The head goes out at once.
    Stream(ByteStream, AtStop),
    /// No answer in HTTP: the handler wants the connection.
    Hijack(Hijack),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_, at_stop) => f.debug_tuple("Stream").field(at_stop).finish(),
            Self::Hijack(hijack) => hijack.fmt(f),
        }
    }
}

impl Reply {
    fn new(status: StatusCode, content: Content) -> Self {
        Self { status, headers: HeaderMap::new(), content }
    }

    /// Nothing but a status.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self::new(status, Content::Full(Bytes::new()))
    }

    /// 204.
    pub(crate) fn no_content() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// 200 with a document.
    pub(crate) fn json<T: Serialize>(value: &T) -> Self {
        Self::json_with(StatusCode::OK, value)
    }

    /// 201 with a document.
    pub(crate) fn created<T: Serialize>(value: &T) -> Self {
        Self::json_with(StatusCode::CREATED, value)
    }

    /// A document, ending in a newline as Go's encoder writes it.
    pub(crate) fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Self {
        // Our own types: their maps have string keys, so this cannot fail; an empty body would be noticed by any client.
        let mut bytes = serde_json::to_vec(value).unwrap_or_default();
        bytes.push(b'\n');
        Self::new(status, Content::Full(bytes.into())).with(CONTENT_TYPE, JSON)
    }

    /// 200 with a list that is written while it is sent: however long it is, a client costs one chunk of memory.
    pub(crate) fn json_list<T: Serialize + Send + 'static>(
        items: impl Iterator<Item = T> + Send + 'static,
    ) -> Self {
        let mut chunks = JsonList { items: items.peekable(), state: ListState::Begin };
        let first = chunks.next().unwrap_or_default();
        let reply = match chunks.state {
            ListState::End => Self::new(StatusCode::OK, Content::Full(first)),
            _ => {
                let chunks = std::iter::once(first).chain(chunks).map(Ok);
                let chunks = Box::pin(futures_util::stream::iter(chunks));
                // All of it is here, and goes as fast as the client reads.
                Self::new(StatusCode::OK, Content::Stream(chunks, AtStop::Finish))
            }
        };
        reply.with(CONTENT_TYPE, JSON)
    }

    /// 200 with messages of a progress stream that are all there.
    pub(crate) fn progress(messages: &[ProgressMessage]) -> Self {
        let lines = messages.iter().flat_map(|message| message.to_line().unwrap_or_default());
        let lines: Vec<u8> = lines.collect();
        Self::new(StatusCode::OK, Content::Full(lines.into())).with(CONTENT_TYPE, JSON)
    }

    /// Text that is no JSON.
    pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
        Self::new(status, Content::Full(text.into())).with(CONTENT_TYPE, content_type)
    }

    /// 200 with a body that is made while it is sent, and is of use only as a whole: a daemon that stops cuts it.
    pub(crate) fn stream(
        content_type: &'static str,
        chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        Self::streamed(content_type, chunks, AtStop::Cut)
    }

    /// The same of one that has no end of its own: a daemon that stops ends it.
    pub(crate) fn endless(
        content_type: &'static str,
        chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        Self::streamed(content_type, chunks, AtStop::End)
    }

    /// The same of messages about work of the engine, which are told that it stops.
    pub(crate) fn messages(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self::streamed("application/json", chunks, AtStop::Finish)
    }

    fn streamed(
        content_type: &'static str,
        chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        at_stop: AtStop,
    ) -> Self {
        Self::new(StatusCode::OK, Content::Stream(Box::pin(chunks), at_stop))
            .with(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// The connection itself.
    pub(crate) fn hijack(hijack: Hijack) -> Self {
        Self::new(StatusCode::SWITCHING_PROTOCOLS, Content::Hijack(hijack))
    }

    /// The same with one header more.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// Size from which a chunk of a list is sent.
const LIST_CHUNK: usize = 32 * 1024;

#[derive(PartialEq)]
enum ListState {
    Begin,
    Middle,
    End,
}

/// A JSON array as chunks of text, its elements made one by one.
struct JsonList<I: Iterator> {
    items: std::iter::Peekable<I>,
    state: ListState,
}

impl<T: Serialize, I: Iterator<Item = T>> Iterator for JsonList<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut chunk = match self.state {
            ListState::Begin => vec![b'['],
            ListState::Middle => Vec::with_capacity(LIST_CHUNK + LIST_CHUNK / 8),
            ListState::End => return None,
        };
        self.state = ListState::Middle;
        while chunk.len() < LIST_CHUNK {
            let Some(item) = self.items.next() else { break };
            // Our own types cannot fail to be written (see json_with).
            let _ = serde_json::to_writer(&mut chunk, &item);
            if self.items.peek().is_some() {
                chunk.push(b',');
            }
        }
        if self.items.peek().is_none() {
            chunk.extend_from_slice(b"]\n");
            self.state = ListState::End;
        }
        Some(chunk.into())
    }
}

/// A hijack whose input is the request's body: an ordinary answer, made while it is sent.
pub(in crate::api) fn over_body<S>(hijack: Hijack, input: S) -> Reply
where
    S: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
{
    let (head, run) = hijack.into_parts();
    let (output, sink) = tokio::io::simplex(OVER_BODY_BUFFER);
    let work = run(Duplex::from_halves(StreamReader::new(input), sink));
    // Polled with the output, and dropped with it: the client's end is the work's end.
    let work = futures_util::stream::once(work).filter_map(|()| std::future::ready(None));
    let chunks = futures_util::stream::select(ReaderStream::new(output), work);
    Reply::endless(head.content_type(), chunks)
}

/// The body that hyper sends.
pub(crate) enum ReplyBody {
    /// Ready; taken when it has been sent.
    Full(Option<Bytes>),
    /// Being made.
    Stream(ByteStream),
}

impl ReplyBody {
    /// A body that is ready.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(chunks) => {
                chunks.as_mut().poll_next(cx).map(|next| next.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: Reply) -> (String, bool) {
        match reply.content {
            Content::Full(bytes) => (String::from_utf8(bytes.to_vec()).unwrap(), false),
            Content::Stream(chunks, _) => {
                let chunks: Vec<_> =
                    futures_util::FutureExt::now_or_never(chunks.collect::<Vec<_>>()).unwrap();
                assert!(chunks.iter().all(|chunk| chunk.as_ref().unwrap().len() < 2 * LIST_CHUNK));
                let bytes: Vec<u8> =
                    chunks.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
                (String::from_utf8(bytes).unwrap(), true)
            }
            Content::Hijack(_) => unreachable!(),
        }
    }

    #[test]
    fn lists_of_any_length_are_whole() {
        assert_eq!(text(Reply::json_list(std::iter::empty::<u8>())), ("[]\n".to_owned(), false));
        assert_eq!(text(Reply::json_list([1, 2].into_iter())), ("[1,2]\n".to_owned(), false));
        let long: Vec<String> = (0..10_000).map(|number| format!("number {number}")).collect();
        let (written, streamed) = text(Reply::json_list(long.clone().into_iter()));
        assert!(streamed);
        assert_eq!(serde_json::from_str::<Vec<String>>(&written).unwrap(), long);
    }

    #[test]
    fn documents_end_in_a_newline() {
        let reply = Reply::json(&"<none>");
        assert_eq!(reply.headers[CONTENT_TYPE], "application/json");
        assert_eq!(text(reply).0, "\"<none>\"\n");
    }
}
