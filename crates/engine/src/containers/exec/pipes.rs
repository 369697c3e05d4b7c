//! The FIFOs of an exec, and the directory that says that containerd has its process.
//!
//! `<runtime dir>/exec/<namespace>/<container>.<exec>/{in,out,err}`. The directory is made before containerd hears of the
//! exec and removed after its process was deleted there; the daemon that minds the exec holds a lock on it. So whoever
//! finds one without a lock has found what a dead daemon left ([`super::adopt`]).
//!
//! Streams that nobody wants have no FIFO: without a terminal they are `/dev/null`, and the process needs no reader.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use io_monitor::fifos::{STDERR, STDIN, STDOUT};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Stage;
use crate::containers::logs::OutputStream;

/// What is read in one go; a FIFO holds 64 KiB.
const PIECE: usize = 32 * 1024;

/// How long the output of an ended process may stay open: something in the background may hold it (moby
/// `daemon/monitor.go`).
const OPEN_FOR: Duration = Duration::from_secs(2);

/// After that it ends with the first pause of this length: a client that reads slowly gets what is left of it.
const PAUSE: Duration = Duration::from_millis(100);

/// More than this an ended process cannot have left in the pipes (`fs.pipe-max-size` is 1 MiB): what comes behind it is
/// somebody else's.
const LEFT_BEHIND: usize = 2 * 1024 * 1024;

/// Behind the name of a directory whose lock is not held yet; with no dot in it that is the name of no exec.
const UNLOCKED: &str = "-new";

/// Which streams somebody wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

/// The paths that containerd is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// The directory of one exec, locked.
#[derive(Debug)]
pub(super) struct ExecDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: OwnedFd,
}

impl ExecDir {
    /// Make it.
    pub(super) fn make(parent: &Path, name: &str) -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(parent)?;
        // Under its name nobody finds it without its lock: who adopts execs takes it for a dead daemon's then.
        let new = parent.join(format!("{}{UNLOCKED}", name.replace('.', "_")));
        builder.recursive(false).create(&new)?;
        let Some(dir) = Self::claim(&new)? else { return Err(io::ErrorKind::ResourceBusy.into()) };
        let path = parent.join(name);
        if let Err(error) = std::fs::rename(&new, &path) {
            dir.remove();
            return Err(error);
        }
        Ok(Self { path, ..dir })
    }

    /// Take one that is there; `None` if somebody has it.
    pub(super) fn claim(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::open(path, flags, Mode::empty())?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Make the FIFOs of `wanted` streams, their reading ends open: containerd's shim waits for readers.
    pub(super) fn open(&self, tty: bool, wanted: Wanted) -> io::Result<(Paths, Pipes)> {
        let make = |name: &str| -> io::Result<String> {
            let path = self.path.join(name);
            rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?;
            Ok(path.display().to_string())
        };
        let mut paths = Paths::default();
        if wanted.stdin {
            paths.stdin = make(STDIN)?;
        }
        if tty {
            // A terminal needs somewhere to write to.
            paths.stdout = make(STDOUT)?;
        } else if wanted != Wanted::default() {
            let nowhere = || "/dev/null".to_owned();
            paths.stdout = if wanted.stdout { make(STDOUT)? } else { nowhere() };
            paths.stderr = if wanted.stderr { make(STDERR)? } else { nowhere() };
        }
        let pipes = self.reopen()?;
        Ok((paths, pipes))
    }

    /// Open the FIFOs that are there.
    pub(super) fn reopen(&self) -> io::Result<Pipes> {
        let open = |name: &str| match OpenOptions::new().open_receiver(self.path.join(name)) {
            Ok(receiver) => Ok(Some(receiver)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let stdin = self.path.join(STDIN);
        Ok(Pipes {
            stdin: if stdin.exists() { Stdin::Unopened(stdin) } else { Stdin::Closed },
            output: Output::new(open(STDOUT)?, open(STDERR)?),
        })
    }

    /// Remove it.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the FIFOs of an exec could not be removed");
        }
    }
}

