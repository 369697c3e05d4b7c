//! The life of a monitor: open everything, pump until the output has ended, let the clients finish, exit.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::args::{self, BinaryMode, FifoMode};
use crate::clients::{Client, Clients, Phase};
use crate::frames::{Drained, End, Hello, PROTOCOL, Stats, StdinClosed};
use crate::log::{Log, OpenError};
use crate::log_config;
use crate::output::{Output, Step};
use crate::socket::Socket;
use crate::source::{self, Source};
use crate::stdin::Stdin;
use crate::{Error, place, readiness};

/// How long a monitor that was never told `started` waits without any connection before it stops waiting: its daemon has
/// died. If a shim has opened the FIFOs all the same it goes on until that ends, else it ends.
pub const ABANDONED: Duration = Duration::from_secs(10);

/// First words of a monitor whose log driver cannot work.
pub(crate) const LOG_DRIVER: &str = "log driver: ";

/// How long we wait for another logger of the same container to let go of `logger-lock`.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// How often a lock or a file is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// How long stderr may outlive stdout at the `binary://` front end: with a terminal its pipe is never used and ends at a
/// random moment, or not at all (the shim's garbage collector closes it).
const STDERR_GRACE: Duration = Duration::from_secs(1);

/// Steps between two looks at requests and clients.
const STEPS: usize = 16;

/// What the pump, the socket and the connections share; all of them run on one thread.
#[derive(Debug)]
pub(crate) struct Shared {
    container: String,
    tty: bool,
    pub(crate) clients: Clients,
    pub(crate) stdin: Stdin,
    pub(crate) output: RefCell<Output>,
    started: Cell<bool>,
    /// Stop reading then, whoever still writes.
    drain_by: Cell<Option<Instant>>,
    ended: Cell<Option<(End, Drained)>>,
    /// A slow client holds the container back.
    held_back: Cell<bool>,
    /// `started` or `drain_by` changed.
    control: Notify,
}

impl Shared {
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            pid: std::process::id(),
            container: self.container.clone(),
            tty: self.tty,
            started: self.started.get(),
            ended: self.ended.get().is_some(),
            stdin: self.stdin.state(),
            logs: self.output.borrow().log().is_some_and(Log::has_file),
        }
    }

    pub(crate) fn ended(&self) -> Option<End> {
        self.ended.get().map(|(end, _)| end)
    }

    pub(crate) fn drained(&self) -> Option<Drained> {
        self.ended.get().map(|(_, drained)| drained)
    }

    /// A client took bytes.
    pub(crate) fn took(&self, client: &Client) {
        client.took();
        // The pump waits for this only then.
        if self.held_back.get() || self.ended.get().is_some() {
            self.clients.changed.notify_one();
        }
    }

    /// The shim has its ends open.
    pub(crate) fn start(&self) -> StdinClosed {
        self.started.set(true);
        self.control.notify_one();
        self.stdin.started()
    }

    /// The process has ended: stop at the latest after the grace. The shortest of several counts.
    pub(crate) fn drain(&self, grace_ms: u64) {
        let now = Instant::now();
        let by =
            now.checked_add(Duration::from_millis(grace_ms)).or(self.drain_by.get()).unwrap_or(now);
        self.drain_by.set(Some(self.drain_by.get().map_or(by, |first| first.min(by))));
        self.control.notify_one();
    }

    pub(crate) fn stats(&self) -> Stats {
        let output = self.output.borrow();
        let mut stats = Stats {
            bytes: output.bytes,
            last_error: output.last_error.clone(),
            clients: self.clients.count(),
            cut_off: self.clients.cut_off_count(),
            held_back: self.held_back.get(),
            ..Stats::default()
        };
        if let Some(counters) = output.log().map(Log::counters) {
            stats.entries = counters.entries;
            stats.lost_lines = counters.lost;
            stats.rotations = counters.rotations;
            stats.last_error = stats.last_error.or(counters.last_error);
        }
        stats
    }

    fn phase(&self) -> Phase {
        match (self.ended.get(), self.drain_by.get()) {
            (Some(_), _) => Phase::Ended,
            (None, Some(_)) => Phase::Draining,
            (None, None) => Phase::Running,
        }
    }
}

