//! Networks: the domain types. One operation, one file in `networks/`.
//!
//! A network is a CNI configuration in nerdctl's folders, whoever made it; `host` and `none` have none and are always
//! there. Nothing is kept in memory: a list reads the folder.

pub mod inspect;
pub mod list;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use cni::{Cidr, Conflist};
use jiff::Timestamp;
use nerdctl_store::labels::is_visible_key;

use crate::containers::{Container, NameMatcher};
use crate::waiting::blocking;
use crate::{Engine, Error, Result};

/// The names of the networks that are always there.
pub const BUILTIN: [&str; 3] = ["bridge", "host", "none"];

/// The interface's largest packet that Docker shows where nobody chose another, bytes.
const DEFAULT_MTU: u64 = 1500;

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// When its configuration was written.
    pub created: Timestamp,
    /// `bridge`, `host`, `null`, `macvlan`, …
    pub driver: String,
    /// Whether containers get IPv4 addresses.
    pub ipv4: bool,
    /// Whether containers get IPv6 addresses.
    pub ipv6: bool,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// It leads nowhere but to its containers.
    pub internal: bool,
    /// Options of its driver, under Docker's names.
    pub options: BTreeMap<String, String>,
    /// Docker's labels.
    pub labels: BTreeMap<String, String>,
    /// The containers that are attached now.
    pub attached: Vec<Attached>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// `10.4.0.0/24`.
    pub subnet: Cidr,
    /// The host's own address; empty if there is none.
    pub gateway: String,
    /// The part from which containers get addresses; empty for all.
    pub ip_range: String,
    /// Addresses that cannot be given out any more: given out, the gateway's, the network's own.
    pub in_use: u64,
    /// Addresses that can.
    pub available: u64,
}

/// A container on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// Its endpoint.
    pub endpoint_id: String,
    /// MAC address.
    pub mac: String,
    /// With prefix length; empty without.
    pub ipv4: String,
    /// With prefix length; empty without.
    pub ipv6: String,
}

/// Which networks a list shows. Kinds must all match; values of one kind are alternatives, labels must all match.
#[derive(Clone, Debug, Default)]
pub struct NetworkFilter {
    /// Not Docker's own, and without containers; or the opposite.
    pub dangling: Option<bool>,
    /// `bridge`, `macvlan`, …
    pub driver: Vec<String>,
    /// Decides by id.
    pub id: Option<NameMatcher>,
    /// `key` or `key=value`.
    pub label: Vec<String>,
    /// Decides by name.
    pub name: Option<NameMatcher>,
    /// `local` is all there is.
    pub scope: Vec<String>,
    /// `builtin`, `custom`.
    pub kind: Vec<String>,
}

impl Network {
    /// Whether it is one of Docker's own.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        BUILTIN.contains(&self.name.as_str())
    }
}

impl Engine {
    /// All networks, by name, with the containers that are attached now.
    pub(crate) async fn all_networks(&self) -> Result<Vec<Network>> {
        let snapshot = self.inventory().loaded().await?;
        let found = self.networks().conflists_to_show(&self.settings().namespace).await;
        let found = found.map_err(|error| Error::failed("read the networks", error))?;
        let (networks, store) = (self.networks().clone(), self.store().path().to_owned());
        let read = blocking("read the networks", move || {
            let leases = |list: &Conflist| networks.leases(list);
            let mut all: Vec<Network> =
                found.found.iter().map(|list| configured(list, &leases(list), &store)).collect();
            all.extend(["host", "none"].map(|name| without_configuration(name, &store)));
            all
        });
        let mut all = read.await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.dedup_by(|a, b| a.name == b.name);
        for network in &mut all {
            let containers = snapshot.entries().map(|entry| &entry.container);
            network.attached = containers.filter_map(|one| attached(one, network)).collect();
        }
        Ok(all)
    }
}

/// A network that a configuration describes. `given` are the addresses that are given out.
fn configured(list: &Conflist, given: &[std::net::IpAddr], store: &Path) -> Network {
    let subnets: Vec<Subnet> =
        list.subnets().into_iter().map(|subnet| counted(&subnet, given)).collect();
    let labels = list.labels.iter().filter(|(key, _)| is_visible_key(key));
    Network {
        name: list.name.clone(),
        id: list.nerdctl_id.clone().unwrap_or_else(|| cni::network_id(&list.name)),
        created: written(list.file.as_deref().unwrap_or(store)),
        driver: list.driver().to_owned(),
        ipv4: subnets.is_empty() || subnets.iter().any(|one| one.subnet.address.is_ipv4()),
        ipv6: list.has_ipv6(),
        internal: list.is_internal(),
        options: options(list),
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        subnets,
        attached: Vec::new(),
    }
}

fn without_configuration(name: &str, store: &Path) -> Network {
    Network {
        name: name.to_owned(),
        id: cni::network_id(name),
        created: written(store),
        driver: if name == "none" { "null" } else { name }.to_owned(),
        ipv4: true,
        ipv6: false,
        subnets: Vec::new(),
        internal: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        attached: Vec::new(),
    }
}

