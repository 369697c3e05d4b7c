//! One container's networks, attached and detached.
//!
//! nerdctl has no daemon, so it attaches networks from an OCI hook, inside of the runtime's `create`; we do the same
//! with a hook mode of our own binary, and nerdctl, `ctr` and containerd's restart plugin can start our containers
//! while the daemon is down. The daemon uses the same code for what it does itself.
//!
//! | When | What | Where |
//! |---|---|---|
//! | a container is made | `hosts`, `resolv.conf`, `hostname` | [`Networks::prepare_files`] |
//! | its namespaces exist (createRuntime) | name, ports, `ADD`, hosts, start time | [`Networks::create_runtime`] |
//! | it exited, the daemon lives | `DEL`, rules, port reserver, hosts | [`Networks::release_after_exit`] |
//! | its task is deleted (postStop) | the same, unless done, and `meta.json` | [`Networks::post_stop`] |
//! | it is removed | whatever is left | [`Networks::detach`], [`Networks::remove_files`] |
//!
//! Whether a container is attached is not recorded a second time: libcni's cache and the leases say it.
//!
//! Sources: nerdctl `pkg/ocihook/ocihook.go`, `pkg/netutil`, `pkg/containerutil/container_network_manager_linux.go`.

mod attach;
mod blocking;
mod container;
mod default_network;
mod detach;
mod error;
mod files;
pub mod hook;
mod iptables;
mod ports;

use std::path::PathBuf;
use std::time::Duration;

use cni::{Cidr, Cni};
use nerdctl_store::DataStore;

pub use container::{Container, NetworkMode};
pub use detach::Release;
pub use error::{NetworkingError, Result};
pub use files::ContainerFiles;
pub use ports::PortError;

/// How long the lock under which CNI plugins run is waited for. One attachment takes some 300 ms with the usual
/// plugins and all containers of a host queue here, so this is long.
pub const CNI_LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// Where nerdctl keeps the pids of its port reservers.
pub const NERDCTL_RUN_DIR: &str = "/run/nerdctl";

/// Attaches and detaches containers, with one data store, one plugin folder and one configuration folder.
#[derive(Debug, Clone)]
pub struct Networks {
    store: DataStore,
    cni: Cni,
    netconf: PathBuf,
    bridge_ip: Option<Cidr>,
    rootless: bool,
    run_dir: PathBuf,
}

impl Networks {
    /// `netconf` is the folder of the conflists (`/etc/cni/net.d`).
    #[must_use]
    pub fn new(store: DataStore, cni: Cni, netconf: impl Into<PathBuf>) -> Self {
        Self {
            store,
            cni,
            netconf: netconf.into(),
            bridge_ip: None,
            rootless: false,
            run_dir: NERDCTL_RUN_DIR.into(),
        }
    }

    /// The same, with the address of the default bridge's gateway, for when it has to be made.
    #[must_use]
    pub fn with_bridge_ip(mut self, bridge_ip: Option<Cidr>) -> Self {
        self.bridge_ip = bridge_ip;
        self
    }

    /// The same, for a daemon that lives in RootlessKit's namespaces.
    #[must_use]
    pub fn with_rootless(mut self, rootless: bool) -> Self {
        self.rootless = rootless;
        self
    }

    /// The same, with another folder than [`NERDCTL_RUN_DIR`].
    #[must_use]
    pub fn with_run_dir(mut self, run_dir: impl Into<PathBuf>) -> Self {
        self.run_dir = run_dir.into();
        self
    }

    /// nerdctl's files.
    #[must_use]
    pub fn store(&self) -> &DataStore {
        &self.store
    }
}
