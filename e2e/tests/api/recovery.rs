//! The daemon killed at each step of create, start, exec, commit, stop, exit and remove, and started again: what was begun is finished or
//! undone, and nothing is left behind.
//!
//! A debug build ends itself where `NERDCTLD_ABORT_AT` says (`engine::fault`).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use e2e::host::ContainerdVersion;
use e2e::sandbox::until;
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

use crate::interop;

pub(crate) const TESTS: &[Test] = tests![
    a_kill_in_a_removal.ours_only(),
    a_kill_in_a_start.ours_only().slow(),
    a_kill_in_a_stop.ours_only().slow(),
    a_kill_at_an_exit.ours_only().slow(),
    a_kill_in_a_creation.ours_only().slow(),
    a_kill_in_an_exec.ours_only().slow(),
    a_kill_in_a_commit.ours_only().slow(),
    what_nerdctl_removed_leaves_nothing.ours_only().slow(),
    a_failed_start_is_remembered.ours_only(),
];

/// How long the repair of a start may take.
const REPAIR: Duration = Duration::from_secs(30);

/// A container on the bridge; its id.
fn create(api: &Api, name: &str, script: &str) -> Result<String> {
    api.have(e2e::api::BUSYBOX)?;
    let body = json!({"Image": e2e::api::BUSYBOX, "Cmd": ["sh", "-c", script]});
    let made = api.post_json(&format!("/containers/create?name={name}"), &body)?;
    let id = made.expect(201)?.json()?["Id"].as_str().context("no Id")?.to_owned();
    Ok(id)
}

const IDLE: &str = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done";

/// Starts a container that runs [`IDLE`] and waits until it listens for signals.
fn start(api: &Api, id: &str) -> Result<()> {
    api.post(&format!("/containers/{id}/start"))?.expect(204)?;
    until_ready(api, id, 1)
}

/// Waits for the `count`th run to listen.
fn until_ready(api: &Api, id: &str, count: usize) -> Result<()> {
    until(REPAIR, "its first words", || {
        let logs = api.get(&format!("/containers/{id}/logs?stdout=1"));
        logs.is_ok_and(|logs| logs.text().matches("ready").count() >= count)
    })
}

/// Everything that a container leaves on a host.
fn traces(host: &Host) -> Result<BTreeSet<String>> {
    let mut seen = interop::traces(host)?;
    let sandbox = host.sandbox()?;
    let run = interop::files_below(&sandbox.inside("/run/nerdctld"));
    seen.extend(
        run.into_iter()
            .filter(|name| !name.ends_with("boot-id") && !name.ends_with("daemons"))
            .map(|name| format!("run: {name}")),
    );
    seen.extend(
        host.ctr(&["snapshots", "ls"])?
            .lines()
            .filter(|line| line.contains("Active") || line.contains("View"))
            .map(|line| format!("snapshot: {line}")),
    );
    // Empty where nobody wants the streams.
    for folder in std::fs::read_dir(sandbox.inside("/run/nerdctld")).into_iter().flatten().flatten()
    {
        let execs = folder.path().join("exec").join(host.namespace());
        for exec in std::fs::read_dir(execs).into_iter().flatten().flatten() {
            seen.insert(format!("exec: {}", exec.file_name().to_string_lossy()));
        }
    }
    for folder in std::fs::read_dir(host.root()?.join("data"))?.flatten() {
        let volumes = folder.path().join("volumes").join(host.namespace());
        for volume in std::fs::read_dir(volumes).into_iter().flatten().flatten() {
            seen.insert(format!("volume: {}", volume.file_name().to_string_lossy()));
        }
    }
    let is_ours = |word: &String| word.contains("containerd-shim") || word == "io-monitor";
    for process in sandbox.processes() {
        if process.arguments.iter().any(is_ours) {
            seen.insert(format!("process: {}", process.arguments.join(" ")));
        }
    }
    let groups = sandbox.inside("/sys/fs/cgroup");
    for hierarchy in std::fs::read_dir(groups).into_iter().flatten().flatten() {
        let containers = hierarchy.path().join(host.namespace());
        for group in std::fs::read_dir(containers).into_iter().flatten().flatten() {
            if group.file_type().is_ok_and(|kind| kind.is_dir()) {
                seen.insert(format!("cgroup: {}", group.file_name().to_string_lossy()));
            }
        }
    }
    Ok(seen)
}

