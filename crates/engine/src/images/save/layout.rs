//! What is in the archive: blobs, `index.json` and `oci-layout` (OCI image-layout), `manifest.json` for Docker (containerd
//! `core/images/archive/exporter.go`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use names::ImageRef;
use serde_json::{Value, json};
use tar::EntryType;

use crate::archive::header::{self, Description};
use crate::images::Descriptor;
use crate::images::documents::Manifest;
use crate::images::make::descriptor;

/// The archive's content, in the making.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Digest and bytes.
    blobs: BTreeMap<String, u64>,
    /// One entry for each name.
    images: Vec<Value>,
    /// One entry for each manifest.
    manifests: Vec<DockerManifest>,
}

/// An entry of `manifest.json`.
#[derive(Debug)]
struct DockerManifest {
    digest: String,
    config: String,
    layers: Vec<String>,
    tags: Vec<String>,
}

/// What is written next.
#[derive(Debug)]
pub(super) enum Part {
    /// These bytes.
    Bytes(Bytes),
    /// A blob of the store, with what fills its last block.
    Blob { digest: String, size: u64 },
}

impl Layout {
    pub(super) fn add_blobs<'a>(&mut self, blobs: impl IntoIterator<Item = &'a (String, u64)>) {
        self.blobs.extend(blobs.into_iter().cloned());
    }

    /// An image, under its name if it has one.
    pub(super) fn add_image(&mut self, mut target: Descriptor, name: Option<&ImageRef>) {
        for key in [IMAGE_NAME, REF_NAME] {
            target.annotations.remove(key);
        }
        if let Some(name) = name {
            let full = name.to_string();
            let tag = name.tag().map_or_else(|| full.clone(), str::to_owned);
            target.annotations.insert(IMAGE_NAME.to_owned(), full);
            target.annotations.insert(REF_NAME.to_owned(), tag);
        }
        let entry = descriptor(&target);
        if !self.images.contains(&entry) {
            self.images.push(entry);
        }
    }

    /// What a Docker without indexes takes for the image.
    pub(super) fn add_manifest(
        &mut self,
        digest: &str,
        manifest: &Manifest,
        name: Option<&ImageRef>,
    ) {
        let known = self.manifests.iter().position(|known| known.digest == digest);
        let at = known.unwrap_or_else(|| {
            self.manifests.push(DockerManifest {
                digest: digest.to_owned(),
                config: path_of(&manifest.config.digest),
                layers: manifest.layers.iter().map(|layer| path_of(&layer.digest)).collect(),
                tags: Vec::new(),
            });
            self.manifests.len() - 1
        });
        let tags = &mut self.manifests[at].tags;
        if let Some(tag) = name.map(ImageRef::familiar).filter(|tag| !tags.contains(tag)) {
            tags.push(tag);
        }
    }

    /// In the order of names, which is the same whatever was asked for first.
    pub(super) fn into_parts(self) -> VecDeque<Part> {
        let mut parts = VecDeque::new();
        let mut algorithms: Vec<&str> =
            self.blobs.keys().filter_map(|digest| Some(digest.split_once(':')?.0)).collect();
        algorithms.dedup();
        if !algorithms.is_empty() {
            parts.push_back(directory("blobs/"));
        }
        let mut open = "";
        for (digest, size) in &self.blobs {
            let algorithm = digest.split_once(':').map_or("", |(algorithm, _)| algorithm);
            if open != algorithm {
                open = algorithm;
                parts.push_back(directory(&format!("blobs/{algorithm}/")));
            }
            parts.push_back(Part::Bytes(entry(&path_of(digest), EntryType::Regular, 0o444, *size)));
            parts.push_back(Part::Blob { digest: digest.clone(), size: *size });
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.images});
        parts.push_back(file("index.json", 0o644, &index));
        if !self.manifests.is_empty() {
            let manifests: Vec<Value> =
                self.manifests.into_iter().map(DockerManifest::into_json).collect();
            parts.push_back(file("manifest.json", 0o644, &manifests.into()));
        }
        parts.push_back(file("oci-layout", 0o444, &json!({"imageLayoutVersion": "1.0.0"})));
        let mut end = Vec::new();
        // Memory takes all bytes.
        let _ = header::end(&mut end);
        parts.push_back(Part::Bytes(end.into()));
        parts
    }
}

