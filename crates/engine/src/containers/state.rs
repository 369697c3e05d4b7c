//! What a container is doing, and how facts change it.
//!
//! Operations never set a state. They cause facts (a task started, a process ended), and [`next`] is the one place that
//! says what a fact makes of a state. A fact that is already known changes nothing, so the same news may arrive from
//! containerd's event stream, from a wait and from an operation without telling anybody twice.

use std::time::Duration;

use jiff::Timestamp;

use super::health_check::{Health, HealthStatus};

/// Docker's seven states (moby `daemon/container/state.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Never started, or started in vain.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Ended, and its policy will start it again.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed whole.
    Dead,
}

impl Phase {
    /// Docker's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Docker counts paused and restarting containers as running.
    #[must_use]
    pub fn counts_as_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// There is a live process.
    #[must_use]
    pub fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// State of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Which of the seven.
    pub phase: Phase,
    /// Process id on the host; 0 while there is none.
    pub pid: u32,
    /// Exit code of the last run; 0 before the first.
    pub exit_code: u32,
    /// Start of the last run.
    pub started_at: Option<Timestamp>,
    /// End of the last run.
    pub finished_at: Option<Timestamp>,
    /// The last run hit its memory limit.
    pub oom_killed: bool,
    /// Why the last start failed, or empty.
    pub error: String,
    /// The last run that ended.
    pub last_run: Option<EndedRun>,
    /// Number of runs seen by this daemon; waiters for the next exit compare it.
    pub generation: u64,
    /// Somebody asked for the end of the last run.
    pub wish: Option<Wish>,
    /// The pause before the restart that followed the last run that ended; none if that end was for good.
    pub restart_pause: Option<Duration>,
    /// How it is, if it has a health check.
    pub health: Option<Health>,
}

/// Why somebody asks for the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It shall end.
    Stop,
    /// It shall end and run again.
    Restart,
}

impl State {
    /// A container without a task.
    #[must_use]
    pub fn created() -> Self {
        Self {
            phase: Phase::Created,
            pid: 0,
            exit_code: 0,
            started_at: None,
            finished_at: None,
            oom_killed: false,
            error: String::new(),
            last_run: None,
            generation: 0,
            wish: None,
            restart_pause: None,
            health: None,
        }
    }
}

/// A run that ended. Stays known while the container runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRun {
    /// Its process id.
    pub pid: u32,
    /// Its exit code.
    pub exit_code: u32,
}

/// How much later than the end of a run its start may be dated: whoever dates an event may come late.
const LATE_START: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// News about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Its process runs.
    Started {
        /// Process id on the host.
        pid: u32,
        /// When.
        at: Timestamp,
    },
    /// Its process ended.
    Exited {
        /// Exit code, 128 + signal for a signal's death.
        code: u32,
        /// When.
        at: Timestamp,
        /// Its policy wants another run after this pause. A wish for its end comes first.
        restart: Option<Duration>,
    },
    /// Somebody asks for the end of the run, or of the pause before the next one.
    EndWanted(Wish),
    /// A probe of its health check ended.
    Probed(Health),
    /// It could not be started.
    StartFailed {
        /// 126, 127 or 128.
        code: u32,
        /// The runtime's words.
        message: String,
    },
    /// Frozen.
    Paused,
    /// Thawed.
    Resumed,
    /// The kernel killed in it for memory.
    Oom,
    /// Its removal has begun.
    Removing,
    /// Its removal failed and it stays.
    RemovalFailed,
}

