//! A container's mounts, decided: what is mounted where, from where on this host.
//!
//! Made at create (`create/mounts.rs`), written into the OCI spec (`oci/mounts.rs`), kept in the record for every start
//! and for containers that want the same mounts (`--volumes-from`), and shown (nerdctl's label, `nerdctl/mounts`).

use std::path::{Path, PathBuf};

use nerdctl_store::labels::values::MountPoint as LabelMount;
use serde::{Deserialize, Serialize};

use super::spec::mounts::Propagation;

/// The mode that dockerd shows for volumes for which none was typed (moby `daemon/volumes_unix.go`,
/// `setBindModeIfNull`).
pub(crate) const VOLUME_MODE: &str = "z";

/// The driver of all volumes.
pub(crate) const LOCAL: &str = "local";

/// One mount.
///
/// Kept in records for years: fields are only ever added, each with a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPlan {
    /// Absolute and clean path in the container.
    pub destination: String,
    /// Whether, and how deep, it is read-only.
    #[serde(default)]
    pub read_only: ReadOnly,
    /// The options as typed.
    #[serde(default)]
    pub mode: String,
    /// What is mounted.
    pub source: MountSource,
}

/// Whether a mount can be written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReadOnly {
    /// It can.
    #[default]
    No,
    /// It cannot, but mounts below it can.
    Top,
    /// It cannot, and mounts below it neither.
    Recursive,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountSource {
    /// A path of the host.
    Bind(BindSource),
    /// A volume.
    Volume(VolumeSource),
    /// Memory.
    Tmpfs(TmpfsSource),
    /// The files of an image.
    Image(ImageSource),
}

/// A path of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindSource {
    /// Absolute and clean.
    pub path: PathBuf,
    /// How mounts travel.
    pub propagation: Propagation,
    /// The propagation was chosen by the daemon, so it does not matter if the host cannot give it.
    #[serde(default)]
    pub propagation_is_ours: bool,
    /// With the mounts below it.
    pub recursive: bool,
    /// A directory is made at start if it is missing.
    #[serde(default)]
    pub make: bool,
    /// Flags of the source's own mount that a user namespace must keep (`nosuid`, `nodev`, …).
    #[serde(default)]
    pub locked: Vec<String>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSource {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Relative path of what is mounted; empty for all.
    #[serde(default)]
    pub subpath: String,
    /// It goes with the container.
    #[serde(default)]
    pub anonymous: bool,
}

/// Memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TmpfsSource {
    /// As for mount(8).
    pub options: Vec<String>,
    /// It came with `HostConfig.Tmpfs`, which hides another mount at the same place, and which dockerd does not list
    /// among the mounts.
    #[serde(default)]
    pub unlisted: bool,
}

/// The files of an image: a read-only view of its layers, which lives as long as the container's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// As typed.
    pub image: String,
    /// Digest of the image.
    pub id: String,
    /// Key of the view, in the container's snapshotter.
    pub snapshot: String,
    /// Relative path of what is mounted; empty for all.
    #[serde(default)]
    pub subpath: String,
    /// Type of the mount: `overlay` or `bind`.
    pub kind: String,
    /// Source of the mount.
    pub from: String,
    /// Options of the mount.
    pub options: Vec<String>,
}

impl VolumeSource {
    /// The path on the host of what is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        if self.subpath.is_empty() {
            self.directory.clone()
        } else {
            self.directory.join(&self.subpath)
        }
    }
}

impl MountPlan {
    /// Its volume, if it is one.
    pub(crate) fn volume(&self) -> Option<&VolumeSource> {
        match &self.source {
            MountSource::Volume(volume) => Some(volume),
            _ => None,
        }
    }

    /// Its image view, if it is one.
    pub(crate) fn image(&self) -> Option<&ImageSource> {
        match &self.source {
            MountSource::Image(image) => Some(image),
            _ => None,
        }
    }

    /// A tmpfs of `HostConfig.Tmpfs`.
    pub(crate) fn is_unlisted(&self) -> bool {
        matches!(&self.source, MountSource::Tmpfs(tmpfs) if tmpfs.unlisted)
    }

