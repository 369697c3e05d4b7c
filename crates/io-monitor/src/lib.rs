//! One process per container that owns its output: FIFOs, the log, attach clients.
//!
//! The same binary in another mode (`nerdctld io-monitor …`): the daemon starts one monitor per run of a container and
//! forgets it. From then on the container's output, its log and its stdin do not depend on the daemon, which may be
//! killed and replaced at any moment; a new one connects to the monitor's socket again.
//!
//! ```text
//!  container ──► shim ──► FIFO out, err ──► monitor ──► <state>/<id>-json.log      (nerdctl's place and format)
//!                     ◄── FIFO in      ◄──   │  ▲      └► journald, syslog                (as log-config.json says)
//!                                            ▼  │ frames, over a Unix socket
//!                                     attach clients (the daemon's attach requests)
//! ```
//!
//! # Who starts it, who ends it
//!
//! *FIFO front end* (ours): [`client::spawn`] starts it before containerd's `Tasks.Create`; it answers `ready` when its
//! FIFOs, log and socket are open. It ends by itself after the end of output, or when it is told ([`client::Monitor::drain`]).
//! *`binary://` front end*: containerd's shim starts it, because nerdctl or containerd's restart plugin started the
//! container; see [`log_uri`]. There it has no stdin.
//!
//! # What survives what
//!
//! | Who dies | What happens |
//! |---|---|
//! | the daemon, an attach client | nothing: log and container go on |
//! | the monitor (FIFO) | the container goes on until the 64 KiB of the FIFO are full, then waits. A new monitor on the same FIFOs continues where the old one was: **no byte is lost**. The lines of one wake-up (at most 64 KiB) can be in the log **twice**, if the kill hit between writing them to the log and taking them out of the FIFO |
//! | the monitor, and the container ends before a new monitor is there | what was still in the FIFO is lost with its last opener, unless the daemon held it open ([`fifos::Hold`]) |
//! | the monitor (`binary://`) | what was in the pipe is lost and the container gets EPIPE; nobody restarts a logger there (containerd's design) |
//!
//! The first row of the table is why output is *copied* out of the FIFO (`tee(2)`), written to the log, and only then
//! removed from the FIFO. A line that is not finished stays in the FIFO, at most 16 KiB of it and for at most 200 ms without
//! news; then it is taken into memory, and a killed monitor loses that beginning of a line.
//!
//! # What never stops the container
//!
//! A full disk, a vanished log directory, a syslog server that went away, a client's nonsense. Lines that cannot be written are counted and, when writing
//! works again, the log says how many are missing ([`frames::Stats::lost_lines`]). A client that does not read holds the
//! container back only for as long as it asked for when it attached (`AttachRequest::patience_ms`), then it is cut off.
//!
//! A journal or a syslog server that is there and does not read does hold it back, as Docker's mode `blocking` says: its
//! lines stay in the FIFO. In mode `non-blocking` lines wait in a ring of at most `max-buffer-size`, and what does not fit is
//! dropped and counted; that ring dies with a killed monitor.
//!
//! # End of stream, case by case
//!
//! Each row is a test in `tests/end_of_stream.rs`, with real FIFOs and a shim's way of opening them.
//!
//! | # | What happens | What clients get | What the monitor does |
//! |---|---|---|---|
//! | 1 | all writers of both streams are gone | the last bytes, then `End` | unfinished line to the log, lock released, socket removed, exits when clients have their bytes |
//! | 2 | a writer comes and goes before `started` | its bytes, no `End` | goes on |
//! | 3 | stdout ends, stderr does not | nothing about it | waits for stderr |
//! | 4 | exit, but a stray process keeps the FIFO open | after `drain`'s grace: the last bytes, then `End` (`complete: false`) | as 1 |
//! | 5 | a client closes its connection | – | forgets it; container and stdin unaffected |
//! | 6 | a client closes stdin after `started` | `StdinClosed {close_io: true}` | closes and unlinks the stdin FIFO |
//! | 7 | a client closes stdin before `started` | `StdinClosed {close_io: false}` | the bytes stay; closes at `started`, whose answer says `close_io: true` |
//! | 8 | a client does not read, patience over | `CutOff` | container and other clients go on |
//! | 9 | a client does not read, and output ends | all bytes, then `End`, whenever it reads | lives until then; no new clients |
//! | 10 | the last line has no newline | its bytes at once | logged without `\n` at the end |
//! | 11 | nobody is connected and nothing ever started | – | ends after [`monitor::ABANDONED`] |
//! | 12 | terminal: one stream, its end is the end | as 1 | as 1 |
//! | 13 | `binary://`: SIGTERM (containerd's task deletion) | all that was in the pipe, then `End` | drains, exits |
//! | 14 | `binary://`: the init process ends, the pipes stay open | as 13 | drains, exits |
//! | 15 | `binary://` with a terminal: stdout ends, stderr may never | as 1 | exits one second after stdout |

use std::ffi::OsString;
use std::process::ExitCode;

pub mod client;
pub mod duplex;
pub mod error;
pub mod fifos;
pub mod frames;
pub mod log_config;
pub mod monitor;
pub mod place;

mod args;
mod clients;
mod go_json;
mod lines;
mod log;
mod outbox;
mod output;
mod readiness;
mod socket;
mod source;
mod stdin;

pub use duplex::Duplex;
pub use error::Error;
pub use log::COMPRESSED_FROM;
pub use place::{log_uri, runtime_dir, socket_path};

/// The subcommand of the FIFO front end: `nerdctld io-monitor --container … `.
pub const MODE: &str = "io-monitor";

/// The one query key of the `binary://` form, and so `argv[1]` when containerd's shim starts us.
///
/// A frozen protocol: container records carry it for years.
pub const BINARY_KEY: &str = "_NERDCTLD_IO_MONITOR";

/// Whether this command line is a monitor's; `main` asks before it builds anything.
#[must_use]
pub fn owns(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|mode| mode == MODE || mode == BINARY_KEY)
}

/// Run as a monitor until the container's output has ended. `args` is the whole command line, program included.
///
/// Builds a small runtime of its own; to be called before any other runtime, logger or thread exists.
#[must_use]
pub fn run(args: &[OsString]) -> ExitCode {
    match args::parse(args) {
        Ok(mode) => monitor::run(mode),
        Err(message) => {
            monitor::say(&format!("error: {message}"));
            ExitCode::from(2)
        }
    }
}
