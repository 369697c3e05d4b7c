//! What is true of one image: its platforms, what of them is here, how large it is.
//!
//! An index may name a dozen platforms of which one was pulled. An image's size is what is here of
//! all of them: blobs, and the layers unpacked from them (moby `daemon/containerd/image_list.go`,
//! `multiPlatformSummary`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use containerd::images::Image;
use names::Platform;

use super::Descriptor;
use super::cache::{Document, Listed};
use super::documents::{Config, Index, Kind, MAX_DOCUMENT, Manifest};
use super::pull::is_attestation;
use crate::{Engine, Result};

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;

/// One image: everything under one target digest.
#[derive(Debug)]
pub(crate) struct ImageFacts {
    /// Digest and bytes of the indexes that are here.
    pub(crate) indexes: Vec<(String, u64)>,
    pub(crate) manifests: Vec<ManifestFacts>,
}

/// One manifest of an image.
#[derive(Debug)]
pub(crate) struct ManifestFacts {
    pub(crate) descriptor: Descriptor,
    /// Provenance and the like.
    pub(crate) attestation: bool,
    /// Manifest, config and all layers are here.
    pub(crate) available: bool,
    /// The config, if it is here.
    pub(crate) config: Option<Arc<Config>>,
    pub(crate) config_digest: String,
    /// Digest and bytes of manifest, config and layers that are here, each once.
    pub(crate) blobs: Vec<(String, u64)>,
    /// Bytes of the unpacked layers; 0 if the image is not unpacked.
    pub(crate) unpacked_size: u64,
}

/// What is in containerd's stores: looked up one by one for one image, or listed once for all.
enum Stock {
    Ask,
    Listed(Listing),
}

/// All that is in containerd's stores.
pub(super) struct Listing {
    /// Bytes by digest.
    blobs: HashMap<String, u64>,
    /// Names of unpacked layers.
    snapshots: HashSet<String>,
}

impl Listing {
    /// Whether a blob or a layer of this name is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.blobs.contains_key(name) || self.snapshots.contains(name)
    }
}

impl ImageFacts {
    /// Bytes of memory, as far as images decide on them.
    pub(crate) fn weight(&self) -> usize {
        let manifests = self.manifests.iter().map(|manifest| {
            let blobs = manifest.blobs.iter().map(|(digest, _)| digest.len()).sum::<usize>();
            let of_descriptor = |(key, value): (&String, &String)| key.len() + value.len();
            let annotations = manifest.descriptor.annotations.iter().map(of_descriptor);
            let config = manifest.config.as_deref().map_or(0, Config::weight);
            blobs + annotations.sum::<usize>() + config
        });
        manifests.sum()
    }

    /// Bytes of all platforms.
    pub(crate) fn size(&self) -> u64 {
        self.manifests.iter().map(ManifestFacts::size).fold(0, u64::saturating_add)
    }

    /// The manifest that fits best: `platform` exactly, or without one what runs best here, else anything that is here.
    pub(crate) fn best(&self, platform: Option<&Platform>) -> Option<&ManifestFacts> {
        let images = self
            .manifests
            .iter()
            .filter(|manifest| manifest.config.is_some() && !manifest.attestation);
        match platform {
            Some(wanted) => {
                images.min_by_key(|manifest| fit(manifest, wanted)).filter(|manifest| {
                    manifest.platform().is_some_and(|platform| wanted.strictly_matches(platform))
                })
            }
            None => {
                let host = Platform::host();
                images.min_by_key(|manifest| (!manifest.available, fit(manifest, &host)))
            }
        }
    }
}

fn fit(manifest: &ManifestFacts, wanted: &Platform) -> usize {
    manifest.platform().and_then(|platform| wanted.rank(platform)).unwrap_or(usize::MAX)
}

impl ManifestFacts {
    /// Bytes in all.
    pub(crate) fn size(&self) -> u64 {
        self.content_size().saturating_add(self.unpacked_size)
    }

