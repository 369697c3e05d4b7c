//! A container that lives: paused, renamed, pruned; its changes.

use std::time::Duration;

use e2e::api::{encode, filters, script_body};
use e2e::cli::Docker;
use e2e::runner::OrSkip as _;
use e2e::sandbox::{send, until};
use e2e::{Api, Container, Context as _, Host, Result, Rig, Test, ensure, peers, tests, unique};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::quick;
use crate::stats::{keys, started, stats_stream, top, used};

pub(crate) const TESTS: &[Test] = tests![
    pausing_and_going_on,
    pausing_at_the_wrong_moment,
    a_paused_one_can_be_ended,
    a_paused_one_is_looked_at,
    another_name,
    names_that_cannot_be_had,
    renaming_while_it_runs,
    pruning_what_does_not_run,
    pruning_refuses,
    pruning_tells,
    changes_of_files,
    no_changes,
    one_command_after_the_other,
    hung_shims_do_not_matter.ours_only(),
    nerdctl_pauses_ours_and_we_nerdctls.ours_only(),
    nerdctl_sees_new_names.ours_only(),
    nerdctls_are_pruned.ours_only(),
];

/// Writes a number every tenth of a second.
const COUNTING: &str = "echo ready; i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";

fn pausing_and_going_on(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = started(&api, COUNTING)?;
    let mut events = api.stream(
        &api.request("GET", &format!("/events?{}", filters(&[("container", &container.id)]))),
    )?;
    let answer = container.post("/pause")?.expect(204)?;
    ensure!(answer.body.is_empty());
    let state = container.inspect()?["State"].clone();
    ensure!(
        state["Status"] == "paused" && state["Paused"] == true && state["Running"] == true,
        "{state}"
    );
    let row = container.listed()?.context("not listed")?;
    ensure!(row["State"] == "paused", "{row}");
    ensure!(
        row["Status"]
            .as_str()
            .is_some_and(|text| text.starts_with("Up ") && text.ends_with(" (Paused)")),
        "{row}"
    );
    let before = container.logs("")?.text();
    std::thread::sleep(Duration::from_millis(400));
    ensure!(container.logs("")?.text() == before, "it writes while it is paused");
    container.post("/unpause")?.expect(204)?;
    let state = container.inspect()?["State"].clone();
    ensure!(state["Status"] == "running" && state["Paused"] == false, "{state}");
    until(Duration::from_secs(10), "it to go on", || {
        container.logs("").is_ok_and(|logs| logs.text() != before)
    })?;
    for action in ["pause", "unpause"] {
        let event = events.next_json()?.context("no event")?;
        ensure!(
            event["Action"] == action
                && event["Actor"]["Attributes"]["name"] == container.name.as_str(),
            "{event}"
        );
    }
    Ok(())
}

fn pausing_at_the_wrong_moment(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("sleep 1000"))?;
    let id = container.id.clone();
    let message = container.post("/pause")?.expect_error(409)?;
    ensure!(message == format!("container {id} is not running"), "{message}");
    let message = container.post("/unpause")?.expect_error(500)?;
    ensure!(message == format!("Container {id} is not paused"), "{message}");
    container.start()?;
    let message = container.post("/unpause")?.expect_error(500)?;
    ensure!(message == format!("Container {id} is not paused"), "{message}");
    container.post("/pause")?.expect(204)?;
    let message = container.post("/pause")?.expect_error(409)?;
    ensure!(message == format!("container {id} is already paused"), "{message}");
    let message = container.post("/start")?.expect_error(409)?;
    ensure!(message == "cannot start a paused container, try unpause instead", "{message}");
    let message = api.delete(&container.path(""))?.expect_error(409)?;
    ensure!(
        message
            == format!(
                "cannot remove container \"{id}\": container is paused and must be unpaused first"
            ),
        "{message}"
    );
    for path in ["/containers/nobody/pause", "/containers/nobody/unpause"] {
        let message = api.post(path)?.expect_error(404)?;
        ensure!(message == "No such container: nobody", "{message}");
    }
    Ok(())
}

