//! Limits of a container's control group, in Docker's terms.
//!
//! A zero, an empty text and `None` are "not set", as in moby `api/types/container/hostconfig.go`: what was asked for
//! must come back as it was, and what it means depends on the host ([`crate::oci`]). Kept with the container's facts, so
//! fields are only ever added.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Relative weight.
    pub cpu_shares: i64,
    /// In billionths of a CPU.
    pub nano_cpus: i64,
    /// In microseconds.
    pub cpu_period: i64,
    /// In microseconds.
    pub cpu_quota: i64,
    /// In microseconds.
    pub cpu_realtime_period: i64,
    /// In microseconds.
    pub cpu_realtime_runtime: i64,
    /// `0-2,4`.
    pub cpuset_cpus: String,
    /// `0-2,4`.
    pub cpuset_mems: String,
    /// In bytes.
    pub memory: i64,
    /// In bytes.
    pub memory_reservation: i64,
    /// Memory and swap together, in bytes; −1 is unlimited.
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// The kernel must not kill it when memory is short.
    pub oom_kill_disable: Option<bool>,
    /// Processes; 0 is unlimited.
    pub pids_limit: Option<i64>,
    /// Relative weight, 10 to 1000.
    pub blkio_weight: u16,
    /// Relative weights for devices.
    pub blkio_weight_device: Option<Vec<DeviceWeight>>,
    /// In bytes per second.
    pub blkio_read_bps: Option<Vec<DeviceRate>>,
    /// In bytes per second.
    pub blkio_write_bps: Option<Vec<DeviceRate>>,
    /// In operations per second.
    pub blkio_read_iops: Option<Vec<DeviceRate>>,
    /// In operations per second.
    pub blkio_write_iops: Option<Vec<DeviceRate>>,
}

/// A weight for one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceWeight {
    /// On the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A limit for one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceRate {
    /// On the host.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

impl Resources {
    /// Paths of the block devices that limits name.
    pub fn block_devices(&self) -> impl Iterator<Item = &str> {
        let rates = [
            &self.blkio_read_bps,
            &self.blkio_write_bps,
            &self.blkio_read_iops,
            &self.blkio_write_iops,
        ];
        let rates = rates.into_iter().flatten().flatten().map(|limit| limit.path.as_str());
        rates.chain(self.blkio_weight_device.iter().flatten().map(|limit| limit.path.as_str()))
    }

    /// Take over what `update` sets; the rest stays (moby `daemon/container/container_unix.go`, `UpdateContainer`).
    ///
    /// # Errors
    /// [`Error::ConflictingUpdate`] for what contradicts what is set; then nothing has changed.
    pub fn take_over(&mut self, update: &Self) -> Result<()> {
        self.must_go_with(update)?;
        let numbers = [
            (&mut self.cpu_shares, update.cpu_shares),
            (&mut self.nano_cpus, update.nano_cpus),
            (&mut self.cpu_period, update.cpu_period),
            (&mut self.cpu_quota, update.cpu_quota),
            (&mut self.cpu_realtime_period, update.cpu_realtime_period),
            (&mut self.cpu_realtime_runtime, update.cpu_realtime_runtime),
            (&mut self.memory, update.memory),
            (&mut self.memory_reservation, update.memory_reservation),
            (&mut self.memory_swap, update.memory_swap),
        ];
        for (mine, new) in numbers {
            if new != 0 {
                *mine = new;
            }
        }
        if update.blkio_weight != 0 {
            self.blkio_weight = update.blkio_weight;
        }
        for (mine, new) in [
            (&mut self.cpuset_cpus, &update.cpuset_cpus),
            (&mut self.cpuset_mems, &update.cpuset_mems),
        ] {
            if !new.is_empty() {
                mine.clone_from(new);
            }
        }
        set(&mut self.pids_limit, update.pids_limit.as_ref());
        set(&mut self.blkio_weight_device, update.blkio_weight_device.as_ref());
        set(&mut self.blkio_read_bps, update.blkio_read_bps.as_ref());
        set(&mut self.blkio_write_bps, update.blkio_write_bps.as_ref());
        set(&mut self.blkio_read_iops, update.blkio_read_iops.as_ref());
        set(&mut self.blkio_write_iops, update.blkio_write_iops.as_ref());
        Ok(())
    }

    /// CPUs and quotas are two ways to say the same, and only one of them counts.
    fn must_go_with(&self, update: &Self) -> Result<()> {
        let conflicts = [
            (
                update.nano_cpus > 0 && self.cpu_period > 0,
                "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
            ),
            (
                update.nano_cpus > 0 && self.cpu_quota > 0,
                "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
            ),
            (
                update.cpu_period > 0 && self.nano_cpus > 0,
                "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
            ),
            (
                update.cpu_quota > 0 && self.nano_cpus > 0,
                "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
            ),
            (
                update.memory != 0 && update.memory > self.memory_swap && update.memory_swap == 0,
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ),
        ];
        match conflicts.into_iter().find(|(conflict, _)| *conflict) {
            Some((_, reason)) => Err(Error::ConflictingUpdate(reason)),
            None => Ok(()),
        }
    }
}

fn set<T: Clone>(mine: &mut Option<T>, new: Option<&T>) {
    if let Some(new) = new {
        *mine = Some(new.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mentioned_stays() {
        let mut resources = Resources {
            memory: 100,
            memory_swap: 200,
            cpuset_cpus: "0".into(),
            blkio_read_bps: Some(vec![DeviceRate { path: "/dev/sda".into(), rate: 1 }]),
            ..Resources::default()
        };
        let update = Resources {
            memory: 150,
            pids_limit: Some(5),
            blkio_read_bps: Some(Vec::new()),
            ..Resources::default()
        };
        resources.take_over(&update).unwrap();
        assert_eq!(
            (resources.memory, resources.memory_swap, resources.pids_limit),
            (150, 200, Some(5))
        );
        assert_eq!((resources.cpuset_cpus.as_str(), resources.blkio_read_bps), ("0", Some(vec![])));
    }

    #[test]
    fn what_contradicts_changes_nothing() {
        let before = Resources { nano_cpus: 5, memory: 100, ..Resources::default() };
        let mut resources = before.clone();
        let updates = [
            (
                Resources { cpu_quota: 5, ..Resources::default() },
                "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
            ),
            (
                Resources { memory: 150, cpu_shares: 7, ..Resources::default() },
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ),
        ];
        for (update, text) in updates {
            assert_eq!(resources.take_over(&update).unwrap_err().to_string(), text);
            assert_eq!(resources, before);
        }
    }

    #[test]
    fn all_block_devices_are_found() {
        let rate = |path: &str| Some(vec![DeviceRate { path: path.into(), rate: 1 }]);
        let resources = Resources {
            blkio_weight_device: Some(vec![DeviceWeight { path: "e".into(), weight: 10 }]),
            blkio_read_bps: rate("a"),
            blkio_write_bps: rate("b"),
            blkio_read_iops: rate("c"),
            blkio_write_iops: rate("d"),
            ..Resources::default()
        };
        assert_eq!(resources.block_devices().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    }
}
