//! State transitions and other news of containers as Docker events.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Event, EventType};
use crate::containers::state::Fact;
use crate::containers::{Container, State};

/// An event about a container, with its labels, `image` and `name` (moby `daemon/events.go`).
#[must_use]
pub fn container_event(
    container: &Container,
    action: impl Into<String>,
    extra: &[(&str, String)],
) -> Event {
    let mut attributes: BTreeMap<String, String> = container.labels.as_ref().clone();
    attributes.insert("image".into(), container.image.clone());
    attributes.insert("name".into(), container.name.clone());
    for (key, value) in extra {
        attributes.insert((*key).to_owned(), value.clone());
    }
    Event {
        kind: EventType::Container,
        action: action.into(),
        actor: container.id.as_str().to_owned(),
        attributes,
        at: Timestamp::now(),
    }
}

/// What Docker says when `fact` took a container from `before` to its present state, in Docker's order: networks are
/// connected and volumes mounted before `start`, and let go again before `die`.
#[must_use]
pub fn life_cycle(container: &Container, before: &State, fact: &Fact) -> Vec<Event> {
    let plain = |action: &str| container_event(container, action, &[]);
    match fact {
        Fact::Started { .. } => {
            let mounted = volume_events(container, "mount");
            network_events(container, "connect").chain(mounted).chain([plain("start")]).collect()
        }
        Fact::Exited { code, at, .. } => {
            let ran = before
                .started_at
                .map_or(0, |started| at.as_second().saturating_sub(started.as_second()).max(0));
            let extra = [("exitCode", code.to_string()), ("execDuration", ran.to_string())];
            let die = container_event(container, "die", &extra);
            let unmounted = volume_events(container, "unmount");
            network_events(container, "disconnect").chain(unmounted).chain([die]).collect()
        }
        Fact::Paused => vec![plain("pause")],
        Fact::Resumed => vec![plain("unpause")],
        Fact::Oom => vec![plain("oom")],
        Fact::Probed(health) if before.health.is_some_and(|old| old.status != health.status) => {
            vec![plain(&format!("health_status: {}", health.status.as_str()))]
        }
        Fact::Probed(_)
        | Fact::EndWanted(_)
        | Fact::StartFailed { .. }
        | Fact::Removing
        | Fact::RemovalFailed => Vec::new(),
    }
}

/// One for each network of the container (moby `daemon/events.go`, `LogNetworkEventWithAttributes`).
fn network_events(container: &Container, action: &'static str) -> impl Iterator<Item = Event> {
    container.endpoints.iter().map(move |endpoint| {
        let attributes = [
            ("container", container.id.as_str()),
            ("name", endpoint.network.as_str()),
            ("type", network_driver(&endpoint.network)),
        ];
        Event {
            kind: EventType::Network,
            action: action.to_owned(),
            actor: endpoint.network_id.clone(),
            attributes: attributes
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            at: Timestamp::now(),
        }
    })
}

/// One for each volume of the container (moby `daemon/volumes_unix.go`, `setupMounts`).
fn volume_events(container: &Container, action: &'static str) -> impl Iterator<Item = Event> {
    let volumes = container.mounts.iter().filter(|mount| mount.kind == "volume");
    volumes.map(move |mount| {
        let everywhere =
            [("driver", mount.driver.clone()), ("container", container.id.to_string())];
        let of_mount = [
            ("destination", mount.destination.clone()),
            ("read/write", mount.read_write.to_string()),
            ("propagation", mount.propagation.clone()),
        ];
        let of_mount = of_mount.into_iter().filter(|_| action == "mount");
        crate::volumes::event(&mount.name, action, everywhere.into_iter().chain(of_mount))
    })
}

/// The driver that Docker names for a network. Networks that nerdctl makes are bridges unless asked otherwise.
fn network_driver(network: &str) -> &'static str {
    match network {
        "host" => "host",
        "none" => "null",
        _ => "bridge",
    }
}
