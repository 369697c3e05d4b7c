//! Automation of the repository: `cargo xtask TASK`.

mod budget;
mod layers;
mod metadata;

use std::process::ExitCode;

/// What can be asked for, each with what it does.
const TASKS: &[(&str, &str, Task)] = &[
    ("check-layers", "the crates may only know whom ARCHITECTURE.md lets them know", layers::check),
    (
        "budget",
        "the release binary and the idle daemon stay within budget.toml's limits",
        budget::check,
    ),
];

type Task = fn() -> anyhow::Result<String>;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let Some((_, _, task)) = TASKS.iter().find(|(name, ..)| *name == wanted) else {
        say(&usage());
        return ExitCode::from(2);
    };
    match task() {
        Ok(report) => {
            say(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("{wanted}: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let tasks: Vec<String> =
        TASKS.iter().map(|(name, what, _)| format!("  {name:<14} {what}")).collect();
    format!("usage: cargo xtask TASK\n{}", tasks.join("\n"))
}

#[expect(clippy::print_stdout, reason = "a command line tool")]
fn say(text: &str) {
    println!("{text}");
}
