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
use nerdctl_store::state_dir::Run as NotedRun;
use tokio::sync::mpsc;

use super::remove::RemoveOptions;
use super::state::{Fact, Wish};
use super::{Container, Owner, Phase, State};
use crate::inventory::{Reaction, Transition};
use crate::locks::{ContainerGuard, Locks};
use crate::{Engine, Error, fault};

/// Exit code of a run whose end nobody saw (moby `daemon/monitor.go` and CRI use 255).
pub(crate) const UNKNOWN: u32 = 255;

/// How long a container's output may stay open after its end before it is cut: a child may hold it (moby
/// `daemon/monitor.go` waits 2 s).
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// The longest pause between two tries to wait for the end of a run.
const RETRY_MOST: Duration = Duration::from_secs(5);

/// How long the deletion of a kept task may take. A hung shim must not hold up what comes after it.
const TASK_DELETION: Duration = Duration::from_secs(15);

/// Which ends are being worked on, so that each is worked on once.
#[derive(Debug, Default)]
pub struct Exits {
    busy: Mutex<HashSet<(ContainerId, u64)>>,
    kept: Mutex<std::collections::VecDeque<ContainerId>>,
    counts: Locks,
}

/// Which run a messenger speaks of. Its news may be old: another run may have begun since.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// The one with this number.
    Number(u64),
    /// The one with this first process; 0 if that is not known.
    Process(u32),
}

impl Run {
    fn is_that_of(self, state: &State) -> bool {
        match self {
            Self::Number(number) => state.generation == number,
            Self::Process(pid) => pid == 0 || state.pid == 0 || state.pid == pid,
        }
    }
}

