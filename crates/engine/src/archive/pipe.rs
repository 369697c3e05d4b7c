//! Bytes between a thread for blocking work and a task: a few chunks wait in between, no more.
//!
//! Whoever stops first stops the other: a reader that is dropped makes the next write fail, a writer that is dropped
//! makes the next read fail unless it said that it was done.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use rustix::buffer::spare_capacity;
use tokio::sync::mpsc;

/// Bytes of one chunk: below what allocators hand out by mapping pages anew.
const CHUNK: usize = 120 * 1024;
/// Chunks under way.
const CHUNKS: usize = 4;
/// Pieces of a body under way: they are as small as a client sends them.
const PIECES: usize = 16;

/// Chunks of an archive; an error is its last item.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A thread's end of the way to a client.
#[derive(Debug)]
pub(crate) struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

/// Something that archives are written to.
pub(crate) trait Output: Write {
    /// Appends at most `most` bytes of a file, from its position on; 0 is the file's end.
    fn append_from(&mut self, file: impl AsFd, most: u64) -> io::Result<usize> {
        let mut bytes = Vec::with_capacity(CHUNK.min(usize::try_from(most).unwrap_or(CHUNK)));
        rustix::io::read(file, spare_capacity(&mut bytes))?;
        self.write_all(&bytes)?;
        Ok(bytes.len())
    }
}

impl Sink {
    /// A sink, and what comes out of it. The stream must be asked for, or the writer waits.
    pub(crate) fn new() -> (Self, mpsc::Receiver<io::Result<Bytes>>) {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        (Self { sender, buffer: Vec::with_capacity(CHUNK) }, receiver)
    }

    /// The last item. Nobody may be there any more to read it.
    pub(crate) fn fail(self, error: io::Error) {
        let _ = self.sender.blocking_send(Err(error));
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender
            .blocking_send(Ok(chunk.into()))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client left"))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= CHUNK {
            self.send()?;
        }
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Output for Sink {
    fn append_from(&mut self, file: impl AsFd, most: u64) -> io::Result<usize> {
        if self.buffer.len() >= CHUNK {
            self.send()?;
        }
        let before = self.buffer.len();
        if most >= (CHUNK - before) as u64 {
            // The file goes straight to where it is sent from.
            let count = rustix::io::read(file, spare_capacity(&mut self.buffer))?;
            // An allocator may have given more room than it was asked for.
            let wanted = usize::try_from(most).map_or(count, |most| count.min(most));
            self.buffer.truncate(before + wanted);
            return Ok(wanted);
        }
        let room = usize::try_from(most).unwrap_or(CHUNK);
        self.buffer.resize(before + room, 0);
        let read = rustix::io::read(file, &mut self.buffer[before..]);
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        Ok(read?)
    }
}

/// What comes out of a [`Sink`], as a stream.
pub(crate) fn stream(receiver: mpsc::Receiver<io::Result<Bytes>>) -> ByteStream {
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    }))
}

/// A thread's end of the way from a client.
#[derive(Debug)]
pub(crate) struct Source {
    receiver: mpsc::Receiver<io::Result<Option<Bytes>>>,
    current: Bytes,
    ended: bool,
}

/// A task's end of the way to a thread.
#[derive(Debug)]
pub(crate) struct Feed(mpsc::Sender<io::Result<Option<Bytes>>>);

impl Source {
    /// Both ends.
    pub(crate) fn new() -> (Feed, Self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (Feed(sender), Self { receiver, current: Bytes::new(), ended: false })
    }
}

impl Feed {
    /// Hands on all of a body. Returns early when the reader has enough.
    pub(crate) async fn pump<S>(self, mut body: S)
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        use futures_util::StreamExt as _;
        while let Some(chunk) = body.next().await {
            let failed = chunk.is_err();
            if self.0.send(chunk.map(Some)).await.is_err() || failed {
                return;
            }
        }
        let _ = self.0.send(Ok(None)).await;
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Ok(Some(chunk))) => self.current = chunk,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}

impl Output for Vec<u8> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_arrive_in_order_and_a_reader_that_leaves_stops_the_writer() {
        let (mut sink, mut receiver) = Sink::new();
        let writer = tokio::task::spawn_blocking(move || {
            for number in 0..=255_u8 {
                sink.write_all(&[number; 10_000])?;
            }
            sink.flush()
        });
        let mut seen = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            seen.extend_from_slice(&chunk.unwrap());
        }
        writer.await.unwrap().unwrap();
        assert_eq!(seen.len(), 2_560_000);
        assert!(seen.is_sorted());

        let (mut sink, receiver) = Sink::new();
        drop(receiver);
        let error =
            tokio::task::spawn_blocking(move || sink.write_all(&[0; 1_000_000])).await.unwrap();
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_body_that_is_cut_is_no_end() {
        let read = |parts: Vec<io::Result<Bytes>>| async {
            let (feed, mut source) = Source::new();
            let reader = tokio::task::spawn_blocking(move || {
                let mut text = String::new();
                source.read_to_string(&mut text).map(|_| text)
            });
            feed.pump(futures_util::stream::iter(parts)).await;
            reader.await.unwrap()
        };
        let whole = vec![Ok(Bytes::from("ab")), Ok(Bytes::from("")), Ok(Bytes::from("c"))];
        assert_eq!(read(whole).await.unwrap(), "abc");
        let cut = vec![Ok(Bytes::from("ab")), Err(io::ErrorKind::ConnectionReset.into())];
        assert_eq!(read(cut).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);

        let (feed, mut source) = Source::new();
        drop(feed);
        let read = tokio::task::spawn_blocking(move || source.read(&mut [0])).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
