//! Published ports of one container: chosen and reserved when it starts, given back when it has exited.
//!
//! All of it happens in the createRuntime hook, under the lock of CNI: so whoever starts the container, it gets its
//! ports, two containers that start at once do not choose the same, and a port that the user left to us is another one
//! at each start, as with dockerd.
//!
//! 1. [`forwarded`] reads which ports are forwarded to other containers, whoever made those.
//! 2. [`allocate`] makes numbers of the user's wishes and binds a socket to each, which fails where a program of the host
//!    listens. The numbers go to `network-config.json`, from which nerdctl knows them.
//! 3. The `portmap` plugin makes the rules.
//! 4. [`reserver`] starts a process that keeps the sockets, so that no program of the host takes such a port afterwards.

pub(crate) mod allocate;
pub(crate) mod forwarded;
pub(crate) mod reserver;

use nerdctl_store::state_dir::{NetworkConfig, PortWish, StateDir};

use crate::Networks;
use crate::blocking::blocking;
use crate::container::Container;
use crate::error::{NetworkingError, Result};
use crate::iptables::{self, Family};
use allocate::Allocation;
use forwarded::Forwarded;

pub use allocate::PortError;

impl Networks {
    /// Chooses and binds the ports of a container that starts, and writes the numbers down. A container without wishes
    /// of ours keeps what is written down.
    pub(crate) async fn allocate_ports(&self, container: &Container) -> Result<Allocation> {
        let state = self.store.state_dir(&container.namespace, &container.id);
        let wishes = {
            let state = state.clone();
            blocking(move || state.port_wishes()).await?
        };
        let Some(wishes) = wishes.filter(|wishes| !wishes.is_empty()) else {
            let mappings = blocking(move || state.network_config()).await?.port_mappings;
            return Ok(Allocation { mappings, ..Allocation::default() });
        };
        let forwarded = forwarded_now(&wishes).await;
        let allocated = blocking(move || allocate_and_note(&wishes, forwarded, &state)).await?;
        allocated.map_err(|source| NetworkingError::Ports {
            endpoint: container.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            id: container.id.to_string(),
            source,
        })
    }

    /// Starts the process that keeps a container's ports bound. Without it the ports work, but others may take them.
    pub(crate) async fn reserve_ports(&self, container: &Container, allocation: Allocation) {
        if allocation.sockets.is_empty() {
            return;
        }
        let (run_dir, container) = (self.run_dir.clone(), container.clone());
        let started = blocking(move || {
            reserver::start(&run_dir, &container.namespace, &container.id, &allocation.sockets)
        });
        if let Err(error) = started.await {
            tracing::warn!(%error, "published ports are not reserved");
        }
    }
}

type Allocated = std::result::Result<Allocation, PortError>;

fn allocate_and_note(
    wishes: &[PortWish],
    forwarded: Forwarded,
    state: &StateDir,
) -> Result<Allocated> {
    let allocated = allocate::allocate(wishes, forwarded);
    if let Ok(allocation) = &allocated {
        state.set_network_config(&NetworkConfig { port_mappings: allocation.mappings.clone() })?;
    }
    Ok(allocated)
}

/// A host whose rules cannot be listed has the sockets alone to tell.
async fn forwarded_now(wishes: &[PortWish]) -> Forwarded {
    let mut forwarded = Forwarded::default();
    let is_v6 = |wish: &PortWish| wish.host_ip.contains(':');
    let v6 = wishes.iter().any(is_v6).then_some(Family::V6);
    for family in std::iter::once(Family::V4).chain(v6) {
        match iptables::saved_nat(family).await {
            Ok(saved) => forwarded.read(&saved),
            Err(error) => {
                tracing::debug!(%error, "the forwarded ports of other containers are not known");
            }
        }
    }
    forwarded
}
