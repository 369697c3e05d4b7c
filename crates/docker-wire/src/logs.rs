//! One entry of a container's log as JSON: an experiment of API 1.54 (moby
//! `daemon/server/httputils/logstream/json_logstream.go`).

use serde::Serialize;

/// An entry, or a failure in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogMessage {
    /// The text with the newline at its end, if it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub line: String,
    /// `stdout` or `stderr`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// RFC 3339 with up to nine digits; Go's zero time beside an error.
    pub timestamp: String,
    /// Only with `details`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attrs: Vec<LogAttribute>,
    /// What went wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// One of the attributes that log options chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogAttribute {
    /// Name of the label or variable.
    pub key: String,
    /// Its value.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_left_out() {
        let message = LogMessage {
            line: "a\n".into(),
            source: "stdout".into(),
            timestamp: "2026-01-02T03:04:05.5Z".into(),
            ..LogMessage::default()
        };
        let plain = r#"{"Line":"a\n","Source":"stdout","Timestamp":"2026-01-02T03:04:05.5Z"}"#;
        assert_eq!(serde_json::to_string(&message).unwrap(), plain);
        let attrs = vec![LogAttribute { key: "k".into(), value: "v".into() }];
        let with = serde_json::to_string(&LogMessage { attrs, ..message }).unwrap();
        assert!(with.ends_with(r#","Attrs":[{"Key":"k","Value":"v"}]}"#), "{with}");
    }
}
