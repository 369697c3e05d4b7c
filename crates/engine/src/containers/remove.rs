//! Remove a container and all that belongs to it.
//!
//! A mark in the state directory comes first and goes last, the record goes last but that: a crash in the middle leaves
//! something that the next daemon finds and ends, and every step takes "gone already" for done.

use std::time::Duration;

use names::{ContainerName, VolumeName};
use nerdctl_store::StoreError;

use super::state::{Fact, Wish};
use super::{Container, Owner, Phase};
use crate::locks::ContainerGuard;
use crate::waiting::{blocking, try_blocking};
use crate::{Engine, Error, Result, fault};

/// How long nerdctl's own `rm` or `commit` of the same container may hold its lock.
const OPLOCK: Duration = Duration::from_secs(10);

/// How a container shall be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it if it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

impl Engine {
    /// Remove it.
    ///
    /// # Errors
    /// [`Error::CannotRemove`] if it runs and `force` is not set; [`Error::RemovalInProgress`];
    /// [`Error::ManagedByKubernetes`].
    pub async fn remove_container(&self, typed: &str, options: &RemoveOptions) -> Result<()> {
        if self.resolve_container(typed).await?.state.phase == Phase::Removing {
            return Err(Error::RemovalInProgress(typed.to_owned()));
        }
        let (guard, container) = self.lock_container(typed, "remove").await?;
        let container =
            self.up_to_date(container, |phase| options.force || !phase.has_process()).await;
        self.may_be_removed(&container, typed, options.force)?;
        if container.state.phase.has_process() {
            self.end_is_wanted(&guard, &container, Wish::Stop).await?;
            self.kill_run(&container).await?;
            fault::reached("remove.killed");
        } else if container.state.phase == Phase::Restarting {
            self.end_is_wanted(&guard, &container, Wish::Stop).await?;
        }
        self.inventory().tell(&container.id, Fact::Removing).await;
        let removed = self.take_apart(&guard, &container, *options).await;
        if removed.is_err() {
            self.inventory().tell(&container.id, Fact::RemovalFailed).await;
        }
        self.inventory().refresh(&container.id).await;
        removed
    }

    fn may_be_removed(&self, container: &Container, typed: &str, force: bool) -> Result<()> {
        let refuse = |reason| Err(Error::CannotRemove { container: typed.to_owned(), reason });
        match container.state.phase {
            Phase::Removing => Err(Error::RemovalInProgress(typed.to_owned())),
            _ if force => Ok(()),
            Phase::Paused => refuse("container is paused and must be unpaused first"),
            Phase::Running => {
                refuse("container is running: stop the container before removing or force remove")
            }
            Phase::Restarting => refuse(
                "container is restarting: stop the container before removing or force remove",
            ),
            Phase::Created | Phase::Exited | Phase::Dead => Ok(()),
        }
    }

    async fn take_apart(
        &self,
        guard: &ContainerGuard,
        container: &Container,
        options: RemoveOptions,
    ) -> Result<()> {
        let id = container.id.as_str();
        let _oplock = self.hold_oplock(container).await?;
        self.mark_removal(container, options).await?;
        fault::reached("remove.marked");
        self.delete_task_twice(container).await?;
        fault::reached("remove.task");
        if container.owner == Owner::Nerdctld {
            self.remove_streams(guard.id()).await;
        }
        self.detach_networks(container).await;
        self.remove_shm(container).await?;
        fault::reached("remove.networks");
        // Both wait for disks. Each runs to its end before anything is said.
        let (snapshot, files) =
            tokio::join!(self.remove_snapshot(container), self.remove_files(container, options));
        fault::reached("remove.snapshot");
        snapshot.and(files)?;
        // The name is free before anybody who waits for the removal wakes up: they recreate at once.
        self.release_name(container).await?;
        fault::reached("remove.name");
        match self.containerd().delete_container(id).await {
            Err(error) if !error.is_not_found() => {
                return Err(
                    self.containerd_error(format!("delete the record of container {id}"), error)
                );
            }
            _ => {}
        }
        fault::reached("remove.record");
        self.remove_state_dir(container).await
    }

    async fn remove_snapshot(&self, container: &Container) -> Result<()> {
        if container.snapshotter.is_empty() || container.snapshot_key.is_empty() {
            return Ok(());
        }
        let snapshotter = self.containerd().snapshotter(&container.snapshotter);
        match snapshotter.remove(&container.snapshot_key).await {
            Err(error) if !error.is_not_found() => {
                let doing = format!("remove the root file system of container {}", container.id);
                Err(self.containerd_error(doing, error))
            }
            _ => Ok(()),
        }
    }

    /// From here on a crash is followed by the end of the removal (`repair/removals.rs`).
    async fn mark_removal(&self, container: &Container, options: RemoveOptions) -> Result<()> {
        if container.state_dir.is_none() {
            return Ok(());
        }
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let doing = format!("begin the removal of container {}", container.id);
        let marked = try_blocking(doing, move || {
            // What is not there needs no mark.
            if state_dir.exists() { state_dir.mark_removal(options.volumes) } else { Ok(()) }
        });
        marked.await
    }