fn a_paused_one_can_be_ended(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    for (path, code) in [("/stop", 7), ("/kill", 137), ("/kill?signal=TERM", 7)] {
        let container = started(&api, script)?;
        container.post("/pause")?.expect(204)?;
        let wait = api.stream(&api.request("POST", &container.path("/wait")))?;
        container.post(path)?.expect(204).context(path)?;
        let answer: Value = serde_json::from_slice(&wait.rest()?).context("wait")?;
        ensure!(answer["StatusCode"] == code, "{path}: {answer}");
        let state = container.inspect()?["State"].clone();
        ensure!(state["Status"] == "exited" && state["Paused"] == false, "{path}: {state}");
    }
    let container = started(&api, script)?;
    container.post("/pause")?.expect(204)?;
    container.remove()?;
    ensure!(container.listed()?.is_none());
    Ok(())
}

fn a_paused_one_is_looked_at(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = started(&api, "echo ready; sleep 1000")?;
    container.post("/pause")?.expect(204)?;
    let shown = top(&container, "")?;
    ensure!(shown["Processes"].as_array().is_some_and(|rows| !rows.is_empty()), "{shown}");
    let stats = api.get_json(&container.path("/stats?stream=0"))?;
    ensure!(
        used(&stats["cpu_stats"]) == used(&stats["precpu_stats"])
            && used(&stats["cpu_stats"]) > Some(0),
        "{stats}"
    );
    let listed = api.get_json(&format!(
        "/containers/json?{}",
        filters(&[("status", "paused"), ("id", &container.id)])
    ))?;
    ensure!(listed.as_array().is_some_and(|rows| rows.len() == 1), "{listed}");
    let request = api.request("POST", &container.path("/attach?stream=1&stdout=1"));
    // dockerd calls it a raw stream, and has no JSON in it.
    let refused = api.send(&request)?.expect(409)?.text();
    let words =
        format!("container {} is paused, unpause the container before attach", container.id);
    ensure!(refused.contains(&words), "{refused}");
    let waits = api.stream(&api.request("POST", &container.path("/wait")))?;
    waits.patience(Duration::from_millis(500))?;
    ensure!(waits.rest().is_err(), "it counts as running");
    Ok(())
}

fn rename(container: &Container, name: &str) -> Result<e2e::http::Response> {
    container.post(&format!("/rename?name={}", encode(name)))
}

fn another_name(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let (old, new) = (container.name.clone(), unique("renamed"));
    let mut events = api.stream(
        &api.request("GET", &format!("/events?{}", filters(&[("container", &container.id)]))),
    )?;
    let answer = rename(&container, &format!("  /{new} "))?.expect(204)?;
    ensure!(answer.body.is_empty());
    ensure!(container.inspect()?["Name"] == format!("/{new}"));
    ensure!(api.get_json(&format!("/containers/{new}/json"))?["Id"] == container.id.as_str());
    api.get(&format!("/containers/{old}/json"))?.expect_error(404)?;
    ensure!(container.listed()?.context("not listed")?["Names"] == json!([format!("/{new}")]));
    let event = events.next_json()?.context("no event")?;
    let attributes = &event["Actor"]["Attributes"];
    ensure!(
        event["Action"] == "rename"
            && attributes["name"] == new.as_str()
            && attributes["oldName"] == format!("/{old}"),
        "{event}"
    );
    // The old name is free, and it can be renamed by its name, and started and removed under the new one.
    let other = api.create_named(&old, script_body("true"))?;
    other.remove()?;
    api.post(&format!("/containers/{new}/rename?name={old}"))?.expect(204)?;
    api.post(&format!("/containers/{old}/start"))?.expect(204)?;
    ensure!(container.wait()? == 0);
    rename(&container, &new)?.expect(204)?;
    container.remove()?;
    for name in [&old, &new] {
        api.create_named(name, script_body("true"))?.remove()?;
    }
    Ok(())
}

