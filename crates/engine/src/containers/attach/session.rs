//! One attached client, from the first byte to the end of its connection.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use io_monitor::Duplex;
use io_monitor::client::{AttachEvent, AttachReader, AttachStdin, AttachStream};
use io_monitor::frames::AttachRequest;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::keys::{DetachKeys, Scanner};
use super::{AttachOptions, Source, TRIES};
use crate::containers::State;
use crate::containers::logs::{LogBatch, LogOptions, OutputStream};
use crate::events::translate::container_event;
use crate::inventory::Entry;
use crate::{Engine, Result};

/// What is read from the client in one go.
const INPUT: usize = 16 * 1024;

/// A registered client, before its connection is given to it.
#[derive(Debug)]
pub struct AttachSession {
    engine: Engine,
    entry: Arc<Entry>,
    options: AttachOptions,
    keys: DetachKeys,
    source: Source,
}

/// Why a stream stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
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

impl AttachSession {
    pub(super) fn new(
        engine: Engine,
        entry: Arc<Entry>,
        options: AttachOptions,
        keys: DetachKeys,
        source: Source,
    ) -> Self {
        Self { engine, entry, options, keys, source }
    }

    /// The container has a terminal: its output goes out as it is, without frames.
    #[must_use]
    pub fn tty(&self) -> bool {
        self.entry.container.tty
    }

    /// Serve the client until its stream ends. `encode` appends a chunk of output as it goes over the wire.
    ///
    /// Dropping the future detaches the client and leaves the container alone.
    pub async fn run<E>(mut self, client: Duplex, encode: E)
    where
        E: Fn(OutputStream, &[u8], &mut Vec<u8>) + Send + Sync,
    {
        let (reader, writer) = client.into_halves();
        let mut output = Output { writer, encode, buffer: Vec::new() };
        if self.options.logs
            && let Err(stop) = self.replay(&mut output).await
        {
            tracing::debug!(container = self.id(), ?stop, "the replay of an attach ended early");
            return;
        }
        self.publish("attach");
        let mut input = Input::new(reader, self.tty().then(|| self.keys.clone().scanner()));
        let stop = match std::mem::replace(&mut self.source, Source::Nothing) {
            Source::Nothing => Stop::Ended,
            Source::Monitor(stream, request) => {
                self.stream(stream, &request, &mut input, &mut output).await
            }
            Source::Log { since } => {
                tokio::select! {
                    stop = self.follow_log(since, &mut output) => stop,
                    stop = input.discard() => stop,
                }
            }
        };
        if stop == Stop::Detached {
            self.publish("detach");
        }
        tracing::debug!(container = self.id(), ?stop, "an attach ended");
        // The client may be gone already.
        let _ = output.writer.shutdown().await;
    }

    fn id(&self) -> &str {
        self.entry.container.id.as_str()
    }

    fn publish(&self, action: &str) {
        self.engine.hub().publish(container_event(&self.entry.container, action, &[]));
    }

    /// What was stored before the live stream begins.
    async fn replay<W: AsyncWrite + Unpin, E>(&self, output: &mut Output<W, E>) -> Result<(), Stop>
    where
        E: Fn(OutputStream, &[u8], &mut Vec<u8>),
    {
        let mark = match &self.source {
            Source::Monitor(stream, _) => stream.attached.log,
            Source::Nothing | Source::Log { .. } => None,
        };
        let options = self.log_options();
        let mut batches = match self.engine.read_logs(&self.entry, options, mark).await {
            Ok(batches) => batches,
            Err(error) => {
                // moby `daemon/attach.go`: after the head, this is the only way to say it.
                let text = format!("Error attaching: {}\n", error.message());
                output.send(OutputStream::Stdout, text.as_bytes()).await?;
                return Err(Stop::Ended);
            }
        };
        while let Some(batch) = batches.next().await {
            output.send_batch(batch.map_err(|_| Stop::Ended)?).await?;
        }
        Ok(())
    }

    fn log_options(&self) -> LogOptions {
        LogOptions {
            stdout: self.options.stdout,
            stderr: self.options.stderr,
            ..LogOptions::default()
        }
    }

    /// Live output and stdin over a monitor, and over the next one if it dies.
    async fn stream<R, W, E>(
        &self,
        mut stream: AttachStream,
        request: &AttachRequest,
        input: &mut Input<R>,
        output: &mut Output<W, E>,
    ) -> Stop
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        E: Fn(OutputStream, &[u8], &mut Vec<u8>),
    {
        loop {
            let AttachStream { output: mut from, stdin, .. } = stream;
            let stop = tokio::select! {
                stop = self.pump_output(&mut from, output) => stop,
                stop = self.pump_input(request.stdin, stdin, input) => stop,
            };
            if stop != Stop::MonitorLost {
                return stop;
            }
            match self.engine.reattach(&self.entry, request, TRIES).await {
                Some(next) => stream = next,
                None => return Stop::Ended,
            }
        }
    }

