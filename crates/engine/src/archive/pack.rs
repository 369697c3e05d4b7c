//! A tree, or one file of it, as an archive.
//!
//! Names of a directory are sorted, as Docker's are. What cannot be in an archive (sockets) or vanishes while we look is
//! left out; a file that shrinks while it is read is filled up with zeros, because its header is out already.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Dir, FileType, major, minor};
use rustix::io::Errno;
use tar::EntryType;

use super::header::{self, Description};
use super::pipe::Output;
use super::tree::{Handle, is_made_up};

/// Directories within directories; each of them is held open.
const MAX_DEPTH: usize = 1024;
/// Longest value of an extended attribute (kernel `include/uapi/linux/limits.h`).
const MAX_ATTRIBUTE: usize = 65_536;

/// What an archive begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start<'a> {
    /// An entry of this name for the file itself, and everything below with that name in front.
    Named(&'a [u8]),
    /// Only what is in the directory, without anything in front.
    Contents,
}

/// Writes the archive of `file` and all below it.
pub(crate) fn pack(file: &Handle, start: Start<'_>, output: &mut impl Output) -> io::Result<()> {
    let mut packer = Packer { output, linked: HashMap::new(), skipped: 0 };
    match start {
        Start::Named(name) => packer.add(file, name.to_vec())?,
        Start::Contents => packer.descend(file, Vec::new())?,
    }
    if packer.skipped > 0 {
        tracing::debug!(count = packer.skipped, "sockets and vanished files are not in an archive");
    }
    header::end(output)?;
    output.flush()
}

struct Packer<'a, O> {
    output: &'a mut O,
    /// Names of files that have several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    skipped: usize,
}

/// A directory that is being gone through.
struct Level {
    directory: OwnedFd,
    /// Name of the directory in the archive, with a slash, or nothing.
    prefix: Vec<u8>,
    device: u64,
    /// What is left, last first.
    names: Vec<OsString>,
}

