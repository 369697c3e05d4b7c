//! What a crash left behind, found and ended after the first look at containerd.
//!
//! In this order: what was being made is undone, what was being removed is removed, ends of runs are worked on, starts that
//! never came to a process are taken back, what nobody reads any more is cleared away; then policies start what is to run, and
//! what interrupted work on images left goes.
//!
//! Only things that carry our mark are touched: a record without it may be a `nerdctl run` that is still pulling. Beside
//! another daemon on the same containers, what that one may be in the middle of stays: whoever starts alone finds it.

mod policies;
pub(crate) mod presence;
mod removals;
mod streams;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use containerd::tasks::TaskStatus;
use futures_util::StreamExt as _;
use nerdctl_store::labels::keys;

use crate::archive::mounts;
use crate::containers::{Container, Owner, Phase, record};
use crate::waiting::try_blocking;
use crate::{Engine, Result};

/// Label of every lease that we take.
pub const LEASE_MARK: &str = "nerdctld/lease";

/// Label of a lease: a container that is paused while the lease's work is done.
pub const PAUSED_MARK: &str = "nerdctld/paused";

/// A half-made thing younger than this may be being made right now, by another daemon on the same containerd.
const GRACE: Duration = Duration::from_secs(60);

/// Containers that are repaired at the same time.
const AT_ONCE: usize = 8;

