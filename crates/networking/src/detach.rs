//! Detaching: after the exit, at the deletion of the task, and whatever is left at removal.
//!
//! Detaching twice is nothing, so these may follow each other. nerdctl releases a container's name in its postStop
//! hook; we never do that here, so that a stopped container keeps its name.

use std::path::Path;

use cni::{CachedAttachment, Conflist};
use nerdctl_store::state_dir::Run;

use crate::Networks;
use crate::attach::Planned;
use crate::blocking::blocking;
use crate::container::{Container, NetworkMode};
use crate::error::{NetworkingError, Result};
use crate::iptables::{self, Family};
use crate::ports::reserver;

/// What became of a release after an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The container's networks are released.
    Done,
    /// The container has been started again since; its networks are not touched.
    AnotherRun,
}

impl Networks {
    /// Releases the networks of a container that has exited: postStop runs only when the task is deleted, and a
    /// stopped task is kept. Does so only if `lifecycle.json` still names that run.
    ///
    /// Other containers forget its addresses, but its announcement stays, without which nerdctl's postStop hook would
    /// fail.
    ///
    /// # Errors
    /// The first problem; the remaining steps are done nevertheless.
    pub async fn release_after_exit(&self, container: &Container, run: Run) -> Result<Release> {
        if !matches!(container.mode, NetworkMode::Cni(_)) {
            return Ok(Release::Done);
        }
        let _lock = self.lock_cni().await?;
        let state = self.store.state_dir(&container.namespace, &container.id);
        if blocking(move || state.lifecycle()).await?.run() != Some(run) {
            return Ok(Release::AnotherRun);
        }
        let mut problems = self.detach_locked(container, None).await;
        problems.extend(self.end_port_reserver(container).await.err());
        let (hosts, id) = (self.store.hosts(&container.namespace), container.id.clone());
        problems.extend(blocking(move || hosts.forget_networks(&id)).await.err());
        first(problems).map(|()| Release::Done)
    }

    /// Everything the postStop hook does, but for what was done after the exit already.
    ///
    /// # Errors
    /// The first problem; the remaining steps are done nevertheless (nerdctl's hook stops at it).
    pub async fn post_stop(&self, container: &Container) -> Result<()> {
        let state = self.store.state_dir(&container.namespace, &container.id);
        // A createRuntime hook that failed has detached what it attached, and the container stays.
        let create_failed = blocking(move || {
            state.update_lifecycle(|lifecycle| std::mem::take(&mut lifecycle.create_error))
        })
        .await?;
        if create_failed || !matches!(container.mode, NetworkMode::Cni(_)) {
            return Ok(());
        }
        let _lock = self.lock_cni().await?;
        let mut problems = self.detach_locked(container, None).await;
        problems.extend(self.end_port_reserver(container).await.err());
        let (hosts, id) = (self.store.hosts(&container.namespace), container.id.clone());
        problems.extend(blocking(move || hosts.release(&id)).await.err());
        first(problems)
    }

    /// Detaches a container from everything it is attached to and gives its ports back, under the lock of CNI. `netns` is its network
    /// namespace if that still exists.
    ///
    /// # Errors
    /// The first problem; the remaining networks are detached nevertheless.
    pub async fn detach(&self, container: &Container, netns: Option<&Path>) -> Result<()> {
        let _lock = self.lock_cni().await?;
        let mut problems = self.detach_locked(container, netns).await;
        problems.extend(self.end_port_reserver(container).await.err());
        first(problems)
    }

    async fn detach_locked(
        &self,
        container: &Container,
        netns: Option<&Path>,
    ) -> Vec<NetworkingError> {
        match self.planned_for_detaching(container).await {
            Ok(planned) if self.has_leftovers(container, &planned).await => {
                self.detach_planned(container, &planned, netns).await
            }
            // `nerdctl stop` detaches before its signal, but the rules stay until its own hook has run.
            Ok(planned) => {
                self.delete_rules(container, planned.iter().map(|network| &network.conflist)).await;
                Vec::new()
            }
            Err(error) => vec![error],
        }
    }

    async fn planned_for_detaching(&self, container: &Container) -> Result<Vec<Planned>> {
        let conflists = self.conflists(&container.namespace).await?;
        self.plan(container, &conflists, None).await
    }

