//! nerdctl's json-file: entries, rotation, and what happens when the disk does not take them.
//!
//! The format is nerdctl's, which is Docker's (`nerdctl pkg/logging/jsonfile`, moby `daemon/logger/jsonfilelog`): one JSON
//! object a line, `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}`. Times never repeat or go
//! back within a second, so a reader that goes on after the last time it saw misses nothing.
//!
//! Rotated files are `<file>.<n>`, the highest number being the newest; a new one gets a higher number than any that is
//! there (nerdctl's logger counts up as well, but begins at 1 again in every process and overwrites).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::frames::{LogMark, Stream};
use crate::go_json;
use crate::lines::Piece;
use crate::log_config::JsonFileOptions;

/// A write buffer above this is given back to the system after use.
const KEEP_BUFFER: usize = 128 * 1024;

/// The log of one container.
#[derive(Debug)]
pub(crate) struct JsonFile {
    options: JsonFileOptions,
    file: Option<File>,
    /// Bytes in the current file.
    size: u64,
    /// Bytes that the current file may have; more than the option after a rotation that failed.
    limit: u64,
    /// Encoded entries that are not written yet.
    batch: Vec<u8>,
    batch_entries: u64,
    clock: Clock,
    /// The time of the line that is being written in parts, for stdout and stderr.
    line_times: [Time; 2],
    /// Lost entries that the log does not tell of yet.
    untold: u64,
    pub(crate) counters: Counters,
}

/// What [`crate::frames::Stats`] tells about the log.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) entries: u64,
    pub(crate) lost: u64,
    pub(crate) rotations: u64,
    pub(crate) last_error: Option<String>,
}

impl JsonFile {
    /// Not open yet.
    pub(crate) fn new(options: JsonFileOptions) -> Self {
        let limit = options.max_size;
        Self {
            options,
            file: None,
            size: 0,
            limit,
            batch: Vec::new(),
            batch_entries: 0,
            clock: Clock::default(),
            line_times: [Time::default(); 2],
            untold: 0,
            counters: Counters::default(),
        }
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.options.path
    }

    /// Open or create the file, and cut off half an entry that a killed writer may have left at its end: its bytes are
    /// still in the FIFO, and nerdctl's reader stops at what is no JSON.
    pub(crate) fn open(&mut self) -> io::Result<()> {
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
    pub(crate) fn mark(&self) -> Option<LogMark> {
        let metadata = self.file.as_ref()?.metadata().ok()?;
        Some(LogMark { inode: metadata.ino(), offset: metadata.len() })
    }

    /// Add an entry to the batch.
    pub(crate) fn push(&mut self, stream: Stream, piece: &Piece<'_>) {
        let line_time = &mut self.line_times[stream as usize];
        if !piece.continues {
            *line_time = self.clock.now();
        }
        let time = *line_time;
        let start = self.batch.len();
        self.encode(stream, piece.bytes, time);
        let before = self.size + length(start);
        if before > 0 && self.size + length(self.batch.len()) > self.limit {
            self.rotate_before(start);
        }
        self.batch_entries += 1;
    }

    /// Write the batch, with one system call. What cannot be written is counted and forgotten.
    pub(crate) fn flush(&mut self) {
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
        self.batch.extend_from_slice(b"\",\"time\":\"");
        self.clock.format(&mut self.batch, time);
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
        let time = self.clock.now();
        self.encode(Stream::Stderr, text.as_bytes(), time);
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
        let path = &self.options.path;
        let older = rotated(path)?;
        if self.options.max_files == Some(1) {
            fs::remove_file(path)?;
        } else {
            let number = older.iter().map(|file| file.number).max().unwrap_or(0) + 1;
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            fs::rename(path, name)?;
        }
        if let Some(most) = self.options.max_files {
            // The current file and the one just renamed are not in `older`.
            let keep = most.saturating_sub(2);
            for file in &older[..older.len().saturating_sub(keep)] {
                // A file that stays is found again the next time.
                let _ = fs::remove_file(&file.path);
            }
        }
        self.file = None;
        self.size = 0;
        self.open()
    }
}

/// An append that failed.
struct Unwritten {
    /// Bytes that are in the file: whole lines.
    kept: usize,
    source: io::Error,
}

/// A rotated file.
#[derive(Debug)]
struct Rotated {
    path: PathBuf,
    number: u64,
    modified: SystemTime,
}

/// All `<path>.<n>`, oldest first.
fn rotated(path: &Path) -> io::Result<Vec<Rotated>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let mut prefix = OsString::from(name);
    prefix.push(".");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let number = file_name
            .as_bytes()
            .strip_prefix(prefix.as_bytes())
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u64>().ok());
        if let Some(number) = number {
            let modified = entry.metadata()?.modified()?;
            found.push(Rotated { path: entry.path(), number, modified });
        }
    }
    found.sort_by_key(|file| (file.modified, file.number));
    Ok(found)
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

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Time {
    second: i64,
    nanosecond: u32,
}

