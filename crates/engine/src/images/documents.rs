//! Indexes, manifests and configs as they are found in the wild.
//!
//! Only the fields that we act on, and read leniently (a `null` is as good as an absent list): what
//! others pushed cannot be sent back. Digests and sizes are checked, because they become names of
//! content.

use std::collections::BTreeMap;

use jiff::Timestamp;
use names::{Digest, Platform};
use serde::{Deserialize, Deserializer};
use sha2::Digest as _;

use super::{Descriptor, ImageConfig};
use crate::containers::health_check::HealthCheck;
use crate::images::labels::allowed_image_labels;
use crate::{Error, Result};

/// The largest index, manifest or config that is read, in bytes.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;

/// What a descriptor points to, judged by its media type
/// (containerd `images/mediatypes.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A list of manifests.
    Index,
    /// A manifest.
    Manifest,
    /// Docker's old signed manifest, which nobody supports any more.
    Schema1,
    /// An image config.
    Config,
    /// A layer.
    Layer,
    /// Anything else.
    Other,
}

impl Kind {
    pub(crate) fn of(media_type: &str) -> Self {
        match media_type {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Self::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Self::Manifest,
            "application/vnd.docker.distribution.manifest.v1+prettyjws"
            | "application/vnd.docker.distribution.manifest.v1+json" => Self::Schema1,
            "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json" => Self::Config,
            other if is_layer(other) => Self::Layer,
            _ => Self::Other,
        }
    }
}

fn is_layer(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.diff.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
}

/// The name that all clients of containerd give to the upload of a blob, so that they share one
/// (containerd `remotes/handlers.go`, `MakeRefKey`).
pub(crate) fn upload_name(descriptor: &Descriptor) -> String {
    let prefix = match Kind::of(&descriptor.media_type) {
        Kind::Index => "index-",
        Kind::Manifest | Kind::Schema1 => "manifest-",
        Kind::Config => "config-",
        Kind::Layer => "layer-",
        Kind::Other if descriptor.media_type == "application/vnd.in-toto+json" => "attestation-",
        Kind::Other => "unknown-",
    };
    match descriptor.annotations.get("org.opencontainers.image.ref.name") {
        Some(name) => format!("{prefix}{name}@{}", descriptor.digest),
        None => format!("{prefix}{}", descriptor.digest),
    }
}

/// A list of manifests.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// One platform's image.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What we keep of an image config.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) created: Option<Timestamp>,
    pub(crate) platform: Platform,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) diff_ids: Vec<String>,
    /// Chain id of each layer with all below it.
    pub(crate) chain_ids: Vec<String>,
}

impl Index {
    pub(crate) fn parse(digest: &str, bytes: &[u8]) -> Result<Self> {
        let document: IndexDocument = parse("index", digest, bytes)?;
        let manifests = document.manifests.into_iter().map(|d| d.checked("index", digest));
        Ok(Self { manifests: manifests.collect::<Result<_>>()? })
    }
}

impl Manifest {
    pub(crate) fn parse(digest: &str, bytes: &[u8]) -> Result<Self> {
        let document: ManifestDocument = parse("manifest", digest, bytes)?;
        let Some(config) = document.config else {
            return Err(bad("manifest", digest, "it has no config"));
        };
        let layers = document.layers.into_iter().map(|d| d.checked("manifest", digest));
        Ok(Self {
            config: config.checked("manifest", digest)?,
            layers: layers.collect::<Result<_>>()?,
        })
    }

    /// Whether this is something to run, and not a signature, a chart or a model in an image's clothes.
    pub(crate) fn is_image(&self) -> bool {
        // Old registries forget the type of the config (containerd `remotes/docker/schema1`).
        let config = Kind::of(&self.config.media_type) == Kind::Config
            || self.config.media_type == "application/octet-stream";
        config && self.layers.iter().all(|layer| Kind::of(&layer.media_type) == Kind::Layer)
    }
}

impl Config {
    /// Bytes of the texts in it.
    pub(crate) fn weight(&self) -> usize {
        let labels = self.labels.iter().map(|(key, value)| key.len() + value.len());
        let ids = self.diff_ids.iter().chain(&self.chain_ids).map(String::len);
        labels.chain(ids).sum()
    }

    /// The same of a config that comes from outside. What can be read as something else, too, could be named as that by
    /// another image.
    pub(crate) fn parse_new(digest: &str, bytes: &[u8]) -> Result<Self> {
        let Disguise { layers, manifests } = parse("config", digest, bytes)?;
        if layers.is_some() || manifests.is_some() {
            return Err(bad("config", digest, "it is a manifest or index as well"));
        }
        Self::parse(digest, bytes)
    }

