//! The volume store: named directories that containers mount.
//!
//! `<data store>/volumes/<namespace>/<name>/` holds `volume.json`, with the labels, and `_data`, which is mounted.
//! nerdctl keeps the lock of the store for a whole `nerdctl create`, image pull included, so changing something here
//! may take long; reading takes no lock. What is deleted is first moved to `<data store>/removed-volumes/<namespace>/`,
//! so that the lock is not held while a large one goes. Source: nerdctl `pkg/mountutil/volumestore/volumestore.go`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use names::VolumeName;
use serde::{Deserialize, Serialize};

use crate::error::{IoContext, Result, StoreError};
use crate::files::{list_dir, read_optional, remove_tree, write_atomic};
use crate::go_json;
use crate::labels::keys;
use crate::locks::{FileLock, create_private_dir, lock_directory};

const MODE: u32 = 0o600;
const DATA_MODE: u32 = 0o755;
const INDENT: &str = "    ";

/// Docker's label of a volume without a name (moby `daemon/volume/service/service.go`).
pub const DOCKER_ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Labels of volumes that prunes may take: Docker's, and nerdctl's.
const ANONYMOUS_LABELS: [&str; 2] = [DOCKER_ANONYMOUS, keys::ANONYMOUS_VOLUMES];

/// Labels of an anonymous volume, so that Docker's prune and nerdctl's take it when nobody uses it any more.
#[must_use]
pub fn anonymous_labels() -> BTreeMap<String, String> {
    ANONYMOUS_LABELS.map(|key| (key.to_owned(), String::new())).into()
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// The directory to mount.
    pub mountpoint: PathBuf,
    /// Labels of the user, and nerdctl's own mark of anonymous ones; `None` if it was made without any.
    pub labels: Option<BTreeMap<String, String>>,
    /// When it was made.
    pub created_at: SystemTime,
}

impl Volume {
    /// Whether nobody gave it a name. Containers' anonymous volumes carry Docker's label, and those of `nerdctl volume
    /// create` nerdctl's.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.labels.iter().flatten().any(|(key, _)| ANONYMOUS_LABELS.contains(&key.as_str()))
    }
}

/// The volumes' lock, held.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct LockedVolumes {
    store: VolumeStore,
    _lock: FileLock,
}

/// File `volume.json`; nerdctl ignores additional keys.
#[derive(Default, Serialize, Deserialize)]
struct VolumeFile {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// The volumes of one namespace.
#[derive(Debug, Clone)]
pub struct VolumeStore {
    directory: PathBuf,
    /// Where volumes go on their way out; nerdctl does not look there.
    removed: PathBuf,
    deadline: Duration,
}

impl VolumeStore {
    pub(crate) fn new(directory: PathBuf, removed: PathBuf, deadline: Duration) -> Self {
        Self { directory, removed, deadline }
    }

    /// The directory of a volume that is mounted, whether or not the volume exists.
    #[must_use]
    pub fn mountpoint(&self, name: &VolumeName) -> PathBuf {
        self.directory.join(name.as_str()).join("_data")
    }

    /// All volumes, by name. What cannot be read is logged and left out. Takes no lock.
    ///
    /// # Errors
    /// If the store's directory exists and cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let mut volumes = Vec::new();
        for entry in list_dir(&self.directory)? {
            let Ok(name) = entry.parse::<VolumeName>() else { continue };
            match self.get(&name) {
                Ok(Some(volume)) => volumes.push(volume),
                Ok(None) => tracing::warn!(volume = %name, "no volume.json, left out"),
                Err(error) => tracing::warn!(volume = %name, %error, "left out"),
            }
        }
        Ok(volumes)
    }

