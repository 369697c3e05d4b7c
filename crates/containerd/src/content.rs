//! Content: blobs by digest, and uploads by name.
//!
//! An upload (containerd: ingest) has a name of its own, the ref. It survives its connection: whoever
//! opens the same name again goes on where it stopped. One client at a time can hold it. Use the
//! names that other clients use for the same blob (`layer-sha256:…`), then two pulls of one layer
//! share one download (containerd `remotes/handlers.go`, `MakeRefKey`).

mod reader;
mod writer;

use std::collections::BTreeMap;
use std::time::SystemTime;

use containerd_client::services::v1::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, ListContentRequest, ListStatusesRequest,
    Status as WireStatus, StatusRequest, UpdateRequest,
};

pub use self::reader::BlobReader;
pub use self::writer::{Committed, Ingest, NewIngest, Writer};
use crate::call::Call;
use crate::{Client, Labels, Result, wire};

/// What containerd knows about a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// `algorithm:hex`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub created_at: SystemTime,
    /// When its labels were last changed; the epoch in lists, which leave it out.
    pub updated_at: SystemTime,
    /// Labels; those below `containerd.io/gc.ref.` are what it keeps alive.
    pub labels: Labels,
}

/// An unfinished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestStatus {
    /// Its name.
    pub name: String,
    /// Bytes written so far.
    pub offset: u64,
    /// Bytes in the end; 0 = not known.
    pub total: u64,
    /// Digest in the end; empty = not known.
    pub expected: String,
    /// When it began.
    pub started_at: SystemTime,
    /// When it was last written to.
    pub updated_at: SystemTime,
}

impl Client {
    /// What containerd knows about a blob.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn blob(&self, digest: &str) -> Result<Blob> {
        let mut service = self.content_service();
        let call = Call::short("get blob", digest);
        let request = InfoRequest { digest: digest.to_owned() };
        let answer = self.unary(call, request, |request| service.info(request)).await?;
        call.required(answer.info, "info").map(Into::into)
    }

    /// All blobs that match one of the filters (all without filters). Fields: `digest`, `size`,
    /// `labels."key"`.
    ///
    /// # Errors
    /// [`crate::Kind::InvalidArgument`] for a filter that is none.
    pub async fn list_blobs(&self, filters: &[&str]) -> Result<Vec<Blob>> {
        let mut service = self.content_service();
        let call = Call::list("list blobs", "");
        let request = ListContentRequest { filters: wire::filters(filters) };
        let mut parts = self.unary(call, request, |request| service.list(request)).await?;
        let mut blobs = Vec::new();
        while let Some(part) = call.finish(parts.message()).await? {
            blobs.extend(part.info.into_iter().map(Blob::from));
        }
        Ok(blobs)
    }

    /// Sets labels of a blob, or removes those that are `None`.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::InvalidArgument`] for a label over 4096 bytes.
    pub async fn update_blob_labels(
        &self,
        digest: &str,
        patch: BTreeMap<String, Option<String>>,
    ) -> Result<Blob> {
        if patch.is_empty() {
            // An empty mask means "replace everything" to containerd.
            return self.blob(digest).await;
        }
        let mut service = self.content_service();
        let call = Call::short("label blob", digest);
        let (labels, paths) = wire::label_patch(patch);
        let request = UpdateRequest {
            info: Some(Info { digest: digest.to_owned(), labels, ..Info::default() }),
            update_mask: Some(wire::mask(paths)),
        };
        let answer = self.unary(call, request, |request| service.update(request)).await?;
        call.required(answer.info, "info").map(Into::into)
    }

    /// Deletes a blob, whoever refers to it.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn delete_blob(&self, digest: &str) -> Result<()> {
        let mut service = self.content_service();
        let request = DeleteContentRequest { digest: digest.to_owned() };
        self.unary(Call::short("delete blob", digest), request, |request| service.delete(request))
            .await
    }

    /// An unfinished upload.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn ingest(&self, name: &str) -> Result<IngestStatus> {
        let mut service = self.content_service();
        let call = Call::short("get upload", name);
        let request = StatusRequest { r#ref: name.to_owned() };
        let answer = self.unary(call, request, |request| service.status(request)).await?;
        call.required(answer.status, "status").map(Into::into)
    }

    /// All unfinished uploads that match one of the filters (all without filters). Field: `ref`.
    ///
    /// # Errors
    /// [`crate::Kind::InvalidArgument`] for a filter that is none.
    pub async fn list_ingests(&self, filters: &[&str]) -> Result<Vec<IngestStatus>> {
        let mut service = self.content_service();
        let call = Call::list("list uploads", "");
        let request = ListStatusesRequest { filters: wire::filters(filters) };
        let answer = self.unary(call, request, |request| service.list_statuses(request)).await?;
        Ok(answer.statuses.into_iter().map(Into::into).collect())
    }

    /// Throws an unfinished upload away.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn abort_ingest(&self, name: &str) -> Result<()> {
        let mut service = self.content_service();
        let request = AbortRequest { r#ref: name.to_owned() };
        self.unary(Call::short("abort upload", name), request, |request| service.abort(request))
            .await
    }
}

impl From<Info> for Blob {
    fn from(info: Info) -> Self {
        Self {
            digest: info.digest,
            size: wire::unsigned(info.size),
            created_at: wire::recorded_instant(info.created_at),
            updated_at: wire::recorded_instant(info.updated_at),
            labels: wire::sorted(info.labels),
        }
    }
}

impl From<WireStatus> for IngestStatus {
    fn from(status: WireStatus) -> Self {
        Self {
            name: status.r#ref,
            offset: wire::unsigned(status.offset),
            total: wire::unsigned(status.total),
            expected: status.expected,
            started_at: wire::recorded_instant(status.started_at),
            updated_at: wire::recorded_instant(status.updated_at),
        }
    }
}
