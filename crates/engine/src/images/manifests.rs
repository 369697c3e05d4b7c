//! The manifests of an image, one by one, for clients that ask for them (moby `daemon/containerd/image_list.go`,
//! `multiPlatformSummary`).

use names::Platform;

use super::Descriptor;
use super::facts::{ImageFacts, ManifestFacts};
use crate::inventory::Snapshot;

/// One manifest of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSummary {
    /// As the index has it.
    pub descriptor: Descriptor,
    /// All of it is here.
    pub available: bool,
    /// Bytes of what is here of it, as it was pulled.
    pub content_size: u64,
    /// Bytes of its unpacked layers.
    pub unpacked_size: u64,
    /// What it is.
    pub kind: ManifestKind,
}

/// What a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// Something to run.
    Image {
        /// Where; `None` if neither index nor config is here to say it.
        platform: Option<Platform>,
        /// Ids of the containers that were made of it.
        containers: Vec<String>,
    },
    /// Said about another manifest.
    Attestation {
        /// That manifest's digest.
        subject: String,
    },
    /// Anything else.
    Unknown,
}

/// All manifests, in the order of the index.
pub(super) fn manifests(facts: &ImageFacts, containers: &Snapshot) -> Vec<ManifestSummary> {
    facts.manifests.iter().map(|manifest| summary(manifest, containers)).collect()
}

fn summary(manifest: &ManifestFacts, containers: &Snapshot) -> ManifestSummary {
    ManifestSummary {
        descriptor: manifest.descriptor.clone(),
        available: manifest.available,
        content_size: manifest.content_size(),
        unpacked_size: manifest.unpacked_size,
        kind: kind(manifest, containers),
    }
}

fn kind(manifest: &ManifestFacts, containers: &Snapshot) -> ManifestKind {
    let digest = &manifest.descriptor.digest;
    if manifest.attestation {
        let subject = manifest.descriptor.annotations.get(SUBJECT).cloned();
        return subject
            .map_or(ManifestKind::Unknown, |subject| ManifestKind::Attestation { subject });
    }
    // Of one that is here, its config would be known.
    if manifest.available && manifest.config.is_none() {
        return ManifestKind::Unknown;
    }
    let made_of_it = containers.entries().filter(|entry| {
        entry.container.image_manifest.as_ref().is_some_and(|of| of.digest == *digest)
    });
    ManifestKind::Image {
        platform: manifest.platform().cloned(),
        containers: made_of_it.map(|entry| entry.container.id.to_string()).collect(),
    }
}

/// Annotation of an attestation: what it is about (BuildKit `docs/attestations/attestation-storage.md`).
pub(super) const SUBJECT: &str = "vnd.docker.reference.digest";
