//! What a new container's place in the network depends on beside its request: networks and containers that are there.

use std::net::IpAddr;
use std::sync::Arc;

use nerdctl_store::go_json;
use nerdctl_store::hosts::{self, FurtherNames};
use nerdctl_store::labels::keys;
use nerdctl_store::labels::values::DnsSettings;
use nerdctl_store::state_dir::PortWish;
use networking::ContainerFiles;

use crate::containers::links::{BRIDGE, Link};
use crate::containers::spec::networking::{HostAddress, Networking, Publish};
use crate::containers::start::network::{Joined, joined_container};
use crate::containers::{ContainerSpec, NetworkMode};
use crate::{Engine, Error, Result};

/// As many bytes of extra hosts go into nerdctl's label; containerd refuses a longer one. More stand in the hosts file
/// only, where nerdctl leaves them alone.
const LABEL_HOSTS: usize = 3500;

/// A container's place in the network.
#[derive(Debug, Default)]
pub(super) struct NetworkPlan {
    /// nerdctl's label: networks by name, or a mode.
    pub(super) networks: Vec<String>,
    /// The container whose network it is to share, if that exists now.
    pub(super) joined: Option<Joined>,
    /// Names and addresses for nerdctl's label, each name once.
    pub(super) extra_hosts: Vec<(String, IpAddr)>,
    /// Names and addresses beside those.
    pub(super) further_hosts: Vec<(String, IpAddr)>,
    /// What it calls other containers.
    pub(super) links: Vec<Link>,
    /// The same and aliases, for the hosts files.
    pub(super) names: FurtherNames,
}

impl NetworkPlan {
    /// Its files in place of those that the container would have of its own.
    pub(super) fn files(&self, spec: &ContainerSpec, own: ContainerFiles) -> ContainerFiles {
        match (&spec.network, &self.joined) {
            (NetworkMode::Container(_), Some(joined)) => joined.files.clone(),
            // The start finds them.
            (NetworkMode::Container(_), None) => ContainerFiles::none(),
            _ => own,
        }
    }
}

impl Engine {
    /// Find what the request names.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for ports that cannot be published here; [`Error::LinkMissing`].
    pub(super) async fn network_plan(&self, spec: &ContainerSpec) -> Result<NetworkPlan> {
        let networking = &spec.networking;
        self.ports_must_be_possible(spec).await?;
        let (extra_hosts, further_hosts) = split(self.extra_hosts(networking).await?);
        let mut plan = NetworkPlan { extra_hosts, further_hosts, ..NetworkPlan::default() };
        plan.networks = match &spec.network {
            NetworkMode::Bridge => vec!["bridge".to_owned()],
            NetworkMode::Host => vec!["host".to_owned()],
            NetworkMode::None => vec!["none".to_owned()],
            NetworkMode::Networks(typed) => self.names_of(typed).await?,
            NetworkMode::Container(typed) => {
                let found = self.inventory().now().resolve(typed).ok().map(Arc::clone);
                let id = found.as_ref().map(|entry| entry.container.id.to_string());
                if let Some(entry) = found {
                    plan.joined = Some(joined_container(self, &entry.container).await?);
                }
                // One that does not exist is the start's to refuse (moby `daemon/container_operations.go`).
                vec![format!("container:{}", id.as_deref().unwrap_or(typed))]
            }
        };
        plan.links = self.find_links(&spec.network, &networking.names.links)?;
        plan.names = self.further_names(spec, &plan.links).await?;
        Ok(plan)
    }

