//! nerdctl's json-file: entries, rotation, and what happens when the disk does not take them.
//!
//! The format is nerdctl's, which is Docker's (`nerdctl pkg/logging/jsonfile`, moby `daemon/logger/jsonfilelog`): one JSON
//! object a line, `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}`. Times never repeat or go
//! back within a second, so a reader that goes on after the last time it saw misses nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::Counters;
use super::clock::{Clock, Time, TimeText};
use super::rotation::{self, Compressor};
use crate::frames::{LogMark, Stream};
use crate::go_json;
use crate::log_config::JsonFileOptions;

/// A write buffer above this is given back to the system after use.
const KEEP_BUFFER: usize = 128 * 1024;

/// The log of one container.
#[derive(Debug)]
pub(super) struct JsonFile {
    options: JsonFileOptions,
    file: Option<File>,
    /// Bytes in the current file.
    size: u64,
    /// Bytes that the current file may have; more than the option after a rotation that failed.
    limit: u64,
    /// Encoded entries that are not written yet.
    batch: Vec<u8>,
    batch_entries: u64,
    times: TimeText,
    /// `,"attrs":{…}` of every entry, as it is written; often empty.
    attributes: Vec<u8>,
    compressor: Compressor,
    /// Lost entries that the log does not tell of yet.
    untold: u64,
    pub(super) counters: Counters,
}

impl JsonFile {
    /// Not open yet.
    pub(super) fn new(options: JsonFileOptions) -> Self {
        let limit = options.max_size;
        let attributes = encode_attributes(&options);
        Self {
            options,
            file: None,
            size: 0,
            limit,
            batch: Vec::new(),
            batch_entries: 0,
            times: TimeText::default(),
            attributes,
            compressor: Compressor::default(),
            untold: 0,
            counters: Counters::default(),
        }
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.options.path
    }

    /// Open or create the file, and cut off half an entry that a killed writer may have left at its end: its bytes are
    /// still in the FIFO, and nerdctl's reader stops at what is no JSON.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&self.options.path)?;
        let size = file.metadata()?.len();
        let whole = end_of_last_line(&file, size)?;
        if whole < size {
            file.set_len(whole)?;
        }
        self.size = whole;
        self.file = Some(file);
        Ok(())
    }

    /// Where the file ends.
    pub(super) fn mark(&self) -> Option<LogMark> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        Some(LogMark { inode: metadata.ino(), offset: metadata.len() })
    }

    /// Add an entry to the batch.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8], time: Time) {
        let start = self.batch.len();
        self.encode(stream, bytes, time);
        let before = self.size + length(start);
        if before > 0 && self.size + length(self.batch.len()) > self.limit {
            self.rotate_before(start);
        }
        self.batch_entries += 1;
    }

    /// Write the batch, with one system call. What cannot be written is counted and forgotten.
    pub(super) fn flush(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        self.write(&batch);
        batch.clear();
        if batch.capacity() > KEEP_BUFFER {
            batch = Vec::new();
        }
        self.batch = batch;
    }

    fn encode(&mut self, stream: Stream, bytes: &[u8], time: Time) {
        self.batch.extend_from_slice(b"{\"log\":\"");
        go_json::escape(&mut self.batch, bytes);
        self.batch.extend_from_slice(b"\",\"stream\":\"");
        self.batch.extend_from_slice(stream.as_str().as_bytes());
        self.batch.push(b'"');
        self.batch.extend_from_slice(&self.attributes);
        self.batch.extend_from_slice(b",\"time\":\"");
        self.times.write(&mut self.batch, time);
        self.batch.extend_from_slice(b"\"}\n");
    }

    fn write(&mut self, batch: &[u8]) {
        let entries = std::mem::take(&mut self.batch_entries);
        if entries == 0 {
            return;
        }
        match self.tell_loss().and_then(|()| self.append(batch)) {
            Ok(()) => self.counters.entries += entries,
            Err(Unwritten { kept, source }) => {
                let whole = count_lines(batch.get(..kept).unwrap_or_default());
                self.counters.entries += whole;
                self.lose(entries - whole, &source);
            }
        }
    }

    fn lose(&mut self, entries: u64, reason: &io::Error) {
        self.untold += entries;
        self.counters.lost += entries;
        self.counters.last_error = Some(reason.to_string());
    }

    /// Say in the log, where they would be, that entries are missing.
    fn tell_loss(&mut self) -> Result<(), Unwritten> {
        if self.untold == 0 {
            return Ok(());
        }
        let reason = self.counters.last_error.clone().unwrap_or_default();
        let text = format!(
            "nerdctld: {} lines of output could not be written to the log: {reason}\n",
            self.untold
        );
        // `flush` has taken the batch out, so it is free for the note.
        self.encode(Stream::Stderr, text.as_bytes(), Clock::default().now());
        let note = std::mem::take(&mut self.batch);
        self.append(&note).map_err(|unwritten| Unwritten { kept: 0, ..unwritten })?;
        self.untold = 0;
        Ok(())
    }

    /// Append whole lines. After an error the file ends with a whole line, and `kept` bytes are in it.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Unwritten> {
        if self.file.is_none() {
            self.open().map_err(|source| Unwritten { kept: 0, source })?;
        }
        let Some(file) = self.file.as_mut() else {
            return Ok(());
        };
        let mut written = 0;
        while written < bytes.len() {
            match file.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let kept = bytes[..written]
                        .iter()
                        .rposition(|byte| *byte == b'\n')
                        .map_or(0, |at| at + 1);
                    if let Ok(metadata) = file.metadata() {
                        self.size = metadata.len().saturating_sub(length(written - kept));
                        // Should this fail too, the next writer's `open` repairs it.
                        let _ = file.set_len(self.size);
                    }
                    return Err(Unwritten { kept, source });
                }
            }
        }
        self.size += length(bytes.len());
        Ok(())
    }

    /// Begin a new file with the entry at `start` of the batch: write what is before it, then rotate.
    fn rotate_before(&mut self, start: usize) {
        let entry = self.batch.split_off(start);
        self.flush();
        self.batch.extend_from_slice(&entry);
        match self.rotate() {
            Ok(()) => {
                self.limit = self.options.max_size;
                self.counters.rotations += 1;
            }
            Err(error) => {
                // Go on with what we have; do not try again at every line.
                self.limit = self.size.saturating_add(self.options.max_size);
                self.counters.last_error = Some(format!("the log could not be rotated: {error}"));
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        rotation::put_aside(&self.options.path, self.options.max_files)?;
        if self.options.compress {
            self.compressor.wake(&self.options.path);
        }
        self.file = None;
        self.size = 0;
        self.open()
    }

    /// Wait until rotated files are compressed.
    pub(super) fn settle(self) {
        self.compressor.finish(&self.options.path);
    }
}

/// `,"attrs":{"key":"value"}`, where dockerd has it (moby `daemon/logger/jsonfilelog/jsonlog`).
fn encode_attributes(options: &JsonFileOptions) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in &options.attributes {
        out.extend_from_slice(if out.is_empty() { b",\"attrs\":{\"" } else { b",\"" });
        go_json::escape(&mut out, name.as_bytes());
        out.extend_from_slice(b"\":\"");
        go_json::escape(&mut out, value.as_bytes());
        out.push(b'"');
    }
    if !out.is_empty() {
        out.push(b'}');
    }
    out
}

