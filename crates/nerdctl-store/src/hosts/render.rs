//! The text of a hosts file: what was there outside of the marked region, and the region made anew.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::HostsMeta;
use super::further::{self, Announced};

const BEGIN: &str = "<nerdctl>";
const END: &str = "</nerdctl>";

/// The default network, whose name is not appended to host names.
const DEFAULT_NETWORK: &str = "bridge";

/// Who has which address in which network.
///
/// nerdctl's map of addresses is unordered and has one entry for each; ours is sorted and keeps networks apart, so
/// that a file changes only if something in it does.
pub(super) struct AddressBook<'a>(BTreeMap<(IpAddr, &'a str), &'a Announced>);

impl<'a> AddressBook<'a> {
    pub(super) fn new(announced: impl Iterator<Item = &'a Announced>) -> Self {
        let mut book = BTreeMap::new();
        for container in announced {
            for (network, result) in container.meta.networks.iter().flatten() {
                for address in addresses(result) {
                    book.insert((address, network.as_str()), container);
                }
            }
        }
        Self(book)
    }

    /// The new text of the hosts file of `me`.
    pub(super) fn hosts_file(&self, old: &[u8], me: &Announced) -> String {
        let mut text = lines_outside_region(&String::from_utf8_lossy(old));
        for (address, network, other) in self.neighbours(me) {
            let names = me.names.for_other(other, network);
            if !names.is_empty() {
                text.push_str(&further::line(&address.to_string(), &names));
            }
        }
        text.push_str(&format!("# {BEGIN}\n"));
        text.push_str("127.0.0.1\tlocalhost localhost.localdomain\n");
        text.push_str("::1\t\tlocalhost localhost.localdomain\n");
        for (host, address) in &me.meta.extra_hosts {
            text.push_str(&format!("{address:<15} {host}\n"));
        }
        for (address, network, other) in self.neighbours(me) {
            let names = names(&other.meta, network).join(" ");
            text.push_str(&format!("{:<15} {names}\n", address.to_string()));
        }
        text.push_str(&format!("# {END}\n"));
        text
    }

    /// Who is in a network of `me`, `me` included.
    fn neighbours<'s>(
        &'s self,
        me: &'s Announced,
    ) -> impl Iterator<Item = (&'s IpAddr, &'s str, &'s Announced)> {
        let mine = |network: &str| {
            me.meta.networks.as_ref().is_some_and(|mine| mine.contains_key(network))
        };
        let all = self.0.iter().filter(move |((_, network), _)| mine(network));
        all.map(|((address, network), other)| (address, *network, *other))
    }
}

/// The addresses in a CNI result that others can reach.
fn addresses(result: &Map<String, Value>) -> impl Iterator<Item = IpAddr> {
    let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    ips.filter_map(|ip| ip.get("address")?.as_str()?.split('/').next()?.parse::<IpAddr>().ok())
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
}

/// The names by which a container is known in a network.
fn names(meta: &HostsMeta, network: &str) -> Vec<String> {
    let mut names = Vec::new();
    if !meta.domainname.is_empty() {
        names.push(format!("{}.{}", meta.hostname, meta.domainname));
    }
    let bare =
        std::iter::once(&meta.hostname).chain(Some(&meta.name).filter(|name| !name.is_empty()));
    for name in bare {
        names.push(name.clone());
        if network != DEFAULT_NETWORK {
            names.push(format!("{name}.{network}"));
        }
    }
    names
}

/// The lines that are kept: entries outside of the marked region, but not those of localhost, which the region has, nor
/// those that stand for aliases and links.
fn lines_outside_region(old: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in old.lines() {
        let line = line.trim_matches([' ', '\t']).replace('\t', " ");
        let comment = line.strip_prefix('#').map(str::trim);
        if comment == Some(BEGIN) {
            inside = true;
        }
        if !inside && is_entry(&line) && !further::is_ours(&line) {
            kept.push_str(&line);
            kept.push('\n');
        }
        if comment == Some(END) {
            inside = false;
        }
    }
    kept
}

