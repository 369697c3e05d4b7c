//! Every field of a create request is honoured or refused by its name, never dropped.

use std::collections::BTreeMap;

use e2e::api::BUSYBOX;
use e2e::{Api, Context as _, Result, Rig, Test, bail, ensure, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    // dockerd honours nearly all.
    every_field_is_honoured_or_refused_by_name.ours_only(),
    defaults_of_the_command_line_pass,
    what_is_not_there_is_refused.ours_only(),
];

/// Every field of API 1.55, with a value that is not its default.
const FIELDS: &str = include_str!("../../fields/v1.55.json");

/// What `docker run busybox true` of the CLI 29 sends.
const DOCKER_RUN: &str = include_str!("../../fields/docker-run-29.json");

/// Fields whose sample value dockerd refuses as well, and its own words.
const DOCKERS_OWN_REFUSALS: &[(&str, &str)] = &[
    ("HostConfig.Isolation", "isolation"),
    ("Endpoint.IPAMConfig", "user-specified ip address"),
    ("Endpoint.Aliases", "network-scoped aliases"),
    ("HostConfig.Links", "could not get container"),
    ("HostConfig.VolumesFrom", "no such container: x"),
    ("HostConfig.Runtime", "unknown or invalid runtime name"),
    ("HostConfig.DeviceRequests", "could not select device driver"),
    ("HostConfig.IOMaximumIOps", "maximum iops"),
    ("HostConfig.IOMaximumBandwidth", "maximum bandwidth"),
    // Swap needs a limit of memory beside it.
    ("HostConfig.MemorySwap", "memory limit"),
    // Few kernels have it.
    ("HostConfig.CpuRealtimePeriod", "real-time"),
    ("HostConfig.CpuRealtimeRuntime", "real-time"),
];

/// Fields whose sample value may be taken. `inspect` must show it again, unless the mark says that Docker ignores it, too.
const TAKEN: &[(&str, bool)] = &[
    ("Config.Hostname", true),
    ("Config.Domainname", true),
    ("Config.User", true),
    ("Config.AttachStdin", true),
    ("Config.AttachStdout", true),
    ("Config.AttachStderr", true),
    ("Config.ExposedPorts", true),
    ("Config.Tty", true),
    ("Config.OpenStdin", true),
    ("Config.StdinOnce", true),
    ("Config.Env", false), // shown with PATH
    ("Config.Cmd", true),
    ("Config.ArgsEscaped", false),
    ("Config.Image", true),
    ("Config.Volumes", true),
    ("Config.WorkingDir", true),
    ("Config.Entrypoint", true),
    ("Config.OnBuild", false),
    ("Config.Labels", true),
    ("Config.StopSignal", true),
    ("Config.StopTimeout", true),
    ("Config.Shell", false),
    ("Config.Healthcheck", true),
    ("HostConfig.LogConfig", true),
    ("HostConfig.RestartPolicy", true),
    ("HostConfig.Binds", true),
    ("HostConfig.VolumeDriver", true),
    ("HostConfig.Mounts", true),
    ("HostConfig.Tmpfs", true),
    ("Config.NetworkDisabled", true),
    ("HostConfig.NetworkMode", true),
    ("HostConfig.PortBindings", true),
    ("HostConfig.PublishAllPorts", true),
    ("HostConfig.Dns", true),
    ("HostConfig.DnsOptions", true),
    ("HostConfig.DnsSearch", true),
    ("HostConfig.ExtraHosts", true),
    ("Endpoint.MacAddress", false),
    ("Endpoint.GwPriority", false),
    ("Endpoint.Links", false),
    ("HostConfig.AutoRemove", true),
    ("HostConfig.Annotations", true),
    ("HostConfig.ConsoleSize", true),
    ("HostConfig.ContainerIDFile", true),
    ("HostConfig.CgroupnsMode", true),
    ("HostConfig.CpuShares", true),
    ("HostConfig.Memory", true),
    ("HostConfig.CgroupParent", true),
    ("HostConfig.BlkioWeight", true),
    ("HostConfig.BlkioWeightDevice", true),
    ("HostConfig.BlkioDeviceReadBps", true),
    ("HostConfig.BlkioDeviceWriteBps", true),
    ("HostConfig.BlkioDeviceReadIOps", true),
    ("HostConfig.BlkioDeviceWriteIOps", true),
    ("HostConfig.CpuPeriod", true),
    ("HostConfig.CpuRealtimePeriod", true),
    ("HostConfig.CpuRealtimeRuntime", true),
    ("HostConfig.CpuQuota", true),
    ("HostConfig.CpusetCpus", true),
    ("HostConfig.CpusetMems", true),
    ("HostConfig.Devices", true),
    ("HostConfig.DeviceCgroupRules", true),
    ("HostConfig.MemoryReservation", true),
    ("HostConfig.MemorySwappiness", true),
    ("HostConfig.NanoCpus", true),
    ("HostConfig.OomKillDisable", true),
    ("HostConfig.Init", true),
    ("HostConfig.PidsLimit", true),
    ("HostConfig.Ulimits", true),
    ("HostConfig.CapAdd", true),
    ("HostConfig.CapDrop", true),
    ("HostConfig.GroupAdd", true),
    ("HostConfig.IpcMode", true),
    ("HostConfig.OomScoreAdj", true),
    ("HostConfig.PidMode", true),
    ("HostConfig.Privileged", true),
    ("HostConfig.ReadonlyRootfs", true),
    ("HostConfig.SecurityOpt", true),
    ("HostConfig.UTSMode", true),
    ("HostConfig.UsernsMode", true),
    ("HostConfig.ShmSize", true),
    ("HostConfig.Sysctls", true),
    ("HostConfig.MaskedPaths", true),
    ("HostConfig.ReadonlyPaths", true),
    // Clients send back what inspect showed (watchtower).
    ("Endpoint.NetworkID", false),
    ("Endpoint.EndpointID", false),
    ("Endpoint.Gateway", false),
    ("Endpoint.IPAddress", false),
    ("Endpoint.IPPrefixLen", false),
    ("Endpoint.IPv6Gateway", false),
    ("Endpoint.GlobalIPv6Address", false),
    ("Endpoint.GlobalIPv6PrefixLen", false),
    ("Endpoint.DNSNames", false),
];

