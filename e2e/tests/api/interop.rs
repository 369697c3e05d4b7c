//! Side by side with nerdctl and ctr on one containerd: each sees and may end what the other made, and
//! nothing is left behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::runner::OrSkip as _;
use e2e::sandbox::until;
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, peers, tests, unique};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests![
    nerdctl_handles_ours.ours_only(),
    nerdctl_handles_ours_without_the_daemon.ours_only(),
    nerdctl_starts_ours_again.ours_only(),
    we_handle_nerdctls.ours_only(),
    docker_follows_nerdctl_at_once.ours_only().slow(),
    names_are_shared.ours_only(),
    locks_hold_under_load.ours_only().slow(),
    ctrs_containers_are_shown.ours_only(),
];

/// What others on the machine see of containers: leases, records, snapshots, names, hosts files, addresses, rules.
pub(crate) fn traces(host: &Host) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let mut add =
        |what: &str, text: &str| seen.extend(text.lines().map(|line| format!("{what}: {line}")));
    add("lease", &host.ctr(&["leases", "ls", "-q"])?);
    add("container", &host.ctr(&["containers", "ls", "-q"])?);
    add("task", &host.ctr(&["tasks", "ls", "-q"])?);
    let sandbox = host.sandbox()?;
    let rules = sandbox.run(&mut sandbox.command("iptables-save"))?;
    // Counters differ from one moment to the next.
    let stable: String = rules
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{}\n", line.split(" [").next().unwrap_or_default()))
        .collect();
    add("rule", &stable);
    add("link", &sandbox.run(sandbox.command("ip").args(["-o", "link", "show", "type", "veth"]))?);
    let data = host.root()?.join("data");
    for folder in std::fs::read_dir(&data)?.flatten().filter(|entry| entry.file_name().len() == 8) {
        for kind in ["names", "etchosts", "containers"] {
            for name in files_below(&folder.path().join(kind)) {
                add(kind, &name);
            }
        }
    }
    for name in files_below(&sandbox.inside("/var/lib/cni")) {
        add("cni", &name);
    }
    Ok(seen)
}

/// All files below a folder but locks and the marks of allocators, which stay.
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(
                files_below(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}")),
            );
        } else if !name.contains("lock") && !name.starts_with("last_reserved") {
            names.push(name);
        }
    }
    names
}

/// Runs `work` and compares what is there before and after it.
fn leaving_nothing(host: &Host, work: impl FnOnce() -> Result<()>) -> Result<()> {
    // The first container of a host makes what stays: the bridge, its chains, the network's file.
    host.nerdctl(&["run", "--rm", "busybox", "true"])?;
    let before = traces(host)?;
    work()?;
    let mut after = traces(host)?;
    let _ = until(Duration::from_secs(10), "as before", || {
        after = traces(host).unwrap_or_default();
        after == before
    });
    let more: Vec<_> = after.difference(&before).collect();
    let less: Vec<_> = before.difference(&after).collect();
    ensure!(more.is_empty() && less.is_empty(), "left: {more:#?}, missing: {less:#?}");
    Ok(())
}

fn with_nerdctl(rig: &Rig, work: impl FnOnce(&Host) -> Result<()>) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    rig.with_own_host(|_| (), work)
}

/// A container of ours on the bridge.
fn ours(api: &Api, name: &str) -> Result<String> {
    api.have("busybox:latest")?;
    let script = "trap 'exit 5' TERM; echo hello from ours; while :; do sleep 0.1; done";
    let body =
        json!({"Image": "busybox:latest", "Cmd": ["sh", "-c", script], "Labels": {"mine": "yes"}});
    let answer =
        api.post_json(&format!("/containers/create?name={name}"), &body)?.expect(201)?.json()?;
    let id = answer["Id"].as_str().context("no Id")?.to_owned();
    api.post(&format!("/containers/{id}/start"))?.expect(204)?;
    Ok(id)
}

/// Waits until as many runs of [`ours`] have greeted as `runs` says.
fn greeted(api: &Api, id: &str, runs: usize) -> Result<()> {
    let mut text = String::new();
    until(Duration::from_secs(20), "the greetings", || {
        text = api
            .get(&format!("/containers/{id}/logs?stdout=1"))
            .map_or_else(|error| format!("{error:#}"), |answer| answer.text());
        text.matches("hello from ours").count() == runs
    })
    .with_context(|| format!("{runs} runs, and the log is {text:?}"))
}

