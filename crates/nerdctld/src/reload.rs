//! SIGHUP: the configuration is read again (moby `daemon/reload.go`).
//!
//! What can change while the daemon runs does: how much is logged, and how registries are reached. What has changed
//! besides that is named in the log and waits for a restart. A configuration with a mistake changes nothing.

use std::time::Duration;

use anyhow::Context as _;
use engine::Engine;
use engine::reload::Changeable;
use sd_notify::NotifyState;
use tokio::signal::unix::Signal;

use crate::cli::Cli;
use crate::config::Config;
use crate::logging::{self, Logging};
use crate::systemd::notify;

/// How long the disk may take to give the configuration's files.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Reads the configuration again.
pub(crate) struct Reloader<'a> {
    /// The command line, which stays.
    pub(crate) cli: &'a Cli,
    /// What holds now.
    pub(crate) config: Config,
    /// The log.
    pub(crate) logging: &'a Logging,
    /// The engine.
    pub(crate) engine: Engine,
}

impl Reloader<'_> {
    /// Reload whenever the signal comes; never returns.
    pub(crate) async fn follow(mut self, hangups: &mut Signal) {
        while hangups.recv().await.is_some() {
            let begun =
                [NotifyState::Reloading].into_iter().chain(NotifyState::monotonic_usec_now().ok());
            notify(&begun.collect::<Vec<_>>());
            if let Err(error) = self.reload().await {
                tracing::error!(error = format!("{error:#}"), "the configuration stays as it was");
            }
            notify(&[NotifyState::Ready]);
        }
        std::future::pending::<()>().await;
    }

    async fn reload(&mut self) -> anyhow::Result<()> {
        let new = read(self.cli.clone()).await?;
        // Nothing changes before everything is known to be possible.
        let filter = logging::filter(&new)?;
        self.engine.reload(changeable(&new)).await?;
        self.logging.change(filter)?;
        let waiting = waiting_for_a_restart(&self.config, &new);
        if !waiting.is_empty() {
            tracing::warn!(changed = waiting.join(", "), "these changes wait for a restart");
        }
        tracing::info!(debug = new.debug, "the configuration is read again");
        let (debug, log_filter) = (new.debug, new.log_filter.clone());
        let (hosts_dirs, insecure_registry) = (new.hosts_dirs.clone(), new.insecure_registry);
        self.config =
            Config { debug, log_filter, hosts_dirs, insecure_registry, ..self.config.clone() };
        Ok(())
    }
}

/// Read the configuration on a thread: whoever waits here also accepts connections and feeds the watchdog.
async fn read(cli: Cli) -> anyhow::Result<Config> {
    let reading = tokio::task::spawn_blocking(move || Config::load(&cli));
    let read = tokio::time::timeout(READ_WITHIN, reading).await;
    let read = read.with_context(|| {
        format!("its files could not be read within {} s", READ_WITHIN.as_secs())
    })?;
    Ok(read.context("reading it has crashed")??)
}

/// What of the configuration the engine can change while it runs.
pub(crate) fn changeable(config: &Config) -> Changeable {
    Changeable {
        debug: config.debug,
        hosts_dirs: config.hosts_dirs.clone(),
        insecure_registry: config.insecure_registry,
    }
}

/// The names of what differs and needs a restart.
fn waiting_for_a_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let table = [
        ("addresses", old.listen != new.listen || old.tls != new.tls || old.metrics != new.metrics),
        ("group", old.group != new.group),
        ("containerd", old.containerd != new.containerd),
        ("namespace", old.namespace != new.namespace),
        ("snapshotter", old.snapshotter != new.snapshotter),
        ("data_root", old.data_root != new.data_root),
        ("cni_path", old.cni_path != new.cni_path),
        ("cni_netconfpath", old.cni_netconf_path != new.cni_netconf_path),
        ("cgroup_manager", old.cgroup_manager != new.cgroup_manager),
        ("bridge_ip", old.bridge_ip != new.bridge_ip),
    ];
    table.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
