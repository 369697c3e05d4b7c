//! Stored output: json-files (ours, nerdctl's), and Kubernetes' logs, with what rotation has put aside.
//!
//! A log is read in blocks on a thread for blocking work and handed on in batches, a block each, so memory is bounded
//! and a reader that goes away stops everything. Following costs nothing while nothing is written: the container's I/O
//! monitor tells when its log has grown; only logs that other programs write are looked at ten times a second.
//!
//! | Question | Answer (moby `daemon/logs.go`, `daemon/logger/loggerutils`) |
//! |---|---|
//! | `tail` | entries of both streams together, before the choice of stream and times |
//! | `since`, `until` | to the nanosecond, both inclusive |
//! | `follow` on what does not run | is ignored |
//! | end of following | the container's end, after its last entry |
//! | no log yet | nothing, no error |

mod cri_line;
mod files;
mod follow;
mod json_line;
mod reader;
mod stamp;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream;
use io_monitor::frames::LogMark;
use jiff::Timestamp;

pub use io_monitor::frames::Stream as OutputStream;

use super::{Container, LogSource, Phase};
use crate::inventory::Entry;
use crate::waiting::try_blocking;
use crate::{Engine, Error, Result};
use follow::Follower;
use reader::{Format, LogReader};

/// Which entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Entries of stdout (all of a terminal's).
    pub stdout: bool,
    /// Entries of stderr.
    pub stderr: bool,
    /// Go on with what comes, until the container ends.
    pub follow: bool,
    /// Only so many of the last entries; `None` for all.
    pub tail: Option<u64>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
}

/// One entry: a line, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Which stream.
    pub stream: OutputStream,
    /// When it was written.
    pub time: Timestamp,
    /// The bytes, with the newline at the end; without one it is a part of a line that the next entry continues.
    pub line: Bytes,
    /// What the log options `labels`, `env` and `tag` added; entries of one container mostly share them.
    pub attributes: Option<Attributes>,
}

/// Attributes of an entry.
pub type Attributes = Arc<BTreeMap<String, String>>;

/// Entries of one block of the log, in order; never empty.
pub type LogBatch = Vec<LogEntry>;

/// A container's entries.
pub struct ContainerLogs {
    /// The container has a terminal: the edge sends its output without frames.
    pub tty: bool,
    /// The entries. Dropping it ends the reading.
    pub batches: Pin<Box<dyn Stream<Item = Result<LogBatch>> + Send>>,
}

impl std::fmt::Debug for ContainerLogs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerLogs").field("tty", &self.tty).finish_non_exhaustive()
    }
}

impl Engine {
    /// A container's stored output, and what comes if it is followed.
    ///
    /// # Errors
    /// [`Error::NoStreamSelected`], [`Error::LogsOfDead`], [`Error::LogsUnreadable`], [`Error::NoSuchContainer`]; [`Error::Failed`] if
    /// the log cannot be opened. One that cannot be read further is an error in the stream.
    pub async fn container_logs(&self, typed: &str, options: LogOptions) -> Result<ContainerLogs> {
        if !options.stdout && !options.stderr {
            return Err(Error::NoStreamSelected);
        }
        let mut entry = self.resolve_entry(typed).await?;
        if options.follow {
            // A run that another program has just begun is followed, too.
            let known = Arc::clone(&entry.container);
            self.up_to_date(known, Phase::counts_as_running).await;
            entry = self.resolve_entry(entry.container.id.as_str()).await?;
        }
        let container = &entry.container;
        if matches!(container.state.phase, Phase::Removing | Phase::Dead) {
            return Err(Error::LogsOfDead);
        }
        Ok(ContainerLogs {
            tty: container.tty,
            batches: self.read_logs(&entry, options, None).await?,
        })
    }

    /// The entries of a container's log, up to `mark` if one is given. What "the last" and "from now on" mean is settled
    /// before this returns.
    pub(crate) async fn read_logs(
        &self,
        entry: &Arc<Entry>,
        options: LogOptions,
        mark: Option<LogMark>,
    ) -> Result<Pin<Box<dyn Stream<Item = Result<LogBatch>> + Send>>> {
        let (path, format) = place(&entry.container)?;
        let follows = options.follow && entry.container.state.phase.counts_as_running();
        let options = LogOptions { follow: follows, ..options };
        let doing = format!("open the log of container {}", entry.container.id);
        let open = move || LogReader::open(path, format, options, mark);
        let reader = try_blocking(doing, open).await?;
        let news = follows.then(|| self.log_news(entry, options.until));
        let follower = Follower::new(reader, news, entry.container.id.clone());
        Ok(Box::pin(stream::unfold(follower, |mut follower| async move {
            let batch = follower.next().await?;
            Some((batch, follower))
        })))
    }
}

fn place(container: &Container) -> Result<(PathBuf, Format)> {
    match &container.log {
        LogSource::JsonFile(path) => Ok((path.clone(), Format::Json)),
        LogSource::Cri(path) => Ok((path.clone(), Format::Cri)),
        LogSource::Unreadable => Err(Error::LogsUnreadable),
    }
}
