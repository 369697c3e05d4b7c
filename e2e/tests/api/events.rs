//! `/events`: live from its head on, in Docker's order and shape, replayed and filtered.

use std::time::Duration;

use e2e::api::{filters, script_body};
use e2e::http::Stream;
use e2e::{Api, Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    the_head_comes_at_once,
    content_types_differ_by_version,
    a_life_from_create_to_destroy,
    events_on_the_bridge,
    kill_and_stop_are_told,
    an_end_of_its_own_is_no_stop,
    auto_removal_is_told,
    attaching_is_told,
    images_come_and_go,
    filters_choose,
    unknown_filters_are_ignored,
    the_past_is_replayed,
    bad_times_are_refused,
    older_versions_have_legacy_fields,
    bollard_reads_events,
];

/// Events of one name, live.
fn events_of(api: &Api, name: &str) -> Result<Stream> {
    let stream =
        api.stream(&api.request("GET", &format!("/events?{}", filters(&[("container", name)]))))?;
    ensure!(stream.head.status == 200, "{:?}", stream.head);
    Ok(stream)
}

/// Reads until an action, and gives all that came, it included.
fn until(stream: &mut Stream, action: &str) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    loop {
        let event = stream.next_json().with_context(|| format!("before {action}: {seen:?}"))?;
        let event = event.with_context(|| format!("the stream ends before {action}: {seen:?}"))?;
        seen.push(event);
        if seen.last().is_some_and(|event| event["Action"] == action) {
            return Ok(seen);
        }
    }
}

fn actions(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["Action"].as_str()).collect()
}

fn the_head_comes_at_once(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let request =
        api.request("GET", &format!("/events?{}", filters(&[("container", "nobody-has-this")])));
    let mut connection = api.connect()?;
    connection.send(&request)?;
    connection.patience(Duration::from_secs(5))?;
    ensure!(connection.head()?.status == 200);
    Ok(())
}

fn content_types_differ_by_version(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (version, accept, kind) in [
        ("1.51", None, "application/json"),
        ("1.52", None, "application/jsonl"),
        ("1.52", Some("application/x-ndjson"), "application/x-ndjson"),
        ("1.52", Some("application/json-seq"), "application/json-seq"),
        ("1.52", Some("application/jsonl"), "application/jsonl"),
        ("1.52", Some("*/*"), "application/jsonl"),
    ] {
        let at = api.at(version);
        let name = unique("kinds");
        let mut request =
            at.request("GET", &format!("/events?{}", filters(&[("container", &name)])));
        if let Some(accept) = accept {
            request = request.header("Accept", accept);
        }
        let mut stream = at.stream(&request)?;
        ensure!(
            stream.head.header("content-type") == Some(kind),
            "{version} {accept:?}: {:?}",
            stream.head
        );
        let _container = api.create_named(&name, script_body("true"))?;
        ensure!(stream.next_json()?.context("no event")?["Action"] == "create");
    }
    Ok(())
}

fn a_life_from_create_to_destroy(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("life");
    let mut stream = events_of(&api, &name)?;
    let mut body = script_body("exit 3");
    body["Labels"] = json!({"a": "b", "com.docker.compose.project": "p"});
    let container = api.create_named(&name, body)?;
    container.start()?;
    container.wait()?;
    container.remove()?;
    let events: Vec<Value> = until(&mut stream, "destroy")?
        .into_iter()
        .filter(|event| event["Type"] == "container")
        .collect();
    ensure!(actions(&events) == ["create", "start", "die", "destroy"], "{events:?}");
    for event in &events {
        ensure!(
            event["Actor"]["ID"] == container.id.as_str() && event["scope"] == "local",
            "{event}"
        );
        let attributes = &event["Actor"]["Attributes"];
        ensure!(
            attributes["image"] == "busybox:latest" && attributes["name"] == name.as_str(),
            "{event}"
        );
        ensure!(
            attributes["a"] == "b" && attributes["com.docker.compose.project"] == "p",
            "{event}"
        );
        let (seconds, nanos) = (
            event["time"].as_i64().context("time")?,
            event["timeNano"].as_i64().context("timeNano")?,
        );
        ensure!(nanos / 1_000_000_000 == seconds, "{event}");
        ensure!(
            event.get("status").is_none()
                && event.get("id").is_none()
                && event.get("from").is_none(),
            "{event}"
        );
    }
    let die = &events[2]["Actor"]["Attributes"];
    ensure!(
        die["exitCode"] == "3"
            && die["execDuration"].as_str().is_some_and(|text| text.parse::<u32>().is_ok()),
        "{die}"
    );
    let times: Vec<_> = events.iter().map(|event| event["timeNano"].as_i64()).collect();
    ensure!(times.is_sorted(), "{times:?}");
    Ok(())
}