/// The end of one run is being worked on, until this is dropped.
struct Busy<'a> {
    exits: &'a Exits,
    key: (ContainerId, u64),
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.exits.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Exits {
    fn begin(&self, container: &Container) -> Option<Busy<'_>> {
        let key = (container.id.clone(), container.state.generation);
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.insert(key.clone()).then(|| Busy { exits: self, key })
    }

    /// Whether the end of the run that `container` is in is being worked on.
    pub(crate) fn is_busy(&self, container: &Container) -> bool {
        let key = (container.id.clone(), container.state.generation);
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// Who has it may change how often the container was restarted. The container's lock does not serve: who waits for an
    /// end may hold that one.
    pub(crate) async fn count_turn(&self, id: &ContainerId) -> ContainerGuard {
        self.counts.lock(id).await
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
                        self.supervisor().spawn(self.clone().watch(Arc::clone(&container)));
                    } else if before.phase == Phase::Paused && container.has_restart_labels {
                        self.supervisor().spawn(self.clone().after_pause(Arc::clone(&container)));
                    }
                    if container.state.phase == Phase::Restarting
                        && before.phase != Phase::Restarting
                    {
                        self.supervisor().spawn(self.clone().restart_later(Arc::clone(&container)));
                    }
                    if container.state.oom_killed
                        && !before.oom_killed
                        && container.owner == Owner::Nerdctld
                        && !container.state.phase.has_process()
                    {
                        let (engine, container) = (self.clone(), Arc::clone(&container));
                        self.supervisor()
                            .spawn_operation(async move { engine.note_oom(&container).await });
                    }
                    if self.is_to_be_probed(&container) && (began || before.phase != Phase::Running)
                    {
                        self.supervisor().spawn(self.clone().mind_health(container));
                    }
                }
                Reaction::Exit { id, pid, exit } => {
                    let worked_on = self.clone().ended(id, Run::Process(pid), exit);
                    self.supervisor().spawn_operation(worked_on);
                }
                Reaction::ExecExit { container, exec, exit } => {
                    self.tell_foreign_exec(&container, &exec, exit);
                }
                // Who asked may have gone.
                Reaction::Beat(done) => drop(done.send(())),
            }
        }
    }

    /// Somebody thawed it.
    async fn after_pause(self, container: Arc<Container>) {
        if let Err(error) = self.release_restarts(&container.id).await {
            tracing::warn!(
                container = container.id.as_str(),
                error = error.message(),
                "its restart policy does not work until the daemon starts again"
            );
        }
    }

    /// Wait for the end of a run.
    async fn watch(self, container: Arc<Container>) {
        if container.owner == Owner::Nerdctld {
            self.supervisor().spawn(self.clone().mind_streams(Arc::clone(&container)));
        }
        let (id, run) = (container.id.clone(), Run::Number(container.state.generation));
        let mut pause = Self::RETRY;
        loop {
            match self.containerd().wait(container.id.as_str(), None).await {
                Ok(exit) => return self.ended(id, run, exit).await,
                Err(error) if error.is_not_found() => break,
                // containerd or the shim went away; the task says what became of it.
                Err(error) => {
                    tracing::debug!(container = container.id.as_str(), %error, "a wait broke; looking at the task");
                    tokio::time::sleep(pause).await;
                    // All running containers do this at once. When containerd is back, what has ended is found out anyway.
                    pause = (pause * 2).min(RETRY_MOST);
                }
            }
            if self.running(&id, run).is_none() {
                return;
            }
            match self.containerd().get_task(container.id.as_str()).await {
                Ok(task) if task.status == TaskStatus::Stopped => {
                    let exit = Exit { status: task.exit_status, exited_at: task.exited_at };
                    return self.ended(id, run, exit).await;
                }
                Err(error) if error.is_not_found() => break,
                Ok(_) | Err(_) => {}
            }
        }
        // The task is gone without a word to us. Its exit event is on its way, if there is one: give it a moment.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.ended(id, run, Exit { status: UNKNOWN, exited_at: None }).await;
    }

    /// The container, if this is the run that it is in.
    fn running(&self, id: &ContainerId, run: Run) -> Option<Arc<Container>> {
        let container = Arc::clone(&self.inventory().now().get(id)?.container);
        (container.state.phase.has_process() && run.is_that_of(&container.state))
            .then_some(container)
    }

    /// A run ended: do what has to be done, then tell.
    async fn ended(self, id: ContainerId, run: Run, exit: Exit) {
        let Some(container) = self.running(&id, run) else { return };
        let Some(busy) = self.exits().begin(&container) else { return };
        let generation = container.state.generation;
        // The other messenger may have finished between our look and our turn.
        if self.running(&id, Run::Number(generation)).is_none() {
            return;
        }
        let at = time_of(&exit);
        if container.owner == Owner::Nerdctld {
            let drained = self.drain_streams(&container, DRAIN);
            let recorded = self.record_exit(&container, exit.status, at);
            tokio::join!(drained, recorded);
            fault::reached("exit.recorded");
        }
        // What the policy wants is decided as late as possible: somebody may have asked for the end meanwhile.
        let Some(container) = self.running(&id, Run::Number(generation)) else { return };
        let restart = self.restart_after(&container, exit.status, at).await;
        // Its addresses are gone from the files now.
        let fact = Fact::Exited { code: exit.status, at, restart };
        self.inventory().refresh_and_tell_end(&id, generation, fact).await;
        drop(busy);
        fault::reached("exit.told");
        if container.owner == Owner::Nerdctld {
            self.note_late_oom(&container).await;
            self.after_end(container).await;
        }
    }

    /// The news came after the exit code was written down and before the end was told.
    async fn note_late_oom(&self, ended: &Container) {
        let now = self.inventory().now();
        let state = now.get(&ended.id).map(|entry| &entry.container.state);
        let is_late = state.is_some_and(|state| {
            state.oom_killed
                && !state.phase.has_process()
                && state.generation == ended.state.generation
        });
        if is_late {
            self.note_oom(ended).await;
        }
    }

    /// Write the exit code down and give the networks back.
    async fn record_exit(&self, container: &Container, code: u32, at: Timestamp) {
        // Without a noted run nothing was attached by our hook.
        let Some(run) = self.note_exit(container, code, at).await else { return };
        if let Err(error) = self.release_networks(container, run).await {
            tracing::warn!(
                container = container.id.as_str(),
                error = error.message(),
                "networks of an ended container could not be released"
            );
        }
    }

    async fn note_exit(&self, container: &Container, code: u32, at: Timestamp) -> Option<NotedRun> {
        self.write_exit(container, code, at).await.unwrap_or_else(|error| {
            tracing::warn!(
                container = container.id.as_str(),
                error = error.message(),
                "the exit code could not be written down"
            );
            None
        })
    }

    /// The end of a run of ours that no daemon saw, as the repair found it: its last output is saved. If it is to be started
    /// again the end is written down as well, and nothing more is to be done: whoever attaches a container clears what is
    /// left of its networks first.
    pub(crate) async fn save_missed_end(&self, container: &Container, starts_again: bool) {
        let Some(_guard) = self.take_missed_end(container).await else { return };
        self.drain_streams(container, DRAIN).await;
        if starts_again {
            let (code, at) = end_found(container);
            self.note_exit(container, code, at).await;
        }
    }

    /// The end of a run of ours that no daemon saw: what remains to be done is done now, once.
    pub(crate) async fn missed_end(&self, container: &Container) {
        let Some(_guard) = self.take_missed_end(container).await else { return };
        let (code, at) = end_found(container);
        self.record_exit(container, code, at).await;
    }

    /// The right to work on the end of a run that no daemon saw; `None` if that has been done.
    ///
    /// `container` is how the repair found it. An operation that has the container now, or had it meanwhile, has done or
    /// undone all that: its files and networks may be those of the next run.
    async fn take_missed_end(&self, container: &Container) -> Option<ContainerGuard> {
        let id = &container.id;
        let guard = self.locks().try_lock(id)?;
        if self.inventory().now().get(id).is_none_or(|now| now.container.state != container.state) {
            return None;
        }
        let state_dir = self.store().state_dir(&self.settings().namespace, id);
        let known = tokio::task::spawn_blocking(move || {
            let run = state_dir.lifecycle().ok().and_then(|lifecycle| lifecycle.run());
            run.is_some_and(|run| state_dir.exit_of(run).is_ok_and(|exit| exit.is_some()))
        });
        let is_done = known.await.unwrap_or(false) || self.runs_again(container).await;
        (!is_done).then_some(guard)
    }

    /// nerdctl or containerd's restart plugin has just started it: the news of that is still on its way.
    async fn runs_again(&self, container: &Container) -> bool {
        match self.containerd().get_task(container.id.as_str()).await {
            Ok(task) => task.status != TaskStatus::Stopped,
            Err(error) => !error.is_not_found(),
        }
    }

    /// Everybody knows; what remains is to remove it, or to keep its task for a while.
    ///
    /// Nothing remains of the end of a run that is followed by another one.
    pub(crate) async fn after_end(&self, container: Arc<Container>) {
        let now = self.inventory().now();
        let Some(now) = now.get(&container.id).map(|entry| &entry.container.state) else { return };
        if now.phase.counts_as_running() {
            return;
        }
        if !container.auto_remove || now.wish == Some(Wish::Restart) {
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
            self.delete_stopped_task(&id).await;
        }
    }

    async fn delete_stopped_task(&self, id: &ContainerId) {
        // `docker stop` may be about to let go of it.
        let locked = tokio::time::timeout(TASK_DELETION, self.locks().lock(id)).await;
        let Ok(_guard) = locked else { return };
        // It may run again, or be about to: that task is not ours to delete.
        let task = self.containerd().get_task(id.as_str()).await;
        if !task.is_ok_and(|task| task.status == TaskStatus::Stopped) {
            return;
        }
        let deleted =
            tokio::time::timeout(TASK_DELETION, self.containerd().delete_task(id.as_str())).await;
        match deleted {
            Ok(Err(error)) if !error.is_not_found() => {
                tracing::warn!(container = id.as_str(), %error, "the task of an ended container could not be deleted");
            }
            Ok(_) => {}
            Err(_) => tracing::warn!(
                container = id.as_str(),
                "the shim of an ended container does not answer; its task stays"
            ),
        }
    }
}