fn names_that_cannot_be_had(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let (container, other) = (api.create(script_body("true"))?, api.create(script_body("true"))?);
    for name in ["", "/", "  "] {
        let message = rename(&container, name)?.expect_error(400)?;
        ensure!(message == "Neither old nor new names may be empty", "{name:?}: {message}");
    }
    for name in [container.name.clone(), format!("/{}", container.name)] {
        let message = rename(&container, &name)?.expect_error(400)?;
        ensure!(
            message == "Renaming a container with the same name as its current name",
            "{message}"
        );
    }
    let message = rename(&container, &other.name)?.expect_error(409)?;
    ensure!(
        message
            == format!(
                "Error when allocating new name: Conflict. The container name \"/{}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
                other.name, other.id
            ),
        "{message}"
    );
    let message = rename(&container, "a/b")?.expect_error(400)?;
    ensure!(
        message
            == "Error when allocating new name: Invalid container name (/a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        "{message}"
    );
    let message = api.post("/containers/nobody/rename?name=somebody")?.expect_error(404)?;
    ensure!(message == "No such container: nobody", "{message}");
    ensure!(container.inspect()?["Name"] == format!("/{}", container.name));
    Ok(())
}

fn renaming_while_it_runs(rig: &Rig) -> Result<()> {
    let container = started(&rig.host()?.api(), "echo ready; sleep 1000")?;
    let new = unique("running");
    rename(&container, &new)?.expect(204)?;
    let seen = container.inspect()?;
    ensure!(seen["Name"] == format!("/{new}") && seen["State"]["Running"] == true, "{seen}");
    ensure!(seen["Config"]["Hostname"] == container.id[..12], "the host name is another thing");
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    container.start()?;
    ensure!(container.inspect()?["Name"] == format!("/{new}"), "its next run has another name");
    Ok(())
}

/// Prunes containers with a label, and gives the answer.
fn prune(api: &Api, of: &[(&str, &str)]) -> Result<Value> {
    api.post(&format!("/containers/prune?{}", filters(of)))?.expect(200)?.json()
}

fn labelled(api: &Api, script: &str, labels: &[&str]) -> Result<Container> {
    let mut body = script_body(script);
    body["Labels"] = labels.iter().map(|label| ((*label).to_owned(), json!("yes"))).collect();
    api.create(body)
}