    /// Links and aliases by the names of networks.
    async fn further_names(&self, spec: &ContainerSpec, links: &[Link]) -> Result<FurtherNames> {
        let mut names = FurtherNames::default();
        if !links.is_empty() {
            let links = links.iter().map(|link| store_link(&link.id, &link.alias));
            names.links.insert(BRIDGE.to_owned(), links.collect());
        }
        let endpoints = &spec.networking.names.endpoints;
        let typed: Vec<String> = endpoints.keys().cloned().collect();
        if typed.is_empty() || !matches!(spec.network, NetworkMode::Networks(_)) {
            return Ok(names);
        }
        for (network, endpoint) in self.names_of(&typed).await?.into_iter().zip(endpoints.values())
        {
            let links = endpoint.links.iter();
            let links = links.map(|link| store_link(&link.container, &link.alias)).collect();
            names.links.insert(network.clone(), links);
            names.aliases.insert(network, endpoint.aliases.clone());
        }
        Ok(names)
    }

    /// Networks by their names; one that does not exist is the start's to refuse.
    async fn names_of(&self, typed: &[String]) -> Result<Vec<String>> {
        let conflists = self.networks().conflists(&self.settings().namespace).await;
        let conflists = conflists.map_err(|error| Error::failed("read the networks", error))?;
        let name = |typed: &String| {
            conflists.find(typed).map_or_else(|| typed.clone(), |found| found.name.clone())
        };
        Ok(typed.iter().map(name).collect())
    }

    /// A port on an IPv6 address of the host leads nowhere from a network that has none.
    async fn ports_must_be_possible(&self, spec: &ContainerSpec) -> Result<()> {
        if !spec.network.has_own_interfaces() {
            return Ok(());
        }
        let publish = &spec.networking.publish;
        if self.host().rootless && (!publish.is_empty() || spec.networking.publish_all) {
            return Err(Error::unsupported("publishing ports without root privileges"));
        }
        let is_v6 = |publish: &&Publish| publish.host_ip.is_some_and(|address| address.is_ipv6());
        let Some(v6) = publish.iter().find(is_v6).and_then(|publish| publish.host_ip) else {
            return Ok(());
        };
        let conflists = self.networks().conflists_with_default(&self.settings().namespace).await;
        let conflists = conflists.map_err(|error| Error::failed("read the networks", error))?;
        let has_ipv6 = match &spec.network {
            NetworkMode::Networks(typed) => {
                typed.iter().any(|typed| conflists.find(typed).is_none_or(cni::Conflist::has_ipv6))
            }
            _ => conflists.default_network().is_some_and(cni::Conflist::has_ipv6),
        };
        if has_ipv6 {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: format!("publishing a port on the IPv6 address {v6}"),
            hint: ": the container's network has no IPv6 addresses".to_owned(),
        })
    }

    async fn extra_hosts(&self, networking: &Networking) -> Result<Vec<(String, IpAddr)>> {
        let mut hosts = Vec::new();
        for host in &networking.extra_hosts {
            let address = match host.address {
                HostAddress::Ip(address) => address,
                HostAddress::Gateway => self.host_gateway().await?,
            };
            hosts.push((host.name.clone(), address));
        }
        Ok(hosts)
    }

    /// The host as containers see it: the default bridge's own address (moby `daemon/daemon_unix.go`).
    async fn host_gateway(&self) -> Result<IpAddr> {
        let conflists = self.networks().conflists_with_default(&self.settings().namespace).await;
        let conflists = conflists.map_err(|error| Error::failed("read the networks", error))?;
        let gateways = conflists
            .default_network()
            .map(cni::Conflist::subnets)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|subnet| subnet.gateway?.parse().ok());
        gateways.min_by_key(IpAddr::is_ipv6).ok_or_else(|| {
            let text = "unable to derive the IP value for host-gateway";
            Error::InvalidParameter(text.to_owned())
        })
    }
}

/// nerdctl's label holds one address for each name, and has an end.
#[expect(clippy::type_complexity, reason = "two lists of the same pairs")]
fn split(hosts: Vec<(String, IpAddr)>) -> (Vec<(String, IpAddr)>, Vec<(String, IpAddr)>) {
    let mut names = std::collections::HashSet::new();
    let mut bytes = 0;
    hosts.into_iter().partition(|(name, address)| {
        // Nearly every character of a name is allowed, and some are long when written.
        let written = go_json::to_string(keys::EXTRA_HOSTS, &format!("{name}:{address},"));
        bytes += written.map_or(LABEL_HOSTS, |text| text.len());
        names.insert(name.clone()) && bytes <= LABEL_HOSTS
    })
}

