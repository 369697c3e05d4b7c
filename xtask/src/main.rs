//! Automation of the repository: `cargo xtask TASK`.

mod budget;
mod compatibility;
mod idle;
mod layers;
mod metadata;
mod order;

use std::process::ExitCode;

/// What can be asked for, each with what it does.
const TASKS: &[(&str, &str, Task)] = &[
    ("check-layers", "the crates know only whom they may (ARCHITECTURE.md)", layers::check),
    ("compatibility", "write COMPATIBILITY.md", compatibility::write),
    ("check-compatibility", "COMPATIBILITY.md says what the code does", compatibility::check),
    ("budget", "binary and idle memory stay within budget.toml's limits", budget::check),
    ("order", "trace an idle daemon, and write what the linker puts side by side", order::write),
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
        TASKS.iter().map(|(name, what, _)| format!("  {name:<20} {what}")).collect();
    format!("usage: cargo xtask TASK\n{}", tasks.join("\n"))
}

#[expect(clippy::print_stdout, reason = "a command line tool")]
fn say(text: &str) {
    println!("{text}");
}
