//! Images: list, inspect, history, and the answers of delete, prune and search.
//!
//! Source: moby `api/types/image`, `daemon/server/router/image/inspect_response.go`; moby/docker-image-spec.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::absent::{Empty, is_default};
use crate::containers::{ContainerConfig, DriverData, HealthConfig};
use crate::distribution::{Descriptor, Platform};

/// One image in the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageSummary {
    /// How many containers use it; −1 below 1.51.
    pub containers: i64,
    /// Unix seconds.
    pub created: i64,
    /// `sha256:…`
    pub id: String,
    /// Empty when there are none.
    pub labels: Option<BTreeMap<String, String>>,
    /// Always empty: images have no parents here.
    pub parent_id: String,
    /// Its index or manifest; from 1.48 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Only on request; from 1.47 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ManifestSummary>>,
    /// `nginx@sha256:…`; never null.
    pub repo_digests: Vec<String>,
    /// `nginx:latest`; never null.
    pub repo_tags: Vec<String>,
    /// In bytes; −1 unless it was asked for.
    pub shared_size: i64,
    /// In bytes.
    pub size: i64,
    /// `size` again; up to 1.43.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
}

/// Everything about one image.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    /// `sha256:…`
    pub id: String,
    /// `nginx:latest`; never null.
    pub repo_tags: Vec<String>,
    /// `nginx@sha256:…`; never null.
    pub repo_digests: Vec<String>,
    /// The image it was made of; up to 1.51 also when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Of who made it; up to 1.51 also when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// RFC 3339. Absent when unknown; Go's zero time then, up to 1.43.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The container it was made from; up to 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The configuration of that container, which nobody knows: `null` up to 1.44. The outer `None` leaves the key out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<Option<ContainerConfig>>,
    /// Up to 1.51.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// Who made it; up to 1.51 also when empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How its containers run; never null.
    pub config: ImageInspectConfig,
    /// In Go's spelling: `arm64`.
    pub architecture: String,
    /// `v8`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// `linux`.
    pub os: String,
    /// Only for Windows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// In bytes.
    pub size: i64,
    /// `size` again; up to 1.43.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    /// Where its files are; up to 1.51.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Its layers.
    #[serde(rename = "RootFS")]
    pub root_fs: ImageRootFs,
    /// What is known about it here.
    pub metadata: ImageMetadata,
    /// Its index or manifest; from 1.48 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Only on request; from 1.48 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<ManifestSummary>>,
    /// Where it comes from; from 1.53 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<ImageIdentity>,
}

/// The configuration of an image, in one of the forms that versions had for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ImageInspectConfig {
    /// From 1.52 on: only what is set.
    Current(ImageConfig),
    /// 1.50 and 1.51: what images can have, set or not.
    Explicit(ExplicitImageConfig),
    /// Up to 1.49: everything that containers can have.
    Container(Box<ContainerConfig>),
}

impl Default for ImageInspectConfig {
    fn default() -> Self {
        Self::Current(ImageConfig::default())
    }
}

/// How containers of an image run: only what is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp` and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The command, or arguments of the entry point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Paths for which anonymous volumes are made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Where the process starts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops a container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Only for Windows.
    #[serde(skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// How to find out whether a container is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Instructions for builds on top of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// For shell forms in builds on top of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// [`ImageConfig`] in the form of 1.50 and 1.51: most keys are there, `null` or empty when not set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExplicitImageConfig {
    /// See [`ImageConfig`]; so for all.
    pub user: String,
    /// Left out when not set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `null` when not set.
    pub env: Option<Vec<String>>,
    /// `null` when not set.
    pub cmd: Option<Vec<String>>,
    /// Left out when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Left out when not set.
    #[serde(skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// `null` when not set.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Empty when not set.
    pub working_dir: String,
    /// `null` when not set.
    pub entrypoint: Option<Vec<String>>,
    /// `null` when not set.
    pub on_build: Option<Vec<String>>,
    /// `null` when not set.
    pub labels: Option<BTreeMap<String, String>>,
    /// Left out when not set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Left out when not set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// The layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageRootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Their digests, lowest first, of the files without compression.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What is known about an image here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// RFC 3339; Go's zero time when unknown, never empty.
    pub last_tag_time: String,
}

impl Default for ImageMetadata {
    fn default() -> Self {
        Self { last_tag_time: crate::time::ZERO.to_owned() }
    }
}

/// Where an image comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageIdentity {
    /// From which repositories it was pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<Vec<PullIdentity>>,
    /// By which builds it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Vec<BuildIdentity>>,
}

/// A repository from which an image was pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PullIdentity {
    /// `docker.io/library/nginx`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repository: String,
}

