//! Work that waits for disks, mounts and file locks, away from the runtime's threads.

use tokio::task::spawn_blocking;

use crate::error::Cause;
use crate::{Error, Result};

/// Runs `work` where waiting is allowed. It goes on if nobody waits for it any more.
///
/// # Errors
/// [`Error::Failed`] if the daemon is about to end.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| Error::failed(doing, error))
}

/// The same for work whose failure says nothing of what was being done.
///
/// # Errors
/// [`Error::Failed`].
pub(crate) async fn try_blocking<T, E>(
    doing: impl Into<String>,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    E: Into<Cause> + Send + 'static,
{
    match spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| Error::failed(doing, error)),
        Err(error) => Err(Error::failed(doing, error)),
    }
}
