//! The container's control group: where it is and what it limits.

use names::{ContainerId, Namespace};
use oci_spec::runtime::{LinuxMemory, LinuxResources, LinuxResourcesBuilder};

use super::{Built, CgroupManager, HostFacts, devices};

/// Limits; the memory object is always there, as in nerdctl's specs (`pkg/cmd/container/run_cgroup_linux.go`), whose
/// inspect reads it without a check.
pub(super) fn resources() -> Built<LinuxResources> {
    LinuxResourcesBuilder::default()
        .devices(devices::rules()?)
        .memory(LinuxMemory::default())
        .build()
}

/// `linux.cgroupsPath` as nerdctl forms it; empty where nobody manages control groups (rootless without delegation).
pub(super) fn cgroups_path(host: &HostFacts, namespace: &Namespace, id: &ContainerId) -> String {
    match host.cgroup_manager {
        CgroupManager::Systemd if host.rootless => format!("user.slice:nerdctl:{id}"),
        CgroupManager::Systemd => format!("system.slice:nerdctl:{id}"),
        CgroupManager::Cgroupfs => format!("/{namespace}/{id}"),
        CgroupManager::None => String::new(),
    }
}
