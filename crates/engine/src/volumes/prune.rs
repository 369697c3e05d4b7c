//! Remove all volumes that nobody uses.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use names::VolumeName;

use super::event;
use super::list::VolumeFilter;
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
            let directory = PathBuf::from(&volume.mountpoint);
            let size = tokio::task::spawn_blocking(move || size_of(&directory)).await.unwrap_or(0);
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

/// Bytes of all files in a directory, each counted once (moby `daemon/internal/directory`). What cannot be read counts
/// nothing.
fn size_of(directory: &Path) -> u64 {
    let mut pending = vec![directory.to_owned()];
    let mut counted = HashSet::new();
    let mut bytes: u64 = 0;
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.nlink() == 1 || counted.insert((metadata.dev(), metadata.ino())) {
                bytes = bytes.saturating_add(metadata.len());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_two_names_are_counted_once() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("d")).unwrap();
        std::fs::write(temp.path().join("d/a"), [0; 100]).unwrap();
        std::fs::hard_link(temp.path().join("d/a"), temp.path().join("b")).unwrap();
        std::fs::write(temp.path().join("c"), [0; 20]).unwrap();
        assert_eq!(size_of(temp.path()), 120);
        assert_eq!(size_of(&temp.path().join("nothing")), 0);
    }
}