fn as_before(host: &Host, before: &BTreeSet<String>, limit: Duration) -> Result<()> {
    until_same(before, limit, || traces(host))
}

fn until_same(
    before: &BTreeSet<String>,
    limit: Duration,
    look: impl Fn() -> Result<BTreeSet<String>>,
) -> Result<()> {
    let mut after = BTreeSet::new();
    let same = until(limit, "as before", || {
        after = look().unwrap_or_default();
        after == *before
    });
    same.with_context(|| {
        format!(
            "left: {:#?}, missing: {:#?}",
            after.difference(before).collect::<Vec<_>>(),
            before.difference(&after).collect::<Vec<_>>()
        )
    })
}

/// A host on which a first container has made what stays: the bridge, its chains, the network's file.
fn on_a_used_host(
    rig: &Rig,
    work: impl FnOnce(&Host, &BTreeSet<String>) -> Result<()>,
) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let id = create(&api, "first", "true")?;
            api.post(&format!("/containers/{id}/start"))?.expect(204)?;
            api.post(&format!("/containers/{id}/wait"))?.expect(200)?;
            api.delete(&format!("/containers/{id}"))?.expect(204)?;
            let mut before = BTreeSet::new();
            until(REPAIR, "a quiet host", || {
                before = traces(host).unwrap_or_default();
                !before.iter().any(|trace| trace.starts_with("process: "))
            })?;
            work(host, &before)
        },
    )
}

/// Runs `operation` on a daemon that ends itself at `place`, then starts another one.
pub(crate) fn killed_at(host: &Host, place: &str, operation: impl FnOnce(&Api)) -> Result<()> {
    kill_at(host, place, operation)?;
    host.start_daemon()
}

/// Runs `operation` on a daemon that ends itself at `place`.
fn kill_at(host: &Host, place: &str, operation: impl FnOnce(&Api)) -> Result<()> {
    host.kill_daemon()?;
    host.start_daemon_with(&[("NERDCTLD_ABORT_AT", place)])?;
    operation(&host.api());
    let ended = until(REPAIR, "the daemon's end", || !host.api().answers());
    ended.with_context(|| format!("it does not come by {place}"))?;
    // It has ended; this waits for it.
    let _ = host.kill_daemon();
    Ok(())
}

fn state(api: &Api, id: &str) -> Result<Value> {
    Ok(api.get_json(&format!("/containers/{id}/json"))?["State"].clone())
}

fn is_gone(api: &Api, id: &str) -> bool {
    api.get(&format!("/containers/{id}/json")).is_ok_and(|answer| answer.status() == 404)
}

fn remove(api: &Api, id: &str) -> Result<()> {
    api.delete(&format!("/containers/{id}?force=1"))?.expect(204)?;
    Ok(())
}

fn a_kill_in_a_removal(rig: &Rig) -> Result<()> {
    on_a_used_host(rig, |host, before| {
        let api = host.api();
        for place in [
            "remove.marked",
            "remove.task",
            "remove.networks",
            "remove.snapshot",
            "remove.name",
            "remove.record",
        ] {
            let name = unique("gone");
            let id = create(&api, &name, IDLE)?;
            start(&api, &id)?;
            killed_at(host, place, |api| drop(api.delete(&format!("/containers/{id}?force=1"))))?;
            until(REPAIR, "the end of the removal", || is_gone(&api, &id))
                .with_context(|| place.to_owned())?;
            as_before(host, before, REPAIR).with_context(|| place.to_owned())?;
            let again = create(&api, &name, "true").context("its name is taken")?;
            remove(&api, &again)?;
        }
        // The end of the run was wanted, the removal had not begun.
        let id = create(&api, &unique("kept"), IDLE)?;
        start(&api, &id)?;
        killed_at(host, "remove.killed", |api| {
            drop(api.delete(&format!("/containers/{id}?force=1")));
        })?;
        let state = state(&api, &id)?;
        ensure!(state["Status"] == "exited" && state["ExitCode"] == 137, "{state}");
        remove(&api, &id)?;
        as_before(host, before, REPAIR)
    })
}

