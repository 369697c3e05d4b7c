//! Restarts by policy: the decision at the end of a run, the pause, and what containerd's restart plugin is told.
//!
//! The timing is Docker's (moby `daemon/internal/restartmanager`), and ours as long as the daemon runs. While it does not,
//! containerd's plugin looks every ten seconds at containers with the label `restart.status` (containerd
//! `core/runtime/restart/monitor`). So that label says "running" from a successful start on, and goes before anything that
//! the plugin would take for an accident: a stop, a pause that it would end, a back-off longer than its own. Should the
//! plugin be first all the same, its run is adopted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use containerd::containers::ContainerPatch;
use containerd::tasks::TaskStatus;
use jiff::Timestamp;
use nerdctl_store::labels::{ContainerLabels, keys};

use super::restart_policy::{RestartPolicy, next_pause};
use super::start::{NOT_STARTED, failed_start};
use super::state::Fact;
use super::{Container, Owner, Phase};
use crate::locks::ContainerGuard;
use crate::{Class, Engine, Error, Result};

/// How often containerd's plugin looks: it would end a pause that is longer.
const PLUGIN_LOOKS_EVERY: Duration = Duration::from_secs(10);

/// Who starts a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starter {
    /// Somebody asked for it: restarts are counted from here.
    Person,
    /// Its policy.
    Policy,
}

/// How often a start by policy that failed of nothing the container did is tried again.
const TRIES: usize = 3;

impl Engine {
    /// Its policy has been changed: a plugin that does not know the new one must not follow its own.
    pub(crate) async fn policy_changed(&self, guard: &ContainerGuard) -> Result<()> {
        self.inventory().refresh(guard.id()).await;
        let entry = self.inventory().now().get(guard.id()).cloned();
        let Some(upkeep) = entry.map(|entry| entry.container.upkeep.clone()) else { return Ok(()) };
        if upkeep.armed && !self.plugin_follows(upkeep.restart).await {
            self.disarm(guard).await?;
        }
        Ok(())
    }

    /// The pause before the next run, if the policy wants one after this end. Counts the restart.
    ///
    /// The record is read afresh: nerdctl may have been asked to stop it.
    pub(crate) async fn restart_after(
        &self,
        container: &Container,
        code: u32,
        at: Timestamp,
    ) -> Option<Duration> {
        if container.owner != Owner::Nerdctld || container.upkeep.restart == RestartPolicy::No {
            return None;
        }
        let _turn = self.exits().count_turn(&container.id).await;
        let id = container.id.as_str();
        let (policy, restarts, stopped) = match self.labels_of(id).await {
            Ok(labels) => {
                let labels = labels.restart;
                let policy =
                    RestartPolicy::from_label(labels.policy.as_deref().unwrap_or_default());
                let restarts = u32::try_from(labels.count).unwrap_or(u32::MAX);
                (policy, restarts, labels.explicitly_stopped)
            }
            // An update of containerd is no reason to give containers up, and without it nobody changed them.
            Err(error) if error.class() == Class::Unavailable => {
                let upkeep = &container.upkeep;
                (upkeep.restart, container.restart_count, upkeep.stopped)
            }
            Err(error) => {
                tracing::warn!(
                    container = id,
                    error = error.message(),
                    "its restart policy could not be read"
                );
                return None;
            }
        };
        let wished = container.state.wish.is_some() || stopped;
        if wished || !policy.wants_restart(code, restarts) {
            return None;
        }
        let ran = container.state.started_at.map(|start| at.duration_since(start));
        let ran = ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or_default();
        let pause = next_pause(container.state.restart_pause, ran);
        if self.plugin_was_first(container).await {
            // It has counted this one. The pause is told all the same: the next one is twice as long.
            return Some(pause);
        }
        let mut patch = vec![(keys::RESTART_COUNT, Some(restarts.saturating_add(1).to_string()))];
        if pause > PLUGIN_LOOKS_EVERY {
            patch.push((keys::RESTART_STATUS, None));
        }
        if let Err(error) = self.patch_labels(id, patch).await {
            tracing::warn!(
                container = id,
                error = error.message(),
                "a restart could not be counted"
            );
        }
        Some(pause)
    }

