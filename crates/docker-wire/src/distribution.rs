//! What a registry has under a name; and the OCI types that many answers contain.
//!
//! Source: moby `api/types/registry`; opencontainers/image-spec `specs-go/v1/descriptor.go`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The answer of `GET /distribution/{name}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// What the name stands for.
    pub descriptor: Descriptor,
    /// For which platforms; never null.
    pub platforms: Vec<Platform>,
}

/// A piece of content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// `sha256:…`
    pub digest: String,
    /// In bytes.
    pub size: i64,
    /// Where else to get it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Notes on it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, in base64, when it is small.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// For which platform it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub artifact_type: String,
}

/// A platform in the spelling of OCI documents.
///
/// Goes both ways: the `platform` parameter of several endpoints is this as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Only for Windows.
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Only for Windows.
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// `v8`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn an_index_for_one_platform() {
        let inspect = DistributionInspect {
            descriptor: Descriptor {
                media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
                digest: "sha256:ab".to_owned(),
                size: 7,
                ..Descriptor::default()
            },
            platforms: vec![Platform {
                architecture: "arm64".to_owned(),
                os: "linux".to_owned(),
                variant: "v8".to_owned(),
                ..Platform::default()
            }],
        };
        assert_eq!(
            serde_json::to_string(&inspect).unwrap(),
            r#"{"Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:ab","size":7},"Platforms":[{"architecture":"arm64","os":"linux","variant":"v8"}]}"#
        );
    }

    #[test]
    fn a_platform_as_parameter() {
        let platform: Platform =
            decode::from_slice(br#"{"OS":"linux","Architecture":"arm64"}"#).unwrap();
        assert_eq!((platform.os.as_str(), platform.architecture.as_str()), ("linux", "arm64"));
    }
}
