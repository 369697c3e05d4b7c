//! Images as one archive: an OCI layout that older Dockers can read as well (moby `daemon/containerd/image_exporter.go`).
//!
//! | Typed | What is saved |
//! |---|---|
//! | a name with tag | that image, with the name |
//! | a name without tag | all images of the repository, each with its name |
//! | an id, or a name with digest | that image, without a name |
//!
//! Blobs go out as they are in the store, each once. A lease keeps them while the archive is sent, however slow the client.

mod layout;
mod stream;

use jiff::Timestamp;
use names::{ImageRef, Platform};

use super::Descriptor;
use super::facts::{ImageFacts, ManifestFacts};
use super::lease::WorkLease;
use super::naming::reference_of;
use crate::archive::pipe::ByteStream;
use crate::events::{Event, EventType};
use crate::{Engine, Error, Result, fault};

use layout::Layout;

/// One image to save.
struct Wanted {
    /// As typed, for errors.
    typed: String,
    /// Full reference; without one it has only its id.
    name: Option<ImageRef>,
    target: Descriptor,
}

impl Engine {
    /// Images as a tar archive, which is made while it is read. Without platforms it has all that is here. Dropping the
    /// stream ends the work; what fails late is the last item of the stream.
    ///
    /// # Errors
    /// [`Error::InvalidReference`], [`Error::NoSuchImage`], [`Error::AmbiguousImage`]; [`Error::NoSuchPlatform`].
    pub async fn save_images(
        &self,
        names: &[String],
        platforms: &[Platform],
    ) -> Result<ByteStream> {
        let leave = self.saving().await?;
        let lease = WorkLease::begin(self, "save").await?;
        fault::reached("save.lease");
        match self.lay_out(&lease, names, platforms).await {
            Ok(layout) => Ok(stream::archive(leave, lease, layout.into_parts())),
            Err(error) => {
                lease.abandon().await;
                Err(error)
            }
        }
    }

    async fn lay_out(
        &self,
        lease: &WorkLease,
        names: &[String],
        platforms: &[Platform],
    ) -> Result<Layout> {
        let mut layout = Layout::default();
        for typed in names {
            for wanted in self.wanted(typed).await? {
                self.add(lease, &mut layout, wanted, platforms).await?;
                fault::reached("save.image");
            }
        }
        Ok(layout)
    }

    /// The images that a user means.
    async fn wanted(&self, typed: &str) -> Result<Vec<Wanted>> {
        let found = self.find_image(typed).await;
        let reference = typed.parse::<ImageRef>().ok();
        let by_id = found.as_ref().is_ok_and(|found| !found.by_name);
        if let Some(repository) = reference.as_ref().filter(|name| name.is_name_only() && !by_id) {
            let all = self.images_of(repository, typed).await?;
            if all.is_empty() {
                return Err(found.err().unwrap_or_else(|| Error::NoSuchImage(typed.to_owned())));
            }
            return Ok(all);
        }
        let found = found?;
        let name = reference.filter(|name| found.by_name && name.digest().is_none());
        let target = found.record.target.into();
        Ok(vec![Wanted { typed: typed.to_owned(), name, target }])
    }

    /// All tags of a repository.
    async fn images_of(&self, repository: &ImageRef, typed: &str) -> Result<Vec<Wanted>> {
        let records = self.containerd().list_images(&[]).await;
        let records = records.map_err(|error| self.containerd_error("list images", error))?;
        let tagged = records.into_iter().filter_map(|record| {
            let name = reference_of(&record)?;
            let belongs = name.repository() == repository.repository() && name.tag().is_some();
            let target = record.target.into();
            belongs.then(|| Wanted { typed: typed.to_owned(), name: Some(name), target })
        });
        Ok(tagged.collect())
    }

