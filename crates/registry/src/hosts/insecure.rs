//! Which registries need no certificate, nor TLS.
//!
//! They are listed by name or as blocks of addresses, and a block means whoever has an address in it, as for dockerd
//! (moby daemon/pkg/registry/config.go, isCIDRMatch). What the name system says is nothing to give up a certificate for,
//! so a registry that is insecure for its address is then connected to within these blocks only.

use std::net::{IpAddr, ToSocketAddrs as _};

use crate::Config;
use crate::credentials::is_docker_hub;
use crate::proxy::Block;
use crate::url::{Url, hostname_of, is_localhost, split_port};

/// Insecure in any case (moby daemon/pkg/registry/config.go, loadInsecureRegistries).
const OWN_MACHINE: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// What the settings say of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Insecurity {
    /// It has to prove who it is.
    None,
    /// It is listed, by its name or the address that it is named by.
    Named,
    /// It has a name, whose addresses are in these blocks.
    Within(Vec<Block>),
}

/// What the settings say of `registry` (`host`, `host:port`). May ask the name system, and wait for it.
pub(super) fn insecurity(config: &Config, registry: &str) -> Insecurity {
    judge(config, registry, &addresses)
}

fn judge(config: &Config, registry: &str, addresses: &dyn Fn(&str) -> Vec<IpAddr>) -> Insecurity {
    if config.insecure.iter().any(|entry| names(entry, registry)) {
        return Insecurity::Named;
    }
    if is_docker_hub(registry) || is_localhost(registry) || goes_through_proxy(config, registry) {
        return Insecurity::None;
    }
    let host = host_of(registry);
    if host.parse::<IpAddr>().is_ok() {
        return Insecurity::None;
    }
    let entries = config.insecure.iter().map(String::as_str).chain(OWN_MACHINE);
    let blocks: Vec<Block> = entries.filter_map(Block::parse).collect();
    let found = addresses(host);
    let matching = blocks.into_iter().filter(|block| found.iter().any(|one| block.contains(*one)));
    match matching.collect::<Vec<_>>() {
        none if none.is_empty() => Insecurity::None,
        blocks => Insecurity::Within(blocks),
    }
}

/// The proxy finds the host, where it wants to.
fn goes_through_proxy(config: &Config, registry: &str) -> bool {
    let url = Url::parse(&format!("https://{registry}/"));
    url.is_ok_and(|url| !matches!(config.proxies.for_url(&url), Ok(None)))
}

fn host_of(registry: &str) -> &str {
    split_port(registry).0.trim_start_matches('[').trim_end_matches(']')
}

/// None for a name that nobody knows: whoever connects will say so.
fn addresses(host: &str) -> Vec<IpAddr> {
    let found = (host, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    found.unwrap_or_default().into_iter().map(|address| address.ip()).collect()
}

/// Whether an entry of the list of insecure registries means this one: by name, by a block of addresses, or `*`.
fn names(entry: &str, registry: &str) -> bool {
    if entry == "*" || hostname_of(entry).eq_ignore_ascii_case(registry) {
        return true;
    }
    let address = host_of(registry).parse();
    address.is_ok_and(|address| Block::parse(entry).is_some_and(|block| block.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Proxies;

    fn judged(config: &Config, registry: &str) -> Insecurity {
        judge(config, registry, &|host| match host {
            "inner.example" => vec!["10.1.2.3".parse().unwrap()],
            "both.example" => vec!["192.0.2.1".parse().unwrap(), "10.1.2.3".parse().unwrap()],
            "own.example" => vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            "outer.example" => vec!["192.0.2.1".parse().unwrap()],
            _ => panic!("{host} is looked up"),
        })
    }

    #[test]
    fn a_block_means_names_with_an_address_in_it() {
        let config = Config {
            insecure: vec!["10.0.0.0/8".into(), "named.example:5000".into()],
            ..Config::default()
        };
        let within = |blocks: &[&str]| {
            Insecurity::Within(blocks.iter().filter_map(|block| Block::parse(block)).collect())
        };
        for (registry, expected) in [
            ("inner.example", within(&["10.0.0.0/8"])),
            ("both.example:5000", within(&["10.0.0.0/8"])),
            ("own.example:5000", within(&["127.0.0.0/8", "::1/128"])),
            ("outer.example", Insecurity::None),
            ("named.example:5000", Insecurity::Named),
            ("10.9.9.9:5000", Insecurity::Named),
            // These are not looked up.
            ("192.0.2.1:5000", Insecurity::None),
            ("[fe80::1]:5000", Insecurity::None),
            ("docker.io", Insecurity::None),
            ("localhost:5000", Insecurity::None),
        ] {
            assert_eq!(judged(&config, registry), expected, "{registry}");
        }
    }

    #[test]
    fn what_a_proxy_reaches_is_not_looked_up() {
        let lookup = |name: &str| (name == "HTTPS_PROXY").then(|| "proxy.example".to_owned());
        let config = Config {
            insecure: vec!["10.0.0.0/8".into()],
            proxies: Proxies::from_lookup(lookup),
            ..Config::default()
        };
        assert_eq!(judged(&config, "behind.example"), Insecurity::None);
    }
}
