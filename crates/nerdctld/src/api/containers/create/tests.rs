//! From JSON to the engine's words, and what is refused on the way.

use serde_json::{Value, json};

use engine::containers::NetworkMode;

use super::*;

fn facts() -> HostFacts {
    HostFacts::read(None)
}

fn named<'a>(name: &'a str, platform: &'a str) -> Identity<'a> {
    Identity { name, platform }
}

fn made(body: &Value) -> Result<ContainerSpec, (u16, String)> {
    made_as(body, &named("", ""))
}

fn made_as(body: &Value, identity: &Identity<'_>) -> Result<ContainerSpec, (u16, String)> {
    let request = decode::from_value(body).unwrap();
    spec(request, identity, &facts()).map_err(|error| (error.status().as_u16(), error.message()))
}

fn refused(body: &Value) -> (u16, String) {
    made(body).unwrap_err()
}

/// What `docker run IMAGE` sends (docker/cli 29, `cli/command/container/opts.go`).
fn from_the_command_line() -> Value {
    let sent = r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": ["true"], "Image": "alpine",
        "Volumes": {}, "WorkingDir": "", "Entrypoint": null, "Labels": {},
        "HostConfig": {
            "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
            "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": true,
            "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [24, 80], "CapAdd": null, "CapDrop": null,
            "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
            "IpcMode": "", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
            "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
            "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
            "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
            "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0,
            "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [],
            "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0,
            "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "Ulimits": [], "CpuCount": 0,
            "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": null, "ReadonlyPaths": null
        },
        "NetworkingConfig": {"EndpointsConfig": {"default": {
            "IPAMConfig": null, "Links": null, "Aliases": null, "MacAddress": "", "DriverOpts": null, "GwPriority": 0,
            "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
            "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": null
        }}}
    }"#;
    serde_json::from_str(sent).unwrap()
}

#[test]
fn the_command_lines_defaults_are_understood() {
    let spec = made_as(&from_the_command_line(), &named("web", "linux/amd64")).unwrap();
    assert_eq!(
        (spec.image.as_str(), spec.cmd.as_deref()),
        ("alpine", Some(&["true".to_owned()][..]))
    );
    assert_eq!(
        (spec.network, spec.auto_remove, spec.console_size),
        (NetworkMode::Bridge, true, None)
    );
    assert_eq!(spec.name.unwrap().to_string(), "web");
    assert_eq!(spec.platform.unwrap().to_string(), "linux/amd64");
    assert_eq!(
        (spec.hostname, spec.working_dir, spec.stop_signal, spec.stop_timeout),
        (None, None, None, None)
    );
}

