//! What this host makes of a confinement: refusals, warnings, defaults.
//!
//! Source: moby `daemon/daemon_unix.go` (`verifyPlatformContainerSettings`, `adaptContainerSettings`).

use super::spec::confinement::security::Seccomp;
use super::spec::confinement::{CgroupnsMode, Confinement, IpcMode, PidMode};
use crate::oci::{self, CgroupManager, HostFacts};
use crate::{Engine, Error, Result};

/// Make `asked` something that this host can do, and give Docker's warnings about what it cannot.
///
/// # Errors
/// [`Error::InvalidParameter`] in Docker's words; [`Error::NoInit`].
pub(super) fn fit(asked: &mut Confinement, host: &HostFacts) -> Result<Vec<String>> {
    let mut warnings = oci::verify(&mut asked.resources, &host.limits, host.cpus, false)?;
    refuse(asked, host)?;
    if asked.namespaces.cgroup == Some(CgroupnsMode::Private) && !host.cgroup_namespaces {
        warnings.push(
            "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded."
                .to_owned(),
        );
    }
    let resources = &mut asked.resources;
    if resources.memory > 0 && resources.memory_swap == 0 {
        resources.memory_swap = resources.memory.saturating_mul(2);
    }
    Ok(warnings)
}

fn refuse(asked: &Confinement, host: &HostFacts) -> Result<()> {
    let invalid = |text: &str| Err(Error::InvalidParameter(text.to_owned()));
    let slice = asked.cgroup_parent.as_deref().unwrap_or("system.slice");
    let is_slice = slice.len() > ".slice".len() && slice.ends_with(".slice");
    if host.cgroup_manager == CgroupManager::Systemd && !is_slice {
        return invalid(
            "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
        );
    }
    if matches!(asked.security.seccomp, Seccomp::Profile(_)) && !host.seccomp {
        return invalid(
            "seccomp is not enabled in your kernel, cannot run a custom seccomp profile",
        );
    }
    if asked.security.writable_cgroups.is_some() && host.rootless {
        return invalid("option WritableCgroups conflicts with user namespaces and rootless mode");
    }
    let wants_init = asked.init && asked.namespaces.pid == PidMode::Private;
    if wants_init && host.init.is_none() { Err(Error::NoInit) } else { Ok(()) }
}

impl Engine {
    /// Replace the names of joined containers by their ids: they may be renamed later.
    ///
    /// # Errors
    /// As [`Engine::resolve_container`].
    pub(super) async fn find_joined(&self, asked: &mut Confinement) -> Result<()> {
        let namespaces = &mut asked.namespaces;
        if let PidMode::Container(typed) = &mut namespaces.pid {
            *typed = self.resolve_container(typed).await?.id.to_string();
        }
        if let IpcMode::Container(typed) = &mut namespaces.ipc {
            *typed = self.resolve_container(typed).await?.id.to_string();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::tests::host_facts;

    #[test]
    fn swap_is_as_much_as_memory() {
        let mut asked = Confinement::default();
        asked.resources.memory = 64 << 20;
        assert!(fit(&mut asked, &host_facts()).unwrap().is_empty());
        assert_eq!(asked.resources.memory_swap, 128 << 20);
    }

    #[test]
    fn what_the_host_cannot_do() {
        let refused =
            |asked: &mut Confinement, host: &HostFacts| fit(asked, host).unwrap_err().to_string();
        let mut asked =
            Confinement { cgroup_parent: Some("/mine".into()), ..Confinement::default() };
        assert_eq!(
            refused(&mut asked, &host_facts()),
            "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\""
        );
        let cgroupfs = HostFacts { cgroup_manager: CgroupManager::Cgroupfs, ..host_facts() };
        assert!(fit(&mut asked, &cgroupfs).is_ok());
        let bare = HostFacts { init: None, ..host_facts() };
        let mut asked = Confinement { init: true, ..Confinement::default() };
        assert!(refused(&mut asked, &bare).contains("tini"));
        asked.namespaces.pid = PidMode::Host;
        assert!(fit(&mut asked, &bare).is_ok(), "it would not be process 1");
        let old = HostFacts { cgroup_namespaces: false, ..host_facts() };
        let mut asked = Confinement::default();
        asked.namespaces.cgroup = Some(CgroupnsMode::Private);
        assert_eq!(fit(&mut asked, &old).unwrap().len(), 1);
    }
}
