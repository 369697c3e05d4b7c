//! Health checks: how to find out whether a container is well, and what that says about it.
//!
//! Source: moby `daemon/health.go`, `daemon/commit.go` (`merge`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// The shell of `CMD-SHELL` where the image names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// How to find out whether a container is well, as a request or an image says it. Durations are nanoseconds; zero and empty
/// mean "not said".
///
/// Kept in containers' records for years: fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", "…"]`; empty is the image's.
    pub test: Vec<String>,
    /// Between probes.
    pub interval: u64,
    /// How long a probe may take.
    pub timeout: u64,
    /// After a start, failures do not count for so long.
    pub start_period: u64,
    /// Between probes in the start period.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// The image's shell for `CMD-SHELL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

impl HealthCheck {
    /// What request and image say together: each part of the request that is said wins.
    #[must_use]
    pub fn merge(request: Option<&Self>, image: Option<&Self>) -> Option<Self> {
        let (Some(request), Some(image)) = (request, image) else {
            return request.or(image).cloned();
        };
        let said = |request: u64, image: u64| if request == 0 { image } else { request };
        Some(Self {
            test: if request.test.is_empty() { &image.test } else { &request.test }.clone(),
            interval: said(request.interval, image.interval),
            timeout: said(request.timeout, image.timeout),
            start_period: said(request.start_period, image.start_period),
            start_interval: said(request.start_interval, image.start_interval),
            retries: if request.retries == 0 { image.retries } else { request.retries },
            shell: image.shell.clone(),
        })
    }

    /// Program and arguments of a probe; none where nothing is checked.
    #[must_use]
    pub fn command(&self) -> Option<Vec<String>> {
        let (kind, words) = self.test.split_first()?;
        let shell = || match self.shell.as_slice() {
            [] => SHELL.map(str::to_owned).to_vec(),
            shell => shell.to_vec(),
        };
        match kind.as_str() {
            "CMD" if !words.is_empty() => Some(words.to_vec()),
            "CMD-SHELL" => Some(shell().into_iter().chain(words.iter().cloned()).collect()),
            _ => None,
        }
    }

    /// How long a probe may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        or_default(self.timeout, TIMEOUT)
    }

    /// How long after the start failures do not count.
    #[must_use]
    pub fn start_period(&self) -> Duration {
        Duration::from_nanos(self.start_period)
    }

    /// How long to wait for the next probe of a container that has run for `ran`.
    #[must_use]
    pub fn pause(&self, ran: Duration, status: HealthStatus) -> Duration {
        if ran < self.start_period() && status == HealthStatus::Starting {
            return or_default(self.start_interval, START_INTERVAL);
        }
        or_default(self.interval, INTERVAL)
    }

    /// What a probe that was begun `ran` after the start and succeeded or not makes of `health`.
    #[must_use]
    pub fn judge(&self, health: Health, ran: Duration, success: bool) -> Health {
        if success {
            return Health { status: HealthStatus::Healthy, failing_streak: 0 };
        }
        if health.status == HealthStatus::Starting && ran < self.start_period() {
            return health;
        }
        let failing_streak = health.failing_streak.saturating_add(1);
        let retries = if self.retries == 0 { RETRIES } else { self.retries };
        let status =
            if failing_streak >= retries { HealthStatus::Unhealthy } else { health.status };
        Health { status, failing_streak }
    }
}

fn or_default(nanoseconds: u64, default: Duration) -> Duration {
    if nanoseconds == 0 { default } else { Duration::from_nanos(nanoseconds) }
}

/// How a container with a health check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
}

