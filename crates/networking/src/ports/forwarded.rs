//! Which ports of the host are forwarded to containers, as the rules of the `portmap` plugin say.
//!
//! The rules cover containers of every namespace and of every CNI user of the host, pods included, and unlike a reserver
//! they are there for SCTP and for containers of old releases of nerdctl too. Source: containernetworking/plugins
//! `plugins/meta/portmap/portmap.go`.

use std::net::IpAddr;

/// The chains in which the plugin forwards, one for each container and network.
const CHAIN: &str = "CNI-DN-";

/// One forwarded port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// `None` is every address of the host.
    address: Option<IpAddr>,
    port: u16,
    protocol: String,
}

/// The forwarded ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Forwarded(Vec<Entry>);

impl Forwarded {
    /// Adds what `iptables-save` printed of the table `nat`.
    pub(crate) fn read(&mut self, saved: &str) {
        self.0.extend(saved.lines().filter_map(entry));
    }

    /// Adds a port that has just been chosen.
    pub(crate) fn add(&mut self, address: IpAddr, port: u16, protocol: &str) {
        let address = Some(address).filter(|address| !address.is_unspecified());
        self.0.push(Entry { address, port, protocol: protocol.to_owned() });
    }

    /// The address on which a port is forwarded already, if it is, so that it is not free on `address`.
    pub(crate) fn conflict(&self, address: IpAddr, port: u16, protocol: &str) -> Option<IpAddr> {
        let overlaps = |entry: &&Entry| {
            entry.port == port
                && entry.protocol == protocol
                && entry.address.is_none_or(|taken| {
                    taken == address
                        || (address.is_unspecified() && taken.is_ipv4() == address.is_ipv4())
                })
        };
        let found = self.0.iter().find(overlaps)?;
        Some(found.address.unwrap_or_else(|| unspecified_like(address)))
    }
}

/// `0.0.0.0` or `::`, as the given one.
fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// `-A CNI-DN-0123… -d 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.4.0.5:80`
fn entry(line: &str) -> Option<Entry> {
    let rule = line.strip_prefix("-A ")?;
    if !rule.starts_with(CHAIN) {
        return None;
    }
    let words: Vec<&str> = rule.split(' ').collect();
    let after = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).copied()
    };
    if after("-j") != Some("DNAT") {
        return None;
    }
    Some(Entry {
        address: after("-d").and_then(|address| address.split('/').next()?.parse().ok()),
        port: after("--dport")?.parse().ok()?,
        protocol: after("-p")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_plugins_rules_are_read() {
        let mut forwarded = Forwarded::default();
        forwarded.read(
            "*nat\n:CNI-DN-aaa - [0:0]\n\
             -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"bridge\\\" id: \\\"default-abc\\\"\" -m multiport --dports 8080 -j CNI-DN-aaa\n\
             -A CNI-DN-aaa -s 10.4.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
             -A CNI-DN-aaa -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.4.0.5:80\n\
             -A CNI-DN-aaa -d 127.0.0.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.4.0.5:53\n\
             COMMIT\n",
        );
        assert_eq!(forwarded.0.len(), 2);
        assert_eq!(forwarded.conflict(ip("0.0.0.0"), 8080, "tcp"), Some(ip("0.0.0.0")));
        assert_eq!(forwarded.conflict(ip("127.0.0.1"), 8080, "tcp"), Some(ip("0.0.0.0")));
        assert_eq!(forwarded.conflict(ip("0.0.0.0"), 8080, "udp"), None);
        assert_eq!(forwarded.conflict(ip("0.0.0.0"), 8081, "tcp"), None);
        assert_eq!(forwarded.conflict(ip("0.0.0.0"), 53, "udp"), Some(ip("127.0.0.1")));
        assert_eq!(forwarded.conflict(ip("127.0.0.2"), 53, "udp"), None);
        assert_eq!(forwarded.conflict(ip("::"), 53, "udp"), None, "another family");
        forwarded.add(ip("127.0.0.2"), 53, "udp");
        assert_eq!(forwarded.conflict(ip("127.0.0.2"), 53, "udp"), Some(ip("127.0.0.2")));
    }

    #[test]
    fn other_rules_are_nobodys_ports() {
        for line in [
            "",
            "COMMIT",
            "-A DOCKER -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80",
            "-A CNI-DN-aaa -p tcp -j DNAT",
            "-A CNI-DN-aaa -p tcp --dport x -j DNAT",
        ] {
            assert_eq!(entry(line), None, "{line}");
        }
    }
}
