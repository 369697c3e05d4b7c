//! Images as clients see them: the newest shape, from the engine's words and the image's own configuration document.

use std::collections::BTreeMap;

use docker_wire::containers::{DriverData, HealthConfig};
use docker_wire::distribution;
use docker_wire::images::{
    ImageConfig, ImageIdentity, ImageInspect, ImageInspectConfig, ImageMetadata, ImageRootFs,
    ImageSummary, ManifestAttestationData, ManifestImageData, ManifestSize, ManifestSummary,
    PullIdentity, UnpackedSize,
};
use docker_wire::{Empty, decode, time};
use engine::images::{self as domain, ImageDetails, ManifestKind};
use names::Platform;
use serde::Deserialize;

/// The OCI image configuration (image-spec `config.md`), and Docker's additions to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    created: Option<String>,
    author: String,
    architecture: String,
    variant: String,
    os: String,
    #[serde(rename = "os.version")]
    os_version: String,
    config: Run,
    rootfs: RootFs,
    history: Vec<Step>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    comment: String,
}

/// How containers of the image run.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    user: String,
    exposed_ports: BTreeMap<String, Empty>,
    env: Vec<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    volumes: BTreeMap<String, Empty>,
    working_dir: String,
    labels: BTreeMap<String, String>,
    stop_signal: String,
    args_escaped: bool,
    healthcheck: Option<HealthConfig>,
    on_build: Vec<String>,
    shell: Vec<String>,
}

/// An element of the list.
pub(in crate::api) fn summary(image: domain::ImageSummary) -> ImageSummary {
    ImageSummary {
        containers: number(image.containers),
        created: image.created.map_or(0, |created| created.as_second()),
        id: image.id,
        labels: Some(image.labels),
        descriptor: Some(descriptor(image.target)),
        repo_digests: image.repo_digests,
        repo_tags: image.repo_tags,
        shared_size: image.shared_size.map_or(-1, number),
        size: number(image.size),
        manifests: image.manifests.map(manifests),
        ..ImageSummary::default()
    }
}

fn manifests(of: Vec<domain::ManifestSummary>) -> Vec<ManifestSummary> {
    of.into_iter().map(manifest).collect()
}

fn manifest(of: domain::ManifestSummary) -> ManifestSummary {
    let unpacked = number(of.unpacked_size);
    let size = ManifestSize {
        content: number(of.content_size),
        total: number(of.content_size.saturating_add(of.unpacked_size)),
    };
    let shown = ManifestSummary {
        id: of.descriptor.digest.clone(),
        descriptor: descriptor(of.descriptor),
        available: of.available,
        size,
        ..ManifestSummary::default()
    };
    match of.kind {
        ManifestKind::Image { platform, containers } => ManifestSummary {
            kind: "image".to_owned(),
            image_data: Some(ManifestImageData {
                platform: platform.as_ref().map(self::platform).unwrap_or_default(),
                size: UnpackedSize { unpacked },
                containers,
                ..ManifestImageData::default()
            }),
            ..shown
        },
        ManifestKind::Attestation { subject } => ManifestSummary {
            kind: "attestation".to_owned(),
            attestation_data: Some(ManifestAttestationData { subject }),
            ..shown
        },
        ManifestKind::Unknown => ManifestSummary { kind: "unknown".to_owned(), ..shown },
    }
}

fn platform(of: &Platform) -> distribution::Platform {
    distribution::Platform {
        architecture: of.architecture().to_owned(),
        os: of.os().to_owned(),
        variant: of.variant().unwrap_or_default().to_owned(),
        ..distribution::Platform::default()
    }
}

fn number(given: u64) -> i64 {
    i64::try_from(given).unwrap_or(i64::MAX)
}

pub(in crate::api) fn descriptor(target: domain::Descriptor) -> distribution::Descriptor {
    let platform = target.platform.as_ref().map(platform);
    distribution::Descriptor {
        media_type: target.media_type,
        digest: target.digest,
        size: number(target.size),
        annotations: target.annotations,
        platform,
        ..distribution::Descriptor::default()
    }
}

