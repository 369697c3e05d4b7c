//! What create takes, keeps and refuses, and how inspect shows it.

use e2e::api::{BUSYBOX, script_body};
use e2e::{Context as _, Result, Rig, Test, ensure, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    create_answers_with_id_and_warnings,
    inspect_shows_what_was_asked,
    inspect_has_all_keys,
    inspect_differs_by_version,
    the_process_gets_what_was_asked,
    the_image_gives_what_is_not_asked,
    users_and_groups_by_name_and_number,
    keys_of_any_case_nulls_and_unknown_keys_pass,
    long_labels_come_back,
    // dockerd took them up to 28.
    strings_pass_for_lists.ours_only(),
    networks_none_host_and_bridge,
    a_name_in_the_path_may_have_a_slash,
];

fn create_answers_with_id_and_warnings(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let answer = api.post_json("/containers/create", &json!({"Image": BUSYBOX}))?.expect(201)?;
    ensure!(answer.head.header("content-type") == Some("application/json"), "{:?}", answer.head);
    ensure!(answer.text().ends_with('\n'), "JSON ends in a newline");
    let answer = answer.json()?;
    let id = answer["Id"].as_str().context("no Id")?;
    ensure!(
        id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "{id}"
    );
    ensure!(answer["Warnings"] == json!([]), "{answer}");
    // Without a name it gets one: adjective_surname.
    let name = api.get_json(&format!("/containers/{id}/json"))?["Name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure!(name.starts_with('/') && name.contains('_'), "{name}");
    api.delete(&format!("/containers/{id}"))?.expect(204)?;
    Ok(())
}

fn asked() -> Value {
    json!({
        "Cmd": ["-c", "exit 0"],
        "Entrypoint": ["/bin/sh"],
        "Env": ["A=1", "EMPTY=", "B=x y"],
        "WorkingDir": "/tmp",
        "User": "1000:1000",
        "Labels": {"com.example/key": "value \"quoted\"\n", "empty": ""},
        "Tty": true,
        "OpenStdin": true,
        "StdinOnce": true,
        "AttachStdin": true,
        "HostConfig": {"NetworkMode": "none"},
    })
}

fn inspect_shows_what_was_asked(rig: &Rig) -> Result<()> {
    let container = rig.host()?.api().create(asked())?;
    let seen = container.inspect()?;
    for (key, value) in asked().as_object().into_iter().flatten() {
        match key.as_str() {
            "Env" | "HostConfig" => {}
            _ => ensure!(seen["Config"][key] == *value, "{key}: {}", seen["Config"][key]),
        }
    }
    let env = seen["Config"]["Env"].as_array().context("no Env")?;
    for pair in ["A=1", "EMPTY=", "B=x y"] {
        ensure!(env.contains(&json!(pair)), "{env:?}");
    }
    ensure!(
        env.iter().any(|pair| pair.as_str().is_some_and(|pair| pair.starts_with("PATH="))),
        "{env:?}"
    );
    ensure!(seen["Config"]["Image"] == BUSYBOX, "{}", seen["Config"]["Image"]);
    ensure!(
        seen["Path"] == "/bin/sh" && seen["Args"] == json!(["-c", "exit 0"]),
        "{} {}",
        seen["Path"],
        seen["Args"]
    );
    ensure!(seen["Name"] == format!("/{}", container.name), "{}", seen["Name"]);
    ensure!(seen["Id"] == container.id.as_str());
    ensure!(seen["HostConfig"]["NetworkMode"] == "none", "{}", seen["HostConfig"]["NetworkMode"]);
    ensure!(seen["Config"]["Hostname"] == container.id[..12], "{}", seen["Config"]["Hostname"]);
    let state = &seen["State"];
    ensure!(
        state["Status"] == "created" && state["Running"] == false && state["Pid"] == 0,
        "{state}"
    );
    ensure!(
        state["StartedAt"] == "0001-01-01T00:00:00Z"
            && state["FinishedAt"] == "0001-01-01T00:00:00Z",
        "{state}"
    );
    Ok(())
}

const TOP: &[&str] = &[
    "Id",
    "Created",
    "Path",
    "Args",
    "State",
    "Image",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "Name",
    "RestartCount",
    "Driver",
    "Platform",
    "MountLabel",
    "ProcessLabel",
    "AppArmorProfile",
    "ExecIDs",
    "HostConfig",
    "Mounts",
    "Config",
    "NetworkSettings",
];
const STATE: &[&str] = &[
    "Status",
    "Running",
    "Paused",
    "Restarting",
    "OOMKilled",
    "Dead",
    "Pid",
    "ExitCode",
    "Error",
    "StartedAt",
    "FinishedAt",
];
const CONFIG: &[&str] = &[
    "Hostname",
    "Domainname",
    "User",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Env",
    "Cmd",
    "Image",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "Labels",
];
const HOST_CONFIG: &[&str] = &[
    "Binds",
    "ContainerIDFile",
    "LogConfig",
    "NetworkMode",
    "PortBindings",
    "RestartPolicy",
    "AutoRemove",
    "VolumeDriver",
    "VolumesFrom",
    "ConsoleSize",
    "CapAdd",
    "CapDrop",
    "CgroupnsMode",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "IpcMode",
    "Cgroup",
    "Links",
    "OomScoreAdj",
    "PidMode",
    "Privileged",
    "PublishAllPorts",
    "ReadonlyRootfs",
    "SecurityOpt",
    "UTSMode",
    "UsernsMode",
    "ShmSize",
    "Isolation",
    "CpuShares",
    "Memory",
    "NanoCpus",
    "CgroupParent",
    "BlkioWeight",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpusetCpus",
    "CpusetMems",
    "Devices",
    "DeviceCgroupRules",
    "DeviceRequests",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "Ulimits",
    "CpuCount",
    "CpuPercent",
    "IOMaximumIOps",
    "IOMaximumBandwidth",
    "MaskedPaths",
    "ReadonlyPaths",
];

fn missing<'a>(value: &Value, keys: &[&'a str]) -> Vec<&'a str> {
    keys.iter().filter(|key| value.get(**key).is_none()).copied().collect()
}

