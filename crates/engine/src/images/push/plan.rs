//! What a push consists of: every document and blob of the image, and which of them are here.

use std::collections::HashSet;

use bytes::Bytes;
use containerd::Labels;
use names::{Digest, ImageRef, Platform};

use crate::error::Class;
use crate::images::Descriptor;
use crate::images::documents::{Index, Kind, Manifest};
use crate::images::sources::mount_candidate;
use crate::{Engine, Error, Result};

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;
/// Bytes of all manifests and indexes together, which are in memory while the blobs go.
const MAX_DOCUMENTS: usize = 16 << 20;
/// Repositories that a token is asked for, to take blobs over from.
const MAX_SOURCES: usize = 8;

/// What goes, in the order in which a registry takes it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Configs, layers and other blobs; each once.
    pub(super) blobs: Vec<PlannedBlob>,
    /// Manifests and indexes, children before parents; each once.
    pub(super) documents: Vec<Document>,
}

/// A manifest or index.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Bytes,
}

/// A blob that the registry needs.
#[derive(Debug)]
pub(super) struct PlannedBlob {
    pub(super) descriptor: Descriptor,
    /// It is in the store; else the registry must have it, or have it elsewhere.
    pub(super) present: bool,
    /// Another repository of the same registry that has it.
    pub(super) mount_from: Option<String>,
}

impl Plan {
    /// Walks through the image.
    ///
    /// # Errors
    /// [`Error::ContentMissing`] if something is not here that the registry cannot have from elsewhere.
    pub(super) async fn of(engine: &Engine, image: &ImageRef, target: &Descriptor) -> Result<Self> {
        let labels = engine.blob_labels(&target.digest).await?;
        let mut walk = Walk {
            engine,
            image,
            // What is not here has no labels that say where it is: that of the image does (moby findMissingMountable).
            fallback: labels.and_then(|labels| mount_candidate(&labels, image)),
            seen: HashSet::new(),
            held: 0,
            plan: Self::default(),
        };
        walk.document(target, 0).await?;
        Ok(walk.plan)
    }

    /// The repositories that blobs may be taken over from.
    pub(super) fn mount_sources(&self) -> Vec<String> {
        let mut sources: Vec<_> =
            self.blobs.iter().filter_map(|blob| blob.mount_from.clone()).collect();
        sources.sort_unstable();
        sources.dedup();
        sources.truncate(MAX_SOURCES);
        sources
    }
}

struct Walk<'a> {
    engine: &'a Engine,
    image: &'a ImageRef,
    fallback: Option<String>,
    seen: HashSet<String>,
    held: usize,
    plan: Plan,
}

impl Walk<'_> {
    async fn document(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        let bytes = self.engine.read_document(&descriptor.digest).await?;
        let bytes = bytes.ok_or_else(|| Error::ContentMissing(descriptor.digest.clone()))?;
        self.held += bytes.len();
        if self.held > MAX_DOCUMENTS || depth > MAX_DEPTH {
            let problem = format!("{} has too many manifests, or too deep ones", descriptor.digest);
            return Err(Error::BadContent(problem));
        }
        match Kind::of(&descriptor.media_type) {
            Kind::Index => {
                for child in Index::parse(&descriptor.digest, &bytes)?.manifests {
                    match Kind::of(&child.media_type) {
                        Kind::Index | Kind::Manifest => {
                            Box::pin(self.document(&child, depth + 1)).await?;
                        }
                        _ => self.blob(child).await?,
                    }
                }
            }
            Kind::Manifest => {
                let manifest = Manifest::parse(&descriptor.digest, &bytes)?;
                for blob in manifest.layers.into_iter().chain([manifest.config]) {
                    self.blob(blob).await?;
                }
            }
            _ => {
                let problem =
                    format!("{} is no image but {:?}", descriptor.digest, descriptor.media_type);
                return Err(Error::BadContent(problem));
            }
        }
        let descriptor = descriptor.clone();
        self.plan.documents.push(Document { descriptor, bytes: bytes.into() });
        Ok(())
    }

    async fn blob(&mut self, descriptor: Descriptor) -> Result<()> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        let labels = self.engine.blob_labels(&descriptor.digest).await?;
        let present = labels.is_some();
        if !present && descriptor.is_foreign() {
            return Ok(());
        }
        let own = labels.and_then(|labels| mount_candidate(&labels, self.image));
        let mount_from = if present { own } else { self.fallback.clone() };
        if !present && mount_from.is_none() {
            return Err(Error::ContentMissing(descriptor.digest));
        }
        self.plan.blobs.push(PlannedBlob { descriptor, present, mount_from });
        Ok(())
    }
}

