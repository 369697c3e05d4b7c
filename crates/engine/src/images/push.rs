//! Pushing: from an image record to a registry, with the very bytes that are in the store.
//!
//! First it is worked out what goes ([`plan`]), so that an image of which parts are missing is found out before a byte is
//! sent. Then config and layers go, a few at a time ([`blobs`]), then manifests, then indexes, children before parents, and
//! the tag last (containerd `core/remotes/handlers.go`, `PushContent`). A push belongs to its client: when that leaves, it
//! ends.

mod blobs;
mod plan;

use std::collections::BTreeMap;

use containerd::images::Image;
use jiff::Timestamp;
use names::{ImageRef, Platform};
use registry::{Purpose, Repository};

use self::plan::Plan;
use super::documents::Kind;
use super::lease::WorkLease;
use super::naming::reference_of;
use super::progress::{self, Progress, Push};
use super::remote::{open_repository, push_error};
use super::{Descriptor, PushEvent, PushRequest};
use crate::events::{Event, EventType};
use crate::{Engine, Error, Result, fault};

impl Engine {
    /// Pushes an image; a name without tag and digest means all its tags that are here. Dropping the answer cancels the push.
    ///
    /// Errors come after the first message: [`Error::NoSuchTag`], [`Error::NoTagsToPush`], [`Error::NoSuchPlatform`],
    /// [`Error::ContentMissing`]; [`Error::Registry`], [`Error::Unauthorized`], [`Error::TooManyRequests`] as the registry says.
    #[must_use]
    pub fn push_image(&self, request: PushRequest) -> Push {
        let (progress, push) = progress::channel();
        let engine = self.clone();
        self.supervisor().spawn(async move {
            tokio::select! {
                () = progress.abandoned() => {
                    tracing::info!(image = %request.image, "the client left, its push is cancelled");
                }
                outcome = Box::pin(engine.push(&request, &progress)) => {
                    if let Err(error) = &outcome {
                        tracing::info!(image = %request.image, error = error.message(), "push failed");
                    }
                    progress.end(outcome).await;
                }
            }
        });
        push
    }

    async fn push(&self, request: &PushRequest, progress: &Progress<PushEvent>) -> Result<()> {
        let repository = request.image.repository();
        progress.tell(PushEvent::PushingTo { repository: repository.clone() }).await;
        if !request.image.is_name_only() {
            let record = self.record_to_push(&request.image).await?;
            return self.push_one(request, (&request.image, record), progress).await;
        }
        let records = self.containerd().list_images(&[]).await;
        let records = records.map_err(|error| self.containerd_error("list images", error))?;
        let tagged = tags_of(&repository, records);
        if tagged.is_empty() {
            return Err(Error::NoTagsToPush(request.image.familiar_name()));
        }
        for (image, record) in tagged {
            self.push_one(request, (&image, record), progress).await?;
        }
        Ok(())
    }

    async fn record_to_push(&self, image: &ImageRef) -> Result<Image> {
        match self.containerd().get_image(&image.to_string()).await {
            Ok(record) => Ok(record),
            Err(error) if error.is_not_found() => Err(Error::NoSuchTag(image.familiar())),
            Err(error) => Err(self.containerd_error(format!("look for image {image}"), error)),
        }
    }

    async fn push_one(
        &self,
        request: &PushRequest,
        (image, record): (&ImageRef, Image),
        progress: &Progress<PushEvent>,
    ) -> Result<()> {
        let lease = WorkLease::begin(self, "push").await?;
        let original = Descriptor::from(record.target);
        let job = Job { engine: self, request, image, original, progress };
        let outcome = job.run(&lease).await;
        lease.finish().await;
        let pushed = outcome?;
        if let Some(tag) = image.tag() {
            let (digest, size) = (pushed.digest, pushed.size);
            let tag = Some(tag.to_owned());
            progress.tell(PushEvent::Done { tag, digest, size }).await;
        }
        Ok(())
    }
}

/// What has a tag in a repository. A tag may have two records, one of them with the short name that `ctr` was told; then
/// the full one counts.
fn tags_of(repository: &str, records: Vec<Image>) -> Vec<(ImageRef, Image)> {
    let mut tags = BTreeMap::new();
    for record in records {
        let Some(image) = reference_of(&record) else { continue };
        if image.repository() != repository || image.tag().is_none() || image.digest().is_some() {
            continue;
        }
        let name = image.to_string();
        if record.name == name || !tags.contains_key(&name) {
            tags.insert(name, (image, record));
        }
    }
    tags.into_values().collect()
}

/// One name being pushed.
struct Job<'a> {
    engine: &'a Engine,
    request: &'a PushRequest,
    image: &'a ImageRef,
    /// What the name stands for.
    original: Descriptor,
    progress: &'a Progress<PushEvent>,
}