    /// Bytes of all that is here in the content store.
    pub(crate) fn content_size(&self) -> u64 {
        self.blobs.iter().map(|(_, size)| *size).fold(0, u64::saturating_add)
    }

    /// The index's word, or the config's.
    pub(crate) fn platform(&self) -> Option<&Platform> {
        let own = self.config.as_deref().map(|config| &config.platform);
        self.descriptor.platform.as_ref().or(own)
    }
}

impl Engine {
    /// Facts of one image, read now.
    pub(crate) async fn image_facts(&self, target: &Descriptor) -> Result<ImageFacts> {
        self.facts_of(&Stock::Ask, target).await
    }

    /// All image records and the facts of their targets.
    pub(crate) async fn all_image_facts(&self) -> Result<Listed> {
        let cache = self.image_cache();
        let changes = cache.changes();
        let records = self.containerd().list_images(&[]).await;
        let records = records.map_err(|error| self.containerd_error("list images", error))?;
        if let Some(known) = cache.listed(&records) {
            return Ok(known);
        }
        // Several lists at once look once.
        let _turn = cache.turns().take("list of images").await;
        if let Some(known) = cache.listed(&records) {
            return Ok(known);
        }
        let facts = self.read_all_facts(&records).await?;
        let used: HashSet<&str> =
            facts.iter().flat_map(|(digest, facts)| used_digests(digest, facts)).collect();
        cache.forget_unused(|digest| used.contains(digest));
        drop(used);
        Ok(cache.keep(records, facts, changes))
    }

    async fn read_all_facts(&self, records: &[Image]) -> Result<HashMap<String, Arc<ImageFacts>>> {
        let stock = Stock::Listed(self.list_stores().await?);
        let mut facts = HashMap::new();
        for record in records {
            if !facts.contains_key(&record.target.digest) {
                let read = self.facts_of(&stock, &record.target.clone().into()).await?;
                facts.insert(record.target.digest.clone(), Arc::new(read));
            }
        }
        Ok(facts)
    }

    /// Lists containerd's stores.
    pub(super) async fn list_stores(&self) -> Result<Listing> {
        let snapshots = self.containerd().snapshotter(&self.settings().snapshotter);
        let (blobs, snapshots) =
            tokio::join!(self.containerd().list_blobs(&[]), snapshots.list(&["kind==committed"]));
        let blobs = blobs.map_err(|error| self.containerd_error("list blobs", error))?;
        let snapshots =
            snapshots.map_err(|error| self.containerd_error("list snapshots", error))?;
        Ok(Listing {
            blobs: blobs.into_iter().map(|blob| (blob.digest, blob.size)).collect(),
            snapshots: snapshots.into_iter().map(|snapshot| snapshot.name).collect(),
        })
    }

    async fn facts_of(&self, stock: &Stock, target: &Descriptor) -> Result<ImageFacts> {
        let (mut indexes, mut manifests) = (Vec::new(), Vec::new());
        let mut todo = vec![(target.clone(), 0)];
        let mut seen = HashSet::new();
        while let Some((descriptor, depth)) = todo.pop() {
            if !seen.insert(descriptor.entry()) {
                continue;
            }
            let Some(size) = self.has_blob(stock, &descriptor.digest).await? else {
                if Kind::of(&descriptor.media_type) == Kind::Manifest {
                    manifests.push(absent(descriptor));
                }
                continue;
            };
            match self.document(&descriptor).await? {
                Some(Document::Index(index)) if depth < MAX_DEPTH => {
                    indexes.push((descriptor.digest.clone(), size));
                    // A stack gives them back in the order of the index.
                    todo.extend(
                        index.manifests.iter().rev().map(|entry| (entry.clone(), depth + 1)),
                    );
                }
                Some(Document::Manifest(manifest)) => {
                    manifests.push(self.manifest_facts(stock, descriptor, size, &manifest).await?);
                }
                _ => {}
            }
        }
        Ok(ImageFacts { indexes, manifests })
    }

