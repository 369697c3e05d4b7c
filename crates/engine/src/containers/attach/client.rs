//! The two sides of a client's connection: what it gets, and what it types.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::keys::Scanner;
use crate::containers::logs::{LogBatch, OutputStream};

/// What is read from the client in one go.
const INPUT: usize = 16 * 1024;

/// Why a stream stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::containers) enum Stop {
    /// All output is sent.
    Ended,
    /// The client cannot be written to or read from any more, or was cut off.
    ClientGone,
    /// The client closed its side, and that means the end.
    InputEnded,
    /// The detach keys.
    Detached,
    /// The monitor is gone without having said that output has ended.
    MonitorLost,
}

/// The client's receiving side.
pub(in crate::containers) struct Output<W, E> {
    writer: W,
    encode: E,
    buffer: Vec<u8>,
}

impl<W, E> Output<W, E>
where
    W: AsyncWrite + Unpin,
    E: Fn(OutputStream, &[u8], &mut Vec<u8>),
{
    /// `encode` appends a chunk of output as it goes over the wire.
    pub(in crate::containers) fn new(writer: W, encode: E) -> Self {
        Self { writer, encode, buffer: Vec::new() }
    }

    /// Send a chunk; waits while the client does not read.
    pub(in crate::containers) async fn send(
        &mut self,
        stream: OutputStream,
        bytes: &[u8],
    ) -> Result<(), Stop> {
        (self.encode)(stream, bytes, &mut self.buffer);
        self.write().await
    }

    /// Send stored output.
    pub(in crate::containers) async fn send_batch(&mut self, batch: LogBatch) -> Result<(), Stop> {
        for entry in batch {
            (self.encode)(entry.stream, &entry.line, &mut self.buffer);
        }
        self.write().await
    }

    /// Close the connection.
    pub(in crate::containers) async fn end(&mut self) {
        // The client may be gone already.
        let _ = self.writer.shutdown().await;
    }

    async fn write(&mut self) -> Result<(), Stop> {
        let written = async {
            self.writer.write_all(&self.buffer).await?;
            self.writer.flush().await
        };
        let outcome = written.await.map_err(|_| Stop::ClientGone);
        self.buffer.clear();
        outcome
    }
}

/// The client's sending side.
pub(in crate::containers) struct Input<R> {
    reader: R,
    /// With a terminal.
    scanner: Option<Scanner>,
    buffer: Vec<u8>,
    /// Read, and not yet passed on.
    pending: Vec<u8>,
    has_ended: bool,
    detached: bool,
}

/// What the client did.
pub(in crate::containers) enum Step<'a> {
    /// It sent bytes. They come again until [`Input::sent`].
    Bytes(&'a [u8]),
    /// Nothing more comes.
    Stop(Stop),
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// `scanner` looks for detach keys.
    pub(in crate::containers) fn new(reader: R, scanner: Option<Scanner>) -> Self {
        Self {
            reader,
            scanner,
            buffer: Vec::new(),
            pending: Vec::new(),
            has_ended: false,
            detached: false,
        }
    }

    /// Wait for the client. Cancel-safe.
    pub(in crate::containers) async fn next(&mut self) -> Step<'_> {
        while self.pending.is_empty() {
            if self.detached {
                return Step::Stop(Stop::Detached);
            }
            if self.has_ended {
                return Step::Stop(Stop::InputEnded);
            }
            match self.read().await {
                // A connection that breaks is the end of input like any other: `StdinOnce` must not wait for a client
                // that is gone.
                Ok(0) | Err(_) => self.has_ended = true,
                Ok(count) => self.take(count),
            }
        }
        Step::Bytes(&self.pending)
    }

    /// The bytes of the last [`Input::next`] have arrived.
    pub(in crate::containers) fn sent(&mut self) {
        self.pending.clear();
    }

    /// Only watch for a client that goes: one that sends no stdin may close its side and go on reading. Cancel-safe.
    ///
    /// Behind the end of input a connection still tells when it breaks ([`io_monitor::Duplex`]); one that cannot ends again.
    pub(in crate::containers) async fn discard(&mut self) -> Stop {
        loop {
            match self.read().await {
                Ok(0) if self.has_ended => return std::future::pending().await,
                Ok(0) => self.has_ended = true,
                Ok(_) => {}
                Err(stop) => return stop,
            }
        }
    }

    async fn read(&mut self) -> Result<usize, Stop> {
        self.buffer.resize(INPUT, 0);
        self.reader.read(&mut self.buffer).await.map_err(|_| Stop::ClientGone)
    }

    fn take(&mut self, count: usize) {
        let input = &self.buffer[..count];
        match &mut self.scanner {
            Some(scanner) => self.detached = scanner.scan(input, &mut self.pending),
            None => self.pending.extend_from_slice(input),
        }
    }
}
