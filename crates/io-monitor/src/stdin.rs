//! The container's stdin: many clients, one FIFO, closed once.
//!
//! The FIFO is opened for reading and writing, so that opening never waits and the process never sees an end of file
//! that nobody asked for. It must not be closed before the shim has opened its end (`started`): a FIFO that nobody has
//! open forgets its bytes.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, Notify};

use crate::fifos;
use crate::frames::{StdinClosed, StdinState};
use crate::readiness;

/// Stdin of one container.
#[derive(Debug)]
pub(crate) struct Stdin {
    /// The FIFO's directory, which may be renamed while we run.
    dir: Option<OwnedFd>,
    fifo: RefCell<Option<Rc<AsyncFd<OwnedFd>>>>,
    state: Cell<StdinState>,
    started: Cell<bool>,
    /// Whose bytes are being written: pieces of several clients do not mix.
    turn: Mutex<()>,
    closed: Notify,
}

impl Stdin {
    /// A container without stdin.
    pub(crate) fn none() -> Self {
        Self::with(None, None, StdinState::None, true)
    }

    /// Open `in` in `dir`; if it is not there, the container has no stdin, or it was closed before.
    pub(crate) fn open(dir: OwnedFd, started: bool) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&dir, fifos::STDIN, flags, Mode::empty()) {
            Ok(fd) => {
                let fifo = readiness::register(fd, Interest::WRITABLE)?;
                Ok(Self::with(Some(dir), Some(Rc::new(fifo)), StdinState::Open, started))
            }
            Err(rustix::io::Errno::NOENT) => {
                let state = if started { StdinState::Closed } else { StdinState::None };
                Ok(Self::with(None, None, state, started))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn with(
        dir: Option<OwnedFd>,
        fifo: Option<Rc<AsyncFd<OwnedFd>>>,
        state: StdinState,
        started: bool,
    ) -> Self {
        Self {
            dir,
            fifo: RefCell::new(fifo),
            state: Cell::new(state),
            started: Cell::new(started),
            turn: Mutex::new(()),
            closed: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> StdinState {
        self.state.get()
    }

    /// Write all bytes, waiting while the FIFO is full; returns early when stdin is closed. Bytes after that are dropped.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        let _turn = self.turn.lock().await;
        let Some(fifo) =
            self.fifo.borrow().clone().filter(|_| self.state.get() == StdinState::Open)
        else {
            return;
        };
        tokio::select! {
            () = self.closed.notified() => {}
            // A FIFO that we hold open for reading takes bytes or waits; an error would have nobody to go to.
            _ = write_all(&fifo, bytes) => {}
        }
    }

    /// Close it, now or at `started`.
    pub(crate) fn close(&self) -> StdinClosed {
        if self.state.get() == StdinState::Open {
            self.state.set(StdinState::Closing);
            self.closed.notify_waiters();
            self.close_if_possible();
        }
        self.answer()
    }

    /// The shim has its ends open.
    pub(crate) fn started(&self) -> StdinClosed {
        self.started.set(true);
        self.close_if_possible();
        self.answer()
    }

    fn close_if_possible(&self) {
        if !self.started.get() || self.state.get() != StdinState::Closing {
            return;
        }
        self.state.set(StdinState::Closed);
        self.fifo.borrow_mut().take();
        if let Some(dir) = &self.dir {
            // Its absence tells the next monitor; without it, that one would hold stdin open. Nothing else depends on it.
            let _ = rustix::fs::unlinkat(dir, fifos::STDIN, AtFlags::empty());
        }
    }

    fn answer(&self) -> StdinClosed {
        StdinClosed { close_io: self.state.get() == StdinState::Closed }
    }
}

async fn write_all(fifo: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = fifo.writable().await?;
        match ready.try_io(|fd| rustix::io::write(fd, bytes).map_err(io::Error::from)) {
            Ok(Ok(count)) => bytes = &bytes[count..],
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    Ok(())
}
