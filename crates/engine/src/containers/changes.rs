//! What a container has changed in its image's files.
//!
//! An overlay's upper directory has all that is new and a mark for all that is gone, so only that is walked through. Where
//! the snapshotter has no such thing, or the overlay uses features that only the kernel can follow, the container's files
//! and the image's are compared one by one, as dockerd does always (moby `daemon/containerd/image_changes.go`). The
//! changes are handed on in batches while the walk goes on, so memory is bounded and a reader that leaves ends the walk.

mod trees;
mod walk;

use containerd::Mount;
use futures_core::Stream;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::snapshot_view::SnapshotView;
use crate::waiting::try_blocking;
use crate::{Engine, Error, Result};
use trees::Trees;

/// Batches that wait for a slow reader.
const QUEUE: usize = 16;

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another one, or something in it is.
    Modified,
    /// The image does not have it.
    Added,
    /// Only the image has it.
    Deleted,
}

/// One path that differs from the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// In the container, from `/`.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// Some changes, never none, or why there are no more.
pub type ChangeBatch = Result<Vec<Change>>;

impl Engine {
    /// What differs from the image: directories before what is in them, names in order.
    ///
    /// # Errors
    /// As [`Engine::resolve_container`]; containerd's; [`Error::Failed`] for file systems that cannot be compared. Trouble
    /// on the way is an error in the stream.
    pub async fn container_changes(
        &self,
        typed: &str,
    ) -> Result<impl Stream<Item = ChangeBatch> + Send + use<>> {
        let container = self.resolve_container(typed).await?;
        let id = container.id.clone();
        let leave = self.transfer().await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        if !container.snapshotter.is_empty() && !container.snapshot_key.is_empty() {
            let (trees, view) =
                self.trees(&container.snapshotter, &container.snapshot_key, id.as_str()).await?;
            let walked = tokio::task::spawn_blocking(move || {
                let _leave = leave;
                let failed = |error| {
                    Error::failed(format!("walk through the files of container {id}"), error)
                };
                if let Err(error) = walk::walk(&trees, &sender) {
                    // Whoever asked may have left.
                    let _ = sender.blocking_send(Err(failed(error)));
                }
            });
            self.supervisor().spawn_operation(async move {
                // A panic is in the log; its reader sees an end.
                let _ = walked.await;
                if let Some(view) = view {
                    view.close().await;
                }
            });
        }
        Ok(stream::unfold(receiver, |mut receiver| async move {
            let batch = receiver.recv().await?;
            Some((batch, receiver))
        }))
    }

    /// The container's files and the image's, and what has to be closed afterwards.
    async fn trees(
        &self,
        snapshotter: &str,
        key: &str,
        id: &str,
    ) -> Result<(Trees, Option<SnapshotView>)> {
        let doing = || format!("find the root file system of container {id}");
        let failed = |error| self.containerd_error(doing(), error);
        let snapshots = self.containerd().snapshotter(snapshotter);
        let mounts = snapshots.mounts(key).await.map_err(failed)?;
        let layered = {
            let mounts = mounts.clone();
            try_blocking(doing(), move || Trees::layered(&mounts)).await?
        };
        if let Some(trees) = layered {
            return Ok((trees, None));
        }
        let parent = snapshots.stat(key).await.map_err(failed)?.parent;
        if parent.is_empty() {
            return Ok((try_blocking(doing(), move || Trees::whole(&mounts, &[])).await?, None));
        }
        let view = SnapshotView::open(self.containerd(), snapshotter, &parent)
            .await
            .map_err(|error| Error::failed(doing(), error))?;
        let image: Vec<Mount> = view.mounts().to_vec();
        match try_blocking(doing(), move || Trees::whole(&mounts, &image)).await {
            Ok(trees) => Ok((trees, Some(view))),
            Err(error) => {
                view.close().await;
                Err(error)
            }
        }
    }
}
