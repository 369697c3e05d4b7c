//! Make an image of a container: its changes as a layer on the image that it was made of.
//!
//! containerd compares the container's file system with its image's and makes the layer; everything is under a lease of
//! its own, which takes away what is there when a step fails or the daemon crashes. What the container's processes see is
//! only read: the layers of a running overlay are given to containerd as lower ones, because the same upper directory in
//! two mounts breaks the first.
//!
//! | Step | Taken back by |
//! |---|---|
//! | lease | ends with the work |
//! | pause | resume, whatever happens |
//! | view of the image, layer, unpacked layer, config, manifest | the lease |
//! | image record | – |

use containerd::diff::CreateDiff;
use containerd::{Labels, Mount};
use names::{ContainerId, ImageRef};
use serde_json::{Map, Value};

use super::state::Fact;
use super::{Container, Owner, Phase};
use crate::events::translate::container_event;
use crate::images::lease::WorkLease;
use crate::images::make::{LAYER, NewImageSpec};
use crate::images::resolve::Runnable;
use crate::images::{HealthCheck, RunConfig, changes};
use crate::oci::image_files::as_layers;
use crate::repair::PAUSED_MARK;
use crate::{Engine, Error, Result, fault, random};

/// What to make of a container.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The image's name, with a tag; without one it has only its id.
    pub name: Option<ImageRef>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Pause the container's processes while it is looked at.
    pub pause: bool,
    /// How the image is run, as far as it is said; the rest is as the container was run.
    pub config: RunConfig,
    /// Instructions of a Dockerfile that change it.
    pub changes: Vec<String>,
}

