//! Log drivers, and which options they take.
//!
//! dockerd checks the names of options at create and most of their values only at start (moby `daemon/logger/factory.go`
//! and each driver's `New`). Here everything is checked at once, in the same words.

use std::collections::BTreeMap;
use std::str::FromStr;

use names::{ByteSize, InvalidSize};

use super::{SyslogOptions, Tag, TagError};

/// The value of `mode` with which the container does not wait for its log.
pub(super) const NON_BLOCKING: &str = "non-blocking";

/// Options of every driver that makes attributes of a container's labels and variables (moby `daemon/logger/loginfo.go`).
const ATTRIBUTES: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];

/// What dockerd itself understands, whatever the driver (moby `daemon/logger/factory.go`, `loggerutils/cache`). All but
/// the first of the cache's mean nothing there either.
const BUILT_IN: [&str; 11] = [
    "mode",
    "max-buffer-size",
    "cache-disabled",
    "cache-max-file",
    "cache-max-size",
    "cache-compress",
    "cache-labels",
    "cache-labels-regex",
    "cache-env",
    "cache-env-regex",
    "cache-tag",
];

/// Where a container's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// One JSON object a line, in the state directory.
    JsonFile,
    /// The same with other defaults: dockerd has a format of its own, which nerdctl could not read.
    Local,
    /// systemd's journal.
    Journald,
    /// A syslog server.
    Syslog,
    /// Nowhere.
    None,
}

/// A driver that is not one of [`Driver::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("logger: no log driver named '{0}' is registered")]
pub struct UnknownDriver(String);

impl Driver {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::JsonFile, Self::Local, Self::Journald, Self::Syslog, Self::None];

    /// Docker's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::Journald => "journald",
            Self::Syslog => "syslog",
            Self::None => "none",
        }
    }

    fn own_options(self) -> &'static [&'static str] {
        match self {
            Self::JsonFile | Self::Local => &["max-file", "max-size", "compress"],
            Self::Journald | Self::None => &[],
            Self::Syslog => &[
                "syslog-address",
                "syslog-facility",
                "syslog-format",
                "syslog-tls-ca-cert",
                "syslog-tls-cert",
                "syslog-tls-key",
                "syslog-tls-skip-verify",
            ],
        }
    }

    /// Driver and options as `log-config.json` has them, so that nerdctl and its readers understand: `local` is a json-file.
    #[must_use]
    pub fn stored(
        self,
        options: &BTreeMap<String, String>,
    ) -> (&'static str, BTreeMap<String, String>) {
        let mut stored = options.clone();
        if self != Self::Local {
            return (self.as_str(), stored);
        }
        for (name, value) in [
            ("max-size", super::LOCAL_MAX_SIZE.to_string()),
            ("max-file", super::LOCAL_MAX_FILES.to_string()),
            ("compress", "true".to_owned()),
        ] {
            stored.entry(name.to_owned()).or_insert(value);
        }
        (Self::JsonFile.as_str(), stored)
    }
}

impl FromStr for Driver {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        let known = Self::ALL.into_iter().find(|driver| driver.as_str() == text);
        known.ok_or_else(|| UnknownDriver(text.to_owned()))
    }
}

