//! `POST /containers/create`: from Docker's widest request to the engine's [`ContainerSpec`].
//!
//! In this order: decode by Go's rules, lift to the newest version, refuse what is wrong (400), refuse what is not
//! understood (501, by name), and only then build the spec, in which impossible things cannot be said.

pub(in crate::api::containers) mod confinement;
mod fields;
mod links;
mod log_config;
mod mounts;
pub(in crate::api::containers) mod networking;
pub(in crate::api::containers) mod recorded;
pub(in crate::api::containers) mod upkeep;

use std::collections::BTreeMap;

use docker_wire::containers::{ContainerConfig, ContainerCreateRequest, ContainerCreateResponse};
use docker_wire::decode;
use docker_wire::host_config::HostConfig;
use engine::containers::ContainerSpec;
use engine::oci::{CgroupVersion, HostFacts};
use names::{ContainerName, PortSpec};
use nerdctl_store::labels::is_reserved_key;

use crate::api::call::{Answer, Call, bad_json, chain};
use crate::api::compat::requests;
use crate::api::error::{ApiError, Refusal};
use crate::api::reply::Reply;

/// `POST /containers/create`.
pub(in crate::api) async fn create(call: Call) -> Answer {
    // Nothing at all is no request here, while other endpoints take it for "all defaults".
    let body = call.json_value().await?.ok_or(bad_json(decode::DecodeError::Empty))?;
    let mut request: ContainerCreateRequest = decode::from_value(&body).map_err(bad_json)?;
    let host = call.engine.host();
    let unified = host.cgroup_version == CgroupVersion::V2;
    let mut warnings = requests::create(call.version, &mut request, &body, unified)?;
    let identity = Identity {
        name: call.query.text("name"),
        platform: requests::create_platform(call.version, &call.query),
    };
    let spec = spec(request, &identity, host)?;
    let created = call.engine.create_container(spec).await?;
    warnings.extend(created.warnings);
    Ok(Reply::created(&ContainerCreateResponse { id: created.id.to_string(), warnings }))
}

/// What the query says.
struct Identity<'a> {
    name: &'a str,
    platform: &'a str,
}

/// The engine's words for a request in the newest form.
fn spec(
    mut request: ContainerCreateRequest,
    identity: &Identity<'_>,
    facts: &HostFacts,
) -> Result<ContainerSpec, ApiError> {
    networking::complete(&mut request);
    let Some(config) = &request.config else {
        return Err(bad("config cannot be empty in order to create a container").into());
    };
    let no_host = HostConfig::default();
    let host = request.host_config.as_ref().unwrap_or(&no_host);
    validate(config, host)?;
    networking::validate(&request, config, host)?;
    let ports_and_names = networking::networking(&request, config, host)?;
    if let Some(field) = fields::not_understood(&request) {
        return Err(engine::Error::unsupported(field).into());
    }
    let (log_driver, log_options) = log_config::decode(host)?;
    let spec = ContainerSpec {
        image: config.image.clone(),
        platform: optional(identity.platform).map(parse).transpose()?,
        name: optional(identity.name).map(parse::<ContainerName>).transpose()?,
        hostname: optional(&config.hostname).map(str::to_owned),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        env: config.env.clone().unwrap_or_default(),
        // An empty list is the image's command, too (moby `daemon/commit.go`, `merge`).
        cmd: config.cmd.clone().filter(|cmd| !cmd.is_empty()),
        entrypoint: config.entrypoint.clone(),
        working_dir: optional(&config.working_dir).map(str::to_owned),
        labels: checked_keys("label", config.labels.as_ref().unwrap_or(&BTreeMap::new()))?,
        exposed_ports: config.exposed_ports.keys().cloned().collect(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        stop_signal: optional(&config.stop_signal).map(parse).transpose()?,
        stop_timeout: config.stop_timeout,
        auto_remove: host.auto_remove,
        upkeep: upkeep::decode(config, host),
        network: networking::network_mode(&request, config, host),
        networking: ports_and_names,
        log_driver,
        log_options,
        console_size: console_size(config, host)?,
        annotations: checked_keys("annotation", &host.annotations)?,
        mounts: mounts::mounts(config, host)?,
        confinement: confinement::decode(config, host)?,
        recorded: engine::containers::Recorded([].into()),
    };
    Ok(ContainerSpec { recorded: recorded::write(request, facts), ..spec })
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::BadParameter(text.into())
}

/// An empty text is nothing.
fn optional(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn parse<T: std::str::FromStr<Err: std::error::Error>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| bad(chain(&error)))
}

/// What dockerd refuses whatever else is asked for (moby `daemon/container.go`, `verifyContainerSettings`).
fn validate(config: &ContainerConfig, host: &HostConfig) -> Result<(), Refusal> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        let text = format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        );
        return Err(bad(text));
    }
    if let Some(entry) =
        config.env.iter().flatten().find(|entry| entry.is_empty() || entry.starts_with('='))
    {
        return Err(bad(format!("invalid environment variable: {entry}")));
    }
    if let Some(port) = config.exposed_ports.keys().find(|port| port.parse::<PortSpec>().is_err()) {
        return Err(bad(format!("invalid port specification: {port:?}")));
    }
    upkeep::validate_restart_policy(&host.restart_policy, host.auto_remove)?;
    upkeep::validate_health_check(config.healthcheck.as_ref())?;
    if !["", "default"].contains(&host.isolation.to_ascii_lowercase().as_str()) {
        return Err(bad(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host.isolation
        )));
    }
    if host.annotations.contains_key("") {
        return Err(bad(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    Ok(())
}

/// Labels and annotations decide on the host, so those of the house cannot be set from outside.
fn checked_keys(
    what: &str,
    keys: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Refusal> {
    match keys.keys().find(|key| is_reserved_key(key)) {
        None => Ok(keys.clone()),
        Some(key) => Err(reserved(what, key)),
    }
}

fn reserved(what: &str, key: &str) -> Refusal {
    bad(format!(
        "invalid {what} {key:?}: its prefix is reserved for containerd, Kubernetes and nerdctl"
    ))
}

/// Zeros are no size; without a terminal it means nothing.
fn console_size(
    config: &ContainerConfig,
    host: &HostConfig,
) -> Result<Option<(u16, u16)>, Refusal> {
    let [height, width] = host.console_size;
    if !config.tty || (height, width) == (0, 0) {
        return Ok(None);
    }
    match (u16::try_from(height), u16::try_from(width)) {
        (Ok(height), Ok(width)) => Ok(Some((height, width))),
        _ => Err(bad(format!("invalid HostConfig.ConsoleSize [{height} {width}]: at most 65535"))),
    }
}

#[cfg(test)]
mod tests;
