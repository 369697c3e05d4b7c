//! What the host can do, as data: the spec builder looks at nothing else.

mod limits;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use names::Platform;
use oci_spec::runtime::Capabilities;

pub use limits::{CpuList, Limits};

use super::capabilities;

/// Which control group hierarchy the host uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy per controller; also the hybrid layout.
    V1,
    /// The unified hierarchy.
    V2,
}

impl CgroupVersion {
    /// 1 or 2.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// Who makes the containers' control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupManager {
    /// systemd, as scopes.
    Systemd,
    /// The runtime, in the file system.
    Cgroupfs,
    /// Nobody: rootless without delegation. Limits have no effect.
    None,
}

impl CgroupManager {
    /// Docker's and nerdctl's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
            Self::None => "none",
        }
    }

    /// What nerdctl takes where nothing is configured (`pkg/defaults/cgroup_linux.go`).
    fn usual(version: CgroupVersion, systemd_runs: bool, rootless: bool) -> Self {
        match version {
            CgroupVersion::V2 if systemd_runs => Self::Systemd,
            _ if rootless => Self::None,
            _ => Self::Cgroupfs,
        }
    }
}

impl FromStr for CgroupManager {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Systemd, Self::Cgroupfs, Self::None]
            .into_iter()
            .find(|manager| manager.as_str() == text)
            .ok_or(())
    }
}

/// Facts of the host that a spec depends on. They do not change while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Control group hierarchy.
    pub cgroup_version: CgroupVersion,
    /// Who makes control groups.
    pub cgroup_manager: CgroupManager,
    /// The kernel filters system calls.
    pub seccomp: bool,
    /// The kernel has AppArmor, and it is switched on.
    pub apparmor: bool,
    /// The AppArmor profile for containers, where it can be loaded.
    pub apparmor_profile: Option<String>,
    /// Version of the kernel, `(6, 1)`.
    pub kernel: (u32, u32),
    /// Architecture in Go's spelling, `amd64`.
    pub architecture: String,
    /// In a user namespace (RootlessKit's).
    pub rootless: bool,
    /// RootlessKit keeps its network namespace apart, so the host's cannot be entered from its user namespace.
    pub detached_netns: bool,
    /// Our network namespace belongs to the machine, not to our user namespace (RootlessKit with `--net=host`).
    pub foreign_netns: bool,
    /// The host's name.
    pub hostname: String,
    /// `/sys/devices/system/cpu/cpu<n>/thermal_throttle`, those that exist.
    pub thermal_throttle: Vec<String>,
    /// Sysctl `net.ipv4.ping_group_range` exists.
    pub ping_group_range: bool,
    /// Sysctl `net.ipv4.ip_unprivileged_port_start` exists.
    pub unprivileged_port_start: bool,
    /// The lowest OOM score adjustment that containers can be given: 0, or our own where that is higher and cannot be
    /// lowered.
    pub oom_score_adj: i32,
    /// Capabilities that can be given.
    pub capabilities: Capabilities,
    /// Which limits control groups can set; none without a manager.
    pub limits: Limits,
    /// Processors that the daemon, and so a container, can use.
    pub cpus: u32,
    /// The kernel has namespaces for control groups.
    pub cgroup_namespaces: bool,
    /// The static program that becomes process 1 of containers with an init.
    pub init: Option<PathBuf>,
}

impl HostFacts {
    /// Read them. `cgroup_manager` is what the configuration says; an unknown word counts as none.
    #[must_use]
    pub fn read(cgroup_manager: Option<&str>) -> Self {
        let rootless = in_user_namespace();
        let cgroup_version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            CgroupVersion::V2
        } else {
            CgroupVersion::V1
        };
        let systemd_runs = Path::new("/run/systemd/system").is_dir();
        let usual = CgroupManager::usual(cgroup_version, systemd_runs, rootless);
        let apparmor =
            first_line("/sys/module/apparmor/parameters/enabled").is_some_and(|line| line == "Y");
        let uname = rustix::system::uname();
        let cgroup_manager = cgroup_manager.and_then(|word| word.parse().ok()).unwrap_or(usual);
        let detached_netns = rootless && rootlesskit_netns();
        Self {
            cgroup_version,
            cgroup_manager,
            seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
            apparmor,
            apparmor_profile: default_apparmor_profile(apparmor, rootless),
            kernel: kernel_version(&uname.release().to_string_lossy()),
            architecture: Platform::host().architecture().to_owned(),
            rootless,
            detached_netns,
            foreign_netns: rootless && !owns_network(),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            thermal_throttle: thermal_throttle(),
            ping_group_range: Path::new("/proc/sys/net/ipv4/ping_group_range").exists(),
            unprivileged_port_start: Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .exists(),
            oom_score_adj: lowest_oom_score_adj(rootless),
            capabilities: bounding_set(),
            limits: match cgroup_manager {
                CgroupManager::None => Limits::default(),
                CgroupManager::Systemd | CgroupManager::Cgroupfs => limits::of_host(cgroup_version),
            },
            cpus: std::thread::available_parallelism()
                .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
            cgroup_namespaces: Path::new("/proc/self/ns/cgroup").exists(),
            init: on_path(&INITS),
        }
    }
}

/// Programs that can be a container's init, the statically linked ones first: others need the image's libraries.
const INITS: [&str; 3] = ["docker-init", "tini-static", "tini"];

