//! Control groups: where a container's are, which processes are in them, and what those have used.
//!
//! Everything is read from the kernel's files, so nobody else has to answer: neither a shim nor containerd. Which group a
//! container has is said by its first process (`/proc/<pid>/cgroup`), whoever made the container and with whichever
//! manager. A process may have moved into a group of its own below (systemd does in a container, and so does a nested
//! Docker), so the path is cut behind the part that carries the container's id. That part is also the proof that the
//! process is still the container's: one that has inherited the number is in another group.

mod files;
mod hierarchies;
mod v1;
mod v2;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use files::text;
pub use hierarchies::Hierarchies;

/// Groups below a container's own that are looked through; a container may make any number.
const MAX_GROUPS: usize = 10_000;

/// A container's control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// A directory for each controller; also in the hybrid layout, whose unified hierarchy has no controllers.
    V1(BTreeMap<String, PathBuf>),
    /// One directory.
    V2(PathBuf),
}

/// What a container has used. Times are in nanoseconds, memory in bytes; what the kernel does not say is 0 or absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processors.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes and threads.
    pub pids: PidsUsage,
    /// Block devices.
    pub block_io: BlockIo,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// By processor; only v1.
    pub per_cpu: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside the kernel.
    pub user: u64,
    /// Periods in which it ran under a limit.
    pub periods: u64,
    /// Periods in which the limit held it back.
    pub throttled_periods: u64,
    /// For how long.
    pub throttled: u64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// With caches.
    pub usage: u64,
    /// The most it ever was; only v1.
    pub max_usage: u64,
    /// How often the limit was hit (v1), or the group was out of memory (v2).
    pub failures: u64,
    /// The group's own limit; a very large number for none.
    pub limit: u64,
    /// The lines of `memory.stat` that Docker shows.
    pub stat: BTreeMap<&'static str, u64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsUsage {
    /// How many there are.
    pub current: u64,
    /// How many there may be; no limit is 0 with v1 and the largest number with v2.
    pub limit: u64,
}

/// Counters by block device; `None` for what the hierarchy does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// Bytes.
    pub service_bytes: Option<Vec<IoCounter>>,
    /// Operations.
    pub serviced: Option<Vec<IoCounter>>,
    /// Operations that wait.
    pub queued: Option<Vec<IoCounter>>,
    /// Time that devices took.
    pub service_time: Option<Vec<IoCounter>>,
    /// Time in queues.
    pub wait_time: Option<Vec<IoCounter>>,
    /// Operations that were put together.
    pub merged: Option<Vec<IoCounter>>,
    /// Time that devices were the group's.
    pub time: Option<Vec<IoCounter>>,
    /// Sectors.
    pub sectors: Option<Vec<IoCounter>>,
}

/// One counter of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoCounter {
    /// Of the device.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
    /// `Read` with v1, `read` with v2; empty for counters without kinds.
    pub operation: String,
    /// The count.
    pub value: u64,
}

impl Group {
    /// What the group has used; `None` if it is gone.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let usage = match self {
            Self::V1(directories) => v1::usage(directories),
            Self::V2(directory) => v2::usage(directory),
        };
        self.exists().then_some(usage)
    }

    /// The processes in the group and in those below it, each once, in order.
    ///
    /// # Errors
    /// The group is gone, or cannot be read.
    pub fn processes(&self) -> io::Result<BTreeSet<u32>> {
        let directory = self.any_directory().ok_or(io::ErrorKind::NotFound)?;
        let mut found = files::numbers(&directory.join("cgroup.procs"))?;
        let mut waiting = vec![directory.to_owned()];
        let mut seen = 1;
        while let Some(directory) = waiting.pop() {
            // A group may go while it is looked at: it has no processes any more then.
            for below in files::directories(&directory).unwrap_or_default() {
                seen += 1;
                if seen > MAX_GROUPS {
                    return Ok(found);
                }
                found.extend(files::numbers(&below.join("cgroup.procs")).unwrap_or_default());
                waiting.push(below);
            }
        }
        Ok(found)
    }

    fn exists(&self) -> bool {
        self.any_directory().is_some_and(Path::is_dir)
    }

    /// All processes of a container are in its group of every controller; runc looks into that of `devices`.
    fn any_directory(&self) -> Option<&Path> {
        match self {
            Self::V2(directory) => Some(directory),
            Self::V1(directories) => ["devices", "pids", "memory", "cpu", "name=systemd"]
                .into_iter()
                .find_map(|controller| directories.get(controller))
                .or_else(|| directories.values().next())
                .map(PathBuf::as_path),
        }
    }
}

#[cfg(test)]
mod tests;
