//! A read-only view of a snapshot, for as long as somebody looks through it.
//!
//! A lease protects it from the garbage collector, and ends by itself if we do not end it.

use std::time::{Duration, SystemTime};

use containerd::{Labels, Mount};

use crate::random;
use crate::repair::LEASE_MARK;

/// When the garbage collector may take a view that was not closed.
const LEASE: Duration = Duration::from_secs(10 * 60);

/// A view. To be closed; one that is dropped stays until its lease ends.
#[derive(Debug)]
pub(crate) struct SnapshotView {
    client: containerd::Client,
    snapshotter: String,
    name: String,
    mounts: Vec<Mount>,
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoView {
    /// containerd gives none.
    #[error(transparent)]
    Containerd(#[from] containerd::Error),
    /// It could not be given a name.
    #[error(transparent)]
    Name(#[from] crate::Error),
}

impl SnapshotView {
    /// Open a view of a committed snapshot.
    ///
    /// # Errors
    /// containerd's.
    pub(crate) async fn open(
        client: &containerd::Client,
        snapshotter: &str,
        parent: &str,
    ) -> Result<Self, NoView> {
        let name = format!("nerdctld-view-{:032x}", u128::from_ne_bytes(random::bytes()?));
        let mark = Labels::from([(LEASE_MARK.to_owned(), "view".to_owned())]);
        let end = SystemTime::now() + LEASE;
        client.create_lease(&name, mark, Some(end)).await?;
        let mut view = Self {
            client: client.clone(),
            snapshotter: snapshotter.to_owned(),
            name,
            mounts: Vec::new(),
        };
        let snapshots = client.with_lease(&view.name).snapshotter(snapshotter);
        match snapshots.view(&view.name, parent, Labels::new()).await {
            Ok(mounts) => {
                view.mounts = mounts;
                Ok(view)
            }
            Err(error) => {
                view.close().await;
                Err(error.into())
            }
        }
    }

    /// What has to be mounted, or looked through.
    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Give it back.
    pub(crate) async fn close(self) {
        let snapshots = self.client.with_lease(&self.name).snapshotter(&self.snapshotter);
        if let Err(error) = snapshots.remove(&self.name).await
            && !error.is_not_found()
        {
            tracing::warn!(view = self.name, %error, "a view of a snapshot stays until its lease ends");
        }
        if let Err(error) = self.client.delete_lease(&self.name, false).await {
            tracing::warn!(lease = self.name, %error, "a lease stays until it ends by itself");
        }
    }
}