impl<O: Output> Packer<'_, O> {
    fn add(&mut self, file: &Handle, name: Vec<u8>) -> io::Result<()> {
        if file.kind() != FileType::Directory {
            return self.add_file(file, &name);
        }
        let prefix = self.add_directory(file, name)?;
        self.descend(file, prefix)
    }

    /// Everything below a directory.
    fn descend(&mut self, file: &Handle, prefix: Vec<u8>) -> io::Result<()> {
        let mut levels = Vec::new();
        levels.extend(level(file, prefix, None)?);
        while let Some(top) = levels.last_mut() {
            let Some(name) = top.names.pop() else {
                levels.pop();
                continue;
            };
            let full = [top.prefix.as_slice(), name.as_bytes()].concat();
            let found = match Handle::at(&top.directory, &name) {
                Ok(found) => found,
                Err(error) => {
                    self.skip(&full, &error);
                    continue;
                }
            };
            if found.kind() != FileType::Directory {
                self.add_file(&found, &full)?;
                continue;
            }
            let device = top.device;
            let prefix = self.add_directory(&found, full)?;
            if levels.len() == MAX_DEPTH {
                return Err(Errno::NAMETOOLONG.into());
            }
            match level(&found, prefix.clone(), Some(device)) {
                Ok(next) => levels.extend(next),
                Err(error) => self.skip(&prefix, &error),
            }
        }
        Ok(())
    }

    fn skip(&mut self, name: &[u8], error: &io::Error) {
        tracing::debug!(name = %String::from_utf8_lossy(name), %error, "not in an archive");
        self.skipped += 1;
    }

    /// Gives the name with a slash, for what is below.
    fn add_directory(&mut self, file: &Handle, mut name: Vec<u8>) -> io::Result<Vec<u8>> {
        if !name.ends_with(b"/") {
            name.push(b'/');
        }
        let attributes = match file.read() {
            Ok(opened) => attributes(&opened),
            Err(_) => Vec::new(),
        };
        let description =
            Description { attributes: &attributes, ..describe(file, &name, EntryType::Directory) };
        description.write(self.output)?;
        Ok(name)
    }

    fn add_file(&mut self, file: &Handle, name: &[u8]) -> io::Result<()> {
        let kind = match file.kind() {
            FileType::RegularFile => return self.add_regular(file, name),
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Directory | FileType::Socket | FileType::Unknown => {
                self.skipped += 1;
                return Ok(());
            }
        };
        if let Some(first) = self.first_name(file, name) {
            return self.add_link(file, name, &first);
        }
        let target = match kind {
            EntryType::Symlink => match file.read_link() {
                Ok(target) => target.into_os_string().into_vec(),
                Err(error) => {
                    self.skip(name, &error);
                    return Ok(());
                }
            },
            _ => Vec::new(),
        };
        Description { link: &target, ..describe(file, name, kind) }.write(self.output)
    }

    fn add_regular(&mut self, file: &Handle, name: &[u8]) -> io::Result<()> {
        if let Some(first) = self.first_name(file, name) {
            return self.add_link(file, name, &first);
        }
        let opened = match file.read() {
            Ok(opened) => opened,
            Err(error) => {
                self.skip(name, &error);
                return Ok(());
            }
        };
        let size = u64::try_from(file.stat.st_size).unwrap_or(0);
        let attributes = attributes(&opened);
        let description = Description {
            size,
            attributes: &attributes,
            ..describe(file, name, EntryType::Regular)
        };
        description.write(self.output)?;
        self.add_content(&opened, size)?;
        header::pad(self.output, size)
    }

    fn add_content(&mut self, file: &OwnedFd, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            match self.output.append_from(file, left)? {
                0 => break,
                // What was appended while we read is not in the header.
                count => left = left.saturating_sub(count as u64),
            }
        }
        io::copy(&mut io::Read::take(io::repeat(0), left), self.output)?;
        Ok(())
    }

    fn add_link(&mut self, file: &Handle, name: &[u8], first: &[u8]) -> io::Result<()> {
        Description { link: first, ..describe(file, name, EntryType::Link) }.write(self.output)
    }

    /// The name under which this file is in the archive already. Otherwise this is its first one.
    fn first_name(&mut self, file: &Handle, name: &[u8]) -> Option<Vec<u8>> {
        if file.stat.st_nlink < 2 {
            return None;
        }
        let key = (file.stat.st_dev, file.stat.st_ino);
        match self.linked.entry(key) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(name.to_vec());
                None
            }
        }
    }
}

/// The names in a directory; `None` for one of the kernel's own file systems below another.
fn level(file: &Handle, prefix: Vec<u8>, above: Option<u64>) -> io::Result<Option<Level>> {
    let device = file.stat.st_dev;
    if above != Some(device) && is_made_up(file) {
        return Ok(None);
    }
    let directory = file.read()?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable_by(|left, right| right.cmp(left));
    Ok(Some(Level { directory, prefix, device, names }))
}

fn describe<'a>(file: &Handle, name: &'a [u8], kind: EntryType) -> Description<'a> {
    let stat = &file.stat;
    Description {
        name,
        kind,
        link: b"",
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: 0,
        modified: stat.st_mtime,
        device: (major(stat.st_rdev), minor(stat.st_rdev)),
        attributes: &[],
    }
}

/// The attributes that mean something elsewhere: the file's capabilities and the user's own.
fn attributes(file: &OwnedFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    // A short first look: nearly all files have none.
    let mut few = [0; 256];
    let mut many = Vec::new();
    let names = match rustix::fs::flistxattr(file, &mut few) {
        Ok(0) => return Vec::new(),
        Ok(length) => &few[..length],
        Err(Errno::RANGE) => {
            many.resize(MAX_ATTRIBUTE, 0);
            match rustix::fs::flistxattr(file, &mut many[..]) {
                Ok(length) => &many[..length],
                Err(_) => return Vec::new(),
            }
        }
        Err(_) => return Vec::new(),
    };
    let names = names.split(|byte| *byte == 0);
    let wanted = names.filter(|name| *name == b"security.capability" || name.starts_with(b"user."));
    wanted.filter_map(|name| Some((name.to_vec(), attribute(file, name)?))).collect()
}

fn attribute(file: impl AsFd, name: &[u8]) -> Option<Vec<u8>> {
    let mut value = vec![0; MAX_ATTRIBUTE];
    let length = rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}
