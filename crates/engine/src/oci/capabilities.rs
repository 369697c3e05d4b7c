//! What the process may do beyond an ordinary user's rights.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::HostFacts;
use crate::containers::spec::confinement::Security;
use crate::containers::spec::confinement::security::CapabilityName;
use crate::{Error, Result};

/// All of Linux, by their numbers (`linux/capability.h`).
pub(super) const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

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

/// What a process with this request gets (moby `daemon/pkg/oci/caps/utils.go`, `TweakCapabilities`).
///
/// # Errors
/// [`Error::InvalidParameter`] for a capability that this host cannot give.
pub(super) fn granted(security: &Security, host: &HostFacts) -> Result<Capabilities> {
    must_be_available("CapAdd", &security.cap_add, host)?;
    must_be_available("CapDrop", &security.cap_drop, host)?;
    if security.privileged {
        return Ok(host.capabilities.clone());
    }
    let (add, drop) = (&security.cap_add, &security.cap_drop);
    let dropped = |capability: &Capability| drop.contains(&CapabilityName::One(*capability));
    let added = add.iter().filter_map(|name| match name {
        CapabilityName::One(capability) => Some(*capability),
        CapabilityName::All => None,
    });
    if add.contains(&CapabilityName::All) {
        return Ok(host.capabilities.iter().copied().filter(|one| !dropped(one)).collect());
    }
    if drop.contains(&CapabilityName::All) {
        return Ok(added.collect());
    }
    let kept = docker_defaults().into_iter().filter(|one| !dropped(one));
    Ok(kept.chain(added).collect())
}

fn must_be_available(field: &str, names: &[CapabilityName], host: &HostFacts) -> Result<()> {
    let missing = names.iter().find_map(|name| match name {
        CapabilityName::One(capability) if !host.capabilities.contains(capability) => {
            Some(capability)
        }
        _ => None,
    });
    let Some(missing) = missing else { return Ok(()) };
    Err(Error::InvalidParameter(format!(
        "invalid {field}: capability not supported by your kernel or not available in the current environment: \"CAP_{missing}\""
    )))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::host::tests::facts;

    fn names(list: &[&str]) -> Vec<CapabilityName> {
        list.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn of(add: &[&str], drop: &[&str]) -> Capabilities {
        let security =
            Security { cap_add: names(add), cap_drop: names(drop), ..Security::default() };
        granted(&security, &facts()).unwrap()
    }

    #[test]
    fn adding_and_dropping() {
        use Capability::{Chown, NetAdmin, NetRaw, SysAdmin};
        assert_eq!(of(&[], &[]), docker_defaults());
        let changed = of(&["net_admin"], &["CHOWN"]);
        assert!(changed.contains(&NetAdmin) && !changed.contains(&Chown));
        assert_eq!(changed.len(), 14);
        assert_eq!(of(&["NET_RAW"], &["ALL"]), Capabilities::from([NetRaw]));
        let all = of(&["ALL"], &["SYS_ADMIN"]);
        assert!(!all.contains(&SysAdmin));
        assert_eq!(all.len(), 40);
        assert_eq!(of(&["CHOWN"], &["CHOWN"]), docker_defaults(), "what is added comes last");
    }

    #[test]
    fn privileged_is_everything_that_there_is() {
        let security =
            Security { privileged: true, cap_drop: names(&["ALL"]), ..Security::default() };
        assert_eq!(granted(&security, &facts()).unwrap().len(), 41);
    }

    #[test]
    fn what_the_host_cannot_give_is_named() {
        let mut host = facts();
        host.capabilities.remove(&Capability::Bpf);
        let security = Security { cap_add: names(&["BPF"]), ..Security::default() };
        assert_eq!(
            granted(&security, &host).unwrap_err().to_string(),
            "invalid CapAdd: capability not supported by your kernel or not available in the current environment: \"CAP_BPF\""
        );
    }
}
