//! Failures as clients see them: the one place that turns a class into a status and an error into a body.
//!
//! Two kinds meet here: what the engine could not do ([`engine::Error`]), and what the edge itself refuses ([`Refusal`]):
//! malformed requests, unknown pages, versions, and operations this daemon does not have.

use engine::Class;
use http::StatusCode;
use http::header::{CONNECTION, HeaderName, HeaderValue};
use serde::Serialize;

use super::call::chain;
use super::reply::Reply;

/// Swarm's refusal, searched for by users and programs (moby `daemon/cluster/errors.go`).
const NO_SWARM_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

/// moby `daemon/server/router/experimental.go`.
const NOT_EXPERIMENTAL: &str = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.";

/// Why a request got no answer of its handler's.
#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum ApiError {
    /// The operation failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The edge refused the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What the edge refuses. The texts are dockerd's where dockerd has one.
#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum Refusal {
    /// Unknown path, or known path with another method.
    #[error("page not found")]
    PageNotFound,
    /// A path or query whose percent-encoding is broken.
    #[error(transparent)]
    MalformedTarget(#[from] docker_wire::query::InvalidQuery),
    /// Below the oldest version.
    #[error(
        "client version {version} is too old. Minimum supported API version is {minimum}, please upgrade your client to a newer version"
    )]
    VersionTooOld {
        /// As given.
        version: String,
        /// Ours.
        minimum: String,
    },
    /// Above the newest version.
    #[error("client version {version} is too new. Maximum supported API version is {maximum}")]
    VersionTooNew {
        /// As given.
        version: String,
        /// Ours.
        maximum: String,
    },
    /// The endpoint is younger than the request's version.
    #[error("{method} {route} requires minimum API version {minimum}")]
    EndpointTooNew {
        /// Method.
        method: &'static str,
        /// Pattern as moby writes it.
        route: String,
        /// First version that has it.
        minimum: String,
    },
    /// `Content-Type` is not one.
    #[error("malformed Content-Type header ({given}): {reason}")]
    MalformedContentType {
        /// As given.
        given: String,
        /// Go's words.
        reason: &'static str,
    },
    /// `Content-Type` of another kind.
    #[error("unsupported Content-Type header ({0}): must be 'application/json'")]
    UnsupportedContentType(String),
    /// A body that is no JSON, or no JSON of the right shape; the text has all of it.
    #[error("{0}")]
    BadJson(String),
    /// A body over the bound.
    #[error("http: request body too large: at most {limit} bytes are accepted")]
    BodyTooLarge {
        /// The bound.
        limit: usize,
    },
    /// The client stopped sending.
    #[error("cannot read the request body: {0}")]
    BodyCut(String),
    /// A filter that the endpoint does not have, or a value it cannot have.
    #[error(transparent)]
    Filter(#[from] docker_wire::filters::InvalidFilter),
    /// A query parameter or body value that cannot be meant.
    #[error("{0}")]
    BadParameter(String),
    /// `GET /containers/{id}/attach/ws` without a handshake of RFC 6455.
    #[error("a WebSocket handshake of version 13 is expected")]
    NoWebSocket,
    /// dockerd's container start refuses bodies (moby `container_routes.go`).
    #[error(
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
    )]
    StartWithBody,
    /// Everything that needs a swarm.
    #[error("{NO_SWARM_MANAGER}")]
    NoSwarmManager,
    /// `POST /swarm/leave`.
    #[error("This node is not part of a swarm")]
    NotInSwarm,
    /// `POST /swarm/init` and `/swarm/join`, which dockerd would do.
    #[error("nerdctld does not support Swarm: it manages the containers of one machine")]
    NoSwarm,
    /// `PUT /volumes/{name}`.
    #[error("volume update only valid for cluster volumes, but swarm is unavailable")]
    NoClusterVolumes,
    /// No plugin of that name; there are none.
    #[error("plugin \"{0}\" not found")]
    NoSuchPlugin(String),
    /// Installing or making plugins.
    #[error("nerdctld does not support plugins: containerd and CNI have their own")]
    NoPlugins,
    /// Checkpoints.
    #[error("{NOT_EXPERIMENTAL}")]
    NotExperimental,
    /// An endpoint of Docker's that is not built yet.
    #[error("{method} {route} is not supported by nerdctld yet")]
    NotBuilt {
        /// Method.
        method: &'static str,
        /// Pattern as Docker's reference writes it.
        route: String,
    },
    /// Too many connections.
    #[error(
        "nerdctld has too many open connections; close some, or raise its limit of open files (LimitNOFILE= of nerdctld.service)"
    )]
    Crowded,
    /// The handler panicked; the log says where.
    #[error("the request ended unexpectedly; nerdctld's log says where")]
    Crashed,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::PageNotFound | Self::NoSuchPlugin(_) => StatusCode::NOT_FOUND,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MalformedTarget(_)
            | Self::VersionTooOld { .. }
            | Self::VersionTooNew { .. }
            | Self::EndpointTooNew { .. }
            | Self::MalformedContentType { .. }
            | Self::UnsupportedContentType(_)
            | Self::BadJson(_)
            | Self::BodyCut(_)
            | Self::Filter(_)
            | Self::BadParameter(_)
            | Self::NoWebSocket
            | Self::StartWithBody => StatusCode::BAD_REQUEST,
            Self::NoSwarmManager
            | Self::NotInSwarm
            | Self::NoSwarm
            | Self::NoClusterVolumes
            | Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoPlugins | Self::NotExperimental | Self::NotBuilt { .. } => {
                StatusCode::NOT_IMPLEMENTED
            }
            Self::Crashed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The status of an engine's error.