fn inspect_has_all_keys(rig: &Rig) -> Result<()> {
    let container = rig.host()?.api().create(json!({"Cmd": ["true"]}))?;
    let seen = container.inspect()?;
    for (value, keys) in [
        (&seen, TOP),
        (&seen["State"], STATE),
        (&seen["Config"], CONFIG),
        (&seen["HostConfig"], HOST_CONFIG),
        (&seen["NetworkSettings"], &["SandboxID", "SandboxKey", "Ports", "Networks"]),
    ] {
        let missing = missing(value, keys);
        ensure!(missing.is_empty(), "no {missing:?} in {value}");
    }
    let config = &seen["HostConfig"];
    for (key, value) in [
        ("NetworkMode", json!("bridge")),
        ("RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
        ("IpcMode", json!("private")),
        ("ShmSize", json!(67_108_864)),
        ("Runtime", json!("runc")),
        ("LogConfig", json!({"Type": "json-file", "Config": {}})),
        ("PortBindings", json!({})),
        ("ConsoleSize", json!([0, 0])),
        ("Binds", Value::Null),
        ("MemorySwappiness", Value::Null),
    ] {
        ensure!(config[key] == value, "{key}: {}", config[key]);
    }
    ensure!(
        config["MaskedPaths"].as_array().is_some_and(|paths| !paths.is_empty()),
        "{}",
        config["MaskedPaths"]
    );
    ensure!(seen["Config"]["Labels"] == json!({}), "{}", seen["Config"]["Labels"]);
    ensure!(
        seen["Config"]["Entrypoint"].is_null() && seen["Config"]["Volumes"].is_null(),
        "{}",
        seen["Config"]
    );
    ensure!(
        seen["Mounts"] == json!([]) && seen["ExecIDs"].is_null() && seen["Platform"] == "linux",
        "{seen}"
    );
    ensure!(seen["NetworkSettings"]["Ports"] == json!({}), "{}", seen["NetworkSettings"]);
    let endpoint = &seen["NetworkSettings"]["Networks"]["bridge"];
    ensure!(endpoint.is_object() && endpoint["IPAddress"] == "", "{}", seen["NetworkSettings"]);
    let image = container.api().get_json(&format!("/images/{BUSYBOX}/json"))?;
    ensure!(seen["Image"] == image["Id"], "{}", seen["Image"]);
    Ok(())
}

fn inspect_differs_by_version(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({"Cmd": ["sleep", "1000"]}))?;
    container.start()?;
    let at = |version: &str| api.at(version).get_json(&container.path("/json"));
    let (old, new) = (at("1.51")?, at("1.52")?);
    for key in [
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ] {
        ensure!(old["NetworkSettings"].get(key).is_some(), "no {key} below 1.52");
        ensure!(new["NetworkSettings"].get(key).is_none(), "{key} at 1.52");
    }
    ensure!(
        old["NetworkSettings"]["IPAddress"]
            == old["NetworkSettings"]["Networks"]["bridge"]["IPAddress"],
        "{old}"
    );
    ensure!(old.get("GraphDriver").is_some() && new.get("GraphDriver").is_none(), "GraphDriver");
    ensure!(new["Storage"]["RootFS"]["Snapshot"]["Name"].is_string(), "{}", new["Storage"]);
    ensure!(
        at("1.47")?.get("ImageManifestDescriptor").is_none()
            && at("1.48")?.get("ImageManifestDescriptor").is_some(),
        "ImageManifestDescriptor"
    );
    let endpoint = |version: &str| -> Result<Value> {
        Ok(at(version)?["NetworkSettings"]["Networks"]["bridge"].clone())
    };
    ensure!(endpoint("1.44")?.get("DNSNames").is_some(), "DNSNames");
    ensure!(endpoint("1.48")?.get("GwPriority").is_some(), "GwPriority");
    Ok(())
}

