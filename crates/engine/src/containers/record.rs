//! One container's record in containerd, read: the only place that knows what our extensions mean.
//!
//! A record of ours carries four extensions (containerd keeps them through nerdctl's own updates, and they have no
//! limit of 4,096 bytes as labels have): what the client asked for, its labels, a few facts that nerdctl has no place
//! for, and a mark that creation is finished. Everything else comes from where nerdctl reads it: labels and OCI spec.

use names::Namespace;

use crate::containers::Container;

/// Extension: the client's request, verbatim.
pub const REQUEST: &str = "nerdctld.request.v1";
/// Extension: the container's Docker labels as a JSON object; authoritative, whatever containerd's labels say.
pub const LABELS: &str = "nerdctld.labels.v1";
/// Extension: [`Facts`] as JSON.
pub const FACTS: &str = "nerdctld.container.v1";
/// Extension: creation is finished. Without it a record of ours is shown to nobody.
pub const READY: &str = "nerdctld.ready";

/// The summary of `record`: all but its state (`State::created()` here), its addresses and its published ports, which
/// are not in the record.
///
/// `None` for what is never shown: a record of ours that is not ready yet, and the containers that buildkitd makes for
/// the steps of a build.
#[must_use]
pub fn summary(record: &containerd::Container, namespace: &Namespace) -> Option<Container> {
    let _ = (record, namespace);
    None
}
