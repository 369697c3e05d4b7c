//! Execs: further processes in a running container (moby `daemon/exec.go`).
//!
//! An exec is *created* with everything that decides what it will be, kept in memory, *started* once, and can be looked
//! at until some minutes after its end ([`store`]). What runs is a process of containerd's task: its spec is the
//! container's own process with what the client asked for put over it ([`process`]).
//!
//! Its streams are FIFOs that this daemon reads itself ([`pipes`]): they have no log, and nobody can attach a second
//! time. The client has them while it is connected ([`session`]); in every other moment a task of the daemon has them,
//! throws the output away and so keeps the process going ([`run`]).
//!
//! # How a session ends (moby `daemon/internal/stream/attach.go`)
//!
//! | What happens | Then |
//! |---|---|
//! | the process ends | its output is sent to the end, the exit code is known, the connection closes |
//! | … but something in the background keeps its output open | the connection closes two seconds later |
//! | the client's side ends, no terminal | the process sees the end of its input; output goes on |
//! | the client's side ends, terminal | the connection closes, the process goes on |
//! | the same without stdin asked for | nothing |
//! | detach keys, on a terminal | event `exec_detach`, the connection closes, the process goes on |
//! | the client leaves | the process sees the end of its input, unless it has a terminal; its output is thrown away |
//! | the client does not read | the process waits, as at any pipe |
//! | the daemon dies | the process goes on until 64 KiB of output wait for a reader; the next daemon ([`adopt`]) reads them |

mod adopt;
mod create;
mod inspect;
mod pipes;
mod process;
mod resize;
mod run;
mod session;
mod start;
mod store;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use names::{ContainerId, ExecId};
use serde_json::{Map, Value};
use tokio::sync::watch;

pub use session::ExecSession;
pub use start::ExecStart;
pub use store::Execs;

use super::Container;
use super::attach::DetachKeys;
use crate::{Error, Result};

/// What a client wants to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// `user`, `user:group`, numbers allowed; empty = the container's.
    pub user: String,
    /// All capabilities. AppArmor and seccomp stay the container's.
    pub privileged: bool,
    /// A terminal.
    pub tty: bool,
    /// Its first size `(height, width)`.
    pub console_size: Option<(u16, u16)>,
    /// The client will send stdin.
    pub attach_stdin: bool,
    /// The client wants stdout (all of a terminal's output).
    pub attach_stdout: bool,
    /// The client wants stderr.
    pub attach_stderr: bool,
    /// Keys that detach from a terminal; Docker's default if empty.
    pub detach_keys: String,
    /// `KEY=value` over the container's; a bare `KEY` takes the container's away.
    pub env: Vec<String>,
    /// Empty = the container's.
    pub working_dir: String,
    /// Program and arguments.
    pub cmd: Vec<String>,
}

/// What is told of an exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecDetails {
    /// Its id.
    pub id: ExecId,
    /// The container.
    pub container: ContainerId,
    /// As asked for; `user` is the container's where none was named.
    pub options: ExecOptions,
    /// The detach keys as bytes; empty where none were asked for.
    pub detach_keys: Vec<u8>,
    /// It is being started, or runs.
    pub running: bool,
    /// Process id on the host; 0 before the start and when that failed.
    pub pid: u32,
    /// How it ended; of one that could not be started 126, 127 or 128.
    pub exit_code: Option<u32>,
    /// Nobody needs it any more; it will be forgotten in a few minutes.
    pub can_remove: bool,
}

/// Where an exec is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Never started.
    Created,
    /// Somebody is starting it.
    Starting,
    /// It runs.
    Running { pid: u32 },
    /// It could not be started.
    Failed { code: u32 },
    /// It has ended.
    Ended { pid: u32, code: u32 },
}

impl Stage {
    /// There will be no process (any more).
    fn is_over(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Ended { .. })
    }

    /// There is a process, or there will be one in a moment.
    fn runs(&self) -> bool {
        matches!(self, Self::Starting | Self::Running { .. })
    }
}

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    id: ExecId,
    container: ContainerId,
    /// The run of the container that it was made for.
    generation: u64,
    options: ExecOptions,
    keys: DetachKeys,
    /// The OCI process; taken by the start.
    process: Mutex<Option<Map<String, Value>>>,
    stage: watch::Sender<Stage>,
    can_remove: AtomicBool,
}

