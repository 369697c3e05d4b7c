//! What systemd is told: ready, reloading, stopping, and that the daemon still works (`sd_notify(3)`).
//!
//! Outside of systemd all of this does nothing.

use std::time::Duration;

use engine::Engine;
use sd_notify::NotifyState;

/// Tell it.
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// Say that the daemon works, three times in the time after which systemd would start it anew; never returns.
///
/// It is said only when the runtime runs tasks and the owner of what is known of containers has answered: a daemon in
/// which one of them hangs is of no use, however alive its process looks. containerd's absence is no reason.
pub(crate) async fn watchdog(engine: &Engine) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::ZERO) else {
        return std::future::pending().await;
    };
    let pause = limit / 3;
    loop {
        let began = tokio::time::Instant::now();
        if tokio::time::timeout(pause, engine.beat()).await.is_ok_and(|works| works) {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                "what is known of containers is not kept any more; systemd may start the daemon anew"
            );
        }
        tokio::time::sleep_until(began + pause).await;
    }
}
