//! The task that owns the data: applies news in order, publishes snapshots, emits life-cycle events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use containerd::tasks::Exit;
use names::ContainerId;
use tokio::sync::{mpsc, oneshot, watch};

use super::load::{Loaded, Outcome, Reader, RunFiles};
use super::{ContainerNews, Entry, Inventory, News, QUEUE, Snapshot, follow};
use crate::containers::exit::UNKNOWN;
use crate::containers::state::{Fact, next};
use crate::containers::{Container, Phase, State};
use crate::events::EventHub;
use crate::events::translate::{container_event, life_cycle};
use crate::supervise::Supervisor;

/// Reactions that wait for the engine; it only starts tasks for them, so the queue is short.
const REACTIONS: usize = 256;

/// What the engine has to react to.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// A container appeared, or its state changed.
    Transition(Transition),
    /// containerd says that a container's first process ended.
    Exit(ContainerId, Exit),
}

/// A container appeared or its state changed.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The container as it is now.
    pub container: Arc<Container>,
    /// Its state before.
    pub before: State,
}

/// Owns the data.
#[derive(Debug)]
pub(super) struct Owner {
    reader: Reader,
    events: EventHub,
    supervisor: Supervisor,
    queue: mpsc::Receiver<News>,
    sender: mpsc::Sender<News>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    reactions: mpsc::Sender<Reaction>,
    containers: BTreeMap<ContainerId, Live>,
    refreshing: HashMap<ContainerId, Refreshing>,
    loaded: bool,
    connected: bool,
}

#[derive(Debug)]
struct Live {
    entry: Arc<Entry>,
    states: watch::Sender<State>,
}

/// A record is being read; what arrives meanwhile waits for it, so that news of one container keep their order.
#[derive(Debug, Default)]
struct Refreshing {
    again: bool,
    waiting: Vec<(Option<Fact>, Option<oneshot::Sender<()>>)>,
}

impl Inventory {
    /// Start the owner and its follower as supervised services; what the engine has to react to goes to the receiver.
    #[must_use]
    pub fn start(
        reader: Reader,
        events: EventHub,
        supervisor: &Supervisor,
    ) -> (Self, mpsc::Receiver<Reaction>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (snapshot, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let (reactions, receiver) = mpsc::channel(REACTIONS);
        let (images, image_changes) = watch::channel(0);
        let follower = follow::Outlets {
            news: sender.clone(),
            images: Arc::new(images),
            reactions: reactions.clone(),
        };
        let follower = (reader.clone(), follower);
        let owner = Owner {
            reader,
            events,
            supervisor: supervisor.clone(),
            queue,
            sender: sender.clone(),
            snapshot,
            reactions: reactions.clone(),
            containers: BTreeMap::new(),
            refreshing: HashMap::new(),
            loaded: false,
            connected: false,
        };
        supervisor.spawn(owner.run());
        supervisor.service("containerd events", move || {
            let (reader, outlets) = follower.clone();
            follow::follow(reader, outlets)
        });
        (Self { news: sender, snapshot: snapshots, images: image_changes }, receiver)
    }
}

impl Owner {
    async fn run(mut self) {
        while let Some(news) = self.queue.recv().await {
            match news {
                News::Container(news) => self.container(news).await,
                News::Refreshed(id, outcome) => self.refreshed(id, outcome).await,
                News::Loaded(loaded) => self.reload(loaded).await,
                News::Lost => {
                    self.connected = false;
                    self.publish();
                }
            }
        }
    }

    async fn container(&mut self, news: ContainerNews) {
        let ContainerNews { id, refresh, fact, done } = news;
        if let Some(running) = self.refreshing.get_mut(&id) {
            running.again |= refresh;
            running.waiting.push((fact, done));
            return;
        }
        if refresh {
            let running = self.refreshing.entry(id.clone()).or_default();
            running.waiting.push((fact, done));
            self.read(id);
            return;
        }
        if let Some(fact) = fact {
            self.apply(&id, fact).await;
        }
        tell(done);
    }

    /// Read one record, beside the loop: even a slow containerd does not hold up news of other containers.
    fn read(&self, id: ContainerId) {
        let (reader, sender) = (self.reader.clone(), self.sender.clone());
        self.supervisor.spawn(async move {
            let outcome = reader.read(&id).await;
            let _ = sender.send(News::Refreshed(id, outcome)).await;
        });
    }

