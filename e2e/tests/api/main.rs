//! The end-to-end tests, group by group. `e2e`'s title page says how they run.

use std::process::ExitCode;

mod rig;
mod system;

fn main() -> ExitCode {
    e2e::runner::run(&[rig::TESTS, system::TESTS])
}
