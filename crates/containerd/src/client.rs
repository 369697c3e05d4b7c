//! The handle: one containerd, one namespace, perhaps one lease.

use std::path::Path;
use std::sync::Arc;

use containerd_client::services::v1::{
    containers_client::ContainersClient, content_client::ContentClient, diff_client::DiffClient,
    events_client::EventsClient, images_client::ImagesClient,
    introspection_client::IntrospectionClient, leases_client::LeasesClient,
    namespaces_client::NamespacesClient, snapshots::snapshots_client::SnapshotsClient,
    tasks_client::TasksClient, version_client::VersionClient,
};
use tonic::transport::Channel;

use crate::channels::Channels;

/// The largest message that we accept: as much as containerd sends at most
/// (containerd `defaults/defaults.go`). tonic's own limit of 4 MiB is too small for a list.
const DECODE_LIMIT: usize = 16 << 20;

/// A handle to one containerd, bound to a namespace and perhaps to a lease. Cheap to clone; clones
/// share their two connections.
#[derive(Clone, Debug)]
pub struct Client {
    channels: Arc<Channels>,
    namespace: Arc<str>,
    lease: Option<Arc<str>>,
}

impl Client {
    /// A handle to the containerd at this socket. Does nothing yet; the first call connects.
    #[must_use]
    pub fn new(socket: &Path, namespace: &str) -> Self {
        Self { channels: Arc::new(Channels::new(socket)), namespace: namespace.into(), lease: None }
    }

    /// The same containerd in another namespace, without a lease (leases belong to a namespace).
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { channels: Arc::clone(&self.channels), namespace: namespace.into(), lease: None }
    }

    /// The same handle under a lease: content and snapshots touched through it belong to the lease
    /// and are safe from garbage collection until it ends.
    #[must_use]
    pub fn with_lease(&self, id: &str) -> Self {
        Self { lease: Some(id.into()), ..self.clone() }
    }

    /// The namespace of this handle.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The lease of this handle.
    #[must_use]
    pub fn lease(&self) -> Option<&str> {
        self.lease.as_deref()
    }

    /// Where containerd listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.channels.socket()
    }
}

/// One accessor per service: generated client on the right connection, with our limit.
macro_rules! services {
    ($($name:ident: $client:ident over $connection:ident;)*) => {
        impl Client {
            $(pub(crate) fn $name(&self) -> $client<Channel> {
                $client::new(self.channels.$connection()).max_decoding_message_size(DECODE_LIMIT)
            })*
        }
    };
}

services! {
    containers_service: ContainersClient over control;
    tasks_service: TasksClient over control;
    events_service: EventsClient over control;
    images_service: ImagesClient over control;
    content_service: ContentClient over control;
    content_bytes_service: ContentClient over bulk;
    snapshots_service: SnapshotsClient over control;
    diff_service: DiffClient over control;
    leases_service: LeasesClient over control;
    introspection_service: IntrospectionClient over control;
    namespaces_service: NamespacesClient over control;
    version_service: VersionClient over control;
}