/// Code and time of an end that was found, not seen.
fn end_found(container: &Container) -> (u32, Timestamp) {
    (container.state.exit_code, container.state.finished_at.unwrap_or_else(Timestamp::now))
}

fn time_of(exit: &Exit) -> Timestamp {
    let at = exit.exited_at.and_then(|at| Timestamp::try_from(at).ok());
    at.unwrap_or_else(Timestamp::now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::state::next;

    #[test]
    fn news_of_an_earlier_run_are_not_of_this_one() {
        let started = Fact::Started { pid: 7, at: Timestamp::UNIX_EPOCH };
        let state = next(&State::created(), &started).unwrap();
        assert!(Run::Process(7).is_that_of(&state) && Run::Process(0).is_that_of(&state));
        assert!(!Run::Process(6).is_that_of(&state));
        assert!(Run::Number(1).is_that_of(&state) && !Run::Number(0).is_that_of(&state));
        let hung = State { pid: 0, ..state };
        assert!(Run::Process(6).is_that_of(&hung), "nobody knows its process");
    }

    #[test]
    fn only_the_newest_stopped_tasks_are_kept() {
        let exits = Exits::default();
        let id = |number| ContainerId::from_random([number; 32]);
        assert!(exits.keep(&id(1), 2).is_empty());
        assert!(exits.keep(&id(2), 2).is_empty());
        assert!(exits.keep(&id(1), 2).is_empty(), "it is the newest again");
        assert_eq!(exits.keep(&id(3), 2), [id(2)]);
        assert_eq!(exits.keep(&id(4), 0), [id(1), id(3), id(4)]);
    }
}
