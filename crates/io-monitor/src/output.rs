//! From the pipes to the log and the clients: look, hand out, log, and only then take out of the pipe.
//!
//! Everything here is synchronous, so one step cannot be interrupted by a request: whoever attaches does so between two
//! steps and gets each byte once, from the log or from the stream.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::clients::{Client, Clients};
use crate::frames::LogMark;
use crate::lines::Cutter;
use crate::log::{self, Closed, Log};
use crate::source::{Peeker, Source};

/// How long the beginning of a line stays in the pipe while no more comes. A writer may wait for room meanwhile (many
/// tiny zero-copy writes fill a pipe's slots long before its bytes), so this is short.
const LINGER: Duration = Duration::from_millis(200);

/// The most steps of one sweep: a process that writes without end must not keep the monitor from ending.
const SWEEP: usize = 64;

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// New bytes, and there are more.
    Progress,
    /// New bytes, and that was all for now.
    Drained,
    /// Nothing new.
    Idle,
    /// Nothing more will come.
    Ended,
}

/// All streams of a container, and its log.
#[derive(Debug)]
pub(crate) struct Output {
    streams: Vec<StreamState>,
    log: Option<Log>,
    peeker: Peeker,
    /// Bytes of output so far.
    pub(crate) bytes: u64,
    /// A pipe that could not be read.
    pub(crate) last_error: Option<String>,
}

#[derive(Debug)]
struct StreamState {
    source: Source,
    cutter: Cutter,
    /// Bytes still in the pipe that clients have got already.
    handed_out: usize,
    /// When those came, if there are any.
    waiting_since: Option<Instant>,
    /// The log was busy, and there are whole lines for it.
    log_is_busy: bool,
    ended: bool,
}

impl Output {
    pub(crate) fn new(sources: Vec<Source>, log: Option<Log>) -> io::Result<Self> {
        let streams = sources.into_iter().map(StreamState::new).collect();
        Ok(Self { streams, log, peeker: Peeker::new()?, bytes: 0, last_error: None })
    }

    /// The log, until it is closed.
    pub(crate) fn log(&self) -> Option<&Log> {
        self.log.as_ref()
    }

    pub(crate) fn has_ended(&self, index: usize) -> bool {
        self.streams.get(index).is_none_or(|stream| stream.ended)
    }

    pub(crate) fn all_ended(&self) -> bool {
        self.streams.iter().all(|stream| stream.ended)
    }

    /// Handle what is new in one stream, and what a busy log left.
    pub(crate) fn step(&mut self, index: usize, clients: &Clients) -> Step {
        let Some(stream) = self.streams.get_mut(index).filter(|stream| !stream.ended) else {
            return Step::Ended;
        };
        let mut count = peek(&mut self.peeker, stream, &mut self.last_error);
        let is_news = |stream: &StreamState, count| count > stream.handed_out || stream.log_is_busy;
        if !is_news(stream, count) {
            if !stream.source.hung_up() {
                return Step::Idle;
            }
            // Bytes may have come between the look and the hang-up.
            count = peek(&mut self.peeker, stream, &mut self.last_error);
            if !is_news(stream, count) {
                stream.handed_out = stream.handed_out.min(count);
                self.finish(index);
                return Step::Ended;
            }
        }
        let fresh = self.peeker.seen(count).get(stream.handed_out..).unwrap_or_default();
        self.bytes += u64::try_from(fresh.len()).unwrap_or_default();
        clients.fan_out(stream.source.stream, fresh);
        self.log_seen(index, count, clients);
        let stream = &self.streams[index];
        if stream.log_is_busy {
            return Step::Idle;
        }
        // Asking is cheaper than looking again, and what comes later makes the pipe ready again.
        let pipe = stream.source.fd.get_ref();
        if Peeker::has_more_than(pipe, stream.handed_out) { Step::Progress } else { Step::Drained }
    }

    /// Whether a stream waits for the log: then it is [`Output::take_overdue`] that goes on with it.
    pub(crate) fn waits_for_log(&self, index: usize) -> bool {
        self.streams.get(index).is_some_and(|stream| stream.log_is_busy)
    }

    /// Log the whole entries among the `count` bytes seen, and take those out of the pipe.
    fn log_seen(&mut self, index: usize, count: usize, clients: &Clients) {
        let stream = &mut self.streams[index];
        let data = self.peeker.seen(count);
        let mut used = count;
        if let Some(log) = &mut self.log {
            let mut busy = false;
            used = stream.cutter.cut(data, |piece| {
                busy = !log.push(stream.source.stream, &piece);
                !busy
            });
            stream.log_is_busy = busy;
            log.flush();
            if used > 0 {
                clients.tell_logged();
            }
            // A line of which we cannot see the end without making room first.
            if used == 0 && !busy && Peeker::has_more_than(stream.source.fd.get_ref(), count) {
                stream.cutter.take(data);
                used = count;
            }
        }
        self.take_out(index, count, used);
    }