pub(super) fn parsed(digest: &str) -> Result<Digest> {
    digest.parse().map_err(|error| Error::BadContent(format!("{digest:?}: {error}")))
}

impl Engine {
    /// Labels of a blob; `None` if it is not here.
    async fn blob_labels(&self, digest: &str) -> Result<Option<Labels>> {
        match self.containerd().blob(digest).await {
            Ok(blob) => Ok(Some(blob.labels)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.containerd_error(format!("look for {digest}"), error)),
        }
    }

    /// The part of an image that is pushed for a platform, or in place of an index that is not complete
    /// (moby `daemon/containerd/image_push.go`, `getPushDescriptor`). `None` if nothing fits.
    pub(super) async fn platform_to_push(
        &self,
        target: &Descriptor,
        wanted: Option<&Platform>,
    ) -> Result<Option<Descriptor>> {
        let facts = self.image_facts(target).await?;
        let complete = facts.manifests.iter().all(|manifest| manifest.available);
        let images = facts.manifests.iter().filter(|manifest| {
            manifest.available && !manifest.attestation && manifest.config.is_some()
        });
        let conflict = |message: String| Error::Registry { message, class: Class::Conflict };
        match wanted {
            Some(wanted) => {
                let mut fitting = images.filter(|manifest| {
                    manifest.platform().is_some_and(|platform| wanted.strictly_matches(platform))
                });
                let first = fitting.next().map(|manifest| manifest.descriptor.clone());
                match fitting.next() {
                    Some(_) => {
                        Err(conflict(format!("multiple manifests found for platform {wanted}")))
                    }
                    None => Ok(first),
                }
            }
            None if complete => Ok(Some(target.clone())),
            None => {
                let host = Platform::host();
                let mut here: Vec<_> = images.collect();
                if let [only] = here[..] {
                    return Ok(Some(only.descriptor.clone()));
                }
                let rank = |platform: Option<&Platform>| platform.and_then(|p| host.rank(p));
                here.sort_by_key(|manifest| rank(manifest.platform()).unwrap_or(usize::MAX));
                match here.first() {
                    None => Ok(None),
                    Some(best) if rank(best.platform()).is_some() => {
                        Ok(Some(best.descriptor.clone()))
                    }
                    Some(_) => Err(conflict(
                        "multiple matching manifests found but no specific platform requested"
                            .to_owned(),
                    )),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_layers_may_be_elsewhere() {
        let foreign = |media_type: &str| {
            Descriptor { media_type: media_type.to_owned(), ..Descriptor::default() }.is_foreign()
        };
        assert!(foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"));
        assert!(foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"));
        assert!(!foreign("application/vnd.oci.image.layer.v1.tar+gzip"));
    }

    #[test]
    fn sources_are_asked_for_once() {
        let blob = |from: &str| PlannedBlob {
            descriptor: Descriptor::default(),
            present: true,
            mount_from: Some(from.to_owned()).filter(|from| !from.is_empty()),
        };
        let plan =
            Plan { blobs: vec![blob("b"), blob(""), blob("a"), blob("b")], ..Plan::default() };
        assert_eq!(plan.mount_sources(), ["a", "b"]);
    }
}
