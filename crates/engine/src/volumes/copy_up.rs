//! Copy what an image has at a mount point into the volume that is mounted there, as long as the volume is empty.
//!
//! As dockerd and nerdctl do it (moby `daemon/container/container_unix.go`, `copyExistingContents`; containerd
//! `continuity/fs/copy.go`): files with contents, owners, permissions, extended attributes and times, links of both kinds,
//! pipes and device nodes; not sockets. The volume's own directory takes owner and permissions of the image's.
//!
//! The image's author has written what is read, and a running container may write where we write. So every step names one
//! single entry of an open directory, follows no link, and makes only what is not there.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{File, FileTimes};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

/// Deeper than any path of an image can be: names in a layer's archive have at most 4,096 bytes.
const MAX_DEPTH: usize = 2048;

/// The kernel's bound for a value, and for all names of attributes together.
const MAX_ATTRIBUTE: usize = 64 * 1024;

/// Copy everything in `image` into `volume`, if that is empty. Says whether it was. A failure leaves nothing behind.
///
/// # Errors
/// The system's; `Interrupted` when `stop` was cancelled.
pub(crate) fn copy_up(
    image: &OwnedFd,
    volume: &OwnedFd,
    stop: &CancellationToken,
) -> io::Result<bool> {
    if names(volume)?.next().is_some() {
        return Ok(false);
    }
    let mut copy = Copy { volume: volume.as_fd(), links: HashMap::new(), stop };
    let copied = copy.directory(image.as_fd(), volume.as_fd(), Path::new(""), 0);
    if copied.is_err() {
        discard(image, volume);
    }
    copied.map(|()| true)
}

/// Take back a copy that was not finished: else the next container would take the half for all.
fn discard(image: &OwnedFd, volume: &OwnedFd) {
    for name in names(image).into_iter().flatten().flatten() {
        let path = Path::new("/proc/self/fd")
            .join(volume.as_raw_fd().to_string())
            .join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let is_directory = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let _ =
            if is_directory { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

/// The names in a directory.
fn names(directory: &OwnedFd) -> io::Result<impl Iterator<Item = io::Result<CString>>> {
    names_of(directory.as_fd())
}

fn names_of(
    directory: BorrowedFd<'_>,
) -> io::Result<impl Iterator<Item = io::Result<CString>> + use<>> {
    let entries = Dir::read_from(directory)?;
    Ok(entries.filter_map(|entry| match entry {
        Ok(entry) if [c".", c".."].contains(&entry.file_name()) => None,
        Ok(entry) => Some(Ok(entry.file_name().to_owned())),
        Err(errno) => Some(Err(errno.into())),
    }))
}

/// Device and inode.
type Identity = (u64, u64);

struct Copy<'a> {
    volume: BorrowedFd<'a>,
    /// Files with several names: where the first one was copied to.
    links: HashMap<Identity, PathBuf>,
    stop: &'a CancellationToken,
}

impl Copy<'_> {
    /// The contents of a directory, then what it is itself. `path` is where `to` is in the volume.
    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG.into());
        }
        for name in names_of(from)? {
            if self.stop.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let name = name?;
            match self.entry(from, to, &name, path, depth) {
                // Another container was faster; what is there counts.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                copied => copied?,
            }
        }
        attributes(from, to)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let below = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        if kind == FileType::Directory {
            rustix::fs::mkdirat(to, name, Mode::RWXU)?;
            let (from, to) = (open(from, name)?, open(to, name)?);
            return self.directory(from.as_fd(), to.as_fd(), &below, depth + 1);
        }
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                return self.link(first, to, name);
            }
            self.links.insert(identity, below);
        }
        match kind {
            FileType::RegularFile => file(from, to, name),
            FileType::Symlink => symlink(from, to, name, &stat),
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                node(to, name, kind, &stat)
            }
            _ => Ok(()),
        }
    }

    /// Another name for a file that was copied. The way to it is looked up without links: somebody may have changed it.
    fn link(&self, first: &Path, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let (Some(parent), Some(first)) = (first.parent(), first.file_name()) else {
            return Err(Errno::INVAL.into());
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let parent = rustix::fs::openat2(self.volume, parent, flags, Mode::empty(), resolve)?;
        Ok(rustix::fs::linkat(&parent, first, to, name, AtFlags::empty())?)
    }
}

fn open(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let private = Mode::RUSR | Mode::WUSR;
    let mut target = File::from(rustix::fs::openat(to, name, write, private)?);
    io::copy(&mut source, &mut target)?;
    attributes(source.as_fd(), target.as_fd())
}