fn written(path: &Path) -> Timestamp {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    Timestamp::try_from(modified.unwrap_or(SystemTime::UNIX_EPOCH)).unwrap_or_default()
}

/// Docker's names for what stands in a bridge's configuration (moby `daemon/libnetwork/drivers/bridge/labels.go`).
fn options(list: &Conflist) -> BTreeMap<String, String> {
    const BRIDGE: &str = "com.docker.network.bridge.";
    const MTU: &str = "com.docker.network.driver.mtu";
    let Some(interface) = list.bridge_interface() else { return BTreeMap::new() };
    let is_default = list.name == cni::DEFAULT_BRIDGE;
    let mtu = list.mtu().or(is_default.then_some(DEFAULT_MTU));
    let mut options = BTreeMap::new();
    options.extend(mtu.map(|mtu| (MTU.to_owned(), mtu.to_string())));
    if is_default {
        let more = [
            ("default_bridge", "true".to_owned()),
            ("enable_icc", list.lets_containers_talk().to_string()),
            ("enable_ip_masquerade", list.masquerades().to_string()),
            ("host_binding_ipv4", "0.0.0.0".to_owned()),
            ("name", interface.to_owned()),
        ];
        options.extend(more.map(|(key, value)| (format!("{BRIDGE}{key}"), value)));
    }
    options
}

/// As dockerd counts: the network's own address, the gateway's and, in IPv4, the broadcast address are in use.
fn counted(subnet: &cni::conflist::Subnet, given: &[std::net::IpAddr]) -> Subnet {
    let Cidr { address, prefix } = subnet.subnet;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let size = 1u128.checked_shl(bits - u32::from(prefix)).unwrap_or(u128::MAX);
    let inside = given
        .iter()
        .filter(|one| {
            one.is_ipv4() == address.is_ipv4()
                && Cidr { address: **one, prefix }.network() == subnet.subnet.network()
        })
        .count() as u128;
    let own = if address.is_ipv4() { 3 } else { 2 };
    let in_use = (own + inside).min(size);
    let count = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    Subnet {
        subnet: subnet.subnet,
        gateway: subnet.gateway.clone().unwrap_or_default(),
        ip_range: subnet.ip_range.clone().unwrap_or_default(),
        in_use: count(in_use),
        available: count(size - in_use),
    }
}

/// The container's endpoint on the network, while it is attached.
fn attached(container: &Container, network: &Network) -> Option<Attached> {
    if !container.state.phase.has_process() {
        return None;
    }
    let endpoint = container.endpoints.iter().find(|endpoint| {
        endpoint.network == network.name
            || endpoint.network == network.id
            || (endpoint.network.len() >= 12 && network.id.starts_with(&endpoint.network))
    })?;
    let with_prefix = |address: &str, prefix: u8| {
        if address.is_empty() { String::new() } else { format!("{address}/{prefix}") }
    };
    let id = container.id.to_string();
    Some(Attached {
        name: container.name.clone(),
        endpoint_id: if endpoint.endpoint_id.is_empty() {
            id.clone()
        } else {
            endpoint.endpoint_id.clone()
        },
        mac: endpoint.mac.clone(),
        ipv4: with_prefix(&endpoint.ipv4, endpoint.ipv4_prefix),
        ipv6: with_prefix(&endpoint.ipv6, endpoint.ipv6_prefix),
        container: id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bridge_is_shown_as_dockers() {
        let text = cni::default_bridge(cni::DEFAULT_BRIDGE_SUBNET, false);
        let list = Conflist::parse(text.as_bytes(), None).unwrap();
        let given = vec!["10.4.0.2".parse().unwrap(), "10.5.0.2".parse().unwrap()];
        let network = configured(&list, &given, Path::new("/"));
        assert_eq!(
            (network.driver.as_str(), network.internal, network.is_builtin()),
            ("bridge", false, true)
        );
        assert!(network.labels.is_empty(), "nerdctl's own are hidden: {:?}", network.labels);
        assert_eq!(network.options["com.docker.network.bridge.name"], "nerdctl0");
        assert_eq!(network.options["com.docker.network.driver.mtu"], "1500");
        assert_eq!(network.options["com.docker.network.bridge.enable_icc"], "true");
        let subnet = &network.subnets[0];
        assert_eq!(
            (subnet.gateway.as_str(), subnet.in_use, subnet.available),
            ("10.4.0.1", 4, 252)
        );
    }

    #[test]
    fn subnets_of_any_size_are_counted() {
        let count = |subnet: &str| {
            let subnet = cni::conflist::Subnet {
                subnet: subnet.parse().unwrap(),
                gateway: None,
                ip_range: None,
            };
            let counted = counted(&subnet, &[]);
            (counted.in_use, counted.available)
        };
        assert_eq!(count("10.4.0.0/16"), (3, 65533));
        assert_eq!(count("10.4.0.0/31"), (2, 0));
        assert_eq!(count("fd00::/64"), (2, u64::MAX - 1));
        assert_eq!(count("::/0"), (2, u64::MAX));
    }
}
