//! What a pull tells while it works.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::{Error, Result};

/// Events that may wait for a slow reader. Beyond that, counts are dropped and the pull waits.
const QUEUE: usize = 1024;

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

/// A pull under way, as its client sees it. Dropping it cancels the pull.
#[derive(Debug)]
pub struct Pull {
    messages: mpsc::Receiver<Message>,
    ended: bool,
}

/// The working end.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    messages: mpsc::Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Event(PullEvent),
    End(Result<()>),
}

/// A pull's two ends.
pub(crate) fn channel() -> (Progress, Pull) {
    let (sender, messages) = mpsc::channel(QUEUE);
    (Progress { messages: sender }, Pull { messages, ended: false })
}

impl Progress {
    /// Tells something that must not be lost; waits while the client does not read.
    pub(crate) async fn tell(&self, event: PullEvent) {
        // Without a client the pull is about to be cancelled.
        let _ = self.messages.send(Message::Event(event)).await;
    }

    /// News of one layer that must not be lost.
    pub(crate) async fn layer(&self, id: &str, status: PullStatus) {
        self.tell(PullEvent::Layer { id: id.to_owned(), status }).await;
    }

    /// A count, of which there will be more: left out while the client does not read.
    pub(crate) fn count(&self, id: &str, status: PullStatus) {
        let event = PullEvent::Layer { id: id.to_owned(), status };
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

impl Pull {
    /// The next message; `None` after the last. An error is the last one; where it is also the
    /// first, it can still become the status of the answer.
    pub async fn next(&mut self) -> Option<Result<PullEvent>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<PullEvent>>> {
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

impl Stream for Pull {
    type Item = Result<PullEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pull_ends_once_and_never_silently() {
        let (progress, mut pull) = channel();
        progress.layer("abc", PullStatus::PullingFsLayer).await;
        progress.end(Ok(())).await;
        assert!(matches!(pull.next().await, Some(Ok(PullEvent::Layer { .. }))));
        assert!(pull.next().await.is_none());
        assert!(pull.next().await.is_none());

        let (progress, mut pull) = channel();
        drop(progress);
        assert!(matches!(pull.next().await, Some(Err(Error::ShuttingDown))));
        assert!(pull.next().await.is_none());
    }

    #[tokio::test]
    async fn counts_never_wait() {
        let (progress, pull) = channel();
        for current in 0..2 * QUEUE as u64 {
            progress.count("abc", PullStatus::Downloading { current, total: 1 });
        }
        drop(pull);
        progress.abandoned().await;
    }
}