/// An option that cannot be. Prints Docker's message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// `mode`.
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
    /// `max-buffer-size` without a mode that has a buffer.
    #[error("logger: max-buffer-size option is only supported with 'mode={NON_BLOCKING}'")]
    BufferWithoutMode,
    /// `max-buffer-size`.
    #[error("error parsing option max-buffer-size: {0}")]
    BufferSize(InvalidSize),
    /// `cache-disabled`.
    #[error("invalid value for option cache-disabled: {0}")]
    CacheDisabled(String),
    /// An option that the driver does not have.
    #[error("unknown log opt '{option}' for {driver} log driver")]
    Unknown {
        /// Its name.
        option: String,
        /// The driver's.
        driver: &'static str,
    },
    /// The same of `local`, which has words of its own.
    #[error("unknown log opt '{0}' for log driver local")]
    UnknownOfLocal(String),
    /// `max-size` of json-file.
    #[error("{0}")]
    MaxSize(InvalidSize),
    /// `max-size` of json-file is nothing.
    #[error("max-size must be a positive number")]
    MaxSizeNotPositive,
    /// `max-size` or `max-file` of `local`, with what is wrong.
    #[error("invalid value for {name}: {value}: {reason}")]
    OfLocal {
        /// Name of the option.
        name: &'static str,
        /// What was given.
        value: String,
        /// Docker's words for it.
        reason: String,
    },
    /// A number that is none.
    #[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
    /// `max-file` of json-file.
    #[error("max-file cannot be less than 1")]
    MaxFileTooSmall,
    /// `max-file` of `local`.
    #[error("max-file must not be negative")]
    MaxFileNegative,
    /// `compress` of json-file.
    #[error("strconv.ParseBool: parsing {0:?}: invalid syntax")]
    Compress(String),
    /// `compress` of `local`.
    #[error("invalid boolean value for compress: strconv.ParseBool: parsing {0:?}: invalid syntax")]
    CompressOfLocal(String),
    /// json-file has no rotated files to compress.
    #[error("compress cannot be true when max-file is less than 2 or max-size is not set")]
    NothingToCompress,
    /// `local` has no rotated files to compress.
    #[error("compression cannot be enabled when max file count is 1")]
    NothingToCompressInLocal,
    /// `labels-regex` or `env-regex`.
    #[error("error parsing regexp: {0}")]
    Regex(String),
    /// `syslog-address`: a scheme that there is not.
    #[error("unsupported scheme: '{0}'")]
    SyslogScheme(String),
    /// `syslog-address`: a socket that is not there.
    #[error("stat {path}: no such file or directory")]
    SyslogSocket {
        /// Where it should be.
        path: String,
    },
    /// `syslog-address` is no address.
    #[error("parse {0:?}: invalid syslog address")]
    SyslogAddress(String),
    /// `syslog-facility`.
    #[error("invalid syslog facility")]
    SyslogFacility,
    /// `syslog-format`.
    #[error("Invalid syslog format")]
    SyslogFormat,
    /// `tag` is no template.
    #[error("{0}")]
    Tag(TagError),
    /// Docker has it, and it is not built here.
    #[error("{0}")]
    NotBuilt(String),
}

/// Check all `options` of `driver`.
///
/// # Errors
/// The first that is wrong; [`OptionError::NotBuilt`] for what is right and not understood here.
pub fn check(driver: Driver, options: &BTreeMap<String, String>) -> Result<(), OptionError> {
    // A driver that keeps nothing takes anything, as in Docker.
    if driver == Driver::None {
        return Ok(());
    }
    check_built_in(options)?;
    for option in options.keys().map(String::as_str) {
        let known = [&BUILT_IN[..], &ATTRIBUTES, driver.own_options()].concat().contains(&option);
        if !known {
            return Err(unknown(option, driver));
        }
    }
    for name in ["labels-regex", "env-regex"] {
        if let Some(pattern) = options.get(name) {
            regex_lite::Regex::new(pattern)
                .map_err(|error| OptionError::Regex(error.to_string()))?;
        }
    }
    if let Some(template) = options.get("tag") {
        Tag::parse(template).map_err(|error| match error {
            TagError::NotBuilt { .. } => OptionError::NotBuilt(error.to_string()),
            TagError::Malformed { .. } => OptionError::Tag(error),
        })?;
    }
    match driver {
        Driver::JsonFile => check_json_file(options),
        Driver::Local => check_local(options),
        Driver::Syslog => SyslogOptions::parse(options).map(drop),
        Driver::Journald | Driver::None => Ok(()),
    }
}

fn unknown(option: &str, driver: Driver) -> OptionError {
    match driver {
        Driver::Local => OptionError::UnknownOfLocal(option.to_owned()),
        _ => OptionError::Unknown { option: option.to_owned(), driver: driver.as_str() },
    }
}