/// Everything about one image.
pub(super) fn inspect(details: ImageDetails) -> ImageInspect {
    let document: Document = decode::from_slice(&details.config_json)
        .inspect_err(|error| tracing::debug!(%error, "an image has no readable configuration"))
        .unwrap_or_default();
    let summary = details.summary;
    let comment = document.history.into_iter().next_back().map(|step| step.comment);
    ImageInspect {
        identity: identity(details.pulled_from),
        parent: Some(details.parent).filter(|parent| !parent.is_empty()),
        id: summary.id,
        repo_tags: summary.repo_tags,
        repo_digests: summary.repo_digests,
        comment: comment.filter(|comment| !comment.is_empty()),
        created: document.created,
        author: Some(document.author).filter(|author| !author.is_empty()),
        config: ImageInspectConfig::Current(config(document.config)),
        architecture: document.architecture,
        variant: document.variant,
        os: document.os,
        os_version: document.os_version,
        size: number(summary.size),
        graph_driver: Some(DriverData { data: None, name: details.snapshotter }),
        root_fs: ImageRootFs { kind: document.rootfs.kind, layers: details.diff_ids },
        metadata: ImageMetadata {
            last_tag_time: time::rfc3339_nano_or_zero(details.last_tag_time),
        },
        descriptor: Some(descriptor(summary.target)),
        manifests: summary.manifests.map(manifests),
        ..ImageInspect::default()
    }
}

/// Where it was pulled from; nobody signs or builds here.
fn identity(repositories: Vec<String>) -> Option<ImageIdentity> {
    let pull: Vec<_> =
        repositories.into_iter().map(|repository| PullIdentity { repository }).collect();
    (!pull.is_empty()).then_some(ImageIdentity { pull: Some(pull), build: None })
}

fn config(run: Run) -> ImageConfig {
    ImageConfig {
        user: run.user,
        exposed_ports: run.exposed_ports,
        env: run.env,
        entrypoint: run.entrypoint,
        cmd: run.cmd,
        volumes: run.volumes,
        working_dir: run.working_dir,
        labels: run.labels,
        stop_signal: run.stop_signal,
        args_escaped: run.args_escaped,
        healthcheck: run.healthcheck,
        on_build: run.on_build,
        shell: run.shell,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn details(document: &serde_json::Value) -> ImageDetails {
        ImageDetails {
            summary: domain::ImageSummary {
                id: format!("sha256:{}", "a".repeat(64)),
                repo_tags: vec!["nginx:latest".to_owned()],
                repo_digests: vec![format!("nginx@sha256:{}", "a".repeat(64))],
                target: domain::Descriptor { size: 7, ..domain::Descriptor::default() },
                created: None,
                labels: BTreeMap::new(),
                size: 11,
                shared_size: None,
                containers: 2,
                manifests: None,
            },
            config_json: serde_json::to_vec(document).unwrap(),
            diff_ids: vec!["sha256:b".to_owned()],
            last_tag_time: None,
            snapshotter: "overlayfs".to_owned(),
            parent: String::new(),
            pulled_from: vec!["docker.io/library/nginx".to_owned()],
        }
    }

    #[test]
    fn the_images_own_words_are_shown() {
        let image = inspect(details(&json!({
            "created": "2024-01-02T03:04:05.5Z", "author": "me", "architecture": "arm64", "variant": "v8", "os": "linux",
            "config": {"Cmd": ["sh"], "Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}, "Entrypoint": null},
            "rootfs": {"type": "layers", "diff_ids": ["ignored"]},
            "history": [{"comment": "first"}, {"comment": "last"}],
        })));
        let shown = serde_json::to_value(image).unwrap();
        assert_eq!(
            shown["Config"],
            json!({"Cmd": ["sh"], "Env": ["A=b"], "ExposedPorts": {"80/tcp": {}}})
        );
        assert_eq!(shown["RootFS"], json!({"Type": "layers", "Layers": ["sha256:b"]}));
        assert_eq!(
            (&shown["Comment"], &shown["Created"]),
            (&json!("last"), &json!("2024-01-02T03:04:05.5Z"))
        );
        assert_eq!(shown["Metadata"]["LastTagTime"], json!("0001-01-01T00:00:00Z"));
        assert_eq!(shown["Identity"], json!({"Pull": [{"Repository": "docker.io/library/nginx"}]}));
    }

    #[test]
    fn an_image_made_here_has_a_parent_and_no_registry() {
        let parent = format!("sha256:{}", "b".repeat(64));
        let made =
            ImageDetails { parent: parent.clone(), pulled_from: Vec::new(), ..details(&json!({})) };
        let shown = serde_json::to_value(inspect(made)).unwrap();
        assert_eq!((&shown["Parent"], shown.get("Identity")), (&json!(parent), None));
    }

    #[test]
    fn an_image_without_configuration_has_an_empty_one() {
        let mut details = details(&json!({}));
        details.config_json.clear();
        let shown = serde_json::to_value(inspect(details)).unwrap();
        assert_eq!(shown["Config"], json!({}));
        assert_eq!(shown.get("Created"), None);
    }
}
