//! Volumes.
//!
//! Source: moby `api/types/volume`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// RFC 3339 without fraction.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_at: String,
    /// `local`.
    pub driver: String,
    /// `null` when create had none.
    pub labels: Option<BTreeMap<String, String>>,
    /// The path on the host.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// Of its driver; `null` when create had none.
    pub options: Option<BTreeMap<String, String>>,
    /// `local`.
    pub scope: String,
    /// What the driver tells.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<String, String>,
    /// Only in `/system/df`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<VolumeUsageData>,
}

/// How a volume is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeUsageData {
    /// How many containers mount it; −1 when unknown.
    pub ref_count: i64,
    /// In bytes; −1 when unknown.
    pub size: i64,
}

/// The body of `POST /volumes/create`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeCreateRequest {
    /// Only for swarms.
    pub cluster_volume_spec: Option<Value>,
    /// Empty for `local`.
    pub driver: String,
    /// Becomes `Options`.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Empty for an anonymous volume.
    pub name: String,
}

/// The answer of `GET /volumes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeListResponse {
    /// Never null.
    pub volumes: Vec<Volume>,
    /// `null` when there are none.
    pub warnings: Option<Vec<String>>,
}

/// What `POST /volumes/prune` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumePruneResponse {
    /// Their names; never null.
    pub volumes_deleted: Vec<String>,
    /// In bytes.
    pub space_reclaimed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn a_volume_without_labels() {
        let volume = Volume {
            created_at: "2024-01-02T03:04:05Z".to_owned(),
            driver: "local".to_owned(),
            mountpoint: "/m".to_owned(),
            name: "v".to_owned(),
            options: Some(BTreeMap::new()),
            scope: "local".to_owned(),
            ..Volume::default()
        };
        let list = VolumeListResponse { volumes: vec![volume], warnings: None };
        assert_eq!(
            serde_json::to_string(&list).unwrap(),
            r#"{"Volumes":[{"CreatedAt":"2024-01-02T03:04:05Z","Driver":"local","Labels":null,"Mountpoint":"/m","Name":"v","Options":{},"Scope":"local"}],"Warnings":null}"#
        );
    }

    #[test]
    fn null_and_empty_labels_stay_apart() {
        let request: VolumeCreateRequest =
            decode::from_slice(br#"{"Name":"v","Labels":{},"DriverOpts":null}"#).unwrap();
        assert_eq!((request.labels, request.driver_opts), (Some(BTreeMap::new()), None));
    }

    #[test]
    fn nothing_pruned_is_an_empty_list() {
        let json = serde_json::to_string(&VolumePruneResponse::default()).unwrap();
        assert_eq!(json, r#"{"VolumesDeleted":[],"SpaceReclaimed":0}"#);
    }
}
