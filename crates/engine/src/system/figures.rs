//! Numbers about the daemon that can be told at any moment, without asking anybody.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{HostInfo, machine};
use crate::Engine;
use crate::containers::Phase;

/// What a page of metrics needs.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The daemon's id, as soon as containerd has told it.
    pub id: String,
    /// Paused containers.
    pub paused: u64,
    /// Running ones.
    pub running: u64,
    /// All others.
    pub stopped: u64,
    /// Events told since the start.
    pub events: u64,
    /// Clients that read events.
    pub subscribers: u64,
    /// Health checks done since the start.
    pub health_checks: u64,
    /// Those that could not be run.
    pub failed_health_checks: u64,
    /// Snapshotter for new containers.
    pub snapshotter: String,
    /// The machine, as it was when first asked for.
    pub host: HostInfo,
}

/// What is counted along the way.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    host: OnceLock<HostInfo>,
    id: OnceLock<String>,
    health_checks: AtomicU64,
    failed_health_checks: AtomicU64,
}

impl Counted {
    /// A health check has ended. It has failed if it could not be run; what it found does not count (moby
    /// `daemon/health.go`).
    pub(crate) fn health_check(&self, failed: bool) {
        self.health_checks.fetch_add(1, Ordering::Relaxed);
        self.failed_health_checks.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// containerd has told its id, which is ours.
    pub(crate) fn learn_id(&self, id: &str) {
        let _ = self.id.set(id.to_owned());
    }
}

/// Pause between tries to ask containerd for its id.
const RETRY: Duration = Duration::from_secs(1);

impl Engine {
    /// Learn the daemon's id, as soon as containerd answers.
    pub(crate) async fn learn_id(self) {
        loop {
            // Waits for containerd by itself for a while.
            let connected = self.inventory().loaded().await.is_ok();
            if connected && let Ok(server) = self.containerd().server().await {
                return self.system_cache().counted().learn_id(&server.uuid);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The numbers of this moment.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let counted = self.system_cache().counted();
        let mut figures = Figures {
            id: counted.id.get().cloned().unwrap_or_default(),
            events: self.hub().told(),
            subscribers: self.hub().readers() as u64,
            health_checks: counted.health_checks.load(Ordering::Relaxed),
            failed_health_checks: counted.failed_health_checks.load(Ordering::Relaxed),
            snapshotter: self.settings().snapshotter.clone(),
            host: counted.host.get_or_init(|| machine::read(self.host())).clone(),
            ..Figures::default()
        };
        for entry in self.inventory().now().entries() {
            match entry.container.state.phase {
                Phase::Running => figures.running += 1,
                Phase::Paused => figures.paused += 1,
                _ => figures.stopped += 1,
            }
        }
        figures
    }
}
