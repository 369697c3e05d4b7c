//! Restart a container: stop it if it runs, then start it.

use super::Phase;
use super::state::Wish;
use super::stop::StopOptions;
use crate::events::translate::container_event;
use crate::{Engine, Error, Result};

impl Engine {
    /// Stop it as [`Engine::stop_container`] does, start it as [`Engine::start_container`] does. A container that is removed
    /// at its end is not removed by this one (moby `daemon/restart.go`).
    ///
    /// # Errors
    /// [`Error::CannotRestart`] around the reason; [`Error::NoSuchContainer`]; [`Error::ManagedByKubernetes`].
    pub async fn restart_container(&self, typed: &str, options: &StopOptions) -> Result<()> {
        let wrap =
            |source| Error::CannotRestart { container: typed.to_owned(), source: Box::new(source) };
        let (guard, container) = self.lock_container(typed, "restart").await?;
        let container = self.up_to_date(container, Phase::has_process).await;
        match self.stop_run(guard, &container, options, Wish::Restart).await {
            Ok(()) | Err(Error::NotModified) => {}
            Err(error) => return Err(wrap(error)),
        }
        match self.start_container(container.id.as_str()).await {
            // Somebody was faster.
            Ok(()) | Err(Error::NotModified) => {}
            Err(error) => return Err(wrap(error)),
        }
        self.hub().publish(container_event(&container, "restart", &[]));
        Ok(())
    }
}