fn every_field_is_honoured_or_refused_by_name(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let fields: BTreeMap<String, Value> = serde_json::from_str(FIELDS)?;
    let mut problems = Vec::new();
    for (field, value) in &fields {
        if let Err(error) = honoured_or_refused(&api, field, value) {
            problems.push(format!("{field}: {error:#}"));
        }
    }
    ensure!(
        problems.is_empty(),
        "{} of {} fields:\n{}",
        problems.len(),
        fields.len(),
        problems.join("\n")
    );
    Ok(())
}

fn honoured_or_refused(api: &Api, field: &str, value: &Value) -> Result<()> {
    let (group, name) = field.split_once('.').context("no group")?;
    let mut body =
        json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
    match group {
        "Config" => body[name] = value.clone(),
        "HostConfig" => body["HostConfig"][name] = value.clone(),
        _ => {
            body["HostConfig"]["NetworkMode"] = json!("bridge");
            body["NetworkingConfig"]["EndpointsConfig"]["bridge"][name] = value.clone();
        }
    }
    let response = api.post_json("/containers/create", &body)?;
    if response.status() != 201 {
        // A value that means nothing on Linux is the client's mistake for dockerd too.
        let dockers_own = DOCKERS_OWN_REFUSALS.iter().find(|(refused, _)| *refused == field);
        let lower = name.to_lowercase();
        let (status, words) = dockers_own.map_or((501, lower.as_str()), |(_, words)| (400, *words));
        let message = response.expect_error(status)?;
        let names_it = message.to_lowercase().contains(words);
        ensure!(names_it, "its refusal does not name it: {message}");
        return Ok(());
    }
    let answer = response.json()?;
    let id = answer["Id"].as_str().context("no Id")?;
    let seen = api.get_json(&format!("/containers/{id}/json"))?;
    api.delete(&format!("/containers/{id}?force=1"))?.expect(204)?;
    let Some((_, shown)) = TAKEN.iter().find(|(known, _)| *known == field) else {
        bail!("taken, and nobody knows what for")
    };
    // What this machine's kernel cannot do is left out, and said.
    let discarded = answer["Warnings"].to_string().contains("discarded");
    if *shown && !discarded {
        let seen = &seen[group][name];
        ensure!(seen == value, "sent {value}, shown {seen}");
    }
    Ok(())
}

fn defaults_of_the_command_line_pass(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let body: Value = serde_json::from_str(DOCKER_RUN)?;
    let answer = api.post_json("/containers/create", &body)?.expect(201)?.json()?;
    let id = answer["Id"].as_str().context("no Id")?;
    api.post(&format!("/containers/{id}/start"))?.expect(204)?;
    api.delete(&format!("/containers/{id}?force=1"))?.expect(204)?;
    Ok(())
}

fn what_is_not_there_is_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    // Values of fields that are otherwise taken.
    let endpoint = json!({"Image": BUSYBOX, "HostConfig": {"NetworkMode": "mine"}, "NetworkingConfig": {"EndpointsConfig": {"mine": {"DriverOpts": {"a": "b"}}}}});
    let message = api.post_json("/containers/create", &endpoint)?.expect_error(501)?;
    ensure!(message.contains("DriverOpts"), "{message}");
    let ports = json!({"Image": BUSYBOX, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "::1", "HostPort": "80"}]}}});
    let message = api.post_json("/containers/create", &ports)?.expect_error(501)?;
    ensure!(message.contains("IPv6 address ::1"), "{message}");
    Ok(())
}
