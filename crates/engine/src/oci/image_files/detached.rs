//! A file system that is mounted nowhere: it exists as a file descriptor and goes with it.
//!
//! Needs Linux 5.6 and the right to mount. Mount types that only containerd's mount manager understands
//! (`format/…`, `erofs` images through a loop device) are refused by the kernel, and the error says so.

use std::io;
use std::os::fd::OwnedFd;

use containerd::Mount;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Options of mount(8) that are not the file system's.
const NOT_THE_FILE_SYSTEMS: [&str; 8] =
    ["ro", "rw", "bind", "rbind", "nosuid", "nodev", "noexec", "noatime"];

/// Mount read-only.
pub(crate) fn mount(wanted: &Mount) -> io::Result<OwnedFd> {
    let context = mount::fsopen(wanted.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !wanted.source.is_empty() {
        mount::fsconfig_set_string(&context, "source", wanted.source.as_str())?;
    }
    mount::fsconfig_set_flag(&context, "ro")?;
    for option in
        wanted.options.iter().filter(|option| !NOT_THE_FILE_SYSTEMS.contains(&option.as_str()))
    {
        match option.split_once('=') {
            Some((key, value)) => mount::fsconfig_set_string(&context, key, value)?,
            None => mount::fsconfig_set_flag(&context, option.as_str())?,
        }
    }
    mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The file at `path` below `root`, with all links followed as if `root` were `/`; `None` if there is none.
pub(super) fn open_file(root: &OwnedFd, path: &str) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    #[test]
    fn an_overlay_is_read_without_a_mount_point() {
        let temp = tempfile::tempdir_in("/tmp").unwrap();
        for layer in ["a", "b"] {
            fs::create_dir_all(temp.path().join(layer).join("etc")).unwrap();
        }
        fs::write(temp.path().join("a/etc/passwd"), "upper").unwrap();
        fs::write(temp.path().join("b/etc/passwd"), "lower").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("b/etc/group")).unwrap();
        let lower = ["a", "b"].map(|layer| temp.path().join(layer).display().to_string()).join(":");
        let wanted = Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: vec!["ro".into(), format!("lowerdir={lower}")],
            ..Mount::default()
        };
        let root = match mount(&wanted) {
            Ok(root) => root,
            Err(error) => {
                eprintln!("skipped: overlay cannot be mounted here: {error}");
                return;
            }
        };
        for path in ["etc/passwd", "etc/group"] {
            let mut text = String::new();
            fs::File::from(open_file(&root, path).unwrap().unwrap())
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "upper", "{path}");
        }
        assert!(open_file(&root, "etc/shadow").unwrap().is_none());
    }
}
