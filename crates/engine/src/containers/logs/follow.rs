//! Following a log: read to its end, wait for news, read again, until the container's run has ended.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use io_monitor::client::{AttachEvent, AttachReader, Monitor};
use io_monitor::frames::AttachRequest;
use jiff::Timestamp;
use names::ContainerId;
use rustix::fs::FlockOperation;
use tokio::sync::watch;

use super::LogBatch;
use super::reader::{Block, LogReader};
use crate::containers::{LogSource, Owner, State};
use crate::inventory::Entry;
use crate::{Engine, Error, Result};

/// How often a log is looked at that nobody tells us about.
const POLL: Duration = Duration::from_millis(100);

/// How often, to be safe, if somebody does.
const LOOK: Duration = Duration::from_secs(2);

/// How long another program's logger may go on after the end of its container.
const SETTLE: Duration = Duration::from_secs(3);

/// How long one that cannot be watched is given.
const SETTLE_BLINDLY: Duration = Duration::from_millis(200);

/// A reader, and what makes it go on.
#[derive(Debug)]
pub(super) struct Follower {
    /// Taken while it reads, and when it is done.
    reader: Option<LogReader>,
    news: Option<LogNews>,
    id: ContainerId,
    ended: bool,
}

impl Follower {
    /// Without `news` the end of the log is the end.
    pub(super) fn new(reader: LogReader, news: Option<LogNews>, id: ContainerId) -> Self {
        Self { reader: Some(reader), news, id, ended: false }
    }

    /// The next entries; `None` at the end, and after an error.
    pub(super) async fn next(&mut self) -> Option<Result<LogBatch>> {
        loop {
            let mut reader = self.reader.take()?;
            let failed =
                |source| Error::failed(format!("read the log of container {}", self.id), source);
            let read = tokio::task::spawn_blocking(move || {
                let block = reader.read();
                (reader, block)
            });
            let (reader, block) = match read.await {
                Ok(outcome) => outcome,
                Err(error) => return Some(Err(failed(crate::error::Cause::from(error)))),
            };
            match block {
                Ok(Block::Entries(batch)) => {
                    self.reader = Some(reader);
                    return Some(Ok(batch));
                }
                Ok(Block::AtEnd) if !self.ended => {
                    self.ended = self.news.as_mut()?.wait().await == News::Ended;
                    self.reader = Some(reader);
                }
                Ok(Block::AtEnd | Block::Over) => return None,
                Err(error) => return Some(Err(failed(error.into()))),
            }
        }
    }
}

/// What was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// There may be more.
    More,
    /// What is in the log now is all that will be.
    Ended,
}

/// Tells when it is worth while to look at a log again.
#[derive(Debug)]
pub(super) struct LogNews {
    socket: PathBuf,
    monitor: Option<AttachReader>,
    /// The monitor said that its log is complete.
    is_complete: bool,
    states: watch::Receiver<State>,
    at_first: State,
    until: Option<Timestamp>,
    /// The lock that another program's logger holds as long as it writes.
    foreign_lock: Option<PathBuf>,
    is_foreign: bool,
}

impl Engine {
    /// News of the log of a container that runs.
    pub(super) fn log_news(&self, entry: &Arc<Entry>, until: Option<Timestamp>) -> LogNews {
        let container = &entry.container;
        let states = entry.states.clone();
        let at_first = states.borrow().clone();
        let is_foreign = container.owner != Owner::Nerdctld;
        let foreign_lock = match &container.log {
            LogSource::JsonFile(path) if is_foreign => {
                path.parent().map(|dir| dir.join("logger-lock"))
            }
            _ => None,
        };
        LogNews {
            socket: self.stream_paths(&container.id).socket,
            monitor: None,
            is_complete: false,
            states,
            at_first,
            until,
            foreign_lock,
            is_foreign,
        }
    }
}

impl LogNews {
    async fn wait(&mut self) -> News {
        if self.monitor.is_none() && !self.is_complete && self.connect().await {
            // What was written before it heard of us is no news to it.
            return News::More;
        }
        let pause = if self.monitor.is_some() || self.is_complete { LOOK } else { POLL };
        let event = tokio::select! {
            event = next_event(&mut self.monitor) => event,
            () = run_ended(&mut self.states, &self.at_first) => {
                self.settle().await;
                return News::Ended;
            }
            () = reached(self.until) => return News::Ended,
            () = tokio::time::sleep(pause) => return News::More,
        };
        match event {
            Some(AttachEvent::Logged) => {}
            Some(AttachEvent::End(_)) => {
                // All is in the log; the request stays open until the container stops, as with dockerd.
                self.is_complete = true;
                self.monitor = None;
            }
            // Killed: another one comes.
            Some(_) | None => self.monitor = None,
        }
        News::More
    }

    async fn connect(&mut self) -> bool {
        let request = AttachRequest { log_news: true, ..AttachRequest::default() };
        let Ok(monitor) = Monitor::connect(&self.socket).await else {
            return false;
        };
        if !monitor.hello().logs || monitor.hello().ended {
            return false;
        }
        self.monitor = monitor.attach(&request).await.ok().map(|stream| stream.output);
        self.monitor.is_some()
    }

