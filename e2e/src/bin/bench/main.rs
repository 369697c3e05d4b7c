//! The benchmark: any Docker API sockets, measured the same way, as one table of ratios.
//!
//! Without arguments it starts nerdctld and dockerd, each in a sandbox of the rig with the same containerd, runc and
//! image, and below them the *floor*: containerd and the CNI plugins driven directly, without any daemon. It never
//! judges a number; it prints what kind of machine it ran on, and the table.
//!
//! `rows.rs` has the rows as data · `side.rs` what a column is · `daemon.rs` and `floor.rs` the columns ([`cni`] is the
//! floor's part inside the sandbox) · `ground.rs` what they stand on · `run.rs` the loop · `stats.rs`, `table.rs`,
//! `machine.rs` the report.
//!
//! What is comparable, and how
//! - Repetitions of all sides alternate, with a moment of rest between them. Everything is measured at the client, answers read to their end.
//! - Both daemons find containerd running (`dockerd --containerd`), both log at their ordinary level.
//! - Memory is the daemon's alone; containerd's is the same program for both, and shims and monitors have a row.
//! - Log rows check that each byte that was written is read; list rows that each container is there.
//!
//! Clean-up: sandboxes end with this process, however it ends. On a given socket, containers are removed at the end, also
//! after Ctrl-C.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use e2e::host::Engine;
use e2e::{Context, Result, bail, ensure};

mod clock;
mod cni;
mod copy;
mod crowd;
mod daemon;
mod floor;
mod ground;
mod machine;
mod memory;
mod rows;
mod run;
mod side;
mod stats;
mod table;
mod transfer;

use clock::Clock;
use daemon::Daemon;
use floor::Floor;
use rows::Row;
use side::Side;
use table::Columns;

/// A full run ends before nine minutes, the last repetition and the clean-up included.
const LIMIT: Duration = Duration::from_secs(480);
/// A quick one before three.
const QUICK_LIMIT: Duration = Duration::from_secs(150);

/// Measures Docker API sockets and prints a table of ratios.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Flags {
    /// Only rows of these names, or whose names contain these.
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// Fewer repetitions and at most 100 containers: under three minutes.
    #[arg(long)]
    quick: bool,
    /// Daemons to start, of nerdctld and dockerd; both without this and --socket. The same one twice shows how much of a
    /// difference is noise.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// A daemon that runs already. What needs its process (start, memory, stopped shims) is not measured.
    #[arg(long, value_name = "NAME=unix://PATH")]
    socket: Vec<String>,
    /// Leave out containerd and CNI alone.
    #[arg(long)]
    no_floor: bool,
    /// Print the names of the rows and end.
    #[arg(long)]
    list: bool,
    /// Run CNI plugins for another process of this program.
    #[arg(long, hide = true)]
    cni_helper: bool,
}

fn main() -> ExitCode {
    match act(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn act(flags: &Flags) -> Result<()> {
    if flags.cni_helper {
        return cni::help();
    }
    let rows = flags.choose(rows::all(flags.quick));
    if flags.list {
        rows.iter().for_each(|row| say(format_args!("{:20} {}\n", row.name, row.what)));
        return Ok(());
    }
    ensure!(!rows.is_empty(), "no row is called {:?} (--list)", flags.rows);
    compare(flags, rows)
}

impl Flags {
    /// All rows without a wish; else those that are called so, or, where none is, whose name contains it.
    fn choose(&self, mut rows: Vec<Row>) -> Vec<Row> {
        let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
        rows.retain(|row| {
            let fits = |wish: &String| {
                if names.contains(wish) { row.name == *wish } else { row.name.contains(wish) }
            };
            self.rows.is_empty() || self.rows.iter().any(fits)
        });
        rows
    }

    fn started(&self) -> Vec<&str> {
        if self.only.is_empty() && self.socket.is_empty() {
            return vec!["nerdctld", "dockerd"];
        }
        self.only.iter().map(String::as_str).collect()
    }

    /// Starts or finds the daemons, in the order of the columns.
    fn daemons(&self) -> Result<Vec<Daemon>> {
        let mut daemons = Vec::new();
        for name in self.started() {
            let engine = match name {
                "nerdctld" => Engine::Nerdctld,
                "dockerd" => Engine::Dockerd,
                other => bail!("--only {other}: nerdctld or dockerd"),
            };
            note(format_args!("starting {name}"));
            daemons.push(Daemon::start(name.into(), engine).context(name.to_owned())?);
        }
        for socket in &self.socket {
            let (name, path) = socket
                .split_once("=unix://")
                .with_context(|| format!("--socket {socket}: NAME=unix://PATH"))?;
            daemons.push(Daemon::given(name.into(), Path::new(path))?);
        }
        Ok(daemons)
    }
}

fn compare(flags: &Flags, rows: Vec<Row>) -> Result<()> {
    let clock = Clock::start(if flags.quick { QUICK_LIMIT } else { LIMIT })?;
    let load = machine::load();
    let daemons = flags.daemons()?;
    let floor = if flags.no_floor { None } else { Some(Floor::start().context("floor")?) };
    let mut sides: Vec<&dyn Side> = daemons.iter().map(|daemon| daemon as &dyn Side).collect();
    sides.extend(floor.as_ref().map(|floor| floor as &dyn Side));
    let lines = run::all(rows, &sides, &clock);

    say(format_args!(
        "Machine: {}; load {load} before, {} after\n\n",
        machine::describe(),
        machine::load()
    ));
    describe(&daemons, floor.as_ref());
    let columns = Columns {
        daemons: daemons.iter().map(|daemon| daemon.name().to_owned()).collect(),
        floor: floor.is_some(),
    };
    say(format_args!("{}\n", table::markdown(&columns, &lines)));
    say(format_args!(
        "Medians, in brackets the 95th percentile. {} s, {}.\n",
        clock.elapsed().as_secs(),
        if flags.quick { "quick" } else { "full" }
    ));
    // A thousand containers take a while to go: all sides at the same time.
    std::thread::scope(|scope| {
        daemons.into_iter().for_each(|daemon| drop(scope.spawn(|| drop(daemon))));
        scope.spawn(|| drop(floor));
    });
    clock.interrupted()
}

/// What runs below and in the columns.
fn describe(daemons: &[Daemon], floor: Option<&Floor>) {
    let ground = floor.map(Floor::ground).or_else(|| daemons.iter().find_map(Daemon::ground));
    if let Some(Ok([containerd, runc])) = ground.map(ground::Ground::versions) {
        say(format_args!("Below each: {containerd}; {runc}\n\n"));
    }
    for daemon in daemons {
        let version = daemon.version().unwrap_or_else(|error| format!("{error:#}"));
        say(format_args!("{}: {version}\n\n", daemon.name()));
    }
}

/// Writes to standard output; a reader that has gone is no reason to fail.
fn say(text: fmt::Arguments<'_>) {
    let _ = std::io::stdout().write_fmt(text);
}

/// Tells on standard error how far it is.
pub(crate) fn note(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
