//! Old requests, lifted to the newest version.

mod mounts;
mod sysctls;

use docker_wire::containers::ContainerCreateRequest;
use docker_wire::filters::Filters;
use docker_wire::host_config::HostConfig;
use docker_wire::query::Query;
use engine::containers::wait::WaitCondition;
use http::HeaderMap;
use serde_json::Value;

use super::v;
use crate::api::error::Refusal;
use crate::api::events::accepted;
use crate::api::version::ApiVersion;

/// How a wait is asked for and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct WaitStyle {
    /// What to wait for.
    pub(in crate::api) condition: WaitCondition,
    /// The head goes out as soon as the wait is registered (1.30).
    pub(in crate::api) early_head: bool,
    /// A removal that failed is told by an empty body (below 1.34).
    pub(in crate::api) mute_failure: bool,
}

/// `POST /containers/{id}/wait`.
///
/// # Errors
/// An unknown condition, from 1.30 on.
pub(in crate::api) fn wait(version: ApiVersion, query: &Query) -> Result<WaitStyle, Refusal> {
    if version < v(30) {
        let condition = WaitCondition::NotRunning;
        return Ok(WaitStyle { condition, early_head: false, mute_failure: false });
    }
    let condition = match query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Refusal::BadParameter(format!("invalid condition: {other:?}"))),
    };
    let mute_failure = version < v(34) && condition == WaitCondition::Removed;
    Ok(WaitStyle { condition, early_head: true, mute_failure })
}

/// How stats are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct StatsStyle {
    /// A line a second, until the container or the client goes.
    pub(in crate::api) stream: bool,
    /// Without the look before (1.41). A stream has it from its second line on, whatever is asked.
    pub(in crate::api) one_shot: bool,
}

/// `GET /containers/{id}/stats`.
pub(in crate::api) fn stats(version: ApiVersion, query: &Query) -> StatsStyle {
    StatsStyle {
        stream: query.flag_or("stream", true),
        one_shot: version >= v(41) && query.flag("one-shot"),
    }
}

/// The media type of logs as JSON, if they were asked for: an experiment of 1.54 (moby `container_routes.go`,
/// `getContainersLogs`). A stream of JSON can be asked for by name of its type as well.
///
/// # Errors
/// Another `format` than `json`.
pub(in crate::api) fn logs_as_json(
    version: ApiVersion,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Option<&'static str>, Refusal> {
    if version < v(54) {
        return Ok(None);
    }
    match query.text("format") {
        "" => Ok(accepted(headers)),
        "json" => Ok(Some(accepted(headers).unwrap_or("application/x-ndjson"))),
        _ => Err(Refusal::BadParameter("unsupported log format".to_owned())),
    }
}

/// An attach over a WebSocket has all three streams, whatever the query says, below 1.42.
pub(in crate::api) fn websocket_has_all_streams(version: ApiVersion) -> bool {
    version < v(42)
}

/// The size of an exec's terminal, at create and start; honoured from 1.42 on.
pub(in crate::api) fn exec_console_size(
    version: ApiVersion,
    size: Option<[u64; 2]>,
) -> Option<[u64; 2]> {
    if version < v(42) { None } else { size }
}

/// The signal of a stop or restart; honoured from 1.42 on.
pub(in crate::api) fn stop_signal(version: ApiVersion, query: &Query) -> &str {
    if version < v(42) { "" } else { query.text("signal") }
}

/// The platform of a pull; honoured from 1.32 on.
pub(in crate::api) fn pull_platform(version: ApiVersion, query: &Query) -> &str {
    if version < v(32) { "" } else { query.text("platform") }
}

/// The same with all that are given; Docker's clients give one.
pub(in crate::api) fn pull_platforms(version: ApiVersion, query: &Query) -> Vec<&str> {
    let given = query.all("platform").filter(|platform| !platform.is_empty());
    if version < v(32) { Vec::new() } else { given.collect() }
}

