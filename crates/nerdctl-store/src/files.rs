//! How nerdctl writes files, and how they are read back.
//!
//! Two kinds, because of bind mounts:
//! - **Store files** are replaced by rename ([`write_atomic`]): names, `meta.json`, `lifecycle.json`,
//!   `network-config.json`, `volume.json`. A reader sees the old or the new content.
//! - **In-place files** keep their inode ([`InPlace`]), because containers have them mounted: `hosts`, `resolv.conf`,
//!   `hostname`, and with them `log-config.json` and conflists. nerdctl protects them by a marker and a backup in
//!   `<data root>/filesystem-ops`; a marker found later means that the write was interrupted, and the file is rolled
//!   back or deleted by whoever reads it next.
//!
//! Sources: nerdctl `pkg/internal/filesystem/{writefile_rename,writefile_rollback,helpers}.go`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::data_store::sha256_hex;
use crate::error::{IoContext, Result};
use crate::locks::create_private_dir;

/// What the marker of an interrupted write says if there was no file before.
const MARKER_REMOVE: &[u8] = b"remove";

/// Makes temporary names of one process differ.
static TEMP_COUNTER: AtomicU32 = AtomicU32::new(0);

/// Replaces `path` by a file with these bytes: temporary file beside it, fsync, rename.
///
/// The temporary file is called `.tmp-<name><digits>`, as nerdctl's are; it does not survive an error. The directory
/// must exist, and `mode` is reduced by the umask.
///
/// # Errors
/// [`crate::StoreError::Io`].
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes, mode)
        .during("write", &temporary)
        .and_then(|()| fs::rename(&temporary, path).during("replace", path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = TEMP_COUNTER.fetch_add(1, Ordering::Relaxed);
    // Without the zeros, pid 1 and number 23 would be pid 12 and number 3.
    path.with_file_name(format!(".tmp-{name}{}{number:010}", std::process::id()))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A leftover of an earlier process with our pid is overwritten.
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a file that may be absent.
///
/// # Errors
/// Any failure other than absence of the file or of a directory above it.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).during("read", path),
    }
}

/// Reads at most the last `limit` bytes of a file that may be absent.
///
/// # Errors
/// Any failure other than absence of the file or of a directory above it.
pub(crate) fn read_end(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map(|_| bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).during("read", path),
    }
}

/// Deletes a file; says whether it was there.
///
/// # Errors
/// Any failure other than absence.
pub fn remove_if_present(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error).during("delete", path),
    }
}

/// Deletes a directory and all in it; absence is success.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if !is_absent(&error) => Err(error).during("delete", path),
        _ => Ok(()),
    }
}

/// The names in a directory that are neither hidden nor temporary, sorted; none if it does not exist.
pub(crate) fn list_dir(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error).during("list", path),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.during("list", path)?.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
            found.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// What has a name that no file can have is not there either.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

/// Reads and writes files that keep their inode, under nerdctl's recovery protocol.
///
/// Ours never leaves a marker: it first finishes what an interrupted writer left, then overwrites and cuts the file.
/// Content is written before the file is cut, so an interruption cannot empty it. A *new* file is synced, since a
/// power cut would leave it empty; an existing one is not, since it then holds the old or the new bytes, and
/// everything we write this way can be computed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlace {
    operations: PathBuf,
}

impl InPlace {
    /// The protocol with its markers in `<data root>/filesystem-ops`.
    #[must_use]
    pub fn below(data_root: &Path) -> Self {
        Self { operations: data_root.join("filesystem-ops") }
    }

    /// Makes the file hold exactly `bytes`; says whether it had to change. A new file gets exactly `mode`, whatever the
    /// umask; one that is there keeps its own, as its inode.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`].
    pub fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<bool> {
        self.recover(path)?;
        if read_optional(path)?.as_deref() == Some(bytes) {
            return Ok(false);
        }
        overwrite(path, bytes, mode).during("write", path)?;
        Ok(true)
    }

