//! A log read block by block, across rotations, and filtered. Synchronous: for a thread that may block.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use flate2::read::GzDecoder;
use io_monitor::frames::LogMark;
use jiff::Timestamp;

use super::files::LogFile;
use super::json_line::AttributeCache;
use super::stamp::Stamps;
use super::{Attributes, LogBatch, LogEntry, LogOptions, OutputStream, cri_line, files, json_line};

/// What is read in one go; a batch has the entries of one block.
const BLOCK: usize = 256 * 1024;

/// A longer line is no log entry of any writer we know, and is skipped.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// How entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Docker's and nerdctl's.
    Json,
    /// Kubernetes'.
    Cri,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Some entries; there may be more.
    Entries(LogBatch),
    /// There are no more now.
    AtEnd,
    /// There will be no more that are wanted.
    Over,
}

/// Reads one log.
#[derive(Debug)]
pub(super) struct LogReader {
    path: PathBuf,
    format: Format,
    options: LogOptions,
    /// Not further than this.
    stop: Option<LogMark>,
    over: bool,
    open: Option<OpenFile>,
    /// Starts with `carried` bytes of an unfinished line.
    buffer: Vec<u8>,
    carried: usize,
    /// In the middle of a line that is too long.
    skipping: bool,
    /// When the reading began: in a compressed file, where the mark has lost its place, what is younger is behind it.
    began: Timestamp,
    memory: Memory,
}

/// What many lines have in common.
#[derive(Debug, Default)]
struct Memory {
    stamps: Stamps,
    attributes: AttributeCache,
}

/// The file that is being read.
#[derive(Debug)]
struct OpenFile {
    content: Content,
    path: PathBuf,
    /// Of a compressed file its own, which is no place that a mark could name.
    inode: u64,
    offset: u64,
    /// It was seen rotated: what is in it now is all.
    is_complete: bool,
}

#[derive(Debug)]
enum Content {
    Plain(File),
    Compressed(Box<GzDecoder<File>>),
}

impl LogReader {
    /// Find the place to begin. Without `follow`, and without a `mark`, what is written from now on does not count.
    pub(super) fn open(
        path: PathBuf,
        format: Format,
        options: LogOptions,
        mark: Option<LogMark>,
    ) -> io::Result<Self> {
        let mut reader = Self {
            path,
            format,
            options,
            stop: mark,
            over: false,
            open: None,
            buffer: Vec::new(),
            carried: 0,
            skipping: false,
            began: Timestamp::now(),
            memory: Memory::default(),
        };
        reader.begin()?;
        Ok(reader)
    }

