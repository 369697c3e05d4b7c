//! The answer of `GET /info`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::absent::{Empty, is_default};

/// Everything about the daemon and its host. Numbers and most texts must never be missing: programs divide by
/// them and look for words in them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Any text that stays over restarts.
    #[serde(rename = "ID")]
    pub id: String,
    /// All of them.
    pub containers: u64,
    /// Those that run.
    pub containers_running: u64,
    /// Those that are frozen.
    pub containers_paused: u64,
    /// The others.
    pub containers_stopped: u64,
    /// How many there are.
    pub images: u64,
    /// The snapshotter; never empty.
    pub driver: String,
    /// What to know about it; never null.
    pub driver_status: Vec<[String; 2]>,
    /// The kinds of plugins.
    pub plugins: PluginsInfo,
    /// Whether memory can be limited.
    pub memory_limit: bool,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Whether CPU time can be limited.
    pub cpu_cfs_period: bool,
    /// Whether CPU time can be limited.
    pub cpu_cfs_quota: bool,
    /// Whether CPU time can be weighted.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// Whether CPUs can be chosen.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Whether processes can be limited.
    pub pids_limit: bool,
    /// Whether the host forwards IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Up to 1.49.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_nf_iptables: Option<bool>,
    /// Up to 1.49.
    #[serde(rename = "BridgeNfIp6tables", skip_serializing_if = "Option::is_none")]
    pub bridge_nf_ip6tables: Option<bool>,
    /// Whether the daemon runs in debug mode.
    pub debug: bool,
    /// Open files of the daemon.
    #[serde(rename = "NFd")]
    pub n_fd: u64,
    /// Whether the kernel's killing can be switched off.
    pub oom_kill_disable: bool,
    /// Tasks of the daemon.
    pub n_goroutines: u64,
    /// RFC 3339.
    pub system_time: String,
    /// The default.
    pub logging_driver: String,
    /// `systemd`, `cgroupfs`, `none`.
    pub cgroup_driver: String,
    /// `1` or `2`, as a text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup_version: String,
    /// How many follow the events.
    pub n_events_listener: u64,
    /// `uname -r`.
    pub kernel_version: String,
    /// For people: `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: String,
    /// `12`.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// `uname -m`: `x86_64`.
    pub architecture: String,
    /// The key of Docker Hub in credentials files.
    pub index_server_address: String,
    /// How registries are used.
    pub registry_config: Option<RegistryServiceConfig>,
    /// CPUs of the host.
    #[serde(rename = "NCPU")]
    pub n_cpu: u64,
    /// Memory of the host, in bytes.
    pub mem_total: u64,
    /// Only for swarms.
    pub generic_resources: Option<Vec<Empty>>,
    /// Where the daemon keeps its data.
    pub docker_root_dir: String,
    /// Credentials are replaced by `xxxxx`.
    pub http_proxy: String,
    /// Credentials are replaced by `xxxxx`.
    pub https_proxy: String,
    /// Hosts that need no proxy.
    pub no_proxy: String,
    /// The host's name.
    pub name: String,
    /// `key=value`, of the daemon; never null.
    pub labels: Vec<String>,
    /// Whether experimental features are on.
    pub experimental_build: bool,
    /// Three numbers with points between, at least.
    pub server_version: String,
    /// By name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// One of them.
    pub default_runtime: String,
    /// Always the answer of a daemon outside a swarm.
    pub swarm: SwarmInfo,
    /// Whether containers outlive the daemon.
    pub live_restore_enabled: bool,
    /// Only for Windows.
    pub isolation: String,
    /// The program for `--init`.
    pub init_binary: String,
    /// Of containerd.
    pub containerd_commit: Commit,
    /// Of runc.
    pub runc_commit: Commit,
    /// Of the program for `--init`.
    pub init_commit: Commit,
    /// `name=seccomp,profile=builtin`; never null.
    pub security_options: Vec<String>,
    /// Only with a licence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product_license: String,
    /// From which new networks get their subnets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<NetworkAddressPool>,
    /// What guards the host's ports; from 1.49 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    /// Where device descriptions lie; never null.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    /// Devices that can be asked for by name; from 1.50 on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovered_devices: Vec<DeviceInfo>,
    /// How the node resource interface is set; from 1.53 on.
    #[serde(rename = "NRI", skip_serializing_if = "Option::is_none")]
    pub nri: Option<NriInfo>,
    /// Which containerd is used; from 1.46 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containerd: Option<ContainerdInfo>,
    /// For people; never null.
    pub warnings: Vec<String>,
}

