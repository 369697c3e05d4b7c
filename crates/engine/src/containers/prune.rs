//! Remove the containers that do not run.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use names::ContainerId;

use super::remove::RemoveOptions;
use super::{Container, Owner};
use crate::events::{Event, EventType};
use crate::{Engine, Error, Result};

/// Removals at the same time.
const AT_ONCE: usize = 4;

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Containers, newest first.
    pub containers: Vec<ContainerId>,
    /// Bytes that they had written.
    pub reclaimed: u64,
}

impl Engine {
    /// Remove all containers that do not run and that `wanted` says yes to. Their volumes stay. What cannot be removed stays
    /// too, and the log says why (moby `daemon/prune.go`).
    ///
    /// Only containers of ours and of nerdctl's: others may have made theirs for a purpose that does not show.
    ///
    /// # Errors
    /// [`Error::PruneRunning`]; [`Error::NotLoaded`], [`Error::ContainerdUnavailable`].
    pub async fn prune_containers(
        &self,
        wanted: impl Fn(&Container) -> bool + Send + Sync,
    ) -> Result<Pruned> {
        let _turn = self.prunes().begin()?;
        let snapshot = self.inventory().loaded().await?;
        let mut containers: Vec<Arc<Container>> = snapshot
            .entries()
            .map(|entry| Arc::clone(&entry.container))
            .filter(|container| may_be_pruned(container) && wanted(container))
            .collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        let removals = stream::iter(containers).map(|container| self.prune_one(container));
        let removed: Vec<Option<(ContainerId, u64)>> = removals.buffered(AT_ONCE).collect().await;
        let mut pruned = Pruned::default();
        for (id, bytes) in removed.into_iter().flatten() {
            pruned.containers.push(id);
            pruned.reclaimed = pruned.reclaimed.saturating_add(bytes);
        }
        self.hub().publish(Event {
            kind: EventType::Container,
            action: "prune".to_owned(),
            actor: String::new(),
            attributes: [("reclaimed".to_owned(), pruned.reclaimed.to_string())].into(),
            at: jiff::Timestamp::now(),
        });
        Ok(pruned)
    }

    async fn prune_one(&self, container: Arc<Container>) -> Option<(ContainerId, u64)> {
        let id = container.id.as_str();
        let size = self.written_by(&container).await.unwrap_or_else(|error| {
            tracing::debug!(container = id, error = error.message(), "its size is not known");
            0
        });
        match Box::pin(self.remove_container(id, &RemoveOptions::default())).await {
            Ok(()) => Some((container.id.clone(), size)),
            Err(Error::NoSuchContainer(_) | Error::RemovalInProgress(_)) => None,
            Err(error) => {
                tracing::warn!(
                    container = id,
                    error = error.message(),
                    "a container could not be pruned"
                );
                None
            }
        }
    }
}

fn may_be_pruned(container: &Container) -> bool {
    matches!(container.owner, Owner::Nerdctld | Owner::Nerdctl)
        && !container.state.phase.counts_as_running()
}
