//! The list of containers: shape, order, every filter, by version.

use std::time::Duration;

use e2e::api::{BUSYBOX, filters, script_body};
use e2e::sandbox::until;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    rows_have_dockers_shape,
    rows_differ_by_version,
    only_running_ones_unless_asked,
    newest_first_and_limited,
    sizes_on_request,
    by_status,
    by_exit_code,
    by_name,
    by_id,
    by_label,
    by_image,
    by_age,
    by_network,
    by_what_nobody_has,
    filters_in_both_encodings,
    bad_filters_are_refused,
];

/// Three containers that only this test has: by a label.
struct Three {
    label: String,
    created: Container,
    running: Container,
    exited: Container,
}

impl Three {
    fn make(api: &Api) -> Result<Self> {
        let label = unique("list");
        let body = |script: &str, number: &str| {
            let mut body = script_body(script);
            body["Labels"] = json!({"group": label, "number": number});
            body
        };
        let created = api.create(body("true", "1"))?;
        let running = api.create(body("sleep 1000", "2"))?;
        running.start()?;
        let exited = api.create(body("exit 3", "3"))?;
        exited.start()?;
        exited.wait()?;
        // dockerd's list may be a moment behind its wait.
        until(Duration::from_secs(10), "the exit in the list", || {
            exited.listed().is_ok_and(|row| row.is_some_and(|row| row["State"] == "exited"))
        })?;
        Ok(Self { label, created, running, exited })
    }

    /// Which of the three a query finds, in the order of the list.
    fn found(&self, api: &Api, query: &str, more: &[(&str, &str)]) -> Result<Vec<&'static str>> {
        let group = format!("group={}", self.label);
        let all: Vec<(&str, &str)> =
            more.iter().copied().chain([("label", group.as_str())]).collect();
        let list = api.get_json(&format!("/containers/json?{query}&{}", filters(&all)))?;
        let name = |row: &Value| {
            let id = row["Id"].as_str().unwrap_or_default();
            [(&self.created, "created"), (&self.running, "running"), (&self.exited, "exited")]
                .iter()
                .find_map(|(container, name)| (container.id == id).then_some(*name))
        };
        list.as_array()
            .context("not a list")?
            .iter()
            .map(|row| name(row).context("a stranger"))
            .collect()
    }
}

fn rows_have_dockers_shape(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({"Cmd": ["sh", "-c", "sleep 1000"], "Labels": {"a": "b"}}))?;
    container.start()?;
    let row = container.listed()?.context("not listed")?;
    ensure!(row["Names"] == json!([format!("/{}", container.name)]), "{row}");
    ensure!(row["Image"] == BUSYBOX, "{row}");
    ensure!(row["ImageID"] == container.inspect()?["Image"], "{row}");
    ensure!(row["Command"] == "sh -c 'sleep 1000'", "{row}");
    ensure!(row["Created"].as_i64().is_some_and(|time| time > 1_600_000_000), "{row}");
    ensure!(row["Ports"] == json!([]) && row["Mounts"] == json!([]), "{row}");
    ensure!(row["Labels"] == json!({"a": "b"}), "{row}");
    ensure!(row["HostConfig"]["NetworkMode"] == "bridge", "{row}");
    let endpoint = &row["NetworkSettings"]["Networks"]["bridge"];
    ensure!(endpoint["IPAddress"].as_str().is_some_and(|address| !address.is_empty()), "{row}");
    ensure!(endpoint["NetworkID"].as_str().is_some_and(|id| id.len() == 64), "{row}");
    ensure!(row.get("SizeRw").is_none() && row.get("SizeRootFs").is_none(), "{row}");
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    // compose decides by the network's id whether to make a container anew.
    until(Duration::from_secs(20), "an address that is free again", || {
        let row = container.listed().ok().flatten().unwrap_or_default();
        let endpoint = &row["NetworkSettings"]["Networks"]["bridge"];
        endpoint["NetworkID"].as_str().is_some_and(|id| id.len() == 64)
            && endpoint["IPAddress"] == ""
    })?;
    Ok(())
}