fn check_built_in(options: &BTreeMap<String, String>) -> Result<(), OptionError> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !["", "blocking", NON_BLOCKING].contains(&mode) {
        return Err(OptionError::Mode(mode.to_owned()));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != NON_BLOCKING {
            return Err(OptionError::BufferWithoutMode);
        }
        ByteSize::parse_binary(size).map_err(OptionError::BufferSize)?;
    }
    match options.get("cache-disabled") {
        Some(flag) if !flag.is_empty() && parse_bool(flag).is_none() => {
            Err(OptionError::CacheDisabled(flag.clone()))
        }
        _ => Ok(()),
    }
}

fn check_json_file(options: &BTreeMap<String, String>) -> Result<(), OptionError> {
    let size = options.get("max-size").map(|text| ByteSize::parse_decimal(text)).transpose();
    let size = size.map_err(OptionError::MaxSize)?;
    if size.is_some_and(|size| size.bytes() == 0) {
        return Err(OptionError::MaxSizeNotPositive);
    }
    let files = options.get("max-file").map(|text| parse_number(text)).transpose()?.unwrap_or(1);
    if files < 1 {
        return Err(OptionError::MaxFileTooSmall);
    }
    let compress = match options.get("compress") {
        None => false,
        Some(text) => parse_bool(text).ok_or_else(|| OptionError::Compress(text.clone()))?,
    };
    if compress && (files == 1 || size.is_none()) {
        return Err(OptionError::NothingToCompress);
    }
    Ok(())
}

fn check_local(options: &BTreeMap<String, String>) -> Result<(), OptionError> {
    let of_local = |name, value: &str, reason: String| OptionError::OfLocal {
        name,
        value: value.to_owned(),
        reason,
    };
    if let Some(text) = options.get("max-size") {
        ByteSize::parse_decimal(text)
            .map_err(|error| of_local("max-size", text, error.to_string()))?;
    }
    let files = match options.get("max-file") {
        None => 5,
        Some(text) => {
            parse_number(text).map_err(|error| of_local("max-file", text, error.to_string()))?
        }
    };
    let compress = match options.get("compress") {
        None => true,
        Some(text) => parse_bool(text).ok_or_else(|| OptionError::CompressOfLocal(text.clone()))?,
    };
    if files < 0 {
        return Err(OptionError::MaxFileNegative);
    }
    if compress && files <= 1 {
        return Err(OptionError::NothingToCompressInLocal);
    }
    Ok(())
}

