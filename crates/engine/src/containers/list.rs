//! List containers: out of the snapshot, without a lock and without a call.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Container, ListFilter, Phase, links};
use crate::inventory::Snapshot;
use crate::{Engine, Error, Result};

/// A container in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The container.
    pub container: Arc<Container>,
    /// What others call it: `web/alias`.
    pub links: Vec<String>,
}

impl Engine {
    /// The containers that pass the filter, newest first.
    ///
    /// Rules of moby `daemon/list.go`: a `status` filter or a limit implies all states; `before` and `since` name a
    /// container and must find it.
    ///
    /// # Errors
    /// [`Error::NotLoaded`]; [`Error::NoSuchContainer`] of `before` and `since`.
    pub async fn list_containers(&self, filter: &ListFilter) -> Result<Vec<Listed>> {
        let snapshot = self.inventory().loaded().await?;
        let bounds = Bounds::of(filter, &snapshot)?;
        let ancestors = self.ancestors(filter).await;
        let mut found: Vec<Arc<Container>> = snapshot
            .entries()
            .map(|entry| &entry.container)
            .filter(|container| matches(filter, container, &ancestors) && bounds.contain(container))
            .cloned()
            .collect();
        found.sort_by_key(|container| Reverse(container.created));
        if let Some(limit) = filter.limit {
            found.truncate(limit);
        }
        let mut names = links::names(&snapshot);
        let listed = |container: Arc<Container>| Listed {
            links: names.remove(container.id.as_str()).unwrap_or_default(),
            container,
        };
        Ok(found.into_iter().map(listed).collect())
    }

    /// What `ancestor` values stand for: ids of images, beside the text itself.
    async fn ancestors(&self, filter: &ListFilter) -> Vec<String> {
        let mut ids = Vec::new();
        for typed in &filter.ancestor {
            // An unknown image simply matches nothing.
            if let Ok(id) = self.image_id_of(typed).await {
                ids.push(id);
            }
        }
        ids
    }
}

/// `before` and `since`.
struct Bounds {
    before: Option<jiff::Timestamp>,
    since: Option<jiff::Timestamp>,
}

impl Bounds {
    fn of(filter: &ListFilter, snapshot: &Snapshot) -> Result<Self> {
        let created = |typed: &[String]| -> Result<Option<jiff::Timestamp>> {
            let Some(typed) = typed.last() else { return Ok(None) };
            let entry =
                snapshot.resolve(typed).map_err(|_| Error::NoSuchContainer(typed.clone()))?;
            Ok(Some(entry.container.created))
        };
        Ok(Self { before: created(&filter.before)?, since: created(&filter.since)? })
    }

    fn contain(&self, container: &Container) -> bool {
        self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
    }
}

fn matches(filter: &ListFilter, container: &Container, ancestors: &[String]) -> bool {
    let any_state = filter.all || filter.limit.is_some() || !filter.status.is_empty();
    (any_state || container.state.phase.counts_as_running())
        && one_of(&filter.status, |status| *status == container.state.phase)
        && one_of(&filter.exited, |code| {
            // Docker counts the created ones among the exited with 0 (moby `daemon/list.go`).
            !container.state.phase.counts_as_running()
                && i64::from(container.state.exit_code) == *code
        })
        && one_of(&filter.health, |health| {
            container.state.health.unwrap_or_default().status.as_str() == health
        })
        && one_of(&filter.id, |id| container.id.as_str().starts_with(id.as_str()))
        && filter.name.as_ref().is_none_or(|name| (name.0)(&container.name))
        && filter.label.iter().all(|label| has_label(container, label))
        && one_of(&filter.network, |network| has_network(container, network))
        && one_of(&filter.volume, |volume| has_volume(container, volume))
        && one_of(&filter.publish, |wanted| {
            container.ports.iter().any(|port| {
                port.host
                    .as_ref()
                    .is_some_and(|(_, host_port)| covers(wanted, *host_port, &port.protocol))
            })
        })
        && one_of(&filter.expose, |wanted| {
            container.ports.iter().any(|port| covers(wanted, port.container_port, &port.protocol))
        })
        && (filter.ancestor.is_empty() || is_descendant(container, &filter.ancestor, ancestors))
        && (container.state.phase != Phase::Dead || filter.all)
}

fn one_of<T>(wanted: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

fn has_label(container: &Container, label: &str) -> bool {
    match label.split_once('=') {
        None => container.labels.contains_key(label),
        Some((key, value)) => container.labels.get(key).is_some_and(|found| found == value),
    }
}

fn has_network(container: &Container, wanted: &str) -> bool {
    container.endpoints.iter().any(|endpoint| {
        endpoint.network == wanted
            || (!endpoint.network_id.is_empty() && endpoint.network_id.starts_with(wanted))
    })
}

fn has_volume(container: &Container, wanted: &str) -> bool {
    container.mounts.iter().any(|mount| {
        [&mount.name, &mount.source, &mount.destination].into_iter().any(|text| text == wanted)
    })
}

fn covers(wanted: &names::PortSpec, port: u16, protocol: &str) -> bool {
    wanted.protocol().name() == protocol && wanted.range().ports().contains(&port)
}

fn is_descendant(container: &Container, typed: &[String], ids: &[String]) -> bool {
    ids.contains(&container.image_id) || typed.contains(&container.image)
}