fn rows_differ_by_version(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let row = |version: &str| -> Result<Value> {
        let list = api.at(version).get_json("/containers/json?all=1")?;
        let found = list
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["Id"] == container.id.as_str())
            .cloned();
        found.context("not listed")
    };
    ensure!(
        row("1.47")?.get("ImageManifestDescriptor").is_none(),
        "ImageManifestDescriptor at 1.47"
    );
    ensure!(
        row("1.48")?.get("ImageManifestDescriptor").is_some(),
        "no ImageManifestDescriptor at 1.48"
    );
    ensure!(row("1.51")?.get("Health").is_none(), "Health at 1.51");
    ensure!(row("1.52")?["Health"]["Status"] == "none", "{}", row("1.52")?["Health"]);
    Ok(())
}

fn only_running_ones_unless_asked(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    ensure!(three.found(&api, "", &[])? == ["running"]);
    ensure!(three.found(&api, "all=0", &[])? == ["running"]);
    ensure!(three.found(&api, "all=true", &[])? == ["exited", "running", "created"]);
    Ok(())
}

fn newest_first_and_limited(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    ensure!(
        three.found(&api, "limit=2", &[])? == ["exited", "running"],
        "a limit shows all states"
    );
    ensure!(three.found(&api, "limit=0", &[])? == ["running"]);
    let message = api.get("/containers/json?limit=x")?.expect_error(400)?;
    ensure!(!message.is_empty());
    Ok(())
}

fn sizes_on_request(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.run_script("head -c 100000 /dev/zero > /file")?;
    container.wait()?;
    let list = api.get_json(&format!(
        "/containers/json?all=1&size=1&{}",
        filters(&[("id", &container.id)])
    ))?;
    ensure!(list[0]["SizeRw"].as_i64().is_some_and(|size| size >= 100_000), "{list}");
    ensure!(list[0]["SizeRootFs"].as_i64() > list[0]["SizeRw"].as_i64(), "{list}");
    let seen = api.get_json(&container.path("/json?size=1"))?;
    ensure!(seen["SizeRw"].as_i64().is_some_and(|size| size >= 100_000), "{}", seen["SizeRw"]);
    Ok(())
}

fn by_status(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    for name in ["created", "running", "exited"] {
        ensure!(
            three.found(&api, "", &[("status", name)])? == [name],
            "a status filter shows all states"
        );
    }
    ensure!(
        three.found(&api, "", &[("status", "created"), ("status", "exited")])?
            == ["exited", "created"]
    );
    ensure!(three.found(&api, "", &[("status", "paused")])?.is_empty());
    let message = api
        .get(&format!("/containers/json?{}", filters(&[("status", "asleep")])))?
        .expect_error(400)?;
    ensure!(
        message.contains("invalid filter 'status=asleep'")
            || message.contains("invalid value for state (asleep)"),
        "{message}"
    );
    Ok(())
}

fn by_exit_code(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    ensure!(three.found(&api, "all=1", &[("exited", "3")])? == ["exited"]);
    ensure!(three.found(&api, "all=1", &[("exited", "4")])?.is_empty());
    ensure!(
        three.found(&api, "", &[("exited", "3")])?.is_empty(),
        "exited does not show all states"
    );
    let status = api.get(&format!("/containers/json?{}", filters(&[("exited", "x")])))?.status();
    ensure!((400..=500).contains(&status), "{status}");
    Ok(())
}

fn by_name(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    let name = &three.running.name;
    for pattern in [
        name.clone(),
        format!("^{name}$"),
        format!("^/{name}$"),
        format!("/{name}"),
        name[2..].to_owned(),
        format!("^{}.*", &name[..6]),
    ] {
        ensure!(three.found(&api, "", &[("name", &pattern)])?.contains(&"running"), "{pattern}");
    }
    ensure!(three.found(&api, "all=1", &[("name", "^nobody-has-this$")])?.is_empty());
    Ok(())
}

