//! Who dies when, and what must not be lost: the daemon, a monitor, a shim that hangs, containerd.

use std::fs::File;
use std::time::Duration;

use e2e::api::script_body;
use e2e::host::ContainerdVersion;
use e2e::sandbox::{send, until};
use e2e::{Api, Container, Context as _, Host, Result, Rig, Test, ensure, frames, tests, unique};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::quick;

pub(crate) const TESTS: &[Test] = tests![
    three_kills_of_the_daemon_lose_no_line.ours_only(),
    twenty_kills_of_the_daemon_lose_no_line.ours_only().slow(),
    three_kills_of_a_monitor.ours_only(),
    twenty_kills_of_a_monitor.ours_only().slow(),
    an_exit_without_a_daemon_is_known_to_the_next.ours_only(),
    auto_removal_is_made_up_for.ours_only(),
    a_hung_shim_holds_up_nobody_else.ours_only(),
    a_kill_outlasts_the_networks_of_others.ours_only().slow(),
    containerd_dies_and_comes_back.ours_only(),
    a_daemon_starts_without_containerd.ours_only(),
    streams_end_with_the_daemon.ours_only(),
];

/// Writes numbered lines, about 10,000 a second, `total` in all; then exits with 42.
fn writer(total: u32) -> Value {
    let script = format!(
        "i=1; while [ $i -le {total} ]; do seq -f 'line %.0f' $i $((i+99)); i=$((i+100)); sleep 0.008; done; exit 42"
    );
    // busybox has no seq -f.
    script_body(&script.replace("seq -f 'line %.0f'", "seq"))
}

/// Networks are released one after the other: a container whose turn comes late has been killed all the same.
fn a_kill_outlasts_the_networks_of_others(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let mut body = script_body("echo ready; sleep 1000");
            body["HostConfig"]["NetworkMode"] = json!("bridge");
            let container = api.create(body)?;
            container.start()?;
            container.until_logged("ready")?;
            let path = host.root()?.join("cni/net.d/.cni-concurrency.lock");
            let lock = File::open(&path).with_context(|| path.display().to_string())?;
            flock(&lock, FlockOperation::LockExclusive).context("locking")?;
            std::thread::scope(|scope| {
                let killed = scope.spawn(|| container.post("/kill")?.expect(204));
                // Longer than SIGKILL is given.
                std::thread::sleep(Duration::from_secs(12));
                let waits = !killed.is_finished();
                drop(lock);
                killed.join().map_err(|_| e2e::Error::msg("the client panicked"))??;
                ensure!(waits, "nothing was told before the networks were released");
                ensure!(container.status()? == "exited");
                Ok(())
            })
        },
    )
}

/// A cheap source of odd moments: the clock's lowest digits.
fn odd_moment(most: u64) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos());
    Duration::from_micros(u64::from(nanos / 1000) * 7919 % (most * 1000))
}

/// Numbers that a container has logged.
fn numbers(container: &Container) -> Result<Vec<u32>> {
    let text = container.logs("")?.text();
    text.lines()
        .map(|line| line.parse().with_context(|| format!("not a whole line: {line:?}")))
        .collect()
}

fn kills_of_the_daemon(rig: &Rig, kills: u32) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let total = 6_000 * kills;
            let container = api.create(writer(total))?;
            container.start()?;
            for _ in 0..kills {
                std::thread::sleep(odd_moment(400));
                host.kill_daemon()?;
                std::thread::sleep(odd_moment(100));
                host.start_daemon()?;
            }
            ensure!(container.wait()? == 42, "the exit code is lost");
            let seen = numbers(&container)?;
            let expected: Vec<u32> = (1..=total).collect();
            ensure!(seen == expected, "{}", difference(&seen, total));
            ensure!(container.inspect()?["State"]["ExitCode"] == 42);
            Ok(())
        },
    )
}

fn difference(seen: &[u32], total: u32) -> String {
    let mut counts = vec![0_u32; total as usize + 1];
    for number in seen {
        if let Some(count) = counts.get_mut(*number as usize) {
            *count += 1;
        }
    }
    let missing: Vec<_> = (1..=total).filter(|number| counts[*number as usize] == 0).collect();
    let twice = counts.iter().filter(|count| **count > 1).count();
    format!(
        "{} lines of {total}, {} missing (first {:?}), {twice} more than once, in order: {}",
        seen.len(),
        missing.len(),
        missing.first(),
        seen.is_sorted()
    )
}

fn three_kills_of_the_daemon_lose_no_line(rig: &Rig) -> Result<()> {
    kills_of_the_daemon(rig, 3)
}

