//! A Unix socket of our own: made with its final rights before it accepts, removed at the end if it is still ours.
//!
//! The steps are separate system calls because `bind` makes the file with the process's umask, and changing the umask is
//! not safe with threads. Until `listen` is called the kernel refuses every connection, so nobody gets in before mode and
//! group are right.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Gid, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

use super::{ListenError, Listener, Socket};

/// Connections the kernel keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// Owner and group may connect.
const MODE: u32 = 0o660;
/// As a user the sticky bit tells clean-up programs to leave a file in `XDG_RUNTIME_DIR` alone (XDG base directory
/// specification; moby `daemon/listeners/listeners_linux.go` does the same).
const USER_MODE: u32 = 0o1660;

const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The file of a socket, removed on drop unless somebody has replaced it meanwhile.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if !still_ours {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Make the socket, of the system's daemon (`root`) or of a user's. Must be called inside the runtime.
///
/// # Errors
/// A live socket, a file of another kind, or a failed step.
pub(crate) fn bind(path: &Path, root: bool, group: Option<u32>) -> Result<Listener, ListenError> {
    let failed = |doing| move |source| ListenError::Io { doing, path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(|source| ListenError::Io {
        doing: "create",
        path: folder.to_owned(),
        source,
    })?;
    // Two daemons that start at the same moment must not remove each other's fresh socket as a stale one.
    let lock = lock(folder)?;
    remove_stale(path)?;

    let address = SocketAddrUnix::new(path).map_err(io::Error::from).map_err(failed("name"))?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(io::Error::from)
    .map_err(failed("create"))?;
    rustix::net::bind(&socket, &address).map_err(io::Error::from).map_err(failed("bind"))?;
    let made = fs::symlink_metadata(path).map_err(failed("look at"))?;
    let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };

    let group = group.map(Gid::from_raw);
    rustix::fs::chown(path, None, group)
        .map_err(io::Error::from)
        .map_err(failed("set the group of"))?;
    let mode = if root { MODE } else { USER_MODE };
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
        .map_err(io::Error::from)
        .map_err(failed("set the mode of"))?;
    rustix::net::listen(&socket, BACKLOG).map_err(io::Error::from).map_err(failed("listen on"))?;
    drop(lock);

    let socket = UnixListener::from_std(socket.into()).map_err(failed("listen on"))?;
    let socket = Socket::Unix(socket);
    Ok(Listener { socket, name: path.display().to_string(), _file: Some(file) })
}

/// Remove the socket that a daemon left behind when it was killed.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(ListenError::Io { doing: "look at", path: path.to_owned(), source });
        }
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    match knock(path) {
        // Somebody is there, if only one who does not accept: the backlog is full.
        Ok(()) | Err(Errno::AGAIN) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(|source| ListenError::Io {
            doing: "remove the stale socket",
            path: path.to_owned(),
            source,
        }),
        // No permission, …: somebody may be there, so it is not ours to remove.
        Err(error) => Err(ListenError::Io {
            doing: "find out who listens on",
            path: path.to_owned(),
            source: error.into(),
        }),
    }
}

/// Connect without waiting for a place in the backlog.
fn knock(path: &Path) -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

/// A lock on the folder itself leaves no file behind; it is let go when the descriptor closes.
fn lock(folder: &Path) -> Result<std::os::fd::OwnedFd, ListenError> {
    let failed = |error: Errno| ListenError::Io {
        doing: "lock",
        path: folder.to_owned(),
        source: error.into(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder_fd = rustix::fs::open(folder, flags, Mode::empty()).map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&folder_fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder_fd),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(failed(error)),
        }
    }
    Err(ListenError::Locked { path: folder.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net as std_net;

    use super::*;

    #[tokio::test]
    async fn the_socket_has_its_rights_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/n.sock");
        let listener = bind(&path, true, None).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(), MODE);
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(listener);
        assert!(!path.exists());
        // Root of a user's namespaces is a user, whatever its number is there.
        let _listener = bind(&path, false, None).unwrap();
        assert_eq!(mode(), USER_MODE);
    }

    #[tokio::test]
    async fn the_group_is_set() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED the_group_is_set: only root may give files to any group");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.sock");
        let _listener = bind(&path, true, Some(4242)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().gid(), 4242);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.sock");
        drop(std_net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file, as a killed daemon does");
        let listener = bind(&path, true, None).unwrap();
        assert!(matches!(bind(&path, true, None), Err(ListenError::InUse { .. })));
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(listener);
    }

    #[tokio::test]
    async fn one_that_accepts_nobody_is_live() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.sock");
        let listener = std_net::UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        // Whoever has left the queue early still has a place in it.
        let full = (0..16).any(|_| knock(&path) == Err(Errno::AGAIN));
        assert!(full, "its backlog takes all");
        assert!(matches!(bind(&path, true, None), Err(ListenError::InUse { .. })));
    }

    #[tokio::test]
    async fn a_file_of_another_kind_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, true, None), Err(ListenError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_replaced_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.sock");
        let ours = bind(&path, true, None).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = bind(&path, true, None).unwrap();
        drop(ours);
        assert!(path.exists());
        drop(theirs);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n".repeat(120));
        let error = bind(&path, true, None).unwrap_err();
        assert!(matches!(error, ListenError::Io { doing: "name", .. }), "{error}");
    }
}
