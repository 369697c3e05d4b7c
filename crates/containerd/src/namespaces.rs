//! Namespaces: their names and labels.
//!
//! A namespace appears with the first thing written in it. Its labels hold defaults that clients
//! read, as `containerd.io/defaults/snapshotter`.

use std::collections::BTreeMap;

use containerd_client::services::v1::{
    CreateNamespaceRequest, GetNamespaceRequest, ListNamespacesRequest, Namespace as WireNamespace,
    UpdateNamespaceRequest,
};

use crate::call::Call;
use crate::{Client, Labels, Result, wire};

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

impl Client {
    /// All namespaces.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`].
    pub async fn list_namespaces(&self) -> Result<Vec<Namespace>> {
        let mut service = self.namespaces_service();
        let call = Call::list("list namespaces", "");
        let request = ListNamespacesRequest::default();
        let answer = self.unary(call, request, |request| service.list(request)).await?;
        Ok(answer.namespaces.into_iter().map(Into::into).collect())
    }

    /// One namespace.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn get_namespace(&self, name: &str) -> Result<Namespace> {
        let mut service = self.namespaces_service();
        let call = Call::short("get namespace", name);
        let request = GetNamespaceRequest { name: name.to_owned() };
        let answer = self.unary(call, request, |request| service.get(request)).await?;
        call.required(answer.namespace, "namespace").map(Into::into)
    }

    /// Makes a namespace with labels.
    ///
    /// # Errors
    /// [`crate::Kind::AlreadyExists`].
    pub async fn create_namespace(&self, name: &str, labels: Labels) -> Result<Namespace> {
        let mut service = self.namespaces_service();
        let call = Call::short("create namespace", name);
        let namespace =
            WireNamespace { name: name.to_owned(), labels: labels.into_iter().collect() };
        let request = CreateNamespaceRequest { namespace: Some(namespace) };
        let answer = self.unary(call, request, |request| service.create(request)).await?;
        call.required(answer.namespace, "namespace").map(Into::into)
    }

    /// Sets labels of a namespace, or removes those that are `None`.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn update_namespace_labels(
        &self,
        name: &str,
        patch: BTreeMap<String, Option<String>>,
    ) -> Result<()> {
        if patch.is_empty() {
            // An empty mask means "replace everything" to containerd.
            return Ok(());
        }
        let mut service = self.namespaces_service();
        let call = Call::short("label namespace", name);
        let (labels, paths) = wire::label_patch(patch);
        let request = UpdateNamespaceRequest {
            namespace: Some(WireNamespace { name: name.to_owned(), labels }),
            update_mask: Some(wire::mask(paths)),
        };
        // The answer should hold the namespace; since containerd 1.7 it is empty.
        self.unary(call, request, |request| service.update(request)).await?;
        Ok(())
    }
}

impl From<WireNamespace> for Namespace {
    fn from(namespace: WireNamespace) -> Self {
        Self { name: namespace.name, labels: wire::sorted(namespace.labels) }
    }
}
