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
        let slot = self.slot(id);
        let held = slot.lock_owned().await;
        ContainerGuard { id: id.clone(), slots: Arc::clone(&self.slots), held: Some(held) }
    }

    /// The lock, if nobody has it.
    #[must_use]
    pub fn try_lock(&self, id: &ContainerId) -> Option<ContainerGuard> {
        let held = self.slot(id).try_lock_owned().ok()?;
        Some(ContainerGuard { id: id.clone(), slots: Arc::clone(&self.slots), held: Some(held) })
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
    async fn a_waiter_gets_it_in_its_turn() {
        let locks = Locks::default();
        let id = ContainerId::from_random([1; 32]);
        let guard = locks.lock(&id).await;
        let waiting = locks.lock(&id);
        let first = tokio::join!(async { drop(guard) }, waiting).1;
        assert_eq!(first.id(), &id);
    }
}
