//! Which fields of a create request mean something here.
//!
//! A field that is set and not understood is refused by name, never dropped: a container that runs without the limit or
//! the mount that was asked for is worse than none. [`ACCEPTED`] lists what is understood; everything else that is set to
//! more than its zero value is refused. The list is checked against the fields of Docker's specification by a test.

use docker_wire::containers::{ContainerConfig, ContainerCreateRequest};
use docker_wire::decode;
use docker_wire::host_config::HostConfig;
use docker_wire::networks::EndpointSettings;

use super::networking::{is_user_defined, mode};

/// How far a field is understood.
enum Use {
    /// Every value.
    Any,
    /// These values: Docker's defaults, spelled out, or what means the same here.
    Only(fn(&Given<'_>) -> bool),
}

/// A request in the newest form.
struct Given<'a> {
    host: &'a HostConfig,
}

use Use::{Any, Only};

/// The fields that are understood, in the order of Docker's reference.
static ACCEPTED: &[(&str, Use)] = &[
    ("Hostname", Any),
    ("Domainname", Any),
    ("User", Any),
    ("AttachStdin", Any),
    ("AttachStdout", Any),
    ("AttachStderr", Any),
    // Shown, and nothing else, as in Docker: only publishing a port does something.
    ("ExposedPorts", Any),
    ("Tty", Any),
    ("OpenStdin", Any),
    ("StdinOnce", Any),
    ("Env", Any),
    ("Cmd", Any),
    ("Healthcheck.Test", Any),
    ("Healthcheck.Interval", Any),
    ("Healthcheck.Timeout", Any),
    ("Healthcheck.Retries", Any),
    ("Healthcheck.StartPeriod", Any),
    ("Healthcheck.StartInterval", Any),
    // Means something on Windows only; old builders set it in images, and tools send it back.
    ("ArgsEscaped", Any),
    ("Image", Any),
    ("Volumes", Any),
    ("WorkingDir", Any),
    ("NetworkDisabled", Any),
    ("Entrypoint", Any),
    ("Labels", Any),
    ("StopSignal", Any),
    ("StopTimeout", Any),
    ("HostConfig.CpuShares", Any),
    ("HostConfig.Memory", Any),
    ("HostConfig.CgroupParent", Any),
    ("HostConfig.BlkioWeight", Any),
    ("HostConfig.BlkioWeightDevice", Any),
    ("HostConfig.BlkioDeviceReadBps", Any),
    ("HostConfig.BlkioDeviceWriteBps", Any),
    ("HostConfig.BlkioDeviceReadIOps", Any),
    ("HostConfig.BlkioDeviceWriteIOps", Any),
    ("HostConfig.CpuPeriod", Any),
    ("HostConfig.CpuQuota", Any),
    ("HostConfig.CpuRealtimePeriod", Any),
    ("HostConfig.CpuRealtimeRuntime", Any),
    ("HostConfig.CpusetCpus", Any),
    ("HostConfig.CpusetMems", Any),
    ("HostConfig.Devices", Any),
    ("HostConfig.DeviceCgroupRules", Any),
    ("HostConfig.DeviceRequests", Any),
    ("HostConfig.MemoryReservation", Any),
    ("HostConfig.MemorySwap", Any),
    ("HostConfig.MemorySwappiness", Any),
    ("HostConfig.NanoCpus", Any),
    ("HostConfig.OomKillDisable", Any),
    ("HostConfig.Init", Any),
    ("HostConfig.PidsLimit", Any),
    ("HostConfig.Ulimits", Any),
    ("HostConfig.IOMaximumIOps", Any), // wrong, not only refused
    ("HostConfig.IOMaximumBandwidth", Any), // wrong, not only refused
    // Mounts are judged one by one where they are read, down to the last option.
    ("HostConfig.Binds", Any),
    // Written by the client, not by the daemon.
    ("HostConfig.ContainerIDFile", Any),
    ("HostConfig.LogConfig.Type", Any), // drivers and options are judged where they are read
    ("HostConfig.LogConfig.Config", Any),
    ("HostConfig.NetworkMode", Any),
    ("HostConfig.PortBindings", Any),
    ("HostConfig.RestartPolicy.Name", Any), // others than Docker's are refused as wrong
    ("HostConfig.RestartPolicy.MaximumRetryCount", Any),
    ("HostConfig.AutoRemove", Any),
    ("HostConfig.VolumeDriver", Any),
    ("HostConfig.VolumesFrom", Any),
    ("HostConfig.Mounts", Any),
    ("HostConfig.ConsoleSize", Any),
    ("HostConfig.Annotations", Any),
    ("HostConfig.Dns", Any),
    ("HostConfig.DnsOptions", Any),
    ("HostConfig.DnsSearch", Any),
    ("HostConfig.ExtraHosts", Any),
    ("HostConfig.Links", Any),
    ("HostConfig.PublishAllPorts", Any),
    ("HostConfig.CapAdd", Any),
    ("HostConfig.CapDrop", Any),
    ("HostConfig.CgroupnsMode", Any),
    ("HostConfig.GroupAdd", Any),
    ("HostConfig.IpcMode", Any),
    ("HostConfig.OomScoreAdj", Any),
    ("HostConfig.PidMode", Any),
    ("HostConfig.Privileged", Any),
    ("HostConfig.ReadonlyRootfs", Any),
    ("HostConfig.SecurityOpt", Any),
    ("HostConfig.UTSMode", Any),
    // No user namespaces are used, so the host's is everybody's.
    ("HostConfig.UsernsMode", Only(|given| given.host.userns_mode == "host")),
    ("HostConfig.Tmpfs", Any),
    ("HostConfig.ShmSize", Any),
    ("HostConfig.Sysctls", Any),
    ("HostConfig.Runtime", Any),
    ("HostConfig.Isolation", Any), // anything but the default is wrong, not only refused
    ("HostConfig.MaskedPaths", Any),
    ("HostConfig.ReadonlyPaths", Any),
    ("NetworkingConfig.EndpointsConfig", Any), // judged endpoint by endpoint
    ("NetworkingConfig.EndpointsConfig.*.IPAMConfig.IPv4Address", Any),
    ("NetworkingConfig.EndpointsConfig.*.IPAMConfig.IPv6Address", Any),
    ("NetworkingConfig.EndpointsConfig.*.MacAddress", Any),
    ("NetworkingConfig.EndpointsConfig.*.Links", Any),
    ("NetworkingConfig.EndpointsConfig.*.Aliases", Any),
    // With one network there is nothing to choose from.
    ("NetworkingConfig.EndpointsConfig.*.GwPriority", Any),
];

/// The first field that is set and not understood, in Docker's spelling, with its value where that tells more.
pub(super) fn not_understood(request: &ContainerCreateRequest) -> Option<String> {
    let (no_config, no_host) = (ContainerConfig::default(), HostConfig::default());
    let config = request.config.as_ref().unwrap_or(&no_config);
    let host = request.host_config.as_ref().unwrap_or(&no_host);
    let given = Given { host };
    set_fields(config)
        .into_iter()
        .chain(set_fields(host).into_iter().map(|field| format!("HostConfig.{field}")))
        .find(|field| !understood(field, &given))
        .map(|field| with_value(field, host))
        .or_else(|| endpoint(request, host))
}

/// Names of the fields that are set, in Docker's spelling.
fn set_fields<T: serde::Serialize + serde::de::DeserializeOwned>(part: &T) -> Vec<String> {
    serde_json::to_value(part).map(|value| decode::set_fields::<T>(&value)).unwrap_or_default()
}

fn understood(field: &str, given: &Given<'_>) -> bool {
    match ACCEPTED.iter().find(|(name, _)| *name == field) {
        Some((_, Any)) => true,
        Some((_, Only(allowed))) => allowed(given),
        None => false,
    }
}

/// Words say more than the name of the field.
fn with_value(field: String, host: &HostConfig) -> String {
    let value = match field.as_str() {
        "HostConfig.UsernsMode" => &host.userns_mode,
        _ => return field,
    };
    format!("{field} {value:?}")
}

/// An endpoint that does not go with the mode, or a setting of one. A container that shares another's network ignores
/// them, as in Docker.
fn endpoint(request: &ContainerCreateRequest, host: &HostConfig) -> Option<String> {
    const FIELD: &str = "NetworkingConfig.EndpointsConfig";
    let mode = mode(host);
    let endpoints = &request.networking_config.as_ref()?.endpoints_config;
    if mode.starts_with("container:") {
        return None;
    }
    let only = endpoints.len() == 1;
    endpoints.iter().find_map(|(name, settings)| {
        let goes_with_mode = name == mode
            || (name == "default" && mode == "bridge")
            || (is_user_defined(name) && is_user_defined(mode));
        if !goes_with_mode {
            return Some(format!("{FIELD}.{name}"));
        }
        endpoint_setting(settings, only && name_means_mode(name, mode))
            .map(|setting| format!("{FIELD}.{name}.{setting}"))
    })
}

fn name_means_mode(name: &str, mode: &str) -> bool {
    name == mode || (name == "default" && mode == "bridge")
}

/// A setting of an endpoint that a client chose. What a daemon fills in (addresses, ids, names) is ignored: tools send
/// back what they inspected. Addresses are the container's, as with nerdctl, so they go with its `only` network.
fn endpoint_setting(settings: &EndpointSettings, only: bool) -> Option<&'static str> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    // Without an endpoint id it was not a daemon that filled it in.
    let has_mac = !settings.mac_address.is_empty() && settings.endpoint_id.is_empty();
    let chosen = [
        (!only && !ipam.ipv4_address.is_empty(), "IPAMConfig.IPv4Address"),
        (!only && !ipam.ipv6_address.is_empty(), "IPAMConfig.IPv6Address"),
        (!ipam.link_local_ips.is_empty(), "IPAMConfig.LinkLocalIPs"),
        (settings.driver_opts.as_ref().is_some_and(|options| !options.is_empty()), "DriverOpts"),
        (!only && settings.gw_priority != 0, "GwPriority"),
        (!only && has_mac, "MacAddress"),
    ];
    chosen.into_iter().find(|(chosen, _)| *chosen).map(|(_, setting)| setting)
}

#[cfg(test)]
mod tests;
