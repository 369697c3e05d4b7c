//! `health.json`: the last results of a container's health check, one JSON object a line, oldest first.
//!
//! nerdctl appends and reads the last five (`pkg/healthcheck`); we keep no more than those.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Results that are kept: as many as Docker shows.
pub(super) const KEPT: usize = 5;

/// Bytes at the end of the file that are read: nerdctl never shortens it, and its lines have a few KiB.
pub(super) const READ: u64 = 1 << 20;

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProbeResult {
    /// When it was begun.
    #[serde(serialize_with = "write_moment", deserialize_with = "read_moment")]
    pub start: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "write_moment", deserialize_with = "read_moment")]
    pub end: Timestamp,
    /// 0 is well; −1 where the probe has no exit code: it could not be started or took too long.
    pub exit_code: i64,
    /// What it wrote, shortened.
    pub output: String,
}

fn write_moment<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

fn read_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

/// The results in a file, the last ones; lines that are none are skipped.
pub(super) fn parse(text: &str) -> Vec<ProbeResult> {
    let mut results: Vec<ProbeResult> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    results.drain(..results.len().saturating_sub(KEPT));
    results
}
