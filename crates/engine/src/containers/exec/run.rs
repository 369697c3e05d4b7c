//! Mind a running exec: wait for its end, tell it, keep its output flowing while no client has it, and take it off
//! containerd when it is over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use containerd::tasks::{Exit, TaskStatus};
use names::{ContainerId, ExecId};
use tokio::sync::{oneshot, watch};

use super::pipes::{ExecDir, Pipes, Stdin};
use super::{Exec, Stage};
use crate::containers::Container;
use crate::containers::exit::UNKNOWN;
use crate::events::translate::container_event;
use crate::{Engine, fault};

/// The longest pause between two questions while containerd is away.
const PAUSE_MOST: Duration = Duration::from_secs(5);

/// Ids of processes that the daemon runs for itself begin so; who runs them tells of them.
const TOLD_ELSEWHERE: &str = "nerdctld-";

/// So often it is tried to delete an ended process.
const DELETIONS: u32 = 10;

impl Engine {
    /// Where the directories of this namespace's execs are.
    pub(super) fn exec_dirs(&self) -> PathBuf {
        let dir = io_monitor::runtime_dir(self.store().path());
        dir.join("exec").join(self.settings().namespace.as_str())
    }

    /// Have an eye on a process from its start to its deletion. `exit` is the wait for its end; the streams come over
    /// `returned` when the client is done with them.
    pub(super) async fn keep_exec(
        self,
        exec: Arc<Exec>,
        container: Arc<Container>,
        exit: impl Future<Output = Exit> + Send,
        returned: oneshot::Receiver<Pipes>,
        dir: ExecDir,
    ) {
        let ended = async {
            let code = exit.await.status;
            exec.stage.send_modify(|stage| {
                let pid = if let Stage::Running { pid } = *stage { pid } else { 0 };
                *stage = Stage::Ended { pid, code };
            });
            self.publish_exec(&exec, &container, "exec_die", Some(code));
        };
        let output = async {
            if let Ok(pipes) = returned.await {
                let tty = exec.options.tty;
                self.throw_away(&exec.container, &exec.id, tty, pipes, exec.stage.subscribe())
                    .await;
            }
        };
        tokio::join!(ended, output);
        fault::reached("exec.ended");
        let (container, id) = (exec.container.clone(), exec.id.clone());
        self.supervisor().spawn_operation(self.clone().forget_exec(container, id, dir));
    }

    /// Nobody has the other end any more: what is written goes nowhere, and the process must not wait for it.
    pub(super) async fn throw_away(
        &self,
        container: &ContainerId,
        exec: &ExecId,
        tty: bool,
        mut pipes: Pipes,
        mut stage: watch::Receiver<Stage>,
    ) {
        if pipes.stdin.is_open() && !tty && !stage.borrow().is_over() {
            self.close_exec_stdin(container, exec, &mut pipes.stdin).await;
        }
        pipes.stdin = Stdin::Closed;
        while pipes.output.next(&mut stage).await.is_some() {}
    }

    /// Let the process see the end of its input. Not for terminals: there it would hang the process up.
    pub(super) async fn close_exec_stdin(
        &self,
        container: &ContainerId,
        exec: &ExecId,
        stdin: &mut Stdin,
    ) {
        *stdin = Stdin::Closed;
        let closed = self.containerd().close_io(container.as_str(), Some(exec.as_str())).await;
        if let Err(error) = closed {
            // Most likely it has ended meanwhile.
            tracing::debug!(exec = exec.as_str(), %error, "stdin could not be closed");
        }
    }

    /// nerdctl's and the kubelet's execs are told at their end, which is all that containerd says of them (moby
    /// `daemon/monitor.go` tells those it does not know in the same way).
    pub(crate) fn tell_foreign_exec(&self, container: &Container, exec: &str, exit: Exit) {
        if self.execs().knows(exec) || exec.starts_with(TOLD_ELSEWHERE) {
            return;
        }
        let extra = [("execID", exec.to_owned()), ("exitCode", exit.status.to_string())];
        self.hub().publish(container_event(container, "exec_die", &extra));
    }

    /// How a process ends. The answer of a wait is not lost by an absence of containerd: it is asked again.
    pub(super) async fn exit_of_exec(self, container: ContainerId, exec: ExecId) -> Exit {
        let (container, exec) = (container.as_str(), exec.as_str());
        let unknown = Exit { status: UNKNOWN, exited_at: None };
        let mut pause = Self::RETRY;
        loop {
            match self.containerd().wait(container, Some(exec)).await {
                Ok(exit) => return exit,
                Err(error) if error.is_not_found() => return unknown,
                Err(error) => {
                    tracing::debug!(exec, %error, "a wait broke; looking at the process");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MOST);
                }
            }
            match self.containerd().get_exec(container, exec).await {
                Ok(process) if process.status == TaskStatus::Stopped => {
                    return Exit { status: process.exit_status, exited_at: process.exited_at };
                }
                Err(error) if error.is_not_found() => return unknown,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// The process is over, or never was: delete it in containerd, then what said that it was there.
    pub(super) async fn forget_exec(self, container: ContainerId, exec: ExecId, dir: ExecDir) {
        let mut pause = Self::RETRY;
        for attempt in 1..=DELETIONS {
            match self.containerd().delete_process(container.as_str(), exec.as_str()).await {
                Ok(_) => break,
                // The container has gone, and its processes with it.
                Err(error) if error.is_not_found() => break,
                Err(error) if attempt == DELETIONS => {
                    tracing::warn!(exec = exec.as_str(), %error, "an ended process stays in its container's shim");
                }
                Err(error) => {
                    tracing::debug!(exec = exec.as_str(), %error, "an ended process could not be deleted; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MOST);
                }
            }
        }
        fault::reached("exec.deleted");
        dir.remove();
    }
}