    /// Whether anything says that the container is attached: libcni's cache, a lease, or an address server that we
    /// cannot look into.
    pub(crate) async fn has_leftovers(&self, container: &Container, planned: &[Planned]) -> bool {
        if !self.cached(container).await.is_empty() {
            return true;
        }
        let cni_id = container.cni_id();
        planned.iter().any(|network| {
            network.conflist.ipam_driver() == "dhcp"
                || self
                    .cni
                    .leases(&network.conflist)
                    .is_ok_and(|leases| leases.iter().any(|lease| lease.container_id == cni_id))
        })
    }

    /// Detaches, newest first: from what the cache knows, with the configuration of that time, and from planned
    /// networks that it does not know (an `ADD` that failed half-way). Rules that the plugins leave are deleted.
    pub(crate) async fn detach_planned(
        &self,
        container: &Container,
        planned: &[Planned],
        netns: Option<&Path>,
    ) -> Vec<NetworkingError> {
        let cached = self.cached(container).await;
        let mut problems = Vec::new();
        for known in cached.iter().rev() {
            problems.extend(self.detach_cached(known, planned, netns).await.err());
        }
        for network in planned.iter().rev() {
            let is_known =
                cached.iter().any(|known| known.attachment.if_name == network.attachment.if_name);
            if is_known {
                continue;
            }
            let attachment =
                cni::Attachment { netns: netns.map(Path::to_owned), ..network.attachment.clone() };
            problems
                .extend(self.cni.del(&network.conflist, &attachment).await.err().map(Into::into));
        }
        let of_cache = cached.iter().filter_map(|known| known.conflist.as_ref());
        let networks = of_cache.chain(planned.iter().map(|network| &network.conflist));
        self.delete_rules(container, networks).await;
        problems
    }

    /// Deletes rules that plugins leave when the network namespace is gone. Trouble is only logged, as with nerdctl:
    /// they match nothing any more.
    async fn delete_rules(&self, container: &Container, networks: impl Iterator<Item = &Conflist>) {
        let networks: Vec<&Conflist> = networks.collect();
        let names: Vec<&str> = networks.iter().map(|network| network.name.as_str()).collect();
        // Where no network has IPv6 there are no such rules, and often no ip6tables.
        let v6 = networks.iter().any(|network| network.has_ipv6()).then_some(Family::V6);
        for family in std::iter::once(Family::V4).chain(v6) {
            let deleted = iptables::delete_rules_of(family, &container.cni_id(), &names).await;
            if let Err(error) = deleted {
                tracing::warn!(%error, container = %container.id, "rules of the container may be left");
            }
        }
    }

    async fn detach_cached(
        &self,
        known: &CachedAttachment,
        planned: &[Planned],
        netns: Option<&Path>,
    ) -> Result<()> {
        let current =
            planned.iter().map(|network| &network.conflist).find(|list| list.name == known.network);
        let Some(conflist) = known.conflist.as_ref().or(current) else {
            return Err(NetworkingError::NoSuchNetwork { name: known.network.clone() });
        };
        let attachment =
            cni::Attachment { netns: netns.map(Path::to_owned), ..known.attachment.clone() };
        Ok(self.cni.del(conflist, &attachment).await?)
    }

    async fn cached(&self, container: &Container) -> Vec<CachedAttachment> {
        match self.cni.attachments(&container.cni_id()).await {
            Ok(cached) => cached,
            Err(error) => {
                tracing::warn!(%error, "working without the cache of CNI");
                Vec::new()
            }
        }
    }

    /// Gives the ports back to the host's programs.
    pub(crate) async fn end_port_reserver(&self, container: &Container) -> Result<()> {
        let (run_dir, container) = (self.run_dir.clone(), container.clone());
        blocking(move || reserver::end(&run_dir, &container.namespace, &container.id)).await
    }
}

fn first(problems: Vec<NetworkingError>) -> Result<()> {
    let mut problems = problems.into_iter();
    let Some(first) = problems.next() else { return Ok(()) };
    for further in problems {
        tracing::warn!(error = %further, "and this went wrong too");
    }
    Err(first)
}
