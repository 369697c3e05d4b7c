//! gRPC status → an error that names operation and thing, with a kind to decide by.

use std::error::Error as _;
use std::fmt;

use tonic::{Code, Status};

/// What every call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A call that failed.
///
/// Prints as `operation thing: message`. The message is containerd's own text without the error
/// class that containerd 1.x appends to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::error_impl_error, reason = "read as containerd::Error")]
pub struct Error {
    operation: &'static str,
    thing: String,
    kind: Kind,
    message: String,
}

/// The classes of failure: containerd's error classes as gRPC carries them, and our own two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The thing, or something it needs, does not exist.
    NotFound,
    /// The thing is already there. For blobs and snapshots that is often as good as success.
    AlreadyExists,
    /// containerd refuses the arguments.
    InvalidArgument,
    /// The thing is not in a state that allows the operation.
    FailedPrecondition,
    /// containerd cannot be reached, or a resource is locked by another client.
    Unavailable,
    /// This containerd does not know the call.
    Unimplemented,
    /// Not allowed.
    PermissionDenied,
    /// Not allowed without credentials.
    Unauthenticated,
    /// No answer in time, ours or containerd's.
    DeadlineExceeded,
    /// The call was cancelled.
    Cancelled,
    /// An offset or range that does not fit.
    OutOfRange,
    /// Lost a race inside containerd.
    Aborted,
    /// Stored data is damaged.
    DataLoss,
    /// A message or blob is larger than allowed.
    ResourceExhausted,
    /// containerd failed inside.
    Internal,
    /// No class: errors of runc and of the shim arrive like this, see [`crate::classify`].
    Unknown,
    /// containerd answered something that is no answer: a field is missing or does not decode.
    UnexpectedAnswer,
}

impl Error {
    pub(crate) fn new(
        operation: &'static str,
        thing: impl Into<String>,
        kind: Kind,
        message: impl Into<String>,
    ) -> Self {
        Self { operation, thing: thing.into(), kind, message: message.into() }
    }

    pub(crate) fn from_status(operation: &'static str, thing: &str, status: &Status) -> Self {
        // Only a failure on our side of the connection has a cause; what containerd sends has
        // none. The code of the former is whatever tonic guessed, often UNKNOWN.
        if let Some(cause) = status.source() {
            return Self::new(operation, thing, local_kind(status), innermost(cause));
        }
        let message = without_class(status.message());
        Self::new(operation, thing, Kind::from(status.code()), message)
    }

    pub(crate) fn unexpected(
        operation: &'static str,
        thing: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(operation, thing, Kind::UnexpectedAnswer, message)
    }

    /// What was tried, as in `create container`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// On what: an id, name, digest or key; empty for calls about everything.
    #[must_use]
    pub fn thing(&self) -> &str {
        &self.thing
    }

    /// The class to decide by.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// containerd's words, without operation and thing.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the thing is missing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Whether the thing is already there.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.kind == Kind::AlreadyExists
    }

    /// Whether containerd was away or something in it was locked.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// Whether the state of the thing forbids the operation.
    #[must_use]
    pub fn is_failed_precondition(&self) -> bool {
        self.kind == Kind::FailedPrecondition
    }

    /// Whether this containerd lacks the call.
    #[must_use]
    pub fn is_unimplemented(&self) -> bool {
        self.kind == Kind::Unimplemented
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        if !self.thing.is_empty() {
            write!(f, " {}", self.thing)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Error {}

impl From<Code> for Kind {
    fn from(code: Code) -> Self {
        match code {
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::InvalidArgument => Self::InvalidArgument,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::Unavailable => Self::Unavailable,
            Code::Unimplemented => Self::Unimplemented,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Cancelled => Self::Cancelled,
            Code::OutOfRange => Self::OutOfRange,
            Code::Aborted => Self::Aborted,
            Code::DataLoss => Self::DataLoss,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::Internal => Self::Internal,
            Code::Unknown | Code::Ok => Self::Unknown,
        }
    }
}

/// The kind of a status that was made on our side: a dead or missing connection, or a deadline.
fn local_kind(status: &Status) -> Kind {
    match status.code() {
        Code::DeadlineExceeded => Kind::DeadlineExceeded,
        _ => Kind::Unavailable,
    }
}

/// The text of the deepest cause: `No such file or directory (os error 2)` says more than
/// `transport error`.
fn innermost(cause: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = cause;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

/// containerd 1.x appends the class to its texts, 2.x all but `unknown`
/// (containerd `errdefs/grpc.go`, `errdefs/errors.go`).
const CLASSES: &[&str] = &[
    "unknown",
    "not found",
    "already exists",
    "invalid argument",
    "failed precondition",
    "unavailable",
    "not implemented",
    "conflict",
    "not modified",
];

/// The message without the classes at its end.
fn without_class(message: &str) -> &str {
    let mut text = message;
    while let Some(shorter) =
        CLASSES.iter().find_map(|class| text.strip_suffix(class)?.strip_suffix(": "))
    {
        text = shorter;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_taken_off_the_end_only() {
        for (given, wanted) in [
            ("container \"x\" in namespace \"y\": not found", "container \"x\" in namespace \"y\""),
            ("cannot start a running process: unknown", "cannot start a running process"),
            ("failed: not found: unknown", "failed"),
            ("not found", "not found"),
            ("file not found", "file not found"),
            ("unknown: thing", "unknown: thing"),
        ] {
            assert_eq!(without_class(given), wanted);
        }
    }

    #[test]
    fn prints_operation_thing_and_message() {
        let error =
            Error::from_status("get container", "web", &Status::not_found("no such: not found"));
        assert_eq!(error.to_string(), "get container web: no such");
        assert!(error.is_not_found());
        let error = Error::from_status("list containers", "", &Status::internal("boom"));
        assert_eq!(error.to_string(), "list containers: boom");
    }

    #[test]
    fn a_status_with_a_cause_is_ours_and_means_unavailable() {
        let cause = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let error =
            Error::from_status("get container", "web", &Status::from_error(Box::new(cause)));
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(error.message(), "broken pipe");
    }
}
