//! What the engine uses: start a monitor, find it again, attach to it, tell it things.
//!
//! ```text
//! before Tasks.Create   fifos::create ─► spawn ─► connect          (an attach request may have done this already)
//! Tasks.Create returned Monitor::started ─► close_io? ─► Tasks.CloseIO after Tasks.Start
//! attach                connect ─► Monitor::attach ─► AttachReader, AttachStdin
//! the process ended     Monitor::drain(grace) ─► Tasks.Delete ─► fifos::remove
//! daemon restarted      connect; NotThere and the task runs ─► spawn { started: true } on the same FIFOs
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};

use crate::frames::{
    self, AttachRequest, Attached, DrainRequest, Drained, End, Frame, Hello, Kind, Stats,
    StdinClosed, Stream,
};
use crate::{Error, MODE, monitor};

/// How long a new monitor may take to open its files.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// How long a monitor may take to greet or to answer. One that takes longer is stopped or stuck, and whoever waits for it
/// must go on.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The longest piece of stdin in one frame; small, so that one client's input does not hold the FIFO for long.
const STDIN_PIECE: usize = 16 * 1024;

/// What a monitor is started with.
#[derive(Clone, Debug)]
pub struct SpawnOptions {
    /// Our own binary, at the stable path.
    pub program: PathBuf,
    /// Container id: name of the log file.
    pub container: String,
    /// Directory of the FIFOs, made by [`crate::fifos::create`], under its present name.
    pub fifo_dir: PathBuf,
    /// nerdctl's state directory of the container: `log-config.json`, log, `logger-lock`.
    pub state_dir: PathBuf,
    /// Where to listen ([`crate::socket_path`]).
    pub socket: PathBuf,
    /// The container has a terminal.
    pub tty: bool,
    /// The task runs already: this monitor takes the place of one that died.
    pub started: bool,
}

/// A monitor that this process started. Dropping it leaves the monitor alone.
#[derive(Debug)]
pub struct MonitorHandle {
    child: Child,
    pid: u32,
}

