//! `POST /containers/{id}/update`: limits and restart policy of a container that there is.

use docker_wire::containers::{ContainerUpdateRequest, ContainerUpdateResponse};
use docker_wire::decode;
use docker_wire::host_config::{HostConfig, RestartPolicy};
use engine::containers::spec::confinement::Resources;
use engine::containers::update::Update;
use serde_json::Value;

use super::create::confinement;
use super::create::upkeep::validate_restart_policy;
use crate::api::call::{Answer, Call, bad_json};
use crate::api::compat::requests;
use crate::api::error::{ApiError, Refusal};
use crate::api::reply::Reply;

/// Limits that are fixed at create. dockerd ignores them; a limit that does not hold is worse than a refusal.
const FIXED: [&str; 10] = [
    "CgroupParent",
    "Devices",
    "DeviceCgroupRules",
    "DeviceRequests",
    "MemorySwappiness",
    "OomKillDisable",
    "Ulimits",
    "CpuCount",
    "CpuPercent",
    "Init",
];

/// `POST /containers/{id}/update`.
pub(in crate::api) async fn update(call: Call) -> Answer {
    let body = call.json_value().await?.ok_or(bad_json(decode::DecodeError::Empty))?;
    let mut request: ContainerUpdateRequest = decode::from_value(&body).map_err(bad_json)?;
    requests::update(call.version, &mut request.0);
    let update = decoded(&body, &request.0)?;
    let warnings = call.engine.update_container(call.parameter("id"), update).await?;
    let warnings = Some(warnings).filter(|list| !list.is_empty());
    Ok(Reply::json(&ContainerUpdateResponse { warnings }))
}

fn decoded(body: &Value, host: &HostConfig) -> Result<Update, ApiError> {
    let swappiness_of_the_kernel = host.memory_swappiness == Some(-1);
    let set = decode::set_fields::<HostConfig>(body);
    let fixed = FIXED.into_iter().find(|field| set.iter().any(|given| given == field));
    if let Some(field) =
        fixed.filter(|field| !(*field == "MemorySwappiness" && swappiness_of_the_kernel))
    {
        return Err(engine::Error::unsupported(format!("changing {field} of a container")).into());
    }
    validate_restart_policy(&host.restart_policy, false)?;
    Ok(Update { resources: limits(host)?, restart_policy: restart_policy(&host.restart_policy) })
}

/// Zero and every negative number of processes take the limit away (moby `container_routes.go`).
fn limits(host: &HostConfig) -> Result<Resources, Refusal> {
    let pids_limit = host.pids_limit.map(|limit| limit.max(0));
    let resources = confinement::resources(host)?;
    Ok(Resources { pids_limit, oom_kill_disable: None, memory_swappiness: None, ..resources })
}

/// In containerd's spelling; without a name nothing changes.
fn restart_policy(policy: &RestartPolicy) -> Option<String> {
    match (policy.name.as_str(), policy.maximum_retry_count) {
        ("", _) => None,
        ("on-failure", count) if count > 0 => Some(format!("on-failure:{count}")),
        (name, _) => Some(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(body: &Value) -> Result<Update, (u16, String)> {
        let request: ContainerUpdateRequest = decode::from_value(body).unwrap();
        decoded(body, &request.0).map_err(|error| (error.status().as_u16(), error.message()))
    }

    #[test]
    fn what_is_to_change() {
        let update = of(&json!({
            "Memory": 5, "PidsLimit": -1, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}
        }))
        .unwrap();
        assert_eq!((update.resources.memory, update.resources.pids_limit), (5, Some(0)));
        assert_eq!(update.restart_policy.as_deref(), Some("on-failure:3"));
        assert_eq!(of(&json!({})).unwrap().restart_policy, None);
    }

    #[test]
    fn what_the_command_line_sends_for_nothing_changes_nothing() {
        let update = of(&json!({
            "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": null,
            "Devices": null, "MemorySwappiness": null, "OomKillDisable": null, "PidsLimit": null, "Ulimits": null,
            "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}
        }))
        .unwrap();
        assert_eq!(update.resources, Resources::default());
    }

    #[test]
    fn what_cannot_change_is_refused_by_name() {
        let (status, text) = of(&json!({"Ulimits": [{"Name": "nofile"}]})).unwrap_err();
        assert_eq!(status, 501);
        assert!(text.contains("Ulimits"), "{text}");
        let (status, text) = of(&json!({"RestartPolicy": {"Name": "x"}})).unwrap_err();
        assert_eq!(status, 400);
        assert!(text.starts_with("invalid restart policy: unknown policy 'x'"), "{text}");
    }
}
