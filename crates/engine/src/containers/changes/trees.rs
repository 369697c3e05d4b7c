//! Two file trees to compare: the container's, and its image's.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use containerd::Mount;
use rustix::fs::{CWD, Mode, OFlags};

use crate::oci::image_files::detached;
use crate::oci::image_files::{as_layers, split_lower};

/// The kernel follows directories that have moved, where this says so.
const REDIRECTS: &str = "/sys/module/overlay/parameters/redirect_dir";

/// The roots.
#[derive(Debug)]
pub(super) struct Trees {
    /// The container's.
    pub(super) new: OwnedFd,
    /// The image's: layers that are looked through from the first to the last. Empty without an image.
    pub(super) old: Vec<OwnedFd>,
    /// What `new` does not have is deleted; else only what is marked as deleted there.
    pub(super) whole: bool,
}

impl Trees {
    /// The upper directory of an overlay and its layers; `None` if `mounts` is none, or one that only the kernel can follow.
    pub(super) fn layered(mounts: &[Mount]) -> io::Result<Option<Self>> {
        let Some(overlay) = Overlay::of(mounts).filter(|overlay| !overlay.redirects) else {
            return Ok(None);
        };
        let old = overlay.lower.iter().map(|path| directory(path)).collect::<Result<_, _>>()?;
        Ok(Some(Self { new: directory(&overlay.upper)?, old, whole: false }))
    }

    /// Both trees as a whole.
    pub(super) fn whole(container: &[Mount], image: &[Mount]) -> io::Result<Self> {
        let old = if image.is_empty() { Vec::new() } else { vec![root(image)?] };
        Ok(Self { new: root(container)?, old, whole: true })
    }
}

/// An overlay's directories.
struct Overlay {
    upper: PathBuf,
    lower: Vec<PathBuf>,
    redirects: bool,
}

impl Overlay {
    fn of(mounts: &[Mount]) -> Option<Self> {
        let [mount] = mounts else { return None };
        if mount.kind != "overlay" {
            return None;
        }
        let redirects = match mount.option("redirect_dir") {
            Some(given) => given == "on",
            None => fs::read_to_string(REDIRECTS).is_ok_and(|text| text.trim() == "Y"),
        };
        Some(Self {
            upper: mount.option("upperdir")?.into(),
            lower: split_lower(mount.option("lowerdir").unwrap_or_default()),
            redirects,
        })
    }
}

/// The root of a file system: a directory that is there, or one that is mounted nowhere and read-only.
fn root(mounts: &[Mount]) -> io::Result<OwnedFd> {
    let [mount] = mounts else {
        let text = format!("it consists of {} mounts, which cannot be compared", mounts.len());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    };
    if mount.kind == "bind" {
        return directory(Path::new(&mount.source));
    }
    detached::mount(&read_only(mount))
}

/// What is in use is looked at as layers.
fn read_only(mount: &Mount) -> Mount {
    as_layers(mount).unwrap_or_else(|| mount.clone())
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(options: &[&str]) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Mount { kind: "overlay".into(), source: "overlay".into(), options, ..Mount::default() }
    }

    #[test]
    fn an_overlay_in_use_is_read_as_layers() {
        let mount = overlay(&["workdir=/w", "upperdir=/u", "lowerdir=/a:/b", "userxattr"]);
        assert_eq!(read_only(&mount).options, ["userxattr", "lowerdir=/u:/a:/b"]);
        let view = overlay(&["lowerdir=/a:/b"]);
        assert_eq!(read_only(&view), view);
    }

    #[test]
    fn only_the_kernel_follows_redirects() {
        let mounts = |option| [overlay(&["upperdir=/u", "lowerdir=/a", option])];
        assert!(Overlay::of(&mounts("redirect_dir=on")).unwrap().redirects);
        assert!(!Overlay::of(&mounts("redirect_dir=off")).unwrap().redirects);
        assert!(Trees::layered(&mounts("redirect_dir=on")).unwrap().is_none());
        assert!(Overlay::of(&[overlay(&["lowerdir=/a:/b"])]).is_none(), "a view");
        assert!(Overlay::of(&[]).is_none());
    }

    #[test]
    fn several_mounts_are_no_tree() {
        assert!(Trees::whole(&[overlay(&[]), overlay(&[])], &[]).is_err());
    }
}