fn parse_number(text: &str) -> Result<i64, OptionError> {
    text.parse().map_err(|_| OptionError::Number(text.to_owned()))
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(driver: Driver, options: &[(&str, &str)]) -> Result<(), String> {
        let options =
            options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(driver, &options).map_err(|error| error.to_string())
    }

    #[test]
    fn what_docker_takes() {
        use Driver::{Journald, JsonFile, Local, None, Syslog};
        for (driver, options) in [
            (JsonFile, &[][..]),
            (JsonFile, &[("max-size", "10m"), ("max-file", "3"), ("compress", "true")]),
            (
                JsonFile,
                &[("labels", "a,b"), ("labels-regex", "^a"), ("env", "A"), ("env-regex", "B$")],
            ),
            (
                JsonFile,
                &[("tag", "{{.Name}}/{{.ID}}"), ("mode", "blocking"), ("cache-disabled", "")],
            ),
            (JsonFile, &[("mode", "non-blocking"), ("max-buffer-size", "4m")]),
            (Local, &[("max-size", "1k"), ("max-file", "1"), ("compress", "false")]),
            (Journald, &[("tag", "x"), ("env", "A"), ("cache-disabled", "true")]),
            (Syslog, &[("syslog-address", "tcp://h:1"), ("syslog-facility", "local3")]),
            (Syslog, &[("syslog-address", "udp://h"), ("syslog-format", "rfc5424micro")]),
            (None, &[("whatever", "x"), ("mode", "strange")]),
        ] {
            assert_eq!(checked(driver, options), Ok(()), "{driver:?} {options:?}");
        }
    }

    #[test]
    fn what_is_wrong_in_dockers_words() {
        use Driver::{Journald, JsonFile, Local, Syslog};
        for (driver, options, expected) in [
            (
                JsonFile,
                &[("nonsense", "x")][..],
                "unknown log opt 'nonsense' for json-file log driver",
            ),
            (
                JsonFile,
                &[("syslog-format", "x")],
                "unknown log opt 'syslog-format' for json-file log driver",
            ),
            (Local, &[("nonsense", "x")], "unknown log opt 'nonsense' for log driver local"),
            (Journald, &[("max-size", "1")], "unknown log opt 'max-size' for journald log driver"),
            (Syslog, &[("max-size", "1")], "unknown log opt 'max-size' for syslog log driver"),
            (JsonFile, &[("mode", "eager")], "logger: logging mode not supported: eager"),
            (
                JsonFile,
                &[("max-buffer-size", "1m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            (
                JsonFile,
                &[("mode", "non-blocking"), ("max-buffer-size", "x")],
                "error parsing option max-buffer-size: invalid size: 'x'",
            ),
            (JsonFile, &[("cache-disabled", "x")], "invalid value for option cache-disabled: x"),
            (JsonFile, &[("max-size", "x")], "invalid size: 'x'"),
            (JsonFile, &[("max-size", "-1")], "invalid size: '-1'"),
            (JsonFile, &[("max-size", "0")], "max-size must be a positive number"),
            (JsonFile, &[("max-file", "0")], "max-file cannot be less than 1"),
            (JsonFile, &[("max-file", "x")], "strconv.Atoi: parsing \"x\": invalid syntax"),
            (JsonFile, &[("compress", "x")], "strconv.ParseBool: parsing \"x\": invalid syntax"),
            (
                JsonFile,
                &[("compress", "true"), ("max-size", "1m")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            (Local, &[("max-size", "x")], "invalid value for max-size: x: invalid size: 'x'"),
            (
                Local,
                &[("max-file", "x")],
                "invalid value for max-file: x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                Local,
                &[("compress", "x")],
                "invalid boolean value for compress: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (Local, &[("max-file", "1")], "compression cannot be enabled when max file count is 1"),
            (Local, &[("max-file", "-1")], "max-file must not be negative"),
            (Syslog, &[("syslog-facility", "24")], "invalid syslog facility"),
            (Syslog, &[("syslog-format", "x")], "Invalid syslog format"),
            (Syslog, &[("syslog-address", "http://x")], "unsupported scheme: 'http'"),
            (
                Syslog,
                &[("syslog-address", "unix:///nowhere/log")],
                "stat /nowhere/log: no such file or directory",
            ),
        ] {
            assert_eq!(
                checked(driver, options),
                Err(expected.to_owned()),
                "{driver:?} {options:?}"
            );
        }
        assert!(
            checked(JsonFile, &[("env-regex", "[")])
                .unwrap_err()
                .starts_with("error parsing regexp: ")
        );
        assert!("fluentd".parse::<Driver>().is_err());
    }

    #[test]
    fn what_is_not_built_is_told_apart() {
        let options = [("tag".to_owned(), "{{upper .Name}}".to_owned())].into();
        let refused = check(Driver::Syslog, &options);
        assert!(matches!(refused, Err(OptionError::NotBuilt(_))), "{refused:?}");
    }

    #[test]
    fn local_is_stored_as_json_file_with_its_own_defaults() {
        let given = [("max-file".to_owned(), "7".to_owned())].into();
        let (driver, options) = Driver::Local.stored(&given);
        assert_eq!(driver, "json-file");
        assert_eq!(options["max-size"], "20971520");
        assert_eq!((options["max-file"].as_str(), options["compress"].as_str()), ("7", "true"));
        assert_eq!(Driver::Syslog.stored(&given), ("syslog", given));
    }
}
