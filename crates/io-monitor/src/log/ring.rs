//! Lines that wait in memory for a thread that writes them: mode `non-blocking`.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::clock::Time;
use super::sinks::{Push, Sinks};
use super::{Counters, LogLine, Part, TRY_AGAIN};
use crate::frames::{LogMark, Stream};

/// How long somebody who attaches waits for the log to catch up with the stream.
const CATCH_UP: Duration = Duration::from_millis(200);

/// What a waiting line costs beside its bytes; empty lines fill a ring as well.
const OVERHEAD: usize = size_of::<Waiting>();

/// A bounded queue, and the thread at its end.
#[derive(Debug)]
pub(super) struct Ring {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Sinks>>,
    most: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Lines came, or the end.
    work: Condvar,
    /// All lines are written.
    done: Condvar,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Waiting>,
    bytes: usize,
    /// The thread has lines in hand.
    busy: bool,
    /// No more will come, and what is here may take until then.
    ends_at: Option<Instant>,
    dropped: u64,
    counters: Counters,
    mark: Option<LogMark>,
}

#[derive(Debug)]
struct Waiting {
    stream: Stream,
    bytes: Box<[u8]>,
    time: Time,
    part: Option<Part>,
}

impl Ring {
    /// Lines of at most `most` bytes wait for `sinks`.
    pub(super) fn new(sinks: Sinks, most: usize) -> Self {
        let state = State { mark: sinks.mark(), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
            news: Arc::new(Notify::new()),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || write_all(&shared, sinks)
        });
        Self { shared, thread: Some(thread), most }
    }

    /// Let a line wait, or drop it if there is no room; a ring that is empty takes any line.
    pub(super) fn push(&self, line: &LogLine<'_>) {
        let mut state = self.shared.state();
        if state.bytes > 0 && state.bytes + line.bytes.len() > self.most {
            state.dropped += 1;
            return;
        }
        state.bytes += line.bytes.len() + OVERHEAD;
        let bytes = line.bytes.into();
        state.queue.push_back(Waiting {
            stream: line.stream,
            bytes,
            time: line.time,
            part: line.part,
        });
        self.shared.work.notify_one();
    }

    /// Where the file ends, once what waits now is in it; if that takes too long, where it ended last.
    pub(super) fn mark(&self) -> Option<LogMark> {
        let unfinished = |state: &mut State| state.busy || !state.queue.is_empty();
        let waited = self.shared.done.wait_timeout_while(self.shared.state(), CATCH_UP, unfinished);
        waited.map(|(state, _)| state.mark).unwrap_or_default()
    }

    pub(super) fn counters(&self) -> Counters {
        let state = self.shared.state();
        let mut counters = state.counters.clone();
        counters.lost += state.dropped;
        counters
    }

    pub(super) fn news(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.news)
    }

    /// Write what waits, at most until `by`.
    pub(super) fn close(mut self, by: Instant) -> Sinks {
        {
            let mut state = self.shared.state();
            state.ends_at = Some(by);
            self.shared.work.notify_one();
        }
        let thread = self.thread.take().map(JoinHandle::join);
        let mut sinks = match thread {
            Some(Ok(sinks)) => sinks,
            // It does not panic; a thread that did has no log to give back.
            _ => Sinks::new(&crate::log_config::LogConfig::default()),
        };
        sinks.add_dropped(self.shared.state().dropped);
        sinks
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take everything that waits; `None` when there will be no more.
    fn take(&self) -> Option<VecDeque<Waiting>> {
        let idle = |state: &mut State| state.queue.is_empty() && state.ends_at.is_none();
        let state = self.work.wait_while(self.state(), idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.queue.is_empty() {
            return None;
        }
        state.busy = true;
        Some(std::mem::take(&mut state.queue))
    }

    fn ends_at(&self) -> Option<Instant> {
        self.state().ends_at
    }
}

fn write_all(shared: &Shared, mut sinks: Sinks) -> Sinks {
    while let Some(lines) = shared.take() {
        for line in &lines {
            write_one(shared, &mut sinks, line);
            shared.state().bytes -= line.bytes.len() + OVERHEAD;
        }
        sinks.flush();
        let mut state = shared.state();
        state.busy = false;
        state.counters = sinks.counters();
        state.mark = sinks.mark();
        drop(state);
        shared.done.notify_all();
        shared.news.notify_one();
    }
    sinks
}

fn write_one(shared: &Shared, sinks: &mut Sinks, waiting: &Waiting) {
    let Waiting { stream, bytes, time, part } = waiting;
    let line = LogLine { stream: *stream, bytes, time: *time, part: *part };
    while sinks.push(&line) == Push::Busy {
        if let Some(by) = shared.ends_at() {
            sinks.insist(Some(by));
        } else {
            std::thread::sleep(TRY_AGAIN);
        }
    }
}
