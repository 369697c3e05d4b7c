//! Leases: what the garbage collector must leave alone for now.
//!
//! Content and snapshots touched through [`Client::with_lease`] are added by themselves. There is
//! no call to prolong a lease: choose its end generously.

use std::time::SystemTime;

use containerd_client::services::v1::{
    AddResourceRequest, CreateRequest, DeleteRequest, DeleteResourceRequest, Lease as WireLease,
    ListRequest, ListResourcesRequest, Resource as WireResource,
};

use crate::call::Call;
use crate::{Client, Labels, Result, wire};

/// The label that ends a lease: RFC 3339. It ends with the first garbage collection after that.
pub const EXPIRE_LABEL: &str = "containerd.io/gc.expire";

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created_at: SystemTime,
    /// Labels, [`EXPIRE_LABEL`] among them.
    pub labels: Labels,
}

/// Something that a lease holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// `content`, `ingests`, `snapshots/overlayfs`.
    pub kind: String,
    /// Digest, upload name or snapshot key.
    pub id: String,
}

impl Client {
    /// Makes a lease. Without an end it holds for ever.
    ///
    /// # Errors
    /// [`crate::Kind::AlreadyExists`].
    pub async fn create_lease(
        &self,
        id: &str,
        mut labels: Labels,
        expires: Option<SystemTime>,
    ) -> Result<Lease> {
        if let Some(end) = expires {
            labels.insert(EXPIRE_LABEL.to_owned(), rfc3339(end));
        }
        let call = Call::short("create lease", id);
        let mut service = self.leases_service();
        let request = CreateRequest { id: id.to_owned(), labels: labels.into_iter().collect() };
        let answer = self.unary(call, request, |request| service.create(request)).await?;
        call.required(answer.lease, "lease").map(Into::into)
    }

    /// Ends a lease; with `sync` what only it held is collected before the answer.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn delete_lease(&self, id: &str, sync: bool) -> Result<()> {
        let call = Call::collecting("delete lease", id, sync);
        let mut service = self.leases_service();
        let request = DeleteRequest { id: id.to_owned(), sync };
        self.unary(call, request, |request| service.delete(request)).await
    }

    /// All leases that match one of the filters (all without filters). Fields: `id`,
    /// `labels."key"`.
    ///
    /// # Errors
    /// [`crate::Kind::InvalidArgument`] for a filter that is none.
    pub async fn list_leases(&self, filters: &[&str]) -> Result<Vec<Lease>> {
        let call = Call::list("list leases", "");
        let mut service = self.leases_service();
        let request = ListRequest { filters: wire::filters(filters) };
        let answer = self.unary(call, request, |request| service.list(request)).await?;
        Ok(answer.leases.into_iter().map(Into::into).collect())
    }

    /// Puts something under a lease.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] without the lease.
    pub async fn add_lease_resource(&self, id: &str, resource: Resource) -> Result<()> {
        let call = Call::short("extend lease", id);
        let mut service = self.leases_service();
        let request = AddResourceRequest { id: id.to_owned(), resource: Some(resource.into()) };
        self.unary(call, request, |request| service.add_resource(request)).await
    }

    /// Takes something out of a lease.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] without the lease.
    pub async fn remove_lease_resource(&self, id: &str, resource: Resource) -> Result<()> {
        let call = Call::short("reduce lease", id);
        let mut service = self.leases_service();
        let request = DeleteResourceRequest { id: id.to_owned(), resource: Some(resource.into()) };
        self.unary(call, request, |request| service.delete_resource(request)).await
    }

    /// What a lease holds.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] without the lease.
    pub async fn list_lease_resources(&self, id: &str) -> Result<Vec<Resource>> {
        let call = Call::short("list resources of lease", id);
        let mut service = self.leases_service();
        let request = ListResourcesRequest { id: id.to_owned() };
        let answer = self.unary(call, request, |request| service.list_resources(request)).await?;
        Ok(answer.resources.into_iter().map(Into::into).collect())
    }
}

/// Go's RFC 3339, which is what protobuf's own time text is too.
fn rfc3339(time: SystemTime) -> String {
    prost_types::Timestamp::from(time).to_string()
}

impl From<WireLease> for Lease {
    fn from(lease: WireLease) -> Self {
        Self {
            id: lease.id,
            created_at: wire::recorded_instant(lease.created_at),
            labels: wire::sorted(lease.labels),
        }
    }
}

impl From<WireResource> for Resource {
    fn from(resource: WireResource) -> Self {
        Self { kind: resource.r#type, id: resource.id }
    }
}

impl From<Resource> for WireResource {
    fn from(resource: Resource) -> Self {
        Self { r#type: resource.kind, id: resource.id }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ends_are_written_as_rfc_3339() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        assert_eq!(rfc3339(time), "1970-01-02T00:00:00Z");
    }
}
