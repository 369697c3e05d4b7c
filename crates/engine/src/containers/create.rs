//! Create a container.
//!
//! containerd's record comes first and without our mark that creation is finished: from then on a crash leaves
//! something that the next daemon finds (`discard_half_made`), with everything in it that is needed to take
//! the rest away. The record also protects the snapshot from the garbage collector before there is one. The mark comes
//! last, and only then does anybody see the container.
//!
//! | Step | Taken back by |
//! |---|---|
//! | record without mark | delete the record |
//! | name | release it |
//! | volumes that are missing | remove them, unless another container has found them |
//! | state directory: log, ports, resolv.conf, hostname; the hosts entry | remove both |
//! | at the same time the snapshot | remove it |
//! | what the image has, copied into empty volumes | goes with the volumes |
//! | mark | – |

mod draft;
mod image_mounts;
mod mounts;
mod network;
mod volumes;

use std::sync::Arc;

use containerd::containers::{Container as Record, ContainerPatch};
use containerd::{Any, Labels};
use names::{ContainerId, ContainerName, Platform, VolumeName};
use nerdctl_store::StoreError;
use nerdctl_store::labels::values::LogConfig;
use nerdctl_store::labels::{ContainerLabels, keys};
use nerdctl_store::state_dir::{NetworkConfig, PortWish, StateDir};

use super::record::READY;
use super::{ContainerSpec, Created, NetworkMode, Phase, confine, name_generator};
use crate::images::ResolvedImage;
use crate::oci::{Effective, ImageFiles, Lookups};
use crate::undo::Undo;
use crate::waiting::{blocking, try_blocking};
use crate::{Engine, Error, Result, fault, random};
use draft::Draft;

impl Engine {
    /// Make a container. It is listed, and can be started, when this returns.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::NoSuchPlatform`]; [`Error::NoCommand`], [`Error::NoSuchUser`],
    /// [`Error::InvalidParameter`]; [`Error::NameInUse`]; [`Error::ContainerdUnavailable`].
    pub async fn create_container(&self, spec: ContainerSpec) -> Result<Created> {
        // What is asked for is large, and so is what is made of it: callers need not carry both.
        Box::pin(self.make_container(spec)).await
    }

    async fn make_container(&self, mut spec: ContainerSpec) -> Result<Created> {
        let mut warnings = confine::fit(&mut spec.confinement, self.host())?;
        // Before the first look at containerd nobody knows which names are in use.
        self.inventory().loaded().await?;
        let image = self.image_for_create(&spec.image, spec.platform.as_ref()).await?;
        // Until the inventory knows the container, which keeps the image from then on.
        let _claim = self.claim_image(&image).await?;
        self.find_joined(&mut spec.confinement).await?;
        let effective = Effective::merge(&spec, &image.config)?;
        let files = self.image_files(&effective.user, &spec.confinement.groups, &image).await?;
        let lookups = self.lookups(&spec).await?;
        let network = self.network_plan(&spec).await?;
        let id = new_id()?;
        let mut mounts = self.plan_mounts(&spec.mounts, &image.config.volumes).await?;
        fault::reached("create.planned");
        let views = mounts.views.take();
        let mut draft = Draft::new(self, id, spec, network, image, effective, (mounts, lookups));
        match draft.spec.name.clone() {
            Some(name) => self.make(&mut draft, &name, &files).await?,
            None => self.make_with_any_name(&mut draft, &files).await?,
        }
        self.inventory().refresh(&draft.id).await;
        if let Some(views) = views {
            views.release().await;
        }
        warnings.extend(draft.warnings(&Platform::host()));
        Ok(Created { warnings, id: draft.id })
    }

    /// Try generated names until one is free; the short id is free for sure.
    async fn make_with_any_name(&self, draft: &mut Draft, files: &ImageFiles) -> Result<()> {
        for attempt in 0..name_generator::ATTEMPTS {
            let Some(name) = name_generator::name(random::bytes()?, attempt) else { break };
            match self.make(draft, &name, files).await {
                Err(Error::NameInUse { .. }) => {}
                outcome => return outcome,
            }
        }
        let short: ContainerName =
            draft.id.short().parse().map_err(|error| Error::failed("name a container", error))?;
        self.make(draft, &short, files).await
    }

    /// Make the container under this name, or leave nothing.
    async fn make(
        &self,
        draft: &mut Draft,
        name: &ContainerName,
        files: &ImageFiles,
    ) -> Result<()> {
        self.name_must_be_free(name)?;
        draft.labels.name = name.to_string();
        let mut undo = Undo::new();
        let made = Box::pin(self.make_parts(draft, name, files, &mut undo)).await;
        match made {
            Ok(()) => undo.disarm(),
            Err(_) => undo.run().await,
        }
        made
    }

