//! Ask a container to end, and end it if it does not.

use std::time::Duration;

use names::Signal;

use super::resolve::END_WORKED_ON;
use super::restart_policy::RestartPolicy;
use super::state::Wish;
use super::{Container, Phase};
use crate::events::translate::container_event;
use crate::locks::ContainerGuard;
use crate::{Engine, Error, Result, fault};

/// Seconds of grace where nobody said a number (moby `daemon/config`, `DefaultStopTimeout`).
const DEFAULT_GRACE: i64 = 10;

/// How a container shall be stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    /// Seconds of grace; negative waits for ever; the container's own if not given.
    pub timeout: Option<i64>,
    /// Instead of the container's own stop signal.
    pub signal: Option<Signal>,
}

impl Engine {
    /// Send the stop signal, wait, send SIGKILL.
    ///
    /// # Errors
    /// [`Error::NotModified`] if it does not run; [`Error::CannotStop`]; [`Error::ManagedByKubernetes`].
    pub async fn stop_container(&self, typed: &str, options: &StopOptions) -> Result<()> {
        let (guard, container) = self.lock_container(typed, "stop").await?;
        let container = self.up_to_date(container, Phase::has_process).await;
        self.stop_run(guard, &container, options, Wish::Stop).await.map_err(|error| match error {
            Error::NotModified => Error::NotModified,
            source => Error::CannotStop { container: typed.to_owned(), source: Box::new(source) },
        })
    }

    /// End the run that `container` is in, or its restarts; [`Error::NotModified`] if there is nothing to end.
    pub(crate) async fn stop_run(
        &self,
        guard: ContainerGuard,
        container: &Container,
        options: &StopOptions,
        wish: Wish,
    ) -> Result<()> {
        match container.state.phase {
            Phase::Running | Phase::Paused => {}
            Phase::Restarting => {
                // There is nobody to send a signal to (moby `daemon/kill.go`).
                self.end_is_wanted(&guard, container, wish).await?;
                self.hub().publish(container_event(container, "stop", &[]));
                return Ok(());
            }
            Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => {
                return Err(Error::NotModified);
            }
        }
        let signal = options.signal.unwrap_or(container.stop_signal);
        self.end_is_wanted(&guard, container, wish).await?;
        fault::reached("stop.wanted");
        if !self.send_signal(container, signal).await? {
            // It has ended by itself, or by somebody else, and the news were still on their way.
            if !self.ends_within(container, Some(END_WORKED_ON)).await {
                return Err(Error::NoExitEvent);
            }
            if container.upkeep.restart == RestartPolicy::No {
                return Err(Error::NotModified);
            }
            // Not so its restarts.
            self.hub().publish(container_event(container, "stop", &[]));
            return Ok(());
        }
        fault::reached("stop.signalled");
        // Whoever loses patience may kill or remove it meanwhile.
        drop(guard);
        let grace = options.timeout.or(container.stop_timeout).unwrap_or(DEFAULT_GRACE);
        let grace = u64::try_from(grace).ok().map(Duration::from_secs);
        if !self.ends_within(container, grace).await {
            tracing::info!(
                container = container.id.as_str(),
                signal = signal.number(),
                "it did not end in time; killing it"
            );
            let _guard = self.locks().lock(&container.id).await;
            self.kill_run(container).await?;
        }
        self.hub().publish(container_event(container, "stop", &[]));
        Ok(())
    }
}
