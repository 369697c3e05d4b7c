//! From what a user typed to an image: a name, a digest or the start of an id.

use std::collections::HashSet;
use std::sync::Arc;

use containerd::images::Image;
use names::{ImageRef, ImageSelector, Platform};

use super::cache::Document;
use super::documents::{Config, Index, Manifest, image_config};
use super::naming::reference_of;
use super::pull::is_attestation;
use super::{Descriptor, ResolvedImage};
use crate::{Engine, Error, Result};

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;

/// What was found for what was typed.
#[derive(Debug)]
pub(crate) struct Found {
    /// What was typed.
    pub(crate) selector: ImageSelector,
    /// The record of that name; without one the first of the image.
    pub(crate) record: Image,
    /// It was found by its name, not by id or digest.
    pub(crate) by_name: bool,
}

/// One platform of an image, with the documents to run it.
#[derive(Debug)]
pub(crate) struct Runnable {
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) config: Arc<Config>,
}

impl Engine {
    /// The image that a container is to be made of: found, for the right platform, unpacked.
    ///
    /// Without a platform it is the one that runs best here, else any that is there.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], [`Error::NoSuchImage`], [`Error::AmbiguousImage`], [`Error::NoSuchPlatform`];
    /// [`Error::BadContent`] if it cannot be unpacked.
    pub async fn image_for_create(
        &self,
        typed: &str,
        platform: Option<&Platform>,
    ) -> Result<ResolvedImage> {
        let found = self.find_image(typed).await?;
        let target = Descriptor::from(found.record.target.clone());
        let runnable = self.runnable(&target, platform).await?;
        let runnable = runnable.ok_or_else(|| Error::NoSuchPlatform {
            image: found.selector.to_string(),
            platform: platform.cloned().unwrap_or_else(Platform::host).to_string(),
        })?;
        self.ensure_unpacked(&runnable).await?;
        let config_digest = &runnable.manifest.config.digest;
        let bytes = self.read_document(config_digest).await?;
        let bytes = bytes.ok_or_else(|| Error::NoSuchImage(found.selector.to_string()))?;
        Ok(ResolvedImage {
            name: found.record.name,
            id: target.digest,
            manifest: runnable.descriptor,
            platform: runnable.config.platform.clone(),
            config: image_config(config_digest, &bytes)?,
            chain_id: runnable.config.chain_ids.last().cloned().unwrap_or_default(),
        })
    }

    /// The id (target digest) of the image that a user means.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], [`Error::NoSuchImage`], [`Error::AmbiguousImage`].
    pub(crate) async fn image_id_of(&self, typed: &str) -> Result<String> {
        Ok(self.find_image(typed).await?.record.target.digest)
    }

    /// The record that a user means (moby `daemon/containerd/image.go`, `resolveImage`).
    pub(crate) async fn find_image(&self, typed: &str) -> Result<Found> {
        let selector: ImageSelector = typed
            .parse()
            .map_err(|error: names::InvalidImageRef| Error::InvalidReference(error.to_string()))?;
        if let Some(reference) = selector.reference().cloned()
            && let Some(record) = self.find_by_reference(typed, &reference).await?
        {
            return Ok(Found { selector, record, by_name: true });
        }
        if let Some(prefix) = selector.id_prefix()
            && let Some(record) = self.find_by_id(typed, prefix).await?
        {
            return Ok(Found { selector, record, by_name: false });
        }
        Err(Error::NoSuchImage(selector.to_string()))
    }

    async fn find_by_reference(&self, typed: &str, reference: &ImageRef) -> Result<Option<Image>> {
        let full = reference.to_string();
        // Anybody can give any name to any image; one with a digest means only what it says.
        let is_meant = |image: &Image| {
            reference.digest().is_none_or(|digest| digest.as_str() == image.target.digest)
        };
        if let Some(image) = self.image_named(&full).await?.filter(is_meant) {
            return Ok(Some(image));
        }
        if let Some(digest) = reference.digest() {
            let same = self.image_records(digest.as_str()).await?;
            let repository = reference.repository();
            return Ok(same
                .into_iter()
                .find(|image| repository_of(image).as_deref() == Some(repository.as_str())));
        }
        // `ctr` writes names as they were typed.
        if typed == full { Ok(None) } else { self.image_named(typed).await }
    }

    async fn image_named(&self, name: &str) -> Result<Option<Image>> {
        match self.containerd().get_image(name).await {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.containerd_error(format!("look for image {name}"), error)),
        }
    }

    async fn find_by_id(&self, typed: &str, prefix: &str) -> Result<Option<Image>> {
        // Only hex digits, so nothing needs to be escaped.
        let filter = format!("target.digest~=\"^sha256:{prefix}\"");
        let listed = self.containerd().list_images(&[&filter]).await;
        let matching = listed
            .map_err(|error| self.containerd_error(format!("look for image {typed}"), error))?;
        let first = matching.first().map(|image| image.target.digest.clone());
        if matching.iter().any(|image| Some(&image.target.digest) != first.as_ref()) {
            return Err(Error::AmbiguousImage(typed.to_owned()));
        }
        // One with a name says more than one without.
        let named = matching.iter().position(|image| reference_of(image).is_some()).unwrap_or(0);
        Ok(matching.into_iter().nth(named))
    }

    /// The platform to run, with its documents, if they are here. Exactly the one that is wanted; without a wish the one
    /// that runs best, else any.
    pub(crate) async fn runnable(
        &self,
        target: &Descriptor,
        wanted: Option<&Platform>,
    ) -> Result<Option<Runnable>> {
        let host = Platform::host();
        let mut best: Option<(usize, Runnable)> = None;
        let mut todo = vec![(target.clone(), 0)];
        let mut seen = HashSet::new();
        while let Some((descriptor, depth)) = todo.pop() {
            if !seen.insert(descriptor.entry()) {
                continue;
            }
            let manifest = match self.document(&descriptor).await? {
                Some(Document::Index(index)) if depth < MAX_DEPTH => {
                    todo.extend(entries(&index).map(|entry| (entry, depth + 1)));
                    continue;
                }
                Some(Document::Manifest(manifest)) if manifest.is_image() => manifest,
                _ => continue,
            };
            let Some(config) = self.config(&manifest.config).await? else { continue };
            let platform = descriptor.platform.as_ref().unwrap_or(&config.platform);
            let rank = match wanted {
                Some(wanted) if wanted.strictly_matches(platform) => 0,
                Some(_) => continue,
                None => host.rank(platform).unwrap_or(usize::MAX),
            };
            if best.as_ref().is_none_or(|(known, _)| rank < *known) {
                best = Some((rank, Runnable { descriptor, manifest, config }));
            }
        }
        Ok(best.map(|(_, runnable)| runnable))
    }
}

/// The images of an index, last first: they go on a stack.
fn entries(index: &Index) -> impl Iterator<Item = Descriptor> {
    index.manifests.iter().rev().filter(|entry| !is_attestation(entry)).cloned()
}

/// The repository of a record, whatever else its name says.
fn repository_of(image: &Image) -> Option<String> {
    Some(image.name.parse::<ImageRef>().ok()?.repository())
}
