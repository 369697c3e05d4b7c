//! The loop of the test program: threads, time limits, reasons for skipping, logs of failing tests.
//!
//! libtest cannot skip a test while it runs, end a hanging one, or drop a host that tests share; these needs are small
//! enough to be met here. What is printed is what `cargo test` prints.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::{Engine, Host, Plan};

/// After this time a test counts as hung.
const LIMIT: Duration = Duration::from_secs(120);
/// The same for a test of the slow tier.
const SLOW_LIMIT: Duration = Duration::from_secs(900);

/// With more failures than this nothing runs again: then something is broken.
const SECOND_CHANCES: usize = 3;

/// One test: a function and what it needs.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// `group::function`.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&Rig) -> Result<()>,
    /// Only in the slow tier.
    pub slow: bool,
    /// Asks for something only our daemon has: its texts, its processes, nerdctl's files.
    pub ours_only: bool,
}

impl Test {
    /// A test of the fast tier for any daemon.
    #[must_use]
    pub const fn new(name: &'static str, run: fn(&Rig) -> Result<()>) -> Self {
        Self { name, run, slow: false, ours_only: false }
    }

    /// Moves it to the slow tier.
    #[must_use]
    pub const fn slow(mut self) -> Self {
        self.slow = true;
        self
    }

    /// Makes it one for our daemon only.
    #[must_use]
    pub const fn ours_only(mut self) -> Self {
        self.ours_only = true;
        self
    }
}

/// A list of tests, from functions of the module: `tests![pings, lists.slow(), hooks.ours_only()]`.
#[macro_export]
macro_rules! tests {
    ($($function:ident $(. $mark:ident ())*),* $(,)?) => {
        &[$(
            $crate::Test::new(concat!(module_path!(), "::", stringify!($function)), $function) $(.$mark())*
        ),*]
    };
}

/// The reason why a test does not run here. An error of this type makes it ignored, not failed.
#[derive(Debug)]
pub struct Skip(String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Ends the test as ignored: `return Err(skip("…"))`.
pub fn skip(reason: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Skip(reason.into()))
}

/// Makes a missing program a reason to skip: `peers::program(…).or_skip()?`.
pub trait OrSkip<T> {
    /// The value, or the test ends as ignored with the error as its reason.
    ///
    /// # Errors
    /// [`Skip`].
    fn or_skip(self) -> Result<T>;
}

impl<T> OrSkip<T> for Result<T> {
    fn or_skip(self) -> Result<T> {
        self.map_err(|error| skip(format!("{error:#}")))
    }
}

/// A name that no other test of this run uses.
#[must_use]
pub fn unique(what: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a test gets: hosts.
#[derive(Debug, Default)]
pub struct Rig {
    shared: OnceLock<Result<Host, String>>,
    starting: Mutex<()>,
}

impl Rig {
    /// The host that tests share, started with the first test that asks for it. Tests leave it as they found it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn host(&self) -> Result<&Host> {
        let _one = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared
            .get_or_init(|| {
                Plan::from_environment().and_then(Host::start).map_err(|error| format!("{error:#}"))
            })
            .as_ref()
            .map_err(|error| anyhow::anyhow!("no host to share: {error}"))
    }

    /// Starts a host for one test, which may break it, and runs `work` on it; an error has the host's logs with it.
    ///
    /// # Errors
    /// [`Skip`] where the target is a daemon that runs somewhere else; or what `work` says.
    pub fn with_own_host(
        &self,
        change: impl FnOnce(&mut Plan),
        work: impl FnOnce(&Host) -> Result<()>,
    ) -> Result<()> {
        let mut plan = Plan::from_environment()?;
        if matches!(plan.engine, Engine::Given(_)) {
            return Err(skip("needs a host of its own"));
        }
        change(&mut plan);
        let host = Host::start(plan)?;
        work(&host).map_err(|error| match error.downcast::<Skip>() {
            Ok(skip) => skip.into(),
            Err(error) => anyhow::anyhow!("{error:#}\n{}", host.logs_since(&[])),
        })
    }

    fn running(&self) -> Option<&Host> {
        self.shared.get()?.as_ref().ok()
    }
}

