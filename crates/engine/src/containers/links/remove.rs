//! Take a link away, and leave both containers.

use containerd::containers::ContainerPatch;
use names::ContainerId;

use super::BRIDGE;
use crate::containers::record::{FACTS, Facts};
use crate::waiting::try_blocking;
use crate::{Engine, Error, Result};

impl Engine {
    /// Forget that one container calls another one so: `web/alias` (moby `daemon/delete.go`, `rmLink`). A running container
    /// forgets it at once.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`] if nobody calls anything so; [`Error::DefaultLinkName`] for a container's own name.
    pub async fn remove_link(&self, typed: &str) -> Result<()> {
        self.resolve_container(typed).await?;
        let name = typed.strip_prefix('/').unwrap_or(typed);
        let (parent, alias) = name.split_once('/').ok_or(Error::DefaultLinkName)?;
        let (guard, container) = self.lock_container(parent, "update").await?;
        let doing = || format!("remove link {alias} of container {}", container.id);
        let id = container.id.as_str();
        let record = self.containerd().get_container(id).await;
        let record = record.map_err(|error| self.containerd_error(doing(), error))?;
        let Some(mut facts) = Facts::of(&record) else { return Ok(()) };
        facts.links.retain(|link| link.alias != alias);
        let facts = facts.to_any().map_err(|error| Error::failed(doing(), error))?;
        let mut patch = ContainerPatch::default();
        patch.extensions.insert(FACTS.to_owned(), facts);
        let updated = self.containerd().update_container(id, patch).await;
        updated.map_err(|error| self.containerd_error(doing(), error))?;
        self.forget_link(guard.id(), alias).await?;
        self.inventory().refresh(&container.id).await;
        Ok(())
    }

    async fn forget_link(&self, id: &ContainerId, alias: &str) -> Result<()> {
        let hosts = self.store().hosts(&self.settings().namespace);
        let doing = format!("take link {alias} out of the hosts file of container {id}");
        let (id, alias) = (id.clone(), alias.to_owned());
        try_blocking(doing, move || hosts.remove_link(&id, BRIDGE, &alias)).await
    }
}
