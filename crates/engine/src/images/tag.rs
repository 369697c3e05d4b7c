//! Give an image a further name (moby `daemon/containerd/image_tag.go`).

use names::ImageRef;

use super::Descriptor;
use super::naming::inherited_labels;
use crate::{Engine, Result};

impl Engine {
    /// Give the image that a user means the name `name`. An image that had the name stays, without it.
    ///
    /// # Errors
    /// [`crate::Error::InvalidReference`], [`crate::Error::NoSuchImage`], [`crate::Error::AmbiguousImage`] of the image that is meant.
    pub async fn tag_image(&self, typed: &str, name: &ImageRef) -> Result<()> {
        let digest = self.image_id_of(typed).await?;
        // A removal that was faster has taken it all away.
        let _turn = self.image_turn(&digest).await;
        let found = self.find_image(typed).await?;
        let target = Descriptor::from(found.record.target.clone());
        let full = name.to_string();
        self.put_image(&full, &target, inherited_labels(&found.record.labels)).await?;
        self.publish_tag(&target.digest, &name.familiar());
        Ok(())
    }
}