fn pruning_what_does_not_run(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let label = unique("prune");
    let created = labelled(&api, "true", &[&label])?;
    let ended = labelled(&api, "dd if=/dev/zero of=/written bs=1M count=3", &[&label])?;
    let kept = labelled(&api, "true", &[&label, "keep"])?;
    let running = labelled(&api, "sleep 1000", &[&label])?;
    let paused = labelled(&api, "sleep 1000", &[&label])?;
    for container in [&ended, &running, &paused] {
        container.start()?;
    }
    ended.wait()?;
    paused.post("/pause")?.expect(204)?;
    let of_label = format!("{label}=yes");
    let nothing = prune(&api, &[("label", &of_label), ("until", "1h")])?;
    ensure!(nothing == json!({"ContainersDeleted": null, "SpaceReclaimed": 0}), "{nothing}");
    let pruned = prune(&api, &[("label", &of_label), ("label!", "keep=yes")])?;
    let mut ids: Vec<&str> = pruned["ContainersDeleted"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    ids.sort_unstable();
    let mut expected = [created.id.as_str(), ended.id.as_str()];
    expected.sort_unstable();
    ensure!(ids == expected, "{pruned}");
    ensure!(pruned["SpaceReclaimed"].as_u64() >= Some(3 << 20), "{pruned}");
    for (container, there) in
        [(&created, false), (&ended, false), (&kept, true), (&running, true), (&paused, true)]
    {
        ensure!(container.listed()?.is_some() == there, "{}", container.id);
    }
    // Its name is free.
    api.create_named(&ended.name, script_body("true"))?;
    let pruned = prune(&api, &[("label", &label)])?;
    ensure!(pruned["ContainersDeleted"] == json!([kept.id]), "{pruned}");
    Ok(())
}

fn pruning_refuses(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let label = unique("refused");
    let container = labelled(&api, "true", &[&label])?;
    let refused = |query: &str| api.post(&format!("/containers/prune?{query}"))?.expect_error(400);
    let message = refused(&filters(&[("label", &label), ("name", "x")]))?;
    ensure!(message == "invalid filter 'name'", "{message}");
    let message = refused(&filters(&[("label", &label), ("until", "1h"), ("until", "2h")]))?;
    ensure!(message == "more than one until filter specified", "{message}");
    refused(&filters(&[("label", &label), ("until", "yesterday")]))?;
    let message = refused("filters=nonsense")?;
    ensure!(message.starts_with("invalid filter"), "{message}");
    let message = api.at("1.24").post("/containers/prune")?.expect_error(400)?;
    ensure!(message.contains("requires minimum API version 1.25"), "{message}");
    ensure!(container.listed()?.is_some());
    Ok(())
}

fn pruning_tells(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let label = unique("told");
    let container = labelled(&api, "true", &[&label])?;
    let mut events = api.stream(&api.request(
        "GET",
        &format!(
            "/events?{}",
            filters(&[("type", "container"), ("event", "prune"), ("event", "destroy")])
        ),
    ))?;
    prune(&api, &[("label", &label)])?;
    let mut destroyed = false;
    // Other tests prune and remove, too.
    loop {
        let event = events.next_json()?.context("no event")?;
        if event["Action"] == "destroy" {
            destroyed |= event["Actor"]["ID"] == container.id.as_str();
            continue;
        }
        ensure!(
            event["Actor"]["ID"] == "" && event["Actor"]["Attributes"]["reclaimed"].is_string(),
            "{event}"
        );
        if destroyed {
            return Ok(());
        }
    }
}

fn changes(container: &Container) -> Result<Vec<String>> {
    let answer = container.api().get_json(&container.path("/changes"))?;
    let rows = answer.as_array().with_context(|| format!("no list: {answer}"))?;
    let mut lines = Vec::new();
    for row in rows {
        ensure!(keys(row) == ["Kind", "Path"], "{row}");
        let kind = ["C", "A", "D"][usize::try_from(row["Kind"].as_u64().unwrap_or(9))?];
        lines.push(format!("{kind} {}", row["Path"].as_str().unwrap_or_default()));
    }
    // dockerd's order is that of chance.
    lines.sort();
    Ok(lines)
}

fn changes_of_files(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script = "echo x >> /etc/passwd; chmod 700 /home; mkdir -p /new/dir; echo x > /new/dir/file; rm /etc/group; rm -r /var/spool; \
                  ln -s /etc /tmp/link; rm -r /root; mkdir /root; touch /touched; rm /touched; cat /etc/shadow > /dev/null; echo ready; sleep 1000";
    let container = started(&api, script)?;
    let expected = [
        "A /new",
        "A /new/dir",
        "A /new/dir/file",
        "A /tmp/link",
        "C /etc",
        "C /etc/passwd",
        "C /home",
        "C /tmp",
        "C /var",
        "D /etc/group",
        "D /var/spool",
    ];
    // What became of /root depends on its mode in the image.
    let seen: Vec<String> =
        changes(&container)?.into_iter().filter(|line| line != "C /root").collect();
    ensure!(seen == expected, "{seen:#?}");
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    let seen: Vec<String> =
        changes(&container)?.into_iter().filter(|line| line != "C /root").collect();
    ensure!(seen == expected, "after its end: {seen:#?}");
    Ok(())
}

fn no_changes(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({"Cmd": ["true"]}))?;
    ensure!(api.get_json(&container.path("/changes"))?.is_null());
    container.start()?;
    container.wait()?;
    ensure!(
        api.get_json(&container.path("/changes"))?.is_null(),
        "places to mount on are no changes"
    );
    let message = api.get("/containers/nobody/changes")?.expect_error(404)?;
    ensure!(message == "No such container: nobody", "{message}");
    Ok(())
}