fn engine_status(error: &engine::Error) -> StatusCode {
    // Registries' "slow down" has a status of its own and no class in Docker's vocabulary (moby `httpstatus/status.go`).
    if matches!(error, engine::Error::TooManyRequests(_)) {
        return StatusCode::TOO_MANY_REQUESTS;
    }
    match error.class() {
        Class::NotFound => StatusCode::NOT_FOUND,
        Class::Invalid => StatusCode::BAD_REQUEST,
        Class::Conflict => StatusCode::CONFLICT,
        Class::Unauthorized => StatusCode::UNAUTHORIZED,
        Class::Forbidden => StatusCode::FORBIDDEN,
        Class::NotModified => StatusCode::NOT_MODIFIED,
        Class::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl ApiError {
    /// The status that says it.
    pub(in crate::api) fn status(&self) -> StatusCode {
        match self {
            Self::Engine(error) => engine_status(error),
            Self::Refused(refusal) => refusal.status(),
        }
    }

    /// What the client reads.
    pub(in crate::api) fn message(&self) -> String {
        match self {
            Self::Engine(error) => error.message(),
            Self::Refused(refusal) => chain(refusal),
        }
    }

    /// The whole answer.
    pub(in crate::api) fn into_reply(self) -> Reply {
        let (status, message) = (self.status(), self.message());
        match self {
            // A body would be dropped by HTTP anyway.
            _ if status == StatusCode::NOT_MODIFIED => Reply::empty(status),
            // Clients that old do not know JSON errors (moby `daemon/server/server.go`); this is Go's http.Error.
            Self::Refused(Refusal::VersionTooOld { .. }) => {
                Reply::text(status, format!("{message}\n")).with(
                    HeaderName::from_static("x-content-type-options"),
                    HeaderValue::from_static("nosniff"),
                )
            }
            Self::Refused(Refusal::BodyTooLarge { .. } | Refusal::Crowded) => {
                error_document(status, &message).with(CONNECTION, HeaderValue::from_static("close"))
            }
            _ => error_document(status, &message),
        }
    }
}

fn error_document(status: StatusCode, message: &str) -> Reply {
    #[derive(Serialize)]
    struct ErrorResponse<'a> {
        message: &'a str,
    }
    Reply::json_with(status, &ErrorResponse { message })
}

#[cfg(test)]
mod tests;