/// The platform to push; older clients sent one that meant nothing.
pub(in crate::api) fn push_platform(version: ApiVersion, query: &Query) -> &str {
    if version < v(46) { "" } else { query.text("platform") }
}

/// The platform of a new container; honoured from 1.41 on.
pub(in crate::api) fn create_platform(version: ApiVersion, query: &Query) -> &str {
    if version < v(41) { "" } else { query.text("platform") }
}

/// `filter`, a pattern of repositories, was replaced by `filters` in 1.25.
pub(in crate::api) fn image_list_pattern(version: ApiVersion, query: &Query) -> &str {
    if version < v(25) { query.text("filter") } else { "" }
}

/// What an image list is asked to add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct ImageListExtras {
    /// Sizes that images share (1.42).
    pub(in crate::api) shared_size: bool,
    /// Manifests (1.47).
    pub(in crate::api) manifests: bool,
}

/// `GET /images/json`.
///
/// # Errors
/// `identity` without `manifests`, from 1.54 on.
pub(in crate::api) fn image_list(
    version: ApiVersion,
    query: &Query,
) -> Result<ImageListExtras, Refusal> {
    let manifests = version >= v(47) && query.flag("manifests");
    if version >= v(54) && query.flag("identity") && !manifests {
        return Err(Refusal::BadParameter(
            "conflicting options: identity requires manifests=1".to_owned(),
        ));
    }
    Ok(ImageListExtras { shared_size: version >= v(42) && query.flag("shared-size"), manifests })
}

/// The platform of an image's history, as JSON; honoured from 1.48 on.
pub(in crate::api) fn image_history_platform(version: ApiVersion, query: &Query) -> &str {
    if version < v(48) { "" } else { query.text("platform") }
}

/// `manifests` (1.48) and `platform` (1.49, as JSON) of an image inspect.
///
/// # Errors
/// Both at once.
pub(in crate::api) fn image_inspect(
    version: ApiVersion,
    query: &Query,
) -> Result<(bool, &str), Refusal> {
    let manifests = version >= v(48) && query.flag("manifests");
    let platform = if version < v(49) { "" } else { query.text("platform") };
    if manifests && !platform.is_empty() {
        let text = "conflicting options: manifests and platform options cannot both be set";
        return Err(Refusal::BadParameter(text.to_owned()));
    }
    Ok((manifests, platform))
}

/// `platforms` of an image removal; honoured from 1.50 on.
pub(in crate::api) fn image_remove_platforms(version: ApiVersion, query: &Query) -> Vec<&str> {
    if version < v(50) { Vec::new() } else { query.all("platforms").collect() }
}

/// `platform` of a save or load, as JSON; honoured from 1.48 on, more than one from 1.52 on.
///
/// # Errors
/// Several of them before.
pub(in crate::api) fn image_archive_platforms(
    version: ApiVersion,
    query: &Query,
) -> Result<Vec<&str>, Refusal> {
    let platforms: Vec<&str> =
        if version < v(48) { Vec::new() } else { query.all("platform").collect() };
    if version < v(52) && platforms.len() > 1 {
        let text = "multiple platform parameters are not supported in this API version; use API version 1.52 or later";
        return Err(Refusal::BadParameter(text.to_owned()));
    }
    Ok(platforms)
}

/// `type` of a disk usage: which kinds of things; honoured from 1.42 on. `None` means all.
pub(in crate::api) fn disk_usage_types(version: ApiVersion, query: &Query) -> Option<Vec<&str>> {
    let types: Vec<&str> = query.all("type").collect();
    (version >= v(42) && !types.is_empty()).then_some(types)
}

/// Cluster volumes are new in 1.42.
pub(in crate::api) fn has_cluster_volumes(version: ApiVersion) -> bool {
    version >= v(42)
}

/// A prune of volumes takes only anonymous ones from 1.42 on.
pub(in crate::api) fn volume_prune(version: ApiVersion, filters: &mut Filters) {
    if version < v(42) {
        filters.insert("all", "true");
    }
}

