//! Every way a registry can fail us.
//!
//! A variant is a situation a caller may act on. What the registry itself said, if it said anything, is an [`Answer`]; its
//! text is shown as distribution's own client shows it: `denied: requested access to the resource is denied`.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::tls::TlsFailure;

/// A foreign cause, kept for the chain.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The bytes of an error body that are read; the rest is left.
pub(crate) const MAX_ERROR_BODY: usize = 64 * 1024;

/// A failed operation on a registry.
#[expect(clippy::error_impl_error, reason = "read as registry::Error")]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository, manifest or blob is not there (404), or not for us.
    #[error("{what}: not found")]
    NotFound {
        /// The full reference that was asked for.
        what: String,
        /// What the registry said.
        answer: Answer,
    },
    /// The registry or its token server wants other credentials, or any (401).
    #[error("{}", .answer.or("unauthorized", "authentication required"))]
    Unauthorized {
        /// Who said so.
        host: String,
        /// What it said.
        answer: Answer,
    },
    /// The registry wants a user name and a password, and none were given for it.
    #[error("no basic auth credentials for {host}")]
    NoCredentials {
        /// Who asked.
        host: String,
    },
    /// The credentials are good but do not give access (403, or a token of too small a scope).
    #[error("{}", .answer.or("denied", "requested access to the resource is denied"))]
    Denied {
        /// Who said so.
        host: String,
        /// What it said.
        answer: Answer,
    },
    /// The registry limits how often it answers (429).
    #[error("{}", .answer.or("toomanyrequests", "too many requests"))]
    TooManyRequests {
        /// Who said so.
        host: String,
        /// What it said.
        answer: Answer,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that does not fit the request.
    #[error("unexpected status from {request}: {status}{}", .answer.suffix())]
    Status {
        /// Method and address, without query.
        request: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said.
        answer: Answer,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// An answer that breaks the protocol.
    #[error("invalid answer to {request}: {problem}")]
    Malformed {
        /// Method and address, without query.
        request: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What came is not what the digest stands for.
    #[error("{what} has digest {actual}, expected {expected}")]
    DigestMismatch {
        /// Address of the thing.
        what: String,
        /// The digest that was asked for.
        expected: String,
        /// The digest of what came.
        actual: String,
    },
    /// More bytes came, or were announced, than the descriptor or our bound allows.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// Address of the thing.
        what: String,
        /// The bound, in bytes.
        limit: u64,
    },
    /// No connection to the host.
    #[error("dial {host}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// The host is there, but not its certificate, or ours is refused.
    #[error("tls handshake with {host}")]
    Tls {
        /// Host and port.
        host: String,
        /// Why not.
        source: TlsFailure,
    },
    /// The connection ended before the answer did.
    #[error("{request}")]
    Interrupted {
        /// Method and address, without query.
        request: String,
        /// What happened.
        source: Interruption,
    },
    /// The blob to be uploaded cannot be read here: the registry has nothing to do with it.
    #[error("what is to be uploaded cannot be read")]
    Unreadable {
        /// Why not.
        source: Cause,
    },
    /// An address (in `hosts.toml`, in a redirect, of a token server, of a proxy) that is not one.
    #[error("invalid address {address:?}: {problem}")]
    Address {
        /// The address as found.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate or key named by the host's configuration cannot be used.
    #[error("{path}: {problem}", path = .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// More redirects than a download can need.
    #[error("{request}: stopped after {count} redirects")]
    Redirects {
        /// Method and address, without query.
        request: String,
        /// How many were followed.
        count: usize,
    },
    /// The proxy between us and the host refused the tunnel.
    #[error("proxy {proxy} refused the way to {host}: {answer}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// Where we wanted to go.
        host: String,
        /// Its status line.
        answer: String,
    },
}

/// How an answer ended too early.
#[derive(Debug, thiserror::Error)]
pub enum Interruption {
    /// The connection broke or spoke something else than HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("no answer for {} seconds", .0.as_secs_f32())]
    Stalled(Duration),
    /// Something came all the time, but too little.
    #[error("too little went through in {} seconds", .0.as_secs_f32())]
    Slow(Duration),
    /// The body ended before the announced size.
    #[error("unexpected EOF after {got} of {expected} bytes")]
    Short {
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced.
        expected: u64,
    },
}

impl Error {
    /// Whether the same request may work a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::TooManyRequests { .. } | Self::Interrupted { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// How long the registry asked us to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } | Self::Status { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Of the errors of several hosts the most telling one is reported: an answer before a 404 before no answer, as
    /// containerd's resolver ranks them (containerd core/remotes/docker/resolver.go).
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Interrupted { .. }
            | Self::Proxy { .. } => 0,
            Self::NotFound { .. } => 1,
            _ => 2,
        }
    }
}

/// What a registry or token server said in an error's body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The code, such as `MANIFEST_UNKNOWN`; empty when there was none.
    pub code: String,
    /// The message for people; empty when there was none.
    pub message: String,
}

impl Answer {
    /// Reads an error body: `{"errors":[{code,message,detail}]}` of the distribution protocol, or the older
    /// `{"details":…}` of some token servers. Anything else (a proxy's page) is no answer.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let Ok(document) = serde_json::from_slice::<ErrorDocument>(body) else {
            return Self::default();
        };
        let Some(first) = document.errors.into_iter().next() else {
            return Self { code: String::new(), message: document.details.unwrap_or_default() };
        };
        let detail = first.detail.as_ref().and_then(|detail| detail.as_str());
        let message = match (first.message, detail) {
            (message, None) => message,
            (message, Some(detail)) => format!("{message} - {detail}"),
        };
        Self { code: first.code, message }
    }

    /// Nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.code.is_empty() && self.message.is_empty()
    }

    fn or(&self, code: &str, message: &str) -> Self {
        Self {
            code: if self.code.is_empty() { code.to_owned() } else { self.code.clone() },
            message: if self.message.is_empty() {
                message.to_owned()
            } else {
                self.message.clone()
            },
        }
    }

    fn suffix(&self) -> String {
        if self.is_empty() { String::new() } else { format!(": {self}") }
    }
}

/// As distribution's client prints it: the code in lower case with blanks, then the message.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        match (code.is_empty(), self.message.is_empty()) {
            (true, _) => f.write_str(&self.message),
            (false, true) => f.write_str(&code),
            (false, false) => write!(f, "{code}: {}", self.message),
        }
    }
}

#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    detail: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_shown_as_distribution_does() {
        let rows = [
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
                "denied: requested access to the resource is denied",
            ),
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "manifest unknown: manifest unknown",
            ),
            (
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"no","detail":"because"}]}"#,
                "unauthorized: no - because",
            ),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("<html>bad gateway</html>", ""),
            (r#"{"errors":[]}"#, ""),
        ];
        for (body, text) in rows {
            assert_eq!(Answer::parse(body.as_bytes()).to_string(), text, "{body}");
        }
    }

    #[test]
    fn a_silent_registry_is_given_the_usual_words() {
        let error = Error::Denied { host: "r.example".into(), answer: Answer::default() };
        assert_eq!(error.to_string(), "denied: requested access to the resource is denied");
        let error = Error::Unauthorized {
            host: "r.example".into(),
            answer: Answer { code: String::new(), message: "go away".into() },
        };
        assert_eq!(error.to_string(), "unauthorized: go away");
    }
}
