//! Start a container.
//!
//! Monitor, task, process, in this order: the monitor must read before the runtime opens the FIFOs, and it must be there
//! before the first byte. The networks are attached inside `Tasks.Create`, by the OCI hook of our own binary, so that
//! nerdctl and containerd can start the container in the same way while no daemon runs.

mod mounts;
pub(super) mod network;

use containerd::classify::{StartFailure, start_failure};
use containerd::tasks::{CreateTask, TaskStatus};
use jiff::Timestamp;

use super::remove::RemoveOptions;
use super::restarts::Starter;
use super::state::Fact;
use super::{Container, Owner, Phase};
use crate::locks::ContainerGuard;
use crate::{Engine, Error, Result, fault};

/// How the runtime's answer names a failed network set-up, runc since 1.2 and before.
const HOOK_FAILED: [&str; 2] = ["error running createRuntime hook", "error running hook"];

/// How our hook's own words begin, and what the runtime and containerd put behind them.
const HOOK_SAYS: &str = "stderr: nerdctld: ";
const BEHIND: [&str; 2] = [": unknown", "\n"];

/// Exit code of a container that could not be started for a reason that is not its program (moby `daemon/start.go`).
pub(crate) const NOT_STARTED: u32 = 128;

impl Engine {
    /// Start it.
    ///
    /// # Errors
    /// [`Error::NotModified`] if it runs; [`Error::StartPaused`], [`Error::StartRemoving`]; [`Error::StartFailed`] with the
    /// runtime's words; [`Error::Networking`]; [`Error::ManagedByKubernetes`].
    pub async fn start_container(&self, typed: &str) -> Result<()> {
        let (guard, container) = self.lock_container(typed, "start").await?;
        // One that seems not to run is looked at before it is started.
        let container = self.up_to_date(container, |phase| !phase.has_process()).await;
        match container.state.phase {
            // Docker counts one that waits for its restart as running.
            Phase::Running | Phase::Restarting => return Err(Error::NotModified),
            Phase::Paused => return Err(Error::StartPaused),
            Phase::Removing | Phase::Dead => return Err(Error::StartRemoving),
            Phase::Created | Phase::Exited => {}
        }
        let Err(error) = self.start_locked(&guard, &container, Starter::Person).await else {
            return Ok(());
        };
        if matches!(error, Error::NotModified) {
            return Err(error);
        }
        if let Some((code, message)) = failed_start(&error) {
            if self.adopt_run(&container).await {
                return Err(Error::NotModified);
            }
            self.take_back_start(&container, Some(code)).await;
            let fact = Fact::StartFailed { code, message };
            self.inventory().tell(&container.id, fact).await;
        }
        drop(guard);
        if container.auto_remove && container.owner == Owner::Nerdctld {
            // moby `daemon/start.go`: a container that was to vanish at its end vanishes when it cannot begin.
            let options = RemoveOptions { volumes: true, ..RemoveOptions::default() };
            if let Err(error) = self.remove_container(container.id.as_str(), &options).await {
                tracing::warn!(
                    container = container.id.as_str(),
                    error = error.message(),
                    "auto-removal failed"
                );
            }
        }
        Err(error)
    }

    /// What is another's, or for others, has its place anew at each start.
    async fn prepare_start(&self, container: &Container) -> Result<()> {
        self.prepare_network(container).await?;
        self.prepare_links(container).await?;
        self.prepare_shares(container).await
    }

    /// Start it, whatever its state says.
    pub(crate) async fn start_locked(
        &self,
        guard: &ContainerGuard,
        container: &Container,
        starter: Starter,
    ) -> Result<()> {
        // First of all: its logger holds the log, and its networks are its own.
        if self.adopt_run(container).await {
            return Err(Error::NotModified);
        }
        self.prepare_start(container).await?;
        match container.owner {
            Owner::Nerdctld => self.start_ours(guard, container, starter).await,
            _ => self.start_foreign(container).await,
        }
    }

