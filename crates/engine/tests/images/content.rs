//! Images made in memory.

use std::collections::HashMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use names::{Digest, Platform};
use sha2::Digest as _;

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Blobs and manifests by digest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) blobs: HashMap<String, Vec<u8>>,
    /// With their media type.
    pub(crate) manifests: HashMap<String, (&'static str, Vec<u8>)>,
}

/// A manifest and what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) digest: String,
    pub(crate) size: usize,
    pub(crate) platform: String,
    pub(crate) config: String,
    pub(crate) layers: Vec<String>,
    /// Chain id of the top layer.
    pub(crate) chain_id: String,
}

/// A layer: uncompressed digest and compressed bytes.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) diff_id: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into()).to_string()
}

/// The platform that a pull without one chooses.
pub(crate) fn host() -> String {
    Platform::host().to_string()
}

impl Layer {
    /// One file, with content that does not compress.
    pub(crate) fn new(name: &str, size: usize) -> Self {
        let mut seed = u32::try_from(name.len() + size).unwrap();
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        })
        .take(size)
        .collect();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &noise[..]).unwrap();
        let plain = tar.into_inner().unwrap();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&plain).unwrap();
        Self { diff_id: digest(&plain), bytes: gzip.finish().unwrap() }
    }
}

impl Content {
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    pub(crate) fn manifest(&mut self, media_type: &'static str, json: String) -> (String, usize) {
        let (digest, size) = (digest(json.as_bytes()), json.len());
        self.manifests.insert(digest.clone(), (media_type, json.into_bytes()));
        (digest, size)
    }

    /// An image of these layers. `label` makes it different from others.
    pub(crate) fn image(&mut self, platform: &str, label: &str, layers: &[Layer]) -> Made {
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        self.image_claiming(platform, label, layers, &diff_ids)
    }

    /// An image whose config claims these diffIDs.
    pub(crate) fn image_claiming(
        &mut self,
        platform: &str,
        label: &str,
        layers: &[Layer],
        diff_ids: &[String],
    ) -> Made {
        let parsed: Platform = platform.parse().unwrap();
        let config = serde_json::json!({
            "created": "2024-01-01T00:00:00Z",
            "os": parsed.os(),
            "architecture": parsed.architecture(),
            "variant": parsed.variant(),
            "config": {
                "Env": ["PATH=/bin"],
                "Cmd": ["/hello"],
                "Labels": { "test": label, "nerdctl/name": "stolen" },
            },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string();
        let config_digest = self.blob(config.as_bytes());
        let digests: Vec<_> = layers.iter().map(|layer| self.blob(&layer.bytes)).collect();
        let descriptors: Vec<_> = layers
            .iter()
            .zip(&digests)
            .map(|(layer, digest)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": layer.bytes.len(),
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len(),
            },
            "layers": descriptors,
        });
        let (digest, size) = self.manifest(MANIFEST, manifest.to_string());
        Made {
            digest,
            size,
            platform: platform.to_owned(),
            config: config_digest,
            layers: digests,
            chain_id: chain_id(diff_ids),
        }
    }

    /// An index of these images, and an attestation.
    pub(crate) fn index(&mut self, images: &[&Made]) -> String {
        let mut entries: Vec<_> = images
            .iter()
            .map(|image| {
                let platform: Platform = image.platform.parse().unwrap();
                serde_json::json!({
                    "mediaType": MANIFEST, "digest": image.digest, "size": image.size,
                    "platform": { "os": platform.os(), "architecture": platform.architecture() },
                })
            })
            .collect();
        entries.insert(
            0,
            serde_json::json!({
                "mediaType": MANIFEST, "digest": digest(b"attestation"), "size": 11,
                "platform": { "os": "unknown", "architecture": "unknown" },
                "annotations": { "vnd.docker.reference.type": "attestation-manifest" },
            }),
        );
        let index =
            serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.manifest(INDEX, index.to_string()).0
    }
}

fn chain_id(diff_ids: &[String]) -> String {
    let chain = diff_ids
        .iter()
        .cloned()
        .reduce(|below, diff_id| digest(format!("{below} {diff_id}").as_bytes()));
    chain.unwrap_or_default()
}
