//! What a container's process may do, and what takes rights away from it.

use std::str::FromStr;
use std::sync::Arc;

use oci_spec::runtime::Capability;

pub use crate::oci::{InvalidProfile, SeccompProfile};

/// Rights, and what takes them away.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Nearly everything is allowed.
    pub privileged: bool,
    /// Capabilities beyond the default.
    pub cap_add: Vec<CapabilityName>,
    /// Capabilities of the default to go without.
    pub cap_drop: Vec<CapabilityName>,
    /// Programs cannot give rights that the process does not have.
    pub no_new_privileges: bool,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// AppArmor's profile; the daemon's default otherwise.
    pub apparmor: Option<String>,
    /// Its control groups are mounted writable; only privileged containers' otherwise.
    pub writable_cgroups: Option<bool>,
    /// Paths that it must not see; the default otherwise.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that it must not write; the default otherwise.
    pub readonly_paths: Option<Vec<String>>,
}

/// Which system calls a container may make.
#[derive(Clone, Debug, Default)]
pub enum Seccomp {
    /// Docker's default, but for privileged containers, which may make all.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// What this profile allows.
    Profile(Arc<SeccompProfile>),
}

/// A capability in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapabilityName {
    /// Every one that there is.
    All,
    /// This one.
    One(Capability),
}

/// A capability that Linux does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability: {0:?}")]
pub struct UnknownCapability(String);

impl FromStr for CapabilityName {
    type Err = UnknownCapability;

    /// In any case, with or without `CAP_` (moby `daemon/pkg/oci/caps/utils.go`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_uppercase();
        if upper == "ALL" {
            return Ok(Self::All);
        }
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        bare.parse().map(Self::One).map_err(|_| UnknownCapability(format!("CAP_{bare}")))
    }
}

/// A security option that is none (moby `daemon/daemon_unix.go`, `parseSecurityOpt`).
#[derive(Debug, thiserror::Error)]
pub enum InvalidSecurityOption {
    /// Neither a word nor `key=value`.
    #[error("invalid --security-opt 1: {0:?}")]
    Form(String),
    /// No such key, or a value that it does not have.
    #[error("invalid --security-opt 2: {0:?}")]
    Value(String),
    /// The seccomp profile cannot be read.
    #[error(transparent)]
    Profile(#[from] InvalidProfile),
}

impl Security {
    /// Apply one option: `no-new-privileges`, `seccomp=…`, `apparmor=…`, `writable-cgroups`, `label=…`.
    ///
    /// Labels are SELinux's. They are taken and have no effect, as in a daemon that was not told to use SELinux.
    ///
    /// # Errors
    /// See [`InvalidSecurityOption`].
    pub fn apply(&mut self, option: &str) -> Result<(), InvalidSecurityOption> {
        match option {
            "no-new-privileges" => {
                self.no_new_privileges = true;
                return Ok(());
            }
            "writable-cgroups" => {
                self.writable_cgroups = Some(true);
                return Ok(());
            }
            "disable" => return Ok(()),
            _ => {}
        }
        let pair = option.split_once('=').or_else(|| option.split_once(':'));
        let Some((key, value)) = pair else {
            return Err(InvalidSecurityOption::Form(option.to_owned()));
        };
        let flag = || go_bool(value).ok_or_else(|| InvalidSecurityOption::Value(option.to_owned()));
        match key {
            "label" => {}
            "apparmor" => self.apparmor = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "seccomp" => self.seccomp = seccomp(value)?,
            "no-new-privileges" => self.no_new_privileges = flag()?,
            "writable-cgroups" => self.writable_cgroups = Some(flag()?),
            _ => return Err(InvalidSecurityOption::Value(option.to_owned())),
        }
        Ok(())
    }
}

fn seccomp(value: &str) -> Result<Seccomp, InvalidProfile> {
    match value {
        "" | "builtin" => Ok(Seccomp::Default),
        "unconfined" => Ok(Seccomp::Unconfined),
        profile => Ok(Seccomp::Profile(Arc::new(profile.parse()?))),
    }
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(options: &[&str]) -> Result<Security, String> {
        let mut security = Security::default();
        for option in options {
            security.apply(option).map_err(|error| error.to_string())?;
        }
        Ok(security)
    }

    #[test]
    fn options() {
        assert!(applied(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(applied(&["no-new-privileges:true"]).unwrap().no_new_privileges);
        let last = applied(&["no-new-privileges", "no-new-privileges=0"]).unwrap();
        assert!(!last.no_new_privileges, "the last one counts");
        let all = applied(&[
            "seccomp=unconfined",
            "apparmor=mine",
            "label=disable",
            "writable-cgroups=false",
        ]);
        let all = all.unwrap();
        assert!(matches!(all.seccomp, Seccomp::Unconfined));
        assert_eq!((all.apparmor.as_deref(), all.writable_cgroups), (Some("mine"), Some(false)));
        let profile = applied(&[r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#]).unwrap();
        assert!(matches!(profile.seccomp, Seccomp::Profile(_)));
    }

    #[test]
    fn what_is_none_is_refused_in_dockers_words() {
        let text = |option| applied(&[option]).unwrap_err();
        assert_eq!(text("privileged"), "invalid --security-opt 1: \"privileged\"");
        assert_eq!(text("x=y"), "invalid --security-opt 2: \"x=y\"");
        assert_eq!(
            text("systempaths=unconfined"),
            "invalid --security-opt 2: \"systempaths=unconfined\"",
            "the command line turns it into lists of paths"
        );
        assert_eq!(
            text("no-new-privileges=maybe"),
            "invalid --security-opt 2: \"no-new-privileges=maybe\""
        );
        assert!(
            text("seccomp={").starts_with("Decoding seccomp profile failed: "),
            "{}",
            text("seccomp={")
        );
    }

    #[test]
    fn capabilities() {
        assert_eq!("all".parse(), Ok(CapabilityName::All));
        for name in ["NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN"] {
            assert_eq!(name.parse(), Ok(CapabilityName::One(Capability::NetAdmin)), "{name}");
        }
        let unknown = "fly".parse::<CapabilityName>().unwrap_err();
        assert_eq!(unknown.to_string(), "unknown capability: \"CAP_FLY\"");
    }
}
