//! nerdctl's container labels: their keys, a typed view of them, and who may set or see them.
//!
//! nerdctl keeps most of what it knows about a container in containerd labels `nerdctl/*`, and the same values as OCI
//! annotations for its hooks. [`ContainerLabels`] is all of them, decoded; [`keys`] are the keys; [`values`] the JSON
//! documents in them.
//!
//! Sources: nerdctl `pkg/labels/labels.go`, `pkg/labels/mount.go`, `pkg/labels/k8slabels`, `pkg/containerutil`.

mod container;
pub mod keys;
pub mod values;

use std::collections::HashMap;

pub use container::{ContainerLabels, RestartLabels, mounts};

/// containerd refuses a label whose key and value are longer than this together, in bytes
/// (containerd `pkg/labels/validate.go`).
pub const MAX_LABEL_BYTES: usize = 4096;

/// Prefixes that neither an image nor an API client may use for a label or an annotation.
///
/// What is stored below them decides what runs on the host: hooks read annotations, and containerd executes the
/// program named in a restart label.
const RESERVED: [&str; 5] =
    ["nerdctl/", "containerd.io/", "io.containerd.", "io.cri-containerd", "io.kubernetes."];

/// Prefixes of labels that list and inspect never show, so that a tool which recreates a container from what it sees
/// does not send them back. Pods' labels stay visible.
const HIDDEN: [&str; 3] = ["nerdctl/", "containerd.io/", "io.containerd."];

/// Whether a label or annotation key belongs to nerdctl, containerd or Kubernetes.
#[must_use]
pub fn is_reserved_key(key: &str) -> bool {
    RESERVED.iter().any(|prefix| key.starts_with(prefix))
}

/// Whether list and inspect show a label.
#[must_use]
pub fn is_visible_key(key: &str) -> bool {
    !HIDDEN.iter().any(|prefix| key.starts_with(prefix))
}

/// The labels that list and inspect show.
pub fn visible_labels(labels: &HashMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    labels
        .iter()
        .filter(|(key, _)| is_visible_key(key))
        .map(|(key, value)| (key.as_str(), value.as_str()))
}

/// Whether containerd stores this label as given: it refuses long ones and silently drops those without a value
/// (containerd `core/metadata/boltutil`).
#[must_use]
pub fn is_storable(key: &str, value: &str) -> bool {
    !value.is_empty() && key.len() + value.len() <= MAX_LABEL_BYTES
}

/// Whether Kubernetes' CRI made the container: a pod's sandbox or one of its containers.
#[must_use]
pub fn is_cri<S: std::hash::BuildHasher>(labels: &HashMap<String, String, S>) -> bool {
    labels.contains_key(keys::CRI_KIND)
}

/// The name `nerdctl ps` shows: the name label, or `k8s://<namespace>/<pod>[/<container>]` for a pod's container.
/// `None` for containers of other clients (`ctr`).
#[must_use]
pub fn display_name<S: std::hash::BuildHasher>(
    labels: &HashMap<String, String, S>,
) -> Option<String> {
    let get = |key: &str| labels.get(key).filter(|value| !value.is_empty());
    if let Some(name) = get(keys::NAME) {
        return Some(name.clone());
    }
    let (namespace, pod) = (get(keys::POD_NAMESPACE)?, get(keys::POD_NAME)?);
    Some(match get(keys::POD_CONTAINER_NAME) {
        Some(container) => format!("k8s://{namespace}/{pod}/{container}"),
        None => format!("k8s://{namespace}/{pod}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_are_those_of_nerdctl_ps() {
        for (labels, name) in [
            (map(&[("nerdctl/name", "web")]), Some("web")),
            (
                map(&[
                    ("io.kubernetes.pod.namespace", "kube-system"),
                    ("io.kubernetes.pod.name", "dns"),
                    ("io.kubernetes.container.name", "coredns"),
                ]),
                Some("k8s://kube-system/dns/coredns"),
            ),
            (
                map(&[("io.kubernetes.pod.namespace", "default"), ("io.kubernetes.pod.name", "p")]),
                Some("k8s://default/p"),
            ),
            (map(&[("io.kubernetes.pod.name", "p")]), None),
            (map(&[]), None),
        ] {
            assert_eq!(display_name(&labels).as_deref(), name);
        }
    }

    #[test]
    fn keys_that_steer_the_host_are_reserved() {
        for key in [
            "nerdctl/pid-file",
            "containerd.io/restart.loguri",
            "io.containerd.image.config.stop-signal",
            "io.cri-containerd.kind",
            "io.kubernetes.pod.name",
        ] {
            assert!(is_reserved_key(key), "{key}");
        }
        for key in ["maintainer", "com.docker.compose.project", "my.nerdctl/x", "nerdctld"] {
            assert!(!is_reserved_key(key), "{key}");
        }
    }

    #[test]
    fn pods_labels_stay_visible() {
        let labels = map(&[
            ("a", "1"),
            ("nerdctl/name", "web"),
            ("containerd.io/restart.status", "running"),
            ("io.containerd.image.config.stop-signal", "SIGTERM"),
            ("io.kubernetes.pod.name", "p"),
        ]);
        let mut shown: Vec<_> = visible_labels(&labels).collect();
        shown.sort_unstable();
        assert_eq!(shown, [("a", "1"), ("io.kubernetes.pod.name", "p")]);
    }

    #[test]
    fn empty_and_long_labels_are_not_stored() {
        assert!(is_storable("k", &"v".repeat(MAX_LABEL_BYTES - 1)));
        assert!(!is_storable("k", &"v".repeat(MAX_LABEL_BYTES)));
        assert!(!is_storable("k", ""));
    }
}
