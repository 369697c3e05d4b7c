//! Looking through the layers of an overlay file system without mounting it.
//!
//! A name is looked for in the topmost layer, then in the one below, unless a layer says that what lies below is gone:
//! a whiteout (a character device 0:0) hides one name, an opaque directory hides the directory of the same name below
//! (kernel `Documentation/filesystems/overlayfs.rst`). Symbolic links are the image's and stay within it.
//!
//! Every step opens one single name relative to a directory, so nothing that an image contains can lead outside.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use containerd::Mount;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// As many as the kernel follows.
pub(super) const MAX_LINKS: usize = 40;

/// Attributes of overlayfs have one of these in front; the second one where the mounter is not root.
const ATTRIBUTES: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// Open layer directories, topmost first.
#[derive(Debug)]
pub(super) struct Layers(Vec<OwnedFd>);

/// What is at a path that has no links before its last part.
enum Found {
    File(OwnedFd),
    /// The part at this position is a link.
    Link(usize, PathBuf),
    Nothing,
}

/// What one layer says about a path.
enum InLayer {
    Found(Found),
    /// It has nothing at the path; what lies below counts.
    LookBelow,
}

impl Layers {
    /// The directories that `mount` puts together; `None` if it is neither an overlay nor a bind mount.
    pub(super) fn open(mount: &Mount) -> io::Result<Option<Self>> {
        let paths: Vec<PathBuf> = match mount.kind.as_str() {
            "bind" => vec![mount.source.clone().into()],
            "overlay" => {
                let upper = mount.option("upperdir").map(PathBuf::from);
                let lower = split_lower(mount.option("lowerdir").unwrap_or_default());
                upper.into_iter().chain(lower).collect()
            }
            _ => return Ok(None),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &PathBuf| rustix::fs::openat(CWD, path, flags, Mode::empty());
        Ok(Some(Self(paths.iter().map(open).collect::<Result<_, _>>()?)))
    }

    /// The regular file at `path` (relative, clean), with links followed; `None` if there is none.
    ///
    /// Errors have the kind `Unsupported` where only the kernel knows what the layers mean.
    pub(super) fn open_file(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        let mut parts: Vec<OsString> = path.split('/').map(OsString::from).collect();
        for _ in 0..MAX_LINKS {
            match self.find(&parts)? {
                Found::File(file) => return Ok(Some(file)),
                Found::Nothing => return Ok(None),
                Found::Link(at, target) => parts = follow(&parts, at, &target),
            }
        }
        Err(Errno::LOOP.into())
    }

    fn find(&self, parts: &[OsString]) -> io::Result<Found> {
        for layer in &self.0 {
            match find_in(layer, parts)? {
                InLayer::Found(found) => return Ok(found),
                InLayer::LookBelow => {}
            }
        }
        Ok(Found::Nothing)
    }
}

fn find_in(layer: &OwnedFd, parts: &[OsString]) -> io::Result<InLayer> {
    let mut opaque = false;
    let mut directory: Option<OwnedFd> = None;
    for (at, name) in parts.iter().enumerate() {
        let here = directory.as_ref().unwrap_or(layer).as_fd();
        let stat = match rustix::fs::statat(here, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if opaque => return Ok(InLayer::Found(Found::Nothing)),
            Err(Errno::NOENT) => return Ok(InLayer::LookBelow),
            Err(errno) => return Err(errno.into()),
        };
        let is_last = at + 1 == parts.len();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(here, name.as_os_str(), Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                return Ok(InLayer::Found(Found::Link(at, target)));
            }
            FileType::Directory if !is_last => {
                let next = open(here, name, OFlags::DIRECTORY)?;
                refuse(&next, "redirect")?;
                opaque |= is_marked(&next, "opaque")?;
                directory = Some(next);
            }
            FileType::RegularFile if is_last => {
                let file = open(here, name, OFlags::NONBLOCK)?;
                refuse(&file, "metacopy")?;
                return Ok(InLayer::Found(Found::File(file)));
            }
            // A whiteout, or something that cannot be read as a file or gone through as a directory.
            _ => return Ok(InLayer::Found(Found::Nothing)),
        }
    }
    Ok(InLayer::Found(Found::Nothing))
}

