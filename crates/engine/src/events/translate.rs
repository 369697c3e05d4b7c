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

/// What Docker says when `fact` took a container from `before` to its present state.
#[must_use]
pub fn life_cycle(container: &Container, before: &State, fact: &Fact) -> Option<Event> {
    match fact {
        Fact::Started { .. } => Some(container_event(container, "start", &[])),
        Fact::Exited { code, at } => {
            let ran = before
                .started_at
                .map_or(0, |started| at.as_second().saturating_sub(started.as_second()).max(0));
            let extra = [("exitCode", code.to_string()), ("execDuration", ran.to_string())];
            Some(container_event(container, "die", &extra))
        }
        Fact::Paused => Some(container_event(container, "pause", &[])),
        Fact::Resumed => Some(container_event(container, "unpause", &[])),
        Fact::Oom => Some(container_event(container, "oom", &[])),
        Fact::StartFailed { .. } | Fact::Removing | Fact::RemovalFailed => None,
    }
}