fn by_id(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    for id in [&three.exited.id, &three.exited.id[..12]] {
        ensure!(three.found(&api, "all=1", &[("id", id)])? == ["exited"], "{id}");
    }
    ensure!(three.found(&api, "all=1", &[("id", "0000000000000000")])?.is_empty());
    Ok(())
}

fn by_label(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    ensure!(
        three.found(&api, "all=1", &[("label", "number=2")])? == ["running"],
        "labels are AND-ed"
    );
    ensure!(three.found(&api, "all=1", &[("label", "number")])?.len() == 3, "a key alone");
    ensure!(three.found(&api, "all=1", &[("label", "number=9")])?.is_empty());
    Ok(())
}

fn by_image(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    let id = three.created.inspect()?["Image"].as_str().context("no image")?.to_owned();
    for image in
        ["busybox", BUSYBOX, "docker.io/library/busybox:latest", &id, &id["sha256:".len()..][..12]]
    {
        ensure!(three.found(&api, "all=1", &[("ancestor", image)])?.len() == 3, "ancestor={image}");
    }
    ensure!(three.found(&api, "all=1", &[("ancestor", "nobody-has-this")])?.is_empty());
    Ok(())
}

fn by_age(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    ensure!(three.found(&api, "all=1", &[("before", &three.running.name)])? == ["created"]);
    ensure!(three.found(&api, "all=1", &[("since", &three.running.id)])? == ["exited"]);
    let message = api
        .get(&format!("/containers/json?all=1&{}", filters(&[("before", "nobody-has-this")])))?
        .expect_error(404)?;
    ensure!(message == "No such container: nobody-has-this", "{message}");
    Ok(())
}

fn by_network(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    ensure!(three.found(&api, "all=1", &[("network", "none")])?.len() == 3);
    ensure!(three.found(&api, "all=1", &[("network", "bridge")])?.is_empty());
    let on_bridge = api.create(json!({"Cmd": ["true"]}))?;
    let list = api.get_json(&format!(
        "/containers/json?all=1&{}",
        filters(&[("network", "bridge"), ("id", &on_bridge.id)])
    ))?;
    ensure!(list[0]["Id"] == on_bridge.id.as_str(), "{list}");
    Ok(())
}

fn by_what_nobody_has(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    for (key, value) in [
        ("volume", "/nowhere"),
        ("publish", "80"),
        ("expose", "8000-8010/udp"),
        ("health", "healthy"),
        ("is-task", "true"),
    ] {
        ensure!(three.found(&api, "all=1", &[(key, value)])?.is_empty(), "{key}={value}");
    }
    ensure!(three.found(&api, "all=1", &[("health", "none")])?.len() == 3);
    ensure!(three.found(&api, "all=1", &[("is-task", "false")])?.len() == 3);
    Ok(())
}

fn filters_in_both_encodings(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let three = Three::make(&api)?;
    let label = e2e::api::encode(&json!({"label": [format!("group={}", three.label)]}).to_string());
    let list = api.get_json(&format!("/containers/json?all=1&filters={label}"))?;
    ensure!(list.as_array().is_some_and(|rows| rows.len() == 3), "{list}");
    api.get("/containers/json?filters=")?.expect(200)?;
    api.get("/containers/json?filters=%7B%7D")?.expect(200)?;
    Ok(())
}

fn bad_filters_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (encoded, words) in [
        ("nonsense", "invalid filter"),
        ("%5B%5D", "invalid filter"),
        ("%7B%22label%22%3A5%7D", "invalid filter"),
        ("%7B%22xyz%22%3A%7B%22a%22%3Atrue%7D%7D", "invalid filter 'xyz'"),
    ] {
        let message = api
            .get(&format!("/containers/json?filters={encoded}"))?
            .expect_error(400)
            .with_context(|| encoded.to_owned())?;
        ensure!(message.starts_with(words), "{encoded}: {message}");
    }
    Ok(())
}
