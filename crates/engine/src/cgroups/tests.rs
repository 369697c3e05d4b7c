//! Both versions, from files as a kernel writes them.

use std::fs;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn counter(operation: &str, value: u64) -> IoCounter {
    IoCounter { major: 8, minor: 0, operation: operation.to_owned(), value }
}

#[test]
fn usage_of_v1() {
    let folder = folder(&[
        ("cpuacct/cpuacct.usage", "123456789\n"),
        ("cpuacct/cpuacct.usage_percpu", "100000000 23456789 \n"),
        ("cpuacct/cpuacct.stat", "user 7\nsystem 5\n"),
        ("cpu/cpu.stat", "nr_periods 10\nnr_throttled 3\nthrottled_time 5000\nnr_bursts 0\n"),
        ("memory/memory.usage_in_bytes", "4096\n"),
        ("memory/memory.max_usage_in_bytes", "8192\n"),
        ("memory/memory.failcnt", "2\n"),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory/memory.stat", "cache 1\nrss 2\nswap 99\ntotal_inactive_file 3\n"),
        ("pids/pids.current", "4\n"),
        ("pids/pids.max", "max\n"),
        (
            "blkio/blkio.throttle.io_service_bytes",
            "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
        ),
        ("blkio/blkio.throttle.io_serviced", "Total 0\n"),
    ]);
    let controllers = ["cpuacct", "cpu", "memory", "pids", "blkio"];
    let directories = controllers.map(|name| (name.to_owned(), folder.path().join(name)));
    let usage = Group::V1(directories.into()).usage().unwrap();
    assert_eq!(
        usage.cpu,
        CpuUsage {
            total: 123_456_789,
            per_cpu: vec![100_000_000, 23_456_789],
            kernel: 50_000_000,
            user: 70_000_000,
            periods: 10,
            throttled_periods: 3,
            throttled: 5000,
        }
    );
    let memory = &usage.memory;
    assert_eq!((memory.usage, memory.max_usage, memory.failures), (4096, 8192, 2));
    assert_eq!(memory.limit, 9_223_372_036_854_771_712);
    assert_eq!(memory.stat.len(), 32, "all that Docker shows, and no other");
    assert_eq!((memory.stat["cache"], memory.stat["total_inactive_file"]), (1, 3));
    assert_eq!(usage.pids, PidsUsage { current: 4, limit: 0 });
    assert_eq!(
        usage.block_io.service_bytes.unwrap(),
        [counter("Read", 10), counter("Write", 20), counter("Total", 30)]
    );
    assert_eq!(usage.block_io.serviced, Some(Vec::new()));
    assert_eq!(usage.block_io.sectors, Some(Vec::new()), "v1 could count them");
}

#[test]
fn the_schedulers_counters_come_first() {
    let folder = folder(&[
        ("blkio/blkio.io_service_bytes_recursive", "8:0 Read 1\nTotal 1\n"),
        ("blkio/blkio.sectors_recursive", "8:0 2\n"),
        ("blkio/blkio.throttle.io_service_bytes", "8:0 Read 9\n"),
    ]);
    let directories = [("blkio".to_owned(), folder.path().join("blkio"))];
    let io = Group::V1(directories.into()).usage().unwrap().block_io;
    assert_eq!(io.service_bytes.unwrap(), [counter("Read", 1)]);
    assert_eq!(io.sectors.unwrap(), [counter("", 2)]);
}

#[test]
fn usage_of_v2() {
    let folder = folder(&[
        (
            "cpu.stat",
            "usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_periods 1\nnr_throttled 2\nthrottled_usec 3\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 1\nfile 2\ninactive_file 3\nzswap 99\n"),
        ("memory.events", "low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\n"),
        ("pids.current", "4\n"),
        ("pids.max", "max\n"),
        ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n"),
    ]);
    let usage = Group::V2(folder.path().to_owned()).usage().unwrap();
    assert_eq!(
        usage.cpu,
        CpuUsage {
            total: 12_000,
            per_cpu: Vec::new(),
            kernel: 5000,
            user: 7000,
            periods: 1,
            throttled_periods: 2,
            throttled: 3000,
        }
    );
    let memory = &usage.memory;
    assert_eq!((memory.usage, memory.limit, memory.failures), (4096, u64::MAX, 2));
    assert_eq!((memory.stat.len(), memory.stat["inactive_file"]), (31, 3));
    assert_eq!(usage.pids, PidsUsage { current: 4, limit: u64::MAX });
    let io = usage.block_io;
    assert_eq!(io.service_bytes.unwrap(), [counter("read", 10), counter("write", 20)]);
    assert_eq!(io.serviced, None, "v2 has no such list");
}

#[test]
fn a_group_that_is_gone_has_used_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    assert_eq!(Group::V2(gone.clone()).usage(), None);
    assert!(Group::V2(gone.clone()).processes().is_err());
    assert_eq!(Group::V1([("memory".to_owned(), gone)].into()).usage(), None);
}

#[test]
fn processes_of_groups_below_are_the_containers() {
    let folder = folder(&[
        ("cgroup.procs", "12\n3\n"),
        ("init/cgroup.procs", "7\n0\n"),
        ("docker/inner/cgroup.procs", "3\n9\n"),
        ("docker/cgroup.procs", ""),
    ]);
    let processes = Group::V2(folder.path().to_owned()).processes().unwrap();
    assert_eq!(Vec::from_iter(processes), [3, 7, 9, 12]);
}

#[test]
fn this_process_is_found_by_its_own_group() {
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap();
    // Any part of any of our own paths plays the id.
    let part = memberships
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2)?.rsplit('/').next())
        .find(|part| !part.is_empty() && *part != "..");
    let Some(id) = part else {
        eprintln!("skipped: this process is in the topmost groups");
        return;
    };
    let group = Hierarchies::of_this_host().group_of(std::process::id(), id).unwrap();
    assert!(group.processes().unwrap().contains(&std::process::id()), "{group:?}");
}
