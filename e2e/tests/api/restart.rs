//! Restart by hand and by policy: order of events, pauses, counts, what ends it, and what outlives the daemon.

use std::time::{Duration, Instant};

use e2e::api::{filters, script_body};
use e2e::host::ContainerdVersion;
use e2e::http::Stream;
use e2e::sandbox::{send, until};
use e2e::{Api, Container, Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use rustix::process::Signal;
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_restart_is_a_stop_and_a_start,
    a_restart_starts_what_is_stopped,
    a_restart_takes_a_signal,
    a_restart_does_not_remove,
    a_restart_of_what_is_not_there,
    policies_are_checked,
    always_starts_again_after_growing_pauses,
    a_failure_is_tried_so_often,
    a_success_is_no_failure,
    a_stop_ends_the_restarts,
    a_stop_in_the_pause_ends_the_restarts,
    a_kill_ends_the_restarts,
    any_signal_ends_the_restarts_without_a_stop_signal,
    only_the_stop_signal_ends_the_restarts_of_always,
    a_removal_in_the_pause_needs_force,
    a_start_by_hand_counts_anew,
    a_program_that_vanishes_is_given_up,
    what_ran_runs_after_the_daemon.ours_only(),
    what_was_stopped_stays_stopped_after_the_daemon.ours_only(),
    a_boot_starts_what_is_always_to_run.ours_only(),
    containerd_restarts_while_the_daemon_is_away.ours_only().slow(),
    containerd_dies_with_policies_armed.ours_only().slow(),
];

fn body(script: &str, policy: &str, most: u32) -> Value {
    let mut body = script_body(script);
    body["HostConfig"]["RestartPolicy"] = json!({"Name": policy, "MaximumRetryCount": most});
    body
}

fn run(api: &Api, script: &str, policy: &str, most: u32) -> Result<Container> {
    let container = api.create(body(script, policy, most))?;
    container.start()?;
    Ok(container)
}

fn events_of(api: &Api, name: &str) -> Result<Stream> {
    let stream =
        api.stream(&api.request("GET", &format!("/events?{}", filters(&[("container", name)]))))?;
    stream.patience(Duration::from_secs(30))?;
    Ok(stream)
}

