//! Errors that only their text tells apart. The only place that compares texts.
//!
//! The shim gives most of its failures no error class, so they arrive as [`Kind::Unknown`].

use crate::{Error, Kind};

/// A state of the process that the shim complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShimProblem {
    /// It has not been started.
    NotStarted,
    /// It is running.
    Running,
    /// It is paused.
    Paused,
    /// It has ended.
    Stopped,
    /// It has been deleted.
    Deleted,
    /// The shim is gone, and the task with it.
    ShimGone,
}

/// Why runc could not start a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartFailure {
    /// There is no such program, or a path in the spec does not exist. Shells exit with 127.
    NoSuchProgram,
    /// The program may not be executed. Shells exit with 126.
    NotExecutable,
    /// The program is a directory. Shells exit with 126.
    IsDirectory,
    /// A file was to be mounted onto a directory, or a directory onto a file.
    MountMismatch,
    /// Anything else.
    Other,
}

/// What the shim complains about, if its words are known.
#[must_use]
pub fn shim_problem(error: &Error) -> Option<ShimProblem> {
    find(SHIM_PROBLEMS, error.message())
}

/// Why a task or an exec could not be started.
#[must_use]
pub fn start_failure(error: &Error) -> StartFailure {
    let message = error.message().to_ascii_lowercase();
    find(START_FAILURES, &message).unwrap_or(StartFailure::Other)
}

/// Whether another client holds the upload; as opposed to a containerd that is away, which is
/// [`Kind::Unavailable`] too (containerd `content/local/locks.go`).
pub(crate) fn is_locked(error: &Error) -> bool {
    error.kind() == Kind::Unavailable && error.message().contains(" locked for ")
}

/// containerd `pkg/process/{init_state,exec_state,deleted_state,utils}.go`; ttrpc `errors.go`.
/// The verb varies, so only the state is compared.
const SHIM_PROBLEMS: &[(&str, ShimProblem)] = &[
    ("task in created state", ShimProblem::NotStarted),
    (" in a created state", ShimProblem::NotStarted),
    (" a running process", ShimProblem::Running),
    (" a paused process", ShimProblem::Paused),
    (" a paused container", ShimProblem::Paused),
    (" in a paused state", ShimProblem::Paused),
    (" a stopped process", ShimProblem::Stopped),
    (" a stopped container", ShimProblem::Stopped),
    (" in a stopped state", ShimProblem::Stopped),
    ("process already finished", ShimProblem::Stopped),
    (" a deleted process", ShimProblem::Deleted),
    (" in a deleted state", ShimProblem::Deleted),
    ("no such container", ShimProblem::Deleted),
    ("ttrpc: closed", ShimProblem::ShimGone),
];

/// moby `daemon/errors.go`, in its order.
const START_FAILURES: &[(&str, StartFailure)] = &[
    ("permission denied", StartFailure::NotExecutable),
    ("is a directory", StartFailure::IsDirectory),
    ("not a directory", StartFailure::MountMismatch),
    ("executable file not found", StartFailure::NoSuchProgram),
    ("no such file or directory", StartFailure::NoSuchProgram),
    ("failed to run runc create/exec call", StartFailure::NoSuchProgram),
];

fn find<T: Copy>(table: &[(&str, T)], message: &str) -> Option<T> {
    table.iter().find(|(words, _)| message.contains(words)).map(|&(_, meaning)| meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(message: &str) -> Error {
        Error::new("kill", "web", Kind::Unknown, message)
    }

    #[test]
    fn every_state_complaint_of_the_shim_is_known() {
        for (message, wanted) in [
            ("cannot pause task in created state", ShimProblem::NotStarted),
            ("cannot resume task in created state", ShimProblem::NotStarted),
            ("cannot checkpoint a task in created state", ShimProblem::NotStarted),
            ("cannot exec in a created state", ShimProblem::NotStarted),
            ("cannot start a running process", ShimProblem::Running),
            ("cannot delete a running process", ShimProblem::Running),
            ("cannot resume a running process", ShimProblem::Running),
            ("cannot start a paused process", ShimProblem::Paused),
            ("cannot delete a paused process", ShimProblem::Paused),
            ("cannot pause a paused container", ShimProblem::Paused),
            ("cannot exec in a paused state", ShimProblem::Paused),
            ("cannot start a stopped process", ShimProblem::Stopped),
            ("cannot pause a stopped container", ShimProblem::Stopped),
            ("cannot resume a stopped container", ShimProblem::Stopped),
            ("cannot update a stopped container", ShimProblem::Stopped),
            ("cannot resize a stopped container", ShimProblem::Stopped),
            ("cannot exec in a stopped state", ShimProblem::Stopped),
            ("process already finished", ShimProblem::Stopped),
            ("cannot kill a deleted process", ShimProblem::Deleted),
            ("cannot delete a deleted process", ShimProblem::Deleted),
            ("cannot exec in a deleted state", ShimProblem::Deleted),
            ("no such container", ShimProblem::Deleted),
            ("ttrpc: closed", ShimProblem::ShimGone),
        ] {
            assert_eq!(shim_problem(&unknown(message)), Some(wanted), "{message}");
        }
        assert_eq!(shim_problem(&unknown("OCI runtime pause failed: freezing")), None);
    }

    #[test]
    fn start_failures_are_told_apart_as_dockerd_does() {
        let create = "failed to create shim task: OCI runtime create failed: runc create failed: \
                      unable to start container process: exec: \"x\": ";
        for (end, wanted) in [
            ("executable file not found in $PATH", StartFailure::NoSuchProgram),
            ("stat x: no such file or directory", StartFailure::NoSuchProgram),
            ("permission denied", StartFailure::NotExecutable),
            ("is a directory", StartFailure::IsDirectory),
            ("mount a:b, flags: 0x5000: not a directory", StartFailure::MountMismatch),
            ("out of stars", StartFailure::Other),
        ] {
            assert_eq!(start_failure(&unknown(&format!("{create}{end}"))), wanted, "{end}");
        }
        let exec = unknown("failed to run runc create/exec call (/usr/bin/runc): exit status 1");
        assert_eq!(start_failure(&exec), StartFailure::NoSuchProgram);
    }

    #[test]
    fn a_locked_upload_is_not_an_absent_containerd() {
        let locked = "ref layer-sha256:ab locked for 1.2s (since 2024-01-01 00:00:00 +0000 UTC)";
        let unavailable = |message| Error::new("open upload", "x", Kind::Unavailable, message);
        assert!(is_locked(&unavailable(locked)));
        assert!(!is_locked(&unavailable("No such file or directory (os error 2)")));
        assert!(!is_locked(&unknown(locked)));
    }
}
