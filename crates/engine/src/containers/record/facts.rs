//! The extension `nerdctld.container.v1`: what Docker shows and nerdctl has no place for.
//!
//! Records live for years and are read by later versions: fields are only ever added, each with a default.

use std::collections::BTreeMap;

use containerd::Any;
use io_monitor::log_config;
use serde::{Deserialize, Serialize};

use super::FACTS;
use crate::containers::LogDriver;
use crate::containers::health_check::HealthCheck;
use crate::containers::links::Link;
use crate::containers::mounts::MountPlan;
use crate::containers::spec::confinement::Resources;
use crate::images::{Descriptor, ResolvedImage};

/// Facts of a container of ours, fixed at creation but for its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Facts {
    /// The image as typed.
    pub(crate) image: String,
    /// Digest of its target: Docker's image id.
    pub(crate) image_id: String,
    /// The image's manifest for the container's platform.
    pub(crate) manifest: ManifestFact,
    /// Merged from request and image.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Merged from request and image.
    pub(crate) cmd: Option<Vec<String>>,
    /// Merged from request and image, without what the daemon adds.
    pub(crate) env: Vec<String>,
    /// As asked for, or the image's.
    pub(crate) user: String,
    pub(crate) tty: bool,
    pub(crate) open_stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) auto_remove: bool,
    /// Merged from request and image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) health_check: Option<HealthCheck>,
    /// `SIGTERM` style.
    pub(crate) stop_signal: String,
    /// Seconds; −1 for ever.
    pub(crate) stop_timeout: Option<i64>,
    /// Docker's spelling.
    pub(crate) log_driver: String,
    pub(crate) log_options: BTreeMap<String, String>,
    /// `80/tcp`.
    pub(crate) exposed_ports: Vec<String>,
    /// The user's, for the OCI runtime.
    pub(crate) annotations: BTreeMap<String, String>,
    /// What is mounted, as it was decided.
    pub(crate) mounts: Vec<MountPlan>,
    /// Declared by request and image, as typed.
    pub(crate) volumes: Vec<String>,
    /// Containers that it calls by names of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) links: Vec<Link>,
    /// Limits as they are now. Records of earlier versions have none, and no limits.
    pub(crate) resources: Option<Resources>,
}

/// A manifest, as a descriptor names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ManifestFact {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
    /// `linux/arm64/v8`.
    pub(crate) platform: String,
}

impl Facts {
    /// Its output can be read in a json-file, whatever the driver.
    pub(super) fn keeps_log_file(&self) -> bool {
        let driver = self.log_driver.parse::<LogDriver>();
        driver.is_ok_and(|driver| log_config::keeps_file(driver, &self.log_options))
    }
}

impl ManifestFact {
    /// The manifest of an image, for the platform that was chosen.
    pub(crate) fn of(image: &ResolvedImage) -> Self {
        let Descriptor { media_type, digest, size, .. } = image.manifest.clone();
        Self { media_type, digest, size, platform: image.platform.to_string() }
    }

    /// The descriptor; none if the record does not say one.
    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        let Self { media_type, digest, size, platform } = self.clone();
        let platform = platform.parse().ok();
        (!digest.is_empty()).then(|| Descriptor {
            media_type,
            digest,
            size,
            platform,
            ..Descriptor::default()
        })
    }
}

impl Facts {
    /// Those of `record`, if it is one of ours. Damaged ones are those of a record that says nothing.
    pub(crate) fn of(record: &containerd::containers::Container) -> Option<Self> {
        let extension = record.extensions.get(FACTS)?;
        let decoded = serde_json::from_slice(&extension.value);
        Some(decoded.unwrap_or_else(|error| {
            tracing::warn!(container = record.id, %error, "the extension {FACTS} of a container is damaged");
            Self::default()
        }))
    }

    pub(crate) fn to_any(&self) -> serde_json::Result<Any> {
        Ok(Any::new(FACTS, serde_json::to_vec(self)?))
    }

    /// Program and arguments.
    pub(crate) fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).flatten().cloned().collect()
    }
}
