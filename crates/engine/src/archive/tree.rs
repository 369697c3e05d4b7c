//! Paths within a tree that others may change while we look.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Tries while the kernel says that somebody renames directories under it.
const TRIES: u32 = 128;
/// Links that are followed in one path, as Go's `filepath.EvalSymlinks` does.
const MAX_LINKS: usize = 255;

/// File systems that the kernel makes up. What is in them is no content, reading some of it hangs or has effects, and
/// dockerd does not have them mounted where it copies (moby `daemon/containerfs_linux.go`).
#[rustfmt::skip]
const MADE_UP: [u64; 15] = [
    0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, // proc, sysfs, cgroup, cgroup2
    0x6462_6720, 0x7472_6163, 0x7363_6673, 0xcafe_4a11, // debugfs, tracefs, securityfs, bpf
    0x6165_676c, 0xde5e_81e4, 0x6265_6570, 0xf97c_ff8c, // pstore, efivarfs, configfs, selinuxfs
    0x1cd1, 0x1980_0202, 0x6e73_6673, // devpts, mqueue, nsfs
];

/// A directory that stands for `/`.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
}

/// A file that is named, not opened: nothing happens to it, whatever it is.
#[derive(Debug)]
pub(crate) struct Handle {
    fd: OwnedFd,
    /// What it is.
    pub(crate) stat: Stat,
}

impl Tree {
    /// `root` may be any directory, opened in any way.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// The file at `path`, with all links followed but the last one.
    pub(crate) fn look_at(&self, path: &Path) -> io::Result<Handle> {
        Handle::new(self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?)
    }

    /// The directory at `path`, with all links followed.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// What is at `path`, with all links followed.
    pub(crate) fn follow(&self, path: &Path) -> io::Result<Handle> {
        Handle::new(self.open(path, OFlags::PATH)?)
    }

    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// The root itself.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where `path` leads when all links are followed, as far as there is something (Docker's
    /// `FollowSymlinkInScope`).
    pub(crate) fn evaluate(&self, path: &Path) -> io::Result<PathBuf> {
        let mut todo: Vec<OsString> = parts(path);
        todo.reverse();
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            let target = match self.look_at(&next) {
                Ok(file) if file.kind() == FileType::Symlink => file.read_link()?,
                Ok(_) => {
                    done = next;
                    continue;
                }
                Err(error) if is_missing(&error) => {
                    done = next;
                    continue;
                }
                Err(error) => return Err(error),
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            todo.extend(parts(&target).into_iter().rev());
        }
        Ok(done)
    }
}

/// The parts of a path: names and `..`.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

/// Nothing is there, or something in the middle is no directory.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR))
}