    async fn pump_output<W, E>(&self, from: &mut AttachReader, output: &mut Output<W, E>) -> Stop
    where
        W: AsyncWrite + Unpin,
        E: Fn(OutputStream, &[u8], &mut Vec<u8>),
    {
        loop {
            match from.next().await {
                Ok(Some(AttachEvent::Output(stream, bytes))) => {
                    if let Err(stop) = output.send(stream, &bytes).await {
                        return stop;
                    }
                }
                Ok(Some(AttachEvent::StdinClosed(closed))) if closed.close_io => {
                    self.close_io().await;
                }
                Ok(Some(AttachEvent::StdinClosed(_) | AttachEvent::Logged)) => {}
                Ok(Some(AttachEvent::End(_))) => break,
                Ok(Some(AttachEvent::CutOff)) => {
                    tracing::warn!(
                        container = self.id(),
                        "an attached client did not read and was cut off"
                    );
                    return Stop::ClientGone;
                }
                Ok(None) => return Stop::MonitorLost,
                Err(error) => {
                    tracing::warn!(container = self.id(), %error, "an I/O monitor cannot be understood");
                    return Stop::MonitorLost;
                }
            }
        }
        if self.closes_stdin() {
            let mut states = self.entry.states.clone();
            // An error means that the container is gone.
            let _ = states.wait_for(|state| !state.phase.has_process()).await;
        }
        Stop::Ended
    }

    /// Let go of the shim's end of stdin too; only then the process sees its end.
    async fn close_io(&self) {
        if let Err(error) = self.engine.containerd().close_io(self.id(), None).await {
            // Most likely it has ended meanwhile.
            tracing::debug!(container = self.id(), %error, "stdin could not be closed");
        }
    }

    /// The first client's end is the end of the container's stdin.
    fn closes_stdin(&self) -> bool {
        self.entry.container.stdin_once && !self.entry.container.tty
    }

    async fn pump_input<R: AsyncRead + Unpin>(
        &self,
        wanted: bool,
        mut stdin: AttachStdin,
        input: &mut Input<R>,
    ) -> Stop {
        if !wanted {
            return input.discard().await;
        }
        let stop = input.pump(&mut stdin).await;
        if stop != Stop::InputEnded || !self.closes_stdin() {
            return stop;
        }
        // If the monitor has gone, the output's side notices and another one is told again.
        let _ = stdin.close().await;
        std::future::pending().await
    }

    /// Output of a container that another program started, out of its log.
    async fn follow_log<W, E>(&self, since: Option<Timestamp>, output: &mut Output<W, E>) -> Stop
    where
        W: AsyncWrite + Unpin,
        E: Fn(OutputStream, &[u8], &mut Vec<u8>),
    {
        let mut states = self.entry.states.clone();
        let runs = |state: &State| state.phase.has_process();
        if states.wait_for(runs).await.is_err() {
            return Stop::Ended;
        }
        let Some(entry) = self.engine.inventory().now().get(&self.entry.container.id).cloned()
        else {
            return Stop::Ended;
        };
        let tail = since.is_none().then_some(0);
        let options = LogOptions { follow: true, since, tail, ..self.log_options() };
        let Ok(batches) = self.engine.read_logs(&entry, options, None).await else {
            return Stop::Ended;
        };
        let mut batches = pin!(batches);
        while let Some(Ok(batch)) = batches.next().await {
            if let Err(stop) = output.send_batch(batch).await {
                return stop;
            }
        }
        Stop::Ended
    }
}

/// The client's receiving side.
struct Output<W, E> {
    writer: W,
    encode: E,
    buffer: Vec<u8>,
}

impl<W, E> Output<W, E>
where
    W: AsyncWrite + Unpin,
    E: Fn(OutputStream, &[u8], &mut Vec<u8>),
{
    async fn send(&mut self, stream: OutputStream, bytes: &[u8]) -> Result<(), Stop> {
        (self.encode)(stream, bytes, &mut self.buffer);
        self.write().await
    }

    async fn send_batch(&mut self, batch: LogBatch) -> Result<(), Stop> {
        for entry in batch {
            (self.encode)(entry.stream, &entry.line, &mut self.buffer);
        }
        self.write().await
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
struct Input<R> {
    reader: R,
    /// With a terminal.
    scanner: Option<Scanner>,
    buffer: Vec<u8>,
    /// Read, and not yet sent to a monitor.
    pending: Vec<u8>,
    has_ended: bool,
    detached: bool,
}

impl<R: AsyncRead + Unpin> Input<R> {
    fn new(reader: R, scanner: Option<Scanner>) -> Self {
        Self {
            reader,
            scanner,
            buffer: Vec::new(),
            pending: Vec::new(),
            has_ended: false,
            detached: false,
        }
    }

    /// Send input to the container. Can be dropped and called again with the stdin of another monitor.
    async fn pump(&mut self, stdin: &mut AttachStdin) -> Stop {
        loop {
            if !self.pending.is_empty() {
                if stdin.write(&self.pending).await.is_err() {
                    // The output's side says what became of the monitor.
                    return std::future::pending().await;
                }
                self.pending.clear();
            }
            if self.detached {
                return Stop::Detached;
            }
            if self.has_ended {
                return Stop::InputEnded;
            }
            match self.read().await {
                Ok(0) => self.has_ended = true,
                Ok(count) => self.take(count),
                Err(stop) => return stop,
            }
        }
    }

    /// Only watch for a connection that breaks: a client that sends no stdin may close its side and go on reading.
    async fn discard(&mut self) -> Stop {
        loop {
            match self.read().await {
                Ok(0) => return std::future::pending().await,
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