    /// Adds one image with everything of it that is here, under the lease.
    async fn add(
        &self,
        lease: &WorkLease,
        layout: &mut Layout,
        wanted: Wanted,
        platforms: &[Platform],
    ) -> Result<()> {
        self.keep(lease, &wanted).await?;
        let facts = self.image_facts(&wanted.target).await?;
        let chosen = choose(&facts, platforms);
        let best = facts_of(&chosen).ok_or_else(|| no_platform(&wanted, platforms))?;
        // One platform alone needs no index.
        let mut target = match platforms {
            [_] => best.descriptor.clone(),
            _ => wanted.target.clone(),
        };
        if target.digest == wanted.target.digest {
            layout.add_blobs(&facts.indexes);
        }
        for manifest in &chosen {
            // Without its layers a manifest only says what the index is about.
            let count = if manifest.available { manifest.blobs.len() } else { 1 };
            layout.add_blobs(manifest.blobs.iter().take(count));
        }
        target.annotations.extend(self.sources(&target.digest).await?);
        let digest = target.digest.clone();
        layout.add_image(target, wanted.name.as_ref());
        if let Some(manifest) = self.manifest(&best.descriptor).await? {
            layout.add_manifest(&best.descriptor.digest, &manifest, wanted.name.as_ref());
        }
        let mut attributes =
            best.config.as_deref().map(|config| config.labels.clone()).unwrap_or_default();
        attributes.insert("name".to_owned(), digest.clone());
        self.hub().publish(Event {
            kind: EventType::Image,
            action: "save".to_owned(),
            actor: digest,
            attributes,
            at: Timestamp::now(),
        });
        Ok(())
    }

    /// From now on the image's content stays, whatever happens to its names.
    async fn keep(&self, lease: &WorkLease, wanted: &Wanted) -> Result<()> {
        let id = wanted.target.digest.clone();
        lease
            .hold(&id)
            .await
            .map_err(|error| self.containerd_error(format!("protect image {id}"), error))
    }

    /// Where a blob was pulled from: whoever loads the archive can push without sending it again.
    async fn sources(&self, digest: &str) -> Result<containerd::Labels> {
        let blob = match self.containerd().blob(digest).await {
            Ok(blob) => blob,
            Err(error) if error.is_not_found() => {
                return Err(Error::NoSuchImage(digest.to_owned()));
            }
            Err(error) => {
                return Err(self.containerd_error(format!("look for {digest}"), error));
            }
        };
        let mut labels = blob.labels;
        labels.retain(|key, _| key.starts_with("containerd.io/distribution.source."));
        Ok(labels)
    }

    async fn manifest(
        &self,
        descriptor: &Descriptor,
    ) -> Result<Option<std::sync::Arc<super::documents::Manifest>>> {
        Ok(match self.document(descriptor).await? {
            Some(super::cache::Document::Manifest(manifest)) => Some(manifest),
            _ => None,
        })
    }
}

/// The manifests that are saved: all that are here, or those of the platforms.
fn choose<'a>(facts: &'a ImageFacts, platforms: &[Platform]) -> Vec<&'a ManifestFacts> {
    if platforms.is_empty() {
        return facts.manifests.iter().filter(|manifest| !manifest.blobs.is_empty()).collect();
    }
    let images: Vec<&ManifestFacts> = facts
        .manifests
        .iter()
        .filter(|manifest| !manifest.attestation && manifest.available)
        .filter(|manifest| {
            let own = manifest.platform();
            own.is_some_and(|own| platforms.iter().any(|wanted| wanted.strictly_matches(own)))
        })
        .collect();
    if platforms.len() == 1 || images.is_empty() {
        return images;
    }
    // In an index, what is attested of them goes with them.
    let attests = |manifest: &&ManifestFacts| {
        let subject = manifest.descriptor.annotations.get("vnd.docker.reference.digest");
        manifest.attestation
            && !manifest.blobs.is_empty()
            && subject.is_some_and(|subject| {
                images.iter().any(|image| image.descriptor.digest == *subject)
            })
    };
    let attestations: Vec<&ManifestFacts> = facts.manifests.iter().filter(attests).collect();
    [images, attestations].concat()
}

/// The one of them that a Docker without indexes takes: what runs best here.
fn facts_of<'a>(chosen: &[&'a ManifestFacts]) -> Option<&'a ManifestFacts> {
    let host = Platform::host();
    let rank = |manifest: &ManifestFacts| {
        manifest.platform().and_then(|platform| host.rank(platform)).unwrap_or(usize::MAX)
    };
    let whole = chosen.iter().filter(|manifest| manifest.available && !manifest.attestation);
    whole.min_by_key(|manifest| rank(manifest)).copied()
}

fn no_platform(wanted: &Wanted, platforms: &[Platform]) -> Error {
    let texts: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    let platform = if texts.is_empty() { Platform::host().to_string() } else { texts.join(", ") };
    let image = wanted.name.as_ref().map_or_else(|| wanted.typed.clone(), |name| name.familiar());
    Error::NoSuchPlatform { image, platform }
}
