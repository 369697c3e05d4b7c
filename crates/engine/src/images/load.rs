//! Images out of an archive (moby `daemon/containerd/image_exporter.go`, `LoadImage`): an OCI layout, or what Docker wrote
//! before there was one.
//!
//! The archive is read once, from front to back. A thread decompresses it and takes it apart (`members.rs`); files go
//! straight into containerd's content store (`intake.rs`), whatever they will turn out to be. Only behind them the archive
//! says what they are (`oci.rs`, `docker.rs`). Then everything is compared with what is said of it, what keeps it alive is
//! labelled (`check.rs`), layers are unpacked, and last of all the names are written.
//!
//! Until then only a lease keeps it. What fails, in whatever step, takes all of it away.

mod check;
mod docker;
mod intake;
mod members;
mod oci;

use std::collections::HashSet;
use std::io;

use bytes::Bytes;
use containerd::Labels;
use futures_core::Stream;
use jiff::Timestamp;
use names::{ImageRef, Platform};
use tokio::sync::mpsc;

use super::Descriptor;
use super::lease::WorkLease;
use super::naming::dangling_name;
use super::resolve::Runnable;
use crate::archive::pipe::Source;
use crate::archive::reader::ReadError;
use crate::events::{Event, EventType};
use crate::waiting::blocking;
use crate::{Engine, Error, Result, fault};

use check::Checker;
use intake::{Intake, Stored};

/// Images of an archive, and names of them.
const MAX_IMAGES: usize = 1000;

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// Familiar name with tag; `None` if the archive has none for it.
    pub name: Option<String>,
    /// Target digest.
    pub id: String,
}

/// What came of an archive. Of several images some may have their names already when it fails.
#[derive(Debug)]
pub struct Loaded {
    /// Those that are there now.
    pub images: Vec<LoadedImage>,
    /// Why there are not all.
    pub failure: Option<Error>,
}

/// What the archive says to be an image.
#[derive(Clone, Debug)]
struct Target {
    descriptor: Descriptor,
    name: Option<ImageRef>,
}

impl Engine {
    /// Loads all images of an archive, compressed or not. With platforms, only those, which must be there. Dropping the
    /// future cancels it, and nothing stays.
    ///
    /// Failures: [`Error::BadArchive`], [`Error::BadContent`] for what is none, or is not what it says; [`Error::NoSuchPlatform`];
    /// [`Error::InvalidReference`] for a name that is none.
    pub async fn load_images<S>(&self, body: S, platforms: &[Platform]) -> Loaded
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let lease = match WorkLease::begin(self, "load").await {
            Ok(lease) => lease,
            Err(error) => return Loaded { images: Vec::new(), failure: Some(error) },
        };
        fault::reached("load.lease");
        let mut images = Vec::new();
        let failure = self.load_under(&lease, body, platforms, &mut images).await.err();
        match &failure {
            None => lease.finish().await,
            Some(error) => {
                tracing::info!(error = error.message(), "images could not be loaded");
                lease.abandon().await;
            }
        }
        Loaded { images, failure }
    }

    async fn load_under<S>(
        &self,
        lease: &WorkLease,
        body: S,
        platforms: &[Platform],
        loaded: &mut Vec<LoadedImage>,
    ) -> Result<()>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let stored = self.take_in(lease, body).await?;
        fault::reached("load.read");
        let targets = match &stored.layout {
            Some(_) => oci::targets(&stored)?,
            None => docker::targets(self, lease, &stored).await?,
        };
        if targets.len() > MAX_IMAGES {
            return Err(bad(format!("the archive has more than {MAX_IMAGES} images")));
        }
        let mut checked = HashSet::new();
        for target in &targets {
            check_name(target)?;
            if checked.insert(target.descriptor.digest.clone()) {
                let whole = Checker::new(self, lease, platforms).check(target).await?;
                fault::reached("load.checked");
                self.unpack_chosen(lease, whole, platforms).await?;
                fault::reached("load.unpacked");
            }
        }
        for target in targets {
            loaded.push(self.name_loaded(target).await?);
            fault::reached("load.named");
        }
        Ok(())
    }

    /// All files of the archive into the store.
    async fn take_in<S>(&self, lease: &WorkLease, body: S) -> Result<Stored>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let leave = self.transfer().await?;
        let (feed, source) = Source::new();
        let (sender, receiver) = mpsc::channel(members::WAITING);
        let reading = blocking("read an archive of images", move || {
            let _leave = leave;
            members::read(source, &sender)
        });
        let intake = Intake::new(self, lease);
        let ((), read, stored) = tokio::join!(feed.pump(body), reading, intake.run(receiver));
        // What the store was not given is the archive's fault.
        read?.map_err(|error| bad_archive(&error))?;
        stored
    }

    /// Unpacks what can be run: the platforms that were asked for, else the one that runs best here.
    async fn unpack_chosen(
        &self,
        lease: &WorkLease,
        mut whole: Vec<Runnable>,
        platforms: &[Platform],
    ) -> Result<()> {
        if platforms.is_empty() {
            let host = Platform::host();
            let rank = |image: &Runnable| {
                host.rank(image.descriptor.platform.as_ref().unwrap_or(&image.config.platform))
            };
            whole.retain(|image| rank(image).is_some());
            whole.sort_by_key(|image| rank(image));
            whole.truncate(1);
        }
        for image in &whole {
            if let Some(top) = image.config.chain_ids.last() {
                self.unpack_all(lease, image, top).await?;
            }
        }
        Ok(())
    }

    /// Makes the image visible.
    async fn name_loaded(&self, target: Target) -> Result<LoadedImage> {
        let id = target.descriptor.digest.clone();
        let _turn = self.image_turn(&id).await;
        // The archive's notes on the image are not the image's.
        let record = Descriptor { annotations: Labels::new(), platform: None, ..target.descriptor };
        match &target.name {
            Some(name) => self.put_image(&name.to_string(), &record, Labels::new()).await?,
            None if self.image_records(&id).await?.is_empty() => {
                self.put_image(&dangling_name(&id), &record, Labels::new()).await?;
            }
            // It has a name here.
            None => self.image_cache().changed(),
        }
        self.hub().publish(Event {
            kind: EventType::Image,
            action: "load".to_owned(),
            actor: id.clone(),
            attributes: [("name".to_owned(), id.clone())].into(),
            at: Timestamp::now(),
        });
        Ok(LoadedImage { name: target.name.map(|name| name.familiar()), id })
    }
}

/// A name with a digest is a promise about what it stands for, and an archive may say anything.
fn check_name(target: &Target) -> Result<()> {
    let digest = target.descriptor.digest.as_str();
    match &target.name {
        Some(name) if name.digest().is_some_and(|promised| promised.as_str() != digest) => {
            Err(bad(format!("image {name} is not what its name says but {digest}")))
        }
        _ => Ok(()),
    }
}

fn bad_archive(error: &ReadError) -> Error {
    Error::BadArchive(error.to_string())
}

fn bad(text: impl Into<String>) -> Error {
    Error::BadContent(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_digest_must_be_true() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let check = |name: &str| {
            let descriptor = Descriptor { digest: digest("a"), ..Descriptor::default() };
            check_name(&Target { descriptor, name: Some(name.parse().unwrap()) }).is_ok()
        };
        assert!(check("alpine:1") && check(&format!("alpine@{}", digest("a"))));
        assert!(!check(&format!("alpine@{}", digest("b"))));
        assert!(!check(&format!("alpine:1@{}", digest("b"))));
    }
}
