//! A new container's root file system, to be looked at before the container exists.
//!
//! A snapshotter tells how the root file system would be mounted. Bind mounts are directories and need no mount. Others
//! are mounted read-only for the moment that it takes to open them, and taken out of the file tree again: from then on
//! the file system exists as a file descriptor and goes with it. What a crash in that moment leaves is taken away by the
//! next start of the daemon.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd::Mount;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::oci::image_files::split_lower;

/// Beginning of the names of mount points.
const PREFIX: &str = "root-";

/// Options that are no words of the file system's own, or that a read-only overlay does not have.
const LEFT_OUT: [&str; 6] = ["ro", "rw", "rbind", "bind", "volatile", "noatime"];

/// The directory of a root file system.
#[derive(Debug)]
pub(crate) struct RootDirectory(OwnedFd);

impl RootDirectory {
    /// Open what `mounts` describe; `name` is of this container alone, and `below` a private directory of the daemon's.
    ///
    /// # Errors
    /// The system's; `Unsupported` for more than one mount.
    pub(crate) fn open(mounts: &[Mount], below: &Path, name: &str) -> io::Result<Self> {
        let [mount] = mounts else {
            let text = format!("the snapshotter gives {} mounts instead of one", mounts.len());
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        };
        if mount.kind == "bind" {
            return Ok(Self(open_directory(Path::new(&mount.source))?));
        }
        let mut layers = Vec::new();
        let options = if mount.kind == "overlay" {
            overlay_options(mount, &mut layers)?
        } else {
            kept_options(mount).collect::<Vec<_>>().join(",")
        };
        std::fs::create_dir_all(below)?;
        let point = below.join(format!("{PREFIX}{name}"));
        std::fs::create_dir(&point)?;
        let opened = open_mounted(mount, &point, &options);
        let removed = std::fs::remove_dir(&point);
        let root = opened?;
        removed?;
        Ok(Self(root))
    }

    /// The directory at `path`, with all links followed as if the root were `/`; `None` if there is nothing at all, an
    /// error of the kind `NotADirectory` if there is something else.
    pub(crate) fn directory(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn kept_options(mount: &Mount) -> impl Iterator<Item = &str> {
    mount.options.iter().map(String::as_str).filter(|option| !LEFT_OUT.contains(option))
}

/// The writable layer, which is empty still, and all below it. Layers are named by descriptors: a page is all that the
/// kernel reads of the options, and the layers' own paths are long.
fn overlay_options(mount: &Mount, layers: &mut Vec<OwnedFd>) -> io::Result<String> {
    let upper = mount.option("upperdir").map(PathBuf::from);
    let lower = split_lower(mount.option("lowerdir").unwrap_or_default());
    for path in upper.into_iter().chain(lower) {
        layers.push(open_directory(&path)?);
    }
    let links: Vec<_> =
        layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
    let of_layers = ["upperdir=", "lowerdir=", "workdir="];
    let mut options: Vec<_> = kept_options(mount)
        .filter(|option| !of_layers.iter().any(|key| option.starts_with(key)))
        .map(str::to_owned)
        .collect();
    options.push(format!("lowerdir={}", links.join(":")));
    Ok(options.join(","))
}

fn open_mounted(mount: &Mount, point: &Path, options: &str) -> io::Result<OwnedFd> {
    let options = CString::new(options)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(
        mount.source.as_str(),
        point,
        mount.kind.as_str(),
        flags,
        options.as_c_str(),
    )?;
    let opened = open_directory(point);
    rustix::mount::unmount(point, UnmountFlags::DETACH)?;
    opened
}

/// Take away what a crash left; only for the start of the daemon, when nobody looks at anything.
pub(crate) fn clear(below: &Path) -> usize {
    let mut cleared = 0;
    for entry in std::fs::read_dir(below).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // Not mounted is as good.
            let _ = rustix::mount::unmount(entry.path(), UnmountFlags::DETACH);
            cleared += usize::from(std::fs::remove_dir(entry.path()).is_ok());
        }
    }
    cleared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(path: &Path) -> String {
        std::fs::create_dir_all(path.join("etc")).unwrap();
        path.display().to_string()
    }

    #[test]
    fn an_overlay_is_open_and_mounted_nowhere() {
        let temp = tempfile::tempdir_in("/tmp").unwrap();
        let lower: Vec<_> =
            (0..30).map(|number| layer(&temp.path().join(format!("l{number}")))).collect();
        let upper = layer(&temp.path().join("upper"));
        std::fs::write(temp.path().join("l29/etc/name"), "bottom").unwrap();
        std::os::unix::fs::symlink("/etc", temp.path().join("l3/link")).unwrap();
        let mount = Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                "index=off".into(),
                format!("workdir={}", temp.path().join("work").display()),
                format!("upperdir={upper}"),
                format!("lowerdir={}", lower.join(":")),
            ],
            ..Mount::default()
        };
        let below = temp.path().join("run");
        let root = match RootDirectory::open(&[mount], &below, "x") {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: nothing can be mounted here: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 0, "no mount point stays");
        let etc = root.directory("/link").unwrap().unwrap();
        let found: Vec<_> = rustix::fs::Dir::read_from(&etc)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert!(found.contains(&"name".to_owned()), "{found:?}");
        assert!(root.directory("/nothing").unwrap().is_none());
        let error = root.directory("/etc/name").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_bind_mount_is_its_directory() {
        let temp = tempfile::tempdir().unwrap();
        let source = layer(&temp.path().join("only"));
        let mount = Mount { kind: "bind".into(), source, ..Mount::default() };
        let root = RootDirectory::open(&[mount], temp.path(), "x").unwrap();
        assert!(root.directory("/etc").unwrap().is_some());
        let none = RootDirectory::open(&[], temp.path(), "x").unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::Unsupported);
    }
}
