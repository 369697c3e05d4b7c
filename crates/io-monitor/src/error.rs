//! How talking to a monitor, or preparing its FIFOs, can fail.

use std::io;
use std::path::PathBuf;

/// Why an operation with a monitor failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::error_impl_error, reason = "read as io_monitor::Error")]
pub enum Error {
    /// No monitor listens there: it ended, or never was.
    #[error("no I/O monitor listens on {}", socket.display())]
    NotThere {
        /// Where.
        socket: PathBuf,
        /// `ENOENT` or `ECONNREFUSED`.
        #[source]
        source: io::Error,
    },
    /// The monitor's program could not be started.
    #[error("start the I/O monitor {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The monitor started and gave up before it was ready.
    #[error("the I/O monitor of container {container} could not start: {message}")]
    NotReady {
        /// Container id.
        container: String,
        /// Its own words.
        message: String,
    },
    /// The log driver cannot work, in Docker's words.
    #[error("failed to initialize logging driver: {message}")]
    LogDriver {
        /// For example `journald is not enabled on this host`.
        message: String,
    },
    /// The monitor closed the connection without a word: it was killed.
    #[error("the I/O monitor of container {container} is gone")]
    Gone {
        /// Container id.
        container: String,
    },
    /// The monitor is there and says nothing: it is stopped or stuck.
    #[error("the I/O monitor behind {} does not answer", socket.display())]
    Silent {
        /// Where.
        socket: PathBuf,
    },
    /// The other side does not speak the protocol of [`crate::frames`].
    #[error("the I/O monitor's socket {} said something that is no frame: {what}", socket.display())]
    Protocol {
        /// Where.
        socket: PathBuf,
        /// What was wrong.
        what: &'static str,
    },
    /// A system call failed.
    #[error("{doing} {}", path.display())]
    Io {
        /// For example `make the FIFO`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io { doing, path: path.into(), source: source.into() }
    }
}
