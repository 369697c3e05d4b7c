//! How much of the disk images, containers and volumes take.
//!
//! To find out is slow: file trees are walked. So each kind is looked at once for all who ask at the same time, and only
//! while somebody waits for it.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::containers::list::Listed;
use crate::containers::{Container, ListFilter};
use crate::images::{ImageFilter, ImageSummary};
use crate::volumes::Volume;
use crate::volumes::list::VolumeFilter;
use crate::volumes::size::size_of;
use crate::{Engine, Result};

/// Containers that are measured at once.
const AT_ONCE: usize = 4;

/// All images.
#[derive(Debug)]
pub struct ImageUsage {
    /// With what they share.
    pub images: Vec<ImageSummary>,
    /// Bytes of all, what they share counted once.
    pub total: u64,
}

/// One container.
#[derive(Clone, Debug)]
pub struct ContainerUsage {
    /// It, as lists show it.
    pub listed: Listed,
    /// Bytes that it wrote; 0 for one that has gone meanwhile.
    pub read_write: u64,
    /// Bytes of its root file system.
    pub root_fs: u64,
}

/// One volume.
#[derive(Clone, Debug)]
pub struct VolumeUsage {
    /// It.
    pub volume: Volume,
    /// Bytes.
    pub size: u64,
    /// Containers that mount it.
    pub containers: u64,
}

/// What was found last, for those who asked meanwhile.
#[derive(Debug, Default)]
pub(crate) struct DiskUsage {
    images: Shared<ImageUsage>,
    containers: Shared<Vec<ContainerUsage>>,
    volumes: Shared<Vec<VolumeUsage>>,
}

impl Engine {
    /// All images with their sizes.
    ///
    /// # Errors
    /// [`crate::Error::ContainerdUnavailable`], [`crate::Error::NotLoaded`].
    pub async fn image_usage(&self) -> Result<Arc<ImageUsage>> {
        let look = async {
            let filter = ImageFilter { shared_size: true, ..ImageFilter::default() };
            let images = self.list_images(&filter).await?;
            Ok(ImageUsage { images, total: self.size_of_images().await? })
        };
        self.disk_usage().images.look(look).await
    }

    /// All containers with their sizes, newest first.
    ///
    /// # Errors
    /// [`crate::Error::NotLoaded`].
    pub async fn container_usage(&self) -> Result<Arc<Vec<ContainerUsage>>> {
        let look = async {
            let filter = ListFilter { all: true, ..ListFilter::default() };
            let containers = self.list_containers(&filter).await?;
            let measured = stream::iter(containers).map(|listed| async {
                // One that has gone meanwhile stays in this list, without sizes.
                let size = self.container_size(listed.container.id.as_str()).await.ok();
                let (read_write, root_fs) =
                    size.map_or((0, 0), |size| (size.read_write, size.root_fs));
                ContainerUsage { listed, read_write, root_fs }
            });
            Ok(measured.buffered(AT_ONCE).collect().await)
        };
        self.disk_usage().containers.look(look).await
    }

    /// All volumes with their sizes, by name.
    ///
    /// # Errors
    /// As [`Engine::list_volumes`].
    pub async fn volume_usage(&self) -> Result<Arc<Vec<VolumeUsage>>> {
        let look = async {
            let snapshot = self.inventory().loaded().await?;
            let mut found = Vec::new();
            for volume in self.list_volumes(&VolumeFilter::default()).await? {
                let mounts_it = |container: &Container| {
                    let mut mounts = container.mounts.iter();
                    mounts.any(|mount| mount.kind == "volume" && mount.name == volume.name)
                };
                let containers =
                    snapshot.entries().filter(|entry| mounts_it(&entry.container)).count() as u64;
                let size = size_of(PathBuf::from(&volume.mountpoint)).await;
                found.push(VolumeUsage { volume, size, containers });
            }
            Ok(found)
        };
        self.disk_usage().volumes.look(look).await
    }
}

/// One look for all who ask while it is made.
#[derive(Debug)]
struct Shared<T> {
    /// When the last look ended, and what it found.
    last: Mutex<Option<(Instant, Arc<T>)>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { last: Mutex::new(None) }
    }
}

impl<T> Shared<T> {
    /// What was found since this was called; whoever comes first looks, and if it is dropped the next one.
    async fn look(&self, look: impl Future<Output = Result<T>>) -> Result<Arc<T>> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((ended, found)) = &*last
            && *ended > asked
        {
            return Ok(Arc::clone(found));
        }
        *last = None;
        let found = Arc::new(look.await?);
        *last = Some((Instant::now(), Arc::clone(&found)));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_together_look_once() {
        let shared = Shared::default();
        let looks = AtomicUsize::new(0);
        let look = || {
            shared.look(async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(looks.fetch_add(1, Ordering::Relaxed))
            })
        };
        let (first, second) = tokio::join!(look(), look());
        assert_eq!((*first.unwrap(), *second.unwrap()), (0, 0));
        assert_eq!(*look().await.unwrap(), 1, "later it may be different");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_dropped_is_made_by_the_next() {
        let shared = Shared::default();
        let endless = shared.look(std::future::pending::<Result<u8>>());
        let both = async {
            tokio::join!(
                tokio::time::timeout(Duration::from_secs(1), endless),
                shared.look(async { Ok(7) })
            )
        };
        let (first, second) = both.await;
        assert!(first.is_err());
        assert_eq!(*second.unwrap(), 7);
    }
}