impl Engine {
    /// Make an image of a container. Gives the image's id; it can be run when this returns.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::CannotCommit`], [`Error::ManagedByKubernetes`]; [`Error::InvalidParameter`] for a
    /// change that is none; [`Error::NoSuchImage`] if the container's image is gone.
    pub async fn commit_container(&self, typed: &str, request: CommitRequest) -> Result<String> {
        let container = self.resolve_container(typed).await?;
        self.may_change(&container, typed, "commit")?;
        // moby daemon/commit.go
        let reason = match container.state.phase {
            Phase::Dead => Some("which is Dead"),
            Phase::Removing => Some("which is being removed"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(Error::CannotCommit { container: container.id.to_string(), reason });
        }
        let below = self.image_below(&container).await?;
        let own = self.run_config_of(&container, typed, &below).await?;
        let mut config = if request.config == RunConfig::default() {
            own.clone()
        } else {
            request.config.clone()
        };
        changes::apply(&mut config, &request.changes)?;
        config.merge(&own);

        let pause = request.pause && container.state.phase == Phase::Running;
        let lease = WorkLease::begin(self, "commit").await?;
        let manifest = below.runnable.descriptor.digest.clone();
        let spec = NewImageSpec {
            base: below.document,
            layers: below.runnable.manifest.layers.clone(),
            layer: None,
            config,
            author: request.author.clone(),
            comment: request.comment.clone(),
            created_by: own.cmd.unwrap_or_default().join(" "),
            parent: container.image_id.clone(),
            name: request.name.clone(),
        };
        let committed = match self.hold_image_below(&lease, &container, &manifest).await {
            Ok(()) => self.commit_under(&lease, &container, pause, spec).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(id) => {
                lease.finish().await;
                let name = request.name.as_ref().map(ImageRef::familiar).unwrap_or_default();
                let extra =
                    [("comment", request.comment), ("imageID", id.clone()), ("imageRef", name)];
                self.hub().publish(container_event(&container, "commit", &extra));
                Ok(id)
            }
            Err(error) => {
                lease.abandon().await;
                Err(error)
            }
        }
    }

    /// The layers below stay until the new image has them, even if the container's image is removed meanwhile.
    async fn hold_image_below(
        &self,
        lease: &WorkLease,
        container: &Container,
        manifest: &str,
    ) -> Result<()> {
        let failed = |error| self.containerd_error("protect the container's image", error);
        lease.hold(manifest).await.map_err(failed)?;
        match lease.client().blob(manifest).await {
            Ok(_) => {
                fault::reached("commit.lease");
                Ok(())
            }
            Err(error) if error.is_not_found() => Err(Error::NoSuchImage(container.image.clone())),
            Err(error) => Err(failed(error)),
        }
    }

    async fn commit_under(
        &self,
        lease: &WorkLease,
        container: &Container,
        pause: bool,
        mut spec: NewImageSpec,
    ) -> Result<String> {
        let paused = if pause { self.pause_for_commit(container).await? } else { None };
        fault::reached("commit.paused");
        let made = self.make_layer(lease, container).await;
        fault::reached("commit.layer");
        if let Some(mark) = paused {
            self.resume_after_commit(&container.id).await;
            mark.finish().await;
        }
        fault::reached("commit.resumed");
        spec.layer = Some(made?);
        let name = spec.name.clone();
        let id = Box::pin(self.make_image(lease, spec)).await?;
        if let Some(name) = name {
            self.publish_tag(&id, &name.familiar());
        }
        fault::reached("commit.image");
        Ok(id)
    }

    /// Gives the mark of that, which is a lease of its own: what somebody else pauses is not to be resumed after a crash.
    ///
    /// `None`: it has ended meanwhile, or somebody else paused it. It changes nothing any more, and is not to be resumed.
    async fn pause_for_commit(&self, container: &Container) -> Result<Option<WorkLease>> {
        // A daemon that is killed meanwhile leaves it paused; the next one finds this.
        let mark = Labels::from([(PAUSED_MARK.to_owned(), container.id.to_string())]);
        let mark = WorkLease::begin_with(self, "commit-pause", mark).await?;
        let outcome = self.pause_container(container.id.as_str()).await;
        match outcome {
            Ok(()) => Ok(Some(mark)),
            Err(Error::NotRunning(_) | Error::AlreadyPaused(_) | Error::IsRestarting(_)) => {
                mark.finish().await;
                Ok(None)
            }
            Err(error) => {
                // It may have been paused all the same; nobody but us asked for it.
                if matches!(error, Error::CannotPause { .. } | Error::ContainerdUnavailable { .. })
                {
                    self.resume_after_commit(&container.id).await;
                }
                mark.finish().await;
                Err(error)
            }
        }
    }

    /// Let a container go on that was paused for a commit.
    pub(crate) async fn resume_after_commit(&self, id: &ContainerId) {
        for _ in 0..RESUME_TRIES {
            match self.containerd().resume(id.as_str()).await {
                Ok(()) => return self.inventory().tell(id, Fact::Resumed).await,
                Err(error) if error.is_unavailable() => tokio::time::sleep(Self::RETRY).await,
                // It was killed, or somebody else resumed it.
                Err(error) => {
                    tracing::debug!(container = id.as_str(), %error, "not resumed after a commit");
                    return;
                }
            }
        }
        tracing::warn!(container = id.as_str(), "stays paused: containerd does not answer");
    }

    /// The container's changes as a layer in the content store.
    async fn make_layer(
        &self,
        lease: &WorkLease,
        container: &Container,
    ) -> Result<crate::images::Descriptor> {
        let id = &container.id;
        let failed =
            |error| self.containerd_error(format!("compare container {id} with its image"), error);
        let snapshots = lease.client().snapshotter(&container.snapshotter);
        let parent = snapshots.stat(&container.snapshot_key).await.map_err(failed)?.parent;
        let right = snapshots.mounts(&container.snapshot_key).await.map_err(failed)?;
        let view = format!("nerdctld-commit-{:032x}", u128::from_ne_bytes(random::bytes()?));
        let left = snapshots.view(&view, &parent, Labels::new()).await.map_err(failed)?;
        let diff = CreateDiff {
            left,
            right: right.into_iter().map(to_read).collect(),
            media_type: LAYER.to_owned(),
            ingest: view.clone(),
            labels: Labels::new(),
        };
        let made = lease.client().create_diff(diff).await;
        if let Err(error) = snapshots.remove(&view).await {
            tracing::debug!(view, %error, "a view goes with its lease");
        }
        made.map(Into::into).map_err(failed)
    }

    /// The image that the container was made of, for its platform.
    async fn image_below(&self, container: &Container) -> Result<Below> {
        let gone = || Error::NoSuchImage(container.image.clone());
        let target = match &container.image_manifest {
            Some(manifest) => manifest.clone(),
            None => self.find_image(&container.image_name).await?.record.target.into(),
        };
        let runnable = self.runnable(&target, None).await?.ok_or_else(gone)?;
        let bytes = self.read_document(&runnable.manifest.config.digest).await?.ok_or_else(gone)?;
        let document: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::BadContent(format!("invalid config: {error}")))?;
        let config = document.get("config").filter(|config| !config.is_null()).cloned();
        let config = config.map(serde_json::from_value).transpose();
        let config: Option<RunConfig> =
            config.map_err(|error| Error::BadContent(format!("invalid config: {error}")))?;
        Ok(Below { runnable, document, config: config.unwrap_or_default() })
    }

