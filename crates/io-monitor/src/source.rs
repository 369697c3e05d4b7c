//! Where output comes from: two front ends, the daemon's FIFOs and the pipes of containerd's `binary://` protocol.
//!
//! Either way a source is the reading end of a pipe, and output is looked at without taking it ([`Peeker`]).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::fifos;
use crate::frames::Stream;
use crate::readiness;

/// The most output that is looked at in one go; also the longest payload of a frame.
const PEEK: usize = 64 * 1024;

/// The reading end of one stream.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) stream: Stream,
    pub(crate) fd: Rc<AsyncFd<OwnedFd>>,
}

impl Source {
    fn new(stream: Stream, fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { stream, fd: Rc::new(readiness::register(fd, Interest::READABLE)?) })
    }

    /// Every writer is gone, and there was one.
    pub(crate) fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.get_ref(), PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..))
            && fds[0].revents().contains(PollFlags::HUP)
    }
}

/// Open `out` and, without a terminal, `err` in a FIFO directory.
///
/// Also returns a writing end of each. While those are held, the sources cannot hang up, whoever comes and goes: they
/// are dropped once the shim has its own ends open. (Linux tells a hang-up only of a FIFO that had a writer after the
/// reader came; ours is that writer, so that the end is also seen where the last real writer was gone before we came.)
pub(crate) fn open_fifos(dir: &OwnedFd, tty: bool) -> io::Result<(Vec<Source>, Vec<OwnedFd>)> {
    let mut sources = Vec::new();
    let mut keepers = Vec::new();
    for (stream, name) in [(Stream::Stdout, fifos::STDOUT), (Stream::Stderr, fifos::STDERR)] {
        if tty && stream == Stream::Stderr {
            continue;
        }
        let reader = open_fifo(dir, name, OFlags::RDONLY)?;
        keepers.push(open_fifo(dir, name, OFlags::WRONLY)?);
        sources.push(Source::new(stream, reader)?);
    }
    Ok((sources, keepers))
}

fn open_fifo(dir: &OwnedFd, name: &str, access: OFlags) -> io::Result<OwnedFd> {
    let fd =
        rustix::fs::openat(dir, name, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    is_pipe(fd)
}

fn is_pipe(fd: OwnedFd) -> io::Result<OwnedFd> {
    let mode = rustix::fs::fstat(&fd)?.st_mode;
    if FileType::from_raw_mode(mode) == FileType::Fifo {
        Ok(fd)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no FIFO"))
    }
}

/// The pipes that containerd's shim gives a logger: stdout as descriptor 3, stderr as 4.
///
/// They are opened again through `/proc`, which needs no `unsafe` to own them and makes ours non-blocking without
/// touching the shim's. The inherited ones stay open beside them; only writers decide when a pipe ends.
pub(crate) fn open_inherited() -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for (stream, number) in [(Stream::Stdout, 3), (Stream::Stderr, 4)] {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(format!("/proc/self/fd/{number}"), flags, Mode::empty())?;
        sources.push(Source::new(stream, is_pipe(fd)?)?);
    }
    Ok(sources)
}

/// Tell the shim, over descriptor 5, that we are ready. A byte satisfies `binary://` and `binary-v2://`.
pub(crate) fn tell_shim_ready() -> io::Result<()> {
    let ready =
        rustix::fs::open("/proc/self/fd/5", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&ready, b"\n")?;
    Ok(())
}

/// Looks at what is in a pipe and leaves it there: `tee` into a pipe of our own, and read that.
#[derive(Debug)]
pub(crate) struct Peeker {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Where what has been seen goes without being copied once more.
    nowhere: OwnedFd,
    buffer: Vec<u8>,
}

impl Peeker {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let nowhere =
            rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { reader, writer, nowhere, buffer: vec![0; PEEK] })
    }

    /// How many bytes are in `pipe`, as far as we look; [`Peeker::seen`] has them.
    pub(crate) fn peek(&mut self, pipe: impl AsFd) -> io::Result<usize> {
        let count = match rustix::pipe::tee(pipe, &self.writer, PEEK, SpliceFlags::NONBLOCK) {
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        read_exactly(&self.reader, self.buffer.get_mut(..count).unwrap_or_default())
    }

    /// The bytes of the last peek.
    pub(crate) fn seen(&self, count: usize) -> &[u8] {
        &self.buffer[..count]
    }

    /// Whether `pipe` has more than `count` bytes.
    pub(crate) fn has_more_than(pipe: impl AsFd, count: usize) -> bool {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        rustix::io::ioctl_fionread(pipe).is_ok_and(|all| all > count)
    }

    /// Take `count` bytes out of `pipe`; the buffer stays as it is.
    pub(crate) fn consume(&self, pipe: impl AsFd, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let (from, to) = (pipe.as_fd(), &self.nowhere);
            match rustix::pipe::splice(from, None, to, None, left, SpliceFlags::NONBLOCK) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                Ok(count) => left = left.saturating_sub(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Read until `buffer` is full or the pipe is empty.
fn read_exactly(pipe: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match rustix::io::read(pipe.as_fd(), &mut buffer[got..]) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
            Ok(count) => got += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(got)
}
