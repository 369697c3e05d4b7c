//! What create refuses, in which words; nothing changes then.

use e2e::api::{BUSYBOX, script_body};
use e2e::{Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    malformed_bodies_are_refused,
    odd_content_types_are_refused,
    // dockerd has no bound.
    bodies_over_the_bound_are_refused.ours_only(),
    senseless_requests_are_refused,
    what_makes_no_sense_is_refused_in_dockers_words,
    arguments_that_are_too_long_end_it,
    an_unknown_image_is_the_cue_to_pull,
    bad_names_are_refused,
    a_taken_name_is_refused,
    a_failed_create_leaves_no_name,
    // They steer nobody there.
    labels_that_steer_others_are_refused.ours_only(),
    an_unknown_user_is_refused,
    an_ambiguous_prefix_is_refused,
];

fn malformed_bodies_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let create = |body: &str| {
        api.send(
            &api.request("POST", "/containers/create")
                .header("Content-Type", "application/json")
                .bytes(body),
        )
    };
    for (body, words) in [
        ("{", "invalid JSON"),
        ("nonsense", "invalid JSON"),
        ("[]", "invalid JSON"),
        ("\"x\"", "invalid JSON"),
        (r#"{"Image":5}"#, "invalid JSON"),
        (r#"{"Image":"busybox","Tty":"yes"}"#, "invalid JSON"),
        (r#"{"Image":"busybox","HostConfig":[]}"#, "invalid JSON"),
        (r#"{"Image":"busybox"} trailing"#, "unexpected content after JSON"),
        ("", "EOF"),
        ("null", "config cannot be empty in order to create a container"),
        ("{}", "config cannot be empty in order to create a container"),
        (r#"{"HostConfig":{}}"#, "config cannot be empty in order to create a container"),
    ] {
        let message = create(body)?.expect_error(400).with_context(|| format!("body {body:?}"))?;
        ensure!(message.contains(words), "body {body:?}: {message}");
    }
    Ok(())
}

fn odd_content_types_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let body = json!({"Image": BUSYBOX}).to_string();
    for (content_type, words) in [
        (
            Some("text/plain"),
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        (Some("application/x-www-form-urlencoded"), "unsupported Content-Type header"),
        (Some("application/json; ="), "malformed Content-Type header"),
        (None, "Content-Type"),
    ] {
        let mut request = api.request("POST", "/containers/create");
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        let message = api
            .send(&request.bytes(body.clone()))?
            .expect_error(400)
            .with_context(|| format!("{content_type:?}"))?;
        ensure!(message.contains(words), "{content_type:?}: {message}");
    }
    Ok(())
}

fn bodies_over_the_bound_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let body = json!({"Image": BUSYBOX, "Cmd": ["x".repeat(64 << 20)]});
    let mut connection = api.connect()?;
    // The daemon may hang up before it has read all of it, but not before it has answered.
    let _ = connection.send(&api.request("POST", "/containers/create").json(&body));
    let head = connection.head()?;
    ensure!((400..500).contains(&head.status), "{head:?}");
    ensure!(api.answers());
    Ok(())
}

fn senseless_requests_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have("hello-world:latest")?;
    let create = |body: Value| api.post_json("/containers/create", &body);
    let message = create(json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}}))?.expect_error(400)?;
    ensure!(message == "can't create 'AutoRemove' container with restart policy", "{message}");
    for (image, status) in [("UPPER", 400), ("a b", 400)] {
        let message = create(json!({"Image": image, "Cmd": ["true"]}))?
            .expect_error(status)
            .with_context(|| image.to_owned())?;
        ensure!(!message.is_empty());
    }
    let message = create(json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"RestartPolicy": {"Name": "sometimes"}}}))?.expect_error(400)?;
    ensure!(message.contains("sometimes"), "{message}");
    Ok(())
}