    /// One volume, if it exists. Takes no lock.
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`].
    pub fn get(&self, name: &VolumeName) -> Result<Option<Volume>> {
        let path = self.file(name);
        let Some(bytes) = read_optional(&path)? else { return Ok(None) };
        // Nobody writes the file again, so it is as old as the volume.
        let written = std::fs::metadata(&path).and_then(|file| file.modified());
        let created_at = written.during("look at", &path)?;
        let file: VolumeFile = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::Malformed { path, source })?;
        let (mountpoint, labels) = (self.mountpoint(name), file.labels);
        Ok(Some(Volume { name: name.clone(), mountpoint, labels, created_at }))
    }

    /// Takes the lock that every change of the store needs.
    ///
    /// # Errors
    /// [`StoreError::LockHeld`], and I/O errors.
    pub fn lock(&self) -> Result<LockedVolumes> {
        let lock = lock_directory(&self.directory, self.deadline)?;
        Ok(LockedVolumes { store: self.clone(), _lock: lock })
    }

    /// Makes a volume; one that exists is given back as it is, and `false` with it.
    ///
    /// # Errors
    /// Lock and I/O errors, and [`StoreError::Malformed`] for one that exists.
    pub fn create(
        &self,
        name: &VolumeName,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Result<(Volume, bool)> {
        self.lock()?.create(name, labels)
    }

    /// Removes a volume with all that is in it; absence is success. The caller has made sure that nobody mounts it.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn remove(&self, name: &VolumeName) -> Result<()> {
        let removed = self.lock()?.take_out(name)?;
        removed.map_or(Ok(()), RemovedVolume::delete)
    }

    /// Deletes what removals left that were interrupted; says how many. Only for a daemon that is alone: another one may be
    /// in the middle of it.
    ///
    /// # Errors
    /// I/O errors.
    pub fn finish_removals(&self) -> Result<usize> {
        let left = list_dir(&self.removed)?;
        for name in &left {
            remove_tree(&self.removed.join(name))?;
        }
        Ok(left.len())
    }

    fn file(&self, name: &VolumeName) -> PathBuf {
        self.directory.join(name.as_str()).join("volume.json")
    }

    /// The store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl LockedVolumes {
    /// [`VolumeStore::create`].
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`] for one that exists.
    pub fn create(
        &self,
        name: &VolumeName,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Result<(Volume, bool)> {
        if let Some(existing) = self.store.get(name)? {
            return Ok((existing, false));
        }
        let mountpoint = self.store.mountpoint(name);
        make_data_directory(&mountpoint)?;
        let file = VolumeFile { labels: labels.cloned() };
        write_atomic(
            &self.store.file(name),
            go_json::to_string_indented("volume.json", &file, INDENT)?.as_bytes(),
            MODE,
        )?;
        let created_at = SystemTime::now();
        Ok((Volume { name: name.clone(), mountpoint, labels: labels.cloned(), created_at }, true))
    }

    /// Takes a volume out of the store: from now on there is none of that name. None if there was none.
    ///
    /// # Errors
    /// I/O errors.
    pub fn take_out(&self, name: &VolumeName) -> Result<Option<RemovedVolume>> {
        let (from, removed) = (self.store.directory.join(name.as_str()), &self.store.removed);
        if !from.try_exists().during("look at", &from)? {
            return Ok(None);
        }
        create_private_dir(removed)?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let to = removed.join(format!("{name}-{}", since.as_nanos()));
        match std::fs::rename(&from, &to) {
            Ok(()) => Ok(Some(RemovedVolume { path: to })),
            // A disk of its own is mounted there: it is emptied, and stays.
            Err(error) if is_mounted(&error) => remove_tree(&from).map(|()| None),
            Err(error) => Err(error).during("move away", &from),
        }
    }
}

/// A volume that is in the store no longer, and still has its contents.
#[derive(Debug)]
#[must_use = "its contents stay until they are deleted"]
pub struct RemovedVolume {
    path: PathBuf,
}

impl RemovedVolume {
    /// Deletes all that was in it; needs no lock, and may take long.
    ///
    /// # Errors
    /// I/O errors; what is left goes with [`VolumeStore::finish_removals`].
    pub fn delete(self) -> Result<()> {
        remove_tree(&self.path)
    }
}