    /// The run has ended. Our own logs are complete before anybody is told; other loggers may still be writing.
    async fn settle(&self) {
        if !self.is_foreign {
            return;
        }
        let Some(lock) = self.foreign_lock.as_ref().and_then(|path| File::open(path).ok()) else {
            return tokio::time::sleep(SETTLE_BLINDLY).await;
        };
        let free = async {
            while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        // Whoever holds it longer is not nerdctl's logger.
        let _ = tokio::time::timeout(SETTLE, free).await;
    }
}

async fn next_event(monitor: &mut Option<AttachReader>) -> Option<AttachEvent> {
    match monitor {
        Some(monitor) => monitor.next().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// The run of `at_first` is over, or the container gone. From back-off, the next run counts.
async fn run_ended(states: &mut watch::Receiver<State>, at_first: &State) {
    let ended = |now: &State| {
        let same_run = now.generation == at_first.generation && now.phase.has_process();
        !now.phase.counts_as_running() || (at_first.phase.has_process() && !same_run)
    };
    // An error means that the container is gone.
    let _ = states.wait_for(ended).await;
}

async fn reached(until: Option<Timestamp>) {
    let Some(until) = until else {
        return std::future::pending().await;
    };
    let rest = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(rest).await;
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::path::Path;

    use super::super::reader::Format;
    use super::super::{LogOptions, OutputStream};
    use super::*;
    use crate::containers::Phase;

    const LIMIT: Duration = Duration::from_secs(20);

    fn running() -> State {
        State { phase: Phase::Running, pid: 1, generation: 1, ..State::created() }
    }

    fn exited() -> State {
        State { phase: Phase::Exited, pid: 0, ..running() }
    }

    fn append(path: &Path, texts: &[&str]) {
        let mut lines = String::new();
        for text in texts {
            let time = Timestamp::now();
            writeln!(lines, r#"{{"log":"{text}\n","stream":"stdout","time":"{time}"}}"#).unwrap();
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap()
            .write_all(lines.as_bytes())
            .unwrap();
    }

    /// A follower of a container that another program logs, and what changes its state.
    fn follower(dir: &Path, until: Option<Timestamp>) -> (Follower, watch::Sender<State>) {
        let (sender, states) = watch::channel(running());
        let options =
            LogOptions { stdout: true, stderr: true, follow: true, until, ..LogOptions::default() };
        let news = LogNews {
            socket: dir.join("no.sock"),
            monitor: None,
            is_complete: false,
            states,
            at_first: running(),
            until,
            foreign_lock: Some(dir.join("logger-lock")),
            is_foreign: true,
        };
        let id = "0".repeat(64).parse().unwrap();
        let reader = LogReader::open(dir.join("log"), Format::Json, options, None).unwrap();
        (Follower::new(reader, Some(news), id), sender)
    }

    async fn texts(follower: &mut Follower, most: usize) -> Vec<String> {
        let mut got = Vec::new();
        while got.len() < most {
            let next = tokio::time::timeout(LIMIT, follower.next()).await.expect("nothing comes");
            let Some(batch) = next else { break };
            for entry in batch.unwrap() {
                assert_eq!(entry.stream, OutputStream::Stdout);
                got.push(String::from_utf8(entry.line.to_vec()).unwrap().trim_end().to_owned());
            }
        }
        got
    }

    #[tokio::test]
    async fn the_last_entry_comes_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, &["one"]);
        let (mut follower, states) = follower(dir.path(), None);
        assert_eq!(texts(&mut follower, 1).await, ["one"]);
        append(&path, &["two"]);
        assert_eq!(texts(&mut follower, 1).await, ["two"]);
        // Another program's logger is still at work when the container has ended.
        let lock = File::create(dir.path().join("logger-lock")).unwrap();
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        states.send(exited()).unwrap();
        let late = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            append(&path, &["late"]);
            drop(lock);
        };
        let (rest, ()) = tokio::join!(texts(&mut follower, usize::MAX), late);
        assert_eq!(rest, ["late"]);
    }

    #[tokio::test]
    async fn the_next_run_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        append(&dir.path().join("log"), &["one"]);
        let (mut follower, states) = follower(dir.path(), None);
        states.send(State { generation: 2, ..running() }).unwrap();
        assert_eq!(texts(&mut follower, usize::MAX).await, ["one"]);
    }

    #[tokio::test]
    async fn a_removed_container_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut follower, states) = follower(dir.path(), None);
        drop(states);
        assert_eq!(texts(&mut follower, usize::MAX).await, [""; 0]);
    }

    #[tokio::test]
    async fn until_ends_it_even_if_nothing_comes() {
        let dir = tempfile::tempdir().unwrap();
        let until = Timestamp::now() + jiff::SignedDuration::from_millis(300);
        let (mut follower, _states) = follower(dir.path(), Some(until));
        append(&dir.path().join("log"), &["in time"]);
        assert_eq!(texts(&mut follower, usize::MAX).await, ["in time"]);
    }
}
