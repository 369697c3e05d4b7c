//! Removals that a crash interrupted: their mark is in the state directory.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use names::ContainerId;

use super::AT_ONCE;
use crate::waiting::try_blocking;
use crate::{Engine, Result};

impl Engine {
    /// End them.
    pub(super) async fn finish_removals(&self) -> Result<usize> {
        let (store, namespace) = (self.store().clone(), self.settings().namespace.clone());
        let doing = "look for half-removed containers";
        let marked = try_blocking(doing, move || {
            let ids = store.container_dirs(&namespace)?.into_iter();
            let ids = ids.filter_map(|id| id.parse::<ContainerId>().ok());
            let removal = |id: ContainerId| {
                let volumes = store.state_dir(&namespace, &id).removal().ok().flatten()?;
                Some((id, volumes))
            };
            Ok::<_, nerdctl_store::StoreError>(ids.filter_map(removal).collect::<Vec<_>>())
        });
        let marked = marked.await?;
        let count = AtomicUsize::new(0);
        // One whose shim hangs holds up none but itself.
        futures_util::stream::iter(marked)
            .for_each_concurrent(AT_ONCE, |(id, volumes)| {
                let count = &count;
                async move {
                    match self.finish(&id, volumes).await {
                        Ok(()) => {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => tracing::warn!(
                            container = id.as_str(),
                            error = error.message(),
                            "a half-removed container could not be removed; the next start tries again"
                        ),
                    }
                }
            })
            .await;
        Ok(count.into_inner())
    }

    async fn finish(&self, id: &ContainerId, volumes: bool) -> Result<()> {
        let entry = self.inventory().now().get(id).cloned();
        if let Some(entry) = entry {
            return self.finish_removal(&entry.container, volumes).await;
        }
        // Its record has gone: what is left is in the store.
        self.remove_streams(id).await;
        let (store, namespace) = (self.store().clone(), self.settings().namespace.clone());
        let doing = format!("remove the files of container {id}");
        let id = id.clone();
        let removed = try_blocking(doing, move || {
            let hosts = store.hosts(&namespace);
            hosts.release(&id)?;
            hosts.delete(&id)?;
            store.state_dir(&namespace, &id).remove_all()
        });
        removed.await
    }
}
