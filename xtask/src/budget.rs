//! The promises of size: the release binary, and the memory of a daemon that has nothing to do.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::idle::{BINARY, IdleDaemon};

const LIMITS: &str = "budget.toml";

/// Long enough for everything that a start does.
const SETTLED: Duration = Duration::from_secs(2);

/// Compare with the limits in `budget.toml`.
pub(crate) fn check() -> anyhow::Result<String> {
    let limits = std::fs::read_to_string(LIMITS).context("read budget.toml")?;
    let size = std::fs::metadata(BINARY)
        .with_context(|| format!("{BINARY}: build it first (make release)"))?
        .len();
    let resident = idle_memory()?;
    for (what, is, key) in
        [("binary", size, "binary_bytes"), ("idle memory", resident, "idle_rss_bytes")]
    {
        let most = limit(&limits, key)?;
        ensure!(is <= most, "{what}: {is} bytes, the budget is {most} ({key} in {LIMITS})");
    }
    Ok(format!("binary {size} bytes, idle memory {resident} bytes: within budget"))
}

/// The number behind `key = `.
fn limit(text: &str, key: &str) -> anyhow::Result<u64> {
    let line = text.lines().find(|line| line.split('=').next().map(str::trim) == Some(key));
    let value = line
        .and_then(|line| line.split(['=', '#']).nth(1))
        .with_context(|| format!("{LIMITS} has no {key}"))?;
    value
        .trim()
        .replace('_', "")
        .parse()
        .with_context(|| format!("{LIMITS}: {key} is not a number"))
}

/// Resident memory of an idle daemon. It needs no containerd: an absent one is the same to its memory.
fn idle_memory() -> anyhow::Result<u64> {
    let daemon = IdleDaemon::start(&[], None)?;
    std::thread::sleep(SETTLED);
    daemon.resident()
}

#[cfg(test)]
mod tests {
    use super::limit;

    #[test]
    fn limits_are_read_with_underscores_and_comments() {
        let text = "# promises\nbinary_bytes = 12_000_000   # stripped\n";
        assert_eq!(limit(text, "binary_bytes").unwrap(), 12_000_000);
        assert!(limit(text, "other").is_err());
    }
}