/// `POST /containers/create`, with everything but the query. Gives warnings for the client.
///
/// `body` is the request as it came, for fields that no longer exist; `unified` says that the host has cgroup v2.
///
/// # Errors
/// What the version does not allow (yet, or any more).
pub(in crate::api) fn create(
    version: ApiVersion,
    request: &mut ContainerCreateRequest,
    body: &Value,
    unified: bool,
) -> Result<Vec<String>, Refusal> {
    let mut warnings = Vec::new();
    if version < v(40) {
        ipc_is_shareable(request);
        mounts::non_recursive_is_ignored(request);
    }
    if version == v(40) {
        capabilities_are_refused(body)?;
    }
    if version < v(41) && !unified {
        cgroup_namespace_is_the_hosts(request);
    }
    if version < v(42) {
        console_size_is_ignored(request);
        mounts::create_mountpoint_is_ignored(request);
    } else {
        mounts::options_must_fit(request)?;
    }
    if version < v(43) {
        annotations_are_ignored(request);
    }
    if version < v(44) {
        start_interval_is_ignored(request);
        mounts::read_only_is_not_recursive(request)?;
        one_endpoint_only(request)?;
        mac_address_moves_to_the_endpoint(request);
    } else if version < v(52) {
        warnings.extend(mac_address_is_deprecated(request)?);
    } else {
        mac_address_is_refused(request)?;
    }
    if version < v(45) {
        mounts::subpath_is_refused(request)?;
    }
    warnings.extend(sysctls::of_interfaces(request, version < v(48))?);
    if version < v(48) {
        gateway_priority_is_ignored(request);
        mounts::images_are_refused(request)?;
    } else {
        warnings.extend(mounts::volume_driver_is_ignored(request));
    }
    if version >= v(52) {
        warnings.extend(empty_port_bindings_are_deprecated(request));
    }
    Ok(warnings)
}

/// `POST /containers/{id}/update`: limits that older versions did not change.
pub(in crate::api) fn update(version: ApiVersion, host: &mut HostConfig) {
    if version < v(40) {
        host.pids_limit = None;
    }
    if version < v(55) {
        host.blkio_weight_device = None;
        host.blkio_device_read_bps = None;
        host.blkio_device_write_bps = None;
        host.blkio_device_read_iops = None;
        host.blkio_device_write_iops = None;
    }
}

/// 1.40 made `private` the default.
fn ipc_is_shareable(request: &mut ContainerCreateRequest) {
    let host = request.host_config.get_or_insert_default();
    if host.ipc_mode.is_empty() {
        "shareable".clone_into(&mut host.ipc_mode);
    }
}

/// Only 1.40 had the field (moby `container_routes.go`, `rejectLegacyCapabilities`); others ignore it.
fn capabilities_are_refused(body: &Value) -> Result<(), Refusal> {
    let any_case = |value: &Value, name: &str| -> Option<Value> {
        value
            .as_object()?
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    };
    let capabilities =
        any_case(body, "HostConfig").and_then(|host| any_case(&host, "Capabilities"));
    if capabilities.as_ref().and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        let text = "the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities";
        return Err(Refusal::BadParameter(text.to_owned()));
    }
    Ok(())
}

/// 1.41 made the daemon's choice the default on cgroup v1.
fn cgroup_namespace_is_the_hosts(request: &mut ContainerCreateRequest) {
    let host = request.host_config.get_or_insert_default();
    if host.cgroupns_mode.is_empty() {
        "host".clone_into(&mut host.cgroupns_mode);
    }
}

/// Honoured from 1.42 on.
fn console_size_is_ignored(request: &mut ContainerCreateRequest) {
    if let Some(host) = &mut request.host_config {
        host.console_size = [0, 0];
    }
}

/// New in 1.43.
fn annotations_are_ignored(request: &mut ContainerCreateRequest) {
    if let Some(host) = &mut request.host_config {
        host.annotations.clear();
    }
}

