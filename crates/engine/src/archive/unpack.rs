//! An archive into a tree.
//!
//! Names are relative to one directory of the tree, and cannot lead above it. Links on the way are the container's and are
//! followed within its root, as they would be by its own processes; the last name is never followed. What is in the way
//! is replaced, except that directories are merged (moby `go-archive`, `Unpack`).

use std::ffi::OsStr;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;
use tar::EntryType;

use super::reader::{Entry, ReadError, TarReader};
use super::sparse::Segment;
use super::tree::{Handle, Tree};

/// Bytes of content in one write.
const BUFFER: usize = 256 * 1024;
/// Directories whose times wait for the end of the archive, and bytes of their names.
const MOST_DIRECTORIES: usize = 500_000;
const MOST_KEPT: usize = 64 * 1024 * 1024;
/// Directories within directories that are removed; each level keeps a handle.
const MAX_DEPTH: usize = 2048;
/// Directories that Docker makes for entries whose parents are not in the archive.
const IMPLIED_MODE: u32 = 0o755;

/// How an archive is unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Everything belongs to this user and group, and not to those in the archive.
    pub(crate) owner: Option<(u32, u32)>,
    /// A directory does not replace something else, nor the other way round.
    pub(crate) keep_kinds: bool,
}

/// Why an archive could not be unpacked. What came before the entry that failed stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// The archive is at fault.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A name that leads out of the directory.
    #[error("invalid entry name {0:?}")]
    Name(String),
    /// The target of a hard link leads out of the directory.
    #[error("invalid hardlink target {0:?}")]
    LinkTarget(String),
    /// A type that nobody knows.
    #[error("unhandled tar header type {0}")]
    Kind(u8),
    /// A directory is in the way.
    #[error("cannot overwrite directory {name:?} with non-directory {within:?}")]
    OverDirectory {
        /// In the archive.
        name: String,
        /// Where it is unpacked.
        within: String,
    },
    /// Something that is no directory is in the way.
    #[error("cannot overwrite non-directory {name:?} with directory {within:?}")]
    OverFile {
        /// In the archive.
        name: String,
        /// Where it is unpacked.
        within: String,
    },
    /// The file system refuses.
    #[error("{doing} {name:?}")]
    File {
        /// `create`, `remove`, …
        doing: &'static str,
        /// In the archive.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Unpacks `input` into the directory `within` of the tree.
pub(crate) fn unpack(
    tree: &Tree,
    within: &Path,
    input: impl Read,
    options: Options,
) -> Result<(), UnpackError> {
    let mut reader = TarReader::new(input);
    let mut unpacker = Unpacker {
        tree,
        within,
        options,
        parent: None,
        directories: Vec::new(),
        kept: 0,
        buffer: vec![0; BUFFER],
    };
    while let Some(entry) = reader.next()? {
        unpacker.entry(&entry, &mut reader)?;
    }
    unpacker.date_directories();
    reader.drain();
    Ok(())
}

struct Unpacker<'a> {
    tree: &'a Tree,
    within: &'a Path,
    options: Options,
    /// The parent of the last entry: mostly that of the next one, too.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directories get their times when nothing changes in them any more.
    directories: Vec<(PathBuf, (i64, u32))>,
    /// Bytes of their names.
    kept: usize,
    buffer: Vec<u8>,
}

/// Where an entry goes.
struct Target<'a> {
    /// As the archive names it, for people.
    name: &'a str,
    /// Directory it is in.
    parent: &'a OwnedFd,
    /// Its own name.
    base: &'a OsStr,
}

impl Target<'_> {
    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> UnpackError {
        let name = self.name.to_owned();
        move |source| UnpackError::File { doing, name, source }
    }
}

