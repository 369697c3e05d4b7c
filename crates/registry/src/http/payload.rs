//! What a request carries, and how it goes out: documents at once, blobs as they are read.
//!
//! A request may have to be sent again (a token has ended, a redirect, a connection that was closed), so what it carries can
//! be opened more than once.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};

use crate::Error;
use crate::error::Cause;

/// Bytes handed to the connection at once: small enough for a slow line to take one before it counts as stalled.
const PIECE: usize = 64 * 1024;

/// The bytes of a blob from some offset on.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, Cause>> + Send>>;

/// A blob that is to be uploaded, which can be read from any offset and more than once.
pub trait BlobSource: Send + Sync {
    /// Opens it at `offset`. Errors of the stream, this first one too, end the upload.
    fn open(
        &self,
        offset: u64,
    ) -> Pin<Box<dyn Future<Output = Result<BlobStream, Cause>> + Send + '_>>;

    /// So many bytes of the blob, from its start on, have been given to the connection.
    fn sent(&self, bytes: u64);
}

/// What a request carries.
#[derive(Clone, Default)]
pub(crate) enum Payload {
    #[default]
    Empty,
    /// Goes to the host that it was made for, and to no other.
    Form(Bytes),
    Document(Bytes),
    /// A blob from `from` on, of which `length` bytes are left.
    Blob {
        source: Arc<dyn BlobSource>,
        from: u64,
        length: u64,
    },
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Form(_) => "Form(***)",
            Self::Document(_) => "Document",
            Self::Blob { .. } => "Blob",
        })
    }
}

impl Payload {
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::Form(_))
    }

    /// Whether a server that has got some of it unanswered can be given all of it again.
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Blob { .. })
    }

    /// The body of one request; `watch` hears how it goes.
    pub(crate) async fn open(&self, watch: &Arc<Watch>) -> Result<Outgoing, Error> {
        match self {
            Self::Empty => Ok(Outgoing::Whole(None)),
            Self::Form(bytes) | Self::Document(bytes) => Ok(Outgoing::Whole(Some(bytes.clone()))),
            Self::Blob { source, from, length } => {
                let opened = source.open(*from).await;
                Ok(Outgoing::Blob(Streamed {
                    stream: opened.map_err(|source| Error::Unreadable { source })?,
                    source: Arc::clone(source),
                    at: *from,
                    left: *length,
                    piece: Bytes::new(),
                    watch: Arc::clone(watch),
                }))
            }
        }
    }
}

/// How far the body of a request is.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    moved: AtomicU64,
    complete: AtomicBool,
    failure: Mutex<Option<Cause>>,
}

impl Watch {
    /// Bytes that the connection has taken.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether that was all.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Why the body could not be read, if it could not.
    pub(crate) fn failure(&self) -> Option<Cause> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, cause: Cause) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }
}

/// The body of one request on its way.
pub(crate) enum Outgoing {
    Whole(Option<Bytes>),
    Blob(Streamed),
}

pub(crate) struct Streamed {
    stream: BlobStream,
    source: Arc<dyn BlobSource>,
    /// Where in the blob the next piece begins.
    at: u64,
    left: u64,
    /// Read, and not yet handed on.
    piece: Bytes,
    watch: Arc<Watch>,
}

/// The connection only learns that there is no more; the watch knows why.
#[derive(Debug, thiserror::Error)]
#[error("what is to be uploaded cannot be read")]
pub(crate) struct Broken;

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Blob(streamed) => streamed.poll_piece(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Blob(streamed) => streamed.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Blob(streamed) => streamed.left,
        })
    }
}

impl Streamed {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        while self.piece.is_empty() {
            match ready!(self.stream.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => self.piece = bytes,
                Some(Err(cause)) => return self.broken(cause),
                None => return self.broken("it is shorter than its descriptor says".into()),
            }
        }
        let piece = self.piece.split_to(self.piece.len().min(PIECE));
        let Some(left) = self.left.checked_sub(piece.len() as u64) else {
            return self.broken("it is longer than its descriptor says".into());
        };
        self.left = left;
        self.at += piece.len() as u64;
        self.watch.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.watch.complete.store(left == 0, Ordering::Relaxed);
        self.source.sent(self.at);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn broken(&mut self, cause: Cause) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.watch.fail(cause);
        Poll::Ready(Some(Err(Broken)))
    }
}
