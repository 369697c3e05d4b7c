//! The state directory of one container.
//!
//! | File | Written by | Content |
//! |---|---|---|
//! | `resolv.conf`, `hostname` | create | bind-mounted into the container |
//! | `log-config.json` | create | from what the logger and `nerdctl logs` learn the driver |
//! | `log-subject.json` | create, start | ours: from what the logger makes tags and attributes |
//! | `<id>-json.log` | create, then the logger | the log |
//! | `network-config.json` | create, then hooks | published ports |
//! | `publish.json` | create | ports as the user asked for them, see [`PortWish`]; ours alone |
//! | `lifecycle.json` | hooks | when the container was started, see [`Lifecycle`] |
//! | `exit.earlier.json` | hooks | the same of the run before, while one is being started; ours alone |
//! | `health.json` | who probes | what the last health checks found, see [`ProbeResult`] |
//! | `removing` | removal | that the removal has begun, see [`StateDir::mark_removal`]; ours alone |
//! | `exit.json` | the daemon | how its last run ended, see [`ExitRecord`]; ours alone |
//! | `oci-hook.<event>.log` | hooks | what the last hook run said |
//! | `logger-lock` | the logger | locked while it lives |
//! | `oplock/` | removal, commit | [`crate::locks::oplock`] |
//! | `shm/` | `--ipc shareable` | a mounted tmpfs |
//!
//! Source: nerdctl `pkg/cmd/container/create.go`, `pkg/ocihook/state`, `pkg/netutil/networkstore`, `pkg/logging`.

mod exit;
mod health;
mod lifecycle;
mod publish;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use exit::ExitRecord;
pub use health::ProbeResult;
pub use lifecycle::{Lifecycle, Run};
pub use publish::PortWish;

use crate::error::{IoContext, Result, StoreError};
use crate::files::{InPlace, read_end, read_optional, remove_tree, write_atomic};
use crate::go_json;
use crate::labels::values::{LogConfig, PortMapping};
use crate::locks::{FileLock, create_private_dir, oplock};

const NETWORK_CONFIG: &str = "network-config.json";
const PUBLISH: &str = "publish.json";
const LIFECYCLE: &str = "lifecycle.json";
const EXIT: &str = "exit.json";
const EARLIER_EXIT: &str = "exit.earlier.json";
const HEALTH: &str = "health.json";
const REMOVING: &str = "removing";
const STORE_FILE_MODE: u32 = 0o600;
/// How often a directory is emptied into which others write.
const REMOVAL_TRIES: usize = 5;

/// File `network-config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConfig {
    /// Published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
}

/// A container's state directory. Made by [`crate::DataStore::state_dir`]; touches nothing until asked to.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    id: String,
    in_place: InPlace,
    deadline: Duration,
}

impl StateDir {
    pub(crate) fn new(path: PathBuf, id: &str, data_root: &Path, deadline: Duration) -> Self {
        Self { path, id: id.to_owned(), in_place: InPlace::below(data_root), deadline }
    }

    /// The directory: value of the label `nerdctl/state-dir`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bind source of `/etc/resolv.conf`.
    #[must_use]
    pub fn resolv_conf_path(&self) -> PathBuf {
        self.path.join("resolv.conf")
    }

    /// Bind source of `/etc/hostname`.
    #[must_use]
    pub fn hostname_path(&self) -> PathBuf {
        self.path.join("hostname")
    }

