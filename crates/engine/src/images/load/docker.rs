//! What Docker wrote before OCI layouts: `manifest.json` names a config, layers and tags of each image (moby
//! `image/tarexport`). It has no manifests; they are made here, as containerd makes them (containerd
//! `core/images/archive/importer.go`).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::intake::{File, Stored};
use super::oci::parsed;
use super::{MAX_IMAGES, Target, bad};
use crate::images::Descriptor;
use crate::images::documents::Manifest;
use crate::images::lease::WorkLease;
use crate::images::make::{descriptor, document};
use crate::images::pull::manifest_labels;
use crate::images::unpack::MAX_LAYERS;
use crate::{Engine, Error, Result};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Label of a layer blob: its diffID.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// One image.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default, rename = "Config")]
    config: String,
    #[serde(default, rename = "RepoTags", deserialize_with = "at_most::<_, _, MAX_IMAGES>")]
    tags: Vec<String>,
    #[serde(default, rename = "Layers", deserialize_with = "at_most::<_, _, MAX_LAYERS>")]
    layers: Vec<String>,
}

/// All of them.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Entries {
    #[serde(deserialize_with = "at_most::<_, _, MAX_IMAGES>")]
    images: Vec<Entry>,
}

/// A list that is refused while it is read, before it takes much memory. Go's nil slices are `null` in JSON.
fn at_most<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(AtMost::<T, MOST>(PhantomData))
}

struct AtMost<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for AtMost<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST}")
    }

    fn visit_unit<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::custom(format!("more than {MOST} entries in a list")));
            }
            list.push(entry);
        }
        Ok(list)
    }
}

/// The images that `manifest.json` names, each name once.
pub(super) async fn targets(
    engine: &Engine,
    lease: &WorkLease,
    stored: &Stored,
) -> Result<Vec<Target>> {
    let Some(manifest) = &stored.manifest else {
        return Err(bad("unrecognized image format"));
    };
    let entries: Entries = serde_json::from_slice(manifest)
        .map_err(|error| bad(format!("untar manifest \"manifest.json\": {error}")))?;
    let mut targets = Vec::new();
    for entry in entries.images {
        // Names that are none are known before anything is made.
        let names: Result<Vec<_>> = entry.tags.iter().map(|tag| parsed(tag)).collect();
        let descriptor = make_manifest(engine, lease, stored, &entry).await?;
        let names = names?;
        if names.is_empty() {
            targets.push(Target { descriptor, name: None });
        } else {
            let named = names.into_iter();
            targets.extend(
                named.map(|name| Target { descriptor: descriptor.clone(), name: Some(name) }),
            );
        }
    }
    Ok(targets)
}

async fn make_manifest(
    engine: &Engine,
    lease: &WorkLease,
    stored: &Stored,
    entry: &Entry,
) -> Result<Descriptor> {
    let Some(config) = stored.file(&entry.config) else {
        return Err(bad(format!("image config {:?} not found", entry.config)));
    };
    let mut layers = Vec::with_capacity(entry.layers.len());
    for path in &entry.layers {
        let Some(file) = stored.file(path) else {
            return Err(bad(format!("failed to resolve layers: layer {path:?} not found")));
        };
        layers.push((path, file));
    }
    let compressed = compressed_forms(engine, lease, layers.iter().map(|(_, file)| *file)).await?;
    let layers: Result<Vec<Descriptor>> = layers
        .into_iter()
        .map(|(path, file)| match compressed.get(&file.digest) {
            Some(known) => Ok(known.clone()),
            None => Ok(described(file, media_type(path, &file.start)?)),
        })
        .collect();
    let manifest = Manifest { config: described(config, CONFIG), layers: layers? };
    let listed: Vec<_> = manifest.layers.iter().map(descriptor).collect();
    let text = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(&manifest.config),
        "layers": listed,
    });
    let written = document(&text, MANIFEST);
    engine.write_document(lease, &written, manifest_labels(&manifest)).await?;
    Ok(written.0)
}

/// Layers that are here in the compressed form in which they were once pulled: with those, a push has nothing to send.
async fn compressed_forms(
    engine: &Engine,
    lease: &WorkLease,
    files: impl Iterator<Item = &File>,
) -> Result<HashMap<String, Descriptor>> {
    let plain = files.filter(|file| media_type("", &file.start).is_ok_and(|kind| kind == LAYER));
    let digests: BTreeSet<&str> = plain.map(|file| file.digest.as_str()).collect();
    let filters: Vec<String> =
        digests.iter().map(|digest| containerd::filter::label(UNCOMPRESSED, digest)).collect();
    if filters.is_empty() {
        return Ok(HashMap::new());
    }
    let failed = |error| engine.containerd_error("look for compressed layers", error);
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let mut forms = HashMap::new();
    for blob in engine.containerd().list_blobs(&filters).await.map_err(failed)? {
        let Some(diff_id) = blob.labels.get(UNCOMPRESSED).filter(|id| **id != blob.digest) else {
            continue;
        };
        lease.hold(&blob.digest).await.map_err(failed)?;
        if let Some(start) = start_of(engine, &blob.digest).await? {
            let kind = media_type(&blob.digest, &start)?;
            let file = File { digest: blob.digest.clone(), size: blob.size, start };
            forms.insert(diff_id.clone(), described(&file, kind));
        }
    }
    Ok(forms)
}

/// The first bytes of a blob; `None` if it was collected meanwhile.
async fn start_of(engine: &Engine, digest: &str) -> Result<Option<Vec<u8>>> {
    let failed = |error| engine.containerd_error(format!("read {digest}"), error);
    let mut reader = match engine.containerd().read_blob(digest, 0, Some(6)).await {
        Ok(reader) => reader,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match reader.next().await {
        Ok(start) => Ok(start),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn described(file: &File, media_type: &str) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: file.digest.clone(),
        size: file.size,
        ..Descriptor::default()
    }
}

/// What a layer is, by its first bytes. containerd reads no others.
fn media_type(path: &str, start: &[u8]) -> Result<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Ok(LAYER_GZIP),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(LAYER_ZSTD),
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(Error::BadContent(
            format!("layer {path:?} is compressed with bzip2 or xz, which no layer can be"),
        )),
        _ => Ok(LAYER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::documents::Kind;

    #[test]
    fn lists_are_bounded_while_they_are_read() {
        let read = |text: &str| serde_json::from_str::<Entries>(text).map(|read| read.images.len());
        assert_eq!(read(r#"[{"RepoTags":null,"Layers":["a"]},{}]"#).unwrap(), 2);
        let layers =
            |count: usize| format!(r#"[{{"Layers":["a"{}]}}]"#, r#","a""#.repeat(count - 1));
        assert_eq!(read(&layers(MAX_LAYERS)).unwrap(), 1);
        for long in [layers(MAX_LAYERS + 1), format!("[{{}}{}]", ",{}".repeat(MAX_IMAGES))] {
            assert!(read(&long).unwrap_err().to_string().starts_with("more than"));
        }
        assert!(read("7").is_err());
    }

    #[test]
    fn layers_are_told_by_their_start() {
        assert_eq!(media_type("", b"\x1f\x8b\x08").unwrap(), LAYER_GZIP);
        assert_eq!(media_type("", b"\x28\xb5\x2f\xfd\x24").unwrap(), LAYER_ZSTD);
        assert_eq!(media_type("", b"etc/passwd").unwrap(), LAYER);
        assert!(media_type("x", b"BZh91A").is_err());
        for kind in [LAYER, LAYER_GZIP, LAYER_ZSTD] {
            assert_eq!(Kind::of(kind), Kind::Layer);
        }
    }
}