/// An address other than localhost's and at least one name, without a comment behind.
fn is_entry(line: &str) -> bool {
    if line.starts_with([';', '#']) {
        return false;
    }
    let Some((address, names)) = line.split_once(' ') else { return false };
    let mut names = names.split_whitespace().peekable();
    !matches!(address, "127.0.0.1" | "::1")
        && names.peek().is_some()
        && !names.any(|name| name.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(addresses: &[&str]) -> Map<String, Value> {
        let ips: Vec<Value> =
            addresses.iter().map(|address| serde_json::json!({ "address": address })).collect();
        Map::from_iter([("ips".to_owned(), Value::Array(ips))])
    }

    fn container(name: &str, networks: &[(&str, &[&str])]) -> Announced {
        let meta = HostsMeta {
            id: format!("id-of-{name}"),
            networks: Some(
                networks.iter().map(|(name, ips)| ((*name).to_owned(), result(ips))).collect(),
            ),
            hostname: format!("{name}-host"),
            name: name.to_owned(),
            ..HostsMeta::default()
        };
        Announced { meta, names: further::FurtherNames::default() }
    }

    #[test]
    fn a_container_sees_itself_and_those_it_shares_a_network_with() {
        let mut web = container(
            "web",
            &[("bridge", &["10.4.0.5/24"]), ("back", &["10.4.1.2/24", "fd00::2/64"])],
        );
        web.meta.extra_hosts.insert("db".into(), "192.0.2.9".into());
        let mut api = container("api", &[("back", &["10.4.1.3/24"])]);
        api.meta.domainname = "example.com".into();
        let other = container("other", &[("elsewhere", &["10.4.2.2/24"])]);
        let all = [web, api, other];
        let book = AddressBook::new(all.iter());
        assert_eq!(
            book.hosts_file(b"", &all[0]),
            "# <nerdctl>\n\
             127.0.0.1\tlocalhost localhost.localdomain\n\
             ::1\t\tlocalhost localhost.localdomain\n\
             192.0.2.9       db\n\
             10.4.0.5        web-host web\n\
             10.4.1.2        web-host web-host.back web web.back\n\
             10.4.1.3        api-host.example.com api-host api-host.back api api.back\n\
             fd00::2         web-host web-host.back web web.back\n\
             # </nerdctl>\n"
        );
    }

    #[test]
    fn a_nameless_container_is_known_by_its_host_name() {
        let mut me = container("", &[("bridge", &["10.4.0.2/24"])]);
        me.meta.hostname = "0123456789ab".into();
        let all = [me];
        assert!(
            AddressBook::new(all.iter())
                .hosts_file(b"", &all[0])
                .contains("10.4.0.2        0123456789ab\n")
        );
    }

    #[test]
    fn loopback_and_unspecified_addresses_are_nobodys() {
        let all =
            [container("web", &[("bridge", &["127.0.0.2/8", "0.0.0.0/0", "::1/128", "garbage"])])];
        assert!(!AddressBook::new(all.iter()).hosts_file(b"", &all[0]).contains("web"));
    }

    #[test]
    fn lines_outside_of_the_region_stay_but_for_comments_and_localhost() {
        let old = "127.0.0.1 localhost\n::1 localhost\n# a comment\n; another\n\n\
                   10.0.0.1\tmine also-mine\n10.0.0.2 dropped # why\n10.0.0.3\n   10.0.0.4   indented\n\
                   # <nerdctl>\n10.4.0.5 old\n# </nerdctl>\n10.0.0.6 below\n";
        assert_eq!(
            lines_outside_region(old),
            "10.0.0.1 mine also-mine\n10.0.0.4   indented\n10.0.0.6 below\n"
        );
    }

    #[test]
    fn rewriting_its_own_text_changes_nothing() {
        let all = [container("web", &[("bridge", &["10.4.0.5/24"])])];
        let book = AddressBook::new(all.iter());
        let once = book.hosts_file(b"10.0.0.1 mine\n", &all[0]);
        assert_eq!(book.hosts_file(once.as_bytes(), &all[0]), once);
    }

    #[test]
    fn an_unclosed_region_goes_to_the_end() {
        assert_eq!(lines_outside_region("10.0.0.1 a\n# <nerdctl>\n10.0.0.2 b\n"), "10.0.0.1 a\n");
    }
}
