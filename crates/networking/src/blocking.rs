//! The store is synchronous and waits for locks: its calls go to threads that may block.

use crate::error::{NetworkingError, Result};

/// Runs `work` on a thread that may block. A panic in it is passed on.
pub(crate) async fn blocking<T, E>(
    work: impl FnOnce() -> std::result::Result<T, E> + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    E: Send + 'static,
    NetworkingError: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => Ok(outcome?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(NetworkingError::Interrupted),
    }
}
