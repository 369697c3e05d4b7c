//! What has to be true of a container's networks before its task is made.
//!
//! A container that shares another's network joins the namespace of that one's first process, which is another process
//! at each of its starts: so the path in the spec is written anew each time, as `nerdctl start` does.

use std::path::Path;
use std::sync::Arc;

use containerd::Any;
use containerd::containers::ContainerPatch;
use networking::ContainerFiles;
use serde_json::{Value, json};

use crate::containers::{Container, Phase, record};
use crate::{Engine, Error, Result};

/// How nerdctl's label names the mode.
const CONTAINER: &str = "container:";

/// Destinations of the files that go with a network.
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTNAME: &str = "/etc/hostname";

/// A container whose network another one shares.
#[derive(Clone, Debug)]
pub(in crate::containers) struct Joined {
    /// Its host name, which is the other's too.
    pub(in crate::containers) hostname: String,
    /// Its domain name.
    pub(in crate::containers) domainname: String,
    /// Its files, which the other mounts.
    pub(in crate::containers) files: ContainerFiles,
}

/// What sharing the network of `container` means.
///
/// # Errors
/// If its record cannot be read.
pub(in crate::containers) async fn joined_container(
    engine: &Engine,
    container: &Arc<Container>,
) -> Result<Joined> {
    let id = container.id.as_str();
    let found = engine.containerd().get_container(id).await;
    let found = found.map_err(|error| {
        engine.containerd_error(format!("read the record of container {id}"), error)
    })?;
    let details = record::details(&found, Arc::clone(container), &engine.settings().namespace)
        .ok_or_else(|| Error::NoSuchContainer(id.to_owned()))?;
    Ok(Joined {
        hostname: details.process.hostname,
        domainname: details.process.domainname,
        files: ContainerFiles {
            hosts: details.hosts_path.into(),
            resolv_conf: details.resolv_conf_path.into(),
            hostname: details.hostname_path.into(),
        },
    })
}

impl Engine {
    /// Make sure that the container's networks can be had, as far as that can be known before.
    ///
    /// # Errors
    /// [`Error::NetworkSetup`] if a network has gone; [`Error::CannotJoin`], [`Error::JoinMissing`],
    /// [`Error::JoinItself`].
    pub(super) async fn prepare_network(&self, container: &Container) -> Result<()> {
        if let Some(typed) = container.network_mode.strip_prefix(CONTAINER) {
            return self.join_network(container, typed).await;
        }
        self.networks_must_exist(container).await
    }

    async fn networks_must_exist(&self, container: &Container) -> Result<()> {
        let of_users = container
            .endpoints
            .iter()
            .filter(|endpoint| !["bridge", "host", "none"].contains(&endpoint.network.as_str()));
        let names: Vec<&str> = of_users.map(|endpoint| endpoint.network.as_str()).collect();
        if names.is_empty() || !container.has_cni_networks() {
            return Ok(());
        }
        let conflists = self.networks().conflists(&self.settings().namespace).await;
        let conflists = conflists.map_err(|error| Error::failed("read the networks", error))?;
        match names.into_iter().find(|name| conflists.find(name).is_none()) {
            None => Ok(()),
            Some(gone) => Err(Error::NetworkSetup {
                source: Box::new(Error::NetworkNotFound(gone.to_owned())),
            }),
        }
    }

    async fn join_network(&self, container: &Container, typed: &str) -> Result<()> {
        let snapshot = self.inventory().now();
        let target = match snapshot.resolve(typed) {
            Ok(entry) => Arc::clone(&entry.container),
            Err(error) => return Err(Error::JoinMissing { source: Box::new(error) }),
        };
        if target.id == container.id {
            return Err(Error::JoinItself);
        }
        if !matches!(target.state.phase, Phase::Running | Phase::Paused) {
            let status = target.state.phase.as_str();
            return Err(Error::CannotJoin { container: target.name.clone(), status });
        }
        let joined = joined_container(self, &target).await?;
        let path = format!("/proc/{}/ns/net", target.state.pid);
        self.rewrite_network(container, &joined, &path).await
    }

