//! Pulling: from a reference to an image record, with everything it needs in the store and unpacked.
//!
//! The order is containerd's (containerd `client/pull.go`): lease, resolve, index, manifest, config,
//! layers (unpacked while later ones still load), image record, end of the lease. The record comes
//! last, because it is what makes the image visible; until then only the lease protects what came.
//! A pull belongs to its client: when that leaves, nothing of it stays.

pub(super) mod layers;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use containerd::Labels;
use jiff::Timestamp;
use names::{ImageRef, Platform};
use registry::{Purpose, Repository};

use super::documents::{Config, Index, Kind, Manifest};
use super::fetch::Fetcher;
use super::lease::WorkLease;
use super::progress::{self, Progress, Pull};
use super::remote::{open_repository, remote_error};
use super::unpack::snapshot_label;
use super::{Descriptor, PullEvent, PullPlatforms, PullRequest};
use crate::error::Class;
use crate::events::{Event, EventType};
use crate::{Engine, Error, Result, fault};

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;
/// Manifests of one image that are pulled at once.
const MAX_MANIFESTS: usize = 256;
/// Bytes of all indexes and manifests of one pull, which are in memory until their layers are there.
const MAX_HELD: usize = 16 << 20;

impl Engine {
    /// Pulls an image; a name without tag and digest means all its tags. Dropping the answer cancels the pull.
    ///
    /// The first message may be an error: [`Error::PullAccessDenied`], [`Error::ManifestNotFound`],
    /// [`Error::NoMatchingManifest`], [`Error::Unauthorized`], [`Error::TooManyRequests`] as the registry says;
    /// [`Error::BadContent`] for what is not what its digest says.
    #[must_use]
    pub fn pull_image(&self, request: PullRequest) -> Pull {
        let (progress, pull) = progress::channel();
        let engine = self.clone();
        self.supervisor().spawn(async move {
            tokio::select! {
                () = progress.abandoned() => {
                    tracing::info!(image = %request.image, "the client left, its pull is cancelled");
                }
                outcome = engine.pull(&request, &progress) => {
                    if let Err(error) = &outcome {
                        tracing::info!(image = %request.image, error = error.message(), "pull failed");
                    }
                    progress.end(outcome).await;
                }
            }
        });
        pull
    }

    async fn pull(&self, request: &PullRequest, progress: &Progress) -> Result<()> {
        // docker.io/library/scratch is nothing that can be pulled (moby image_routes.go, validateRepoName).
        if request.image.familiar_name() == "scratch" {
            return Err(Error::ReservedImageName);
        }
        let repository = open(self, request).await?;
        if !request.image.is_name_only() {
            return Box::pin(self.pull_one(&repository, request, progress)).await;
        }
        let tags = repository.tags().await.map_err(|error| remote_error(&request.image, error))?;
        for tag in tags {
            let Ok(image) = request.image.clone().with_tag(&tag) else {
                tracing::warn!(tag, "the registry lists a tag that cannot be one");
                continue;
            };
            let request = PullRequest { image, ..request.clone() };
            let repository = open(self, &request).await?;
            Box::pin(self.pull_one(&repository, &request, progress)).await?;
        }
        Ok(())
    }

    async fn pull_one(
        &self,
        repository: &Repository,
        request: &PullRequest,
        progress: &Progress,
    ) -> Result<()> {
        let lease = WorkLease::begin(self, "pull").await?;
        fault::reached("pull.lease");
        let job = Job {
            engine: self,
            lease: &lease,
            fetcher: Fetcher::new(self, &lease, repository),
            repository,
            request,
            progress,
            held: AtomicUsize::new(0),
        };
        match job.run().await {
            Ok(done) => {
                lease.finish().await;
                progress.tell(done).await;
                Ok(())
            }
            Err(error) => {
                lease.abandon().await;
                Err(error)
            }
        }
    }
}

async fn open(engine: &Engine, request: &PullRequest) -> Result<Repository> {
    let (credentials, headers) = (&request.credentials, &request.meta_headers);
    open_repository(engine, &request.image, credentials, headers, Purpose::Pull).await
}

/// One tag or digest being pulled.
struct Job<'a> {
    engine: &'a Engine,
    lease: &'a WorkLease,
    fetcher: Fetcher<'a>,
    repository: &'a Repository,
    request: &'a PullRequest,
    progress: &'a Progress,
    /// Bytes of the indexes and manifests that were read.
    held: AtomicUsize,
}