/// AppArmor's profile for containers, by the name that nerdctl gives it. Loading one takes root and a compiler.
fn default_apparmor_profile(apparmor: bool, rootless: bool) -> Option<String> {
    let can_load = apparmor && !rootless && on_path(&["apparmor_parser"]).is_some();
    can_load.then(|| crate::apparmor::DEFAULT_PROFILE.to_owned())
}

/// The first of these programs that is installed.
fn on_path(programs: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    programs.iter().find_map(|program| {
        folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file())
    })
}

/// Nobody can give what is not in the own bounding set. If it cannot be read, the runtime has to judge.
fn bounding_set() -> Capabilities {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(u64::MAX);
    let in_set = |number: usize| bits >> number & 1 == 1;
    let known = capabilities::BY_NUMBER.into_iter().enumerate();
    known.filter(|(number, _)| in_set(*number)).map(|(_, capability)| capability).collect()
}

/// The first user namespace maps all ids onto themselves (moby/sys `userns`).
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<_> = map.split_ascii_whitespace().collect();
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}

/// RootlessKit announces a detached network namespace by this file in its state directory.
fn rootlesskit_netns() -> bool {
    std::env::var_os("ROOTLESSKIT_STATE_DIR")
        .is_some_and(|directory| Path::new(&directory).join("netns").exists())
}

/// A network namespace's sysctls belong to the root of the user namespace that it belongs to; another's root is nobody here.
fn owns_network() -> bool {
    fs::metadata("/proc/sys/net/ipv4/ip_forward").is_ok_and(|sysctl| sysctl.uid() == 0)
}

/// `(6, 1)` of `6.1.0-18-amd64`; an unreadable one counts as old.
fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// They tell how busy the neighbours are (moby `daemon/pkg/oci/defaults.go`).
fn thermal_throttle() -> Vec<String> {
    let possible = first_line("/sys/devices/system/cpu/possible").unwrap_or_default();
    cpu_list(&possible)
        .into_iter()
        .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
        .filter(|path| Path::new(path).exists())
        .collect()
}

/// The numbers of a kernel CPU list: `0-3,8`. Machines have at most 8,192 of them.
fn cpu_list(list: &str) -> Vec<u32> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    });
    ranges.flatten().take(8192).collect()
}

/// Containers get 0 as dockerd's do, because containerd's own protection from the OOM killer would be inherited; but
/// whoever started with a higher value and without CAP_SYS_RESOURCE cannot go below it (in a user namespace 100,
/// nerdctl `pkg/cmd/container/create.go`).
fn lowest_oom_score_adj(rootless: bool) -> i32 {
    let own =
        first_line("/proc/self/oom_score_adj").and_then(|line| line.parse().ok()).unwrap_or(0);
    let floor = if rootless { 100 } else { 0 };
    own.max(floor)
}

fn first_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()?.lines().next().map(str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use super::limits::tests::{per_controller, unified};
    use oci_spec::runtime::Capability;

    use super::*;

    /// An ordinary server of today, for tests of the spec.
    pub(crate) fn facts() -> HostFacts {
        HostFacts {
            cgroup_version: CgroupVersion::V2,
            cgroup_manager: CgroupManager::Systemd,
            seccomp: true,
            apparmor: false,
            apparmor_profile: None,
            kernel: (6, 1),
            architecture: "amd64".into(),
            rootless: false,
            detached_netns: false,
            foreign_netns: false,
            hostname: "server".into(),
            thermal_throttle: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
            ping_group_range: true,
            unprivileged_port_start: true,
            oom_score_adj: 0,
            capabilities: capabilities::BY_NUMBER.into(),
            limits: unified(),
            cpus: 4,
            cgroup_namespaces: true,
            init: Some("/usr/bin/tini-static".into()),
        }
    }

    #[test]
    fn the_usual_cgroup_manager() {
        use CgroupManager as Manager;
        assert_eq!(Manager::usual(CgroupVersion::V2, true, false), Manager::Systemd);
        assert_eq!(Manager::usual(CgroupVersion::V2, true, true), Manager::Systemd);
        assert_eq!(Manager::usual(CgroupVersion::V2, false, false), Manager::Cgroupfs);
        assert_eq!(Manager::usual(CgroupVersion::V1, true, false), Manager::Cgroupfs);
        assert_eq!(Manager::usual(CgroupVersion::V1, true, true), Manager::None);
    }

    #[test]
    fn kernel_releases() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), (6, 1));
        assert_eq!(kernel_version("3.12-1-amd64"), (3, 12));
        assert_eq!(kernel_version("5"), (5, 0));
        assert_eq!(kernel_version("unknown"), (0, 0));
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(cpu_list("0"), [0]);
        assert_eq!(cpu_list("0-4294967295").len(), 8192);
        assert_eq!(cpu_list(""), Vec::<u32>::new());
    }

    #[test]
    fn this_host_can_be_read() {
        let facts = HostFacts::read(Some("cgroupfs"));
        assert_eq!(facts.cgroup_manager, CgroupManager::Cgroupfs);
        assert!(facts.kernel > (2, 6) && facts.cpus > 0);
        assert!(facts.capabilities.contains(&Capability::Chown));
        assert!(!facts.hostname.is_empty());
    }
}
