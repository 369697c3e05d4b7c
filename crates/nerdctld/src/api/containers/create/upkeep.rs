//! The part of a create request that keeps a container going: restart policy and health check.

use docker_wire::containers::{ContainerConfig, HealthConfig};
use docker_wire::host_config::{HostConfig, RestartPolicy};
use engine::containers::health_check::HealthCheck;
use engine::containers::restart_policy::RestartPolicy as Policy;
use engine::containers::spec::upkeep::UpkeepSpec;

use super::bad;
use crate::api::error::Refusal;

/// Docker's restart policies (moby `api/types/container/hostconfig.go`).
const RESTART_POLICIES: [&str; 5] = ["", "no", "always", "on-failure", "unless-stopped"];

/// Nanoseconds; Docker takes no shorter durations (moby `api/types/container/config.go`, `MinimumDuration`).
const SHORTEST: i64 = 1_000_000;

/// The engine's words for a request that is valid.
pub(super) fn decode(config: &ContainerConfig, host: &HostConfig) -> UpkeepSpec {
    UpkeepSpec {
        restart: restart_policy(&host.restart_policy),
        health_check: config.healthcheck.as_ref().map(health_check),
    }
}

fn restart_policy(policy: &RestartPolicy) -> Policy {
    match policy.name.as_str() {
        "always" => Policy::Always,
        "unless-stopped" => Policy::UnlessStopped,
        "on-failure" => {
            let count = u32::try_from(policy.maximum_retry_count).unwrap_or(u32::MAX);
            Policy::OnFailure { at_most: std::num::NonZeroU32::new(count) }
        }
        _ => Policy::No,
    }
}

fn health_check(config: &HealthConfig) -> HealthCheck {
    // Validated: none is negative.
    let nanoseconds = |number: i64| u64::try_from(number).unwrap_or_default();
    HealthCheck {
        test: config.test.clone(),
        interval: nanoseconds(config.interval),
        timeout: nanoseconds(config.timeout),
        start_period: nanoseconds(config.start_period),
        start_interval: nanoseconds(config.start_interval),
        retries: u32::try_from(config.retries).unwrap_or(u32::MAX),
        shell: Vec::new(),
    }
}

/// moby `daemon/container.go`, `validateHealthCheck`.
pub(super) fn validate_health_check(check: Option<&HealthConfig>) -> Result<(), Refusal> {
    let Some(check) = check else { return Ok(()) };
    let too_short = |duration: i64| duration != 0 && duration < SHORTEST;
    let durations = [("Interval", check.interval), ("Timeout", check.timeout)];
    let later = [("StartPeriod", check.start_period), ("StartInterval", check.start_interval)];
    let refuse = |name: &str| Err(bad(format!("{name} in Healthcheck cannot be less than 1ms")));
    if let Some((name, _)) = durations.iter().find(|(_, duration)| too_short(*duration)) {
        return refuse(name);
    }
    if check.retries < 0 {
        return Err(bad("Retries in Healthcheck cannot be negative"));
    }
    match later.iter().find(|(_, duration)| too_short(*duration)) {
        Some((name, _)) => refuse(name),
        None => Ok(()),
    }
}

/// moby `api/types/container/hostconfig.go`, `ValidateRestartPolicy`.
pub(in crate::api::containers) fn validate_restart_policy(
    policy: &RestartPolicy,
    auto_remove: bool,
) -> Result<(), Refusal> {
    let RestartPolicy { name, maximum_retry_count } = policy;
    let none = ["", "no"].contains(&name.as_str());
    if auto_remove && !none {
        return Err(bad("can't create 'AutoRemove' container with restart policy"));
    }
    if !RESTART_POLICIES.contains(&name.as_str()) {
        return Err(bad(format!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )));
    }
    let problem = match (name.as_str(), *maximum_retry_count) {
        // Before 25.0 clients sent any count with an empty name.
        ("", _) | (_, 0) => return Ok(()),
        ("on-failure", count) if count > 0 => return Ok(()),
        ("on-failure", _) => "cannot be negative",
        (_, count) if count < 0 => "can only be used with 'on-failure' and cannot be negative",
        _ => "can only be used with 'on-failure'",
    };
    Err(bad(format!("invalid restart policy: maximum retry count {problem}")))
}