impl Handle {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { fd, stat })
    }

    /// The file of this single name in a directory; a link is the link itself.
    pub(crate) fn at(directory: impl AsFd, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::new(rustix::fs::openat(directory, name, flags, Mode::empty())?)
    }

    /// What kind of file it is.
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// The target of a link.
    pub(crate) fn read_link(&self) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.fd, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Opens exactly this file for reading. Only for regular files and directories: opening others has effects.
    pub(crate) fn read(&self) -> io::Result<OwnedFd> {
        let flags = match self.kind() {
            FileType::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
            FileType::RegularFile => OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(rustix::fs::open(self.by_number(), flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// A path that means exactly this file, in this process.
    pub(crate) fn by_number(&self) -> PathBuf {
        by_number(self.fd.as_fd())
    }

    /// It is in a file system that the kernel makes up.
    pub(crate) fn is_made_up(&self) -> bool {
        is_made_up(&self.fd)
    }

    /// It cannot be changed, because what it is in is mounted read-only.
    pub(crate) fn is_read_only(&self) -> io::Result<bool> {
        let flags = rustix::fs::fstatvfs(&self.fd)?.f_flag;
        Ok(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    /// Which mount it is in.
    pub(crate) fn mount_id(&self) -> io::Result<u64> {
        mount_id(&self.fd)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path that means what the descriptor means, in this process.
pub(crate) fn by_number(fd: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

pub(crate) fn is_made_up(fd: impl AsFd) -> bool {
    // A number of the kernel's, which some architectures have signed.
    rustix::fs::fstatfs(fd).is_ok_and(|stat| {
        u32::try_from(stat.f_type & 0xffff_ffff)
            .is_ok_and(|magic| MADE_UP.contains(&u64::from(magic)))
    })
}

/// Which mount an open file is in (Linux 5.8).
pub(crate) fn mount_id(fd: impl AsFd) -> io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH;
    Ok(rustix::fs::statx(fd, "", flags, rustix::fs::StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// A path as Go's `filepath.Clean` leaves it, with one slash in front.
pub(crate) fn clean(path: &OsStr) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in parts(Path::new(path)) {
        if part == ".." {
            cleaned.pop();
        } else {
            cleaned.push(part);
        }
    }
    cleaned
}

/// The last name of a path, as Go's `filepath.Base` finds it: `.` of `/a/.`, `/` of `/`.
pub(crate) fn base(path: &OsStr) -> OsString {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    match &bytes[start..end] {
        [] => "/".into(),
        name => OsStr::from_bytes(name).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("etc")).unwrap();
        std::fs::create_dir_all(temp.path().join("d/sub")).unwrap();
        std::fs::write(temp.path().join("d/f"), "in the tree").unwrap();
        symlink("/d", temp.path().join("l")).unwrap();
        symlink("../../../../d/f", temp.path().join("d/up")).unwrap();
        symlink("nowhere", temp.path().join("d/broken")).unwrap();
        symlink("/loop", temp.path().join("loop")).unwrap();
        symlink("/proc/self/root/etc/hostname", temp.path().join("magic")).unwrap();
        let root = rustix::fs::open(temp.path(), OFlags::PATH, Mode::empty()).unwrap();
        (temp, Tree::new(root))
    }

    #[test]
    fn no_path_leads_outside() {
        let (_temp, tree) = tree();
        for path in ["/d/f", "l/f", "d/up", "/../../../d/f", "l/../d/./f", "/l/up"] {
            assert_eq!(tree.follow(Path::new(path)).unwrap().stat.st_size, 11, "{path}");
        }
        for path in ["/etc/passwd", "magic", "d/broken", "/l/nope", "d/f/x"] {
            assert!(is_missing(&tree.follow(Path::new(path)).unwrap_err()), "{path}");
        }
        assert_eq!(tree.look_at(Path::new("l")).unwrap().kind(), FileType::Symlink);
        assert_eq!(tree.look_at(Path::new("l/")).unwrap().kind(), FileType::Directory);
    }

    #[test]
    fn links_are_evaluated_as_far_as_they_lead() {
        let (_temp, tree) = tree();
        for (path, target) in [
            ("/l", "/d"),
            ("/l/up", "/d/f"),
            ("/d/broken", "/d/nowhere"),
            ("/l/nope/x", "/d/nope/x"),
            ("/", "/"),
        ] {
            assert_eq!(tree.evaluate(Path::new(path)).unwrap(), Path::new(target), "{path}");
        }
        assert!(tree.evaluate(Path::new("/loop")).is_err());
    }

    #[test]
    fn only_files_and_directories_are_opened() {
        let (temp, tree) = tree();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            temp.path().join("fifo"),
            FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(tree.look_at(Path::new("fifo")).unwrap().read().is_err());
        assert!(tree.look_at(Path::new("d/f")).unwrap().read().is_ok());
        assert!(tree.look_at(Path::new("d")).unwrap().read().is_ok());
    }

    #[test]
    fn paths_as_go_has_them() {
        for (path, cleaned, last) in [
            ("/", "/", "/"),
            ("a", "/a", "a"),
            ("/a/../../b//c/", "/b/c", "c"),
            ("/a/.", "/a", "."),
            ("a/..", "/", ".."),
            ("//", "/", "/"),
        ] {
            assert_eq!(clean(OsStr::new(path)), Path::new(cleaned), "{path}");
            assert_eq!(base(OsStr::new(path)), last, "{path}");
        }
    }

    #[test]
    fn what_the_kernel_makes_up_is_known() {
        let open = |path: &str| rustix::fs::open(path, OFlags::PATH, Mode::empty()).unwrap();
        assert!(is_made_up(open("/proc")));
        assert!(!is_made_up(open("/")));
    }
}
