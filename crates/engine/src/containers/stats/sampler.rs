//! The samplers: one for each container that somebody looks at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use names::ContainerId;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Sample;
use crate::Engine;
use crate::containers::{Container, State};
use crate::system::machine;

/// How often a container is looked at (moby `daemon/daemon.go`).
const INTERVAL: Duration = Duration::from_secs(1);

/// One look, as all clients get it.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) container: Arc<Container>,
    /// `None` while it does not run.
    pub(super) sample: Option<Arc<Sample>>,
}

type Sender = watch::Sender<Option<Reading>>;

/// The samplers that work now.
#[derive(Debug, Default)]
pub struct Samplers {
    working: Mutex<HashMap<ContainerId, Weak<Sender>>>,
    memory: OnceLock<u64>,
}

impl Samplers {
    /// Bytes of memory of the host.
    pub(super) fn memory(&self) -> u64 {
        *self.memory.get_or_init(machine::memory)
    }

    /// A way to hear the sampler of a container, and its sender if there was no sampler yet.
    fn hear(&self, id: &ContainerId) -> (watch::Receiver<Option<Reading>>, Option<Arc<Sender>>) {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = working.get(id).and_then(Weak::upgrade) {
            let mut readings = sender.subscribe();
            // The latest look is less than a second old: whoever comes need not wait for the next one.
            if sender.borrow().is_some() {
                readings.mark_changed();
            }
            return (readings, None);
        }
        let (sender, readings) = watch::channel(None);
        let sender = Arc::new(sender);
        working.insert(id.clone(), Arc::downgrade(&sender));
        (readings, Some(sender))
    }

    /// Whether nobody listens any more; then the sampler is forgotten.
    fn ends(&self, id: &ContainerId, sender: &Sender) -> bool {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.receiver_count() > 0 {
            return false;
        }
        working.remove(id);
        true
    }

    fn forget(&self, id: &ContainerId) {
        self.working.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Engine {
    /// The looks at a container, from its sampler.
    pub(super) fn readings(&self, id: &ContainerId) -> watch::Receiver<Option<Reading>> {
        let (readings, new) = self.samplers().hear(id);
        if let Some(sender) = new {
            self.supervisor().spawn(self.clone().sample_until_unwanted(id.clone(), sender));
        }
        readings
    }

    async fn sample_until_unwanted(self, id: ContainerId, sender: Arc<Sender>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            if self.samplers().ends(&id, &sender) {
                return;
            }
            let Some(entry) = self.inventory().now().get(&id).cloned() else { break };
            let container = Arc::clone(&entry.container);
            let sample = self.sample(&container).await.map(Arc::new);
            sender.send_replace(Some(Reading { container, sample }));
            tokio::select! {
                _ = ticks.tick() => {}
                () = gone(entry.states.clone()) => break,
            }
        }
        self.samplers().forget(&id);
    }
}

/// Wait until the container has been removed.
async fn gone(mut states: watch::Receiver<State>) {
    while states.changed().await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clients_of_a_container_share_one_sampler() {
        let samplers = Samplers::default();
        let id = ContainerId::from_random([1; 32]);
        let (first, sender) = samplers.hear(&id);
        let sender = sender.expect("the first one needs a sampler");
        let (second, none) = samplers.hear(&id);
        assert!(none.is_none());
        drop(first);
        assert!(!samplers.ends(&id, &sender), "one listens still");
        drop(second);
        assert!(samplers.ends(&id, &sender));
        assert!(samplers.working.lock().unwrap().is_empty());
        assert!(samplers.hear(&id).1.is_some(), "the next one needs a new one");
    }

    #[test]
    fn a_sampler_that_died_is_replaced() {
        let samplers = Samplers::default();
        let id = ContainerId::from_random([1; 32]);
        let (listening, sender) = samplers.hear(&id);
        drop(sender);
        assert!(listening.has_changed().is_err(), "its stream has ended");
        assert!(samplers.hear(&id).1.is_some());
    }
}