impl DockerManifest {
    fn into_json(self) -> Value {
        let tags = if self.tags.is_empty() { Value::Null } else { self.tags.into() };
        json!({"Config": self.config, "RepoTags": tags, "Layers": self.layers})
    }
}

/// Full reference of an image (containerd `core/images/annotations.go`).
const IMAGE_NAME: &str = "io.containerd.image.name";
/// Its tag (OCI image-spec `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn path_of(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn directory(name: &str) -> Part {
    Part::Bytes(entry(name, EntryType::Directory, 0o755, 0))
}

fn file(name: &str, mode: u32, content: &Value) -> Part {
    let content = content.to_string().into_bytes();
    let size = content.len() as u64;
    let mut bytes = entry(name, EntryType::Regular, mode, size).to_vec();
    bytes.extend_from_slice(&content);
    bytes.extend_from_slice(&padding(size));
    Part::Bytes(bytes.into())
}

/// The header of an entry.
fn entry(name: &str, kind: EntryType, mode: u32, size: u64) -> Bytes {
    let description = Description {
        name: name.as_bytes(),
        kind,
        link: b"",
        mode,
        uid: 0,
        gid: 0,
        size,
        modified: 0,
        device: (0, 0),
        attributes: &[],
    };
    let mut bytes = Vec::new();
    // Memory takes all bytes, and nothing of this does not fit into a header.
    let _ = description.write(&mut bytes);
    bytes.into()
}

/// What fills the last block of a file.
pub(super) fn padding(size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Memory takes all bytes.
    let _ = header::pad(&mut bytes, size);
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn layout() -> Layout {
        let digest = |letter: char| format!("sha256:{}", String::from(letter).repeat(64));
        let manifest = Manifest {
            config: Descriptor { digest: digest('c'), ..Descriptor::default() },
            layers: vec![Descriptor { digest: digest('d'), ..Descriptor::default() }],
        };
        let target = Descriptor { digest: digest('a'), size: 7, ..Descriptor::default() };
        let mut layout = Layout::default();
        layout.add_blobs(&[(digest('a'), 7), (digest('a'), 7)]);
        for name in [Some("b:1"), Some("a:2"), None, Some("b:1")] {
            let name: Option<ImageRef> = name.map(|name| name.parse().unwrap());
            layout.add_image(target.clone(), name.as_ref());
            layout.add_manifest(&target.digest, &manifest, name.as_ref());
        }
        layout
    }

    /// Name and content of all entries; blobs are ones.
    fn written(layout: Layout) -> Vec<(String, String)> {
        let mut bytes = Vec::new();
        for part in layout.into_parts() {
            match part {
                Part::Bytes(part) => bytes.extend_from_slice(&part),
                Part::Blob { size, .. } => {
                    bytes.extend(std::iter::repeat_n(b'1', usize::try_from(size).unwrap()));
                    bytes.extend(padding(size));
                }
            }
        }
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        entries.collect()
    }

    #[test]
    fn others_can_read_it() {
        let written = written(layout());
        let names: Vec<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
        let blob = path_of(&format!("sha256:{}", "a".repeat(64)));
        let expected =
            ["blobs/", "blobs/sha256/", &blob, "index.json", "manifest.json", "oci-layout"];
        assert_eq!(names, expected);
        let index: Value = serde_json::from_str(&written[3].1).unwrap();
        let images = index["manifests"].as_array().unwrap();
        assert_eq!(images.len(), 3, "the same name is told once");
        assert_eq!(images[0]["annotations"][IMAGE_NAME], "docker.io/library/b:1");
        assert_eq!(images[0]["annotations"][REF_NAME], "1");
        let manifests: Value = serde_json::from_str(&written[4].1).unwrap();
        assert_eq!(manifests[0]["RepoTags"], json!(["b:1", "a:2"]));
        assert_eq!(manifests.as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn nothing_is_an_archive_too() {
        let names: Vec<String> =
            written(Layout::default()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["index.json", "oci-layout"]);
    }
}
