//! The default seccomp filter: which system calls a container may make.
//!
//! Every call that is not allowed fails with EPERM. What is allowed depends on the architecture, the kernel and the
//! capabilities that are left after adding and dropping (moby `profiles/seccomp`, containerd `contrib/seccomp`).

mod profile;
mod table;

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall,
    LinuxSyscallBuilder,
};

pub use profile::{InvalidProfile, SeccompProfile};

use super::{Built, HostFacts};
use crate::containers::spec::confinement::Security;
use crate::containers::spec::confinement::security::Seccomp;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Address families that a container cannot have: the kernel's crypto interface has had too many holes, and virtual
/// machine sockets know no namespaces. They lie two apart, with one family between them.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Execution domains that are harmless: Linux, Linux with 32-bit addresses, either with the UNAME26 flag, and asking.
const PERSONALITIES: [u64; 5] = [0x0, 0x0008, 0x20000, 0x20008, 0xffff_ffff];

/// Namespace flags of clone: mount, cgroup, UTS, IPC, user, PID, network.
const CLONE_NEW: u64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

/// The filter that a container with this bounding set gets, if any (moby `daemon/seccomp_linux.go`).
pub(super) fn filter(
    security: &Security,
    host: &HostFacts,
    bounding: &Capabilities,
) -> Built<Option<LinuxSeccomp>> {
    match &security.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Profile(profile) => Ok(profile.filter(host, bounding)),
        Seccomp::Default if security.privileged || !host.seccomp => Ok(None),
        Seccomp::Default => default_profile(host, bounding).map(Some),
    }
}

/// Docker's filter for a container with this bounding set.
fn default_profile(host: &HostFacts, bounding: &Capabilities) -> Built<LinuxSeccomp> {
    let profile = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .syscalls(rules(host, bounding)?);
    // Without a list libseccomp takes the native architecture.
    let architectures = architectures(&host.architecture);
    if architectures.is_empty() {
        profile.build()
    } else {
        profile.architectures(architectures).build()
    }
}

/// The native architecture and those whose programs it can run.
fn architectures(architecture: &str) -> Vec<Arch> {
    match architecture {
        "amd64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "arm64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        "s390x" => vec![Arch::ScmpArchS390x, Arch::ScmpArchS390],
        "riscv64" => vec![Arch::ScmpArchRiscv64],
        _ => Vec::new(),
    }
}

fn rules(host: &HostFacts, bounding: &Capabilities) -> Built<Vec<LinuxSyscall>> {
    let mut rules = vec![allow(&table::ALWAYS_ALLOWED.join(" "))?];
    // Before 4.8 a traced process could change a call after the filter had looked at it.
    if host.kernel >= (4, 8) {
        rules.push(allow("process_vm_readv process_vm_writev ptrace")?);
    }
    rules.push(allow_if("socket", 0, LinuxSeccompOperator::ScmpCmpLt, AF_ALG)?);
    rules.push(allow_if("socket", 0, LinuxSeccompOperator::ScmpCmpEq, AF_ALG + 1)?);
    rules.push(allow_if("socket", 0, LinuxSeccompOperator::ScmpCmpGt, AF_VSOCK)?);
    for domain in PERSONALITIES {
        rules.push(allow_if("personality", 0, LinuxSeccompOperator::ScmpCmpEq, domain)?);
    }
    for (architectures, names) in table::BY_ARCHITECTURE {
        if architectures.contains(&host.architecture.as_str()) {
            rules.push(allow(names)?);
        }
    }
    for (capability, names) in table::BY_CAPABILITY {
        if bounding.contains(capability) {
            rules.push(allow(names)?);
        }
    }
    if !bounding.contains(&Capability::SysAdmin) {
        rules.extend(clone_without_namespaces(&host.architecture)?);
    }
    Ok(rules)
}

