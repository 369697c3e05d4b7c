//! The daemon and its host: version, info, disk usage.
//!
//! Source: moby `api/types/system`, `api/types/swarm/swarm.go` (`Info`), `api/types/build/cache.go`,
//! `daemon/server/router/system`.

mod disk_usage;
mod info;

use std::collections::BTreeMap;

use serde::Serialize;

pub use disk_usage::{
    BuildCachePruneResponse, BuildCacheRecord, DiskUsage, DiskUsageTotals, LegacyDiskUsage,
};
pub use info::{
    Commit, ContainerdInfo, ContainerdNamespaces, DeviceInfo, FirewallInfo, IndexInfo, Info,
    NetworkAddressPool, NriInfo, PluginsInfo, RegistryServiceConfig, Runtime, SwarmInfo, SwarmPeer,
};

use crate::absent::is_default;

/// The answer of `GET /version`. Mind the spelling: `ApiVersion`, but `MinAPIVersion`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// Who made the daemon.
    pub platform: PlatformInfo,
    /// Of the daemon: three numbers with points between, at least.
    pub version: String,
    /// The newest that it speaks.
    pub api_version: String,
    /// The oldest that it speaks.
    #[serde(rename = "MinAPIVersion", skip_serializing_if = "String::is_empty")]
    pub min_api_version: String,
    /// `linux`.
    pub os: String,
    /// In Go's spelling: `amd64`.
    pub arch: String,
    /// What it consists of, beginning with `Engine`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentVersion>,
    /// Of the daemon's sources; always there.
    pub git_commit: String,
    /// Expected by clients, whatever the daemon is written in: always there.
    pub go_version: String,
    /// `uname -r`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// Whether experimental features are on.
    #[serde(skip_serializing_if = "is_default")]
    pub experimental: bool,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// Who made the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PlatformInfo {
    /// For people; some programs look for `podman` in it.
    pub name: String,
}

/// One of the programs that make up the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ComponentVersion {
    /// `Engine`, `containerd`, `runc`, …
    pub name: String,
    /// Its version.
    pub version: String,
    /// More about it; all values are texts, also `Experimental`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_of_versions() {
        let version = Version {
            platform: PlatformInfo { name: "nerdctld".to_owned() },
            version: "29.0.0".to_owned(),
            api_version: "1.55".to_owned(),
            min_api_version: "1.24".to_owned(),
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
            components: vec![ComponentVersion {
                name: "Engine".to_owned(),
                version: "29.0.0".to_owned(),
                details: BTreeMap::from([("Experimental".to_owned(), "false".to_owned())]),
            }],
            ..Version::default()
        };
        assert_eq!(
            serde_json::to_string(&version).unwrap(),
            r#"{"Platform":{"Name":"nerdctld"},"Version":"29.0.0","ApiVersion":"1.55","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64","Components":[{"Name":"Engine","Version":"29.0.0","Details":{"Experimental":"false"}}],"GitCommit":"","GoVersion":""}"#
        );
    }
}
