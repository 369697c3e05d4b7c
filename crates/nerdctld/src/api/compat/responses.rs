//! The newest answers, lowered for old clients.

use docker_wire::containers::{
    ContainerConfig, ContainerInspect, ContainerSummary, DriverData, LegacyBridgeSettings,
};
use docker_wire::images::{
    ExplicitImageConfig, ImageConfig, ImageInspect, ImageInspectConfig, ImageSummary,
};
use docker_wire::networks::{EndpointSettings, Network};
use docker_wire::system::{Commit, DiskUsage, Info};
use docker_wire::time;

use super::v;
use crate::api::version::ApiVersion;
use crate::connection::websocket::MessageKind;

/// One stream: a terminal's, or several in frames for clients that know them under no other name.
pub(in crate::api) const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Two streams in frames.
const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// Content type of logs and upgraded attaches: 1.42 gave the framed form a name of its own.
pub(in crate::api) fn stream_type(version: ApiVersion, tty: bool) -> &'static str {
    if tty || version < v(42) { RAW_STREAM } else { MULTIPLEXED_STREAM }
}

/// Frames of an attach over a WebSocket: binary since 1.28.
pub(in crate::api) fn websocket_kind(version: ApiVersion) -> MessageKind {
    if version < v(28) { MessageKind::Text } else { MessageKind::Binary }
}

/// `GET /info`.
pub(in crate::api) fn info(version: ApiVersion, info: &mut Info) {
    if version < v(44) {
        runtimes_have_no_status(info);
    }
    if version < v(46) {
        info.containerd = None;
    }
    if version < v(47) {
        nondistributable_artifacts_are_shown(info);
    }
    if version < v(49) {
        info.firewall_backend = None;
        commits_are_expected(info);
    }
    if version < v(50) {
        info.bridge_nf_iptables = Some(false);
        info.bridge_nf_ip6tables = Some(false);
    }
}

/// New in 1.44.
fn runtimes_have_no_status(info: &mut Info) {
    for runtime in info.runtimes.values_mut() {
        runtime.status.clear();
    }
}

/// Gone in 1.47.
fn nondistributable_artifacts_are_shown(info: &mut Info) {
    if let Some(registries) = &mut info.registry_config {
        registries.allow_nondistributable_artifacts_cidrs = Some(None);
        registries.allow_nondistributable_artifacts_hostnames = Some(None);
    }
}

/// Gone in 1.49; old command lines print a note when it differs.
fn commits_are_expected(info: &mut Info) {
    let expect = |commit: &mut Commit| commit.expected = Some(commit.id.clone());
    expect(&mut info.containerd_commit);
    expect(&mut info.runc_commit);
    expect(&mut info.init_commit);
}

/// One element of `GET /containers/json`.
pub(in crate::api) fn container_summary(version: ApiVersion, container: &mut ContainerSummary) {
    if version < v(46) {
        container.host_config.annotations.clear();
    }
    if version < v(48) {
        container.image_manifest_descriptor = None;
    }
    if version < v(52) {
        container.health = None;
    }
}

/// One element of `GET /networks`.
pub(in crate::api) fn network_in_list(version: ApiVersion, network: &mut Network) {
    network.status = None;
    if version >= v(28) {
        network.containers = None;
    }
}

/// `GET /networks/{id}`.
pub(in crate::api) fn network(version: ApiVersion, network: &mut Network) {
    if version < v(52) {
        network.status = None;
    }
}

/// `GET /containers/{id}/json`.
pub(in crate::api) fn container_inspect(version: ApiVersion, container: &mut ContainerInspect) {
    if version < v(45) {
        aliases_hold_id_and_hostname(container);
    }
    if version < v(48) {
        container.image_manifest_descriptor = None;
    }
    if version < v(52) {
        bridge_is_shown_at_the_top(container);
        mac_address_is_the_containers(container);
        graph_driver_stands_for_storage(container);
        container.config.on_build = Some(None);
    }
}

/// 1.45 moved them to `DNSNames`.
fn aliases_hold_id_and_hostname(container: &mut ContainerInspect) {
    let short = container.id.chars().take(12).collect::<String>();
    let hostname = &container.config.hostname;
    for (name, endpoint) in &mut container.network_settings.networks {
        if matches!(name.as_str(), "bridge" | "host" | "none" | "default") {
            continue;
        }
        let aliases = endpoint.aliases.get_or_insert_default();
        for alias in [&short, hostname] {
            if !aliases.contains(alias) {
                aliases.push(alias.clone());
            }
        }
    }
}

/// Gone in 1.52. Scripts read `.NetworkSettings.IPAddress`; it is there for the default bridge only.
fn bridge_is_shown_at_the_top(container: &mut ContainerInspect) {
    let settings = &mut container.network_settings;
    settings.legacy = settings.networks.get("bridge").map(legacy_bridge);
}

fn legacy_bridge(endpoint: &EndpointSettings) -> LegacyBridgeSettings {
    let length = |given: i64| u8::try_from(given).unwrap_or_default();
    LegacyBridgeSettings {
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: endpoint.gateway.clone(),
        global_ipv6_address: endpoint.global_ipv6_address.clone(),
        global_ipv6_prefix_len: length(endpoint.global_ipv6_prefix_len),
        ip_address: endpoint.ip_address.clone(),
        ip_prefix_len: length(endpoint.ip_prefix_len),
        ipv6_gateway: endpoint.ipv6_gateway.clone(),
        mac_address: endpoint.mac_address.clone(),
    }
}

