//! Images: the domain types. One operation, one file in `images/`.

mod attestations;
mod cache;
pub(crate) mod changes;
pub(crate) mod claims;
mod distribution;
mod documents;
mod facts;
mod fetch;
mod foreign;
mod glob;
mod history;
mod import;
mod inspect;
mod labels;
pub(crate) mod lease;
mod list;
mod load;
pub(crate) mod make;
mod manifests;
mod naming;
mod parts;
mod progress;
mod prune;
mod pull;
mod push;
mod records;
mod remote;
mod remove;
mod remove_platforms;
pub(crate) mod resolve;
mod run_config;
mod save;
mod search;
mod shared;
mod sources;
mod tag;
mod turns;
mod unpack;

use std::collections::BTreeMap;

use jiff::Timestamp;
use names::{ImageRef, Platform};

pub use attestations::{Attestation, AttestationFilter};
pub use cache::Cache;
pub use distribution::{RemoteImage, RemotePlatform};
pub use history::HistoryStep;
pub use import::{Import, ImportEvent, ImportRequest};
pub use labels::allowed_image_labels;
pub use load::{Loaded, LoadedImage};
pub use manifests::{ManifestKind, ManifestSummary};
pub use progress::{Pull, PullEvent, PullStatus, Push, PushEvent, PushStatus, Transfer};
pub use prune::{ImagePruneFilter, PrunedImages};
pub use run_config::{HealthCheck, Nothing, RunConfig};
pub use search::{FoundImage, SearchRequest};

use facts::ImageFacts;
pub(crate) use remote::registry_client;
pub use remote::{RegistrySettings, TransferLimits};

/// Login data for one registry; prints `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Refresh token instead of a password.
    pub identity_token: String,
    /// Ready bearer token.
    pub registry_token: String,
    /// The registry they are for, as the client wrote it (`https://index.docker.io/v1/`); empty means the image's. They
    /// are sent to no other.
    pub server_address: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(***)")
    }
}

impl Credentials {
    /// Nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let secrets = [&self.username, &self.password, &self.identity_token, &self.registry_token];
        secrets.iter().all(|secret| secret.is_empty())
    }
}

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// With tag or digest.
    pub image: ImageRef,
    /// Which of its platforms.
    pub platforms: PullPlatforms,
    /// Anonymous if empty.
    pub credentials: Credentials,
    /// `X-Meta-*` headers of the client's request, to be sent to the registry.
    pub meta_headers: Vec<(String, String)>,
}

/// Which platforms of an image are pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PullPlatforms {
    /// What runs best here.
    #[default]
    Host,
    /// These; each must be there.
    These(Vec<Platform>),
    /// All that the image has, attestations included. Only what runs here is unpacked.
    All,
}

/// What to push.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// With tag or digest, else all tags of the repository.
    pub image: ImageRef,
    /// One platform of it instead of all.
    pub platform: Option<Platform>,
    /// Anonymous if empty.
    pub credentials: Credentials,
    /// `X-Meta-*` headers of the client's request, to be sent to the registry.
    pub meta_headers: Vec<(String, String)>,
}

/// One image as lists show it: all names of one target digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Target digest: the image's id in the containerd store.
    pub id: String,
    /// Familiar `name:tag`.
    pub repo_tags: Vec<String>,
    /// Familiar `name@digest`.
    pub repo_digests: Vec<String>,
    /// Target descriptor.
    pub target: Descriptor,
    /// From the config of the platform shown; `None` if it is not present.
    pub created: Option<Timestamp>,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// Bytes: content present plus unpacked snapshots.
    pub size: u64,
    /// Bytes of it that other images have, too; only if asked for.
    pub shared_size: Option<u64>,
    /// Containers of the namespace that use it.
    pub containers: u64,
    /// Its manifests; only if asked for.
    pub manifests: Option<Vec<ManifestSummary>>,
}