    async fn start_ours(
        &self,
        guard: &ContainerGuard,
        container: &Container,
        starter: Starter,
    ) -> Result<()> {
        let held = self.prepare_mounts(container).await?;
        let (mut monitor, fifos) = self.ready_monitor(container).await?;
        fault::reached("start.monitor");
        let task = CreateTask {
            stdin: fifos.stdin,
            stdout: fifos.stdout,
            stderr: fifos.stderr,
            terminal: container.tty,
            ..CreateTask::default()
        };
        let outcome = async {
            let pid = self.create_task(container, task).await?;
            fault::reached("start.task");
            if let Err(error) = held.check(pid) {
                self.delete_unstarted(container).await;
                return Err(error);
            }
            // The shim has its ends: from now on their end is the end of output.
            let stdin = match monitor.started().await {
                Ok(stdin) => stdin,
                Err(error) => {
                    self.delete_unstarted(container).await;
                    let doing = format!("talk to the I/O monitor of container {}", container.id);
                    return Err(Error::failed(doing, error));
                }
            };
            self.run_task(container, starter).await?;
            if stdin.close_io
                && !container.tty
                && let Err(error) = self.containerd().close_io(container.id.as_str(), None).await
            {
                tracing::warn!(container = container.id.as_str(), %error, "stdin could not be closed");
            }
            Ok(())
        }
        .await;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => {
                self.remove_streams(guard.id()).await;
                Err(error)
            }
        }
    }

    /// nerdctl's containers carry the URI of their own logger; others run without output.
    async fn start_foreign(&self, container: &Container) -> Result<()> {
        let log_uri = container.log_uri.clone().unwrap_or_default();
        if container.tty && log_uri.is_empty() {
            let what = format!(
                "starting container {}, which has a terminal and no log URI,",
                container.id
            );
            return Err(Error::Unsupported {
                what,
                hint: ": start it with the program that made it".into(),
            });
        }
        let task = CreateTask {
            stdout: log_uri.clone(),
            stderr: log_uri,
            terminal: container.tty,
            ..CreateTask::default()
        };
        self.create_task(container, task).await?;
        self.run_task(container, Starter::Person).await
    }

    /// Make the task, and give its process; a stopped one of an earlier run makes room first.
    async fn create_task(&self, container: &Container, mut task: CreateTask) -> Result<u32> {
        let id = container.id.as_str();
        task.container_id = id.to_owned();
        if !container.snapshotter.is_empty() {
            let snapshotter = self.containerd().snapshotter(&container.snapshotter);
            let mounts = snapshotter.mounts(&container.snapshot_key).await;
            task.rootfs = mounts.map_err(|error| {
                self.containerd_error(format!("find the root file system of container {id}"), error)
            })?;
        }
        let mut created = self.containerd().create_task(task.clone()).await;
        if created.as_ref().is_err_and(containerd::Error::is_already_exists) {
            self.clear_old_task(container).await?;
            created = self.containerd().create_task(task).await;
        }
        created.map_err(|error| self.start_error(error))
    }

    /// There is a task already: of an ended run, or somebody was faster.
    async fn clear_old_task(&self, container: &Container) -> Result<()> {
        let id = container.id.as_str();
        let doing = || format!("look at the old task of container {id}");
        let old = self
            .containerd()
            .get_task(id)
            .await
            .map_err(|error| self.containerd_error(doing(), error))?;
        match old.status {
            TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing => {
                self.adopt_task(container, old.pid).await;
                Err(Error::NotModified)
            }
            TaskStatus::Stopped | TaskStatus::Created | TaskStatus::Unknown => {
                match self.containerd().delete_task(id).await {
                    Ok(_) => Ok(()),
                    Err(error) if error.is_not_found() => Ok(()),
                    // A failed postStop hook is told once; the second deletion succeeds (runc's own state is gone).
                    Err(_) => match self.containerd().delete_task(id).await {
                        Err(error) if !error.is_not_found() => Err(self.containerd_error(
                            format!("delete the old task of container {id}"),
                            error,
                        )),
                        _ => Ok(()),
                    },
                }
            }
        }
    }

    /// containerd's restart plugin or nerdctl was first: adopt its run. Says whether there is one.
    pub(crate) async fn adopt_run(&self, container: &Container) -> bool {
        let Ok(task) = self.containerd().get_task(container.id.as_str()).await else {
            return false;
        };
        let runs =
            matches!(task.status, TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing);
        if runs {
            self.adopt_task(container, task.pid).await;
        }
        runs
    }

    async fn adopt_task(&self, container: &Container, pid: u32) {
        let fact = Fact::Started { pid, at: Timestamp::now() };
        self.inventory().refresh_and_tell(&container.id, fact).await;
    }

    /// Let the process go, and tell.
    async fn run_task(&self, container: &Container, starter: Starter) -> Result<()> {
        let id = container.id.as_str();
        let before = Timestamp::now();
        match self.containerd().start_task(id).await {
            Ok(pid) => {
                fault::reached("start.process");
                if container.owner == Owner::Nerdctld {
                    // Before anybody hears of the start and looks for them.
                    self.hide_fifos(&container.id);
                }
                self.arm(container, starter).await;
                fault::reached("start.armed");
                self.inventory()
                    .refresh_and_tell(&container.id, Fact::Started { pid, at: before })
                    .await;
                Ok(())
            }
            Err(error) => {
                self.delete_unstarted(container).await;
                Err(self.start_error(error))
            }
        }
    }

    /// The task was made, but its process will not be let go: end it, with its networks, and forget the start.
    async fn delete_unstarted(&self, container: &Container) {
        let id = container.id.as_str();
        if let Err(error) = self.containerd().delete_task(id).await
            && !error.is_not_found()
        {
            tracing::warn!(container = id, %error, "the task that could not be started could not be deleted");
        }
        self.take_back_start(container, None).await;
    }

    /// The hook noted a start that was none: without this the container would be found ended, at the next look. `code` is
    /// what inspect shows from now on, if the runtime gave one; for a container that never ran only memory has it.
    pub(crate) async fn take_back_start(&self, container: &Container, code: Option<u32>) {
        if container.owner != Owner::Nerdctld {
            return;
        }
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let taken_back = tokio::task::spawn_blocking(move || state_dir.take_back_start(code));
        if let Ok(Err(error)) = taken_back.await {
            tracing::warn!(container = container.id.as_str(), %error, "the note of a failed start could not be taken back");
        }
    }

    fn start_error(&self, error: containerd::Error) -> Error {
        if error.is_unavailable() {
            return self.containerd_error("start the container", error);
        }
        if HOOK_FAILED.iter().any(|words| error.message().contains(words)) {
            return Error::Networking { source: hooks_words(error.message()).into() };
        }
        let (exit_code, hint) = match start_failure(&error) {
            StartFailure::NoSuchProgram | StartFailure::MountMismatch => (127, ""),
            // Docker's clients look for these words to exit with 126 (moby `daemon/start.go`).
            StartFailure::IsDirectory => (126, ": permission denied"),
            StartFailure::NotExecutable => (126, ""),
            StartFailure::Other => (128, ""),
        };
        Error::StartFailed { message: format!("{}{hint}", error.message()), exit_code }
    }
}

