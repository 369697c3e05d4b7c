//! Comparing two trees (moby `go-archive`, `changes.go`).
//!
//! The container may change its files while they are walked through, and its files may have any name and depth. So every
//! directory is opened by a path that must not lead through a link or out of its tree, no more than one directory of each
//! layer is open at a time, and what vanishes on the way is as if it had never been there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::vec;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use tokio::sync::mpsc::Sender;

use super::trees::Trees;
use super::{Change, ChangeBatch, ChangeKind};
use crate::oci::image_files::layers::{is_marked, refuse};

/// Changes that are handed on together.
const BATCH: usize = 512;

/// Where runtimes make places to mount on. dockerd has them in a layer of its own between image and container (moby
/// `daemon/initlayer/setup_unix.go`), so that nobody sees them as changes.
const MOUNT_POINTS: [&str; 12] = [
    ".dockerenv",
    "dev",
    "dev/console",
    "dev/pts",
    "dev/shm",
    "etc",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "sys",
];

/// The reader is gone, or the trees cannot be read.
enum Stop {
    Unread,
    Failed(io::Error),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.into())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Walk, and send what differs. A reader that has left is no error.
pub(super) fn walk(trees: &Trees, sender: &Sender<ChangeBatch>) -> io::Result<()> {
    let mut output = Output { sender, batch: Vec::new() };
    match compare(trees, &mut output).and_then(|()| output.flush()) {
        Ok(()) | Err(Stop::Unread) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
    }
}

struct Output<'a> {
    sender: &'a Sender<ChangeBatch>,
    batch: Vec<Change>,
}

impl Output<'_> {
    fn tell(&mut self, path: &Path, kind: ChangeKind) -> Result<(), Stop> {
        let path = format!("/{}", path.to_string_lossy());
        self.batch.push(Change { path, kind });
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(batch)).map_err(|_| Stop::Unread)
    }
}

/// A directory on the way to where the walk is.
struct Level {
    path: PathBuf,
    /// That something in it differs has been said, or need not be.
    told: bool,
    rest: vec::IntoIter<Entry>,
}

/// A name in a directory, with what differs.
struct Entry {
    name: OsString,
    change: Option<ChangeKind>,
    /// A directory of the container, and the layers that have it too.
    descend: Option<Vec<usize>>,
}

fn compare(trees: &Trees, output: &mut Output<'_>) -> Result<(), Stop> {
    let all = (0..trees.old.len()).collect();
    let mut levels = vec![Level {
        path: PathBuf::new(),
        told: true,
        rest: trees.entries(Path::new(""), all)?.into_iter(),
    }];
    while let Some(level) = levels.last_mut() {
        let Some(Entry { name, change, descend }) = level.rest.next() else {
            levels.pop();
            continue;
        };
        let path = level.path.join(name);
        if let Some(kind) = change {
            // A directory in which something differs differs.
            for above in levels.iter_mut().filter(|level| !level.told) {
                above.told = true;
                output.tell(&above.path, ChangeKind::Modified)?;
            }
            output.tell(&path, kind)?;
        }
        if let Some(layers) = descend {
            let rest = trees.entries(&path, layers)?.into_iter();
            levels.push(Level { path, told: change.is_some(), rest });
        }
    }
    Ok(())
}

impl Trees {
    /// What is in the directory `path`, which the layers `old` have too.
    fn entries(&self, path: &Path, old: Vec<usize>) -> Result<Vec<Entry>, Stop> {
        let Some(new) = open_below(&self.new, path)? else { return Ok(Vec::new()) };
        refuse(&new, "redirect")?;
        let covers = !self.whole && !path.as_os_str().is_empty() && is_marked(&new, "opaque")?;
        let old = self.open_layers(path, old)?;
        let mut entries = BTreeMap::new();
        for name in names(&new)? {
            if let Some(entry) = differences(new.as_fd(), &old, path, name)? {
                entries.insert(entry.name.clone(), entry);
            }
        }
        if self.whole || covers {
            for name in deleted(new.as_fd(), &old)? {
                let change = Some(ChangeKind::Deleted);
                entries.insert(name.clone(), Entry { name, change, descend: None });
            }
        }
        Ok(entries.into_values().collect())
    }

    /// The directory in each of the layers, down to the first that hides those below it.
    fn open_layers(&self, path: &Path, layers: Vec<usize>) -> Result<Vec<(usize, OwnedFd)>, Stop> {
        let mut opened = Vec::new();
        for layer in layers {
            let Some(root) = self.old.get(layer) else { continue };
            let Some(directory) = open_below(root, path)? else { continue };
            if self.whole {
                opened.push((layer, directory));
                continue;
            }
            refuse(&directory, "redirect")?;
            let hides = is_marked(&directory, "opaque")?;
            opened.push((layer, directory));
            if hides {
                break;
            }
        }
        Ok(opened)
    }
}

