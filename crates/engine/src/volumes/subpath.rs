//! A path within a volume, found without ever leaving the volume.
//!
//! Containers write into volumes, so a part of the path may have become a link to anywhere. Links that lead to a place in
//! the volume are followed, all others are refused (moby `daemon/volume/safepath`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// How often a path is looked up that somebody changes.
const TRIES: u32 = 128;

/// What is at `subpath` in `directory`; a handle, not open for reading.
///
/// # Errors
/// [`Error::SubpathEscapes`]; [`Error::SubpathMissing`].
pub(crate) fn open(directory: &Path, subpath: &str) -> Result<OwnedFd> {
    find(directory, subpath).map_err(|errno| match errno {
        Errno::XDEV => Error::SubpathEscapes {
            base: directory.display().to_string(),
            subpath: subpath.to_owned(),
        },
        errno => Error::SubpathMissing {
            path: directory.join(subpath).display().to_string(),
            source: io::Error::from(errno),
        },
    })
}

/// The same, in the system's words.
///
/// # Errors
/// `XDEV` if the path leads out of the directory.
pub(crate) fn find(directory: &Path, subpath: &str) -> std::result::Result<OwnedFd, Errno> {
    let handle = OFlags::PATH | OFlags::CLOEXEC;
    // The volume's own directory belongs to root alone on the host: it is no link.
    let base = rustix::fs::openat(
        CWD,
        directory,
        handle | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        Mode::empty(),
    )?;
    if subpath.is_empty() {
        return Ok(base);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    open_below(&base, subpath, handle, resolve)
}

/// Whether `destination`, seen from the root of process `pid`, is what `held` is.
///
/// The runtime follows the path in the spec once more, a moment after it was checked, and a container that has the volume
/// mounted could have put a link there in between. So it is looked at again in the finished container, before the first
/// instruction of the user's program runs.
///
/// # Errors
/// The process is gone, or nothing is there.
pub(crate) fn is_mounted(pid: u32, destination: &str, held: &impl AsFd) -> io::Result<bool> {
    let handle = OFlags::PATH | OFlags::CLOEXEC;
    let root = format!("/proc/{pid}/root");
    let root = rustix::fs::openat(CWD, root, handle | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let seen = open_below(&root, destination, handle, resolve)?;
    let (seen, held) = (rustix::fs::fstat(&seen)?, rustix::fs::fstat(held)?);
    Ok((seen.st_dev, seen.st_ino) == (held.st_dev, held.st_ino))
}

/// The kernel gives up when something is renamed meanwhile, which a container may do all the time (openat2(2)).
fn open_below(
    base: &OwnedFd,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> std::result::Result<OwnedFd, Errno> {
    for _ in 0..TRIES {
        match rustix::fs::openat2(base, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            outcome => return outcome,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_within_the_volume_only() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("_data");
        std::fs::create_dir_all(volume.join("d/e")).unwrap();
        std::fs::create_dir(temp.path().join("outside")).unwrap();
        symlink("d", volume.join("inside")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("../outside", volume.join("up")).unwrap();
        symlink("../../outside", volume.join("d/up")).unwrap();
        for good in ["", "d", "d/e", "inside/e", "./d/../d"] {
            assert!(open(&volume, good).is_ok(), "{good}");
        }
        for bad in ["absolute", "up", "d/up", "inside/up", "absolute/passwd"] {
            let error = open(&volume, bad).unwrap_err();
            assert!(matches!(error, Error::SubpathEscapes { .. }), "{bad}: {error:?}");
        }
        let error = open(&volume, "nothing").unwrap_err();
        assert!(matches!(error, Error::SubpathMissing { .. }), "{error:?}");
    }

    #[test]
    fn another_place_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("a")).unwrap();
        std::fs::create_dir_all(temp.path().join("b")).unwrap();
        let held = open(temp.path(), "a").unwrap();
        let me = std::process::id();
        let path = |name: &str| temp.path().join(name).display().to_string();
        assert!(is_mounted(me, &path("a"), &held).unwrap());
        assert!(!is_mounted(me, &path("b"), &held).unwrap());
        assert!(is_mounted(me, &path("c"), &held).is_err());
    }
}
