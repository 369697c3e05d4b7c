//! An image of our own making: its documents written, its name given. Commit and import end here.
//!
//! Everything is under the caller's lease until the image's record protects it; the record comes last.

use std::collections::BTreeMap;

use containerd::Labels;
use containerd::content::{Committed, NewIngest};
use jiff::Timestamp;
use names::ImageRef;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Descriptor;
use super::documents::{MAX_DOCUMENT, chain_ids, digest_of, upload_name};
use super::lease::WorkLease;
use super::naming::dangling_name;
use super::run_config::RunConfig;
use super::unpack::{LayerStep, Unpacker, snapshot_label};
use crate::events::{Event, EventType};
use crate::{Engine, Error, Result, fault};

/// Media type of layers that we make.
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Label of a layer blob: its diffID.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// The diffID of a layer without files: an archive that ends at once.
const EMPTY_LAYER: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
/// Which image it was made of (moby `daemon/containerd/image_builder.go`).
pub(super) const PARENT: &str = "org.mobyproject.image.parent";

/// An image that is to be made.
#[derive(Debug)]
pub(crate) struct NewImageSpec {
    /// The config of the image below, whose unknown keys and history stay; empty for an image of its own.
    pub(crate) base: Map<String, Value>,
    /// Layers of the image below.
    pub(crate) layers: Vec<Descriptor>,
    /// What is new; [`None`] if nothing is.
    pub(crate) layer: Option<Descriptor>,
    pub(crate) config: RunConfig,
    pub(crate) author: String,
    pub(crate) comment: String,
    /// The command whose work the layer is, in history.
    pub(crate) created_by: String,
    /// Id of the image below.
    pub(crate) parent: String,
    /// Its name; without one it is found by its id.
    pub(crate) name: Option<ImageRef>,
}

/// An entry of the history (OCI image-spec `config.md`).
#[derive(Serialize)]
struct History {
    created: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    created_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    author: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    empty_layer: bool,
}

impl Engine {
    /// Writes the documents, unpacks the new layer, and makes the record. Gives the image's id.
    pub(crate) async fn make_image(&self, lease: &WorkLease, spec: NewImageSpec) -> Result<String> {
        let mut diff_ids = diff_ids(&spec.base);
        let mut layers = spec.layers.clone();
        let mut empty_layer = true;
        if let Some(layer) = spec.layer.clone() {
            let diff_id = self.diff_id(lease, &layer).await?;
            if diff_id != EMPTY_LAYER {
                empty_layer = false;
                diff_ids.push(diff_id);
                layers.push(layer);
            }
        }
        let chain = chain_ids(&diff_ids);
        if let (false, [.., diff_id], [.., layer]) = (empty_layer, &diff_ids[..], &layers[..]) {
            let parent = chain.len().checked_sub(2).map_or("", |below| chain[below].as_str());
            let chain_id = chain.last().map(String::as_str).unwrap_or_default();
            let step = LayerStep { layer, diff_id, parent, chain_id };
            Unpacker::new(self, lease).layer(step).await?;
        }
        fault::reached("make.layer");
        let config = document(&config(&spec, &diff_ids, empty_layer)?, CONFIG);
        if config.0.size > MAX_DOCUMENT {
            return Err(Error::InvalidParameter(format!(
                "the image's config has {} bytes, it may have {MAX_DOCUMENT}",
                config.0.size
            )));
        }
        let mut labels = Labels::new();
        if let Some(top) = chain.last() {
            labels.insert(snapshot_label(&self.settings().snapshotter), top.clone());
        }
        self.write_document(lease, &config, labels).await?;
        fault::reached("make.config");
        let manifest = document(&manifest(&config.0, &layers), MANIFEST);
        let mut labels = Labels::from([(
            "containerd.io/gc.ref.content.config".to_owned(),
            config.0.digest.clone(),
        )]);
        labels.extend(layers.iter().enumerate().map(|(at, layer)| {
            (format!("containerd.io/gc.ref.content.l.{at}"), layer.digest.clone())
        }));
        self.write_document(lease, &manifest, labels).await?;
        fault::reached("make.manifest");
        let id = manifest.0.digest.clone();
        self.name_image(&manifest.0, spec.name.as_ref(), &spec.parent).await?;
        fault::reached("make.image");
        Ok(id)
    }

    /// What a layer is when it is unpacked, as containerd found when it made it.
    async fn diff_id(&self, lease: &WorkLease, layer: &Descriptor) -> Result<String> {
        let blob = lease.client().blob(&layer.digest).await.map_err(|error| {
            self.containerd_error(format!("look at layer {}", layer.digest), error)
        })?;
        blob.labels
            .get(UNCOMPRESSED)
            .cloned()
            .ok_or_else(|| Error::BadContent(format!("layer {} has no diffID", layer.digest)))
    }

