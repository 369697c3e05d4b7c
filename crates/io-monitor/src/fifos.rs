//! The FIFOs between shim and monitor: `<dir>/{in,out,err}`.
//!
//! The daemon makes them before `Tasks.Create`, names them there by plain path, may rename the *directory* afterwards (so
//! that `nerdctl attach`, which opens what the task names, cannot steal bytes), and removes them after `Tasks.Delete`.
//! The monitor keeps descriptors, so the rename does not touch it; a new monitor is given the new name.
//!
//! `in` exists exactly as long as stdin is open: the monitor unlinks it when stdin is closed, so that a monitor started
//! later does not open it again and take the end of file away from the process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::Error;

/// File name of stdin's FIFO.
pub const STDIN: &str = "in";
/// File name of stdout's FIFO; with a terminal, of all output.
pub const STDOUT: &str = "out";
/// File name of stderr's FIFO.
pub const STDERR: &str = "err";

/// The plain paths for containerd's `CreateTaskRequest`; empty text where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FifoPaths {
    /// `stdin`; empty when the container has no open stdin.
    pub stdin: String,
    /// `stdout`.
    pub stdout: String,
    /// `stderr`; empty with a terminal.
    pub stderr: String,
}

/// Make the directory (0700) and its FIFOs (0600), replacing what a former run left.
///
/// # Errors
/// [`Error::Io`] with the path that could not be made.
pub fn create(dir: &Path, tty: bool, stdin: bool) -> Result<FifoPaths, Error> {
    use std::os::unix::fs::DirBuilderExt as _;

    remove(dir)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| Error::io("make the FIFO directory", dir, source))?;
    let make = |wanted: bool, name: &str| -> Result<String, Error> {
        if !wanted {
            return Ok(String::new());
        }
        let path = dir.join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RUSR | Mode::WUSR)
            .map_err(|source| Error::io("make the FIFO", &path, source))?;
        Ok(path.display().to_string())
    };
    Ok(FifoPaths {
        stdin: make(stdin, STDIN)?,
        stdout: make(true, STDOUT)?,
        stderr: make(!tty, STDERR)?,
    })
}

/// Remove the directory and its FIFOs; fine if they are gone.
///
/// # Errors
/// [`Error::Io`].
pub fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove the FIFO directory", dir, source))
        }
        _ => Ok(()),
    }
}

/// Keeps the bytes in a container's FIFOs alive while no monitor has them open. Never reads.
///
/// A FIFO's content vanishes with its last opener. While the container runs that is the shim; a hold covers the case
/// that the container ends between the death of a monitor and the start of the next. Two descriptors per container;
/// drop it when the output is drained.
#[derive(Debug)]
pub struct Hold {
    _ends: Vec<OwnedFd>,
}

impl Hold {
    /// Open the reading ends of `out` and `err` in `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] if `out` cannot be opened; a missing `err` is a terminal.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        let out = open_reader(&dir.join(STDOUT))?;
        let mut ends = vec![out];
        match open_reader(&dir.join(STDERR)) {
            Ok(err) => ends.push(err),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self { _ends: ends })
    }
}

fn open_reader(path: &PathBuf) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|source| Error::io("open the FIFO", path, source))
}
