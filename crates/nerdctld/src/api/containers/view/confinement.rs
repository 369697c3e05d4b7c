//! What of the host a container has, in the host configuration that inspect shows.

use std::collections::BTreeMap;

use docker_wire::host_config::{HostConfig, ThrottleDevice, WeightDevice};
use engine::containers::ContainerDetails;
use engine::containers::shares::IpcShare;
use engine::containers::spec::confinement::Resources;
use engine::containers::spec::confinement::resources::DeviceRate;

/// What may have changed since the request was recorded: limits, and the names of joined containers.
pub(super) fn bring_up_to_date(shown: &mut HostConfig, details: &ContainerDetails) {
    show_resources(shown, &details.resources);
    let shares = &details.container.shares;
    if let Some(id) = &shares.pid_of {
        shown.pid_mode = format!("container:{id}");
    }
    if let IpcShare::Of(id) = &shares.ipc {
        shown.ipc_mode = format!("container:{id}");
    }
    if !shown.privileged {
        shown.masked_paths.get_or_insert_with(|| details.masked_paths.clone());
        shown.readonly_paths.get_or_insert_with(|| details.readonly_paths.clone());
    }
}

/// What can be told of a container whose request nobody recorded.
pub(super) fn derive(shown: &mut HostConfig, details: &ContainerDetails) {
    let parts = &details.host_parts;
    let word = |host: bool, otherwise: &str| {
        if host { "host".to_owned() } else { otherwise.to_owned() }
    };
    shown.privileged = parts.privileged;
    shown.readonly_rootfs = parts.readonly_rootfs;
    shown.oom_score_adj = parts.oom_score_adj;
    shown.pid_mode = word(parts.pid, "");
    shown.uts_mode = word(parts.uts, "");
    shown.cgroupns_mode = word(parts.cgroup, "private");
    shown.ipc_mode = match &details.container.shares.ipc {
        IpcShare::Shareable(_) => "shareable".to_owned(),
        _ => word(parts.ipc, "private"),
    };
    if let IpcShare::Shareable(bytes) = details.container.shares.ipc {
        shown.shm_size = i64::try_from(bytes).unwrap_or(i64::MAX);
    }
    shown.annotations = BTreeMap::clone(&details.container.annotations);
}

fn show_resources(shown: &mut HostConfig, now: &Resources) {
    let rates = |list: &Option<Vec<DeviceRate>>| {
        let device =
            |limit: &DeviceRate| ThrottleDevice { path: limit.path.clone(), rate: limit.rate };
        list.as_ref().map(|list| list.iter().map(device).collect())
    };
    shown.cpu_shares = now.cpu_shares;
    shown.nano_cpus = now.nano_cpus;
    shown.cpu_period = now.cpu_period;
    shown.cpu_quota = now.cpu_quota;
    shown.cpu_realtime_period = now.cpu_realtime_period;
    shown.cpu_realtime_runtime = now.cpu_realtime_runtime;
    shown.cpuset_cpus.clone_from(&now.cpuset_cpus);
    shown.cpuset_mems.clone_from(&now.cpuset_mems);
    shown.memory = now.memory;
    shown.memory_reservation = now.memory_reservation;
    shown.memory_swap = now.memory_swap;
    shown.memory_swappiness = now.memory_swappiness;
    shown.oom_kill_disable = now.oom_kill_disable.or(shown.oom_kill_disable.map(|_| false));
    shown.pids_limit = now.pids_limit;
    shown.blkio_weight = now.blkio_weight;
    shown.blkio_weight_device = now.blkio_weight_device.as_ref().map(|list| {
        let device = |limit: &engine::containers::spec::confinement::resources::DeviceWeight| {
            WeightDevice { path: limit.path.clone(), weight: limit.weight }
        };
        list.iter().map(device).collect()
    });
    shown.blkio_device_read_bps = rates(&now.blkio_read_bps);
    shown.blkio_device_write_bps = rates(&now.blkio_write_bps);
    shown.blkio_device_read_iops = rates(&now.blkio_read_iops);
    shown.blkio_device_write_iops = rates(&now.blkio_write_iops);
}
