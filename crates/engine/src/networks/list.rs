//! List networks.

use super::{Network, NetworkFilter};
use crate::{Engine, Result};

/// All networks are this machine's.
const SCOPE: &str = "local";

impl Engine {
    /// The networks that pass the filter, by name (moby `daemon/network/filter.go`).
    ///
    /// # Errors
    /// [`crate::Error::NotLoaded`]; if nerdctl's folder cannot be read.
    pub async fn list_networks(&self, filter: &NetworkFilter) -> Result<Vec<Network>> {
        let mut all = self.all_networks().await?;
        all.retain(|network| matches(filter, network));
        Ok(all)
    }
}

fn matches(filter: &NetworkFilter, network: &Network) -> bool {
    let one_of = |wanted: &[String], actual: &str| {
        wanted.is_empty() || wanted.iter().any(|wanted| wanted == actual)
    };
    let kind = if network.is_builtin() { "builtin" } else { "custom" };
    let is_dangling = !network.is_builtin() && network.attached.is_empty();
    one_of(&filter.driver, &network.driver)
        && one_of(&filter.scope, SCOPE)
        && one_of(&filter.kind, kind)
        && filter.dangling.is_none_or(|dangling| dangling == is_dangling)
        && filter.id.as_ref().is_none_or(|id| (id.0)(&network.id))
        && filter.name.as_ref().is_none_or(|name| (name.0)(&network.name))
        && filter.label.iter().all(|label| match label.split_once('=') {
            None => network.labels.contains_key(label),
            Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
        })
}