/// An OCI descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// `sha256:…`.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Platform, where the index says one.
    pub platform: Option<Platform>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Where else it is handed out; only layers whose maker keeps them to himself say so.
    pub urls: Vec<String>,
}

impl Descriptor {
    /// A layer that only its maker hands out, and that need not be at the registry (containerd `images.IsNonDistributable`).
    pub(crate) fn is_foreign(&self) -> bool {
        self.media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self.media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }

    /// What an entry of an index is told from others by. Indexes that name each other many times would be many more than
    /// there are; one manifest may be there for several platforms.
    pub(crate) fn entry(&self) -> (String, Option<String>) {
        let is_index = documents::Kind::of(&self.media_type) == documents::Kind::Index;
        let platform = self.platform.as_ref().filter(|_| !is_index);
        (self.digest.clone(), platform.map(Platform::to_string))
    }
}

impl From<containerd::Descriptor> for Descriptor {
    fn from(descriptor: containerd::Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type,
            digest: descriptor.digest,
            size: descriptor.size,
            annotations: descriptor.annotations,
            ..Self::default()
        }
    }
}

/// containerd does not know platforms: the documents do.
impl From<Descriptor> for containerd::Descriptor {
    fn from(descriptor: Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type,
            digest: descriptor.digest,
            size: descriptor.size,
            annotations: descriptor.annotations,
        }
    }
}

/// What inspect shows of one image.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// The summary.
    pub summary: ImageSummary,
    /// The image config document of the platform shown (OCI image-spec), verbatim JSON.
    pub config_json: Vec<u8>,
    /// diffIDs.
    pub diff_ids: Vec<String>,
    /// When containerd's record was written last.
    pub last_tag_time: Option<Timestamp>,
    /// Snapshotter that holds it.
    pub snapshotter: String,
    /// Id of the image that it was made of, if it was made here; else empty.
    pub parent: String,
    /// Repositories of registries that are known to have it, in full; registries without their ports.
    pub pulled_from: Vec<String>,
}

/// What an image says about running it (OCI image-spec `config`), as create needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `Env`.
    pub env: Vec<String>,
    /// `Cmd`.
    pub cmd: Option<Vec<String>>,
    /// `Entrypoint`.
    pub entrypoint: Option<Vec<String>>,
    /// `User`.
    pub user: String,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `Labels` without reserved keys.
    pub labels: BTreeMap<String, String>,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `ExposedPorts` keys.
    pub exposed_ports: Vec<String>,
    /// `Volumes` keys.
    pub volumes: Vec<String>,
    /// `ArgsEscaped`.
    pub args_escaped: bool,
    /// `Healthcheck`, with `Shell`.
    pub health_check: Option<crate::containers::health_check::HealthCheck>,
}

/// An image ready to be run: found, for the right platform, unpacked.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// containerd's image name, exactly.
    pub name: String,
    /// Target digest (index or manifest): Docker's image id.
    pub id: String,
    /// The manifest of the platform.
    pub manifest: Descriptor,
    /// Platform of the manifest.
    pub platform: Platform,
    /// Its config.
    pub config: ImageConfig,
    /// Chain id of the top layer; empty for an image without layers.
    pub chain_id: String,
}

/// Which images a list shows; the edge has decoded it.
#[derive(Clone, Debug, Default)]
pub struct ImageFilter {
    /// `dangling`.
    pub dangling: Option<bool>,
    /// `label`: all must match.
    pub label: Vec<String>,
    /// `label!`.
    pub label_not: Vec<String>,
    /// `reference`: glob patterns on familiar names.
    pub reference: Vec<String>,
    /// `before`: image.
    pub before: Vec<String>,
    /// `since`: image.
    pub since: Vec<String>,
    /// `until`: created before.
    pub until: Option<Timestamp>,
    /// Also images without a name.
    pub all: bool,
    /// Say what images share.
    pub shared_size: bool,
    /// Say which manifests they have.
    pub manifests: bool,
}

/// One line of a removal's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone (familiar form).
    Untagged(String),
    /// Content is gone (digest).
    Deleted(String),
}