/// Gone in 1.52: the address that the client chose, which nobody can yet.
fn mac_address_is_the_containers(container: &mut ContainerInspect) {
    container.config.mac_address = None;
}

/// 1.52 replaced it.
fn graph_driver_stands_for_storage(container: &mut ContainerInspect) {
    let snapshot = container
        .storage
        .take()
        .and_then(|storage| storage.root_fs)
        .and_then(|root_fs| root_fs.snapshot);
    container.graph_driver =
        snapshot.map(|snapshot| DriverData { data: None, name: snapshot.name });
}

/// `GET /images/json`.
pub(in crate::api) fn image_list(version: ApiVersion, images: &mut [ImageSummary]) {
    for image in images {
        if version < v(43) {
            nameless_images_are_called_none(image);
        }
        if version < v(44) {
            image.virtual_size = Some(image.size);
        }
        if version < v(48) {
            image.descriptor = None;
        }
        if version < v(51) {
            image.containers = -1;
        }
    }
}

/// `GET /system/df`. 1.52 has totals of each kind, with their things. The lists of before stay beside them unless a client
/// that knows of it asks for the new form only (`verbose`).
pub(in crate::api) fn disk_usage(
    version: ApiVersion,
    mut usage: DiskUsage,
    verbose: bool,
) -> DiskUsage {
    let verbose = verbose && version >= v(52);
    if verbose {
        usage.legacy = None;
        return usage;
    }
    let legacy = usage.legacy.get_or_insert_default();
    legacy.layers_size = usage.image_usage.as_ref().map_or(0, |images| images.total_size);
    legacy.images = usage.image_usage.as_ref().map(|images| images.items.clone());
    legacy.containers = usage.container_usage.as_ref().map(|containers| containers.items.clone());
    legacy.volumes = usage.volume_usage.as_ref().map(|volumes| volumes.items.clone());
    legacy.build_cache = usage.build_cache_usage.as_ref().map(|records| records.items.clone());
    if version >= v(52) {
        return usage;
    }
    for image in legacy.images.iter_mut().flatten().filter(|_| version < v(44)) {
        image.virtual_size = Some(image.size);
    }
    DiskUsage { legacy: usage.legacy, ..DiskUsage::default() }
}

/// 1.43 shows nothing where there is nothing.
fn nameless_images_are_called_none(image: &mut ImageSummary) {
    if image.repo_tags.is_empty() && image.repo_digests.is_empty() {
        image.repo_tags.push("<none>:<none>".to_owned());
        image.repo_digests.push("<none>@<none>".to_owned());
    }
}

/// `GET /images/{name}/json`.
pub(in crate::api) fn image_inspect(version: ApiVersion, image: &mut ImageInspect) {
    if version < v(44) {
        image.virtual_size = Some(image.size);
        image.created.get_or_insert_with(|| time::ZERO.to_owned());
    }
    if version < v(45) {
        image.container = Some(String::new());
        image.container_config = Some(None);
    }
    if version < v(48) {
        image.descriptor = None;
    }
    if version < v(52) {
        texts_are_always_there(image);
        config_is_explicit(version, image);
    } else {
        image.graph_driver = None;
    }
    if version < v(53) {
        image.identity = None;
    }
}

/// 1.52 leaves empty ones out.
fn texts_are_always_there(image: &mut ImageInspect) {
    for text in
        [&mut image.parent, &mut image.comment, &mut image.docker_version, &mut image.author]
    {
        text.get_or_insert_default();
    }
}

/// Up to 1.49 an image had the fields of a container, up to 1.51 all of an image's, set or not.
fn config_is_explicit(version: ApiVersion, image: &mut ImageInspect) {
    let ImageInspectConfig::Current(config) = &mut image.config else { return };
    let config = std::mem::take(config);
    image.config = if version < v(50) {
        ImageInspectConfig::Container(Box::new(as_container(config)))
    } else {
        ImageInspectConfig::Explicit(as_explicit(config))
    };
}

fn none_if_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn as_explicit(config: ImageConfig) -> ExplicitImageConfig {
    ExplicitImageConfig {
        user: config.user,
        exposed_ports: config.exposed_ports,
        env: none_if_empty(config.env),
        cmd: none_if_empty(config.cmd),
        healthcheck: config.healthcheck,
        args_escaped: config.args_escaped,
        volumes: (!config.volumes.is_empty()).then_some(config.volumes),
        working_dir: config.working_dir,
        entrypoint: none_if_empty(config.entrypoint),
        on_build: none_if_empty(config.on_build),
        labels: (!config.labels.is_empty()).then_some(config.labels),
        stop_signal: config.stop_signal,
        shell: config.shell,
    }
}

fn as_container(config: ImageConfig) -> ContainerConfig {
    ContainerConfig {
        user: config.user,
        exposed_ports: config.exposed_ports,
        env: none_if_empty(config.env),
        cmd: none_if_empty(config.cmd),
        healthcheck: config.healthcheck,
        args_escaped: config.args_escaped,
        volumes: (!config.volumes.is_empty()).then_some(config.volumes),
        working_dir: config.working_dir,
        entrypoint: none_if_empty(config.entrypoint),
        on_build: Some(none_if_empty(config.on_build)),
        labels: (!config.labels.is_empty()).then_some(config.labels),
        stop_signal: config.stop_signal,
        shell: config.shell,
        ..ContainerConfig::default()
    }
}

#[cfg(test)]
mod tests;
