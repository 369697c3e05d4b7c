//! One at a time per name: two pulls that meet at a blob or a layer do its work once.
//!
//! containerd locks uploads too, but by polling, and cannot tell who cleans up; between our own
//! pulls a turn does both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Slots = Arc<Mutex<HashMap<String, Arc<AsyncMutex<()>>>>>;

/// The names that somebody works on; an entry vanishes when nobody has or wants it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    slots: Slots,
}

/// The right to work on one name, until dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    name: String,
    slots: Slots,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Wait for the name to be free.
    pub(crate) async fn take(&self, name: &str) -> Turn {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(name.to_owned()).or_default())
        };
        // The place in the queue is given up, and the entry with it, if this is dropped.
        let mut turn = Turn { name: name.to_owned(), slots: Arc::clone(&self.slots), held: None };
        turn.held = Some(slot.lock_owned().await);
        turn
    }

    /// Take the name if it is free.
    pub(crate) fn try_take(&self, name: &str) -> Option<Turn> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(name.to_owned()).or_default())
        };
        let held = slot.try_lock_owned().ok();
        // Without the lock it gives only the entry back that it may have made.
        let turn = Turn { name: name.to_owned(), slots: Arc::clone(&self.slots), held };
        turn.held.is_some().then_some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's own: nobody else has it or waits.
        if slots.get(&self.name).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_no_entry_stays() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let _other_name = turns.take("b").await;
        let gave_up = tokio::time::timeout(Duration::from_millis(1), turns.take("a")).await;
        assert!(gave_up.is_err(), "it is taken");
        assert!(turns.try_take("a").is_none() && turns.try_take("c").is_some());
        drop(first);
        drop(turns.take("a").await);
        assert_eq!(turns.slots.lock().unwrap().len(), 1, "only b is left");
    }
}
