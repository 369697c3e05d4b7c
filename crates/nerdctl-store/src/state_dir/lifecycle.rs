//! `lifecycle.json`: the current or last run of a container, as the hooks saw it.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Go's zero `time.Time`, which stands for "never".
const GO_ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// nerdctl's record of a start, and in it the pid that we add. Unknown keys are ignored by nerdctl.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// When the container was started: `State.StartedAt`. Taken before the process can write a line.
    #[serde(default, serialize_with = "write_time", deserialize_with = "read_time")]
    pub started_at: Option<Timestamp>,
    /// Set by a createRuntime hook that failed, so that the postStop hook that follows does not take it for the
    /// end of the container.
    #[serde(default)]
    pub create_error: bool,
    /// The container's first process. Ours alone: nerdctl's hook does not write it.
    #[serde(default, rename = "nerdctld_pid", skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// One run of a container: the same pid may come again, but not at the same nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// Process id of the first process.
    pub pid: u32,
    /// When it was started.
    pub started_at: Timestamp,
}

impl Lifecycle {
    /// The run on record; none before the first start, and none if nerdctl's own hook wrote the record.
    #[must_use]
    pub fn run(&self) -> Option<Run> {
        Some(Run { pid: self.pid?, started_at: self.started_at? })
    }

    /// Notes the beginning of a run.
    pub fn begin(&mut self, run: Run) {
        *self = Self { started_at: Some(run.started_at), create_error: false, pid: Some(run.pid) };
    }

    /// Notes that a start failed in the hook. `started_at` stays that of the last run, as Docker has it; nerdctl's
    /// hook takes the time of the failure.
    pub fn fail(&mut self) {
        *self = Self { create_error: true, pid: None, ..*self };
    }
}

#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
pub(super) fn write_time<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_str(GO_ZERO_TIME),
    }
}

pub(super) fn read_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == GO_ZERO_TIME {
        return Ok(None);
    }
    text.parse().map(Some).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go_json::to_string;

    #[test]
    fn a_record_of_nerdctl_is_read() {
        let text = r#"{"started_at":"2026-01-02T04:04:05.123456789+01:00","create_error":false}"#;
        let lifecycle: Lifecycle = serde_json::from_str(text).unwrap();
        assert_eq!(lifecycle.started_at.unwrap().to_string(), "2026-01-02T03:04:05.123456789Z");
        assert_eq!(lifecycle.run(), None);
    }

    #[test]
    fn a_record_of_ours_is_nerdctls_with_a_pid() {
        let started_at = "2026-01-02T03:04:05.12Z".parse().unwrap();
        let mut lifecycle = Lifecycle::default();
        lifecycle.begin(Run { pid: 42, started_at });
        let text = to_string("", &lifecycle).unwrap();
        assert_eq!(
            text,
            r#"{"started_at":"2026-01-02T03:04:05.12Z","create_error":false,"nerdctld_pid":42}"#
        );
        assert_eq!(serde_json::from_str::<Lifecycle>(&text).unwrap(), lifecycle);
    }

    #[test]
    fn never_is_gos_zero_time() {
        let text = to_string("", &Lifecycle::default()).unwrap();
        assert_eq!(text, r#"{"started_at":"0001-01-01T00:00:00Z","create_error":false}"#);
        assert_eq!(serde_json::from_str::<Lifecycle>(&text).unwrap(), Lifecycle::default());
    }
}
