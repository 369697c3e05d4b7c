//! The task that owns the data: applies news in order, publishes snapshots, emits life-cycle events.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use containerd::tasks::Exit;
use jiff::Timestamp;
use names::ContainerId;
use tokio::sync::{mpsc, oneshot, watch};

use super::load::{Loaded, Outcome, Reader, RunFiles};
use super::{ContainerNews, Entry, Happening, Inventory, News, QUEUE, Reach, Snapshot, follow};
use crate::containers::exit::UNKNOWN;
use crate::containers::health_check::{Health, HealthStatus};
use crate::containers::state::{Fact, next};
use crate::containers::{Container, Owner as ContainerOwner, Phase, State};
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
    Exit {
        /// Which container.
        id: ContainerId,
        /// The process; 0 if not known.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// containerd says that a further process of a container ended.
    ExecExit {
        /// The container.
        container: Arc<Container>,
        /// Id of the exec.
        exec: String,
        /// How it ended.
        exit: Exit,
    },
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
    /// While a whole look is under way: what came, went or changed its state since it began. For those the look is old.
    touched: Option<HashSet<ContainerId>>,
    loaded: bool,
    reach: Reach,
}

#[derive(Debug)]
struct Live {
    entry: Arc<Entry>,
    states: watch::Sender<State>,
    /// The last end that containerd told, and whose. Should the run be followed by another one, or the container vanish,
    /// before the end has been worked on, this is how it ended.
    exit: Option<(u32, Exit)>,
}

/// A record is being read; what arrives meanwhile waits for it, so that news of one container keep their order.
#[derive(Debug, Default)]
struct Refreshing {
    again: bool,
    waiting: Vec<(Option<Happening>, Option<oneshot::Sender<()>>)>,
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
        let address = reader.containerd.socket().into();
        let follower = follow::Outlets { news: sender.clone() };
        let follower = (reader.clone(), follower);
        let owner = Owner {
            reader,
            events,
            supervisor: supervisor.clone(),
            queue,
            sender: sender.clone(),
            snapshot,
            reactions,
            containers: BTreeMap::new(),
            refreshing: HashMap::new(),
            touched: None,
            loaded: false,
            reach: Reach::default(),
        };
        supervisor.spawn(owner.run());
        supervisor.service("containerd events", move || {
            let (reader, outlets) = follower.clone();
            follow::follow(reader, outlets)
        });
        (Self { news: sender, snapshot: snapshots, address }, receiver)
    }
}

impl Owner {
    async fn run(mut self) {
        while let Some(news) = self.queue.recv().await {
            match news {
                News::Container(news) => self.container(news).await,
                News::Refreshed(id, outcome) => self.refreshed(id, outcome).await,
                News::Loading => self.touched = Some(HashSet::new()),
                News::Loaded(loaded) => self.reload(loaded).await,
                News::Lost(why) => {
                    self.reach = Reach::Lost(why.into());
                    self.publish();
                }
            }
        }
    }

    async fn container(&mut self, news: ContainerNews) {
        let ContainerNews { id, refresh, what, done } = news;
        if let Some(running) = self.refreshing.get_mut(&id) {
            running.again |= refresh;
            running.waiting.push((what, done));
            return;
        }
        if refresh {
            let running = self.refreshing.entry(id.clone()).or_default();
            running.waiting.push((what, done));
            self.read(id);
            return;
        }
        self.happened(&id, what, &RunFiles::default()).await;
        tell(done);
    }

    async fn happened(&mut self, id: &ContainerId, what: Option<Happening>, files: &RunFiles) {
        match what {
            None => {}
            Some(Happening::Fact(fact)) => self.apply(id, files.date(fact)).await,
            Some(Happening::Ended { generation, fact })
                if self.state(id).is_some_and(|state| state.generation == generation) =>
            {
                self.apply(id, fact).await;
            }
            // Another run has begun meanwhile.
            Some(Happening::Ended { .. }) => {}
            Some(Happening::Exit { pid, exit }) => {
                let Some(live) = self.containers.get_mut(id) else { return };
                live.exit = Some((pid, exit));
                let _ = self.reactions.send(Reaction::Exit { id: id.clone(), pid, exit }).await;
            }
            Some(Happening::ExecExit { exec, exit }) => {
                let Some(live) = self.containers.get(id) else { return };
                let container = Arc::clone(&live.entry.container);
                let _ = self.reactions.send(Reaction::ExecExit { container, exec, exit }).await;
            }
        }
    }

    fn state(&self, id: &ContainerId) -> Option<&State> {
        self.containers.get(id).map(|live| &live.entry.container.state)
    }

