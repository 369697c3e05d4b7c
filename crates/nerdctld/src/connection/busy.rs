//! When a request begins and when its answer has gone out: between the two, what a client sends is no head.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::Handle;
use crate::api::reply::ReplyBody;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    begun: AtomicUsize,
    answered: AtomicUsize,
}

impl Requests {
    /// How many heads were complete.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether what comes next is a head.
    pub(super) fn are_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed) == self.begun()
    }
}

/// One request, until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<Handle>);

impl Busy {
    pub(super) fn new(handle: &Arc<Handle>) -> Self {
        handle.requests().begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(handle))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests().answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer; the request lasts as long.
pub(super) struct Answering {
    body: ReplyBody,
    _busy: Busy,
}

impl Answering {
    pub(super) fn new(body: ReplyBody, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