fn the_process_gets_what_was_asked(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["pwd; id -u; id -g; echo $A/$EMPTY/$B; hostname; echo $HOME; cat /proc/1/comm; echo oops >&2"],
        "Env": ["A=1", "EMPTY=", "B=x y"],
        "WorkingDir": "/tmp/new/dir",
        "User": "12:34",
        "HostConfig": {"NetworkMode": "none"},
    }))?;
    container.start()?;
    ensure!(container.wait()? == 0);
    let output = container.logs("")?;
    let expected = format!("/tmp/new/dir\n12\n34\n1//x y\n{}\n/\nsh\n", &container.id[..12]);
    ensure!(output.text() == expected, "{output:?}");
    ensure!(output.error_text() == "oops\n", "{output:?}");
    Ok(())
}

fn the_image_gives_what_is_not_asked(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have("nginx:latest")?;
    let image = api.get_json("/images/nginx:latest/json")?;
    let network = json!({"NetworkMode": "none"});
    let plain = api.create(json!({"Image": "nginx:latest", "HostConfig": network}))?.inspect()?;
    for key in ["Cmd", "Env", "ExposedPorts", "WorkingDir", "Entrypoint", "StopSignal"] {
        let (given, of_image) = (&plain["Config"][key], &image["Config"][key]);
        let same = given == of_image || (of_image.is_null() && (given == "" || given.is_null()));
        ensure!(same, "{key}: {given}, and the image has {of_image}");
    }
    // An entrypoint of one's own drops the image's command.
    let own = api
        .create(
            json!({"Image": "nginx:latest", "Entrypoint": ["/bin/true"], "HostConfig": network}),
        )?
        .inspect()?;
    ensure!(
        own["Path"] == "/bin/true" && own["Args"] == json!([]),
        "{} {}",
        own["Path"],
        own["Args"]
    );
    Ok(())
}

fn users_and_groups_by_name_and_number(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (user, expected) in [
        ("", "0 0"),
        ("nobody", "65534 65534"),
        ("www-data", "33 33"),
        ("www-data:adm", "33 4"),
        ("1234", "1234 0"),
        ("1234:5678", "1234 5678"),
        ("0:adm", "0 4"),
    ] {
        let mut body = script_body("echo $(id -u) $(id -g)");
        body["User"] = json!(user);
        let container = api.create(body)?;
        container.start().with_context(|| user.to_owned())?;
        container.wait()?;
        let seen = container.logs("")?.text();
        ensure!(seen.trim() == expected, "user {user:?} is {seen:?}");
    }
    Ok(())
}

fn keys_of_any_case_nulls_and_unknown_keys_pass(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let body = format!(
        r#"{{"image":"{BUSYBOX}","CMD":["echo","hi"],"entrypoint":null,"Labels":null,"hostconfig":{{"networkmode":"none","BINDS":null,
            "Whatever":1}},"NetworkingConfig":null,"Unknown":{{"a":[1]}}}}"#
    );
    let request = api
        .request("POST", "/containers/create")
        .header("Content-Type", "application/json; charset=utf-8");
    let answer = api.send(&request.bytes(body))?.expect(201)?.json()?;
    let id = answer["Id"].as_str().context("no Id")?;
    let seen = api.get_json(&format!("/containers/{id}/json"))?;
    ensure!(
        seen["Config"]["Cmd"] == json!(["echo", "hi"])
            && seen["HostConfig"]["NetworkMode"] == "none",
        "{seen}"
    );
    api.delete(&format!("/containers/{id}"))?.expect(204)?;
    Ok(())
}