/// A verdict about a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthStatus {
    /// It has never been started.
    #[default]
    Unstarted,
    /// Not known yet.
    Starting,
    /// The last probe succeeded, or too few have failed since.
    Healthy,
    /// Too many probes failed, or nobody probes: it does not run.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unstarted => "none",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// The opposite of [`HealthStatus::as_str`]; unknown words are [`HealthStatus::Unstarted`].
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let all = [Self::Starting, Self::Healthy, Self::Unhealthy];
        all.into_iter().find(|status| status.as_str() == word).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn check(test: &[&str]) -> HealthCheck {
        HealthCheck { test: words(test), ..HealthCheck::default() }
    }

    #[test]
    fn the_request_wins_part_by_part() {
        let image = HealthCheck { interval: 1, retries: 2, ..check(&["CMD", "a"]) };
        let request = HealthCheck { timeout: 3, retries: 4, ..HealthCheck::default() };
        let merged = HealthCheck::merge(Some(&request), Some(&image)).unwrap();
        assert_eq!(merged.test, image.test);
        assert_eq!((merged.interval, merged.timeout, merged.retries), (1, 3, 4));
        assert_eq!(HealthCheck::merge(None, Some(&image)), Some(image.clone()));
        assert_eq!(HealthCheck::merge(Some(&request), None), Some(request));
        let none = HealthCheck::merge(Some(&check(&["NONE"])), Some(&image)).unwrap();
        assert_eq!(none.command(), None);
    }

    #[test]
    fn commands() {
        assert_eq!(check(&["CMD", "a", "b"]).command(), Some(words(&["a", "b"])));
        assert_eq!(check(&["CMD-SHELL", "a b"]).command(), Some(words(&["/bin/sh", "-c", "a b"])));
        let shell = HealthCheck { shell: words(&["bash", "-ec"]), ..check(&["CMD-SHELL", "a"]) };
        assert_eq!(shell.command(), Some(words(&["bash", "-ec", "a"])));
        for nothing in [&["NONE"][..], &[], &["CMD"], &["cmd", "x"]] {
            assert_eq!(check(nothing).command(), None, "{nothing:?}");
        }
    }

    #[test]
    fn verdicts() {
        let (soon, late) = (Duration::from_secs(1), Duration::from_secs(100));
        let check =
            HealthCheck { retries: 2, start_period: 10_000_000_000, ..check(&["CMD", "a"]) };
        let starting = Health { status: HealthStatus::Starting, failing_streak: 0 };
        assert_eq!(check.judge(starting, soon, false), starting, "failures do not count yet");
        let once = check.judge(starting, late, false);
        assert_eq!(once, Health { failing_streak: 1, ..starting });
        let twice = check.judge(once, late, false);
        assert_eq!(twice, Health { status: HealthStatus::Unhealthy, failing_streak: 2 });
        let healthy = Health { status: HealthStatus::Healthy, failing_streak: 0 };
        assert_eq!(check.judge(twice, late, true), healthy);
        let shaky = Health { failing_streak: 1, ..healthy };
        assert_eq!(check.judge(healthy, soon, false), shaky, "it had been well before");
    }

    #[test]
    fn pauses() {
        let check = HealthCheck { start_period: 10_000_000_000, ..check(&["CMD", "a"]) };
        let (soon, late) = (Duration::from_secs(1), Duration::from_secs(100));
        assert_eq!(check.pause(soon, HealthStatus::Starting), START_INTERVAL);
        assert_eq!(check.pause(soon, HealthStatus::Healthy), INTERVAL);
        assert_eq!(check.pause(late, HealthStatus::Starting), INTERVAL);
        let own = HealthCheck { interval: 7, start_interval: 5, ..check };
        assert_eq!(own.pause(soon, HealthStatus::Starting), Duration::from_nanos(5));
        assert_eq!(own.pause(late, HealthStatus::Starting), Duration::from_nanos(7));
        assert_eq!(own.timeout(), TIMEOUT);
    }

    #[test]
    fn words_of_docker() {
        for status in [HealthStatus::Starting, HealthStatus::Healthy, HealthStatus::Unhealthy] {
            assert_eq!(HealthStatus::from_word(status.as_str()), status);
        }
        assert_eq!(HealthStatus::from_word("none"), HealthStatus::Unstarted);
    }
}