/// Compare one name of the container's directory; `None` if it does not differ, and nothing below it can.
fn differences(
    new: BorrowedFd<'_>,
    old: &[(usize, OwnedFd)],
    directory: &Path,
    name: OsString,
) -> Result<Option<Entry>, Stop> {
    let Some(now) = stat(new, &name)? else { return Ok(None) };
    let before = Before::find(old, &name)?;
    if is_whiteout(&now) {
        let change = before.stat.map(|_| ChangeKind::Deleted);
        return Ok(change.map(|kind| Entry { name, change: Some(kind), descend: None }));
    }
    let change = match &before.stat {
        Some(then) if is_changed(then, &now) => Some(ChangeKind::Modified),
        Some(_) if before.has_other_capabilities(new, &name, &now)? => Some(ChangeKind::Modified),
        Some(_) => None,
        None if is_mount_point(&directory.join(&name)) => None,
        None => Some(ChangeKind::Added),
    };
    let is_directory = file_type(&now) == FileType::Directory;
    if change.is_none() && !is_directory {
        return Ok(None);
    }
    let descend =
        is_directory.then(|| before.directories.iter().map(|(layer, _)| *layer).collect());
    Ok(Some(Entry { name, change, descend }))
}

fn is_mount_point(path: &Path) -> bool {
    path.to_str().is_some_and(|path| MOUNT_POINTS.contains(&path))
}

/// What the image has under a name.
struct Before<'a> {
    stat: Option<Stat>,
    /// The layers in which it is a directory, if it is one.
    directories: Vec<(usize, BorrowedFd<'a>)>,
    /// Where it was found.
    parent: Option<BorrowedFd<'a>>,
}

impl<'a> Before<'a> {
    fn find(old: &'a [(usize, OwnedFd)], name: &OsStr) -> Result<Self, Stop> {
        let mut found = Self { stat: None, directories: Vec::new(), parent: None };
        for (layer, directory) in old {
            let Some(stat) = stat(directory.as_fd(), name)? else { continue };
            if is_whiteout(&stat) {
                break;
            }
            let is_directory = file_type(&stat) == FileType::Directory;
            // A file below a directory is hidden by it, and the other way round.
            if found.stat.is_some() && !is_directory {
                break;
            }
            if found.stat.is_none() {
                found.stat = Some(stat);
                found.parent = Some(directory.as_fd());
            }
            if !is_directory {
                break;
            }
            found.directories.push((*layer, directory.as_fd()));
        }
        Ok(found)
    }

    /// Capabilities of programs are no part of what stat(2) shows.
    fn has_other_capabilities(
        &self,
        new: BorrowedFd<'_>,
        name: &OsStr,
        now: &Stat,
    ) -> Result<bool, Stop> {
        let Some(parent) = self.parent.filter(|_| file_type(now) == FileType::RegularFile) else {
            return Ok(false);
        };
        Ok(capabilities(new, name)? != capabilities(parent, name)?)
    }
}

/// Names that the layers have and the container does not.
fn deleted(new: BorrowedFd<'_>, old: &[(usize, OwnedFd)]) -> Result<Vec<OsString>, Stop> {
    let mut seen = BTreeSet::new();
    let mut gone = Vec::new();
    for (_, directory) in old {
        for name in names(directory)? {
            if !seen.insert(name.clone()) {
                continue;
            }
            let hidden = stat(directory.as_fd(), &name)?.is_none_or(|stat| is_whiteout(&stat));
            let is_there = stat(new, &name)?.is_some_and(|stat| !is_whiteout(&stat));
            if !hidden && !is_there {
                gone.push(name);
            }
        }
    }
    Ok(gone)
}

/// moby `go-archive`, `statDifferent`: neither size nor time of a directory says anything.
fn is_changed(then: &Stat, now: &Stat) -> bool {
    then.st_mode != now.st_mode
        || then.st_uid != now.st_uid
        || then.st_gid != now.st_gid
        || then.st_rdev != now.st_rdev
        || (file_type(now) != FileType::Directory
            && (then.st_size != now.st_size || !is_same_time(then, now)))
}

/// Archives may have cut the times of files down to seconds.
fn is_same_time(then: &Stat, now: &Stat) -> bool {
    let (a, b) = (then.st_mtime_nsec, now.st_mtime_nsec);
    then.st_mtime == now.st_mtime && (a == b || a == 0 || b == 0)
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The mark of an overlay for what is deleted.
fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// `None` for what is not there (any more).
fn stat(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Stat>, Stop> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// In the order that dockerd tells them (continuity `fs/path.go`), which is the same each time.
fn names(directory: &OwnedFd) -> Result<Vec<OsString>, Stop> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The directory at `path` below `root`; `None` if there is none (any more).
fn open_below(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Stop> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Attribute `security.capability` of a file; nothing if it has none, or is no file any more.
fn capabilities(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<u8>, Stop> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut value = [0; 64];
    match rustix::fs::fgetxattr(&file, "security.capability", &mut value) {
        Ok(length) => Ok(value[..length].to_vec()),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;
