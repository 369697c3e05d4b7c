//! List and inspect volumes: read from nerdctl's store, without its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use names::VolumeName;
use nerdctl_store::volumes::VolumeStore;

use super::Volume;
use crate::containers::NameMatcher;
use crate::inventory::Snapshot;
use crate::waiting::try_blocking;
use crate::{Engine, Error, Result};

/// Which volumes a list shows; the edge has decoded it.
#[derive(Clone, Debug, Default)]
pub struct VolumeFilter {
    /// `dangling`: no container mounts it.
    pub dangling: Option<bool>,
    /// `driver`.
    pub drivers: Vec<String>,
    /// `name`: matcher made by the edge (exact or regular expression).
    pub name: Option<NameMatcher>,
    /// `label`: matcher made by the edge.
    pub labels: Option<LabelMatcher>,
}

/// A volume's labels.
type Labels = BTreeMap<String, String>;

/// Decides whether labels match.
#[derive(Clone)]
pub struct LabelMatcher(pub Arc<dyn Fn(&Labels) -> bool + Send + Sync>);

impl std::fmt::Debug for LabelMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LabelMatcher(..)")
    }
}

impl VolumeFilter {
    /// Whether a volume passes all but `dangling`.
    pub(super) fn matches(&self, volume: &Volume) -> bool {
        let none = Labels::new();
        let labels = volume.labels.as_ref().unwrap_or(&none);
        (self.drivers.is_empty() || self.drivers.iter().any(|driver| driver == Volume::DRIVER))
            && self.name.as_ref().is_none_or(|name| (name.0)(&volume.name))
            && self.labels.as_ref().is_none_or(|matcher| (matcher.0)(labels))
    }
}

impl Engine {
    /// The volumes that pass the filter, by name.
    ///
    /// # Errors
    /// [`Error::NotLoaded`]; [`Error::Failed`] if the store cannot be read.
    pub async fn list_volumes(&self, filter: &VolumeFilter) -> Result<Vec<Volume>> {
        let snapshot = self.inventory().loaded().await?;
        let all = self.read_volumes("list volumes", |store| store.list()).await?;
        let in_use = in_use(&snapshot);
        let passes = |volume: &Volume| {
            filter.matches(volume)
                && filter
                    .dangling
                    .is_none_or(|dangling| dangling != in_use.contains(volume.name.as_str()))
        };
        Ok(all.into_iter().map(Volume::from).filter(passes).collect())
    }

    /// One volume. A part of its name never means it.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`].
    pub async fn inspect_volume(&self, typed: &str) -> Result<Volume> {
        let missing = || Error::NoSuchVolume(typed.to_owned());
        let name: VolumeName = typed.parse().map_err(|_| missing())?;
        let found = self.read_volumes("look for a volume", move |store| store.get(&name)).await?;
        found.map(Volume::from).ok_or_else(missing)
    }

    /// Read the store where waiting for a disk is allowed.
    async fn read_volumes<T: Send + 'static>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&VolumeStore) -> nerdctl_store::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store().volumes(&self.settings().namespace);
        try_blocking(doing, move || read(&store)).await
    }
}

/// Names of the volumes that any container mounts, running or not.
fn in_use(snapshot: &Snapshot) -> BTreeSet<&str> {
    let mounts = snapshot.entries().flat_map(|entry| &entry.container.mounts);
    mounts.filter(|mount| mount.kind == "volume").map(|mount| mount.name.as_str()).collect()
}