/// `ps`, `logs`, `inspect`, `exec`, `cp`, `commit`, `restart`, `stop`, `start` and `rm` by nerdctl.
fn handled_by_nerdctl(host: &Host, name: &str) -> Result<()> {
    let row = host.nerdctl(&["ps", "--format", "{{.Names}} {{.Image}} {{.Status}}"])?;
    ensure!(row.contains(&format!("{name} docker.io/library/busybox:latest Up")), "{row}");
    until(Duration::from_secs(20), "nerdctl logs", || {
        host.nerdctl(&["logs", name]).is_ok_and(|text| text.contains("hello from ours"))
    })?;
    let address = host.nerdctl(&[
        "inspect",
        "--format",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        name,
    ])?;
    ensure!(address.trim().parse::<std::net::Ipv4Addr>().is_ok(), "{address}");
    let shown = host.nerdctl(&["exec", name, "ip", "-4", "addr", "show", "eth0"])?;
    ensure!(shown.contains(address.trim()), "{shown}");
    copied_by_nerdctl(host, name)?;
    host.nerdctl(&["restart", "-t", "3", name])?;
    host.nerdctl(&["stop", name])?;
    host.nerdctl(&["start", name])?;
    until(Duration::from_secs(20), "output of all three runs", || {
        host.nerdctl(&["logs", name]).is_ok_and(|text| text.matches("hello from ours").count() == 3)
    })?;
    host.nerdctl(&["stop", name])?;
    let row = host.nerdctl(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"])?;
    ensure!(row.contains(&format!("{name} Exited (5)")), "{row}");
    host.nerdctl(&["rm", name])?;
    Ok(())
}

/// A file in and out, and an image of it all.
fn copied_by_nerdctl(host: &Host, name: &str) -> Result<()> {
    let (there, back) = (host.root()?.join("to-container"), host.root()?.join("from-container"));
    std::fs::write(&there, "by nerdctl\n")?;
    let path = |path: &Path| path.to_str().map(str::to_owned).context("path");
    host.nerdctl(&["cp", &path(&there)?, &format!("{name}:/copied")])?;
    host.nerdctl(&["cp", &format!("{name}:/copied"), &path(&back)?])?;
    ensure!(std::fs::read_to_string(&back)? == "by nerdctl\n");
    let image = format!("{name}:copy");
    host.nerdctl(&["commit", name, &image])?;
    let seen = host.nerdctl(&["run", "--rm", "--net=none", &image, "cat", "/copied"])?;
    ensure!(seen == "by nerdctl\n", "{seen}");
    host.nerdctl(&["rmi", &image])?;
    Ok(())
}

fn nerdctl_handles_ours(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        leaving_nothing(host, || {
            let name = unique("ours");
            let id = ours(&api, &name)?;
            let mut events = api.stream(&api.request(
                "GET",
                &format!("/events?{}", e2e::api::filters(&[("container", &id)])),
            ))?;
            handled_by_nerdctl(host, &name)?;
            // What nerdctl does is told.
            let mut seen = Vec::new();
            while !seen.contains(&"destroy".to_owned()) {
                let event = events.next_json()?.context("no destroy")?;
                seen.push(event["Action"].as_str().unwrap_or_default().to_owned());
            }
            ensure!(seen.contains(&"die".to_owned()), "{seen:?}");
            api.get(&format!("/containers/{id}/json"))?.expect_error(404)?;
            Ok(())
        })
    })
}

fn nerdctl_handles_ours_without_the_daemon(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        leaving_nothing(host, || {
            let name = unique("ours");
            let id = ours(&api, &name)?;
            host.kill_daemon()?;
            handled_by_nerdctl(host, &name)?;
            host.start_daemon()?;
            until(Duration::from_secs(20), "the list without it", || {
                api.get(&format!("/containers/{id}/json"))
                    .is_ok_and(|answer| answer.status() == 404)
            })
        })
    })
}

fn nerdctl_starts_ours_again(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        leaving_nothing(host, || {
            let name = unique("again");
            let id = ours(&api, &name)?;
            let path = format!("/containers/{id}");
            // A signal between the shell's `trap` and its `echo` would end it without a word.
            greeted(&api, &id, 1)?;
            api.post(&format!("{path}/stop"))?.expect(204)?;
            host.kill_daemon()?;
            host.nerdctl(&["start", &name])?;
            host.start_daemon()?;
            until(Duration::from_secs(20), "it runs", || {
                api.get_json(&format!("{path}/json"))
                    .is_ok_and(|seen| seen["State"]["Status"] == "running")
            })?;
            let seen = api.get_json(&format!("{path}/json"))?;
            ensure!(
                seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{seen}"
            );
            greeted(&api, &id, 2)?;
            api.post(&format!("{path}/stop"))?.expect(204)?;
            ensure!(api.get_json(&format!("{path}/json"))?["State"]["ExitCode"] == 5);
            api.delete(&path)?.expect(204)?;
            Ok(())
        })
    })
}

