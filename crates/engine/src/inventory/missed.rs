//! What has happened to a container, judged by what is known of it and what a look at its task found.

use containerd::tasks::Exit;
use jiff::Timestamp;

use crate::containers::exit::UNKNOWN;
use crate::containers::state::{Fact, next};
use crate::containers::{Phase, State};

/// An end that was found, not seen: what its policy wants is decided by the repair.
pub(super) fn exited(code: u32, at: Timestamp) -> Fact {
    Fact::Exited { code, at, restart: None }
}

/// What a container is after all that must have happened to it.
pub(super) fn found_state(facts: &[Fact]) -> State {
    facts.iter().fold(State::created(), |state, fact| next(&state, fact).unwrap_or(state))
}

/// What happened between two looks.
#[derive(Debug, PartialEq)]
pub(super) enum Missed {
    Facts(Vec<Fact>),
    End(Exit),
    /// The run is over, and nothing says how: its task is gone and no exit is on record. Whoever waits for its end, or its
    /// event, knows more. (A run that really ended with [`UNKNOWN`] is told by them as well.)
    UnseenEnd,
}

pub(super) fn missed(known: &State, found: &State) -> Missed {
    if found.phase.has_process() && found.pid == 0 {
        // Its shim hangs: that says nothing.
        return Missed::Facts(Vec::new());
    }
    let end = Exit { status: found.exit_code, exited_at: found.finished_at.map(Into::into) };
    let start = || found.started_at.map(|at| Fact::Started { pid: found.pid, at });
    let same_run = known.pid == found.pid;
    let facts: Vec<Fact> = match (known.phase, found.phase) {
        (known, phase) if known.has_process() && !phase.has_process() => {
            let is_recorded = found.finished_at.is_some() && found.exit_code != UNKNOWN;
            return if is_recorded { Missed::End(end) } else { Missed::UnseenEnd };
        }
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
                .chain(found.oom_killed.then_some(Fact::Oom))
                .collect()
        }
        _ => Vec::new(),
    };
    Missed::Facts(facts)
}

impl Missed {
    /// Whether there is anything to tell.
    pub(super) fn is_something(&self) -> bool {
        match self {
            Self::Facts(facts) => !facts.is_empty(),
            Self::End(_) => true,
            Self::UnseenEnd => false,
        }
    }

    /// Whether a run has ended.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::End(_) | Self::UnseenEnd)
    }
}

/// What a look at one container is ahead of, whose events are on their way: its run that began, froze, went on or ended.
///
/// Whole runs in between are left to their events, which know how each of them ended.
pub(super) fn ahead(known: &State, found: &State) -> Missed {
    let another_run =
        known.phase.has_process() && found.phase.has_process() && known.pid != found.pid;
    let run_in_between = !known.phase.has_process() && !found.phase.has_process();
    if another_run || run_in_between || known.phase == Phase::Removing {
        return Missed::Facts(Vec::new());
    }
    missed(known, found)
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
    fn an_end_that_is_not_on_record_has_no_code() {
        let running = run(7, 1, None);
        // A task of others that is gone, and one of ours.
        for found in [State::created(), run(7, 1, Some((UNKNOWN, 1)))] {
            for missed in [missed(&running, &found), ahead(&running, &found)] {
                assert_eq!(missed, Missed::UnseenEnd);
                assert!(missed.is_end() && !missed.is_something());
            }
        }
    }

    #[test]
    fn a_hung_shim_is_not_another_run() {
        assert_eq!(missed(&run(7, 1, None), &run(0, 2, None)), Missed::Facts(vec![]));
        let ended = run(7, 1, Some((3, 5)));
        assert_eq!(missed(&ended, &run(0, 1, None)), Missed::Facts(vec![]), "nor a new one");
        let paused = found_state(&[Fact::Started { pid: 7, at: at(1) }, Fact::Paused]);
        assert_eq!(missed(&paused, &run(0, 1, None)), Missed::Facts(vec![]));
    }

    #[test]
    fn a_look_is_ahead_of_events_but_leaves_whole_runs_to_them() {
        let (running, ended) = (run(7, 1, None), run(7, 1, Some((3, 5))));
        let started = Missed::Facts(vec![Fact::Started { pid: 8, at: at(9) }]);
        assert_eq!(ahead(&ended, &run(8, 9, None)), started);
        assert_eq!(ahead(&State::created(), &run(8, 9, None)), started);
        let end = Exit { status: 3, exited_at: Some(at(5).into()) };
        assert_eq!(ahead(&running, &ended), Missed::End(end));
        let paused = found_state(&[Fact::Started { pid: 7, at: at(1) }, Fact::Paused]);
        assert_eq!(ahead(&paused, &running), Missed::Facts(vec![Fact::Resumed]));
        let nothing = Missed::Facts(vec![]);
        assert_eq!(ahead(&running, &run(8, 9, None)), nothing);
        assert_eq!(ahead(&ended, &run(8, 9, Some((4, 10)))), nothing);
        let going = State { phase: Phase::Removing, ..ended };
        assert_eq!(ahead(&going, &run(8, 9, None)), nothing);
    }
}
