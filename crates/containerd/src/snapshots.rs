//! Snapshots: layered file systems.
//!
//! A committed snapshot is a read-only layer on its parents, an active one is writable on top of a
//! committed one, a view is a read-only active one.

use std::collections::BTreeMap;
use std::time::SystemTime;

use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, Info, Kind as WireKind, ListSnapshotsRequest, MountsRequest,
    PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest,
    UsageRequest, ViewSnapshotRequest,
};
use containerd_client::types;

use crate::call::Call;
use crate::{Client, Labels, Mount, Result, wire};

/// One snapshotter of a containerd, in the client's namespace and under its lease.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    client: Client,
    name: String,
}

/// What containerd knows about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its key; for committed ones usually a chain id.
    pub name: String,
    /// Key of the layer below; empty at the bottom.
    pub parent: String,
    /// What can be done with it.
    pub kind: SnapshotKind,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
    /// Labels.
    pub labels: Labels,
}

/// What can be done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotKind {
    /// A kind that we do not know.
    Unknown,
    /// Read-only, to look at.
    View,
    /// Writable.
    Active,
    /// Finished, can have children.
    Committed,
}

/// Space taken by a snapshot itself, without its parents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub size: u64,
    /// Files and directories.
    pub inodes: u64,
}

impl Client {
    /// A snapshotter by its plugin name, as `overlayfs`.
    #[must_use]
    pub fn snapshotter(&self, name: &str) -> Snapshotter {
        Snapshotter { client: self.clone(), name: name.to_owned() }
    }
}

impl Snapshotter {
    /// Its plugin name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a writable snapshot on a committed one (on nothing if `parent` is empty) and gives
    /// its mounts. Without a lease or a container record that names it, the garbage collector takes
    /// it.
    ///
    /// # Errors
    /// [`crate::Kind::AlreadyExists`], also when the label `containerd.io/snapshot.ref` names a
    /// layer that is there; [`crate::Kind::NotFound`] without the parent;
    /// [`crate::Kind::InvalidArgument`] without the snapshotter.
    pub async fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let mut service = self.client.snapshots_service();
        let request = PrepareSnapshotRequest {
            snapshotter: self.name.clone(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels.into_iter().collect(),
        };
        let call = Call::long("prepare snapshot", key);
        let answer = self.client.unary(call, request, |request| service.prepare(request)).await?;
        Ok(own_mounts(answer.mounts))
    }

    /// Makes a read-only snapshot on a committed one and gives its mounts.
    ///
    /// # Errors
    /// As [`Snapshotter::prepare`].
    pub async fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let mut service = self.client.snapshots_service();
        let request = ViewSnapshotRequest {
            snapshotter: self.name.clone(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels.into_iter().collect(),
        };
        let call = Call::long("view snapshot", key);
        let answer = self.client.unary(call, request, |request| service.view(request)).await?;
        Ok(own_mounts(answer.mounts))
    }