/// What a fact makes of a state; `None` when it changes nothing.
#[must_use]
pub fn next(state: &State, fact: &Fact) -> Option<State> {
    let mut new = state.clone();
    match fact {
        Fact::Started { pid, at } => {
            // The same process, told again. Paused counts: a late start event must not thaw it.
            if state.phase.has_process() && state.pid == *pid {
                return None;
            }
            if is_late(state, *pid, *at) {
                return None;
            }
            new.phase = Phase::Running;
            new.pid = *pid;
            new.started_at = Some(*at);
            new.exit_code = 0;
            new.oom_killed = false;
            new.error.clear();
            new.generation += 1;
            new.wish = None;
            if let Some(health) = &mut new.health {
                *health = Health { status: HealthStatus::Starting, failing_streak: 0 };
            }
        }
        Fact::Exited { code, at, restart } => {
            if !state.phase.has_process() {
                return None;
            }
            new.restart_pause = restart.filter(|_| state.wish.is_none());
            new.phase = if new.restart_pause.is_some() { Phase::Restarting } else { Phase::Exited };
            nobody_probes(&mut new);
            new.last_run = Some(EndedRun { pid: state.pid, exit_code: *code });
            new.pid = 0;
            new.exit_code = *code;
            new.finished_at = Some(*at);
        }
        Fact::StartFailed { code, message } => {
            if state.phase.has_process() {
                return None;
            }
            if state.phase == Phase::Restarting {
                new.phase = Phase::Exited;
                new.restart_pause = None;
            }
            new.exit_code = *code;
            new.error.clone_from(message);
        }
        Fact::EndWanted(wish) if state.phase.has_process() => new.wish = Some(*wish),
        Fact::EndWanted(wish) if state.phase == Phase::Restarting => {
            new.phase = Phase::Exited;
            new.restart_pause = None;
            new.wish = Some(*wish);
        }
        Fact::Probed(health)
            if state.phase == Phase::Running && state.health.is_some_and(|old| old != *health) =>
        {
            new.health = Some(*health);
        }
        Fact::Paused if state.phase == Phase::Running => {
            new.phase = Phase::Paused;
            nobody_probes(&mut new);
        }
        Fact::Resumed if state.phase == Phase::Paused => new.phase = Phase::Running,
        // It may be told after the end that it explains.
        Fact::Oom if has_run(state) && !state.oom_killed => new.oom_killed = true,
        Fact::Removing if state.phase != Phase::Removing => new.phase = Phase::Removing,
        Fact::RemovalFailed if state.phase == Phase::Removing => new.phase = Phase::Dead,
        Fact::EndWanted(_)
        | Fact::Probed(_)
        | Fact::Paused
        | Fact::Resumed
        | Fact::Oom
        | Fact::Removing
        | Fact::RemovalFailed => {
            return None;
        }
    }
    Some(new)
}

/// Whether it is in a run, or out of its last one.
fn has_run(state: &State) -> bool {
    state.phase.has_process()
        || matches!(state.phase, Phase::Exited | Phase::Restarting) && state.last_run.is_some()
}

/// Docker calls a container unhealthy that nobody probes (moby `daemon/container/health.go`, `CloseMonitorChannel`).
fn nobody_probes(state: &mut State) {
    if let Some(health) = &mut state.health {
        health.status = HealthStatus::Unhealthy;
    }
}

