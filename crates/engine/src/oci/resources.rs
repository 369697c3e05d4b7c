//! The container's control group: where it is and what it limits.

mod verify;

use names::{ContainerId, Namespace};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};

pub(crate) use verify::verify;

use super::lookups::{BlockNumbers, Lookups};
use super::{Built, CgroupManager, HostFacts, devices};
use crate::containers::spec::confinement::resources::{DeviceRate, DeviceWeight};
use crate::containers::spec::confinement::{Confinement, Resources};

/// The period of quotas that are given in CPUs, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Limits; the memory object is always there, as in nerdctl's specs (`pkg/cmd/container/run_cgroup_linux.go`), whose
/// inspect reads it without a check.
pub(super) fn resources(asked: &Confinement, lookups: &Lookups) -> Built<LinuxResources> {
    let mut resources = limits(&asked.resources, &lookups.block)?;
    resources.set_devices(Some(devices::rules(asked, lookups)?));
    if resources.memory().is_none() {
        resources.set_memory(Some(LinuxMemory::default()));
    }
    Ok(resources)
}

/// What is set, and nothing else: of a container's limits and of a change of them alike (moby `daemon/oci_linux.go`,
/// `WithResources`; `daemon/update_linux.go`).
///
/// # Errors
/// None in practice.
pub(crate) fn limits(asked: &Resources, numbers: &BlockNumbers) -> Built<LinuxResources> {
    let mut resources = LinuxResourcesBuilder::default().build()?;
    resources
        .set_devices(None)
        .set_memory(memory(asked))
        .set_cpu(cpu(asked))
        .set_pids(pids(asked)?)
        .set_block_io(block_io(asked, numbers)?);
    Ok(resources)
}

fn memory(asked: &Resources) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(positive(asked.memory))
        .set_reservation(positive(asked.memory_reservation))
        .set_swap(positive(asked.memory_swap))
        .set_swappiness(asked.memory_swappiness.and_then(|value| u64::try_from(value).ok()))
        .set_disable_oom_killer(asked.oom_kill_disable);
    (memory != LinuxMemory::default()).then_some(memory)
}

fn positive(number: i64) -> Option<i64> {
    (number > 0).then_some(number)
}

fn cpu(asked: &Resources) -> Option<LinuxCpu> {
    let unsigned = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let mut cpu = LinuxCpu::default();
    if asked.nano_cpus > 0 {
        // At most so many as there are processors, so this does not overflow.
        cpu.set_period(Some(CPU_PERIOD)).set_quota(Some(asked.nano_cpus / 10_000));
    }
    if let Some(period) = unsigned(asked.cpu_period) {
        cpu.set_period(Some(period));
    }
    if asked.cpu_quota != 0 {
        cpu.set_quota(Some(asked.cpu_quota));
    }
    cpu.set_shares(unsigned(asked.cpu_shares))
        .set_cpus(text(&asked.cpuset_cpus))
        .set_mems(text(&asked.cpuset_mems))
        .set_realtime_period(unsigned(asked.cpu_realtime_period))
        .set_realtime_runtime(Some(asked.cpu_realtime_runtime).filter(|runtime| *runtime != 0));
    (cpu != LinuxCpu::default()).then_some(cpu)
}

/// −1 takes an earlier limit away.
fn pids(asked: &Resources) -> Built<Option<LinuxPids>> {
    let Some(limit) = asked.pids_limit else { return Ok(None) };
    let limit = if limit > 0 { limit } else { -1 };
    LinuxPidsBuilder::default().limit(limit).build().map(Some)
}

fn block_io(asked: &Resources, numbers: &BlockNumbers) -> Built<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    io.set_weight(Some(asked.blkio_weight).filter(|weight| *weight != 0))
        .set_weight_device(weights(asked.blkio_weight_device.as_ref(), numbers)?)
        .set_throttle_read_bps_device(rates(asked.blkio_read_bps.as_ref(), numbers)?)
        .set_throttle_write_bps_device(rates(asked.blkio_write_bps.as_ref(), numbers)?)
        .set_throttle_read_iops_device(rates(asked.blkio_read_iops.as_ref(), numbers)?)
        .set_throttle_write_iops_device(rates(asked.blkio_write_iops.as_ref(), numbers)?);
    Ok((io != LinuxBlockIo::default()).then_some(io))
}

fn weights(
    asked: Option<&Vec<DeviceWeight>>,
    numbers: &BlockNumbers,
) -> Built<Option<Vec<LinuxWeightDevice>>> {
    let device = |limit: &DeviceWeight| {
        let (major, minor) = numbers.get(&limit.path)?;
        let builder = LinuxWeightDeviceBuilder::default().major(*major).minor(*minor);
        Some(builder.weight(limit.weight).build())
    };
    asked.map(|list| list.iter().filter_map(device).collect()).transpose()
}

fn rates(
    asked: Option<&Vec<DeviceRate>>,
    numbers: &BlockNumbers,
) -> Built<Option<Vec<LinuxThrottleDevice>>> {
    let device = |limit: &DeviceRate| {
        let (major, minor) = numbers.get(&limit.path)?;
        let builder = LinuxThrottleDeviceBuilder::default().major(*major).minor(*minor);
        Some(builder.rate(limit.rate).build())
    };
    asked.map(|list| list.iter().filter_map(device).collect()).transpose()
}

/// `linux.cgroupsPath` as nerdctl forms it; empty where nobody manages control groups (rootless without delegation).
pub(super) fn cgroups_path(
    host: &HostFacts,
    namespace: &Namespace,
    id: &ContainerId,
    parent: Option<&str>,
) -> String {
    let usual_slice = if host.rootless { "user.slice" } else { "system.slice" };
    match (host.cgroup_manager, parent) {
        (CgroupManager::Systemd, parent) => {
            format!("{}:nerdctl:{id}", parent.unwrap_or(usual_slice))
        }
        (CgroupManager::Cgroupfs, Some(parent)) => {
            format!("{}/{id}", parent.trim_end_matches('/'))
        }
        (CgroupManager::Cgroupfs, None) => format!("/{namespace}/{id}"),
        (CgroupManager::None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_a_quota() {
        let asked = Resources { nano_cpus: 1_500_000_000, ..Resources::default() };
        let cpu = cpu(&asked).unwrap();
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
    }

    #[test]
    fn nothing_asked_is_nothing_said() {
        let nothing = limits(&Resources::default(), &BlockNumbers::new()).unwrap();
        assert_eq!(serde_json::to_string(&nothing).unwrap(), "{}");
    }

    #[test]
    fn limits_can_be_taken_away() {
        let asked = Resources {
            pids_limit: Some(0),
            blkio_read_bps: Some(Vec::new()),
            ..Resources::default()
        };
        let limits = limits(&asked, &BlockNumbers::new()).unwrap();
        assert_eq!(
            serde_json::to_value(limits).unwrap(),
            serde_json::json!({
                "pids": {"limit": -1}, "blockIO": {"throttleReadBpsDevice": []}
            })
        );
    }
}
