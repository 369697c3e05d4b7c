//! The root of a container that does not run, as its processes would see it, mounted nowhere.
//!
//! The result is a file descriptor; the mounts exist as long as it is open, and no crash leaves one behind. Only a root
//! with further mounts in it (volumes, binds), and overlays of many layers on kernels before 6.7, need a place for a
//! moment: a private tmpfs below our run directory, in which the tree is put together, copied (`open_tree`) and taken
//! away again.
//!
//! For reading, the layers of an overlay are all mounted as lower ones. The same upper and work directory in two mounts
//! at once would break the copying-up of the first, and the container may be started at any moment.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd::Mount;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags,
    MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::tree::{Tree, by_number, clean};
use crate::oci::image_files::split_lower;
use crate::random;
use crate::volumes::subpath;

/// Names of our places begin so; what a crash left is found by it.
const PLACE: &str = "archive-";
/// Options of mount(8) that are not the file system's.
const NOT_THE_FILE_SYSTEMS: [&str; 8] =
    ["ro", "rw", "bind", "rbind", "nosuid", "nodev", "noexec", "noatime"];
/// Options of an overlay that are written anew, or that mean nothing without an upper directory.
const LAYER_OPTIONS: [&str; 4] = ["lowerdir", "upperdir", "workdir", "volatile"];

/// What is to be done in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing can be changed in it.
    Read,
    /// The container must not be started meanwhile.
    Write,
}

/// A directory or file of the host that the container has in its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    /// On the host.
    pub(crate) source: PathBuf,
    /// In the container; may lead through the container's links.
    pub(crate) destination: PathBuf,
    pub(crate) read_only: bool,
    /// A part of a volume, whose containers may have put links in the way: the volume's directory, and the path in it.
    pub(crate) part: Option<(PathBuf, String)>,
    /// Somebody asked for it when the container was made: what is written must not land below it.
    pub(crate) asked_for: bool,
}

/// Mounts `root` and what is bound into it. `run_dir` is where a place may be made for a moment.
pub(crate) fn assemble(
    root: &[Mount],
    binds: &[Bind],
    access: Access,
    run_dir: &Path,
) -> io::Result<OwnedFd> {
    let [root] = root else {
        let text = format!("the snapshotter gives {} mounts instead of one", root.len());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    };
    if binds.is_empty()
        && let Some(root) = detached_root(root, access, None)?
    {
        return Ok(root);
    }
    let place = Place::new(run_dir)?;
    place.mount_root(root, binds, access)?;
    for bind in binds {
        if let Err(error) = place.bind(bind) {
            let is_missed = access == Access::Write && bind.asked_for;
            // Below a place that is not there nothing can be written.
            if is_missed && place.has(&bind.destination) {
                return Err(error);
            }
            tracing::debug!(destination = %bind.destination.display(), %error, "a mount of a container is left out");
        }
    }
    place.take()
}

/// Takes away the places that a crash left below `run_dir`. Gives their number.
pub(crate) fn remove_left_places(run_dir: &Path) -> io::Result<usize> {
    let mut count = 0;
    let entries = match run_dir.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PLACE) {
            drop(Place { path: entry.path() });
            count += 1;
        }
    }
    Ok(count)
}

/// The root on its own; `None` if this kernel needs a place for it.
fn detached_root(
    root: &Mount,
    access: Access,
    points: Option<&Path>,
) -> io::Result<Option<OwnedFd>> {
    match root.kind.as_str() {
        "bind" if access == Access::Read => Ok(Some(open_path(Path::new(&root.source))?)),
        "bind" => clone_tree(Path::new(&root.source), false).map(Some),
        "overlay" => match Overlay::of(root, access, points)?.mount_detached() {
            Err(Errno::INVAL | Errno::NOSYS) => Ok(None),
            outcome => Ok(Some(outcome?)),
        },
        _ => Ok(Some(mount_detached(root, access)?)),
    }
}

/// The layers of an overlay, topmost first, and its further options.
struct Overlay<'a> {
    lower: Vec<PathBuf>,
    upper_and_work: Option<(&'a str, &'a str)>,
    options: Vec<&'a str>,
}

