//! A real Kubernetes pod on the same containerd: everybody may look at it and work in it, and only the kubelet changes it,
//! unless the daemon is told otherwise.

use std::time::Duration;

use e2e::cli::Docker;
use e2e::host::ContainerdVersion;
use e2e::runner::{OrSkip as _, skip};
use e2e::sandbox::until;
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, peers, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_pod_is_shown_and_left_alone.ours_only().slow(),
    a_pod_is_changed_where_that_is_wanted.ours_only().slow(),
];

/// What the pod's container and its sandbox run.
const IMAGE: &str = "docker.io/library/httpd:2";

/// The name of the pod; its namespace is `default`.
const POD: &str = "p1";

/// Ids of its two containers.
struct Pod {
    sandbox: String,
    main: String,
}

fn with_pod(
    rig: &Rig,
    argument: Option<&str>,
    work: impl FnOnce(&Host, &Pod) -> Result<()>,
) -> Result<()> {
    let pods = peers::program("pods", "pods").or_skip()?;
    if ContainerdVersion::from_environment()? != ContainerdVersion::V2 {
        return Err(skip("pods need containerd 2"));
    }
    rig.with_own_host(
        |plan| {
            plan.kubernetes = true;
            plan.arguments.extend(argument.map(str::to_owned));
        },
        |host| {
            let mut make = host.command(&pods)?;
            let ids =
                host.sandbox()?.run(make.arg(host.containerd_socket()?).args([IMAGE, POD]))?;
            let (sandbox, main) = ids.trim().split_once(' ').context("two ids")?;
            until(Duration::from_secs(20), "it is listed", || {
                let seen = host.api().get(&format!("/containers/{main}/json"));
                seen.is_ok_and(|answer| answer.status() == 200)
            })?;
            work(host, &Pod { sandbox: sandbox.to_owned(), main: main.to_owned() })
        },
    )
}

fn a_pod_is_shown_and_left_alone(rig: &Rig) -> Result<()> {
    with_pod(rig, None, |host, pod| {
        let api = host.api();
        its_names_are_those_of_nerdctl(host)?;
        its_output_is_followed(host, pod)?;
        commands_run_in_it(host, pod)?;
        files_go_in_and_out(host, pod)?;
        it_is_looked_at(host, pod)?;
        for id in [&pod.sandbox, &pod.main] {
            changes_are_refused(&api, id)?;
        }
        let message = api.delete("/images/httpd:2?force=1")?.expect_error(409)?;
        ensure!(!message.is_empty());
        let pruned = api.post("/containers/prune")?.expect(200)?.json()?;
        ensure!(pruned["ContainersDeleted"].as_array().is_none_or(Vec::is_empty), "{pruned}");
        let seen = api.get_json(&format!("/containers/{}/json", pod.main))?;
        ensure!(seen["State"]["Status"] == "running", "{}", seen["State"]);
        Ok(())
    })
}

fn its_names_are_those_of_nerdctl(host: &Host) -> Result<()> {
    let list = host.api().get_json("/containers/json")?;
    let names: Vec<&Value> =
        list.as_array().into_iter().flatten().map(|row| &row["Names"][0]).collect();
    let shown = host.nerdctl(&["--namespace", "k8s.io", "ps", "--format", "{{.Names}}"])?;
    ensure!(shown.lines().count() == 2, "{shown}");
    for name in shown.lines() {
        ensure!(names.contains(&&json!(format!("/{name}"))), "{name} is not in {names:?}");
    }
    Ok(())
}

/// It writes `tick` once a second, in Kubernetes' own format.
fn its_output_is_followed(host: &Host, pod: &Pod) -> Result<()> {
    let mut terminal =
        Docker::newest(host)?.on_terminal(&["logs", "-f", "--tail", "1", &pod.main])?;
    for _ in 0..3 {
        terminal.expect("tick")?;
    }
    Ok(())
}

fn commands_run_in_it(host: &Host, pod: &Pod) -> Result<()> {
    let docker = Docker::newest(host)?;
    let run = docker.run(&["exec", &pod.main, "sh", "-c", "echo out; echo err >&2; exit 7"])?;
    ensure!(run.code == 7 && run.stdout == "out\n" && run.stderr.contains("err"), "{run:?}");
    let echoed = docker.run_with_input(&["exec", "-i", &pod.main, "cat"], b"through it")?;
    ensure!(echoed.stdout == "through it", "{echoed:?}");
    let mut terminal = docker.on_terminal(&["exec", "-it", &pod.main, "sh"])?;
    terminal.resize_until_seen()?;
    terminal.type_keys(b"exit 3\n")?;
    ensure!(terminal.wait()? == 3, "the exit code of an exec on a terminal");
    Ok(())
}

