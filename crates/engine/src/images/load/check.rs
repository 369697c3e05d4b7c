//! What an archive says of its images, compared with what is in the store.
//!
//! Sizes, types and links between documents must be true; digests were compared when the store took the blobs. What is
//! complete is labelled, so that it stays as long as its image.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use containerd::Labels;
use names::Platform;
use serde::Deserialize;

use super::{Target, bad};
use crate::images::Descriptor;
use crate::images::documents::{Config, Index, Kind, MAX_DOCUMENT, Manifest};
use crate::images::lease::WorkLease;
use crate::images::pull::{index_labels, is_attestation, manifest_labels};
use crate::images::resolve::Runnable;
use crate::images::unpack::steps;
use crate::{Engine, Error, Result};

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;
/// Documents of one image that are read.
const MAX_DOCUMENTS: usize = 1000;
/// Bytes of all manifests and configs of one image together, which are in memory until it is unpacked.
const MAX_HELD: usize = 16 << 20;

/// Checks one image.
pub(super) struct Checker<'a> {
    engine: &'a Engine,
    lease: &'a WorkLease,
    platforms: &'a [Platform],
    whole: Vec<Runnable>,
    /// Bytes of what `whole` was read from.
    held: usize,
    /// Something is complete, though nothing to run.
    artifact: bool,
    /// What was missing first.
    missing: Option<String>,
}