/// Exit code and words that inspect shows after a failed start; nothing where the request was at fault.
pub(crate) fn failed_start(error: &Error) -> Option<(u32, String)> {
    match error {
        Error::StartFailed { exit_code, message } => Some((u32::from(*exit_code), message.clone())),
        Error::Networking { .. }
        | Error::NetworkSetup { .. }
        | Error::CannotJoin { .. }
        | Error::JoinMissing { .. }
        | Error::JoinFailed { .. }
        | Error::LogDriver { .. }
        | Error::JoinItself => Some((NOT_STARTED, error.message())),
        _ => None,
    }
}

/// The hook's words in the runtime's; all of them if it said nothing.
fn hooks_words(message: &str) -> String {
    let Some((_, said)) = message.rsplit_once(HOOK_SAYS) else { return message.to_owned() };
    let mut said = said.trim_end();
    while let Some(shorter) = BEHIND.iter().find_map(|tail| said.strip_suffix(tail)) {
        said = shorter.trim_end();
    }
    said.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inspect_tells_of_starts_that_failed() {
        let source = Box::new(Error::NotRunning("0123".into()));
        for error in [
            Error::JoinFailed { namespace: "PID", source },
            Error::LogDriver { message: "no".into() },
        ] {
            assert_eq!(failed_start(&error), Some((NOT_STARTED, error.message())));
        }
        assert_eq!(failed_start(&Error::NotModified), None);
    }

    #[test]
    fn the_hooks_words_are_found_in_the_runtimes() {
        let words = "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated";
        for message in [
            format!(
                "OCI runtime create failed: error running createRuntime hook #0: exit status 1, stdout: , stderr: nerdctld: {words}\n: unknown"
            ),
            format!(
                "error running createRuntime hook #0: exit status 1, stdout: , stderr: nerdctld: {words}: unknown"
            ),
        ] {
            assert_eq!(hooks_words(&message), words);
        }
        assert_eq!(hooks_words("error running hook: killed"), "error running hook: killed");
    }
}