fn one_command_after_the_other(rig: &Rig) -> Result<()> {
    let docker = Docker::newest(rig.host()?).or_skip()?;
    let api = rig.host()?.api();
    let container = started(&api, "echo x > /written; echo ready; sleep 1000")?;
    let name = container.name.as_str();
    let stats = docker
        .run(&[
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}",
            name,
        ])?
        .success()?;
    ensure!(stats.starts_with(name) && stats.contains('%') && stats.contains("iB / "), "{stats}");
    let all = docker.run(&["stats", "--no-stream", "--format", "{{.Name}}"])?.success()?;
    ensure!(all.lines().any(|line| line == name), "{all}");
    let shown = docker.run(&["top", name, "-o", "pid,args"])?.success()?;
    ensure!(shown.contains("sleep 1000"), "{shown}");
    let changed = docker.run(&["diff", name])?.success()?;
    ensure!(changed == "A /written\n", "{changed}");
    docker.run(&["pause", name])?.success()?;
    let listed = docker
        .run(&["ps", "--filter", &format!("name={name}"), "--format", "{{.Status}}"])?
        .success()?;
    ensure!(listed.contains("(Paused)"), "{listed}");
    docker.run(&["unpause", name])?.success()?;
    let new = unique("cli");
    docker.run(&["rename", name, &new])?.success()?;
    docker.run(&["kill", &new])?.success()?;
    container.wait()?;
    // All tests of the group share the host.
    let label = unique("cli");
    let stopped = labelled(&api, "true", &[&label])?;
    let pruned = docker
        .run(&["container", "prune", "--force", "--filter", &format!("label={label}")])?
        .success()?;
    ensure!(pruned.contains(&stopped.id) && pruned.contains("Total reclaimed space: "), "{pruned}");
    Ok(())
}

fn hung_shims_do_not_matter(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let container = started(&api, "echo x > /written; echo ready; sleep 1000")?;
            let shim = host.sandbox()?.shim_of(&container.id).context("no shim")?;
            send(shim, Signal::STOP)?;
            let looked = look_at_hung(&container);
            // A daemon that never heard the shim knows as much.
            let again = host.kill_daemon().and_then(|()| host.start_daemon()).and_then(|()| {
                until(Duration::from_secs(30), "the first look", || container.status().is_ok())?;
                look_at_hung(&container)
            });
            send(shim, Signal::CONT)?;
            looked?;
            again.context("after a new start of the daemon")
        },
    )
}

fn look_at_hung(container: &Container) -> Result<()> {
    let once = container.path("/stats?stream=0");
    let stats = quick("stats", || container.api().get_json(&once))?;
    ensure!(
        used(&stats["cpu_stats"]) > Some(0) && used(&stats["precpu_stats"]) > Some(0),
        "{stats}"
    );
    quick("streamed stats", || stats_stream(container)?.next_json())?;
    let shown = quick("top", || top(container, ""))?;
    ensure!(shown["Processes"].as_array().is_some_and(|rows| !rows.is_empty()), "{shown}");
    let changed = quick("changes", || changes(container))?;
    ensure!(changed == ["A /written"], "{changed:?}");
    Ok(())
}

fn with_nerdctl(rig: &Rig, work: impl FnOnce(&Host) -> Result<()>) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    rig.with_own_host(|_| (), work)
}

fn until_status(container_path: &str, api: &Api, status: &str) -> Result<()> {
    until(Duration::from_secs(10), status, || {
        api.get_json(&format!("/containers/{container_path}/json"))
            .is_ok_and(|seen| seen["State"]["Status"] == status)
    })
}

fn nerdctl_pauses_ours_and_we_nerdctls(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        let ours = started(&api, "echo ready; sleep 1000")?;
        host.nerdctl(&[
            "run", "-d", "--name", "theirs", "--net", "none", "busybox", "sleep", "1000",
        ])?;
        host.nerdctl(&["pause", &ours.name])?;
        until_status(&ours.id, &api, "paused")?;
        host.nerdctl(&["unpause", &ours.name])?;
        until_status(&ours.id, &api, "running")?;
        ours.post("/pause")?.expect(204)?;
        api.post("/containers/theirs/pause")?.expect(204)?;
        let shown = host.nerdctl(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"])?;
        for name in [&ours.name, "theirs"] {
            ensure!(shown.contains(&format!("{name} Paused")), "{shown}");
        }
        host.nerdctl(&["unpause", &ours.name])?;
        until_status(&ours.id, &api, "running")?;
        api.post("/containers/theirs/unpause")?.expect(204)?;
        let top = api.get_json("/containers/theirs/top?ps_args=-o%20pid,args")?;
        ensure!(top["Processes"][0][1] == "sleep 1000", "{top}");
        let stats = api.get_json("/containers/theirs/stats?stream=0&one-shot=1")?;
        ensure!(used(&stats["cpu_stats"]) > Some(0), "{stats}");
        host.nerdctl(&["rm", "-f", "theirs"])?;
        Ok(())
    })
}

