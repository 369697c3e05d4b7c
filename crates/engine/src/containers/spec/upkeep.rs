//! What keeps a container going: its restart policy and its health check.

use std::sync::Arc;

use crate::containers::health_check::HealthCheck;
use crate::containers::restart_policy::RestartPolicy;

/// What a request says about it.
#[derive(Clone, Debug, Default)]
pub struct UpkeepSpec {
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Health check; parts that are not said are the image's.
    pub health_check: Option<HealthCheck>,
}

/// What holds for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Restart policy (label `containerd.io/restart.policy`).
    pub restart: RestartPolicy,
    /// containerd's restart plugin is in charge (label `containerd.io/restart.status`).
    pub armed: bool,
    /// Somebody asked for its end (label `containerd.io/restart.explicitly-stopped`).
    pub stopped: bool,
    /// Health check of request and image; also one that checks nothing.
    pub health_check: Option<Arc<HealthCheck>>,
}
