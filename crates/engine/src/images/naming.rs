//! containerd's image names and what people call the same images.
//!
//! containerd takes any text as the name of an image. dockerd and nerdctl write full references;
//! besides those there are names that only keep content alive: dockerd's `moby-dangling@sha256:…`,
//! `overlayfs@sha256:…` and `<none>@sha256:…` of builds and imports, CRI's `sha256:…`. People see an
//! image that has only such names as one without a name.

use containerd::Labels;
use containerd::images::{Image, NewImage};
use names::ImageRef;

use crate::{Engine, Result};

const DANGLING_PREFIX: &str = "moby-dangling@";
/// What images without a name are kept by: dockerd's, and those of nerdctl's builds and imports.
const NAMELESS_PREFIXES: [&str; 3] = [DANGLING_PREFIX, "overlayfs@", "<none>@"];

/// The name that keeps an image that lost its name (moby `daemon/containerd/soft_delete.go`).
pub(crate) fn dangling_name(digest: &str) -> String {
    format!("{DANGLING_PREFIX}{digest}")
}

/// The record only keeps an image that lost its name.
pub(crate) fn is_dangling(image: &Image) -> bool {
    image.name == dangling_name(&image.target.digest)
}

/// Docker's or nerdctl's name for an image without one: something, and the digest of what it stands for. Other names that
/// people do not use are other programs'.
pub(crate) fn is_nameless(image: &Image) -> bool {
    let digest = image.target.digest.as_str();
    NAMELESS_PREFIXES.iter().any(|prefix| image.name.strip_prefix(prefix) == Some(digest))
}

/// The reference that a record stands for, if it stands for one.
pub(crate) fn reference_of(image: &Image) -> Option<ImageRef> {
    let is_bare_digest = image.name.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64);
    if is_bare_digest {
        return None;
    }
    let reference: ImageRef = image.name.parse().ok()?;
    // A short name with a tag is what `ctr` was told; a short name with a digest was made up by a program.
    let is_full = reference.to_string() == image.name;
    (is_full || reference.tag().is_some()).then_some(reference)
}

/// `RepoTags` and `RepoDigests` of all records of one digest (moby `daemon/containerd/image_inspect.go`,
/// `collectRepoTagsAndDigests`).
pub(crate) fn repo_tags_and_digests<'a>(
    records: impl Iterator<Item = &'a Image>,
) -> (Vec<String>, Vec<String>) {
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    for record in records {
        let Some(reference) = reference_of(record) else { continue };
        push_new(&mut tags, reference.familiar());
        let digested = match (reference.digest(), record.target.digest.parse()) {
            (Some(_), _) => reference.familiar(),
            (None, Ok(digest)) => reference.with_digest(digest).familiar(),
            (None, Err(_)) => continue,
        };
        push_new(&mut digests, digested);
    }
    (tags, digests)
}

fn push_new(list: &mut Vec<String>, entry: String) {
    if !list.contains(&entry) {
        list.push(entry);
    }
}

impl Engine {
    /// Before a record is given to another image or taken away: keeps the image that it stands for. Also where that has
    /// other names: they may just be going as well.
    pub(crate) async fn keep_without_name(&self, image: &Image) -> Result<()> {
        let labels = inherited_labels(&image.labels);
        let name = dangling_name(&image.target.digest);
        let new = NewImage { name, labels, target: image.target.clone() };
        match self.containerd().create_image(new).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(self.containerd_error(format!("keep image {}", image.name), error)),
        }
    }

    /// All records whose target has this digest.
    pub(crate) async fn image_records(&self, digest: &str) -> Result<Vec<Image>> {
        let filter = containerd::filter::equals("target.digest", digest);
        let listed = self.containerd().list_images(&[&filter]).await;
        listed.map_err(|error| self.containerd_error(format!("look for images of {digest}"), error))
    }
}

/// All labels but those that repeat the name, or that hand the image to Kubernetes.
pub(crate) fn inherited_labels(labels: &Labels) -> Labels {
    let names = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    let keep = labels
        .iter()
        .filter(|(key, _)| !names.contains(&key.as_str()) && !key.starts_with("io.cri-containerd"));
    keep.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use super::*;

    pub(in crate::images) const DIGEST: &str =
        "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    /// A name of the image with [`DIGEST`].
    pub(in crate::images) fn record(name: &str) -> Image {
        Image {
            name: name.to_owned(),
            labels: Labels::new(),
            target: containerd::Descriptor {
                digest: DIGEST.to_owned(),
                ..containerd::Descriptor::default()
            },
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn made_up_names_are_no_names() {
        let hex = DIGEST.trim_start_matches("sha256:");
        for name in [
            dangling_name(DIGEST),
            format!("overlayfs@{DIGEST}"),
            format!("<none>@{DIGEST}"),
            format!("sha256:{hex}"),
            ":".to_owned(),
            "A b".to_owned(),
        ] {
            assert_eq!(reference_of(&record(&name)), None, "{name}");
        }
        for (name, familiar) in [
            ("docker.io/library/nginx:1".to_owned(), "nginx:1".to_owned()),
            ("nginx:1".to_owned(), "nginx:1".to_owned()),
            (format!("docker.io/library/nginx@{DIGEST}"), format!("nginx@{DIGEST}")),
        ] {
            assert_eq!(reference_of(&record(&name)).unwrap().familiar(), familiar, "{name}");
        }
        assert!(is_dangling(&record(&dangling_name(DIGEST))));
        for (name, nameless) in [
            (dangling_name(DIGEST), true),
            (format!("overlayfs@{DIGEST}"), true),
            (format!("<none>@{DIGEST}"), true),
            (format!("<none>@sha256:{}", "b".repeat(64)), false),
            (DIGEST.to_owned(), false),
            ("what ctr was told".to_owned(), false),
        ] {
            assert_eq!(is_nameless(&record(&name)), nameless, "{name}");
        }
    }

    #[test]
    fn tags_and_digests_are_collected_once() {
        let records =
            ["docker.io/library/a:1", "a:1", "quay.io/b:2", &dangling_name(DIGEST)].map(record);
        let (tags, digests) = repo_tags_and_digests(records.iter());
        assert_eq!(tags, ["a:1", "quay.io/b:2"]);
        assert_eq!(digests, [format!("a@{DIGEST}"), format!("quay.io/b@{DIGEST}")]);
    }
}
