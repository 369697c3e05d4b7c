//! What a new container gets mounted: the request, the image's volumes and other containers' mounts, brought together.
//!
//! In dockerd's order, in which the later takes the place of the earlier at the same destination (moby
//! `daemon/volumes.go`, `registerMountPoints`; `daemon/create_unix.go`, `createContainerVolumesOS`): the mounts of
//! `--volumes-from`, then those of the request, and an anonymous volume wherever request or image declare one and nothing is
//! mounted yet. Nothing is made here but read-only views of the images that are mounted; a lease protects them until
//! the container's record does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use names::VolumeName;
use nerdctl_store::volumes::anonymous_labels;

use super::image_mounts::ImageViews;
use crate::containers::mounts::{
    BindSource, MountPlan, MountSource, ReadOnly, TmpfsSource, VOLUME_MODE, VolumeSource,
};
use crate::containers::spec::mounts::{
    BindWish, MissingSource, MountRequest, MountWish, MountsSpec, Propagation, ReadOnlyDepth,
    VolumeWish, VolumesFrom, clean,
};
use crate::containers::{Container, Owner, record};
use crate::volumes::create::check_driver;
use crate::waiting::blocking;
use crate::{Engine, Error, Result, random};

/// Bytes of the texts of one mount: with the rest of nerdctl's document they fit into one label.
const MAX_TEXT: usize = 3500;

/// So many names fit into one label.
const MAX_ANONYMOUS: usize = 60;

/// All mounts of a new container.
#[derive(Debug, Default)]
pub(super) struct MountsDraft {
    /// By destination; tmpfs of the old form last.
    pub(super) plans: Vec<MountPlan>,
    /// Volumes that have to be there, and are made if they are not.
    pub(super) volumes: Vec<NewVolume>,
    /// What protects views of images until the record does.
    pub(super) views: Option<ImageViews>,
}

/// A volume that the container names.
#[derive(Clone, Debug)]
pub(super) struct NewVolume {
    pub(super) name: VolumeName,
    /// For one that has to be made.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Where it is mounted.
    pub(super) destination: String,
    pub(super) subpath: String,
    /// The image's files go into it while it is empty.
    pub(super) copy_up: bool,
    /// Only declared: nothing but a directory may be in the image there.
    pub(super) is_declared: bool,
}

/// What a plan is made with.
struct Planner<'a> {
    engine: &'a Engine,
    by_destination: BTreeMap<String, MountPlan>,
    volumes: Vec<NewVolume>,
}

impl Engine {
    /// Decide what is mounted.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`], [`Error::BindSourceMissing`], [`Error::NoSuchVolumeDriver`]; [`Error::NoSuchImage`]
    /// and its relatives for images that are mounted.
    pub(super) async fn plan_mounts(
        &self,
        spec: &MountsSpec,
        image_volumes: &[String],
    ) -> Result<MountsDraft> {
        let mut planner =
            Planner { engine: self, by_destination: BTreeMap::new(), volumes: Vec::new() };
        for from in &spec.volumes_from {
            planner.take_from(from).await?;
        }
        let mut views = None;
        for request in &spec.mounts {
            planner.take(request, &mut views).await?;
        }
        for declared in spec.volumes.iter().chain(image_volumes) {
            planner.declare(declared, spec)?;
        }
        let tmpfs = spec.tmpfs.iter().map(|(destination, options)| MountPlan {
            destination: destination.clone(),
            read_only: ReadOnly::No,
            mode: String::new(),
            source: MountSource::Tmpfs(TmpfsSource { options: options.clone(), unlisted: true }),
        });
        let plans: Vec<_> = planner.by_destination.into_values().chain(tmpfs).collect();
        check_records(&plans)?;
        Ok(MountsDraft { plans, volumes: planner.volumes, views })
    }

    /// The mounts of a container, as another one can have them.
    async fn mounts_of(&self, container: &Container) -> Result<Vec<MountPlan>> {
        let id = container.id.as_str();
        let found = self.containerd().get_container(id).await.map_err(|error| {
            self.containerd_error(format!("read the record of container {id}"), error)
        })?;
        Ok(record::mount_plans(&found, &self.settings().namespace))
    }
}