/// The news of the start of the run that has ended already: events are slower than the end of a short process. (The same
/// process id may come again, but not within the same second.)
fn is_late(state: &State, pid: u32, at: Timestamp) -> bool {
    let same = state.last_run.as_ref().is_some_and(|run| run.pid == pid);
    same && pid != 0
        && !state.phase.has_process()
        && state.finished_at.is_some_and(|end| at.duration_since(end) < LATE_START)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn running() -> State {
        next(&State::created(), &Fact::Started { pid: 7, at: at(1) }).unwrap()
    }

    #[test]
    fn a_run_from_start_to_exit() {
        let state = running();
        assert_eq!((state.phase, state.pid, state.generation), (Phase::Running, 7, 1));
        let state = next(&state, &Fact::Exited { code: 3, at: at(2), restart: None }).unwrap();
        assert_eq!((state.phase, state.pid, state.exit_code), (Phase::Exited, 0, 3));
        assert_eq!(state.finished_at, Some(at(2)));
        let state = next(&state, &Fact::Started { pid: 8, at: at(3) }).unwrap();
        assert_eq!((state.generation, state.exit_code), (2, 0));
        assert_eq!(state.finished_at, Some(at(2)), "the last end stays while it runs again");
    }

    #[test]
    fn what_is_known_changes_nothing() {
        let state = running();
        assert_eq!(next(&state, &Fact::Started { pid: 7, at: at(9) }), None);
        assert_eq!(next(&state, &Fact::Resumed), None);
        let paused = next(&state, &Fact::Paused).unwrap();
        assert_eq!(next(&paused, &Fact::Paused), None);
        assert_eq!(next(&paused, &Fact::Started { pid: 7, at: at(9) }), None);
        let ended = next(&state, &Fact::Exited { code: 0, at: at(2), restart: None }).unwrap();
        let removing = next(&ended, &Fact::Removing).unwrap();
        let dead = next(&removing, &Fact::RemovalFailed).unwrap();
        for state in [&ended, &removing, &dead] {
            let late = Fact::Started { pid: 7, at: at(2) };
            assert_eq!(next(state, &late), None, "late news: {:?}", state.phase);
        }
        assert!(next(&ended, &Fact::Started { pid: 8, at: at(2) }).is_some());
        assert!(next(&ended, &Fact::Started { pid: 7, at: at(9) }).is_some(), "the same number");
        for fact in
            [Fact::Exited { code: 1, at: at(3), restart: None }, Fact::Paused, Fact::Resumed]
        {
            assert_eq!(next(&ended, &fact), None, "{fact:?}");
        }
        assert_eq!(next(&State::created(), &Fact::Oom), None);
        let oom = next(&ended, &Fact::Oom).unwrap();
        assert!(oom.oom_killed && next(&oom, &Fact::Oom).is_none(), "told after the end");
        assert_eq!(
            next(&State::created(), &Fact::Exited { code: 1, at: at(3), restart: None }),
            None
        );
    }

    #[test]
    fn a_failed_start_keeps_the_phase_and_tells_why() {
        let state = next(
            &State::created(),
            &Fact::StartFailed { code: 127, message: "no such file".into() },
        )
        .unwrap();
        assert_eq!(
            (state.phase, state.exit_code, state.error.as_str()),
            (Phase::Created, 127, "no such file")
        );
    }

    fn ended(state: &State, pause: Option<Duration>) -> State {
        next(state, &Fact::Exited { code: 3, at: at(2), restart: pause }).unwrap()
    }

    #[test]
    fn a_policy_starts_again_unless_somebody_wants_the_end() {
        let pause = Some(Duration::from_millis(100));
        let restarting = ended(&running(), pause);
        assert_eq!((restarting.phase, restarting.restart_pause), (Phase::Restarting, pause));
        assert_eq!((restarting.exit_code, restarting.pid), (3, 0));
        assert_eq!(next(&restarting, &Fact::Started { pid: 7, at: at(2) }), None, "late news");
        let again = next(&restarting, &Fact::Started { pid: 8, at: at(3) }).unwrap();
        assert_eq!((again.phase, again.restart_pause), (Phase::Running, pause));
        assert_eq!(ended(&again, None).restart_pause, None);

        let wanted = next(&again, &Fact::EndWanted(Wish::Stop)).unwrap();
        assert_eq!((wanted.phase, wanted.wish), (Phase::Running, Some(Wish::Stop)));
        let stopped = ended(&wanted, pause);
        assert_eq!((stopped.phase, stopped.restart_pause), (Phase::Exited, None));
        let third = next(&stopped, &Fact::Started { pid: 9, at: at(5) }).unwrap();
        assert_eq!(third.wish, None, "a start forgets it");

        let given_up = next(&restarting, &Fact::EndWanted(Wish::Stop)).unwrap();
        assert_eq!((given_up.phase, given_up.restart_pause), (Phase::Exited, None));
        let failed = Fact::StartFailed { code: 127, message: "no".into() };
        let failed = next(&restarting, &failed).unwrap();
        assert_eq!((failed.phase, failed.exit_code), (Phase::Exited, 127));
        assert_eq!(next(&stopped, &Fact::EndWanted(Wish::Stop)), None);
    }

    #[test]
    fn health_begins_anew_with_each_run() {
        let health = |state: &State| state.health.unwrap();
        let created = State { health: Some(Health::default()), ..State::created() };
        let state = next(&created, &Fact::Started { pid: 7, at: at(1) }).unwrap();
        assert_eq!(health(&state).status, HealthStatus::Starting);
        let healthy = Health { status: HealthStatus::Healthy, failing_streak: 0 };
        let state = next(&state, &Fact::Probed(healthy)).unwrap();
        assert_eq!(health(&state), healthy);
        assert_eq!(next(&state, &Fact::Probed(healthy)), None);
        let paused = next(&state, &Fact::Paused).unwrap();
        assert_eq!(health(&paused).status, HealthStatus::Unhealthy);
        assert_eq!(next(&paused, &Fact::Probed(healthy)), None, "a late answer");
        let state = ended(&state, None);
        assert_eq!(health(&state).status, HealthStatus::Unhealthy);
        let state = next(&state, &Fact::Started { pid: 8, at: at(3) }).unwrap();
        assert_eq!(health(&state).status, HealthStatus::Starting);
        assert_eq!(next(&running(), &Fact::Probed(healthy)), None, "it has no check");
    }

    #[test]
    fn removal_that_fails_leaves_it_dead() {
        let state = next(&running(), &Fact::Removing).unwrap();
        assert_eq!(next(&state, &Fact::RemovalFailed).unwrap().phase, Phase::Dead);
    }
}
