//! Start an exec: from here on there is a process, and somebody minds it until it is gone from containerd.

use std::sync::Arc;

use containerd::Any;
use containerd::classify::{ShimProblem, StartFailure, shim_problem, start_failure};
use containerd::tasks::{ExecTask, Exit};
use futures_util::future::{Either, ready, select};
use tokio::sync::oneshot;

use super::create::takes_execs;
use super::pipes::{ExecDir, Pipes, Wanted};
use super::process::set_console_size;
use super::session::ExecSession;
use super::{Exec, Stage};
use crate::containers::Container;
use crate::events::translate::container_event;
use crate::{Engine, Error, Result, fault};

/// How an exec is to be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecStart {
    /// First size of its terminal `(height, width)`, instead of the one that create named.
    pub console_size: Option<(u16, u16)>,
    /// The client takes all that comes for one stream, without frames: there is no place for stderr (moby
    /// `daemon/server/router/container/exec.go`).
    pub raw: bool,
}

/// The streams of a process, for as long as somebody else than its keeper has them.
#[derive(Debug)]
pub(super) struct Lent {
    pipes: Option<Pipes>,
    back: Option<oneshot::Sender<Pipes>>,
}

impl Lent {
    /// `None` only while it is dropped.
    pub(super) fn pipes(&mut self) -> Option<&mut Pipes> {
        self.pipes.as_mut()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(pipes), Some(back)) = (self.pipes.take(), self.back.take()) {
            // The keeper is gone only when the daemon ends.
            let _ = back.send(pipes);
        }
    }
}

impl Engine {
    /// The exec with this id, whose container can run it (moby `daemon/exec.go`, `getExecConfig`).
    pub(super) async fn usable_exec(&self, id: &str) -> Result<(Arc<Exec>, Arc<Container>)> {
        let exec = self.execs().get(id).ok_or_else(|| Error::NoSuchExec(id.to_owned()))?;
        let now = self.inventory().loaded().await?;
        let entry =
            now.get(&exec.container).ok_or_else(|| Error::NoSuchContainer(id.to_owned()))?;
        let container = Arc::clone(&entry.container);
        if exec.is_stale(&container) {
            return Err(Error::NoSuchExec(id.to_owned()));
        }
        takes_execs(&container, container.id.as_str())?;
        Ok((exec, container))
    }

    /// Prepare a start for a client that wants the streams. Nothing happens until [`ExecSession::run`].
    ///
    /// # Errors
    /// [`Error::NoSuchExec`], [`Error::NoSuchContainer`]; [`Error::NotRunning`], [`Error::ExecPaused`],
    /// [`Error::ExecRestarting`]. An exec that was started before is refused in the stream, as with dockerd.
    pub async fn exec_session(&self, id: &str, start: ExecStart) -> Result<ExecSession> {
        let (exec, _) = self.usable_exec(id).await?;
        Ok(ExecSession::new(self.clone(), exec, start))
    }

    /// Start it and leave it alone. Returns when it runs; its output goes nowhere.
    ///
    /// # Errors
    /// As [`Engine::exec_session`]; [`Error::ExecIsRunning`], [`Error::ExecHasRun`], [`Error::ExecFailed`].
    pub async fn start_exec(&self, id: &str, start: ExecStart) -> Result<()> {
        let (exec, _) = self.usable_exec(id).await?;
        self.begin_exec(exec, start, Wanted::default()).await.map(drop)
    }

    /// Start it, to the end even if the caller leaves.
    pub(super) async fn begin_exec(
        &self,
        exec: Arc<Exec>,
        start: ExecStart,
        wanted: Wanted,
    ) -> Result<Lent> {
        let engine = self.clone();
        let begun = self.supervisor().detached(async move {
            let (_, container) = engine.usable_exec(exec.id.as_str()).await?;
            let mut process = exec.claim()?;
            if let (true, Some(size)) =
                (exec.options.tty, start.console_size.or(exec.options.console_size))
            {
                set_console_size(&mut process, size);
            }
            engine.publish_exec(&exec, &container, &exec.event("exec_start"), None);
            let json = serde_json::Value::Object(process).to_string();
            let begun = engine.run_exec(&exec, &container, json, wanted).await;
            begun.inspect_err(|error| {
                let code = match error {
                    Error::ExecFailed { exit_code, .. } => u32::from(*exit_code),
                    // moby `daemon/exec.go`: whatever else is in the way counts as "cannot be executed".
                    _ => 126,
                };
                exec.stage.send_replace(Stage::Failed { code });
            })
        });
        begun.await.map_err(|crashed| Error::failed("start an exec", crashed))?
    }

