//! What is known of execs; from memory alone.

use names::ExecId;

use super::ExecDetails;
use crate::containers::Container;
use crate::{Engine, Error, Result};

impl Engine {
    /// One exec, also after its end.
    ///
    /// # Errors
    /// [`Error::NoSuchExec`], also when its container is gone.
    pub async fn inspect_exec(&self, id: &str) -> Result<ExecDetails> {
        let gone = || Error::NoSuchExec(id.to_owned());
        let exec = self.execs().get(id).ok_or_else(gone)?;
        let now = self.inventory().loaded().await?;
        let entry = now.get(&exec.container).ok_or_else(gone)?;
        if exec.is_stale(&entry.container) {
            return Err(gone());
        }
        Ok(exec.details())
    }

    /// The execs of a container that have not ended, the oldest first.
    #[must_use]
    pub fn live_execs(&self, container: &Container) -> Vec<ExecId> {
        self.execs().live_of(container)
    }
}
