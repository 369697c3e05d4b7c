//! What is to be mounted into a new container, as the request says it.
//!
//! Everything that can be judged by the request alone has been judged: destinations are absolute and clean, no two mounts
//! of `mounts` have the same, options belong to their kind. What the host, the store and the image say comes later
//! (`containers/create/mounts.rs`).

use std::collections::{BTreeMap, BTreeSet};

use names::VolumeName;
use serde::{Deserialize, Serialize};

/// All that a request wants mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountsSpec {
    /// `HostConfig.Binds`, and after them `HostConfig.Mounts`.
    pub mounts: Vec<MountRequest>,
    /// `HostConfig.Tmpfs`: destination, and options merged with Docker's defaults.
    pub tmpfs: BTreeMap<String, Vec<String>>,
    /// `Config.Volumes`, as typed.
    pub volumes: BTreeSet<String>,
    /// `HostConfig.VolumesFrom`.
    pub volumes_from: Vec<VolumesFrom>,
    /// `HostConfig.VolumeDriver`: of anonymous volumes; empty for the usual one.
    pub volume_driver: String,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRequest {
    /// Absolute and clean path in the container.
    pub destination: String,
    /// It cannot be written to.
    pub read_only: bool,
    /// The options as typed, for inspect.
    pub mode: String,
    /// What is mounted.
    pub what: MountWish,
}

/// What a request wants mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountWish {
    /// A path of the host.
    Bind(BindWish),
    /// A volume.
    Volume(VolumeWish),
    /// Memory, with these options, merged with Docker's defaults.
    Tmpfs(Vec<String>),
    /// The files of an image.
    Image {
        /// As typed.
        image: String,
        /// Relative path of what is mounted; empty for all.
        subpath: String,
    },
}

/// A path of the host that is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindWish {
    /// Absolute and clean.
    pub source: String,
    /// How mounts below it are shared; Docker's default if not said.
    pub propagation: Option<Propagation>,
    /// With the mounts below it.
    pub recursive: bool,
    /// How far read-only reaches.
    pub read_only_depth: ReadOnlyDepth,
    /// What happens if it does not exist.
    pub missing: MissingSource,
}

/// A volume that is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeWish {
    /// `None`: an anonymous one.
    pub name: Option<VolumeName>,
    /// Empty for the usual one.
    pub driver: String,
    /// Labels of a volume that has to be made.
    pub labels: BTreeMap<String, String>,
    /// The image's files are copied into it while it is empty.
    pub copy_up: bool,
    /// Relative path of what is mounted; empty for all.
    pub subpath: String,
}

/// The mounts of another container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumesFrom {
    /// As typed.
    pub container: String,
    /// None of them can be written to.
    pub read_only: bool,
}

/// How mounts and unmounts travel between the host's tree and the container's (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Not at all, and below neither.
    RPrivate,
    /// Both ways.
    Shared,
    /// Both ways, and below as well.
    RShared,
    /// From the host to the container.
    Slave,
    /// From the host to the container, and below as well.
    RSlave,
}

impl Propagation {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Private, Self::RPrivate, Self::Shared, Self::RShared, Self::Slave, Self::RSlave];

    /// Docker's spelling, which is that of the OCI specification and of mount(8).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::RPrivate => "rprivate",
            Self::Shared => "shared",
            Self::RShared => "rshared",
            Self::Slave => "slave",
            Self::RSlave => "rslave",
        }
    }

    /// The mode of this spelling.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// How far read-only reaches into the mounts below a bind mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnlyDepth {
    /// All of them where kernel and runtime can do it.
    #[default]
    IfPossible,
    /// None of them.
    TopOnly,
    /// All of them, or the container is not made.
    Whole,
}

/// What happens when the source of a bind mount is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingSource {
    /// A directory is made at every start (`-v`, `CreateMountpoint`).
    Make,
    /// The request is refused (`--mount`).
    Refuse,
}

/// An absolute path without `.`, `..`, doubled and trailing slashes, as Go's `path.Clean` makes it.
#[must_use]
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_propagation() {
        for mode in Propagation::ALL {
            assert_eq!(Propagation::of(mode.as_str()), Some(mode));
            let json = serde_json::to_string(&mode).unwrap();
            assert_eq!(json, format!("{:?}", mode.as_str()));
        }
        assert_eq!(Propagation::of("ro"), None);
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [("/a/./b//", "/a/b"), ("/../x", "/x"), ("b", "/b"), ("/", "/")] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
