//! The log: lines on stderr, for journald or a person.
//!
//! `RUST_LOG` decides where it is set, else `--debug`, else `info`. Levels, for users and for developers: *error* is an
//! operation somebody asked for that failed because of us; *warn* is odd but handled; *info* is a rare change that an
//! operator wants to know; *debug* is everything a diagnosis needs, one line per request included. A client's mistake is
//! no error of ours. Types that hold secrets print `***`, so a log line cannot tell one.
//!
//! The filter knows targets and levels (`debug,hyper=info`) and no more: the one that knows fields of spans costs a
//! tenth of the memory of an idle daemon, for its regular expressions.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::Config;

/// The libraries' own chatter stays out of `--debug`.
const DEBUG: &str = "debug,hyper=info,h2=info,tower=info,tonic=info,rustls=info";

/// Changes what is logged while the daemon runs.
#[derive(Clone, Debug)]
pub(crate) struct Logging(reload::Handle<Targets, Registry>);

impl Logging {
    /// Log what this filter lets through from now on.
    ///
    /// # Errors
    /// The log is not installed any more.
    pub(crate) fn change(&self, filter: Targets) -> anyhow::Result<()> {
        self.0.reload(filter)?;
        Ok(())
    }
}

/// Install the log for the rest of the process.
///
/// # Errors
/// `RUST_LOG` is no filter.
pub(crate) fn start(config: &Config) -> anyhow::Result<Logging> {
    let (filter, handle) = reload::Layer::new(filter(config)?);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        // A panic in one request must not end the others; whoever runs the request answers for it.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, words, "a bug in nerdctld: a task panicked");
    }));
    Ok(Logging(handle))
}

/// What this configuration wants to be logged.
///
/// # Errors
/// `RUST_LOG` is no filter.
pub(crate) fn filter(config: &Config) -> anyhow::Result<Targets> {
    let directives =
        config.log_filter.as_deref().unwrap_or(if config.debug { DEBUG } else { "info" });
    directives.parse().map_err(|error| {
        anyhow::anyhow!(
            "RUST_LOG: {directives:?} is not a log filter (level, or target=level, with commas between): {error}"
        )
    })
}