    /// The next entries.
    pub(super) fn read(&mut self) -> io::Result<Block> {
        loop {
            if self.over {
                return Ok(Block::Over);
            }
            let count = self.fill()?;
            if count > 0 {
                let batch = self.parse(count);
                if !batch.is_empty() {
                    return Ok(Block::Entries(batch));
                }
            } else if self.is_at_stop() {
                self.over = true;
            } else if !self.go_on()? {
                self.release();
                return Ok(Block::AtEnd);
            }
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let files = files::list(&self.path, self.format)?;
        let Some(newest) = files.len().checked_sub(1) else {
            return Ok(());
        };
        let (index, offset) = match (self.options.tail, self.options.since) {
            (Some(count), _) => files::tail(&files, count)?,
            (None, Some(since)) => {
                let since = SystemTime::from(since);
                (files.iter().position(|file| file.modified >= since).unwrap_or(newest), 0)
            }
            (None, None) => (0, 0),
        };
        for (at, file) in files.iter().enumerate().skip(index) {
            self.open = OpenFile::at(file, if at == index { offset } else { 0 })?;
            // A file that was pruned meanwhile is skipped.
            if self.open.is_some() {
                break;
            }
        }
        if !self.options.follow && self.stop.is_none() {
            self.stop = fs::metadata(&self.path)
                .ok()
                .map(|metadata| LogMark { inode: metadata.ino(), offset: metadata.len() });
        }
        Ok(())
    }

    /// Read a block behind what is carried; returns how many bytes came.
    fn fill(&mut self) -> io::Result<usize> {
        let Some(open) = &mut self.open else {
            return Ok(0);
        };
        let mut most = BLOCK;
        if let Some(stop) = self.stop.filter(|stop| open.is(stop.inode)) {
            most =
                most.min(usize::try_from(stop.offset.saturating_sub(open.offset)).unwrap_or(BLOCK));
        }
        if let Content::Plain(file) = &open.content {
            let left = file.metadata()?.len().saturating_sub(open.offset);
            most = most.min(usize::try_from(left).unwrap_or(BLOCK));
        }
        if most == 0 {
            return Ok(0);
        }
        if self.buffer.len() < self.carried + most {
            self.buffer.resize(self.carried + most, 0);
        }
        open.read(&mut self.buffer[self.carried..self.carried + most])
    }

    /// Whoever follows an idle log keeps no block for it.
    fn release(&mut self) {
        self.buffer.truncate(self.carried);
        self.buffer.shrink_to_fit();
    }

    fn is_at_stop(&self) -> bool {
        match (self.stop, &self.open) {
            (Some(stop), Some(open)) => open.is(stop.inode) && open.offset >= stop.offset,
            _ => false,
        }
    }

    /// At the end of a file: go to the next, or see that there is none.
    fn go_on(&mut self) -> io::Result<bool> {
        let current = fs::metadata(&self.path).ok();
        if let (Some(open), Some(current)) = (&mut self.open, &current)
            && open.is(current.ino())
        {
            let was_truncated = current.len() < open.offset;
            if was_truncated {
                open.offset = 0;
                self.carried = 0;
            }
            return Ok(was_truncated);
        }
        let files = files::list(&self.path, self.format)?;
        let next = match &mut self.open {
            None => files.first(),
            Some(open) => match open.find(&files) {
                Some(index) => files.get(index + 1),
                // Pruned while we read it; all that is left is newer.
                None => files.first(),
            },
        };
        let Some(next) = next else {
            return Ok(false);
        };
        if let Some(open) = self.open.as_mut().filter(|open| !open.is_complete) {
            // Something may have come between our last read and the rotation.
            open.is_complete = true;
            return Ok(true);
        }
        let Some(open) = OpenFile::at(next, 0)? else {
            return Ok(false);
        };
        self.open = Some(open);
        self.carried = 0;
        self.skipping = false;
        Ok(true)
    }

    /// The entries of the lines that are whole now that `count` bytes came.
    fn parse(&mut self, count: usize) -> LogBatch {
        let filled = self.carried + count;
        let mut batch = Batch::new(count);
        let mut options = self.options;
        if self.stop.is_some() && self.open.as_ref().is_some_and(OpenFile::is_compressed) {
            options.until = Some(options.until.map_or(self.began, |until| until.min(self.began)));
        }
        let mut start = 0;
        // What is carried has no newline; do not look at it again.
        let mut from = self.carried;
        while let Some(at) = memchr::memchr(b'\n', &self.buffer[from..filled]) {
            let end = from + at;
            let line = &self.buffer[start..end];
            if !std::mem::take(&mut self.skipping)
                && !batch.add(line, self.format, &options, &mut self.memory)
            {
                self.over = true;
                break;
            }
            start = end + 1;
            from = start;
        }
        self.buffer.copy_within(start..filled, 0);
        self.carried = filled - start;
        if self.carried > LONGEST_LINE {
            self.carried = 0;
            self.skipping = true;
            self.buffer = Vec::new();
        }
        batch.finish()
    }
}

impl OpenFile {
    /// `None` if the file is not there any more.
    fn at(found: &LogFile, offset: u64) -> io::Result<Option<Self>> {
        let file = match File::open(&found.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let inode = file.metadata()?.ino();
        let is_complete = found.is_compressed;
        let content = if found.is_compressed {
            let mut decoder = GzDecoder::new(file);
            io::copy(&mut decoder.by_ref().take(offset), &mut io::sink())?;
            Content::Compressed(Box::new(decoder))
        } else {
            Content::Plain(file)
        };
        Ok(Some(Self { content, path: found.path.clone(), inode, offset, is_complete }))
    }

    fn is_compressed(&self) -> bool {
        matches!(self.content, Content::Compressed(_))
    }

    /// Whether it is the file with that inode, as marks name it.
    fn is(&self, inode: u64) -> bool {
        self.inode == inode && !self.is_compressed()
    }

    /// Where it is in `files` by now.
    fn find(&self, files: &[LogFile]) -> Option<usize> {
        match self.content {
            Content::Plain(_) => files::find(files, self.inode),
            Content::Compressed(_) => files.iter().position(|file| file.path == self.path),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.content {
            Content::Plain(file) => file.read_at(buffer, self.offset)?,
            Content::Compressed(decoder) => decoder.read(buffer)?,
        };
        self.offset += u64::try_from(count).unwrap_or_default();
        Ok(count)
    }
}

/// Entries whose texts share one allocation.
struct Batch {
    text: Vec<u8>,
    entries: Vec<(OutputStream, Timestamp, usize, Option<Attributes>)>,
}

impl Batch {
    fn new(bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), entries: Vec::new() }
    }

    /// Add a line if it is wanted. `false`: it is after `until`, and so is all that follows.
    fn add(
        &mut self,
        line: &[u8],
        format: Format,
        options: &LogOptions,
        memory: &mut Memory,
    ) -> bool {
        let start = self.text.len();
        let Memory { stamps, attributes } = memory;
        let parsed = match format {
            Format::Json => json_line::parse(line, &mut self.text, stamps, attributes),
            Format::Cri => cri_line::parse(line, &mut self.text, stamps)
                .map(|(stream, time)| (stream, time, None)),
        };
        let Some((stream, time, attributes)) = parsed else {
            return true;
        };
        if options.until.is_some_and(|until| time > until) {
            self.text.truncate(start);
            return false;
        }
        let is_chosen = match stream {
            OutputStream::Stdout => options.stdout,
            OutputStream::Stderr => options.stderr,
        };
        if is_chosen && options.since.is_none_or(|since| time >= since) && self.text.len() > start {
            self.entries.push((stream, time, self.text.len(), attributes));
        } else {
            self.text.truncate(start);
        }
        true
    }

    fn finish(self) -> LogBatch {
        let text = Bytes::from(self.text);
        let mut start = 0;
        let entry = |(stream, time, end, attributes)| {
            let line = text.slice(start..end);
            start = end;
            LogEntry { stream, time, line, attributes }
        };
        self.entries.into_iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests;
