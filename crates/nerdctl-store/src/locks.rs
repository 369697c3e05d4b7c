//! The `flock(2)` table that nerdctl and we share.
//!
//! | Locked path | Protects | Taken by |
//! |---|---|---|
//! | `<state>/oplock` (directory) | removal and commit of one container | [`oplock`] |
//! | `<netconf>/.cni-concurrency.lock` | CNI calls made by hooks | [`cni_concurrency`] |
//! | `<data store>/volumes/<namespace>` (directory) | the volume store | [`crate::volumes`] |
//! | `<netconf>/.nerdctl.lock` | conflists: exclusive to write, shared to read | [`conflists`] |
//! | `<data store>/names/<namespace>` (directory) | the name store | [`crate::names`] |
//! | `<state>` (directory) | `lifecycle.json`, `network-config.json`, `health.json`; ours: the exit records, and the directory while it is deleted | [`crate::state_dir`] |
//! | `<data store>/etchosts/<namespace>` (directory) | the hosts store | [`crate::hosts`] |
//!
//! **Order**: that of the table, downwards, never the other way, and nested only where it must be. It is the order
//! nerdctl itself uses: its hook holds the CNI lock all through, and its `create` holds volumes and then names.
//!
//! A blocking `flock` cannot be given a deadline, so a lock is tried and, while somebody else has it, tried again
//! with growing pauses of at most 20 ms. Only `oplock` may be held across a pull or a task's creation or deletion,
//! because the hook that runs inside of those takes the others.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{IoContext, Result, StoreError};

/// How long one lock is waited for unless the caller says otherwise.
///
/// nerdctl keeps the volume lock while it pulls an image, so the wait can be long without anything being wrong.
pub const LOCK_DEADLINE: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Readers together.
    Shared,
    /// One writer alone.
    Exclusive,
}

/// A held lock; dropping it releases it.
///
/// The lock belongs to the open file description. It is opened close-on-exec, so no child keeps it alive.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct FileLock {
    _file: File,
    path: PathBuf,
}

impl FileLock {
    /// Locks `path`, a directory or a file; a missing file is created with mode 0600, as nerdctl does.
    ///
    /// # Errors
    /// [`StoreError::LockHeld`] after `deadline`, [`StoreError::Io`] if the path can be neither opened nor created.
    pub fn acquire(path: &Path, mode: Mode, deadline: Duration) -> Result<Self> {
        Self::lock(open_or_create(path)?, path, mode, deadline)
    }

    /// Locks a directory exclusively; one that is missing stays so.
    pub(crate) fn of_directory(path: &Path, deadline: Duration) -> Result<Self> {
        Self::lock(File::open(path).during("open", path)?, path, Mode::Exclusive, deadline)
    }

    fn lock(file: File, path: &Path, mode: Mode, deadline: Duration) -> Result<Self> {
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { _file: file, path: path.to_owned() }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(errno) => return Err(errno).during("lock", path),
            }
            let left = deadline.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(StoreError::LockHeld { path: path.to_owned(), waited: deadline });
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What is locked.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks a store's directory exclusively; it is created with mode 0700 if it does not exist.
pub(crate) fn lock_directory(path: &Path, deadline: Duration) -> Result<FileLock> {
    create_private_dir(path)?;
    FileLock::of_directory(path, deadline)
}

/// The lock that nerdctl's `rm` and `commit` take on one container (`<state>/oplock`, a directory).
///
/// # Errors
/// See [`FileLock::acquire`]; a missing state directory is not made, since its container has been removed.
pub fn oplock(state_dir: &Path, deadline: Duration) -> Result<FileLock> {
    let path = state_dir.join("oplock");
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).during("create", &path)
        }
        _ => FileLock::of_directory(&path, deadline),
    }
}

/// The lock under which hooks run CNI plugins (`<netconf>/.cni-concurrency.lock`).
///
/// # Errors
/// See [`FileLock::acquire`].
pub fn cni_concurrency(netconf: &Path, deadline: Duration) -> Result<FileLock> {
    create_private_dir(netconf)?;
    FileLock::acquire(&netconf.join(".cni-concurrency.lock"), Mode::Exclusive, deadline)
}

