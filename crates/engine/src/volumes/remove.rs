//! Remove volumes that nobody uses.

use std::collections::{BTreeMap, HashMap};

use names::VolumeName;
use nerdctl_store::labels;
use nerdctl_store::volumes::LockedVolumes;

use crate::waiting::{blocking, try_blocking};
use crate::{Engine, Error, Result};

/// The containers that mount a volume, by its name.
type Users = BTreeMap<String, Vec<String>>;

impl Engine {
    /// Remove a volume with all that is in it.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`] unless `force` is set; [`Error::VolumeInUse`].
    pub async fn remove_volume(&self, typed: &str, force: bool) -> Result<()> {
        match self.inspect_volume(typed).await {
            Err(Error::NoSuchVolume(_)) if force => return Ok(()),
            found => drop(found?),
        }
        let name: VolumeName = typed.parse().map_err(|_| Error::NoSuchVolume(typed.to_owned()))?;
        let lock = self.lock_volumes().await?;
        let mut users = self.volume_users().await?;
        if let Some(containers) = users.remove(name.as_str()) {
            return Err(Error::VolumeInUse { volume: typed.to_owned(), containers });
        }
        self.remove_locked(lock, vec![name]).await.map(drop)
    }

    /// Remove those of `names` that no container mounts; `but` does not count. Gives those that are gone.
    ///
    /// # Errors
    /// [`Error::ContainerdUnavailable`], [`Error::Failed`].
    pub(crate) async fn remove_unused_volumes(
        &self,
        names: Vec<VolumeName>,
        but: Option<&str>,
    ) -> Result<Vec<VolumeName>> {
        if names.is_empty() {
            return Ok(names);
        }
        let lock = self.lock_volumes().await?;
        let users = self.volume_users().await?;
        let unused = |name: &VolumeName| {
            let containers = users.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
            containers.iter().all(|container| Some(container.as_str()) == but)
        };
        self.remove_locked(lock, names.into_iter().filter(unused).collect()).await
    }

    async fn lock_volumes(&self) -> Result<LockedVolumes> {
        let store = self.store().volumes(&self.settings().namespace);
        try_blocking("lock the volumes", move || store.lock()).await
    }

    /// Asked freshly, with the lock held: the inventory does not know containers that are being made.
    async fn volume_users(&self) -> Result<Users> {
        let records = self.containerd().list_containers(&[]).await;
        let records = records.map_err(|error| self.containerd_error("list containers", error))?;
        let mut users = Users::new();
        for record in records {
            let stored: HashMap<_, _> = record.labels.into_iter().collect();
            let mounts = labels::mounts(&stored).map_err(|error| {
                Error::failed(format!("learn which volumes container {} mounts", record.id), error)
            })?;
            for mount in mounts {
                // An image that is mounted has a name too.
                if mount.r#type == "volume" && !mount.name.is_empty() {
                    users.entry(mount.name).or_default().push(record.id.clone());
                }
            }
        }
        for containers in users.values_mut() {
            containers.dedup();
        }
        Ok(users)
    }

    /// All that is in them may take a while to go, and goes without the lock. One that stays keeps none of the others; the
    /// first failure is told.
    async fn remove_locked(
        &self,
        lock: LockedVolumes,
        names: Vec<VolumeName>,
    ) -> Result<Vec<VolumeName>> {
        let doing = "remove volumes";
        let removed = blocking(doing, move || {
            let (mut gone, mut contents, mut failure) = (Vec::new(), Vec::new(), None);
            for name in names {
                match lock.take_out(&name) {
                    Ok(removed) => {
                        gone.push(name);
                        contents.extend(removed);
                    }
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            drop(lock);
            for removed in contents {
                failure = removed.delete().err().or(failure);
            }
            (gone, failure)
        });
        let (gone, error) = removed.await?;
        for name in &gone {
            self.tell_of_volume(name.as_str(), "destroy");
        }
        error.map_or(Ok(gone), |error| Err(Error::failed(doing, error)))
    }

    /// Delete what an interrupted removal left; says how many. Only where no other daemon may be at it.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub(crate) async fn finish_volume_removals(&self) -> Result<usize> {
        if !self.presence().is_alone() {
            return Ok(0);
        }
        let store = self.store().volumes(&self.settings().namespace);
        try_blocking("delete removed volumes", move || store.finish_removals()).await
    }
}
