//! Inspect a container: its entry in the inventory, and its record read freshly.
//!
//! The task is never asked, so a container whose shim hangs can be inspected like any other.

use std::sync::Arc;

use super::{ContainerDetails, record};
use crate::{Engine, Error, Result};

impl Engine {
    /// All that is known of one container.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::AmbiguousContainer`], [`Error::NotLoaded`];
    /// [`Error::ContainerdUnavailable`].
    pub async fn inspect_container(&self, typed: &str) -> Result<ContainerDetails> {
        let container = self.resolve_container(typed).await?;
        let id = container.id.as_str();
        let found = match self.containerd().get_container(id).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                return Err(Error::NoSuchContainer(typed.to_owned()));
            }
            Err(error) => {
                return Err(
                    self.containerd_error(format!("read the record of container {id}"), error)
                );
            }
        };
        record::details(&found, Arc::clone(&container), &self.settings().namespace)
            .ok_or_else(|| Error::NoSuchContainer(typed.to_owned()))
    }
}