/// The actions up to the `count`th `last`.
fn actions_until(stream: &mut Stream, last: &str, count: usize) -> Result<Vec<String>> {
    let mut seen: Vec<String> = Vec::new();
    while seen.iter().filter(|action| *action == last).count() < count {
        let event = stream.next_json().with_context(|| format!("after {seen:?}"))?;
        let event = event.with_context(|| format!("the stream ends after {seen:?}"))?;
        if event["Type"] == "container" {
            seen.push(event["Action"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(seen)
}

fn until_status(container: &Container, status: &str) -> Result<()> {
    until(Duration::from_secs(30), status, || container.status().is_ok_and(|now| now == status))
}

fn restarts(container: &Container) -> Result<i64> {
    container.inspect()?["RestartCount"].as_i64().context("no RestartCount")
}

const IDLE: &str =
    "trap 'exit 5' TERM; trap 'exit 6' USR1; echo ready; while :; do sleep 0.1; done";

fn a_restart_is_a_stop_and_a_start(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.run_script(IDLE)?;
    container.until_logged("ready")?;
    let before = container.inspect()?["State"].clone();
    let mut stream = events_of(&api, &container.name)?;
    container.post("/restart")?.expect(204)?;
    let after = container.inspect()?;
    ensure!(after["State"]["Status"] == "running" && after["State"]["Pid"] != before["Pid"]);
    ensure!(after["State"]["StartedAt"].as_str() > before["StartedAt"].as_str());
    ensure!(after["RestartCount"] == 0, "only policies count");
    let mut seen = actions_until(&mut stream, "restart", 1)?;
    // A stop and the end that it causes come in either order.
    seen[1..3].sort();
    ensure!(seen == ["kill", "die", "stop", "start", "restart"], "{seen:?}");
    Ok(())
}

fn a_restart_starts_what_is_stopped(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body(IDLE))?;
    let mut stream = events_of(&api, &container.name)?;
    container.post("/restart")?.expect(204)?;
    ensure!(container.status()? == "running");
    let seen = actions_until(&mut stream, "restart", 1)?;
    ensure!(seen == ["start", "restart"], "{seen:?}");
    Ok(())
}

fn a_restart_takes_a_signal(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.run_script(&format!("echo run; {IDLE}"))?;
    container.until_logged("ready")?;
    let mut stream = events_of(&api, &container.name)?;
    container.post("/restart?signal=USR1&t=20")?.expect(204)?;
    let mut code = None;
    while code.is_none() {
        let event = stream.next_json()?.context("no die")?;
        code = event["Actor"]["Attributes"]["exitCode"].as_str().map(str::to_owned);
    }
    ensure!(code.as_deref() == Some("6"), "{code:?}");
    // Before 1.42 it is ignored.
    until(Duration::from_secs(30), "its second run", || {
        container.logs("").is_ok_and(|logs| logs.text().matches("ready").count() == 2)
    })?;
    let path = container.path("/restart?signal=nonsense");
    api.at("1.41").post(&path)?.expect(204)?;
    let answer = api.post(&path)?;
    // dockerd blames itself with 500.
    ensure!(answer.status() >= 400, "{}", answer.status());
    ensure!(answer.message().contains("invalid signal: nonsense"), "{}", answer.text());
    ensure!(container.status()? == "running");
    Ok(())
}

fn a_restart_does_not_remove(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut body = script_body(IDLE);
    body["HostConfig"]["AutoRemove"] = json!(true);
    let container = api.create(body)?;
    container.start()?;
    container.until_logged("ready")?;
    container.post("/restart")?.expect(204)?;
    ensure!(container.status()? == "running");
    container.post("/kill")?.expect(204)?;
    until(Duration::from_secs(30), "its removal", || {
        container.listed().is_ok_and(|listed| listed.is_none())
    })
}

fn a_restart_of_what_is_not_there(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let message = api.post("/containers/nobody/restart")?.expect_error(404)?;
    ensure!(message == "No such container: nobody", "{message}");
    Ok(())
}

fn policies_are_checked(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(e2e::api::BUSYBOX)?;
    for (policy, text) in [
        (
            json!({"Name": "sometimes"}),
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
        (
            json!({"Name": "always", "MaximumRetryCount": 1}),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            json!({"Name": "on-failure", "MaximumRetryCount": -1}),
            "invalid restart policy: maximum retry count cannot be negative",
        ),
    ] {
        let body = json!({"Image": e2e::api::BUSYBOX, "HostConfig": {"RestartPolicy": policy}});
        let message = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(message == text, "{message}");
    }
    for (policy, most) in
        [("", 0), ("no", 0), ("always", 0), ("unless-stopped", 0), ("on-failure", 3)]
    {
        let container = api.create(body("true", policy, most))?;
        let shown = container.inspect()?["HostConfig"]["RestartPolicy"].clone();
        let name = if policy.is_empty() { "no" } else { policy };
        ensure!(shown == json!({"Name": name, "MaximumRetryCount": most}), "{shown}");
        container.remove()?;
    }
    Ok(())
}

fn always_starts_again_after_growing_pauses(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(body("echo run; exit 3", "always", 0))?;
    let mut stream = events_of(&api, &container.name)?;
    container.start()?;
    let mut times = Vec::new();
    while times.len() < 7 {
        let event = stream.next_json()?.context("no event")?;
        if event["Type"] != "container" {
            continue;
        }
        ensure!(event["Action"] == "start" || event["Action"] == "die", "{event}");
        times.push(event["timeNano"].as_i64().context("timeNano")?);
    }
    // Pauses of 100, 200 and 400 ms at least, between an end and the next start.
    let pauses: Vec<i64> =
        times[1..].chunks_exact(2).map(|ends| (ends[1] - ends[0]) / 1_000_000).collect();
    ensure!(pauses.iter().zip([100, 200, 400]).all(|(pause, least)| *pause >= least), "{pauses:?}");
    until_status(&container, "restarting")?;
    let shown = container.inspect()?;
    let state = &shown["State"];
    // It may have been started since.
    if state["Status"] == "restarting" {
        ensure!(state["Running"] == true && state["Restarting"] == true, "{state}");
        ensure!(state["Pid"] == 0 && state["ExitCode"] == 3, "{state}");
    }
    ensure!(shown["RestartCount"].as_i64() >= Some(3), "{shown}");
    let mut row = Value::Null;
    until(Duration::from_secs(30), "a row of the list that says so", || {
        let list =
            api.get_json(&format!("/containers/json?{}", filters(&[("status", "restarting")])));
        let rows = list.unwrap_or_default();
        row = rows
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["Id"] == container.id.as_str())
            .cloned()
            .unwrap_or_default();
        row["State"] == "restarting"
    })?;
    let status = row["Status"].as_str().unwrap_or_default();
    ensure!(status.starts_with("Restarting (3) ") && status.ends_with(" ago"), "{row}");
    // Docker counts it as running.
    until_status(&container, "restarting")?;
    container.post("/start")?.expect(304)?;
    container.remove()
}

fn a_failure_is_tried_so_often(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(body("exit 7", "on-failure", 2))?;
    let mut stream = events_of(&api, &container.name)?;
    container.start()?;
    let seen = actions_until(&mut stream, "die", 3)?;
    ensure!(seen == ["start", "die", "start", "die", "start", "die"], "{seen:?}");
    until_status(&container, "exited")?;
    ensure!(container.wait()? == 7);
    ensure!(restarts(&container)? == 2);
    ensure!(container.inspect()?["State"]["ExitCode"] == 7);
    Ok(())
}

fn a_success_is_no_failure(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = run(&api, "exit 0", "on-failure", 0)?;
    ensure!(container.wait()? == 0);
    ensure!(container.status()? == "exited" && restarts(&container)? == 0);
    Ok(())
}

/// Nothing starts it within a few pauses.
fn stays_ended(container: &Container, stream: &mut Stream) -> Result<()> {
    stream.patience(Duration::from_secs(1))?;
    while let Ok(Some(event)) = stream.next_json() {
        ensure!(event["Action"] != "start", "it was started again");
    }
    ensure!(container.status()? == "exited", "{}", container.inspect()?["State"]);
    Ok(())
}

fn a_stop_ends_the_restarts(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for policy in ["always", "unless-stopped", "on-failure"] {
        let container = run(&api, IDLE, policy, 0)?;
        container.until_logged("ready")?;
        let mut stream = events_of(&api, &container.name)?;
        container.post("/stop")?.expect(204)?;
        ensure!(container.wait()? == 5, "a wait ends with the stop");
        stays_ended(&container, &mut stream)?;
        // And a start is a start.
        container.start()?;
        ensure!(container.status()? == "running");
    }
    Ok(())
}

fn a_stop_in_the_pause_ends_the_restarts(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = run(&api, "exit 3", "always", 0)?;
    until(Duration::from_secs(30), "longer pauses", || {
        restarts(&container).is_ok_and(|count| count >= 4)
    })?;
    until_status(&container, "restarting")?;
    let mut stream = events_of(&api, &container.name)?;
    container.post("/stop")?.expect(204)?;
    ensure!(actions_until(&mut stream, "stop", 1)? == ["stop"]);
    ensure!(container.wait()? == 3);
    stays_ended(&container, &mut stream)?;
    container.post("/stop")?.expect(304)?;
    Ok(())
}

fn a_kill_ends_the_restarts(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = run(&api, IDLE, "always", 0)?;
    container.until_logged("ready")?;
    let mut stream = events_of(&api, &container.name)?;
    container.post("/kill")?.expect(204)?;
    ensure!(container.wait()? == 137);
    stays_ended(&container, &mut stream)
}

fn any_signal_ends_the_restarts_without_a_stop_signal(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = run(&api, IDLE, "always", 0)?;
    container.until_logged("ready")?;
    let mut stream = events_of(&api, &container.name)?;
    container.post("/kill?signal=USR1")?.expect(204)?;
    ensure!(container.wait()? == 6);
    stays_ended(&container, &mut stream)
}

fn only_the_stop_signal_ends_the_restarts_of_always(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (policy, goes_on) in [("always", true), ("unless-stopped", false)] {
        let mut body = body(IDLE, policy, 0);
        body["StopSignal"] = json!("SIGINT");
        let container = api.create(body)?;
        container.start()?;
        container.until_logged("ready")?;
        let mut stream = events_of(&api, &container.name)?;
        container.post("/kill?signal=USR1")?.expect(204)?;
        if goes_on {
            let seen = actions_until(&mut stream, "start", 1)?;
            ensure!(seen == ["kill", "die", "start"], "{seen:?}");
        } else {
            ensure!(container.wait()? == 6);
            stays_ended(&container, &mut stream)?;
        }
    }
    Ok(())
}

fn a_removal_in_the_pause_needs_force(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = run(&api, "exit 3", "always", 0)?;
    until(Duration::from_secs(30), "longer pauses", || {
        restarts(&container).is_ok_and(|count| count >= 4)
    })?;
    until_status(&container, "restarting")?;
    let message = api.delete(&container.path(""))?.expect_error(409)?;
    let reason = "container is restarting: stop the container before removing or force remove";
    ensure!(message.ends_with(reason), "{message}");
    container.remove()?;
    ensure!(container.listed()?.is_none());
    Ok(())
}

fn a_start_by_hand_counts_anew(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container =
        run(&api, "[ -e /again ] && exec sleep 1000; touch /again; exit 1", "on-failure", 0)?;
    until(Duration::from_secs(30), "its second run", || {
        restarts(&container).is_ok_and(|count| count == 1)
            && container.status().is_ok_and(|status| status == "running")
    })?;
    container.post("/kill")?.expect(204)?;
    ensure!(restarts(&container)? == 1, "the count stays for people to see");
    container.start()?;
    ensure!(restarts(&container)? == 0);
    Ok(())
}

fn a_program_that_vanishes_is_given_up(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut gone = body("", "always", 0);
    gone["Cmd"] = json!(["/bin/nobody-has-this"]);
    // Its start fails: that is no end of a run.
    let container = api.create(gone)?;
    container.post("/start")?.expect_error(400)?;
    let state = container.inspect()?["State"].clone();
    ensure!(state["Status"] == "created" && state["ExitCode"] == 127, "{state}");
    ensure!(restarts(&container)? == 0);
    Ok(())
}

fn with_containers(
    rig: &Rig,
    policies: &[&str],
    script: &str,
    work: impl FnOnce(&Host, &[Container]) -> Result<()>,
) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let containers: Vec<Container> = policies
                .iter()
                .map(|policy| run(&api, script, policy, 0))
                .collect::<Result<_>>()?;
            for container in &containers {
                container.until_logged("ready")?;
            }
            work(host, &containers)
        },
    )
}