    /// Write the namespace's path and the files into the container's spec.
    async fn rewrite_network(
        &self,
        container: &Container,
        joined: &Joined,
        path: &str,
    ) -> Result<()> {
        let id = container.id.as_str();
        let doing = || format!("write the network of container {id} into its spec");
        let found = self.containerd().get_container(id).await;
        let found = found.map_err(|error| self.containerd_error(doing(), error))?;
        let Some(any) = found.spec else { return Ok(()) };
        let mut spec: Value =
            serde_json::from_slice(&any.value).map_err(|error| Error::failed(doing(), error))?;
        let before = spec.clone();
        set_namespace(&mut spec, path);
        set_files(&mut spec, &joined.files, self.store().path());
        if spec == before {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&spec).map_err(|error| Error::failed(doing(), error))?;
        let patch =
            ContainerPatch { spec: Some(Any::oci_spec(bytes)), ..ContainerPatch::default() };
        let updated = self.containerd().update_container(id, patch).await;
        updated.map(drop).map_err(|error| self.containerd_error(doing(), error))
    }
}

/// The network namespace is the one at `path`.
fn set_namespace(spec: &mut Value, path: &str) {
    let Some(namespaces) = spec.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut)
    else {
        return;
    };
    namespaces.retain(|namespace| namespace["type"] != "network");
    namespaces.push(json!({"type": "network", "path": path}));
}

/// The network's files are `files`; those that the other container does not have are left out, and where the user has
/// mounted something else, that stays. Mounts of ours are known by their sources, below `store`.
fn set_files(spec: &mut Value, files: &ContainerFiles, store: &Path) {
    let Some(mounts) = spec.get_mut("mounts").and_then(Value::as_array_mut) else { return };
    let wanted =
        [(RESOLV_CONF, &files.resolv_conf), (HOSTS, &files.hosts), (HOSTNAME, &files.hostname)];
    for (destination, source) in wanted {
        let is_there = |mount: &Value| mount["destination"] == destination;
        let is_ours = |mount: &Value| {
            let source = mount["source"].as_str().unwrap_or_default();
            is_there(mount) && Path::new(source).starts_with(store)
        };
        let at = mounts.iter().position(is_ours).unwrap_or(mounts.len());
        mounts.retain(|mount| !is_ours(mount));
        if source.as_os_str().is_empty() || mounts.iter().any(is_there) {
            continue;
        }
        let mount = json!({
            "destination": destination,
            "type": "bind",
            "source": source,
            "options": ["bind", "rprivate"],
        });
        mounts.insert(at.min(mounts.len()), mount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_is_led_to_the_other_containers_namespace_and_files() {
        let mut spec = json!({
            "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/proc/1/ns/net"}]},
            "mounts": [
                {"destination": "/etc/hosts", "type": "bind", "source": "/store/a/hosts", "options": ["bind"]},
                {"destination": "/etc/resolv.conf", "type": "bind", "source": "/mine"},
                {"destination": "/data", "type": "bind", "source": "/data"},
            ],
        });
        set_namespace(&mut spec, "/proc/7/ns/net");
        let files = ContainerFiles {
            hosts: "/store/b/hosts".into(),
            resolv_conf: "/store/b/resolv.conf".into(),
            hostname: "".into(),
        };
        set_files(&mut spec, &files, Path::new("/store"));
        assert_eq!(
            spec["linux"]["namespaces"],
            json!([{"type": "pid"}, {"type": "network", "path": "/proc/7/ns/net"}])
        );
        let places: Vec<_> = spec["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| format!("{}={}", mount["destination"], mount["source"]))
            .collect();
        assert_eq!(
            places,
            [
                r#""/etc/hosts"="/store/b/hosts""#,
                r#""/etc/resolv.conf"="/mine""#,
                r#""/data"="/data""#
            ]
        );
        let once = spec.clone();
        set_files(&mut spec, &files, Path::new("/store"));
        assert_eq!(spec, once);
    }
}