/// The kinds of plugins, each with the names of what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PluginsInfo {
    /// `local`.
    pub volume: Vec<String>,
    /// `bridge`, `host`, `null`, …
    pub network: Vec<String>,
    /// `null` when there are none.
    pub authorization: Option<Vec<String>>,
    /// `json-file`, …
    pub log: Vec<String>,
}

/// How registries are used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegistryServiceConfig {
    /// Up to 1.46: `Some(None)` is its `null`.
    #[serde(
        rename = "AllowNondistributableArtifactsCIDRs",
        skip_serializing_if = "Option::is_none"
    )]
    pub allow_nondistributable_artifacts_cidrs: Option<Option<Vec<String>>>,
    /// Up to 1.46: `Some(None)` is its `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_nondistributable_artifacts_hostnames: Option<Option<Vec<String>>>,
    /// Subnets whose registries need no certificate; every entry a real prefix.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// By name.
    pub index_configs: BTreeMap<String, IndexInfo>,
    /// Of Docker Hub; `null` when there are none.
    pub mirrors: Option<Vec<String>>,
}

/// How one registry is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IndexInfo {
    /// `docker.io`.
    pub name: String,
    /// Never null.
    pub mirrors: Vec<String>,
    /// Whether it must have a certificate.
    pub secure: bool,
    /// Whether it is Docker Hub.
    pub official: bool,
}

/// An OCI runtime. Keys are lower-case here.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// The program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
    /// containerd's name for its shim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime_type: String,
    /// For the shim.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Value>,
    /// What it can do; from 1.44 on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<String, String>,
}

/// The swarm that the daemon belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SwarmInfo {
    /// Empty outside a swarm.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Empty outside a swarm.
    pub node_addr: String,
    /// `inactive`; never empty, which clients take for active.
    pub local_node_state: String,
    /// Whether it manages the swarm.
    pub control_available: bool,
    /// Why it is not well.
    pub error: String,
    /// `null` outside a swarm.
    pub remote_managers: Option<Vec<SwarmPeer>>,
}

impl Default for SwarmInfo {
    /// A daemon outside a swarm.
    fn default() -> Self {
        Self {
            node_id: String::new(),
            node_addr: String::new(),
            local_node_state: "inactive".to_owned(),
            control_available: false,
            error: String::new(),
            remote_managers: None,
        }
    }
}

/// Another manager of a swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SwarmPeer {
    /// Its id.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Its address.
    pub addr: String,
}

/// The sources that a program was built from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// `N/A` when unknown.
    #[serde(rename = "ID")]
    pub id: String,
    /// The same again; up to 1.48, else old clients print a note.
    #[serde(rename = "Expected", skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// Subnets for new networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkAddressPool {
    /// All of them: `172.16.0.0/12`.
    pub base: String,
    /// The prefix length of each, in bits.
    pub size: u8,
}

/// A device that can be asked for by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Who found it: `cdi`.
    #[serde(rename = "Source")]
    pub source: String,
    /// Its name: `vendor.com/gpu=0`.
    #[serde(rename = "ID")]
    pub id: String,
}

/// How the node resource interface is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NriInfo {
    /// What to know about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub info: Vec<[String; 2]>,
}

/// What guards the host's ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FirewallInfo {
    /// `iptables`, `nftables`.
    pub driver: String,
    /// What to know about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub info: Vec<[String; 2]>,
}