fn events_on_the_bridge(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("bridge");
    let mut stream = api.stream(&api.request("GET", "/events"))?;
    let container = api.create_named(&name, json!({"Cmd": ["true"]}))?;
    container.start()?;
    container.wait()?;
    container.remove()?;
    let mut of_it = Vec::new();
    loop {
        let event = stream.next_json()?.context("the stream ends")?;
        let attributes = &event["Actor"]["Attributes"];
        if attributes["container"] == container.id.as_str()
            || event["Actor"]["ID"] == container.id.as_str()
        {
            of_it.push(format!(
                "{} {}",
                event["Type"].as_str().unwrap_or(""),
                event["Action"].as_str().unwrap_or("")
            ));
            if event["Type"] == "network" {
                ensure!(
                    attributes["name"] == "bridge" && attributes["type"] == "bridge",
                    "{event}"
                );
            }
            if event["Action"] == "destroy" {
                break;
            }
        }
    }
    let at = |what: &str| {
        of_it
            .iter()
            .position(|event| event == what)
            .with_context(|| format!("no {what}: {of_it:?}"))
    };
    ensure!(at("container create")? < at("network connect")?, "{of_it:?}");
    ensure!(at("network connect")? < at("container start")?, "{of_it:?}");
    ensure!(at("container start")? < at("network disconnect")?, "{of_it:?}");
    ensure!(at("network disconnect")? < at("container destroy")?, "{of_it:?}");
    Ok(())
}

fn kill_and_stop_are_told(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api
        .run_script("trap '' USR1; trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")?;
    container.until_logged("ready")?;
    let mut stream = events_of(&api, &container.name)?;
    container.post("/kill?signal=USR1")?.expect(204)?;
    let events = until(&mut stream, "kill")?;
    ensure!(events.last().context("none")?["Actor"]["Attributes"]["signal"] == "10", "{events:?}");
    container.post("/stop")?.expect(204)?;
    container.remove()?;
    let events = until(&mut stream, "destroy")?;
    let seen = actions(&events);
    ensure!(
        seen.first() == Some(&"kill") && seen.contains(&"stop") && seen.contains(&"die"),
        "{seen:?}"
    );
    ensure!(events[0]["Actor"]["Attributes"]["signal"] == "15", "{events:?}");
    // By force.
    let container = api.run_script("sleep 1000")?;
    let mut stream = events_of(&api, &container.name)?;
    container.remove()?;
    let events = until(&mut stream, "destroy")?;
    ensure!(actions(&events) == ["kill", "die", "destroy"], "{:?}", actions(&events));
    ensure!(events[0]["Actor"]["Attributes"]["signal"] == "9", "{events:?}");
    ensure!(events[1]["Actor"]["Attributes"]["exitCode"] == "137", "{events:?}");
    Ok(())
}

fn an_end_of_its_own_is_no_stop(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("end");
    let mut stream = events_of(&api, &name)?;
    let container = api.create_named(&name, script_body("true"))?;
    container.start()?;
    container.wait()?;
    container.start()?;
    container.wait()?;
    container.remove()?;
    let seen = until(&mut stream, "destroy")?;
    ensure!(
        actions(&seen) == ["create", "start", "die", "start", "die", "destroy"],
        "{:?}",
        actions(&seen)
    );
    Ok(())
}

