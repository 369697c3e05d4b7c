//! Work on images that leaves nothing behind unless it succeeds.
//!
//! While an image is pulled or unpacked, only a lease protects what is there already. The lease ends
//! with the work: at once when it succeeded, with everything it held when it failed, and by the
//! supervisor when the future that did the work was dropped. After a crash the next start finds the
//! lease by its mark; if nobody does, it ends after a day.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use containerd::content::{Committed, Ingest, NewIngest};
use containerd::leases::Resource;
use containerd::{Client, Labels};

use super::documents::digest_of;
use super::turns::Turn;
use crate::repair::LEASE_MARK;
use crate::{Engine, Result, random};

/// As long as Go's client leases (containerd `lease.go`): longer than any pull.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Tries to clean up while containerd is away, and the pause between them.
const CLEANUP_TRIES: u32 = 20;

/// A lease, and the uploads begun under it.
#[derive(Debug)]
pub(crate) struct WorkLease {
    engine: Engine,
    id: String,
    client: Client,
    uploads: Uploads,
    /// Layers could not be unpacked.
    broken: Arc<AtomicBool>,
    /// Something is to be cleaned up when this is dropped.
    armed: bool,
}

/// Uploads that are under way; each keeps its turn until it is stored or thrown away, so that nobody
/// of us begins it anew while it is being thrown away.
type Uploads = Arc<Mutex<HashMap<String, Turn>>>;

impl WorkLease {
    /// A new lease; `purpose` (`pull`) is its mark.
    pub(crate) async fn begin(engine: &Engine, purpose: &str) -> Result<Self> {
        Self::begin_with(engine, purpose, Labels::new()).await
    }

    /// The same with further labels for whoever finds the lease after a crash.
    pub(crate) async fn begin_with(
        engine: &Engine,
        purpose: &str,
        mut mark: Labels,
    ) -> Result<Self> {
        let id = format!("nerdctld-{purpose}-{:032x}", u128::from_ne_bytes(random::bytes()?));
        let client = engine.containerd().with_lease(&id);
        // Armed before the call: it may be dropped when containerd has already made the lease.
        let lease = Self {
            engine: engine.clone(),
            id,
            client,
            uploads: Uploads::default(),
            broken: Arc::default(),
            armed: true,
        };
        mark.insert(LEASE_MARK.to_owned(), purpose.to_owned());
        let made =
            engine.containerd().create_lease(&lease.id, mark, Some(SystemTime::now() + LIFE)).await;
        match made {
            Ok(_) => Ok(lease),
            Err(error) => {
                lease.disarm();
                Err(engine.containerd_error("protect an image's content", error))
            }
        }
    }

    /// containerd under the lease.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Keeps a blob, be it there or still to come. Whoever looks for it afterwards and finds it has it.
    pub(crate) async fn hold(&self, digest: &str) -> containerd::Result<()> {
        self.hold_resource("content".to_owned(), digest).await
    }

    /// Keeps a snapshot, and so all that it stands on, in the same way.
    pub(crate) async fn hold_snapshot(
        &self,
        snapshotter: &str,
        key: &str,
    ) -> containerd::Result<()> {
        self.hold_resource(format!("snapshots/{snapshotter}"), key).await
    }

    async fn hold_resource(&self, kind: String, id: &str) -> containerd::Result<()> {
        let resource = Resource { kind, id: id.to_owned() };
        self.engine.containerd().add_lease_resource(&self.id, resource).await
    }

    /// The right to upload `name`, among us.
    pub(crate) async fn upload_turn(&self, name: &str) -> Option<Turn> {
        Some(self.engine.image_cache().turns().take(name).await)
    }

    /// Opens an upload, with its turn unless that was given before. It is thrown away with the lease unless it is stored
    /// first; but not while another client has it and we only wait.
    pub(crate) async fn open(
        &self,
        new: NewIngest,
        turn: &mut Option<Turn>,
    ) -> containerd::Result<Ingest> {
        let name = new.name.clone();
        let ingest = self.client.open_ingest(new).await?;
        if let (Ingest::Open(_), Some(turn)) = (&ingest, turn.take()) {
            lock(&self.uploads).insert(name, turn);
        }
        Ok(ingest)
    }

