//! Measures row by row: all sides in turn, repetition by repetition, so that a machine that becomes slower or faster
//! meanwhile does so for all of them.

use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::rows::{Measure, Repeat, Row};
use crate::side::{Probe, Side};
use crate::stats::Stats;
use crate::table::{Cell, Line};

/// Measures all rows. Nothing that fails ends the run: its cell says why.
pub(crate) fn all(rows: Vec<Row>, sides: &[&dyn Side], clock: &Clock) -> Vec<Line> {
    let mut refusals: Vec<Option<String>> = vec![None; sides.len()];
    let mut there = 0;
    let mut lines = Vec::new();
    for row in rows {
        if row.containers > there && clock.over().is_none() {
            crate::note(format_args!("creating {} containers on each side", row.containers));
            refusals = populate(sides, row.containers, clock);
            there = row.containers;
        }
        crate::note(format_args!("[{:3} s] {}", clock.elapsed().as_secs(), row.name));
        let cells = measure(&row, sides, &refusals, clock);
        lines.push(Line { row, cells });
    }
    lines
}

/// All sides at the same time: nobody measures.
fn populate(sides: &[&dyn Side], count: usize, clock: &Clock) -> Vec<Option<String>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            sides.iter().map(|side| scope.spawn(move || side.populate(count, clock))).collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("no {count} containers: {error:#}")),
                Err(_) => Some("panicked while creating containers".into()),
            })
            .collect()
    })
}

fn measure(
    row: &Row,
    sides: &[&dyn Side],
    refusals: &[Option<String>],
    clock: &Clock,
) -> Vec<Cell> {
    if let Some(reason) = clock.over() {
        return sides.iter().map(|_| Cell::Skipped(reason)).collect();
    }
    let mut contestants = prepare(row.measure, sides, refusals);
    for repetition in 0..row.repeat.warm_up + row.repeat.most {
        let mut busy = false;
        // There and back, so that none always comes after the same other.
        contestants.reverse();
        for contestant in &mut contestants {
            busy |= clock.over().is_none() && contestant.go(row.repeat, repetition);
        }
        if !busy {
            break;
        }
    }
    contestants.sort_unstable_by_key(|contestant| contestant.place);
    contestants.into_iter().map(|contestant| contestant.finish(clock)).collect()
}

/// All sides at the same time: large logs and trees take a while to write, and nobody measures.
fn prepare<'a>(
    measure: Measure,
    sides: &[&'a dyn Side],
    refusals: &[Option<String>],
) -> Vec<Contestant<'a>> {
    std::thread::scope(|scope| {
        let prepare = |side: &'a dyn Side, refusal: &Option<String>| match refusal {
            Some(refusal) => Err(refusal.clone()),
            None => side.probe(measure).map_err(|error| format!("{error:#}")),
        };
        let pairs = sides.iter().zip(refusals);
        let threads: Vec<_> =
            pairs.map(|(side, refusal)| scope.spawn(move || prepare(*side, refusal))).collect();
        let probes = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("panicked in preparation".into())));
        probes.enumerate().map(|(place, probe)| Contestant::new(place, probe)).collect()
    })
}

/// One side in one row.
#[derive(Default)]
struct Contestant<'a> {
    /// Its column.
    place: usize,
    probe: Option<Probe<'a>>,
    samples: Vec<f64>,
    repetitions: usize,
    spent: Duration,
    failure: Option<String>,
}

impl<'a> Contestant<'a> {
    fn new(place: usize, probe: Result<Option<Probe<'a>>, String>) -> Self {
        match probe {
            Ok(probe) => Self { place, probe, ..Self::default() },
            Err(reason) => Self { place, failure: Some(reason), ..Self::default() },
        }
    }

    /// Goes through one repetition; false when it is done.
    fn go(&mut self, repeat: Repeat, repetition: usize) -> bool {
        let enough = self.repetitions >= repeat.least && self.spent >= repeat.budget;
        let Some(probe) = self.probe.as_mut().filter(|_| !enough) else { return false };
        std::thread::sleep(repeat.rest);
        let began = Instant::now();
        match probe() {
            Ok(_) if repetition < repeat.warm_up => {}
            Ok(samples) => {
                self.samples.extend(samples);
                self.repetitions += 1;
                self.spent += began.elapsed();
            }
            Err(error) => {
                self.failure = Some(format!("{error:#}"));
                self.probe = None;
            }
        }
        true
    }

    fn finish(self, clock: &Clock) -> Cell {
        match (self.failure, Stats::of(self.samples), self.probe) {
            (Some(reason), ..) => Cell::Failed(reason),
            (None, Some(stats), _) => Cell::Measured(stats),
            (None, None, Some(_)) => Cell::Skipped(clock.over().unwrap_or("no samples")),
            (None, None, None) => Cell::Absent,
        }
    }
}
