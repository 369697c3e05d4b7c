//! Which files a log has, in order, and where its last lines begin.
//!
//! | Format | Rotated files | Order |
//! |---|---|---|
//! | json-file | `<file>.<n>`, compressed `<file>.<n>.gz` | by time of the last write, then by number: nerdctl's logger begins at 1 again in every process |
//! | CRI | `<file>.<yyyymmdd-hhmmss>` (kubelet `pkg/kubelet/logs`) | as its name; compressed ones (`.gz`) are not read, as `kubectl logs` does not |

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::read::GzDecoder;
use io_monitor::COMPRESSED_FROM;

use super::reader::Format;

/// What is looked at in one go when searching backwards.
const STEP: usize = 64 * 1024;

/// A file of a log.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    pub(super) inode: u64,
    pub(super) modified: SystemTime,
    pub(super) is_compressed: bool,
}

impl LogFile {
    /// The file that a compressed one was made of, as the I/O monitor notes it.
    fn origin(&self) -> Option<u64> {
        let reader = GzDecoder::new(File::open(&self.path).ok()?);
        let comment = std::str::from_utf8(reader.header()?.comment()?).ok()?;
        comment.strip_prefix(COMPRESSED_FROM)?.parse().ok()
    }
}

/// Which of `files` the open file `inode` is now: itself, or the newest that was compressed from it. (An open file keeps its
/// number, so an older one with that number was deleted before.)
pub(super) fn find(files: &[LogFile], inode: u64) -> Option<usize> {
    let itself = files.iter().position(|file| !file.is_compressed && file.inode == inode);
    itself.or_else(|| {
        files.iter().rposition(|file| file.is_compressed && file.origin() == Some(inode))
    })
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
        let Some((order, is_compressed)) = order(&entry.file_name(), name, format) else {
            continue;
        };
        // Pruned meanwhile: not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let modified = metadata.modified()?;
        let (path, inode) = (entry.path(), metadata.ino());
        files.push((order, LogFile { path, inode, modified, is_compressed }));
    }
    // While a file is being compressed, or if that was interrupted, there are two of it.
    files.sort_by_key(|(_, file)| file.is_compressed);
    let mut seen = std::collections::HashSet::new();
    files.retain(|(order, _)| seen.insert(*order));
    files.sort_by_key(|(order, file)| match order {
        Order::Current => (true, SystemTime::UNIX_EPOCH, 0),
        Order::Numbered(number) => (false, file.modified, *number),
        Order::Dated(date) => (false, SystemTime::UNIX_EPOCH, *date),
    });
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Order {
    Current,
    Numbered(u64),
    Dated(u64),
}

/// What `candidate` is to the log called `name`, and whether it is compressed.
fn order(candidate: &OsStr, name: &OsStr, format: Format) -> Option<(Order, bool)> {
    if candidate == name {
        return Some((Order::Current, false));
    }
    let suffix = candidate.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
    let suffix = std::str::from_utf8(suffix).ok()?;
    match format {
        Format::Json => {
            let compressed = suffix.strip_suffix(".gz");
            let number = compressed.unwrap_or(suffix).parse().ok()?;
            Some((Order::Numbered(number), compressed.is_some()))
        }
        Format::Cri => {
            let (date, time) = suffix.split_once('-')?;
            let is_date = date.len() == 8 && time.len() == 6;
            let number = format!("{date}{time}").parse().ok().filter(|_| is_date)?;
            Some((Order::Dated(number), false))
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
        let found = if file.is_compressed {
            line_from_end_compressed(&file.path, &mut missing)?
        } else {
            let end = opened.metadata()?.len();
            line_from_end(&opened, end, &mut missing)?
        };
        if let Some(offset) = found {
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
        for at in memchr::memrchr_iter(b'\n', &buffer[..length]) {
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

/// The same in a file that can only be read from its start: once to count, once to find. Offsets are of what is in it.
fn line_from_end_compressed(path: &Path, missing: &mut u64) -> io::Result<Option<u64>> {
    let lines = walk_compressed(path, |_| true)?.0;
    if lines < *missing {
        *missing -= lines;
        return Ok(None);
    }
    let before = lines - *missing;
    *missing = 0;
    if before == 0 {
        return Ok(Some(0));
    }
    walk_compressed(path, |lines| lines < before).map(|(_, offset)| Some(offset))
}

/// Go through a compressed file line by line as long as `goes_on` with the number of lines so far; returns that number and
/// the offset behind the last one.
fn walk_compressed(path: &Path, goes_on: impl Fn(u64) -> bool) -> io::Result<(u64, u64)> {
    let mut reader = GzDecoder::new(File::open(path)?);
    let mut buffer = vec![0; STEP];
    let (mut lines, mut offset, mut behind) = (0, 0, 0);
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((lines, behind));
        }
        for at in memchr::memchr_iter(b'\n', &buffer[..count]) {
            lines += 1;
            behind = offset + u64::try_from(at).unwrap_or_default() + 1;
            if !goes_on(lines) {
                return Ok((lines, behind));
            }
        }
        offset += u64::try_from(count).unwrap_or_default();
    }
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
            ("a.log.3.gz", 25),
            ("a.log.2.gz", 15),
            ("a.log.4.gz.tmp", 1),
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
        assert_eq!(
            names("a.log", Format::Json),
            ["a.log.10", "a.log.3.gz", "a.log.2", "a.log.1", "a.log"],
            "of two that are one the one that is whole for sure"
        );
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

    #[test]
    fn the_last_lines_are_found_in_compressed_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let compressed = File::create(dir.path().join("a.log.1.gz")).unwrap();
        let mut encoder = flate2::GzBuilder::new()
            .comment(format!("{COMPRESSED_FROM}77"))
            .write(compressed, flate2::Compression::fast());
        io::Write::write_all(&mut encoder, b"1\n22\n333\n").unwrap();
        encoder.finish().unwrap();
        fs::write(&path, "4\n").unwrap();
        let files = list(&path, Format::Json).unwrap();
        assert_eq!(find(&files, 77), Some(0));
        assert_eq!(find(&files, files[1].inode), Some(1));
        assert_eq!(find(&files, 1), None);
        for (count, expected) in
            [(1, (1, 0)), (2, (0, 5)), (3, (0, 2)), (4, (0, 0)), (5, (0, 0)), (0, (1, 2))]
        {
            assert_eq!(tail(&files, count).unwrap(), expected, "{count}");
        }
    }
}
