//! Copy files out of a container and into it, whatever state it is in. Nothing in it is run or asked.
//!
//! The root of a container with processes is reached through its first process, with everything that is mounted in it;
//! a hung shim or frozen processes do not matter. The root of one without processes is put together from its snapshot
//! and its mounts, nowhere in the file tree (`crate::archive::mounts`); while something is written to it the container's
//! lock is held, because a start would use the same directories.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;
use jiff::Timestamp;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::OwnedSemaphorePermit;

use super::Container;
use super::record::FileSystem;
use crate::archive::compression::{Compressor, decompressed};
use crate::archive::mounts::{self, Access};
use crate::archive::pack::{self, Start};
use crate::archive::pipe::{self, Sink, Source};
use crate::archive::tree::{Handle, base, clean, is_missing};
use crate::archive::unpack::{self, UnpackError};
use crate::archive::{Tree, tree};
use crate::events::translate::container_event;
use crate::inventory::Entry;
use crate::locks::ContainerGuard;
use crate::waiting::blocking;
use crate::{Engine, Error, Result};

pub use crate::archive::compression::Compression;
pub use crate::archive::pipe::ByteStream;

/// What is at a path of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// Last part of the path as typed: `.` of `/a/.`.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// `st_mode`.
    pub mode: u32,
    /// Last change.
    pub modified: Timestamp,
    /// Where a link leads in the end, in the container; empty for anything else.
    pub link_target: String,
}

/// How an archive is unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// A directory does not replace something else, nor the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything will belong to the container's user.
    pub copy_uid_gid: bool,
}

/// A container's root, held open.
pub(crate) struct Root {
    tree: Tree,
    file_system: FileSystem,
    /// Keeps a container that does not run from being started.
    _guard: Option<ContainerGuard>,
}

impl Engine {
    /// What is at a path of a container. A link as the last part is not followed.
    ///
    /// # Errors
    /// [`Error::NoSuchPath`], [`Error::NotADirectory`]; [`Error::NoSuchContainer`]; [`Error::Failed`] when the root cannot
    /// be reached.
    pub async fn stat_container_path(&self, typed: &str, path: &str) -> Result<PathStat> {
        let entry = self.resolve_entry(typed).await?;
        let root = self.container_root(&entry, typed, Access::Read).await?;
        let asked = OsString::from(path);
        let problem = PathProblem::new(typed, path);
        blocking("look at a path of a container", move || {
            let absolute = Path::new("/").join(&asked);
            root.stat(&absolute, &base(&asked))
                .map(|(stat, _)| stat)
                .map_err(|error| problem.of(error))
        })
        .await?
    }

    /// A path of a container as an archive, which is made while it is read. Dropping the stream ends the work.
    ///
    /// # Errors
    /// As [`Engine::stat_container_path`]. What fails later is the last item of the stream.
    pub async fn read_container_archive(
        &self,
        typed: &str,
        path: &str,
        compression: Compression,
    ) -> Result<(PathStat, ByteStream)> {
        let entry = self.resolve_entry(typed).await?;
        let leave = self.transfer().await?;
        let root = self.container_root(&entry, typed, Access::Read).await?;
        let asked = OsString::from(path);
        let problem = PathProblem::new(typed, path);
        let opened = blocking("look at a path of a container", move || {
            let absolute = keep_ending(&clean(&asked), &asked);
            let name = base(absolute.as_os_str());
            let found = root.stat(&absolute, &name).map_err(|error| problem.of(error))?;
            Ok((root, found, name))
        });
        let (root, (stat, file), name) = opened.await??;
        self.hub().publish(container_event(&entry.container, "archive-path", &[]));
        let archive = archive_stream(leave, compression, move |output| {
            let outcome = pack::pack(&file, Start::Named(name.as_bytes()), output);
            // The mounts go with it.
            drop(root);
            outcome
        });
        Ok((stat, archive))
    }