    fn take_out(&mut self, index: usize, count: usize, used: usize) {
        let stream = &mut self.streams[index];
        if let Err(error) = self.peeker.consume(stream.source.fd.get_ref(), used) {
            self.last_error = Some(error.to_string());
        }
        stream.handed_out = count - used;
        stream.waiting_since = (stream.handed_out > 0).then(Instant::now);
    }

    /// When the beginning of a line must be taken out of a pipe.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.streams.iter().filter_map(StreamState::deadline).min()
    }

    /// Take the beginnings of lines that waited long enough into memory, and give a busy log what it would not take.
    pub(crate) fn take_overdue(&mut self, clients: &Clients) {
        if self.next_deadline().is_none_or(|deadline| deadline > Instant::now()) {
            return;
        }
        let now = Instant::now();
        for index in 0..self.streams.len() {
            let overdue = self.streams[index].deadline().is_some_and(|deadline| deadline <= now);
            if !overdue {
                continue;
            }
            let step = self.sweep_one(index, clients);
            let stream = &mut self.streams[index];
            if step == Step::Progress {
                // Its readiness may have been used up.
                stream.waiting_since = Some(now);
            } else if step == Step::Idle && !stream.log_is_busy {
                let count = stream.handed_out;
                stream.cutter.take(self.peeker.seen(count));
                self.take_out(index, count, count);
            }
        }
    }

    /// Where the log is.
    pub(crate) fn log_mark(&mut self) -> Option<LogMark> {
        self.log.as_mut().and_then(Log::mark)
    }

    /// Send a new client the beginnings of unfinished lines, which are not in the log yet.
    pub(crate) fn catch_up(&mut self, client: &Client) {
        for stream in self.streams.iter().filter(|stream| !stream.ended) {
            let count = self.peeker.peek(stream.source.fd.get_ref()).unwrap_or_default();
            let mut begun = stream.cutter.carried().to_vec();
            begun.extend_from_slice(self.peeker.seen(count.min(stream.handed_out)));
            client.tell(stream.source.stream, &begun);
        }
    }

    /// Read everything that is there now, writers or not.
    pub(crate) fn sweep(&mut self, clients: &Clients) {
        for index in 0..self.streams.len() {
            self.sweep_one(index, clients);
        }
    }

    /// Steps until there are no more; [`Step::Progress`] if there still may be.
    fn sweep_one(&mut self, index: usize, clients: &Clients) -> Step {
        let steps = (0..SWEEP).map(|_| self.step(index, clients));
        steps.into_iter().find(|step| *step != Step::Progress).unwrap_or(Step::Progress)
    }

    /// One stream has ended: log the unfinished line.
    fn finish(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        if stream.ended {
            return;
        }
        stream.ended = true;
        let count = stream.handed_out;
        if let Some(log) = &mut self.log {
            let rest = self.peeker.seen(count);
            let by = log::last_words();
            stream.cutter.finish(rest, |piece| log.push_by(stream.source.stream, &piece, by));
            stream.log_is_busy = false;
            log.flush();
        }
        self.take_out(index, count, count);
        self.streams[index].waiting_since = None;
    }

    /// Nothing more will be read: log the unfinished lines, and close the log.
    pub(crate) fn close(&mut self) -> Option<Closed> {
        for index in 0..self.streams.len() {
            let fd = self.streams[index].source.fd.get_ref();
            // The buffer must hold what `finish` expects there.
            let seen = self.peeker.peek(fd).unwrap_or_default();
            self.streams[index].handed_out = self.streams[index].handed_out.min(seen);
            self.finish(index);
        }
        self.log.take().map(Log::close)
    }
}

impl StreamState {
    fn new(source: Source) -> Self {
        Self {
            source,
            cutter: Cutter::default(),
            handed_out: 0,
            waiting_since: None,
            log_is_busy: false,
            ended: false,
        }
    }

    /// When to look at it again though nothing comes.
    fn deadline(&self) -> Option<Instant> {
        let pause = if self.log_is_busy { log::TRY_AGAIN } else { LINGER };
        self.waiting_since.map(|since| since + pause)
    }
}

/// How many bytes are in a stream's pipe.
fn peek(peeker: &mut Peeker, stream: &StreamState, last_error: &mut Option<String>) -> usize {
    peeker.peek(stream.source.fd.get_ref()).unwrap_or_else(|error| {
        *last_error = Some(error.to_string());
        0
    })
}
