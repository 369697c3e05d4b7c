//! The part of a container's configuration that depends on the host.
//!
//! Source: moby `api/types/container/hostconfig.go`, `api/types/mount`, `api/types/blkiodev`; docker/go-units
//! `ulimit.go`.

mod mounts;
mod resources;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use mounts::{BindOptions, ImageOptions, Mount, MountDriver, TmpfsOptions, VolumeOptions};
pub use resources::{DeviceMapping, DeviceRequest, ThrottleDevice, Ulimit, WeightDevice};

/// Where the ports of a container are published: `80/tcp` → addresses. `None` is `null`: exposed only.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// moby's `container.HostConfig`.
///
/// Goes both ways: create takes it, it is kept, and inspect gives it back. Lists come back as they were sent, so
/// `null` and `[]` must stay apart: they are `Option<Vec<_>>`. moby embeds the struct `Resources` here; its fields
/// are written out, between `isolation` and `mounts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `source:destination[:options]`.
    pub binds: Option<Vec<String>>,
    /// A file on the client's side.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Where output goes.
    pub log_config: LogConfig,
    /// `bridge`, `host`, `none`, `container:<id>`, a network.
    pub network_mode: String,
    /// Which ports to publish where.
    pub port_bindings: Option<PortMap>,
    /// What to do when the process ends.
    pub restart_policy: RestartPolicy,
    /// Whether to remove the container when its process ends.
    pub auto_remove: bool,
    /// The driver of volumes in `binds`.
    pub volume_driver: String,
    /// Containers whose volumes to take, with `:ro` or `:rw`.
    pub volumes_from: Option<Vec<String>>,
    /// Height and width of the terminal at the start.
    pub console_size: [u64; 2],
    /// For the runtime.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Capabilities beyond the default.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities of the default to go without.
    pub cap_drop: Option<Vec<String>>,
    /// `private`, `host`.
    pub cgroupns_mode: String,
    /// Addresses of name servers.
    pub dns: Option<Vec<String>>,
    /// Options for `resolv.conf`.
    pub dns_options: Option<Vec<String>>,
    /// Search domains for `resolv.conf`.
    pub dns_search: Option<Vec<String>>,
    /// `name:address` for the hosts file.
    pub extra_hosts: Option<Vec<String>>,
    /// Groups of the process beyond the user's.
    pub group_add: Option<Vec<String>>,
    /// `private`, `shareable`, `host`, `none`, `container:<id>`.
    pub ipc_mode: String,
    /// `container:<id>` to share its cgroup.
    pub cgroup: String,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// How readily the kernel kills it when memory is short.
    pub oom_score_adj: i64,
    /// `host`, `container:<id>`, or empty for its own.
    pub pid_mode: String,
    /// Whether it may do nearly everything.
    pub privileged: bool,
    /// Whether to publish all exposed ports.
    pub publish_all_ports: bool,
    /// Whether its root file system is read-only.
    pub readonly_rootfs: bool,
    /// `seccomp=…`, `apparmor=…`, `no-new-privileges`, `label=…`.
    pub security_opt: Option<Vec<String>>,
    /// Options for the storage driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    /// Paths for tmpfs mounts, with mount options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// `host`, or empty for its own.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `host`, or empty for the daemon's setting.
    pub userns_mode: String,
    /// Of `/dev/shm`, in bytes.
    pub shm_size: i64,
    /// Kernel parameters of its namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// The OCI runtime, by the name that `/info` lists.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// Only for Windows; `default` elsewhere.
    pub isolation: String,
    /// Relative weight.
    pub cpu_shares: i64,
    /// In bytes.
    pub memory: i64,
    /// In billionths of a CPU.
    pub nano_cpus: i64,
    /// Where its cgroup is made.
    pub cgroup_parent: String,
    /// Relative weight, 10 to 1000.
    pub blkio_weight: u16,
    /// Relative weights for devices.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// In bytes per second.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// In bytes per second.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// In operations per second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// In operations per second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
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
    /// Devices of the host to give it.
    pub devices: Option<Vec<DeviceMapping>>,
    /// `c 42:* rmw`.
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Devices to ask drivers for, such as GPUs.
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// In bytes.
    pub memory_reservation: i64,
    /// Memory and swap together, in bytes; −1 is unlimited.
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Whether the kernel must not kill it when memory is short.
    pub oom_kill_disable: Option<bool>,
    /// 0 and −1 are unlimited; `null` leaves it as it is.
    pub pids_limit: Option<i64>,
    /// Limits of the process.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Only for Windows.
    pub cpu_count: i64,
    /// Only for Windows.
    pub cpu_percent: i64,
    /// Only for Windows.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Only for Windows.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
    /// Mounts in the long form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Paths that the container must not see; `null` means the default, `[]` means none.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that the container must not write; `null` means the default, `[]` means none.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether a small init is process 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// Where the output of a container goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// The driver: `json-file`, `none`, …
    #[serde(rename = "Type")]
    pub driver: String,
    /// Its options.
    pub config: Option<BTreeMap<String, String>>,
}