/// Our ends of an exec's streams.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: Stdin,
    pub(super) output: Output,
}

/// The input of a process.
#[derive(Debug)]
pub(super) enum Stdin {
    /// The shim may not have its end yet.
    Unopened(PathBuf),
    /// Ready.
    Open(Sender),
    /// There is none, or not any more.
    Closed,
}

impl Stdin {
    /// It is there, and nobody closed it.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self, Self::Closed)
    }

    /// Write all of `bytes`; waits while the process does not read. Cut off in the middle it must not be used again.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sender = self.opened().await?;
            sender.writable().await?;
            match sender.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A FIFO forgets its bytes with its last opener, so nothing is written before the shim has its end.
    async fn opened(&mut self) -> io::Result<&Sender> {
        const RETRY: Duration = Duration::from_millis(1);
        loop {
            match self {
                Self::Open(sender) => return Ok(sender),
                Self::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
                Self::Unopened(path) => match OpenOptions::new().open_sender(&*path) {
                    Ok(sender) => *self = Self::Open(sender),
                    Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                        tokio::time::sleep(RETRY).await;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }
}

/// The output of a process.
#[derive(Debug)]
pub(super) struct Output {
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    buffer: Vec<u8>,
    /// When it was first seen that the process has ended.
    ended: Option<Instant>,
    read_since: usize,
}

impl Output {
    fn new(stdout: Option<Receiver>, stderr: Option<Receiver>) -> Self {
        Self { stdout, stderr, buffer: Vec::new(), ended: None, read_since: 0 }
    }

    /// More may come.
    pub(super) fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// The next piece; `None` at the end. Not to be called before the shim has its ends: a FIFO that nobody writes to is
    /// at its end. Cancel-safe.
    pub(super) async fn next(
        &mut self,
        stage: &mut watch::Receiver<Stage>,
    ) -> Option<(OutputStream, &[u8])> {
        self.buffer.resize(PIECE, 0);
        while self.is_open() {
            if self.ended.is_some() && self.read_since > LEFT_BEHIND {
                break;
            }
            let patience = patience(self.ended, stage);
            tokio::select! {
                () = readable(self.stdout.as_ref()) => {
                    if let Some(count) = take(&mut self.stdout, &mut self.buffer) {
                        self.read_since += count;
                        return Some((OutputStream::Stdout, &self.buffer[..count]));
                    }
                }
                () = readable(self.stderr.as_ref()) => {
                    if let Some(count) = take(&mut self.stderr, &mut self.buffer) {
                        self.read_since += count;
                        return Some((OutputStream::Stderr, &self.buffer[..count]));
                    }
                }
                () = patience => {
                    if self.ended.is_some() {
                        break;
                    }
                    (self.ended, self.read_since) = (Some(Instant::now()), 0);
                }
            }
        }
        (self.stdout, self.stderr) = (None, None);
        None
    }
}

/// Until the process has ended; then for as long as silence may last.
async fn patience(ended: Option<Instant>, stage: &mut watch::Receiver<Stage>) {
    match ended {
        None => {
            // An error would mean that nobody can tell any more.
            let _ = stage.wait_for(Stage::is_over).await;
        }
        Some(ended) => {
            tokio::time::sleep_until((ended + OPEN_FOR).max(Instant::now() + PAUSE)).await;
        }
    }
}

async fn readable(pipe: Option<&Receiver>) {
    match pipe {
        // A failure shows when it is read.
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}

/// Read what is there; a pipe at its end is dropped.
fn take(pipe: &mut Option<Receiver>, buffer: &mut [u8]) -> Option<usize> {
    match pipe.as_ref()?.try_read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Ok(0) | Err(_) => {
            *pipe = None;
            None
        }
        Ok(count) => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const BOTH: Wanted = Wanted { stdin: true, stdout: true, stderr: true };

    fn dir() -> (tempfile::TempDir, ExecDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = ExecDir::make(&temp.path().join("exec/default"), "c.e").unwrap();
        (temp, dir)
    }

    fn writer(path: &str) -> std::fs::File {
        std::fs::OpenOptions::new().write(true).open(path).unwrap()
    }

    #[tokio::test]
    async fn only_wanted_streams_have_a_fifo() {
        let (_temp, dir) = dir();
        let (paths, pipes) = dir.open(false, Wanted::default()).unwrap();
        assert_eq!(paths, Paths::default());
        assert!(!pipes.output.is_open() && !pipes.stdin.is_open());
        let (paths, pipes) = dir.open(false, Wanted { stderr: true, ..Wanted::default() }).unwrap();
        assert_eq!(paths.stdout, "/dev/null");
        assert!(paths.stderr.ends_with("/exec/default/c.e/err") && pipes.output.is_open());
        let path = dir.path.clone();
        dir.remove();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_terminal_always_writes_somewhere() {
        let (_temp, dir) = dir();
        let (paths, pipes) = dir.open(true, Wanted::default()).unwrap();
        assert!(paths.stdout.ends_with("/out") && paths.stderr.is_empty());
        assert!(pipes.output.is_open());
    }

    #[test]
    fn nobody_takes_what_somebody_has() {
        let (_temp, dir) = dir();
        assert!(ExecDir::claim(&dir.path).unwrap().is_none());
        let path = dir.path.clone();
        drop(dir);
        assert!(ExecDir::claim(&path).unwrap().is_some());
    }

    #[tokio::test]
    async fn output_ends_when_both_streams_have_ended() {
        let (_temp, dir) = dir();
        let (paths, mut pipes) = dir.open(false, BOTH).unwrap();
        let (_sender, mut stage) = watch::channel(Stage::Running { pid: 1 });
        let (mut out, mut err) = (writer(&paths.stdout), writer(&paths.stderr));
        out.write_all(b"one").unwrap();
        drop(out);
        assert_eq!(pipes.output.next(&mut stage).await, Some((OutputStream::Stdout, &b"one"[..])));
        err.write_all(b"two").unwrap();
        assert_eq!(pipes.output.next(&mut stage).await, Some((OutputStream::Stderr, &b"two"[..])));
        drop(err);
        assert_eq!(pipes.output.next(&mut stage).await, None);
    }

    #[tokio::test]
    async fn what_holds_the_output_of_an_ended_process_does_not_hold_us() {
        let (_temp, dir) = dir();
        let (paths, mut pipes) = dir.open(true, BOTH).unwrap();
        let (sender, mut stage) = watch::channel(Stage::Running { pid: 1 });
        let mut out = writer(&paths.stdout);
        out.write_all(b"last words").unwrap();
        sender.send_replace(Stage::Ended { pid: 1, code: 0 });
        let first = pipes.output.next(&mut stage).await;
        assert_eq!(first, Some((OutputStream::Stdout, &b"last words"[..])));
        assert_eq!(pipes.output.next(&mut stage).await, None);
    }

    #[tokio::test]
    async fn an_endless_writer_does_not_hold_us() {
        let (_temp, dir) = dir();
        let (paths, mut pipes) = dir.open(true, BOTH).unwrap();
        let (_sender, mut stage) = watch::channel(Stage::Ended { pid: 1, code: 0 });
        let mut out = writer(&paths.stdout);
        let endless = std::thread::spawn(move || while out.write_all(&[b'x'; 4096]).is_ok() {});
        let mut count = 0;
        while let Some((_, bytes)) = pipes.output.next(&mut stage).await {
            count += bytes.len();
        }
        assert!(count > LEFT_BEHIND);
        drop(pipes);
        endless.join().unwrap();
    }

    #[tokio::test]
    async fn input_waits_for_the_reader() {
        use std::io::Read as _;
        let (_temp, dir) = dir();
        let (paths, mut pipes) = dir.open(false, BOTH).unwrap();
        let path = paths.stdin.clone();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            std::fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        pipes.stdin.write(b"hello").await.unwrap();
        assert!(pipes.stdin.is_open());
        pipes.stdin = Stdin::Closed;
        assert_eq!(reader.join().unwrap(), "hello");
        assert!(pipes.stdin.write(b"x").await.is_err());
    }
}
