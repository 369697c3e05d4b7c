//! The I/O monitors of our containers: one for each run, started before it, replaced when it dies.
//!
//! A monitor is a process of its own and outlives the daemon ([`io_monitor`]). This file starts it, keeps the FIFOs'
//! bytes alive while there is none, starts another one when one was killed, and drains it when the run has ended.
//!
//! The FIFO directory has two names: the one that the task was given, and a private one that it gets as soon as the
//! process runs, so that a client that opens what the task names (`nerdctl attach`) cannot take bytes away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use io_monitor::client::{self, Monitor, SpawnOptions};
use io_monitor::fifos::{self, FifoPaths, Hold};
use io_monitor::log_config::Subject;
use names::ContainerId;

use super::Container;
use crate::locks::Locks;
use crate::{Engine, Error, Result};

/// A monitor that cannot be started again is tried so often, once a second, before the container is left without.
const RESPAWNS: u32 = 30;

/// A monitor that lives as long as this works. The next one after a shorter life has to wait, longer each time.
const GOOD_LIFE: Duration = Duration::from_secs(2);

/// The pause after the second short life in a row, and the longest one. Output stands still meanwhile.
const SHORT_LIFE_PAUSE: Duration = Duration::from_millis(20);
const SHORT_LIFE_PAUSE_MOST: Duration = Duration::from_secs(1);

/// Orders starts and replacements of monitors, one container at a time.
#[derive(Debug, Default)]
pub struct Streams {
    locks: Locks,
}

/// Where the streams of a container's run are.
#[derive(Clone, Debug)]
pub(crate) struct StreamPaths {
    /// The monitor's socket.
    pub(crate) socket: PathBuf,
    /// The FIFOs, as the task names them.
    pub(crate) fresh: PathBuf,
    /// The FIFOs, once the process runs.
    pub(crate) private: PathBuf,
    /// The FIFO of a health check.
    pub(crate) probe: PathBuf,
}

impl StreamPaths {
    /// The FIFO directory there is.
    fn existing(&self) -> Option<&Path> {
        [&self.private, &self.fresh].into_iter().find(|dir| dir.exists()).map(PathBuf::as_path)
    }
}

impl Engine {
    /// Where the streams of `id` are.
    pub(crate) fn stream_paths(&self, id: &ContainerId) -> StreamPaths {
        let dir = io_monitor::runtime_dir(self.store().path());
        let socket = io_monitor::socket_path(&dir, id.as_str());
        StreamPaths {
            fresh: socket.with_extension("fifos"),
            private: socket.with_extension("run"),
            probe: socket.with_extension("probe"),
            socket,
        }
    }

    /// Make sure that a monitor waits for the next run, and connect to it. The connection keeps it waiting.
    ///
    /// Whoever comes first makes it: the attach request of a `docker run`, or the start itself.
    ///
    /// # Errors
    /// [`Error::Failed`] if the FIFOs or the monitor cannot be made.
    pub(crate) async fn ready_monitor(
        &self,
        container: &Container,
    ) -> Result<(Monitor, FifoPaths)> {
        let id = &container.id;
        let paths = self.stream_paths(id);
        let _turn = self.streams().locks.lock(id).await;
        if let Some(monitor) = monitor_of_next_run(&paths.socket).await {
            return Ok((monitor, fifo_paths(&paths.fresh, container.tty, container.open_stdin)));
        }
        let doing = || format!("prepare the streams of container {id}");
        let failed = |error: io_monitor::Error| Error::failed(doing(), error);
        fifos::remove(&paths.private).map_err(failed)?;
        let made =
            fifos::create(&paths.fresh, container.tty, container.open_stdin).map_err(failed)?;
        match self.spawn_monitor(container, &paths.fresh, false).await {
            Ok(()) => {}
            Err(error) => {
                let _ = fifos::remove(&paths.fresh);
                return Err(error);
            }
        }
        let monitor = Monitor::connect(&paths.socket).await.map_err(failed)?;
        Ok((monitor, made))
    }

    /// The process runs: hide the FIFOs from others.
    pub(crate) fn hide_fifos(&self, id: &ContainerId) {
        let paths = self.stream_paths(id);
        if let Err(error) = std::fs::rename(&paths.fresh, &paths.private) {
            tracing::warn!(container = id.as_str(), %error, "the FIFO directory could not be renamed");
        }
    }