impl Unpacker<'_> {
    fn entry(
        &mut self,
        entry: &Entry,
        content: &mut TarReader<impl Read>,
    ) -> Result<(), UnpackError> {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let relative = relative(&entry.name).ok_or_else(|| UnpackError::Name(name.clone()))?;
        let (Some(parent), Some(base)) = (relative.parent(), relative.file_name()) else {
            // The directory itself, which stays as it is.
            return Ok(());
        };
        let parent = self.parent(parent).map_err(|source| UnpackError::File {
            doing: "make the directory of",
            name: name.clone(),
            source,
        })?;
        let target = Target { name: &name, parent: &parent.1, base };
        let made = self.replace(&target, entry).and_then(|exists| match entry.kind {
            EntryType::Directory => self.directory(&target, entry, exists),
            EntryType::Regular | EntryType::Continuous => self.file(&target, entry, content),
            EntryType::Link => self.link(&target, entry),
            EntryType::Symlink => self.symlink(&target, entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo => self.node(&target, entry),
            other => Err(UnpackError::Kind(other.as_byte())),
        });
        // A link may be part of the way to the next entry.
        self.parent = (entry.kind != EntryType::Symlink).then_some(parent);
        made?;
        if entry.kind == EntryType::Directory {
            self.kept += relative.as_os_str().len();
            self.directories.push((relative, entry.modified));
            if self.kept > MOST_KEPT || self.directories.len() > MOST_DIRECTORIES {
                // Those in which something changes later keep the time of that.
                self.date_directories();
            }
        }
        Ok(())
    }

    /// The directory at `relative`, made with all above it where it is not there.
    fn parent(&mut self, relative: &Path) -> io::Result<(PathBuf, OwnedFd)> {
        if let Some(known) = self.parent.take_if(|(path, _)| path == relative) {
            return Ok(known);
        }
        let opened = match self.tree.directory(&self.within.join(relative)) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {
                self.make_directories(relative)?
            }
            outcome => outcome?,
        };
        Ok((relative.to_owned(), opened))
    }

    fn make_directories(&self, relative: &Path) -> io::Result<OwnedFd> {
        let mut path = self.within.to_owned();
        let mut here = self.tree.directory(&path)?;
        for name in relative {
            path.push(name);
            here = match self.tree.directory(&path) {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {
                    rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(IMPLIED_MODE))?;
                    let made = open_directory(&here, name)?;
                    rustix::fs::fchmod(&made, Mode::from_raw_mode(IMPLIED_MODE))?;
                    made
                }
                outcome => outcome?,
            };
        }
        Ok(here)
    }

    /// Takes away what is in the way. True if a directory is there that the entry's is merged with.
    fn replace(&mut self, target: &Target<'_>, entry: &Entry) -> Result<bool, UnpackError> {
        let found = match Handle::at(target.parent, target.base) {
            Ok(found) => found.kind() == FileType::Directory,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(target.failed("look at")(error)),
        };
        let name = || target.name.to_owned();
        let within = || self.within.display().to_string();
        match (found, entry.kind == EntryType::Directory) {
            (true, true) => return Ok(true),
            (true, false) if self.options.keep_kinds => {
                return Err(UnpackError::OverDirectory { name: name(), within: within() });
            }
            (false, true) if self.options.keep_kinds => {
                return Err(UnpackError::OverFile { name: name(), within: within() });
            }
            _ => {}
        }
        remove_all(target.parent, target.base).map_err(target.failed("remove"))?;
        Ok(false)
    }

    fn directory(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        exists: bool,
    ) -> Result<(), UnpackError> {
        let make = || -> io::Result<()> {
            if !exists {
                rustix::fs::mkdirat(target.parent, target.base, Mode::RWXU)?;
            }
            let opened = open_directory(target.parent, target.base)?;
            self.describe(&opened, entry)
        };
        make().map_err(target.failed("make directory"))
    }

    fn file(
        &mut self,
        target: &Target<'_>,
        entry: &Entry,
        content: &mut TarReader<impl Read>,
    ) -> Result<(), UnpackError> {
        // Exclusively: neither a link nor a FIFO that somebody puts there now is opened.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(target.parent, target.base, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| target.failed("create")(errno.into()))?;
        let mut file = std::fs::File::from(opened);
        match &entry.sparse {
            None => copy(content, &mut file, &mut self.buffer, target, None)?,
            Some((size, segments)) => {
                file.set_len(*size).map_err(target.failed("write"))?;
                for segment in segments {
                    copy(content, &mut file, &mut self.buffer, target, Some(*segment))?;
                }
            }
        }
        let finish = || -> io::Result<()> {
            self.describe(&file, entry)?;
            Ok(rustix::fs::futimens(&file, &times(entry.modified))?)
        };
        finish().map_err(target.failed("write"))
    }

    fn link(&self, target: &Target<'_>, entry: &Entry) -> Result<(), UnpackError> {
        let bad = || UnpackError::LinkTarget(String::from_utf8_lossy(&entry.link).into_owned());
        let to = relative(&entry.link).ok_or_else(bad)?;
        let (Some(parent), Some(base)) = (to.parent(), to.file_name()) else { return Err(bad()) };
        let make = || -> io::Result<()> {
            let parent = self.tree.directory(&self.within.join(parent))?;
            // Without AT_SYMLINK_FOLLOW: a link to a link.
            Ok(rustix::fs::linkat(parent, base, target.parent, target.base, AtFlags::empty())?)
        };
        make().map_err(target.failed("link"))
    }

    fn symlink(&self, target: &Target<'_>, entry: &Entry) -> Result<(), UnpackError> {
        let make = || -> io::Result<()> {
            let to = OsStr::from_bytes(&entry.link);
            rustix::fs::symlinkat(to, target.parent, target.base)?;
            self.own(target, entry)?;
            date(target.parent, target.base, entry.modified)
        };
        make().map_err(target.failed("make link"))
    }

    fn node(&self, target: &Target<'_>, entry: &Entry) -> Result<(), UnpackError> {
        let (kind, device) = match entry.kind {
            EntryType::Char => (FileType::CharacterDevice, makedev(entry.device.0, entry.device.1)),
            EntryType::Block => (FileType::BlockDevice, makedev(entry.device.0, entry.device.1)),
            _ => (FileType::Fifo, 0),
        };
        let make = || -> io::Result<()> {
            rustix::fs::mknodat(target.parent, target.base, kind, Mode::RUSR, device)?;
            self.own(target, entry)?;
            // chmod follows links, so it must be told exactly which file.
            let made = Handle::at(target.parent, target.base)?;
            if made.kind() == kind {
                rustix::fs::chmod(made.by_number(), Mode::from_raw_mode(entry.mode))?;
            }
            date(target.parent, target.base, entry.modified)
        };
        make().map_err(target.failed("make device"))
    }

    /// Owner, attributes and permissions of an open file. The owner first: changing it takes permissions away.
    fn describe(&self, file: impl AsFd, entry: &Entry) -> io::Result<()> {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        for (name, value) in &entry.attributes {
            let name = OsStr::from_bytes(name);
            match rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()) {
                // Not every file system has them, and not every name is ours to set.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?)
    }

    /// Owner of what cannot be opened.
    fn own(&self, target: &Target<'_>, entry: &Entry) -> io::Result<()> {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(target.parent, target.base, uid, gid, flags)?)
    }

    fn date_directories(&mut self) {
        self.kept = 0;
        for (relative, modified) in std::mem::take(&mut self.directories) {
            let (Some(parent), Some(base)) = (relative.parent(), relative.file_name()) else {
                continue;
            };
            let dated = self
                .tree
                .directory(&self.within.join(parent))
                .and_then(|parent| date(&parent, base, modified));
            // A later entry, or the container, may have taken it away again.
            if let Err(error) = dated {
                tracing::debug!(directory = %relative.display(), %error, "keeps its time");
            }
        }
    }
}