fn a_kill_in_a_start(rig: &Rig) -> Result<()> {
    on_a_used_host(rig, |host, before| {
        let api = host.api();
        let starts = ["start.monitor", "start.task", "start.process", "start.armed"];
        for (place, runs) in starts.into_iter().zip([false, false, true, true]) {
            for ran in [false, true] {
                let doing = || format!("{place}, ran before: {ran}");
                let id = create(&api, &unique("start"), IDLE)?;
                let path = format!("/containers/{id}");
                if ran {
                    start(&api, &id)?;
                    api.post(&format!("{path}/stop"))?.expect(204)?;
                }
                killed_at(host, place, |api| drop(api.post(&format!("{path}/start"))))?;
                let expected = match (runs, ran) {
                    (true, _) => "running",
                    (false, true) => "exited",
                    (false, false) => "created",
                };
                let seen = state(&api, &id)?;
                ensure!(seen["Status"] == expected, "{}: {seen}", doing());
                ensure!(runs || !ran || seen["ExitCode"] == 5, "{}: {seen}", doing());
                let status = if runs { 304 } else { 204 };
                until(REPAIR, "the repair", || {
                    api.post(&format!("{path}/start")).is_ok_and(|answer| answer.status() == status)
                })
                .with_context(doing)?;
                let networks = api.get_json(&format!("{path}/json"))?["NetworkSettings"].clone();
                let address = networks["Networks"]["bridge"]["IPAddress"].as_str();
                ensure!(address.is_some_and(|text| !text.is_empty()), "{}: {networks}", doing());
                until_ready(&api, &id, usize::from(ran) + 1)?;
                api.post(&format!("{path}/stop"))?.expect(204)?;
                ensure!(state(&api, &id)?["ExitCode"] == 5, "{}", doing());
                remove(&api, &id)?;
                as_before(host, before, REPAIR).with_context(doing)?;
            }
        }
        Ok(())
    })
}

fn a_kill_in_a_stop(rig: &Rig) -> Result<()> {
    on_a_used_host(rig, |host, before| {
        let api = host.api();
        for place in ["stop.wanted", "stop.signalled"] {
            let id = create(&api, &unique("stop"), IDLE)?;
            start(&api, &id)?;
            killed_at(host, place, |api| drop(api.post(&format!("/containers/{id}/stop"))))?;
            if place == "stop.wanted" {
                ensure!(state(&api, &id)?["Status"] == "running");
                api.post(&format!("/containers/{id}/stop"))?.expect(204)?;
            }
            until(REPAIR, "its end", || {
                state(&api, &id).is_ok_and(|state| state["Status"] == "exited")
            })?;
            ensure!(state(&api, &id)?["ExitCode"] == 5, "{place}");
            remove(&api, &id)?;
            as_before(host, before, REPAIR).with_context(|| place.to_owned())?;
        }
        Ok(())
    })
}

fn a_kill_at_an_exit(rig: &Rig) -> Result<()> {
    on_a_used_host(rig, |host, before| {
        let api = host.api();
        for place in ["exit.recorded", "exit.told"] {
            let id = create(&api, &unique("exit"), "echo last words; exit 7")?;
            killed_at(host, place, |api| drop(api.post(&format!("/containers/{id}/start"))))?;
            let seen = state(&api, &id)?;
            ensure!(seen["Status"] == "exited" && seen["ExitCode"] == 7, "{place}: {seen}");
            let logs = api.get(&format!("/containers/{id}/logs?stdout=1"))?.expect(200)?;
            ensure!(logs.text().contains("last words"), "{place}");
            remove(&api, &id)?;
            as_before(host, before, REPAIR).with_context(|| place.to_owned())?;
        }
        Ok(())
    })
}