fn symlink(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let target = rustix::fs::readlinkat(from, name, Vec::new())?;
    rustix::fs::symlinkat(target.as_c_str(), to, name)?;
    Ok(rustix::fs::chownat(to, name, uid(stat), gid(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn node(to: BorrowedFd<'_>, name: &CStr, kind: FileType, stat: &Stat) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode);
    rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(to, name, flags, Mode::empty())?;
    rustix::fs::chownat(&made, c"", uid(stat), gid(stat), AtFlags::EMPTY_PATH)?;
    // The mask of the daemon has taken some away; a handle can be changed by its name only.
    let handle = format!("/proc/self/fd/{}", made.as_raw_fd());
    Ok(rustix::fs::chmod(handle, mode)?)
}

fn uid(stat: &Stat) -> Option<Uid> {
    Some(Uid::from_raw(stat.st_uid))
}

fn gid(stat: &Stat) -> Option<Gid> {
    Some(Gid::from_raw(stat.st_gid))
}

/// Owner first: changing it takes away set-user-id bits and capabilities. Times last: everything changes them.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, uid(&stat), gid(&stat))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    extended_attributes(from, to)?;
    let source = File::from(from.try_clone_to_owned()?).metadata()?;
    let times = FileTimes::new().set_accessed(source.accessed()?).set_modified(source.modified()?);
    File::from(to.try_clone_to_owned()?).set_times(times)
}

fn extended_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut list = Vec::with_capacity(MAX_ATTRIBUTE);
    match rustix::fs::flistxattr(from, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    let mut value = Vec::with_capacity(if list.is_empty() { 0 } else { MAX_ATTRIBUTE });
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        value.clear();
        match rustix::fs::fgetxattr(from, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => {}
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty()) {
            // The volume's file system has none of this kind.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn handle(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    fn copied(image: &Path, volume: &Path) -> io::Result<bool> {
        copy_up(&handle(image), &handle(volume), &CancellationToken::new())
    }

    fn two() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let (image, volume) = (temp.path().join("image"), temp.path().join("volume"));
        fs::create_dir(&image).unwrap();
        fs::create_dir(&volume).unwrap();
        (temp, image, volume)
    }

    #[test]
    fn everything_about_the_files_is_copied() {
        let (_temp, image, volume) = two();
        fs::create_dir(image.join("d")).unwrap();
        fs::write(image.join("d/file"), "contents").unwrap();
        fs::set_permissions(image.join("d/file"), PermissionsExt::from_mode(0o4711)).unwrap();
        fs::hard_link(image.join("d/file"), image.join("twin")).unwrap();
        symlink("/etc/passwd", image.join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, image.join("pipe"), FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        fs::set_permissions(&image, PermissionsExt::from_mode(0o1750)).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(image.join("d/file"), Some(1000), Some(1001)).unwrap();
            fs::set_permissions(image.join("d/file"), PermissionsExt::from_mode(0o4711)).unwrap();
        }
        let attribute = c"user.note";
        let has_attributes =
            rustix::fs::setxattr(image.join("d/file"), attribute, b"kept", XattrFlags::empty())
                .is_ok();

        assert!(copied(&image, &volume).unwrap());
        let (from, to) = (
            fs::metadata(image.join("d/file")).unwrap(),
            fs::metadata(volume.join("d/file")).unwrap(),
        );
        assert_eq!(fs::read_to_string(volume.join("d/file")).unwrap(), "contents");
        assert_eq!((from.uid(), from.gid(), from.mode()), (to.uid(), to.gid(), to.mode()));
        assert_eq!(from.modified().unwrap(), to.modified().unwrap());
        assert_eq!(fs::metadata(volume.join("twin")).unwrap().ino(), to.ino());
        assert_eq!(fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(volume.join("pipe")).unwrap().mode() & 0o777, 0o400);
        assert_eq!(fs::metadata(&volume).unwrap().mode() & 0o7777, 0o1750);
        if has_attributes {
            let mut value = [0; 16];
            let length =
                rustix::fs::getxattr(volume.join("d/file"), attribute, &mut value).unwrap();
            assert_eq!(&value[..length], b"kept");
        }
    }

    #[test]
    fn a_volume_with_anything_in_it_stays_as_it_is() {
        let (_temp, image, volume) = two();
        fs::write(image.join("new"), "new").unwrap();
        fs::write(volume.join("old"), "old").unwrap();
        assert!(!copied(&image, &volume).unwrap());
        assert!(!volume.join("new").exists());
    }

    #[test]
    fn a_copy_that_ends_early_leaves_nothing() {
        let (_temp, image, volume) = two();
        fs::create_dir(image.join("d")).unwrap();
        fs::write(image.join("d/file"), "x").unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let error = copy_up(&handle(&image), &handle(&volume), &stop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    }

    #[test]
    fn links_in_the_way_are_not_followed() {
        let (temp, image, volume) = two();
        fs::create_dir(temp.path().join("outside")).unwrap();
        fs::create_dir(image.join("d")).unwrap();
        fs::write(image.join("d/file"), "x").unwrap();
        // As if a container had made it after the volume was found empty.
        symlink(temp.path().join("outside"), volume.join("d")).unwrap();
        let (from, to) = (handle(&image), handle(&volume));
        let stop = CancellationToken::new();
        let mut copy = Copy { volume: to.as_fd(), links: HashMap::new(), stop: &stop };
        copy.directory(from.as_fd(), to.as_fd(), Path::new(""), 0).unwrap();
        assert_eq!(fs::read_dir(temp.path().join("outside")).unwrap().count(), 0);
    }
}
