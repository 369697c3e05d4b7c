//! The log of one container: a json-file, a log that is elsewhere, or both, written at once or from a ring in memory.
//!
//! ```text
//!  pieces of lines ──► Log ──► Sinks ──► journald or syslog, then json-file      (mode blocking)
//!                          └─► Ring ──► a thread ──► Sinks                       (mode non-blocking)
//! ```
//!
//! *Blocking*: what a sink does not take stays in the container's pipe ([`Log::push`] says so), so a killed monitor loses
//! nothing of it, and the container waits once its pipe is full. *Non-blocking*: the container never waits; what does not
//! fit into the ring is dropped and counted, the newest first, as dockerd does (moby `daemon/logger/ring.go`).

mod clock;
mod journald;
mod json_file;
mod ring;
mod rotation;
mod sinks;
mod syslog;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::frames::{LogMark, Stream};
use crate::lines::Piece;
use crate::log_config::{LogConfig, RemoteOptions};
use clock::{Clock, Time};
use ring::Ring;
pub use rotation::COMPRESSED_FROM;
use sinks::{Push, Sinks};

/// How long a log that is elsewhere may keep the end of a container waiting.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How soon a sink that takes nothing now is tried again.
pub(crate) const TRY_AGAIN: Duration = Duration::from_millis(2);

/// What [`crate::frames::Stats`] tells about the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) entries: u64,
    pub(crate) lost: u64,
    pub(crate) rotations: u64,
    pub(crate) last_error: Option<String>,
}

/// A log that cannot be opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The file.
    File(PathBuf, io::Error),
    /// What is elsewhere, in Docker's words.
    Driver(String),
}

/// One line, or a part of a long one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLine<'a> {
    stream: Stream,
    /// With its newline, if it has one.
    bytes: &'a [u8],
    time: Time,
    part: Option<Part>,
}

/// Which part of a long line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Of which long line; counts them.
    line: u64,
    /// From 1 on.
    ordinal: u32,
    is_last: bool,
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    clock: Clock,
    /// The line that is being written in parts, of stdout and stderr.
    begun: [BegunLine; 2],
    long_lines: u64,
    has_file: bool,
    writer: Writer,
}

#[derive(Clone, Copy, Debug, Default)]
struct BegunLine {
    time: Time,
    number: u64,
    parts: u32,
}

#[derive(Debug)]
enum Writer {
    Direct(Box<Sinks>),
    Ring(Ring),
}

impl Log {
    /// Open what `config` says; `None` if nothing is kept.
    ///
    /// A log that cannot be opened is tried again at every line; whether that will do is for the caller to say.
    pub(crate) fn open(config: &LogConfig) -> (Option<Self>, Result<(), OpenError>) {
        if *config == LogConfig::default() || (config.file.is_none() && config.remote.is_none()) {
            return (None, Ok(()));
        }
        let mut sinks = Sinks::new(config);
        let opened = sinks.open();
        let writer = match config.ring {
            None => Writer::Direct(Box::new(sinks)),
            Some(size) => Writer::Ring(Ring::new(sinks, size)),
        };
        let log = Self {
            clock: Clock::default(),
            begun: [BegunLine::default(); 2],
            long_lines: 0,
            has_file: config.file.is_some(),
            writer,
        };
        (Some(log), opened)
    }

    /// There is a json-file.
    pub(crate) fn has_file(&self) -> bool {
        self.has_file
    }

    /// Add a piece. `false`: not now; nothing has changed, and the same piece must come again.
    pub(crate) fn push(&mut self, stream: Stream, piece: &Piece<'_>) -> bool {
        let begun = &self.begun[stream as usize];
        let line = if piece.continues {
            BegunLine { parts: begun.parts + 1, ..*begun }
        } else {
            BegunLine { time: self.clock.now(), number: self.long_lines + 1, parts: 1 }
        };
        let is_part = piece.continues || !piece.ends;
        let part =
            is_part.then_some(Part { line: line.number, ordinal: line.parts, is_last: piece.ends });
        let bytes = piece.bytes;
        let taken = match &mut self.writer {
            Writer::Direct(sinks) => {
                sinks.push(&LogLine { stream, bytes, time: line.time, part }) == Push::Taken
            }
            Writer::Ring(ring) => {
                ring.push(&LogLine { stream, bytes, time: line.time, part });
                true
            }
        };
        if taken {
            if is_part && !piece.continues {
                self.long_lines += 1;
            }
            self.begun[stream as usize] = line;
        }
        taken
    }

    /// Everything that was read in one go has been pushed: write it.
    pub(crate) fn flush(&mut self) {
        self.clock.pass();
        if let Writer::Direct(sinks) = &mut self.writer {
            sinks.flush();
        }
    }

    /// Where the file ends, with everything in it that was pushed.
    pub(crate) fn mark(&mut self) -> Option<LogMark> {
        match &mut self.writer {
            Writer::Direct(sinks) => sinks.mark(),
            Writer::Ring(ring) => ring.mark(),
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        match &self.writer {
            Writer::Direct(sinks) => sinks.counters(),
            Writer::Ring(ring) => ring.counters(),
        }
    }

    /// Rings when lines have been written that were not when they were pushed.
    pub(crate) fn news(&self) -> Option<Arc<Notify>> {
        match &self.writer {
            Writer::Direct(_) => None,
            Writer::Ring(ring) => Some(ring.news()),
        }
    }

    /// Add a piece, if need be after waiting until `by`; then it is lost.
    pub(crate) fn push_by(&mut self, stream: Stream, piece: &Piece<'_>, by: Instant) {
        if let Writer::Direct(sinks) = &mut self.writer {
            sinks.insist(Some(by));
        }
        self.push(stream, piece);
        if let Writer::Direct(sinks) = &mut self.writer {
            sinks.insist(None);
        }
    }

    /// Write what is left. What goes on after that (compression of rotated files) ends with [`Closed`].
    pub(crate) fn close(self) -> Closed {
        let mut sinks = match self.writer {
            Writer::Direct(sinks) => *sinks,
            Writer::Ring(ring) => ring.close(last_words()),
        };
        sinks.insist(Some(last_words()));
        sinks.finish();
        Closed { sinks }
    }
}

/// A log whose last line is written.
#[derive(Debug)]
pub(crate) struct Closed {
    sinks: Sinks,
}

impl Closed {
    /// The final count.
    pub(crate) fn counters(&self) -> Counters {
        self.sinks.counters()
    }

    /// Wait until rotated files are compressed.
    pub(crate) fn settle(self) {
        self.sinks.settle();
    }
}

/// Until when a log that is elsewhere may keep the end of a container waiting that begins now.
pub(crate) fn last_words() -> Instant {
    Instant::now() + LAST_WORDS
}

fn remote(options: &RemoteOptions) -> sinks::Remote {
    match options {
        RemoteOptions::Journald { fields } => {
            sinks::Remote::Journald(journald::Journald::new(journald::SOCKET, fields))
        }
        RemoteOptions::Syslog { options, tag } => {
            sinks::Remote::Syslog(Box::new(syslog::Syslog::new(options.clone(), tag.clone())))
        }
    }
}

#[cfg(test)]
mod tests;
