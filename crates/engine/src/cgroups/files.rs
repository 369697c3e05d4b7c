//! The kernel's small text files.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// No file that is read here is longer in a sane system; a container can make some of them grow.
const MAX_BYTES: u64 = 1024 * 1024;

/// A file's text, as far as the bound goes.
///
/// # Errors
/// It cannot be read.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The one number of a file; `most` for the word `max`, and 0 where there is none.
pub(super) fn number(path: &Path, most: u64) -> u64 {
    match text(path).unwrap_or_default().trim() {
        "max" => most,
        digits => digits.parse().unwrap_or(0),
    }
}

/// Lines of a name and a number.
pub(super) fn table(text: &str) -> HashMap<&str, u64> {
    let row = |line: &'_ str| -> Option<(usize, u64)> {
        let (name, value) = line.split_once(' ')?;
        Some((name.len(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(|line| row(line).map(|(end, value)| (&line[..end], value))).collect()
}

/// A number on each line, each once.
pub(super) fn numbers(path: &Path) -> io::Result<BTreeSet<u32>> {
    // 0 is a process that this pid namespace does not see.
    let numbers = text(path)?;
    Ok(numbers.lines().filter_map(|line| line.parse().ok()).filter(|number| *number != 0).collect())
}

/// The directories in a directory.
pub(super) fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path)?.filter_map(Result::ok);
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories.map(|entry| entry.path()).collect())
}