    async fn run_exec(
        &self,
        exec: &Arc<Exec>,
        container: &Arc<Container>,
        process: String,
        wanted: Wanted,
    ) -> Result<Lent> {
        let (id, exec_id) = (container.id.as_str(), exec.id.as_str());
        let tty = exec.options.tty;
        let failed = |error| Error::failed(format!("make the streams of exec {exec_id}"), error);
        let dir = ExecDir::make(&self.exec_dirs(), &format!("{id}.{exec_id}")).map_err(failed)?;
        let (paths, pipes) = match dir.open(tty, wanted) {
            Ok(opened) => opened,
            Err(error) => {
                dir.remove();
                return Err(failed(error));
            }
        };
        let task = ExecTask {
            container_id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            process: Any::oci_process(process),
            stdin: paths.stdin,
            stdout: paths.stdout,
            stderr: paths.stderr,
            terminal: tty,
        };
        fault::reached("exec.streams");
        if let Err(error) = self.containerd().exec(task).await {
            dir.remove();
            return Err(self.exec_error(container, error));
        }
        fault::reached("exec.process");
        // Asked before the start: the answer is the exit code, whatever becomes of the container in between.
        let exit = Box::pin(self.clone().exit_of_exec(container.id.clone(), exec.id.clone()));
        let start = Box::pin(self.containerd().start_exec(id, exec_id));
        let (started, exit) = match select(exit, start).await {
            Either::Right((started, exit)) => (started, Either::Left(exit)),
            Either::Left((exit, start)) => (start.await, Either::Right(ready::<Exit>(exit))),
        };
        let pid = match started {
            Ok(pid) => pid,
            Err(error) => {
                let forget = self.clone().forget_exec(container.id.clone(), exec.id.clone(), dir);
                self.supervisor().spawn_operation(forget);
                return Err(self.exec_error(container, error));
            }
        };
        fault::reached("exec.started");
        exec.stage.send_replace(Stage::Running { pid });
        let (back, returned) = oneshot::channel();
        let keeper =
            self.clone().keep_exec(Arc::clone(exec), Arc::clone(container), exit, returned, dir);
        self.supervisor().spawn(keeper);
        Ok(Lent { pipes: Some(pipes), back: Some(back) })
    }

    /// Tell what happened to an exec.
    pub(super) fn publish_exec(
        &self,
        exec: &Exec,
        container: &Container,
        action: &str,
        exit_code: Option<u32>,
    ) {
        let mut extra = vec![("execID", exec.id.to_string())];
        extra.extend(exit_code.map(|code| ("exitCode", code.to_string())));
        self.hub().publish(container_event(container, action, &extra));
    }

    /// Why containerd did not make or start it: the container's state has changed, or runc's words.
    fn exec_error(&self, container: &Container, error: containerd::Error) -> Error {
        if error.is_unavailable() {
            return self.containerd_error("start an exec", error);
        }
        let id = || container.id.to_string();
        match shim_problem(&error) {
            Some(ShimProblem::Paused) => return Error::ExecPaused(id()),
            Some(ShimProblem::Stopped | ShimProblem::Deleted | ShimProblem::ShimGone) => {
                return Error::NotRunning(id());
            }
            Some(ShimProblem::NotStarted | ShimProblem::Running) | None => {}
        }
        if error.is_not_found() {
            return Error::NotRunning(id());
        }
        // moby `daemon/errors.go`, `setExitCodeFromError`.
        let (exit_code, hint) = match start_failure(&error) {
            StartFailure::NotExecutable => (126, ""),
            StartFailure::IsDirectory => (126, ": permission denied"),
            StartFailure::MountMismatch => (
                127,
                ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type",
            ),
            StartFailure::NoSuchProgram => (127, ""),
            StartFailure::Other => (128, ""),
        };
        Error::ExecFailed { message: format!("{}{hint}", error.message()), exit_code }
    }
}
