//! How much of the host a container gets: process, rights, namespaces, devices and limits.
//!
//! Texts of refusals are dockerd's (moby `daemon/container.go`, `daemon/daemon_unix.go`, `daemon/internal/runconfig`).
//! What depends on the host is judged by the engine.

use std::str::FromStr;

use docker_wire::containers::ContainerConfig;
use docker_wire::host_config::{self as wire, HostConfig};
use engine::containers::spec::confinement::devices::{DeviceMapping, DeviceRequest, Devices};
use engine::containers::spec::confinement::resources::{DeviceRate, DeviceWeight, Resources};
use engine::containers::spec::confinement::security::{CapabilityName, Security};
use engine::containers::spec::confinement::{Confinement, Namespaces, Ulimit};

use super::{bad, optional, parse};
use crate::api::error::Refusal;

/// Everything of it.
pub(super) fn decode(config: &ContainerConfig, host: &HostConfig) -> Result<Confinement, Refusal> {
    Ok(Confinement {
        groups: host.group_add.clone().unwrap_or_default(),
        security: security(host)?,
        namespaces: namespaces(config, host)?,
        devices: devices(host)?,
        resources: limits(host)?,
        ulimits: each(&host.ulimits, |limit| {
            Ulimit::new(&limit.name, limit.soft, limit.hard).map_err(|error| bad(error.to_string()))
        })?,
        sysctls: host.sysctls.clone(),
        oom_score_adj: oom_score_adj(host.oom_score_adj)?,
        init: host.init == Some(true),
        shm_size: shm_size(host.shm_size)?,
        readonly_rootfs: host.readonly_rootfs,
        cgroup_parent: optional(&host.cgroup_parent).map(str::to_owned),
        runtime: parse(&host.runtime)?,
    })
}

/// Each element of a list that may be absent.
fn each<T, U>(
    list: &Option<Vec<T>>,
    decode: impl FnMut(&T) -> Result<U, Refusal>,
) -> Result<Vec<U>, Refusal> {
    list.iter().flatten().map(decode).collect()
}

fn security(host: &HostConfig) -> Result<Security, Refusal> {
    let capabilities = |field: &str, names: &Option<Vec<String>>| {
        each(names, |name| {
            CapabilityName::from_str(name).map_err(|error| bad(format!("invalid {field}: {error}")))
        })
    };
    let mut security = Security {
        privileged: host.privileged,
        cap_add: capabilities("CapAdd", &host.cap_add)?,
        cap_drop: capabilities("CapDrop", &host.cap_drop)?,
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        ..Security::default()
    };
    for option in host.security_opt.iter().flatten() {
        security.apply(option).map_err(|error| bad(error.to_string()))?;
    }
    Ok(security)
}

fn namespaces(config: &ContainerConfig, host: &HostConfig) -> Result<Namespaces, Refusal> {
    if !["", "host"].contains(&host.uts_mode.as_str()) {
        return Err(bad(format!("invalid UTS mode: {}", host.uts_mode)));
    }
    let host_uts = host.uts_mode == "host";
    if host_uts && !config.hostname.is_empty() {
        return Err(bad("conflicting options: hostname and the UTS mode"));
    }
    Ok(Namespaces {
        pid: parse(&host.pid_mode)?,
        ipc: parse(&host.ipc_mode)?,
        host_uts,
        cgroup: optional(&host.cgroupns_mode).map(parse).transpose()?,
    })
}

fn devices(host: &HostConfig) -> Result<Devices, Refusal> {
    let mapping = |device: &wire::DeviceMapping| {
        Ok(DeviceMapping {
            on_host: device.path_on_host.clone().into(),
            // As the command line completes them.
            in_container: optional(&device.path_in_container)
                .unwrap_or(&device.path_on_host)
                .into(),
            access: parse(&device.cgroup_permissions)?,
        })
    };
    let request = |request: &wire::DeviceRequest| {
        Ok(DeviceRequest {
            driver: request.driver.clone(),
            count: request.count,
            ids: request.device_ids.clone().unwrap_or_default(),
            capabilities: request.capabilities.clone().unwrap_or_default(),
            options: request.options.clone().unwrap_or_default(),
        })
    };
    Ok(Devices {
        mappings: each(&host.devices, mapping)?,
        rules: each(&host.device_cgroup_rules, |rule| parse(rule))?,
        requests: each(&host.device_requests, request)?,
    })
}

/// Limits of a new container: no processes at all is no limit (moby `container_routes.go`).
fn limits(host: &HostConfig) -> Result<Resources, Refusal> {
    let pids_limit = host.pids_limit.filter(|limit| *limit > 0);
    resources(host).map(|resources| Resources { pids_limit, ..resources })
}

/// Limits, as create and update have them.
pub(in crate::api::containers) fn resources(host: &HostConfig) -> Result<Resources, Refusal> {
    for (given, what) in [(host.io_maximum_bandwidth, "bandwidth"), (host.io_maximum_iops, "IOPs")]
    {
        if given != 0 {
            return Err(bad(format!(
                "invalid option: QoS maximum {what} configuration is not supported on linux"
            )));
        }
    }
    let rates = |list: &Option<Vec<wire::ThrottleDevice>>| {
        let rate = |limit: &wire::ThrottleDevice| DeviceRate {
            path: limit.path.clone(),
            rate: limit.rate,
        };
        list.as_ref().map(|list| list.iter().map(rate).collect())
    };
    let weight = |limit: &wire::WeightDevice| DeviceWeight {
        path: limit.path.clone(),
        weight: limit.weight,
    };
    Ok(Resources {
        cpu_shares: host.cpu_shares,
        nano_cpus: host.nano_cpus,
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        cpu_realtime_period: host.cpu_realtime_period,
        cpu_realtime_runtime: host.cpu_realtime_runtime,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        memory: host.memory,
        memory_reservation: host.memory_reservation,
        memory_swap: host.memory_swap,
        memory_swappiness: host.memory_swappiness,
        oom_kill_disable: host.oom_kill_disable,
        pids_limit: host.pids_limit,
        blkio_weight: host.blkio_weight,
        blkio_weight_device: host
            .blkio_weight_device
            .as_ref()
            .map(|list| list.iter().map(weight).collect()),
        blkio_read_bps: rates(&host.blkio_device_read_bps),
        blkio_write_bps: rates(&host.blkio_device_write_bps),
        blkio_read_iops: rates(&host.blkio_device_read_iops),
        blkio_write_iops: rates(&host.blkio_device_write_iops),
    })
}

