//! The answer of `GET /containers/json`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ContainerState, MountPoint};
use crate::absent::is_default;
use crate::distribution::Descriptor;
use crate::networks::EndpointSettings;

/// One container in the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// 64 hex digits.
    pub id: String,
    /// Each with a slash before it; never null.
    pub names: Vec<String>,
    /// As it was named at create, or its id when the name means another image by now.
    pub image: String,
    /// `sha256:…`
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// The manifest for its platform; from 1.48 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    /// Program and arguments; see [`quote_command`](super::status::quote_command).
    pub command: String,
    /// Unix seconds.
    pub created: i64,
    /// Never null.
    pub ports: Vec<PortSummary>,
    /// Bytes that it wrote; only on request.
    #[serde(skip_serializing_if = "is_default")]
    pub size_rw: i64,
    /// Bytes of all its files; only on request.
    #[serde(skip_serializing_if = "is_default")]
    pub size_root_fs: i64,
    /// Never null.
    pub labels: BTreeMap<String, String>,
    /// In one word.
    pub state: ContainerState,
    /// For people: `Up 5 seconds (healthy)`.
    pub status: String,
    /// A few fields of it.
    pub host_config: HostConfigSummary,
    /// Without the log; from 1.52 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// The networks that it is connected to.
    pub network_settings: NetworkSettingsSummary,
    /// Never null.
    pub mounts: Vec<MountPoint>,
}

/// One port of a container in the list. Dual-stack publishing makes two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortSummary {
    /// The address on the host; there and empty when the port is only exposed (moby `api/types/container`, whose type
    /// for addresses has no emptiness of its own).
    #[serde(rename = "IP")]
    pub ip: String,
    /// In the container.
    pub private_port: u16,
    /// On the host; 0 when the port is only exposed.
    #[serde(skip_serializing_if = "is_default")]
    pub public_port: u16,
    /// `tcp`, `udp`, `sctp`.
    #[serde(rename = "Type")]
    pub protocol: String,
}

/// The fields of the host configuration that the list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfigSummary {
    /// `bridge`, `host`, `none`, `container:<id>`, a network.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// From 1.46 on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthSummary {
    /// `none`, `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// How many checks failed in a row.
    pub failing_streak: i64,
}

/// The networks of a container in the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettingsSummary {
    /// By name; never null, nor is a value.
    pub networks: BTreeMap<String, EndpointSettings>,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn lists_and_maps_are_never_null() {
        expect![[r#"{"Id":"","Names":[],"Image":"","ImageID":"","Command":"","Created":0,"Ports":[],"Labels":{},"State":"created","Status":"","HostConfig":{},"NetworkSettings":{"Networks":{}},"Mounts":[]}"#]]
        .assert_eq(&serde_json::to_string(&ContainerSummary::default()).unwrap());
    }

    #[test]
    fn a_running_container() {
        let summary = ContainerSummary {
            id: "ab".to_owned(),
            names: vec!["/web".to_owned()],
            image: "nginx".to_owned(),
            image_id: "sha256:cd".to_owned(),
            command: "nginx -g 'daemon off;'".to_owned(),
            created: 1_700_000_000,
            ports: vec![
                PortSummary {
                    private_port: 443,
                    protocol: "tcp".to_owned(),
                    ..PortSummary::default()
                },
                PortSummary {
                    ip: "::".to_owned(),
                    private_port: 80,
                    public_port: 8080,
                    protocol: "tcp".to_owned(),
                },
            ],
            size_rw: 5,
            size_root_fs: 6,
            labels: BTreeMap::from([
                ("b".to_owned(), "2".to_owned()),
                ("a".to_owned(), "1".to_owned()),
            ]),
            state: ContainerState::Running,
            status: "Up 5 seconds (healthy)".to_owned(),
            host_config: HostConfigSummary {
                network_mode: "bridge".to_owned(),
                ..HostConfigSummary::default()
            },
            health: Some(HealthSummary { status: "healthy".to_owned(), failing_streak: 0 }),
            ..ContainerSummary::default()
        };
        expect![[r#"{"Id":"ab","Names":["/web"],"Image":"nginx","ImageID":"sha256:cd","Command":"nginx -g 'daemon off;'","Created":1700000000,"Ports":[{"IP":"","PrivatePort":443,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],"SizeRw":5,"SizeRootFs":6,"Labels":{"a":"1","b":"2"},"State":"running","Status":"Up 5 seconds (healthy)","HostConfig":{"NetworkMode":"bridge"},"Health":{"Status":"healthy","FailingStreak":0},"NetworkSettings":{"Networks":{}},"Mounts":[]}"#]]
        .assert_eq(&serde_json::to_string(&summary).unwrap());
    }
}
