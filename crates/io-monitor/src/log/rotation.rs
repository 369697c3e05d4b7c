//! Rotated files of a json-file: `<file>.<n>`, compressed `<file>.<n>.gz`.
//!
//! The highest number is the newest; a new one gets a higher number than any that is there (nerdctl's logger counts up as
//! well, but begins at 1 again in every process and overwrites). A compressed file keeps its time and says in its header
//! which file it was made of, so that a reader that was in the middle of that one finds its place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::SystemTime;

use flate2::{Compression, GzBuilder};

/// What stands in the header of a compressed log before the inode of the file that it was made of.
pub const COMPRESSED_FROM: &str = "inode ";

/// A rotated file.
#[derive(Debug)]
pub(super) struct Rotated {
    pub(super) number: u64,
    modified: SystemTime,
    /// As it is and compressed: one of them, or both while it is being compressed.
    plain: Option<PathBuf>,
    compressed: Option<PathBuf>,
}

/// All rotated files of `path`, oldest first.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<Rotated>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let mut prefix = OsString::from(name);
    prefix.push(".");
    let mut found = BTreeMap::<u64, Rotated>::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let suffix = file_name.as_bytes().strip_prefix(prefix.as_bytes());
        let suffix = suffix.and_then(|suffix| std::str::from_utf8(suffix).ok()).unwrap_or_default();
        let (digits, is_compressed) =
            suffix.strip_suffix(".gz").map_or((suffix, false), |digits| (digits, true));
        let Ok(number) = digits.parse() else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        let modified = metadata.modified()?;
        let file = found.entry(number).or_insert(Rotated {
            number,
            modified,
            plain: None,
            compressed: None,
        });
        let place = if is_compressed { &mut file.compressed } else { &mut file.plain };
        *place = Some(entry.path());
    }
    let mut files: Vec<_> = found.into_values().collect();
    files.sort_by_key(|file| (file.modified, file.number));
    Ok(files)
}

/// Put the current file aside, and delete the oldest so that with the next current one `most` are left.
pub(super) fn put_aside(path: &Path, most: Option<usize>) -> io::Result<()> {
    let older = rotated(path)?;
    if most == Some(1) {
        fs::remove_file(path)?;
    } else {
        let number = older.iter().map(|file| file.number).max().unwrap_or(0) + 1;
        fs::rename(path, numbered(path, number, ""))?;
    }
    if let Some(most) = most {
        // The current file and the one just renamed are not in `older`.
        let keep = most.saturating_sub(2);
        for file in &older[..older.len().saturating_sub(keep)] {
            let unfinished = numbered(path, file.number, ".gz.tmp");
            for path in [&file.plain, &file.compressed, &Some(unfinished)].into_iter().flatten() {
                // A file that stays is found again the next time.
                let _ = fs::remove_file(path);
            }
        }
    }
    Ok(())
}

fn numbered(path: &Path, number: u64, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{suffix}"));
    name.into()
}

/// Compresses rotated files, one after the other, while the log goes on.
#[derive(Debug, Default)]
pub(super) struct Compressor {
    running: Option<JoinHandle<()>>,
}

impl Compressor {
    /// There is something to compress below `path`.
    pub(super) fn wake(&mut self, path: &Path) {
        if self.running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let path = path.to_owned();
        self.running = Some(std::thread::spawn(move || compress_all(&path)));
    }

    /// Wait until all is compressed.
    pub(super) fn finish(mut self, path: &Path) {
        if let Some(thread) = self.running.take() {
            // It does not panic, and what it left is found by the next.
            let _ = thread.join();
            compress_all(path);
        }
    }
}

fn compress_all(path: &Path) {
    let mut failed = None;
    while let Ok(files) = rotated(path) {
        let next = files.iter().find_map(|file| Some((file.number, file.plain.as_ref()?)));
        let Some((number, plain)) = next.filter(|(number, _)| failed != Some(*number)) else {
            return;
        };
        if compress(plain, path, number).is_err() {
            // A disk without room: it stays as it is, and can be read.
            let _ = fs::remove_file(numbered(path, number, ".gz.tmp"));
            failed = Some(number);
        }
    }
}

/// First the new file under its own name, then the old one is deleted: killed in between, readers take the old one.
fn compress(plain: &Path, path: &Path, number: u64) -> io::Result<()> {
    let mut from = File::open(plain)?;
    let metadata = from.metadata()?;
    let unfinished = numbered(path, number, ".gz.tmp");
    let to =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    let mut encoder = GzBuilder::new()
        .comment(format!("{COMPRESSED_FROM}{}", metadata.ino()))
        .write(to, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?.set_modified(metadata.modified()?)?;
    fs::rename(&unfinished, numbered(path, number, ".gz"))?;
    fs::remove_file(plain)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_compressed_file_keeps_its_bytes_its_time_and_its_origin() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        let plain = dir.path().join("c.log.4");
        fs::write(&plain, "text\n".repeat(1000)).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options().write(true).open(&plain).unwrap().set_modified(long_ago).unwrap();
        let inode = fs::metadata(&plain).unwrap().ino();
        let mut compressor = Compressor::default();
        compressor.wake(&path);
        compressor.finish(&path);
        assert!(!plain.exists());
        let compressed = dir.path().join("c.log.4.gz");
        assert_eq!(fs::metadata(&compressed).unwrap().modified().unwrap(), long_ago);
        let mut reader = flate2::read::GzDecoder::new(File::open(compressed).unwrap());
        assert_eq!(
            reader.header().unwrap().comment(),
            Some(format!("{COMPRESSED_FROM}{inode}").as_bytes())
        );
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text\n".repeat(1000));
    }

    #[test]
    fn the_oldest_go_compressed_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        for name in ["c.log.1.gz", "c.log.2", "c.log.2.gz", "c.log.2.gz.tmp", "c.log.3", "c.log"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        put_aside(&path, Some(3)).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["c.log.3", "c.log.4"]);
    }
}
