//! The files of a container that runs, by the root of one of its processes: with its mounts, and as it has changed them.
//!
//! Whatever the container puts there is opened only if it is a regular file: a device would be opened with the daemon's
//! rights, and opening alone makes some of them act.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The regular file at `path` below `root`, with all links followed as if `root` were `/`; `None` if there is none.
pub(super) fn open_file(root: &OwnedFd, path: &str) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let handle = OFlags::PATH | OFlags::CLOEXEC;
    let handle = match rustix::fs::openat2(root, path, handle, Mode::empty(), resolve) {
        Ok(handle) => handle,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(Some(rustix::fs::open(again, flags, Mode::empty())?))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_and_only_below_the_root() {
        let temp = tempfile::tempdir().unwrap();
        let etc = temp.path().join("etc");
        fs::create_dir_all(etc.join("dir")).unwrap();
        fs::write(etc.join("passwd"), "inside").unwrap();
        symlink("/etc/passwd", etc.join("link")).unwrap();
        symlink("../../../../etc/hostname", etc.join("out")).unwrap();
        symlink("loop", etc.join("loop")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, etc.join("fifo"), Mode::RUSR).unwrap();
        let root = OwnedFd::from(File::open(temp.path()).unwrap());
        for path in ["etc/passwd", "etc/link"] {
            let mut text = String::new();
            File::from(open_file(&root, path).unwrap().unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside", "{path}");
        }
        for path in ["etc/out", "etc/loop", "etc/fifo", "etc/dir", "etc/none", "etc/passwd/x"] {
            assert!(open_file(&root, path).unwrap().is_none(), "{path}");
        }
    }
}
