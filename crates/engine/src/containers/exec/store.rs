//! All execs that anybody may still ask about: in memory only, and bounded.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use names::ExecId;

use super::{Exec, Stage};
use crate::Engine;
use crate::containers::Container;

/// How often ended execs are looked for. One is marked by one look and forgotten by the next, so it can be inspected for
/// five minutes at least (moby `daemon/exec.go`, `execCommandGC`).
const SWEEP: Duration = Duration::from_secs(5 * 60);

/// So many are kept at most; programs that make execs and never start them, or start a hundred a second, lose the oldest.
/// Those that run are always kept.
const MOST: usize = 10_000;

/// The execs of all containers.
#[derive(Debug, Default)]
pub struct Execs {
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    by_id: BTreeMap<ExecId, (u64, Arc<Exec>)>,
    /// Counts up: who came first.
    next: u64,
}

impl Execs {
    pub(super) fn add(&self, exec: Arc<Exec>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.by_id.len() >= MOST {
            all.forget_one();
        }
        let number = all.next;
        all.next += 1;
        all.by_id.insert(exec.id.clone(), (number, exec));
    }

    /// The exec with exactly this id.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Exec>> {
        let id = id.parse::<ExecId>().ok()?;
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.by_id.get(&id).map(|(_, exec)| Arc::clone(exec))
    }

    /// Whether we made it.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    /// Whether any of them is being started or runs.
    pub(crate) fn any_runs(&self) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.by_id.values().any(|(_, exec)| exec.stage.borrow().runs())
    }

    /// Those of a container that have not ended, the oldest first.
    pub(super) fn live_of(&self, container: &Container) -> Vec<ExecId> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut live: Vec<(u64, ExecId)> = all
            .by_id
            .values()
            .filter(|(_, exec)| exec.container == container.id && !exec.is_stale(container))
            .filter(|(_, exec)| !exec.stage.borrow().is_over())
            .map(|(number, exec)| (*number, exec.id.clone()))
            .collect();
        live.sort_unstable();
        live.into_iter().map(|(_, id)| id).collect()
    }

    /// Forget those that an earlier sweep marked; mark those that have ended or are of no use to their container.
    fn sweep(&self, is_useless: impl Fn(&Exec) -> bool) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.by_id.retain(|_, (_, exec)| {
            if exec.can_remove.load(Ordering::Relaxed) {
                return false;
            }
            let stage = *exec.stage.borrow();
            let is_done = stage.is_over() || (stage == Stage::Created && is_useless(exec));
            exec.can_remove.store(is_done, Ordering::Relaxed);
            true
        });
    }
}

impl All {
    /// Make room: the oldest that has ended, else the oldest that was never started.
    fn forget_one(&mut self) {
        let oldest = |wanted: fn(Stage) -> bool| {
            let found = self.by_id.values().filter(|(_, exec)| wanted(*exec.stage.borrow()));
            found.min_by_key(|(number, _)| *number).map(|(_, exec)| exec.id.clone())
        };
        let victim =
            oldest(|stage| stage.is_over()).or_else(|| oldest(|stage| stage == Stage::Created));
        if let Some(id) = victim {
            self.by_id.remove(&id);
        }
    }
}

impl Engine {
    /// Forget ended execs, for as long as the daemon runs.
    pub(crate) async fn sweep_execs(self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = self.inventory().now();
            if now.loaded {
                self.execs().sweep(|exec| {
                    now.get(&exec.container).is_none_or(|entry| exec.is_stale(&entry.container))
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::exec;
    use super::*;

    fn ids(execs: &Execs) -> Vec<ExecId> {
        execs.all.lock().unwrap().by_id.keys().cloned().collect()
    }

    #[test]
    fn an_ended_exec_is_marked_and_then_forgotten() {
        let execs = Execs::default();
        let [created, running, ended, orphan] =
            [(1, 1), (2, 1), (3, 1), (4, 2)].map(|(id, container)| Arc::new(exec(id, container)));
        for exec in [&created, &running, &ended, &orphan] {
            execs.add(Arc::clone(exec));
        }
        running.stage.send_replace(Stage::Running { pid: 7 });
        ended.stage.send_replace(Stage::Ended { pid: 8, code: 0 });

        let is_useless = |exec: &Exec| exec.container != created.container;
        execs.sweep(is_useless);
        assert_eq!(ids(&execs).len(), 4);
        assert!(ended.details().can_remove && orphan.details().can_remove);
        execs.sweep(is_useless);
        assert_eq!(ids(&execs), [created.id.clone(), running.id.clone()]);
        assert!(execs.knows(created.id.as_str()));
        assert!(!execs.knows(ended.id.as_str()));
        assert!(!execs.knows(&created.id.as_str()[..12]), "a part of an id is none");
    }

    #[test]
    fn there_is_room_for_the_newest() {
        let mut all = All::default();
        let execs = [1, 2, 3, 4].map(|number| Arc::new(exec(number, 1)));
        for (number, exec) in execs.iter().enumerate() {
            all.by_id.insert(exec.id.clone(), (10 - number as u64, Arc::clone(exec)));
        }
        execs[0].stage.send_replace(Stage::Ended { pid: 1, code: 0 });
        execs[1].stage.send_replace(Stage::Running { pid: 2 });
        for (gone, exec) in [("ended", &execs[0]), ("oldest", &execs[3]), ("next", &execs[2])] {
            all.forget_one();
            assert!(!all.by_id.contains_key(&exec.id), "{gone}");
        }
        all.forget_one();
        assert_eq!(all.by_id.len(), 1, "one that runs is kept");
    }
}