    /// Reads a file that may be absent, after finishing an interrupted write.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`].
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        self.recover(path)?;
        read_optional(path)
    }

    /// Undoes a write that was interrupted: puts the backup back, or deletes a file that was being created.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`].
    pub fn recover(&self, path: &Path) -> Result<()> {
        let marker = self.file_for(path, "in-progress");
        let Some(operation) = read_optional(&marker)? else { return Ok(()) };
        let backup = self.file_for(path, "backup");
        match read_optional(&backup)? {
            Some(bytes) => {
                overwrite(path, &bytes, 0o600).during("restore", path)?;
                remove_if_present(&backup)?;
            }
            // Without a backup and without "remove", an earlier recovery was interrupted after its restoration.
            None if operation == MARKER_REMOVE => {
                remove_if_present(path)?;
            }
            None => {}
        }
        remove_if_present(&marker)?;
        Ok(())
    }

    /// Where marker or backup of a file lie: hash of the directory, beginning of the name, hash of the name.
    fn file_for(&self, path: &Path, suffix: &str) -> PathBuf {
        let bytes_of =
            |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().as_encoded_bytes().to_vec();
        let directory = bytes_of(path.parent().map(Path::as_os_str));
        let base = bytes_of(path.file_name());
        let readable = String::from_utf8_lossy(&base[..base.len().min(16)]).into_owned();
        let hash = |bytes: &[u8]| sha256_hex(bytes)[..8].to_owned();
        self.operations.join(format!("{}-{readable}-{}-{suffix}", hash(&directory), hash(&base)))
    }

    /// Makes the directory of the markers, as every nerdctl command does at its start.
    ///
    /// # Errors
    /// [`crate::StoreError::Io`].
    pub fn ensure_directory(&self) -> Result<()> {
        create_private_dir(&self.operations)
    }
}

/// Overwrites from the start, then cuts; a new file is synced and gets exactly `mode`.
fn overwrite(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let created = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        Err(error) => return Err(error),
    };
    if let Some(file) = created {
        file.write_all_at(bytes, 0)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        return file.sync_all();
    }
    let file: File = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.json");
        write_atomic(&path, b"old", 0o600).unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_atomic_write_cleans_up_and_names_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("taken");
        fs::create_dir_all(target.join("non-empty")).unwrap();
        let error = write_atomic(&target, b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_in_place_write_keeps_the_inode_and_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let files = InPlace::below(dir.path());
        let path = dir.path().join("hosts");
        assert!(files.write(&path, b"a long first content\n", 0o644).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644, "whatever the umask");
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        assert!(files.write(&path, b"short\n", 0o644).unwrap());
        assert!(!files.write(&path, b"short\n", 0o644).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"short\n");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o664);
    }

    #[test]
    fn what_no_file_can_be_called_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_optional(&dir.path().join("x".repeat(300))).unwrap(), None);
        assert!(!remove_if_present(&dir.path().join("x".repeat(300))).unwrap());
    }

    #[test]
    fn marker_names_are_those_of_nerdctl() {
        let files = InPlace::below(Path::new("/var/lib/nerdctl"));
        let name = |path: &str, suffix: &str| {
            let file = files.file_for(Path::new(path), suffix);
            assert_eq!(file.parent(), Some(Path::new("/var/lib/nerdctl/filesystem-ops")));
            file.file_name().unwrap().to_str().unwrap().to_owned()
        };
        // The hashes are from sha256sum(1).
        assert_eq!(name("/tmp/hosts", "backup"), "e9671acd-hosts-4f8a2cc3-backup");
        assert_eq!(
            name("/tmp/averyverylongfilename", "in-progress"),
            "e9671acd-averyverylongfil-23508237-in-progress"
        );
    }

    #[test]
    fn an_interrupted_overwrite_is_rolled_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = InPlace::below(dir.path());
        files.ensure_directory().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "half writ").unwrap();
        fs::write(files.file_for(&path, "in-progress"), "").unwrap();
        fs::write(files.file_for(&path, "backup"), "whole\n").unwrap();
        assert_eq!(files.read(&path).unwrap().unwrap(), b"whole\n");
        assert_eq!(fs::read_dir(&files.operations).unwrap().count(), 0);
    }

    #[test]
    fn an_interrupted_creation_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = InPlace::below(dir.path());
        files.ensure_directory().unwrap();
        let path = dir.path().join("log-config.json");
        fs::write(&path, "{").unwrap();
        fs::write(files.file_for(&path, "in-progress"), MARKER_REMOVE).unwrap();
        assert_eq!(files.read(&path).unwrap(), None);
        assert_eq!(fs::read_dir(&files.operations).unwrap().count(), 0);
    }

    #[test]
    fn a_recovery_that_was_interrupted_itself_keeps_the_restored_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = InPlace::below(dir.path());
        files.ensure_directory().unwrap();
        let path = dir.path().join("hosts");
        fs::write(&path, "restored\n").unwrap();
        fs::write(files.file_for(&path, "in-progress"), "").unwrap();
        assert_eq!(files.read(&path).unwrap().unwrap(), b"restored\n");
        assert_eq!(fs::read_dir(&files.operations).unwrap().count(), 0);
    }

    #[test]
    fn hidden_entries_are_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".tmp-a123"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(list_dir(dir.path()).unwrap(), ["a", "b"]);
        assert!(list_dir(&dir.path().join("absent")).unwrap().is_empty());
    }
}
