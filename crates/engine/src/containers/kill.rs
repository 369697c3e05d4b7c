//! Send a signal.

use std::time::Duration;

use containerd::classify::{ShimProblem, shim_problem};
use names::Signal;
use nerdctl_store::labels::keys;

use super::resolve::END_WORKED_ON;
use super::restart_policy::RestartPolicy;
use super::state::{Fact, Wish};
use super::{Container, Phase};
use crate::events::translate::container_event;
use crate::locks::ContainerGuard;
use crate::{Engine, Error, Result};

/// How long the work on an end may take once the process is gone. The networks of all containers are released one after
/// the other, and whoever waits for a container must not take that for a process that does not end.
const WORKED_ON_WITHIN: Duration = networking::CNI_LOCK_DEADLINE.saturating_add(END_WORKED_ON);

/// How long SIGKILL may take before it is called a failure (moby `daemon/kill.go`).
const KILLED_WITHIN: Duration = Duration::from_secs(10);

impl Engine {
    /// Send a signal to a running container; SIGKILL if none is named. Waits for the end after SIGKILL.
    ///
    /// # Errors
    /// [`Error::CannotKill`] around the reason: not running, not a signal; [`Error::ManagedByKubernetes`].
    pub async fn kill_container(&self, typed: &str, signal: Option<&str>) -> Result<()> {
        let wrap =
            |source| Error::CannotKill { container: typed.to_owned(), source: Box::new(source) };
        let signal = match signal.filter(|signal| !signal.is_empty()) {
            None => Signal::KILL,
            Some(text) => text
                .parse()
                .map_err(|_| wrap(Error::InvalidParameter(format!("invalid signal: {text}"))))?,
        };
        let (guard, container) = self.lock_container(typed, "kill").await?;
        let container = self.up_to_date(container, Phase::has_process).await;
        match container.state.phase {
            Phase::Running | Phase::Paused => {}
            // Nobody is there to be signalled; what was wanted is that it stays so (moby `daemon/kill.go`).
            Phase::Restarting => {
                return self.end_is_wanted(&guard, &container, Wish::Stop).await.map_err(wrap);
            }
            Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => {
                return Err(wrap(Error::NotRunning(container.id.to_string())));
            }
        }
        if ends_restarts(&container, signal) {
            self.end_is_wanted(&guard, &container, Wish::Stop).await.map_err(wrap)?;
        }
        if signal == Signal::KILL {
            return self.kill_run(&container).await.map_err(wrap);
        }
        self.send_signal(&container, signal).await.map(drop).map_err(wrap)
    }

    /// Send SIGKILL to the run that `container` is in, if it has not ended. Returns when the end has been worked on.
    pub(crate) async fn kill_run(&self, container: &Container) -> Result<()> {
        if !self.is_over(container) {
            self.send_signal(container, Signal::KILL).await?;
        }
        if self.ends_within(container, Some(KILLED_WITHIN)).await {
            return Ok(());
        }
        Err(Error::NoExitEvent)
    }

    /// Send it, thaw a paused container where it is to act on it, and tell. Says whether there was a process to get it.
    pub(crate) async fn send_signal(&self, container: &Container, signal: Signal) -> Result<bool> {
        let id = container.id.as_str();
        let doing = || format!("send signal {} to container {id}", signal.number());
        let reached = match self.containerd().kill(id, None, signal.number(), false).await {
            Ok(()) => true,
            // It ended before the signal reached it: what was wanted has happened, or will be said by the exit.
            Err(error)
                if error.is_not_found() || shim_problem(&error) == Some(ShimProblem::Stopped) =>
            {
                false
            }
            Err(error) => return Err(self.containerd_error(doing(), error)),
        };
        if !reached {
            return Ok(false);
        }
        if container.state.phase == Phase::Paused && is_to_end(container, signal) {
            // It may have ended of the signal already, and then there is nothing to thaw.
            if let Err(error) = self.containerd().resume(id).await {
                tracing::debug!(container = id, %error, "it was not thawed to act on the signal");
            }
        }
        let extra = [("signal", signal.number().to_string())];
        self.hub().publish(container_event(container, "kill", &extra));
        Ok(true)
    }

    /// Whether the run that `container` is in has ended; that may still be worked on.
    fn is_over(&self, container: &Container) -> bool {
        let now = self.inventory().now();
        let runs = now.get(&container.id).is_some_and(|entry| {
            let state = &entry.container.state;
            state.phase.has_process() && state.generation == container.state.generation
        });
        !runs || self.exits().is_busy(container)
    }

    /// Wait until the run that `container` is in has ended and been worked on.
    async fn ends(&self, container: &Container) {
        let now = self.inventory().now();
        let Some(mut states) = now.get(&container.id).map(|entry| entry.states.clone()) else {
            return;
        };
        drop(now);
        let run = container.state.generation;
        // An error means that the container is gone.
        let _ =
            states.wait_for(|state| !state.phase.has_process() || state.generation != run).await;
    }

    /// Whether the run that `container` is in ends within the limit; `None` is none. At the return the end has been worked
    /// on, which is not part of the limit.
    pub(crate) async fn ends_within(&self, container: &Container, limit: Option<Duration>) -> bool {
        let Some(limit) = limit else {
            self.ends(container).await;
            return true;
        };
        if tokio::time::timeout(limit, self.ends(container)).await.is_ok() {
            return true;
        }
        if !self.is_over(container) && !self.inventory().look(container).await {
            return false;
        }
        tokio::time::timeout(WORKED_ON_WITHIN, self.ends(container)).await.is_ok()
    }

    /// Somebody wants it to end, and neither its policy nor containerd's restart plugin nor nerdctl is to start it again.
    ///
    /// `restart.status` goes before the signal, because the plugin looks every ten seconds (containerd
    /// `core/runtime/restart`). Ends the restarts of a container that waits for the next one.
    pub(crate) async fn end_is_wanted(
        &self,
        guard: &ContainerGuard,
        container: &Container,
        wish: Wish,
    ) -> Result<()> {
        if container.has_restart_labels {
            let stopped = Some("true".to_owned());
            let labels =
                [(keys::RESTART_STATUS, None), (keys::RESTART_EXPLICITLY_STOPPED, stopped)];
            self.patch_labels(guard.id().as_str(), labels).await?;
        }
        self.inventory().tell(guard.id(), Fact::EndWanted(wish)).await;
        Ok(())
    }
}

/// Whether a signal is taken for the wish that the container ends, so that a paused one is thawed to act on it: those that
/// are meant to end it, and any if it has no stop signal of its own (moby `daemon/kill.go`, `ExitOnNext`).
fn is_to_end(container: &Container, signal: Signal) -> bool {
    signal == Signal::KILL
        || signal == container.stop_signal
        || container.stop_signal == Signal::TERM
}

/// Whether its policy is not to start a container again after a signal. Any signal counts as a stop by hand, which only
/// `unless-stopped` asks about (moby `daemon/kill.go`, `HasBeenManuallyStopped`).
fn ends_restarts(container: &Container, signal: Signal) -> bool {
    is_to_end(container, signal) || container.upkeep.restart == RestartPolicy::UnlessStopped
}