    /// Stores a document with labels that keep alive what it refers to.
    pub(super) async fn write_document(
        &self,
        lease: &WorkLease,
        (descriptor, bytes): &(Descriptor, Vec<u8>),
        labels: Labels,
    ) -> Result<()> {
        let failed = |error| {
            self.containerd_error(
                format!("store the image's document {}", descriptor.digest),
                error,
            )
        };
        let new = NewIngest {
            name: upload_name(descriptor),
            total: Some(descriptor.size),
            expected: Some(descriptor.digest.clone()),
        };
        let written = lease.write_blob(new, bytes, labels.clone()).await;
        if written.map_err(failed)? == Committed::AlreadyExists {
            let patch: BTreeMap<_, _> =
                labels.into_iter().map(|(key, value)| (key, Some(value))).collect();
            self.containerd()
                .update_blob_labels(&descriptor.digest, patch)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Gives a manifest its name, or keeps it without one.
    async fn name_image(
        &self,
        manifest: &Descriptor,
        name: Option<&ImageRef>,
        parent: &str,
    ) -> Result<()> {
        let full = match name {
            Some(name) => name.to_string(),
            None => dangling_name(&manifest.digest),
        };
        let mut labels = Labels::new();
        if !parent.is_empty() {
            labels.insert(PARENT.to_owned(), parent.to_owned());
        }
        self.put_image(&full, manifest, labels).await
    }

    /// The event of a new name.
    pub(crate) fn publish_tag(&self, id: &str, familiar: &str) {
        self.hub().publish(Event {
            kind: EventType::Image,
            action: "tag".to_owned(),
            actor: id.to_owned(),
            attributes: [("name".to_owned(), familiar.to_owned())].into(),
            at: Timestamp::now(),
        });
    }
}

fn diff_ids(base: &Map<String, Value>) -> Vec<String> {
    let listed = base.get("rootfs").and_then(|rootfs| rootfs["diff_ids"].as_array());
    listed.into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// The image's config: what was there, with what is new.
fn config(spec: &NewImageSpec, diff_ids: &[String], empty_layer: bool) -> Result<Value> {
    let now = Timestamp::now().to_string();
    let failed = |error: serde_json::Error| Error::failed("write the image's config", error);
    let mut config = spec.base.clone();
    let mut history = match config.remove("history") {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let entry = History {
        created: now.clone(),
        created_by: spec.created_by.clone(),
        author: spec.author.clone(),
        comment: spec.comment.clone(),
        empty_layer,
    };
    history.push(serde_json::to_value(entry).map_err(failed)?);
    // Of Docker's first formats; they would tell of another container.
    for key in ["container", "container_config", "docker_version", "id", "parent", "author"] {
        config.remove(key);
    }
    if !spec.author.is_empty() {
        config.insert("author".into(), spec.author.clone().into());
    }
    config.insert("created".into(), now.into());
    config.insert("config".into(), serde_json::to_value(&spec.config).map_err(failed)?);
    config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
    config.insert("history".into(), history.into());
    Ok(config.into())
}

fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Value {
    let layers: Vec<Value> = layers.iter().map(descriptor).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config),
        "layers": layers,
    })
}

/// As it stands in documents.
pub(super) fn descriptor(of: &Descriptor) -> Value {
    let mut value = json!({"mediaType": of.media_type, "digest": of.digest, "size": of.size});
    if !of.annotations.is_empty() {
        value["annotations"] = json!(of.annotations);
    }
    if !of.urls.is_empty() {
        value["urls"] = json!(of.urls);
    }
    if let Some(platform) = &of.platform {
        value["platform"] = json!({"os": platform.os(), "architecture": platform.architecture()});
        if let Some(variant) = platform.variant() {
            value["platform"]["variant"] = variant.into();
        }
    }
    value
}

/// A document's bytes, with the descriptor that names them.
pub(super) fn document(value: &Value, media_type: &str) -> (Descriptor, Vec<u8>) {
    let bytes = value.to_string().into_bytes();
    let descriptor = Descriptor {
        media_type: media_type.to_owned(),
        digest: digest_of(&bytes),
        size: bytes.len() as u64,
        ..Descriptor::default()
    };
    (descriptor, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(base: &Value) -> NewImageSpec {
        NewImageSpec {
            base: base.as_object().cloned().unwrap_or_default(),
            layers: Vec::new(),
            layer: None,
            config: RunConfig { user: "u".into(), ..RunConfig::default() },
            author: "me".into(),
            comment: "why".into(),
            created_by: "sh".into(),
            parent: String::new(),
            name: None,
        }
    }

    #[test]
    fn a_config_goes_on_from_the_one_below() {
        let base = json!({
            "architecture": "arm64", "os": "linux", "variant": "v8", "unknown": [1],
            "container": "0123", "history": [{"created_by": "first"}],
            "rootfs": {"type": "layers", "diff_ids": ["sha256:a"]}, "config": {"User": "old"},
        });
        let spec = spec(&base);
        let made = config(&spec, &["sha256:a".into(), "sha256:b".into()], false).unwrap();
        assert_eq!(made["history"][1]["created_by"], "sh");
        assert_eq!(made["history"][1].get("empty_layer"), None);
        assert_eq!(made["rootfs"]["diff_ids"][1], "sha256:b");
        assert_eq!((&made["variant"], &made["unknown"][0]), (&json!("v8"), &json!(1)));
        assert_eq!((&made["config"]["User"], made.get("container")), (&json!("u"), None));
        assert_eq!(diff_ids(&spec.base), ["sha256:a"]);
    }

    #[test]
    fn the_empty_layer_is_an_archive_without_entries() {
        assert_eq!(digest_of(&[0; 1024]), EMPTY_LAYER);
    }
}