/// The lock under which conflists are read ([`Mode::Shared`]) and written (`<netconf>/.nerdctl.lock`).
///
/// # Errors
/// See [`FileLock::acquire`].
pub fn conflists(netconf: &Path, mode: Mode, deadline: Duration) -> Result<FileLock> {
    create_private_dir(netconf)?;
    FileLock::acquire(&netconf.join(".nerdctl.lock"), mode, deadline)
}

/// Makes `path` and what is missing above it, with mode 0700.
pub(crate) fn create_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).during("create", path)
}

fn open_or_create(path: &Path) -> Result<File> {
    if let Ok(file) = File::open(path) {
        return Ok(file);
    }
    // O_RDONLY | O_CREAT is what nerdctl does; std wants write access for `create`.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .during("open", path)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    const HOLD: &str = "LOCKS_TEST_HOLD";
    const SHORT: Duration = Duration::from_millis(30);

    /// Another process that holds a lock until it is told to end.
    struct Holder {
        child: Child,
        stdout: BufReader<ChildStdout>,
    }

    impl Holder {
        fn start(path: &Path) -> Self {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "locks::tests::a_lock_excludes_other_processes", "--nocapture"])
                .env(HOLD, path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            let locked = stdout.by_ref().lines().any(|line| line.unwrap().contains("locked"));
            assert!(locked, "the other process got no lock");
            Self { child, stdout }
        }

        fn end(mut self) {
            drop(self.child.stdin.take());
            self.stdout.read_to_end(&mut Vec::new()).unwrap();
            self.child.wait().unwrap();
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn hold_until_told(path: &Path) {
        let _lock = FileLock::acquire(path, Mode::Exclusive, LOCK_DEADLINE).unwrap();
        writeln!(std::io::stdout(), "locked").unwrap();
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn a_lock_excludes_other_processes() {
        if let Some(path) = std::env::var_os(HOLD) {
            return hold_until_told(Path::new(&path));
        }
        let dir = tempfile::tempdir().unwrap();
        let holder = Holder::start(dir.path());
        for mode in [Mode::Shared, Mode::Exclusive] {
            let error = FileLock::acquire(dir.path(), mode, SHORT).unwrap_err();
            assert!(
                matches!(&error, StoreError::LockHeld { path, .. } if path == dir.path()),
                "{error}"
            );
        }
        let waiting = std::thread::spawn({
            let path = dir.path().to_owned();
            move || FileLock::acquire(&path, Mode::Exclusive, LOCK_DEADLINE).map(drop)
        });
        holder.end();
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_killed_process_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(Holder::start(dir.path()));
        drop(FileLock::acquire(dir.path(), Mode::Exclusive, LOCK_DEADLINE).unwrap());
    }

    #[test]
    fn readers_share() {
        let dir = tempfile::tempdir().unwrap();
        let first = conflists(dir.path(), Mode::Shared, SHORT).unwrap();
        let second = conflists(dir.path(), Mode::Shared, SHORT).unwrap();
        assert!(conflists(dir.path(), Mode::Exclusive, SHORT).is_err());
        drop((first, second));
        drop(conflists(dir.path(), Mode::Exclusive, SHORT).unwrap());
    }

    #[test]
    fn lock_files_are_those_of_nerdctl() {
        let dir = tempfile::tempdir().unwrap();
        let netconf = dir.path().join("net.d");
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let locks = [
            cni_concurrency(&netconf, SHORT).unwrap(),
            conflists(&netconf, Mode::Exclusive, SHORT).unwrap(),
            oplock(&dir.path().join("state"), SHORT).unwrap(),
        ];
        let paths = ["net.d/.cni-concurrency.lock", "net.d/.nerdctl.lock", "state/oplock"];
        for (lock, path) in locks.iter().zip(paths) {
            assert_eq!(lock.path(), dir.path().join(path));
        }
        assert_eq!(std::fs::metadata(locks[0].path()).unwrap().mode() & 0o777, 0o600);
        assert!(locks[2].path().is_dir());
    }
}
