//! Container records: what containerd remembers about a container, running or not.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use containerd_client::services::v1::{
    Container as WireContainer, CreateContainerRequest, DeleteContainerRequest,
    GetContainerRequest, ListContainerMessage, ListContainersRequest, UpdateContainerRequest,
    container::Runtime,
};
use tonic::Streaming;

use crate::call::Call;
use crate::{Any, Client, Labels, Result, wire};

/// A container record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Unique in its namespace.
    pub id: String,
    /// Labels.
    pub labels: Labels,
    /// Name of the image; a free text for containerd, and no protection of that image.
    pub image: String,
    /// Runtime, as `io.containerd.runc.v2`.
    pub runtime_name: String,
    /// Options of the runtime; [`Any::as_runc_options`] reads those of runc.
    pub runtime_options: Option<Any>,
    /// OCI runtime spec, JSON; read by containerd when a task is created.
    pub spec: Option<Any>,
    /// Snapshotter of the root file system; may be empty.
    pub snapshotter: String,
    /// Key of the root file system's snapshot; protects that snapshot from collection.
    pub snapshot_key: String,
    /// When the record was made.
    pub created_at: SystemTime,
    /// When it was last changed.
    pub updated_at: SystemTime,
    /// Further values by name, of any size.
    pub extensions: BTreeMap<String, Any>,
    /// Sandbox (pod) it belongs to; containerd 1.7+.
    pub sandbox: String,
}

/// A container record to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewContainer {
    /// Letters and digits, single `.`, `_`, `-` between them, at most 76 characters.
    pub id: String,
    /// Labels; containerd drops those with an empty value.
    pub labels: Labels,
    /// Name of the image.
    pub image: String,
    /// Runtime; cannot be changed later.
    pub runtime_name: String,
    /// Options of the runtime; cannot be changed later.
    pub runtime_options: Option<Any>,
    /// OCI runtime spec.
    pub spec: Option<Any>,
    /// Snapshotter; cannot be changed later.
    pub snapshotter: String,
    /// Key of the snapshot, which need not exist yet: the record protects it from the moment it
    /// does.
    pub snapshot_key: String,
    /// Further values by name.
    pub extensions: BTreeMap<String, Any>,
}

/// Changes to a record. What is not mentioned stays, also if somebody else changes it meanwhile:
/// every entry is sent with its own field mask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerPatch {
    /// Labels to set, or to remove with `None`.
    pub labels: BTreeMap<String, Option<String>>,
    /// Extensions to set. containerd has no way to remove one; set it to an empty value.
    pub extensions: BTreeMap<String, Any>,
    /// New OCI runtime spec.
    pub spec: Option<Any>,
    /// New image name.
    pub image: Option<String>,
    /// New snapshot key.
    pub snapshot_key: Option<String>,
}

/// Container records as they come. See [`Client::stream_containers`].
#[derive(Debug)]
pub struct ContainerStream {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Stream(Box<Streaming<ListContainerMessage>>),
    List(VecDeque<WireContainer>),
}

impl Client {
    /// Makes a record. There is no task yet and nothing is checked but the id and the labels.
    ///
    /// # Errors
    /// [`crate::Kind::AlreadyExists`]; [`crate::Kind::InvalidArgument`] for ids and labels that
    /// containerd does not take.
    pub async fn create_container(&self, container: NewContainer) -> Result<Container> {
        let id = container.id.clone();
        let call = Call::short("create container", &id);
        let request = CreateContainerRequest { container: Some(container.into()) };
        let mut service = self.containers_service();
        let answer = self.unary(call, request, |request| service.create(request)).await?;
        call.required(answer.container, "container").map(Into::into)
    }

