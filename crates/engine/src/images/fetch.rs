//! Blobs from a registry into containerd's content store.
//!
//! A blob that is there already is only put under the lease. One that is not is streamed, from where
//! an earlier upload of the same name stopped, and containerd compares its digest at the end. What
//! turns out to be something else is thrown away and fetched again from the start.

use bytes::Bytes;
use containerd::Labels;
use containerd::content::{Committed, Ingest, NewIngest, Writer};
use names::Digest;
use registry::Repository;

use super::Descriptor;
use super::documents::{Kind, MAX_DOCUMENT, upload_name};
use super::lease::WorkLease;
use super::remote::remote_error;
use super::sources::{MAX_LABEL, joined, source_key};
use super::turns::Turn;
use crate::{Engine, Error, Result};

/// Downloads of a blob whose digest turns out wrong.
const TRIES: u32 = 3;

/// Addresses of one layer that are tried.
const MAX_ADDRESSES: usize = 8;

/// Fetches for one pull.
#[derive(Debug)]
pub(crate) struct Fetcher<'a> {
    engine: &'a Engine,
    lease: &'a WorkLease,
    repository: &'a Repository,
}

/// How a blob came to be in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// It was there.
    Present,
    /// It was downloaded, at least in part.
    Downloaded,
}

/// How one try went.
enum Try {
    Done(Fetched),
    /// Stored bytes do not make the digest; containerd's words.
    Wrong(String),
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        lease: &'a WorkLease,
        repository: &'a Repository,
    ) -> Self {
        Self { engine, lease, repository }
    }

    /// A small document: from the store if it is there, else from the registry. It is not stored yet, because its labels
    /// follow from what it says: see [`Self::store`].
    pub(crate) async fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if self.is_present(descriptor).await? {
            return self.stored(&descriptor.digest).await;
        }
        let digest = parsed(&descriptor.digest)?;
        let mut fetched = self.document(descriptor, &digest).await;
        for _ in 1..TRIES {
            if !matches!(fetched, Err(registry::Error::DigestMismatch { .. })) {
                break;
            }
            tracing::warn!(
                digest = descriptor.digest,
                "a document is not what its digest says; asking again"
            );
            fetched = self.document(descriptor, &digest).await;
        }
        let bytes = fetched.map_err(|error| self.remote(error))?;
        if bytes.len() as u64 != descriptor.size {
            let problem = format!(
                "{} has {} bytes, its descriptor says {}",
                descriptor.digest,
                bytes.len(),
                descriptor.size
            );
            return Err(Error::BadContent(problem));
        }
        Ok(bytes.to_vec())
    }

    async fn document(
        &self,
        descriptor: &Descriptor,
        digest: &Digest,
    ) -> Result<Bytes, registry::Error> {
        match Kind::of(&descriptor.media_type) {
            Kind::Index | Kind::Manifest => {
                self.repository.manifest(digest).await.map(|manifest| manifest.bytes)
            }
            _ => self.repository.small_blob(digest, descriptor.size, MAX_DOCUMENT).await,
        }
    }

    /// Stores a document that was read, with labels that keep alive what it refers to.
    pub(crate) async fn store(
        &self,
        descriptor: &Descriptor,
        bytes: &[u8],
        labels: Labels,
    ) -> Result<()> {
        let labels = self.with_source(labels);
        let new = new_ingest(&upload_name(descriptor), descriptor);
        let written = self.lease.write_blob(new, bytes, labels.clone()).await;
        match written.map_err(|error| self.failed("store", descriptor, error))? {
            Committed::Stored { .. } => {}
            Committed::AlreadyExists => self.label(descriptor, labels).await?,
        }
        Ok(())
    }

    /// A blob of any size, straight into the store. `count` hears how many bytes are there.
    pub(crate) async fn blob(
        &self,
        descriptor: &Descriptor,
        labels: Labels,
        count: impl Fn(u64) + Send + Sync,
    ) -> Result<Fetched> {
        let name = upload_name(descriptor);
        let mut turn = self.lease.upload_turn(&name).await;
        let labels = self.with_source(labels);
        let mut tries = 1;
        loop {
            match self.try_blob(&mut turn, descriptor, &labels, &count).await? {
                Try::Done(fetched) => {
                    self.lease.uploaded(&name);
                    return Ok(fetched);
                }
                Try::Wrong(message) => {
                    tracing::warn!(
                        upload = name,
                        message,
                        tries,
                        "a blob is not what its digest says"
                    );
                    self.throw_away(&name).await;
                    if tries == TRIES {
                        // tilt and others look for exactly these words (containerd content/helpers.go).
                        let text = format!(
                            "failed commit on ref \"{name}\": {message}: failed precondition"
                        );
                        return Err(Error::BadContent(text));
                    }
                    tries += 1;
                }
            }
        }
    }

    async fn try_blob(
        &self,
        turn: &mut Option<Turn>,
        descriptor: &Descriptor,
        labels: &Labels,
        count: &(impl Fn(u64) + Send + Sync),
    ) -> Result<Try> {
        let new = new_ingest(&upload_name(descriptor), descriptor);
        let opened = self.lease.open(new, turn).await;
        let mut writer = match opened.map_err(|error| self.failed("store", descriptor, error))? {
            Ingest::Open(writer) => writer,
            Ingest::AlreadyExists => {
                self.label(descriptor, labels.clone()).await?;
                return Ok(Try::Done(Fetched::Present));
            }
        };
        if writer.offset() > descriptor.size {
            writer.restart().await.map_err(|error| self.failed("store", descriptor, error))?;
        }
        // All of it: the blob is known from another namespace.
        let fetched =
            if writer.offset() == descriptor.size { Fetched::Present } else { Fetched::Downloaded };
        self.download(descriptor, &mut writer, count).await?;
        match writer.commit(labels.clone()).await {
            Ok(Committed::Stored { .. }) => Ok(Try::Done(fetched)),
            Ok(Committed::AlreadyExists) => {
                let held = self.lease.hold(&descriptor.digest).await;
                held.map_err(|error| self.failed("protect", descriptor, error))?;
                self.label(descriptor, labels.clone()).await?;
                Ok(Try::Done(fetched))
            }
            Err(error) if error.is_failed_precondition() => {
                Ok(Try::Wrong(error.message().to_owned()))
            }
            Err(error) => Err(self.failed("store", descriptor, error)),
        }
    }

    async fn download(
        &self,
        descriptor: &Descriptor,
        writer: &mut Writer,
        count: &(impl Fn(u64) + Send + Sync),
    ) -> Result<()> {
        if writer.offset() == descriptor.size {
            return Ok(());
        }
        let _line = self.engine.image_cache().download_line().await;
        let digest = parsed(&descriptor.digest)?;
        let opened = self.repository.blob(&digest, descriptor.size, writer.offset()).await;
        let mut blob = match opened {
            Err(registry::Error::NotFound { .. }) if descriptor.is_foreign() => {
                return self.download_from_maker(descriptor, writer, count).await;
            }
            opened => opened.map_err(|error| self.remote(error))?,
        };
        while let Some(chunk) = blob.chunk().await.map_err(|error| self.remote(error))? {
            writer.write(&chunk).await.map_err(|error| self.failed("store", descriptor, error))?;
            count(writer.offset());
        }
        Ok(())
    }

    /// A layer that the registry need not have, from the first of its addresses that has it. containerd asks them before the
    /// registry, and for whatever names some (containerd `core/remotes/docker/fetcher.go`); anybody's manifest could send
    /// the daemon anywhere then.
    async fn download_from_maker(
        &self,
        descriptor: &Descriptor,
        writer: &mut Writer,
        count: &(impl Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let missing =
            || Error::BadContent(format!("no address of layer {} has it", descriptor.digest));
        let mut outcome = Err(missing());
        for address in descriptor.urls.iter().take(MAX_ADDRESSES) {
            let found = self.engine.registry().download(address).await;
            let mut download = match found {
                Ok(download) => download,
                Err(error) => {
                    let address = registry::without_secrets(address);
                    tracing::info!(address, %error, "an address of a layer does not have it");
                    outcome = Err(Error::failed(format!("Get {address:?}"), error));
                    continue;
                }
            };
            let failed = |error| self.failed("store", descriptor, error);
            if writer.offset() > 0 {
                writer.restart().await.map_err(failed)?;
            }
            while let Some(chunk) = download.chunk().await.map_err(|error| self.remote(error))? {
                if writer.offset() + chunk.len() as u64 > descriptor.size {
                    let (digest, size) = (&descriptor.digest, descriptor.size);
                    let problem = format!("{digest} has more than {size} bytes at its address");
                    return Err(Error::BadContent(problem));
                }
                writer.write(&chunk).await.map_err(failed)?;
                count(writer.offset());
            }
            return Ok(());
        }
        outcome
    }

    /// Whether the blob is in the store; from now on it is under the lease.
    async fn is_present(&self, descriptor: &Descriptor) -> Result<bool> {
        match self.engine.containerd().blob(&descriptor.digest).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(self.failed("look for", descriptor, error)),
        }
        let added = self.lease.hold(&descriptor.digest).await;
        added.map_err(|error| self.failed("protect", descriptor, error))?;
        // It may have been collected between the two calls.
        match self.engine.containerd().blob(&descriptor.digest).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(self.failed("look for", descriptor, error)),
        }
    }

    async fn stored(&self, digest: &str) -> Result<Vec<u8>> {
        let limit = usize::try_from(MAX_DOCUMENT).unwrap_or(usize::MAX);
        let read = self.lease.client().read_all(digest, limit).await;
        read.map_err(|error| self.engine.containerd_error(format!("read {digest}"), error))
    }

    async fn throw_away(&self, name: &str) {
        if let Err(error) = self.engine.containerd().abort_ingest(name).await
            && !error.is_not_found()
        {
            tracing::warn!(upload = name, %error, "an upload could not be thrown away");
        }
    }

    /// Adds labels to a blob that was there already. Its sources are a list to which ours is added.
    async fn label(&self, descriptor: &Descriptor, mut labels: Labels) -> Result<()> {
        let known = self.engine.containerd().blob(&descriptor.digest).await;
        let known = known.map_err(|error| self.failed("look for", descriptor, error))?.labels;
        let (key, source) = self.source();
        let sources = known.get(&key).map_or(source.clone(), |sources| joined(sources, &source));
        labels.insert(key, sources);
        labels.retain(|key, value| {
            known.get(key) != Some(value) && key.len() + value.len() <= MAX_LABEL
        });
        let patch = labels.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let updated = self.engine.containerd().update_blob_labels(&descriptor.digest, patch).await;
        updated.map(drop).map_err(|error| self.failed("label", descriptor, error))
    }

    fn with_source(&self, mut labels: Labels) -> Labels {
        let (key, source) = self.source();
        labels.insert(key, source);
        labels.retain(|key, value| key.len() + value.len() <= MAX_LABEL);
        labels
    }

    /// The label that says where a blob came from.
    fn source(&self) -> (String, String) {
        let image = self.repository.image();
        (source_key(image), image.path().to_owned())
    }

    fn remote(&self, error: registry::Error) -> Error {
        remote_error(self.repository.image(), error)
    }

    fn failed(&self, verb: &str, descriptor: &Descriptor, error: containerd::Error) -> Error {
        self.engine.containerd_error(format!("{verb} {}", descriptor.digest), error)
    }
}

fn new_ingest(name: &str, descriptor: &Descriptor) -> NewIngest {
    NewIngest {
        name: name.to_owned(),
        total: Some(descriptor.size),
        expected: Some(descriptor.digest.clone()),
    }
}

fn parsed(digest: &str) -> Result<Digest> {
    digest.parse().map_err(|error| Error::BadContent(format!("{digest:?}: {error}")))
}
