//! Tasks with owners. The only place of the engine that spawns.
//!
//! Four kinds: *detached operations* (a change that goes on when its client leaves), *background tasks* (followers,
//! waiters; cancelled at shutdown), *services* (background tasks that are started again, with back-off, when they end
//! or panic) and *vital* tasks (with whose end the daemon ends). Shutdown cancels the background, waits for the operations, and has a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// How long a shutdown waits for operations that are under way.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);

const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MOST: Duration = Duration::from_secs(5);

/// Owns every task of the engine. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    operations: TaskTracker,
    background: TaskTracker,
    token: CancellationToken,
    broken: CancellationToken,
}

/// The operation panicked, or the runtime is going away; the panic is logged already.
#[derive(Debug, thiserror::Error)]
#[error("the operation ended unexpectedly; the daemon's log says where")]
pub struct Crashed;

impl Supervisor {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the daemon shuts down.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Run a change to its end even if the caller is dropped, and give its result to the caller if it is still there.
    ///
    /// # Errors
    /// [`Crashed`] if the operation panicked.
    pub async fn detached<T: Send + 'static>(
        &self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Crashed> {
        let (send, receive) = oneshot::channel();
        let span = tracing::Span::current();
        self.spawn_operation(async move {
            let outcome = operation.await;
            if send.send(outcome).is_err() {
                tracing::debug!("the client left before its operation ended; the operation is done all the same");
            }
        }.instrument(span));
        receive.await.map_err(|_| Crashed)
    }

    /// Run something to its end; shutdown waits for it (clean-up work, for example).
    pub fn spawn_operation(&self, operation: impl Future<Output = ()> + Send + 'static) {
        spawn(&self.operations, operation);
    }

    /// Run something until it ends or the daemon shuts down.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        spawn(&self.background, async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Run something that must never end and cannot be started again, because what it knows goes with it. Should it end all
    /// the same, or panic, nothing is right any more: [`Supervisor::broken`] tells.
    pub(crate) fn vital(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let watch = Vital { name, supervisor: self.clone() };
        self.spawn(async move {
            let _watch = watch;
            task.await;
        });
    }

    /// Returns when something vital has ended before the shutdown: the process should, and be started anew.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Run something that must never end; start it again, with growing pauses, when it does.
    pub fn service<F, Fut>(&self, name: &'static str, start: F)
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let background = self.background.clone();
        self.spawn(async move {
            let mut pause = RESTART_FIRST;
            loop {
                let began = tokio::time::Instant::now();
                let (send, ended) = oneshot::channel::<()>();
                let run = start();
                // A task of its own, so that a panic ends the run and not this loop.
                let abort = spawn(&background, async move {
                    let _ended = send;
                    run.await;
                });
                let guard = AbortOnDrop(abort);
                let _ = ended.await;
                drop(guard);
                if began.elapsed() > RESTART_MOST {
                    pause = RESTART_FIRST;
                }
                tracing::warn!(service = name, "a background service ended and is started again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RESTART_MOST);
            }
        });
    }

    /// Cancel the background, wait for operations (at most [`DRAIN_LIMIT`]).
    pub async fn shutdown(&self) {
        self.token.cancel();
        self.operations.close();
        self.background.close();
        let drained = async {
            self.operations.wait().await;
            self.background.wait().await;
            // What was cancelled may have left its clean-up as an operation.
            self.operations.wait().await;
        };
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            tracing::warn!(
                "operations were still under way when the daemon ended; the next start repairs what they left"
            );
        }
    }
}

/// Dropped when something vital ends, by a panic too.
struct Vital {
    name: &'static str,
    supervisor: Supervisor,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if !self.supervisor.token.is_cancelled() {
            tracing::error!(task = self.name, "a vital task has ended");
            self.supervisor.broken.cancel();
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn spawn(
    tracker: &TaskTracker,
    task: impl Future<Output = ()> + Send + 'static,
) -> tokio::task::AbortHandle {
    // TaskTracker::spawn is tokio::spawn with an owner.
    tracker.spawn(task).abort_handle()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn an_operation_outlives_its_caller_and_shutdown_waits_for_it() {
        let supervisor = Supervisor::new();
        let done = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&done);
        let caller = supervisor.detached(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            counter.fetch_add(1, Ordering::SeqCst);
        });
        assert!(
            tokio::time::timeout(Duration::from_millis(1), caller).await.is_err(),
            "the caller leaves"
        );
        supervisor.shutdown().await;
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_the_caller() {
        let supervisor = Supervisor::new();
        let outcome: Result<(), Crashed> = supervisor.detached(async { panic!("test") }).await;
        assert!(outcome.is_err());
    }

    #[tokio::test]
    async fn the_end_of_something_vital_is_told_unless_all_ends() {
        let supervisor = Supervisor::new();
        supervisor.vital("test", std::future::pending());
        supervisor.shutdown().await;
        assert!(!supervisor.broken.is_cancelled());
        for panics in [true, false] {
            let supervisor = Supervisor::new();
            supervisor.vital("test", async move { assert!(!panics, "test") });
            supervisor.broken().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_started_again_after_an_end_and_after_a_panic() {
        let supervisor = Supervisor::new();
        let runs = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&runs);
        supervisor.service("test", move || {
            let run = counter.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(run != 1, "the second run panics");
            }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(runs.load(Ordering::SeqCst) >= 3);
        supervisor.shutdown().await;
    }
}
