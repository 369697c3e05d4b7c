//! The log: lines on stderr, for journald or a person.
//!
//! `RUST_LOG` (levels of targets, `engine=debug,info`) decides where it is set, else `--debug`, else `info`. Levels, for users and for developers: *error* is an
//! operation somebody asked for that failed because of us; *warn* is odd but handled; *info* is a rare change that an
//! operator wants to know; *debug* is everything a diagnosis needs, one line per request included. A client's mistake is
//! no error of ours. Types that hold secrets print `***`, so a log line cannot tell one.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Config;

/// The libraries' own chatter stays out of `--debug`.
const DEBUG: &str = "debug,hyper=info,h2=info,tower=info,tonic=info,rustls=info";

/// Install the log for the rest of the process.
///
/// # Errors
/// `RUST_LOG` is no filter.
pub(crate) fn start(config: &Config) -> anyhow::Result<()> {
    let directives =
        config.log_filter.as_deref().unwrap_or(if config.debug { DEBUG } else { "info" });
    let filter: Targets = directives.parse().map_err(|error| {
        anyhow::anyhow!("RUST_LOG: {directives:?} is not a log filter: {error}")
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    std::panic::set_hook(Box::new(|panic| {
        // A panic in one request must not end the others; whoever runs the request answers for it.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, words, "a bug in nerdctld: a task panicked");
    }));
    Ok(())
}