    /// As nerdctl's label has it, and inspect shows it; `None` for what is not listed.
    pub(crate) fn label(&self) -> Option<LabelMount> {
        let plain = LabelMount {
            destination: self.destination.clone(),
            mode: self.mode.clone(),
            rw: self.read_only == ReadOnly::No,
            ..LabelMount::default()
        };
        let text = |path: &Path| path.display().to_string();
        Some(match &self.source {
            MountSource::Tmpfs(tmpfs) if tmpfs.unlisted => return None,
            MountSource::Tmpfs(_) => LabelMount { r#type: "tmpfs".to_owned(), ..plain },
            MountSource::Bind(bind) => LabelMount {
                r#type: "bind".to_owned(),
                source: text(&bind.path),
                propagation: bind.propagation.as_str().to_owned(),
                ..plain
            },
            MountSource::Volume(volume) => LabelMount {
                r#type: "volume".to_owned(),
                name: volume.name.clone(),
                source: text(&volume.directory),
                driver: LOCAL.to_owned(),
                ..plain
            },
            MountSource::Image(image) => LabelMount {
                r#type: "image".to_owned(),
                name: image.image.clone(),
                source: image.id.clone(),
                propagation: Propagation::RPrivate.as_str().to_owned(),
                ..plain
            },
        })
    }

    /// The mount of a container that nerdctl made; `None` for kinds that mean nothing to another container.
    pub(crate) fn of_label(mount: &LabelMount, is_anonymous: bool) -> Option<Self> {
        let source = match mount.r#type.as_str() {
            "bind" => MountSource::Bind(BindSource {
                path: PathBuf::from(&mount.source),
                propagation: Propagation::of(&mount.propagation).unwrap_or(Propagation::RPrivate),
                propagation_is_ours: false,
                recursive: true,
                make: false,
                locked: Vec::new(),
            }),
            "volume" => MountSource::Volume(VolumeSource {
                name: mount.name.clone(),
                directory: PathBuf::from(&mount.source),
                subpath: String::new(),
                anonymous: is_anonymous,
            }),
            "tmpfs" => MountSource::Tmpfs(TmpfsSource {
                options: mount
                    .mode
                    .split(',')
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect(),
                unlisted: false,
            }),
            _ => return None,
        };
        let read_only = if mount.rw { ReadOnly::No } else { ReadOnly::Top };
        let destination = super::spec::mounts::clean(&mount.destination);
        Some(Self { destination, read_only, mode: mount.mode.clone(), source })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan(destination: &str, source: MountSource) -> MountPlan {
        MountPlan {
            destination: destination.to_owned(),
            read_only: ReadOnly::No,
            mode: String::new(),
            source,
        }
    }

    pub(crate) fn bind(path: &str) -> MountSource {
        MountSource::Bind(BindSource {
            path: path.into(),
            propagation: Propagation::RPrivate,
            propagation_is_ours: false,
            recursive: true,
            make: true,
            locked: Vec::new(),
        })
    }

    pub(crate) fn volume(name: &str) -> MountSource {
        MountSource::Volume(VolumeSource {
            name: name.to_owned(),
            directory: format!("/var/lib/nerdctl/1935db59/volumes/default/{name}/_data").into(),
            subpath: String::new(),
            anonymous: false,
        })
    }

    #[test]
    fn what_is_kept_can_be_read_again() {
        for source in [bind("/srv"), volume("data")] {
            let plan = plan("/x", source);
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<MountPlan>(&json).unwrap(), plan);
        }
    }

    #[test]
    fn the_label_is_what_nerdctl_writes() {
        let volume = MountPlan { mode: VOLUME_MODE.into(), ..plan("/data", volume("data")) };
        let label = volume.label().unwrap();
        assert_eq!((label.r#type.as_str(), label.name.as_str()), ("volume", "data"));
        assert_eq!((label.driver.as_str(), label.mode.as_str(), label.rw), ("local", "z", true));
        assert_eq!(MountPlan::of_label(&label, false), Some(volume));
        let hidden =
            plan("/t", MountSource::Tmpfs(TmpfsSource { options: Vec::new(), unlisted: true }));
        assert_eq!(hidden.label(), None);
    }
}