/// clone, but not into new namespaces. clone3 hides its flags behind a pointer, so it does not exist (ENOSYS): C
/// libraries then fall back to clone, which EPERM would not make them do.
fn clone_without_namespaces(architecture: &str) -> Built<[LinuxSyscall; 2]> {
    let flags = usize::from(architecture == "s390x"); // the first two arguments are swapped there
    let clone3 = LinuxSyscallBuilder::default()
        .names(["clone3".to_owned()])
        .action(LinuxSeccompAction::ScmpActErrno)
        .errno_ret(ENOSYS)
        .build()?;
    Ok([allow_if("clone", flags, LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NEW)?, clone3])
}

fn allow(names: &str) -> Built<LinuxSyscall> {
    LinuxSyscallBuilder::default()
        .names(words(names))
        .action(LinuxSeccompAction::ScmpActAllow)
        .build()
}

/// Allowed where one argument compares so with `value`; with `ScmpCmpMaskedEq`, where none of its bits is set.
fn allow_if(name: &str, index: usize, op: LinuxSeccompOperator, value: u64) -> Built<LinuxSyscall> {
    let argument: LinuxSeccompArg =
        LinuxSeccompArgBuilder::default().index(index).op(op).value(value).build()?;
    LinuxSyscallBuilder::default()
        .names(words(name))
        .action(LinuxSeccompAction::ScmpActAllow)
        .args([argument])
        .build()
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::oci::capabilities;
    use crate::oci::host::tests::facts;

    fn allowed_without_condition(profile: &LinuxSeccomp) -> BTreeSet<String> {
        let rules = profile.syscalls().as_ref().unwrap().iter();
        rules
            .filter(|rule| {
                rule.action() == LinuxSeccompAction::ScmpActAllow && rule.args().is_none()
            })
            .flat_map(|rule| rule.names().clone())
            .collect()
    }

    fn default_for(host: &HostFacts) -> LinuxSeccomp {
        default_profile(host, &capabilities::docker_defaults()).unwrap()
    }

    #[test]
    fn no_name_is_listed_twice() {
        let all = words(&table::ALWAYS_ALLOWED.join(" "));
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all.len(), 361, "the number of names in moby's list");
    }

    #[test]
    fn what_is_dangerous_is_refused_by_default() {
        let allowed = allowed_without_condition(&default_for(&facts()));
        for name in [
            "mount",
            "bpf",
            "keyctl",
            "add_key",
            "io_uring_setup",
            "reboot",
            "clone3",
            "clone",
            "socket",
        ] {
            assert!(!allowed.contains(name), "{name}");
        }
        for name in ["chroot", "ptrace", "arch_prctl", "openat", "uname"] {
            assert!(allowed.contains(name), "{name}");
        }
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let mut bounding = capabilities::docker_defaults();
        bounding.insert(Capability::SysAdmin);
        let profile = default_profile(&facts(), &bounding).unwrap();
        let allowed = allowed_without_condition(&profile);
        assert!(
            allowed.contains("mount") && allowed.contains("clone3") && allowed.contains("clone")
        );
        let refused = profile
            .syscalls()
            .as_ref()
            .unwrap()
            .iter()
            .any(|rule| rule.errno_ret() == Some(ENOSYS));
        assert!(!refused, "clone3 is real for whoever may make namespaces");
    }

    #[test]
    fn an_old_kernel_has_no_ptrace() {
        let host = HostFacts { kernel: (4, 7), ..facts() };
        assert!(!allowed_without_condition(&default_for(&host)).contains("ptrace"));
    }

    #[test]
    fn architectures_bring_their_own() {
        let host = HostFacts { architecture: "arm64".into(), ..facts() };
        let profile = default_for(&host);
        assert_eq!(
            profile.architectures().as_deref(),
            Some(&[Arch::ScmpArchAarch64, Arch::ScmpArchArm][..])
        );
        let allowed = allowed_without_condition(&profile);
        assert!(
            allowed.contains("set_tls")
                && !allowed.contains("arch_prctl")
                && !allowed.contains("modify_ldt")
        );

        let host = HostFacts { architecture: "s390x".into(), ..facts() };
        let clone = default_for(&host)
            .syscalls()
            .as_ref()
            .unwrap()
            .iter()
            .find(|r| r.names() == &["clone"])
            .cloned();
        assert_eq!(clone.unwrap().args().as_ref().unwrap()[0].index(), 1);
    }
}