fn twenty_kills_of_the_daemon_lose_no_line(rig: &Rig) -> Result<()> {
    kills_of_the_daemon(rig, 20)
}

/// The process that owns a container's output.
fn monitor(host: &Host, id: &str) -> Result<Option<u32>> {
    let is_monitor = |arguments: &[String]| {
        arguments.iter().any(|word| word == "io-monitor")
            && arguments.iter().any(|word| word.contains(id))
    };
    Ok(host
        .sandbox()?
        .processes()
        .into_iter()
        .find(|process| is_monitor(&process.arguments))
        .map(|process| process.pid))
}

/// What a killed monitor costs: nothing but lines told twice (io-monitor's title page), also while files are rotated and
/// compressed. The container goes on, and its exit code is known.
fn kills_of_a_monitor(rig: &Rig, kills: u32) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let total = 6_000 * kills;
            let mut body = writer(total);
            let options = json!({"max-size": "100k", "max-file": "1000", "compress": "true"});
            body["HostConfig"]["LogConfig"] = json!({"Type": "json-file", "Config": options});
            let container = host.api().create(body)?;
            container.start()?;
            let mut killed = 0;
            for _ in 0..kills {
                std::thread::sleep(odd_moment(400));
                let mut pid = None;
                until(Duration::from_secs(20), "a monitor", || {
                    pid = monitor(host, &container.id).ok().flatten();
                    pid.is_some() || container.status().is_ok_and(|status| status == "exited")
                })?;
                if let Some(pid) = pid {
                    killed += u32::from(send(pid, Signal::KILL).is_ok());
                }
            }
            ensure!(killed * 2 >= kills, "only {killed} of {kills} kills met a monitor");
            ensure!(container.wait()? == 42, "the exit code is lost");
            let mut seen = numbers(&container)?;
            // Twice, perhaps, but in runs: going back is starting again where the log had not been acknowledged.
            let back = seen.windows(2).filter(|pair| pair[1] <= pair[0]).count();
            ensure!(back <= killed as usize, "{killed} kills, and the log goes back {back} times");
            seen.sort_unstable();
            seen.dedup();
            let expected: Vec<u32> = (1..=total).collect();
            ensure!(seen == expected, "{killed} kills: {}", difference(&seen, total));
            Ok(())
        },
    )
}

fn three_kills_of_a_monitor(rig: &Rig) -> Result<()> {
    kills_of_a_monitor(rig, 3)
}

fn twenty_kills_of_a_monitor(rig: &Rig) -> Result<()> {
    kills_of_a_monitor(rig, 20)
}

fn an_exit_without_a_daemon_is_known_to_the_next(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let container = api.run_script("sleep 1; echo last words; exit 7")?;
            let before = container.inspect()?["State"]["StartedAt"].clone();
            host.kill_daemon()?;
            std::thread::sleep(Duration::from_secs(2));
            host.start_daemon()?;
            let state = container.inspect()?["State"].clone();
            ensure!(
                state["Status"] == "exited"
                    && state["ExitCode"] == 7
                    && state["StartedAt"] == before,
                "{state}"
            );
            ensure!(container.wait()? == 7);
            ensure!(container.logs("")?.text() == "last words\n");
            // It starts again as if nothing had been.
            container.start()?;
            ensure!(container.wait()? == 7);
            container.remove()?;
            Ok(())
        },
    )
}

fn auto_removal_is_made_up_for(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let mut body = script_body("sleep 1");
            body["HostConfig"]["AutoRemove"] = json!(true);
            let name = unique("auto");
            let container = api.create_named(&name, body)?;
            container.start()?;
            host.kill_daemon()?;
            std::thread::sleep(Duration::from_secs(2));
            host.start_daemon()?;
            until(Duration::from_secs(20), "its removal", || {
                api.get(&container.path("/json")).is_ok_and(|answer| answer.status() == 404)
            })?;
            api.create_named(&name, script_body("true"))?;
            Ok(())
        },
    )
}

fn a_hung_shim_holds_up_nobody_else(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let (hung, other) = (api.run_script("sleep 1000")?, api.run_script("sleep 1000")?);
            let shim = host.sandbox()?.shim_of(&hung.id).context("no shim")?;
            send(shim, Signal::STOP)?;
            let looked = look_around(&api, &hung, &other);
            // A request that needs the shim waits for it, and hurts nobody.
            let stuck = std::thread::spawn({
                let (api, path) = (api.clone(), hung.path("/kill"));
                move || api.post(&path)
            });
            std::thread::sleep(Duration::from_millis(300));
            let looked_again = look_around(&api, &hung, &other);
            send(shim, Signal::CONT)?;
            looked?;
            looked_again?;
            stuck.join().map_err(|_| e2e::anyhow!("panicked"))??;
            ensure!(hung.wait()? == 137);
            Ok(())
        },
    )
}

