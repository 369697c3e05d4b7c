//! How much disk a container takes: a walk through its files, so only when asked for.

use super::Container;
use crate::{Engine, Result};

/// Bytes of a container's file systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerSize {
    /// Written by the container itself.
    pub read_write: u64,
    /// The image's layers and what it wrote.
    pub root_fs: u64,
}

impl Engine {
    /// Ask the snapshotter. What the container wrote is walked through; the layers below are stored numbers.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchContainer`]; containerd's.
    pub async fn container_size(&self, typed: &str) -> Result<ContainerSize> {
        let container = self.resolve_container(typed).await?;
        if container.snapshotter.is_empty() || container.snapshot_key.is_empty() {
            return Ok(ContainerSize::default());
        }
        let failed = |error| {
            self.containerd_error(
                format!("measure the root file system of container {typed}"),
                error,
            )
        };
        let snapshotter = self.containerd().snapshotter(&container.snapshotter);
        let own = snapshotter.usage(&container.snapshot_key).await.map_err(failed)?;
        let mut size = ContainerSize { read_write: own.size, root_fs: own.size };
        let mut parent = snapshotter.stat(&container.snapshot_key).await.map_err(failed)?.parent;
        while !parent.is_empty() {
            size.root_fs += snapshotter.usage(&parent).await.map_err(failed)?.size;
            parent = snapshotter.stat(&parent).await.map_err(failed)?.parent;
        }
        Ok(size)
    }

    /// Bytes that the container itself has written.
    ///
    /// # Errors
    /// containerd's.
    pub(crate) async fn written_by(&self, container: &Container) -> Result<u64> {
        if container.snapshotter.is_empty() || container.snapshot_key.is_empty() {
            return Ok(0);
        }
        let snapshotter = self.containerd().snapshotter(&container.snapshotter);
        let usage = snapshotter.usage(&container.snapshot_key).await.map_err(|error| {
            let doing = format!("measure the root file system of container {}", container.id);
            self.containerd_error(doing, error)
        })?;
        Ok(usage.size)
    }
}
