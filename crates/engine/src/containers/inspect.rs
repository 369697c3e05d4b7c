//! Inspect a container: its entry in the inventory, and its record read freshly.
//!
//! The task is never asked, so a container whose shim hangs can be inspected like any other.

use std::sync::Arc;

use nerdctl_store::state_dir::ProbeResult;

use super::{Container, ContainerDetails, links, record};
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
        let details = record::details(&found, Arc::clone(&container), &self.settings().namespace);
        let mut details = details.ok_or_else(|| Error::NoSuchContainer(typed.to_owned()))?;
        details.health_log = self.health_log(&container).await;
        details.links = links::shown(&container, &self.inventory().now());
        Ok(details)
    }

    /// A file that cannot be read is an empty log.
    async fn health_log(&self, container: &Container) -> Vec<ProbeResult> {
        if container.state.health.is_none() || container.state_dir.is_none() {
            return Vec::new();
        }
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let read = tokio::task::spawn_blocking(move || state_dir.probes()).await;
        read.ok().and_then(nerdctl_store::Result::ok).unwrap_or_default()
    }
}
