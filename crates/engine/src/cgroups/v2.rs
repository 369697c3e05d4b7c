//! The unified hierarchy: the files that Docker's numbers come from (containerd `cgroups`, `cgroup2`).

use std::path::Path;

use super::files::{number, table, text};
use super::{BlockIo, CpuUsage, IoCounter, MemoryUsage, PidsUsage, Usage};

/// Nanoseconds in the unit of `cpu.stat`.
const MICROSECOND: u64 = 1000;

/// Lines of `memory.stat` that Docker shows.
const MEMORY_STAT: [&str; 31] = [
    "anon",
    "file",
    "kernel_stack",
    "slab",
    "sock",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "anon_thp",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
    "pgfault",
    "pgmajfault",
    "workingset_refault",
    "workingset_activate",
    "workingset_nodereclaim",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "pgactivate",
    "pgdeactivate",
    "pglazyfree",
    "pglazyfreed",
    "thp_fault_alloc",
    "thp_collapse_alloc",
];

/// What a container has used.
pub(super) fn usage(directory: &Path) -> Usage {
    let number = |name: &str| number(&directory.join(name), u64::MAX);
    Usage {
        cpu: cpu(directory),
        memory: memory(directory),
        pids: PidsUsage { current: number("pids.current"), limit: number("pids.max") },
        block_io: BlockIo {
            service_bytes: bytes(&text(&directory.join("io.stat")).unwrap_or_default()),
            ..BlockIo::default()
        },
    }
}

fn cpu(directory: &Path) -> CpuUsage {
    let stat = text(&directory.join("cpu.stat")).unwrap_or_default();
    let stat = table(&stat);
    let count = |name: &str| stat.get(name).copied().unwrap_or(0);
    let time = |name: &str| count(name).saturating_mul(MICROSECOND);
    CpuUsage {
        total: time("usage_usec"),
        per_cpu: Vec::new(),
        kernel: time("system_usec"),
        user: time("user_usec"),
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled: time("throttled_usec"),
    }
}

fn memory(directory: &Path) -> MemoryUsage {
    let stat = text(&directory.join("memory.stat")).unwrap_or_default();
    let stat = table(&stat);
    let events = text(&directory.join("memory.events")).unwrap_or_default();
    MemoryUsage {
        usage: number(&directory.join("memory.current"), u64::MAX),
        max_usage: 0,
        failures: table(&events).get("oom").copied().unwrap_or(0),
        limit: number(&directory.join("memory.max"), u64::MAX),
        stat: MEMORY_STAT
            .into_iter()
            .map(|name| (name, stat.get(name).copied().unwrap_or(0)))
            .collect(),
    }
}

/// Lines as `8:0 rbytes=1 wbytes=2 rios=3 …`: two counters for each device.
fn bytes(io_stat: &str) -> Option<Vec<IoCounter>> {
    let mut counters = Vec::new();
    for line in io_stat.lines() {
        let mut fields = line.split(' ');
        let device = fields.next().and_then(|device| device.split_once(':'));
        let Some((major, minor)) = device else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        let values: Vec<_> = fields.filter_map(|field| field.split_once('=')).collect();
        if values.is_empty() {
            continue;
        }
        for (operation, key) in [("read", "rbytes"), ("write", "wbytes")] {
            let value = values.iter().find(|(name, _)| *name == key);
            let value = value.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
            counters.push(IoCounter { major, minor, operation: operation.to_owned(), value });
        }
    }
    (!counters.is_empty()).then_some(counters)
}
