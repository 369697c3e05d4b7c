//! Protobuf's scalars and maps ⇄ ours.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use prost_types::{FieldMask, Timestamp};

/// Sizes and offsets are signed on the wire; a negative one means nothing.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// The reverse; no blob is larger than 8 EiB.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An instant; absent or Go's zero time (year 1) is none.
pub(crate) fn instant(timestamp: Option<Timestamp>) -> Option<SystemTime> {
    /// 0001-01-01T00:00:00Z, what an unset Go `time.Time` becomes.
    const GO_ZERO: i64 = -62_135_596_800;
    let timestamp = timestamp.filter(|time| time.seconds > GO_ZERO)?;
    SystemTime::try_from(timestamp).ok()
}

/// An instant that containerd always sets; should it not, the epoch.
pub(crate) fn recorded_instant(timestamp: Option<Timestamp>) -> SystemTime {
    instant(timestamp).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Maps are sorted on our side, so that output is stable.
pub(crate) fn sorted<V>(map: HashMap<String, V>) -> BTreeMap<String, V> {
    map.into_iter().collect()
}

/// A field mask.
pub(crate) fn mask(paths: Vec<String>) -> FieldMask {
    FieldMask { paths }
}

/// Splits a label patch into the labels to send and the mask that names them; a label to remove is
/// named and not sent.
pub(crate) fn label_patch(
    patch: BTreeMap<String, Option<String>>,
) -> (HashMap<String, String>, Vec<String>) {
    let paths = patch.keys().map(|key| format!("labels.{key}")).collect();
    let labels = patch.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    (labels, paths)
}

/// Filters as owned strings.
pub(crate) fn filters(filters: &[&str]) -> Vec<String> {
    filters.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn year_one_and_absence_are_no_instant() {
        assert_eq!(instant(None), None);
        assert_eq!(instant(Some(Timestamp { seconds: -62_135_596_800, nanos: 0 })), None);
        let epoch = Timestamp { seconds: 0, nanos: 0 };
        assert_eq!(instant(Some(epoch)), Some(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn a_removed_label_is_in_the_mask_only() {
        let patch =
            BTreeMap::from([("a".to_owned(), Some("1".to_owned())), ("b.c/d".to_owned(), None)]);
        let (labels, paths) = label_patch(patch);
        assert_eq!(labels, HashMap::from([("a".to_owned(), "1".to_owned())]));
        assert_eq!(paths, ["labels.a", "labels.b.c/d"]);
    }
}