impl MonitorHandle {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Wait until it has ended, so that it is no zombie. Somebody has to, as long as this process lives.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub async fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// Start a monitor and return when it has its FIFOs, its log and its socket open.
///
/// It runs in a session of its own, with an empty environment, in `/`, without our descriptors; it outlives us.
///
/// # Errors
/// [`Error::Spawn`] if the program cannot be run, [`Error::LogDriver`] if the log's other end is not there,
/// [`Error::NotReady`] with the monitor's own words.
pub async fn spawn(options: &SpawnOptions) -> Result<MonitorHandle, Error> {
    let failed = |source| Error::Spawn { program: options.program.clone(), source };
    let not_ready = |message: &str| Error::NotReady {
        container: options.container.clone(),
        message: message.into(),
    };
    let mut child = command(options).spawn().map_err(failed)?;
    let pid = child.id().unwrap_or_default();
    let mut words = String::new();
    let ready = async {
        match child.stdout.take() {
            Some(mut stdout) => stdout.read_to_string(&mut words).await.map(drop),
            None => Ok(()),
        }
    };
    match tokio::time::timeout(READY_LIMIT, ready).await {
        Ok(Ok(())) if words.trim() == "ready" => Ok(MonitorHandle { child, pid }),
        outcome => {
            // It may be dead already; what counts is that it is no more and no zombie.
            let _ = child.kill().await;
            Err(match outcome {
                Ok(Ok(())) if words.is_empty() => not_ready("it ended without a word"),
                Ok(Ok(())) => match words.trim().strip_prefix(monitor::LOG_DRIVER) {
                    Some(message) => Error::LogDriver { message: message.to_owned() },
                    None => not_ready(words.trim().trim_start_matches("error: ")),
                },
                Ok(Err(source)) => failed(source),
                Err(_) => not_ready("it was not ready in time"),
            })
        }
    }
}

fn command(options: &SpawnOptions) -> Command {
    let mut command = Command::new(&options.program);
    command
        .arg(MODE)
        .arg("--container")
        .arg(&options.container)
        .arg("--fifos")
        .arg(&options.fifo_dir)
        .arg("--state")
        .arg(&options.state_dir)
        .arg("--socket")
        .arg(&options.socket);
    if options.tty {
        command.arg("--tty");
    }
    if options.started {
        command.arg("--started");
    }
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// A connection to a monitor.
#[derive(Debug)]
pub struct Monitor {
    reader: FrameReader,
    writer: OwnedWriteHalf,
    hello: Hello,
}

impl Monitor {
    /// Connect and hear its greeting.
    ///
    /// # Errors
    /// [`Error::NotThere`] if nobody listens (the monitor has ended, or was killed and left its socket);
    /// [`Error::Silent`] if the greeting does not come.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        within(ANSWERS_WITHIN, socket, Self::greeted(socket)).await
    }

    async fn greeted(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NotThere { socket: socket.to_owned(), source }
            }
            _ => Error::io("connect to", socket, source),
        })?;
        let (reader, writer) = stream.into_split();
        let mut reader = FrameReader::new(reader, socket);
        let Some(frame) = reader.next().await? else {
            let source = io::Error::from(io::ErrorKind::ConnectionRefused);
            return Err(Error::NotThere { socket: socket.to_owned(), source });
        };
        if frame.kind != Kind::Hello {
            return Err(reader.malformed("no greeting"));
        }
        let hello: Hello = reader.json(&frame)?;
        reader.container.clone_from(&hello.container);
        Ok(Self { reader, writer, hello })
    }

    /// What the monitor said when we connected.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.hello.pid
    }

    /// Say that the shim has opened its ends. If the answer says `close_io`, stdin was closed before: call containerd's
    /// `CloseIO` once the process runs.
    ///
    /// # Errors
    /// [`Error::Gone`] if the monitor dies meanwhile.
    pub async fn started(&mut self) -> Result<StdinClosed, Error> {
        self.ask(Kind::Started, &[], Kind::StartedReply).await
    }

    /// The container's process has ended: wait until all its output is in the log, for at most `grace` if something keeps
    /// the FIFOs open. The monitor ends afterwards.
    ///
    /// # Errors
    /// [`Error::Gone`] if the monitor dies before it is done. One that ended by itself *is* done. [`Error::Silent`] if it is
    /// not done long after the grace.
    pub async fn drain(&mut self, grace: Duration) -> Result<Drained, Error> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let request = serde_json::to_vec(&DrainRequest { grace_ms }).unwrap_or_default();
        let limit = grace.saturating_add(ANSWERS_WITHIN);
        match self.ask_within(limit, Kind::Drain, &request, Kind::Drained).await {
            Err(Error::Gone { .. }) if self.reader.ended.is_some() => {
                let complete = self.reader.ended.unwrap_or_default().complete;
                Ok(Drained { complete, lost_lines: 0 })
            }
            outcome => outcome,
        }
    }

    /// The monitor's counters.
    ///
    /// # Errors
    /// [`Error::Gone`] if the monitor dies meanwhile.
    pub async fn stats(&mut self) -> Result<Stats, Error> {
        self.ask(Kind::Stats, &[], Kind::StatsReply).await
    }

    /// Wait until the container's output has ended (`Some`), or the monitor was killed (`None`).
    ///
    /// # Errors
    /// [`Error::Protocol`] if what comes is nonsense.
    pub async fn ended(&mut self) -> Result<Option<End>, Error> {
        while self.reader.ended.is_none() {
            if self.reader.next().await?.is_none() {
                return Ok(None);
            }
        }
        Ok(self.reader.ended)
    }

    /// Get the output from now on, and be able to send stdin.
    ///
    /// # Errors
    /// [`Error::Gone`] if the monitor dies meanwhile.
    pub async fn attach(mut self, request: &AttachRequest) -> Result<AttachStream, Error> {
        let payload = serde_json::to_vec(request).unwrap_or_default();
        let attached: Attached = self.ask(Kind::Attach, &payload, Kind::Attached).await?;
        let Self { reader, writer, .. } = self;
        let stdin = AttachStdin { writer: Some(writer), container: reader.container.clone() };
        Ok(AttachStream { attached, output: AttachReader { reader }, stdin })
    }

    async fn ask<T>(&mut self, request: Kind, payload: &[u8], reply: Kind) -> Result<T, Error>
    where
        T: for<'de> serde::Deserialize<'de>,
    {
        self.ask_within(ANSWERS_WITHIN, request, payload, reply).await
    }

    async fn ask_within<T>(
        &mut self,
        limit: Duration,
        request: Kind,
        payload: &[u8],
        reply: Kind,
    ) -> Result<T, Error>
    where
        T: for<'de> serde::Deserialize<'de>,
    {
        let socket = self.reader.socket.clone();
        within(limit, &socket, async {
            // A monitor that has ended does not read any more; what it said before is still to be read.
            let _ = self.writer.write_all(&frames::raw(request, payload)).await;
            loop {
                let Some(frame) = self.reader.next().await? else {
                    return Err(self.reader.gone());
                };
                if frame.kind == reply {
                    return self.reader.json(&frame);
                }
            }
        })
        .await
    }
}

/// Wait for an answer, but not for ever.
async fn within<T>(
    limit: Duration,
    socket: &Path,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answered = tokio::time::timeout(limit, answer).await;
    answered.unwrap_or_else(|_| Err(Error::Silent { socket: socket.to_owned() }))
}