fn store_link(target: &str, alias: &str) -> hosts::Link {
    hosts::Link { target: target.to_owned(), alias: alias.to_owned() }
}

/// nerdctl's label for name servers.
pub(super) fn dns(networking: &Networking) -> DnsSettings {
    DnsSettings {
        servers: networking.dns_servers.iter().map(ToString::to_string).collect(),
        options: networking.dns_options.clone(),
        search: networking.dns_search.clone(),
    }
}

/// The ports to publish, sorted: those that are named, and with "all" each exposed one that is not.
pub(super) fn port_wishes(spec: &ContainerSpec, exposed: &[String]) -> Vec<PortWish> {
    if !spec.network.has_own_interfaces() {
        return Vec::new();
    }
    let mut publish = spec.networking.publish.clone();
    if spec.networking.publish_all {
        let named: Vec<_> = publish.iter().map(|publish| publish.port).collect();
        let exposed = exposed.iter().filter_map(|port| port.parse::<names::PortSpec>().ok());
        publish.extend(
            exposed
                .flat_map(names::PortSpec::each)
                .take(crate::containers::record::MAX_PORTS)
                .filter(|port| !named.contains(port))
                .map(|port| Publish {
                    port,
                    host_ip: None,
                    host_ports: names::PortRange::single(0),
                }),
        );
    }
    // Those with a number come first, or a free port might be just that number.
    publish.sort_by_key(|publish| (publish.host_ports.first() == 0, publish.port));
    publish
        .into_iter()
        .map(|publish| PortWish {
            container_port: publish.port.range().first(),
            protocol: publish.port.protocol().to_string(),
            host_ip: publish.host_ip.map(|address| address.to_string()).unwrap_or_default(),
            first_host_port: publish.host_ports.first(),
            last_host_port: publish.host_ports.last(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::tests::container;

    #[test]
    fn exposed_ports_are_published_where_one_is_free() {
        let mut spec = container();
        spec.networking.publish = vec![Publish {
            port: "80".parse().unwrap(),
            host_ip: Some("127.0.0.1".parse().unwrap()),
            host_ports: "8080-8090".parse().unwrap(),
        }];
        let exposed = ["53-54/udp".to_owned(), "80/tcp".to_owned()];
        assert_eq!(port_wishes(&spec, &exposed).len(), 1, "not all of them were asked for");
        spec.networking.publish_all = true;
        let wishes = port_wishes(&spec, &exposed);
        let shown: Vec<_> = wishes
            .iter()
            .map(|wish| {
                let PortWish { container_port, protocol, host_ip, .. } = wish;
                let (first, last) = (wish.first_host_port, wish.last_host_port);
                format!("{host_ip}:{first}-{last}:{container_port}/{protocol}")
            })
            .collect();
        assert_eq!(shown, ["127.0.0.1:8080-8090:80/tcp", ":0-0:53/udp", ":0-0:54/udp"]);
        spec.network = NetworkMode::Host;
        assert!(port_wishes(&spec, &exposed).is_empty());
    }

    #[test]
    fn a_name_has_one_address_in_the_label_and_the_label_an_end() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let hosts = vec![
            ("a".to_owned(), ip("192.0.2.1")),
            ("a".to_owned(), ip("192.0.2.2")),
            ("b".to_owned(), ip("::1")),
            ("x".repeat(LABEL_HOSTS), ip("192.0.2.3")),
        ];
        let (label, further) = split(hosts);
        assert_eq!(label.len(), 2);
        assert_eq!(further[0], ("a".to_owned(), ip("192.0.2.2")));
        assert_eq!(further.len(), 2);
    }
}
