//! What of the kernel's file systems the container cannot see or change.

use super::HostFacts;
use crate::containers::spec::confinement::Security;

/// Hidden paths: moby's (`daemon/pkg/oci/defaults.go`), which are nerdctl's and two more that tell of neighbours'
/// activity.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that can be read only.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a privileged container's profile is called where there are profiles.
const UNCONFINED: &str = "unconfined";

/// Hidden paths: what was asked for, nothing in privileged containers, and otherwise the default with what this host's
/// processors tell of their work.
pub(super) fn masked_paths(security: &Security, host: &HostFacts) -> Vec<String> {
    match &security.masked_paths {
        Some(asked) => asked.clone(),
        None if security.privileged => Vec::new(),
        None => {
            let all = MASKED.iter().map(|path| (*path).to_owned());
            all.chain(host.thermal_throttle.iter().cloned()).collect()
        }
    }
}

/// Paths that can be read only, alike.
pub(super) fn readonly_paths(security: &Security) -> Vec<String> {
    match &security.readonly_paths {
        Some(asked) => asked.clone(),
        None if security.privileged => Vec::new(),
        None => READ_ONLY.map(str::to_owned).to_vec(),
    }
}

/// AppArmor's profile of the process; none where the kernel does not have it (moby `daemon/oci_linux.go`,
/// `WithApparmor`).
pub(super) fn apparmor_profile(security: &Security, host: &HostFacts) -> Option<String> {
    if !host.apparmor || host.detached_netns {
        return None;
    }
    match &security.apparmor {
        Some(asked) => Some(asked.clone()),
        None if security.privileged => Some(UNCONFINED.to_owned()),
        None => host.apparmor_profile.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::host::tests::facts;

    #[test]
    fn paths_are_asked_for_or_dockers() {
        let default = Security::default();
        assert_eq!(masked_paths(&default, &facts()).len(), MASKED.len() + 1);
        assert_eq!(readonly_paths(&default), READ_ONLY);
        let none = Security {
            masked_paths: Some(Vec::new()),
            readonly_paths: Some(vec!["/proc".into()]),
            ..Security::default()
        };
        assert!(masked_paths(&none, &facts()).is_empty());
        assert_eq!(readonly_paths(&none), ["/proc"]);
        let privileged = Security { privileged: true, ..Security::default() };
        assert!(masked_paths(&privileged, &facts()).is_empty());
        assert!(readonly_paths(&privileged).is_empty());
    }

    #[test]
    fn apparmor_profiles() {
        let host = HostFacts {
            apparmor: true,
            apparmor_profile: Some("nerdctl-default".into()),
            ..facts()
        };
        let profile = |security: &Security| apparmor_profile(security, &host);
        assert_eq!(profile(&Security::default()).as_deref(), Some("nerdctl-default"));
        let privileged = Security { privileged: true, ..Security::default() };
        assert_eq!(profile(&privileged).as_deref(), Some("unconfined"));
        let mine = Security { apparmor: Some("mine".into()), ..privileged };
        assert_eq!(profile(&mine).as_deref(), Some("mine"));
        assert_eq!(apparmor_profile(&mine, &facts()), None, "without AppArmor");
    }
}