    async fn manifest_facts(
        &self,
        stock: &Stock,
        descriptor: Descriptor,
        size: u64,
        manifest: &Manifest,
    ) -> Result<ManifestFacts> {
        let mut available = true;
        let mut blobs = vec![(descriptor.digest.clone(), size)];
        let mut seen = HashSet::new();
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            match self.has_blob(stock, &blob.digest).await? {
                Some(size) if seen.insert(&blob.digest) => {
                    blobs.push((blob.digest.clone(), size));
                }
                Some(_) => {}
                None => available = false,
            }
        }
        let attestation = is_attestation(&descriptor);
        let config_is_here = self.has_blob(stock, &manifest.config.digest).await?.is_some();
        let config = match config_is_here && manifest.is_image() && !attestation {
            true => self.config(&manifest.config).await?,
            false => None,
        };
        let unpacked_size = match &config {
            Some(config) => self.unpacked_size(stock, &config.chain_ids).await?,
            None => 0,
        };
        Ok(ManifestFacts {
            descriptor,
            attestation,
            available,
            config,
            config_digest: manifest.config.digest.clone(),
            blobs,
            unpacked_size,
        })
    }

    /// An image config; `None` if it is broken or gone.
    pub(super) async fn config(&self, descriptor: &Descriptor) -> Result<Option<Arc<Config>>> {
        if let Some(Document::Config(config)) = self.image_cache().document(&descriptor.digest) {
            return Ok(Some(config));
        }
        let Some(bytes) = self.read_document(&descriptor.digest).await? else { return Ok(None) };
        match Config::parse(&descriptor.digest, &bytes) {
            Ok(config) => {
                let config = Arc::new(config);
                let document = Document::Config(Arc::clone(&config));
                self.image_cache().keep_document(&descriptor.digest, document, bytes.len());
                Ok(Some(config))
            }
            Err(error) => {
                // One broken image must not hide the others.
                tracing::warn!(error = error.message(), "an image's config cannot be read");
                Ok(None)
            }
        }
    }

    /// An index or manifest; `None` if it is neither, broken or gone.
    pub(super) async fn document(&self, descriptor: &Descriptor) -> Result<Option<Document>> {
        let kind = Kind::of(&descriptor.media_type);
        if !matches!(kind, Kind::Index | Kind::Manifest) {
            return Ok(None);
        }
        // The same bytes may be named as something else elsewhere, and be read as that: only what is wanted here will do.
        if let Some(document) = self.image_cache().document(&descriptor.digest)
            && document.is(kind)
        {
            return Ok(Some(document));
        }
        let Some(bytes) = self.read_document(&descriptor.digest).await? else { return Ok(None) };
        let parsed = match kind {
            Kind::Index => Index::parse(&descriptor.digest, &bytes)
                .map(|index| Document::Index(Arc::new(index))),
            _ => Manifest::parse(&descriptor.digest, &bytes)
                .map(|manifest| Document::Manifest(Arc::new(manifest))),
        };
        match parsed {
            Ok(document) => {
                self.image_cache().keep_document(&descriptor.digest, document.clone(), bytes.len());
                Ok(Some(document))
            }
            Err(error) => {
                tracing::warn!(error = error.message(), "an image's manifest cannot be read");
                Ok(None)
            }
        }
    }

    /// A small blob; `None` if it is gone or too large to be what it should be.
    pub(crate) async fn read_document(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let limit = usize::try_from(MAX_DOCUMENT).unwrap_or(usize::MAX);
        match self.containerd().read_all(digest, limit).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error)
                if error.is_not_found() || error.kind() == containerd::Kind::ResourceExhausted =>
            {
                Ok(None)
            }
            Err(error) => Err(self.containerd_error(format!("read {digest}"), error)),
        }
    }

    /// The size of a blob that is here.
    async fn has_blob(&self, stock: &Stock, digest: &str) -> Result<Option<u64>> {
        match stock {
            Stock::Listed(listing) => Ok(listing.blobs.get(digest).copied()),
            Stock::Ask => match self.containerd().blob(digest).await {
                Ok(blob) => Ok(Some(blob.size)),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(self.containerd_error(format!("look for {digest}"), error)),
            },
        }
    }

    /// Bytes of all layers; 0 if the top one is not unpacked.
    async fn unpacked_size(&self, stock: &Stock, chain_ids: &[String]) -> Result<u64> {
        let snapshots = self.containerd().snapshotter(&self.settings().snapshotter);
        let Some(top) = chain_ids.last() else { return Ok(0) };
        let is_unpacked = match stock {
            Stock::Listed(listing) => listing.snapshots.contains(top),
            Stock::Ask => match snapshots.stat(top).await {
                Ok(_) => true,
                Err(error) if error.is_not_found() => false,
                Err(error) => {
                    return Err(self.containerd_error(format!("look for layer {top}"), error));
                }
            },
        };
        if !is_unpacked {
            return Ok(0);
        }
        let mut total: u64 = 0;
        for chain_id in chain_ids {
            if let Some(size) = self.image_cache().size(chain_id) {
                total = total.saturating_add(size);
                continue;
            }
            // Remote snapshotters may not know; an image without size is better than no list.
            if let Ok(usage) = snapshots.usage(chain_id).await {
                self.image_cache().keep_size(chain_id, usage.size);
                total = total.saturating_add(usage.size);
            }
        }
        Ok(total)
    }
}

