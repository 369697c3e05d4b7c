//! What the daemon knows of itself and its host: `info`, `version`, logins.
//!
//! `version` always answers: what a neighbour does not say is left out. `info` needs containerd. Nothing here asks a
//! task.

mod buildkit;
mod components;
pub mod disk_usage;
mod figures;
mod filesystem;
pub(crate) mod machine;
mod ready;
mod runc;

use std::collections::HashSet;
use std::path::PathBuf;

use containerd::introspection::{Plugin, SNAPSHOTTER};

use crate::containers::Phase;
use crate::images::RegistrySettings;
use crate::oci::CgroupManager;
use crate::{Engine, Result};

pub use figures::Figures;
pub use ready::Neighbour;
pub use runc::Cache;

pub use crate::oci::Limits;

/// What `GET /version` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// containerd's version, if it answers.
    pub containerd: Option<ComponentVersion>,
    /// runc's version, if it can be found.
    pub runc: Option<ComponentVersion>,
    /// The init that containers get, if there is one.
    pub init: Option<ComponentVersion>,
    /// The CNI plugins, if they are there.
    pub plugins: Option<ComponentVersion>,
    /// buildkitd, if one answers.
    pub buildkitd: Option<ComponentVersion>,
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
    /// AppArmor confines containers: the kernel has it, and a profile is loaded.
    pub apparmor: bool,
    /// Running in a user namespace.
    pub rootless: bool,
    /// Logs in detail.
    pub debug: bool,
    /// The program that becomes process 1 of containers with an init.
    pub init_program: Option<PathBuf>,
    /// Mirrors, and registries that need no certificate, as it holds now.
    pub registries: RegistrySettings,
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

/// What a registry says to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginOutcome {
    /// For people.
    pub status: String,
    /// Refresh token, or empty.
    pub identity_token: String,
}