/// A manifest to be fetched.
struct Chosen {
    descriptor: Descriptor,
    manifest: Manifest,
    bytes: Vec<u8>,
    /// The platform that was asked for.
    wanted: Option<Platform>,
    /// It may be run here.
    unpack: bool,
}

impl Job<'_> {
    async fn run(&self) -> Result<PullEvent> {
        let image = &self.request.image;
        let name = image.to_string();
        let before = self.present_target(&name).await?;
        let target = self.resolve().await?;
        let mut todo = self.choose(&target).await?.into_iter();
        let Some(first) = todo.next() else { return Err(no_match(&Platform::host())) };
        self.progress.tell(pulling_from(image)).await;
        let labels = self.fetch(&first).await?;
        for further in todo {
            self.fetch(&further).await?;
        }
        self.engine.put_image(&name, &target, Labels::new()).await?;
        fault::reached("pull.image");
        self.publish(labels);
        let newer = before.as_deref() != Some(target.digest.as_str());
        Ok(PullEvent::Done { digest: target.digest, image: image.familiar(), newer })
    }

    /// What the name stands for now.
    async fn present_target(&self, name: &str) -> Result<Option<String>> {
        match self.engine.containerd().get_image(name).await {
            Ok(image) => Ok(Some(image.target.digest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => {
                Err(self.engine.containerd_error(format!("look for image {name}"), error))
            }
        }
    }

    async fn resolve(&self) -> Result<Descriptor> {
        let found = self.repository.resolve().await;
        let found = found.map_err(|error| remote_error(&self.request.image, error))?;
        Ok(Descriptor {
            media_type: found.media_type,
            digest: found.digest.to_string(),
            size: found.size,
            ..Descriptor::default()
        })
    }

    /// What is to be fetched: the manifests of all platforms that are wanted. Indexes are stored on the way.
    async fn choose(&self, target: &Descriptor) -> Result<Vec<Chosen>> {
        match &self.request.platforms {
            PullPlatforms::Host => Ok(vec![self.choose_one(target, None).await?]),
            PullPlatforms::These(platforms) => {
                let mut all = Vec::<Chosen>::new();
                for platform in platforms {
                    let chosen = self.choose_one(target, Some(platform)).await?;
                    if all.iter().all(|known| known.descriptor.digest != chosen.descriptor.digest) {
                        all.push(chosen);
                    }
                    if all.len() > MAX_MANIFESTS {
                        return Err(too_deep(target));
                    }
                }
                Ok(all)
            }
            PullPlatforms::All => self.choose_all(target).await,
        }
    }

    /// Every manifest below the target, what runs here first.
    async fn choose_all(&self, target: &Descriptor) -> Result<Vec<Chosen>> {
        let host = Platform::host();
        let mut seen = HashSet::new();
        let mut todo = vec![(target.clone(), 0)];
        let mut all = Vec::new();
        while let Some((descriptor, depth)) = todo.pop() {
            if !seen.insert(descriptor.digest.clone()) {
                continue;
            }
            if depth >= MAX_DEPTH || all.len() > MAX_MANIFESTS {
                return Err(too_deep(target));
            }
            match Kind::of(&descriptor.media_type) {
                Kind::Index => {
                    let index = self.index(&descriptor).await?;
                    todo.extend(index.manifests.into_iter().map(|entry| (entry, depth + 1)));
                }
                Kind::Manifest => {
                    let rank = descriptor.platform.as_ref().map(|platform| host.rank(platform));
                    let runs_here = !is_attestation(&descriptor) && rank != Some(None);
                    let rank = rank.flatten().filter(|_| runs_here).unwrap_or(usize::MAX);
                    all.push((rank, self.chosen(descriptor, None, runs_here).await?));
                }
                Kind::Schema1 => return Err(schema1(&self.request.image)),
                Kind::Config | Kind::Layer | Kind::Other => {}
            }
        }
        all.sort_by_key(|(rank, _)| *rank);
        Ok(all.into_iter().map(|(_, chosen)| chosen).collect())
    }

    /// An index or manifest, while they are not too many.
    async fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.fetcher.read(descriptor).await?;
        let held = self.held.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if held > MAX_HELD { Err(too_deep(descriptor)) } else { Ok(bytes) }
    }

    async fn index(&self, descriptor: &Descriptor) -> Result<Index> {
        let bytes = self.read(descriptor).await?;
        let index = Index::parse(&descriptor.digest, &bytes)?;
        self.fetcher.store(descriptor, &bytes, index_labels(&index)).await?;
        fault::reached("pull.index");
        Ok(index)
    }

    async fn chosen(
        &self,
        descriptor: Descriptor,
        wanted: Option<&Platform>,
        unpack: bool,
    ) -> Result<Chosen> {
        let bytes = self.read(&descriptor).await?;
        let manifest = Manifest::parse(&descriptor.digest, &bytes)?;
        Ok(Chosen { descriptor, manifest, bytes, wanted: wanted.cloned(), unpack })
    }

    /// Follows indexes to the manifest of a platform, of the host's without a wish.
    async fn choose_one(&self, target: &Descriptor, asked: Option<&Platform>) -> Result<Chosen> {
        let wanted = asked.cloned().unwrap_or_else(Platform::host);
        let mut descriptor = target.clone();
        for _ in 0..MAX_DEPTH {
            match Kind::of(&descriptor.media_type) {
                Kind::Manifest => {
                    return self.chosen(descriptor, asked, true).await;
                }
                Kind::Index => {
                    let index = self.index(&descriptor).await?;
                    let best = best_manifest(&index, &wanted);
                    descriptor = best.cloned().ok_or_else(|| no_match(&wanted))?;
                }
                Kind::Schema1 => return Err(schema1(&self.request.image)),
                Kind::Config | Kind::Layer | Kind::Other => {
                    let problem = format!(
                        "{} is no image but {:?}",
                        descriptor.digest, descriptor.media_type
                    );
                    return Err(Error::BadContent(problem));
                }
            }
        }
        Err(too_deep(target))
    }

    /// Everything of one manifest, and the manifest itself last; answers with the labels in its config.
    async fn fetch(&self, chosen: &Chosen) -> Result<Labels> {
        let labels = if chosen.manifest.is_image() {
            self.fetch_image(chosen).await?
        } else {
            self.fetch_artifact(&chosen.manifest).await?;
            Labels::new()
        };
        let own = manifest_labels(&chosen.manifest);
        self.fetcher.store(&chosen.descriptor, &chosen.bytes, own).await?;
        fault::reached("pull.manifest");
        Ok(labels)
    }

    /// Config and layers of something to run; answers with the labels in its config.
    async fn fetch_image(&self, chosen: &Chosen) -> Result<Labels> {
        let descriptor = &chosen.manifest.config;
        let bytes = self.fetcher.read(descriptor).await?;
        let config = Config::parse_new(&descriptor.digest, &bytes)?;
        self.check_platform(chosen, &config)?;
        let top = config.chain_ids.last().cloned();
        // A reference to a snapshot that is still to come does no harm, and saves a write later.
        let label = top.map(|top| (snapshot_label(&self.engine.settings().snapshotter), top));
        self.fetcher.store(descriptor, &bytes, label.into_iter().collect()).await?;
        fault::reached("pull.config");
        layers::fetch_and_unpack(self, &chosen.manifest, &config, chosen.unpack).await?;
        fault::reached("pull.unpacked");
        Ok(config.labels)
    }

    /// Only the config says what a manifest without an index is for. Who asked for a platform wants that; who did not gets
    /// what there is.
    fn check_platform(&self, chosen: &Chosen, config: &Config) -> Result<()> {
        match &chosen.wanted {
            Some(wanted)
                if chosen.descriptor.platform.is_none()
                    && wanted.rank(&config.platform).is_none() =>
            {
                Err(no_match(wanted))
            }
            _ => Ok(()),
        }
    }

    /// What is not to be run is only stored.
    async fn fetch_artifact(&self, manifest: &Manifest) -> Result<()> {
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.fetcher.blob(blob, Labels::new(), |_| {}).await?;
        }
        Ok(())
    }

    /// moby `daemon/containerd/image_events.go`.
    fn publish(&self, mut attributes: Labels) {
        let image = &self.request.image;
        attributes.insert("name".to_owned(), image.familiar_name());
        self.engine.hub().publish(Event {
            kind: EventType::Image,
            action: "pull".to_owned(),
            actor: image.familiar(),
            attributes,
            at: Timestamp::now(),
        });
    }
}