#[test]
fn what_a_client_may_ask_for() {
    let spec = made(&json!({
        "Image": "i", "Tty": true, "OpenStdin": true, "StdinOnce": true, "Env": ["A=b", "HOME"], "Entrypoint": "sh",
        "Cmd": [], "WorkingDir": "/w", "User": "1:2", "Labels": {"k": "v"}, "Hostname": "h", "Domainname": "d",
        "StopSignal": "SIGINT", "StopTimeout": -1, "ExposedPorts": {"80/tcp": {}},
        "HostConfig": {
            "NetworkMode": "none", "ConsoleSize": [24, 80], "Annotations": {"a": "b"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        }
    }))
    .unwrap();
    assert_eq!((spec.cmd, spec.entrypoint), (None, Some(vec!["sh".to_owned()])));
    assert_eq!(spec.console_size, Some((24, 80)));
    assert_eq!(
        (spec.network, spec.log_options.len(), spec.annotations.len()),
        (NetworkMode::None, 2, 1)
    );
    assert_eq!(
        (spec.stop_signal.unwrap().name(), spec.stop_timeout),
        ("SIGINT".to_owned(), Some(-1))
    );
    assert_eq!((spec.hostname.as_deref(), spec.working_dir.as_deref()), (Some("h"), Some("/w")));
}

#[test]
fn what_is_wrong_is_refused_in_dockers_words() {
    let with = |field: &str, value: Value| {
        let mut body = json!({"Image": "i", "HostConfig": {}});
        let pointer = format!("/{}", field.replace('.', "/"));
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value;
        refused(&body)
    };
    for (field, value, expected) in [
        (
            "WorkingDir",
            json!("w"),
            "the working directory 'w' is invalid, it needs to be an absolute path",
        ),
        ("Env", json!(["=x"]), "invalid environment variable: =x"),
        ("StopSignal", json!("NOPE"), "invalid signal: NOPE"),
        ("ExposedPorts", json!({"x/tcp": {}}), "invalid port specification: \"x/tcp\""),
        (
            "HostConfig.RestartPolicy",
            json!({"Name": "sometimes"}),
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            "HostConfig.RestartPolicy",
            json!({"Name": "always", "MaximumRetryCount": 3}),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            "HostConfig.RestartPolicy",
            json!({"Name": "on-failure", "MaximumRetryCount": -3}),
            "invalid restart policy: maximum retry count cannot be negative",
        ),
        (
            "HostConfig.Annotations",
            json!({"": "x"}),
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ),
        (
            "HostConfig.LogConfig",
            json!({"Type": "json-file", "Config": {"nonsense": "x"}}),
            "unknown log opt 'nonsense' for json-file log driver",
        ),
        (
            "HostConfig.LogConfig",
            json!({"Type": "json-file", "Config": {"max-file": "0"}}),
            "max-file cannot be less than 1",
        ),
        (
            "HostConfig.Isolation",
            json!("hyperv"),
            "invalid isolation (hyperv): linux only supports 'default'",
        ),
    ] {
        assert_eq!(with(field, value), (400, expected.to_owned()), "{field}");
    }
    let auto_remove = json!({"Image": "i", "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}});
    assert_eq!(
        refused(&auto_remove),
        (400, "can't create 'AutoRemove' container with restart policy".to_owned())
    );
    assert_eq!(
        refused(&json!({})),
        (400, "config cannot be empty in order to create a container".to_owned())
    );
    let (status, text) = made_as(&json!({"Image": "i"}), &named("?", "")).unwrap_err();
    assert_eq!(
        (status, text.as_str()),
        (400, "Invalid container name (?), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    );
    let (status, _) = made_as(&json!({"Image": "i"}), &named("", "a/b/c/d")).unwrap_err();
    assert_eq!(status, 400);
}

#[test]
fn keys_that_decide_on_the_host_are_reserved() {
    for key in [
        "nerdctl/mounts",
        "containerd.io/restart.status",
        "io.containerd.x",
        "io.kubernetes.pod.name",
    ] {
        let (status, text) = refused(&json!({"Image": "i", "Labels": {key: "x"}}));
        assert_eq!(status, 400, "{key}");
        assert!(text.contains(key) && text.starts_with("invalid label"), "{text}");
        let (status, text) =
            refused(&json!({"Image": "i", "HostConfig": {"Annotations": {key: "x"}}}));
        assert_eq!(status, 400, "{key}");
        assert!(text.starts_with("invalid annotation"), "{text}");
    }
}

#[test]
fn what_was_asked_for_is_recorded_with_dockers_defaults() {
    let spec = made(&from_the_command_line()).unwrap();
    let read = recorded::read(&spec.recorded).unwrap();
    assert_eq!(read.config.image, "alpine");
    let host = read.host_config;
    assert_eq!(
        (
            host.network_mode.as_str(),
            host.restart_policy.name.as_str(),
            host.ipc_mode.as_str(),
            host.runtime.as_str()
        ),
        ("bridge", "no", "private", "runc")
    );
    assert_eq!(
        (host.shm_size, host.log_config.driver.as_str(), host.console_size),
        (67_108_864, "json-file", [24, 80])
    );
    assert_eq!((host.dns, host.binds), (Some(vec![]), None), "empty and absent stay apart");
    assert_eq!(read.networking_config.endpoints_config.keys().collect::<Vec<_>>(), ["default"]);
}
