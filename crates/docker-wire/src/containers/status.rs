//! The `Status` and `Command` texts of the container list. People read them, and so do programs.
//!
//! Source: moby `daemon/container/state.go` (`String`), `daemon/container/health.go` (`String`),
//! `daemon/container/view.go`.

use std::time::Duration;

use crate::time::human_duration;

/// The status of a container that was never started.
pub const CREATED: &str = "Created";
/// The status of a container that is being removed.
pub const REMOVING: &str = "Removal In Progress";
/// The status of a container whose removal failed.
pub const DEAD: &str = "Dead";

/// `Up 5 seconds`, with what the health check says in brackets. `health` is `starting`, `healthy`, `unhealthy`,
/// or empty without a check.
#[must_use]
pub fn running(uptime: Duration, health: &str) -> String {
    let up = up(uptime);
    match health {
        "" | "none" => up,
        "starting" => format!("{up} (health: starting)"),
        other => format!("{up} ({other})"),
    }
}

/// `Up 2 minutes (Paused)`.
#[must_use]
pub fn paused(uptime: Duration) -> String {
    format!("{} (Paused)", up(uptime))
}

/// `Restarting (1) 5 seconds ago`: with the exit code and the age of the last end.
#[must_use]
pub fn restarting(exit_code: i64, since: Duration) -> String {
    format!("Restarting ({exit_code}) {} ago", human_duration(since))
}

/// `Exited (137) 2 minutes ago`.
#[must_use]
pub fn exited(exit_code: i64, since: Duration) -> String {
    format!("Exited ({exit_code}) {} ago", human_duration(since))
}

fn up(uptime: Duration) -> String {
    format!("Up {}", human_duration(uptime))
}

/// Program and arguments in one line: arguments with a blank stand in single quotes.
#[must_use]
pub fn quote_command(path: &str, args: &[String]) -> String {
    let mut line = path.to_owned();
    for arg in args {
        line.push(' ');
        if arg.contains(' ') {
            line.extend(["'", arg, "'"]);
        } else {
            line.push_str(arg);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Duration = Duration::from_secs(5);

    #[test]
    fn texts() {
        assert_eq!(running(FIVE, ""), "Up 5 seconds");
        assert_eq!(running(FIVE, "healthy"), "Up 5 seconds (healthy)");
        assert_eq!(running(FIVE, "unhealthy"), "Up 5 seconds (unhealthy)");
        assert_eq!(running(FIVE, "starting"), "Up 5 seconds (health: starting)");
        assert_eq!(paused(Duration::from_secs(60)), "Up About a minute (Paused)");
        assert_eq!(restarting(1, FIVE), "Restarting (1) 5 seconds ago");
        assert_eq!(exited(137, Duration::ZERO), "Exited (137) Less than a second ago");
    }

    #[test]
    fn commands() {
        let args = ["-g", "daemon off;", ""].map(str::to_owned);
        assert_eq!(quote_command("nginx", &args), "nginx -g 'daemon off;' ");
        assert_eq!(quote_command("sh", &[]), "sh");
    }
}