/// Drain the monitor behind `socket`, as [`Monitor::drain`]; `None` if there is none: then it is done already.
///
/// # Errors
/// As [`Monitor::drain`].
pub async fn drain(socket: &Path, grace: Duration) -> Result<Option<Drained>, Error> {
    match Monitor::connect(socket).await {
        Ok(mut monitor) => monitor.drain(grace).await.map(Some),
        Err(Error::NotThere { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An attached client: two ends that can go to two tasks.
#[derive(Debug)]
pub struct AttachStream {
    /// Where the log was when the stream begins.
    pub attached: Attached,
    /// Output and news.
    pub output: AttachReader,
    /// Stdin.
    pub stdin: AttachStdin,
}

/// What comes from an attached monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachEvent {
    /// Output.
    Output(Stream, Bytes),
    /// The answer to [`AttachStdin::close`].
    StdinClosed(StdinClosed),
    /// No more output.
    End(End),
    /// The log has grown.
    Logged,
    /// We read too slowly; bytes are missing and nothing more comes.
    CutOff,
}

/// The output end.
#[derive(Debug)]
pub struct AttachReader {
    reader: FrameReader,
}

impl AttachReader {
    /// The next piece; `None` when the monitor is gone: after [`AttachEvent::End`] as it should be, without it it was
    /// killed. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Protocol`], or [`Error::Io`] of the socket.
    pub async fn next(&mut self) -> Result<Option<AttachEvent>, Error> {
        while let Some(frame) = self.reader.next().await? {
            let event = match frame.kind {
                Kind::Stdout => AttachEvent::Output(Stream::Stdout, frame.payload),
                Kind::Stderr => AttachEvent::Output(Stream::Stderr, frame.payload),
                Kind::StdinClosed => AttachEvent::StdinClosed(self.reader.json(&frame)?),
                Kind::End => AttachEvent::End(self.reader.json(&frame)?),
                Kind::CutOff => AttachEvent::CutOff,
                Kind::Logged => AttachEvent::Logged,
                _ => continue,
            };
            return Ok(Some(event));
        }
        Ok(None)
    }
}

/// The stdin end. Dropping it leaves the container's stdin open.
#[derive(Debug)]
pub struct AttachStdin {
    /// `None` only while it is dropped.
    writer: Option<OwnedWriteHalf>,
    container: String,
}

impl AttachStdin {
    /// Send bytes; waits while the container does not read.
    ///
    /// # Errors
    /// [`Error::Gone`] if the monitor does not listen any more.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(STDIN_PIECE) {
            self.send(Kind::Stdin, piece).await?;
        }
        Ok(())
    }

    /// Close the container's stdin after what was written; the answer comes as [`AttachEvent::StdinClosed`].
    ///
    /// # Errors
    /// [`Error::Gone`] if the monitor does not listen any more.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.send(Kind::CloseStdin, &[]).await
    }

    async fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Error> {
        let gone = || Error::Gone { container: self.container.clone() };
        let writer = self.writer.as_mut().ok_or_else(gone)?;
        writer.write_all(&frames::raw(kind, payload)).await.map_err(|_| gone())
    }
}

impl Drop for AttachStdin {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // Without `shutdown`: to the monitor the end of our requests is the end of the connection, output included.
            writer.forget();
        }
    }
}

/// Frames out of a socket, one at a time.
#[derive(Debug)]
struct FrameReader {
    io: OwnedReadHalf,
    buffer: BytesMut,
    socket: PathBuf,
    container: String,
    ended: Option<End>,
}

impl FrameReader {
    fn new(io: OwnedReadHalf, socket: &Path) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            socket: socket.to_owned(),
            container: String::new(),
            ended: None,
        }
    }

    /// The next frame, `None` at the end of the connection. Cancel-safe: what was read stays in the buffer.
    async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let frame =
                frames::take(&mut self.buffer).map_err(|malformed| self.malformed(malformed.0))?;
            if let Some(frame) = frame {
                if frame.kind == Kind::End {
                    self.ended = Some(self.json(&frame)?);
                }
                return Ok(Some(frame));
            }
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(source) if source.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(source) => return Err(Error::io("read from", &self.socket, source)),
            }
        }
    }

    fn json<T: for<'de> serde::Deserialize<'de>>(&self, frame: &Frame) -> Result<T, Error> {
        frame.json().map_err(|malformed| self.malformed(malformed.0))
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Protocol { socket: self.socket.clone(), what }
    }

    fn gone(&self) -> Error {
        Error::Gone { container: self.container.clone() }
    }
}
