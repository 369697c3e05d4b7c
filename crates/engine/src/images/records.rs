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
use super::naming::dangling_name;
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
            match self.containerd().get_image(name).await {
                Ok(known) if known.target.digest != target.digest => {
                    self.keep_without_name(name).await?;
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
        self.image_cache().turns().take(&format!("image {digest}")).await
    }
}