/// A field of the request or of its `HostConfig`, and the text; nothing is made.
fn what_makes_no_sense_is_refused_in_dockers_words(rig: &Rig) -> Result<()> {
    const GIB: i64 = 1 << 30;
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let name = unique("senseless");
    let second = 1_000_000_000_i64;
    let config = [
        (
            json!({"WorkingDir": "here"}),
            "the working directory 'here' is invalid, it needs to be an absolute path",
        ),
        (json!({"Env": ["=x"]}), "invalid environment variable: =x"),
        (json!({"Env": [""]}), "invalid environment variable: "),
        (json!({"StopSignal": "SIGNOTHING"}), "invalid signal: SIGNOTHING"),
        (json!({"Hostname": "a".repeat(65)}), "is too long (maximum 64 bytes)"),
        (
            json!({"Healthcheck": {"Interval": 1}}),
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (
            json!({"Healthcheck": {"Timeout": -second}}),
            "Timeout in Healthcheck cannot be less than 1ms",
        ),
        (
            json!({"Healthcheck": {"StartPeriod": 1}}),
            "StartPeriod in Healthcheck cannot be less than 1ms",
        ),
        (
            json!({"Healthcheck": {"StartInterval": 1}}),
            "StartInterval in Healthcheck cannot be less than 1ms",
        ),
        (json!({"Healthcheck": {"Retries": -1}}), "Retries in Healthcheck cannot be negative"),
    ];
    let host = [
        (
            json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}),
            "invalid restart policy: maximum retry count cannot be negative",
        ),
        (
            json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}}),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            json!({"CapAdd": ["CAP_NOTHING"]}),
            r#"invalid CapAdd: unknown capability: "CAP_NOTHING""#,
        ),
        (json!({"CapDrop": ["NOTHING"]}), r#"invalid CapDrop: unknown capability: "CAP_NOTHING""#),
        (
            json!({"Annotations": {"": "x"}}),
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ),
        (json!({"ExtraHosts": ["x"]}), r#"bad format for add-host: "x""#),
        (json!({"ExtraHosts": ["x:y"]}), r#"invalid IP address in add-host: "y""#),
        (json!({"UTSMode": "x"}), "invalid UTS mode: x"),
        (json!({"IpcMode": "x"}), "invalid IPC mode: x"),
        (json!({"PidMode": "x"}), "invalid PID mode: x"),
        (json!({"CgroupnsMode": "x"}), "invalid cgroup namespace mode: x"),
        (
            json!({"Isolation": "hyperv"}),
            "invalid isolation (hyperv): linux only supports 'default'",
        ),
        (json!({"ShmSize": -1}), "SHM size can not be less than 0"),
        (
            json!({"OomScoreAdj": 1001}),
            "Invalid value 1001, range for oom score adj is [-1000, 1000]",
        ),
        (json!({"Memory": 1}), "Minimum memory limit allowed is 6MB"),
        (
            json!({"Memory": 2 * GIB, "MemorySwap": GIB}),
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            json!({"MemorySwap": GIB}),
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            json!({"MemorySwappiness": 101}),
            "Invalid value: 101, valid memory swappiness range is 0-100",
        ),
        (json!({"MemoryReservation": 1}), "Minimum memory reservation allowed is 6MB"),
        (
            json!({"Memory": GIB, "MemoryReservation": 2 * GIB}),
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            json!({"NanoCpus": second, "CpuPeriod": 100_000}),
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            json!({"NanoCpus": second, "CpuQuota": 100_000}),
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (json!({"NanoCpus": 10_000 * second}), "ange of CPUs is from 0.01 to "),
        (
            json!({"CpuPeriod": 1}),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (json!({"CpuQuota": 1}), "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (json!({"CpuShares": -1}), "invalid CPU shares (-1): value must be a positive integer"),
        (json!({"CpusetCpus": "x"}), "Invalid value x for cpuset cpus"),
        (
            json!({"CpusetCpus": "4000"}),
            "Requested CPUs are not available - requested 4000, available: ",
        ),
        (json!({"CpusetMems": "x"}), "Invalid value x for cpuset mems"),
        (
            json!({"IOMaximumIOps": 1}),
            "invalid option: QoS maximum IOPs configuration is not supported on linux",
        ),
        (
            json!({"NetworkMode": "container:x", "Links": ["a:b"]}),
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ),
        (json!({"Tmpfs": {"x": ""}}), "invalid mount path"),
        (
            json!({"LogConfig": {"Type": "json-file", "Config": {"x": "y"}}}),
            "unknown log opt 'x' for json-file log driver",
        ),
    ];
    let host = host.map(|(part, words)| (json!({"HostConfig": part}), words));
    for (mut body, words) in config.into_iter().chain(host) {
        body["Image"] = json!(BUSYBOX);
        let refused =
            api.post_json(&format!("/containers/create?name={name}"), &body)?.expect_error(400);
        let message = refused.with_context(|| body.to_string())?;
        ensure!(message.contains(words), "{body}: {message}");
    }
    api.get(&format!("/containers/{name}/json"))?.expect_error(404)?;
    Ok(())
}

/// Longer than the kernel takes: that is found out after the start, as with dockerd.
fn arguments_that_are_too_long_end_it(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({"Cmd": ["echo", "x".repeat(1 << 20)]}))?;
    container.start()?;
    ensure!(container.wait()? != 0, "it has run");
    ensure!(container.status()? == "exited", "{}", container.status()?);
    Ok(())
}

fn an_unknown_image_is_the_cue_to_pull(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (image, shown) in [
        ("nobody-has-this", "nobody-has-this:latest"),
        ("a/b:1", "a/b:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
    ] {
        let message = api
            .post_json("/containers/create", &json!({"Image": image, "Cmd": ["true"]}))?
            .expect_error(404)?;
        ensure!(message == format!("No such image: {shown}"), "{message}");
    }
    Ok(())
}

fn bad_names_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    for name in ["a", "-x", "_x", "a%20b", "a%2Fb", "%2F", "x%0A"] {
        let response =
            api.post_json(&format!("/containers/create?name={name}"), &json!({"Image": BUSYBOX}))?;
        let message = response.expect_error(400).with_context(|| name.to_owned())?;
        ensure!(
            message.starts_with("Invalid container name (")
                && message.ends_with("), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
            "{message}"
        );
    }
    Ok(())
}

fn a_taken_name_is_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let first = api.create(script_body("true"))?;
    let again = api.post_json(
        &format!("/containers/create?name={}", first.name),
        &json!({"Image": BUSYBOX, "Cmd": ["true"]}),
    )?;
    let message = again.expect_error(409)?;
    let text = format!(
        "Conflict. The container name \"/{}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
        first.name, first.id
    );
    ensure!(message == text, "{message}");
    first.remove()?;
    api.create_named(&first.name, script_body("true"))?;
    Ok(())
}

fn a_failed_create_leaves_no_name(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("failed");
    let path = format!("/containers/create?name={name}");
    api.post_json(&path, &json!({"Image": "nobody-has-this"}))?.expect_error(404)?;
    api.post_json(&path, &json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"NetworkMode": "nobody-has-this-net"}}))?;
    api.delete(&format!("/containers/{name}"))?;
    api.create_named(&name, script_body("true"))?;
    Ok(())
}

