//! Linux namespaces that hold all processes of a host, and whose end removes every trace of them.
//!
//! ```text
//! test program ──pipe──► guard (outside: cgroups, files)          e2e-rig guard ROOT
//!                          └─ unshare ─► init (PID 1 inside)      e2e-rig init ROOT
//!        └── nsenter ─────────────────►  containerd, daemon, …    e2e-rig exec PROGRAM
//! ```
//!
//! - PID namespace: when `init` ends, the kernel kills all: shims, monitors, containers, whatever their parents did.
//! - Mount namespace with a shared root, as on a real machine; overlays and tmpfs vanish with it. `/run` is empty inside,
//!   `/etc`, `/opt`, `/var` and `/root` are copy-on-write. `ROOT` is the same folder inside and outside: sockets go there.
//! - Network namespace with nothing but a loopback: bridges, rules and ports are the host's own.
//! - Cgroup namespace on a cgroup of its own in every hierarchy, which `guard` removes. What is frozen in it (a paused
//!   container) is thawed at the end, because nothing else ends a frozen process.
//!
//! `init` lives until the pipe from the test program closes, and the kernel closes that pipe even for a killed test
//! program; so nothing is left behind after a panic, a time-out or `kill -9`.
//!
//! Process ids in this module are those seen outside.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::peers;

/// The namespaces of one host. Dropping it ends all that runs in them and waits until they are gone.
#[derive(Debug)]
pub struct Sandbox {
    root: PathBuf,
    rig: PathBuf,
    guard: Child,
    /// `init` reads this and ends when it closes.
    life: Option<ChildStdin>,
    init: u32,
}

/// A process of the sandbox as seen from outside.
#[derive(Debug, Clone)]
pub struct ProcessEntry {
    /// Its process id, outside.
    pub pid: u32,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Sandbox {
    /// Starts the namespaces with a new root folder of a short path (Unix sockets have 107 bytes).
    ///
    /// # Errors
    /// When the machine refuses (namespaces need root).
    pub fn new() -> Result<Self> {
        let rig = peers::built("e2e-rig")?;
        let root = tempfile::Builder::new()
            .prefix("nd-")
            .tempdir()
            .context("making a root folder")?
            .keep();
        fs::create_dir(root.join("log")).context("making the log folder")?;
        let mut guard = Command::new(&rig)
            .arg("guard")
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(root.join("log/sandbox")).context("sandbox log")?)
            // Ctrl-C at a terminal must reach the tests, not the one that cleans up after them.
            .process_group(0)
            .spawn()
            .context("starting the sandbox")?;
        let life = guard.stdin.take();
        let mut sandbox = Self { root, rig, guard, life, init: 0 };
        sandbox.wait_until_ready().with_context(|| {
            let log = fs::read_to_string(sandbox.root.join("log/sandbox")).unwrap_or_default();
            format!("no sandbox: {}", log.trim())
        })?;
        Ok(sandbox)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut line = String::new();
        let said = self.guard.stdout.take().context("no output")?;
        BufReader::new(said).read_line(&mut line).context("reading from the sandbox")?;
        ensure!(line == "ready\n", "it did not get ready");
        let unshare = only_child(self.guard.id()).context("unshare is gone")?;
        self.init = only_child(unshare).context("init is gone")?;
        Ok(())
    }

