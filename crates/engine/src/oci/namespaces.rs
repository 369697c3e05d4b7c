//! Which of the kernel's namespaces are the container's own.

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use super::{Built, CgroupVersion, HostFacts};
use crate::containers::NetworkMode;
use crate::containers::spec::confinement::{
    CgroupnsMode, Confinement, IpcMode, Namespaces, PidMode,
};

/// What a joined namespace is called until the start, which names the other container's: whoever starts the container
/// without that gets an error, not a namespace of its own.
const NOT_JOINED_YET: &str = "/proc/0/ns";

/// What was asked for; a mount namespace is always its own.
///
/// User namespaces are not used, and time namespaces are unknown to runc before 1.2.
pub(super) fn namespaces(
    network: &NetworkMode,
    asked: &Confinement,
    host: &HostFacts,
) -> Built<Vec<LinuxNamespace>> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let Namespaces { pid, ipc, host_uts, .. } = &asked.namespaces;
    let mut all = Vec::new();
    match pid {
        PidMode::Private => all.push(own(Pid)),
        PidMode::Container(_) => all.push(joined(Pid, "pid")),
        PidMode::Host => {}
    }
    match ipc {
        IpcMode::Private | IpcMode::Shareable | IpcMode::None => all.push(own(Ipc)),
        IpcMode::Container(_) => all.push(joined(Ipc, "ipc")),
        IpcMode::Host => {}
    }
    if !host_uts {
        all.push(own(Uts));
    }
    all.push(own(Mount));
    // Another container's network is written in at the start, when its path is known.
    if *network != NetworkMode::Host {
        all.push(own(Network));
    }
    if cgroup_mode(asked, host) == CgroupnsMode::Private && host.cgroup_namespaces {
        all.push(own(Cgroup));
    }
    all.into_iter().collect()
}

/// Private on cgroup v2 only, unless asked otherwise (moby `daemon/daemon_unix.go`, `adaptContainerSettings`).
pub(super) fn cgroup_mode(asked: &Confinement, host: &HostFacts) -> CgroupnsMode {
    asked.namespaces.cgroup.unwrap_or(match host.cgroup_version {
        CgroupVersion::V1 => CgroupnsMode::Host,
        CgroupVersion::V2 => CgroupnsMode::Private,
    })
}

fn own(kind: LinuxNamespaceType) -> Built<LinuxNamespace> {
    LinuxNamespaceBuilder::default().typ(kind).build()
}

fn joined(kind: LinuxNamespaceType, file: &str) -> Built<LinuxNamespace> {
    LinuxNamespaceBuilder::default().typ(kind).path(format!("{NOT_JOINED_YET}/{file}")).build()
}
