//! Removing single platforms of an image (moby `daemon/containerd/image_delete.go`, `deleteImagePlatforms`).
//!
//! The index stays, and with it the image's names and its other platforms. What only the platform's manifest kept goes with
//! containerd's next collection: content that another image has, or that somebody is just pulling, stays.

use std::collections::BTreeMap;

use names::Platform;

use super::Descriptor;
use super::Removed;
use super::facts::ImageFacts;
use super::lease::WorkLease;
use crate::containers::Container;
use crate::{Engine, Error, Result};

/// Labels of an index below this keep its manifests.
const KEEPS: &str = "containerd.io/gc.ref.content";

impl Engine {
    /// Removes the content of these platforms, and tells which manifests went. The content may belong to several names, so
    /// force is asked for.
    ///
    /// # Errors
    /// As [`Engine::remove_image`]; [`Error::NoSuchPlatform`]; [`Error::InvalidParameter`] without force, and for an image that
    /// has only one platform; [`Error::ImageInUse`] if a container runs it.
    pub async fn remove_image_platforms(
        &self,
        typed: &str,
        platforms: &[Platform],
        force: bool,
    ) -> Result<Vec<Removed>> {
        if !force {
            let text = "Content will be removed from all images referencing this variant. Use \u{2014}-force to force delete.";
            return Err(Error::InvalidParameter(text.to_owned()));
        }
        let digest = self.image_id_of(typed).await?;
        let _turn = self.image_turn(&digest).await;
        let found = self.find_image(typed).await?;
        let all = self.image_records(&digest).await?;
        self.check_removable(typed, &all).await?;
        let facts = self.image_facts(&Descriptor::from(found.record.target)).await?;
        let manifests = manifests_of(&facts, typed, platforms)?;
        if facts.indexes.is_empty() {
            return Err(Error::InvalidParameter(format!(
                "image {typed} has only one platform; remove the image instead"
            )));
        }
        self.check_users(typed, &manifests).await?;
        for (index, _) in &facts.indexes {
            self.let_go(index, &manifests).await?;
        }
        self.collect_now().await?;
        let mut removed = Vec::new();
        for manifest in manifests {
            match self.containerd().blob(&manifest).await {
                Ok(_) => tracing::info!(manifest, "another image or container keeps a manifest"),
                Err(error) if error.is_not_found() => removed.push(Removed::Deleted(manifest)),
                Err(error) => {
                    return Err(self.containerd_error(format!("look for {manifest}"), error));
                }
            }
        }
        self.image_cache().changed();
        Ok(removed)
    }

    /// A container that was made of one of the manifests needs it.
    async fn check_users(&self, typed: &str, manifests: &[String]) -> Result<()> {
        let containers = self.inventory().loaded().await?;
        let uses = |container: &Container| {
            container.image_manifest.as_ref().is_some_and(|of| manifests.contains(&of.digest))
        };
        let user = containers.entries().find(|entry| uses(&entry.container));
        user.map_or(Ok(()), |user| {
            let id = user.container.id.as_str();
            Err(Error::ImageInUse {
                image: typed.to_owned(),
                force: "cannot be forced",
                reason: format!("image is being used by container {}", id.get(..12).unwrap_or(id)),
            })
        })
    }

    /// An index keeps these manifests no more.
    async fn let_go(&self, index: &str, manifests: &[String]) -> Result<()> {
        let failed = |error| self.containerd_error(format!("change what {index} keeps"), error);
        let blob = self.containerd().blob(index).await.map_err(failed)?;
        let going = blob
            .labels
            .into_iter()
            .filter(|(key, value)| key.starts_with(KEEPS) && manifests.contains(value));
        let patch: BTreeMap<_, _> = going.map(|(key, _)| (key, None)).collect();
        self.containerd().update_blob_labels(index, patch).await.map(drop).map_err(failed)
    }

    /// Waits for containerd's garbage collector: it runs at the end of a lease.
    pub(super) async fn collect_now(&self) -> Result<()> {
        WorkLease::begin(self, "remove").await?.abandon().await;
        Ok(())
    }
}

/// Digests of the platforms' manifests.
fn manifests_of(facts: &ImageFacts, typed: &str, platforms: &[Platform]) -> Result<Vec<String>> {
    let mut digests = Vec::new();
    for platform in platforms {
        let best = facts.best(Some(platform)).ok_or_else(|| Error::NoSuchPlatform {
            image: typed.to_owned(),
            platform: platform.to_string(),
        })?;
        digests.push(best.descriptor.digest.clone());
    }
    Ok(digests)
}
