//! The answer of `GET /containers/{id}/json`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ContainerConfig, MountPoint};
use crate::distribution::Descriptor;
use crate::host_config::{HostConfig, PortMap};
use crate::networks::EndpointSettings;

/// Everything about one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// 64 hex digits.
    pub id: String,
    /// RFC 3339.
    pub created: String,
    /// The program that runs.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it is doing.
    pub state: State,
    /// The image's id.
    pub image: String,
    /// Path on the host.
    pub resolv_conf_path: String,
    /// Path on the host.
    pub hostname_path: String,
    /// Path on the host.
    pub hosts_path: String,
    /// Path on the host; empty unless the log driver writes a file.
    pub log_path: String,
    /// With a slash before it; never empty.
    pub name: String,
    /// How often the restart policy started it again.
    pub restart_count: i64,
    /// The snapshotter.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// The SELinux label of its mounts.
    pub mount_label: String,
    /// The SELinux label of its processes.
    pub process_label: String,
    /// The AppArmor profile of its processes.
    pub app_armor_profile: String,
    /// `null` when there are none.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// What depends on the host: as sent, completed by defaults.
    pub host_config: HostConfig,
    /// Where its files are; up to 1.51.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Where its files are; from 1.52 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Bytes that it wrote; only on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes of all its files; only on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Never null.
    pub mounts: Vec<MountPoint>,
    /// The rest of its configuration.
    pub config: ContainerConfig,
    /// How it can be reached.
    pub network_settings: NetworkSettings,
    /// The manifest for its platform; from 1.48 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
}

/// What a container is doing. Clients decode a closed set: nothing may be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Made, never started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and will be started again.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its process ended.
    Exited,
    /// Its removal failed.
    Dead,
}

impl ContainerState {
    /// The words of all states, in the order of Docker's messages.
    pub const NAMES: &[&str] =
        &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// The state of a container and how it came about. Everything but `health` is always present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    /// In one word.
    pub status: ContainerState,
    /// Also true when paused or waiting for its restart.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Waiting for its restart.
    pub restarting: bool,
    /// Whether the kernel killed it for its use of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Whether its removal failed.
    pub dead: bool,
    /// On the host; 0 when stopped.
    pub pid: u32,
    /// Of the last run.
    pub exit_code: i64,
    /// Why it could not be started.
    pub error: String,
    /// RFC 3339; Go's zero time when it never was.
    pub started_at: String,
    /// RFC 3339; of the run before while it runs.
    pub finished_at: String,
    /// Absent without a health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// How a container is, by its own health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// How many checks failed in a row.
    pub failing_streak: i64,
    /// The last checks, oldest first; never null.
    pub log: Vec<HealthResult>,
}

/// The result of one health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthResult {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0 is healthy; −1 when it took too long.
    pub exit_code: i64,
    /// What it printed, cut.
    pub output: String,
}

/// Where the files of a container are, as daemons with graph drivers told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DriverData {
    /// `null` with snapshotters.
    pub data: Option<BTreeMap<String, String>>,
    /// The snapshotter.
    pub name: String,
}

/// Where the files of a container are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// Its root file system.
    #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<RootFsStorage>,
}

/// The root file system of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFsStorage {
    /// A snapshot of containerd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<RootFsSnapshot>,
}

/// A snapshot of containerd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootFsSnapshot {
    /// The snapshotter.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// How a container can be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// The id of its network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// The path of its network namespace.
    pub sandbox_key: String,
    /// Where its ports are published. Never null, but the value of a port that is not published is.
    pub ports: PortMap,
    /// By name; never null, nor is a value.
    pub networks: BTreeMap<String, EndpointSettings>,
    /// Only up to 1.51, and only on the network `bridge`.
    #[serde(flatten)]
    pub legacy: Option<LegacyBridgeSettings>,
}

