//! Remove all volumes that nobody uses.

use std::path::PathBuf;

use names::VolumeName;

use super::event;
use super::list::VolumeFilter;
use super::size::size_of;
use crate::{Engine, Result};

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedVolumes {
    /// Names.
    pub volumes: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}

impl Engine {
    /// Remove the volumes that pass the filter and that no container mounts. The edge has said in the filter whether
    /// only anonymous ones are meant.
    ///
    /// # Errors
    /// [`crate::Error::PruneRunning`]; [`crate::Error::ContainerdUnavailable`].
    pub async fn prune_volumes(&self, filter: &VolumeFilter) -> Result<PrunedVolumes> {
        let _turn = self.volume_prunes().begin()?;
        let unused = VolumeFilter { dangling: Some(true), ..filter.clone() };
        let mut pruned = PrunedVolumes::default();
        for volume in self.list_volumes(&unused).await? {
            let Ok(name) = volume.name.parse::<VolumeName>() else { continue };
            let size = size_of(PathBuf::from(&volume.mountpoint)).await;
            match self.remove_unused_volumes(vec![name], None).await {
                Ok(gone) if gone.is_empty() => {}
                Ok(_) => {
                    pruned.volumes.push(volume.name);
                    pruned.reclaimed = pruned.reclaimed.saturating_add(size);
                }
                Err(error) => {
                    let error = error.message();
                    tracing::warn!(volume = volume.name, error, "a volume could not be pruned");
                }
            }
        }
        let reclaimed = [("reclaimed", pruned.reclaimed.to_string())];
        self.hub().publish(event("", "prune", reclaimed));
        Ok(pruned)
    }
}