    async fn make_parts(
        &self,
        draft: &Draft,
        name: &ContainerName,
        files: &ImageFiles,
        undo: &mut Undo,
    ) -> Result<()> {
        self.make_record(draft, files, undo).await?;
        fault::reached("create.record");
        self.take_name(name, &draft.id, undo).await?;
        fault::reached("create.name");
        self.promise_to_remove(draft, undo);
        let made = self.promise_to_remove_volumes(draft, undo);
        // All wait for disks. Each runs to its end before anything is taken back.
        let (files, volumes, snapshot) = tokio::join!(
            self.make_files(draft),
            self.make_volumes(draft, &made),
            self.make_snapshot(draft)
        );
        let root = files.and(volumes).and(snapshot)?;
        fault::reached("create.root");
        self.fill_volumes(draft, root).await?;
        fault::reached("create.parts");
        let mut ready = ContainerPatch::default();
        ready.extensions.insert(READY.to_owned(), Any::new(READY, "true"));
        let updated = self.containerd().update_container(draft.id.as_str(), ready).await;
        fault::reached("create.ready");
        updated
            .map(drop)
            .map_err(|error| self.containerd_error(format!("finish container {}", draft.id), error))
    }

    /// What the host says about the devices that were asked for; and AppArmor's profile is loaded if it is needed.
    async fn lookups(&self, spec: &ContainerSpec) -> Result<Lookups> {
        self.load_apparmor_profile(spec).await?;
        if !Lookups::are_needed_for(&spec.confinement) {
            return Ok(Lookups::default());
        }
        let asked = spec.confinement.clone();
        blocking("look up devices", move || Lookups::read(&asked)).await?
    }

    async fn load_apparmor_profile(&self, spec: &ContainerSpec) -> Result<()> {
        let security = &spec.confinement.security;
        let default = security.apparmor.is_none() && !security.privileged;
        if default && self.host().apparmor_profile.is_some() {
            blocking("load the AppArmor profile", crate::apparmor::ensure_default).await??;
        }
        Ok(())
    }

    /// What its users and groups are looked up in. An image that cannot be looked into can still run as root.
    async fn image_files(
        &self,
        user: &str,
        groups: &[String],
        image: &ResolvedImage,
    ) -> Result<Arc<ImageFiles>> {
        if !ImageFiles::are_needed_for(user, groups) {
            return Ok(Arc::default());
        }
        let snapshotter = &self.settings().snapshotter;
        match self.image_files_cache().read(self.containerd(), snapshotter, &image.chain_id).await {
            Err(error) if user.is_empty() && groups.is_empty() => {
                tracing::warn!(
                    image = image.name,
                    error = error.message(),
                    "root's further groups are not known"
                );
                Ok(Arc::default())
            }
            outcome => outcome,
        }
    }

    /// nerdctl frees the names of its stopped containers; for Docker's users names are unique over all states.
    pub(super) fn name_must_be_free(&self, name: &ContainerName) -> Result<()> {
        match self.inventory().now().by_name(name.as_str()) {
            Some(entry) if entry.container.state.phase != Phase::Removing => {
                Err(Error::NameInUse { name: name.to_string(), id: entry.container.id.to_string() })
            }
            _ => Ok(()),
        }
    }

    async fn make_record(&self, draft: &Draft, files: &ImageFiles, undo: &mut Undo) -> Result<()> {
        let record = draft.record(self, files)?;
        let (containerd, id) = (self.containerd().clone(), draft.id.clone());
        // Before it is made: an answer that does not come may have been a yes.
        undo.push("delete the record", async move {
            match containerd.delete_container(id.as_str()).await {
                Err(error) if error.is_not_found() => Ok(()),
                deleted => deleted,
            }
        });
        let made = self.containerd().create_container(record).await;
        made.map(drop).map_err(|error| {
            self.containerd_error(format!("make the record of container {}", draft.id), error)
        })
    }

    pub(super) async fn take_name(
        &self,
        name: &ContainerName,
        id: &ContainerId,
        undo: &mut Undo,
    ) -> Result<()> {
        let names = self.store().names(&self.settings().namespace);
        {
            let (names, name, id) = (names.clone(), name.clone(), id.clone());
            blocking("take a name", move || names.acquire(&name, &id)).await?.map_err(|error| {
                match error {
                    StoreError::NameTaken { name, owner } => Error::NameInUse { name, id: owner },
                    other => Error::failed("take a name", other),
                }
            })?;
        }
        let (name, id) = (name.clone(), id.clone());
        undo.push("release the name", async move {
            try_blocking("release a name", move || names.release(&name, &id)).await.map(drop)
        });
        Ok(())
    }

    /// Everything below is its own: what is not there yet is taken back as well.
    fn promise_to_remove(&self, draft: &Draft, undo: &mut Undo) {
        let state = self.store().state_dir(&self.settings().namespace, &draft.id);
        undo.push("remove the state directory", async move {
            try_blocking("remove a state directory", move || state.remove_all()).await
        });
        let (networks, container) = (self.networks().clone(), draft.network_identity());
        undo.push("remove the hosts entry", async move { networks.remove_files(&container).await });
        let snapshotter = self.containerd().snapshotter(&self.settings().snapshotter);
        let id = draft.id.clone();
        undo.push("remove the root file system", async move {
            match snapshotter.remove(id.as_str()).await {
                Err(error) if error.is_not_found() => Ok(()),
                removed => removed,
            }
        });
    }