    /// The folder of this sandbox: the same path inside and outside, removed at the end.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command that runs inside, with an empty environment but for `PATH` and `HOME`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init))
            .args(["--mount", "--net", "--pid", "--cgroup", "--"])
            .arg(&self.rig)
            .arg("exec")
            .arg(program)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.root.join("home"))
            .current_dir(&self.root);
        command
    }

    /// Runs a command made by [`Sandbox::command`] until it ends, and gives what it printed.
    ///
    /// # Errors
    /// When it fails; the text has its words.
    pub fn run(&self, command: &mut Command) -> Result<String> {
        let output = command.stdin(Stdio::null()).output().context("starting a command")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{command:?} ended with {}: {text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }

    /// Starts a command made by [`Sandbox::command`] as a background process that writes into `log/<name>`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, mut command: Command) -> Result<Process> {
        let path = self.root.join("log").join(name);
        let log = File::options().create(true).append(true).open(&path).context("opening a log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Process { name: name.to_owned(), nsenter: child, known: None })
    }

    /// Runs `work` on a thread whose sockets belong to the sandbox's network.
    ///
    /// # Errors
    /// When the network cannot be entered, or `work` panicked.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let network = self.network()?;
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(&network)?;
                    Ok(work())
                })
                .join()
                .map_err(|_| anyhow::anyhow!("the work in the sandbox's network panicked"))?
        })
    }

    /// The sandbox's network namespace, for [`enter`].
    ///
    /// # Errors
    /// When the sandbox is gone.
    pub fn network(&self) -> Result<File> {
        File::open(format!("/proc/{}/ns/net", self.init)).context("opening the sandbox's network")
    }

    /// A path inside, as it is reached from outside.
    #[must_use]
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// All processes inside, the first one included.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessEntry> {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(ours) = namespace(self.init) else { return Vec::new() };
        pids()
            .into_iter()
            .filter(|pid| namespace(*pid).as_ref() == Some(&ours))
            .filter_map(entry)
            .collect()
    }

    /// The shim that holds container `id`, with the help of which containerd reaches it.
    #[must_use]
    pub fn shim_of(&self, id: &str) -> Option<u32> {
        self.processes()
            .into_iter()
            .find(|process| {
                process.arguments.first().is_some_and(|program| program.contains("containerd-shim"))
                    && process.arguments.iter().any(|argument| argument == id)
            })
            .map(|process| process.pid)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.life.take());
        let patience = Instant::now() + Duration::from_secs(30);
        while Instant::now() < patience && matches!(self.guard.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Moves the calling thread, and the sockets it will make, into a network namespace.
///
/// # Errors
/// The kernel's refusal.
pub fn enter(network: &File) -> Result<()> {
    use std::os::fd::AsFd as _;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .context("entering a network")
}

/// Where Debian has programs.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A background process of the sandbox; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// `nsenter` stays outside as the parent, and ends as its child ends.
    nsenter: Child,
    known: Option<u32>,
}

impl Process {
    /// Its process id, outside.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pid(&mut self) -> Result<u32> {
        if self.known.is_none() {
            self.known = wait_for(Duration::from_secs(5), || only_child(self.nsenter.id()));
        }
        self.known.with_context(|| format!("{} has ended", self.name))
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let pid = self.pid()?;
        send(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it has not after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait_for(limit, || self.nsenter.try_wait().ok().flatten())
            .with_context(|| format!("{} still runs after {limit:?}", self.name))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.nsenter.try_wait(), Ok(None))
    }

    /// Kills it (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        if self.runs() {
            self.signal(Signal::KILL)?;
        }
        let status = self.wait(Duration::from_secs(20))?;
        ensure!(status.signal().is_some() || status.code().is_some(), "{} has no end", self.name);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Sends a signal to a process outside or inside, by its outside id.
///
/// # Errors
/// The kernel's refusal.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a process id")?;
    kill_process(pid, signal).context("kill")
}

/// Asks `ready` again and again until it has an answer, for at most `limit`.
pub fn wait_for<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ready() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until `ready` is true.
///
/// # Errors
/// `what`, when it is not after `limit`.
pub fn until(limit: Duration, what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    match wait_for(limit, || ready().then_some(())) {
        Some(()) => Ok(()),
        None => bail!("{what}: not after {limit:?}"),
    }
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn entry(pid: u32) -> Option<ProcessEntry> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    Some(ProcessEntry { pid, arguments })
}

/// Parents of all processes: the fourth field of `stat`, after a name that may contain anything.
fn parents() -> HashMap<u32, u32> {
    let parent = |pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    pids().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// The one child of a process.
#[must_use]
pub fn only_child(of: u32) -> Option<u32> {
    parents().into_iter().find(|(_, parent)| *parent == of).map(|(pid, _)| pid)
}