/// Which containerd is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerdInfo {
    /// Its socket.
    #[serde(skip_serializing_if = "is_default")]
    pub address: String,
    /// Its namespaces.
    pub namespaces: ContainerdNamespaces,
}

/// The namespaces of containerd that are used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerdNamespaces {
    /// For containers.
    pub containers: String,
    /// For plugins.
    pub plugins: String,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_idle_daemon() {
        let info = Info {
            driver: "overlayfs".to_owned(),
            driver_status: vec![[
                "driver-type".to_owned(),
                "io.containerd.snapshotter.v1".to_owned(),
            ]],
            runtimes: BTreeMap::from([(
                "runc".to_owned(),
                Runtime { path: "runc".to_owned(), ..Runtime::default() },
            )]),
            ..Info::default()
        };
        expect![[r#"
            {
              "ID": "",
              "Containers": 0,
              "ContainersRunning": 0,
              "ContainersPaused": 0,
              "ContainersStopped": 0,
              "Images": 0,
              "Driver": "overlayfs",
              "DriverStatus": [
                [
                  "driver-type",
                  "io.containerd.snapshotter.v1"
                ]
              ],
              "Plugins": {
                "Volume": [],
                "Network": [],
                "Authorization": null,
                "Log": []
              },
              "MemoryLimit": false,
              "SwapLimit": false,
              "CpuCfsPeriod": false,
              "CpuCfsQuota": false,
              "CPUShares": false,
              "CPUSet": false,
              "PidsLimit": false,
              "IPv4Forwarding": false,
              "Debug": false,
              "NFd": 0,
              "OomKillDisable": false,
              "NGoroutines": 0,
              "SystemTime": "",
              "LoggingDriver": "",
              "CgroupDriver": "",
              "NEventsListener": 0,
              "KernelVersion": "",
              "OperatingSystem": "",
              "OSVersion": "",
              "OSType": "",
              "Architecture": "",
              "IndexServerAddress": "",
              "RegistryConfig": null,
              "NCPU": 0,
              "MemTotal": 0,
              "GenericResources": null,
              "DockerRootDir": "",
              "HttpProxy": "",
              "HttpsProxy": "",
              "NoProxy": "",
              "Name": "",
              "Labels": [],
              "ExperimentalBuild": false,
              "ServerVersion": "",
              "Runtimes": {
                "runc": {
                  "path": "runc"
                }
              },
              "DefaultRuntime": "",
              "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": false,
                "Error": "",
                "RemoteManagers": null
              },
              "LiveRestoreEnabled": false,
              "Isolation": "",
              "InitBinary": "",
              "ContainerdCommit": {
                "ID": ""
              },
              "RuncCommit": {
                "ID": ""
              },
              "InitCommit": {
                "ID": ""
              },
              "SecurityOptions": [],
              "CDISpecDirs": [],
              "Warnings": []
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&info).unwrap());
    }

    #[test]
    fn fields_of_older_versions() {
        let info = Info {
            bridge_nf_iptables: Some(false),
            bridge_nf_ip6tables: Some(false),
            registry_config: Some(RegistryServiceConfig {
                allow_nondistributable_artifacts_cidrs: Some(None),
                allow_nondistributable_artifacts_hostnames: Some(None),
                ..RegistryServiceConfig::default()
            }),
            runc_commit: Commit { id: "N/A".to_owned(), expected: Some("N/A".to_owned()) },
            ..Info::default()
        };
        let json = serde_json::to_string(&info).unwrap();
        for expected in [
            r#""BridgeNfIptables":false,"BridgeNfIp6tables":false,"#,
            r#""RegistryConfig":{"AllowNondistributableArtifactsCIDRs":null,"AllowNondistributableArtifactsHostnames":null,"InsecureRegistryCIDRs":[],"IndexConfigs":{},"Mirrors":null},"#,
            r#""RuncCommit":{"ID":"N/A","Expected":"N/A"},"#,
        ] {
            assert!(json.contains(expected), "{expected} in {json}");
        }
    }
}
