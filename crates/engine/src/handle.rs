//! The engine's handle: what it owns, and how it starts and ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use names::Namespace;
use nerdctl_store::DataStore;
use networking::Networks;
use registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cgroups::Hierarchies;
use crate::containers::Phase;
use crate::containers::exec::Execs;
use crate::containers::exit::Exits;
use crate::containers::stats::Samplers;
use crate::containers::streams::Streams;
use crate::events::{EventFilter, EventHub, Subscription};
use crate::inventory::{Inventory, Reader};
use crate::locks::Locks;
use crate::oci::HostFacts;
use crate::prune::Prunes;
use crate::reload::Live;
use crate::repair::presence::Presence;
use crate::supervise::Supervisor;
use crate::system::disk_usage::DiskUsage;
use crate::{Error, images, system};

/// Archives that are sent or read at the same time. Each keeps a thread, and tokio has 512 for all that waits for disks.
const TRANSFERS: usize = 64;
/// Archives of images that are sent at the same time. Each keeps a part of a blob (`images/parts.rs`) in the window of the
/// connection to containerd while its client does not read, and half of that window is for others.
const SAVINGS: usize = 32;

/// Everything the engine must be told; the daemon's configuration makes it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// containerd's socket as typed, without `unix://`.
    pub containerd_address: String,
    /// containerd's namespace.
    pub namespace: Namespace,
    /// For new containers and pulls.
    pub snapshotter: String,
    /// nerdctl's data root.
    pub data_root: PathBuf,
    /// Sockets and FIFOs of running containers; gone after a reboot.
    pub run_dir: PathBuf,
    /// The copy of our binary that specs point to for years.
    pub helper: PathBuf,
    /// Folder of the CNI plugins.
    pub cni_path: PathBuf,
    /// Folder of the CNI configurations.
    pub cni_netconf_path: PathBuf,
    /// Folders with `<registry>/hosts.toml`.
    pub hosts_dirs: Vec<PathBuf>,
    /// `systemd`, `cgroupfs` or `none`; decided by the host's facts if not given.
    pub cgroup_manager: Option<String>,
    /// Gateway and subnet of the default bridge, when it has to be made (`10.4.0.1/24`).
    pub bridge_ip: Option<String>,
    /// Stopped tasks of ours that are kept for `nerdctl ps`; each costs a live shim.
    pub keep_stopped: usize,
    /// Change containers of Kubernetes too.
    pub manage_cri: bool,
    /// Talk to registries without checking certificates, and over plain HTTP.
    pub insecure_registry: bool,
    /// Mirrors, and registries without certificates.
    pub registries: images::RegistrySettings,
    /// How much of images is transferred at once.
    pub transfer_limits: images::TransferLimits,
    /// Shown by `info`.
    pub debug: bool,
    /// buildkitd's address, where the operator named one.
    pub buildkit_host: Option<String>,
}

/// The operations. Cheap to clone; bound to one namespace of one containerd.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    host: HostFacts,
    containerd: containerd::Client,
    store: DataStore,
    live: Live,
    networks: Networks,
    supervisor: Supervisor,
    events: EventHub,
    inventory: Inventory,
    locks: Locks,
    exits: Exits,
    execs: Execs,
    streams: Streams,
    hierarchies: Hierarchies,
    samplers: Samplers,
    prunes: Prunes,
    images: images::Cache,
    image_files: crate::oci::image_files::Cache,
    system: system::Cache,
    volume_prunes: Prunes,
    image_prunes: Prunes,
    disk_usage: DiskUsage,
    presence: Presence,
    /// See [`Engine::transfer`].
    transfers: Arc<Semaphore>,
    /// See [`Engine::saving`].
    savings: Arc<Semaphore>,
}

