//! Which files a log has, in order, and where its last lines begin.
//!
//! | Format | Rotated files | Order |
//! |---|---|---|
//! | json-file | `<file>.<n>` | by time of the last write, then by number: nerdctl's logger begins at 1 again in every process |
//! | CRI | `<file>.<yyyymmdd-hhmmss>` (kubelet `pkg/kubelet/logs`) | as its name; compressed ones (`.gz`) are not read, as `kubectl logs` does not |

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::reader::Format;

/// What is looked at in one go when searching backwards.
const STEP: usize = 64 * 1024;

/// A file of a log.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) inode: u64,
    pub(super) modified: SystemTime,
}

/// All files of the log at `path`, oldest first, the current one last. Empty if there is none.
pub(super) fn list(path: &Path, format: Format) -> io::Result<Vec<LogFile>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(order) = order(&entry.file_name(), name, format) else { continue };
        // Pruned meanwhile: not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let modified = metadata.modified()?;
        files.push((order, LogFile { path: entry.path(), inode: metadata.ino(), modified }));
    }
    files.sort_by_key(|(order, file)| match order {
        Order::Current => (true, SystemTime::UNIX_EPOCH, 0),
        Order::Numbered(number) => (false, file.modified, *number),
        Order::Dated(date) => (false, SystemTime::UNIX_EPOCH, *date),
    });
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

enum Order {
    Current,
    Numbered(u64),
    Dated(u64),
}

/// What `candidate` is to the log called `name`.
fn order(candidate: &OsStr, name: &OsStr, format: Format) -> Option<Order> {
    if candidate == name {
        return Some(Order::Current);
    }
    let suffix = candidate.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
    let suffix = std::str::from_utf8(suffix).ok()?;
    match format {
        Format::Json => suffix.parse().ok().map(Order::Numbered),
        Format::Cri => {
            let (date, time) = suffix.split_once('-')?;
            let is_date = date.len() == 8 && time.len() == 6;
            is_date.then(|| format!("{date}{time}").parse().ok().map(Order::Dated))?
        }
    }
}

/// Where the last `count` lines of `files` begin: index of the file, and the offset in it. A line without newline at the
/// very end is not counted; it is being written.
pub(super) fn tail(files: &[LogFile], count: u64) -> io::Result<(usize, u64)> {
    let mut missing = count;
    for (index, file) in files.iter().enumerate().rev() {
        let opened = match File::open(&file.path) {
            // Pruned meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((index + 1, 0)),
            opened => opened?,
        };
        let end = opened.metadata()?.len();
        if let Some(offset) = line_from_end(&opened, end, &mut missing)? {
            return Ok((index, offset));
        }
    }
    Ok((0, 0))
}

/// The offset behind the newline before the last `missing` lines, or `None` if the file has fewer; then `missing` is what
/// other files must have.
fn line_from_end(file: &File, size: u64, missing: &mut u64) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; STEP];
    let mut end = size;
    let mut newlines = 0;
    while end > 0 {
        let length = STEP.min(usize::try_from(end).unwrap_or(STEP));
        let start = end - u64::try_from(length).unwrap_or_default();
        file.read_exact_at(&mut buffer[..length], start)?;
        for at in (0..length).rev().filter(|at| buffer[*at] == b'\n') {
            if newlines == *missing {
                return Ok(Some(start + u64::try_from(at).unwrap_or_default() + 1));
            }
            newlines += 1;
        }
        end = start;
    }
    *missing -= newlines;
    Ok((*missing == 0).then_some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_come_in_the_order_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, age: u64| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        };
        for (name, age) in [
            ("a.log", 500),
            ("a.log.1", 10),
            ("a.log.2", 20),
            ("a.log.10", 30),
            ("a.log.x", 1),
            ("b.log.1", 1),
        ] {
            write(name, age);
        }
        for (name, age) in [
            ("0.log", 90),
            ("0.log.20260102-030405", 1),
            ("0.log.20260101-030405", 1),
            ("0.log.20251231-000000.gz", 1),
        ] {
            write(name, age);
        }
        let names = |log: &str, format| -> Vec<String> {
            let files = list(&dir.path().join(log), format).unwrap();
            files
                .iter()
                .map(|file| file.path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names("a.log", Format::Json), ["a.log.10", "a.log.2", "a.log.1", "a.log"]);
        assert_eq!(
            names("0.log", Format::Cri),
            ["0.log.20260101-030405", "0.log.20260102-030405", "0.log"]
        );
        assert_eq!(names("none.log", Format::Json), [""; 0]);
        assert!(list(&dir.path().join("no/dir.log"), Format::Json).unwrap().is_empty());
    }

    #[test]
    fn the_last_lines_are_found_across_files_and_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let long = format!("{}\n", "x".repeat(STEP));
        fs::write(dir.path().join("a.log.1"), "1\n2\n3\n").unwrap();
        fs::write(&path, format!("4\n{long}5\n\n6\nunfinished")).unwrap();
        let files = list(&path, Format::Json).unwrap();
        let long = u64::try_from(long.len()).unwrap();
        for (count, expected) in [
            (0, (1, long + 7)),
            (1, (1, long + 5)),
            (2, (1, long + 4)),
            (3, (1, long + 2)),
            (4, (1, 2)),
            (5, (1, 0)),
            (6, (0, 4)),
            (8, (0, 0)),
            (9, (0, 0)),
            (u64::MAX, (0, 0)),
        ] {
            assert_eq!(tail(&files, count).unwrap(), expected, "{count}");
        }
    }
}
