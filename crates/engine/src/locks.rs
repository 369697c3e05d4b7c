//! One lock per container; the guard is the permission to change it.
//!
//! Lists and inspects take no lock. Order with nerdctl's file locks: container guard first, then
//! `oplock → cni-concurrency → volumes → netconf → names → state → etchosts` (see `nerdctl-store::locks`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use names::ContainerId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Slots = Arc<Mutex<HashMap<ContainerId, Arc<AsyncMutex<()>>>>>;

/// The locks of all containers; an entry vanishes when nobody holds or wants it.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    slots: Slots,
}

/// Proof of holding a container's lock. Every function that changes a container takes a reference to it.
#[derive(Debug)]
pub struct ContainerGuard {
    id: ContainerId,
    slots: Slots,
    held: Option<OwnedMutexGuard<()>>,
}

impl ContainerGuard {
    /// Which container.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        &self.id
    }
}

impl Drop for ContainerGuard {
    fn drop(&mut self) {
        self.held = None;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's own: nobody else holds or waits.
        if slots.get(&self.id).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(&self.id);
        }
    }
}

impl Locks {
    /// Wait for the container's lock. Dropping the future gives the place in the queue up.
    pub async fn lock(&self, id: &ContainerId) -> ContainerGuard {
        // Made before the wait: whoever gives up waiting cleans up as well.
        let mut guard = self.unheld(id);
        guard.held = Some(self.slot(id).lock_owned().await);
        guard
    }

    /// The lock, if nobody has it.
    #[must_use]
    pub fn try_lock(&self, id: &ContainerId) -> Option<ContainerGuard> {
        let mut guard = self.unheld(id);
        guard.held = Some(self.slot(id).try_lock_owned().ok()?);
        Some(guard)
    }

    fn unheld(&self, id: &ContainerId) -> ContainerGuard {
        ContainerGuard { id: id.clone(), slots: Arc::clone(&self.slots), held: None }
    }

    fn slot(&self, id: &ContainerId) -> Arc<AsyncMutex<()>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_no_entry_stays() {
        let locks = Locks::default();
        let id = ContainerId::from_random([1; 32]);
        let guard = locks.lock(&id).await;
        assert!(locks.try_lock(&id).is_none());
        assert!(
            locks.try_lock(&ContainerId::from_random([2; 32])).is_some(),
            "another container is free"
        );
        drop(guard);
        assert!(locks.try_lock(&id).is_some());
        assert_eq!(locks.slots.lock().unwrap().len(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_no_entry() {
        let locks = Locks::default();
        let id = ContainerId::from_random([1; 32]);
        let guard = locks.lock(&id).await;
        let mut waiting = Box::pin(locks.lock(&id));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(Future::poll(waiting.as_mut(), context).is_ready())
        });
        assert!(!polled.await);
        drop(guard);
        drop(waiting);
        assert_eq!(locks.slots.lock().unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_waiter_gets_it_in_its_turn() {
        let locks = Locks::default();
        let id = ContainerId::from_random([1; 32]);
        let guard = locks.lock(&id).await;
        let waiting = locks.lock(&id);
        let first = tokio::join!(async { drop(guard) }, waiting).1;
        assert_eq!(first.id(), &id);
    }
}
