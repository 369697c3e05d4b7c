//! What the host says about the devices that a request names: looked up at create, given to the spec as data.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use rustix::fs::{FileType, Stat, major, minor, stat};

use super::cdi::{self, ContainerEdits};
use crate::containers::spec::confinement::devices::{DeviceAccess, DeviceMapping};
use crate::containers::spec::confinement::{Confinement, Resources};
use crate::{Error, Result};

/// Folders below `/dev` that hold other things than the host's devices (containerd `pkg/oci/utils_unix.go`).
const NO_DEVICES: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// More nodes than this of one folder are not given: it is no folder of devices.
const MAX_NODES: usize = 10_000;

/// Everything that was looked up for one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lookups {
    /// Device nodes to make, and what the container may do with each.
    pub(super) devices: Vec<(LinuxDevice, DeviceAccess)>,
    /// Numbers of the block devices that limits name.
    pub(crate) block: BlockNumbers,
    /// What CDI's specifications change for the devices that were asked for.
    pub(super) edits: Vec<ContainerEdits>,
}

/// Block devices by path: `(major, minor)`.
pub(crate) type BlockNumbers = BTreeMap<String, (i64, i64)>;

impl Lookups {
    /// Whether [`Lookups::read`] has something to do.
    #[must_use]
    pub fn are_needed_for(asked: &Confinement) -> bool {
        let devices = &asked.devices;
        asked.security.privileged
            || !devices.mappings.is_empty()
            || !devices.requests.is_empty()
            || asked.resources.block_devices().next().is_some()
    }

    /// Look. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`], in Docker's words, for devices that are not there.
    pub fn read(asked: &Confinement) -> Result<Self> {
        let mut devices = Vec::new();
        let privileged = asked.security.privileged;
        if privileged {
            devices.extend(all_devices(Path::new("/dev")));
        }
        for mapping in &asked.devices.mappings {
            // All of the host's are there already, under their own names.
            if !privileged || mapping.on_host != mapping.in_container {
                devices.extend(mapped(mapping)?);
            }
        }
        Ok(Self {
            devices,
            block: block_numbers(&asked.resources)?,
            edits: cdi::edits(&asked.devices.requests)?,
        })
    }
}

/// The numbers of the block devices that limits name.
///
/// # Errors
/// [`Error::InvalidParameter`] for one that is not there.
pub(crate) fn block_numbers(resources: &Resources) -> Result<BlockNumbers> {
    let number = |path: &str| match stat(path) {
        Ok(found) => Ok((path.to_owned(), numbers(&found))),
        Err(error) => {
            Err(Error::InvalidParameter(format!("stat {path}: {}", words(&error.into()))))
        }
    };
    resources.block_devices().map(number).collect()
}

fn numbers(found: &Stat) -> (i64, i64) {
    (i64::from(major(found.st_rdev)), i64::from(minor(found.st_rdev)))
}

/// The system's words as Go says them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let bare = text.split(" (os error").next().unwrap_or_default();
    bare.to_lowercase()
}

/// The node, or all nodes of the folder, that a mapping names (moby `daemon/pkg/oci/devices_linux.go`).
fn mapped(mapping: &DeviceMapping) -> Result<Vec<(LinuxDevice, DeviceAccess)>> {
    let failed = |reason: String| {
        Error::InvalidParameter(format!(
            "error gathering device information while adding custom device \"{}\": {reason}",
            mapping.on_host.display()
        ))
    };
    let source = fs::canonicalize(&mapping.on_host).map_err(|error| {
        failed(format!("lstat {}: {}", mapping.on_host.display(), words(&error)))
    })?;
    if let Some(device) = device(&source, &mapping.in_container) {
        return Ok(vec![(device, mapping.access.clone())]);
    }
    let mut found = Vec::new();
    if source.is_dir() {
        walk(&source, &[], &mut |path| {
            let below = path.strip_prefix(&source).unwrap_or(path);
            if let Some(device) = device(path, &mapping.in_container.join(below)) {
                found.push((device, mapping.access.clone()));
            }
        });
    }
    if found.is_empty() {
        return Err(failed("not a device node".to_owned()));
    }
    Ok(found)
}

