//! The volume store: named directories that containers mount.
//!
//! `<data store>/volumes/<namespace>/<name>/` holds `volume.json`, with the labels, and `_data`, which is mounted.
//! nerdctl keeps the lock of the store for a whole `nerdctl create`, image pull included, so changing something here
//! may take long; reading takes no lock. Source: nerdctl `pkg/mountutil/volumestore/volumestore.go`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use names::VolumeName;
use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};
use crate::files::{list_dir, read_optional, write_atomic};
use crate::go_json;
use crate::locks::{create_private_dir, lock_directory};

const MODE: u32 = 0o600;
const INDENT: &str = "    ";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// The directory to mount.
    pub mountpoint: PathBuf,
    /// Labels of the user.
    pub labels: BTreeMap<String, String>,
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
    deadline: Duration,
}

impl VolumeStore {
    pub(crate) fn new(directory: PathBuf, deadline: Duration) -> Self {
        Self { directory, deadline }
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
        let file: VolumeFile = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::Malformed { path, source })?;
        let labels = file.labels.unwrap_or_default();
        Ok(Some(Volume { name: name.clone(), mountpoint: self.mountpoint(name), labels }))
    }

    /// Makes a volume; one that exists is given back as it is, and `false` with it.
    ///
    /// # Errors
    /// Lock and I/O errors, and [`StoreError::Malformed`] for one that exists.
    pub fn create(
        &self,
        name: &VolumeName,
        labels: &BTreeMap<String, String>,
    ) -> Result<(Volume, bool)> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        if let Some(existing) = self.get(name)? {
            return Ok((existing, false));
        }
        let mountpoint = self.mountpoint(name);
        create_private_dir(&mountpoint)?;
        let file = VolumeFile { labels: Some(labels.clone()).filter(|labels| !labels.is_empty()) };
        write_atomic(
            &self.file(name),
            go_json::to_string_indented("volume.json", &file, INDENT)?.as_bytes(),
            MODE,
        )?;
        Ok((Volume { name: name.clone(), mountpoint, labels: labels.clone() }, true))
    }

    /// Removes a volume with all that is in it; absence is success. The caller has made sure that nobody mounts it.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn remove(&self, name: &VolumeName) -> Result<()> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        crate::files::remove_tree(&self.directory.join(name.as_str()))
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::locks::LOCK_DEADLINE;

    fn store(dir: &Path) -> VolumeStore {
        VolumeStore::new(dir.join("volumes/default"), LOCK_DEADLINE)
    }

    fn name(name: &str) -> VolumeName {
        name.parse().unwrap()
    }

    #[test]
    fn a_volume_is_what_nerdctl_makes() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let (volume, created) = store.create(&name("data"), &labels).unwrap();
        assert!(created);
        let folder = dir.path().join("volumes/default/data");
        assert_eq!(volume.mountpoint, folder.join("_data"));
        assert_eq!(fs::metadata(&volume.mountpoint).unwrap().mode() & 0o777, 0o700);
        assert_eq!(
            fs::read_to_string(folder.join("volume.json")).unwrap(),
            "{\n    \"labels\": {\n        \"k\": \"v\"\n    }\n}"
        );
        store.create(&name("plain"), &BTreeMap::new()).unwrap();
        let plain = dir.path().join("volumes/default/plain/volume.json");
        assert_eq!(fs::read_to_string(plain).unwrap(), "{\n    \"labels\": null\n}");
    }

    #[test]
    fn an_existing_volume_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        store.create(&name("data"), &labels).unwrap();
        let (volume, created) = store.create(&name("data"), &BTreeMap::new()).unwrap();
        assert!(!created);
        assert_eq!(volume.labels, labels);
    }

    #[test]
    fn broken_volumes_are_left_out_of_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert!(store.list().unwrap().is_empty());
        store.create(&name("good"), &BTreeMap::new()).unwrap();
        fs::create_dir_all(dir.path().join("volumes/default/half")).unwrap();
        fs::create_dir_all(dir.path().join("volumes/default/bad")).unwrap();
        fs::write(dir.path().join("volumes/default/bad/volume.json"), "{").unwrap();
        fs::write(dir.path().join("volumes/default/.tmp-x1"), "").unwrap();
        let names: Vec<_> =
            store.list().unwrap().into_iter().map(|volume| volume.name.to_string()).collect();
        assert_eq!(names, ["good"]);
    }
}
