//! nerdctld: one binary, several modes.
//!
//! | Command line | Mode | Dictated by |
//! |---|---|---|
//! | `nerdctld oci-hook …` | attach or detach one container's networks | runc, from the OCI spec |
//! | `nerdctld io-monitor …`, or the key of a `binary://` log URI | own one container's output | our daemon, containerd's shim |
//! | `nerdctld detach …` | become a program in a session of its own | our daemon |
//! | `nerdctld [system] dial-stdio` | connect standard input and output to the daemon | the docker CLI, over ssh |
//! | `nerdctld [FLAGS]` | the daemon | people, systemd |
//!
//! The first three are found in container records for years or started for every container, so they are recognised before
//! any flag parser, runtime or logger is built.

mod api;
mod cli;
mod config;
mod connection;
mod daemon;
mod dial_stdio;
mod helper;
mod listen;
mod logging;
mod managed;
mod oci_hook;
mod reload;
mod rootless;
mod systemd;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, SystemCommand};
use config::Config;
use dial_stdio::Target;

/// The daemon could not start, or failed.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if io_monitor::owns(&args) {
        return io_monitor::run(&args);
    }
    match args.get(1).and_then(|mode| mode.to_str()) {
        Some(oci_hook::MODE) => oci_hook::run(&args),
        Some(managed::DETACH) => complain(&managed::detach(&args[2..])),
        _ => run_mode(&Cli::parse(), &args).unwrap_or_else(|error| complain(&error)),
    }
}

fn run_mode(cli: &Cli, args: &[OsString]) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => run_daemon(cli, args),
        Some(Command::DialStdio | Command::System(SystemCommand::DialStdio)) => {
            let address = cli.dial_address();
            let variable = |name: &str| std::env::var(name).ok();
            let target =
                Target::choose(address.as_deref(), cli.asks_for_tls(), &variable, &Path::exists)?;
            dial_stdio::run(&target)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_daemon(cli: &Cli, args: &[OsString]) -> anyhow::Result<ExitCode> {
    let config = Config::load(cli)?;
    rootless::enter(&config, args)?;
    let logging = logging::start(&config)?;
    daemon::run(&config, cli, &logging)?;
    Ok(ExitCode::SUCCESS)
}

/// One sentence on stderr, whoever reads it: a person, systemd, runc.
#[expect(
    clippy::print_stderr,
    reason = "the last words of the process, when there may be no logger"
)]
fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("nerdctld: {error:#}");
    ExitCode::from(FAILED)
}