fn labels_that_steer_others_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    for label in [
        "nerdctl/networks",
        "containerd.io/restart.status",
        "io.containerd.x",
        "io.cri-containerd.kind",
        "io.kubernetes.pod.name",
    ] {
        let mut body = json!({"Image": BUSYBOX, "Cmd": ["true"]});
        body["Labels"][label] = json!("x");
        let message = api
            .post_json("/containers/create", &body)?
            .expect_error(400)
            .with_context(|| label.to_owned())?;
        ensure!(message.contains(label), "{message}");
    }
    Ok(())
}

fn an_unknown_user_is_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let name = unique("stranger");
    let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "User": "nobody-has-this"});
    let mut response = api.post_json(&format!("/containers/create?name={name}"), &body)?;
    if response.status() == 201 {
        // dockerd finds out at the start, and forgets whose fault it is.
        response = api.post(&format!("/containers/{name}/start"))?;
        api.delete(&format!("/containers/{name}"))?.expect(204)?;
    }
    ensure!(matches!(response.status(), 400 | 500), "{}", response.text());
    let message = response.message();
    ensure!(
        message.contains("unable to find user nobody-has-this: no matching entries in passwd file"),
        "{message}"
    );
    Ok(())
}

fn an_ambiguous_prefix_is_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    // Seventeen ids have two with the same first digit.
    let containers =
        (0..17).map(|_| api.create(script_body("true"))).collect::<Result<Vec<_>>>()?;
    let mut firsts: Vec<&str> = containers.iter().map(|container| &container.id[..1]).collect();
    firsts.sort_unstable();
    let twice =
        firsts.windows(2).find(|pair| pair[0] == pair[1]).context("17 ids and 16 digits")?[0];
    for (method, rest) in [("GET", "/json"), ("POST", "/start"), ("DELETE", "")] {
        let message = api
            .send(&api.request(method, &format!("/containers/{twice}{rest}")))?
            .expect_error(400)?;
        ensure!(
            message == format!("multiple IDs found with provided prefix: {twice}"),
            "{message}"
        );
    }
    Ok(())
}
