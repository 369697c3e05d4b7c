//! How an image came to be, step by step (moby `daemon/containerd/image_history.go`).

use jiff::Timestamp;
use names::Platform;
use serde::Deserialize;

use super::Descriptor;
use super::naming::repo_tags_and_digests;
use crate::{Engine, Error, Result};

/// Entries of a history that are read: far more than an image can have layers, far less than fit into a document.
const MAX_ENTRIES: usize = 10_000;

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image, where the step made one that is here; else empty.
    pub id: String,
    /// When.
    pub created: Option<Timestamp>,
    /// The instruction.
    pub created_by: String,
    /// Of who made it.
    pub comment: String,
    /// Bytes of its layer, unpacked; 0 without one.
    pub size: u64,
    /// Names of the image.
    pub tags: Vec<String>,
}

/// An entry of the config's history; `null` is as good as an absent key.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    history: Option<Vec<Entry>>,
}

impl Engine {
    /// The steps of an image, newest first, for one platform: the given one exactly, else the one that runs best here.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], [`Error::NoSuchImage`], [`Error::AmbiguousImage`]; [`Error::NoSuchPlatform`];
    /// [`Error::BadContent`] for a config that is none.
    pub async fn image_history(
        &self,
        typed: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<HistoryStep>> {
        let found = self.find_image(typed).await?;
        let target = Descriptor::from(found.record.target.clone());
        let no_platform = || Error::NoSuchPlatform {
            image: typed.to_owned(),
            platform: platform.cloned().unwrap_or_else(Platform::host).to_string(),
        };
        let image = self.runnable(&target, platform).await?.ok_or_else(no_platform)?;
        let digest = &image.manifest.config.digest;
        let bytes = self.read_document(digest).await?.ok_or_else(no_platform)?;
        let document: Document = serde_json::from_slice(&bytes)
            .map_err(|error| Error::BadContent(format!("invalid config {digest}: {error}")))?;
        let entries = document.history.unwrap_or_default();
        if entries.len() > MAX_ENTRIES {
            let count = entries.len();
            return Err(Error::BadContent(format!(
                "invalid config {digest}: a history of {count} entries, at most {MAX_ENTRIES} are read"
            )));
        }
        let mut chain = image.config.chain_ids.iter();
        let mut steps = Vec::new();
        for entry in entries {
            let layer = if entry.empty_layer == Some(true) { None } else { chain.next() };
            let size = match layer {
                Some(chain_id) => self.layer_size(chain_id).await,
                None => 0,
            };
            steps.push(HistoryStep {
                created: entry.created.and_then(|created| created.parse().ok()),
                created_by: entry.created_by.unwrap_or_default(),
                comment: entry.comment.unwrap_or_default(),
                size,
                ..HistoryStep::default()
            });
        }
        steps.reverse();
        if let Some(newest) = steps.first_mut() {
            let records = self.image_records(&target.digest).await?;
            newest.tags = repo_tags_and_digests(records.iter()).0;
            newest.id = target.digest;
        }
        Ok(steps)
    }

    /// Bytes of an unpacked layer; 0 if it is not there, or nobody knows.
    async fn layer_size(&self, chain_id: &str) -> u64 {
        if let Some(size) = self.image_cache().size(chain_id) {
            return size;
        }
        let snapshots = self.containerd().snapshotter(&self.settings().snapshotter);
        let Ok(usage) = snapshots.usage(chain_id).await else { return 0 };
        self.image_cache().keep_size(chain_id, usage.size);
        usage.size
    }
}