/// What to do when the process of a container ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// Empty, `no`, `always`, `unless-stopped`, `on-failure`; whatever was sent.
    pub name: String,
    /// Only for `on-failure`; 0 is unlimited.
    pub maximum_retry_count: i64,
}

/// Where one port is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Empty for all addresses.
    pub host_ip: String,
    /// A number or a range; empty or `0` for any free port.
    pub host_port: String,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::decode;

    #[test]
    fn the_empty_configuration_has_nulls_where_docker_has_them() {
        expect![[r#"
            {
              "Binds": null,
              "ContainerIDFile": "",
              "LogConfig": {
                "Type": "",
                "Config": null
              },
              "NetworkMode": "",
              "PortBindings": null,
              "RestartPolicy": {
                "Name": "",
                "MaximumRetryCount": 0
              },
              "AutoRemove": false,
              "VolumeDriver": "",
              "VolumesFrom": null,
              "ConsoleSize": [
                0,
                0
              ],
              "CapAdd": null,
              "CapDrop": null,
              "CgroupnsMode": "",
              "Dns": null,
              "DnsOptions": null,
              "DnsSearch": null,
              "ExtraHosts": null,
              "GroupAdd": null,
              "IpcMode": "",
              "Cgroup": "",
              "Links": null,
              "OomScoreAdj": 0,
              "PidMode": "",
              "Privileged": false,
              "PublishAllPorts": false,
              "ReadonlyRootfs": false,
              "SecurityOpt": null,
              "UTSMode": "",
              "UsernsMode": "",
              "ShmSize": 0,
              "Isolation": "",
              "CpuShares": 0,
              "Memory": 0,
              "NanoCpus": 0,
              "CgroupParent": "",
              "BlkioWeight": 0,
              "BlkioWeightDevice": null,
              "BlkioDeviceReadBps": null,
              "BlkioDeviceWriteBps": null,
              "BlkioDeviceReadIOps": null,
              "BlkioDeviceWriteIOps": null,
              "CpuPeriod": 0,
              "CpuQuota": 0,
              "CpuRealtimePeriod": 0,
              "CpuRealtimeRuntime": 0,
              "CpusetCpus": "",
              "CpusetMems": "",
              "Devices": null,
              "DeviceCgroupRules": null,
              "DeviceRequests": null,
              "MemoryReservation": 0,
              "MemorySwap": 0,
              "MemorySwappiness": null,
              "OomKillDisable": null,
              "PidsLimit": null,
              "Ulimits": null,
              "CpuCount": 0,
              "CpuPercent": 0,
              "IOMaximumIOps": 0,
              "IOMaximumBandwidth": 0,
              "MaskedPaths": null,
              "ReadonlyPaths": null
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&HostConfig::default()).unwrap());
    }

    /// Every field, in Docker's order, with a value of its own.
    const FULL: &str = r#"{"Binds":["/a:/b"],"ContainerIDFile":"f","LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}},"NetworkMode":"n","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}],"81/tcp":null},"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"AutoRemove":true,"VolumeDriver":"d","VolumesFrom":["c"],"ConsoleSize":[24,80],"Annotations":{"a":"b"},"CapAdd":["A"],"CapDrop":["B"],"CgroupnsMode":"host","Dns":["1.1.1.1"],"DnsOptions":["x"],"DnsSearch":["y"],"ExtraHosts":["h:1.2.3.4"],"GroupAdd":["g"],"IpcMode":"host","Cgroup":"c","Links":["l"],"OomScoreAdj":-5,"PidMode":"host","Privileged":true,"PublishAllPorts":true,"ReadonlyRootfs":true,"SecurityOpt":["s"],"StorageOpt":{"size":"1g"},"Tmpfs":{"/t":"rw"},"UTSMode":"host","UsernsMode":"host","ShmSize":1,"Sysctls":{"k":"v"},"Runtime":"runc","Isolation":"default","CpuShares":2,"Memory":3,"NanoCpus":4,"CgroupParent":"p","BlkioWeight":5,"BlkioWeightDevice":[{"Path":"/d","Weight":6}],"BlkioDeviceReadBps":[{"Path":"/d","Rate":7}],"BlkioDeviceWriteBps":[{"Path":"/d","Rate":8}],"BlkioDeviceReadIOps":[{"Path":"/d","Rate":9}],"BlkioDeviceWriteIOps":[{"Path":"/d","Rate":10}],"CpuPeriod":11,"CpuQuota":12,"CpuRealtimePeriod":13,"CpuRealtimeRuntime":14,"CpusetCpus":"0","CpusetMems":"1","Devices":[{"PathOnHost":"/h","PathInContainer":"/c","CgroupPermissions":"rwm"}],"DeviceCgroupRules":["r"],"DeviceRequests":[{"Driver":"nvidia","Count":-1,"DeviceIDs":["0"],"Capabilities":[["gpu"]],"Options":{"o":"p"}}],"MemoryReservation":15,"MemorySwap":-1,"MemorySwappiness":0,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[{"Name":"nofile","Hard":17,"Soft":16}],"CpuCount":18,"CpuPercent":19,"IOMaximumIOps":20,"IOMaximumBandwidth":21,"Mounts":[{"Type":"bind","Source":"/s","Target":"/t","ReadOnly":true,"Consistency":"cached","BindOptions":{"Propagation":"rprivate","NonRecursive":true,"CreateMountpoint":true,"ReadOnlyNonRecursive":true,"ReadOnlyForceRecursive":true},"VolumeOptions":{"NoCopy":true,"Labels":{"l":"m"},"Subpath":"sub","DriverConfig":{"Name":"local","Options":{"o":"p"}}},"ImageOptions":{"Subpath":"sub"},"TmpfsOptions":{"SizeBytes":22,"Mode":23,"Options":[["noexec"],["uid","1"]]}}],"MaskedPaths":[],"ReadonlyPaths":["/proc"],"Init":false}"#;

    #[test]
    fn what_was_sent_comes_back() {
        let config: HostConfig = decode::from_slice(FULL.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), FULL);
    }

    #[test]
    fn keys_match_in_any_case() {
        let config: HostConfig = decode::from_slice(FULL.as_bytes()).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(FULL).unwrap();
        let object = value.as_object_mut().unwrap();
        *object = std::mem::take(object)
            .into_iter()
            .map(|(key, value)| (key.to_ascii_lowercase(), value))
            .collect();
        assert_eq!(decode::from_value::<HostConfig>(&value).unwrap(), config);
    }

    #[test]
    fn null_and_empty_lists_stay_apart() {
        let sent = r#"{"Binds":[],"CapAdd":null,"Dns":[],"PortBindings":{},"LogConfig":{"Type":"","Config":{}}}"#;
        let config: HostConfig = decode::from_slice(sent.as_bytes()).unwrap();
        let back = serde_json::to_value(&config).unwrap();
        assert_eq!(back["Binds"], serde_json::json!([]));
        assert_eq!(back["CapAdd"], serde_json::Value::Null);
        assert_eq!(back["PortBindings"], serde_json::json!({}));
        assert_eq!(back["LogConfig"]["Config"], serde_json::json!({}));
        assert_eq!(decode::from_value::<HostConfig>(&back).unwrap(), config, "kept and read again");
    }

    #[test]
    fn every_field_can_be_named() {
        let value: serde_json::Value = serde_json::from_str(FULL).unwrap();
        let set = decode::set_fields::<HostConfig>(&value);
        let keys = value.as_object().unwrap().keys();
        for key in keys.filter(|key| {
            !matches!(
                key.as_str(),
                "MemorySwappiness" | "OomKillDisable" | "PidsLimit" | "MaskedPaths" | "Init"
            )
        }) {
            assert!(
                set.iter().any(|path| path.split('.').next() == Some(key)),
                "{key} is set but not in {set:?}"
            );
        }
        assert!(!set.contains(&"Init".to_owned()), "false is the zero value");
    }
}