fn look_around(api: &Api, hung: &Container, other: &Container) -> Result<()> {
    quick("_ping", || api.get("/_ping")?.expect(200))?;
    quick("info", || api.get("/info")?.expect(200))?;
    let list = quick("list", || api.get_json("/containers/json"))?;
    ensure!(list.as_array().is_some_and(|rows| rows.len() == 2), "{list}");
    for container in [hung, other] {
        let seen = quick("inspect", || container.inspect())?;
        ensure!(seen["State"]["Status"] == "running", "{}", seen["State"]);
    }
    quick("logs", || other.logs(""))?;
    let third = quick("create, start, end", || {
        let third = api.run_script("exit 5")?;
        ensure!(third.wait()? == 5);
        Ok(third)
    })?;
    quick("remove", || third.remove())
}

fn containerd_dies_and_comes_back(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let container = api.run_script("trap 'exit 3' TERM; while :; do sleep 0.1; done")?;
            let ends = api.run_script("sleep 2; echo said meanwhile; exit 6")?;
            host.kill_containerd()?;
            for _ in 0..5 {
                api.get("/_ping")?.expect(200)?;
                std::thread::sleep(Duration::from_millis(100));
            }
            refused_with_a_sentence(&api)?;
            std::thread::sleep(Duration::from_secs(2));
            host.start_containerd()?;
            until(Duration::from_secs(30), "the daemon's recovery", || {
                container.status().is_ok_and(|status| status == "running")
            })?;
            until(Duration::from_secs(30), "the exit meanwhile", || {
                ends.status().is_ok_and(|status| status == "exited")
            })?;
            // containerd from 1.7 on forgets tasks that end while it is away; 255 is Docker's word
            // for an unknown exit.
            let code = ends.wait()?;
            let forgets = host.plan().containerd != ContainerdVersion::V1_6;
            ensure!(code == 6 || (forgets && code == 255), "exit code {code}");
            ensure!(ends.logs("")?.text() == "said meanwhile\n");
            let mut events = api.stream(&api.request("GET", "/events"))?;
            container.post("/stop")?.expect(204)?;
            ensure!(container.wait()? == 3);
            while events.next_json()?.context("no die")?["Action"] != "die" {}
            ensure!(api.run_script("exit 4")?.wait()? == 4);
            Ok(())
        },
    )
}

fn refused_with_a_sentence(api: &Api) -> Result<()> {
    let response =
        api.post_json("/containers/create", &json!({"Image": "busybox", "Cmd": ["true"]}))?;
    let message = response.expect_error(503)?;
    ensure!(message.contains("containerd") && message.contains(' '), "{message}");
    Ok(())
}

fn a_daemon_starts_without_containerd(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            host.kill_daemon()?;
            host.kill_containerd()?;
            host.start_daemon()?;
            api.get("/version")?.expect(200)?;
            refused_with_a_sentence(&api)?;
            let message = api.get("/containers/json")?.expect_error(503)?;
            ensure!(message.contains("containerd"), "{message}");
            host.start_containerd()?;
            until(Duration::from_secs(30), "the daemon's recovery", || {
                api.get("/containers/json").is_ok_and(|answer| answer.status() == 200)
            })?;
            ensure!(api.run_script("exit 4")?.wait()? == 4);
            Ok(())
        },
    )
}

fn streams_end_with_the_daemon(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let container = api.run_script("while :; do echo x; sleep 0.05; done")?;
            let events = api.stream(&api.request("GET", "/events"))?;
            let mut logs =
                api.stream(&api.request("GET", &container.path("/logs?stdout=1&follow=1")))?;
            let (_, mut attached) = container.attach("stream=1&stdout=1")?;
            let waiting = api.stream(&api.request("POST", &container.path("/wait")))?;
            frames::next(&mut logs)?;
            let status = host.stop_daemon()?;
            ensure!(status.success(), "{status}");
            // All of them see an end, and none hangs.
            let _ = (events.rest(), logs.rest(), waiting.rest());
            while frames::next(&mut attached).is_ok_and(|frame| frame.is_some()) {}
            host.start_daemon()?;
            ensure!(container.status()? == "running", "it ended with the daemon");
            Ok(())
        },
    )
}