/// How one test went.
enum Outcome {
    Passed,
    Ignored(String),
    Failed(String),
}

/// Runs the tests that the arguments and the environment choose, and prints as libtest does.
#[must_use]
pub fn run(groups: &[&[Test]]) -> ExitCode {
    let choice = Choice::from_arguments(std::env::args().skip(1));
    let all: Vec<Test> = groups.iter().copied().flatten().copied().collect();
    let chosen: Vec<Test> = all.iter().copied().filter(|test| choice.takes(test)).collect();
    if choice.list {
        for test in &chosen {
            say(format_args!("{}: test\n", test.name));
        }
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    say(format_args!("\nrunning {} tests\n", chosen.len()));
    let rig = Arc::new(Rig::default());
    let failures = Mutex::new(Vec::new());
    let counts = [const { AtomicUsize::new(0) }; 3];
    let queue = Mutex::new(chosen.iter().copied().collect::<VecDeque<Test>>());
    std::thread::scope(|scope| {
        for _ in 0..choice.threads {
            scope.spawn(|| {
                while let Some(test) = next(&queue) {
                    let outcome = run_one(&rig, test, &choice);
                    report(test, &outcome, &counts, &failures);
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (test, text) in &failures {
        say(format_args!("\n---- {} ----\n{text}\n", test.name));
    }
    let unsteady = run_alone(&rig, &choice, &mut failures);
    if !failures.is_empty() {
        say(format_args!("\nfailures:\n"));
        failures.iter().for_each(|(test, _)| say(format_args!("    {}\n", test.name)));
    }
    let [passed, ignored, _] = counts.map(AtomicUsize::into_inner);
    let (passed, failed) = (passed + unsteady.len(), failures.len());
    for test in unsteady {
        say(format_args!("\nunsteady: {test} failed beside others and passed alone\n"));
    }
    say(format_args!(
        "\ntest result: {}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {} filtered out; finished in {:.2}s\n\n",
        if failed == 0 { "ok" } else { "FAILED" },
        all.len() - chosen.len(),
        started.elapsed().as_secs_f64(),
    ));
    // Threads of hung tests may hold the rig; the sandbox then ends with this process.
    drop(Arc::into_inner(rig));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the few tests that failed beside others once more, alone, and drops those that pass from `failures`: on a machine
/// that others load, a limit of patience is not a fault. Each is named as unsteady, for somebody to look into; in the slow
/// tier nothing gets a second chance.
fn run_alone(
    rig: &Arc<Rig>,
    choice: &Choice,
    failures: &mut Vec<(Test, String)>,
) -> Vec<&'static str> {
    if choice.slow || failures.len() > SECOND_CHANCES {
        return Vec::new();
    }
    let again = |test| matches!(run_one(rig, test, choice), Outcome::Failed(_));
    failures.extract_if(.., |(test, _)| !again(*test)).map(|(test, _)| test.name).collect()
}

fn next(queue: &Mutex<VecDeque<Test>>) -> Option<Test> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn report(
    test: Test,
    outcome: &Outcome,
    counts: &[AtomicUsize; 3],
    failures: &Mutex<Vec<(Test, String)>>,
) {
    let (slot, words) = match outcome {
        Outcome::Passed => (0, "ok".to_owned()),
        Outcome::Ignored(reason) => (1, format!("ignored, {}", reason.replace('\n', " "))),
        Outcome::Failed(text) => {
            failures.lock().unwrap_or_else(PoisonError::into_inner).push((test, text.clone()));
            (2, "FAILED".to_owned())
        }
    };
    counts[slot].fetch_add(1, Ordering::Relaxed);
    say(format_args!("test {} ... {words}\n", test.name));
}

fn run_one(rig: &Arc<Rig>, test: Test, choice: &Choice) -> Outcome {
    if test.slow && !choice.slow {
        return Outcome::Ignored("slow tier (E2E_SLOW=1)".into());
    }
    if test.ours_only && !matches!(Engine::from_environment(), Ok(Engine::Nerdctld)) {
        return Outcome::Ignored("about nerdctld itself".into());
    }
    let before = rig.running().map(Host::log_lengths).unwrap_or_default();
    let (done, result) = channel();
    let inner = Arc::clone(rig);
    let thread = std::thread::Builder::new().name(test.name.into()).spawn(move || {
        let outcome = (test.run)(&inner);
        drop(inner);
        let _ = done.send(outcome);
    });
    if let Err(error) = thread {
        return Outcome::Failed(format!("no thread: {error}"));
    }
    let limit = if test.slow { SLOW_LIMIT } else { LIMIT };
    let failure = match result.recv_timeout(limit) {
        Ok(Ok(())) => return Outcome::Passed,
        Ok(Err(error)) => match error.downcast::<Skip>() {
            Ok(skip) => return Outcome::Ignored(skip.0),
            Err(error) => format!("{error:#}"),
        },
        Err(RecvTimeoutError::Timeout) => format!("still running after {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => "panicked (see above)".to_owned(),
    };
    let logs = rig.running().map(|host| host.logs_since(&before)).unwrap_or_default();
    Outcome::Failed(format!("{failure}\n{logs}"))
}

/// Which tests, and how many at once.
struct Choice {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    slow: bool,
    threads: usize,
}

impl Choice {
    fn from_arguments(arguments: impl Iterator<Item = String>) -> Self {
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut choice = Self {
            filters: Vec::new(),
            skips: Vec::new(),
            exact: false,
            list: false,
            slow: set("E2E_SLOW").is_some(),
            threads: number(set("E2E_THREADS")).unwrap_or(4),
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => choice.exact = true,
                "--list" => choice.list = true,
                "--ignored" | "--include-ignored" => choice.slow = true,
                "--skip" => choice.skips.extend(arguments.next()),
                "--test-threads" => {
                    choice.threads = number(arguments.next()).unwrap_or(choice.threads);
                }
                // libtest's other options change how it prints.
                "--format" | "--color" | "-Z" => drop(arguments.next()),
                other if other.starts_with('-') => {}
                _ => choice.filters.push(argument),
            }
        }
        choice
    }

    fn takes(&self, test: &Test) -> bool {
        let matches = |filter: &String| {
            if self.exact { test.name == filter } else { test.name.contains(filter) }
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}

/// Writes to standard output; a reader that has gone is no reason to fail.
fn say(text: fmt::Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn first_fails_then_passes(_: &Rig) -> Result<()> {
        static AGAIN: AtomicBool = AtomicBool::new(false);
        anyhow::ensure!(AGAIN.swap(true, Ordering::Relaxed), "the first time");
        Ok(())
    }

    fn always_fails(_: &Rig) -> Result<()> {
        anyhow::bail!("every time")
    }

    fn choice(slow: bool) -> Choice {
        Choice { slow, ..Choice::from_arguments(std::iter::empty()) }
    }

    type Run = fn(&Rig) -> Result<()>;

    fn failed(runs: &[Run]) -> Vec<(Test, String)> {
        runs.iter().map(|&run| (Test::new("tests::one", run), "before".to_owned())).collect()
    }

    #[test]
    fn only_what_passes_alone_is_forgiven() {
        let rig = Arc::new(Rig::default());
        let _ = first_fails_then_passes(&rig);
        let mut failures = failed(&[first_fails_then_passes, always_fails]);
        assert_eq!(run_alone(&rig, &choice(false), &mut failures), ["tests::one"]);
        assert_eq!(failures.len(), 1, "the other is kept");
    }

    #[test]
    fn many_failures_and_the_slow_tier_get_no_second_chance() {
        let rig = Arc::new(Rig::default());
        let mut many = failed(&[first_fails_then_passes as Run; SECOND_CHANCES + 1]);
        assert!(run_alone(&rig, &choice(false), &mut many).is_empty());
        let mut slow = failed(&[first_fails_then_passes]);
        assert!(run_alone(&rig, &choice(true), &mut slow).is_empty() && slow.len() == 1);
    }
}
