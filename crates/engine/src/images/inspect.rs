//! Inspecting one image (moby `daemon/containerd/image_inspect.go`).

use containerd::images::Image;
use jiff::Timestamp;
use names::Platform;

use super::list::summary;
use super::make::PARENT;
use super::manifests::manifests;
use super::sources::repositories;
use super::{Descriptor, ImageDetails};
use crate::{Engine, Error, Result};

impl Engine {
    /// Everything about one image, for one platform: the given one exactly, else the one that runs best here, else any;
    /// with all its manifests if they are asked for.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], [`Error::NoSuchImage`], [`Error::AmbiguousImage`]; [`Error::NoSuchPlatform`] only if a
    /// platform was given.
    pub async fn inspect_image(
        &self,
        typed: &str,
        platform: Option<&Platform>,
        with_manifests: bool,
    ) -> Result<ImageDetails> {
        let found = self.find_image(typed).await?;
        let records = self.image_records(&found.record.target.digest).await?;
        if records.is_empty() {
            // Removed between the two calls.
            return Err(Error::NoSuchImage(found.selector.to_string()));
        }
        let target = Descriptor::from(found.record.target.clone());
        let facts = self.image_facts(&target).await?;
        let best = facts.best(platform);
        if let (None, Some(platform)) = (best, platform) {
            return Err(Error::NoSuchPlatform {
                image: typed.to_owned(),
                platform: platform.to_string(),
            });
        }
        let containers = self.inventory().loaded().await?;
        let mut summary = summary(&records.iter().collect::<Vec<_>>(), &facts, &containers);
        summary.manifests = with_manifests.then(|| manifests(&facts, &containers));
        let mut details = ImageDetails {
            config_json: Vec::new(),
            diff_ids: Vec::new(),
            last_tag_time: last_tag_time(&records),
            snapshotter: self.settings().snapshotter.clone(),
            parent: records
                .iter()
                .find_map(|record| record.labels.get(PARENT))
                .cloned()
                .unwrap_or_default(),
            pulled_from: self.pulled_from(&target.digest).await?,
            summary: summary.clone(),
        };
        if let Some(best) = best {
            summary.size = best.size();
            if let Some(config) = best.config.as_deref() {
                summary.created = config.created;
                summary.labels.clone_from(&config.labels);
                details.diff_ids.clone_from(&config.diff_ids);
            }
            if platform.is_some() {
                summary.id.clone_from(&best.descriptor.digest);
                summary.target = best.descriptor.clone();
            }
            details.config_json =
                self.read_document(&best.config_digest).await?.unwrap_or_default();
            details.summary = summary;
        }
        Ok(details)
    }

    /// The repositories that are known to have the image (moby `daemon/containerd/image_identity.go`).
    async fn pulled_from(&self, digest: &str) -> Result<Vec<String>> {
        match self.containerd().blob(digest).await {
            Ok(blob) => Ok(repositories(&blob.labels)),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(self.containerd_error(format!("look for {digest}"), error)),
        }
    }
}

fn last_tag_time(records: &[Image]) -> Option<Timestamp> {
    records.iter().filter_map(|record| Timestamp::try_from(record.updated_at).ok()).max()
}