    async fn refreshed(&mut self, id: ContainerId, outcome: Outcome) {
        let Some(mut running) = self.refreshing.remove(&id) else { return };
        if running.again {
            running.again = false;
            self.refreshing.insert(id.clone(), running);
            self.read(id);
            return;
        }
        let mut files = RunFiles::default();
        match outcome {
            Outcome::Present(container, run) => {
                files = run;
                self.put(*container, None).await;
            }
            Outcome::Gone => self.forget(&id),
            Outcome::Unknown => {}
        }
        for (fact, done) in running.waiting {
            if let Some(fact) = fact {
                self.apply(&id, files.date(fact)).await;
            }
            tell(done);
        }
    }

    /// Everything was read anew: what is not in it is gone, what differs has happened while nobody listened.
    async fn reload(&mut self, loaded: Vec<Loaded>) {
        let first = !self.loaded;
        let gone: Vec<ContainerId> = {
            let present: std::collections::HashSet<&ContainerId> =
                loaded.iter().map(|loaded| &loaded.container.id).collect();
            self.containers.keys().filter(|id| !present.contains(id)).cloned().collect()
        };
        for id in gone {
            self.forget(&id);
        }
        self.connected = true;
        for Loaded { container, facts } in loaded {
            let id = container.id.clone();
            if first {
                // Nothing has happened: this is how we found it.
                self.put(container, Some(found_state(&facts))).await;
            } else {
                let found = found_state(&facts);
                self.put(container, None).await;
                self.catch_up(&id, &found).await;
            }
        }
        self.loaded = true;
        self.publish();
    }

    /// Apply what must have happened while nobody listened.
    async fn catch_up(&mut self, id: &ContainerId, found: &State) {
        let Some(live) = self.containers.get(id) else { return };
        match missed(&live.entry.container.state, found) {
            Missed::Facts(facts) => {
                for fact in facts {
                    self.apply(id, fact).await;
                }
            }
            // The engine has work to do before anybody hears of an end.
            Missed::End(exit) => drop(self.reactions.send(Reaction::Exit(id.clone(), exit)).await),
        }
    }

    /// Take a freshly read container in; its state stays what we know, or is `state` if it is new.
    async fn put(&mut self, mut container: Container, state: Option<State>) {
        let id = container.id.clone();
        match self.containers.get_mut(&id) {
            Some(live) => {
                container.state = live.entry.container.state.clone();
                if *live.entry.container != container {
                    let states = live.entry.states.clone();
                    live.entry = Arc::new(Entry { container: Arc::new(container), states });
                    self.publish();
                }
            }
            None => {
                let told = state.is_none();
                let before = State::created();
                container.state = state.unwrap_or_else(|| before.clone());
                let (states, watched) = watch::channel(container.state.clone());
                let container = Arc::new(container);
                let entry = Arc::new(Entry { container: Arc::clone(&container), states: watched });
                self.containers.insert(id, Live { entry, states });
                if told {
                    self.publish();
                    self.events.publish(container_event(&container, "create", &[]));
                }
                self.transition(container, before).await;
            }
        }
    }

    fn forget(&mut self, id: &ContainerId) {
        let Some(live) = self.containers.remove(id) else { return };
        self.publish();
        self.events.publish(container_event(&live.entry.container, "destroy", &[]));
        // Dropping `states` wakes those who wait for the removal.
    }

    async fn apply(&mut self, id: &ContainerId, fact: Fact) {
        let Some(live) = self.containers.get_mut(id) else { return };
        let before = live.entry.container.state.clone();
        let Some(after) = next(&before, &fact) else { return };
        let mut container = live.entry.container.as_ref().clone();
        container.state = after.clone();
        let container = Arc::new(container);
        live.entry = Arc::new(Entry {
            container: Arc::clone(&container),
            states: live.entry.states.clone(),
        });
        // The snapshot first: who hears of it may look at once. Then the event, then those who wait for the state,
        // so that a client that reads events until its wait returns has seen them.
        self.publish();
        for event in life_cycle(&container, &before, &fact) {
            self.events.publish(event);
        }
        if let Some(live) = self.containers.get(id) {
            live.states.send_replace(after);
        }
        self.transition(container, before).await;
    }