fn nerdctl_sees_new_names(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        let neighbour = api.create(json!({"Cmd": ["sleep", "1000"]}))?;
        neighbour.start()?;
        let ours = api.create(json!({"Cmd": ["sleep", "1000"]}))?;
        ours.start()?;
        let hosts = || -> Result<String> {
            let path =
                neighbour.inspect()?["HostsPath"].as_str().context("no HostsPath")?.to_owned();
            std::fs::read_to_string(&path).context(path)
        };
        ensure!(hosts()?.contains(&format!(" {}\n", ours.name)), "{}", hosts()?);
        rename(&ours, "other-name")?.expect(204)?;
        ensure!(hosts()?.contains(" other-name\n"), "{}", hosts()?);
        ensure!(!hosts()?.contains(&ours.name), "{}", hosts()?);
        let shown = host.nerdctl(&["ps", "--format", "{{.Names}}"])?;
        ensure!(shown.contains("other-name") && !shown.contains(&ours.name), "{shown}");
        // nerdctl takes it from the label, its hook from the annotation.
        host.nerdctl(&["rename", "other-name", "third-name"])?;
        until(Duration::from_secs(10), "nerdctl's name", || {
            ours.inspect().is_ok_and(|seen| seen["Name"] == "/third-name")
        })?;
        rename(&ours, "fourth-name")?.expect(204)?;
        ours.post("/kill")?.expect(204)?;
        ours.wait()?;
        ours.start()?;
        ensure!(hosts()?.contains(" fourth-name\n"), "{}", hosts()?);

        host.nerdctl(&["run", "-d", "--name", "theirs", "busybox", "sleep", "1000"])?;
        api.post("/containers/theirs/rename?name=theirs2")?.expect(204)?;
        ensure!(hosts()?.contains(" theirs2\n"), "{}", hosts()?);
        host.nerdctl(&["stop", "-t", "0", "theirs2"])?;
        host.nerdctl(&["start", "theirs2"])?;
        ensure!(hosts()?.contains(" theirs2\n"), "{}", hosts()?);
        // Its old name is free for both.
        host.nerdctl(&["run", "--rm", "--name", "theirs", "--net", "none", "busybox", "true"])?;
        api.create_named("theirs", script_body("true"))?.remove()?;
        host.nerdctl(&["rm", "-f", "theirs2"])?;
        api.create_named("theirs2", script_body("true"))?.remove()
    })
}

fn nerdctls_are_pruned(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        host.nerdctl(&["run", "--name", "ended", "--net", "none", "busybox", "true"])?;
        host.nerdctl(&[
            "run", "-d", "--name", "running", "--net", "none", "busybox", "sleep", "1000",
        ])?;
        host.ctr(&["run", "-d", "--null-io", "docker.io/library/busybox:latest", "ctrs", "true"])?;
        until(Duration::from_secs(10), "nerdctl's", || {
            api.get("/containers/ended/json").is_ok_and(|answer| answer.status() == 200)
        })?;
        let ours = api.create(script_body("true"))?;
        let pruned = api.post("/containers/prune")?.expect(200)?.json()?;
        ensure!(
            pruned["ContainersDeleted"].as_array().is_some_and(|ids| ids.len() == 2),
            "{pruned}"
        );
        ensure!(ours.listed()?.is_none());
        let shown = host.nerdctl(&["ps", "-a", "--format", "{{.Names}}"])?;
        ensure!(shown.contains("running") && !shown.contains("ended"), "{shown}");
        ensure!(
            host.ctr(&["containers", "ls", "-q"])?.contains("ctrs"),
            "others' containers are theirs"
        );
        host.nerdctl(&["rm", "-f", "running"])?;
        Ok(())
    })
}
