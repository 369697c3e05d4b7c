//! `resolv.conf`: reading the host's, and what a container gets instead.
//!
//! nerdctl writes a container's file once, at create: the user's settings, each missing part taken from the host.
//! Name servers on loopback addresses are dropped, since they mean the container itself there; only a container in
//! the host's network keeps them. Source: nerdctl `pkg/resolvconf/resolvconf.go`,
//! `pkg/containerutil/container_network_manager_linux.go`.

use std::net::IpAddr;

use crate::labels::values::DnsSettings;

/// Where Linux programs look.
pub const HOST_PATH: &str = "/etc/resolv.conf";

/// The servers that systemd-resolved uses itself, while [`HOST_PATH`] only names its stub.
pub const SYSTEMD_RESOLVED_PATH: &str = "/run/systemd/resolve/resolv.conf";

/// Used if no server of the host can be reached from the container (as dockerd and nerdctl do).
const PUBLIC_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// The parts of a `resolv.conf` that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Search domains.
    pub search: Vec<String>,
    /// Name servers, addresses only; IPv6 ones may have a zone.
    pub nameservers: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Which network a container is in, as far as its name servers are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Its own: IPv4 servers outside of loopback can be reached.
    Own,
    /// The host's: every server of the host can be reached.
    Host,
}

impl ResolvConf {
    /// Reads a file's text: of several `search` or `options` lines the last one counts, unknown lines are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let keyword = words.next();
            let mut values = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => {
                    found
                        .nameservers
                        .extend(values.next().filter(|value| address(value).is_some()));
                }
                Some("search") => found.search = values.collect(),
                Some("options") => found.options = values.collect(),
                _ => {}
            }
        }
        found
    }

    /// What a container gets, given the text of the host's file and the user's settings.
    #[must_use]
    pub fn for_container(host: &str, given: &DnsSettings, network: Network) -> Self {
        let host = Self::parse(host);
        let or = |given: &Vec<String>, inherited: Vec<String>| {
            if given.is_empty() { inherited } else { given.clone() }
        };
        Self {
            nameservers: or(&given.servers, reachable(host.nameservers, network)),
            search: or(&given.search, host.search),
            options: or(&given.options, host.options),
        }
    }

    /// The file's text. A search list of `.` means none.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let search = self.search.join(" ");
        if !search.is_empty() && search.trim() != "." {
            text.push_str(&format!("search {search}\n"));
        }
        for server in &self.nameservers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        let options = self.options.join(" ");
        if !options.trim().is_empty() {
            text.push_str(&format!("options {options}\n"));
        }
        text
    }

    /// Whether this names systemd-resolved's stub only, so that [`SYSTEMD_RESOLVED_PATH`] is to be read instead.
    #[must_use]
    pub fn is_systemd_stub(&self) -> bool {
        self.nameservers == ["127.0.0.53"]
    }
}

fn reachable(mut servers: Vec<String>, network: Network) -> Vec<String> {
    if network == Network::Own {
        servers
            .retain(|server| matches!(address(server), Some(IpAddr::V4(v4)) if !v4.is_loopback()));
    }
    if servers.is_empty() {
        return PUBLIC_SERVERS.map(str::to_owned).to_vec();
    }
    servers
}

fn address(server: &str) -> Option<IpAddr> {
    server.split('%').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\n\
        search old.example\n\
        domain ignored.example\n\
        nameserver 127.0.0.1\n\
        nameserver 192.0.2.1 # first\n\
        nameserver fe80::1%eth0\n\
        nameserver no.address\n\
        search a.example b.example\n\
        options ndots:2 timeout:1\n";

    #[test]
    fn a_container_of_its_own_network_gets_what_it_can_reach() {
        let conf = ResolvConf::for_container(HOST, &DnsSettings::default(), Network::Own);
        assert_eq!(
            conf.render(),
            "search a.example b.example\nnameserver 192.0.2.1\noptions ndots:2 timeout:1\n"
        );
    }

    #[test]
    fn in_the_hosts_network_all_servers_stay() {
        let conf = ResolvConf::for_container(HOST, &DnsSettings::default(), Network::Host);
        assert_eq!(conf.nameservers, ["127.0.0.1", "192.0.2.1", "fe80::1%eth0"]);
    }

    #[test]
    fn public_servers_stand_in_for_unreachable_ones() {
        for host in ["", "nameserver 127.0.0.53\n", "nameserver 2001:db8::1\n"] {
            let conf = ResolvConf::for_container(host, &DnsSettings::default(), Network::Own);
            assert_eq!(conf.render(), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", "{host:?}");
        }
    }

    #[test]
    fn each_given_part_replaces_its_part() {
        let given = DnsSettings {
            servers: vec!["127.0.0.1".into(), "2001:db8::53".into()],
            search: vec![".".into()],
            options: vec![],
        };
        let conf = ResolvConf::for_container(HOST, &given, Network::Own);
        assert_eq!(
            conf.render(),
            "nameserver 127.0.0.1\nnameserver 2001:db8::53\noptions ndots:2 timeout:1\n"
        );
    }

    #[test]
    fn the_stub_of_systemd_is_recognised() {
        assert!(ResolvConf::parse("nameserver 127.0.0.53\noptions edns0\n").is_systemd_stub());
        assert!(
            !ResolvConf::parse("nameserver 127.0.0.53\nnameserver 192.0.2.1\n").is_systemd_stub()
        );
    }
}
