//! Containers as clients see them: the newest shape, from the engine's words.
//!
//! What only a client knows (the host configuration it sent) comes back out of the recorded request. Containers that
//! others made have none: for them the same fields are derived from what containerd and nerdctl wrote down, and what
//! cannot be known is Docker's default.

mod confinement;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use docker_wire::containers::{
    ContainerConfig, ContainerInspect, ContainerState, ContainerSummary, Health as HealthView,
    HealthConfig, HealthResult, HealthSummary, HostConfigSummary, MountPoint, NetworkSettings,
    NetworkSettingsSummary, PortSummary, RootFsSnapshot, RootFsStorage, State, Storage, status,
};
use docker_wire::host_config::{
    HostConfig, LogConfig, PortBinding, PortMap, RestartPolicy as RestartPolicyView,
};
use docker_wire::networks::EndpointSettings;
use docker_wire::{Empty, time};
use engine::containers::health_check::{HealthCheck, HealthStatus};
use engine::containers::list::Listed;
use engine::containers::{self as domain, Container, ContainerDetails, Phase};
use engine::oci::HostFacts;
use jiff::Timestamp;
use names::Signal;
use nerdctl_store::state_dir::ProbeResult;

use super::create::networking::is_user_defined;
use super::create::recorded::{self, Recorded};
use crate::api::images::view as image_view;

/// An element of the list.
pub(in crate::api) fn summary(listed: &Listed, now: Timestamp) -> ContainerSummary {
    let container = &listed.container;
    let (program, arguments) = container
        .command
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    ContainerSummary {
        id: container.id.to_string(),
        names: names(listed),
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        image_manifest_descriptor: container.image_manifest.clone().map(image_view::descriptor),
        command: status::quote_command(program, arguments),
        created: container.created.as_second(),
        ports: port_list(container),
        labels: BTreeMap::clone(&container.labels),
        state: state_word(container.state.phase),
        status: status_text(&container.state, now),
        host_config: HostConfigSummary {
            network_mode: container.network_mode.clone(),
            annotations: container.annotations.clone(),
        },
        health: Some(health_summary(&container.state)),
        network_settings: NetworkSettingsSummary { networks: networks(container) },
        mounts: mounts(container),
        ..ContainerSummary::default()
    }
}

/// Its own and those that others have for it, sorted.
fn names(listed: &Listed) -> Vec<String> {
    let links = listed.links.iter().map(|link| format!("/{link}"));
    let mut names: Vec<String> = std::iter::once(name(&listed.container)).chain(links).collect();
    names.sort();
    names
}

/// With a slash before it. One without a name goes by its id: clients cut the first character off and show the rest.
fn name(container: &Container) -> String {
    let name = if container.name.is_empty() { container.id.short() } else { &container.name };
    format!("/{name}")
}

fn state_word(phase: Phase) -> ContainerState {
    match phase {
        Phase::Created => ContainerState::Created,
        Phase::Running => ContainerState::Running,
        Phase::Paused => ContainerState::Paused,
        Phase::Restarting => ContainerState::Restarting,
        Phase::Removing => ContainerState::Removing,
        Phase::Exited => ContainerState::Exited,
        Phase::Dead => ContainerState::Dead,
    }
}

fn status_text(state: &domain::State, now: Timestamp) -> String {
    let since = |moment: Option<Timestamp>| {
        let passed = moment.map(|moment| now.duration_since(moment)).unwrap_or_default();
        // A clock that was set back makes it negative.
        Duration::try_from(passed).unwrap_or_default()
    };
    let code = i64::from(state.exit_code);
    match state.phase {
        Phase::Running => {
            let health = state.health.unwrap_or_default();
            status::running(since(state.started_at), health.status.as_str())
        }
        Phase::Paused => status::paused(since(state.started_at)),
        Phase::Restarting => status::restarting(code, since(state.finished_at)),
        Phase::Removing => status::REMOVING.to_owned(),
        Phase::Dead => status::DEAD.to_owned(),
        Phase::Created => status::CREATED.to_owned(),
        Phase::Exited => status::exited(code, since(state.finished_at)),
    }
}

