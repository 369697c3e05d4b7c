//! Layers into snapshots and out of them.

use std::collections::HashMap;

use containerd_client::services::v1::{ApplyRequest, DiffRequest};

use crate::call::Call;
use crate::{Client, Descriptor, Labels, Mount, Result};

/// A layer to be made from the difference of two file systems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateDiff {
    /// The file system before.
    pub left: Vec<Mount>,
    /// The file system after.
    pub right: Vec<Mount>,
    /// Media type of the layer; decides the compression. zstd needs containerd 1.7.
    pub media_type: String,
    /// Name of the upload; empty = containerd's choice.
    pub ingest: String,
    /// Labels for the blob, beside `containerd.io/uncompressed`.
    pub labels: Labels,
}

impl Client {
    /// Unpacks a layer into a mounted snapshot. The answer is the uncompressed layer, whose digest
    /// is the layer's diffID, computed while extracting. No deadline; drop to cancel.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] without the blob; [`crate::Kind::Unknown`] for a broken layer or a
    /// media type that no differ handles.
    pub async fn apply_diff(&self, layer: Descriptor, mounts: Vec<Mount>) -> Result<Descriptor> {
        let digest = layer.digest.clone();
        let call = Call::unlimited("unpack layer", &digest);
        let mut service = self.diff_service();
        let request = ApplyRequest {
            diff: Some(layer.into()),
            mounts: mounts.into_iter().map(Into::into).collect(),
            payloads: HashMap::new(),
            sync_fs: false,
        };
        let answer = self.unary(call, request, |request| service.apply(request)).await?;
        call.required(answer.applied, "layer").map(Into::into)
    }

    /// Makes a layer from the difference of two file systems. Its blob gets the label
    /// `containerd.io/uncompressed` with the diffID. No deadline; drop to cancel.
    ///
    /// # Errors
    /// [`crate::Kind::Unimplemented`] for a media type that no differ makes.
    pub async fn create_diff(&self, diff: CreateDiff) -> Result<Descriptor> {
        let call = Call::unlimited("make layer", "");
        let mut service = self.diff_service();
        let request = DiffRequest {
            left: diff.left.into_iter().map(Into::into).collect(),
            right: diff.right.into_iter().map(Into::into).collect(),
            media_type: diff.media_type,
            r#ref: diff.ingest,
            labels: diff.labels.into_iter().collect(),
            source_date_epoch: None,
        };
        let answer = self.unary(call, request, |request| service.diff(request)).await?;
        call.required(answer.diff, "layer").map(Into::into)
    }
}
