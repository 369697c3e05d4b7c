//! What the client asked for, kept in the container's record and given back by inspect.
//!
//! It is stored completed with Docker's defaults, so that inspect tells tomorrow what held at create. Behaviour never
//! depends on it: the engine does not look inside.

use docker_wire::containers::{ContainerConfig, ContainerCreateRequest};
use docker_wire::decode;
use docker_wire::host_config::HostConfig;
use docker_wire::networks::EndpointSettings;
use engine::oci::{CgroupVersion, HostFacts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Docker's default for `/dev/shm`, in bytes.
pub(in crate::api::containers) const SHM_SIZE: i64 = 64 * 1024 * 1024;

/// The three parts of a create request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api::containers) struct Recorded {
    /// What does not depend on the host.
    pub(in crate::api::containers) config: ContainerConfig,
    /// What does.
    pub(in crate::api::containers) host_config: HostConfig,
    /// Networks.
    pub(in crate::api::containers) networking_config: RecordedNetworks,
}

/// The networks of a create request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::api::containers) struct RecordedNetworks {
    /// By name, as sent.
    pub(in crate::api::containers) endpoints_config: BTreeMap<String, EndpointSettings>,
}

/// The request as it is stored.
pub(super) fn write(
    request: ContainerCreateRequest,
    host: &HostFacts,
) -> engine::containers::Recorded {
    let mut recorded = Recorded {
        config: request.config.unwrap_or_default(),
        host_config: request.host_config.unwrap_or_default(),
        networking_config: RecordedNetworks {
            endpoints_config: request.networking_config.unwrap_or_default().endpoints_config,
        },
    };
    complete(&mut recorded.host_config, host);
    // Texts, numbers and maps of texts: this cannot fail.
    engine::containers::Recorded(serde_json::to_vec(&recorded).unwrap_or_default().into())
}

/// The request as it was stored; `None` if another program wrote something else there.
pub(in crate::api::containers) fn read(stored: &engine::containers::Recorded) -> Option<Recorded> {
    decode::from_slice(&stored.0)
        .inspect_err(
            |error| tracing::warn!(%error, "the recorded request of a container cannot be read"),
        )
        .ok()
}

/// Fill in what dockerd fills in (moby `daemon/create.go`, `daemon/daemon_unix.go`, `adaptContainerSettings`).
pub(in crate::api::containers) fn complete(config: &mut HostConfig, host: &HostFacts) {
    let default = |text: &mut String, value: &str| {
        if text.is_empty() {
            value.clone_into(text);
        }
    };
    if config.network_mode.is_empty() || config.network_mode == "default" {
        "bridge".clone_into(&mut config.network_mode);
    }
    default(&mut config.restart_policy.name, "no");
    default(&mut config.ipc_mode, "private");
    default(&mut config.cgroupns_mode, cgroup_namespace(host));
    default(&mut config.runtime, "runc");
    default(&mut config.log_config.driver, "json-file");
    config.log_config.config.get_or_insert_default();
    config.port_bindings.get_or_insert_default();
    config.oom_kill_disable.get_or_insert_default();
    if config.shm_size == 0 {
        config.shm_size = SHM_SIZE;
    }
    config.security_opt = security_options(config);
}

/// SELinux does not separate who shares the host's processes or memory (moby `daemon/create.go`,
/// `generateSecurityOpt`); tools see that in the options.
fn security_options(config: &HostConfig) -> Option<Vec<String>> {
    const NO_LABEL: &str = "label=disable";
    let given = config.security_opt.clone();
    let labelled = given.iter().flatten().any(|option| option.split('=').next() == Some("label"));
    let shares = config.privileged || config.ipc_mode == "host" || config.pid_mode == "host";
    if labelled || !shares {
        return given;
    }
    Some(given.into_iter().flatten().chain([NO_LABEL.to_owned()]).collect())
}

/// The cgroup namespace that containers get here unless asked otherwise.
pub(in crate::api::containers) fn cgroup_namespace(host: &HostFacts) -> &'static str {
    match host.cgroup_version {
        CgroupVersion::V1 => "host",
        CgroupVersion::V2 => "private",
    }
}