fn we_handle_nerdctls(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        leaving_nothing(host, || {
            let name = unique("theirs");
            let script = "trap 'exit 5' TERM; echo hello from theirs; while :; do sleep 0.1; done";
            host.nerdctl(&[
                "run", "-d", "--name", &name, "-l", "mine=no", "busybox", "sh", "-c", script,
            ])?;
            let path = format!("/containers/{name}");
            // containerd's events tell the daemon of it, a moment after nerdctl has returned.
            until(Duration::from_secs(20), "it is seen running", || {
                api.get_json(&format!("{path}/json"))
                    .is_ok_and(|seen| seen["State"]["Status"] == "running")
            })?;
            let seen = api.get_json(&format!("{path}/json"))?;
            ensure!(
                seen["State"]["Status"] == "running" && seen["Name"] == format!("/{name}"),
                "{seen}"
            );
            ensure!(
                seen["Config"]["Labels"] == json!({"mine": "no"}),
                "{}",
                seen["Config"]["Labels"]
            );
            ensure!(
                seen["Config"]["Image"].as_str().is_some_and(|image| image.contains("busybox")),
                "{}",
                seen["Config"]["Image"]
            );
            let address = host.nerdctl(&[
                "inspect",
                "--format",
                "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
                &name,
            ])?;
            ensure!(
                seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == address.trim(),
                "{}",
                seen["NetworkSettings"]
            );
            let list = api.get_json("/containers/json")?;
            ensure!(list[0]["Names"] == json!([format!("/{name}")]), "{list}");
            until(Duration::from_secs(20), "its log", || {
                api.get(&format!("{path}/logs?stdout=1"))
                    .is_ok_and(|answer| answer.text().contains("hello from theirs"))
            })?;
            api.post(&format!("{path}/stop"))?.expect(204)?;
            ensure!(api.get_json(&format!("{path}/json"))?["State"]["ExitCode"] == 5);
            let row = host.nerdctl(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"])?;
            ensure!(row.contains(&name), "{row}");
            api.post(&format!("{path}/start"))?.expect(204)?;
            let row = host.nerdctl(&["ps", "--format", "{{.Names}} {{.Status}}"])?;
            ensure!(row.contains(&format!("{name} Up")), "{row}");
            api.delete(&format!("{path}?force=1"))?.expect(204)?;
            let row = host.nerdctl(&["ps", "-a", "--format", "{{.Names}}"])?;
            ensure!(!row.contains(&name), "{row}");
            Ok(())
        })
    })
}

/// The moment after nerdctl has returned, before containerd's events have told anybody.
fn docker_follows_nerdctl_at_once(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        let script = "trap 'exit 5' TERM; while :; do sleep 0.1; done";
        let body = json!({
            "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"},
        });
        let name = unique("ours");
        let container = api.create_named(&name, body)?;
        let exec = || {
            let body = json!({"Cmd": ["true"]});
            api.post_json(&container.path("/exec"), &body)?.expect(201).map(drop)
        };
        let done = |rest: &str| container.post(rest)?.expect(204).map(drop);
        for round in 0..10 {
            (|| {
                host.nerdctl(&["start", &name])?;
                match round {
                    0 => still_open(&container, "POST", "/wait").context("wait after start")?,
                    1..4 => still_open(&container, "GET", "/logs?stdout=1&follow=1")
                        .context("logs after start")?,
                    _ => {}
                }
                exec().context("exec after start")?;
                host.nerdctl(&["pause", &name])?;
                done("/unpause").context("after pause")?;
                done("/pause")?;
                host.nerdctl(&["unpause", &name])?;
                exec().context("exec after unpause")?;
                host.nerdctl(&["stop", &name])?;
                done("/start").context("start after stop")?;
                host.nerdctl(&["stop", &name])?;
                ensure!(container.post("/stop")?.status() == 304, "stopped twice");
                host.nerdctl(&["start", &name])?;
                done("/stop?t=2").context("stop after start")?;
                ensure!(container.inspect()?["State"]["ExitCode"] == 5);
                host.nerdctl(&["start", &name])?;
                let (head, stream) = container.attach("stream=1&stdout=1")?;
                ensure!([101, 200].contains(&head.status), "attach after start: {}", head.status);
                drop(stream);
                done("/restart?t=2").context("restart after start")?;
                done("/kill")
            })()
            .with_context(|| format!("round {round}"))?;
        }
        host.nerdctl(&["start", &name])?;
        host.nerdctl(&["stop", &name])?;
        container.remove().context("removal after stop")
    })
}

