//! Wait for the end of a run, or of the container.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Phase, State};
use crate::{Engine, Result};

/// What to wait for (moby `api/types/container/waitresponse.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// It does not run: at once if that is so.
    NotRunning,
    /// A run ends from now on.
    NextExit,
    /// It is gone.
    Removed,
}

/// A registered wait: from here on no exit is missed.
#[derive(Debug)]
pub struct Waiter {
    states: watch::Receiver<State>,
    condition: WaitCondition,
    at_first: State,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitOutcome {
    /// Exit code.
    pub status_code: i64,
    /// Why the wait itself failed.
    pub error: Option<String>,
}

impl Engine {
    /// Register a wait.
    ///
    /// # Errors
    /// As [`Engine::resolve_container`].
    pub async fn wait_container(&self, typed: &str, condition: WaitCondition) -> Result<Waiter> {
        let entry = self.resolve_entry(typed).await?;
        if condition == WaitCondition::NotRunning {
            // One that nerdctl has just started may not be known to run.
            self.up_to_date(Arc::clone(&entry.container), Phase::has_process).await;
        }
        let states = entry.states.clone();
        let at_first = states.borrow().clone();
        Ok(Waiter { states, condition, at_first })
    }
}

impl Waiter {
    /// Wait. A removal ends every wait.
    pub async fn outcome(mut self) -> WaitOutcome {
        let (condition, at_first) = (self.condition, self.at_first);
        // An error means that the container is gone; its last state stays readable.
        let seen = self.states.wait_for(|state| is_over(condition, &at_first, state)).await;
        let seen = seen.map(|state| state.clone());
        let state = seen.unwrap_or_else(|_| self.states.borrow().clone());
        if state.phase == Phase::Dead {
            let error = Some("the container could not be removed whole".to_owned());
            return WaitOutcome { status_code: -1, error };
        }
        WaitOutcome { status_code: i64::from(code(&state)), error: None }
    }
}

/// Exit code of the run that ended last. The end itself may have been missed by a slow waiter, when it runs again.
fn code(state: &State) -> u32 {
    match &state.last_run {
        Some(run) if state.phase.has_process() => run.exit_code,
        _ => state.exit_code,
    }
}

fn is_over(condition: WaitCondition, at_first: &State, now: &State) -> bool {
    match condition {
        // dockerd wakes these also when the policy is about to start it again (moby `daemon/container/state.go`,
        // `SetRestarting`).
        WaitCondition::NotRunning => {
            !now.phase.counts_as_running() || has_a_run_ended(at_first, now)
        }
        WaitCondition::NextExit => has_a_run_ended(at_first, now),
        WaitCondition::Removed => now.phase == Phase::Dead,
    }
}

/// Since the wait began. States may be skipped by a slow waiter; the number of the run tells.
fn has_a_run_ended(at_first: &State, now: &State) -> bool {
    if now.generation == at_first.generation {
        // Also when somebody ends the pause before the next run.
        return at_first.phase.counts_as_running()
            && !now.phase.has_process()
            && now.phase != at_first.phase;
    }
    let is_the_next = now.generation == at_first.generation + 1;
    !is_the_next || at_first.phase.has_process() || !now.phase.has_process()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(phase: Phase, generation: u64) -> State {
        State { phase, generation, ..State::created() }
    }

    #[test]
    fn when_a_wait_is_over() {
        use Phase::{Created, Dead, Exited, Paused, Restarting, Running};
        use WaitCondition::{NextExit, NotRunning, Removed};
        let cases = [
            (NotRunning, (Created, 0), (Created, 0), true),
            (NotRunning, (Running, 1), (Running, 1), false),
            (NotRunning, (Running, 1), (Paused, 1), false),
            (NotRunning, (Running, 1), (Restarting, 1), true),
            (NotRunning, (Running, 1), (Running, 2), true),
            (NotRunning, (Restarting, 1), (Restarting, 1), false),
            (NotRunning, (Restarting, 1), (Running, 2), false),
            (NotRunning, (Restarting, 1), (Restarting, 2), true),
            (NotRunning, (Restarting, 1), (Exited, 1), true),
            (NotRunning, (Running, 1), (Exited, 1), true),
            (NextExit, (Created, 0), (Created, 0), false),
            (NextExit, (Created, 0), (Running, 1), false),
            (NextExit, (Created, 0), (Exited, 1), true),
            (NextExit, (Exited, 1), (Exited, 1), false),
            (NextExit, (Exited, 1), (Running, 2), false),
            (NextExit, (Exited, 1), (Exited, 2), true),
            (NextExit, (Running, 1), (Paused, 1), false),
            (NextExit, (Running, 1), (Exited, 1), true),
            (NextExit, (Running, 1), (Running, 2), true),
            (NextExit, (Created, 0), (Running, 2), true),
            (NextExit, (Running, 1), (Restarting, 1), true),
            (NextExit, (Restarting, 1), (Restarting, 1), false),
            (NextExit, (Restarting, 1), (Running, 2), false),
            (NextExit, (Restarting, 1), (Restarting, 2), true),
            (NextExit, (Restarting, 1), (Running, 3), true),
            (NextExit, (Restarting, 1), (Exited, 1), true),
            (Removed, (Exited, 1), (Exited, 1), false),
            (Removed, (Exited, 1), (Dead, 1), true),
        ];
        for (condition, first, now, expected) in cases {
            let over = is_over(condition, &state(first.0, first.1), &state(now.0, now.1));
            assert_eq!(over, expected, "{condition:?} {first:?} → {now:?}");
        }
    }

    #[tokio::test]
    async fn the_code_is_that_of_the_run_that_ended() {
        use crate::containers::state::{Fact, next};
        let at = jiff::Timestamp::from_second;
        let started = |pid| Fact::Started { pid, at: at(i64::from(pid)).unwrap() };
        let first = next(&State::created(), &started(7)).unwrap();
        let (sender, states) = watch::channel(first.clone());
        let waiter = Waiter { states, condition: WaitCondition::NextExit, at_first: first.clone() };
        let ended =
            next(&first, &Fact::Exited { code: 3, at: at(8).unwrap(), restart: None }).unwrap();
        sender.send_replace(next(&ended, &started(9)).unwrap());
        assert_eq!(waiter.outcome().await, WaitOutcome { status_code: 3, error: None });
    }

    #[tokio::test]
    async fn removal_ends_every_wait_with_the_last_code() {
        let (sender, states) = watch::channel(State { exit_code: 3, ..state(Phase::Exited, 1) });
        for condition in [WaitCondition::NextExit, WaitCondition::Removed] {
            let at_first = states.borrow().clone();
            let waiter = Waiter { states: states.clone(), condition, at_first };
            let early =
                tokio::time::timeout(std::time::Duration::from_millis(5), waiter.outcome()).await;
            assert!(early.is_err());
        }
        let at_first = states.borrow().clone();
        let waiter = Waiter { at_first, states, condition: WaitCondition::Removed };
        drop(sender);
        assert_eq!(waiter.outcome().await, WaitOutcome { status_code: 3, error: None });
    }
}
