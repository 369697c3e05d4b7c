//! The end of a run: noticed once, written down, then told.
//!
//! Two messengers bring the news, a wait that the engine holds for every running container and containerd's event; the
//! first one does the work. For a container of ours the order is: its output is drained and its exit code written to
//! `exit.json`, its networks are released, and only then does anybody hear of it. So whoever has seen `die` or the end
//! of a wait finds the logs complete, the code safe and the addresses free. nerdctl's and other containers' files are
//! theirs: for them the state changes and nothing else.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use containerd::tasks::{Exit, TaskStatus};
use jiff::Timestamp;
use names::ContainerId;
use tokio::sync::mpsc;

use super::remove::RemoveOptions;
use super::state::Fact;
use super::{Container, Owner};
use crate::inventory::{Reaction, Transition};
use crate::{Engine, Error};

/// Exit code of a run whose end nobody saw (moby `daemon/monitor.go` and CRI use 255).
pub(crate) const UNKNOWN: u32 = 255;

/// How long a container's output may stay open after its end before it is cut: a child may hold it (moby
/// `daemon/monitor.go` waits 2 s).
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// Which ends are being worked on, so that each is worked on once.
#[derive(Debug, Default)]
pub struct Exits {
    busy: Mutex<HashSet<(ContainerId, u64)>>,
    kept: Mutex<std::collections::VecDeque<ContainerId>>,
}

impl Exits {
    fn begin(&self, id: &ContainerId, generation: u64) -> bool {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert((id.clone(), generation))
    }

    fn end(&self, id: &ContainerId, generation: u64) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&(id.clone(), generation));
    }

    /// Remember a stopped task; gives the ones that are too many.
    fn keep(&self, id: &ContainerId, most: usize) -> Vec<ContainerId> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|known| known != id);
        kept.push_back(id.clone());
        let surplus = kept.len().saturating_sub(most);
        kept.drain(..surplus).collect()
    }
}

impl Engine {
    /// React to what the inventory tells, until the daemon ends.
    pub(crate) async fn react(self, mut reactions: mpsc::Receiver<Reaction>) {
        while let Some(reaction) = reactions.recv().await {
            match reaction {
                Reaction::Transition(Transition { container, before }) => {
                    let began = !before.phase.has_process()
                        || before.generation != container.state.generation;
                    if container.state.phase.has_process() && began {
                        self.supervisor().spawn(self.clone().watch(container));
                    }
                }
                Reaction::Exit(id, exit) => {
                    let Some(entry) = self.inventory().now().get(&id).cloned() else { continue };
                    self.supervisor()
                        .spawn_operation(self.clone().ended(Arc::clone(&entry.container), exit));
                }
            }
        }
    }

    /// Wait for the end of a run.
    async fn watch(self, container: Arc<Container>) {
        if container.owner == Owner::Nerdctld {
            self.supervisor().spawn(self.clone().mind_streams(Arc::clone(&container)));
        }
        loop {
            match self.containerd().wait(container.id.as_str(), None).await {
                Ok(exit) => return self.ended(container, exit).await,
                Err(error) if error.is_not_found() => break,
                // containerd or the shim went away; the task says what became of it.
                Err(error) => {
                    tracing::debug!(container = container.id.as_str(), %error, "a wait broke; looking at the task");
                    tokio::time::sleep(Self::RETRY).await;
                }
            }
            match self.containerd().get_task(container.id.as_str()).await {
                Ok(task) if task.status == TaskStatus::Stopped => {
                    let exit = Exit { status: task.exit_status, exited_at: task.exited_at };
                    return self.ended(container, exit).await;
                }
                Err(error) if error.is_not_found() => break,
                Ok(_) | Err(_) => {}
            }
        }
        // The task is gone without a word to us. Its exit event is on its way, if there is one: give it a moment.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.ended(container, Exit { status: UNKNOWN, exited_at: None }).await;
    }

    /// A run ended: do what has to be done, then tell.
    async fn ended(self, container: Arc<Container>, exit: Exit) {
        let id = &container.id;
        let Some(entry) = self.inventory().now().get(id).cloned() else { return };
        let state = &entry.container.state;
        if !state.phase.has_process() || !self.exits().begin(id, state.generation) {
            return;
        }
        let at = exit
            .exited_at
            .and_then(|at| Timestamp::try_from(at).ok())
            .unwrap_or_else(Timestamp::now);
        if container.owner == Owner::Nerdctld {
            let drained = self.drain_streams(&entry.container, DRAIN);
            let recorded = self.record_exit(&entry.container, exit.status, at);
            tokio::join!(drained, recorded);
        }
        // Its addresses are gone from the files now.
        self.inventory().refresh_and_tell(id, Fact::Exited { code: exit.status, at }).await;
        self.exits().end(id, state.generation);
        if container.owner == Owner::Nerdctld {
            self.after_end(container).await;
        }
    }

    /// Write the exit code down and give the networks back.
    async fn record_exit(&self, container: &Container, code: u32, at: Timestamp) {
        let id = container.id.as_str();
        let run = match self.write_exit(container, code, at).await {
            Ok(run) => run,
            Err(error) => {
                return tracing::warn!(
                    container = id,
                    error = error.message(),
                    "the exit code could not be written down"
                );
            }
        };
        // Without a noted run nothing was attached by our hook.
        let Some(run) = run else { return };
        if let Err(error) = self.release_networks(container, run).await {
            tracing::warn!(
                container = id,
                error = error.message(),
                "networks of an ended container could not be released"
            );
        }
    }

    /// The end of a run of ours that no daemon saw: what has to be done is done now, once.
    pub(crate) async fn missed_end(&self, container: &Arc<Container>, exit: Exit) {
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        let known = state_dir
            .lifecycle()
            .ok()
            .and_then(|lifecycle| lifecycle.run())
            .is_some_and(|run| state_dir.exit_of(run).is_ok_and(|exit| exit.is_some()));
        if !known {
            let at = exit
                .exited_at
                .and_then(|at| Timestamp::try_from(at).ok())
                .unwrap_or_else(Timestamp::now);
            self.drain_streams(container, DRAIN).await;
            self.record_exit(container, exit.status, at).await;
        }
        self.after_end(Arc::clone(container)).await;
    }

    /// Everybody knows; what remains is to remove it, or to keep its task for a while.
    async fn after_end(&self, container: Arc<Container>) {
        if !container.auto_remove {
            return self.keep_stopped(&container).await;
        }
        let options = RemoveOptions { volumes: true, ..RemoveOptions::default() };
        match self.remove_container(container.id.as_str(), &options).await {
            Ok(()) | Err(Error::NoSuchContainer(_) | Error::RemovalInProgress(_)) => {}
            Err(error) => tracing::warn!(
                container = container.id.as_str(),
                error = error.message(),
                "auto-removal failed"
            ),
        }
    }

    /// A stopped task is what `nerdctl ps` shows, but each costs a live shim: only the newest few are kept.
    async fn keep_stopped(&self, container: &Container) {
        for id in self.exits().keep(&container.id, self.settings().keep_stopped) {
            let Some(_guard) = self.locks().try_lock(&id) else { continue };
            let running = self
                .inventory()
                .now()
                .get(&id)
                .is_some_and(|entry| entry.container.state.phase.has_process());
            if running {
                continue;
            }
            if let Err(error) = self.containerd().delete_task(id.as_str()).await
                && !error.is_not_found()
            {
                tracing::warn!(container = id.as_str(), %error, "the task of an ended container could not be deleted");
            }
        }
    }
}
