//! Give a container another name.
//!
//! The name is in four places: nerdctl's name store, the label that everybody reads, the annotation in the spec that hooks
//! read at the next start, and the hosts files of those who share a network with it. The new name is taken first and the
//! old one freed last, so that neither can go to somebody else in between.

use containerd::Any;
use containerd::containers::ContainerPatch;
use names::ContainerName;
use nerdctl_store::StoreError;
use nerdctl_store::labels::keys;

use super::{Container, Owner};
use crate::events::translate::container_event;
use crate::undo::Undo;
use crate::waiting::try_blocking;
use crate::{Engine, Error, Result};

impl Engine {
    /// Rename it, running or not.
    ///
    /// # Errors
    /// [`Error::EmptyName`], [`Error::SameName`], [`Error::NewName`] around [`Error::NameInUse`] or
    /// [`Error::InvalidParameter`]; [`Error::ManagedByKubernetes`].
    pub async fn rename_container(&self, typed: &str, new_name: &str) -> Result<()> {
        let (typed, new_name) = (typed.trim(), new_name.trim());
        if [typed, new_name].iter().any(|name| name.strip_prefix('/').unwrap_or(name).is_empty()) {
            return Err(Error::EmptyName);
        }
        let (_guard, container) = self.lock_container(typed, "rename").await?;
        let new_name = match new_name {
            slashed if slashed.starts_with('/') => slashed.to_owned(),
            bare => format!("/{bare}"),
        };
        if new_name.strip_prefix('/') == Some(container.name.as_str()) {
            return Err(Error::SameName);
        }
        if !matches!(container.owner, Owner::Nerdctld | Owner::Nerdctl) {
            return Err(Error::Unsupported {
                what: format!("renaming container {typed}, which has no name of nerdctl's,"),
                hint: ": rename it with the program that made it".into(),
            });
        }
        let new_name: ContainerName = new_name
            .parse()
            .map_err(|error: names::InvalidContainerName| {
                Error::InvalidParameter(error.to_string())
            })
            .and_then(|name| self.name_must_be_free(&name).map(|()| name))
            .map_err(|error| Error::NewName { source: Box::new(error) })?;
        let mut undo = Undo::new();
        match Box::pin(self.rename_parts(&container, &new_name, &mut undo)).await {
            Ok(()) => undo.disarm(),
            Err(error) => {
                undo.run().await;
                return Err(error);
            }
        }
        // It has a new name already: an old one that stays taken is a nuisance, no failure.
        if let Err(error) = self.release_name(&container).await {
            tracing::warn!(
                container = container.id.as_str(),
                name = container.name,
                error = error.message(),
                "the old name could not be freed"
            );
        }
        self.inventory().refresh(&container.id).await;
        self.tell_of_rename(&container);
        Ok(())
    }

    async fn rename_parts(
        &self,
        container: &Container,
        name: &ContainerName,
        undo: &mut Undo,
    ) -> Result<()> {
        self.take_name(name, &container.id, undo).await.map_err(|error| match error {
            in_use @ Error::NameInUse { .. } => Error::NewName { source: Box::new(in_use) },
            other => other,
        })?;
        self.announce_name(container, name.as_str()).await?;
        let (engine, before) = (self.clone(), container.clone());
        undo.push("announce the old name", async move {
            engine.announce_name(&before, &before.name).await
        });
        self.write_name(container, name).await
    }

    /// Label and annotation, in one update.
    async fn write_name(&self, container: &Container, name: &ContainerName) -> Result<()> {
        let id = container.id.as_str();
        let failed =
            |error| self.containerd_error(format!("write the name of container {id}"), error);
        let record = self.containerd().get_container(id).await.map_err(failed)?;
        let mut patch = ContainerPatch::default();
        patch.labels.insert(keys::NAME.into(), Some(name.to_string()));
        patch.spec = record.spec.as_ref().and_then(|spec| renamed(spec, name));
        self.containerd().update_container(id, patch).await.map(drop).map_err(failed)
    }

    /// The hosts files of those who see it. A container that is in no network is in none.
    async fn announce_name(&self, container: &Container, name: &str) -> Result<()> {
        let hosts = self.store().hosts(&self.settings().namespace);
        let (id, name) = (container.id.clone(), name.to_owned());
        let doing = format!("write the hosts files that name container {id}");
        let renamed = try_blocking(doing, move || match hosts.rename(&id, &name) {
            Err(StoreError::NoHostsEntry { .. }) => Ok(()),
            renamed => renamed,
        });
        renamed.await
    }

    fn tell_of_rename(&self, before: &Container) {
        let now = self.inventory().now();
        let Some(entry) = now.get(&before.id) else { return };
        let extra = [("oldName", format!("/{}", before.name))];
        self.hub().publish(container_event(&entry.container, "rename", &extra));
    }
}

/// The spec with the new name in its annotation; `None` if it has none, or is not to be read. Everything else stays, also
/// what we do not know.
fn renamed(spec: &Any, name: &ContainerName) -> Option<Any> {
    let mut document: serde_json::Value = serde_json::from_slice(&spec.value).ok()?;
    let annotation = document.get_mut("annotations")?.get_mut(keys::NAME)?;
    *annotation = serde_json::Value::String(name.to_string());
    Some(Any::new(&spec.type_url, serde_json::to_vec(&document).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_annotation_of_the_spec_changes() {
        let spec = Any::new(
            "types.containerd.io/opencontainers/runtime-spec/1/Spec",
            r#"{"annotations":{"nerdctl/name":"old","x":"old"},"future":{"n":18446744073709551615}}"#,
        );
        let name: ContainerName = "new".parse().unwrap();
        let after = renamed(&spec, &name).unwrap();
        assert_eq!(after.type_url, spec.type_url);
        assert_eq!(
            String::from_utf8(after.value.to_vec()).unwrap(),
            r#"{"annotations":{"nerdctl/name":"new","x":"old"},"future":{"n":18446744073709551615}}"#
        );
        for without in [r#"{"annotations":null}"#, "{}", "no JSON"] {
            assert_eq!(renamed(&Any::new("t", without), &name), None, "{without}");
        }
    }
}
