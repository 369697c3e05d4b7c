//! The options of driver `syslog` (moby `daemon/logger/syslog/syslog.go`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::OptionError;

/// The port of syslog.
const PORT: u16 = 514;

/// `daemon`.
const DEFAULT_FACILITY: u8 = 3;

/// Facilities by name; the number is the position. Gaps have no name.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// Where messages go and what they look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogOptions {
    /// Where.
    pub address: SyslogAddress,
    /// 0 to 23.
    pub facility: u8,
    /// What they look like.
    pub format: SyslogFormat,
    /// Certificates, for [`SyslogAddress::Tls`].
    pub tls: SyslogTls,
}

/// Who is believed, and who we are. The files are read when the log is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyslogTls {
    /// Authorities beside the system's (PEM).
    pub ca: Option<PathBuf>,
    /// Our own certificate (PEM).
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// Any certificate will do.
    pub skip_verify: bool,
}

/// Where messages go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SyslogAddress {
    /// The host's own, at one of the usual places.
    #[default]
    Local,
    /// A stream socket.
    Unix(PathBuf),
    /// A datagram socket.
    Unixgram(PathBuf),
    /// `host:port`.
    Udp(String),
    /// `host:port`.
    Tcp(String),
    /// `host:port`, over TLS.
    Tls(String),
}

/// What messages look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyslogFormat {
    /// As programs on the same host write them: without a host name.
    #[default]
    Unix,
    /// `<30>Jan  2 03:04:05 host tag[1]: text`.
    Rfc3164,
    /// `<30>1 2026-01-02T03:04:05Z host tag 1 tag - text`.
    Rfc5424,
    /// The same with microseconds.
    Rfc5424Micro,
}

impl Default for SyslogOptions {
    fn default() -> Self {
        Self {
            address: SyslogAddress::default(),
            facility: DEFAULT_FACILITY,
            format: SyslogFormat::default(),
            tls: SyslogTls::default(),
        }
    }
}

impl SyslogOptions {
    pub(super) fn parse(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let text = |name: &str| options.get(name).map_or("", String::as_str);
        let file = |name: &str| Some(text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self {
            address: parse_address(text("syslog-address"))?,
            facility: parse_facility(text("syslog-facility"))?,
            format: parse_format(text("syslog-format"))?,
            tls: SyslogTls {
                ca: file("syslog-tls-ca-cert"),
                certificate: file("syslog-tls-cert"),
                key: file("syslog-tls-key"),
                // Whatever its value is (moby `parseTLSConfig`).
                skip_verify: options.contains_key("syslog-tls-skip-verify"),
            },
        })
    }
}

fn parse_address(text: &str) -> Result<SyslogAddress, OptionError> {
    if text.is_empty() {
        return Ok(SyslogAddress::Local);
    }
    let (scheme, rest) =
        text.split_once("://").unwrap_or((text.split(':').next().unwrap_or(""), ""));
    match scheme {
        "unix" => existing(rest).map(SyslogAddress::Unix),
        "unixgram" => existing(rest).map(SyslogAddress::Unixgram),
        "udp" => host_and_port(text, rest).map(SyslogAddress::Udp),
        "tcp" => host_and_port(text, rest).map(SyslogAddress::Tcp),
        "tcp+tls" => host_and_port(text, rest).map(SyslogAddress::Tls),
        other if text.contains("://") => Err(OptionError::SyslogScheme(other.to_owned())),
        _ => Err(OptionError::SyslogScheme(String::new())),
    }
}

fn existing(path: &str) -> Result<PathBuf, OptionError> {
    let found = PathBuf::from(path);
    if found.exists() {
        Ok(found)
    } else {
        Err(OptionError::SyslogSocket { path: path.to_owned() })
    }
}

fn host_and_port(text: &str, rest: &str) -> Result<String, OptionError> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let after_brackets = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after_brackets.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(host.to_owned()),
        Some(_) => Err(OptionError::SyslogAddress(text.to_owned())),
        None => Ok(format!("{host}:{PORT}")),
    }
}

fn parse_facility(text: &str) -> Result<u8, OptionError> {
    if text.is_empty() {
        return Ok(DEFAULT_FACILITY);
    }
    let named = FACILITIES.iter().position(|name| *name == text);
    let number = named.and_then(|at| u8::try_from(at).ok()).or_else(|| text.parse().ok());
    number.filter(|number| *number < 24).ok_or(OptionError::SyslogFacility)
}

fn parse_format(text: &str) -> Result<SyslogFormat, OptionError> {
    match text {
        "" => Ok(SyslogFormat::Unix),
        "rfc3164" => Ok(SyslogFormat::Rfc3164),
        "rfc5424" => Ok(SyslogFormat::Rfc5424),
        "rfc5424micro" => Ok(SyslogFormat::Rfc5424Micro),
        _ => Err(OptionError::SyslogFormat),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("", SyslogAddress::Local),
            ("udp://h", SyslogAddress::Udp("h:514".into())),
            ("udp://h:1", SyslogAddress::Udp("h:1".into())),
            ("tcp://[::1]", SyslogAddress::Tcp("[::1]:514".into())),
            ("tcp+tls://h", SyslogAddress::Tls("h:514".into())),
            ("tcp://[::1]:7/", SyslogAddress::Tcp("[::1]:7".into())),
            ("unix:///dev/null", SyslogAddress::Unix("/dev/null".into())),
            ("unixgram:///dev/null", SyslogAddress::Unixgram("/dev/null".into())),
        ] {
            assert_eq!(parse_address(text), Ok(expected), "{text}");
        }
        for text in ["127.0.0.1:514", "udp://h:x", "udp://h:70000", "x://h", "unix:///nowhere"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn facilities_by_name_and_number() {
        for (text, expected) in [("", 3), ("kern", 0), ("local7", 23), ("12", 12), ("0", 0)] {
            assert_eq!(parse_facility(text), Ok(expected), "{text}");
        }
        for text in ["24", "-1", "nonsense"] {
            assert_eq!(parse_facility(text), Err(OptionError::SyslogFacility), "{text}");
        }
    }
}
