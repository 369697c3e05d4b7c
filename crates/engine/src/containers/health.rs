//! Health checks while the daemon runs: when to probe, and what becomes of the answer.
//!
//! One task for each run of a container with a check. It ends with the run or with a pause, and begins again with the next
//! run, with an unpause, and with the daemon. The verdict is kept where nerdctl keeps it: label `nerdctl/healthstate` and
//! `health.json`. Timing and verdicts are Docker's (moby `daemon/health.go`).

mod probe;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nerdctl_store::labels::keys;
use nerdctl_store::labels::values::HealthState;
use nerdctl_store::state_dir::ProbeResult;
use tokio::sync::watch;

use super::health_check::{Health, HealthCheck};
use super::state::Fact;
use super::{Container, Owner, Phase, State};
use crate::Engine;

/// Where systemd keeps the units that `nerdctl start` makes to probe a container.
const NERDCTL_TIMERS: &str = "/run/systemd/transient";

impl Engine {
    /// Whether it runs and we are the ones who find out how it is.
    pub(crate) fn is_to_be_probed(&self, container: &Container) -> bool {
        container.owner == Owner::Nerdctld
            && container.state.phase == Phase::Running
            && container.state.health.is_some()
    }

    /// Probe it until its run ends or it is paused.
    pub(crate) async fn mind_health(self, container: Arc<Container>) {
        let Some(check) = container.upkeep.health_check.clone() else { return };
        let Some(command) = check.command() else { return };
        let entry = self.inventory().now().get(&container.id).cloned();
        let Some(mut states) = entry.map(|entry| entry.states.clone()) else { return };
        let generation = container.state.generation;
        self.write_health(&container, container.state.health.unwrap_or_default()).await;
        self.end_left_probe(&container.id).await;
        loop {
            let now = states.borrow().clone();
            let pause =
                check.pause(ran(&now, Timestamp::now()), now.health.unwrap_or_default().status);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = end_of_probing(&mut states, generation) => return,
            }
            if nerdctl_probes(&container) {
                continue;
            }
            tokio::select! {
                result = self.probe(&container, &command, check.timeout()) => {
                    if let Some(result) = result {
                        self.take_result(&container, &check, result).await;
                    }
                }
                () = end_of_probing(&mut states, generation) => {
                    return self.end_probe(&container.id).await;
                }
            }
        }
    }

    async fn take_result(&self, container: &Container, check: &HealthCheck, result: ProbeResult) {
        let Some(entry) = self.inventory().now().get(&container.id).cloned() else { return };
        let now = &entry.container.state;
        let Some(before) = now.health.filter(|_| now.generation == container.state.generation)
        else {
            return;
        };
        let after = check.judge(before, ran(now, result.start), result.exit_code == 0);
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let added = tokio::task::spawn_blocking(move || state_dir.add_probe(result)).await;
        if let Ok(Err(error)) = added {
            tracing::warn!(container = container.id.as_str(), %error, "the result of a health check could not be written down");
        }
        self.inventory().tell(&container.id, Fact::Probed(after)).await;
        self.write_health(&entry.container, after).await;
    }

    /// For the next daemon, and for nerdctl; nothing if it stands there already.
    async fn write_health(&self, container: &Container, health: Health) {
        let entry = self.inventory().now().get(&container.id).cloned();
        if entry.is_none_or(|entry| entry.container.health_on_record == Some(health)) {
            return;
        }
        let state = HealthState {
            status: health.status.as_str().to_owned(),
            failing_streak: health.failing_streak.into(),
            in_start_period: false,
        };
        let Ok(text) = serde_json::to_string(&state) else { return };
        let written =
            self.patch_labels(container.id.as_str(), [(keys::HEALTHSTATE, Some(text))]).await;
        if let Err(error) = written {
            tracing::warn!(
                container = container.id.as_str(),
                error = error.message(),
                "the health of a container could not be written down"
            );
        }
        self.inventory().refresh(&container.id).await;
    }
}

/// Until it is paused, or the run is over.
async fn end_of_probing(states: &mut watch::Receiver<State>, generation: u64) {
    // An error means that the container is gone.
    let _ =
        states.wait_for(|now| now.phase != Phase::Running || now.generation != generation).await;
}

/// How long the run has lasted at that moment.
fn ran(state: &State, at: Timestamp) -> Duration {
    let ran = state.started_at.map(|start| at.duration_since(start));
    ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or_default()
}

/// nerdctl's own timer for this container is active: two probers would write two logs (nerdctl `pkg/healthcheck`).
fn nerdctl_probes(container: &Container) -> bool {
    Path::new(NERDCTL_TIMERS).join(format!("{}.timer", container.id)).exists()
}
