//! One attached client, from the first byte to the end of its connection.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use io_monitor::Duplex;
use io_monitor::client::{AttachEvent, AttachReader, AttachStdin, AttachStream};
use io_monitor::frames::AttachRequest;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::client::{Input, Output, Step, Stop};
use super::keys::DetachKeys;
use super::{AttachOptions, Source, TRIES};
use crate::containers::State;
use crate::containers::logs::{LogOptions, OutputStream};
use crate::events::translate::container_event;
use crate::inventory::Entry;
use crate::{Engine, Result};

/// A registered client, before its connection is given to it.
#[derive(Debug)]
pub struct AttachSession {
    engine: Engine,
    entry: Arc<Entry>,
    options: AttachOptions,
    keys: DetachKeys,
    source: Source,
    /// The container's stdin is closed, at the shim too.
    stdin_closed: Notify,
}

impl AttachSession {
    pub(super) fn new(
        engine: Engine,
        entry: Arc<Entry>,
        options: AttachOptions,
        keys: DetachKeys,
        source: Source,
    ) -> Self {
        Self { engine, entry, options, keys, source, stdin_closed: Notify::new() }
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
        let mut output = Output::new(writer, encode);
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
        output.end().await;
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
                Ok(Some(AttachEvent::StdinClosed(closed))) => {
                    if closed.close_io {
                        self.close_io().await;
                    }
                    self.stdin_closed.notify_one();
                }
                Ok(Some(AttachEvent::Logged)) => {}
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
        let stop = pump(input, &mut stdin).await;
        if stop != Stop::InputEnded || !self.closes_stdin() {
            return stop;
        }
        // If the monitor has gone, the output's side notices and another one is told again.
        let _ = stdin.close().await;
        // The output's side is told when the shim's end of stdin can be closed too; until then even a client that is gone
        // has something to do here.
        self.stdin_closed.notified().await;
        input.discard().await
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

/// Send input to the container. Can be dropped and called again with the stdin of another monitor.
async fn pump<R: AsyncRead + Unpin>(input: &mut Input<R>, stdin: &mut AttachStdin) -> Stop {
    loop {
        match input.next().await {
            Step::Bytes(bytes) => {
                if stdin.write(bytes).await.is_err() {
                    // The output's side says what became of the monitor.
                    return std::future::pending().await;
                }
                input.sent();
            }
            Step::Stop(stop) => return stop,
        }
    }
}