/// `none` is Docker's word for "has no health check".
fn health_summary(state: &domain::State) -> HealthSummary {
    let health = state.health.unwrap_or_default();
    HealthSummary {
        status: health.status.as_str().to_owned(),
        failing_streak: health.failing_streak.into(),
    }
}

/// Absent without a health check, and before the first start.
fn health(details: &ContainerDetails) -> Option<HealthView> {
    let health = details.container.state.health?;
    let result = |result: &ProbeResult| HealthResult {
        start: time::rfc3339_nano(result.start),
        end: time::rfc3339_nano(result.end),
        exit_code: result.exit_code,
        output: result.output.clone(),
    };
    (health.status != HealthStatus::Unstarted).then(|| HealthView {
        status: health.status.as_str().to_owned(),
        failing_streak: health.failing_streak.into(),
        log: details.health_log.iter().map(result).collect(),
    })
}

/// Published and exposed ports while it runs, none otherwise.
fn port_list(container: &Container) -> Vec<PortSummary> {
    if !shows_ports(container) {
        return Vec::new();
    }
    let mut ports: Vec<PortSummary> = container.ports.iter().map(port_summary).collect();
    ports.sort_by(|a, b| {
        let key = |port: &PortSummary| (port.private_port, port.protocol.clone(), port.public_port);
        key(a).cmp(&key(b)).then_with(|| a.ip.cmp(&b.ip))
    });
    ports
}

/// Ports are an endpoint's: a container has none in the host's network, in another container's, or without one.
fn shows_ports(container: &Container) -> bool {
    container.state.phase.has_process() && container.has_cni_networks()
}

fn port_summary(port: &domain::Port) -> PortSummary {
    let (ip, public_port) = port.host.clone().unwrap_or_default();
    PortSummary {
        ip,
        private_port: port.container_port,
        public_port,
        protocol: port.protocol.clone(),
    }
}

/// Ports by their name; `null` for those that are exposed only.
fn port_map(container: &Container) -> PortMap {
    let mut map = PortMap::new();
    if !shows_ports(container) {
        return map;
    }
    for port in &container.ports {
        let bindings = map.entry(format!("{}/{}", port.container_port, port.protocol)).or_default();
        if let Some((host_ip, host_port)) = &port.host {
            let binding =
                PortBinding { host_ip: host_ip.clone(), host_port: host_port.to_string() };
            bindings.get_or_insert_default().push(binding);
        }
    }
    map
}

/// With what was asked for in addition, which only the request tells.
fn networks_as_asked(
    container: &Container,
    recorded: Option<&Recorded>,
) -> BTreeMap<String, EndpointSettings> {
    let mut networks = networks(container);
    let Some(recorded) = recorded else { return networks };
    for (name, shown) in &mut networks {
        let asked = &recorded.networking_config.endpoints_config;
        let default = (name == "bridge").then(|| asked.get("default")).flatten();
        let Some(asked) = asked.get(name).or(default) else { continue };
        shown.ipam_config.clone_from(&asked.ipam_config);
        shown.links.clone_from(&asked.links);
        shown.aliases.clone_from(&asked.aliases);
        shown.gw_priority = asked.gw_priority;
        if ["host", "none"].contains(&name.as_str()) && asked.endpoint_id.is_empty() {
            // It has no interface that could have it, and is shown all the same.
            shown.mac_address.clone_from(&asked.mac_address);
        }
    }
    networks
}

/// All names by which it is found in networks that a user made; known since its first start (moby
/// `daemon/container_operations.go`, `buildEndpointDNSNames`).
fn name_in_networks(networks: &mut BTreeMap<String, EndpointSettings>, details: &ContainerDetails) {
    let container = &details.container;
    if container.state.started_at.is_none() {
        return;
    }
    let own = [container.id.short().to_owned(), details.process.hostname.clone()];
    for (network, shown) in networks {
        if !is_user_defined(network) {
            continue;
        }
        let aliases = shown.aliases.iter().flatten().cloned();
        let all = std::iter::once(container.name.clone()).chain(aliases).chain(own.clone());
        let mut seen = BTreeSet::new();
        shown.dns_names =
            Some(all.filter(|name| !name.is_empty() && seen.insert(name.clone())).collect());
    }
}

