//! The JSON documents in nerdctl's labels, field by field in Go's order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A Go slice: nothing is written as `null`, and `null` is read as nothing.
mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        items: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Some(items).filter(|items| !items.is_empty()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Option::deserialize(deserializer)?.unwrap_or_default())
    }
}

/// Label `nerdctl/log-config`, and the file `log-config.json` from which loggers and `nerdctl logs` learn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `journald` …; empty if the log URI was given literally.
    #[serde(default)]
    pub driver: String,
    /// Options as the user gave them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub opts: BTreeMap<String, String>,
    /// containerd's socket, as configured.
    #[serde(default)]
    pub address: String,
}

/// One entry of `nerdctl/mounts`: what the user mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// Name of the volume. It is what protects the volume from removal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// `local` for volumes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Options as the user gave them: `ro`, `rw,z`.
    pub mode: String,
    /// Whether it can be written to.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Propagation as the user gave it.
    pub propagation: String,
}

/// One published port, keyed as go-cni's `PortMapping`; also the capability argument of the `portmap` plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortMapping {
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address on the host; `0.0.0.0` if the user gave none.
    #[serde(rename = "HostIP")]
    pub host_ip: String,
}

/// Label `nerdctl/ipc`. Malformed, it makes `nerdctl stop` and `rm` fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipc {
    /// `private`, `host`, `shareable` or `container`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// With `container`: whose namespace is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub victim_container_id: Option<String>,
    /// With `shareable`: where the shared memory is mounted on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_shm_path: Option<String>,
    /// Size of `/dev/shm` as the user gave it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shm_size: String,
}

impl Default for Ipc {
    fn default() -> Self {
        Self {
            mode: "private".to_owned(),
            victim_container_id: None,
            host_shm_path: None,
            shm_size: String::new(),
        }
    }
}

/// Label `nerdctl/host-config`: what nerdctl cannot find in the OCI spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// Relative weight of block I/O; 0 if not given.
    pub blkio_weight: u16,
    /// Where the client wrote the id.
    pub cid_file: String,
    /// Devices given to the container.
    #[serde(with = "nullable")]
    pub devices: Vec<DeviceMapping>,
}

/// A device in [`HostConfig`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Device node on the host.
    pub path_on_host: String,
    /// Device node in the container.
    pub path_in_container: String,
    /// Subset of `rwm`.
    pub cgroup_permissions: String,
}

/// Label `nerdctl/dns`: DNS settings that the user gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsSettings {
    /// Name servers.
    #[serde(rename = "DNSServers", with = "nullable")]
    pub servers: Vec<String>,
    /// Options of resolv.conf.
    #[serde(rename = "DNSResolvConfOptions", with = "nullable")]
    pub options: Vec<String>,
    /// Search domains.
    #[serde(rename = "DNSSearchDomains", with = "nullable")]
    pub search: Vec<String>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Label `nerdctl/healthcheck`. Durations are nanoseconds; zero means the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", …]` or `["NONE"]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable::deserialize")]
    pub test: Vec<String>,
    /// Time between probes, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time a probe may take, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Time in which failures do not count, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
}

/// Label `nerdctl/healthstate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthState {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// Whether the start period is still on.
    pub in_start_period: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go_json::to_string;

    #[test]
    fn documents_are_those_nerdctl_writes() {
        let log = LogConfig {
            driver: "json-file".into(),
            opts: BTreeMap::from([("max-size".into(), "10m".into())]),
            address: "/run/containerd/containerd.sock".into(),
        };
        assert_eq!(
            to_string("", &log).unwrap(),
            r#"{"driver":"json-file","opts":{"max-size":"10m"},"address":"/run/containerd/containerd.sock"}"#
        );
        assert_eq!(to_string("", &LogConfig::default()).unwrap(), r#"{"driver":"","address":""}"#);
        assert_eq!(to_string("", &Ipc::default()).unwrap(), r#"{"mode":"private"}"#);
        assert_eq!(
            to_string("", &HostConfig::default()).unwrap(),
            r#"{"BlkioWeight":0,"CidFile":"","Devices":null}"#
        );
        assert_eq!(
            to_string("", &DnsSettings::default()).unwrap(),
            r#"{"DNSServers":null,"DNSResolvConfOptions":null,"DNSSearchDomains":null}"#
        );
        let check = Healthcheck {
            test: vec!["CMD-SHELL".into(), "a && b".into()],
            interval: 30_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        };
        assert_eq!(
            to_string("", &check).unwrap(),
            r#"{"Test":["CMD-SHELL","a \u0026\u0026 b"],"Interval":30000000000,"Retries":3}"#
        );
        let state = HealthState { status: "starting".into(), ..HealthState::default() };
        assert_eq!(
            to_string("", &state).unwrap(),
            r#"{"Status":"starting","FailingStreak":0,"InStartPeriod":false}"#
        );
        let port = PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".into(),
            host_ip: "0.0.0.0".into(),
        };
        assert_eq!(
            to_string("", &port).unwrap(),
            r#"{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"}"#
        );
    }

    #[test]
    fn a_mount_point_leaves_out_what_a_bind_has_not() {
        let mount = MountPoint {
            r#type: "bind".into(),
            source: "/src".into(),
            destination: "/dst".into(),
            mode: "ro".into(),
            ..MountPoint::default()
        };
        assert_eq!(
            to_string("", &mount).unwrap(),
            r#"{"Type":"bind","Source":"/src","Destination":"/dst","Mode":"ro","RW":false,"Propagation":""}"#
        );
    }

    #[test]
    fn null_lists_are_read() {
        let dns: DnsSettings =
            serde_json::from_str(r#"{"DNSServers":null,"DNSSearchDomains":["a"]}"#).unwrap();
        assert_eq!(dns, DnsSettings { search: vec!["a".into()], ..DnsSettings::default() });
    }
}