/// New in 1.44.
fn start_interval_is_ignored(request: &mut ContainerCreateRequest) {
    if let Some(health) = request.config.as_mut().and_then(|config| config.healthcheck.as_mut()) {
        health.start_interval = 0;
    }
}

/// Several networks at create are new in 1.44.
fn one_endpoint_only(request: &ContainerCreateRequest) -> Result<(), Refusal> {
    let Some(networking) =
        request.networking_config.as_ref().filter(|config| config.endpoints_config.len() > 1)
    else {
        return Ok(());
    };
    let names: Vec<&str> = networking.endpoints_config.keys().map(String::as_str).collect();
    let text = format!(
        "Container cannot be created with multiple network endpoints: {}",
        names.join(", ")
    );
    Err(Refusal::BadParameter(text))
}

/// Before 1.44 the address was the container's: an endpoint's own one is dropped, the container's goes to its network.
fn mac_address_moves_to_the_endpoint(request: &mut ContainerCreateRequest) {
    let address =
        request.config.as_mut().and_then(|config| config.mac_address.take()).unwrap_or_default();
    for endpoint in request
        .networking_config
        .iter_mut()
        .flat_map(|networking| networking.endpoints_config.values_mut())
    {
        endpoint.mac_address.clear();
    }
    if !address.is_empty() {
        main_endpoint(request).mac_address = address;
    }
}

/// 1.44 to 1.51 moved it with a warning.
fn mac_address_is_deprecated(
    request: &mut ContainerCreateRequest,
) -> Result<Option<String>, Refusal> {
    let address =
        request.config.as_mut().and_then(|config| config.mac_address.take()).unwrap_or_default();
    if address.is_empty() {
        return Ok(None);
    }
    let endpoint = main_endpoint(request);
    if !endpoint.mac_address.is_empty() && endpoint.mac_address != address {
        let text = "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty";
        return Err(Refusal::BadParameter(text.to_owned()));
    }
    endpoint.mac_address = address;
    let text = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";
    Ok(Some(text.to_owned()))
}

/// 1.52 removed it.
fn mac_address_is_refused(request: &ContainerCreateRequest) -> Result<(), Refusal> {
    let given = request
        .config
        .as_ref()
        .and_then(|config| config.mac_address.as_deref())
        .unwrap_or_default();
    if given.is_empty() {
        return Ok(());
    }
    let text =
        "container-wide MAC address no longer supported; use endpoint-specific MAC address instead";
    Err(Refusal::BadParameter(text.to_owned()))
}

/// The endpoint of the network that `NetworkMode` names.
fn main_endpoint(
    request: &mut ContainerCreateRequest,
) -> &mut docker_wire::networks::EndpointSettings {
    let mode =
        request.host_config.as_ref().map(|host| host.network_mode.as_str()).unwrap_or_default();
    let mode = if mode.is_empty() { "default" } else { mode }.to_owned();
    request.networking_config.get_or_insert_default().endpoints_config.entry(mode).or_default()
}

/// New in 1.48.
fn gateway_priority_is_ignored(request: &mut ContainerCreateRequest) {
    for endpoint in request
        .networking_config
        .iter_mut()
        .flat_map(|networking| networking.endpoints_config.values_mut())
    {
        endpoint.gw_priority = 0;
    }
}

/// From 1.52 on; before, nobody was told that an empty list means any free port.
fn empty_port_bindings_are_deprecated(request: &ContainerCreateRequest) -> Option<String> {
    let bindings = request.host_config.as_ref()?.port_bindings.as_ref()?;
    let is_empty = |list: &Option<Vec<_>>| list.as_ref().is_none_or(Vec::is_empty);
    let ports: Vec<&str> =
        bindings.iter().filter(|(_, list)| is_empty(list)).map(|(port, _)| port.as_str()).collect();
    (!ports.is_empty()).then(|| {
        format!(
            "Following container port(s) have an empty list of port-bindings: {}. Such bindings will be discarded in a future version.",
            ports.join(", ")
        )
    })
}

#[cfg(test)]
mod tests;
