//! The objects of the event stream.
//!
//! Source: moby `api/types/events`, `daemon/server/router/system/system_routes.go`.

use std::collections::BTreeMap;

use serde::Serialize;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventMessage {
    /// The action again, for containers and images; up to 1.51.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The actor's id again, for containers and images; up to 1.51. Old clients panic when it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The image, for containers; up to 1.51.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `container`, `image`, `network`, `volume`, `builder`, `daemon`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened: `start`, `exec_create: ls -l`.
    #[serde(rename = "Action")]
    pub action: String,
    /// To what.
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    /// `local`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Unix seconds.
    pub time: i64,
    /// Unix nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventActor {
    /// The id, or the name of a volume; empty for prunes.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels and details; never null.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> EventMessage {
        EventMessage {
            kind: "container".to_owned(),
            action: "start".to_owned(),
            actor: EventActor {
                id: "ab".to_owned(),
                attributes: BTreeMap::from([
                    ("name".to_owned(), "web".to_owned()),
                    ("image".to_owned(), "nginx".to_owned()),
                ]),
            },
            scope: "local".to_owned(),
            time: 1_700_000_000,
            time_nano: 1_700_000_000_123_456_789,
            ..EventMessage::default()
        }
    }

    #[test]
    fn spelling() {
        assert_eq!(
            serde_json::to_string(&start()).unwrap(),
            r#"{"Type":"container","Action":"start","Actor":{"ID":"ab","Attributes":{"image":"nginx","name":"web"}},"scope":"local","time":1700000000,"timeNano":1700000000123456789}"#
        );
    }

    #[test]
    fn old_versions_start_with_the_old_fields() {
        let old = EventMessage {
            status: Some("start".to_owned()),
            id: Some("ab".to_owned()),
            from: Some("nginx".to_owned()),
            ..start()
        };
        assert!(
            serde_json::to_string(&old)
                .unwrap()
                .starts_with(r#"{"status":"start","id":"ab","from":"nginx","Type":"#)
        );
    }
}
