//! What the tests share: a container's directories, a shim, and readers of what came out.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use io_monitor::client::{AttachEvent, AttachReader, Monitor, MonitorHandle, SpawnOptions, spawn};
use io_monitor::fifos;
use io_monitor::frames::{AttachRequest, End, Stream};

/// Long enough for anything that happens at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_io-monitor");

pub(crate) const BOTH: AttachRequest =
    AttachRequest { stdout: true, stderr: true, stdin: false, patience_ms: None, log_news: false };

/// A container's files, in a directory that goes with it.
pub(crate) struct Container {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) options: SpawnOptions,
}

impl Container {
    pub(crate) fn new() -> Self {
        Self::with(false, r#"{"driver":"json-file","address":""}"#)
    }

    pub(crate) fn with(tty: bool, log_config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SpawnOptions {
            program: PROGRAM.into(),
            container: "c1".into(),
            fifo_dir: dir.path().join("fifos"),
            state_dir: dir.path().join("state"),
            socket: dir.path().join("run").join("c1.sock"),
            tty,
            started: false,
        };
        fs::create_dir(&options.state_dir).unwrap();
        fs::write(options.state_dir.join("log-config.json"), log_config).unwrap();
        fifos::create(&options.fifo_dir, tty, true).unwrap();
        Self { dir, options }
    }

    pub(crate) async fn spawn(&self) -> Running {
        Running {
            handle: Some(spawn(&self.options).await.unwrap()),
            socket: self.options.socket.clone(),
        }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.options.state_dir.join("c1-json.log")
    }

    /// The `log` fields of the current file.
    pub(crate) fn logged(&self) -> Vec<(String, String)> {
        entries(&self.log_path())
    }

    pub(crate) fn logged_text(&self) -> String {
        self.logged().into_iter().map(|(_, text)| text).collect()
    }

    /// Whether nobody holds nerdctl's lock.
    pub(crate) fn lock_is_free(&self) -> bool {
        let file = File::open(self.options.state_dir.join("logger-lock")).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

/// `(stream, log)` of each entry.
pub(crate) fn entries(path: &Path) -> Vec<(String, String)> {
    let field = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap().to_owned();
    let text = fs::read_to_string(path).unwrap();
    // The last line may be half written at this moment.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap_or_else(|error| panic!("{error}: {line}"))
        })
        .map(|value| (field(&value, "stream"), field(&value, "log")))
        .collect()
}

/// A monitor that is killed if the test fails before it ended.
pub(crate) struct Running {
    handle: Option<MonitorHandle>,
    socket: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.handle.as_ref().unwrap().pid()
    }

    pub(crate) async fn connect(&self) -> Monitor {
        Monitor::connect(&self.socket).await.unwrap()
    }

    pub(crate) async fn attach(&self, request: AttachRequest) -> Attached {
        let stream = self.connect().await.attach(&request).await.unwrap();
        Attached { output: stream.output, stdin: stream.stdin, mark: stream.attached.log }
    }

    pub(crate) async fn started(&self) {
        self.connect().await.started().await.unwrap();
    }

    /// SIGKILL, and wait for it.
    pub(crate) async fn kill(mut self) {
        signal(self.pid(), rustix::process::Signal::KILL);
        let handle = self.handle.take().unwrap();
        handle.wait().await.unwrap();
    }

    /// Wait until it ends by itself.
    pub(crate) async fn ends(mut self) {
        let handle = self.handle.take().unwrap();
        let pid = handle.pid();
        match tokio::time::timeout(LIMIT, handle.wait()).await {
            Ok(status) => assert!(status.unwrap().success()),
            Err(_) => {
                signal(pid, rustix::process::Signal::KILL);
                panic!("the monitor did not end");
            }
        }
        assert!(!self.socket.exists(), "the socket stays");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            signal(handle.pid(), rustix::process::Signal::KILL);
        }
    }
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// An attached client.
pub(crate) struct Attached {
    pub(crate) output: AttachReader,
    pub(crate) stdin: io_monitor::client::AttachStdin,
    pub(crate) mark: Option<io_monitor::frames::LogMark>,
}

