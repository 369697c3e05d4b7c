//! The copy of ourselves that specs and log URIs point to.
//!
//! A container's spec names the program of its hooks for as long as the container exists: longer than this daemon
//! runs, longer than its version is installed, and longer than it is installed at all. So that program is a copy at
//! one stable path, `<data root>/bin/nerdctld`, brought up to date by whichever daemon starts. It is replaced by
//! rename: hooks and monitors that run from it keep the old file.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Ourselves, also after the file we were started from has been replaced or deleted.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

const EXECUTABLE: u32 = 0o755;
const CHUNK: usize = 256 << 10;

/// Makes sure that the copy below `data_root` is the running program; gives back its path.
///
/// # Errors
/// If it cannot be compared or replaced.
pub(crate) fn install(data_root: &Path) -> anyhow::Result<PathBuf> {
    let copy = data_root.join("bin/nerdctld");
    update(Path::new(OURSELVES), &copy)
        .with_context(|| format!("install our helper as {}", copy.display()))?;
    Ok(copy)
}

/// Makes `copy` the same as `source` unless it is; says whether it was not.
///
/// Comparing both byte by byte takes longer than the rest of a start. So the states of both files in which they were
/// the same are kept beside the copy, and bytes are read only when one of the two has been touched since.
fn update(source: &Path, copy: &Path) -> io::Result<bool> {
    let stamp = copy.with_extension("stamp");
    let stamped = fs::read_to_string(&stamp).unwrap_or_default();
    if !stamped.is_empty() && states(source, copy).is_ok_and(|states| states == stamped) {
        return Ok(false);
    }
    let replaced = replace_if_different(source, copy)?;
    // Without the stamp the next start takes longer, and that is all.
    let _ = states(source, copy).and_then(|states| fs::write(&stamp, states));
    Ok(replaced)
}

/// What changes with every change of one of the two files: nobody can set a time of change (ctime), and every write and
/// `chmod` moves it.
fn states(source: &Path, copy: &Path) -> io::Result<String> {
    let mut states = String::new();
    for file in [fs::metadata(source)?, fs::metadata(copy)?] {
        let (inode, changed) = ((file.dev(), file.ino()), (file.ctime(), file.ctime_nsec()));
        // Writing to a string cannot fail.
        let _ = writeln!(states, "{inode:?} {} {:o} {changed:?}", file.len(), file.mode());
    }
    Ok(states)
}

fn replace_if_different(source: &Path, copy: &Path) -> io::Result<bool> {
    if is_current(source, copy)? {
        return Ok(false);
    }
    if let Some(folder) = copy.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let temporary = copy.with_extension(format!("tmp-{}", std::process::id()));
    let replaced = write_copy(source, &temporary).and_then(|()| fs::rename(&temporary, copy));
    if replaced.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    replaced.map(|()| true)
}

fn write_copy(source: &Path, target: &Path) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(EXECUTABLE).open(target)?;
    io::copy(&mut File::open(source)?, &mut file)?;
    file.set_permissions(Permissions::from_mode(EXECUTABLE))?;
    file.sync_all()
}

/// Whether the copy can be executed and has the same bytes: a hash would take longer, and times of modification are all
/// equal where builds are reproducible.
fn is_current(source: &Path, copy: &Path) -> io::Result<bool> {
    let mut source = File::open(source)?;
    let mut copy = match File::open(copy) {
        Ok(copy) => copy,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let (of_source, of_copy) = (source.metadata()?, copy.metadata()?);
    if of_source.len() != of_copy.len() || of_copy.permissions().mode() & 0o777 != EXECUTABLE {
        return Ok(false);
    }
    have_same_bytes(&mut source, &mut copy)
}

fn have_same_bytes(left: &mut impl Read, right: &mut impl Read) -> io::Result<bool> {
    let mut buffers = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let length = fill(left, &mut buffers.0)?;
        if fill(right, &mut buffers.1)? != length || buffers.0[..length] != buffers.1[..length] {
            return Ok(false);
        }
        if length < CHUNK {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_copy_is_made_once_and_runs() {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("bin/nerdctld");
        assert!(update(Path::new("/bin/true"), &copy).unwrap());
        assert!(!update(Path::new("/bin/true"), &copy).unwrap());
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, EXECUTABLE);
        assert!(Command::new(&copy).status().unwrap().success());
        assert_eq!(names(&dir.path().join("bin")), ["nerdctld", "nerdctld.stamp"]);
    }

    #[test]
    fn another_version_replaces_it_while_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("bin/nerdctld");
        update(Path::new("/bin/sleep"), &copy).unwrap();
        let mut running = Command::new(&copy).arg("1000").spawn().unwrap();
        let replaced = update(Path::new("/bin/true"), &copy);
        let still_running = running.try_wait().unwrap().is_none();
        running.kill().unwrap();
        running.wait().unwrap();
        assert!(replaced.unwrap());
        assert!(still_running);
        assert!(Command::new(&copy).status().unwrap().success());
    }

    #[test]
    fn a_byte_or_a_mode_makes_the_difference() {
        let dir = tempfile::tempdir().unwrap();
        let (source, copy) = (dir.path().join("source"), dir.path().join("copy"));
        let mut bytes = vec![7; CHUNK + 1];
        fs::write(&source, &bytes).unwrap();
        assert!(update(&source, &copy).unwrap());
        bytes[CHUNK] = 8;
        fs::write(&source, &bytes).unwrap();
        assert!(update(&source, &copy).unwrap());
        fs::set_permissions(&copy, Permissions::from_mode(0o644)).unwrap();
        assert!(update(&source, &copy).unwrap());
        assert!(!update(&source, &copy).unwrap());
    }

    #[test]
    fn a_stamp_hides_no_damage_and_its_loss_copies_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (source, copy) = (dir.path().join("source"), dir.path().join("copy"));
        fs::write(&source, [7; 100]).unwrap();
        update(&source, &copy).unwrap();
        let inode = fs::metadata(&copy).unwrap().ino();

        fs::remove_file(dir.path().join("copy.stamp")).unwrap();
        assert!(!update(&source, &copy).unwrap());
        fs::write(dir.path().join("copy.stamp"), "nonsense").unwrap();
        assert!(!update(&source, &copy).unwrap());
        assert_eq!(fs::metadata(&copy).unwrap().ino(), inode);

        // The clock of file systems ticks every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let modified = fs::metadata(&copy).unwrap().modified().unwrap();
        fs::write(&copy, [8; 100]).unwrap();
        File::options().write(true).open(&copy).unwrap().set_modified(modified).unwrap();
        assert!(update(&source, &copy).unwrap());
        assert_eq!(fs::read(&copy).unwrap(), [7; 100]);
        fs::remove_file(&copy).unwrap();
        assert!(update(&source, &copy).unwrap());
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("bin/nerdctld/not-empty")).unwrap();
        let error = install(dir.path()).unwrap_err();
        assert!(format!("{error:#}").starts_with("install our helper as "), "{error:#}");
        assert_eq!(fs::read_dir(dir.path().join("bin")).unwrap().count(), 1);
    }
}
