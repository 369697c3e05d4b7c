//! A new container's root file system, to be looked at before the container exists.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use containerd::Mount;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::archive::mounts::{Access, assemble};

/// The directory of a root file system. It is mounted nowhere, and goes with this.
#[derive(Debug)]
pub(crate) struct RootDirectory(OwnedFd);

impl RootDirectory {
    /// Open what `mounts` describe; `run_dir` is where a place for it may be made for a moment.
    ///
    /// # Errors
    /// The system's; `Unsupported` for more than one mount.
    pub(crate) fn open(mounts: &[Mount], run_dir: &Path) -> io::Result<Self> {
        assemble(mounts, &[], Access::Read, run_dir).map(Self)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_the_root() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        std::fs::create_dir_all(root.join("usr/share/data")).unwrap();
        std::fs::create_dir(temp.path().join("outside")).unwrap();
        std::fs::write(root.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("/usr/share", root.join("link")).unwrap();
        std::os::unix::fs::symlink("../outside", root.join("out")).unwrap();
        let source = root.display().to_string();
        let mount = Mount { kind: "bind".into(), source, ..Mount::default() };
        let root = RootDirectory::open(&[mount], temp.path()).unwrap();
        assert!(root.directory("/link/data").unwrap().is_some());
        assert!(root.directory("/out").unwrap().is_none());
        assert!(root.directory("/nothing").unwrap().is_none());
        let error = root.directory("/file").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        let none = RootDirectory::open(&[], temp.path()).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::Unsupported);
    }
}