fn pulling_from(image: &ImageRef) -> PullEvent {
    PullEvent::PullingFrom {
        repository: image.path().to_owned(),
        reference: image.tag().map_or_else(|| image.to_string(), str::to_owned),
    }
}

/// The entry that runs best on `wanted`. One without a platform fits anything, but last; attestations fit nothing
/// (containerd `images/image.go`, `Manifest`).
fn best_manifest<'a>(index: &'a Index, wanted: &Platform) -> Option<&'a Descriptor> {
    let usable = index.manifests.iter().filter(|entry| !is_attestation(entry));
    let usable =
        usable.filter(|entry| matches!(Kind::of(&entry.media_type), Kind::Manifest | Kind::Index));
    let ranked = usable.filter_map(|entry| {
        let rank =
            entry.platform.as_ref().map_or(Some(usize::MAX), |platform| wanted.rank(platform));
        rank.map(|rank| (rank, entry))
    });
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
}

/// Provenance and the like, which BuildKit puts beside the images of an index.
pub(crate) fn is_attestation(entry: &Descriptor) -> bool {
    let unknown =
        |platform: &Platform| platform.os() == "unknown" && platform.architecture() == "unknown";
    entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(unknown)
}

/// What keeps the children of an index alive: all of them, also those that are not here (containerd
/// `images/handlers.go`, `SetChildrenMappedLabels`).
pub(super) fn index_labels(index: &Index) -> Labels {
    let labels = index.manifests.iter().enumerate();
    labels
        .map(|(n, entry)| (format!("containerd.io/gc.ref.content.m.{n}"), entry.digest.clone()))
        .collect()
}

