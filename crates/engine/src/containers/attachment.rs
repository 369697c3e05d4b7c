//! A container's networks and its exit record, as the engine handles them.
//!
//! Attaching happens inside `Tasks.Create`, in the hook mode of our binary; what is here is the other end: give the
//! networks back when a run has ended or the container goes, and write down how it ended.

use std::collections::HashMap;

use jiff::Timestamp;
use names::ContainerId;
use nerdctl_store::state_dir::{ExitRecord, Run};

use super::Container;
use crate::waiting::try_blocking;
use crate::{Engine, Error, Result};

/// A run that was found, not seen: its pid could not be learned.
const UNKNOWN_PID: u32 = 0;

impl Engine {
    /// Write `exit.json`: containerd forgets the code with the task. Gives the run that ended, if the hook noted it.
    pub(crate) async fn write_exit(
        &self,
        container: &Container,
        code: u32,
        at: Timestamp,
    ) -> Result<Option<Run>> {
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let (oom_killed, pid) = (container.state.oom_killed, container.state.pid);
        let doing = format!("write down how container {} ended", container.id);
        let written = try_blocking(doing, move || -> nerdctl_store::Result<Option<Run>> {
            let run = state_dir.lifecycle()?.run();
            if run.is_some_and(|run| run.pid != pid && pid != UNKNOWN_PID) {
                // Another run has begun already (nerdctl or the restart plugin): its note is not ours to end.
                return Ok(None);
            }
            state_dir.record_exit(&ExitRecord {
                exit_code: code,
                finished_at: at,
                oom_killed,
                run,
            })?;
            Ok(run)
        });
        written.await
    }

    /// The kernel's part in the end of the last run became known after that was written down.
    pub(crate) async fn note_oom(&self, container: &Container) {
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let written = tokio::task::spawn_blocking(move || state_dir.note_oom()).await;
        let error = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            container = container.id.as_str(),
            error,
            "that it ran out of memory could not be written down"
        );
    }

    /// The run has ended: give its addresses, rules and ports back, unless another run has begun.
    pub(crate) async fn release_networks(&self, container: &Container, run: Run) -> Result<()> {
        if !container.has_cni_networks() {
            return Ok(());
        }
        let attached = self.attached(&container.id).await?;
        let released = self.networks().release_after_exit(&attached, run).await;
        released.map_err(|error| {
            Error::failed(format!("release the networks of container {}", container.id), error)
        })?;
        Ok(())
    }

    /// The container goes: take whatever is left of its networks. What fails is logged, and the removal goes on: a
    /// broken plugin must not make containers immortal.
    pub(crate) async fn detach_networks(&self, container: &Container) {
        if !container.has_cni_networks() {
            return;
        }
        let outcome = match self.attached(&container.id).await {
            Ok(attached) => {
                self.networks().detach(&attached, None).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.message()),
        };
        if let Err(error) = outcome {
            tracing::warn!(
                container = container.id.as_str(),
                error,
                "an address or rule of a removed container may be left"
            );
        }
    }

    /// The container as the networks know it: from its labels.
    async fn attached(&self, id: &ContainerId) -> Result<networking::Container> {
        let doing = || format!("find the networks of container {id}");
        let record = self.containerd().get_container(id.as_str()).await;
        let record = record.map_err(|error| self.containerd_error(doing(), error))?;
        let labels: HashMap<String, String> = record.labels.into_iter().collect();
        networking::Container::from_labels(id.as_str(), &labels)
            .map_err(|error| Error::failed(doing(), error))
    }
}