impl<'a> Overlay<'a> {
    /// `points` is a directory with the mount points that the layers may lack.
    fn of(root: &'a Mount, access: Access, points: Option<&Path>) -> io::Result<Self> {
        let mut lower = split_lower(root.option("lowerdir").unwrap_or_default());
        let upper_and_work = match (root.option("upperdir"), root.option("workdir")) {
            (Some(upper), Some(work)) if access == Access::Write => Some((upper, work)),
            (Some(upper), _) => {
                lower.insert(0, upper.into());
                None
            }
            _ => None,
        };
        lower.extend(points.map(Path::to_owned));
        let options = root.options.iter().map(String::as_str).filter(|option| {
            let key = option.split('=').next().unwrap_or_default();
            !NOT_THE_FILE_SYSTEMS.contains(&key) && !LAYER_OPTIONS.contains(&key)
        });
        let options: Vec<&str> = options.collect();
        if let Some(mapped) = options.iter().find(|option| option.starts_with("uidmap=")) {
            let text = format!("a root file system with mapped users ({mapped})");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Ok(Self { lower, upper_and_work, options })
    }

    /// Linux 6.7 takes layers one by one; before, all of them had to fit into 255 bytes.
    fn mount_detached(&self) -> Result<OwnedFd, Errno> {
        let context = mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        mount::fsconfig_set_string(&context, "source", "overlay")?;
        for layer in &self.lower {
            mount::fsconfig_set_string(&context, "lowerdir+", layer)?;
        }
        if let Some((upper, work)) = self.upper_and_work {
            mount::fsconfig_set_string(&context, "upperdir", upper)?;
            mount::fsconfig_set_string(&context, "workdir", work)?;
        }
        for option in &self.options {
            configure(&context, option)?;
        }
        mount::fsconfig_create(&context)?;
        mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes())
    }

    /// For older kernels, on a directory. Layers are named by number, because all options must fit into a page.
    fn mount_at(&self, target: &Path) -> io::Result<()> {
        let layers: Vec<OwnedFd> =
            self.lower.iter().map(|layer| open_path(layer)).collect::<io::Result<_>>()?;
        let lower: Vec<String> =
            layers.iter().map(|layer| by_number(layer.as_fd()).display().to_string()).collect();
        let mut options = vec![format!("lowerdir={}", lower.join(":"))];
        if let Some((upper, work)) = self.upper_and_work {
            options.push(format!("upperdir={upper},workdir={work}"));
        }
        options.extend(self.options.iter().map(ToString::to_string));
        let options = CString::new(options.join(","))?;
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        flags.set(MountFlags::RDONLY, self.upper_and_work.is_none());
        Ok(mount::mount("overlay", target, "overlay", flags, options.as_c_str())?)
    }

    fn attributes(&self) -> MountAttrFlags {
        attributes(if self.upper_and_work.is_some() { Access::Write } else { Access::Read })
    }
}

/// Any other file system, such as that of a block device.
fn mount_detached(wanted: &Mount, access: Access) -> io::Result<OwnedFd> {
    let context = mount::fsopen(wanted.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_set_string(&context, "source", wanted.source.as_str())?;
    for option in wanted.options.iter().map(String::as_str) {
        if !NOT_THE_FILE_SYSTEMS.contains(&option) {
            configure(&context, option)?;
        }
    }
    mount::fsconfig_create(&context)?;
    Ok(mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(access))?)
}

fn configure(context: &OwnedFd, option: &str) -> Result<(), Errno> {
    match option.split_once('=') {
        Some((key, value)) => mount::fsconfig_set_string(context, key, value),
        None => mount::fsconfig_set_flag(context, option),
    }
}