/// The endpoint on the network `bridge`, repeated above all networks; up to 1.51.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LegacyBridgeSettings {
    /// The endpoint.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Without prefix length.
    pub gateway: String,
    /// Without prefix length.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// In bits.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Without prefix length.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// In bits.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// Without prefix length.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Colon separated.
    pub mac_address: String,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::host_config::PortBinding;

    #[test]
    fn words_of_states_agree() {
        use ContainerState::{Created, Dead, Exited, Paused, Removing, Restarting, Running};
        let all = [Created, Running, Paused, Restarting, Removing, Exited, Dead];
        assert_eq!(all.map(ContainerState::name).as_slice(), ContainerState::NAMES);
        for state in all {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }

    #[test]
    fn a_created_container() {
        let inspect = ContainerInspect {
            id: "ab".repeat(32),
            created: "2024-01-02T03:04:05.5Z".to_owned(),
            name: "/web".to_owned(),
            state: State {
                started_at: crate::time::ZERO.to_owned(),
                finished_at: crate::time::ZERO.to_owned(),
                ..State::default()
            },
            ..ContainerInspect::default()
        };
        let json = serde_json::to_string(&inspect).unwrap();
        expect![[r#"{"Id":"abababababababababababababababababababababababababababababababab","Created":"2024-01-02T03:04:05.5Z","Path":"","Args":[],"State":{"Status":"created","Running":false,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":0,"Error":"","StartedAt":"0001-01-01T00:00:00Z","FinishedAt":"0001-01-01T00:00:00Z"},"Image":"","ResolvConfPath":"","HostnamePath":"","HostsPath":"","LogPath":"","Name":"/web","RestartCount":0,"Driver":"","Platform":"","MountLabel":"","ProcessLabel":"","AppArmorProfile":"","ExecIDs":null,"HostConfig":HOST,"Mounts":[],"Config":CONFIG,"NetworkSettings":{"SandboxID":"","SandboxKey":"","Ports":{},"Networks":{}}}"#]].assert_eq(&json.replace(&serde_json::to_string(&HostConfig::default()).unwrap(), "HOST").replace(
            &serde_json::to_string(&ContainerConfig::default()).unwrap(),
            "CONFIG",
        ));
    }

    #[test]
    fn published_and_exposed_ports() {
        let settings = NetworkSettings {
            ports: BTreeMap::from([
                ("443/tcp".to_owned(), None),
                (
                    "80/tcp".to_owned(),
                    Some(vec![
                        PortBinding { host_ip: "0.0.0.0".to_owned(), host_port: "8080".to_owned() },
                        PortBinding { host_ip: "::".to_owned(), host_port: "8080".to_owned() },
                    ]),
                ),
            ]),
            ..NetworkSettings::default()
        };
        expect![[r#"{"SandboxID":"","SandboxKey":"","Ports":{"443/tcp":null,"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]},"Networks":{}}"#]]
        .assert_eq(&serde_json::to_string(&settings).unwrap());
    }

    #[test]
    fn old_versions_repeat_the_bridge() {
        let settings = NetworkSettings {
            legacy: Some(LegacyBridgeSettings {
                ip_address: "172.17.0.2".to_owned(),
                ip_prefix_len: 16,
                ..Default::default()
            }),
            ..NetworkSettings::default()
        };
        expect![[r#"{"SandboxID":"","SandboxKey":"","Ports":{},"Networks":{},"EndpointID":"","Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"IPAddress":"172.17.0.2","IPPrefixLen":16,"IPv6Gateway":"","MacAddress":""}"#]]
        .assert_eq(&serde_json::to_string(&settings).unwrap());
    }

    #[test]
    fn storage_names_the_snapshotter() {
        let storage = Storage {
            root_fs: Some(RootFsStorage {
                snapshot: Some(RootFsSnapshot { name: "overlayfs".to_owned() }),
            }),
        };
        assert_eq!(
            serde_json::to_string(&storage).unwrap(),
            r#"{"RootFS":{"Snapshot":{"Name":"overlayfs"}}}"#
        );
        let data = DriverData { name: "overlayfs".to_owned(), data: None };
        assert_eq!(serde_json::to_string(&data).unwrap(), r#"{"Data":null,"Name":"overlayfs"}"#);
    }
}
