//! What the OCI hook, and nerdctl's own commands, read from the spec.

use std::collections::{BTreeMap, HashMap};

/// Every label that belongs to nerdctl, empty ones too (`nerdctl/domainname`), and the user's annotations.
///
/// nerdctl copies exactly the labels whose key contains `nerdctl/` (`pkg/cmd/container/create.go`).
pub(super) fn annotations(
    labels: &BTreeMap<String, String>,
    user: &BTreeMap<String, String>,
) -> HashMap<String, String> {
    let internal = labels.iter().filter(|(key, _)| key.contains("nerdctl/"));
    user.iter().chain(internal).map(|(key, value)| (key.clone(), value.clone())).collect()
}
