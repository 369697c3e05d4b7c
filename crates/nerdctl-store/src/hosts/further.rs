//! Names beside a container's own: aliases by which others find it, and names that it alone has for others (links).
//!
//! nerdctl knows neither, so they are not announced in `meta.json`. They stand in a file of ours beside it, and in the hosts
//! files as lines outside of the marked region, which nerdctl leaves alone when it writes the region anew. A last name in
//! each of these lines says that it is ours and may be replaced: nerdctl drops comments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::HostsMeta;

/// The last name of every line of ours; no host has it (RFC 2606).
const MARK: &str = "alias.nerdctld.invalid";

/// File `further-names.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FurtherNames {
    /// By which other containers find this one, by network as in the networks label.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// What this container alone calls others, by network.
    pub links: BTreeMap<String, Vec<Link>>,
}

/// A name for another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Link {
    /// The other: its id, its name, its host name, or an alias of it.
    pub target: String,
    /// What it is called.
    pub alias: String,
}

impl FurtherNames {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.aliases.is_empty() && self.links.is_empty()
    }

    fn aliases_in(&self, network: &str) -> &[String] {
        self.aliases.get(network).map_or(&[], Vec::as_slice)
    }

    /// What the container with these names has to call `other` in a network, beside the names of everybody.
    pub(super) fn for_other(&self, other: &Announced, network: &str) -> Vec<String> {
        let links = self.links.get(network).into_iter().flatten();
        let linked = links.filter(|link| other.is_called(&link.target, network));
        let all = other.names.aliases_in(network).iter().chain(linked.map(|link| &link.alias));
        let mut seen = std::collections::HashSet::new();
        all.filter(|name| seen.insert(name.as_str())).cloned().collect()
    }
}

/// A container as others see it.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) meta: HostsMeta,
    pub(super) names: FurtherNames,
}

impl Announced {
    fn is_called(&self, name: &str, network: &str) -> bool {
        let own = [&self.meta.id, &self.meta.name, &self.meta.hostname];
        !name.is_empty()
            && own.into_iter().chain(self.names.aliases_in(network)).any(|own| own == name)
    }
}

/// A line of a hosts file, outside of the marked region.
pub(super) fn line(address: &str, names: &[String]) -> String {
    format!("{address} {} {MARK}\n", names.join(" "))
}

/// Whether a line was made by [`line()`], whoever has written it since.
pub(super) fn is_ours(line: &str) -> bool {
    line.split_whitespace().next_back() == Some(MARK)
}
