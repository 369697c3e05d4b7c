//! Which limits the host's control groups can set.
//!
//! Source: moby `pkg/sysinfo/{sysinfo_linux,cgroup2_linux}.go`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{CgroupVersion, cpu_list};

/// Limits that the control groups of the host support.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// Memory that is kept free of others.
    pub memory_reservation: bool,
    /// How readily memory is swapped out.
    pub memory_swappiness: bool,
    /// OOM killer can be disabled.
    pub oom_kill_disable: bool,
    /// CFS period and quota.
    pub cpu_cfs: bool,
    /// CPU shares.
    pub cpu_shares: bool,
    /// Real-time scheduling.
    pub cpu_realtime: bool,
    /// cpusets.
    pub cpuset: bool,
    /// The CPUs that a cpuset can have.
    pub cpus: CpuList,
    /// The memory nodes that a cpuset can have.
    pub mems: CpuList,
    /// Processes.
    pub pids: bool,
    /// Weight of block I/O.
    pub blkio_weight: bool,
    /// Its weight for one device.
    pub blkio_weight_device: bool,
    /// Bytes per second read from a device.
    pub blkio_read_bps: bool,
    /// Bytes per second written to a device.
    pub blkio_write_bps: bool,
    /// Operations per second that read from a device.
    pub blkio_read_iops: bool,
    /// Operations per second that write to a device.
    pub blkio_write_iops: bool,
}

/// Numbers as the kernel lists them, `0-3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList {
    /// The kernel's own text.
    pub text: String,
    /// The numbers in it.
    pub numbers: BTreeSet<u32>,
}

impl CpuList {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default().trim().to_owned();
        Self { numbers: cpu_list(&text).into_iter().collect(), text }
    }
}

/// Look at this host.
pub(super) fn of_host(version: CgroupVersion) -> Limits {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    read(Path::new("/sys/fs/cgroup"), version, own_group(&groups))
}

/// Look at the control groups mounted at `root` (`/sys/fs/cgroup`). `own` is our own group in the unified hierarchy: a
/// user's daemon has what was delegated to it.
fn read(root: &Path, version: CgroupVersion, own: &str) -> Limits {
    match version {
        CgroupVersion::V1 => of_v1(root),
        CgroupVersion::V2 => of_v2(root, &root.join(own.trim_start_matches('/'))),
    }
}

/// One directory per controller, with the files of what the kernel was built for.
fn of_v1(root: &Path) -> Limits {
    let has = |file: &str| root.join(file).exists();
    Limits {
        memory: has("memory/memory.limit_in_bytes"),
        swap: has("memory/memory.memsw.limit_in_bytes"),
        memory_reservation: has("memory/memory.soft_limit_in_bytes"),
        memory_swappiness: has("memory/memory.swappiness"),
        oom_kill_disable: has("memory/memory.oom_control"),
        cpu_cfs: has("cpu/cpu.cfs_quota_us"),
        cpu_shares: has("cpu/cpu.shares"),
        cpu_realtime: has("cpu/cpu.rt_period_us"),
        cpuset: has("cpuset/cpuset.cpus"),
        cpus: CpuList::read(&root.join("cpuset/cpuset.cpus")),
        mems: CpuList::read(&root.join("cpuset/cpuset.mems")),
        pids: has("pids/cgroup.procs"),
        blkio_weight: has("blkio/blkio.weight"),
        blkio_weight_device: has("blkio/blkio.weight_device"),
        blkio_read_bps: has("blkio/blkio.throttle.read_bps_device"),
        blkio_write_bps: has("blkio/blkio.throttle.write_bps_device"),
        blkio_read_iops: has("blkio/blkio.throttle.read_iops_device"),
        blkio_write_iops: has("blkio/blkio.throttle.write_iops_device"),
    }
}

fn of_v2(root: &Path, own: &Path) -> Limits {
    let listed = |group: &Path| fs::read_to_string(group.join("cgroup.controllers")).ok();
    // As root everything can be delegated; the list of our own group counts only where it is ours to give.
    let controllers = listed(root).or_else(|| listed(own)).unwrap_or_default();
    let has =
        |name: &str| controllers.split_ascii_whitespace().any(|controller| controller == name);
    // Only the root group shows what is available to all of the others.
    let effective = |file: &str| {
        let of_root = CpuList::read(&root.join(file));
        if of_root.text.is_empty() { CpuList::read(&own.join(file)) } else { of_root }
    };
    Limits {
        memory: has("memory"),
        swap: has("memory") && has_swap(root, own),
        memory_reservation: has("memory"),
        memory_swappiness: false,
        oom_kill_disable: false,
        cpu_cfs: has("cpu"),
        cpu_shares: has("cpu"),
        cpu_realtime: false,
        cpuset: has("cpuset"),
        cpus: effective("cpuset.cpus.effective"),
        mems: effective("cpuset.mems.effective"),
        pids: has("pids"),
        blkio_weight: has("io"),
        blkio_weight_device: has("io"),
        blkio_read_bps: has("io"),
        blkio_write_bps: has("io"),
        blkio_read_iops: has("io"),
        blkio_write_iops: has("io"),
    }
}

/// The root group has no limits, so any group below it shows whether swap is counted.
fn has_swap(root: &Path, own: &Path) -> bool {
    let children = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from(own))
        .chain(children)
        .any(|group| group.join("memory.swap.max").exists())
}

/// Our own group in the unified hierarchy, out of `/proc/self/cgroup`.
fn own_group(proc_self_cgroup: &str) -> &str {
    proc_self_cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// All that cgroup v2 has.
    pub(crate) fn unified() -> Limits {
        Limits {
            memory: true,
            swap: true,
            memory_reservation: true,
            cpu_cfs: true,
            cpu_shares: true,
            cpuset: true,
            cpus: CpuList { text: "0-3".into(), numbers: (0..4).collect() },
            mems: CpuList { text: "0".into(), numbers: [0].into() },
            pids: true,
            blkio_weight: true,
            blkio_weight_device: true,
            blkio_read_bps: true,
            blkio_write_bps: true,
            blkio_read_iops: true,
            blkio_write_iops: true,
            ..Limits::default()
        }
    }

    /// What cgroup v1 has beyond it.
    pub(crate) fn per_controller() -> Limits {
        Limits { memory_swappiness: true, oom_kill_disable: true, cpu_realtime: true, ..unified() }
    }

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_unified_hierarchy() {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), &[("cgroup.controllers", "cpuset cpu io memory pids\n")]);
        let limits = read(temp.path(), CgroupVersion::V2, "/");
        assert!(
            limits.memory && limits.cpu_cfs && limits.cpu_shares && limits.cpuset && limits.pids
        );
        assert!(!limits.swap, "the kernel does not count swap");
        write(temp.path(), &[("system.slice/memory.swap.max", "max\n")]);
        assert!(read(temp.path(), CgroupVersion::V2, "/").swap);
    }

    #[test]
    fn one_hierarchy_per_controller() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(read(temp.path(), CgroupVersion::V1, "/"), Limits::default());
        write(temp.path(), &[("memory/memory.limit_in_bytes", ""), ("cpu/cpu.shares", "")]);
        let expected = Limits { memory: true, cpu_shares: true, ..Limits::default() };
        assert_eq!(read(temp.path(), CgroupVersion::V1, "/"), expected);
    }

    #[test]
    fn the_own_group() {
        assert_eq!(own_group("12:cpu:/a\n0::/user.slice/x\n"), "/user.slice/x");
        assert_eq!(own_group("12:cpu:/a\n"), "/");
    }
}