impl Planner<'_> {
    /// The mounts of another container; its tmpfs of the old form are its own.
    async fn take_from(&mut self, from: &VolumesFrom) -> Result<()> {
        let container = self.container(&from.container).await?;
        for mut plan in self.engine.mounts_of(&container).await? {
            if plan.is_unlisted() {
                continue;
            }
            if from.read_only && plan.read_only == ReadOnly::No {
                plan.read_only = self.read_only(ReadOnlyDepth::IfPossible, true).await?;
            }
            plan.mode = String::new();
            self.insert(plan);
        }
        Ok(())
    }

    /// In dockerd, too, the request is wrong, and nothing is "not found" (a client would pull the image).
    async fn container(&self, typed: &str) -> Result<Arc<Container>> {
        let wrong = |error: Error| match error {
            Error::NoSuchContainer(_) | Error::AmbiguousContainer(_) | Error::EmptyContainerRef => {
                Error::InvalidParameter(error.message())
            }
            other => other,
        };
        let container = self.engine.resolve_container(typed).await.map_err(wrong)?;
        match container.owner {
            Owner::Nerdctld | Owner::Nerdctl => Ok(container),
            Owner::Kubernetes { .. } | Owner::Other => Err(Error::unsupported(format!(
                "HostConfig.VolumesFrom {typed:?}, which is a container of another program,"
            ))),
        }
    }

    async fn take(&mut self, request: &MountRequest, views: &mut Option<ImageViews>) -> Result<()> {
        let mut read_only = self.read_only(ReadOnlyDepth::IfPossible, request.read_only).await?;
        let mut mode = request.mode.clone();
        let source = match &request.what {
            MountWish::Bind(wish) => {
                read_only = self.read_only(wish.read_only_depth, request.read_only).await?;
                MountSource::Bind(self.bind(wish).await?)
            }
            MountWish::Volume(wish) => {
                if mode.is_empty() {
                    VOLUME_MODE.clone_into(&mut mode);
                }
                MountSource::Volume(self.volume(wish, &request.destination)?)
            }
            MountWish::Tmpfs(options) => {
                MountSource::Tmpfs(TmpfsSource { options: options.clone(), unlisted: false })
            }
            MountWish::Image { image, subpath } => {
                read_only = ReadOnly::Top;
                let views = match views {
                    Some(views) => views,
                    None => views.insert(ImageViews::begin(self.engine).await?),
                };
                MountSource::Image(views.add(self.engine, image, subpath).await?)
            }
        };
        self.insert(MountPlan {
            destination: request.destination.clone(),
            read_only,
            mode,
            source,
        });
        Ok(())
    }

    /// An anonymous volume, unless something is mounted there.
    fn declare(&mut self, declared: &str, spec: &MountsSpec) -> Result<()> {
        let destination = clean(declared);
        if destination == "/" {
            let text = "invalid specification: destination can't be '/'";
            return Err(Error::InvalidParameter(text.to_owned()));
        }
        if self.by_destination.contains_key(&destination) || spec.tmpfs.contains_key(&destination) {
            return Ok(());
        }
        let wish = VolumeWish {
            name: None,
            driver: spec.volume_driver.clone(),
            labels: BTreeMap::new(),
            copy_up: true,
            subpath: String::new(),
        };
        let source = MountSource::Volume(self.volume(&wish, &destination)?);
        if let Some(volume) = self.volumes.last_mut() {
            volume.is_declared = true;
        }
        self.insert(MountPlan {
            destination,
            read_only: ReadOnly::No,
            mode: String::new(),
            source,
        });
        Ok(())
    }

    fn insert(&mut self, plan: MountPlan) {
        self.by_destination.insert(plan.destination.clone(), plan);
    }

    fn volume(&mut self, wish: &VolumeWish, destination: &str) -> Result<VolumeSource> {
        let anonymous = wish.name.is_none();
        let name = match &wish.name {
            Some(name) => name.clone(),
            None => VolumeName::anonymous(random::bytes()?),
        };
        check_driver(name.as_str(), &wish.driver)?;
        let mut labels = Some(wish.labels.clone()).filter(|labels| !labels.is_empty());
        if anonymous {
            labels.get_or_insert_default().extend(anonymous_labels());
        }
        let store = self.engine.store().volumes(&self.engine.settings().namespace);
        let source = VolumeSource {
            name: name.to_string(),
            directory: store.mountpoint(&name),
            subpath: wish.subpath.clone(),
            anonymous,
        };
        self.volumes.push(NewVolume {
            name,
            labels,
            destination: destination.to_owned(),
            subpath: wish.subpath.clone(),
            copy_up: wish.copy_up,
            is_declared: false,
        });
        Ok(source)
    }

    async fn bind(&self, wish: &BindWish) -> Result<BindSource> {
        let (path, rootless) = (wish.source.clone(), self.engine.host().rootless);
        // The path may be on a file system that does not answer.
        let looked = blocking("look at a bind mount", move || {
            let locked = if rootless { locked_flags(&path) } else { Vec::new() };
            (Path::new(&path).try_exists().unwrap_or(false), locked)
        });
        let (exists, locked) = looked.await?;
        if wish.missing == MissingSource::Refuse && !exists {
            return Err(Error::BindSourceMissing(wish.source.clone()));
        }
        let propagation = self.propagation(wish)?;
        Ok(BindSource {
            path: wish.source.clone().into(),
            propagation: propagation.unwrap_or(Propagation::RPrivate),
            propagation_is_ours: wish.propagation.is_none(),
            recursive: wish.recursive,
            make: wish.missing == MissingSource::Make,
            locked,
        })
    }

    /// What is mounted below the data root must be able to go away again while a container looks at it (moby
    /// `daemon/volumes_linux.go`, `validateBindDaemonRoot`).
    fn propagation(&self, wish: &BindWish) -> Result<Option<Propagation>> {
        let root = self.engine.settings().data_root.display().to_string();
        let near = wish.source.starts_with(&root) || root.starts_with(&wish.source);
        match wish.propagation {
            None if near => Ok(Some(Propagation::RSlave)),
            Some(Propagation::RSlave | Propagation::RShared) | None => Ok(wish.propagation),
            chosen if !near => Ok(chosen),
            Some(chosen) => Err(Error::InvalidParameter(format!(
                "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within \
                 the daemon root, daemon root: {root:?}, bind mount source: {:?}, propagation: {:?}",
                wish.source,
                chosen.as_str()
            ))),
        }
    }

    /// How read-only it becomes.
    async fn read_only(&self, depth: ReadOnlyDepth, wanted: bool) -> Result<ReadOnly> {
        let conflict = |text: &str| Err(Error::InvalidParameter(text.to_owned()));
        match (wanted, depth) {
            (false, ReadOnlyDepth::IfPossible) => Ok(ReadOnly::No),
            (false, ReadOnlyDepth::TopOnly) => {
                conflict("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
            }
            (false, ReadOnlyDepth::Whole) => {
                conflict("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
            }
            (true, ReadOnlyDepth::TopOnly) => Ok(ReadOnly::Top),
            (true, ReadOnlyDepth::IfPossible | ReadOnlyDepth::Whole) => {
                match self.engine.recursive_read_only().await {
                    true => Ok(ReadOnly::Recursive),
                    false if depth == ReadOnlyDepth::Whole => Err(Error::Unsupported {
                        what: "BindOptions.ReadOnlyForceRecursive on this host".to_owned(),
                        hint: ": it needs Linux 5.12 and runc 1.1".to_owned(),
                    }),
                    false => Ok(ReadOnly::Top),
                }
            }
        }
    }
}

/// containerd takes no longer labels, and what is not written down could not be found again.
fn check_records(plans: &[MountPlan]) -> Result<()> {
    let is_long = |plan: &&MountPlan| {
        let label = plan.label().unwrap_or_default();
        [label.source, label.destination, label.mode, label.name]
            .iter()
            .map(String::len)
            .sum::<usize>()
            > MAX_TEXT
    };
    if let Some(plan) = plans.iter().find(is_long) {
        let text = format!("the mount at {} is too long to be recorded", plan.destination);
        return Err(Error::InvalidParameter(text));
    }
    let anonymous = plans.iter().filter_map(MountPlan::volume).filter(|volume| volume.anonymous);
    if anonymous.count() > MAX_ANONYMOUS {
        let text = format!("a container can have at most {MAX_ANONYMOUS} anonymous volumes");
        return Err(Error::InvalidParameter(text));
    }
    Ok(())
}

/// What a bind mount cannot take away in a user namespace, and must therefore repeat (moby
/// `daemon/internal/mountopts/mountopts_linux.go`, `UnprivilegedMountFlags`).
fn locked_flags(path: &str) -> Vec<String> {
    use rustix::fs::StatVfsMountFlags as Flags;
    let Ok(found) = rustix::fs::statvfs(path) else { return Vec::new() };
    let words = [
        (Flags::RDONLY, "ro"),
        (Flags::NODEV, "nodev"),
        (Flags::NOEXEC, "noexec"),
        (Flags::NOSUID, "nosuid"),
        (Flags::NOATIME, "noatime"),
        (Flags::NODIRATIME, "nodiratime"),
        (Flags::RELATIME, "relatime"),
    ];
    let set = words.into_iter().filter(|(flag, _)| found.f_flag.contains(*flag));
    set.map(|(_, word)| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::mounts::tests::{bind, plan, volume};

    #[test]
    fn what_cannot_be_recorded_is_refused() {
        assert!(check_records(&[plan("/x", bind("/srv"))]).is_ok());
        let long = "/x".repeat(2000);
        assert!(check_records(&[plan("/x", bind(&long))]).is_err());
        let anonymous = || {
            let mut source = volume(&"a".repeat(64));
            if let MountSource::Volume(volume) = &mut source {
                volume.anonymous = true;
            }
            plan("/x", source)
        };
        let many: Vec<_> = std::iter::repeat_with(anonymous).take(MAX_ANONYMOUS).collect();
        assert!(check_records(&many).is_ok());
        let names: Vec<_> = many.iter().filter_map(MountPlan::volume).map(|it| &it.name).collect();
        let label = serde_json::to_string(&names).unwrap();
        assert!(nerdctl_store::labels::is_storable("nerdctl/anonymous-volumes", &label));
        let more: Vec<_> = std::iter::repeat_with(anonymous).take(MAX_ANONYMOUS + 1).collect();
        assert!(check_records(&more).is_err());
    }
}
