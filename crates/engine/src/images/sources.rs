//! Where a blob came from: a label that lets a push take it over from another repository of the same registry.
//!
//! containerd's own format (containerd `core/remotes/docker/handler.go`): one label for each host, without its port, with
//! the repositories as a sorted list.

use containerd::Labels;
use names::ImageRef;

use crate::{Engine, Result};

const PREFIX: &str = "containerd.io/distribution.source.";
/// containerd's limit for key and value together, in bytes (containerd `labels/validate.go`).
pub(crate) const MAX_LABEL: usize = 4096;

/// The label's key for the registry of `image`.
pub(crate) fn source_key(image: &ImageRef) -> String {
    let domain = image.domain();
    let host = match domain.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => domain,
    };
    format!("{PREFIX}{}", host.trim_start_matches('[').trim_end_matches(']'))
}

/// A comma-separated, sorted list with one more entry.
pub(crate) fn joined(list: &str, entry: &str) -> String {
    let mut entries: Vec<_> =
        list.split(',').chain([entry]).filter(|entry| !entry.is_empty()).collect();
    entries.sort_unstable();
    entries.dedup();
    entries.join(",")
}

/// The repositories that have a blob with these labels, in full and sorted; registries without their ports.
pub(crate) fn repositories(labels: &Labels) -> Vec<String> {
    let mut found = Vec::new();
    for (key, list) in labels {
        let Some(host) = key.strip_prefix(PREFIX) else { continue };
        let names = list.split(',').filter_map(|path| format!("{host}/{path}").parse().ok());
        found.extend(names.map(|name: ImageRef| name.repository()));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The repository from which `image`'s registry can take a blob with these labels: the one whose path begins most like its
/// own (containerd `selectRepositoryMountCandidate`).
pub(crate) fn mount_candidate(labels: &Labels, image: &ImageRef) -> Option<String> {
    let sources = labels.get(&source_key(image))?.split(',');
    let usable = sources.filter(|source| !source.is_empty() && *source != image.path());
    usable.max_by_key(|source| common_parts(source, image.path())).map(str::to_owned)
}

fn common_parts(one: &str, other: &str) -> usize {
    one.split('/').zip(other.split('/')).take_while(|(one, other)| one == other).count()
}

impl Engine {
    /// Notes on a blob that the registry of `image` has it in that repository.
    pub(crate) async fn add_source(&self, digest: &str, image: &ImageRef) -> Result<()> {
        let failed = |error| self.containerd_error(format!("label {digest}"), error);
        let known = match self.containerd().blob(digest).await {
            Ok(blob) => blob.labels,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let key = source_key(image);
        let before = known.get(&key).map(String::as_str).unwrap_or_default();
        let sources = joined(before, image.path());
        if before == sources || key.len() + sources.len() > MAX_LABEL {
            return Ok(());
        }
        match self.containerd().update_blob_labels(digest, [(key, Some(sources))].into()).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_repositories() {
        let labels = [
            ("containerd.io/distribution.source.docker.io", "library/busybox,me/mine"),
            ("containerd.io/distribution.source.127.0.0.1", "a,UPPER"),
            ("containerd.io/uncompressed", "sha256:a"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let expected = ["127.0.0.1/a", "docker.io/library/busybox", "docker.io/me/mine"];
        assert_eq!(repositories(&labels), expected);
    }

    #[test]
    fn sources_are_a_sorted_set() {
        assert_eq!(joined("", "b"), "b");
        assert_eq!(joined("c,a", "b"), "a,b,c");
        assert_eq!(joined("a,b", "b"), "a,b");
    }

    #[test]
    fn keys_have_no_port() {
        let key = |image: &str| source_key(&image.parse().unwrap());
        assert_eq!(key("nginx"), "containerd.io/distribution.source.docker.io");
        assert_eq!(key("localhost:5000/a/b"), "containerd.io/distribution.source.localhost");
    }

    #[test]
    fn the_nearest_repository_is_asked() {
        let image: ImageRef = "r.example/team/app:1".parse().unwrap();
        let labels = |list: &str| Labels::from([(source_key(&image), list.to_owned())]);
        let candidate = |list: &str| mount_candidate(&labels(list), &image);
        assert_eq!(candidate("other,team/base"), Some("team/base".to_owned()));
        assert_eq!(candidate("team/app"), None);
        assert_eq!(candidate(""), None);
        assert_eq!(mount_candidate(&Labels::new(), &image), None);
    }
}
