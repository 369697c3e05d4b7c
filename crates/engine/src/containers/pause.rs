//! Freeze a container's processes, and let them go on.
//!
//! containerd's restart plugin kills and restarts paused tasks before version 2.0. While a container is paused there, its
//! label `restart.status` has a value that the plugin does not know; whoever thaws the container, the value it had comes
//! back, and the repair at the daemon's start looks as well.

use std::sync::Arc;

use containerd::classify::{ShimProblem, shim_problem};
use names::ContainerId;
use nerdctl_store::labels::keys;

use super::state::Fact;
use super::{Container, Phase};
use crate::locks::ContainerGuard;
use crate::{Engine, Error, Result};

/// `restart.status` of a paused container: neither `running` nor `stopped`, so nothing is to be done.
pub(super) const HELD: &str = "paused";

impl Engine {
    /// Freeze it.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::AlreadyPaused`], [`Error::IsRestarting`]; [`Error::CannotPause`];
    /// [`Error::ManagedByKubernetes`].
    pub async fn pause_container(&self, typed: &str) -> Result<()> {
        let (guard, container) = self.lock_container(typed, "pause").await?;
        let container = self.up_to_date(container, |phase| phase == Phase::Running).await;
        let id = container.id.as_str();
        match container.state.phase {
            Phase::Running => {}
            Phase::Paused => return Err(Error::AlreadyPaused(id.to_owned())),
            Phase::Restarting => return Err(Error::IsRestarting(id.to_owned())),
            Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => {
                return Err(Error::NotRunning(id.to_owned()));
            }
        }
        let held = self.hold_restarts(&guard, &container).await?;
        match self.containerd().pause(id).await {
            Ok(()) => {
                self.inventory().tell(&container.id, Fact::Paused).await;
                Ok(())
            }
            Err(error) => {
                if held {
                    let status = Some("running".to_owned());
                    let given_back = self.patch_labels(id, [(keys::RESTART_STATUS, status)]).await;
                    if let Err(error) = given_back {
                        tracing::warn!(
                            container = id,
                            error = error.message(),
                            "its restart policy does not work until the daemon starts again"
                        );
                    }
                }
                Err(self.pause_error(&container, error))
            }
        }
    }

    /// Let it go on.
    ///
    /// # Errors
    /// [`Error::NotPaused`]; [`Error::CannotUnpause`]; [`Error::ManagedByKubernetes`].
    pub async fn unpause_container(&self, typed: &str) -> Result<()> {
        let (_guard, container) = self.lock_container(typed, "unpause").await?;
        let container = self.up_to_date(container, |phase| phase == Phase::Paused).await;
        let id = container.id.as_str();
        if container.state.phase != Phase::Paused {
            return Err(Error::NotPaused(id.to_owned()));
        }
        match self.containerd().resume(id).await {
            Ok(()) => {}
            // Somebody else was faster; the news is on its way.
            Err(error) if shim_problem(&error) == Some(ShimProblem::Running) => {}
            Err(error) if error.is_unavailable() => {
                return Err(self.containerd_error("unpause a container", error));
            }
            Err(error) => {
                return Err(Error::CannotUnpause {
                    container: id.to_owned(),
                    source: error.into(),
                });
            }
        }
        self.inventory().tell(&container.id, Fact::Resumed).await;
        Ok(())
    }

    /// The state may have changed between our look and the call.
    fn pause_error(&self, container: &Container, error: containerd::Error) -> Error {
        let id = container.id.to_string();
        match shim_problem(&error) {
            Some(ShimProblem::Paused) => Error::AlreadyPaused(id),
            Some(ShimProblem::Stopped | ShimProblem::Deleted) => Error::NotRunning(id),
            _ if error.is_not_found() => Error::NotRunning(id),
            _ if error.is_unavailable() => self.containerd_error("pause a container", error),
            _ => Error::CannotPause { container: id, source: error.into() },
        }
    }

    /// Keep the restart plugin's hands off a container that is about to be paused. Says whether that was needed.
    async fn hold_restarts(&self, guard: &ContainerGuard, container: &Container) -> Result<bool> {
        if !container.has_restart_labels {
            return Ok(false);
        }
        let doing = || format!("pause container {}", guard.id());
        let version = self.containerd().version().await;
        let version = version.map_err(|error| self.containerd_error(doing(), error))?.version;
        if !restarts_what_is_paused(&version) {
            return Ok(false);
        }
        let record = self.containerd().get_container(guard.id().as_str()).await;
        let record = record.map_err(|error| self.containerd_error(doing(), error))?;
        if record.labels.get(keys::RESTART_STATUS).is_none_or(|status| status != "running") {
            return Ok(false);
        }
        self.patch_labels(guard.id().as_str(), [(keys::RESTART_STATUS, Some(HELD.into()))]).await?;
        Ok(true)
    }

    /// Give the restart plugin back what was kept from it, now that the container is not paused any more. A stop that came
    /// meanwhile has taken the label away, and that stands.
    ///
    /// # Errors
    /// containerd's.
    pub(crate) async fn release_restarts(&self, id: &ContainerId) -> Result<bool> {
        let _guard = self.locks().lock(id).await;
        let now = self.inventory().now();
        let Some(container) = now.get(id).map(|entry| Arc::clone(&entry.container)) else {
            return Ok(false);
        };
        if container.state.phase != Phase::Running {
            return Ok(false);
        }
        let record = self.containerd().get_container(id.as_str()).await.map_err(|error| {
            self.containerd_error(format!("read the record of container {id}"), error)
        })?;
        if record.labels.get(keys::RESTART_STATUS).is_none_or(|status| status != HELD) {
            return Ok(false);
        }
        // Its policy may have been changed meanwhile.
        let status = self.plugin_may_know(&container).await.then(|| "running".to_owned());
        self.patch_labels(id.as_str(), [(keys::RESTART_STATUS, status)]).await?;
        self.inventory().refresh(id).await;
        Ok(true)
    }
}

/// Whether the restart plugin of this containerd takes a paused task for one that does not run (containerd
/// `runtime/restart/monitor` up to 1.7). Distributions write more than numbers: `1.6.20~ds1`, `v2.0.0-rc.1`.
fn restarts_what_is_paused(version: &str) -> bool {
    let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
    major.parse::<u32>().is_ok_and(|major| major < 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_plugins_restart_what_is_paused() {
        for old in ["1.6.20~ds1", "1.7.34", "v1.7.0"] {
            assert!(restarts_what_is_paused(old), "{old}");
        }
        for new in ["2.0.0", "v2.3.4", "2.1.0-rc.1", "", "unknown"] {
            assert!(!restarts_what_is_paused(new), "{new}");
        }
    }
}