fn long_labels_come_back(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let labels = json!({
        "devcontainer.metadata": format!("[{}]", "{\"a\": 1},".repeat(2_000)),
        "dots.and/slashes": "ü \\ \" \t",
        "empty": "",
    });
    let mut body = script_body("true");
    body["Labels"] = labels.clone();
    let container = api.create(body)?;
    ensure!(
        container.inspect()?["Config"]["Labels"] == labels,
        "{}",
        container.inspect()?["Config"]["Labels"]
    );
    let row = container.listed()?.context("not listed")?;
    ensure!(row["Labels"] == labels, "{}", row["Labels"]);
    Ok(())
}

fn strings_pass_for_lists(rig: &Rig) -> Result<()> {
    let container = rig.host()?.api().create(
        json!({"Entrypoint": "echo", "Cmd": "hi", "HostConfig": {"NetworkMode": "none"}}),
    )?;
    let seen = container.inspect()?;
    ensure!(
        seen["Path"] == "echo" && seen["Args"] == json!(["hi"]),
        "{} {}",
        seen["Path"],
        seen["Args"]
    );
    Ok(())
}

fn networks_none_host_and_bridge(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let run = |network: &str, script: &str| -> Result<(String, Value)> {
        let container = host
            .api()
            .create(json!({"Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": network}}))?;
        container.start()?;
        container.until_logged("end")?;
        let seen = container.inspect()?;
        Ok((container.logs("")?.text(), seen))
    };
    let script = "ls /sys/class/net | tr '\\n' ' '; ip -4 addr show eth0 2>/dev/null; cat /etc/hosts; echo end; sleep 1000";
    let (text, seen) = run("none", script)?;
    ensure!(text.starts_with("lo \n") || text.starts_with("lo "), "{text}");
    ensure!(!text.contains("eth0"), "{text}");
    ensure!(seen["NetworkSettings"]["Networks"]["none"].is_object(), "{}", seen["NetworkSettings"]);
    for network in ["bridge", "default"] {
        let (text, seen) = run(network, script)?;
        let address = seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(
            !address.is_empty() && text.contains(&format!("inet {address}/")),
            "{address}: {text}"
        );
        let short = &seen["Id"].as_str().unwrap_or_default()[..12];
        let named = |line: &str| line.split_whitespace().take(2).eq([address.as_str(), short]);
        ensure!(text.lines().any(named), "{text}");
        ensure!(
            seen["HostConfig"]["NetworkMode"] == "bridge",
            "{}",
            seen["HostConfig"]["NetworkMode"]
        );
        let endpoint = &seen["NetworkSettings"]["Networks"]["bridge"];
        for key in ["Gateway", "MacAddress", "NetworkID", "EndpointID"] {
            ensure!(
                endpoint[key].as_str().is_some_and(|text| !text.is_empty()),
                "{key}: {endpoint}"
            );
        }
        ensure!(endpoint["IPPrefixLen"].as_u64().is_some_and(|bits| bits > 8), "{endpoint}");
    }
    let (text, seen) = run("host", script)?;
    ensure!(!text.starts_with("eth0 lo"), "{text}");
    ensure!(
        seen["NetworkSettings"]["Networks"]["host"]["IPAddress"] == "",
        "{}",
        seen["NetworkSettings"]
    );
    Ok(())
}

fn a_name_in_the_path_may_have_a_slash(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    if rig.host()?.is_ours() {
        // dockerd's router cleans a double slash away, and redirects.
        api.get_json(&format!("/containers/%2F{}/json", container.name))?;
    }
    for form in [container.name.clone(), container.id.clone(), container.id[..12].to_owned()] {
        let seen =
            api.get_json(&format!("/containers/{form}/json")).with_context(|| form.clone())?;
        ensure!(seen["Id"] == container.id.as_str(), "{form}");
    }
    let message = api.get("/containers/nobody-has-this/json")?.expect_error(404)?;
    ensure!(message == "No such container: nobody-has-this", "{message}");
    Ok(())
}