    /// Unpack an archive, compressed or not, into a directory of a container. `body` is read as fast as it can be written;
    /// the end of the client is the end of the work, and what was unpacked by then stays.
    ///
    /// # Errors
    /// [`Error::NoSuchPath`], [`Error::NotAnExtractionPoint`], [`Error::ReadOnlyRoot`], [`Error::ReadOnlyVolume`];
    /// [`Error::BadArchive`], [`Error::CannotOverwrite`]; [`Error::Failed`].
    pub async fn write_container_archive<S>(
        &self,
        typed: &str,
        path: &str,
        options: WriteOptions,
        body: S,
    ) -> Result<()>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let entry = self.resolve_entry(typed).await?;
        let leave = self.transfer().await?;
        let root = self.container_root(&entry, typed, Access::Write).await?;
        let (feed, source) = Source::new();
        let problem = PathProblem::new(typed, path);
        let asked = OsString::from(path);
        let work = blocking("unpack an archive into a container", move || {
            let _leave = leave;
            let within = keep_ending(&clean(&asked), &asked);
            root.check_extraction_point(&within, &problem)?;
            let options = unpack::Options {
                owner: options.copy_uid_gid.then_some(root.file_system.user),
                keep_kinds: options.no_overwrite_dir_non_dir,
            };
            let input = decompressed(source).map_err(|error| bad_archive(&error))?;
            unpack::unpack(&root.tree, &clean(within.as_os_str()), input, options)
                .map_err(|error| problem.of_unpacking(error))
        });
        let ((), outcome) = tokio::join!(feed.pump(body), work);
        outcome??;
        self.hub().publish(container_event(&entry.container, "extract-to-dir", &[]));
        Ok(())
    }

    /// The container's root with all that is mounted in it.
    async fn container_root(
        &self,
        entry: &Arc<Entry>,
        typed: &str,
        access: Access,
    ) -> Result<Root> {
        let container = &entry.container;
        let record = self.container_record(container, typed).await?;
        let file_system = FileSystem::of(&record);
        if let Some(tree) = self.running_root(container) {
            return Ok(Root { tree, file_system, _guard: None });
        }
        let guard = match access {
            Access::Read => None,
            Access::Write => Some(self.locks().lock(&container.id).await),
        };
        // It may have been started while we waited.
        let now = self.inventory().now();
        let container = match now.get(&container.id) {
            Some(entry) => Arc::clone(&entry.container),
            None => return Err(Error::NoSuchContainer(typed.to_owned())),
        };
        if let Some(tree) = self.running_root(&container) {
            return Ok(Root { tree, file_system, _guard: None });
        }
        if access == Access::Write {
            // What is missing on the host would be left out, and hidden by the next start what was written instead.
            self.prepare_mounts(&container).await?;
        }
        let tree = self.assemble_root(&container, &file_system.binds, access).await?;
        Ok(Root { tree, file_system, _guard: guard })
    }

    /// The root of a container's first process; `None` if it has none any more.
    fn running_root(&self, container: &Container) -> Option<Tree> {
        let pid = container.state.pid;
        if !container.state.phase.has_process() || pid == 0 {
            return None;
        }
        let root = root_of_process(pid).ok()?;
        // Whoever has that number now was not it, if the container's run has ended.
        let now = self.inventory().now();
        let state = &now.get(&container.id)?.container.state;
        (state.phase.has_process() && state.pid == pid).then(|| Tree::new(root))
    }

    /// The root as its snapshot and `binds` make it.
    pub(crate) async fn assemble_root(
        &self,
        container: &Container,
        binds: &[mounts::Bind],
        access: Access,
    ) -> Result<Tree> {
        let id = &container.id;
        let snapshotter = self.containerd().snapshotter(&container.snapshotter);
        let mounts = snapshotter.mounts(&container.snapshot_key).await.map_err(|error| {
            self.containerd_error(format!("find the root file system of container {id}"), error)
        })?;
        let (binds, run_dir) = (binds.to_vec(), self.settings().run_dir.clone());
        let doing = format!("mount the root file system of container {id}");
        let root = blocking(&doing, move || mounts::assemble(&mounts, &binds, access, &run_dir));
        Ok(Tree::new(root.await?.map_err(|error| Error::failed(doing.clone(), error))?))
    }

    /// containerd's record of a container that was just found.
    pub(crate) async fn container_record(
        &self,
        container: &Container,
        typed: &str,
    ) -> Result<containerd::containers::Container> {
        match self.containerd().get_container(container.id.as_str()).await {
            Ok(record) => Ok(record),
            Err(error) if error.is_not_found() => Err(Error::NoSuchContainer(typed.to_owned())),
            Err(error) => {
                let doing = format!("read the record of container {}", container.id);
                Err(self.containerd_error(doing, error))
            }
        }
    }
}

impl Root {
    /// What is at `path`, which is absolute, and the file itself.
    fn stat(&self, path: &Path, name: &OsStr) -> io::Result<(PathStat, Handle)> {
        let file = self.tree.look_at(path)?;
        // Nothing that the kernel makes up is a file to Docker, but for the directories that it is mounted on.
        if file.is_made_up() && self.is_within_made_up(path) {
            return Err(Errno::NOENT.into());
        }
        let target = match file.kind() {
            FileType::Symlink => self.tree.evaluate(path)?,
            _ => PathBuf::new(),
        };
        let nanos = i32::try_from(file.stat.st_mtime_nsec).unwrap_or(0);
        let stat = PathStat {
            name: name.to_string_lossy().into_owned(),
            size: file.stat.st_size,
            mode: file.stat.st_mode,
            modified: Timestamp::new(file.stat.st_mtime, nanos).unwrap_or(Timestamp::UNIX_EPOCH),
            link_target: target.to_string_lossy().into_owned(),
        };
        Ok((stat, file))
    }

