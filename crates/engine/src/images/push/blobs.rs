//! Config and layers on their way to the registry, a few at a time, as they are read from the store.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use containerd::Client;
use futures_util::future::try_join_all;
use registry::{BlobSource, BlobStream, Cause, Delivery, Parcel, Repository};
use tokio::sync::Semaphore;

use super::Job;
use super::plan::{Plan, PlannedBlob, parsed};
use crate::images::documents::Kind;
use crate::images::parts::PartReader;
use crate::images::progress::{Progress, Throttle};
use crate::images::pull::layers::short;
use crate::images::remote::push_error;
use crate::images::{PushEvent, PushStatus};
use crate::{Error, Result, fault};

pub(super) async fn deliver(job: &Job<'_>, repository: &Repository, plan: &Plan) -> Result<()> {
    for blob in plan.blobs.iter().filter(|blob| is_shown(blob)) {
        job.progress.layer(short(&blob.descriptor.digest), PushStatus::Waiting).await;
    }
    let gate = Semaphore::new(job.engine.settings().transfer_limits.uploads.into());
    let deliveries = plan.blobs.iter().map(|blob| {
        let gate = &gate;
        async move {
            // Never closed.
            let _place = gate.acquire().await;
            deliver_one(job, repository, blob).await
        }
    });
    try_join_all(deliveries).await.map(drop)
}

async fn deliver_one(job: &Job<'_>, repository: &Repository, blob: &PlannedBlob) -> Result<()> {
    let descriptor = &blob.descriptor;
    let id = short(&descriptor.digest);
    let source = StoredBlob {
        client: job.engine.containerd().clone(),
        digest: descriptor.digest.clone(),
        total: descriptor.size,
        counts: is_shown(blob).then(|| (job.progress.clone(), id.to_owned())),
        throttle: Throttle::default(),
    };
    let parcel = Parcel {
        digest: parsed(&descriptor.digest)?,
        size: descriptor.size,
        mount_from: blob.mount_from.clone(),
        source: blob.present.then(|| Arc::new(source) as Arc<dyn BlobSource>),
    };
    let line = job.engine.image_cache().upload_line().await;
    let delivery = repository.deliver(&parcel).await;
    // The client may be slow to hear how it went; others can send meanwhile.
    drop(line);
    let delivery = delivery.map_err(|error| match error {
        registry::Error::Unreadable { source } => {
            Error::failed(format!("read {}", descriptor.digest), source)
        }
        other => push_error(other),
    })?;
    fault::reached("push.blob");
    let status = match delivery {
        Delivery::Existed if Kind::of(&descriptor.media_type) == Kind::Layer => {
            PushStatus::LayerAlreadyExists
        }
        Delivery::Existed => PushStatus::AlreadyExists,
        Delivery::Mounted(from) => PushStatus::MountedFrom(from),
        Delivery::Sent => PushStatus::Pushed,
        Delivery::Impossible => return Err(Error::ContentMissing(descriptor.digest.clone())),
    };
    if is_shown(blob) {
        job.progress.layer(id, status).await;
    }
    Ok(())
}

/// Configs are too small to be looked at (moby `daemon/containerd/progress.go`, `showBlobProgress`).
fn is_shown(blob: &PlannedBlob) -> bool {
    Kind::of(&blob.descriptor.media_type) != Kind::Config
}

/// A blob in containerd's store.
struct StoredBlob {
    client: Client,
    digest: String,
    total: u64,
    /// Who wants to know how far it is, and by which id.
    counts: Option<(Progress<PushEvent>, String)>,
    throttle: Throttle,
}

impl BlobSource for StoredBlob {
    fn open(
        &self,
        offset: u64,
    ) -> Pin<Box<dyn Future<Output = Result<BlobStream, Cause>> + Send + '_>> {
        Box::pin(async move {
            let reading = PartReader::open(&self.client, &self.digest, offset, self.total).await?;
            let pieces = futures_util::stream::try_unfold(reading, |mut reading| async move {
                let piece = reading.piece().await?;
                Ok::<_, Cause>(piece.map(|piece| (Bytes::from(piece), reading)))
            });
            Ok(Box::pin(pieces) as BlobStream)
        })
    }

    fn sent(&self, bytes: u64) {
        if let Some((progress, id)) = &self.counts
            && self.throttle.is_due()
        {
            let status = PushStatus::Pushing { current: bytes, total: self.total };
            progress.count(id, status);
        }
    }
}