/// All devices of the host, for a privileged container. The console is the container's own.
fn all_devices(root: &Path) -> Vec<(LinuxDevice, DeviceAccess)> {
    let mut found = Vec::new();
    walk(root, &NO_DEVICES, &mut |path| {
        if path.file_name().is_some_and(|name| name == "console") {
            return;
        }
        if let Some(device) = device(path, path) {
            found.push((device, DeviceAccess::default()));
        }
    });
    found
}

/// All files below a folder, in order of their names. What cannot be read is not there.
fn walk(folder: &Path, skipped: &[&str], visit: &mut dyn FnMut(&Path)) {
    let mut left = vec![folder.to_owned()];
    let mut visited = 0;
    while let Some(folder) = left.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        entries.sort_unstable();
        for path in entries {
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            let named = |name: &&str| path.file_name().is_some_and(|own| own == *name);
            if is_folder && !skipped.iter().any(named) {
                left.push(path);
            } else if !is_folder {
                visit(&path);
            }
            visited += 1;
            if visited > MAX_NODES {
                return;
            }
        }
    }
}

/// The node at `source`, to be made at `target`; `None` if it is none. Links are no nodes.
pub(super) fn device(source: &Path, target: &Path) -> Option<LinuxDevice> {
    let found = rustix::fs::lstat(source).ok()?;
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::BlockDevice => LinuxDeviceType::B,
        FileType::CharacterDevice => LinuxDeviceType::C,
        _ => return None,
    };
    let (major, minor) = numbers(&found);
    LinuxDeviceBuilder::default()
        .path(target)
        .typ(kind)
        .major(major)
        .minor(minor)
        .file_mode(found.st_mode & 0o7777)
        .uid(found.st_uid)
        .gid(found.st_gid)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::spec::confinement::Devices;
    use crate::containers::spec::confinement::resources::DeviceRate;

    fn read(on_host: &str, in_container: &str) -> Result<Lookups> {
        let mapping = DeviceMapping {
            on_host: on_host.into(),
            in_container: in_container.into(),
            access: DeviceAccess::default(),
        };
        let devices = Devices { mappings: vec![mapping], ..Devices::default() };
        Lookups::read(&Confinement { devices, ..Confinement::default() })
    }

    #[test]
    fn a_node_is_found_under_another_name() {
        let found = read("/dev/null", "/dev/nothing").unwrap();
        let (device, access) = &found.devices[0];
        assert_eq!(device.path(), Path::new("/dev/nothing"));
        assert_eq!((device.typ(), device.major(), device.minor()), (LinuxDeviceType::C, 1, 3));
        assert_eq!((device.file_mode(), access.as_str()), (Some(0o666), "rwm"));
    }

    #[test]
    fn a_link_and_a_folder_lead_to_nodes() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("devices");
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink("/dev/zero", temp.path().join("link")).unwrap();
        let found = read(temp.path().join("link").to_str().unwrap(), "/dev/z").unwrap();
        assert_eq!(found.devices[0].0.minor(), 5);
        let error = read(folder.to_str().unwrap(), "/dev/d").unwrap_err().to_string();
        assert!(error.ends_with("not a device node"), "{error}");
        let found = read("/dev", "/here").unwrap();
        assert!(found.devices.iter().any(|(device, _)| device.path() == Path::new("/here/null")));
    }

    #[test]
    fn what_is_not_there_is_named_in_dockers_words() {
        assert_eq!(
            read("/dev/none-of-these", "/dev/x").unwrap_err().to_string(),
            "error gathering device information while adding custom device \"/dev/none-of-these\": lstat /dev/none-of-these: no such file or directory"
        );
        let limits = Resources {
            blkio_read_bps: Some(vec![DeviceRate { path: "/dev/none".into(), rate: 1 }]),
            ..Resources::default()
        };
        assert_eq!(
            block_numbers(&limits).unwrap_err().to_string(),
            "stat /dev/none: no such file or directory"
        );
    }

    #[test]
    fn a_privileged_container_gets_all_but_the_console() {
        let all = all_devices(Path::new("/dev"));
        let has = |name: &str| all.iter().any(|(device, _)| device.path() == Path::new(name));
        assert!(has("/dev/null") && !has("/dev/console"));
        assert!(!all.iter().any(|(device, _)| device.path().starts_with("/dev/pts")));
    }
}
