//! Where a container's output is kept: drivers, their options, and what a monitor reads about them.
//!
//! Two files in nerdctl's state directory say it. `log-config.json` is nerdctl's own and has the driver and the options as
//! they were given; `log-subject.json` is ours and has what tags and attributes are made of, and is there only if a driver
//! or an option needs it. Both can be read without a daemon, so the `binary://` front end logs as the other.

mod options;
mod subject;
mod syslog;
mod tag;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use options::{Driver, OptionError, check};
pub(crate) use subject::host_name;
pub use subject::{SUBJECT_FILE, Subject, attributes, needs_subject};
pub use syslog::{SyslogAddress, SyslogFormat, SyslogOptions, SyslogTls};
pub use tag::{Tag, TagError};

/// nerdctl's limit for one file when `max-size` is not set (its rotation library's default).
pub const DEFAULT_MAX_SIZE: u64 = 100 * 1024 * 1024;

/// Size of a file of driver `local` (moby `daemon/logger/local/local.go`).
const LOCAL_MAX_SIZE: u64 = 20 * 1024 * 1024;

/// Files of driver `local`.
const LOCAL_MAX_FILES: usize = 5;

/// What a ring holds if nothing else is said (moby `daemon/logger/ring.go`).
const DEFAULT_RING: u64 = 1_000_000;

/// A larger ring than this is none that somebody wants in every monitor's memory.
const LARGEST_RING: u64 = 1 << 30;

/// What a monitor does with the output besides handing it to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// nerdctl's json-file: the log itself, or what `docker logs` reads beside a log that is elsewhere.
    pub file: Option<JsonFileOptions>,
    /// A log that is elsewhere.
    pub remote: Option<RemoteOptions>,
    /// Bytes of lines that may wait in memory, when the container must not wait for its log.
    pub ring: Option<usize>,
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
    /// Rotated files are compressed with gzip.
    pub compress: bool,
    /// Attributes of every entry.
    pub attributes: BTreeMap<String, String>,
}

/// A log that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteOptions {
    /// systemd's journal.
    Journald {
        /// Fields of every entry.
        fields: BTreeMap<String, String>,
    },
    /// A syslog server.
    Syslog {
        /// Where and how.
        options: SyslogOptions,
        /// The program's name in every message.
        tag: String,
    },
}

#[derive(Deserialize)]
struct Document {
    driver: String,
    #[serde(default)]
    opts: Option<BTreeMap<String, String>>,
}

/// Read the configuration of `container` from its state directory. Nothing is kept with driver `none`, a driver that is not
/// ours, or without a configuration (nerdctl writes none for `none` and URIs).
///
/// `max-file` counts only together with `max-size`, as at dockerd; without both, files of 100 MiB are kept for ever, as at
/// nerdctl. With `max-size` and without `max-file` one file is kept, as dockerd promises (nerdctl would keep all).
/// Values that cannot be read count as not set: the container must not wait for somebody to correct them.
#[must_use]
pub fn load(state_dir: &Path, container: &str) -> LogConfig {
    let read = std::fs::read(state_dir.join("log-config.json"));
    let document = read.ok().and_then(|text| serde_json::from_slice::<Document>(&text).ok());
    let Some(Document { driver, opts }) = document else {
        return LogConfig::default();
    };
    let (Ok(driver), options) = (driver.parse::<Driver>(), opts.unwrap_or_default()) else {
        return LogConfig::default();
    };
    let subject = Subject::load(state_dir, container);
    let given = Given { driver, options: &options, subject: &subject };
    let path = log_path(state_dir, container);
    LogConfig { file: given.file(path), remote: given.remote(), ring: given.ring() }
}

/// nerdctl's place for a container's json-file.
#[must_use]
pub fn log_path(state_dir: &Path, container: &str) -> PathBuf {
    state_dir.join(format!("{container}-json.log"))
}

/// A configuration as it was written.
struct Given<'a> {
    driver: Driver,
    options: &'a BTreeMap<String, String>,
    subject: &'a Subject,
}

impl Given<'_> {
    fn text(&self, name: &str) -> &str {
        self.options.get(name).map_or("", String::as_str)
    }

    fn size(&self, name: &str) -> Option<u64> {
        let size = names::ByteSize::parse_decimal(self.text(name)).ok()?.bytes();
        (size > 0).then_some(size)
    }

    fn flag(&self, name: &str) -> Option<bool> {
        options::parse_bool(self.text(name))
    }

    fn file(&self, place: PathBuf) -> Option<JsonFileOptions> {
        let attributes = self.subject.attributes(self.text("tag"));
        match self.driver {
            Driver::None => None,
            Driver::JsonFile => Some(self.json_file(place, attributes)),
            Driver::Local => Some(JsonFileOptions {
                max_size: self.size("max-size").unwrap_or(LOCAL_MAX_SIZE),
                max_files: Some(self.max_files().unwrap_or(LOCAL_MAX_FILES)),
                compress: self.flag("compress").unwrap_or(true),
                ..self.json_file(place, attributes)
            }),
            Driver::Journald | Driver::Syslog => self.keeps_cache().then_some(JsonFileOptions {
                path: place,
                max_size: LOCAL_MAX_SIZE,
                max_files: Some(LOCAL_MAX_FILES),
                compress: true,
                attributes,
            }),
        }
    }

    fn json_file(&self, place: PathBuf, attributes: BTreeMap<String, String>) -> JsonFileOptions {
        let path = Some(self.text("log-path")).filter(|path| path.starts_with('/'));
        let max_size = self.size("max-size");
        JsonFileOptions {
            path: path.map_or(place, PathBuf::from),
            max_size: max_size.unwrap_or(DEFAULT_MAX_SIZE),
            max_files: max_size.map(|_| self.max_files().unwrap_or(1)),
            compress: self.flag("compress").unwrap_or(false),
            attributes,
        }
    }

    fn max_files(&self) -> Option<usize> {
        self.text("max-file").parse().ok().filter(|count| *count > 0)
    }

    fn keeps_cache(&self) -> bool {
        keeps_file(self.driver, self.options)
    }

    fn remote(&self) -> Option<RemoteOptions> {
        match self.driver {
            Driver::JsonFile | Driver::Local | Driver::None => None,
            Driver::Journald => {
                let fields = self.subject.journal_fields(self.text("tag"));
                Some(RemoteOptions::Journald { fields })
            }
            Driver::Syslog => Some(RemoteOptions::Syslog {
                options: SyslogOptions::parse(self.options).unwrap_or_default(),
                tag: self.subject.tag(self.text("tag")),
            }),
        }
    }

    fn ring(&self) -> Option<usize> {
        if self.text("mode") != options::NON_BLOCKING {
            return None;
        }
        let given = names::ByteSize::parse_binary(self.text("max-buffer-size")).ok();
        let size = given.map_or(DEFAULT_RING, names::ByteSize::bytes);
        usize::try_from(size.min(LARGEST_RING)).ok()
    }
}

