//! The volumes of a new container: made where they are missing, and filled with what the image has in their place.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use containerd::Mount;
use names::VolumeName;
use tokio_util::sync::CancellationToken;

use super::draft::Draft;
use super::mounts::NewVolume;
use crate::undo::Undo;
use crate::volumes::copy_up::copy_up;
use crate::volumes::root::RootDirectory;
use crate::volumes::subpath;
use crate::waiting::blocking;
use crate::{Engine, Error, Result, fault};

/// The volumes that this creation has made.
#[derive(Clone, Debug, Default)]
pub(super) struct MadeVolumes(Arc<Mutex<Vec<VolumeName>>>);

impl MadeVolumes {
    fn add(&self, name: VolumeName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    fn take(&self) -> Vec<VolumeName> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Engine {
    /// Those that are made from now on go again when the creation fails, unless another container has found them
    /// meanwhile.
    pub(super) fn promise_to_remove_volumes(&self, draft: &Draft, undo: &mut Undo) -> MadeVolumes {
        let made = MadeVolumes::default();
        let (engine, id, promised) = (self.clone(), draft.id.clone(), made.clone());
        undo.push("remove the volumes", async move {
            engine.remove_unused_volumes(promised.take(), Some(id.as_str())).await.map(drop)
        });
        made
    }

    /// Make those that are not there.
    pub(super) async fn make_volumes(&self, draft: &Draft, made: &MadeVolumes) -> Result<()> {
        for volume in &draft.mounts.volumes {
            let (_, is_new) = self.make_volume(volume.name.clone(), volume.labels.clone()).await?;
            if is_new {
                made.add(volume.name.clone());
                fault::reached("create.volume");
                self.tell_of_volume(volume.name.as_str(), "create");
            }
        }
        Ok(())
    }

    /// Copy what the image has into volumes that are empty. `root` is the new container's own, still untouched.
    pub(super) async fn fill_volumes(&self, draft: &Draft, root: Vec<Mount>) -> Result<()> {
        let store = self.store().volumes(&self.settings().namespace);
        let volumes: Vec<_> = draft
            .mounts
            .volumes
            .iter()
            .filter(|volume| volume.copy_up)
            .map(|volume| (volume.clone(), store.mountpoint(&volume.name)))
            .collect();
        if volumes.is_empty() {
            return Ok(());
        }
        let filling = Filling {
            root,
            run_dir: self.settings().run_dir.clone(),
            stop: self.supervisor().token().clone(),
        };
        blocking("fill the volumes of a container", move || filling.fill(&volumes)).await?
    }
}

/// What is needed away from the runtime's threads.
struct Filling {
    root: Vec<Mount>,
    run_dir: PathBuf,
    stop: CancellationToken,
}

impl Filling {
    fn fill(&self, volumes: &[(NewVolume, PathBuf)]) -> Result<()> {
        let root = RootDirectory::open(&self.root, &self.run_dir)
            .map_err(|error| Error::failed("look into the image for its volumes", error))?;
        for (volume, directory) in volumes {
            self.fill_one(&root, volume, directory)?;
        }
        Ok(())
    }

    fn fill_one(
        &self,
        root: &RootDirectory,
        volume: &NewVolume,
        directory: &std::path::Path,
    ) -> Result<()> {
        let destination = volume.destination.as_str();
        let doing = || format!("failed to populate volume {}", volume.name);
        let image = match root.directory(destination) {
            Ok(Some(image)) => image,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                return if volume.is_declared {
                    Err(Error::VolumeOverFile(destination.to_owned()))
                } else {
                    Ok(())
                };
            }
            Err(error) => return Err(Error::failed(doing(), error)),
        };
        let target = match subpath::open(directory, &volume.subpath) {
            Ok(target) => target,
            // Told at the start, as in dockerd: another container may make it until then.
            Err(Error::SubpathMissing { .. }) if !volume.subpath.is_empty() => return Ok(()),
            Err(error) => return Err(error),
        };
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::DIRECTORY
            | rustix::fs::OFlags::CLOEXEC;
        let target = match rustix::fs::openat(&target, c".", flags, rustix::fs::Mode::empty()) {
            Ok(target) => target,
            // A single file of the volume.
            Err(rustix::io::Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(Error::failed(doing(), error)),
        };
        copy_up(&image, &target, &self.stop)
            .map(drop)
            .map_err(|error| Error::failed(doing(), error))
    }
}