fn auto_removal_is_told(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("auto");
    let mut stream = events_of(&api, &name)?;
    let mut body = script_body("true");
    body["HostConfig"]["AutoRemove"] = json!(true);
    api.create_named(&name, body)?.start()?;
    let seen = until(&mut stream, "destroy")?;
    ensure!(
        actions(&seen).first() == Some(&"create") && actions(&seen).contains(&"start"),
        "{:?}",
        actions(&seen)
    );
    Ok(())
}

fn attaching_is_told(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("attach");
    let mut stream = events_of(&api, &name)?;
    let container = api.create_named(&name, script_body("true"))?;
    let (_, attached) = container.attach("stream=1&stdout=1")?;
    until(&mut stream, "attach")?;
    drop(attached);
    Ok(())
}

fn images_come_and_go(rig: &Rig) -> Result<()> {
    const IMAGE: &str = "hello-world:frozen";
    let api = rig.host()?.api();
    api.delete(&format!("/images/{IMAGE}"))?;
    let mut stream =
        api.stream(&api.request("GET", &format!("/events?{}", filters(&[("type", "image")]))))?;
    api.pull(IMAGE)?;
    let id = api.get_json(&format!("/images/{IMAGE}/json"))?["Id"].clone();
    api.delete(&format!("/images/{IMAGE}"))?.expect(200)?;
    let mut seen = Vec::new();
    while !seen.contains(&"delete".to_owned()) {
        let event = stream.next_json()?.with_context(|| format!("{seen:?}"))?;
        let (actor, name) = (&event["Actor"]["ID"], &event["Actor"]["Attributes"]["name"]);
        match event["Action"].as_str().unwrap_or_default() {
            "pull" if *actor == IMAGE => ensure!(name == "hello-world", "{event}"),
            "untag" | "delete" if *actor == id => ensure!(event["scope"] == "local", "{event}"),
            _ => continue,
        }
        seen.push(event["Action"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(seen == ["pull", "untag", "delete"], "{seen:?}");
    Ok(())
}

/// Keys and values.
type Filters<'a> = &'a [(&'a str, &'a str)];

fn filters_choose(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let (name, label) = (unique("choose"), unique("label"));
    let mut body = script_body("exit 7");
    body["Labels"] = json!({"mark": label});
    let mark = format!("mark={label}");
    let expected: &[(Filters<'_>, &[&str])] = &[
        (&[("container", &name)], &["create", "start", "die", "destroy"]),
        (&[("label", &mark)], &["create", "start", "die", "destroy"]),
        (&[("label", &mark), ("event", "die")], &["die"]),
        (&[("label", &mark), ("event", "start"), ("event", "destroy")], &["start", "destroy"]),
        (&[("container", &name), ("type", "container")], &["create", "start", "die", "destroy"]),
        (&[("container", &name), ("type", "image")], &[]),
        (&[("container", &name), ("image", "busybox")], &["create", "start", "die", "destroy"]),
        (
            &[("container", &name), ("image", "busybox:latest")],
            &["create", "start", "die", "destroy"],
        ),
        (&[("container", &name), ("image", "alpine")], &[]),
        (&[("container", &name), ("scope", "local")], &["create", "start", "die", "destroy"]),
    ];
    let streams = expected
        .iter()
        .map(|(of, _)| api.stream(&api.request("GET", &format!("/events?{}", filters(of)))))
        .collect::<Result<Vec<_>>>()?;
    let container = api.create_named(&name, body)?;
    container.start()?;
    container.wait()?;
    container.remove()?;
    // All of them have been told when one that sees everything has.
    for (mut stream, (of, expected)) in streams.into_iter().zip(expected) {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            seen.push(
                stream.next_json()?.context("the stream ends")?["Action"]
                    .as_str()
                    .unwrap_or("")
                    .to_owned(),
            );
        }
        ensure!(seen == *expected, "{of:?}: {seen:?}");
        stream.patience(Duration::from_millis(200))?;
        ensure!(stream.next_json().is_err(), "{of:?}: more than {seen:?}");
    }
    Ok(())
}

fn unknown_filters_are_ignored(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let stream =
        api.stream(&api.request("GET", &format!("/events?{}", filters(&[("nonsense", "x")]))))?;
    ensure!(stream.head.status == 200, "{:?}", stream.head);
    api.get("/events?filters=nonsense")?.expect_error(400)?;
    Ok(())
}

fn the_past_is_replayed(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("past");
    let container = api.create_named(&name, script_body("true"))?;
    container.start()?;
    container.wait()?;
    let created = container.inspect()?["Created"].as_str().unwrap_or_default().to_owned();
    let date = |text: &str| -> Result<i64> {
        let output = std::process::Command::new("date").args(["+%s", "-d", text]).output()?;
        String::from_utf8(output.stdout)?.trim().parse().context("a date")
    };
    let (since, now) = (date(&created)? - 1, date("now")? + 1);
    std::thread::sleep(Duration::from_secs(2));
    let filter = filters(&[("container", &name), ("type", "container")]);
    // An end in the past: all of it at once, and the end.
    let text = api
        .stream(&api.request("GET", &format!("/events?since={since}&until={now}&{filter}")))?
        .rest()?;
    let events: Vec<Value> =
        String::from_utf8(text)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(actions(&events) == ["create", "start", "die"], "{events:?}");
    // No end: then live.
    let mut stream =
        api.stream(&api.request("GET", &format!("/events?since={since}.000000001&{filter}")))?;
    container.remove()?;
    ensure!(actions(&until(&mut stream, "destroy")?) == ["create", "start", "die", "destroy"]);
    // An end in the future: it comes. An end alone replays as well.
    let soon = date("now")? + 1;
    let rest =
        api.stream(&api.request("GET", &format!("/events?until={soon}&{filter}")))?.rest()?;
    ensure!(
        String::from_utf8_lossy(&rest).lines().count() == 4,
        "{:?}",
        String::from_utf8_lossy(&rest)
    );
    Ok(())
}

fn bad_times_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for key in ["since", "until"] {
        let message = api.get(&format!("/events?{key}=yesterday"))?.expect_error(400)?;
        ensure!(message.starts_with(&format!("invalid value for '{key}':")), "{message}");
    }
    let message = api.get("/events?since=2000&until=1000")?.expect_error(400)?;
    ensure!(
        message.contains("`since` time (2000) cannot be after `until` time (1000)"),
        "{message}"
    );
    Ok(())
}

fn older_versions_have_legacy_fields(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("old");
    let old = api.at("1.51");
    let mut stream =
        old.stream(&old.request("GET", &format!("/events?{}", filters(&[("container", &name)]))))?;
    let container = api.create_named(&name, script_body("true"))?;
    let event = stream.next_json()?.context("no event")?;
    ensure!(
        event["status"] == "create"
            && event["id"] == container.id.as_str()
            && event["from"] == "busybox:latest",
        "{event}"
    );
    Ok(())
}

fn bollard_reads_events(rig: &Rig) -> Result<()> {
    use bollard::query_parameters::EventsOptionsBuilder;
    use futures_util::StreamExt as _;
    let host = rig.host()?;
    let docker = crate::bollard(host)?;
    let container = host.api().create(script_body("true"))?;
    container.start()?;
    container.wait()?;
    crate::runtime()?.block_on(async {
        let options = EventsOptionsBuilder::default().since("1").until("9999999999").build();
        let mut events = docker.events(Some(options));
        while let Some(event) = events.next().await {
            let event = event?;
            if event.actor.and_then(|actor| actor.id).as_deref() == Some(&container.id)
                && event.action.as_deref() == Some("die")
            {
                return Ok(());
            }
        }
        e2e::bail!("no die")
    })
}
