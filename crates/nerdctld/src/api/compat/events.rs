//! Events as old clients read them.

use docker_wire::events::EventMessage;
use engine::events::{Event, EventType};

use super::v;
use crate::api::version::ApiVersion;

/// How an event stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct EventStyle {
    /// Containers and images carry `id`, `status` and `from` (up to 1.51). Old command lines panic without them.
    pub(in crate::api) legacy_fields: bool,
    /// Images tell when they are created (1.46).
    pub(in crate::api) image_create: bool,
    /// Content type where the client names none (1.52 gave streams of JSON their own).
    pub(in crate::api) content_type: &'static str,
}

/// The style of a version.
pub(in crate::api) fn style(version: ApiVersion) -> EventStyle {
    EventStyle {
        legacy_fields: version < v(52),
        image_create: version >= v(46),
        content_type: if version < v(52) { "application/json" } else { "application/jsonl" },
    }
}

impl EventStyle {
    /// The event for the client; `None` if its version does not know it.
    pub(in crate::api) fn message(
        self,
        event: &Event,
        mut newest: EventMessage,
    ) -> Option<EventMessage> {
        if !self.image_create && event.kind == EventType::Image && event.action == "create" {
            return None;
        }
        if self.legacy_fields && matches!(event.kind, EventType::Container | EventType::Image) {
            newest.id = Some(event.actor.clone());
            newest.status = Some(event.action.clone());
            newest.from = (event.kind == EventType::Container)
                .then(|| event.attributes.get("image").cloned().unwrap_or_default());
        }
        Some(newest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::around;
    use super::*;

    fn event(kind: EventType, action: &str) -> Event {
        let attributes = BTreeMap::from([("image".to_owned(), "nginx".to_owned())]);
        Event {
            kind,
            action: action.to_owned(),
            actor: "ab".to_owned(),
            attributes,
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn shown(version: ApiVersion, event: &Event) -> Option<EventMessage> {
        style(version).message(event, EventMessage::default())
    }

    #[test]
    fn legacy_fields_until_1_51() {
        let (old, new) = around(52);
        let message = shown(old, &event(EventType::Container, "start")).unwrap();
        let legacy = (message.id.as_deref(), message.status.as_deref(), message.from.as_deref());
        assert_eq!(legacy, (Some("ab"), Some("start"), Some("nginx")));
        let message = shown(old, &event(EventType::Image, "pull")).unwrap();
        assert_eq!((message.id.as_deref(), message.from), (Some("ab"), None));
        assert_eq!(shown(old, &event(EventType::Network, "create")).unwrap().id, None);
        assert_eq!(
            shown(new, &event(EventType::Container, "start")).unwrap(),
            EventMessage::default()
        );
        assert_eq!(
            (style(old).content_type, style(new).content_type),
            ("application/json", "application/jsonl")
        );
    }

    #[test]
    fn images_tell_their_creation_since_1_46() {
        let (old, new) = around(46);
        assert_eq!(shown(old, &event(EventType::Image, "create")), None);
        assert!(shown(new, &event(EventType::Image, "create")).is_some());
        assert!(shown(old, &event(EventType::Container, "create")).is_some());
        assert!(shown(old, &event(EventType::Image, "pull")).is_some());
    }
}
