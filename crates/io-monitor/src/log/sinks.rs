//! Where lines end up: at most one log that is elsewhere, at most one json-file.

use std::io;
use std::time::Instant;

use super::journald::Journald;
use super::json_file::JsonFile;
use super::syslog::Syslog;
use super::{Counters, LogLine, OpenError, TRY_AGAIN};
use crate::frames::LogMark;
use crate::log_config::LogConfig;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Push {
    /// It is written, or counted as lost.
    Taken,
    /// Not now; nothing has changed.
    Busy,
}

/// A log that is elsewhere. Neither ever waits: an error of the kind `WouldBlock` means that a line was not sent.
#[derive(Debug)]
pub(super) enum Remote {
    Journald(Journald),
    Syslog(Box<Syslog>),
}

impl Remote {
    fn open(&mut self) -> Result<(), String> {
        match self {
            Self::Journald(journald) => journald.open(),
            Self::Syslog(syslog) => syslog.open(),
        }
    }

    fn send(&mut self, line: &LogLine<'_>) -> io::Result<()> {
        match self {
            Self::Journald(journald) => journald.send(line),
            Self::Syslog(syslog) => syslog.send(line),
        }
    }

    /// Send what was taken and is not sent yet.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Journald(_) => Ok(()),
            Self::Syslog(syslog) => syslog.flush(),
        }
    }
}

/// All sinks of one log.
#[derive(Debug)]
pub(super) struct Sinks {
    remote: Option<Remote>,
    file: Option<JsonFile>,
    /// Lines that the remote log took or lost.
    sent: Counters,
    dropped: u64,
    /// See [`Sinks::insist`].
    insist_until: Option<Instant>,
}

impl Sinks {
    /// Nothing is open yet.
    pub(super) fn new(config: &LogConfig) -> Self {
        Self {
            remote: config.remote.as_ref().map(super::remote),
            file: config.file.clone().map(JsonFile::new),
            sent: Counters::default(),
            dropped: 0,
            insist_until: None,
        }
    }

    #[cfg(test)]
    pub(super) fn of(remote: Remote) -> Self {
        Self {
            remote: Some(remote),
            file: None,
            sent: Counters::default(),
            dropped: 0,
            insist_until: None,
        }
    }

    pub(super) fn open(&mut self) -> Result<(), OpenError> {
        if let Some(file) = &mut self.file {
            let path = file.path().to_owned();
            file.open().map_err(|error| OpenError::File(path, error))?;
        }
        match &mut self.remote {
            Some(remote) => remote.open().map_err(OpenError::Driver),
            None => Ok(()),
        }
    }

    pub(super) fn push(&mut self, line: &LogLine<'_>) -> Push {
        if let Some(remote) = &mut self.remote {
            let sent = loop {
                match remote.send(line) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let Some(until) = self.insist_until else { return Push::Busy };
                        if Instant::now() >= until {
                            break Err(error);
                        }
                        std::thread::sleep(TRY_AGAIN);
                    }
                    sent => break sent,
                }
            };
            match sent {
                Ok(()) => self.sent.entries += 1,
                Err(error) => {
                    self.sent.lost += 1;
                    self.sent.last_error = Some(error.to_string());
                }
            }
        }
        if let Some(file) = &mut self.file {
            file.push(line.stream, line.bytes, line.time);
        }
        Push::Taken
    }

    pub(super) fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            file.flush();
        }
    }

    /// Wait for a busy sink until then, and lose what it does not take.
    pub(super) fn insist(&mut self, until: Option<Instant>) {
        self.insist_until = until;
    }

    pub(super) fn mark(&self) -> Option<LogMark> {
        self.file.as_ref().and_then(JsonFile::mark)
    }

    /// What cannot be sent counts, even if it can be read in the file.
    pub(super) fn counters(&self) -> Counters {
        let mut file = self.file.as_ref().map(|file| file.counters.clone()).unwrap_or_default();
        if self.remote.is_none() {
            file.lost += self.dropped;
            return file;
        }
        Counters {
            entries: self.sent.entries,
            lost: self.sent.lost.max(file.lost) + self.dropped,
            rotations: file.rotations,
            last_error: self.sent.last_error.clone().or(file.last_error),
        }
    }

    /// Lines that were lost on their way here.
    pub(super) fn add_dropped(&mut self, dropped: u64) {
        self.dropped = dropped;
    }

    /// Everything was pushed.
    pub(super) fn finish(&mut self) {
        self.flush();
        let Some(remote) = &mut self.remote else { return };
        while let Err(error) = remote.flush() {
            let is_over = self.insist_until.is_none_or(|until| Instant::now() >= until);
            if error.kind() != io::ErrorKind::WouldBlock || is_over {
                self.sent.lost += 1;
                self.sent.last_error = Some(error.to_string());
                return;
            }
            std::thread::sleep(TRY_AGAIN);
        }
    }

    /// Wait until rotated files are compressed.
    pub(super) fn settle(self) {
        if let Some(file) = self.file {
            file.settle();
        }
    }
}
