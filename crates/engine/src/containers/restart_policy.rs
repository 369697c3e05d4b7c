//! Restart policies: what they are, and when they want another run.
//!
//! Source: moby `daemon/internal/restartmanager/restartmanager.go`, `api/types/container/hostconfig.go`; the label's
//! spelling is containerd's (`core/runtime/restart/restart.go`).

use std::num::NonZeroU32;
use std::time::Duration;

/// The pause before the first restart.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two restarts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A run of at least this length was a good one: the next pause is the first one again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// When a container is started again by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whenever it ends, and after a boot also if somebody had stopped it.
    Always,
    /// When it ends with another code than 0.
    OnFailure {
        /// So often; without a limit if not given.
        at_most: Option<NonZeroU32>,
    },
    /// Whenever it ends, until somebody stops it.
    UnlessStopped,
}

impl RestartPolicy {
    /// Docker's spelling, without the number of tries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::OnFailure { .. } => "on-failure",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// The number of tries that Docker shows; 0 where there is no limit.
    #[must_use]
    pub fn maximum_retry_count(self) -> u32 {
        match self {
            Self::OnFailure { at_most: Some(most) } => most.get(),
            Self::No | Self::Always | Self::OnFailure { at_most: None } | Self::UnlessStopped => 0,
        }
    }

    /// Value of the label `containerd.io/restart.policy`; none for [`RestartPolicy::No`].
    #[must_use]
    pub fn to_label(self) -> Option<String> {
        match self {
            Self::No => None,
            Self::OnFailure { at_most: Some(most) } => Some(format!("on-failure:{most}")),
            Self::Always | Self::OnFailure { at_most: None } | Self::UnlessStopped => {
                Some(self.name().to_owned())
            }
        }
    }

    /// What the label says; [`RestartPolicy::No`] if it is not understood.
    #[must_use]
    pub fn from_label(label: &str) -> Self {
        let (name, count) = label.split_once(':').unwrap_or((label, ""));
        match name {
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => {
                Self::OnFailure { at_most: count.parse().ok().and_then(NonZeroU32::new) }
            }
            _ => Self::No,
        }
    }

    /// Whether a run that ended by itself with `code`, after `restarts` restarts, is to be followed by another one.
    #[must_use]
    pub fn wants_restart(self, code: u32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure { at_most } => {
                code != 0 && at_most.is_none_or(|most| restarts < most.get())
            }
        }
    }

    /// Whether an ended container is to be started when the daemon starts. `stopped`: somebody had asked for the end.
    ///
    /// Docker's `always` forgets a stop when the daemon restarts, which for most people means at a boot. Here the
    /// containers survive the daemon, so only a boot counts (`booted`).
    #[must_use]
    pub fn wants_start(self, code: u32, restarts: u32, stopped: bool, booted: bool) -> bool {
        let stop_counts = stopped && !(self == Self::Always && booted);
        !stop_counts && self.wants_restart(code, restarts)
    }
}

/// The pause before the next restart, after a run of length `ran` that came `last` after the one before it.
#[must_use]
pub fn next_pause(last: Option<Duration>, ran: Duration) -> Duration {
    match last {
        Some(last) if ran < GOOD_RUN => (last * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
        _ => FIRST_PAUSE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_failure(most: u32) -> RestartPolicy {
        RestartPolicy::OnFailure { at_most: NonZeroU32::new(most) }
    }

    #[test]
    fn labels_are_containerds() {
        for (policy, label) in [
            (RestartPolicy::Always, "always"),
            (RestartPolicy::UnlessStopped, "unless-stopped"),
            (on_failure(0), "on-failure"),
            (on_failure(3), "on-failure:3"),
        ] {
            assert_eq!(policy.to_label().as_deref(), Some(label));
            assert_eq!(RestartPolicy::from_label(label), policy);
        }
        assert_eq!(RestartPolicy::No.to_label(), None);
        for nothing in ["", "no", "sometimes"] {
            assert_eq!(RestartPolicy::from_label(nothing), RestartPolicy::No);
        }
        assert_eq!(RestartPolicy::from_label("on-failure:many"), on_failure(0));
    }

    #[test]
    fn when_a_run_is_followed_by_another() {
        assert!(!RestartPolicy::No.wants_restart(1, 0));
        assert!(RestartPolicy::Always.wants_restart(0, 1000));
        assert!(RestartPolicy::UnlessStopped.wants_restart(0, 1000));
        assert!(!on_failure(0).wants_restart(0, 0), "it did not fail");
        assert!(on_failure(0).wants_restart(1, 1000));
        assert!(on_failure(2).wants_restart(1, 1));
        assert!(!on_failure(2).wants_restart(1, 2), "often enough");
    }

    #[test]
    fn a_stop_counts_until_the_boot() {
        let (stopped, booted) = (true, true);
        assert!(RestartPolicy::Always.wants_start(0, 0, !stopped, !booted));
        assert!(!RestartPolicy::Always.wants_start(0, 0, stopped, !booted));
        assert!(RestartPolicy::Always.wants_start(0, 0, stopped, booted));
        assert!(!RestartPolicy::UnlessStopped.wants_start(0, 0, stopped, booted));
        assert!(RestartPolicy::UnlessStopped.wants_start(0, 0, !stopped, booted));
        assert!(!on_failure(0).wants_start(143, 0, stopped, booted));
        assert!(on_failure(0).wants_start(255, 0, !stopped, booted));
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut pause = None;
        let mut seen = Vec::new();
        for _ in 0..12 {
            pause = Some(next_pause(pause, Duration::from_millis(9_999)));
            seen.extend(pause.map(|pause| pause.as_millis()));
        }
        let expected =
            [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(seen, expected);
        assert_eq!(next_pause(pause, Duration::from_secs(10)), FIRST_PAUSE);
        assert_eq!(next_pause(Some(Duration::ZERO), Duration::ZERO), FIRST_PAUSE, "never none");
    }
}
