//! A client that starts an exec and has its streams, from the start to the end of its connection.

use std::sync::Arc;

use io_monitor::Duplex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::pipes::{Output as ProcessOutput, Pipes, Stdin, Wanted};
use super::{Exec, ExecStart, Stage};
use crate::Engine;
use crate::containers::attach::client::{Input, Output, Step, Stop};
use crate::containers::logs::OutputStream;

/// A start that waits for its client's connection.
#[derive(Debug)]
pub struct ExecSession {
    engine: Engine,
    exec: Arc<Exec>,
    start: ExecStart,
}

impl ExecSession {
    pub(super) fn new(engine: Engine, exec: Arc<Exec>, start: ExecStart) -> Self {
        Self { engine, exec, start }
    }

    /// Start the exec and serve the client until it is over. `encode` appends a chunk of output as it goes over the wire.
    ///
    /// A start that fails is told as output: the head of the answer has been sent long ago. Dropping the future leaves
    /// the process alone.
    pub async fn run<E>(self, client: Duplex, encode: E)
    where
        E: Fn(OutputStream, &[u8], &mut Vec<u8>) + Send + Sync,
    {
        let (reader, writer) = client.into_halves();
        let mut output = Output::new(writer, encode);
        let options = &self.exec.options;
        let wanted = Wanted {
            stdin: options.attach_stdin,
            stdout: options.attach_stdout,
            stderr: options.attach_stderr && !self.start.raw,
        };
        let begun = self.engine.begin_exec(Arc::clone(&self.exec), self.start, wanted).await;
        let mut lent = match begun {
            Ok(lent) => lent,
            Err(error) => {
                tracing::debug!(
                    exec = self.id(),
                    error = error.message(),
                    "an exec was not started"
                );
                let text = format!("{}\r\n", error.message());
                let _ = output.send(OutputStream::Stdout, text.as_bytes()).await;
                return output.end().await;
            }
        };
        let keys = options.tty.then(|| self.exec.keys.clone().scanner());
        let mut input = Input::new(reader, keys);
        let stop = match lent.pipes() {
            Some(pipes) => self.stream(pipes, wanted, &mut input, &mut output).await,
            None => Stop::Ended,
        };
        if stop == Stop::Detached {
            self.tell_detached();
        }
        tracing::debug!(exec = self.id(), ?stop, "the session of an exec ended");
        // Before the connection closes, so that a client that asks then finds nobody in its way.
        drop(lent);
        output.end().await;
    }

    fn id(&self) -> &str {
        self.exec.id.as_str()
    }

    fn tell_detached(&self) {
        if let Some(entry) = self.engine.inventory().now().get(&self.exec.container) {
            self.engine.publish_exec(&self.exec, &entry.container, "exec_detach", None);
        }
    }

    async fn stream<R, W, E>(
        &self,
        pipes: &mut Pipes,
        wanted: Wanted,
        input: &mut Input<R>,
        output: &mut Output<W, E>,
    ) -> Stop
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        E: Fn(OutputStream, &[u8], &mut Vec<u8>),
    {
        if wanted == Wanted::default() {
            // Nothing to wait for (moby `daemon/internal/stream/attach.go`).
            return Stop::Ended;
        }
        let Pipes { stdin, output: from } = pipes;
        let stage = self.exec.stage.subscribe();
        tokio::select! {
            stop = pump_output(from, stage, wanted, output) => stop,
            stop = self.pump_input(stdin, wanted, input) => stop,
        }
    }

    async fn pump_input<R: AsyncRead + Unpin>(
        &self,
        stdin: &mut Stdin,
        wanted: Wanted,
        input: &mut Input<R>,
    ) -> Stop {
        if !wanted.stdin {
            return input.discard().await;
        }
        loop {
            match input.next().await {
                Step::Bytes(bytes) => {
                    if let Err(error) = stdin.write(bytes).await {
                        tracing::debug!(exec = self.id(), %error, "a process does not take its input");
                        *stdin = Stdin::Closed;
                        // It may have closed its stdin, or have ended; the output's side says.
                        return input.discard().await;
                    }
                    input.sent();
                }
                Step::Stop(Stop::InputEnded) if !self.exec.options.tty => break,
                Step::Stop(stop) => return stop,
            }
        }
        self.engine.close_exec_stdin(&self.exec.container, &self.exec.id, stdin).await;
        if wanted.stdout || wanted.stderr {
            return input.discard().await;
        }
        Stop::InputEnded
    }
}

/// Send output until its end; then the exit code is known, too.
async fn pump_output<W, E>(
    from: &mut ProcessOutput,
    mut stage: watch::Receiver<Stage>,
    wanted: Wanted,
    output: &mut Output<W, E>,
) -> Stop
where
    W: AsyncWrite + Unpin,
    E: Fn(OutputStream, &[u8], &mut Vec<u8>),
{
    while let Some((stream, bytes)) = from.next(&mut stage).await {
        // A terminal writes even if nobody wants to see it.
        if !wanted.stdout && stream == OutputStream::Stdout {
            continue;
        }
        if let Err(stop) = output.send(stream, bytes).await {
            return stop;
        }
    }
    // The sender is the exec itself.
    let _ = stage.wait_for(Stage::is_over).await;
    Stop::Ended
}
