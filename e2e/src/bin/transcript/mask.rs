//! Takes out of a command's output what differs from run to run, so that the rest can be compared.

use e2e::{Context as _, Result};
use regex_lite::Regex;

/// What is replaced everywhere, in this order.
const EVERYWHERE: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d\d:?\d\d( [A-Z]+)?)?", "TIME"),
    (r"Less than a second|About an? (minute|hour)|\b\d+ (second|minute|hour)s?\b", "WHILE"),
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID"),
    (r"\b\d+\.\d+\.\d+\.\d+\b", "IP"),
    (r"IP:\d+", "IP:PORT"),
    // The folder of a host of the rig.
    (r"\bnd-[0-9A-Za-z]{6}\b", "HOST"),
    (r"\b\d+(\.\d+)?([kMGT]i?)?B\b", "SIZE"),
    // Columns are as wide as what is in them.
    (r"[ \t]+", " "),
];

/// What is replaced in the output of commands that begin so.
const IN_COMMANDS: &[(&str, &str, &str)] = &[
    // Process ids and times.
    ("docker top", r"\b\d+(:\d+)*\b", "N"),
    ("docker run --rm --init", r"\b\d+\b", "N"),
    ("docker system df", r"\d+%", "N%"),
    ("docker events", r"execDuration=\d+", "execDuration=N"),
    // Told or not, as quickly as the layer before it is there.
    ("docker push", r"ID: Waiting\n", ""),
];

/// Commands that tell of things which have no order: what happens at the same time, and images that are equally old.
const IN_ANY_ORDER: &[&str] = &["docker pull", "docker push", "docker system df -v"];

/// All masks, compiled once.
pub(crate) struct Masks {
    everywhere: Vec<(Regex, &'static str)>,
    in_commands: Vec<(&'static str, Regex, &'static str)>,
}

impl Masks {
    /// Compiles them.
    ///
    /// # Errors
    /// When a pattern above is none.
    pub(crate) fn new() -> Result<Self> {
        let compiled = |pattern: &str| Regex::new(pattern).with_context(|| pattern.to_owned());
        let everywhere = EVERYWHERE.iter().map(|(what, with)| Ok((compiled(what)?, *with)));
        let in_commands =
            IN_COMMANDS.iter().map(|(command, what, with)| Ok((*command, compiled(what)?, *with)));
        Ok(Self {
            everywhere: everywhere.collect::<Result<_>>()?,
            in_commands: in_commands.collect::<Result<_>>()?,
        })
    }

    /// The lines that `command` printed, as they are in every run.
    pub(crate) fn lines(&self, command: &str, printed: &str) -> Vec<String> {
        let mut text = printed.to_owned();
        for (mask, with) in &self.everywhere {
            text = mask.replace_all(&text, *with).into_owned();
        }
        for (_, mask, with) in self.in_commands.iter().filter(|(of, ..)| command.starts_with(of)) {
            text = mask.replace_all(&text, *with).into_owned();
        }
        let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        if IN_ANY_ORDER.iter().any(|of| command.starts_with(of)) {
            lines.sort_unstable();
        }
        lines
    }
}
