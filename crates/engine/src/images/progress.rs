//! What a pull or a push tells while it works.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Descriptor;
use crate::{Error, Result};

/// Events that may wait for a slow reader. Beyond that, counts are dropped and the work waits.
const QUEUE: usize = 1024;
/// The shortest time between two counts of one layer: more is not seen by a person.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// One message of a pull, in the order of Docker's stream (moby `daemon/containerd/image_pull.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEvent {
    /// The image is found and its manifest read.
    PullingFrom {
        /// Path of the repository: `library/nginx`.
        repository: String,
        /// The tag, or the whole reference where there is none.
        reference: String,
    },
    /// News of one layer.
    Layer {
        /// The first twelve hex digits of its digest.
        id: String,
        /// What happens to it.
        status: PullStatus,
    },
    /// The image is there.
    Done {
        /// Digest of its target.
        digest: String,
        /// Its familiar reference.
        image: String,
        /// It was not there before, or the name stood for something else.
        newer: bool,
    },
}

/// What happens to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStatus {
    /// It will be downloaded.
    PullingFsLayer,
    /// Other layers come first.
    Waiting,
    /// Bytes so far.
    Downloading {
        /// Bytes that came.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It is stored.
    DownloadComplete,
    /// It is being unpacked.
    Extracting {
        /// For so long, counted from 1.
        seconds: u64,
    },
    /// It is unpacked.
    PullComplete,
    /// It was there before.
    AlreadyExists,
}

impl PullStatus {
    /// Docker's words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PullingFsLayer => "Pulling fs layer",
            Self::Waiting => "Waiting",
            Self::Downloading { .. } => "Downloading",
            Self::DownloadComplete => "Download complete",
            Self::Extracting { .. } => "Extracting",
            Self::PullComplete => "Pull complete",
            Self::AlreadyExists => "Already exists",
        }
    }
}

/// One message of a push, in the order of Docker's stream (moby `daemon/containerd/image_push.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEvent {
    /// Where it goes.
    PushingTo {
        /// Full name of the repository: `docker.io/library/nginx`.
        repository: String,
    },
    /// News of one layer, or of another blob that may be large.
    Layer {
        /// The first twelve hex digits of its digest.
        id: String,
        /// What happens to it.
        status: PushStatus,
    },
    /// Not all platforms are here, so one was pushed and not the index.
    InsteadOfIndex {
        /// The image's target.
        original: Descriptor,
        /// What was pushed.
        selected: Descriptor,
    },
    /// Something that should be pushed is not here.
    ContentMissing {
        /// The image or the part of it that was to be pushed.
        descriptor: Descriptor,
    },
    /// A name is there.
    Done {
        /// The tag; `None` if it was pushed by its digest.
        tag: Option<String>,
        /// Digest of the manifest or index.
        digest: String,
        /// Its size in bytes.
        size: u64,
    },
}

/// What happens to a layer on its way to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushStatus {
    /// Others come first.
    Waiting,
    /// Bytes so far.
    Pushing {
        /// Bytes that were sent.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The registry has it.
    Pushed,
    /// The registry had it; a layer.
    LayerAlreadyExists,
    /// The registry had it; anything else.
    AlreadyExists,
    /// The registry took it from this other repository.
    MountedFrom(String),
}

/// A transfer under way, as its client sees it. Dropping it cancels the transfer.
#[derive(Debug)]
pub struct Transfer<E> {
    messages: mpsc::Receiver<Message<E>>,
    ended: bool,
}

/// A pull under way, as its client sees it. Dropping it cancels the pull.
pub type Pull = Transfer<PullEvent>;
/// A push under way, as its client sees it. Dropping it cancels the push.
pub type Push = Transfer<PushEvent>;

/// The working end.
#[derive(Debug)]
pub(crate) struct Progress<E = PullEvent> {
    messages: mpsc::Sender<Message<E>>,
}

impl<E> Clone for Progress<E> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone() }
    }
}

#[derive(Debug)]
enum Message<E> {
    Event(E),
    End(Result<()>),
}

/// A transfer's two ends.
pub(crate) fn channel<E>() -> (Progress<E>, Transfer<E>) {
    let (sender, messages) = mpsc::channel(QUEUE);
    (Progress { messages: sender }, Transfer { messages, ended: false })
}

impl Progress<PullEvent> {
    /// News of one layer that must not be lost.
    pub(crate) async fn layer(&self, id: &str, status: PullStatus) {
        self.tell(PullEvent::Layer { id: id.to_owned(), status }).await;
    }

    /// A count, of which there will be more.
    pub(crate) fn count(&self, id: &str, status: PullStatus) {
        self.hint(PullEvent::Layer { id: id.to_owned(), status });
    }
}

impl Progress<PushEvent> {
    /// News of one layer that must not be lost.
    pub(crate) async fn layer(&self, id: &str, status: PushStatus) {
        self.tell(PushEvent::Layer { id: id.to_owned(), status }).await;
    }

    /// A count, of which there will be more.
    pub(crate) fn count(&self, id: &str, status: PushStatus) {
        self.hint(PushEvent::Layer { id: id.to_owned(), status });
    }
}

/// Says when a layer may be counted again.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Whether it is time; if so, the next time is later.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_some_and(|last| now - last < COUNT_EVERY) {
            return false;
        }
        *last = Some(now);
        true
    }
}

impl<E> Progress<E> {
    /// Tells something that must not be lost; waits while the client does not read.
    pub(crate) async fn tell(&self, event: E) {
        // Without a client the work is about to be cancelled.
        let _ = self.messages.send(Message::Event(event)).await;
    }

    /// Tells something that is left out while the client does not read.
    pub(crate) fn hint(&self, event: E) {
        let _ = self.messages.try_send(Message::Event(event));
    }

    /// The last message.
    pub(crate) async fn end(&self, outcome: Result<()>) {
        let _ = self.messages.send(Message::End(outcome)).await;
    }

    /// Returns when the client is gone.
    pub(crate) async fn abandoned(&self) {
        self.messages.closed().await;
    }
}

impl<E> Transfer<E> {
    /// The next message; `None` after the last. An error is the last one; where it is also the
    /// first, it can still become the status of the answer.
    pub async fn next(&mut self) -> Option<Result<E>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<E>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.messages.poll_recv(cx).map(|message| {
            let end = match message {
                Some(Message::Event(event)) => return Some(Ok(event)),
                Some(Message::End(outcome)) => outcome,
                // The task was stopped: the daemon ends, or it panicked. Silence would look like
                // success to some clients.
                None => Err(Error::ShuttingDown),
            };
            self.ended = true;
            end.err().map(Err)
        })
    }
}

impl<E> Stream for Transfer<E> {
    type Item = Result<E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pull_ends_once_and_never_silently() {
        let (progress, mut pull) = channel::<PullEvent>();
        progress.layer("abc", PullStatus::PullingFsLayer).await;
        progress.end(Ok(())).await;
        assert!(matches!(pull.next().await, Some(Ok(PullEvent::Layer { .. }))));
        assert!(pull.next().await.is_none());
        assert!(pull.next().await.is_none());

        let (progress, mut pull) = channel::<PullEvent>();
        drop(progress);
        assert!(matches!(pull.next().await, Some(Err(Error::ShuttingDown))));
        assert!(pull.next().await.is_none());
    }

    #[tokio::test]
    async fn counts_never_wait() {
        let (progress, pull) = channel::<PullEvent>();
        for current in 0..2 * QUEUE as u64 {
            progress.count("abc", PullStatus::Downloading { current, total: 1 });
        }
        drop(pull);
        progress.abandoned().await;
    }
}