impl Attached {
    /// The next thing.
    pub(crate) async fn next(&mut self) -> Option<AttachEvent> {
        tokio::time::timeout(LIMIT, self.output.next()).await.expect("nothing comes").unwrap()
    }

    /// Output until `count` bytes of it have come.
    pub(crate) async fn read(&mut self, count: usize) -> String {
        let mut text = Vec::new();
        while text.len() < count {
            match self.next().await {
                Some(AttachEvent::Output(_, bytes)) => text.extend_from_slice(&bytes),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&text)),
            }
        }
        String::from_utf8(text).unwrap()
    }

    /// All output, by stream, and how it ended. The connection must end as well.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, Vec<u8>, End) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match self.next().await {
                Some(AttachEvent::Output(Stream::Stdout, bytes)) => out.extend_from_slice(&bytes),
                Some(AttachEvent::Output(Stream::Stderr, bytes)) => err.extend_from_slice(&bytes),
                Some(AttachEvent::End(end)) => {
                    assert_eq!(self.next().await, None);
                    return (out, err, end);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The shim's ends: of each FIFO both, as containerd's shim holds them.
pub(crate) struct Shim {
    pub(crate) out: Option<[File; 2]>,
    pub(crate) err: Option<[File; 2]>,
    /// Reading end (non-blocking), writing end.
    pub(crate) stdin: Option<[File; 2]>,
}

impl Shim {
    /// Open everything in the shim's order (containerd `cmd/containerd-shim-runc-v2/process/io.go`).
    pub(crate) fn open(container: &Container) -> Self {
        let dir = &container.options.fifo_dir;
        let both = |name: &str| {
            let path = dir.join(name);
            // Waits until a reader is there.
            let writer = OpenOptions::new().write(true).open(&path).unwrap();
            [writer, File::open(&path).unwrap()]
        };
        let err = (!container.options.tty).then(|| both(fifos::STDERR));
        let stdin = dir.join(fifos::STDIN);
        let nonblocking = OFLAG_NONBLOCK;
        let stdin = stdin.exists().then(|| {
            let reader =
                OpenOptions::new().read(true).custom_flags(nonblocking).open(&stdin).unwrap();
            [reader, OpenOptions::new().write(true).open(&stdin).unwrap()]
        });
        Self { out: Some(both(fifos::STDOUT)), err, stdin }
    }

    pub(crate) fn out(&mut self, text: &str) {
        self.out.as_mut().unwrap()[0].write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn err(&mut self, text: &str) {
        self.err.as_mut().unwrap()[0].write_all(text.as_bytes()).unwrap();
    }

    /// containerd's `CloseIO`: the shim closes its writing end of stdin.
    pub(crate) fn close_io(&mut self) {
        let [reader, writer] = self.stdin.take().unwrap();
        drop(writer);
        let null = File::open("/dev/null").unwrap();
        self.stdin = Some([reader, null]);
    }

    /// Read stdin until it ends, or until `count` bytes came.
    pub(crate) async fn read_stdin(&mut self, count: usize) -> (Vec<u8>, bool) {
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        let reader = &self.stdin.as_ref().unwrap()[0];
        let deadline = tokio::time::Instant::now() + LIMIT;
        while got.len() < count {
            match rustix::io::read(reader, &mut buffer) {
                Ok(0) => return (got, true),
                Ok(length) => got.extend_from_slice(&buffer[..length]),
                Err(rustix::io::Errno::AGAIN) => {
                    assert!(tokio::time::Instant::now() < deadline, "no stdin after {got:?}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        (got, false)
    }
}

const OFLAG_NONBLOCK: i32 = 0o4000;

/// Wait until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