pub(super) fn manifest_labels(manifest: &Manifest) -> Labels {
    let layers = manifest.layers.iter().enumerate();
    let mut labels: Labels = layers
        .map(|(n, layer)| (format!("containerd.io/gc.ref.content.l.{n}"), layer.digest.clone()))
        .collect();
    labels.insert("containerd.io/gc.ref.content.config".to_owned(), manifest.config.digest.clone());
    labels
}

fn too_deep(target: &Descriptor) -> Error {
    Error::BadContent(format!(
        "{} has indexes within indexes, or too many or too long manifests",
        target.digest
    ))
}

fn no_match(wanted: &Platform) -> Error {
    Error::NoMatchingManifest { platform: wanted.to_string() }
}

/// moby `daemon/internal/distribution/errors.go`.
pub(crate) fn schema1(image: &ImageRef) -> Error {
    let message = format!(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the \
         author of {image} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More \
         information at https://docs.docker.com/go/deprecated-image-specs/"
    );
    Error::Registry { message, class: Class::Invalid }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, platform: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest: name.to_owned(),
            size: 1,
            platform: platform.map(|platform| platform.parse().unwrap()),
            ..Descriptor::default()
        }
    }

    fn best(entries: &[Descriptor], wanted: &str) -> Option<String> {
        let index = Index { manifests: entries.to_vec() };
        best_manifest(&index, &wanted.parse().unwrap()).map(|entry| entry.digest.clone())
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let attestation = Descriptor {
            annotations: [(
                "vnd.docker.reference.type".to_owned(),
                "attestation-manifest".to_owned(),
            )]
            .into(),
            ..entry("attestation", None)
        };
        let entries = [
            attestation,
            entry("any", None),
            entry("386", Some("linux/386")),
            entry("amd64", Some("linux/amd64")),
            entry("amd64 again", Some("linux/amd64")),
            entry("unknown", Some("unknown/unknown")),
        ];
        assert_eq!(best(&entries, "linux/amd64").as_deref(), Some("amd64"));
        assert_eq!(best(&entries, "linux/arm64").as_deref(), Some("any"));
        assert_eq!(best(&entries[2..], "linux/arm64"), None);
        assert_eq!(best(&entries[..1], "linux/amd64"), None);
    }

    #[test]
    fn children_are_kept_alive_by_position() {
        let labels = index_labels(&Index { manifests: vec![entry("a", None), entry("b", None)] });
        assert_eq!(labels["containerd.io/gc.ref.content.m.1"], "b");
        let labels =
            manifest_labels(&Manifest { config: entry("c", None), layers: vec![entry("l", None)] });
        assert_eq!(labels["containerd.io/gc.ref.content.config"], "c");
        assert_eq!(labels["containerd.io/gc.ref.content.l.0"], "l");
    }
}