/// A build that made an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BuildIdentity {
    /// The build's reference.
    #[serde(rename = "Ref", skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// RFC 3339; never empty.
    pub created_at: String,
}

/// One manifest of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestSummary {
    /// Its digest.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it is.
    pub descriptor: Descriptor,
    /// Whether all of it is here.
    pub available: bool,
    /// How large it is.
    pub size: ManifestSize,
    /// `image`, `attestation`, `unknown`.
    pub kind: String,
    /// Only for images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImageData>,
    /// Only for attestations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<ManifestAttestationData>,
}

/// How large a manifest is, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestSize {
    /// As it was pulled.
    pub content: i64,
    /// With unpacked files.
    pub total: i64,
}

/// What is known about a manifest that is an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestImageData {
    /// For which platform it is.
    pub platform: Platform,
    /// Where it comes from; from 1.54 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<ImageIdentity>,
    /// How large it is.
    pub size: UnpackedSize,
    /// Those that use it; never null.
    pub containers: Vec<String>,
}

/// How large an image is, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnpackedSize {
    /// Its files.
    pub unpacked: i64,
}

/// What is known about a manifest that is an attestation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestAttestationData {
    /// The digest of the manifest that it attests.
    #[serde(rename = "For")]
    pub subject: String,
}

/// One in-toto statement about an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttestationStatement {
    /// Where it is.
    pub descriptor: Descriptor,
    /// What it says something about.
    pub predicate_type: String,
    /// Its text; only on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<serde_json::Value>,
}

/// One step in the history of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageHistoryItem {
    /// Of who made it.
    pub comment: String,
    /// Unix seconds.
    pub created: i64,
    /// The instruction.
    pub created_by: String,
    /// `<missing>` for all but the last step.
    pub id: String,
    /// In bytes.
    pub size: i64,
    /// Names of the image, at its last step; `null` when there are none.
    pub tags: Option<Vec<String>>,
}

/// One name or image that was deleted; one of the two is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageDeleteItem {
    /// `sha256:…`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
    /// `nginx:latest`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
}

/// What `POST /images/prune` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImagePruneResponse {
    /// `null` when there are none.
    pub images_deleted: Option<Vec<ImageDeleteItem>>,
    /// In bytes.
    pub space_reclaimed: u64,
}

/// One repository that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageSearchItem {
    /// How many like it.
    pub star_count: i64,
    /// Whether Docker looks after it.
    pub is_official: bool,
    /// `nginx`.
    pub name: String,
    /// Always false by now.
    pub is_automated: bool,
    /// For people.
    pub description: String,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn json<T: Serialize>(value: &T) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn an_image_without_anything() {
        expect![[r#"{"Containers":0,"Created":0,"Id":"","Labels":null,"ParentId":"","RepoDigests":[],"RepoTags":[],"SharedSize":0,"Size":0}"#]].assert_eq(&json(&ImageSummary::default()));
        expect![[r#"{"Id":"","RepoTags":[],"RepoDigests":[],"Config":{},"Architecture":"","Os":"","Size":0,"RootFS":{},"Metadata":{"LastTagTime":"0001-01-01T00:00:00Z"}}"#]].assert_eq(&json(&ImageInspect::default()));
    }

    #[test]
    fn configurations_of_three_ages() {
        expect![[r#"{}"#]].assert_eq(&json(&ImageInspectConfig::default()));
        expect![[r#"{"User":"","Env":null,"Cmd":null,"Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#]]
            .assert_eq(&json(&ImageInspectConfig::Explicit(ExplicitImageConfig::default())));
        let oldest = ImageInspectConfig::Container(Box::default());
        assert!(json(&oldest).starts_with(r#"{"Hostname":"","#));
    }

    #[test]
    fn small_answers() {
        let deleted = [
            ImageDeleteItem { untagged: "nginx:latest".to_owned(), ..ImageDeleteItem::default() },
            ImageDeleteItem { deleted: "sha256:ab".to_owned(), ..ImageDeleteItem::default() },
        ];
        assert_eq!(json(&deleted), r#"[{"Untagged":"nginx:latest"},{"Deleted":"sha256:ab"}]"#);
        assert_eq!(
            json(&ImagePruneResponse::default()),
            r#"{"ImagesDeleted":null,"SpaceReclaimed":0}"#
        );
        assert_eq!(
            json(&ImageHistoryItem { id: "<missing>".to_owned(), ..ImageHistoryItem::default() }),
            r#"{"Comment":"","Created":0,"CreatedBy":"","Id":"<missing>","Size":0,"Tags":null}"#
        );
        assert_eq!(
            json(&ImageSearchItem::default()),
            r#"{"star_count":0,"is_official":false,"name":"","is_automated":false,"description":""}"#
        );
    }
}