fn absent(descriptor: Descriptor) -> ManifestFacts {
    ManifestFacts {
        attestation: is_attestation(&descriptor),
        descriptor,
        available: false,
        config: None,
        config_digest: String::new(),
        blobs: Vec::new(),
        unpacked_size: 0,
    }
}

/// Everything that the memory of an image is filed under.
fn used_digests<'a>(digest: &'a str, facts: &'a ImageFacts) -> impl Iterator<Item = &'a str> {
    let manifests = facts.manifests.iter().flat_map(|manifest| {
        let chain =
            manifest.config.iter().flat_map(|config| config.chain_ids.iter().map(String::as_str));
        [manifest.descriptor.digest.as_str(), manifest.config_digest.as_str()]
            .into_iter()
            .chain(chain)
    });
    std::iter::once(digest).chain(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, platform: &str, available: bool) -> ManifestFacts {
        let mut facts = absent(Descriptor { digest: name.to_owned(), ..Descriptor::default() });
        let (os, rest) = platform.split_once('/').unwrap();
        let (architecture, variant) = rest.split_once('/').unwrap_or((rest, ""));
        let json =
            format!(r#"{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#);
        facts.config = Some(Arc::new(Config::parse(name, json.as_bytes()).unwrap()));
        facts.available = available;
        facts
    }

    fn best(manifests: Vec<ManifestFacts>, platform: Option<&str>) -> Option<String> {
        let wanted = platform.map(|platform| platform.parse().unwrap());
        let facts = ImageFacts { indexes: Vec::new(), manifests };
        facts.best(wanted.as_ref()).map(|manifest| manifest.descriptor.digest.clone())
    }

    #[test]
    fn a_wanted_platform_is_taken_literally() {
        let manifests =
            || vec![manifest("old", "linux/386", true), manifest("arm", "linux/arm64/v8", true)];
        assert_eq!(best(manifests(), Some("linux/arm64")).as_deref(), Some("arm"));
        assert_eq!(best(manifests(), Some("linux/amd64")), None);
    }

    #[test]
    fn without_one_the_host_decides_but_anything_will_do() {
        let host = Platform::host().to_string();
        let all = vec![manifest("other", "linux/s390x", true), manifest("host", &host, true)];
        assert_eq!(best(all, None).as_deref(), Some("host"));
        let partly = vec![manifest("other", "linux/s390x", true), manifest("host", &host, false)];
        assert_eq!(
            best(partly, None).as_deref(),
            Some("other"),
            "what is not here cannot be shown"
        );
        assert_eq!(best(Vec::new(), None), None);
    }
}