fn files_go_in_and_out(host: &Host, pod: &Pod) -> Result<()> {
    let docker = Docker::newest(host)?;
    let (there, back) = (host.root()?.join("to-pod"), host.root()?.join("from-pod"));
    std::fs::write(&there, "for the pod\n")?;
    let (there, back) = (there.display().to_string(), back.display().to_string());
    let inside = format!("{}:/copied", pod.main);
    docker.run(&["cp", &there, &inside])?.success()?;
    docker.run(&["exec", &pod.main, "test", "-s", "/copied"])?.success()?;
    docker.run(&["cp", &inside, &back])?.success()?;
    ensure!(std::fs::read_to_string(&back)? == "for the pod\n");
    Ok(())
}

fn it_is_looked_at(host: &Host, pod: &Pod) -> Result<()> {
    let api = host.api();
    let path = |rest: &str| format!("/containers/{}{rest}", pod.main);
    let stats = api.get_json(&path("/stats?stream=false"))?;
    let used = |stats: &Value| stats["cpu_stats"]["cpu_usage"]["total_usage"].as_u64();
    ensure!(used(&stats) > Some(0), "{stats}");
    ensure!(stats["pids_stats"]["current"].as_u64() > Some(0), "{stats}");
    let top = api.get_json(&path("/top"))?;
    ensure!(top["Processes"].to_string().contains("echo tick"), "{top}");
    let changes = api.get_json(&path("/changes"))?;
    ensure!(changes.to_string().contains(r#""/copied""#), "{changes}");
    let export = api.get(&path("/export"))?.expect(200)?;
    let exported = export.body.windows(7).any(|name| name == b"copied\0");
    ensure!(exported, "the file is not in an export of {} bytes", export.body.len());
    Ok(())
}

/// Each by its name: who the container belongs to, and what to do instead.
fn changes_are_refused(api: &Api, id: &str) -> Result<()> {
    for (method, rest, verb) in [
        ("POST", "/start", "start"),
        ("POST", "/stop", "stop"),
        ("POST", "/kill", "kill"),
        ("POST", "/restart", "restart"),
        ("POST", "/pause", "pause"),
        ("POST", "/unpause", "unpause"),
        ("POST", "/rename?name=other", "rename"),
        ("POST", "/resize?h=1&w=1", "resize"),
        ("DELETE", "", "remove"),
        ("DELETE", "?force=1", "remove"),
    ] {
        let answer = api.send(&api.request(method, &format!("/containers/{id}{rest}")))?;
        is_refused(&answer.expect_error(409)?, verb)?;
    }
    let update = api.post_json(&format!("/containers/{id}/update"), &json!({"Memory": 1 << 30}))?;
    is_refused(&update.expect_error(409)?, "update")?;
    let commit = api.post(&format!("/commit?container={id}&repo=of-a-pod"))?;
    is_refused(&commit.expect_error(409)?, "commit")
}

fn is_refused(message: &str, verb: &str) -> Result<()> {
    let told = message.contains(verb)
        && message.contains(POD)
        && message.contains("default")
        && message.contains("kubectl delete pod");
    ensure!(told, "{verb}: {message}");
    Ok(())
}

fn a_pod_is_changed_where_that_is_wanted(rig: &Rig) -> Result<()> {
    with_pod(rig, Some("--manage-cri"), |host, pod| {
        let api = host.api();
        let post = |rest: &str| api.post(&format!("/containers/{}{rest}", pod.main));
        let status = || -> Result<Value> {
            Ok(api.get_json(&format!("/containers/{}/json", pod.main))?["State"]["Status"].clone())
        };
        post("/pause")?.expect(204)?;
        ensure!(status()? == "paused", "{}", status()?);
        post("/unpause")?.expect(204)?;
        post("/stop?t=1")?.expect(204)?;
        ensure!(status()? == "exited", "{}", status()?);
        api.delete(&format!("/containers/{}", pod.main))?.expect(204)?;
        let left = host.ctr(&["containers", "ls", "-q"])?;
        ensure!(!left.contains(&pod.main) && left.contains(&pod.sandbox), "{left}");
        Ok(())
    })
}