fn what_ran_runs_after_the_daemon(rig: &Rig) -> Result<()> {
    let policies = ["always", "unless-stopped", "on-failure", "no"];
    with_containers(rig, &policies, IDLE, |host, containers| {
        host.kill_daemon()?;
        for container in containers {
            host.ctr(&["tasks", "kill", "-s", "SIGKILL", &container.id])?;
        }
        host.start_daemon()?;
        for (container, policy) in containers.iter().zip(policies) {
            let status = if policy == "no" { "exited" } else { "running" };
            until_status(container, status).with_context(|| policy.to_owned())?;
        }
        Ok(())
    })
}

fn what_was_stopped_stays_stopped_after_the_daemon(rig: &Rig) -> Result<()> {
    let policies = ["always", "unless-stopped", "on-failure"];
    with_containers(rig, &policies, IDLE, |host, containers| {
        for container in containers {
            container.post("/stop")?.expect(204)?;
        }
        host.kill_daemon()?;
        host.start_daemon()?;
        let marker = run(&host.api(), IDLE, "no", 0)?;
        marker.until_logged("ready")?;
        for (container, policy) in containers.iter().zip(policies) {
            ensure!(container.status()? == "exited", "{policy}");
        }
        Ok(())
    })
}

/// As a boot does: no process is left, and `/run` is empty.
pub(crate) fn boot(host: &Host) -> Result<()> {
    let sandbox = host.sandbox()?;
    host.kill_daemon()?;
    host.kill_containerd()?;
    let is_left = |arguments: &[String]| {
        arguments.iter().any(|word| word.contains("containerd-shim") || word == "io-monitor")
    };
    until(Duration::from_secs(30), "the end of everything", || {
        let processes = sandbox.processes();
        let left = processes.iter().filter(|process| is_left(&process.arguments));
        left.map(|process| send(process.pid, Signal::KILL)).filter(Result::is_ok).count() == 0
    })?;
    // The containers' own processes are in namespaces of theirs; a boot leaves neither them nor their groups.
    let groups = format!("/sys/fs/cgroup/*/{0}/* /sys/fs/cgroup/{0}/*", host.namespace());
    let script = format!(
        "for group in {groups}; do
             [ -d $group ] || continue
             while left=$(cat $group/cgroup.procs); [ -n \"$left\" ]; do kill -9 $left; sleep 0.05; done
             rmdir $group
         done 2>/dev/null
         umount -l /run/containerd/io.containerd.runtime.v2.task/*/*/rootfs 2>/dev/null
         rm -rf /run/*"
    );
    sandbox.run(sandbox.command("sh").args(["-c", &script]))?;
    host.start_containerd()?;
    host.start_daemon()
}

fn a_boot_starts_what_is_always_to_run(rig: &Rig) -> Result<()> {
    let policies = ["always", "unless-stopped", "on-failure", "no", "always", "unless-stopped"];
    with_containers(rig, &policies, IDLE, |host, containers| {
        for stopped in &containers[4..] {
            stopped.post("/stop")?.expect(204)?;
        }
        boot(host)?;
        let expected = ["running", "running", "running", "exited", "running", "exited"];
        for ((container, policy), status) in containers.iter().zip(policies).zip(expected) {
            until_status(container, status).with_context(|| format!("{policy}, {status}"))?;
        }
        Ok(())
    })
}

fn containerd_restarts_while_the_daemon_is_away(rig: &Rig) -> Result<()> {
    with_containers(rig, &["always"], IDLE, |host, containers| {
        let [container] = containers else { e2e::bail!("one container") };
        let before = container.inspect()?["State"]["StartedAt"].clone();
        host.kill_daemon()?;
        host.ctr(&["tasks", "kill", "-s", "SIGKILL", &container.id])?;
        let began = Instant::now();
        until(Duration::from_secs(40), "containerd's restart", || {
            // The old task is there until the plugin replaces it.
            began.elapsed() > Duration::from_secs(1)
                && host.ctr(&["tasks", "ls"]).is_ok_and(|tasks| {
                    tasks
                        .lines()
                        .any(|line| line.contains(&container.id) && line.contains("RUNNING"))
                })
        })?;
        host.start_daemon()?;
        until_status(container, "running")?;
        ensure!(container.inspect()?["State"]["StartedAt"] != before);
        // Its run is ours now: its output is stored, and a stop is a stop.
        until(Duration::from_secs(30), "its second log", || {
            container.logs("").is_ok_and(|logs| logs.text().matches("ready").count() == 2)
        })?;
        let mut stream = events_of(&host.api(), &unique("nobody"))?;
        container.post("/stop")?.expect(204)?;
        stays_ended(container, &mut stream)
    })
}

/// Greets, and goes on with numbers.
const COUNTING: &str = "echo ready; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done";

/// Each ends as it would in Docker, is started once and not twice, and every line is in its log.
fn containerd_dies_with_policies_armed(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let policies = [("always", 0), ("on-failure", 3), ("unless-stopped", 0)];
            let start = |(policy, most): &(&str, u32)| run(&api, COUNTING, policy, *most);
            let running: Vec<_> = policies.iter().map(start).collect::<Result<_>>()?;
            let killed: Vec<_> = policies.iter().map(start).collect::<Result<_>>()?;
            let stopped = run(&api, COUNTING, "always", 0)?;
            let waiting = run(&api, "echo ready; exit 1", "always", 0)?;
            for container in running.iter().chain(&killed) {
                container.until_logged("line 5")?;
            }
            stopped.post("/stop?t=0")?.expect(204)?;
            until(Duration::from_secs(30), "a pause", || {
                restarts(&waiting).is_ok_and(|count| count >= 4)
            })?;
            let pid = |container: &Container| -> Result<i64> {
                container.inspect()?["State"]["Pid"].as_i64().context("no Pid")
            };
            let before = running.iter().map(pid).collect::<Result<Vec<_>>>()?;
            let victims = killed.iter().map(pid).collect::<Result<Vec<_>>>()?;

            host.kill_containerd()?;
            let sandbox = host.sandbox()?;
            for victim in victims {
                sandbox.run(sandbox.command("kill").args(["-9", &victim.to_string()]))?;
            }
            std::thread::sleep(Duration::from_secs(1));
            host.start_containerd()?;

            for (container, policy) in killed.iter().zip(policies) {
                until(Duration::from_secs(40), "its second run", || {
                    container.status().is_ok_and(|status| status == "running")
                        && container.logs("").is_ok_and(|log| runs(&log.text()) == 2)
                })
                .with_context(|| format!("{policy:?}: {:?}", container.inspect()))?;
                // containerd's plugin may be faster than the daemon; that of 1.6 does not count.
                let counts = ContainerdVersion::from_environment()? != ContainerdVersion::V1_6;
                let counted = restarts(container)?;
                ensure!((i64::from(counts)..=1).contains(&counted), "{policy:?}: {counted}");
            }
            for (container, pid_before) in running.iter().zip(before) {
                ensure!(container.status()? == "running" && pid(container)? == pid_before);
                ensure!(restarts(container)? == 0, "{}", restarts(container)?);
                let now = container.logs("")?.text().lines().count();
                until(Duration::from_secs(10), "more lines", || {
                    container.logs("").is_ok_and(|log| log.text().lines().count() > now)
                })?;
                ensure!(runs(&container.logs("")?.text()) == 1, "it was started twice");
            }
            ensure!(stopped.status()? == "exited" && restarts(&stopped)? == 0);
            let restarted = restarts(&waiting)?;
            until(Duration::from_secs(60), "the next restart", || {
                restarts(&waiting).is_ok_and(|count| count > restarted)
            })?;
            waiting.post("/stop?t=0")?.expect(204)?;
            let (greeted, counted) = (runs(&waiting.logs("")?.text()), restarts(&waiting)?);
            // A stop in the pause comes before the restart that was counted for it.
            ensure!(greeted - counted <= 1, "{greeted} runs and {counted} restarts");
            for container in running.iter().chain(&killed) {
                container.post("/stop?t=0")?.expect(204)?;
                lines_are_whole(&container.logs("")?.text())?;
            }
            Ok(())
        },
    )
}

fn runs(log: &str) -> i64 {
    i64::try_from(log.matches("ready").count()).unwrap_or(i64::MAX)
}

/// Each run greets and counts from 0, without a gap.
fn lines_are_whole(log: &str) -> Result<()> {
    let mut next = 0;
    for line in log.lines() {
        if line == "ready" {
            next = 0;
            continue;
        }
        ensure!(line == format!("line {next}"), "{line:?} in place of line {next}");
        next += 1;
    }
    Ok(())
}