    /// The json-file log; rotated files have `.1`, `.2` … behind.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.path.join(format!("{}-json.log", self.id))
    }

    /// What the last run of a hook said; `event` is `createRuntime` or `postStop`.
    #[must_use]
    pub fn hook_log_path(&self, event: &str) -> PathBuf {
        self.path.join(format!("oci-hook.{event}.log"))
    }

    /// Where `--ipc shareable` has its tmpfs.
    #[must_use]
    pub fn shm_path(&self) -> PathBuf {
        self.path.join("shm")
    }

    /// Whether the directory exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes the directory, and those above it, with mode 0700.
    ///
    /// # Errors
    /// I/O errors.
    pub fn create(&self) -> Result<()> {
        self.in_place.ensure_directory()?;
        create_private_dir(&self.path)
    }

    /// Deletes the directory with all in it; absence is success. A tmpfs on `shm/` is unmounted first.
    ///
    /// Under the lock, so that nobody who writes with it does so meanwhile. Who writes without it, as hooks their log,
    /// may: then the deletion is tried again.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn remove_all(&self) -> Result<()> {
        let _lock = match self.lock() {
            Ok(lock) => lock,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        unmount_all(&self.shm_path())?;
        for _ in 1..REMOVAL_TRIES {
            match remove_tree(&self.path) {
                Err(StoreError::Io { source, .. })
                    if source.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                removed => return removed,
            }
        }
        remove_tree(&self.path)
    }

    /// Takes the lock that excludes `nerdctl rm` and `commit`; see [`crate::locks`] for the order.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn oplock(&self) -> Result<FileLock> {
        oplock(&self.path, self.deadline)
    }

    /// Writes `resolv.conf` in place.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write_resolv_conf(&self, text: &str) -> Result<()> {
        self.in_place.write(&self.resolv_conf_path(), text.as_bytes(), 0o644).map(drop)
    }

    /// Writes `hostname` in place, with a newline behind.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write_hostname(&self, hostname: &str) -> Result<()> {
        self.in_place
            .write(&self.hostname_path(), format!("{hostname}\n").as_bytes(), 0o644)
            .map(drop)
    }

    /// Writes `log-config.json`.
    ///
    /// # Errors
    /// I/O errors.
    pub fn write_log_config(&self, config: &LogConfig) -> Result<()> {
        let text = go_json::to_string("log-config.json", config)?;
        self.in_place.write(&self.log_config_path(), text.as_bytes(), STORE_FILE_MODE).map(drop)
    }

    /// Reads `log-config.json`; `None` if the container has none.
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`].
    pub fn log_config(&self) -> Result<Option<LogConfig>> {
        let path = self.log_config_path();
        decode(&path, self.in_place.read(&path)?)
    }

    /// Writes `log-subject.json`, which only our own logger reads (its crate knows the format).
    ///
    /// # Errors
    /// I/O errors.
    pub fn write_log_subject(&self, subject: &[u8]) -> Result<()> {
        self.in_place.write(&self.log_subject_path(), subject, STORE_FILE_MODE).map(drop)
    }

    /// Reads `log-subject.json`; `None` if the container has none.
    ///
    /// # Errors
    /// I/O errors.
    pub fn log_subject(&self) -> Result<Option<Vec<u8>>> {
        self.in_place.read(&self.log_subject_path())
    }

    fn log_subject_path(&self) -> PathBuf {
        self.path.join("log-subject.json")
    }

    fn log_config_path(&self) -> PathBuf {
        self.path.join("log-config.json")
    }

    /// Makes the empty log that `nerdctl logs` expects before the first line is written.
    ///
    /// # Errors
    /// I/O errors.
    pub fn create_log_file(&self) -> Result<()> {
        let path = self.log_path();
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(STORE_FILE_MODE)
            .open(&path)
            .during("create", &path)
            .map(drop)
    }

    /// Reads `network-config.json`; empty if there is none.
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`].
    pub fn network_config(&self) -> Result<NetworkConfig> {
        let path = self.path.join(NETWORK_CONFIG);
        Ok(decode(&path, read_optional(&path)?)?.unwrap_or_default())
    }

    /// Writes `network-config.json`. It belongs to every container, also to one without ports.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn set_network_config(&self, config: &NetworkConfig) -> Result<()> {
        let _lock = self.lock()?;
        self.write(NETWORK_CONFIG, &go_json::to_string(NETWORK_CONFIG, config)?)
    }

    /// Reads `publish.json`; `None` if there is none, and so no wishes of ours.
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`].
    pub fn port_wishes(&self) -> Result<Option<Vec<PortWish>>> {
        let path = self.path.join(PUBLISH);
        let wishes: Option<publish::Wishes> = decode(&path, read_optional(&path)?)?;
        Ok(wishes.map(|wishes| wishes.ports))
    }

    /// Writes `publish.json`, at create.
    ///
    /// # Errors
    /// I/O errors.
    pub fn set_port_wishes(&self, ports: &[PortWish]) -> Result<()> {
        let wishes = publish::Wishes { ports: ports.to_vec() };
        self.write(PUBLISH, &go_json::to_string(PUBLISH, &wishes)?)
    }

    /// Reads `lifecycle.json`; the default if the container has never been started.
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`].
    pub fn lifecycle(&self) -> Result<Lifecycle> {
        let path = self.path.join(LIFECYCLE);
        Ok(decode(&path, read_optional(&path)?)?.unwrap_or_default())
    }

    /// Reads, changes and writes `lifecycle.json` under its lock; gives back what `change` returns.
    ///
    /// # Errors
    /// Lock and I/O errors, and [`StoreError::Malformed`].
    pub fn update_lifecycle<R>(&self, change: impl FnOnce(&mut Lifecycle) -> R) -> Result<R> {
        let _lock = self.lock()?;
        self.change_lifecycle(change)
    }

    /// Notes that a run begins, or that its start failed: puts the exit record of the run before aside and changes
    /// `lifecycle.json`, both under one lock, so that a late record of the run before cannot come between.
    ///
    /// # Errors
    /// Lock and I/O errors, and [`StoreError::Malformed`].
    pub fn note_start(&self, change: impl FnOnce(&mut Lifecycle)) -> Result<()> {
        let _lock = self.lock()?;
        self.put_exit_aside()?;
        self.change_lifecycle(change)
    }

    /// The caller holds the lock.
    fn change_lifecycle<R>(&self, change: impl FnOnce(&mut Lifecycle) -> R) -> Result<R> {
        let mut lifecycle = self.lifecycle()?;
        let answer = change(&mut lifecycle);
        self.write(LIFECYCLE, &go_json::to_string(LIFECYCLE, &lifecycle)?)?;
        Ok(answer)
    }

    /// How the given run ended, if that is on record.
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`].
    pub fn exit_of(&self, run: Run) -> Result<Option<ExitRecord>> {
        Ok(self.last_exit()?.filter(|record| record.run == Some(run)))
    }

    /// The exit on record, of whichever run.
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`].
    pub fn last_exit(&self) -> Result<Option<ExitRecord>> {
        let path = self.path.join(EXIT);
        decode(&path, read_optional(&path)?)
    }

    /// How the run before the one on record ended.
    ///
    /// # Errors
    /// I/O errors, and [`StoreError::Malformed`].
    pub fn earlier_exit(&self) -> Result<Option<ExitRecord>> {
        let path = self.path.join(EARLIER_EXIT);
        decode(&path, read_optional(&path)?)
    }

    /// Records how a run ended, unless another one has begun meanwhile; says whether it was recorded.
    ///
    /// A record without run is always written: its container was started by a hook that names none.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn record_exit(&self, record: &ExitRecord) -> Result<bool> {
        let _lock = self.lock()?;
        let current = self.lifecycle()?.run();
        if record.run.is_some() && current.is_some() && record.run != current {
            return Ok(false);
        }
        self.write(EXIT, &go_json::to_string(EXIT, record)?)?;
        Ok(true)
    }

    /// Adds to the exit on record, if there is one, that the kernel had killed for want of memory.
    ///
    /// # Errors
    /// Lock and I/O errors, and [`StoreError::Malformed`].
    pub fn note_oom(&self) -> Result<()> {
        let _lock = self.lock()?;
        let Some(record) = self.last_exit()? else { return Ok(()) };
        let record = ExitRecord { oom_killed: true, ..record };
        self.write(EXIT, &go_json::to_string(EXIT, &record)?)
    }

    /// The caller holds the lock.
    fn put_exit_aside(&self) -> Result<()> {
        match std::fs::rename(self.path.join(EXIT), self.path.join(EARLIER_EXIT)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).during("put aside", &self.path.join(EXIT)),
        }
    }

    /// The run that had begun was none: the one before is the last one again, with `code` as its exit code if given
    /// (Docker shows that of the failed start). `false`: there has never been one.
    ///
    /// # Errors
    /// Lock and I/O errors, and [`StoreError::Malformed`].
    pub fn take_back_start(&self, code: Option<u32>) -> Result<bool> {
        let _lock = self.lock()?;
        let record = match self.last_exit()? {
            Some(record) => Some(record),
            None => self.earlier_exit()?,
        };
        let mut lifecycle = Lifecycle::default();
        if let Some(record) = record {
            // A run that nobody named began when it ended, as far as anybody knows.
            let found = Run { pid: 0, started_at: record.finished_at };
            let run = record.run.unwrap_or(found);
            lifecycle.begin(run);
            let exit_code = code.unwrap_or(record.exit_code);
            let record = ExitRecord { exit_code, run: Some(run), ..record };
            self.write(EXIT, &go_json::to_string(EXIT, &record)?)?;
        }
        self.write(LIFECYCLE, &go_json::to_string(LIFECYCLE, &lifecycle)?)?;
        Ok(record.is_some())
    }

    /// The last results of the container's health check, oldest first.
    ///
    /// # Errors
    /// I/O errors.
    pub fn probes(&self) -> Result<Vec<ProbeResult>> {
        let bytes = read_end(&self.path.join(HEALTH), health::READ)?.unwrap_or_default();
        Ok(health::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Adds a result of the health check; the oldest one makes room.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn add_probe(&self, result: ProbeResult) -> Result<()> {
        let _lock = self.lock()?;
        let mut results = self.probes()?;
        results.push(result);
        results.drain(..results.len().saturating_sub(health::KEPT));
        let mut text = String::new();
        for result in &results {
            text.push_str(&go_json::to_string(HEALTH, result)?);
            text.push('\n');
        }
        self.write(HEALTH, &text)
    }

    /// Notes that the container's removal has begun, so that the next daemon ends what a crash interrupts. `volumes`:
    /// its anonymous volumes go too.
    ///
    /// # Errors
    /// I/O errors.
    pub fn mark_removal(&self, volumes: bool) -> Result<()> {
        let text = if volumes { "volumes" } else { "" };
        write_atomic(&self.path.join(REMOVING), text.as_bytes(), STORE_FILE_MODE)
    }

    /// Whether a removal has begun; `Some(true)` with its volumes.
    ///
    /// # Errors
    /// I/O errors.
    pub fn removal(&self) -> Result<Option<bool>> {
        Ok(read_optional(&self.path.join(REMOVING))?.map(|text| text == b"volumes"))
    }

    /// Does not make the directory: after a removal, late news of the container must not bring it back.
    fn lock(&self) -> Result<FileLock> {
        FileLock::of_directory(&self.path, self.deadline)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write_atomic(&self.path.join(name), text.as_bytes(), STORE_FILE_MODE)
    }
}

/// Unmounts what is mounted on a directory, if anything is. `nerdctl start` of a running container mounts once more.
fn unmount_all(path: &Path) -> Result<()> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH) {
            Ok(()) => {}
            // EINVAL: not a mount point. EPERM: nobody without the right to unmount has mounted it.
            Err(Errno::NOENT | Errno::INVAL | Errno::NOTDIR | Errno::PERM) => return Ok(()),
            Err(errno) => return Err(errno).during("unmount", path),
        }
    }
}

/// Decodes a file's content, if it has any: an empty file is what a crash of the machine leaves of a new one.
fn decode<T: DeserializeOwned>(path: &Path, bytes: Option<Vec<u8>>) -> Result<Option<T>> {
    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| StoreError::Malformed { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
