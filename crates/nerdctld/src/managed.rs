//! `--containerd managed`: a containerd of our own, for machines where none runs.
//!
//! Its root is below our data root; its state and its socket are below the run directory, because socket paths must be
//! short and running tasks do not survive a reboot anyway. It is started in a session of its own and outlives the daemon,
//! as containers must; the next daemon finds it by its socket, or by its pid file while it is still starting. It is the
//! operator's choice: the daemon never falls back to it, nor away from it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit};
use sha2::{Digest as _, Sha256};
use tokio::net::UnixStream;

use crate::helper::OURSELVES;

/// First argument of the mode that becomes a program in a session of its own.
pub(crate) const DETACH: &str = "detach";

const SOCKET_PATIENCE: Duration = Duration::from_secs(30);
const SOCKET_PAUSE: Duration = Duration::from_millis(20);
const GLANCE: Duration = Duration::from_secs(1);

/// Where a managed containerd keeps its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Content, snapshots, metadata; survives everything.
    pub(crate) root: PathBuf,
    /// Running tasks; gone at reboot.
    pub(crate) state: PathBuf,
    /// Where it answers.
    pub(crate) socket: PathBuf,
    /// What we told it.
    pub(crate) config: PathBuf,
    /// Process id of the one we started.
    pub(crate) pid_file: PathBuf,
    /// What it says.
    pub(crate) log: PathBuf,
}

impl Layout {
    /// For this data root. Two data roots have two containerds.
    pub(crate) fn below(data_root: &Path, run_dir: &Path) -> Self {
        let digest = Sha256::digest(data_root.as_os_str().as_encoded_bytes());
        let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let root = data_root.join("containerd");
        let run = run_dir.join(format!("containerd-{hash}"));
        Self {
            state: run.join("state"),
            socket: run.join("containerd.sock"),
            pid_file: run.join("containerd.pid"),
            config: root.join("config.toml"),
            log: root.join("containerd.log"),
            root,
        }
    }

    /// The configuration, in the form that containerd 1.6, 1.7 and 2.x all read.
    ///
    /// `version = 2` is migrated by containerd 2 itself. The CRI plugin is off under its names of all versions: it would
    /// listen to nobody, and take CNI configurations as its own. NRI is off because its socket is the same for every
    /// containerd of a machine.
    fn config_text(&self) -> String {
        format!(
            r#"# Written by nerdctld at each start; changes are lost.
version = 2
root = {root:?}
state = {state:?}
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri",
]

[grpc]
  address = {socket:?}

[plugins."io.containerd.internal.v1.opt"]
  path = {opt:?}
"#,
            root = self.root.join("root"),
            state = self.state,
            socket = self.socket,
            opt = self.root.join("opt"),
        )
    }
}

