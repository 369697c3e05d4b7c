//! Image records: the one place that writes them, and the one that takes them away.
//!
//! A record is what makes an image visible and keeps its content, so it is written last. Whoever gives a name to another
//! image keeps the one that it stood for, without a name (moby `daemon/containerd/soft_delete.go`). Whoever takes a name
//! away takes only what it saw: a name that was given to another image meanwhile stays.

use std::collections::BTreeMap;

use containerd::Labels;
use containerd::images::{Image, ImagePatch, NewImage};

use super::Descriptor;
use super::foreign::Change;
use super::make::PARENT;
use super::naming::{dangling_name, is_dangling};
use super::turns::Turn;
use crate::{Engine, Result};

impl Engine {
    /// Makes the record `name`, or turns it to another image; the one that it stood for stays, without a name. An image
    /// that was kept without a name has one then, and the record that kept it goes.
    pub(crate) async fn put_image(
        &self,
        name: &str,
        target: &Descriptor,
        labels: Labels,
    ) -> Result<()> {
        let mut left = None;
        let put = self.put_record(name, target, labels, &mut left).await;
        if let Some(digest) = left {
            self.settle(digest).await;
        }
        put
    }

    /// `left` gets the image that the name stood for; it is kept without a name, whatever comes of this.
    async fn put_record(
        &self,
        name: &str,
        target: &Descriptor,
        labels: Labels,
        left: &mut Option<String>,
    ) -> Result<()> {
        let failed = |error| self.containerd_error(format!("name image {name}"), error);
        let _turn = self.name_turn(name).await;
        loop {
            let new = NewImage {
                name: name.to_owned(),
                labels: labels.clone(),
                target: target.clone().into(),
            };
            let making = self.changing(name, Change::Made);
            match making.ended(self.containerd().create_image(new).await) {
                Ok(_) => break,
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(failed(error)),
            }
            let mut _keeping = None;
            match self.containerd().get_image(name).await {
                Ok(known) if known.target.digest != target.digest => {
                    _keeping = Some(self.keeping_turn(&known.target.digest).await);
                    self.keep_without_name(&known).await?;
                    *left = Some(known.target.digest);
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(failed(error)),
            }
            // What the name stood for before says nothing about the parent of what it stands for now.
            let mut patched = BTreeMap::from([(PARENT.to_owned(), None)]);
            patched.extend(labels.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
            let patch = ImagePatch { target: Some(target.clone().into()), labels: patched };
            let changing = self.changing(name, Change::Changed);
            match changing.ended(self.containerd().update_image(name, patch).await) {
                Ok(_) => break,
                // Removed between the two calls.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if name != dangling_name(&target.digest) {
            self.has_name_now(&target.digest).await;
        }
        self.image_cache().changed();
        Ok(())
    }

    /// Takes a record away if it still is what was seen. Gives whether it was; with `sync`, waits until what only it kept
    /// is gone.
    pub(crate) async fn drop_image(&self, seen: &Image, sync: bool) -> Result<bool> {
        let name = &seen.name;
        let failed = |error| self.containerd_error(format!("remove image {name}"), error);
        let _turn = self.name_turn(name).await;
        // containerd 1.x does not compare; 2.x does it once more, against everybody else.
        match self.containerd().get_image(name).await {
            Ok(known) if known.target.digest != seen.target.digest => return Ok(false),
            Ok(_) => {}
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        let removing = self.changing(name, Change::Removed);
        let removed = self.containerd().delete_image_of(name, &seen.target, sync).await;
        let outcome = removing.ended(removed);
        self.image_cache().changed();
        match outcome {
            Ok(()) => Ok(true),
            // Somebody else was faster.
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// An image that lost a name, and was kept without one meanwhile: if it has another, it needs that no more.
    async fn settle(&self, digest: String) {
        let turns = self.image_cache().turns();
        // Whoever moves a name may have the turn of its new image: two that swap names must not wait for each other.
        if let Some(_turn) = turns.try_take(&image_turn_name(&digest)) {
            return self.drop_needless(&digest).await;
        }
        let engine = self.clone();
        self.supervisor().spawn_operation(async move {
            let _turn = engine.image_turn(&digest).await;
            engine.drop_needless(&digest).await;
        });
    }

    /// With the image's turn, so that nobody takes its other names away at the same time.
    async fn drop_needless(&self, digest: &str) {
        let _keeping = self.keeping_turn(digest).await;
        match self.image_records(digest).await {
            Ok(records) if records.iter().any(|record| !is_dangling(record)) => {
                self.has_name_now(digest).await;
                self.image_cache().changed();
            }
            Ok(_) => {}
            Err(error) => {
                let error = error.message();
                tracing::warn!(digest, error, "an image may be listed without a name, too");
            }
        }
    }

    /// Between keeping an image without a name and moving its name, nobody finds that record needless. The last turn that
    /// is taken.
    async fn keeping_turn(&self, digest: &str) -> Turn {
        self.image_cache().turns().take(&format!("keep image {digest}")).await
    }

    /// The record that kept an image without a name goes.
    async fn has_name_now(&self, digest: &str) {
        match self.containerd().delete_image(&dangling_name(digest), false).await {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(digest, %error, "an image with a name is listed without one, too");
            }
            _ => {}
        }
    }

    /// Two of us that change one name see each other's work.
    async fn name_turn(&self, name: &str) -> Turn {
        self.image_cache().turns().take(&format!("image name {name}")).await
    }

    /// Two of us that name and remove one image see each other's work.
    pub(crate) async fn image_turn(&self, digest: &str) -> Turn {
        self.image_cache().turns().take(&image_turn_name(digest)).await
    }
}

fn image_turn_name(digest: &str) -> String {
    format!("image {digest}")
}