/// A name of an archive as a path without `.` and `..`; `None` if it leads out. A slash in front means nothing.
fn relative(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if !path.pop() {
                    return None;
                }
            }
            name if name.contains(&0) => return None,
            name => path.push(OsStr::from_bytes(name)),
        }
    }
    Some(path)
}

fn open_directory(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// Content of an entry: all that is left of it, or a piece for its place.
fn copy(
    content: &mut TarReader<impl Read>,
    file: &mut std::fs::File,
    buffer: &mut [u8],
    target: &Target<'_>,
    segment: Option<Segment>,
) -> Result<(), UnpackError> {
    if let Some(segment) = segment {
        file.seek(SeekFrom::Start(segment.offset)).map_err(target.failed("write"))?;
    }
    let mut left = segment.map_or(u64::MAX, |segment| segment.length);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = content.read(&mut buffer[..most]).map_err(ReadError::from)?;
        if count == 0 {
            return if segment.is_some() { Err(ReadError::Cut.into()) } else { Ok(()) };
        }
        file.write_all(&buffer[..count]).map_err(target.failed("write"))?;
        left -= count as u64;
    }
    Ok(())
}

/// Removes a file, or a directory with all in it. Nothing is followed.
fn remove_all(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        outcome => return Ok(outcome?),
    }
    // Directories within directories, each to be removed when it is empty.
    let mut levels: Vec<(OwnedFd, std::ffi::OsString)> =
        vec![(open_directory(&parent, name)?, name.to_owned())];
    while let Some((directory, _)) = levels.last() {
        match first_directory(directory)? {
            Some(_) if levels.len() >= MAX_DEPTH => return Err(Errno::NAMETOOLONG.into()),
            Some(below) => {
                let opened = open_directory(directory, &below)?;
                levels.push((opened, below));
            }
            None => {
                let Some((_, empty)) = levels.pop() else { break };
                let flags = AtFlags::REMOVEDIR;
                match levels.last() {
                    Some((above, _)) => rustix::fs::unlinkat(above, empty.as_os_str(), flags)?,
                    None => rustix::fs::unlinkat(&parent, empty.as_os_str(), flags)?,
                }
            }
        }
    }
    Ok(())
}

/// Removes all files of a directory, up to its first directory, which is given.
fn first_directory(directory: &OwnedFd) -> io::Result<Option<std::ffi::OsString>> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Ok(Some(name.to_owned())),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

fn date(parent: impl AsFd, name: &OsStr, modified: (i64, u32)) -> io::Result<()> {
    Ok(rustix::fs::utimensat(parent, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The same for the last access.
fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests;
