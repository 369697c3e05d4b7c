//! Which limits the host's control groups can set.
//!
//! Source: moby `pkg/sysinfo/{sysinfo_linux,cgroup2_linux}.go`.

use std::fs;
use std::path::{Path, PathBuf};

use super::Limits;
use crate::oci::CgroupVersion;

/// Look at the control groups mounted at `root` (`/sys/fs/cgroup`). `own` is our own group in the unified hierarchy: a
/// user's daemon has what was delegated to it.
pub(super) fn read(root: &Path, version: CgroupVersion, own: &str) -> Limits {
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
        cpu_cfs: has("cpu/cpu.cfs_quota_us"),
        cpu_shares: has("cpu/cpu.shares"),
        cpuset: has("cpuset/cpuset.cpus"),
        pids: has("pids/cgroup.procs"),
        oom_kill_disable: has("memory/memory.oom_control"),
    }
}

fn of_v2(root: &Path, own: &Path) -> Limits {
    let listed = |group: &Path| fs::read_to_string(group.join("cgroup.controllers")).ok();
    // As root everything can be delegated; the list of our own group counts only where it is ours to give.
    let controllers = listed(root).or_else(|| listed(own)).unwrap_or_default();
    let has =
        |name: &str| controllers.split_ascii_whitespace().any(|controller| controller == name);
    Limits {
        memory: has("memory"),
        swap: has("memory") && has_swap(root, own),
        cpu_cfs: has("cpu"),
        cpu_shares: has("cpu"),
        cpuset: has("cpuset"),
        pids: has("pids"),
        oom_kill_disable: false,
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
pub(super) fn own_group(proc_self_cgroup: &str) -> &str {
    proc_self_cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

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
