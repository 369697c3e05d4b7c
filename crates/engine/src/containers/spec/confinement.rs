//! How much of the host a container gets, and what holds it back.
//!
//! Everything of a create request that becomes the process's rights, namespaces, devices and control group. Values are
//! as the client meant them; what the host makes of them is decided in [`crate::oci`].

pub mod devices;
pub mod namespaces;
pub mod resources;
pub mod security;

use std::collections::BTreeMap;
use std::str::FromStr;

pub use devices::Devices;
pub use namespaces::{CgroupnsMode, IpcMode, Namespaces, PidMode};
pub use resources::Resources;
pub use security::Security;

/// Docker's size of `/dev/shm`, in bytes (moby `daemon/config/config.go`).
pub const SHM_SIZE: u64 = 64 * 1024 * 1024;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// Groups of the process beyond the user's, names or numbers.
    pub groups: Vec<String>,
    /// Rights, and what takes them away.
    pub security: Security,
    /// Which namespaces are its own.
    pub namespaces: Namespaces,
    /// Devices of the host.
    pub devices: Devices,
    /// Limits of its control group.
    pub resources: Resources,
    /// Limits of its process.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// How readily the kernel kills it when memory is short, −1000 to 1000.
    pub oom_score_adj: i32,
    /// A small init is process 1.
    pub init: bool,
    /// Of `/dev/shm`, in bytes; [`SHM_SIZE`] otherwise.
    pub shm_size: Option<u64>,
    /// Its root file system is read-only.
    pub readonly_rootfs: bool,
    /// Where its control group is made; the daemon's place otherwise.
    pub cgroup_parent: Option<String>,
    /// What runs it.
    pub runtime: Runtime,
}

impl Confinement {
    /// Of `/dev/shm`, in bytes.
    #[must_use]
    pub fn shm_bytes(&self) -> u64 {
        self.shm_size.unwrap_or(SHM_SIZE)
    }
}

/// The OCI runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// runc, in containerd's own shim.
    #[default]
    Runc,
    /// A shim on containerd's path, by its name (`io.containerd.kata.v2`).
    Shim(String),
}

impl Runtime {
    /// containerd's name of it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Runc => "io.containerd.runc.v2",
            Self::Shim(name) => name,
        }
    }
}

/// A runtime that cannot be meant. A path would let the API start any program as root (moby `daemon/runtime_unix.go`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown or invalid runtime name: {0}")]
pub struct InvalidRuntime(String);

impl FromStr for Runtime {
    type Err = InvalidRuntime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if ["", "runc", "io.containerd.runc.v2"].contains(&text) {
            return Ok(Self::Runc);
        }
        let is_name = text.split_once('.').is_some_and(|(prefix, _)| !prefix.is_empty());
        if text.contains('/') || !is_name {
            return Err(InvalidRuntime(text.to_owned()));
        }
        Ok(Self::Shim(text.to_owned()))
    }
}

/// A limit of the process (`setrlimit`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    name: &'static str,
    soft: u64,
    hard: u64,
}

/// A limit that the kernel would not take (docker/go-units `ulimit.go`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUlimit {
    /// There is no limit of that name.
    #[error("invalid ulimit type: {0}")]
    UnknownName(String),
    /// A soft limit above the hard one.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    SoftAboveHard {
        /// As given; −1 is unlimited.
        soft: i64,
        /// As given.
        hard: i64,
    },
}

/// Names of Linux's limits.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Ulimit {
    /// The limit `name`; −1 is unlimited.
    ///
    /// # Errors
    /// See [`InvalidUlimit`].
    pub fn new(name: &str, soft: i64, hard: i64) -> Result<Self, InvalidUlimit> {
        let known = ULIMITS.into_iter().find(|known| *known == name);
        let name = known.ok_or_else(|| InvalidUlimit::UnknownName(name.to_owned()))?;
        // −1 is the kernel's own word for infinity, as a two's complement.
        let (soft_bits, hard_bits) = (u64_of(soft), u64_of(hard));
        if soft_bits > hard_bits {
            return Err(InvalidUlimit::SoftAboveHard { soft, hard });
        }
        Ok(Self { name, soft: soft_bits, hard: hard_bits })
    }

    /// `nofile`, …
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `u64::MAX` is unlimited.
    #[must_use]
    pub fn soft(&self) -> u64 {
        self.soft
    }

    /// `u64::MAX` is unlimited.
    #[must_use]
    pub fn hard(&self) -> u64 {
        self.hard
    }
}

fn u64_of(limit: i64) -> u64 {
    u64::from_ne_bytes(limit.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_names_not_paths() {
        for runc in ["", "runc", "io.containerd.runc.v2"] {
            assert_eq!(runc.parse(), Ok(Runtime::Runc), "{runc:?}");
        }
        let kata: Runtime = "io.containerd.kata.v2".parse().unwrap();
        assert_eq!(kata.name(), "io.containerd.kata.v2");
        for wrong in ["crun", "/usr/bin/runc", ".v2", "io.containerd/../x.v2"] {
            assert_eq!(
                wrong.parse::<Runtime>().unwrap_err().to_string(),
                format!("unknown or invalid runtime name: {wrong}")
            );
        }
    }

    #[test]
    fn ulimits() {
        let unlimited = Ulimit::new("core", -1, -1).unwrap();
        assert_eq!((unlimited.soft(), unlimited.hard()), (u64::MAX, u64::MAX));
        assert_eq!(Ulimit::new("nofile", 5, -1).unwrap().soft(), 5);
        let text = |name, soft, hard| Ulimit::new(name, soft, hard).unwrap_err().to_string();
        assert_eq!(text("files", 1, 1), "invalid ulimit type: files");
        assert_eq!(
            text("nofile", 3, 2),
            "ulimit soft limit must be less than or equal to hard limit: 3 > 2"
        );
        assert_eq!(
            text("nofile", -1, 2),
            "ulimit soft limit must be less than or equal to hard limit: -1 > 2"
        );
    }
}
