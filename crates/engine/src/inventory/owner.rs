//! The task that owns the data: applies news in order, publishes snapshots, emits life-cycle events.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use containerd::tasks::Exit;
use jiff::Timestamp;
use names::ContainerId;
use tokio::sync::{mpsc, oneshot, watch};

use super::load::{Loaded, Outcome, Reader, RunFiles};
use super::missed::{self, Missed, found_state, missed};
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
#[derive(Debug)]
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
    /// Whether anybody reacts: to be answered.
    Beat(oneshot::Sender<()>),
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
        let asking = reader.clone();
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
        supervisor.vital("owner of the inventory", owner.run());
        supervisor.service("containerd events", move || {
            let (reader, outlets) = follower.clone();
            follow::follow(reader, outlets)
        });
        (Self { news: sender, snapshot: snapshots, reader: asking }, receiver)
    }
}

impl Owner {
    async fn run(mut self) {
        while let Some(news) = self.queue.recv().await {
            match news {
                News::Container(news) => self.container(news).await,
                News::Refreshed(id, outcome) => self.refreshed(id, outcome).await,
                News::Beat(done) => {
                    let _ = self.reactions.send(Reaction::Beat(done)).await;
                }
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
            Some(Happening::Found(found)) => {
                let Some(state) = self.state(id) else { return };
                let ahead = missed::ahead(state, &found);
                self.make_up_for(id, ahead).await;
            }
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
        let Some(state) = self.state(id) else { return };
        let missed = missed(state, found);
        self.make_up_for(id, missed).await;
    }

    async fn make_up_for(&mut self, id: &ContainerId, missed: Missed) {
        let Some(state) = self.state(id) else { return };
        match missed {
            Missed::Facts(facts) => {
                for fact in facts {
                    self.apply(id, fact).await;
                }
            }
            // The engine waits for the end of every run, and gives its event a moment.
            Missed::UnseenEnd => {}
            // The engine has work to do before anybody hears of an end.
            Missed::End(exit) => {
                let (id, pid) = (id.clone(), state.pid);
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
    use super::super::missed::exited;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
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
    async fn a_beat_needs_the_owner_and_who_reacts() {
        let (owner, mut reactions) = unloaded();
        let inventory = Inventory {
            news: owner.sender.clone(),
            snapshot: owner.snapshot.subscribe(),
            reader: owner.reader.clone(),
        };
        let reacting = async {
            let Some(Reaction::Beat(done)) = reactions.recv().await else { return };
            let _ = done.send(());
        };
        let answered = async { tokio::join!(inventory.beat(), reacting).0 };
        let work = owner.run();
        tokio::pin!(work);
        tokio::select! {
            answered = answered => assert!(answered),
            () = &mut work => panic!("the owner has ended"),
        }
        drop(reactions);
        tokio::select! {
            answered = inventory.beat() => assert!(!answered, "nobody reacts"),
            () = &mut work => panic!("the owner has ended"),
        }
    }

    #[tokio::test]
    async fn a_beat_fails_without_the_owner() {
        let (owner, _reactions) = unloaded();
        let inventory = Inventory {
            news: owner.sender.clone(),
            snapshot: owner.snapshot.subscribe(),
            reader: owner.reader.clone(),
        };
        drop(owner);
        assert!(!inventory.beat().await);
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
