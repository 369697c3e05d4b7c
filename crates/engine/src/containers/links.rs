//! Legacy links: containers on the default bridge that another one calls by names of its own.
//!
//! As in Docker 29 a link is a line in the hosts file and a condition of the start, and no environment variable (moby
//! `daemon/container_operations_unix.go`).

mod remove;

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::spec::links::LinkWish;
use super::{Container, NetworkMode};
use crate::inventory::{Entry, Snapshot};
use crate::{Engine, Error, Result};

/// The network whose containers can be linked.
pub(super) const BRIDGE: &str = "bridge";

/// A container that another one calls by a name of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Which container.
    pub id: String,
    /// Its name when it was linked; shown when it is gone.
    pub name: String,
    /// What it is called.
    pub alias: String,
}

impl Link {
    /// The linked container, if it is still there.
    pub(crate) fn find<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Arc<Entry>> {
        snapshot.get(&self.id.parse().ok()?)
    }

    /// The linked container's name as it is now.
    fn name_now(&self, snapshot: &Snapshot) -> String {
        let found = self.find(snapshot).map(|entry| entry.container.name.clone());
        found.unwrap_or_else(|| self.name.clone())
    }
}

/// `/db:/web/alias` each, as inspect shows them.
pub(super) fn shown(container: &Container, snapshot: &Snapshot) -> Vec<String> {
    let links = container.links.iter();
    links
        .map(|link| format!("/{}:/{}/{}", link.name_now(snapshot), container.name, link.alias))
        .collect()
}

/// What containers are called by others: `web/alias`, by the id of the one that is called so.
pub(super) fn names(snapshot: &Snapshot) -> HashMap<String, Vec<String>> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for entry in snapshot.entries() {
        for link in &entry.container.links {
            let name = format!("{}/{}", entry.container.name, link.alias);
            names.entry(link.id.clone()).or_default().push(name);
        }
    }
    names
}

impl Engine {
    /// Find the containers that are to be linked. A name twice, or none, is left out without a word, as in Docker.
    ///
    /// # Errors
    /// [`Error::LinkMissing`]; [`Error::InvalidParameter`] for a container in the host's network.
    pub(super) fn find_links(&self, mode: &NetworkMode, wishes: &[LinkWish]) -> Result<Vec<Link>> {
        if !matches!(mode, NetworkMode::Bridge | NetworkMode::None) {
            return Ok(Vec::new());
        }
        let snapshot = self.inventory().now();
        let mut links: Vec<Link> = Vec::new();
        for wish in wishes {
            let found = find(&snapshot, &wish.container)?;
            if !wish.alias.is_empty() && links.iter().all(|link| link.alias != wish.alias) {
                let (id, name) = (found.id.to_string(), found.name.clone());
                links.push(Link { id, name, alias: wish.alias.clone() });
            }
        }
        Ok(links)
    }

    /// Make sure that what `container` links to runs, on the default bridge like itself.
    ///
    /// # Errors
    /// [`Error::LinkNotRunning`], [`Error::LinkNotOnBridge`].
    pub(super) async fn prepare_links(&self, container: &Container) -> Result<()> {
        if container.network_mode != BRIDGE {
            return Ok(());
        }
        for link in &container.links {
            let snapshot = self.inventory().now();
            let found = link.find(&snapshot).map(|entry| Arc::clone(&entry.container));
            let linked = match found {
                Some(found) => Some(self.up_to_date(found, super::Phase::has_process).await),
                None => None,
            };
            let Some(linked) = linked.filter(|linked| linked.state.phase.counts_as_running())
            else {
                let alias = format!("/{}/{}", container.name, link.alias);
                return Err(Error::LinkNotRunning { name: link.name_now(&snapshot), alias });
            };
            if linked.endpoints.iter().all(|endpoint| endpoint.network != BRIDGE) {
                return Err(Error::LinkNotOnBridge(linked.id.to_string()));
            }
        }
        Ok(())
    }
}

/// The container that has the network which `typed` is in (moby `daemon/daemon_unix.go`, `registerLinks`).
fn find(snapshot: &Snapshot, typed: &str) -> Result<Arc<Container>> {
    let mut typed = typed.to_owned();
    // As many as there could be in a row; they cannot be in a ring.
    for _ in 0..=snapshot.entries().count() {
        let found = match snapshot.resolve(&typed) {
            Ok(entry) => Arc::clone(&entry.container),
            Err(error) => {
                return Err(Error::LinkMissing { container: typed, source: Box::new(error) });
            }
        };
        match found.network_mode.strip_prefix("container:") {
            Some(other) => other.clone_into(&mut typed),
            None if found.network_mode == "host" => break,
            None => return Ok(found),
        }
    }
    Err(Error::InvalidParameter(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior".to_owned(),
    ))
}