impl Exec {
    fn new(
        id: ExecId,
        container: &Container,
        options: ExecOptions,
        keys: DetachKeys,
        process: Map<String, Value>,
    ) -> Self {
        Self {
            id,
            container: container.id.clone(),
            generation: container.state.generation,
            options,
            keys,
            process: Mutex::new(Some(process)),
            stage: watch::Sender::new(Stage::Created),
            can_remove: AtomicBool::new(false),
        }
    }

    /// It was never started, and the run of the container that it was made for is over (moby `daemon/start.go`,
    /// `Cleanup`).
    fn is_stale(&self, container: &Container) -> bool {
        let same_run =
            container.state.phase.has_process() && container.state.generation == self.generation;
        !same_run && *self.stage.borrow() == Stage::Created
    }

    /// Be the one who starts it: gives the OCI process.
    ///
    /// # Errors
    /// [`Error::ExecIsRunning`], [`Error::ExecHasRun`].
    fn claim(&self) -> Result<Map<String, Value>> {
        let mut before = Stage::Created;
        let claimed = self.stage.send_if_modified(|stage| {
            before = *stage;
            let is_free = *stage == Stage::Created;
            if is_free {
                *stage = Stage::Starting;
            }
            is_free
        });
        if !claimed {
            let id = self.id.to_string();
            return Err(if before.is_over() {
                Error::ExecHasRun(id)
            } else {
                Error::ExecIsRunning(id)
            });
        }
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(process.take().unwrap_or_default())
    }

    fn details(&self) -> ExecDetails {
        let (running, pid, exit_code) = match *self.stage.borrow() {
            Stage::Created => (false, 0, None),
            Stage::Starting => (true, 0, None),
            Stage::Running { pid } => (true, pid, None),
            Stage::Failed { code } => (false, 0, Some(code)),
            Stage::Ended { pid, code } => (false, pid, Some(code)),
        };
        let named = !self.options.detach_keys.is_empty();
        ExecDetails {
            id: self.id.clone(),
            container: self.container.clone(),
            options: self.options.clone(),
            detach_keys: if named { self.keys.as_bytes().to_vec() } else { Vec::new() },
            running,
            pid,
            exit_code,
            can_remove: self.can_remove.load(Ordering::Relaxed),
        }
    }

    /// Program and arguments as events show them; one without arguments has a blank at the end (moby `daemon/exec.go`).
    fn event(&self, verb: &str) -> String {
        let (program, arguments) = self.options.cmd.split_first().map_or(("", &[][..]), |split| {
            let (program, arguments) = split;
            (program.as_str(), arguments)
        });
        format!("{verb}: {program} {}", arguments.join(" "))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn exec(number: u8, container: u8) -> Exec {
        Exec {
            id: ExecId::from_random([number; 32]),
            container: ContainerId::from_random([container; 32]),
            generation: 1,
            options: ExecOptions {
                cmd: vec!["sh".into(), "-c".into(), "ls".into()],
                ..ExecOptions::default()
            },
            keys: DetachKeys::parse("").unwrap(),
            process: Mutex::default(),
            stage: watch::Sender::new(Stage::Created),
            can_remove: AtomicBool::new(false),
        }
    }

    #[test]
    fn only_one_can_start_it() {
        let exec = exec(1, 1);
        assert_eq!(exec.details().exit_code, None);
        assert!(exec.claim().is_ok());
        assert!(exec.details().running);
        assert!(matches!(exec.claim(), Err(Error::ExecIsRunning(_))));
        exec.stage.send_replace(Stage::Running { pid: 7 });
        assert!(matches!(exec.claim(), Err(Error::ExecIsRunning(_))));
        exec.stage.send_replace(Stage::Ended { pid: 7, code: 3 });
        assert!(matches!(exec.claim(), Err(Error::ExecHasRun(_))));
        let details = exec.details();
        assert_eq!((details.running, details.pid, details.exit_code), (false, 7, Some(3)));
    }

    #[test]
    fn events_name_the_command() {
        let mut exec = exec(1, 1);
        assert_eq!(exec.event("exec_create"), "exec_create: sh -c ls");
        exec.options.cmd = vec!["true".into()];
        assert_eq!(exec.event("exec_start"), "exec_start: true ", "as dockerd writes it");
    }
}