/// Whether a json-file is written that `docker logs` can read: dockerd keeps one beside every log that is elsewhere, unless
/// `cache-disabled` is set (moby `daemon/logger/loggerutils/cache`).
#[must_use]
pub fn keeps_file(driver: Driver, options: &BTreeMap<String, String>) -> bool {
    let disabled = options.get("cache-disabled").and_then(|text| options::parse_bool(text));
    match driver {
        Driver::None => false,
        Driver::JsonFile | Driver::Local => true,
        Driver::Journald | Driver::Syslog => !disabled.unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(document: Option<&str>, subject: Option<&str>) -> LogConfig {
        let dir = tempfile::tempdir().unwrap();
        if let Some(document) = document {
            std::fs::write(dir.path().join("log-config.json"), document).unwrap();
        }
        if let Some(subject) = subject {
            std::fs::write(dir.path().join(SUBJECT_FILE), subject).unwrap();
        }
        let mut config = load(dir.path(), "c1");
        if let Some(file) = &mut config.file
            && let Ok(relative) = file.path.strip_prefix(dir.path())
        {
            file.path = relative.to_owned();
        }
        config
    }

    fn json_file(path: &str, max_size: u64, max_files: Option<usize>) -> LogConfig {
        let file = JsonFileOptions {
            path: path.into(),
            max_size,
            max_files,
            compress: false,
            attributes: BTreeMap::new(),
        };
        LogConfig { file: Some(file), ..LogConfig::default() }
    }

    #[test]
    fn no_document_or_another_driver_is_no_log() {
        assert_eq!(loaded(None, None), LogConfig::default());
        for document in ["{", r#"{"driver":"fluentd","address":"x"}"#, r#"{"driver":"none"}"#] {
            assert_eq!(loaded(Some(document), None), LogConfig::default(), "{document}");
        }
    }

    #[test]
    fn options_as_nerdctl_writes_them() {
        let plain = r#"{"driver":"json-file","address":"/run/containerd/containerd.sock"}"#;
        assert_eq!(loaded(Some(plain), None), json_file("c1-json.log", DEFAULT_MAX_SIZE, None));
        let with = |options: &str| {
            let text = format!(r#"{{"driver":"json-file","opts":{options},"address":""}}"#);
            loaded(Some(&text), None)
        };
        assert_eq!(with(r#"{"max-size":"10m"}"#), json_file("c1-json.log", 10_000_000, Some(1)));
        assert_eq!(
            with(r#"{"max-size":"1k","max-file":"3"}"#),
            json_file("c1-json.log", 1_000, Some(3))
        );
        assert_eq!(with(r#"{"max-file":"3"}"#), json_file("c1-json.log", DEFAULT_MAX_SIZE, None));
        assert_eq!(
            with(r#"{"log-path":"/x/y.log","max-size":"bad"}"#),
            json_file("/x/y.log", DEFAULT_MAX_SIZE, None)
        );
        let ring = with(r#"{"mode":"non-blocking"}"#).ring;
        assert_eq!(ring, Some(1_000_000));
        let ring = with(r#"{"mode":"non-blocking","max-buffer-size":"4k"}"#).ring;
        assert_eq!(ring, Some(4096));
        assert_eq!(with(r#"{"mode":"blocking"}"#).ring, None);
    }

    #[test]
    fn logs_that_are_elsewhere_keep_a_file_to_read() {
        let subject = r#"{"name":"web","image":"nginx:1","attributes":{"env":"prod"}}"#;
        let journald =
            loaded(Some(r#"{"driver":"journald","opts":{"tag":"{{.Name}}"}}"#), Some(subject));
        let file = journald.file.unwrap();
        assert_eq!((file.max_size, file.max_files, file.compress), (20 << 20, Some(5), true));
        assert_eq!(file.attributes.len(), 2);
        let Some(RemoteOptions::Journald { fields }) = journald.remote else {
            panic!("no journald")
        };
        assert_eq!(fields["CONTAINER_TAG"], "web");
        assert_eq!(fields["ENV"], "prod");

        let syslog = loaded(
            Some(
                r#"{"driver":"syslog","opts":{"syslog-address":"udp://127.0.0.1:5","cache-disabled":"true"}}"#,
            ),
            None,
        );
        assert_eq!(syslog.file, None);
        let Some(RemoteOptions::Syslog { tag, .. }) = syslog.remote else { panic!("no syslog") };
        assert_eq!(tag, "c1");
    }
}
