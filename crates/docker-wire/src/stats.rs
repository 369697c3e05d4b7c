//! The objects of `GET /containers/{id}/stats`. All times but the two stamps are in nanoseconds.
//!
//! Source: moby `api/types/container/stats.go`, `daemon/stats.go`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::absent::{Empty, is_default};

/// One sample and the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// 64 hex digits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// With a slash before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `linux`. Younger than most versions of the API, but shown in all of them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_type: String,
    /// When the sample was taken, RFC 3339.
    pub read: String,
    /// CPU time.
    pub cpu_stats: CpuStats,
    /// Memory.
    pub memory_stats: MemoryStats,
    /// By interface; absent without networks of its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, NetworkStats>,
    /// Processes and threads.
    pub pids_stats: PidsStats,
    /// Block devices.
    pub blkio_stats: BlkioStats,
    /// Only for Windows.
    pub num_procs: u32,
    /// Only for Windows.
    pub storage_stats: Empty,
    /// When the sample before was taken; Go's zero time for none.
    pub preread: String,
    /// CPU time of the sample before.
    pub precpu_stats: CpuStats,
}

impl Default for Stats {
    /// Nothing was measured yet: all zero, with Go's zero time where a time must stand.
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            os_type: String::new(),
            read: crate::time::ZERO.to_owned(),
            cpu_stats: CpuStats::default(),
            memory_stats: MemoryStats::default(),
            networks: BTreeMap::new(),
            pids_stats: PidsStats::default(),
            blkio_stats: BlkioStats::default(),
            num_procs: 0,
            storage_stats: Empty {},
            preread: crate::time::ZERO.to_owned(),
            precpu_stats: CpuStats::default(),
        }
    }
}

/// CPU time of a container and of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuStats {
    /// Of the container.
    pub cpu_usage: CpuUsage,
    /// Of the host, over all CPUs.
    #[serde(skip_serializing_if = "is_default")]
    pub system_cpu_usage: u64,
    /// How many CPUs the host has.
    #[serde(skip_serializing_if = "is_default")]
    pub online_cpus: u32,
    /// How often it was held back.
    pub throttling_data: ThrottlingData,
}

/// CPU time of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    pub total_usage: u64,
    /// By CPU; only with cgroup v1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_usage: Vec<u64>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// Outside the kernel.
    pub usage_in_usermode: u64,
}

/// How often a container was held back by its CPU limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThrottlingData {
    /// Periods in which it ran.
    pub periods: u64,
    /// Periods in which it was held back.
    pub throttled_periods: u64,
    /// For how long.
    pub throttled_time: u64,
}

/// Memory of a container, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryStats {
    /// With caches.
    #[serde(skip_serializing_if = "is_default")]
    pub usage: u64,
    /// The most it ever was; only with cgroup v1.
    #[serde(skip_serializing_if = "is_default")]
    pub max_usage: u64,
    /// The lines of `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    /// How often the limit was hit (cgroup v1), or the container was out of memory (v2).
    #[serde(skip_serializing_if = "is_default")]
    pub failcnt: u64,
    /// The host's memory when there is no limit; clients divide by it.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

/// Traffic of one interface, seen from the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkStats {
    /// Received.
    pub rx_bytes: u64,
    /// Received.
    pub rx_packets: u64,
    /// While receiving.
    pub rx_errors: u64,
    /// While receiving.
    pub rx_dropped: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Sent.
    pub tx_packets: u64,
    /// While sending.
    pub tx_errors: u64,
    /// While sending.
    pub tx_dropped: u64,
}

/// Processes and threads of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// How many there are.
    #[serde(skip_serializing_if = "is_default")]
    pub current: u64,
    /// How many there may be; the largest number of 64 bits for no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

/// Traffic with block devices. Lists that the kernel does not have are `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlkioStats {
    /// In bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioStatEntry>>,
    /// In operations.
    pub io_serviced_recursive: Option<Vec<BlkioStatEntry>>,
    /// Only with cgroup v1.
    pub io_queue_recursive: Option<Vec<BlkioStatEntry>>,
    /// Only with cgroup v1.
    pub io_service_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Only with cgroup v1.
    pub io_wait_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Only with cgroup v1.
    pub io_merged_recursive: Option<Vec<BlkioStatEntry>>,
    /// Only with cgroup v1.
    pub io_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Only with cgroup v1.
    pub sectors_recursive: Option<Vec<BlkioStatEntry>>,
}

/// A counter of one device and one kind of operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlkioStatEntry {
    /// Of the device.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
    /// `read` with cgroup v2, `Read` with v1.
    pub op: String,
    /// The count.
    pub value: u64,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn nothing_measured_yet() {
        expect![[r#"{"read":"0001-01-01T00:00:00Z","cpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"memory_stats":{},"pids_stats":{},"blkio_stats":{"io_service_bytes_recursive":null,"io_serviced_recursive":null,"io_queue_recursive":null,"io_service_time_recursive":null,"io_wait_time_recursive":null,"io_merged_recursive":null,"io_time_recursive":null,"sectors_recursive":null},"num_procs":0,"storage_stats":{},"preread":"0001-01-01T00:00:00Z","precpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}}}"#]].assert_eq(&serde_json::to_string(&Stats::default()).unwrap());
    }
}
