//! What the process may do beyond an ordinary user's rights.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

/// Docker's fourteen (moby `daemon/pkg/oci/caps/defaults.go`); containerd's are the same.
pub(super) fn docker_defaults() -> Capabilities {
    Capabilities::from([
        Capability::AuditWrite,
        Capability::Chown,
        Capability::DacOverride,
        Capability::Fowner,
        Capability::Fsetid,
        Capability::Kill,
        Capability::Mknod,
        Capability::NetBindService,
        Capability::NetRaw,
        Capability::Setfcap,
        Capability::Setgid,
        Capability::Setpcap,
        Capability::Setuid,
        Capability::SysChroot,
    ])
}

/// The sets of a process that may have `capabilities`.
///
/// Neither inheritable nor ambient: a process that is not root must gain nothing by running a program
/// (CVE-2022-24769). oci-spec's own defaults give it three.
pub(super) fn sets(capabilities: Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_inheritable(None)
        .set_ambient(None)
        .set_bounding(Some(capabilities.clone()))
        .set_permitted(Some(capabilities.clone()))
        .set_effective(Some(capabilities));
    sets
}