/// Nothing in it can be run or used as a device.
fn attributes(access: Access) -> MountAttrFlags {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    if access == Access::Read {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    attributes
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A copy of the mount at `path`, of those below it as well if asked for.
fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(mount::open_tree(CWD, path, flags)?)
}

/// Puts what `mounted` is onto what `point` is.
fn attach(mounted: &OwnedFd, point: &impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(mount::move_mount(mounted, "", point, "", flags)?)
}

/// A private tmpfs on a directory of ours; dropping it takes it away with everything that is mounted in it.
struct Place {
    path: PathBuf,
}

impl Place {
    fn new(run_dir: &Path) -> io::Result<Self> {
        let number = u64::from_ne_bytes(random::bytes().map_err(io::Error::other)?);
        let path = run_dir.join(format!("{PLACE}{number:016x}"));
        std::fs::create_dir_all(run_dir)?;
        std::fs::create_dir(&path)?;
        let place = Self { path };
        let context = mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        mount::fsconfig_set_string(&context, "mode", "0700")?;
        mount::fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        let files = mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        attach(&files, &open_path(&place.path)?)?;
        mount::mount_change(&place.path, MountPropagationFlags::PRIVATE)?;
        std::fs::create_dir(place.root())?;
        std::fs::create_dir(place.points())?;
        Ok(place)
    }

    fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// A layer of mount points for what has none in the container's own layers, because it has never run.
    fn points(&self) -> PathBuf {
        self.path.join("points")
    }

    fn mount_root(&self, root: &Mount, binds: &[Bind], access: Access) -> io::Result<()> {
        if root.kind == "overlay" {
            make_points(&self.points(), binds)?;
        }
        let points = self.points();
        match detached_root(root, access, Some(&points))? {
            // A directory that was only opened cannot be attached.
            Some(_) if root.kind == "bind" => {
                attach(&clone_tree(Path::new(&root.source), false)?, &open_path(&self.root())?)
            }
            Some(mounted) => attach(&mounted, &open_path(&self.root())?),
            None => Overlay::of(root, access, Some(&points))?.mount_at(&self.root()),
        }?;
        // A copied directory is a peer of what it was copied from: what is bound into it would appear there as well, and stay.
        mount::mount_change(
            self.path.as_path(),
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        if root.kind == "bind" {
            make_points(&self.root(), binds)?;
        }
        Ok(())
    }

    fn has(&self, destination: &Path) -> bool {
        open_path(&self.root()).is_ok_and(|root| Tree::new(root).follow(destination).is_ok())
    }

    fn bind(&self, bind: &Bind) -> io::Result<()> {
        let tree = Tree::new(open_path(&self.root())?);
        let point = tree.follow(&bind.destination)?;
        let mounted = match &bind.part {
            None => clone_tree(&bind.source, true)?,
            Some((volume, subpath)) => {
                let found = subpath::find(volume, subpath)?;
                clone_tree(&by_number(found.as_fd()), true)?
            }
        };
        let source = FileType::from_raw_mode(rustix::fs::fstat(&mounted)?.st_mode);
        if (source == FileType::Directory) != (point.kind() == FileType::Directory) {
            return Err(Errno::NOTDIR.into());
        }
        attach(&mounted, &point)?;
        // Or taking it away here would take away what is mounted at the same places on the host.
        mount::mount_change(
            self.path.as_path(),
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        if bind.read_only {
            let inside = tree.follow(&bind.destination)?;
            mount::mount_remount(inside.by_number(), MountFlags::BIND | MountFlags::RDONLY, "")?;
        }
        Ok(())
    }

    /// The finished tree; the place goes.
    fn take(self) -> io::Result<OwnedFd> {
        clone_tree(&self.root(), true)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        // Not mounted yet: nothing to take away but the directory.
        if mount::mount_change(&self.path, private).is_ok() {
            let _ = mount::unmount(&self.path, UnmountFlags::DETACH);
        }
        if let Err(error) = std::fs::remove_dir(&self.path) {
            tracing::warn!(place = %self.path.display(), %error, "a place for mounts stays until the next start");
        }
    }
}

/// Makes what the binds are to be mounted on, where it is not there. No link is followed: what is behind one has a
/// mount point only when the container has run.
fn make_points(root: &Path, binds: &[Bind]) -> io::Result<()> {
    for bind in binds {
        let Ok(source) = std::fs::metadata(&bind.source) else { continue };
        let destination = clean(bind.destination.as_os_str());
        let point = destination.strip_prefix("/").unwrap_or(&destination);
        if let Err(error) = make_point(root, point, source.is_dir()) {
            tracing::debug!(point = %point.display(), %error, "no mount point could be made");
        }
    }
    Ok(())
}

fn make_point(root: &Path, point: &Path, is_directory: bool) -> io::Result<()> {
    let mut here = open_path(root)?;
    let names: Vec<_> = point.iter().collect();
    for (at, name) in names.iter().enumerate() {
        let is_last = at + 1 == names.len();
        if is_last && !is_directory {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            return match rustix::fs::openat(&here, *name, flags, Mode::from_raw_mode(0o755)) {
                Ok(_) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(errno.into()),
            };
        }
        match rustix::fs::mkdirat(&here, *name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        here = rustix::fs::openat(&here, *name, flags, Mode::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
