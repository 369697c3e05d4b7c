//! The answer of `GET /system/df`, in the shape of 1.52, in the one before, or in both at once.

use serde::Serialize;

use crate::absent::is_default;
use crate::containers::ContainerSummary;
use crate::images::ImageSummary;
use crate::volumes::Volume;

/// How much disk is used. What was not asked for is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsage {
    /// Up to 1.51; and from 1.52 on unless `verbose` was asked for.
    #[serde(flatten)]
    pub legacy: Option<LegacyDiskUsage>,
    /// From 1.52 on, as the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<DiskUsageTotals<ImageSummary>>,
    /// By containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<DiskUsageTotals<ContainerSummary>>,
    /// By volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<DiskUsageTotals<Volume>>,
    /// By builds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<DiskUsageTotals<BuildCacheRecord>>,
}

/// How much disk one kind of things uses. Zeros are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsageTotals<T> {
    /// Those in use.
    #[serde(skip_serializing_if = "is_default")]
    pub active_count: i64,
    /// Only when `verbose` was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<T>,
    /// Bytes of those not in use.
    #[serde(skip_serializing_if = "is_default")]
    pub reclaimable: i64,
    /// All of them.
    #[serde(skip_serializing_if = "is_default")]
    pub total_count: i64,
    /// In bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub total_size: i64,
}

/// The shape up to 1.51. A list that was asked for is there, if empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LegacyDiskUsage {
    /// Bytes of all images.
    #[serde(skip_serializing_if = "is_default")]
    pub layers_size: i64,
    /// All images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<ImageSummary>>,
    /// All containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<Vec<ContainerSummary>>,
    /// All volumes, with how they are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<Volume>>,
    /// All records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache: Option<Vec<BuildCacheRecord>>,
}

/// One record of the build cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BuildCacheRecord {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Up to 1.41; Docker calls the list of today " Parents", with a blank that nobody dares to remove.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// See [`parent`](Self::parent).
    #[serde(rename = " Parents", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// `regular`, `source.local`, `exec.cachemount`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// For people.
    pub description: String,
    /// Whether a build uses it now.
    pub in_use: bool,
    /// Whether images share it.
    pub shared: bool,
    /// In bytes.
    pub size: i64,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; `null` when never.
    pub last_used_at: Option<String>,
    /// How often.
    pub usage_count: i64,
}

/// What `POST /build/prune` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BuildCachePruneResponse {
    /// Their ids; `null` when there are none.
    pub caches_deleted: Option<Vec<String>>,
    /// In bytes.
    pub space_reclaimed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json<T: Serialize>(value: &T) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn both_shapes_at_once() {
        let usage = DiskUsage {
            legacy: Some(LegacyDiskUsage {
                images: Some(vec![]),
                layers_size: 7,
                ..LegacyDiskUsage::default()
            }),
            image_usage: Some(DiskUsageTotals {
                total_size: 7,
                total_count: 1,
                ..DiskUsageTotals::default()
            }),
            ..DiskUsage::default()
        };
        assert_eq!(
            json(&usage),
            r#"{"LayersSize":7,"Images":[],"ImageUsage":{"TotalCount":1,"TotalSize":7}}"#
        );
        assert_eq!(json(&DiskUsage::default()), "{}");
    }

    #[test]
    fn records_keep_dockers_blank() {
        let record = BuildCacheRecord {
            id: "x".to_owned(),
            parents: vec!["y".to_owned()],
            ..BuildCacheRecord::default()
        };
        assert_eq!(
            json(&record),
            r#"{"ID":"x"," Parents":["y"],"Type":"","Description":"","InUse":false,"Shared":false,"Size":0,"CreatedAt":"","LastUsedAt":null,"UsageCount":0}"#
        );
        assert_eq!(
            json(&BuildCachePruneResponse::default()),
            r#"{"CachesDeleted":null,"SpaceReclaimed":0}"#
        );
    }
}