impl Engine {
    /// Start reading containerd's state. Returns at once, whether containerd answers or not.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Failed`] if the registry client cannot be made (broken trust store or `hosts_dirs`).
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let containerd = containerd::Client::new(
            settings.containerd_address.as_ref(),
            settings.namespace.as_str(),
        );
        let store = DataStore::new(&settings.data_root, &settings.containerd_address);
        let live = Live::new(&settings)?;
        let host = HostFacts::read(settings.cgroup_manager.as_deref());
        let networks = networks(&settings, &store, host.rootless)?;
        let presence =
            Presence::announce(&settings.run_dir.join(store.hash8()), &settings.namespace);
        let supervisor = Supervisor::new();
        let events = EventHub::default();
        let reader = Reader {
            containerd: containerd.clone(),
            store: store.clone(),
            namespace: settings.namespace.clone(),
            supervisor: supervisor.clone(),
        };
        let (inventory, reactions) = Inventory::start(reader, events.clone(), &supervisor);
        let engine = Self {
            inner: Arc::new(Inner {
                host,
                containerd,
                store,
                live,
                networks,
                events,
                inventory,
                locks: Locks::default(),
                exits: Exits::default(),
                execs: Execs::default(),
                streams: Streams::default(),
                hierarchies: Hierarchies::of_this_host(),
                samplers: Samplers::default(),
                prunes: Prunes::default(),
                images: images::Cache::new(settings.transfer_limits),
                image_files: crate::oci::image_files::Cache::default(),
                system: system::Cache::default(),
                volume_prunes: Prunes::default(),
                image_prunes: Prunes::default(),
                disk_usage: DiskUsage::default(),
                presence,
                transfers: Arc::new(Semaphore::new(TRANSFERS)),
                savings: Arc::new(Semaphore::new(SAVINGS)),
                supervisor,
                settings,
            }),
        };
        engine.supervisor().vital("reactions to the inventory", engine.clone().react(reactions));
        engine.supervisor().spawn(engine.clone().repair_after_load());
        engine.supervisor().spawn(engine.clone().sweep_execs());
        engine.supervisor().spawn(engine.clone().follow_images());
        engine.supervisor().spawn(engine.clone().learn_id());
        engine.supervisor().spawn(engine.clone().watch_networks_and_volumes());
        Ok(engine)
    }

    /// Cancel streams and followers, wait for operations that are under way.
    pub async fn shutdown(&self) {
        self.inner.supervisor.shutdown().await;
    }

    /// Whether something would suffer from the daemon's absence, although nobody asks for anything: a restart that is due,
    /// an exec whose end and output only this daemon hears of.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        let now = self.inner.inventory.now();
        let restarts = now.entries().any(|entry| entry.container.state.phase == Phase::Restarting);
        restarts || self.inner.execs.any_runs()
    }

    /// Whether the daemon does its work: tasks run, and both the owner of what is known of containers and who reacts to it
    /// answer. Returns when they have, or when one of them is gone; one that hangs is waited for, so the caller limits the time.
    pub async fn beat(&self) -> bool {
        self.inner.inventory.beat().await
    }

    /// Read events: kept ones at or after `since`, then live ones.
    #[must_use]
    pub fn events(&self, filter: EventFilter, since: Option<jiff::Timestamp>) -> Subscription {
        self.inner.events.subscribe(filter, since)
    }

    /// Owner of all tasks; the daemon runs finishing requests with it.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.inner.supervisor
    }

    /// What it was told at the start.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// What the host can do.
    #[must_use]
    pub fn host(&self) -> &HostFacts {
        &self.inner.host
    }

    pub(crate) fn containerd(&self) -> &containerd::Client {
        &self.inner.containerd
    }

    pub(crate) fn store(&self) -> &DataStore {
        &self.inner.store
    }

    pub(crate) fn registry(&self) -> Registry {
        self.inner.live.registry()
    }

    pub(crate) fn live(&self) -> &Live {
        &self.inner.live
    }

    pub(crate) fn networks(&self) -> &Networks {
        &self.inner.networks
    }

    pub(crate) fn hub(&self) -> &EventHub {
        &self.inner.events
    }

    pub(crate) fn inventory(&self) -> &Inventory {
        &self.inner.inventory
    }

    pub(crate) fn locks(&self) -> &Locks {
        &self.inner.locks
    }

    pub(crate) fn exits(&self) -> &Exits {
        &self.inner.exits
    }

    pub(crate) fn execs(&self) -> &Execs {
        &self.inner.execs
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.inner.streams
    }

    pub(crate) fn hierarchies(&self) -> &Hierarchies {
        &self.inner.hierarchies
    }

    pub(crate) fn samplers(&self) -> &Samplers {
        &self.inner.samplers
    }

    pub(crate) fn prunes(&self) -> &Prunes {
        &self.inner.prunes
    }

    pub(crate) fn image_cache(&self) -> &images::Cache {
        &self.inner.images
    }

    pub(crate) fn image_files_cache(&self) -> &crate::oci::image_files::Cache {
        &self.inner.image_files
    }

    pub(crate) fn system_cache(&self) -> &system::Cache {
        &self.inner.system
    }

    pub(crate) fn volume_prunes(&self) -> &Prunes {
        &self.inner.volume_prunes
    }

    pub(crate) fn image_prunes(&self) -> &Prunes {
        &self.inner.image_prunes
    }

    pub(crate) fn disk_usage(&self) -> &DiskUsage {
        &self.inner.disk_usage
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.inner.presence
    }

    /// Leave to keep a thread as long as a client takes to send or read an archive; waits while too many do. To be asked
    /// for before any lock.
    pub(crate) async fn transfer(&self) -> Result<OwnedSemaphorePermit, Error> {
        let leave = Arc::clone(&self.inner.transfers).acquire_owned().await;
        leave.map_err(|_| Error::ShuttingDown)
    }

    /// Leave to send an archive of images, which needs no thread; waits while too many are on their way. Clients that read
    /// slowly hold up only each other.
    pub(crate) async fn saving(&self) -> Result<OwnedSemaphorePermit, Error> {
        let leave = Arc::clone(&self.inner.savings).acquire_owned().await;
        leave.map_err(|_| Error::ShuttingDown)
    }

    /// A containerd error as the client should see it: 503 while it is out of reach, else with what was being done.
    pub(crate) fn containerd_error(
        &self,
        doing: impl Into<String>,
        error: containerd::Error,
    ) -> Error {
        if error.is_unavailable() {
            let address = self.inner.settings.containerd_address.clone();
            return Error::ContainerdUnavailable { address, source: error.into() };
        }
        Error::failed(doing, error)
    }

    /// How long a short pause between tries is.
    pub(crate) const RETRY: Duration = Duration::from_millis(200);
}

fn networks(settings: &Settings, store: &DataStore, rootless: bool) -> Result<Networks, Error> {
    let bridge_ip = match &settings.bridge_ip {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Error::InvalidParameter(format!(
                "bridge_ip {text:?} is not an address with prefix, as in 10.4.0.1/24"
            ))
        })?),
    };
    let cni = cni::Cni::new(vec![settings.cni_path.clone()]);
    Ok(Networks::new(store.clone(), cni, &settings.cni_netconf_path)
        .with_bridge_ip(bridge_ip)
        .with_rootless(rootless))
}
