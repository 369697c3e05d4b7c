//! An image's own `/etc/passwd` and `/etc/group`, brought from its layers.
//!
//! A read-only view of the image's snapshot says where the layers are. For overlayfs and bind mounts nothing is mounted: the layers are directories and
//! are looked through from the top (`layers.rs`). Other file systems are mounted without a place in the file tree
//! (`detached.rs`), so that no crash leaves a mount behind. What was read is kept by chain id, because layers never change.

pub(crate) mod detached;
pub(crate) mod layers;
mod narrow;
mod running;

pub(crate) use layers::{as_layers, split_lower};

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use containerd::Mount;

pub(crate) use narrow::narrow;

use super::ImageFiles;
use crate::snapshot_view::SnapshotView;
use crate::{Error, Result};

/// No sane file is larger; the image's author decides, so there is a bound.
const MAX_BYTES: u64 = 1024 * 1024;

/// Images whose files are kept.
const KEPT: usize = 64;

/// The files of the images used lately, oldest first.
#[derive(Debug, Default)]
pub struct Cache {
    kept: Mutex<VecDeque<(Key, Arc<ImageFiles>)>>,
}

/// Snapshotter and chain id.
type Key = (String, String);

impl Cache {
    /// The files of the image whose top layer is `chain_id` in `snapshotter`.
    ///
    /// # Errors
    /// [`Error::Failed`] when containerd does not give a view, or the view cannot be read.
    pub async fn read(
        &self,
        client: &containerd::Client,
        snapshotter: &str,
        chain_id: &str,
    ) -> Result<Arc<ImageFiles>> {
        if chain_id.is_empty() {
            return Ok(Arc::default());
        }
        let key = (snapshotter.to_owned(), chain_id.to_owned());
        if let Some(files) = self.get(&key) {
            return Ok(files);
        }
        let files = Arc::new(read_through_view(client, snapshotter, chain_id).await?);
        self.keep(key, Arc::clone(&files));
        Ok(files)
    }

    fn get(&self, key: &Key) -> Option<Arc<ImageFiles>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == key).map(|(_, files)| Arc::clone(files))
    }

    fn keep(&self, key: Key, files: Arc<ImageFiles>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != key);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((key, files));
    }
}

/// The files below the root of a running container's process, as they are now.
///
/// # Errors
/// Those of the file system; files that are not there are none.
pub(crate) fn read_running(root: &OwnedFd) -> io::Result<ImageFiles> {
    both(|path| running::open_file(root, path))
}

async fn read_through_view(
    client: &containerd::Client,
    snapshotter: &str,
    chain_id: &str,
) -> Result<ImageFiles> {
    let view = SnapshotView::open(client, snapshotter, chain_id)
        .await
        .map_err(|source| Error::failed(format!("look into image layer {chain_id}"), source))?;
    let files = read_mounts_elsewhere(chain_id, view.mounts().to_vec()).await;
    view.close().await;
    files
}

/// File systems may be slow: not on the runtime's threads.
async fn read_mounts_elsewhere(chain_id: &str, mounts: Vec<Mount>) -> Result<ImageFiles> {
    let read = tokio::task::spawn_blocking(move || read_mounts(&mounts)).await;
    read.map_err(io::Error::from).flatten().map_err(|source| {
        Error::failed(format!("read /etc/passwd and /etc/group in image layer {chain_id}"), source)
    })
}

fn read_mounts(mounts: &[Mount]) -> io::Result<ImageFiles> {
    let [mount] = mounts else {
        let text = format!(
            "the snapshotter gives {} mounts, which cannot be read without mounting them",
            mounts.len()
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    };
    if let Some(layers) = layers::Layers::open(mount)? {
        match both(|path| layers.open_file(path)) {
            // Rare features of overlayfs (redirects, metacopy) are the kernel's to follow.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            result => return result,
        }
    }
    let root = detached::mount(mount)?;
    both(|path| detached::open_file(&root, path))
}

fn both(open: impl Fn(&str) -> io::Result<Option<OwnedFd>>) -> io::Result<ImageFiles> {
    let read = |path| open(path)?.map_or(Ok(String::new()), |file| read_bounded(file.into()));
    Ok(ImageFiles { passwd: read("etc/passwd")?, group: read("etc/group")? })
}

/// At most [`MAX_BYTES`]; a line that is cut off there is left out, because half a number is another number.
fn read_bounded(file: std::fs::File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == MAX_BYTES {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        bytes.truncate(whole);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_forgets_the_oldest() {
        let cache = Cache::default();
        let key = |number: usize| ("overlayfs".to_owned(), format!("sha256:{number}"));
        for number in 0..=KEPT {
            cache.keep(key(number), Arc::default());
        }
        assert!(cache.get(&key(0)).is_none());
        assert!(cache.get(&key(1)).is_some());
        assert!(cache.get(&key(KEPT)).is_some());
        assert!(cache.get(&("native".to_owned(), "sha256:1".to_owned())).is_none());
    }

    #[test]
    fn a_huge_file_is_cut_at_a_line() {
        let line = "user:x:1000:1000::/:\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), line.repeat(60_000)).unwrap();
        let text = read_bounded(std::fs::File::open(file.path()).unwrap()).unwrap();
        assert!(text.len() < usize::try_from(MAX_BYTES).unwrap());
        assert!(text.ends_with("::/:"), "only whole lines");
    }
}
