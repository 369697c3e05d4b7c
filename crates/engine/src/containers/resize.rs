//! The size of a container's terminal.

use crate::events::translate::container_event;
use crate::{Engine, Error, Result};

impl Engine {
    /// Tell a running container's terminal its size in characters. Without a terminal nothing happens, as with dockerd.
    ///
    /// # Errors
    /// [`Error::NotRunning`]; [`Error::ManagedByKubernetes`]; as [`Engine::resolve_container`]; containerd's.
    pub async fn resize_container(&self, typed: &str, height: u32, width: u32) -> Result<()> {
        let container = self.resolve_container(typed).await?;
        self.may_change(&container, typed, "resize")?;
        if !container.state.phase.has_process() {
            return Err(Error::NotRunning(container.id.to_string()));
        }
        let resized =
            self.containerd().resize_pty(container.id.as_str(), None, width, height).await;
        resized.map_err(|error| {
            self.containerd_error(
                format!("resize the terminal of container {}", container.id),
                error,
            )
        })?;
        let extra = [("height", height.to_string()), ("width", width.to_string())];
        self.hub().publish(container_event(&container, "resize", &extra));
        Ok(())
    }
}