    /// Stores a blob that is in memory.
    pub(crate) async fn write_blob(
        &self,
        new: NewIngest,
        bytes: &[u8],
        labels: Labels,
    ) -> containerd::Result<Committed> {
        let name = new.name.clone();
        let mut turn = self.upload_turn(&name).await;
        let Ingest::Open(writer) = self.open(new, &mut turn).await? else {
            return Ok(Committed::AlreadyExists);
        };
        let committed = writer.finish(bytes, labels).await?;
        if committed == Committed::AlreadyExists {
            // Somebody else's, stored since: containerd does not put that under the lease.
            self.hold(&digest_of(bytes)).await?;
        }
        self.uploaded(&name);
        Ok(committed)
    }

    /// A layer could not be unpacked, perhaps because it is more than the disk holds.
    pub(crate) fn unpacking_failed(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// The upload `name` is stored, or somebody else's.
    pub(crate) fn uploaded(&self, name: &str) {
        lock(&self.uploads).remove(name);
    }

    /// The work succeeded: an image record protects what was made.
    pub(crate) async fn finish(mut self) {
        self.armed = false;
        let (client, id) = (self.engine.containerd().clone(), self.id.clone());
        let end = async move {
            if let Err(error) = client.delete_lease(&id, false).await {
                tracing::warn!(lease = id, %error, "a lease could not be ended; it ends by itself within a day");
            }
        };
        // Even if the client leaves during it.
        let _ = self.engine.supervisor().detached(end).await;
    }

    /// The work failed: what it made goes before the error is told.
    pub(crate) async fn abandon(mut self) {
        let cleanup = self.cleanup();
        self.armed = false;
        // Even if the client leaves during it.
        let _ = self.engine.supervisor().detached(cleanup).await;
    }

    fn disarm(mut self) {
        self.armed = false;
    }

    fn cleanup(&self) -> impl Future<Output = ()> + Send + 'static {
        let (client, id) = (self.engine.containerd().clone(), self.id.clone());
        let uploads: Vec<_> = lock(&self.uploads).drain().collect();
        let snapshotter = self.engine.settings().snapshotter.clone();
        let broken = Arc::clone(&self.broken);
        async move {
            for (name, turn) in uploads {
                persistently("throw an upload away", || client.abort_ingest(&name)).await;
                drop(turn);
            }
            // Synchronous: half-unpacked layers are gone when this returns.
            persistently("end a lease", || client.delete_lease(&id, true)).await;
            if broken.load(Ordering::Relaxed) {
                sweep(&client, &snapshotter, &id).await;
            }
        }
    }
}

impl Drop for WorkLease {
    fn drop(&mut self) {
        if self.armed {
            tracing::info!(lease = self.id, "work on an image was cancelled");
            self.engine.supervisor().spawn_operation(self.cleanup());
        }
    }
}

/// Lets containerd clean its snapshotter once more. It does so when something was removed there, and not again where the
/// disk was too full for the snapshotter to note what it removes: half a layer would take that space until some other day.
/// By now the layers' blobs are gone, and there is a little room.
async fn sweep(client: &Client, snapshotter: &str, id: &str) {
    let snapshots = client.snapshotter(snapshotter);
    let key = format!("{id}-sweep");
    let swept = match snapshots.prepare(&key, "", Labels::new()).await {
        Ok(_) => snapshots.remove(&key).await,
        Err(error) => Err(error),
    };
    match swept {
        Err(error) if !error.is_not_found() => {
            tracing::warn!(%error, "half-unpacked layers may take up space until something else is removed");
        }
        _ => {}
    }
}

/// Tries again while containerd is away; what is gone already is done.
async fn persistently<F, Fut>(what: &str, step: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = containerd::Result<()>>,
{
    for _ in 0..CLEANUP_TRIES {
        match step().await {
            Ok(()) => return,
            Err(error) if error.is_not_found() => return,
            Err(error) if error.is_unavailable() => tokio::time::sleep(Engine::RETRY).await,
            Err(error) => {
                tracing::warn!(%error, "could not {what}");
                return;
            }
        }
    }
    tracing::warn!("could not {what}: containerd does not answer");
}

fn lock(uploads: &Uploads) -> std::sync::MutexGuard<'_, HashMap<String, Turn>> {
    uploads.lock().unwrap_or_else(PoisonError::into_inner)
}