    /// The state directory with its log and ports, and the files that tell the container its place in the network.
    async fn make_files(&self, draft: &Draft) -> Result<()> {
        let state = self.store().state_dir(&self.settings().namespace, &draft.id);
        let (log_config, ports) = (draft.log_config_file(), draft.port_wishes());
        let doing = || format!("make the files of container {}", draft.id);
        let subject = draft.log_subject()?;
        let fill = move || fill_state_dir(&state, log_config.as_ref(), subject.as_deref(), &ports);
        try_blocking(doing(), fill).await?;
        let container = draft.network_identity();
        if matches!(draft.spec.network, NetworkMode::Container(_)) {
            return Ok(());
        }
        let (further, names) = (&draft.network.further_hosts, &draft.network.names);
        let dns = &draft.labels.dns;
        let made = self.networks().prepare_files(&container, dns, further, names).await;
        fault::reached("create.network");
        made.map(drop).map_err(|error| Error::failed(doing(), error))
    }

    /// Gives how it is mounted.
    async fn make_snapshot(&self, draft: &Draft) -> Result<Vec<containerd::Mount>> {
        let snapshotter = self.containerd().snapshotter(&self.settings().snapshotter);
        let chain_id = &draft.image.chain_id;
        let made = snapshotter.prepare(draft.id.as_str(), chain_id, Labels::new()).await;
        made.map_err(|error| {
            if error.is_not_found() {
                // Somebody removed the image between our look and now.
                return Error::NoSuchImage(draft.image.name.clone());
            }
            self.containerd_error(
                format!("make the root file system of container {}", draft.id),
                error,
            )
        })
    }

    /// Take away what a crash in the middle of a creation left: everything that the record leads to, and it last.
    ///
    /// # Errors
    /// The first step that fails; the next start of the daemon tries again.
    pub(crate) async fn discard_half_made(&self, found: &Record) -> Result<()> {
        let doing = || format!("discard the half-made container {}", found.id);
        let id: ContainerId = found.id.parse().map_err(|error| Error::failed(doing(), error))?;
        let _guard = self.locks().lock(&id).await;
        let removed =
            self.containerd().snapshotter(&found.snapshotter).remove(&found.snapshot_key).await;
        if let Err(error) = removed
            && !error.is_not_found()
        {
            return Err(self.containerd_error(doing(), error));
        }
        let anonymous = anonymous_volumes(found);
        self.remove_unused_volumes(anonymous, Some(found.id.as_str())).await?;
        let (store, namespace) = (self.store().clone(), self.settings().namespace.clone());
        let name = found.labels.get(keys::NAME).and_then(|name| name.parse::<ContainerName>().ok());
        let discard_files = move || {
            let hosts = store.hosts(&namespace);
            hosts.release(&id)?;
            hosts.delete(&id)?;
            store.state_dir(&namespace, &id).remove_all()?;
            match name.map(|name| store.names(&namespace).release(&name, &id)) {
                // It had not got it.
                Some(Err(StoreError::NameOfAnother { .. })) | None => Ok(()),
                Some(released) => released.map(drop),
            }
        };
        try_blocking(doing(), discard_files).await?;
        match self.containerd().delete_container(&found.id).await {
            Err(error) if !error.is_not_found() => Err(self.containerd_error(doing(), error)),
            _ => Ok(()),
        }
    }
}

/// Volumes that were made for a half-made container alone. Of named ones nobody knows whether they were there before.
fn anonymous_volumes(found: &Record) -> Vec<VolumeName> {
    let labels = found.labels.clone().into_iter().collect();
    let labels = ContainerLabels::parse::<std::hash::RandomState>(&labels);
    labels.anonymous_volumes.iter().filter_map(|name| name.parse().ok()).collect()
}

/// A random id whose short form is not a number: it becomes the host name (moby `daemon/internal/stringid`).
fn new_id() -> Result<ContainerId> {
    loop {
        let id = ContainerId::from_random(random::bytes()?);
        if !id.short_is_numeric() {
            return Ok(id);
        }
    }
}

/// The files that nerdctl expects beside a container that has never run.
fn fill_state_dir(
    state: &StateDir,
    log_config: Option<&LogConfig>,
    log_subject: Option<&[u8]>,
    ports: &[PortWish],
) -> nerdctl_store::Result<()> {
    state.create()?;
    if let Some(config) = log_config {
        state.write_log_config(config)?;
        state.create_log_file()?;
    }
    if let Some(subject) = log_subject {
        state.write_log_subject(subject)?;
    }
    if !ports.is_empty() {
        state.set_port_wishes(ports)?;
    }
    state.set_network_config(&NetworkConfig::default())
}
