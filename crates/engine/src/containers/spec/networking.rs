//! What create is asked for about networks, beside the mode.

use std::net::IpAddr;

use names::{PortRange, PortSpec};

use super::links::Names;

/// Ports, names and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networking {
    /// Ports to publish.
    pub publish: Vec<Publish>,
    /// Publish every exposed port that is not among them, wherever one is free.
    pub publish_all: bool,
    /// Name servers instead of the host's.
    pub dns_servers: Vec<IpAddr>,
    /// Search domains instead of the host's; `.` alone for none.
    pub dns_search: Vec<String>,
    /// Options of `resolv.conf` instead of the host's.
    pub dns_options: Vec<String>,
    /// Further lines of `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Names beside its own.
    pub names: Names,
    /// MAC address of its interface.
    pub mac_address: Option<String>,
    /// Its own IPv4 address, in a network of the user's.
    pub ipv4: Option<IpAddr>,
    /// Its own IPv6 address.
    pub ipv6: Option<IpAddr>,
}

/// A port to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// In the container; one, not several.
    pub port: PortSpec,
    /// On the host; `None` for every address.
    pub host_ip: Option<IpAddr>,
    /// On the host: the first of these that is free; 0 for any.
    pub host_ports: PortRange,
}

/// One more host that the container knows by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Where it is.
    pub address: HostAddress,
}

/// Where an extra host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// At this address.
    Ip(IpAddr),
    /// It is the host itself: `host-gateway`.
    Gateway,
}