/// Everything that is opened before the container may start.
struct Opened {
    shared: Rc<Shared>,
    fds: Vec<Rc<AsyncFd<OwnedFd>>>,
    keepers: Vec<OwnedFd>,
    lock: Option<File>,
    socket: Option<Socket>,
    /// `binary://`: the end of stdout is the end.
    stdout_decides: bool,
}

/// Run to the end.
pub(crate) fn run(mode: args::Mode) -> ExitCode {
    if matches!(mode, args::Mode::Fifos(_)) {
        // Fails only if we lead a process group already; then a shell started us, and that is as good.
        let _ = rustix::process::setsid();
    }
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let runtime =
        match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                say(&format!("error: {error}"));
                return ExitCode::FAILURE;
            }
        };
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        match mode {
            args::Mode::Fifos(mode) => run_fifos(mode).await,
            args::Mode::Binary(mode) => run_binary(mode).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::LogDriver { message }) => {
            say(&format!("{LOG_DRIVER}{message}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            say(&format!("error: {error}{cause}"));
            ExitCode::FAILURE
        }
    }
}

/// Write a line for whoever started us.
pub(crate) fn say(text: &str) {
    // Nobody may listen any more.
    let _ = rustix::io::write(rustix::stdio::stdout(), format!("{text}\n").as_bytes());
}

async fn run_fifos(mode: FifoMode) -> Result<(), Error> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Error::io(doing, path, source)
    };
    let open_dir = || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&mode.fifo_dir, flags, Mode::empty()).map_err(io::Error::from)
    };
    let dir = open_dir().map_err(failed("open the FIFO directory", &mode.fifo_dir))?;
    let lock = lock(&mode.state_dir).await?;
    let (sources, keepers) =
        source::open_fifos(&dir, mode.tty).map_err(failed("open the FIFOs in", &mode.fifo_dir))?;
    let stdin =
        Stdin::open(dir, mode.started).map_err(failed("open the stdin FIFO in", &mode.fifo_dir))?;
    let (log, opened) = Log::open(&log_config::load(&mode.state_dir, &mode.container));
    match opened {
        Err(OpenError::File(path, error)) => return Err(Error::io("open the log", path, error)),
        // A container that runs already goes on; what cannot be sent is counted.
        Err(OpenError::Driver(message)) if !mode.started => {
            return Err(Error::LogDriver { message });
        }
        Err(OpenError::Driver(_)) | Ok(()) => {}
    }
    let socket = Socket::bind(&mode.socket).map_err(failed("listen on", &mode.socket))?;
    let fds = sources.iter().map(|source| Rc::clone(&source.fd)).collect();
    let shared = shared(mode.container, mode.tty, stdin, sources, log, mode.started)?;
    let opened = Opened {
        shared,
        fds,
        keepers,
        lock: Some(lock),
        socket: Some(socket),
        stdout_decides: false,
    };
    // Before anybody can think that we are ready to be ended. A stop by the system: what is unread waits in the FIFOs.
    let stop = terminated(false);
    say("ready");
    // Whoever started us reads until the end.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    null.and_then(rustix::stdio::dup2_stdout)
        .map_err(|source| Error::io("open", "/dev/null", source))?;
    live(opened, stop).await
}

async fn run_binary(mode: BinaryMode) -> Result<(), Error> {
    let state_dir = mode.state_dir();
    let sources = source::open_inherited()
        .map_err(|source| Error::io("open the pipes in", "/proc/self/fd", source))?;
    let bundle =
        rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // From here on nothing may fail: without a reader the container gets SIGPIPE.
    let lock = lock(&state_dir).await.ok();
    // One that cannot be opened is tried again with every entry, and what is lost is counted.
    let (log, _) = Log::open(&log_config::load(&state_dir, &mode.container));
    let socket_path = place::socket_path(&place::runtime_dir(&mode.data_store), &mode.container);
    let socket = Socket::bind(&socket_path).ok();
    let fds = sources.iter().map(|source| Rc::clone(&source.fd)).collect();
    let shared = shared(mode.container, false, Stdin::none(), sources, log, true)?;
    let opened = Opened { shared, fds, keepers: Vec::new(), lock, socket, stdout_decides: true };
    let terminated = terminated(true);
    // If it cannot be told, the shim sees the end of the pipe when we end.
    let _ = source::tell_shim_ready();
    let stop = async {
        tokio::select! {
            end = terminated => end,
            end = init_ended(bundle.ok()) => end,
        }
    };
    live(opened, stop).await
}

