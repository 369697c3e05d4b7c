//! When to stop: after a time, or when somebody presses Ctrl-C or sends SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Context, Result, bail, ensure};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// The time of one run.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    began: Instant,
    limit: Duration,
    interrupted: Arc<AtomicBool>,
}

impl Clock {
    /// Starts it, and listens for signals: the first one ends the run after the repetition at hand, with the table so far
    /// and the ordinary clean-up; the second one ends this process, and sandboxes clean up without it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(crate) fn start(limit: Duration) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                while runtime.block_on(asked_to_end()).is_ok() {
                    if flag.swap(true, Ordering::Relaxed) {
                        let _ = kill_process(getpid(), Signal::KILL);
                    }
                }
            })
            .context("a thread for signals")?;
        Ok(Self { began: Instant::now(), limit, interrupted })
    }

    /// Why nothing further is to be measured, if so.
    pub(crate) fn over(&self) -> Option<&'static str> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Some("interrupted");
        }
        (self.began.elapsed() > self.limit).then_some("no time left")
    }

    /// An error when [`Clock::over`].
    ///
    /// # Errors
    /// With the reason.
    pub(crate) fn check(&self) -> Result<()> {
        self.over().map_or(Ok(()), |reason| bail!("{reason}"))
    }

    /// An error when the run was ended by a signal: its table is not whole.
    ///
    /// # Errors
    /// That one.
    pub(crate) fn interrupted(&self) -> Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

async fn asked_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        pressed = tokio::signal::ctrl_c() => pressed,
    }
}
