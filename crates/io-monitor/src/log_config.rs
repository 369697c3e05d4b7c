//! `log-config.json` in nerdctl's state directory: which driver, which options.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// nerdctl's limit for one file when `max-size` is not set (its rotation library's default).
pub const DEFAULT_MAX_SIZE: u64 = 100 * 1024 * 1024;

/// What a monitor does with the output besides handing it to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// No log: driver `none`, a driver that is not ours, or no configuration (nerdctl writes none for `none` and URIs).
    None,
    /// nerdctl's json-file.
    JsonFile(JsonFileOptions),
}

/// Where the file is and when it is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonFileOptions {
    /// The current file.
    pub path: PathBuf,
    /// Bytes that one file may have.
    pub max_size: u64,
    /// Files to keep, the current one included; `None` keeps all.
    pub max_files: Option<usize>,
}

#[derive(Deserialize)]
struct Document {
    driver: String,
    #[serde(default)]
    opts: Option<BTreeMap<String, String>>,
}

/// Read the configuration of `container` from its state directory.
///
/// `max-file` counts only together with `max-size`, as at dockerd; without both, files of 100 MiB are kept for ever, as at
/// nerdctl. With `max-size` and without `max-file` one file is kept, as dockerd promises (nerdctl would keep all).
/// Values that cannot be read count as not set: the container must not wait for somebody to correct them.
#[must_use]
pub fn load(state_dir: &Path, container: &str) -> LogTarget {
    let Ok(text) = std::fs::read(state_dir.join("log-config.json")) else {
        return LogTarget::None;
    };
    let Ok(document) = serde_json::from_slice::<Document>(&text) else {
        return LogTarget::None;
    };
    if document.driver != "json-file" {
        return LogTarget::None;
    }
    let options = document.opts.unwrap_or_default();
    let path = options
        .get("log-path")
        .filter(|path| path.starts_with('/'))
        .map_or_else(|| log_path(state_dir, container), PathBuf::from);
    let max_size =
        options.get("max-size").and_then(|text| parse_size(text)).filter(|size| *size > 0);
    let max_files =
        options.get("max-file").and_then(|text| text.parse().ok()).filter(|count| *count > 0);
    LogTarget::JsonFile(JsonFileOptions {
        path,
        max_size: max_size.unwrap_or(DEFAULT_MAX_SIZE),
        max_files: max_size.map(|_| max_files.unwrap_or(1)),
    })
}

/// nerdctl's place for a container's json-file.
#[must_use]
pub fn log_path(state_dir: &Path, container: &str) -> PathBuf {
    state_dir.join(format!("{container}-json.log"))
}

/// A size as `max-size` has it: a number, an optional decimal unit (`k`, `m`, `g`, `t`, `p`; `i` and `b` behind it mean
/// nothing), as Go's `units.FromHumanSize`. `10m` is 10,000,000 bytes.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = lower.get(digits.len()..)?.trim_start();
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "p" => 1_000_000_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut size = whole.checked_mul(factor)?;
    let mut place = factor;
    for digit in fraction.chars() {
        place /= 10;
        size = size.checked_add(u64::from(digit.to_digit(10)?) * place)?;
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_as_in_gos_units() {
        for (text, bytes) in [
            ("10m", Some(10_000_000)),
            ("10MiB", Some(10_000_000)),
            ("1.5k", Some(1_500)),
            ("42", Some(42)),
            ("42 b", Some(42)),
            ("2G", Some(2_000_000_000)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("99999999999999999999", None),
            ("99999999p", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }

    fn loaded(document: Option<&str>) -> LogTarget {
        let dir = tempfile::tempdir().unwrap();
        if let Some(document) = document {
            std::fs::write(dir.path().join("log-config.json"), document).unwrap();
        }
        match load(dir.path(), "c1") {
            LogTarget::JsonFile(mut options) => {
                if let Ok(relative) = options.path.strip_prefix(dir.path()) {
                    options.path = relative.to_owned();
                }
                LogTarget::JsonFile(options)
            }
            LogTarget::None => LogTarget::None,
        }
    }

    fn json_file(path: &str, max_size: u64, max_files: Option<usize>) -> LogTarget {
        LogTarget::JsonFile(JsonFileOptions { path: path.into(), max_size, max_files })
    }

    #[test]
    fn no_document_or_another_driver_is_no_log() {
        assert_eq!(loaded(None), LogTarget::None);
        assert_eq!(loaded(Some("{")), LogTarget::None);
        assert_eq!(loaded(Some(r#"{"driver":"journald","address":"x"}"#)), LogTarget::None);
    }

    #[test]
    fn options_as_nerdctl_writes_them() {
        let plain =
            loaded(Some(r#"{"driver":"json-file","address":"/run/containerd/containerd.sock"}"#));
        assert_eq!(plain, json_file("c1-json.log", DEFAULT_MAX_SIZE, None));
        let sized =
            loaded(Some(r#"{"driver":"json-file","opts":{"max-size":"10m"},"address":""}"#));
        assert_eq!(sized, json_file("c1-json.log", 10_000_000, Some(1)));
        let both = loaded(Some(
            r#"{"driver":"json-file","opts":{"max-size":"1k","max-file":"3"},"address":""}"#,
        ));
        assert_eq!(both, json_file("c1-json.log", 1_000, Some(3)));
        let file_only =
            loaded(Some(r#"{"driver":"json-file","opts":{"max-file":"3"},"address":""}"#));
        assert_eq!(file_only, json_file("c1-json.log", DEFAULT_MAX_SIZE, None));
        let placed = loaded(Some(
            r#"{"driver":"json-file","opts":{"log-path":"/x/y.log","max-size":"bad"}}"#,
        ));
        assert_eq!(placed, json_file("/x/y.log", DEFAULT_MAX_SIZE, None));
    }
}