    fn is_within_made_up(&self, path: &Path) -> bool {
        let path = clean(path.as_os_str());
        let above = path.parent().map(|above| self.tree.directory(above));
        above.is_some_and(|above| above.is_ok_and(tree::is_made_up))
    }

    /// A directory that can be written to (moby `daemon/archive_unix.go`, `checkIfPathIsInAVolume`).
    fn check_extraction_point(&self, path: &Path, problem: &PathProblem) -> Result<()> {
        let failed = |error| problem.of(error);
        let found = self.tree.follow(path).map_err(failed)?;
        if found.kind() != FileType::Directory {
            return Err(Error::NotAnExtractionPoint);
        }
        let mount = found.mount_id().map_err(failed)?;
        let is_root = mount == tree::mount_id(self.tree.root()).map_err(failed)?;
        match (is_root, found.is_read_only().map_err(failed)?) {
            (true, true) => Err(Error::ReadOnlyRoot),
            (true, false) if self.file_system.read_only => Err(Error::ReadOnlyRoot),
            (false, true) => Err(Error::ReadOnlyVolume),
            _ => Ok(()),
        }
    }
}

/// The root of a process, in its own mount namespace.
fn root_of_process(pid: u32) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt"));
    // No container shares the daemon's: this is some other process.
    if namespace(&pid.to_string())? == namespace("self")? {
        return Err(Errno::SRCH.into());
    }
    Ok(root)
}

/// A cleaned path with the end that says what is meant: `/.` or `/` (moby `go-archive`,
/// `PreserveTrailingDotOrSeparator`).
fn keep_ending(cleaned: &Path, typed: &OsStr) -> PathBuf {
    let typed = typed.as_bytes();
    let mut path = cleaned.as_os_str().to_owned();
    let ends_in_slash = cleaned == Path::new("/");
    if typed == b"." || typed.ends_with(b"/.") {
        path.push(if ends_in_slash { "." } else { "/." });
    } else if typed.ends_with(b"/") && !ends_in_slash {
        path.push("/");
    }
    path.into()
}

/// An archive that is made on a thread of its own while the stream is read.
pub(crate) fn archive_stream(
    leave: OwnedSemaphorePermit,
    compression: Compression,
    write: impl FnOnce(&mut Compressor<Sink>) -> io::Result<()> + Send + 'static,
) -> ByteStream {
    let (sink, receiver) = Sink::new();
    // Ends when the stream is dropped: the next write fails.
    tokio::task::spawn_blocking(move || {
        let _leave = leave;
        let mut output = Compressor::new(sink, compression);
        let written = write(&mut output);
        let finished = output.finish();
        match (written, finished) {
            (Ok(()), Ok(mut sink)) => drop(io::Write::flush(&mut sink)),
            (Err(error), Ok(sink)) => {
                tracing::debug!(%error, "an archive was not finished");
                sink.fail(error);
            }
            (_, Err(error)) => tracing::debug!(%error, "an archive was not finished"),
        }
    });
    pipe::stream(receiver)
}

/// What is asked for, for errors about it.
#[derive(Clone, Debug)]
struct PathProblem {
    path: String,
    container: String,
}

impl PathProblem {
    fn new(typed: &str, path: &str) -> Self {
        Self { path: path.to_owned(), container: typed.to_owned() }
    }

    fn missing(&self) -> Error {
        Error::NoSuchPath { path: self.path.clone(), container: self.container.clone() }
    }

    fn of(&self, error: io::Error) -> Error {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => self.missing(),
            Some(Errno::NOTDIR) => Error::NotADirectory(self.path.clone()),
            _ => Error::failed(format!("lstat {}", self.path), error),
        }
    }

    fn of_unpacking(&self, error: UnpackError) -> Error {
        match error {
            UnpackError::OverDirectory { .. } | UnpackError::OverFile { .. } => {
                Error::CannotOverwrite(error.to_string())
            }
            // As dockerd says when a hard link has no target.
            UnpackError::File { doing: "link", ref source, .. } if is_missing(source) => {
                self.missing()
            }
            UnpackError::File { .. } => {
                let doing = format!("unpack into {}", self.path);
                Error::failed(doing, error)
            }
            UnpackError::Read(_)
            | UnpackError::Name(_)
            | UnpackError::LinkTarget(_)
            | UnpackError::Kind(_) => bad_archive(&error),
        }
    }
}

fn bad_archive(error: &dyn std::error::Error) -> Error {
    Error::BadArchive(error.to_string())
}