    /// Start it again after its pause, unless something else happens to it before.
    pub(crate) async fn restart_later(self, container: Arc<Container>) {
        let (id, run) = (&container.id, container.state.generation);
        // A run that containerd's plugin has begun ends the pause, by its start event.
        let pause = container.state.restart_pause.unwrap_or_default();
        let Some(mut states) = self.inventory().now().get(id).map(|entry| entry.states.clone())
        else {
            return;
        };
        let waits = |now: &super::State| now.phase == Phase::Restarting && now.generation == run;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Also when the container is gone.
            _ = states.wait_for(|now| !waits(now)) => return,
        }
        self.start_by_policy(id, waits).await;
        self.count_once(&container).await;
    }

    /// Whether containerd's plugin has begun the run that follows the one that `container` is in, or was in last.
    async fn plugin_was_first(&self, container: &Container) -> bool {
        let run = process_of_last_run(&container.state);
        let task = self.containerd().get_task(container.id.as_str()).await;
        task.is_ok_and(|task| {
            task.status != TaskStatus::Stopped && task.pid != 0 && task.pid != run
        })
    }

    /// Whether the container's task is that process and has not ended.
    async fn runs_as(&self, id: &names::ContainerId, pid: u32) -> bool {
        let task = self.containerd().get_task(id.as_str()).await;
        task.is_ok_and(|task| {
            task.pid == pid && matches!(task.status, TaskStatus::Running | TaskStatus::Paused)
        })
    }

    /// A restart is one, also if containerd's plugin was faster with it and has counted it a second time.
    async fn count_once(&self, ended: &Container) {
        let id = &ended.id;
        let _guard = self.locks().lock(id).await;
        let _turn = self.exits().count_turn(id).await;
        let next_run = ended.state.generation + 1;
        let is_next = |now: &super::State| {
            now.phase.has_process() && now.generation == next_run && now.wish.is_none()
        };
        let now = self.inventory().now();
        let state = now.get(id).map(|entry| &entry.container.state);
        let Some(pid) = state.filter(|state| is_next(state)).map(|state| state.pid) else {
            return;
        };
        // The restart that follows its end may be counted before anybody is told of that end.
        if !self.runs_as(id, pid).await {
            return;
        }
        let Ok(labels) = self.labels_of(id.as_str()).await else { return };
        if labels.restart.count <= ended.restart_count.into() {
            return;
        }
        let count = Some(ended.restart_count.to_string());
        if let Err(error) = self.patch_labels(id.as_str(), [(keys::RESTART_COUNT, count)]).await {
            tracing::warn!(
                container = id.as_str(),
                error = error.message(),
                "a restart stays counted twice"
            );
        }
        self.inventory().refresh(id).await;
    }

    /// Start a container that still is what `waits` says; a start that fails for good ends the restarts.
    pub(crate) async fn start_by_policy(
        &self,
        id: &names::ContainerId,
        waits: impl Fn(&super::State) -> bool,
    ) {
        let mut tries = 0;
        loop {
            // An update of containerd is no reason to give containers up.
            if self.inventory().loaded().await.is_err() {
                tokio::time::sleep(Self::RETRY).await;
                continue;
            }
            let guard = self.locks().lock(id).await;
            let now = self.inventory().now();
            let Some(container) = now.get(id).map(|entry| Arc::clone(&entry.container)) else {
                return;
            };
            if !waits(&container.state) {
                return;
            }
            match self.start_locked(&guard, &container, Starter::Policy).await {
                // containerd's plugin was faster: its run is ours now.
                Ok(()) | Err(Error::NotModified) => return,
                Err(error) if error.class() == Class::Unavailable => {
                    drop(guard);
                    tokio::time::sleep(Self::RETRY).await;
                }
                // It was faster than our start, which failed of that.
                Err(_) if self.adopt_run(&container).await => return,
                // It may have been so fast that its run is over: its logger had the log then, and its end is news that
                // `waits` knows of in a moment.
                Err(Error::Failed { .. }) if tries < TRIES => {
                    tries += 1;
                    drop(guard);
                    tokio::time::sleep(Self::RETRY).await;
                }
                Err(error) => return self.give_up(&guard, &container, &error).await,
            }
        }
    }

    /// moby `daemon/monitor.go`: a restart that fails is the last one.
    async fn give_up(&self, guard: &ContainerGuard, container: &Container, error: &Error) {
        let id = container.id.as_str();
        tracing::warn!(container = id, error = error.message(), "it could not be restarted");
        if let Err(error) = self.disarm(guard).await {
            tracing::warn!(
                container = id,
                error = error.message(),
                "containerd's restart plugin may try it again"
            );
        }
        let (code, message) = failed_start(error).unwrap_or_else(|| (NOT_STARTED, error.message()));
        self.take_back_start(container, Some(code)).await;
        let fact = Fact::StartFailed { code, message };
        self.inventory().tell(&container.id, fact).await;
    }

    /// A successful start: from now on the policy counts, also while no daemon runs (nerdctl `pkg/containerutil`, `Start`).
    pub(crate) async fn arm(&self, container: &Container, starter: Starter) {
        // With neither label there is nothing for the plugin to read.
        if !container.has_restart_labels || starter == Starter::Policy && container.upkeep.armed {
            return;
        }
        let mut patch = vec![(keys::RESTART_EXPLICITLY_STOPPED, Some("false".to_owned()))];
        if self.plugin_may_know(container).await {
            patch.push((keys::RESTART_STATUS, Some("running".to_owned())));
        }
        if starter == Starter::Person && container.restart_count > 0 {
            patch.push((keys::RESTART_COUNT, None));
        }
        if let Err(error) = self.patch_labels(container.id.as_str(), patch).await {
            tracing::warn!(
                container = container.id.as_str(),
                error = error.message(),
                "the restart policy could not be armed"
            );
        }
    }

    /// Tell containerd's restart plugin to look away.
    pub(crate) async fn disarm(&self, guard: &ContainerGuard) -> Result<()> {
        self.patch_labels(guard.id().as_str(), [(keys::RESTART_STATUS, None)]).await
    }

    /// Whether containerd's plugin is to be told that the container runs. With others' containers it is.
    pub(super) async fn plugin_may_know(&self, container: &Container) -> bool {
        container.owner != Owner::Nerdctld || self.plugin_follows(container.upkeep.restart).await
    }

    /// Whether containerd's plugin does with a running container what its policy says. That of 1.6 knows no policies: it
    /// starts again whatever ends.
    async fn plugin_follows(&self, policy: RestartPolicy) -> bool {
        match policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { .. } => {
                let plugins = self.containerd().plugins(&["id==restart"]).await;
                plugins.is_ok_and(|plugins| plugins.iter().any(|plugin| plugin.can("on-failure")))
            }
        }
    }

    async fn labels_of(&self, id: &str) -> Result<ContainerLabels> {
        let record = self.containerd().get_container(id).await.map_err(|error| {
            self.containerd_error(format!("read the record of container {id}"), error)
        })?;
        Ok(ContainerLabels::parse(
            &record.labels.into_iter().collect::<std::collections::HashMap<_, _>>(),
        ))
    }

    /// Set labels of a record, or remove those without value.
    pub(crate) async fn patch_labels(
        &self,
        id: &str,
        labels: impl IntoIterator<Item = (&'static str, Option<String>)>,
    ) -> Result<()> {
        let labels: BTreeMap<String, Option<String>> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let patch = ContainerPatch { labels, ..ContainerPatch::default() };
        let updated = self.containerd().update_container(id, patch).await;
        updated.map(drop).map_err(|error| {
            self.containerd_error(format!("change the labels of container {id}"), error)
        })
    }
}

/// The process of the run that a container is in, or of the last one; 0 if there was none.
fn process_of_last_run(state: &super::State) -> u32 {
    if state.phase.has_process() {
        return state.pid;
    }
    state.last_run.as_ref().map_or(0, |run| run.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::state::next;

    #[test]
    fn the_process_of_a_run_is_known_until_the_next_one() {
        let at = Timestamp::UNIX_EPOCH;
        let created = super::super::State::created();
        let running = next(&created, &Fact::Started { pid: 7, at }).unwrap();
        let pause = Some(Duration::from_secs(60));
        let ended = next(&running, &Fact::Exited { code: 1, at, restart: pause }).unwrap();
        assert_eq!([&created, &running, &ended].map(process_of_last_run), [0, 7, 7]);
    }
}