/// A container with an anonymous volume, which gets what the image has there, and a view of an image.
fn create_with_mounts(api: &Api, name: &str) -> Result<()> {
    let image = e2e::api::BUSYBOX;
    let body = json!({"Image": image, "Volumes": {"/etc": {}}, "HostConfig": {"Mounts": [
        {"Type": "image", "Source": image, "Target": "/image"},
    ]}});
    api.post_json(&format!("/containers/create?name={name}"), &body)?.expect(201).map(drop)
}

fn a_kill_in_a_creation(rig: &Rig) -> Result<()> {
    on_a_used_host(rig, |host, before| {
        let api = host.api();
        for place in [
            "create.planned",
            "create.record",
            "create.name",
            "create.volume",
            "create.network",
            "create.root",
            "create.parts",
        ] {
            let name = unique("half");
            killed_at(host, place, |api| drop(create_with_mounts(api, &name)))?;
            as_before(host, before, REPAIR).with_context(|| place.to_owned())?;
            let id = create(&api, &name, "true").context("its name is taken")?;
            remove(&api, &id)?;
        }
        let name = unique("whole");
        killed_at(host, "create.ready", |api| drop(create(api, &name, "exit 3")))?;
        api.post(&format!("/containers/{name}/start"))?.expect(204)?;
        let code = api.post(&format!("/containers/{name}/wait"))?.expect(200)?.json()?;
        ensure!(code["StatusCode"] == 3, "{code}");
        remove(&api, &name)?;
        as_before(host, before, REPAIR)
    })
}

fn a_kill_in_an_exec(rig: &Rig) -> Result<()> {
    on_a_used_host(rig, |host, before| {
        let api = host.api();
        let id = create(&api, &unique("exec"), IDLE)?;
        start(&api, &id)?;
        let running = traces(host)?;
        for (place, command) in [
            ("exec.streams", "sleep 1000"),
            ("exec.process", "sleep 1000"),
            ("exec.started", "sleep 1"),
            ("exec.ended", "true"),
            ("exec.deleted", "true"),
        ] {
            let exec = RefCell::default();
            killed_at(host, place, |api| {
                if let Ok(made) = create_exec(api, &id, command) {
                    let start = format!("/exec/{made}/start");
                    exec.replace(made);
                    drop(api.post_json(&start, &json!({"Detach": true})));
                }
            })?;
            as_before(host, &running, REPAIR).with_context(|| place.to_owned())?;
            // containerd has forgotten it: another one can have its id.
            let again = host.ctr(&["tasks", "exec", "--exec-id", &exec.take(), &id, "true"]);
            again.with_context(|| place.to_owned())?;
            ensure!(state(&api, &id)?["Status"] == "running", "{place}");
        }
        remove(&api, &id)?;
        as_before(host, before, REPAIR)
    })
}

fn create_exec(api: &Api, id: &str, command: &str) -> Result<String> {
    let body = json!({"Cmd": ["sh", "-c", command]});
    let made = api.post_json(&format!("/containers/{id}/exec"), &body)?.expect(201)?.json()?;
    Ok(made["Id"].as_str().context("no Id")?.to_owned())
}

