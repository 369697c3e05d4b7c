//! Ask a container to end, and end it if it does not.

use std::time::Duration;

use names::Signal;

use super::kill::KILLED_WITHIN;
use super::{Container, Phase};
use crate::events::translate::container_event;
use crate::{Engine, Error, Result};

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
        match container.state.phase {
            Phase::Running | Phase::Paused => {}
            Phase::Created | Phase::Exited | Phase::Restarting | Phase::Removing | Phase::Dead => {
                return Err(Error::NotModified);
            }
        }
        let wrap =
            |source| Error::CannotStop { container: typed.to_owned(), source: Box::new(source) };
        let signal = options.signal.unwrap_or(container.stop_signal);
        // A stop is a stop, whatever the signal.
        self.stop_is_wanted(&guard, &container, Signal::KILL).await.map_err(wrap)?;
        let grace = options.timeout.or(container.stop_timeout).unwrap_or(DEFAULT_GRACE);
        self.end_run(&container, signal, u64::try_from(grace).ok().map(Duration::from_secs))
            .await
            .map_err(wrap)?;
        self.hub().publish(container_event(&container, "stop", &[]));
        Ok(())
    }

    /// Signal, grace (`None`: for ever), SIGKILL. Returns when the end has been worked on.
    pub(crate) async fn end_run(
        &self,
        container: &Container,
        signal: Signal,
        grace: Option<Duration>,
    ) -> Result<()> {
        self.send_signal(container, signal).await?;
        if self.ends_within(&container.id, grace).await {
            return Ok(());
        }
        tracing::info!(
            container = container.id.as_str(),
            signal = signal.number(),
            "it did not end in time; killing it"
        );
        self.send_signal(container, Signal::KILL).await?;
        if self.ends_within(&container.id, Some(KILLED_WITHIN)).await {
            return Ok(());
        }
        Err(Error::InvalidParameter(
            "tried to kill container, but did not receive an exit event".into(),
        ))
    }
}
