//! What images have in common: blobs and unpacked layers that go only with the last of them (moby
//! `daemon/containerd/image_list.go`, `computeSharedSize`).

use std::collections::{HashMap, HashSet};

use super::facts::ImageFacts;

/// How many images have each blob and each layer.
#[derive(Debug, Default)]
pub(crate) struct Shares<'a> {
    counts: HashMap<&'a str, usize>,
    /// Bytes of unpacked layers, by chain id.
    layers: HashMap<&'a str, u64>,
}

impl<'a> Shares<'a> {
    /// Of all these images; `layer_size` knows the bytes of a layer by its chain id.
    pub(crate) fn of(
        images: impl Iterator<Item = &'a ImageFacts>,
        layer_size: impl Fn(&str) -> Option<u64>,
    ) -> Self {
        let mut shares = Self::default();
        for image in images {
            for name in
                blobs(image).map(|(name, _)| name).chain(layers(image)).collect::<HashSet<_>>()
            {
                *shares.counts.entry(name).or_default() += 1;
            }
            for layer in layers(image) {
                shares.layers.entry(layer).or_insert_with(|| layer_size(layer).unwrap_or(0));
            }
        }
        shares
    }

    /// Bytes of an image that another one has, too.
    pub(crate) fn shared(&self, image: &ImageFacts) -> u64 {
        let mut seen = HashSet::new();
        let is_shared = |name: &str| self.counts.get(name).is_some_and(|count| *count > 1);
        let blobs = blobs(image).filter(|(name, _)| is_shared(name));
        let layers = layers(image).filter(|layer| is_shared(layer));
        let layers = layers.map(|layer| (layer, self.layers.get(layer).copied().unwrap_or(0)));
        let once = blobs.chain(layers).filter(|(name, _)| seen.insert(*name));
        once.map(|(_, size)| size).fold(0, u64::saturating_add)
    }
}

/// Digest and bytes of what manifests have; indexes are each image's own.
fn blobs(image: &ImageFacts) -> impl Iterator<Item = (&str, u64)> {
    image
        .manifests
        .iter()
        .flat_map(|manifest| manifest.blobs.iter().map(|(digest, size)| (digest.as_str(), *size)))
}

/// Chain ids of what is unpacked.
pub(crate) fn layers(image: &ImageFacts) -> impl Iterator<Item = &str> {
    let unpacked = image.manifests.iter().filter(|manifest| manifest.unpacked_size > 0);
    unpacked
        .filter_map(|manifest| manifest.config.as_deref())
        .flat_map(|config| config.chain_ids.iter().map(String::as_str))
}

/// Bytes of all images together, what they share counted once.
pub(crate) fn total<'a>(
    images: impl Iterator<Item = &'a ImageFacts>,
    layer_size: impl Fn(&str) -> Option<u64>,
) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes: u64 = 0;
    for image in images {
        let indexes = image.indexes.iter().map(|(digest, size)| (digest.as_str(), *size));
        let layers = layers(image).map(|layer| (layer, layer_size(layer).unwrap_or(0)));
        for (name, size) in indexes.chain(blobs(image)).chain(layers) {
            if seen.insert(name) {
                bytes = bytes.saturating_add(size);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::images::Descriptor;
    use crate::images::documents::Config;
    use crate::images::facts::ManifestFacts;

    /// An image with blobs of these names, 10 bytes each, and one unpacked layer of 100.
    fn image(blobs: &[&str], layer: &str) -> ImageFacts {
        let diff_id = format!("sha256:{}", layer.repeat(64));
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"diff_ids":["{diff_id}"]}}}}"#
        );
        let manifest = ManifestFacts {
            descriptor: Descriptor::default(),
            attestation: false,
            available: true,
            config: Some(Arc::new(Config::parse("x", config.as_bytes()).unwrap())),
            config_digest: String::new(),
            blobs: blobs.iter().map(|blob| ((*blob).to_owned(), 10)).collect(),
            unpacked_size: 100,
        };
        ImageFacts { indexes: Vec::new(), manifests: vec![manifest] }
    }

    #[test]
    fn only_what_another_image_has_is_shared() {
        let images = [image(&["a", "b"], "1"), image(&["b", "c"], "1"), image(&["d", "d"], "2")];
        let size = |_: &str| Some(100);
        let shares = Shares::of(images.iter(), size);
        let shared: Vec<u64> = images.iter().map(|image| shares.shared(image)).collect();
        assert_eq!(shared, [110, 110, 0]);
        assert_eq!(total(images.iter(), size), 240);
    }
}
