//! Containers: what create takes, what list and inspect give, and the small answers of the other endpoints.
//!
//! Source of every type: moby `api/types/container`.

mod config;
mod create;
mod inspect;
mod list;
mod path_stat;
pub mod status;

use serde::Serialize;

pub use config::{ContainerConfig, HealthConfig};
pub use create::{ContainerCreateRequest, ContainerCreateResponse, NetworkingConfig};
pub use inspect::{
    ContainerInspect, ContainerState, DriverData, Health, HealthResult, LegacyBridgeSettings,
    NetworkSettings, RootFsSnapshot, RootFsStorage, State, Storage,
};
pub use list::{
    ContainerSummary, HealthSummary, HostConfigSummary, NetworkSettingsSummary, PortSummary,
};
pub use path_stat::{PathStat, go_file_mode};

use crate::host_config::HostConfig;

/// One mount of a container, in list and inspect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The volume's name; only volumes have one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub destination: String,
    /// The volume's driver; only volumes have one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The options of the bind as given: `z`, `ro`.
    pub mode: String,
    /// Whether the container may write.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// `rprivate` and its relatives for binds, empty for volumes.
    pub propagation: String,
}

/// The end of `POST /containers/{id}/wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WaitResponse {
    /// Why waiting failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    /// The exit code; −1 when waiting failed.
    pub status_code: i64,
}

/// Why waiting for a container failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WaitError {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The processes of a container, as `ps` prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TopResponse {
    /// One row for each process, one text for each title.
    pub processes: Vec<Vec<String>>,
    /// The columns.
    pub titles: Vec<String>,
}

/// The body of `POST /containers/{id}/update`: the resource limits and the restart policy of a [`HostConfig`].
///
/// moby's struct embeds the same fields; other fields of a host config are unknown keys there and ignored.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(transparent)]
pub struct ContainerUpdateRequest(pub HostConfig);

/// The answer to an update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerUpdateResponse {
    /// `null` when there are none.
    pub warnings: Option<Vec<String>>,
}

/// One path that differs from the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FilesystemChange {
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
    /// Within the container.
    pub path: String,
}

/// What `POST /containers/prune` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerPruneResponse {
    /// Their ids; `null` when there are none.
    pub containers_deleted: Option<Vec<String>>,
    /// In bytes.
    pub space_reclaimed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::to_vec_line;

    fn json<T: Serialize>(value: &T) -> String {
        String::from_utf8(to_vec_line(value).unwrap()).unwrap()
    }

    #[test]
    fn waiting_omits_the_error_when_fine() {
        assert_eq!(json(&WaitResponse { status_code: 137, error: None }), "{\"StatusCode\":137}\n");
        let failed =
            WaitResponse { status_code: -1, error: Some(WaitError { message: "gone".to_owned() }) };
        assert_eq!(json(&failed), "{\"Error\":{\"Message\":\"gone\"},\"StatusCode\":-1}\n");
    }

    #[test]
    fn nothing_pruned_or_warned_is_null() {
        assert_eq!(
            json(&ContainerPruneResponse::default()),
            "{\"ContainersDeleted\":null,\"SpaceReclaimed\":0}\n"
        );
        assert_eq!(json(&ContainerUpdateResponse::default()), "{\"Warnings\":null}\n");
    }

    #[test]
    fn binds_have_neither_name_nor_driver() {
        let bind = MountPoint {
            kind: "bind".to_owned(),
            source: "/a".to_owned(),
            destination: "/b".to_owned(),
            rw: true,
            propagation: "rprivate".to_owned(),
            ..MountPoint::default()
        };
        assert_eq!(
            json(&bind),
            "{\"Type\":\"bind\",\"Source\":\"/a\",\"Destination\":\"/b\",\"Mode\":\"\",\"RW\":true,\"Propagation\":\"rprivate\"}\n"
        );
    }

    #[test]
    fn updates_read_limits_in_any_case() {
        let update: ContainerUpdateRequest = crate::decode::from_slice(
            br#"{"memory":1,"RestartPolicy":{"Name":"always"},"Other":1}"#,
        )
        .unwrap();
        assert_eq!(update.0.memory, 1);
        assert_eq!(update.0.restart_policy.name, "always");
    }
}