    /// The mounts of an active snapshot or view.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let mut service = self.client.snapshots_service();
        let request = MountsRequest { snapshotter: self.name.clone(), key: key.to_owned() };
        let call = Call::short("get mounts of snapshot", key);
        let answer = self.client.unary(call, request, |request| service.mounts(request)).await?;
        Ok(own_mounts(answer.mounts))
    }

    /// Turns an active snapshot into a committed one under a new name. Of the labels given at
    /// `prepare` only those below `containerd.io/snapshot` stay.
    ///
    /// # Errors
    /// [`crate::Kind::AlreadyExists`] when the name is taken: somebody else was first, remove
    /// yours.
    pub async fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        let mut service = self.client.snapshots_service();
        let request = CommitSnapshotRequest {
            snapshotter: self.name.clone(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: labels.into_iter().collect(),
        };
        let call = Call::long("commit snapshot", name);
        self.client.unary(call, request, |request| service.commit(request)).await
    }

    /// Removes a snapshot, even if it is mounted.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::FailedPrecondition`] if it has children.
    pub async fn remove(&self, key: &str) -> Result<()> {
        let mut service = self.client.snapshots_service();
        let request = RemoveSnapshotRequest { snapshotter: self.name.clone(), key: key.to_owned() };
        let call = Call::long("remove snapshot", key);
        self.client.unary(call, request, |request| service.remove(request)).await
    }

    /// What containerd knows about a snapshot.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn stat(&self, key: &str) -> Result<Snapshot> {
        let mut service = self.client.snapshots_service();
        let request = StatSnapshotRequest { snapshotter: self.name.clone(), key: key.to_owned() };
        let call = Call::short("stat snapshot", key);
        let answer = self.client.unary(call, request, |request| service.stat(request)).await?;
        call.required(answer.info, "info").map(Into::into)
    }

    /// Space taken: a stored number for a committed snapshot, a walk over its files for an active
    /// one.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`], also from remote snapshotters that do not know.
    pub async fn usage(&self, key: &str) -> Result<Usage> {
        let mut service = self.client.snapshots_service();
        let request = UsageRequest { snapshotter: self.name.clone(), key: key.to_owned() };
        let call = Call::list("measure snapshot", key);
        let answer = self.client.unary(call, request, |request| service.usage(request)).await?;
        Ok(Usage { size: wire::unsigned(answer.size), inodes: wire::unsigned(answer.inodes) })
    }

    /// All snapshots that match one of the filters (all without filters). Fields: `name`,
    /// `parent`, `kind`, `labels."key"`.
    ///
    /// # Errors
    /// [`crate::Kind::InvalidArgument`] for a filter that is none, or without the snapshotter.
    pub async fn list(&self, filters: &[&str]) -> Result<Vec<Snapshot>> {
        let mut service = self.client.snapshots_service();
        let request = ListSnapshotsRequest {
            snapshotter: self.name.clone(),
            filters: wire::filters(filters),
        };
        let call = Call::list("list snapshots of", &self.name);
        let mut parts = self.client.unary(call, request, |request| service.list(request)).await?;
        let mut snapshots = Vec::new();
        while let Some(part) = call.finish(parts.message()).await? {
            snapshots.extend(part.info.into_iter().map(Snapshot::from));
        }
        Ok(snapshots)
    }

    /// Sets labels, or removes those that are `None`.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn update_labels(
        &self,
        key: &str,
        patch: BTreeMap<String, Option<String>>,
    ) -> Result<Snapshot> {
        if patch.is_empty() {
            // An empty mask means "replace everything" to containerd.
            return self.stat(key).await;
        }
        let mut service = self.client.snapshots_service();
        let (labels, paths) = wire::label_patch(patch);
        let request = UpdateSnapshotRequest {
            snapshotter: self.name.clone(),
            info: Some(Info { name: key.to_owned(), labels, ..Info::default() }),
            update_mask: Some(wire::mask(paths)),
        };
        let call = Call::short("label snapshot", key);
        let answer = self.client.unary(call, request, |request| service.update(request)).await?;
        call.required(answer.info, "info").map(Into::into)
    }
}

fn own_mounts(mounts: Vec<types::Mount>) -> Vec<Mount> {
    mounts.into_iter().map(Into::into).collect()
}

impl From<Info> for Snapshot {
    fn from(info: Info) -> Self {
        Self {
            kind: info.kind().into(),
            name: info.name,
            parent: info.parent,
            created_at: wire::recorded_instant(info.created_at),
            updated_at: wire::recorded_instant(info.updated_at),
            labels: wire::sorted(info.labels),
        }
    }
}

impl From<WireKind> for SnapshotKind {
    fn from(kind: WireKind) -> Self {
        match kind {
            WireKind::Unknown => Self::Unknown,
            WireKind::View => Self::View,
            WireKind::Active => Self::Active,
            WireKind::Committed => Self::Committed,
        }
    }
}