    /// How the container was run. Of those that others made only what their image says is known for sure.
    async fn run_config_of(
        &self,
        container: &Container,
        typed: &str,
        below: &Below,
    ) -> Result<RunConfig> {
        let image = below.config.clone();
        if container.owner != Owner::Nerdctld {
            return Ok(image);
        }
        let details = self.inspect_container(typed).await?;
        let cwd = details.process.cwd;
        // The daemon's own choice where nobody said anything.
        let working_dir =
            if cwd == "/" && image.working_dir.is_empty() { String::new() } else { cwd };
        let mut config = RunConfig {
            user: details.process.user,
            env: details.process.env,
            entrypoint: details.entrypoint,
            cmd: details.cmd,
            working_dir,
            labels: container.labels.as_ref().clone(),
            exposed_ports: details
                .exposed_ports
                .into_iter()
                .map(|port| (port, crate::images::Nothing {}))
                .collect(),
            volumes: details
                .volumes
                .into_iter()
                .map(|path| (path, crate::images::Nothing {}))
                .collect(),
            healthcheck: container
                .upkeep
                .health_check
                .as_deref()
                .map(health_check)
                .or_else(|| image.healthcheck.clone()),
            ..image.clone()
        };
        let signal = container.stop_signal.to_string();
        let is_default =
            image.stop_signal.is_empty() && container.stop_signal == names::Signal::TERM;
        config.stop_signal = if is_default { String::new() } else { signal };
        Ok(config)
    }
}

/// Tries to resume while containerd is away.
const RESUME_TRIES: u32 = 50;

/// The image of a container.
struct Below {
    runnable: Runnable,
    /// Its config, whole.
    document: Map<String, Value>,
    config: RunConfig,
}

/// The container's health check as an image has it.
fn health_check(check: &super::health_check::HealthCheck) -> HealthCheck {
    let nanoseconds = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    HealthCheck {
        test: check.test.clone(),
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        start_period: nanoseconds(check.start_period),
        start_interval: nanoseconds(check.start_interval),
        retries: check.retries.into(),
    }
}

/// The same file system to look at only.
fn to_read(mut mount: Mount) -> Mount {
    if let Some(layers) = as_layers(&mount) {
        return layers;
    }
    mount.options.retain(|option| option != "rw");
    mount.options.push("ro".to_owned());
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_overlay_is_only_read() {
        let mount = Mount {
            kind: "overlay".into(),
            options: ["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/a:/b"]
                .map(str::to_owned)
                .into(),
            ..Mount::default()
        };
        assert_eq!(to_read(mount).options, ["index=off", "lowerdir=/u:/a:/b"]);
        let bind = Mount {
            kind: "bind".into(),
            options: vec!["rbind".into(), "rw".into()],
            ..Mount::default()
        };
        assert_eq!(to_read(bind).options, ["rbind", "ro"]);
    }
}
