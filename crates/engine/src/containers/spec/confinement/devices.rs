//! Which devices of the host a container gets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// Devices by path, by number, and by what a driver calls them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Nodes, or folders of nodes, of the host.
    pub mappings: Vec<DeviceMapping>,
    /// What its control group lets it use beyond them.
    pub rules: Vec<DeviceRule>,
    /// What drivers are asked for (`--gpus`, CDI).
    pub requests: Vec<DeviceRequest>,
}

/// A device node of the host, or a folder of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMapping {
    /// On the host.
    pub on_host: PathBuf,
    /// In the container.
    pub in_container: PathBuf,
    /// Read, write, make nodes of it.
    pub access: DeviceAccess,
}

/// Some of `rwm`: read, write, make nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAccess(String);

impl DeviceAccess {
    /// As the kernel writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for DeviceAccess {
    fn default() -> Self {
        Self("rwm".to_owned())
    }
}

/// Letters that the kernel does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid device mode: {0}")]
pub struct InvalidAccess(String);

impl FromStr for DeviceAccess {
    type Err = InvalidAccess;

    /// Nothing is everything, as on the command line.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let known = text.len() <= 3 && text.bytes().all(|letter| b"rwm".contains(&letter));
        if known { Ok(Self(text.to_owned())) } else { Err(InvalidAccess(text.to_owned())) }
    }
}

/// Kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both kinds (rules only).
    All,
    /// Character.
    Char,
    /// Block.
    Block,
}

/// What the control group allows: `c 42:* rmw` (moby `daemon/pkg/oci/oci.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Kind.
    pub kind: DeviceKind,
    /// Major number; `None` is any.
    pub major: Option<u32>,
    /// Minor number; `None` is any.
    pub minor: Option<u32>,
    /// What may be done.
    pub access: DeviceAccess,
}

/// A rule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid device cgroup rule format: '{0}'")]
pub struct InvalidRule(String);

impl FromStr for DeviceRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text).ok_or_else(|| InvalidRule(text.to_owned()))
    }
}

impl DeviceRule {
    fn read(text: &str) -> Option<Self> {
        let mut fields = text.split(' ');
        let (kind, numbers, access) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() || access.is_empty() {
            return None;
        }
        let kind = match kind {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Char,
            _ => return None,
        };
        let (major, minor) = numbers.split_once(':')?;
        Some(Self {
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access: access.parse().ok()?,
        })
    }
}

/// `*` is any; the outer `None` is none at all.
fn number(text: &str) -> Option<Option<u32>> {
    if text == "*" {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(Some)
}

/// What a device driver is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceRequest {
    /// `cdi`, `nvidia`, …; empty for whoever can.
    pub driver: String,
    /// So many; −1 is all, 0 is those of `ids`.
    pub count: i64,
    /// By the driver's names.
    pub ids: Vec<String>,
    /// Alternatives, each a list of what a device must have all of.
    pub capabilities: Vec<Vec<String>>,
    /// For the driver.
    pub options: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let rule: DeviceRule = "c 42:* rmw".parse().unwrap();
        assert_eq!((rule.kind, rule.major, rule.minor), (DeviceKind::Char, Some(42), None));
        assert_eq!(rule.access.as_str(), "rmw");
        assert_eq!("a *:* r".parse::<DeviceRule>().unwrap().kind, DeviceKind::All);
        for wrong in
            ["", "c", "c 1:2", "c 1:2 x", "c 1:2 rwmm", "d 1:2 r", "c +1:2 r", "c 1 r", "c 1:2 r "]
        {
            assert_eq!(
                wrong.parse::<DeviceRule>().unwrap_err().to_string(),
                format!("invalid device cgroup rule format: '{wrong}'")
            );
        }
    }

    #[test]
    fn access() {
        assert_eq!("".parse::<DeviceAccess>().unwrap().as_str(), "rwm");
        assert_eq!("r".parse::<DeviceAccess>().unwrap().as_str(), "r");
        assert_eq!(
            "rx".parse::<DeviceAccess>().unwrap_err().to_string(),
            "invalid device mode: rx"
        );
    }
}
