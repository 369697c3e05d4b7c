//! From what a user typed to a container, and whether it may be changed.

use std::sync::Arc;
use std::time::Duration;

use super::{Container, Owner, Phase};
use crate::inventory::Entry;
use crate::locks::ContainerGuard;
use crate::{Engine, Error, Result};

/// How long the work on an end may take that was found: its output is drained, its networks released.
pub(super) const END_WORKED_ON: Duration = Duration::from_secs(10);

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

    /// `container`, or how it is by now if `suits` does not take its phase: what nerdctl, `ctr` or the kubelet did a moment
    /// ago may not have reached us yet, and nobody shall be refused because of that. An end that is found has been worked
    /// on at the return.
    pub(crate) async fn up_to_date(
        &self,
        container: Arc<Container>,
        suits: impl Fn(Phase) -> bool,
    ) -> Arc<Container> {
        let phase = container.state.phase;
        let is_open_to_others =
            matches!(phase, Phase::Created | Phase::Exited | Phase::Running | Phase::Paused);
        if suits(phase) || !is_open_to_others {
            return container;
        }
        if self.exits().is_busy(&container) || self.inventory().look(&container).await {
            self.ends_within(&container, Some(END_WORKED_ON)).await;
        }
        let now = self.inventory().now();
        now.get(&container.id).map_or(container, |entry| Arc::clone(&entry.container))
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