impl Engine {
    /// Wait for the first load, then repair once.
    pub(crate) async fn repair_after_load(self) {
        let started = SystemTime::now();
        while self.inventory().loaded().await.is_err() {
            if self.supervisor().token().is_cancelled() {
                return;
            }
        }
        let ended = self.found_ended();
        for (what, outcome) in [
            ("half-made containers", self.remove_half_made(started).await),
            ("half-removed containers", self.finish_removals().await),
            ("ends of runs that nobody saw", self.save_ended(&ended).await),
            ("tasks that were never started", self.delete_created_tasks().await),
            ("streams of runs that are over", self.remove_old_streams().await),
            ("restart policies of paused containers", self.release_held_restarts().await),
            ("execs that nobody minds", self.adopt_execs().await),
            ("places for mounts", self.remove_left_places().await),
            ("restart policies", self.follow_policies().await),
            ("contents of removed volumes", self.finish_volume_removals().await),
            // Late, because it waits for containerd's garbage collection.
            ("leases of ended operations", self.drop_leases(started).await),
            // Last, because networks are released one after the other, which after a boot takes long.
            ("what ended runs left", self.work_on_ended(&ended).await),
        ] {
            match outcome {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, what, "repaired what an earlier daemon left"),
                Err(error) => tracing::warn!(
                    what,
                    error = error.message(),
                    "could not be repaired; the next start tries again"
                ),
            }
        }
        if !self.presence().is_alone() {
            self.repair_the_young(started).await;
        }
    }

    /// Containers' roots that were being put together (`archive/mounts.rs`).
    async fn remove_left_places(&self) -> Result<usize> {
        if !self.presence().is_alone() {
            return Ok(0);
        }
        let run_dir = self.settings().run_dir.clone();
        let doing = "take away what was mounted for copying";
        try_blocking(doing, move || mounts::remove_left_places(&run_dir)).await
    }

    /// What was too young to be told from what another daemon is making. Its name is taken until it is gone.
    async fn repair_the_young(&self, started: SystemTime) {
        tokio::time::sleep(GRACE + Duration::from_secs(1)).await;
        match self.remove_half_made(started).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed half-made containers of an earlier daemon"),
            Err(error) => tracing::warn!(
                error = error.message(),
                "half-made containers could not be removed; the next start tries again"
            ),
        }
    }

    /// Records of ours without the mark that creation was finished.
    async fn remove_half_made(&self, started: SystemTime) -> Result<usize> {
        let records = self.containerd().list_containers(&[]).await;
        let records = records.map_err(|error| self.containerd_error("list containers", error))?;
        let mut count = 0;
        for found in records.iter().filter(|found| record::is_half_made(found)) {
            let grace = if self.is_ours_alone(found) { Duration::ZERO } else { GRACE };
            if !is_old(found.created_at, started, grace) {
                continue;
            }
            match self.discard_half_made(found).await {
                Ok(()) => count += 1,
                Err(error) => {
                    tracing::warn!(
                        container = found.id,
                        error = error.message(),
                        "a half-made container could not be removed; the next start tries again"
                    );
                }
            }
        }
        Ok(count)
    }

    /// No other daemon can be making it: there was none when this one started, at least none with our files.
    fn is_ours_alone(&self, found: &containerd::containers::Container) -> bool {
        let state_dir = found.labels.get(keys::STATE_DIR).map(Path::new);
        self.presence().is_alone()
            && state_dir.is_some_and(|dir| dir.starts_with(self.store().path()))
    }

    /// Ours that do not run, the oldest end first.
    fn found_ended(&self) -> Vec<Arc<Container>> {
        let now = self.inventory().now();
        let mut ended: Vec<_> = now
            .entries()
            .map(|entry| &entry.container)
            .filter(|container| {
                let state = &container.state;
                container.owner == Owner::Nerdctld
                    && state.phase == Phase::Exited
                    && state.finished_at.is_some()
            })
            .cloned()
            .collect();
        ended.sort_by_key(|container| container.state.finished_at);
        ended
    }

    /// Runs of ours that ended while no daemon was there: output, and the exit code of those that are started again.
    async fn save_ended(&self, ended: &[Arc<Container>]) -> Result<usize> {
        let booted = self.is_first_since_boot();
        // One whose monitor or shim hangs holds up none but itself.
        futures_util::stream::iter(ended)
            .for_each_concurrent(AT_ONCE, |container| {
                self.save_missed_end(container, policies::is_to_start(container, booted))
            })
            .await;
        Ok(ended.len())
    }

    /// The same runs: exit code, networks, auto-removal, and not too many kept tasks.
    async fn work_on_ended(&self, ended: &[Arc<Container>]) -> Result<usize> {
        futures_util::stream::iter(ended)
            .for_each_concurrent(AT_ONCE, |container| self.missed_end(container))
            .await;
        // Oldest first: the newest tasks are the ones that stay.
        for container in ended.iter().cloned() {
            if container.auto_remove {
                let engine = self.clone();
                self.supervisor().spawn_operation(async move { engine.after_end(container).await });
            } else {
                self.after_end(container).await;
            }
        }
        Ok(ended.len())
    }

    /// Containers that were paused and go on, which no daemon saw.
    async fn release_held_restarts(&self) -> Result<usize> {
        let snapshot = self.inventory().now();
        let candidates = snapshot.entries().map(|entry| &entry.container).filter(|container| {
            container.has_restart_labels && container.state.phase == Phase::Running
        });
        let count = AtomicUsize::new(0);
        // One whose lock is held for long holds up none but itself.
        futures_util::stream::iter(candidates)
            .for_each_concurrent(AT_ONCE, |container| async {
                match self.release_restarts(&container.id).await {
                    Ok(released) => {
                        count.fetch_add(usize::from(released), Ordering::Relaxed);
                    }
                    Err(error) => tracing::warn!(
                        container = container.id.as_str(),
                        error = error.message(),
                        "its restart policy could not be given back to containerd"
                    ),
                }
            })
            .await;
        Ok(count.into_inner())
    }

    /// Tasks of ours whose process was never let go: the daemon died between create and start.
    async fn delete_created_tasks(&self) -> Result<usize> {
        if !self.presence().is_alone() {
            // The other daemon may be between the two.
            return Ok(0);
        }
        let snapshot = self.inventory().now();
        let mut candidates = Vec::new();
        for entry in snapshot.entries() {
            let container = &entry.container;
            if container.owner == Owner::Nerdctld && !container.state.phase.has_process() {
                candidates.push(Arc::clone(container));
            }
        }
        let count = AtomicUsize::new(0);
        // A shim takes its time to let go of streams that nobody reads.
        futures_util::stream::iter(&candidates)
            .for_each_concurrent(AT_ONCE, |container| async {
                if self.delete_created_task(container).await {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
            .await;
        Ok(count.into_inner())
    }

    async fn delete_created_task(&self, container: &Container) -> bool {
        let Some(_guard) = self.locks().try_lock(&container.id) else { return false };
        let id = container.id.as_str();
        let Ok(task) = self.containerd().get_task(id).await else { return false };
        if task.status != TaskStatus::Created {
            return false;
        }
        self.remove_streams(&container.id).await;
        if let Err(error) = self.containerd().delete_task(id).await {
            // The others' turn comes all the same.
            tracing::warn!(container = id, %error, "an unstarted task could not be deleted");
            return false;
        }
        self.take_back_start(container, None).await;
        true
    }

    /// What they protected is garbage now. By itself containerd collects it only after many further changes, so the last
    /// deletion asks for that.
    async fn drop_leases(&self, started: SystemTime) -> Result<usize> {
        if !self.presence().is_alone() {
            return Ok(0);
        }
        let filter = format!("labels.\"{LEASE_MARK}\"");
        let leases = self.containerd().list_leases(&[&filter]).await;
        let mut leases = leases.map_err(|error| self.containerd_error("list leases", error))?;
        leases.retain(|lease| lease.created_at < started);
        let mut count = 0;
        for (at, lease) in leases.iter().enumerate() {
            if let Some(id) = lease.labels.get(PAUSED_MARK).and_then(|id| id.parse().ok()) {
                self.resume_after_commit(&id).await;
            }
            let collect = at + 1 == leases.len();
            let deleted = self.containerd().delete_lease(&lease.id, collect).await;
            if deleted.is_ok() {
                count += 1;
            }
        }
        Ok(count)
    }
}

/// Made before this daemon, and not just now.
fn is_old(created: SystemTime, started: SystemTime, grace: Duration) -> bool {
    created < started && created.elapsed().is_ok_and(|age| age >= grace)
}