    fn touch(&mut self, id: &ContainerId) {
        if let Some(touched) = &mut self.touched {
            touched.insert(id.clone());
        }
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
                if let Some(new) = self.put(*container, None) {
                    self.transition(new).await;
                }
            }
            Outcome::Gone => self.forget(&id).await,
            Outcome::Unknown => {}
        }
        for (what, done) in running.waiting {
            self.happened(&id, what, &files).await;
            tell(done);
        }
    }

    /// Everything was read anew: what is not in it is gone, what differs has happened while nobody listened.
    ///
    /// Operations go on meanwhile. What they touched is newer than this look, and is read once more instead.
    async fn reload(&mut self, mut loaded: Vec<Loaded>) {
        let first = !self.loaded;
        let touched = self.touched.take().unwrap_or_default();
        loaded.retain(|loaded| !touched.contains(&loaded.container.id));
        let gone: Vec<ContainerId> = {
            let present: HashSet<&ContainerId> =
                loaded.iter().map(|loaded| &loaded.container.id).collect();
            let is_gone = |id: &&ContainerId| !present.contains(id) && !touched.contains(*id);
            self.containers.keys().filter(is_gone).cloned().collect()
        };
        for id in gone {
            self.forget(&id).await;
        }
        self.reach = Reach::Connected;
        let mut found_first = Vec::new();
        for Loaded { container, facts } in loaded {
            let id = container.id.clone();
            let found = found_state(&facts);
            if first {
                // Nothing has happened: this is how we found it.
                found_first.extend(self.put(container, Some(found)));
            } else {
                if let Some(new) = self.put(container, None) {
                    self.transition(new).await;
                }
                self.catch_up(&id, &found).await;
            }
        }
        self.loaded = true;
        self.publish();
        // Not before: who reacts looks for the container.
        for found in found_first {
            self.transition(found).await;
        }
        for id in touched {
            self.container(ContainerNews { id, refresh: true, what: None, done: None }).await;
        }
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
            Missed::End(exit) => {
                let (id, pid) = (id.clone(), live.entry.container.state.pid);
                let _ = self.reactions.send(Reaction::Exit { id, pid, exit }).await;
            }
        }
    }

    /// Take a freshly read container in; its state stays what we know, or is `state` if it is new. Of a new one it gives
    /// what is to be told when it is published; that is done already unless there is a `state`.
    fn put(&mut self, mut container: Container, state: Option<State>) -> Option<Transition> {
        let id = container.id.clone();
        match self.containers.get_mut(&id) {
            Some(live) => {
                container.state = live.entry.container.state.clone();
                if container.owner == ContainerOwner::Nerdctl {
                    // nerdctl probes its own, and writes down what it finds.
                    container.state.health = container.health_on_record;
                }
                if *live.entry.container != container {
                    let states = live.entry.states.clone();
                    live.entry = Arc::new(Entry { container: Arc::new(container), states });
                    self.publish();
                }
                None
            }
            None => {
                let told = state.is_none();
                let before = State::created();
                container.state = state.unwrap_or_else(|| before.clone());
                container.state.health = first_health(&container);
                let (states, watched) = watch::channel(container.state.clone());
                let container = Arc::new(container);
                let entry = Arc::new(Entry { container: Arc::clone(&container), states: watched });
                self.touch(&id);
                self.containers.insert(id, Live { entry, states, exit: None });
                if told {
                    self.publish();
                    self.events.publish(container_event(&container, "create", &[]));
                }
                Some(Transition { container, before })
            }
        }
    }

    async fn forget(&mut self, id: &ContainerId) {
        // Others may remove a container before we are done with its end: whoever waits for that gets it all the same.
        self.end_unfinished(id).await;
        self.touch(id);
        let Some(live) = self.containers.remove(id) else { return };
        self.publish();
        self.events.publish(container_event(&live.entry.container, "destroy", &[]));
        // Dropping `states` wakes those who wait for the removal.
    }

    /// The run is over, because something happened that can only happen after its end.
    async fn end_unfinished(&mut self, id: &ContainerId) {
        let Some(live) = self.containers.get(id) else { return };
        let state = &live.entry.container.state;
        if state.phase.has_process() {
            let told = live.exit.filter(|(pid, _)| *pid == state.pid).map(|(_, exit)| exit);
            self.apply_one(id, ended(told)).await;
        }
    }

    async fn apply(&mut self, id: &ContainerId, fact: Fact) {
        if let (Some(state), Fact::Started { pid, .. }) = (self.state(id), &fact)
            && state.phase.has_process()
            && state.pid != *pid
        {
            self.end_unfinished(id).await;
        }
        self.apply_one(id, fact).await;
    }

    async fn apply_one(&mut self, id: &ContainerId, fact: Fact) {
        let Some(live) = self.containers.get(id) else { return };
        let before = live.entry.container.state.clone();
        let Some(after) = next(&before, &fact) else { return };
        self.touch(id);
        let Some(live) = self.containers.get_mut(id) else { return };
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
        self.transition(Transition { container, before }).await;
    }

    async fn transition(&self, transition: Transition) {
        let _ = self.reactions.send(Reaction::Transition(transition)).await;
    }

    fn publish(&self) {
        let entries = self.containers.values().map(|live| Arc::clone(&live.entry)).collect();
        self.snapshot.send_replace(Arc::new(Snapshot {
            loaded: self.loaded,
            reach: self.reach.clone(),
            entries,
        }));
    }
}

