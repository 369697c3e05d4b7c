//! The list of functions that an idle daemon runs, which the linker puts side by side (`crates/nerdctld/build.rs`).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::idle::IdleDaemon;

const LIST: &str = "crates/nerdctld/idle.order";

/// Which containerd to trace it with; its events and lists are a good part of what an idle daemon runs.
const CONTAINERD: &str = "CONTAINERD_ADDRESS";

/// What every client asks first.
const REQUESTS: [&str; 4] = ["/_ping", "/version", "/v1.41/containers/json", "/v1.41/info"];

/// Long enough for timers to come round.
const IDLE: Duration = Duration::from_secs(10);

/// Below this the trace has missed the daemon: its start alone runs thousands.
const FEWEST: usize = 1000;

/// Trace one under valgrind, and write the list.
pub(crate) fn write() -> anyhow::Result<String> {
    let trace = std::env::temp_dir().join(format!("nerdctld-order-{}", std::process::id()));
    let written = traced(&trace).and_then(|()| {
        let text = std::fs::read_to_string(&trace).context("read valgrind's report")?;
        let names = functions(&text);
        ensure!(names.len() >= FEWEST, "valgrind saw only {} functions", names.len());
        let lines: Vec<&str> = names.iter().copied().chain([""]).collect();
        std::fs::write(LIST, lines.join("\n")).with_context(|| format!("write {LIST}"))?;
        Ok(format!("{LIST}: {} functions; build again to link with it", names.len()))
    });
    // There is none if valgrind did not start.
    let _ = std::fs::remove_file(&trace);
    written
}

fn traced(trace: &Path) -> anyhow::Result<()> {
    let containerd = std::env::var_os(CONTAINERD)
        .with_context(|| format!("{CONTAINERD} must name the socket of a running containerd"))?;
    let report = format!("--callgrind-out-file={}", trace.display());
    let tracer =
        ["valgrind", "--tool=callgrind", "--demangle=no", &report].map(str::to_owned).to_vec();
    let daemon = IdleDaemon::start(&tracer, Some(Path::new(&containerd)))?;
    for request in REQUESTS {
        daemon.get(request)?;
    }
    std::thread::sleep(IDLE);
    daemon.stop()
}

/// The Rust functions in callgrind's report, which names each once, as `fn=(7) NAME` or `cfn=(7) NAME`, with `'2` behind the
/// name of one that calls itself.
fn functions(report: &str) -> BTreeSet<&str> {
    let names = report.lines().filter_map(|line| {
        let name = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn="))?;
        let (_, name) = name.split_once(' ')?;
        name.split('\'').next()
    });
    names.filter(|name| name.starts_with("_ZN") || name.starts_with("_R")).collect()
}

#[cfg(test)]
mod tests {
    use super::functions;

    #[test]
    fn functions_are_read_once_each_and_only_those_of_rust() {
        let report = "version: 1\nfn=(1) main\n16 3\ncfn=(2) _ZN8nerdctld4main17h1E\ncalls=1 2\nfn=(2)\nfn=(3) _ZN1a1b17h2E'2\n\
                      cfn=(4) _ZN1a1b17h2E\nfl=(1) _ZNfile\n";
        let found: Vec<&str> = functions(report).into_iter().collect();
        assert_eq!(found, ["_ZN1a1b17h2E", "_ZN8nerdctld4main17h1E"]);
    }
}
