//! What a container uses: once, or as a line a second.

use std::collections::BTreeMap;

use bytes::Bytes;
use docker_wire::encode;
use docker_wire::stats::{
    BlkioStatEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats,
    ThrottlingData,
};
use docker_wire::time;
use engine::cgroups::{BlockIo, IoCounter, MemoryUsage};
use engine::containers::stats::{self, InterfaceCounters, Sample};
use futures_util::StreamExt as _;

use crate::api::call::{Answer, Call};
use crate::api::compat::requests;
use crate::api::reply::Reply;

/// `GET /containers/{id}/stats`.
pub(in crate::api) async fn stats(call: Call) -> Answer {
    let style = requests::stats(call.version, &call.query);
    let id = call.parameter("id");
    if !style.stream {
        let stats = call.engine.container_stats_once(id, !style.one_shot).await?;
        return Ok(Reply::json(&view(&stats)));
    }
    let looks = call.engine.container_stats(id).await?;
    let lines = looks.map(|stats| {
        // Texts and numbers only: this cannot fail.
        Ok(Bytes::from(encode::to_vec_line(&view(&stats)).unwrap_or_default()))
    });
    Ok(Reply::endless("application/json", lines))
}

fn view(stats: &stats::Stats) -> Stats {
    let mut view = stats.now.as_deref().map(sample).unwrap_or_default();
    view.id = stats.container.id.to_string();
    view.name = format!("/{}", stats.container.name);
    "linux".clone_into(&mut view.os_type);
    if let Some(before) = stats.before.as_deref() {
        view.preread = time::rfc3339_nano(before.read);
        view.precpu_stats = cpu(before);
    }
    view
}

fn sample(sample: &Sample) -> Stats {
    let usage = &sample.usage;
    Stats {
        read: time::rfc3339_nano(sample.read),
        cpu_stats: cpu(sample),
        memory_stats: memory(&usage.memory),
        networks: sample.networks.iter().map(|(name, of)| (name.clone(), network(of))).collect(),
        pids_stats: PidsStats { current: usage.pids.current, limit: usage.pids.limit },
        blkio_stats: block_io(&usage.block_io),
        ..Stats::default()
    }
}

fn cpu(sample: &Sample) -> CpuStats {
    let cpu = &sample.usage.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.total,
            percpu_usage: cpu.per_cpu.clone(),
            usage_in_kernelmode: cpu.kernel,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: sample.system_cpu,
        online_cpus: sample.online_cpus,
        throttling_data: ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled,
        },
    }
}

fn memory(memory: &MemoryUsage) -> MemoryStats {
    let stats: BTreeMap<String, u64> =
        memory.stat.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage,
        stats,
        failcnt: memory.failures,
        limit: memory.limit,
    }
}

fn network(counters: &InterfaceCounters) -> NetworkStats {
    NetworkStats {
        rx_bytes: counters.rx_bytes,
        rx_packets: counters.rx_packets,
        rx_errors: counters.rx_errors,
        rx_dropped: counters.rx_dropped,
        tx_bytes: counters.tx_bytes,
        tx_packets: counters.tx_packets,
        tx_errors: counters.tx_errors,
        tx_dropped: counters.tx_dropped,
    }
}

fn block_io(io: &BlockIo) -> BlkioStats {
    let entries = |counters: &Option<Vec<IoCounter>>| {
        counters.as_ref().map(|counters| counters.iter().map(entry).collect())
    };
    BlkioStats {
        io_service_bytes_recursive: entries(&io.service_bytes),
        io_serviced_recursive: entries(&io.serviced),
        io_queue_recursive: entries(&io.queued),
        io_service_time_recursive: entries(&io.service_time),
        io_wait_time_recursive: entries(&io.wait_time),
        io_merged_recursive: entries(&io.merged),
        io_time_recursive: entries(&io.time),
        sectors_recursive: entries(&io.sectors),
    }
}

fn entry(counter: &IoCounter) -> BlkioStatEntry {
    BlkioStatEntry {
        major: counter.major,
        minor: counter.minor,
        op: counter.operation.clone(),
        value: counter.value,
    }
}
