//! The monitor as a program of its own, for the tests beside it.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    io_monitor::run(&args)
}
