//! What waits to be sent to one client: bounded by whoever asks for [`Outbox::len`], never blocking.

use std::cell::{Cell, RefCell};
use std::io;

use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::frames::{self, HEADER, Kind};

/// A buffer above this is given back to the system when it is empty.
const KEEP_BUFFER: usize = 64 * 1024;

/// Frames on their way to one client.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: RefCell<Queue>,
    /// No more frames will be added; the connection ends when the queue is empty.
    closed: Cell<bool>,
    /// The last time that the client took bytes, or that there were none to take.
    progress: Cell<Instant>,
    /// Bytes to send have come, or the box was closed.
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Start of the first frame that is not sent whole.
    frame: usize,
    /// The first byte that is not sent.
    head: usize,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            queue: RefCell::default(),
            closed: Cell::new(false),
            progress: Cell::new(Instant::now()),
            news: Notify::new(),
        }
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        let queue = self.queue.borrow();
        queue.bytes.len() - queue.head
    }

    /// When the client last took bytes; now, if none wait.
    pub(crate) fn last_progress(&self) -> Instant {
        if self.len() == 0 { Instant::now() } else { self.progress.get() }
    }

    /// Add a frame.
    pub(crate) fn push(&self, kind: Kind, payload: &[u8]) {
        if self.closed.get() {
            return;
        }
        if self.len() == 0 {
            self.progress.set(Instant::now());
        }
        let mut queue = self.queue.borrow_mut();
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        queue.bytes.push(kind as u8);
        queue.bytes.extend_from_slice(&length.to_be_bytes());
        queue.bytes.extend_from_slice(payload);
        self.news.notify_one();
    }

    /// Add a frame with a JSON payload.
    pub(crate) fn push_json<T: serde::Serialize>(&self, kind: Kind, value: &T) {
        let frame = frames::encode(kind, value);
        self.push(kind, frame.get(HEADER..).unwrap_or_default());
    }

    /// Nothing more will come; the connection ends when all is sent.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.news.notify_one();
    }

    /// Drop what waits, but for the rest of a frame that is half sent, say so, and close.
    pub(crate) fn cut_off(&self) {
        self.queue.borrow_mut().drop_waiting();
        self.progress.set(Instant::now());
        self.push(Kind::CutOff, &[]);
        self.close();
    }

    /// Drop everything: the connection ends now.
    pub(crate) fn abandon(&self) {
        *self.queue.borrow_mut() = Queue::default();
        self.close();
    }

    /// Send until the box is closed and empty, or the client is gone. `sent` is called after progress.
    pub(crate) async fn send_all(&self, stream: &UnixStream, sent: impl Fn()) -> io::Result<()> {
        loop {
            if self.len() == 0 {
                if self.closed.get() {
                    return Ok(());
                }
                self.news.notified().await;
                continue;
            }
            tokio::select! {
                ready = stream.writable() => ready?,
                () = self.news.notified() => continue,
            }
            let written = {
                let mut queue = self.queue.borrow_mut();
                match stream.try_write(&queue.bytes[queue.head..]) {
                    Ok(count) => {
                        queue.advance(count);
                        true
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                    Err(error) => return Err(error),
                }
            };
            if written {
                self.progress.set(Instant::now());
                sent();
            }
        }
    }
}

impl Queue {
    fn advance(&mut self, count: usize) {
        self.head += count;
        while let Some(end) = self.frame_end().filter(|end| *end <= self.head) {
            self.frame = end;
        }
        if self.head == self.bytes.len() {
            self.bytes.clear();
            if self.bytes.capacity() > KEEP_BUFFER {
                self.bytes = Vec::new();
            }
            self.frame = 0;
            self.head = 0;
        } else if self.frame > KEEP_BUFFER {
            self.bytes.drain(..self.frame);
            self.head -= self.frame;
            self.frame = 0;
        }
    }

    /// End of the frame that begins at `frame`.
    fn frame_end(&self) -> Option<usize> {
        let header = self.bytes.get(self.frame..)?.first_chunk::<HEADER>()?;
        let [_, length @ ..] = *header;
        Some(self.frame + HEADER + usize::try_from(u32::from_be_bytes(length)).ok()?)
    }

    fn drop_waiting(&mut self) {
        let end =
            if self.head > self.frame { self.frame_end().unwrap_or(self.head) } else { self.head };
        self.bytes.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn received(outbox: &Outbox, first: usize) -> Vec<(Kind, usize)> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut got = BytesMut::new();
        let mut frames = Vec::new();
        let reading = async {
            let mut some = vec![0; first];
            theirs.read_exact(&mut some).await.unwrap();
            got.extend_from_slice(&some);
            outbox.cut_off();
            while theirs.read_buf(&mut got).await.unwrap() > 0 {}
            while let Some(frame) = frames::take(&mut got).unwrap() {
                frames.push((frame.kind, frame.payload.len()));
            }
            assert!(got.is_empty(), "half a frame at the end");
            frames
        };
        let both = async move {
            outbox.send_all(&ours, || {}).await.unwrap();
            drop(ours);
        };
        tokio::join!(both, reading).1
    }

    #[tokio::test]
    async fn a_client_that_is_cut_off_gets_whole_frames() {
        for first in [1, 5, 6, 40_000, 60_005] {
            let outbox = Outbox::new();
            for _ in 0..40 {
                outbox.push(Kind::Stdout, &vec![b'x'; 60_000]);
            }
            let got = received(&outbox, first).await;
            assert_eq!(got.last(), Some(&(Kind::CutOff, 0)));
            assert!(got[..got.len() - 1].iter().all(|frame| *frame == (Kind::Stdout, 60_000)));
            assert!(got.len() < 41);
        }
    }

    #[tokio::test]
    async fn all_is_sent_before_the_connection_ends() {
        let outbox = Outbox::new();
        outbox.push(Kind::Stdout, b"hello");
        outbox.close();
        outbox.push(Kind::Stdout, b"too late");
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        outbox.send_all(&ours, || {}).await.unwrap();
        drop(ours);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, frames::raw(Kind::Stdout, b"hello"));
        assert_eq!(outbox.len(), 0);
    }
}