    /// The state directory goes last, with the mark in it.
    async fn remove_state_dir(&self, container: &Container) -> Result<()> {
        if container.state_dir.is_none() {
            return Ok(());
        }
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let doing = format!("remove the state directory of container {}", container.id);
        try_blocking(doing, move || state_dir.remove_all()).await
    }

    /// End what a crash interrupted.
    ///
    /// # Errors
    /// As [`Engine::remove_container`]; the next start of the daemon tries again.
    pub(crate) async fn finish_removal(&self, container: &Container, volumes: bool) -> Result<()> {
        let guard = self.locks().lock(&container.id).await;
        self.inventory().tell(&container.id, Fact::Removing).await;
        let options = RemoveOptions { force: true, volumes };
        let removed = self.take_apart(&guard, container, options).await;
        if removed.is_err() {
            self.inventory().tell(&container.id, Fact::RemovalFailed).await;
        }
        self.inventory().refresh(&container.id).await;
        removed
    }

    /// Deleting a task runs the postStop hook. A hook that fails makes the deletion fail, but once only.
    async fn delete_task_twice(&self, container: &Container) -> Result<()> {
        let id = container.id.as_str();
        let mut deleted = self.containerd().delete_task(id).await;
        if deleted.as_ref().is_err_and(is_worth_a_second_try) {
            deleted = self.containerd().delete_task(id).await;
        }
        match deleted {
            Err(error) if !error.is_not_found() => {
                Err(self.containerd_error(format!("delete the task of container {id}"), error))
            }
            _ => Ok(()),
        }
    }

    /// The lock that nerdctl's `rm` and `commit` take; only where there is a state directory.
    async fn hold_oplock(
        &self,
        container: &Container,
    ) -> Result<Option<nerdctl_store::locks::FileLock>> {
        if container.state_dir.is_none() {
            return Ok(None);
        }
        let state_dir = self
            .store()
            .clone()
            .with_lock_deadline(OPLOCK)
            .state_dir(&self.settings().namespace, &container.id);
        if !state_dir.exists() {
            return Ok(None);
        }
        let doing = format!("lock container {} against nerdctl", container.id);
        try_blocking(doing, move || state_dir.oplock()).await.map(Some)
    }

    pub(super) async fn release_name(&self, container: &Container) -> Result<()> {
        if !matches!(container.owner, Owner::Nerdctld | Owner::Nerdctl) {
            return Ok(());
        }
        let Ok(name) = container.name.parse::<ContainerName>() else { return Ok(()) };
        let names = self.store().names(&self.settings().namespace);
        let id = container.id.clone();
        // Another container may own the name by now (nerdctl frees names of stopped containers): that is its right.
        let doing = format!("release the name of container {}", container.id);
        match blocking(doing.as_str(), move || names.release(&name, &id)).await? {
            Ok(_) => Ok(()),
            Err(error @ StoreError::NameOfAnother { .. }) => {
                tracing::debug!(container = container.id.as_str(), %error, "its name is not released");
                Ok(())
            }
            // Without the record nobody could ever release it.
            Err(error) => Err(Error::failed(doing, error)),
        }
    }

    /// What else of it is in nerdctl's store.
    async fn remove_files(&self, container: &Container, options: RemoveOptions) -> Result<()> {
        if container.state_dir.is_none() {
            return Ok(());
        }
        let (store, namespace, id) =
            (self.store().clone(), self.settings().namespace.clone(), container.id.clone());
        if options.volumes {
            let own = own_volumes(container);
            if let Err(error) = self.remove_unused_volumes(own, Some(container.id.as_str())).await {
                // As dockerd: a prune takes them some day, and the container is gone all the same.
                tracing::warn!(
                    container = container.id.as_str(),
                    error = error.message(),
                    "an anonymous volume could not be removed"
                );
            }
        }
        let doing = format!("remove the files of container {id}");
        try_blocking(doing, move || {
            let hosts = store.hosts(&namespace);
            // Where postStop never ran the others still have its addresses.
            hosts.release(&id)?;
            hosts.delete(&id)
        })
        .await
    }
}

/// A shim that hangs does so the second time as well.
fn is_worth_a_second_try(error: &containerd::Error) -> bool {
    use containerd::Kind::{DeadlineExceeded, NotFound, Unavailable};
    !matches!(error.kind(), DeadlineExceeded | NotFound | Unavailable)
}

/// Its anonymous volumes.
fn own_volumes(container: &Container) -> Vec<VolumeName> {
    let own = container.anonymous_volumes.iter().filter(|volume| is_generated(volume));
    own.filter_map(|volume| volume.parse().ok()).collect()
}

/// A name as nerdctl and Docker give it to a volume without one. The label that lists them may come from an image's author,
/// who must not get named volumes deleted.
fn is_generated(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_volumes_without_a_name_go_with_their_container() {
        assert!(is_generated(&"0123456789abcdef".repeat(4)));
        for named in ["db-data", "", &"A".repeat(64), &"a".repeat(63)] {
            assert!(!is_generated(named), "{named}");
        }
    }
}