/// What documents say of themselves.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Own {
    #[serde(default)]
    media_type: String,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(engine: &'a Engine, lease: &'a WorkLease, platforms: &'a [Platform]) -> Self {
        Self {
            engine,
            lease,
            platforms,
            whole: Vec::new(),
            held: 0,
            artifact: false,
            missing: None,
        }
    }

    /// The images in it that are complete. There is at least one, or something else that is complete.
    pub(super) async fn check(mut self, target: &Target) -> Result<Vec<Runnable>> {
        let mut todo = vec![(target.descriptor.clone(), 0)];
        let mut seen = HashSet::new();
        while let Some((descriptor, depth)) = todo.pop() {
            if !seen.insert(descriptor.entry()) {
                continue;
            }
            if seen.len() > MAX_DOCUMENTS {
                return Err(bad(format!("{} has too many manifests", target.descriptor.digest)));
            }
            match Kind::of(&descriptor.media_type) {
                Kind::Index if depth < MAX_DEPTH => {
                    let entries = self.index(&descriptor).await?;
                    todo.extend(entries.into_iter().rev().map(|entry| (entry, depth + 1)));
                }
                Kind::Index => {
                    let digest = &target.descriptor.digest;
                    return Err(bad(format!("{digest} has indexes within indexes")));
                }
                Kind::Manifest => self.manifest(descriptor).await?,
                _ => {
                    let (digest, kind) = (&descriptor.digest, &descriptor.media_type);
                    return Err(bad(format!("{digest} is no image but {kind:?}")));
                }
            }
        }
        if !self.whole.is_empty() || (self.artifact && self.platforms.is_empty()) {
            return Ok(self.whole);
        }
        if self.platforms.is_empty() {
            let missing = self.missing.unwrap_or_else(|| target.descriptor.digest.clone());
            return Err(bad(format!("content digest {missing}: not found")));
        }
        let wanted: Vec<String> = self.platforms.iter().map(Platform::to_string).collect();
        Err(Error::NoSuchPlatform {
            image: target
                .name
                .as_ref()
                .map_or_else(|| target.descriptor.digest.clone(), |name| name.familiar()),
            platform: wanted.join(", "),
        })
    }

    /// Labels an index, and gives what of it is wanted.
    async fn index(&mut self, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        let Some(bytes) = self.document(descriptor).await? else { return Ok(Vec::new()) };
        let mut index = Index::parse(&descriptor.digest, &bytes)?;
        // All of them by their places, also those that nobody wants now: the index may be here already, and what it has
        // must stay.
        self.label(&descriptor.digest, index_labels(&index)).await?;
        let wanted: Vec<String> = index
            .manifests
            .iter()
            .filter(|entry| !is_attestation(entry) && self.is_wanted(entry.platform.as_ref()))
            .map(|entry| entry.digest.clone())
            .collect();
        index.manifests.retain(|entry| {
            let subject = entry.annotations.get("vnd.docker.reference.digest");
            wanted.contains(&entry.digest)
                || self.platforms.is_empty()
                || subject.is_some_and(|subject| wanted.contains(subject))
        });
        Ok(index.manifests)
    }

    async fn manifest(&mut self, descriptor: Descriptor) -> Result<()> {
        let Some(bytes) = self.document(&descriptor).await? else { return Ok(()) };
        let manifest = Manifest::parse(&descriptor.digest, &bytes)?;
        let length = bytes.len();
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if !self.is_here(blob).await? {
                self.missing.get_or_insert_with(|| blob.digest.clone());
                return Ok(());
            }
        }
        self.label(&descriptor.digest, manifest_labels(&manifest)).await?;
        if !manifest.is_image() || is_attestation(&descriptor) {
            self.artifact = true;
            return Ok(());
        }
        let Some(bytes) = self.engine.read_document(&manifest.config.digest).await? else {
            return Err(bad(format!("config {} is too long", manifest.config.digest)));
        };
        let config = Config::parse_new(&manifest.config.digest, &bytes)?;
        steps(&manifest.layers, &config.diff_ids, &config.chain_ids)?;
        if self.is_wanted(Some(descriptor.platform.as_ref().unwrap_or(&config.platform))) {
            self.held += length + bytes.len();
            if self.held > MAX_HELD {
                let text = format!(
                    "{}: all manifests and configs together are too long",
                    descriptor.digest
                );
                return Err(bad(text));
            }
            let (manifest, config) = (Arc::new(manifest), Arc::new(config));
            self.whole.push(Runnable { descriptor, manifest, config });
        }
        Ok(())
    }

    /// Without a platform nobody knows before the config is read.
    fn is_wanted(&self, platform: Option<&Platform>) -> bool {
        let platforms = self.platforms;
        platforms.is_empty()
            || platform
                .is_none_or(|own| platforms.iter().any(|wanted| wanted.strictly_matches(own)))
    }

    /// An index or manifest that is what its descriptor says; `None` if it is not here.
    async fn document(&mut self, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
        if !self.is_here(descriptor).await? {
            self.missing.get_or_insert_with(|| descriptor.digest.clone());
            return Ok(None);
        }
        let digest = &descriptor.digest;
        let Some(bytes) = self.engine.read_document(digest).await? else {
            return Err(bad(format!("{digest} has more than {MAX_DOCUMENT} bytes")));
        };
        let own: Own = serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("invalid document {digest}: {error}")))?;
        if !own.media_type.is_empty() && own.media_type != descriptor.media_type {
            let (said, is) = (&descriptor.media_type, &own.media_type);
            return Err(bad(format!("{digest} should be {said:?} and says it is {is:?}")));
        }
        // What is both could be taken for one here and for the other elsewhere.
        if own.manifests.is_some() && (own.config.is_some() || own.layers.is_some()) {
            return Err(bad(format!("{digest} is index and manifest at once")));
        }
        Ok(Some(bytes))
    }

    /// Whether a blob is in the store, with the size that is said. From now on it is under the lease, whoever brought it.
    async fn is_here(&self, descriptor: &Descriptor) -> Result<bool> {
        let digest = &descriptor.digest;
        // Before it is looked for: what is found then cannot be collected any more.
        let added = self.lease.hold(digest).await;
        added.map_err(|error| self.engine.containerd_error(format!("protect {digest}"), error))?;
        match self.engine.containerd().blob(digest).await {
            Ok(blob) if blob.size == descriptor.size => Ok(true),
            Ok(blob) => {
                let (is, said) = (blob.size, descriptor.size);
                Err(bad(format!("{digest} has {is} bytes, its descriptor says {said}")))
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(self.engine.containerd_error(format!("look for {digest}"), error)),
        }
    }

    async fn label(&self, digest: &str, labels: Labels) -> Result<()> {
        let patch: BTreeMap<_, _> =
            labels.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let labelled = self.engine.containerd().update_blob_labels(digest, patch).await;
        labelled
            .map(drop)
            .map_err(|error| self.engine.containerd_error(format!("label {digest}"), error))
    }
}