fn a_kill_in_a_commit(rig: &Rig) -> Result<()> {
    on_a_used_host(rig, |host, before| {
        let api = host.api();
        let body = json!({
            "Image": e2e::api::BUSYBOX,
            "Cmd": ["sh", "-c", format!("echo new > /new; {IDLE}")],
            "HostConfig": {"RestartPolicy": {"Name": "always"}},
        });
        let made = api.post_json("/containers/create", &body)?.expect(201)?.json()?;
        let id = made["Id"].as_str().context("no Id")?.to_owned();
        start(&api, &id)?;
        let first = state(&api, &id)?;
        let commit = format!("/commit?container={id}&repo=committed");
        let running = traces_of_images(host)?;
        for place in ["commit.lease", "commit.paused", "commit.layer", "commit.resumed"] {
            kill_at(host, place, |api| drop(api.post(&commit)))?;
            // Before version 2 containerd kills what is paused and meant to run.
            if matches!(place, "commit.paused" | "commit.layer")
                && host.plan().containerd != ContainerdVersion::V2
            {
                let status = restart_status(host, &id)?;
                ensure!(status == "paused", "{place}: {status}");
            }
            host.start_daemon()?;
            until(REPAIR, "its going on", || {
                state(&api, &id).is_ok_and(|state| state["Status"] == "running")
                    && restart_status(host, &id).is_ok_and(|status| status == "running")
            })
            .with_context(|| place.to_owned())?;
            ensure!(state(&api, &id)?["StartedAt"] == first["StartedAt"], "{place}");
            until_same(&running, REPAIR, || traces_of_images(host))
                .with_context(|| place.to_owned())?;
        }
        killed_at(host, "commit.image", |api| drop(api.post(&commit)))?;
        let run = json!({"Image": "committed", "Cmd": ["cat", "/new"]});
        let made = api.post_json("/containers/create?name=run", &run)?.expect(201)?;
        drop(made);
        api.post("/containers/run/start")?.expect(204)?;
        let code = api.post("/containers/run/wait")?.expect(200)?.json()?;
        ensure!(code["StatusCode"] == 0, "{code}");
        remove(&api, "run")?;
        api.delete("/images/committed")?.expect(200)?;
        until_same(&running, REPAIR, || traces_of_images(host))?;
        remove(&api, &id)?;
        as_before(host, before, REPAIR)
    })
}

/// What containerd's restart plugin is told of a container.
fn restart_status(host: &Host, id: &str) -> Result<String> {
    let info: Value = serde_json::from_str(&host.ctr(&["containers", "info", id])?)?;
    let status = &info["Labels"]["containerd.io/restart.status"];
    Ok(status.as_str().unwrap_or_default().to_owned())
}

/// Those of containers, and everything that an image is made of.
fn traces_of_images(host: &Host) -> Result<BTreeSet<String>> {
    let mut seen = traces(host)?;
    for kind in ["images", "content"] {
        let names = host.ctr(&[kind, "ls", "-q"])?;
        seen.extend(names.lines().map(|name| format!("{kind}: {name}")));
    }
    let snapshots = host.ctr(&["snapshots", "ls"])?;
    seen.extend(snapshots.lines().map(|line| format!("any snapshot: {line}")));
    Ok(seen)
}

fn what_nerdctl_removed_leaves_nothing(rig: &Rig) -> Result<()> {
    use e2e::runner::OrSkip as _;
    e2e::peers::program("nerdctl", "nerdctl").or_skip()?;
    on_a_used_host(rig, |host, before| {
        let api = host.api();
        let name = unique("theirs");
        let id = create(&api, &name, IDLE)?;
        api.post(&format!("/containers/{id}/start"))?.expect(204)?;
        host.kill_daemon()?;
        host.nerdctl(&["rm", "-f", &name])?;
        host.start_daemon()?;
        until(REPAIR, "the list without it", || is_gone(&api, &id))?;
        as_before(host, before, REPAIR)
    })
}

fn a_failed_start_is_remembered(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let container = api.create(json!({
                "Cmd": ["/bin/busybox", "sh", "-c", "rm /bin/busybox; exit 3"],
                "HostConfig": {"NetworkMode": "none"}
            }))?;
            container.start()?;
            ensure!(container.wait()? == 3);
            let first = container.inspect()?["State"].clone();
            container.post("/start")?.expect_error(400)?;
            let failed = container.inspect()?["State"].clone();
            ensure!(failed["ExitCode"] == 127 && failed["Status"] == "exited", "{failed}");
            host.kill_daemon()?;
            host.start_daemon()?;
            let found = container.inspect()?["State"].clone();
            for key in ["Status", "ExitCode", "FinishedAt"] {
                ensure!(found[key] == failed[key], "{key}: {failed} {found}");
            }
            ensure!(found["StartedAt"] == first["StartedAt"], "{first} {found}");
            Ok(())
        },
    )
}
