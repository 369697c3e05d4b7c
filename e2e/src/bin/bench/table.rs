//! The result as Markdown.

use std::fmt::Write as _;

use crate::rows::{Row, Unit};
use crate::stats::Stats;

/// One side of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// Nothing to measure there.
    Absent,
    /// Not measured, and why.
    Skipped(&'static str),
    /// It could not be measured, in the daemon's words.
    Failed(String),
    /// Measured.
    Measured(Stats),
}

impl Cell {
    fn stats(&self) -> Option<&Stats> {
        match self {
            Self::Measured(stats) => Some(stats),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Absent => "–".into(),
            Self::Skipped(reason) => format!("({reason})"),
            Self::Failed(_) => "FAILED".into(),
            Self::Measured(Stats { median, count: 1, .. }) => number(*median),
            Self::Measured(stats) => format!("{} ({})", number(stats.median), number(stats.p95)),
        }
    }
}

/// A row with its results, one of each side.
#[derive(Debug)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) row: Row,
    /// The results, in the order of the sides.
    pub(crate) cells: Vec<Cell>,
}

/// The names of the columns, and which of them are daemons (the others are floors).
#[derive(Debug)]
pub(crate) struct Columns {
    /// Daemons; ratios are the first one's beside each other one's.
    pub(crate) daemons: Vec<String>,
    /// Whether a floor comes behind them.
    pub(crate) floor: bool,
}

/// A table, and below it what failed.
pub(crate) fn markdown(columns: &Columns, lines: &[Line]) -> String {
    let mut text = String::new();
    let heads = columns.heads();
    let _ = writeln!(text, "| {} |", heads.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---:|".repeat(heads.len() - 2));
    for line in lines {
        let _ = writeln!(text, "| {} |", columns.line(line).join(" | "));
    }
    for line in lines {
        for (cell, name) in line.cells.iter().zip(columns.names()) {
            if let Cell::Failed(reason) = cell {
                let _ = write!(text, "\n`{}` of {name} FAILED: {}\n", line.row.name, reason.trim());
            }
        }
    }
    text
}

impl Columns {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.daemons.iter().map(String::as_str).chain(self.floor.then_some("floor"))
    }

    fn heads(&self) -> Vec<String> {
        let mut heads = vec!["Row".to_owned(), "What".to_owned()];
        heads.extend(self.daemons.iter().cloned());
        if let [first, others @ ..] = self.daemons.as_slice() {
            heads.extend(others.iter().map(|other| format!("{first} / {other}")));
            if self.floor {
                heads.extend(["floor".into(), format!("{first} − floor")]);
            }
        }
        heads
    }

    fn line(&self, line: &Line) -> Vec<String> {
        let unit = line.row.unit;
        let (daemons, floor) = line.cells.split_at(self.daemons.len().min(line.cells.len()));
        let mut words =
            vec![format!("`{}`", line.row.name), format!("{}, {}", line.row.what, unit.symbol())];
        words.extend(daemons.iter().map(Cell::text));
        let Some((first, others)) = daemons.split_first() else { return words };
        words.extend(others.iter().map(|other| relate(first, other, |a, b| number(a / b))));
        if let Some(floor) = floor.first().filter(|_| self.floor) {
            words.push(floor.text());
            words.push(match unit {
                Unit::Milliseconds => relate(first, floor, |a, b| number(a - b)),
                Unit::Mebibytes | Unit::MegabytesPerSecond | Unit::Processor => "–".into(),
            });
        }
        words
    }
}

/// Two medians beside each other, if there are two.
fn relate(one: &Cell, other: &Cell, how: impl Fn(f64, f64) -> String) -> String {
    match (one.stats(), other.stats()) {
        (Some(one), Some(other)) => how(one.median, other.median),
        _ => "–".into(),
    }
}

/// Three digits are enough.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cells: Vec<Cell>) -> Line {
        let mut row = crate::rows::all(false).swap_remove(2);
        row.name = "start".into();
        Line { row, cells }
    }

    fn measured(median: f64) -> Cell {
        Cell::Measured(Stats { median, p95: median * 2.0, count: 5 })
    }

    #[test]
    fn ratios_are_the_firsts_beside_the_others_and_differences_those_to_the_floor() {
        let columns = Columns { daemons: vec!["ours".into(), "dockerd".into()], floor: true };
        let lines = [line(vec![measured(50.0), measured(1000.0), measured(4.5)])];
        assert_eq!(
            markdown(&columns, &lines),
            "| Row | What | ours | dockerd | ours / dockerd | floor | ours − floor |\n\
             |---|---|---:|---:|---:|---:|---:|\n\
             | `start` | spawn to first `_ping`, ms | 50.0 (100) | 1000 (2000) | 0.050 | 4.50 (9.00) | 45.5 |\n"
        );
    }

    #[test]
    fn what_failed_is_told_below() {
        let columns = Columns { daemons: vec!["ours".into(), "dockerd".into()], floor: false };
        let lines = [line(vec![Cell::Failed("no\n".into()), Cell::Absent])];
        assert!(markdown(&columns, &lines).ends_with(
            "| `start` | spawn to first `_ping`, ms | FAILED | – | – |\n\n`start` of ours FAILED: no\n"
        ));
    }
}