fn oom_score_adj(given: i64) -> Result<i32, Refusal> {
    let score = i32::try_from(given).ok().filter(|score| (-1000..=1000).contains(score));
    score.ok_or_else(|| {
        bad(format!("Invalid value {given}, range for oom score adj is [-1000, 1000]"))
    })
}

/// Zero is the default.
fn shm_size(given: i64) -> Result<Option<u64>, Refusal> {
    let size = u64::try_from(given).map_err(|_| bad("SHM size can not be less than 0"))?;
    Ok(Some(size).filter(|size| *size > 0))
}

#[cfg(test)]
mod tests {
    use docker_wire::decode as wire_decode;
    use engine::containers::spec::confinement::security::Seccomp;
    use engine::containers::spec::confinement::{CgroupnsMode, IpcMode, PidMode};
    use serde_json::{Value, json};

    use super::*;

    fn of(host: &Value) -> Result<Confinement, String> {
        let host: HostConfig = wire_decode::from_value(host).unwrap();
        decode(&ContainerConfig::default(), &host).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_asked_for() {
        let asked = of(&json!({
            "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "Privileged": true, "SecurityOpt": ["seccomp=unconfined"],
            "PidMode": "container:x", "IpcMode": "shareable", "UTSMode": "host", "CgroupnsMode": "private",
            "Devices": [{"PathOnHost": "/dev/fuse"}], "DeviceCgroupRules": ["c 1:* r"],
            "DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}],
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": -1}], "Sysctls": {"net.core.somaxconn": "5"},
            "OomScoreAdj": 500, "Init": true, "ShmSize": 1024, "ReadonlyRootfs": true, "CgroupParent": "/p",
            "GroupAdd": ["wheel"], "Memory": 5, "PidsLimit": -3, "MaskedPaths": [],
            "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 7}]
        }))
        .unwrap();
        assert!(matches!(asked.security.seccomp, Seccomp::Unconfined));
        assert_eq!(asked.security.masked_paths, Some(Vec::new()));
        let namespaces = &asked.namespaces;
        assert_eq!(namespaces.pid, PidMode::Container("x".into()));
        assert_eq!((&namespaces.ipc, namespaces.host_uts), (&IpcMode::Shareable, true));
        assert_eq!(namespaces.cgroup, Some(CgroupnsMode::Private));
        let device = &asked.devices.mappings[0];
        assert_eq!(device.in_container, std::path::Path::new("/dev/fuse"));
        assert_eq!(device.access.as_str(), "rwm");
        assert_eq!((asked.oom_score_adj, asked.shm_size, asked.init), (500, Some(1024), true));
        assert_eq!((asked.resources.memory, asked.resources.pids_limit), (5, None));
        assert_eq!(asked.resources.blkio_read_bps.unwrap()[0].rate, 7);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_dockers_words() {
        for (host, expected) in [
            (json!({"CapAdd": ["FLY"]}), "invalid CapAdd: unknown capability: \"CAP_FLY\""),
            (json!({"CapDrop": ["FLY"]}), "invalid CapDrop: unknown capability: \"CAP_FLY\""),
            (json!({"SecurityOpt": ["x"]}), "invalid --security-opt 1: \"x\""),
            (json!({"UTSMode": "x"}), "invalid UTS mode: x"),
            (json!({"PidMode": "x"}), "invalid PID mode: x"),
            (json!({"IpcMode": "x"}), "invalid IPC mode: x"),
            (json!({"CgroupnsMode": "x"}), "invalid cgroup namespace mode: x"),
            (json!({"Runtime": "x"}), "unknown or invalid runtime name: x"),
            (json!({"ShmSize": -1}), "SHM size can not be less than 0"),
            (
                json!({"OomScoreAdj": 1001}),
                "Invalid value 1001, range for oom score adj is [-1000, 1000]",
            ),
            (json!({"Ulimits": [{"Name": "x"}]}), "invalid ulimit type: x"),
            (json!({"DeviceCgroupRules": ["x"]}), "invalid device cgroup rule format: 'x'"),
            (
                json!({"Devices": [{"PathOnHost": "/dev/x", "CgroupPermissions": "q"}]}),
                "invalid device mode: q",
            ),
            (
                json!({"IOMaximumIOps": 5}),
                "invalid option: QoS maximum IOPs configuration is not supported on linux",
            ),
        ] {
            assert_eq!(of(&host).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_name_of_its_own_needs_a_namespace_of_its_own() {
        let config = ContainerConfig { hostname: "box".into(), ..ContainerConfig::default() };
        let host = HostConfig { uts_mode: "host".into(), ..HostConfig::default() };
        let refused = decode(&config, &host).unwrap_err().to_string();
        assert_eq!(refused, "conflicting options: hostname and the UTS mode");
    }
}
