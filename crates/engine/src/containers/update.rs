//! Change the limits and the restart policy of a container, whether it runs or not.
//!
//! The record is changed first, because it is what the next start reads; then the running task. If the runtime refuses,
//! the record gets its old content back (moby `daemon/update.go`).

use std::collections::{BTreeMap, HashMap};

use containerd::Any;
use containerd::containers::{Container as Record, ContainerPatch};
use nerdctl_store::labels::{ContainerLabels, keys};
use serde_json::Value;

use super::pause::HELD;
use super::record::{FACTS, Facts};
use super::spec::confinement::Resources;
use super::{Container, Phase};
use crate::events::translate::container_event;
use crate::oci::{self, rewrite};
use crate::{Engine, Error, Result};

/// What to change.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Limits; what is not set stays.
    pub resources: Resources,
    /// Restart policy in containerd's spelling (`no`, `always`, `on-failure:3`); `None` stays.
    pub restart_policy: Option<String>,
}

/// One change of a record, and the way back.
struct Change {
    forth: ContainerPatch,
    back: ContainerPatch,
    /// For the running task; `None` if there is nothing to tell it.
    limits: Option<Any>,
}

impl Engine {
    /// Change it. Gives Docker's warnings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] in Docker's words; [`Error::CannotUpdate`] for what contradicts the container, or what
    /// the runtime refuses: then nothing has changed; [`Error::ManagedByKubernetes`]; as [`Engine::resolve_container`].
    pub async fn update_container(&self, typed: &str, mut update: Update) -> Result<Vec<String>> {
        let host = self.host();
        let warnings = oci::verify(&mut update.resources, &host.limits, host.cpus, true)?;
        let (guard, container) = self.lock_container(typed, "update").await?;
        let id = container.id.as_str();
        let failed =
            |source| Error::CannotUpdate { container: id.to_owned(), source: Box::new(source) };
        if matches!(container.state.phase, Phase::Removing | Phase::Dead) {
            return Err(failed(Error::UpdateRemoving));
        }
        self.change(&container, &update).await.map_err(failed)?;
        self.policy_changed(&guard).await.map_err(failed)?;
        self.inventory().refresh(&container.id).await;
        self.hub().publish(container_event(&container, "update", &[]));
        drop(guard);
        Ok(warnings)
    }

    async fn change(&self, container: &Container, update: &Update) -> Result<()> {
        let id = container.id.as_str();
        let doing = || format!("change the record of container {id}");
        let failed = |error| self.containerd_error(doing(), error);
        let record = self.containerd().get_container(id).await.map_err(failed)?;
        let change = change_of(&record, container, update, self.host().limits.swap)?;
        self.containerd().update_container(id, change.forth).await.map_err(failed)?;
        let Some(limits) = change.limits.filter(|_| container.state.phase.has_process()) else {
            return Ok(());
        };
        let Err(error) = self.containerd().update_task(id, limits).await else { return Ok(()) };
        if error.is_not_found() {
            // It has just ended; the next start reads the record.
            return Ok(());
        }
        if let Err(error) = self.containerd().update_container(id, change.back).await {
            tracing::warn!(container = id, %error, "the limits that the runtime refused stay in the record");
        }
        Err(self.containerd_error("change the limits of the running container", error))
    }
}

/// `swap` says that the host limits it: elsewhere the runtime has no file to write "no limit" to.
fn change_of(
    record: &Record,
    container: &Container,
    update: &Update,
    swap: bool,
) -> Result<Change> {
    let broken =
        |source| Error::failed(format!("read the record of container {}", record.id), source);
    let stored = record.spec.clone().unwrap_or_default();
    let mut spec: Value = serde_json::from_slice(&stored.value).map_err(broken)?;
    let facts = Facts::of(record);
    let known = facts.as_ref().and_then(|facts| facts.resources.clone());
    let mut resources = known.unwrap_or_else(|| rewrite::resources(&spec));
    resources.take_over(&update.resources)?;

    let numbers = oci::block_numbers(&update.resources)?;
    let mut limits = oci::limits(&update.resources, &numbers)
        .map_err(|error| Error::failed("write the limits", error))?;
    if update.resources.memory_swap == -1 && swap {
        // A new container just has no limit; here there may be one.
        limits.memory_mut().get_or_insert_default().set_swap(Some(-1));
    }
    let limits = serde_json::to_value(&limits).map_err(broken)?;
    let something = limits.as_object().is_some_and(|limits| !limits.is_empty());
    let told = something.then(|| Any::linux_resources(limits.to_string()));
    rewrite::set_limits(&mut spec, limits);

    let mut change =
        Change { forth: ContainerPatch::default(), back: ContainerPatch::default(), limits: told };
    if something {
        let spec = serde_json::to_vec(&spec).map_err(broken)?;
        change.forth.spec = Some(Any::oci_spec(spec));
        change.back.spec = Some(stored);
    }
    if let Some(facts) = facts {
        let new = Facts { resources: Some(resources), ..facts };
        let new = new.to_any().map_err(broken)?;
        change.forth.extensions.insert(FACTS.to_owned(), new);
        let old = record.extensions.get(FACTS).cloned().unwrap_or_default();
        change.back.extensions.insert(FACTS.to_owned(), old);
    }
    for (key, value) in labels(record, container, update)? {
        let old = record.labels.get(&key).cloned();
        change.forth.labels.insert(key.clone(), value);
        change.back.labels.insert(key, old);
    }
    Ok(change)
}

/// nerdctl's labels that change too.
fn labels(
    record: &Record,
    container: &Container,
    update: &Update,
) -> Result<BTreeMap<String, Option<String>>> {
    let mut changed = BTreeMap::new();
    let stored: HashMap<String, String> = record.labels.clone().into_iter().collect();
    let mut all = ContainerLabels::parse(&stored);
    if update.resources.blkio_weight != 0 && record.labels.contains_key(keys::HOST_CONFIG) {
        all.host_config.blkio_weight = update.resources.blkio_weight;
        let encoded = all.to_labels().map_err(|error| {
            Error::failed(format!("encode the labels of container {}", record.id), error)
        })?;
        changed.insert(keys::HOST_CONFIG.to_owned(), encoded.get(keys::HOST_CONFIG).cloned());
    }
    if let Some(policy) = &update.restart_policy {
        changed.extend(restart_labels(policy, container, &all)?);
    }
    Ok(changed)
}

/// As nerdctl's own `update` and `start` leave them: the policy counts for a container that runs.
fn restart_labels(
    policy: &str,
    container: &Container,
    labels: &ContainerLabels,
) -> Result<Vec<(String, Option<String>)>> {
    let set = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
    if policy == "no" {
        let gone = [keys::RESTART_POLICY, keys::RESTART_STATUS, keys::RESTART_LOG_URI];
        return Ok(gone.map(|key| set(key, None)).to_vec());
    }
    if container.auto_remove {
        return Err(Error::ConflictingUpdate(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    let mut changed = vec![
        set(keys::RESTART_POLICY, Some(policy)),
        set(keys::RESTART_LOG_URI, labels.log_uri.as_deref()),
    ];
    // A stop that is under way stands.
    if container.state.phase.has_process() && container.state.wish.is_none() {
        // A plugin that would end the pause must not be told before it is over.
        let status = if container.state.phase == Phase::Paused { HELD } else { "running" };
        changed.push(set(keys::RESTART_STATUS, Some(status)));
        changed.push(set(keys::RESTART_EXPLICITLY_STOPPED, Some("false")));
    }
    Ok(changed)
}
