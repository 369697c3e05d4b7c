//! What can change while the daemon runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use registry::Registry;

use crate::events::{Event, EventType};
use crate::handle::Settings;
use crate::images::RegistrySettings;
use crate::{Engine, Result, images};

/// How long containerd is waited for, to learn the daemon's id.
const PATIENCE: Duration = Duration::from_secs(1);

/// All blocks of addresses there are.
const ALL_ADDRESSES: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The part of [`Settings`] that [`Engine::reload`] replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changeable {
    /// Shown by `info`.
    pub debug: bool,
    /// Folders with `<registry>/hosts.toml`.
    pub hosts_dirs: Vec<PathBuf>,
    /// Talk to registries without checking certificates, and over plain HTTP.
    pub insecure_registry: bool,
}

impl Changeable {
    fn of(settings: &Settings) -> Self {
        Self {
            debug: settings.debug,
            hosts_dirs: settings.hosts_dirs.clone(),
            insecure_registry: settings.insecure_registry,
        }
    }
}

/// What holds now, and what is made of it. Operations that are under way keep what they began with.
#[derive(Debug)]
pub(crate) struct Live(RwLock<(Arc<Changeable>, Registry)>);

impl Live {
    /// As the daemon was started.
    ///
    /// # Errors
    /// Those of [`images::registry_client`].
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        Ok(Self(RwLock::new((
            Arc::new(Changeable::of(settings)),
            images::registry_client(settings)?,
        ))))
    }

    /// The client of all registries.
    pub(crate) fn registry(&self) -> Registry {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// What holds.
    pub(crate) fn now(&self) -> Arc<Changeable> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    fn change(&self, new: Changeable, registry: Registry) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(new), registry);
    }
}

impl Engine {
    /// Replace what can change, and tell an event about it (moby `daemon/reload.go`).
    ///
    /// # Errors
    /// Those of a start with these settings; nothing has changed then.
    pub async fn reload(&self, new: Changeable) -> Result<()> {
        let settings = Settings {
            debug: new.debug,
            hosts_dirs: new.hosts_dirs.clone(),
            insecure_registry: new.insecure_registry,
            ..self.settings().clone()
        };
        let registry = images::registry_client(&settings)?;
        self.live().change(new, registry);
        self.hub().publish(Event {
            kind: EventType::Daemon,
            action: "reload".to_owned(),
            actor: self.daemon_id().await,
            attributes: self.reload_attributes(),
            at: Timestamp::now(),
        });
        Ok(())
    }

    /// What is told of registries, as it holds now: where none needs a certificate, that is written as all addresses.
    pub(crate) fn registries_now(&self) -> RegistrySettings {
        let mut registries = self.settings().registries.clone();
        if self.live().now().insecure_registry {
            registries.insecure.splice(0..0, ALL_ADDRESSES.map(str::to_owned));
        }
        registries
    }

    /// Keys of dockerd's configuration, as far as something here means the same.
    fn reload_attributes(&self) -> BTreeMap<String, String> {
        let now = self.live().now();
        let registries = self.registries_now();
        let limits = self.settings().transfer_limits;
        [
            ("debug", now.debug.to_string()),
            ("default-runtime", "runc".to_owned()),
            ("insecure-registries", list(registries.insecure)),
            ("labels", "[]".to_owned()),
            ("live-restore", "true".to_owned()),
            ("name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
            ("max-concurrent-downloads", limits.downloads.to_string()),
            ("max-concurrent-uploads", limits.uploads.to_string()),
            ("max-download-attempts", limits.attempts.to_string()),
            ("registry-mirrors", list(registries.mirrors)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// containerd's id, which is ours; empty while it has never answered.
    async fn daemon_id(&self) -> String {
        if let Ok(Ok(server)) = tokio::time::timeout(PATIENCE, self.containerd().server()).await {
            self.system_cache().counted().learn_id(&server.uuid);
        }
        self.figures().id
    }
}

/// As dockerd writes lists into attributes.
fn list(entries: Vec<String>) -> String {
    serde_json::Value::from(entries).to_string()
}
