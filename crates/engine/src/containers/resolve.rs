//! From what a user typed to a container, and whether it may be changed.

use std::sync::Arc;

use super::{Container, Owner};
use crate::inventory::Entry;
use crate::locks::ContainerGuard;
use crate::{Engine, Error, Result};

impl Engine {
    /// The container a user means. Waits for the first look at containerd, for nothing else.
    ///
    /// # Errors
    /// As [`crate::inventory::Snapshot::resolve`], and [`Error::NotLoaded`].
    pub async fn resolve_container(&self, typed: &str) -> Result<Arc<Container>> {
        Ok(Arc::clone(&self.resolve_entry(typed).await?.container))
    }

    pub(crate) async fn resolve_entry(&self, typed: &str) -> Result<Arc<Entry>> {
        self.inventory().loaded().await?.resolve(typed).cloned()
    }

    /// Resolve, refuse what Kubernetes manages, take the lock, and look again: what happened while we waited for the lock
    /// counts.
    pub(crate) async fn lock_container(
        &self,
        typed: &str,
        verb: &'static str,
    ) -> Result<(ContainerGuard, Arc<Container>)> {
        let container = self.resolve_container(typed).await?;
        self.may_change(&container, typed, verb)?;
        let guard = self.locks().lock(&container.id).await;
        let now = self.inventory().now();
        let entry =
            now.get(&container.id).ok_or_else(|| Error::NoSuchContainer(typed.to_owned()))?;
        Ok((guard, Arc::clone(&entry.container)))
    }

    /// Containers of pods belong to the kubelet, unless the daemon was told otherwise.
    pub(crate) fn may_change(
        &self,
        container: &Container,
        typed: &str,
        verb: &'static str,
    ) -> Result<()> {
        match &container.owner {
            Owner::Kubernetes { namespace, pod, .. } if !self.settings().manage_cri => {
                Err(Error::ManagedByKubernetes {
                    verb,
                    container: typed.to_owned(),
                    namespace: namespace.clone(),
                    pod: pod.clone(),
                })
            }
            _ => Ok(()),
        }
    }
}
