//! Which of the kernel's namespaces are the container's own.

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType};

use super::{Built, CgroupVersion, HostFacts};
use crate::containers::NetworkMode;

/// A private set of each, but for the network of the host where that is asked for.
///
/// Control groups get one on cgroup v2 only, as Docker's `--cgroupns` defaults (moby `daemon/daemon_unix.go`); user
/// namespaces are not used, and time namespaces are unknown to runc before 1.2.
pub(super) fn namespaces(network: &NetworkMode, host: &HostFacts) -> Built<Vec<LinuxNamespace>> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let mut kinds = vec![Pid, Ipc, Uts, Mount];
    // Another container's is written in at the start, when its path is known.
    if *network != NetworkMode::Host {
        kinds.push(Network);
    }
    if host.cgroup_version == CgroupVersion::V2 {
        kinds.push(Cgroup);
    }
    kinds.into_iter().map(|kind| LinuxNamespaceBuilder::default().typ(kind).build()).collect()
}