    /// Keep a running container supplied with a monitor until its output has ended.
    pub(crate) async fn mind_streams(self, container: std::sync::Arc<Container>) {
        let paths = self.stream_paths(&container.id);
        // Started by nerdctl or the restart plugin: then the shim has the pipe, and nobody can take its place.
        let Some(dir) = paths.existing() else { return };
        let _hold = Hold::new(dir).inspect_err(|error| {
            tracing::warn!(container = container.id.as_str(), %error, "the output of a container cannot be held");
        });
        let mut tries = 0;
        let mut short_lives = 0;
        while tries < RESPAWNS {
            let connected = Monitor::connect(&paths.socket).await;
            if matches!(connected, Err(io_monitor::Error::Silent { .. }))
                && self.still_runs(&container)
            {
                // It is there. Once somebody kills it, another one can take its place.
                continue;
            }
            if let Ok(mut monitor) = connected {
                let began = Instant::now();
                match monitor.ended().await {
                    Ok(Some(_)) => return,
                    Ok(None) => tracing::warn!(
                        container = container.id.as_str(),
                        "a monitor was killed; starting another"
                    ),
                    Err(error) => {
                        tracing::warn!(container = container.id.as_str(), %error, "a monitor talks nonsense");
                        // It is still there, and will be asked again.
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                tries = 0;
                short_lives = if began.elapsed() < GOOD_LIFE { short_lives + 1 } else { 0 };
                tokio::time::sleep(pause_after(short_lives)).await;
            }
            if !self.still_runs(&container) {
                return;
            }
            tries += 1;
            match self.replace_monitor(&container).await {
                Ok(true) => {}
                // The run has ended meanwhile, and its output is drained.
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(
                        container = container.id.as_str(),
                        error = error.message(),
                        "no monitor could be started"
                    );
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        tracing::error!(
            container = container.id.as_str(),
            "no monitor can be started; the container's output stands still"
        );
    }

    /// Whether the run may still write: neither the inventory nor the kernel says that its process is gone. The kernel is
    /// first to know; an end is told only when it has been worked on.
    fn still_runs(&self, container: &Container) -> bool {
        let now = self.inventory().now();
        let state = now.get(&container.id).map(|entry| &entry.container.state);
        state.is_some_and(|state| {
            state.phase.has_process()
                && state.generation == container.state.generation
                && is_alive(state.pid)
        })
    }

    /// Start a monitor on the FIFOs of a run that has lost its own, unless somebody did already.
    async fn replace_monitor(&self, container: &Container) -> Result<bool> {
        let paths = self.stream_paths(&container.id);
        let _turn = self.streams().locks.lock(&container.id).await;
        // One that does not answer is there.
        match Monitor::connect(&paths.socket).await {
            Ok(_) | Err(io_monitor::Error::Silent { .. }) => return Ok(true),
            Err(_) => {}
        }
        let Some(dir) = paths.existing() else { return Ok(false) };
        self.spawn_monitor(container, dir, true).await?;
        Ok(true)
    }

    async fn spawn_monitor(&self, container: &Container, dir: &Path, started: bool) -> Result<()> {
        let options = SpawnOptions {
            program: self.settings().helper.clone(),
            container: container.id.as_str().to_owned(),
            fifo_dir: dir.to_owned(),
            state_dir: self.store().container_dir(&self.settings().namespace, &container.id),
            socket: self.stream_paths(&container.id).socket,
            tty: container.tty,
            started,
        };
        if !started {
            self.refresh_log_subject(container).await?;
        }
        let handle = client::spawn(&options).await.map_err(|error| match error {
            io_monitor::Error::LogDriver { message } => Error::LogDriver { message },
            other => {
                Error::failed(format!("start the I/O monitor of container {}", container.id), other)
            }
        })?;
        self.supervisor().spawn(async move {
            // Only so that it does not become a zombie; what it does is told over its socket.
            let _ = handle.wait().await;
        });
        Ok(())
    }

    /// A log tells the name that its container has when the run begins.
    async fn refresh_log_subject(&self, container: &Container) -> Result<()> {
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let name = container.name.clone();
        let refreshed = tokio::task::spawn_blocking(move || -> Result<(), crate::error::Cause> {
            let Some(found) = state_dir.log_subject()? else { return Ok(()) };
            let mut subject: Subject = serde_json::from_slice(&found)?;
            if subject.name != name {
                subject.name = name;
                state_dir.write_log_subject(&serde_json::to_vec(&subject)?)?;
            }
            Ok(())
        });
        let doing = || format!("describe container {} to its log", container.id);
        refreshed
            .await
            .map_err(|error| Error::failed(doing(), error))?
            .map_err(|error| Error::failed(doing(), error))
    }

    /// The run has ended: have all of its output in the log, then take the FIFOs away.
    ///
    /// Its end may be heard of when the next start is under way already, if containerd's plugin had begun it and it was short.
    /// The streams of that start stay.
    pub(crate) async fn drain_streams(&self, container: &Container, grace: Duration) {
        let id = &container.id;
        let paths = self.stream_paths(id);
        if next_run_is_awaited(&paths).await {
            return;
        }
        let mut drained = drain(&paths.socket, grace).await;
        if !matches!(drained, Ok(true)) && paths.existing().is_some_and(holds_output) {
            // The monitor was killed. What the FIFOs still hold is saved by another one.
            if self.replace_monitor(container).await.is_ok_and(|there| there) {
                drained = drain(&paths.socket, grace).await;
            }
        }
        if let Err(error) = drained {
            tracing::warn!(
                container = id.as_str(),
                %error,
                "the last output of a container may be missing in its log"
            );
        }
        let _turn = self.streams().locks.lock(id).await;
        if !next_run_is_awaited(&paths).await {
            self.remove_fifos(id);
        }
    }

    /// The container is going away, or its start failed: end its monitor and remove what belongs to it.
    pub(crate) async fn remove_streams(&self, id: &ContainerId) {
        let paths = self.stream_paths(id);
        let _ = drain(&paths.socket, Duration::ZERO).await;
        // A monitor that was killed leaves it.
        let _ = std::fs::remove_file(&paths.socket);
        self.remove_fifos(id);
    }

    fn remove_fifos(&self, id: &ContainerId) {
        let paths = self.stream_paths(id);
        for dir in [&paths.fresh, &paths.private, &paths.probe] {
            if let Err(error) = fifos::remove(dir) {
                tracing::warn!(container = id.as_str(), %error, "the FIFOs of a container could not be removed");
            }
        }
    }
}

/// Whether the FIFOs that a task opens, and the monitor, are those of a run that is to begin.
async fn next_run_is_awaited(paths: &StreamPaths) -> bool {
    paths.fresh.exists() && monitor_of_next_run(&paths.socket).await.is_some()
}

/// The monitor behind `socket`, if its run is to begin.
async fn monitor_of_next_run(socket: &Path) -> Option<Monitor> {
    let monitor = Monitor::connect(socket).await.ok()?;
    let hello = monitor.hello();
    (!hello.started && !hello.ended).then_some(monitor)
}

/// Have the monitor behind `socket` write everything into the log and end. `false`: there is none.
async fn drain(socket: &Path, grace: Duration) -> std::result::Result<bool, io_monitor::Error> {
    client::drain(socket, grace).await.map(|drained| drained.is_some())
}

fn fifo_paths(dir: &Path, tty: bool, stdin: bool) -> FifoPaths {
    let path = |wanted: bool, name: &str| {
        if wanted { dir.join(name).display().to_string() } else { String::new() }
    };
    FifoPaths {
        stdin: path(stdin, fifos::STDIN),
        stdout: path(true, fifos::STDOUT),
        stderr: path(!tty, fifos::STDERR),
    }
}

/// There is output in the FIFOs that no monitor has taken. A monitor that ended by itself leaves none.
fn holds_output(dir: &Path) -> bool {
    use rustix::fs::{Mode, OFlags};
    [fifos::STDOUT, fifos::STDERR].into_iter().any(|name| {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(dir.join(name), flags, Mode::empty());
        fifo.is_ok_and(|fifo| rustix::io::ioctl_fionread(&fifo).is_ok_and(|bytes| bytes > 0))
    })
}

/// Whether there is such a process, and it is not a zombie. An unknown pid counts as alive.
fn is_alive(pid: u32) -> bool {
    if pid == 0 {
        return true;
    }
    // The state follows the name in parentheses, which may hold anything (proc_pid_stat(5)).
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The pause before another monitor, after so many short lives in a row: one may have been killed.
fn pause_after(short_lives: u32) -> Duration {
    match short_lives {
        0 | 1 => Duration::ZERO,
        more => (SHORT_LIFE_PAUSE * 2_u32.saturating_pow(more - 2)).min(SHORT_LIFE_PAUSE_MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_is_waited_for_or_a_zombie() {
        assert!(is_alive(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while is_alive(pid) {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert!(!is_alive(pid));
        assert!(is_alive(0), "unknown");
    }

    #[test]
    fn only_fifos_with_bytes_hold_output() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("fifos");
        fifos::create(&dir, false, false).unwrap();
        let _hold = Hold::new(&dir).unwrap();
        assert!(!holds_output(&dir));
        let mut writer =
            std::fs::OpenOptions::new().write(true).open(dir.join(fifos::STDERR)).unwrap();
        writer.write_all(b"last words").unwrap();
        drop(writer);
        assert!(holds_output(&dir));
    }
}