pub(super) fn open(directory: impl AsFd, name: &OsString, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name.as_os_str(), flags, Mode::empty())?)
}

/// Whether the overlay attribute `name` is `y`.
pub(crate) fn is_marked(file: &OwnedFd, name: &str) -> io::Result<bool> {
    Ok(attribute(file, name)?.is_some_and(|value| value == b"y"))
}

/// An error if the overlay attribute `name` is there at all.
pub(crate) fn refuse(file: &OwnedFd, name: &str) -> io::Result<()> {
    match attribute(file, name)? {
        Some(_) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("an overlay layer uses {name}")))
        }
        None => Ok(()),
    }
}

fn attribute(file: &OwnedFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    for prefix in ATTRIBUTES {
        let mut value = [0; 256];
        match rustix::fs::fgetxattr(file, format!("{prefix}{name}"), &mut value) {
            Ok(length) => return Ok(Some(value[..length].to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            // Longer than any value that is a mark.
            Err(Errno::RANGE) => return Ok(Some(Vec::new())),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

/// The path after its part `at` has turned out to be a link to `target`. Above the root is the root.
pub(super) fn follow(parts: &[OsString], at: usize, target: &Path) -> Vec<OsString> {
    let mut followed = if target.is_absolute() { Vec::new() } else { parts[..at].to_vec() };
    for component in target.components() {
        match component {
            Component::Normal(name) => followed.push(name.to_owned()),
            Component::ParentDir => {
                followed.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    followed.extend_from_slice(&parts[at + 1..]);
    followed
}

/// An overlay in use as layers to look at: it cannot be mounted a second time as it is, but everything in it can be
/// (containerd `mount.WithReadonlyTempMount` of newer versions). `None` for all that nobody writes to.
pub(crate) fn as_layers(mount: &Mount) -> Option<Mount> {
    let upper = mount.option("upperdir").filter(|_| mount.kind == "overlay")?;
    let lower = mount.option("lowerdir").unwrap_or_default();
    let layers = format!("lowerdir={}:{lower}", upper.replace(':', "\\:"));
    let kept = mount.options.iter().filter(|option| {
        let key = option.split('=').next().unwrap_or_default();
        !["lowerdir", "upperdir", "workdir", "volatile", "rw"].contains(&key)
    });
    Some(Mount { options: kept.cloned().chain([layers]).collect(), ..mount.clone() })
}

/// Directories in `lowerdir`, topmost first; a colon in a name is escaped there.
pub(crate) fn split_lower(option: &str) -> Vec<PathBuf> {
    let mut paths = vec![String::new()];
    let mut characters = option.chars();
    while let Some(character) = characters.next() {
        match (character, paths.last_mut()) {
            (':', _) => paths.push(String::new()),
            ('\\', Some(path)) => path.extend(characters.next()),
            (other, Some(path)) => path.push(other),
            (_, None) => {}
        }
    }
    paths.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Directories `1` (topmost), `2`, `3`, and an overlay mount of them as a snapshotter describes it.
    fn three() -> (tempfile::TempDir, Mount) {
        let temp = tempfile::tempdir().unwrap();
        let paths = ["1", "2", "3"].map(|layer| temp.path().join(layer));
        for path in &paths {
            fs::create_dir_all(path.join("etc")).unwrap();
        }
        let lower = paths.map(|path| path.display().to_string()).join(":");
        let options = vec!["index=off".to_owned(), format!("lowerdir={lower}")];
        (temp, Mount { kind: "overlay".into(), options, ..Mount::default() })
    }

    fn read(mount: &Mount, path: &str) -> Option<String> {
        let file = Layers::open(mount).unwrap().unwrap().open_file(path).unwrap()?;
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).unwrap();
        Some(text)
    }

    fn make_device_0_0(path: &Path) -> Result<(), Errno> {
        rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0)
    }

    #[test]
    fn the_topmost_file_counts() {
        let (temp, mount) = three();
        fs::write(temp.path().join("3/etc/passwd"), "bottom").unwrap();
        assert_eq!(read(&mount, "etc/passwd").as_deref(), Some("bottom"));
        fs::write(temp.path().join("2/etc/passwd"), "middle").unwrap();
        assert_eq!(read(&mount, "etc/passwd").as_deref(), Some("middle"));
        assert_eq!(read(&mount, "etc/group"), None);
        assert_eq!(read(&mount, "etc"), None, "a directory is no file");
        assert_eq!(read(&mount, "etc/passwd/x"), None);
    }

    #[test]
    fn a_whiteout_hides_what_is_below() {
        let (temp, mount) = three();
        fs::write(temp.path().join("3/etc/passwd"), "bottom").unwrap();
        if make_device_0_0(&temp.path().join("2/etc/passwd")).is_err() {
            eprintln!("skipped: device nodes cannot be made here");
            return;
        }
        assert_eq!(read(&mount, "etc/passwd"), None);
        fs::write(temp.path().join("1/etc/passwd"), "again").unwrap();
        assert_eq!(read(&mount, "etc/passwd").as_deref(), Some("again"));
    }

    #[test]
    fn an_opaque_directory_hides_the_one_below() {
        let (temp, mount) = three();
        fs::write(temp.path().join("3/etc/passwd"), "bottom").unwrap();
        let directory = fs::File::open(temp.path().join("2/etc")).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        let mark = |name: &str| rustix::fs::fsetxattr(&directory, name, b"y", flags);
        if mark("trusted.overlay.opaque").or_else(|_| mark("user.overlay.opaque")).is_err() {
            eprintln!(
                "skipped: the file system of the temporary directory has no extended attributes"
            );
            return;
        }
        assert_eq!(read(&mount, "etc/passwd"), None);
        fs::write(temp.path().join("2/etc/passwd"), "middle").unwrap();
        assert_eq!(read(&mount, "etc/passwd").as_deref(), Some("middle"));
    }

    #[test]
    fn links_stay_in_the_image() {
        let (temp, mount) = three();
        fs::create_dir_all(temp.path().join("3/usr/lib")).unwrap();
        fs::write(temp.path().join("3/usr/lib/passwd"), "linked").unwrap();
        symlink("../usr/lib/passwd", temp.path().join("1/etc/passwd")).unwrap();
        assert_eq!(read(&mount, "etc/passwd").as_deref(), Some("linked"));

        symlink("../../../../../../../usr/lib/passwd", temp.path().join("1/etc/shadow")).unwrap();
        assert_eq!(
            read(&mount, "etc/shadow").as_deref(),
            Some("linked"),
            "above the root is the root"
        );

        symlink("/etc/hostname", temp.path().join("1/etc/group")).unwrap();
        assert_eq!(read(&mount, "etc/group"), None, "the host's file is not reached");

        symlink("/loop", temp.path().join("1/loop")).unwrap();
        let error = Layers::open(&mount).unwrap().unwrap().open_file("loop").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn one_layer_comes_as_a_bind_mount() {
        let (temp, _) = three();
        fs::write(temp.path().join("1/etc/passwd"), "only").unwrap();
        let source = temp.path().join("1").display().to_string();
        let mount = Mount { kind: "bind".into(), source, ..Mount::default() };
        assert_eq!(read(&mount, "etc/passwd").as_deref(), Some("only"));
        assert!(
            Layers::open(&Mount { kind: "btrfs".into(), ..Mount::default() }).unwrap().is_none()
        );
    }

    #[test]
    fn colons_in_directories() {
        assert_eq!(
            split_lower(r"/a:/b\:c:/d"),
            [Path::new("/a"), Path::new("/b:c"), Path::new("/d")]
        );
        assert_eq!(split_lower(""), Vec::<PathBuf>::new());
    }
}
