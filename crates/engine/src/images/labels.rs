//! Labels that decide what happens on the host are not for images to set.

use std::collections::BTreeMap;

use nerdctl_store::labels::is_reserved_key;

/// The labels of an image that its containers inherit: all but those of nerdctl, containerd and
/// Kubernetes, whose keys are logged.
///
/// A label from an image that ends up on a container could otherwise make nerdctl's hook, the
/// restart plugin or CRI start and mount what the image's author likes.
#[must_use]
pub fn allowed_image_labels(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let (reserved, allowed): (BTreeMap<_, _>, _) =
        labels.into_iter().partition(|(key, _)| is_reserved_key(key));
    if !reserved.is_empty() {
        tracing::warn!(keys = ?reserved.keys(), "reserved labels of an image are left out");
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_keys_are_dropped() {
        let labels = |keys: &[&str]| {
            let pairs = keys.iter().map(|key| ((*key).to_owned(), "x".to_owned()));
            pairs.collect::<BTreeMap<_, _>>()
        };
        let harmless = ["nerdctld", "maintainer", "org.opencontainers.image.title"];
        let dangerous = [
            "nerdctl/name",
            "containerd.io/restart.status",
            "io.containerd.image.config.stop-signal",
            "io.cri-containerd.kind",
            "io.kubernetes.pod.name",
        ];
        assert_eq!(
            allowed_image_labels(labels(&[&harmless[..], &dangerous].concat())),
            labels(&harmless)
        );
    }
}
