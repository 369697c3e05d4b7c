//! Who is connected, what each gets, and whether one of them holds the container back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::frames::{AttachRequest, Drained, End, Kind, Stream};
use crate::outbox::Outbox;

/// Bytes that may wait for one client before the container is held back for it.
pub(crate) const QUEUE_LIMIT: usize = 256 * 1024;

/// The same while draining, when nothing is held back: more than the pipes between process and monitor can hold.
const DRAIN_LIMIT: usize = 4 * 1024 * 1024;

/// How long a client that asked for no output may take to read answers, and one that is cut off to read that.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Connections at once that were sent output or news; who asks for that beyond it is let go.
const MOST: usize = 128;

/// Connections at once that only ask: more are closed right away. The daemon's own questions are few.
const MOST_OTHERS: usize = 128;

/// How far the container's output got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It comes.
    Running,
    /// The process has ended; the rest must come without delay.
    Draining,
    /// All is read.
    Ended,
}

/// What [`Clients::look_after`] found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outlook {
    /// A client that may hold the container back does.
    pub(crate) held_back: bool,
    /// When to look again, if nothing changes before.
    pub(crate) look_again: Option<Instant>,
}

impl Outlook {
    fn look_again(&mut self, at: Option<Instant>) {
        self.look_again = [self.look_again, at].into_iter().flatten().min();
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) outbox: Outbox,
    attached: Cell<Option<AttachRequest>>,
    wants_drained: Cell<bool>,
    cut_off: Cell<bool>,
    /// A [`Kind::Logged`] is queued.
    news_queued: Cell<bool>,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            outbox: Outbox::new(),
            attached: Cell::new(None),
            wants_drained: Cell::new(false),
            cut_off: Cell::new(false),
            news_queued: Cell::new(false),
        }
    }

    /// It took bytes.
    pub(crate) fn took(&self) {
        if self.outbox.len() == 0 {
            self.news_queued.set(false);
        }
    }

    /// Send output from now on.
    pub(crate) fn attach(&self, request: AttachRequest) {
        self.attached.set(Some(request));
    }

    /// Tell it when all is drained.
    pub(crate) fn wait_for_drained(&self) {
        self.wants_drained.set(true);
    }

    fn wants(&self, stream: Stream) -> bool {
        self.attached.get().is_some_and(|request| match stream {
            Stream::Stdout => request.stdout,
            Stream::Stderr => request.stderr,
        })
    }

    fn sends_stdin(&self) -> bool {
        self.attached.get().is_some_and(|request| request.stdin)
    }

    /// When it has tried our patience; `None` for never.
    fn patience_ends(&self) -> Option<Instant> {
        let patience = match self.attached.get() {
            Some(request) if !self.cut_off.get() => Duration::from_millis(request.patience_ms?),
            _ => ANSWER_PATIENCE,
        };
        // A patience beyond the end of time is for ever.
        self.outbox.last_progress().checked_add(patience)
    }

    /// More waits for it than is good.
    fn is_behind(&self, phase: Phase) -> bool {
        let waiting = self.outbox.len();
        let too_much = match phase {
            Phase::Running => waiting >= QUEUE_LIMIT,
            Phase::Draining => waiting >= DRAIN_LIMIT,
            Phase::Ended => waiting > 0,
        };
        too_much && !self.cut_off.get()
    }

    /// Queue output, if it wants that stream.
    pub(crate) fn tell(&self, stream: Stream, bytes: &[u8]) {
        if self.wants(stream) && !bytes.is_empty() {
            self.outbox.push(stream.kind(), bytes);
        }
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    list: RefCell<Vec<Rc<Client>>>,
    cut_off: Cell<u64>,
    /// A client took bytes, came or went.
    pub(crate) changed: Notify,
}

impl Clients {
    pub(crate) fn add(&self, client: Rc<Client>) {
        self.list.borrow_mut().push(client);
        self.changed.notify_one();
    }

    pub(crate) fn remove(&self, client: &Rc<Client>) {
        self.list.borrow_mut().retain(|other| !Rc::ptr_eq(other, client));
        self.changed.notify_one();
    }

    pub(crate) fn count(&self) -> usize {
        self.list.borrow().len()
    }

    /// Whether one more may be sent output or news.
    pub(crate) fn may_attach(&self) -> bool {
        self.attached() < MOST
    }

    /// Whether one more may ask.
    pub(crate) fn may_connect(&self) -> bool {
        self.count() - self.attached() < MOST_OTHERS
    }

    fn attached(&self) -> usize {
        self.list.borrow().iter().filter(|client| client.attached.get().is_some()).count()
    }

    /// How many were cut off so far.
    pub(crate) fn cut_off_count(&self) -> u64 {
        self.cut_off.get()
    }

    /// The log has grown.
    pub(crate) fn tell_logged(&self) {
        for client in self.list.borrow().iter() {
            if client.attached.get().is_some_and(|request| request.log_news)
                && !client.news_queued.replace(true)
            {
                client.outbox.push(Kind::Logged, &[]);
            }
        }
    }

    /// Queue output for everybody who wants it.
    pub(crate) fn fan_out(&self, stream: Stream, bytes: &[u8]) {
        for client in self.list.borrow().iter() {
            client.tell(stream, bytes);
        }
    }

    /// Cut off who has tried our patience, and say how things stand.
    pub(crate) fn look_after(&self, phase: Phase) -> Outlook {
        let now = Instant::now();
        let mut outlook = Outlook::default();
        for client in self.list.borrow().iter() {
            let patience_ends = client.patience_ends();
            let impatient = patience_ends.is_some_and(|ends| ends <= now);
            let is_behind = client.is_behind(phase);
            if client.cut_off.get() && impatient {
                client.outbox.abandon();
            } else if is_behind && (impatient || phase == Phase::Draining) {
                self.cut(client);
            } else if is_behind || client.cut_off.get() {
                outlook.look_again(patience_ends);
                outlook.held_back |= is_behind && phase == Phase::Running;
            }
        }
        outlook
    }

    fn cut(&self, client: &Client) {
        client.cut_off.set(true);
        client.outbox.cut_off();
        self.cut_off.set(self.cut_off.get() + 1);
    }

    /// There will be no more output: tell everybody, and let go of all that send no stdin.
    pub(crate) fn end(&self, end: End, drained: &Drained) {
        for client in self.list.borrow().iter() {
            client.outbox.push_json(Kind::End, &end);
            if client.wants_drained.get() {
                client.outbox.push_json(Kind::Drained, drained);
            }
            if !client.sends_stdin() {
                client.outbox.close();
            }
        }
    }
}
