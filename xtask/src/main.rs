//! Automation of the repository: `cargo xtask TASK`.
fn main() {}