/// An append that failed.
struct Unwritten {
    /// Bytes that are in the file: whole lines.
    kept: usize,
    source: io::Error,
}

/// The offset behind the last newline.
fn end_of_last_line(file: &File, size: u64) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let mut end = size;
    let mut buffer = Vec::new();
    while end > 0 {
        // The usual case, a newline at the very end, costs one byte.
        let step = if end == size { 1 } else { STEP.min(end) };
        buffer.resize(usize::try_from(step).unwrap_or_default(), 0);
        file.read_exact_at(&mut buffer, end - step)?;
        if let Some(at) = buffer.iter().rposition(|byte| *byte == b'\n') {
            return Ok(end - step + length(at) + 1);
        }
        end -= step;
    }
    Ok(0)
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn count_lines(bytes: &[u8]) -> u64 {
    length(bytes.iter().filter(|byte| **byte == b'\n').count())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::Timestamp;

    use super::*;

    fn options(path: &Path, max_size: u64, max_files: Option<usize>) -> JsonFileOptions {
        let attributes = std::collections::BTreeMap::new();
        JsonFileOptions { path: path.to_owned(), max_size, max_files, compress: false, attributes }
    }

    fn log(path: &Path, max_size: u64, max_files: Option<usize>) -> JsonFile {
        let mut log = JsonFile::new(options(path, max_size, max_files));
        log.open().unwrap();
        log
    }

    fn push(log: &mut JsonFile, text: &str) {
        log.push(Stream::Stdout, text.as_bytes(), Clock::default().now());
    }

    fn texts(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "a torn entry in {text:?}");
        text.lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["log"]
                    .as_str()
                    .unwrap()
                    .into()
            })
            .collect()
    }

    #[test]
    fn an_entry_is_what_nerdctl_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        let mut log = log(&path, 1_000_000, None);
        let mut clock = Clock::default();
        log.push(Stream::Stdout, b"<hi>\n", clock.now());
        log.push(Stream::Stderr, b"part", clock.now());
        assert_eq!(fs::read(&path).unwrap(), b"", "nothing is written before the flush");
        log.flush();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with(r#"{"log":"\u003chi\u003e\n","stream":"stdout","time":"20"#),
            "{}",
            lines[0]
        );
        assert!(lines[0].ends_with("Z\"}"));
        let time = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["time"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert!(lines[1].starts_with(r#"{"log":"part","stream":"stderr","time":"20"#));
        assert!(time(lines[0]).parse::<Timestamp>().unwrap() < time(lines[1]).parse().unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(log.mark().unwrap().offset, length(text.len()));
    }

    #[test]
    fn attributes_stand_where_docker_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        let attributes =
            [("a".to_owned(), "1".to_owned()), ("b\"".to_owned(), "<".to_owned())].into();
        let mut log = JsonFile::new(JsonFileOptions { attributes, ..options(&path, 1000, None) });
        push(&mut log, "x\n");
        log.flush();
        let text = fs::read_to_string(&path).unwrap();
        let start = r#"{"log":"x\n","stream":"stdout","attrs":{"a":"1","b\"":"\u003c"},"time":"2"#;
        assert!(text.starts_with(start), "{text}");
    }

    #[test]
    fn rotated_files_are_compressed_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        let mut log =
            JsonFile::new(JsonFileOptions { compress: true, ..options(&path, 200, Some(3)) });
        for number in 0..6 {
            push(&mut log, &format!("{number:064}\n"));
            log.flush();
        }
        log.settle();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["c-json.log", "c-json.log.4.gz", "c-json.log.5.gz"]);
    }

    #[test]
    fn rotation_counts_up_and_keeps_what_the_options_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        fs::write(dir.path().join("c-json.log.7"), "{\"log\":\"old\\n\"}\n").unwrap();
        fs::write(dir.path().join("c-json.log.txt"), "not ours").unwrap();
        let mut log = log(&path, 200, Some(3));
        for number in 0..10 {
            push(&mut log, &format!("{number:064}\n"));
            if number % 3 == 0 {
                log.flush();
            }
        }
        log.flush();
        assert_eq!(log.counters.entries, 10);
        // One entry has about 125 bytes, so one fits into 200.
        assert_eq!(texts(&path), [format!("{:064}\n", 9)]);
        let numbers: Vec<u64> =
            rotation::rotated(&path).unwrap().iter().map(|file| file.number).collect();
        assert_eq!(numbers, [15, 16]);
        assert_eq!(texts(&dir.path().join("c-json.log.16")), [format!("{:064}\n", 8)]);
        assert!(dir.path().join("c-json.log.txt").exists());
    }

    #[test]
    fn one_file_means_no_backup_and_none_means_all() {
        let dir = tempfile::tempdir().unwrap();
        for (name, files, backups) in [("one", Some(1), 0), ("all", None, 4)] {
            let path = dir.path().join(name);
            let mut log = log(&path, 100, files);
            for _ in 0..5 {
                push(&mut log, "a line that is long enough to fill a file of one hundred bytes\n");
            }
            log.flush();
            assert_eq!(rotation::rotated(&path).unwrap().len(), backups);
            assert_eq!(texts(&path).len(), 1);
            assert_eq!(log.counters.rotations, 4);
        }
    }

    #[test]
    fn half_an_entry_of_a_killed_writer_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        for (content, kept) in
            [("", ""), ("{\"log\":\"a", ""), ("{\"log\":\"a\\n\"}\n{\"lo", "{\"log\":\"a\\n\"}\n")]
        {
            fs::write(&path, content).unwrap();
            log(&path, 1_000_000, None);
            assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        }
        let long = format!("{{}}\n{}", "x".repeat(200_000));
        fs::write(&path, long).unwrap();
        log(&path, 1_000_000, None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_how_many() {
        // /dev/full takes nothing, as a disk without space.
        let mut log = JsonFile::new(options(Path::new("/dev/full"), 1_000_000, None));
        log.file = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
        push(&mut log, "one\n");
        push(&mut log, "two\n");
        log.flush();
        push(&mut log, "three\n");
        log.flush();
        assert_eq!((log.counters.entries, log.counters.lost), (0, 3));
        assert!(log.counters.last_error.as_deref().unwrap().contains("No space left"));

        let dir = tempfile::tempdir().unwrap();
        log.options.path = dir.path().join("c-json.log");
        log.open().unwrap();
        push(&mut log, "four\n");
        log.flush();
        let got = texts(&log.options.path);
        assert!(got[0].starts_with(
            "nerdctld: 3 lines of output could not be written to the log: No space left"
        ));
        assert_eq!(got[1..], ["four\n"]);
        push(&mut log, "five\n");
        log.flush();
        assert_eq!(texts(&log.options.path).len(), 3, "it is told once");
    }

    #[test]
    fn a_vanished_directory_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state").join("c-json.log");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let mut log = log(&path, 150, Some(2));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        for _ in 0..4 {
            push(&mut log, "the rotation cannot rename what is gone, and goes on where it is\n");
            log.flush();
        }
        assert_eq!(log.counters.entries, 4);
        assert!(
            log.counters.last_error.as_deref().unwrap().starts_with("the log could not be rotated")
        );
    }
}