    pub(crate) fn parse(digest: &str, bytes: &[u8]) -> Result<Self> {
        let document: ConfigDocument = parse("config", digest, bytes)?;
        let diff_ids = document.rootfs.unwrap_or_default().diff_ids;
        for diff_id in &diff_ids {
            diff_id
                .parse::<Digest>()
                .map_err(|error| bad("config", digest, &format!("diffID {diff_id:?}: {error}")))?;
        }
        Ok(Self {
            created: document.created.and_then(|created| created.parse().ok()),
            platform: Platform::new(&document.os, &document.architecture, &document.variant),
            labels: document.config.unwrap_or_default().labels,
            chain_ids: chain_ids(&diff_ids),
            diff_ids,
        })
    }
}

/// What an image says about running it.
pub(crate) fn image_config(digest: &str, bytes: &[u8]) -> Result<ImageConfig> {
    let config = parse::<ConfigDocument>("config", digest, bytes)?.config.unwrap_or_default();
    Ok(ImageConfig {
        env: config.env,
        cmd: config.cmd.map(StringOrList::into_vec),
        entrypoint: config.entrypoint.map(StringOrList::into_vec),
        user: config.user,
        working_dir: config.working_dir,
        labels: allowed_image_labels(config.labels),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        exposed_ports: config.exposed_ports.into_keys().collect(),
        volumes: config.volumes.into_keys().collect(),
        args_escaped: config.args_escaped,
        health_check: config.healthcheck.map(|check| check.with_shell(config.shell)),
    })
}

/// The chain id of every layer (OCI image-spec `config.md`, "Layer ChainID").
pub(crate) fn chain_ids(diff_ids: &[String]) -> Vec<String> {
    let mut chain = Vec::<String>::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => digest_of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

/// The SHA-256 digest of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into()).to_string()
}

fn parse<T: for<'de> Deserialize<'de>>(what: &str, digest: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| bad(what, digest, &error.to_string()))
}

fn bad(what: &str, digest: &str, problem: &str) -> Error {
    Error::BadContent(format!("invalid {what} {digest}: {problem}"))
}

/// Go's nil slices and maps are `null` in JSON.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct IndexDocument {
    #[serde(default, deserialize_with = "lenient")]
    manifests: Vec<DescriptorDocument>,
}

#[derive(Deserialize)]
struct ManifestDocument {
    config: Option<DescriptorDocument>,
    #[serde(default, deserialize_with = "lenient")]
    layers: Vec<DescriptorDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorDocument {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<PlatformDocument>,
    #[serde(default, deserialize_with = "lenient")]
    annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "lenient")]
    urls: Vec<String>,
}

impl DescriptorDocument {
    fn checked(self, what: &str, within: &str) -> Result<Descriptor> {
        let digest = self
            .digest
            .parse::<Digest>()
            .map_err(|error| bad(what, within, &format!("digest {:?}: {error}", self.digest)))?;
        // An empty blob is nothing that anybody pushes on purpose.
        let size = u64::try_from(self.size).ok().filter(|size| *size > 0);
        let size =
            size.ok_or_else(|| bad(what, within, &format!("size {} of {digest}", self.size)))?;
        Ok(Descriptor {
            media_type: self.media_type,
            digest: digest.to_string(),
            size,
            platform: self.platform.map(PlatformDocument::into_platform),
            annotations: self.annotations,
            urls: self.urls,
        })
    }
}

#[derive(Deserialize)]
struct PlatformDocument {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default, deserialize_with = "lenient")]
    variant: String,
}

impl PlatformDocument {
    fn into_platform(self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }
}

/// What no config has.
#[derive(Deserialize)]
struct Disguise {
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct ConfigDocument {
    created: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    os: String,
    #[serde(default, deserialize_with = "lenient")]
    architecture: String,
    #[serde(default, deserialize_with = "lenient")]
    variant: String,
    config: Option<RunDocument>,
    rootfs: Option<RootFsDocument>,
}

#[derive(Deserialize, Default)]
struct RootFsDocument {
    #[serde(default, deserialize_with = "lenient")]
    diff_ids: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RunDocument {
    #[serde(default, deserialize_with = "lenient")]
    env: Vec<String>,
    cmd: Option<StringOrList>,
    entrypoint: Option<StringOrList>,
    #[serde(default, deserialize_with = "lenient")]
    user: String,
    #[serde(default, deserialize_with = "lenient")]
    working_dir: String,
    #[serde(default, deserialize_with = "lenient")]
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "lenient")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "lenient")]
    args_escaped: bool,
    healthcheck: Option<HealthDocument>,
    #[serde(default, deserialize_with = "lenient")]
    shell: Vec<String>,
}

/// Docker's extension of the OCI image config; numbers below zero mean nothing.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct HealthDocument {
    #[serde(deserialize_with = "lenient")]
    test: Vec<String>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

impl HealthDocument {
    fn with_shell(self, shell: Vec<String>) -> HealthCheck {
        let nanoseconds = |number: i64| u64::try_from(number).unwrap_or_default();
        HealthCheck {
            test: self.test,
            interval: nanoseconds(self.interval),
            timeout: nanoseconds(self.timeout),
            start_period: nanoseconds(self.start_period),
            start_interval: nanoseconds(self.start_interval),
            retries: u32::try_from(self.retries).unwrap_or_default(),
            shell,
        }
    }
}