/// Why there is no managed containerd.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManagedError {
    /// A file or folder could not be made.
    #[error("cannot {doing} {path}")]
    Io {
        /// The step.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program could not be started.
    #[error("cannot start containerd")]
    Spawn(#[source] io::Error),
    /// It ended before it answered.
    #[error("containerd ended at once ({status}); {log} says why")]
    Ended {
        /// Exit code or signal.
        status: String,
        /// Its log.
        log: PathBuf,
    },
    /// It runs, but does not answer.
    #[error("containerd (process {pid}) does not answer on {socket}; {log} may say why")]
    Silent {
        /// Its process.
        pid: i32,
        /// Where it should answer.
        socket: PathBuf,
        /// Its log.
        log: PathBuf,
    },
}

/// Keep one running until the caller stops polling; a supervised service of the daemon.
///
/// Returns when the containerd ended or could not be had, to be called again.
///
/// `open_files` is the soft limit that this daemon was started with: containers of a containerd inherit its limits.
pub(crate) async fn keep(layout: Layout, open_files: Option<u64>) {
    match ensure(&layout, open_files).await {
        Ok(running) => {
            tracing::info!(pid = running.pid(), socket = %layout.socket.display(), "the managed containerd answers");
            running.ended().await;
            tracing::warn!(log = %layout.log.display(), "the managed containerd has ended");
        }
        Err(error) => tracing::error!(error = %chain(&error), "there is no managed containerd"),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A containerd that answers.
#[derive(Debug)]
enum Running {
    /// Started by this daemon.
    Child(tokio::process::Child, i32),
    /// Found.
    Found(OwnedFd, i32),
    /// Found, but its process cannot be watched (no pidfd, or in another pid namespace).
    Unwatched,
}

impl Running {
    fn pid(&self) -> i32 {
        match self {
            Self::Child(_, pid) | Self::Found(_, pid) => *pid,
            Self::Unwatched => 0,
        }
    }

    async fn ended(self) {
        match self {
            Self::Child(mut child, _) => drop(child.wait().await),
            Self::Found(pidfd, _) => ended(&pidfd).await,
            Self::Unwatched => std::future::pending().await,
        }
    }
}

/// Find it, or start it, and wait until it answers.
async fn ensure(layout: &Layout, open_files: Option<u64>) -> Result<Running, ManagedError> {
    if let Some(found) = answering(layout).await {
        return Ok(found);
    }
    prepare(layout)?;
    // Held until it answers: two daemons with one data root must not start two.
    let _lock = lock(layout).await?;
    if let Some(found) = answering(layout).await {
        return Ok(found);
    }
    if let Some((pidfd, pid)) = still_starting(layout) {
        return wait_until_it_answers(layout, Running::Found(pidfd, pid)).await;
    }
    let child = start(layout, open_files)?;
    wait_until_it_answers(layout, child).await
}

/// Somebody accepts on the socket; the kernel tells who.
async fn answering(layout: &Layout) -> Option<Running> {
    let stream = UnixStream::connect(&layout.socket).await.ok()?;
    let watched = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(watch);
    Some(watched.map_or(Running::Unwatched, |(pidfd, pid)| Running::Found(pidfd, pid)))
}

fn watch(pid: i32) -> Option<(OwnedFd, i32)> {
    Some((pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?, pid))
}

/// Wait until a process that is not our child has ended. A glance a second, because the runtime's own way to wait for a
/// descriptor needs unsafe code; only a daemon that found its containerd does it.
async fn ended(pidfd: &OwnedFd) {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut watched = [PollFd::new(pidfd, PollFlags::IN)];
        if poll(&mut watched, Some(&at_once)).is_ok_and(|ready| ready > 0) {
            return;
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// The process of the pid file lives, and it is ours: process ids are used again.
fn still_starting(layout: &Layout) -> Option<(OwnedFd, i32)> {
    let pid: i32 = fs::read_to_string(&layout.pid_file).ok()?.trim().parse().ok()?;
    let watched = watch(pid)?;
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let config = layout.config.as_os_str().as_encoded_bytes();
    command_line.split(|byte| *byte == 0).any(|argument| argument == config).then_some(watched)
}

fn prepare(layout: &Layout) -> Result<(), ManagedError> {
    for folder in [layout.root.as_path(), layout.pid_file.parent().unwrap_or(&layout.state)] {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
    }
    write_whole(&layout.config, &layout.config_text()).map_err(failed("write", &layout.config))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ManagedError {
    let path = path.to_owned();
    move |source| ManagedError::Io { doing, path, source }
}

/// A lock on the folder of the root, let go when the descriptor closes.
async fn lock(layout: &Layout) -> Result<fs::File, ManagedError> {
    let folder = fs::File::open(&layout.root).map_err(failed("open", &layout.root))?;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            // The other daemon is starting it; it answers soon or that daemon gives up.
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(SOCKET_PAUSE).await,
            Err(error) => return Err(failed("lock", &layout.root)(error.into())),
        }
    }
}

fn start(layout: &Layout, open_files: Option<u64>) -> Result<Running, ManagedError> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(&layout.log)
        .map_err(failed("open", &layout.log))?;
    let second = log.try_clone().map_err(failed("open", &layout.log))?;
    let child = tokio::process::Command::new(OURSELVES)
        .args([DETACH, &limit_text(open_files), "containerd", "--config"])
        .arg(&layout.config)
        .current_dir("/")
        // systemd's words to us are not for it: it would answer them in our name.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDNAMES")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(second)
        .spawn()
        .map_err(ManagedError::Spawn)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    write_whole(&layout.pid_file, &pid.to_string()).map_err(failed("write", &layout.pid_file))?;
    Ok(Running::Child(child, pid))
}

/// Nobody sees half of the file.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

async fn wait_until_it_answers(
    layout: &Layout,
    mut running: Running,
) -> Result<Running, ManagedError> {
    let deadline = tokio::time::Instant::now() + SOCKET_PATIENCE;
    loop {
        if UnixStream::connect(&layout.socket).await.is_ok() {
            return Ok(running);
        }
        if let Running::Child(child, _) = &mut running
            && let Ok(Some(status)) = child.try_wait()
        {
            return Err(ManagedError::Ended {
                status: status.to_string(),
                log: layout.log.clone(),
            });
        }
        if tokio::time::Instant::now() > deadline {
            return Err(ManagedError::Silent {
                pid: running.pid(),
                socket: layout.socket.clone(),
                log: layout.log.clone(),
            });
        }
        tokio::time::sleep(SOCKET_PAUSE).await;
    }
}

/// The mode `nerdctld detach OPEN-FILES PROGRAM ARGUMENT…`: become that program, in a session of its own, so that neither
/// the daemon's end nor a terminal's reaches it, and with the soft limit of open files that the daemon has raised for
/// itself. Only returns when it fails.
pub(crate) fn detach(arguments: &[std::ffi::OsString]) -> anyhow::Error {
    let [open_files, program, arguments @ ..] = arguments else {
        return anyhow::anyhow!("{DETACH}: a limit and a program are needed");
    };
    if let Err(error) = limit_open_files(&open_files.to_string_lossy()) {
        return error.context(format!("{DETACH}: {}", open_files.to_string_lossy()));
    }
    // Fails only for the leader of a process group, which then is detached enough.
    let _ = rustix::process::setsid();
    let error = Command::new(program).args(arguments).exec();
    anyhow::Error::new(error).context(format!("cannot run {}", program.to_string_lossy()))
}

const NO_LIMIT: &str = "unlimited";

fn limit_text(open_files: Option<u64>) -> String {
    open_files.map_or_else(|| NO_LIMIT.to_owned(), |limit| limit.to_string())
}

fn limit_open_files(text: &str) -> anyhow::Result<()> {
    let current = if text == NO_LIMIT { None } else { Some(text.parse()?) };
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_path_is_short_and_belongs_to_one_data_root() {
        let one = Layout::below(Path::new("/var/lib/nerdctl"), Path::new("/run/nerdctld"));
        let two = Layout::below(Path::new("/srv/nerdctl"), Path::new("/run/nerdctld"));
        assert!(one.socket.as_os_str().len() < 60);
        assert_ne!(one.socket, two.socket);
        assert!(one.root.starts_with("/var/lib/nerdctl") && one.state.starts_with("/run/nerdctld"));
    }

    #[test]
    fn a_pid_file_of_somebody_else_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::below(&folder.path().join("data"), &folder.path().join("run"));
        prepare(&layout).unwrap();
        fs::write(&layout.pid_file, std::process::id().to_string()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async { assert!(still_starting(&layout).is_none()) });
    }
}
