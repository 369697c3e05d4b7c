//! Restart policies at the start of the daemon: what is to run runs, and containerd's restart plugin is told.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use names::ContainerId;

use super::AT_ONCE;
use crate::containers::restart_policy::RestartPolicy;
use crate::containers::restarts::Starter;
use crate::containers::{Container, Owner, Phase};
use crate::{Engine, Result};

/// The kernel's name for this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Engine {
    /// Start what its policy wants to run; arm what runs and is not armed. Gives the number of starts that were begun.
    pub(super) async fn follow_policies(&self) -> Result<usize> {
        let marker = BootMarker::new(self);
        let booted = marker.is_first_since_boot();
        let now = self.inventory().now();
        let mut to_start = Vec::new();
        for entry in now.entries() {
            let container = &entry.container;
            let upkeep = &container.upkeep;
            if container.owner != Owner::Nerdctld || upkeep.restart == RestartPolicy::No {
                continue;
            }
            if is_to_start(container, booted) {
                to_start.push(Arc::clone(container));
            } else if is_to_arm(container) {
                self.arm_found(&container.id).await;
            }
        }
        let count = to_start.len();
        let engine = self.clone();
        // Starting may take long (networks one by one); the repair goes on.
        self.supervisor().spawn(async move {
            let (joining, own): (Vec<_>, Vec<_>) =
                to_start.into_iter().partition(|container| container.joins_another());
            // Whoever is joined has to run first.
            for group in [own, joining] {
                futures_util::stream::iter(group)
                    .for_each_concurrent(AT_ONCE, |container| engine.start_found(container))
                    .await;
            }
            // Not before: after a crash in the middle it still is the first start since the boot.
            marker.note();
        });
        Ok(count)
    }

    /// Whether no daemon has followed the policies since the boot.
    pub(super) fn is_first_since_boot(&self) -> bool {
        BootMarker::new(self).is_first_since_boot()
    }

    /// It may have been stopped or paused since it was found: the label is theirs then.
    async fn arm_found(&self, id: &ContainerId) {
        let _guard = self.locks().lock(id).await;
        let found = self.inventory().now().get(id).map(|entry| Arc::clone(&entry.container));
        let Some(container) = found.filter(|container| is_to_arm(container)) else { return };
        self.arm(&container, Starter::Policy).await;
        self.inventory().refresh(id).await;
    }

    async fn start_found(&self, container: Arc<Container>) {
        let found = container.state.clone();
        Box::pin(self.start_by_policy(&container.id, |now| *now == found)).await;
    }
}

pub(super) fn is_to_start(container: &Container, booted: bool) -> bool {
    let Container { upkeep, state, .. } = container;
    state.phase == Phase::Exited
        && upkeep.restart.wants_start(
            state.exit_code,
            container.restart_count,
            upkeep.stopped,
            booted,
        )
}

/// The daemon died after the start and before the label, or the label went for a pause that is over; nobody has asked for
/// its end since.
fn is_to_arm(container: &Container) -> bool {
    let upkeep = &container.upkeep;
    let state = &container.state;
    state.phase == Phase::Running && state.wish.is_none() && !upkeep.armed && !upkeep.stopped
}

/// A file that no boot leaves, with the boot in it that it was written after.
struct BootMarker {
    path: PathBuf,
    boot: String,
}

impl BootMarker {
    fn new(engine: &Engine) -> Self {
        let namespace = &engine.settings().namespace;
        let dir = engine.settings().run_dir.join(engine.store().hash8());
        Self {
            path: dir.join(format!("{}.boot-id", namespace.as_str())),
            // Without one every start counts as the first: better too much runs than too little.
            boot: std::fs::read_to_string(BOOT_ID).unwrap_or_default(),
        }
    }

    fn is_first_since_boot(&self) -> bool {
        std::fs::read_to_string(&self.path).ok().as_deref() != Some(self.boot.as_str())
    }

    fn note(&self) {
        if let Err(error) = write(&self.path, &self.boot) {
            tracing::warn!(%error, path = %self.path.display(), "the boot could not be noted");
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let marker =
            |boot: &str| BootMarker { path: dir.path().join("run/boot-id"), boot: boot.into() };
        assert!(marker("one").is_first_since_boot(), "an empty /run");
        marker("one").note();
        assert!(!marker("one").is_first_since_boot());
        assert!(marker("two").is_first_since_boot(), "/run was kept");
    }
}