    /// One record.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn get_container(&self, id: &str) -> Result<Container> {
        let call = Call::short("get container", id);
        let mut service = self.containers_service();
        let request = GetContainerRequest { id: id.to_owned() };
        let answer = self.unary(call, request, |request| service.get(request)).await?;
        call.required(answer.container, "container").map(Into::into)
    }

    /// All records that match one of the filters (all without filters). Fields: `id`, `image`,
    /// `runtime.name`, `labels."key"`.
    ///
    /// # Errors
    /// [`crate::Kind::InvalidArgument`] for a filter that is none.
    pub async fn list_containers(&self, filters: &[&str]) -> Result<Vec<Container>> {
        let mut stream = self.stream_containers(filters).await?;
        let mut containers = Vec::new();
        while let Some(container) = stream.next().await? {
            containers.push(container);
        }
        Ok(containers)
    }

    /// As [`Client::list_containers`], one at a time: a spec has 20 KB, so a thousand of them are
    /// better not held together. Uses `ListStream`, because one `List` answer is limited to 16 MiB.
    ///
    /// # Errors
    /// As [`Client::list_containers`].
    pub async fn stream_containers(&self, filters: &[&str]) -> Result<ContainerStream> {
        let call = Call::list("list containers", "");
        let request = ListContainersRequest { filters: wire::filters(filters) };
        let mut service = self.containers_service();
        match self.unary(call, request.clone(), |request| service.list_stream(request)).await {
            Ok(stream) => Ok(ContainerStream { source: Source::Stream(Box::new(stream)) }),
            Err(error) if error.is_unimplemented() => {
                let answer = self.unary(call, request, |request| service.list(request)).await?;
                Ok(ContainerStream { source: Source::List(answer.containers.into()) })
            }
            Err(error) => Err(error),
        }
    }

    /// Changes parts of a record; the last writer of a part wins.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::InvalidArgument`] for labels that containerd does
    /// not take.
    pub async fn update_container(&self, id: &str, patch: ContainerPatch) -> Result<Container> {
        if patch == ContainerPatch::default() {
            // An empty mask means "replace everything" to containerd.
            return self.get_container(id).await;
        }
        let call = Call::short("update container", id);
        let mut service = self.containers_service();
        let request = patch.into_request(id);
        let answer = self.unary(call, request, |request| service.update(request)).await?;
        call.required(answer.container, "container").map(Into::into)
    }

    /// Removes a record. containerd does so even while the task runs, which then cannot be reached
    /// any more: delete the task first.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn delete_container(&self, id: &str) -> Result<()> {
        let call = Call::short("delete container", id);
        let mut service = self.containers_service();
        let request = DeleteContainerRequest { id: id.to_owned() };
        self.unary(call, request, |request| service.delete(request)).await
    }
}

impl ContainerStream {
    /// The next record, or `None` at the end.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`] when containerd goes away in the middle.
    pub async fn next(&mut self) -> Result<Option<Container>> {
        let call = Call::list("list containers", "");
        let container = match &mut self.source {
            Source::Stream(stream) => match call.finish(stream.message()).await? {
                Some(message) => Some(call.required(message.container, "container")?),
                None => None,
            },
            Source::List(list) => list.pop_front(),
        };
        Ok(container.map(Into::into))
    }
}

impl ContainerPatch {
    fn into_request(self, id: &str) -> UpdateContainerRequest {
        let (labels, mut paths) = wire::label_patch(self.labels);
        paths.extend(self.extensions.keys().map(|name| format!("extensions.{name}")));
        let mut name_if = |given: bool, path: &str| {
            if given {
                paths.push(path.to_owned());
            }
        };
        name_if(self.spec.is_some(), "spec");
        name_if(self.image.is_some(), "image");
        name_if(self.snapshot_key.is_some(), "snapshotkey");
        let container = WireContainer {
            id: id.to_owned(),
            labels,
            extensions: wire_extensions(self.extensions),
            spec: self.spec.map(Into::into),
            image: self.image.unwrap_or_default(),
            snapshot_key: self.snapshot_key.unwrap_or_default(),
            ..WireContainer::default()
        };
        UpdateContainerRequest { container: Some(container), update_mask: Some(wire::mask(paths)) }
    }
}

impl From<WireContainer> for Container {
    fn from(container: WireContainer) -> Self {
        let runtime = container.runtime.unwrap_or_default();
        Self {
            id: container.id,
            labels: wire::sorted(container.labels),
            image: container.image,
            runtime_name: runtime.name,
            runtime_options: runtime.options.map(Into::into),
            spec: container.spec.map(Into::into),
            snapshotter: container.snapshotter,
            snapshot_key: container.snapshot_key,
            created_at: wire::recorded_instant(container.created_at),
            updated_at: wire::recorded_instant(container.updated_at),
            extensions: container
                .extensions
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect(),
            sandbox: container.sandbox,
        }
    }
}

impl From<NewContainer> for WireContainer {
    fn from(container: NewContainer) -> Self {
        let runtime = Runtime {
            name: container.runtime_name,
            options: container.runtime_options.map(Into::into),
        };
        Self {
            id: container.id,
            labels: container.labels.into_iter().collect(),
            image: container.image,
            runtime: Some(runtime),
            spec: container.spec.map(Into::into),
            snapshotter: container.snapshotter,
            snapshot_key: container.snapshot_key,
            extensions: wire_extensions(container.extensions),
            ..Self::default()
        }
    }
}

fn wire_extensions(
    extensions: BTreeMap<String, Any>,
) -> std::collections::HashMap<String, prost_types::Any> {
    extensions.into_iter().map(|(name, value)| (name, value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_each_part_it_changes() {
        let patch = ContainerPatch {
            labels: BTreeMap::from([("a".into(), Some("1".into())), ("gone".into(), None)]),
            extensions: BTreeMap::from([("x.y".into(), Any::new("t", "v"))]),
            image: Some("img".into()),
            ..ContainerPatch::default()
        };
        let request = patch.into_request("web");
        let paths = request.update_mask.unwrap().paths;
        assert_eq!(paths, ["labels.a", "labels.gone", "extensions.x.y", "image"]);
        let container = request.container.unwrap();
        assert_eq!(container.id, "web");
        assert!(!container.labels.contains_key("gone"));
    }
}