/// Never empty where there is a network: clients look for the id also of what is stopped.
fn networks(container: &Container) -> BTreeMap<String, EndpointSettings> {
    let mut networks: BTreeMap<_, _> = container
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.network.clone(), endpoint_settings(endpoint)))
        .collect();
    if networks.is_empty() && matches!(container.network_mode.as_str(), "host" | "none" | "bridge")
    {
        networks.insert(container.network_mode.clone(), EndpointSettings::default());
    }
    networks
}

fn endpoint_settings(endpoint: &domain::Endpoint) -> EndpointSettings {
    EndpointSettings {
        network_id: endpoint.network_id.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: endpoint.ipv4_gateway.clone(),
        ip_address: endpoint.ipv4.clone(),
        mac_address: endpoint.mac.clone(),
        ip_prefix_len: i64::from(endpoint.ipv4_prefix),
        ipv6_gateway: endpoint.ipv6_gateway.clone(),
        global_ipv6_address: endpoint.ipv6.clone(),
        global_ipv6_prefix_len: i64::from(endpoint.ipv6_prefix),
        ..EndpointSettings::default()
    }
}

fn mounts(container: &Container) -> Vec<MountPoint> {
    let view = |mount: &domain::MountPoint| MountPoint {
        kind: mount.kind.clone(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone(),
        mode: mount.mode.clone(),
        rw: mount.read_write,
        propagation: mount.propagation.clone(),
    };
    container.mounts.iter().map(view).collect()
}

/// Everything about one container.
pub(super) fn inspect(details: &ContainerDetails, host: &HostFacts) -> ContainerInspect {
    let container = &details.container;
    let recorded = details.recorded.as_ref().and_then(recorded::read);
    let (path, args) = details
        .process
        .args
        .split_first()
        .map(|(path, args)| (path.clone(), args.to_vec()))
        .unwrap_or_default();
    let mut networks = networks_as_asked(container, recorded.as_ref());
    name_in_networks(&mut networks, details);
    // The sandbox is the other container's.
    let shares = container.network_mode.starts_with("container:");
    let snapshot = Some(RootFsSnapshot { name: container.snapshotter.clone() });
    ContainerInspect {
        id: container.id.to_string(),
        created: time::rfc3339_nano(container.created),
        path,
        args,
        state: State { health: health(details), ..state(&container.state) },
        image: container.image_id.clone(),
        image_manifest_descriptor: container.image_manifest.clone().map(image_view::descriptor),
        resolv_conf_path: details.resolv_conf_path.clone(),
        hostname_path: details.hostname_path.clone(),
        hosts_path: details.hosts_path.clone(),
        log_path: details.log_path.clone(),
        name: name(container),
        restart_count: i64::from(container.restart_count),
        driver: container.snapshotter.clone(),
        platform: "linux".to_owned(),
        host_config: host_config(details, recorded.as_ref(), host),
        storage: Some(Storage { root_fs: Some(RootFsStorage { snapshot }) }),
        app_armor_profile: details.apparmor_profile.clone(),
        mounts: mounts(container),
        config: config(details, recorded),
        network_settings: NetworkSettings {
            // One container, one sandbox: there is no other thing that could have an id.
            sandbox_id: if details.sandbox_key.is_empty() || shares {
                String::new()
            } else {
                container.id.to_string()
            },
            sandbox_key: if shares { String::new() } else { details.sandbox_key.clone() },
            ports: port_map(container),
            networks,
            ..NetworkSettings::default()
        },
        ..ContainerInspect::default()
    }
}

fn state(state: &domain::State) -> State {
    State {
        status: state_word(state.phase),
        running: state.phase.counts_as_running(),
        paused: state.phase == Phase::Paused,
        restarting: state.phase == Phase::Restarting,
        oom_killed: state.oom_killed,
        dead: state.phase == Phase::Dead,
        pid: state.pid,
        exit_code: i64::from(state.exit_code),
        error: state.error.clone(),
        started_at: time::rfc3339_nano_or_zero(state.started_at),
        finished_at: time::rfc3339_nano_or_zero(state.finished_at),
        health: None,
    }
}

/// The request's configuration, with what the image added.
fn config(details: &ContainerDetails, recorded: Option<Recorded>) -> ContainerConfig {
    let (container, process) = (&details.container, &details.process);
    let exposed_ports = details.exposed_ports.iter().map(|port| (port.clone(), Empty {})).collect();
    let derived = ContainerConfig {
        hostname: process.hostname.clone(),
        domainname: process.domainname.clone(),
        user: process.user.clone(),
        exposed_ports,
        tty: container.tty,
        open_stdin: container.open_stdin,
        stdin_once: container.stdin_once,
        env: Some(process.env.clone()),
        cmd: details.cmd.clone(),
        image: container.image.clone(),
        working_dir: process.cwd.clone(),
        entrypoint: details.entrypoint.clone(),
        labels: Some(BTreeMap::clone(&container.labels)),
        stop_timeout: container.stop_timeout,
        healthcheck: container.upkeep.health_check.as_deref().map(health_config),
        ..ContainerConfig::default()
    };
    let Some(Recorded { config: sent, .. }) = recorded else {
        let cmd = details.cmd.clone().or_else(|| Some(process.args.clone()));
        return ContainerConfig { cmd, stop_signal: stop_signal(container), ..derived };
    };
    let root = sent.working_dir.is_empty() && process.cwd == "/";
    ContainerConfig {
        domainname: sent.domainname,
        working_dir: if root { String::new() } else { derived.working_dir },
        stop_signal: if sent.stop_signal.is_empty() {
            stop_signal(container)
        } else {
            sent.stop_signal
        },
        attach_stdin: sent.attach_stdin,
        attach_stdout: sent.attach_stdout,
        attach_stderr: sent.attach_stderr,
        args_escaped: sent.args_escaped,
        network_disabled: sent.network_disabled,
        volumes: (!details.volumes.is_empty())
            .then(|| details.volumes.iter().map(|path| (path.clone(), Empty {})).collect()),
        stop_timeout: sent.stop_timeout,
        ..derived
    }
}

/// The request's check with what it left to the image.
fn health_config(check: &HealthCheck) -> HealthConfig {
    let nanoseconds = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    HealthConfig {
        test: check.test.clone(),
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        start_period: nanoseconds(check.start_period),
        start_interval: nanoseconds(check.start_interval),
        retries: check.retries.into(),
    }
}

/// The default is not shown.
fn stop_signal(container: &Container) -> String {
    if container.stop_signal == Signal::TERM { String::new() } else { container.stop_signal.name() }
}

/// What the client sent, completed at create; or what can be told of somebody else's container.
fn host_config(
    details: &ContainerDetails,
    recorded: Option<&Recorded>,
    host: &HostFacts,
) -> HostConfig {
    let container = &details.container;
    let mut shown = recorded.map_or_else(
        || derived_host_config(details, host),
        |recorded| recorded.host_config.clone(),
    );
    // Answers of dockerd before 29 may have been recorded and sent again, with another name for the same network.
    shown.network_mode.clone_from(&container.network_mode);
    shown.links = (!details.links.is_empty()).then(|| details.links.clone());
    // It can be changed later.
    shown.restart_policy = restart_policy(container.upkeep.restart);
    confinement::bring_up_to_date(&mut shown, details);
    shown
}

fn derived_host_config(details: &ContainerDetails, host: &HostFacts) -> HostConfig {
    let mut derived = HostConfig {
        log_config: LogConfig {
            driver: if details.log_driver.is_empty() {
                "json-file".to_owned()
            } else {
                details.log_driver.clone()
            },
            config: Some(details.log_options.clone()),
        },
        auto_remove: details.container.auto_remove,
        runtime: details.runtime.clone(),
        port_bindings: Some(port_map(&details.container)),
        ..HostConfig::default()
    };
    confinement::derive(&mut derived, details);
    recorded::complete(&mut derived, host);
    derived
}

fn restart_policy(policy: domain::restart_policy::RestartPolicy) -> RestartPolicyView {
    RestartPolicyView {
        name: policy.name().to_owned(),
        maximum_retry_count: policy.maximum_retry_count().into(),
    }
}

#[cfg(test)]
mod tests;