/// An answer that lasts as long as the container runs has not ended.
fn still_open(container: &e2e::Container, method: &str, rest: &str) -> Result<()> {
    let api = container.api();
    let mut answer = api.stream(&api.request(method, &container.path(rest)))?;
    answer.patience(Duration::from_millis(300))?;
    let read = std::io::Read::read(&mut answer, &mut [0; 64]);
    ensure!(read.is_err(), "it has ended: {read:?}");
    Ok(())
}

fn names_are_shared(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        let (theirs, mine) = (unique("theirs"), unique("mine"));
        host.nerdctl(&["create", "--name", &theirs, "busybox", "true"])?;
        let taken = api.post_json(
            &format!("/containers/create?name={theirs}"),
            &json!({"Image": "busybox:latest", "Cmd": ["true"]}),
        )?;
        ensure!(taken.expect_error(409)?.contains(&theirs));
        ours(&api, &mine)?;
        ensure!(
            host.nerdctl(&["create", "--name", &mine, "busybox", "true"]).is_err(),
            "a name twice"
        );
        api.delete(&format!("/containers/{mine}?force=1"))?.expect(204)?;
        host.nerdctl(&["create", "--name", &mine, "busybox", "true"])?;
        api.delete(&format!("/containers/{theirs}"))?.expect(204)?;
        host.nerdctl(&["rm", &mine])?;
        Ok(())
    })
}

/// nerdctl and the daemon work on the same names, hosts files, networks and volumes for a minute: nobody waits for ever,
/// nobody fails, and nothing is left.
fn locks_hold_under_load(rig: &Rig) -> Result<()> {
    with_nerdctl(rig, |host| {
        let api = host.api();
        api.have("busybox:latest")?;
        leaving_nothing(host, || {
            let end = Instant::now() + Duration::from_secs(60);
            let counts = std::thread::scope(|scope| {
                let theirs = |_| {
                    scope.spawn(|| {
                        repeat_until(end, || {
                            host.nerdctl(&["run", "--rm", "busybox", "cat", "/etc/hosts"]).map(drop)
                        })
                    })
                };
                let ours = |_| {
                    let api = api.clone();
                    scope.spawn(move || {
                        repeat_until(end, || {
                            let container = api.create(json!({"Cmd": ["cat", "/etc/hosts"]}))?;
                            container.start()?;
                            ensure!(container.wait()? == 0, "it failed");
                            container.remove()
                        })
                    })
                };
                let theirs: Vec<_> = (0..2).map(theirs).collect();
                let ours: Vec<_> = (0..2).map(ours).collect();
                let count = |threads: Vec<std::thread::ScopedJoinHandle<'_, Result<usize>>>| {
                    threads
                        .into_iter()
                        .map(|thread| thread.join().map_err(|_| e2e::anyhow!("panicked"))?)
                        .sum::<Result<usize>>()
                };
                Ok::<(usize, usize), e2e::Error>((count(theirs)?, count(ours)?))
            })?;
            // Four at a time on one lock: each gets its turn.
            ensure!(counts.0 >= 10 && counts.1 >= 10, "{counts:?} containers in a minute");
            Ok(())
        })
    })
}

/// How often `work` was done until `end`.
fn repeat_until(end: Instant, work: impl Fn() -> Result<()>) -> Result<usize> {
    let mut count = 0;
    while Instant::now() < end {
        work()?;
        count += 1;
    }
    Ok(count)
}

fn ctrs_containers_are_shown(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            api.have("busybox:latest")?;
            host.ctr(&["run", "-d", "docker.io/library/busybox:latest", "plain", "sleep", "1000"])?;
            until(Duration::from_secs(20), "it is listed", || {
                api.get("/containers/plain/json").is_ok_and(|answer| answer.status() == 200)
            })?;
            let seen = api.get_json("/containers/plain/json")?;
            ensure!(seen["State"]["Status"] == "running" && seen["Id"] == "plain", "{seen}");
            ensure!(seen["Name"].as_str().is_some_and(|name| name.len() > 1), "{}", seen["Name"]);
            let listed = api.get_json("/containers/json")?;
            ensure!(
                listed.as_array().is_some_and(|rows| rows.iter().any(|row| row["Id"] == "plain")),
                "{listed}"
            );
            host.ctr(&["tasks", "kill", "-s", "SIGKILL", "plain"])?;
            until(Duration::from_secs(20), "its exit is seen", || {
                api.get_json("/containers/plain/json").is_ok_and(|seen| {
                    seen["State"]["Status"] == "exited" && seen["State"]["ExitCode"] == 137
                })
            })?;
            api.delete("/containers/plain")?.expect(204)?;
            ensure!(!host.ctr(&["containers", "ls", "-q"])?.contains("plain"));
            Ok(())
        },
    )
}