impl Engine {
    /// The versions of the neighbours, as far as they answer.
    pub async fn version(&self) -> Version {
        let (containerd, runc, init, plugins, buildkitd) = tokio::join!(
            self.containerd().version(),
            self.system_cache().programs().runc(),
            self.init_version(),
            self.plugins_version(),
            self.buildkitd_version(),
        );
        let containerd = containerd.ok();
        Version {
            containerd: containerd
                .map(|found| ComponentVersion { version: found.version, commit: found.revision }),
            runc,
            init,
            plugins,
            buildkitd,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    /// The state of the daemon and its host, in numbers.
    ///
    /// # Errors
    /// [`crate::Error::ContainerdUnavailable`], [`crate::Error::NotLoaded`].
    pub async fn info(&self) -> Result<Info> {
        let failed = |error| self.containerd_error("ask containerd about itself", error);
        let snapshot = self.inventory().loaded().await?;
        let filter = format!("type=={SNAPSHOTTER},id=={}", self.settings().snapshotter);
        let filters = [filter.as_str()];
        let (server, images, plugins, version) = tokio::join!(
            self.containerd().server(),
            self.containerd().list_images(&[]),
            self.containerd().plugins(&filters),
            Box::pin(self.version()),
        );
        let server = server.map_err(failed)?;
        self.system_cache().counted().learn_id(&server.uuid);
        let mut info = Info {
            id: server.uuid,
            images: count(images.map_err(failed)?.iter().map(|image| &image.target.digest)),
            version,
            ..self.host_part().await
        };
        for entry in snapshot.entries() {
            info.containers += 1;
            // Docker counts every state but these two as stopped (moby `daemon/info.go`).
            match entry.container.state.phase {
                Phase::Running => info.running += 1,
                Phase::Paused => info.paused += 1,
                _ => info.stopped += 1,
            }
        }
        if let Some(root) = plugins.map_err(failed)?.first().and_then(snapshotter_root) {
            info.backing_filesystem = on_a_thread(move || filesystem::name_of(&root)).await;
        }
        Ok(info)
    }

    /// What needs no containerd.
    async fn host_part(&self) -> Info {
        let (settings, facts) = (self.settings().clone(), self.host().clone());
        let debug = self.live().now().debug;
        let (listeners, registries) = (self.hub().readers(), self.registries_now());
        on_a_thread(move || {
            let host = machine::read(&facts);
            Info {
                warnings: warnings(&host, &facts),
                host,
                cgroup_driver: facts.cgroup_manager.as_str().to_owned(),
                cgroup_version: facts.cgroup_version.number(),
                network_plugins: machine::network_plugins(&settings.cni_path),
                snapshotter: settings.snapshotter,
                data_root: settings.data_root,
                containerd_address: settings.containerd_address,
                namespace: settings.namespace.to_string(),
                event_listeners: listeners,
                seccomp: facts.seccomp,
                apparmor: facts.apparmor && facts.apparmor_profile.is_some(),
                rootless: facts.rootless,
                debug,
                init_program: facts.init.clone(),
                registries,
                ..Info::default()
            }
        })
        .await
    }
}

/// Files below `/proc` and `/sys` can be slow; a panic there must cost no more than the answer.
async fn on_a_thread<T: Default + Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// How many different ones.
fn count<T: std::hash::Hash + Eq>(things: impl Iterator<Item = T>) -> u64 {
    things.collect::<HashSet<_>>().len() as u64
}

/// containerd 1.7 and later tell where a snapshotter keeps its files.
fn snapshotter_root(plugin: &Plugin) -> Option<PathBuf> {
    plugin.exports.get("root").map(PathBuf::from)
}

/// Docker's words (moby `daemon/info_unix.go`).
fn warnings(host: &HostInfo, facts: &crate::oci::HostFacts) -> Vec<String> {
    use crate::oci::CgroupVersion::{V1, V2};
    let limits = &host.limits;
    let (v1, managed) = (facts.cgroup_version == V1, facts.cgroup_manager != CgroupManager::None);
    let table = [
        (
            !managed && facts.cgroup_version == V2,
            "Running in rootless-mode without cgroups. Systemd is required to enable cgroups in rootless-mode.",
        ),
        (
            !managed && v1,
            "Running in rootless-mode without cgroups. To enable cgroups in rootless-mode, you need to boot the system in cgroup v2 mode.",
        ),
        (managed && !limits.memory, "No memory limit support"),
        (managed && !limits.swap, "No swap limit support"),
        (managed && v1 && !limits.oom_kill_disable, "No oom kill disable support"),
        (managed && !limits.cpu_cfs, "No cpu cfs quota support"),
        (managed && !limits.cpu_cfs, "No cpu cfs period support"),
        (managed && !limits.cpu_shares, "No cpu shares support"),
        (managed && !limits.cpuset, "No cpuset support"),
        (!host.ipv4_forwarding, "IPv4 forwarding is disabled"),
    ];
    table
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, text)| format!("WARNING: {text}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{CgroupVersion, HostFacts};

    #[test]
    fn warnings_are_dockers() {
        let all = Limits {
            memory: true,
            swap: true,
            cpu_cfs: true,
            cpu_shares: true,
            cpuset: true,
            pids: true,
            ..Limits::default()
        };
        let host = HostInfo { limits: all, ipv4_forwarding: true, ..HostInfo::default() };
        let v2 = HostFacts {
            cgroup_version: CgroupVersion::V2,
            cgroup_manager: CgroupManager::Systemd,
            ..HostFacts::read(None)
        };
        assert_eq!(warnings(&host, &v2), Vec::<String>::new());

        let v1 = HostFacts { cgroup_version: CgroupVersion::V1, ..v2.clone() };
        assert_eq!(warnings(&host, &v1), ["WARNING: No oom kill disable support"]);

        let rootless = HostFacts { cgroup_manager: CgroupManager::None, ..v2 };
        let nothing = HostInfo::default();
        let found = warnings(&nothing, &rootless);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("WARNING: Running in rootless-mode without cgroups. Systemd"));
    }

    #[test]
    fn only_different_things_are_counted() {
        assert_eq!(count(["a", "b", "a"].iter()), 2);
    }
}
