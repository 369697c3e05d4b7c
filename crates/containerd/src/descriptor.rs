//! A pointer to a blob.

use std::collections::BTreeMap;

use containerd_client::types;

use crate::wire;

/// A typed pointer to a blob, as in the OCI image spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Media type of the blob.
    pub media_type: String,
    /// `algorithm:hex`.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
    /// Annotations; those below `containerd.io/snapshot/` reach snapshotters.
    pub annotations: BTreeMap<String, String>,
}

impl From<types::Descriptor> for Descriptor {
    fn from(descriptor: types::Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type,
            digest: descriptor.digest,
            size: wire::unsigned(descriptor.size),
            annotations: descriptor.annotations.into_iter().collect(),
        }
    }
}

impl From<Descriptor> for types::Descriptor {
    fn from(descriptor: Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type,
            digest: descriptor.digest,
            size: wire::signed(descriptor.size),
            annotations: descriptor.annotations.into_iter().collect(),
        }
    }
}