/// Some builders wrote a lone string.
#[derive(Deserialize)]
#[serde(untagged)]
enum StringOrList {
    One(String),
    Many(Vec<String>),
}

impl StringOrList {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn chain_ids_follow_the_specification() {
        let diff_ids: Vec<String> =
            [b"a", b"b", b"c"].into_iter().map(|text| digest_of(text)).collect();
        let chain = chain_ids(&diff_ids);
        assert_eq!(chain[0], diff_ids[0]);
        assert_eq!(chain[1], digest_of(format!("{} {}", diff_ids[0], diff_ids[1]).as_bytes()));
        assert_eq!(chain[2], digest_of(format!("{} {}", chain[1], diff_ids[2]).as_bytes()));
        assert_eq!(chain_ids(&[]), Vec::<String>::new());
    }

    #[test]
    fn nulls_are_absent() {
        let bytes = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Labels":null,"Volumes":null},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = Config::parse(SHA, bytes).unwrap();
        assert_eq!((config.diff_ids.len(), config.labels.len()), (0, 0));
        assert_eq!(image_config(SHA, bytes).unwrap(), ImageConfig::default());
        assert_eq!(image_config(SHA, b"{}").unwrap(), ImageConfig::default());
        assert_eq!(Index::parse(SHA, br#"{"manifests":null}"#).unwrap().manifests, []);
    }

    #[test]
    fn a_config_says_how_to_run() {
        let bytes = br#"{"architecture":"arm64","variant":"v8","os":"linux","created":"2024-01-01T00:00:00Z","config":{"Env":["A=b"],
            "Cmd":"sh","Entrypoint":["/e"],"User":"1:2","WorkingDir":"/w","Labels":{"a":"b","nerdctl/name":"x"},"StopSignal":"SIGINT",
            "ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"ArgsEscaped":true}}"#;
        let config = image_config(SHA, bytes).unwrap();
        assert_eq!(config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(config.entrypoint, Some(vec!["/e".to_owned()]));
        assert_eq!(config.labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert_eq!(
            (config.exposed_ports, config.volumes),
            (vec!["80/tcp".to_owned()], vec!["/v".to_owned()])
        );
        let known = Config::parse(SHA, bytes).unwrap();
        assert_eq!(known.platform.to_string(), "linux/arm64");
        assert_eq!(known.created.unwrap().as_second(), 1_704_067_200);
    }

    #[test]
    fn nonsense_is_bad_content() {
        let wrong_digest =
            br#"{"manifests":[{"mediaType":"x","digest":"../../etc/passwd","size":1}]}"#;
        let empty = format!(r#"{{"config":{{"digest":"{SHA}","size":0}}}}"#);
        let negative = format!(r#"{{"manifests":[{{"digest":"{SHA}","size":-1}}]}}"#);
        assert!(matches!(Index::parse(SHA, wrong_digest), Err(Error::BadContent(_))));
        assert!(matches!(Index::parse(SHA, negative.as_bytes()), Err(Error::BadContent(_))));
        assert!(matches!(Index::parse(SHA, b"<html>"), Err(Error::BadContent(_))));
        assert!(matches!(Manifest::parse(SHA, empty.as_bytes()), Err(Error::BadContent(_))));
        assert!(matches!(Manifest::parse(SHA, b"{}"), Err(Error::BadContent(_))));
        for disguised in [&br#"{"os":"linux","layers":[]}"#[..], br#"{"manifests":[1]}"#] {
            assert!(matches!(Config::parse_new(SHA, disguised), Err(Error::BadContent(_))));
        }
        assert!(Config::parse_new(SHA, br#"{"os":"linux","layers":null}"#).is_ok());
        assert!(matches!(
            Config::parse(SHA, br#"{"rootfs":{"diff_ids":["x"]}}"#),
            Err(Error::BadContent(_))
        ));
    }

    #[test]
    fn uploads_have_gos_names() {
        let descriptor = |media_type: &str| Descriptor {
            media_type: media_type.to_owned(),
            digest: SHA.to_owned(),
            ..Descriptor::default()
        };
        let rows = [
            ("application/vnd.oci.image.index.v1+json", "index-"),
            ("application/vnd.docker.distribution.manifest.v2+json", "manifest-"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "layer-"),
            ("application/vnd.oci.image.layer.v1.tar+zstd", "layer-"),
            ("application/vnd.oci.image.config.v1+json", "config-"),
            ("application/vnd.in-toto+json", "attestation-"),
            ("text/plain", "unknown-"),
        ];
        for (media_type, prefix) in rows {
            assert_eq!(upload_name(&descriptor(media_type)), format!("{prefix}{SHA}"));
        }
        let mut named = descriptor("application/vnd.oci.image.layer.v1.tar");
        named.annotations.insert("org.opencontainers.image.ref.name".to_owned(), "x".to_owned());
        assert_eq!(upload_name(&named), format!("layer-x@{SHA}"));
    }
}
