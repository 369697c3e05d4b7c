//! One hierarchy for each controller: the files that Docker's numbers come from (containerd `cgroups`, `cgroup1`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{number, table, text};
use super::{BlockIo, CpuUsage, IoCounter, MemoryUsage, PidsUsage, Usage};

/// The kernel's unit of `cpuacct.stat`: it shows hundredths of a second on every architecture.
const TICK: u64 = 10_000_000;

/// Lines of `memory.stat` that Docker shows.
const MEMORY_STAT: [&str; 32] = [
    "cache",
    "rss",
    "rss_huge",
    "mapped_file",
    "dirty",
    "writeback",
    "pgpgin",
    "pgpgout",
    "pgfault",
    "pgmajfault",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "hierarchical_memory_limit",
    "hierarchical_memsw_limit",
    "total_cache",
    "total_rss",
    "total_rss_huge",
    "total_mapped_file",
    "total_dirty",
    "total_writeback",
    "total_pgpgin",
    "total_pgpgout",
    "total_pgfault",
    "total_pgmajfault",
    "total_inactive_anon",
    "total_active_anon",
    "total_inactive_file",
    "total_active_file",
    "total_unevictable",
];

/// What a container has used.
pub(super) fn usage(directories: &BTreeMap<String, PathBuf>) -> Usage {
    let of = |controller: &str| directories.get(controller).map(PathBuf::as_path);
    let mut cpu = of("cpuacct").map(cpu_time).unwrap_or_default();
    if let Some(directory) = of("cpu") {
        throttling(directory, &mut cpu);
    }
    Usage {
        cpu,
        memory: of("memory").map(memory).unwrap_or_default(),
        pids: of("pids").map(pids).unwrap_or_default(),
        block_io: of("blkio").map(block_io).unwrap_or_default(),
    }
}

fn cpu_time(directory: &Path) -> CpuUsage {
    let stat = text(&directory.join("cpuacct.stat")).unwrap_or_default();
    let ticks = table(&stat);
    let time = |name: &str| ticks.get(name).map_or(0, |count| count.saturating_mul(TICK));
    let per_cpu = text(&directory.join("cpuacct.usage_percpu")).unwrap_or_default();
    CpuUsage {
        total: number(&directory.join("cpuacct.usage"), 0),
        per_cpu: per_cpu.split_ascii_whitespace().filter_map(|time| time.parse().ok()).collect(),
        kernel: time("system"),
        user: time("user"),
        ..CpuUsage::default()
    }
}

fn throttling(directory: &Path, cpu: &mut CpuUsage) {
    let stat = text(&directory.join("cpu.stat")).unwrap_or_default();
    let stat = table(&stat);
    let count = |name: &str| stat.get(name).copied().unwrap_or(0);
    cpu.periods = count("nr_periods");
    cpu.throttled_periods = count("nr_throttled");
    cpu.throttled = count("throttled_time");
}

fn memory(directory: &Path) -> MemoryUsage {
    let Ok(stat) = text(&directory.join("memory.stat")) else { return MemoryUsage::default() };
    let stat = table(&stat);
    let number = |name: &str| number(&directory.join(name), 0);
    MemoryUsage {
        usage: number("memory.usage_in_bytes"),
        max_usage: number("memory.max_usage_in_bytes"),
        failures: number("memory.failcnt"),
        limit: number("memory.limit_in_bytes"),
        stat: MEMORY_STAT
            .into_iter()
            .map(|name| (name, stat.get(name).copied().unwrap_or(0)))
            .collect(),
    }
}

fn pids(directory: &Path) -> PidsUsage {
    PidsUsage {
        current: number(&directory.join("pids.current"), 0),
        limit: number(&directory.join("pids.max"), 0),
    }
}

/// The counters of the CFQ scheduler where it has counted anything, else those of the throttling layer.
fn block_io(directory: &Path) -> BlockIo {
    let read = |name: &str| {
        Some(counters(&text(&directory.join(format!("blkio.{name}"))).unwrap_or_default()))
    };
    let scheduler = BlockIo {
        service_bytes: read("io_service_bytes_recursive"),
        serviced: read("io_serviced_recursive"),
        queued: read("io_queued_recursive"),
        service_time: read("io_service_time_recursive"),
        wait_time: read("io_wait_time_recursive"),
        merged: read("io_merged_recursive"),
        time: read("time_recursive"),
        sectors: read("sectors_recursive"),
    };
    let nothing = Some(Vec::new());
    if scheduler.service_bytes != nothing || scheduler.serviced != nothing {
        return scheduler;
    }
    BlockIo {
        service_bytes: read("throttle.io_service_bytes"),
        serviced: read("throttle.io_serviced"),
        ..scheduler
    }
}

/// Lines as `8:0 Read 4096`, or `8:0 4096`; the sum at the end is no counter.
fn counters(text: &str) -> Vec<IoCounter> {
    let counter = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let (operation, value) = rest.rsplit_once(' ').unwrap_or(("", rest));
        Some(IoCounter {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            operation: operation.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(counter).collect()
}
