//! What the daemon knows of itself and its host: `info`, `version`, logins.

use std::path::PathBuf;

/// What `GET /version` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// containerd's version, if it answers.
    pub containerd: Option<ComponentVersion>,
    /// runc's version, if it can be found.
    pub runc: Option<ComponentVersion>,
    /// Kernel release.
    pub kernel: String,
}

/// One neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentVersion {
    /// Version text.
    pub version: String,
    /// Commit.
    pub commit: String,
}

/// What `GET /info` needs.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// Stable id: containerd's server UUID.
    pub id: String,
    /// Containers in all.
    pub containers: u64,
    /// Running ones.
    pub running: u64,
    /// Paused ones.
    pub paused: u64,
    /// All others.
    pub stopped: u64,
    /// Images (distinct ids).
    pub images: u64,
    /// Snapshotter.
    pub snapshotter: String,
    /// File system below the snapshotter's root, e.g. `extfs`.
    pub backing_filesystem: String,
    /// `cgroupfs`, `systemd` or `none`.
    pub cgroup_driver: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Host facts.
    pub host: HostInfo,
    /// Data root.
    pub data_root: PathBuf,
    /// containerd's address.
    pub containerd_address: String,
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's and runc's versions.
    pub version: Version,
    /// Clients listening for events.
    pub event_listeners: usize,
    /// Network drivers (plugin types present in the CNI folder, in Docker's words).
    pub network_plugins: Vec<String>,
    /// Things the operator should know (no memory limit support, …).
    pub warnings: Vec<String>,
    /// seccomp is available in this kernel.
    pub seccomp: bool,
    /// AppArmor is available.
    pub apparmor: bool,
    /// Running in a user namespace.
    pub rootless: bool,
}

/// Facts of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInfo {
    /// Host name.
    pub hostname: String,
    /// `PRETTY_NAME` of os-release.
    pub operating_system: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// `uname -m`.
    pub machine: String,
    /// Kernel release.
    pub kernel: String,
    /// Processors.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Which limits the kernel's cgroups support.
    pub limits: Limits,
    /// `net.ipv4.ip_forward`.
    pub ipv4_forwarding: bool,
}

/// Limits that the cgroups of the host support, as `info` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// CFS period and quota.
    pub cpu_cfs: bool,
    /// CPU shares.
    pub cpu_shares: bool,
    /// cpusets.
    pub cpuset: bool,
    /// Processes.
    pub pids: bool,
    /// OOM killer can be disabled.
    pub oom_kill_disable: bool,
}

/// What a registry says to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginOutcome {
    /// For people.
    pub status: String,
    /// Refresh token, or empty.
    pub identity_token: String,
}
