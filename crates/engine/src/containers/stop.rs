//! Ask a container to end, and end it if it does not.

use std::time::Duration;

use names::Signal;

use super::Phase;
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
        self.send_signal(&container, signal).await.map_err(wrap)?;
        // Whoever loses patience may kill or remove it meanwhile.
        drop(guard);
        let grace = options.timeout.or(container.stop_timeout).unwrap_or(DEFAULT_GRACE);
        let grace = u64::try_from(grace).ok().map(Duration::from_secs);
        if !self.ends_within(&container, grace).await {
            tracing::info!(
                container = container.id.as_str(),
                signal = signal.number(),
                "it did not end in time; killing it"
            );
            let _guard = self.locks().lock(&container.id).await;
            self.kill_run(&container).await.map_err(wrap)?;
        }
        self.hub().publish(container_event(&container, "stop", &[]));
        Ok(())
    }
}