    async fn transition(&self, container: Arc<Container>, before: State) {
        let _ = self.reactions.send(Reaction::Transition(Transition { container, before })).await;
    }

    fn publish(&self) {
        let entries = self.containers.values().map(|live| Arc::clone(&live.entry)).collect();
        self.snapshot.send_replace(Arc::new(Snapshot {
            loaded: self.loaded,
            connected: self.connected,
            entries,
        }));
    }
}

fn found_state(facts: &[Fact]) -> State {
    facts.iter().fold(State::created(), |state, fact| next(&state, fact).unwrap_or(state))
}

/// What happened between two looks.
#[derive(Debug, PartialEq)]
enum Missed {
    Facts(Vec<Fact>),
    End(Exit),
}

fn missed(known: &State, found: &State) -> Missed {
    let end = Exit { status: found.exit_code, exited_at: found.finished_at.map(Into::into) };
    let start = || found.started_at.map(|at| Fact::Started { pid: found.pid, at });
    let same_run = known.pid == found.pid || found.pid == 0;
    let facts: Vec<Fact> = match (known.phase, found.phase) {
        (known, found) if known.has_process() && !found.has_process() => return Missed::End(end),
        (Phase::Running, Phase::Paused) if same_run => vec![Fact::Paused],
        (Phase::Paused, Phase::Running) if same_run => vec![Fact::Resumed],
        (known_phase, found_phase) if found_phase.has_process() => {
            let lost = known_phase.has_process() && !same_run;
            let end = lost
                .then(|| Fact::Exited { code: UNKNOWN, at: found.started_at.unwrap_or_default() });
            let start = if known_phase.has_process() && same_run { None } else { start() };
            end.into_iter()
                .chain(start)
                .chain((found_phase == Phase::Paused).then_some(Fact::Paused))
                .collect()
        }
        _ if found.finished_at > known.finished_at => {
            let exited = found.finished_at.map(|at| Fact::Exited { code: found.exit_code, at });
            found
                .started_at
                .map(|at| Fact::Started { pid: u32::MAX, at })
                .into_iter()
                .chain(exited)
                .collect()
        }
        _ => Vec::new(),
    };
    Missed::Facts(facts)
}

fn tell(done: Option<oneshot::Sender<()>>) {
    if let Some(done) = done {
        // Who asked may have gone.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn run(pid: u32, second: i64, end: Option<(u32, i64)>) -> State {
        let mut facts = vec![Fact::Started { pid, at: at(second) }];
        facts.extend(end.map(|(code, second)| Fact::Exited { code, at: at(second) }));
        found_state(&facts)
    }

    #[test]
    fn what_was_missed_is_told_once() {
        let (running, ended) = (run(7, 1, None), run(7, 1, Some((3, 5))));
        assert_eq!(missed(&running, &running), Missed::Facts(vec![]));
        assert_eq!(missed(&ended, &ended), Missed::Facts(vec![]));
        let end = Exit { status: 3, exited_at: Some(at(5).into()) };
        assert_eq!(missed(&running, &ended), Missed::End(end));
        assert_eq!(
            missed(&ended, &run(8, 9, None)),
            Missed::Facts(vec![Fact::Started { pid: 8, at: at(9) }])
        );
        let paused = found_state(&[Fact::Started { pid: 7, at: at(1) }, Fact::Paused]);
        assert_eq!(missed(&running, &paused), Missed::Facts(vec![Fact::Paused]));
        assert_eq!(missed(&paused, &running), Missed::Facts(vec![Fact::Resumed]));
        let other = Missed::Facts(vec![
            Fact::Exited { code: UNKNOWN, at: at(9) },
            Fact::Started { pid: 8, at: at(9) },
        ]);
        assert_eq!(missed(&running, &run(8, 9, None)), other);
        let whole = Missed::Facts(vec![
            Fact::Started { pid: u32::MAX, at: at(9) },
            Fact::Exited { code: 4, at: at(10) },
        ]);
        assert_eq!(missed(&ended, &run(9, 9, Some((4, 10)))), whole);
    }

    #[test]
    fn a_hung_shim_is_not_another_run() {
        assert_eq!(missed(&run(7, 1, None), &run(0, 2, None)), Missed::Facts(vec![]));
    }
}