fn shared(
    container: String,
    tty: bool,
    stdin: Stdin,
    sources: Vec<Source>,
    log: Option<Log>,
    started: bool,
) -> Result<Rc<Shared>, Error> {
    let output = Output::new(sources, log)
        .map_err(|source| Error::io("make a pipe for", &container, source))?;
    Ok(Rc::new(Shared {
        container,
        tty,
        clients: Clients::default(),
        stdin,
        output: RefCell::new(output),
        started: Cell::new(started),
        drain_by: Cell::new(None),
        ended: Cell::new(None),
        held_back: Cell::new(false),
        control: Notify::new(),
    }))
}

/// Take `logger-lock`, by which nerdctl knows that a logger is still writing.
async fn lock(state_dir: &Path) -> Result<File, Error> {
    let path = state_dir.join("logger-lock");
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|source| Error::io("open the lock", &path, source))?;
    let until = Instant::now() + LOCK_LIMIT;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // `nerdctl logs` holds it for a moment; a logger that is about to end a little longer.
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                tokio::time::sleep(RETRY).await;
            }
            Err(source) => return Err(Error::io("another logger holds", &path, source)),
        }
    }
}

/// SIGTERM, from the moment of this call on.
fn terminated(complete: bool) -> impl Future<Output = End> {
    let signals = signal(SignalKind::terminate());
    async move {
        match signals {
            Ok(mut signals) => {
                signals.recv().await;
                End { complete }
            }
            // Then it ends us the hard way.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The container's first process has ended, as the shim's bundle tells its id (`init.pid`, containerd
/// `cmd/containerd-shim-runc-v2/process`). Nothing else tells a logger.
async fn init_ended(bundle: Option<OwnedFd>) -> End {
    let Some(bundle) = bundle else {
        return std::future::pending().await;
    };
    let pid = loop {
        if let Some(pid) = read_pid(&bundle) {
            break pid;
        }
        tokio::time::sleep(RETRY).await;
    };
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(pidfd) => match readiness::register(pidfd, Interest::READABLE) {
            Ok(pidfd) => {
                // Readable when the process has ended.
                let _ = pidfd.readable().await;
            }
            Err(_) => std::future::pending().await,
        },
        Err(rustix::io::Errno::SRCH) => {}
        // Then only containerd's SIGTERM is left.
        Err(_) => std::future::pending().await,
    }
    End { complete: true }
}

fn read_pid(bundle: &OwnedFd) -> Option<rustix::process::Pid> {
    let file =
        rustix::fs::openat(bundle, "init.pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .ok()?;
    let text = io::read_to_string(File::from(file)).ok()?;
    rustix::process::Pid::from_raw(text.trim().parse().ok()?)
}

/// Pump, end, let the clients finish.
async fn live(opened: Opened, stop: impl Future<Output = End>) -> Result<(), Error> {
    let Opened { shared, fds, keepers, lock, socket, stdout_decides } = opened;
    let serving = socket.map(|socket| tokio::task::spawn_local(socket.serve(Rc::clone(&shared))));
    let end = pump(&shared, &fds, keepers, stop, stdout_decides).await;

    // The log is whole before anybody is told so, and nerdctl's lock is free.
    let log = shared.output.borrow_mut().close();
    let drained = Drained {
        complete: end.complete,
        lost_lines: log.as_ref().map_or(0, |log| log.counters().lost),
    };
    if let Some(serving) = serving {
        serving.abort();
        // The socket's file goes with it, so that the container's next monitor can have the place.
        let _ = serving.await;
    }
    // Last, because the next monitor waits for it before it takes the place.
    drop(lock);
    shared.ended.set(Some((end, drained)));
    shared.clients.end(end, &drained);
    while shared.clients.count() > 0 {
        let outlook = shared.clients.look_after(Phase::Ended);
        tokio::select! {
            () = shared.clients.changed.notified() => {}
            () = sleep_until(outlook.look_again) => {}
        }
    }
    // Nobody waits for this any more.
    if let Some(log) = log {
        log.settle();
    }
    Ok(())
}

/// Read until all streams have ended, or it is time to stop.
async fn pump(
    shared: &Shared,
    fds: &[Rc<AsyncFd<OwnedFd>>],
    keepers: Vec<OwnedFd>,
    stop: impl Future<Output = End>,
    stdout_decides: bool,
) -> End {
    let mut stop = std::pin::pin!(stop);
    let mut keepers = Some(keepers);
    let mut lonely_since = None;
    let mut stdout_ended = None;
    let news = shared.output.borrow().log().and_then(Log::news);
    let mut turn = 0;
    loop {
        let phase = shared.phase();
        if shared.started.get() || phase == Phase::Draining {
            keepers = None;
        }
        if shared.output.borrow().all_ended() {
            return End { complete: true };
        }
        if stdout_decides && shared.output.borrow().has_ended(0) {
            stdout_ended.get_or_insert_with(Instant::now);
        }
        if keepers.is_none() || shared.clients.count() > 0 {
            lonely_since = None;
        } else {
            lonely_since.get_or_insert_with(Instant::now);
        }
        let stderr_by = stdout_ended.map(|since| since + STDERR_GRACE);
        let abandoned_at = lonely_since.map(|since| since + ABANDONED);
        let outlook = shared.clients.look_after(phase);
        shared.held_back.set(outlook.held_back);
        let deadline = [
            shared.drain_by.get(),
            stderr_by,
            abandoned_at,
            outlook.look_again,
            shared.output.borrow().next_deadline(),
        ];
        tokio::select! {
            (index, mut guard) = next_ready(shared, fds, turn), if !outlook.held_back => {
                turn = index + 1;
                if read(shared, index) != Step::Progress {
                    guard.clear_ready();
                }
                // Requests and clients get their turn between two readings.
                tokio::task::yield_now().await;
            }
            () = shared.control.notified() => {}
            () = shared.clients.changed.notified() => {}
            () = rung(news.as_deref()) => shared.clients.tell_logged(),
            end = &mut stop => return swept(shared, end),
            () = sleep_until(deadline.into_iter().flatten().min()) => {}
        }
        shared.output.borrow_mut().take_overdue(&shared.clients);
        let now = Instant::now();
        if shared.drain_by.get().is_some_and(|by| by <= now) {
            return swept(shared, End { complete: false });
        }
        if stderr_by.is_some_and(|by| by <= now) {
            return swept(shared, End { complete: true });
        }
        if abandoned_at.is_some_and(|at| at <= now) {
            shared.start();
        }
    }
}

/// Some steps of one stream, without anybody in between.
fn read(shared: &Shared, index: usize) -> Step {
    let mut output = shared.output.borrow_mut();
    for _ in 0..STEPS {
        let step = output.step(index, &shared.clients);
        if step != Step::Progress || shared.clients.look_after(shared.phase()).held_back {
            return step;
        }
    }
    Step::Progress
}

/// The last look before the end.
fn swept(shared: &Shared, end: End) -> End {
    let mut output = shared.output.borrow_mut();
    output.sweep(&shared.clients);
    End { complete: end.complete || output.all_ended() }
}

/// The next stream with something to read, beginning with `turn` so that none starves.
async fn next_ready<'a>(
    shared: &Shared,
    fds: &'a [Rc<AsyncFd<OwnedFd>>],
    turn: usize,
) -> (usize, AsyncFdReadyGuard<'a, OwnedFd>) {
    poll_fn(|context| {
        for offset in 0..fds.len() {
            let index = (turn + offset) % fds.len();
            let output = shared.output.borrow();
            if output.has_ended(index) || output.waits_for_log(index) {
                continue;
            }
            if let Poll::Ready(Ok(guard)) = fds[index].poll_read_ready(context) {
                return Poll::Ready((index, guard));
            }
        }
        Poll::Pending
    })
    .await
}

async fn rung(news: Option<&Notify>) {
    match news {
        Some(news) => news.notified().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