/// The end of a run as containerd told it, if it did.
fn ended(told: Option<Exit>) -> Fact {
    let at = told.and_then(|exit| Timestamp::try_from(exit.exited_at?).ok());
    Fact::Exited {
        code: told.map_or(UNKNOWN, |exit| exit.status),
        at: at.unwrap_or_else(Timestamp::now),
        restart: None,
    }
}

/// An end that was found, not seen: what its policy wants is decided by the repair.
fn exited(code: u32, at: Timestamp) -> Fact {
    Fact::Exited { code, at, restart: None }
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
    if found.phase.has_process() && found.pid == 0 {
        // Its shim hangs: that says nothing.
        return Missed::Facts(Vec::new());
    }
    let end = Exit { status: found.exit_code, exited_at: found.finished_at.map(Into::into) };
    let start = || found.started_at.map(|at| Fact::Started { pid: found.pid, at });
    let same_run = known.pid == found.pid;
    let facts: Vec<Fact> = match (known.phase, found.phase) {
        (known, found) if known.has_process() && !found.has_process() => return Missed::End(end),
        (Phase::Running, Phase::Paused) if same_run => vec![Fact::Paused],
        (Phase::Paused, Phase::Running) if same_run => vec![Fact::Resumed],
        (known_phase, found_phase) if found_phase.has_process() => {
            let lost = known_phase.has_process() && !same_run;
            let end = lost.then(|| exited(UNKNOWN, found.started_at.unwrap_or_default()));
            let start = if known_phase.has_process() && same_run { None } else { start() };
            end.into_iter()
                .chain(start)
                .chain((found_phase == Phase::Paused).then_some(Fact::Paused))
                .collect()
        }
        _ if found.finished_at > known.finished_at => {
            let exited = found.finished_at.map(|at| exited(found.exit_code, at));
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

/// How a container is that we have not seen before: a run goes on as it was.
fn first_health(container: &Container) -> Option<Health> {
    let on_record = container.health_on_record?;
    Some(match container.state.phase {
        _ if container.owner == ContainerOwner::Nerdctl => on_record,
        Phase::Running => on_record,
        Phase::Created => Health::default(),
        // Nobody probes it.
        _ => Health { status: HealthStatus::Unhealthy, ..on_record },
    })
}

fn tell(done: Option<oneshot::Sender<()>>) {
    if let Some(done) = done {
        // Who asked may have gone.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn run(pid: u32, second: i64, end: Option<(u32, i64)>) -> State {
        let mut facts = vec![Fact::Started { pid, at: at(second) }];
        facts.extend(end.map(|(code, second)| exited(code, at(second))));
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
        let other =
            Missed::Facts(vec![exited(UNKNOWN, at(9)), Fact::Started { pid: 8, at: at(9) }]);
        assert_eq!(missed(&running, &run(8, 9, None)), other);
        let whole =
            Missed::Facts(vec![Fact::Started { pid: u32::MAX, at: at(9) }, exited(4, at(10))]);
        assert_eq!(missed(&ended, &run(9, 9, Some((4, 10)))), whole);
    }

    #[test]
    fn a_hung_shim_is_not_another_run() {
        assert_eq!(missed(&run(7, 1, None), &run(0, 2, None)), Missed::Facts(vec![]));
        let ended = run(7, 1, Some((3, 5)));
        assert_eq!(missed(&ended, &run(0, 1, None)), Missed::Facts(vec![]), "nor a new one");
        let paused = found_state(&[Fact::Started { pid: 7, at: at(1) }, Fact::Paused]);
        assert_eq!(missed(&paused, &run(0, 1, None)), Missed::Facts(vec![]));
    }

    fn container(id: &str) -> Container {
        let record = containerd::containers::Container {
            id: id.into(),
            labels: containerd::Labels::new(),
            image: String::new(),
            runtime_name: String::new(),
            runtime_options: None,
            spec: None,
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: std::time::SystemTime::UNIX_EPOCH,
            updated_at: std::time::SystemTime::UNIX_EPOCH,
            extensions: BTreeMap::new(),
            sandbox: String::new(),
        };
        crate::containers::record::summary(&record, &names::Namespace::default()).unwrap()
    }

    /// An owner that has looked at containerd once, with a container `a`. containerd itself is away.
    async fn owner() -> (Owner, mpsc::Receiver<Reaction>) {
        let (mut owner, receiver) = unloaded();
        owner.reload(vec![Loaded { container: container("a"), facts: Vec::new() }]).await;
        (owner, receiver)
    }

    fn unloaded() -> (Owner, mpsc::Receiver<Reaction>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let (reactions, receiver) = mpsc::channel(REACTIONS);
        let owner = Owner {
            reader: Reader {
                containerd: containerd::Client::new("/nonexistent".as_ref(), "default"),
                store: nerdctl_store::DataStore::new("/nonexistent", "/nonexistent"),
                namespace: names::Namespace::default(),
                supervisor: Supervisor::new(),
            },
            events: EventHub::default(),
            supervisor: Supervisor::new(),
            queue,
            sender,
            snapshot: watch::channel(Arc::default()).0,
            reactions,
            containers: BTreeMap::new(),
            refreshing: HashMap::new(),
            touched: None,
            loaded: false,
            reach: Reach::default(),
        };
        (owner, receiver)
    }

    #[tokio::test]
    async fn who_reacts_to_what_was_found_finds_it() {
        let (mut owner, mut reactions) = unloaded();
        let snapshots = owner.snapshot.subscribe();
        // One more than the queue takes, so that the first reaction is read in the middle.
        let found = |number: usize| Loaded {
            container: container(&format!("c{number}")),
            facts: Vec::new(),
        };
        let many = (0..=REACTIONS).map(found).collect();
        let seen = async {
            reactions.recv().await;
            let snapshot = snapshots.borrow();
            (snapshot.loaded, snapshot.entries.len())
        };
        let ((), seen) = tokio::join!(owner.reload(many), seen);
        assert_eq!(seen, (true, REACTIONS + 1));
    }

    fn actions(owner: &Owner) -> Vec<String> {
        let since = Some(Timestamp::UNIX_EPOCH);
        let mut events = owner.events.subscribe(crate::events::EventFilter::default(), since);
        std::iter::from_fn(|| events.next_past())
            .filter(|event| event.kind == crate::events::EventType::Container)
            .map(|event| event.action.clone())
            .collect()
    }

    #[tokio::test]
    async fn a_look_does_not_undo_what_happened_since_it_began() {
        let (mut owner, _reactions) = owner().await;
        owner.touched = Some(HashSet::new());
        owner.put(container("b"), None);
        let a = container("a").id;
        owner.apply(&a, Fact::Started { pid: 7, at: at(1) }).await;
        // The look was before both.
        owner.reload(vec![Loaded { container: container("a"), facts: Vec::new() }]).await;
        assert_eq!(owner.state(&a).unwrap().phase, Phase::Running);
        assert!(owner.containers.contains_key(&container("b").id));

        owner.touched = Some(HashSet::new());
        owner.forget(&container("b").id).await;
        let running = vec![Fact::Started { pid: 7, at: at(1) }];
        let old = Loaded { container: container("b"), facts: Vec::new() };
        owner.reload(vec![Loaded { container: container("a"), facts: running }, old]).await;
        assert!(!owner.containers.contains_key(&container("b").id));
        assert_eq!(actions(&owner), ["create", "start", "destroy"]);
    }

    #[tokio::test]
    async fn a_run_that_is_followed_by_another_has_ended_first() {
        let (mut owner, mut reactions) = owner().await;
        let a = container("a").id;
        owner.apply(&a, Fact::Started { pid: 7, at: at(1) }).await;
        let exit = Exit { status: 3, exited_at: Some(at(2).into()) };
        owner.happened(&a, Some(Happening::Exit { pid: 7, exit }), &RunFiles::default()).await;
        while !matches!(reactions.recv().await, Some(Reaction::Exit { pid: 7, .. })) {}
        // nerdctl starts it again before we are done with the end.
        owner.apply(&a, Fact::Started { pid: 8, at: at(3) }).await;
        let fact = exited(3, at(2));
        let ended = Happening::Ended { generation: 1, fact };
        owner.happened(&a, Some(ended), &RunFiles::default()).await;
        let state = owner.state(&a).unwrap();
        assert_eq!((state.phase, state.generation), (Phase::Running, 2));
        assert_eq!(state.last_run.as_ref().unwrap().exit_code, 3);
        assert_eq!(actions(&owner), ["start", "die", "start"]);
        // And removes it: who waits for the end gets one.
        let states = owner.containers[&a].entry.states.clone();
        owner.forget(&a).await;
        assert_eq!((states.borrow().phase, states.borrow().exit_code), (Phase::Exited, UNKNOWN));
        assert_eq!(actions(&owner), ["start", "die", "start", "die", "destroy"]);
    }
}