/// Wall-clock times that do not repeat, and their text; the text of a second is made once.
#[derive(Debug, Default)]
struct Clock {
    last: Time,
    text_of: i64,
    text: String,
}

impl Clock {
    fn now(&mut self) -> Time {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(since_epoch.as_secs()).unwrap_or_default();
        self.after(Time { second, nanosecond: since_epoch.subsec_nanos() })
    }

    /// `now`, or a nanosecond after the last time if that is not before `now`; a clock that was set back is believed.
    fn after(&mut self, now: Time) -> Time {
        let set_back = self.last.second - now.second > 1;
        self.last = if now > self.last || set_back { now } else { self.last.next() };
        self.last
    }

    /// RFC 3339 in UTC without trailing zeros, as Go's `RFC3339Nano`.
    fn format(&mut self, out: &mut Vec<u8>, time: Time) {
        if self.text.is_empty() || self.text_of != time.second {
            let second = Timestamp::from_second(time.second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = second.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            self.text_of = time.second;
        }
        out.extend_from_slice(self.text.as_bytes());
        if time.nanosecond > 0 {
            let mut digits = *b".000000000";
            let mut rest = time.nanosecond;
            for digit in digits[1..].iter_mut().rev() {
                *digit += u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
            let end = digits.iter().rposition(|digit| *digit != b'0').unwrap_or_default();
            out.extend_from_slice(&digits[..=end]);
        }
        out.push(b'Z');
    }
}

impl Time {
    fn next(self) -> Self {
        if self.nanosecond < 999_999_999 {
            Self { nanosecond: self.nanosecond + 1, ..self }
        } else {
            Self { second: self.second + 1, nanosecond: 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn log(path: &Path, max_size: u64, max_files: Option<usize>) -> JsonFile {
        let mut log = JsonFile::new(JsonFileOptions { path: path.to_owned(), max_size, max_files });
        log.open().unwrap();
        log
    }

    fn push(log: &mut JsonFile, text: &str) {
        log.push(Stream::Stdout, &Piece { bytes: text.as_bytes(), continues: false });
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
        log.push(Stream::Stdout, &Piece { bytes: b"<hi>\n", continues: false });
        log.push(Stream::Stderr, &Piece { bytes: b"part", continues: false });
        log.push(Stream::Stdout, &Piece { bytes: b"other\n", continues: false });
        log.push(Stream::Stderr, &Piece { bytes: b" end\n", continues: true });
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
        assert_eq!(time(lines[1]), time(lines[3]), "parts of a line have one time");
        assert!(time(lines[0]).parse::<Timestamp>().unwrap() < time(lines[1]).parse().unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(log.mark().unwrap().offset, length(text.len()));
    }

    #[test]
    fn times_are_gos_and_do_not_repeat() {
        let mut clock = Clock::default();
        let mut text = |second, nanosecond| {
            let mut out = Vec::new();
            clock.format(&mut out, Time { second, nanosecond });
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(1_767_323_045, 123_456_789), "2026-01-02T03:04:05.123456789Z");
        assert_eq!(text(1_767_323_045, 120_000_000), "2026-01-02T03:04:05.12Z");
        assert_eq!(text(1_767_323_045, 0), "2026-01-02T03:04:05Z");
        assert_eq!(text(1_767_323_046, 1), "2026-01-02T03:04:06.000000001Z");

        let mut clock = Clock::default();
        let now = Time { second: 100, nanosecond: 999_999_999 };
        assert_eq!(clock.after(now), now);
        assert_eq!(clock.after(now), Time { second: 101, nanosecond: 0 });
        assert_eq!(clock.after(now), Time { second: 101, nanosecond: 1 });
        let back = Time { second: 50, nanosecond: 0 };
        assert_eq!(clock.after(back), back);
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
        let names: Vec<String> = rotated(&path)
            .unwrap()
            .iter()
            .map(|file| file.path.extension().unwrap().to_str().unwrap().into())
            .collect();
        assert_eq!(names, ["15", "16"]);
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
            assert_eq!(rotated(&path).unwrap().len(), backups);
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
        let mut log = JsonFile::new(JsonFileOptions {
            path: "/dev/full".into(),
            max_size: 1_000_000,
            max_files: None,
        });
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