fn is_mounted(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::CrossesDevices | std::io::ErrorKind::ResourceBusy)
}

/// With dockerd's mode, so that any user of a container may look into it (moby `daemon/volume/local/local.go`); nerdctl's
/// own have 0700. On the host the directories above keep it private.
fn make_data_directory(mountpoint: &Path) -> Result<()> {
    create_private_dir(mountpoint)?;
    std::fs::set_permissions(mountpoint, std::fs::Permissions::from_mode(DATA_MODE))
        .during("open", mountpoint)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::locks::LOCK_DEADLINE;

    fn store(dir: &Path) -> VolumeStore {
        let below = |folder: &str| dir.join(folder).join("default");
        VolumeStore::new(below("volumes"), below("removed-volumes"), LOCK_DEADLINE)
    }

    fn name(name: &str) -> VolumeName {
        name.parse().unwrap()
    }

    #[test]
    fn a_volume_is_what_nerdctl_makes() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let (volume, created) = store.create(&name("data"), Some(&labels)).unwrap();
        assert!(created);
        let folder = dir.path().join("volumes/default/data");
        assert_eq!(volume.mountpoint, folder.join("_data"));
        assert_eq!(fs::metadata(&volume.mountpoint).unwrap().mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(
            fs::read_to_string(folder.join("volume.json")).unwrap(),
            "{\n    \"labels\": {\n        \"k\": \"v\"\n    }\n}"
        );
        store.create(&name("plain"), None).unwrap();
        let plain = dir.path().join("volumes/default/plain/volume.json");
        assert_eq!(fs::read_to_string(plain).unwrap(), "{\n    \"labels\": null\n}");
    }

    #[test]
    fn an_interrupted_removal_is_finished_later() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (volume, _) = store.create(&name("data"), None).unwrap();
        fs::write(volume.mountpoint.join("file"), "kept").unwrap();
        let removed = store.lock().unwrap().take_out(&name("data")).unwrap().unwrap();
        assert!(store.list().unwrap().is_empty(), "its name is free");
        store.create(&name("data"), None).unwrap();
        assert!(removed.path.join("_data/file").exists(), "its contents are still there");
        drop(removed);
        assert_eq!(store.finish_removals().unwrap(), 1);
        assert_eq!(store.finish_removals().unwrap(), 0);
        assert_eq!(store.list().unwrap().len(), 1, "the new one stays");
    }

    #[test]
    fn an_existing_volume_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        store.create(&name("data"), Some(&labels)).unwrap();
        let (volume, created) = store.create(&name("data"), None).unwrap();
        assert!(!created);
        assert_eq!(volume.labels, Some(labels));
    }

    #[test]
    fn anonymous_volumes_are_known_by_their_labels() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (made, _) = store.create(&name("anon"), Some(&anonymous_labels())).unwrap();
        assert!(made.is_anonymous());
        let read = store.get(&name("anon")).unwrap().unwrap();
        assert!(read.is_anonymous());
        assert!(!store.create(&name("plain"), None).unwrap().0.is_anonymous());
        store.remove(&name("anon")).unwrap();
        store.remove(&name("anon")).unwrap();
        assert_eq!(store.get(&name("anon")).unwrap(), None);
    }

    #[test]
    fn broken_volumes_are_left_out_of_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert!(store.list().unwrap().is_empty());
        store.create(&name("good"), None).unwrap();
        fs::create_dir_all(dir.path().join("volumes/default/half")).unwrap();
        fs::create_dir_all(dir.path().join("volumes/default/bad")).unwrap();
        fs::write(dir.path().join("volumes/default/bad/volume.json"), "{").unwrap();
        fs::write(dir.path().join("volumes/default/.tmp-x1"), "").unwrap();
        let names: Vec<_> =
            store.list().unwrap().into_iter().map(|volume| volume.name.to_string()).collect();
        assert_eq!(names, ["good"]);
    }
}
