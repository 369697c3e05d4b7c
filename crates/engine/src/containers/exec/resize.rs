//! The size of an exec's terminal.

use std::time::Duration;

use super::Stage;
use crate::{Engine, Error, Result};

/// Clients tell the size as soon as they have started the exec; the process may not be there yet (moby
/// `daemon/resize.go`).
const STARTS_WITHIN: Duration = Duration::from_secs(10);

impl Engine {
    /// Tell an exec's terminal its size in characters; waits for the start. Without a terminal nothing happens.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`], [`Error::NoSuchContainer`], [`Error::NotRunning`], [`Error::ExecPaused`];
    /// [`Error::ExecNotStarted`], [`Error::ExecNotReady`]; containerd's.
    pub async fn resize_exec(&self, id: &str, height: u32, width: u32) -> Result<()> {
        let (exec, container) = self.usable_exec(id).await?;
        let mut stage = exec.stage.subscribe();
        let started = stage.wait_for(|stage| !matches!(stage, Stage::Created | Stage::Starting));
        let started = tokio::time::timeout(STARTS_WITHIN, started).await;
        // The sender is the exec itself, so only the time can have run out.
        let Ok(Ok(Stage::Running { .. } | Stage::Failed { .. } | Stage::Ended { .. })) =
            started.map(|stage| stage.map(|stage| *stage))
        else {
            return Err(Error::ExecNotReady);
        };
        if !matches!(*exec.stage.borrow(), Stage::Running { .. }) {
            return Err(Error::ExecNotStarted);
        }
        let resized = self.containerd().resize_pty(
            container.id.as_str(),
            Some(exec.id.as_str()),
            width,
            height,
        );
        resized.await.map_err(|error| {
            self.containerd_error(format!("resize the terminal of exec {}", exec.id), error)
        })
    }
}