impl Job<'_> {
    /// Answers with what was pushed.
    async fn run(&self, lease: &WorkLease) -> Result<Descriptor> {
        self.protect(lease).await?;
        fault::reached("push.lease");
        let (target, plan) = match self.plan().await {
            Ok(planned) => planned,
            Err(error) => {
                if matches!(error, Error::ContentMissing(_)) {
                    let descriptor = self.original.clone();
                    self.progress.tell(PushEvent::ContentMissing { descriptor }).await;
                }
                return Err(error);
            }
        };
        fault::reached("push.planned");
        let repository = self.open(&plan).await?;
        let sent = blobs::deliver(self, &repository, &plan).await;
        if let (Err(Error::ContentMissing(_)), descriptor) = (&sent, &target) {
            let descriptor = descriptor.clone();
            self.progress.tell(PushEvent::ContentMissing { descriptor }).await;
        }
        sent?;
        self.put_manifests(&repository, &plan, &target).await?;
        if target != self.original && self.request.platform.is_none() {
            let (original, selected) = (self.original.clone(), target.clone());
            self.progress.tell(PushEvent::InsteadOfIndex { original, selected }).await;
        }
        self.remember_sources(&plan).await;
        self.publish(&target).await;
        Ok(target)
    }

    /// Keeps what is pushed in the store even if the image is removed meanwhile: the lease holds the target, and its labels
    /// the rest.
    async fn protect(&self, lease: &WorkLease) -> Result<()> {
        let held = lease.hold(&self.original.digest).await;
        held.map_err(|error| {
            self.engine.containerd_error(format!("protect {}", self.original.digest), error)
        })
    }

    /// What goes: all of the image, or the platform that was asked for, or, where an index is not complete, the one
    /// platform that stands for it.
    async fn plan(&self) -> Result<(Descriptor, Plan)> {
        if let Some(platform) = &self.request.platform {
            let chosen = self.engine.platform_to_push(&self.original, Some(platform)).await?;
            let target = chosen.ok_or_else(|| self.no_platform(Some(platform)))?;
            let plan = Plan::of(self.engine, self.image, &target).await?;
            return Ok((target, plan));
        }
        let whole = Plan::of(self.engine, self.image, &self.original).await;
        let Err(Error::ContentMissing(missing)) = whole else {
            return whole.map(|plan| (self.original.clone(), plan));
        };
        if Kind::of(&self.original.media_type) != Kind::Index {
            return Err(Error::ContentMissing(missing));
        }
        let target = self.engine.platform_to_push(&self.original, None).await?;
        let target = target.ok_or_else(|| self.no_platform(None))?;
        if target == self.original {
            return Err(Error::ContentMissing(missing));
        }
        let plan = Plan::of(self.engine, self.image, &target).await?;
        Ok((target, plan))
    }

    fn no_platform(&self, wanted: Option<&Platform>) -> Error {
        Error::NoSuchPlatform {
            image: self.image.familiar(),
            platform: wanted.cloned().unwrap_or_else(Platform::host).to_string(),
        }
    }

    async fn open(&self, plan: &Plan) -> Result<Repository> {
        let purpose = Purpose::Push { mount_from: plan.mount_sources() };
        let (credentials, headers) = (&self.request.credentials, &self.request.meta_headers);
        open_repository(self.engine, self.image, credentials, headers, purpose).await
    }

    async fn put_manifests(
        &self,
        repository: &Repository,
        plan: &Plan,
        target: &Descriptor,
    ) -> Result<()> {
        for document in &plan.documents {
            let is_target = document.descriptor.digest == target.digest;
            let tag = self.image.tag().filter(|_| is_target && self.image.digest().is_none());
            let reference = tag.unwrap_or(&document.descriptor.digest);
            let descriptor = registry::Descriptor {
                media_type: document.descriptor.media_type.clone(),
                digest: plan::parsed(&document.descriptor.digest)?,
                size: document.bytes.len() as u64,
            };
            let put = repository.put_manifest(reference, &descriptor, document.bytes.clone());
            put.await.map_err(push_error)?;
            fault::reached("push.manifest");
        }
        Ok(())
    }

    /// The next push of the same blobs to another repository need not send them. A failure costs only that.
    async fn remember_sources(&self, plan: &Plan) {
        let documents = plan.documents.iter().map(|document| &document.descriptor.digest);
        for digest in documents.chain(plan.blobs.iter().map(|blob| &blob.descriptor.digest)) {
            if let Err(error) = self.engine.add_source(digest, self.image).await {
                tracing::warn!(error = error.message(), "a pushed blob is not labelled");
            }
        }
    }

    /// moby `daemon/containerd/image_events.go`.
    async fn publish(&self, target: &Descriptor) {
        let config = self.engine.runnable(target, None).await.ok().flatten();
        let mut attributes = config.map(|found| found.config.labels.clone()).unwrap_or_default();
        attributes.insert("name".to_owned(), self.image.familiar_name());
        self.engine.hub().publish(Event {
            kind: EventType::Image,
            action: "push".to_owned(),
            actor: self.image.familiar(),
            attributes,
            at: Timestamp::now(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn all_tags_are_each_pushed_once() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let record = |name: &str| Image {
            name: name.to_owned(),
            labels: containerd::Labels::new(),
            target: containerd::Descriptor::default(),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
        };
        let names = [
            "a:1",
            "docker.io/library/a:1",
            "a:2",
            &format!("docker.io/library/a@{digest}"),
            &format!("docker.io/library/a:3@{digest}"),
            "docker.io/library/b:1",
        ];
        let tags = tags_of("docker.io/library/a", names.map(record).into());
        let found: Vec<_> =
            tags.iter().map(|(image, record)| (image.tag(), &*record.name)).collect();
        assert_eq!(found, [(Some("1"), "docker.io/library/a:1"), (Some("2"), "a:2")]);
    }
}
