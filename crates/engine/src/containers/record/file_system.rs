//! What a container's root consists of, for looking into it while it does not run.

use std::path::PathBuf;

use super::Facts;
use super::spec::SlimSpec;
use crate::archive::mounts::Bind;
use crate::containers::mounts::MountPlan;

/// The root as the OCI spec describes it. Labels are not asked: an image's author may have written them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// The container's processes cannot write to it.
    pub(crate) read_only: bool,
    /// Volumes, directories and files of the host, in the order in which they are mounted.
    pub(crate) binds: Vec<Bind>,
    /// User and group of the container's first process.
    pub(crate) user: (u32, u32),
}

impl FileSystem {
    /// Of this record.
    pub(crate) fn of(record: &containerd::containers::Container) -> Self {
        let spec = SlimSpec::of(record);
        let binds = spec.mounts.iter().filter(|mount| mount.is_bind());
        let plans = Facts::of(record).unwrap_or_default().mounts;
        Self {
            read_only: spec.root.readonly,
            binds: binds
                .map(|mount| Bind {
                    source: mount.source.clone().into(),
                    destination: mount.destination.clone().into(),
                    read_only: mount.is_read_only(),
                    part: part_of_volume(&plans, &mount.destination),
                    asked_for: plans.iter().any(|plan| plan.destination == mount.destination),
                })
                .collect(),
            user: (spec.process.user.uid, spec.process.user.gid),
        }
    }
}

/// What is mounted at `destination`, if it is a part of a volume. Our own extension says it: no image can have written that.
fn part_of_volume(plans: &[MountPlan], destination: &str) -> Option<(PathBuf, String)> {
    let plan = plans.iter().find(|plan| plan.destination == destination)?;
    let volume = plan.volume().filter(|volume| !volume.subpath.is_empty())?;
    Some((volume.directory.clone(), volume.subpath.clone()))
}
