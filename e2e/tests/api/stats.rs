//! What a container uses, and its processes: stats, once and as a stream, and top.

use std::time::Duration;

use e2e::api::{encode, script_body};
use e2e::http::Stream;
use e2e::sandbox::until;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    stats_have_dockers_shape,
    stats_once_have_the_look_before,
    a_single_look_has_none_before,
    stats_are_a_stream,
    stats_of_what_does_not_run,
    stats_end_with_the_container,
    interfaces_have_their_counters,
    top_shows_the_processes,
    top_refuses,
];

/// Busy until it is told to end.
const BUSY: &str = "echo ready; while :; do :; done";

/// A container that has said `ready`.
pub(crate) fn started(api: &Api, script: &str) -> Result<Container> {
    let container = api.run_script(script)?;
    container.until_logged("ready")?;
    Ok(container)
}

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// The keys of an object in the order in which they were sent, without those of the objects in it.
fn keys_in_order(text: &str) -> Vec<String> {
    let mut depth = 0;
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let character = rest[at..].chars().next().unwrap_or_default();
        rest = &rest[at + 1..];
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {
                let end = rest.find('"').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                rest = after.get(1..).unwrap_or_default();
                if depth == 1 && rest.starts_with(':') {
                    found.push(word.to_owned());
                }
            }
        }
    }
    found
}

fn stats_have_dockers_shape(rig: &Rig) -> Result<()> {
    let container =
        started(&rig.host()?.api(), "dd if=/dev/zero of=/x bs=1M count=1; echo ready; sleep 1000")?;
    let answer = container.api().get(&container.path("/stats?stream=0&one-shot=1"))?.expect(200)?;
    ensure!(answer.head.header("content-type") == Some("application/json"), "{:?}", answer.head);
    let order = keys_in_order(&answer.text());
    ensure!(
        order
            == [
                "id",
                "name",
                "os_type",
                "read",
                "cpu_stats",
                "memory_stats",
                "pids_stats",
                "blkio_stats",
                "num_procs",
                "storage_stats",
                "preread",
                "precpu_stats"
            ],
        "{order:?}"
    );
    let stats = answer.json()?;
    ensure!(
        stats["id"] == container.id.as_str() && stats["name"] == format!("/{}", container.name)
    );
    ensure!(stats["os_type"] == "linux" && stats["num_procs"] == 0, "{stats}");
    ensure!(stats["storage_stats"] == json!({}) && stats.get("networks").is_none(), "{stats}");
    let cpu = &stats["cpu_stats"];
    ensure!(
        keys(cpu) == ["cpu_usage", "online_cpus", "system_cpu_usage", "throttling_data"],
        "{cpu}"
    );
    ensure!(cpu["cpu_usage"]["total_usage"].as_u64() > Some(0), "{cpu}");
    ensure!(cpu["system_cpu_usage"].as_u64() > cpu["cpu_usage"]["total_usage"].as_u64(), "{cpu}");
    let memory = &stats["memory_stats"];
    ensure!(memory["usage"].as_u64() > Some(0) && memory["limit"].as_u64() > Some(0), "{memory}");
    // Docker's CLI subtracts one or the other.
    let inactive =
        memory["stats"].get("total_inactive_file").or(memory["stats"].get("inactive_file"));
    ensure!(inactive.is_some_and(Value::is_u64), "{memory}");
    ensure!(stats["pids_stats"]["current"].as_u64() > Some(0), "{stats}");
    ensure!(
        keys(&stats["blkio_stats"])
            == [
                "io_merged_recursive",
                "io_queue_recursive",
                "io_service_bytes_recursive",
                "io_service_time_recursive",
                "io_serviced_recursive",
                "io_time_recursive",
                "io_wait_time_recursive",
                "sectors_recursive"
            ],
        "{stats}"
    );
    let message = rig.host()?.api().get("/containers/nobody/stats?stream=0")?.expect_error(404)?;
    ensure!(message == "No such container: nobody", "{message}");
    let message = rig.host()?.api().get("/containers/nobody/stats")?.expect_error(404)?;
    ensure!(message == "No such container: nobody", "{message}");
    Ok(())
}

pub(crate) fn used(stats: &Value) -> Option<u64> {
    stats["cpu_usage"]["total_usage"].as_u64()
}

fn stats_once_have_the_look_before(rig: &Rig) -> Result<()> {
    let container = started(&rig.host()?.api(), BUSY)?;
    let stats = container.api().get_json(&container.path("/stats?stream=false"))?;
    let (now, before) = (&stats["cpu_stats"], &stats["precpu_stats"]);
    ensure!(used(before) > Some(0) && used(now) > used(before), "{stats}");
    ensure!(now["system_cpu_usage"].as_u64() > before["system_cpu_usage"].as_u64(), "{stats}");
    ensure!(stats["read"].as_str() > stats["preread"].as_str(), "{stats}");
    ensure!(stats["preread"].as_str().is_some_and(|time| time.starts_with("20")), "{stats}");
    Ok(())
}

fn a_single_look_has_none_before(rig: &Rig) -> Result<()> {
    let container = started(&rig.host()?.api(), BUSY)?;
    let stats = container.api().get_json(&container.path("/stats?stream=false&one-shot=true"))?;
    ensure!(
        stats["preread"] == "0001-01-01T00:00:00Z" && used(&stats["precpu_stats"]) == Some(0),
        "{stats}"
    );
    ensure!(used(&stats["cpu_stats"]) > Some(0), "{stats}");
    // Older clients cannot ask for that.
    let stats = container
        .api()
        .at("1.40")
        .get_json(&container.path("/stats?stream=false&one-shot=true"))?;
    ensure!(used(&stats["precpu_stats"]) > Some(0), "{stats}");
    Ok(())
}

pub(crate) fn stats_stream(container: &Container) -> Result<Stream> {
    let stream =
        container.api().stream(&container.api().request("GET", &container.path("/stats")))?;
    ensure!(stream.head.status == 200, "{:?}", stream.head);
    Ok(stream)
}

fn stats_are_a_stream(rig: &Rig) -> Result<()> {
    let container = started(&rig.host()?.api(), BUSY)?;
    let mut stream = stats_stream(&container)?;
    let first = stream.next_json()?.context("no stats")?;
    ensure!(first["preread"] == "0001-01-01T00:00:00Z", "{first}");
    let second = stream.next_json()?.context("no second stats")?;
    ensure!(
        second["preread"] == first["read"] && second["precpu_stats"] == first["cpu_stats"],
        "{first} {second}"
    );
    ensure!(used(&second["cpu_stats"]) > used(&first["cpu_stats"]), "{first} {second}");
    // Another client has a first line of its own.
    let other = stats_stream(&container)?.next_json()?.context("no stats")?;
    ensure!(other["preread"] == "0001-01-01T00:00:00Z", "{other}");
    Ok(())
}

fn stats_of_what_does_not_run(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("exit 0"))?;
    let expected = |stats: &Value| -> Result<()> {
        ensure!(
            stats["id"] == container.id.as_str() && stats["name"] == format!("/{}", container.name),
            "{stats}"
        );
        ensure!(
            stats["read"] == "0001-01-01T00:00:00Z" && stats["memory_stats"] == json!({}),
            "{stats}"
        );
        ensure!(
            stats["pids_stats"] == json!({}) && used(&stats["cpu_stats"]) == Some(0),
            "{stats}"
        );
        ensure!(stats["blkio_stats"]["io_service_bytes_recursive"].is_null(), "{stats}");
        Ok(())
    };
    for when in ["before its start", "after its end"] {
        expected(&api.get_json(&container.path("/stats?stream=0"))?).context(when)?;
        expected(&api.get_json(&container.path("/stats?stream=0&one-shot=1"))?).context(when)?;
        let mut stream = stats_stream(&container)?;
        for _ in 0..2 {
            expected(&stream.next_json()?.context("the stream ends")?).context(when)?;
        }
        container.start()?;
        container.wait()?;
    }
    Ok(())
}

fn stats_end_with_the_container(rig: &Rig) -> Result<()> {
    let container = started(&rig.host()?.api(), BUSY)?;
    let mut stream = stats_stream(&container)?;
    let first = stream.next_json()?.context("no stats")?;
    ensure!(used(&first["cpu_stats"]) > Some(0), "{first}");
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    // Its end is no end of the stream.
    while used(&stream.next_json()?.context("the stream ends")?["cpu_stats"]) > Some(0) {}
    container.remove()?;
    stream.rest()?;
    Ok(())
}

fn interfaces_have_their_counters(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let body = json!({"Cmd": ["sleep", "1000"]});
    let container = api.create(body)?;
    container.start()?;
    let stats = api.get_json(&container.path("/stats?stream=0&one-shot=1"))?;
    ensure!(keys(&stats["networks"]) == ["eth0"], "{stats}");
    ensure!(
        keys(&stats["networks"]["eth0"])
            == [
                "rx_bytes",
                "rx_dropped",
                "rx_errors",
                "rx_packets",
                "tx_bytes",
                "tx_dropped",
                "tx_errors",
                "tx_packets"
            ],
        "{stats}"
    );
    // Neighbours discover each other.
    until(Duration::from_secs(10), "traffic", || {
        api.get_json(&container.path("/stats?stream=0&one-shot=1"))
            .is_ok_and(|stats| stats["networks"]["eth0"]["tx_packets"].as_u64() > Some(0))
    })
}

pub(crate) fn top(container: &Container, ps_args: &str) -> Result<Value> {
    let query =
        if ps_args.is_empty() { String::new() } else { format!("?ps_args={}", encode(ps_args)) };
    container.api().get_json(&container.path(&format!("/top{query}")))
}

fn top_shows_the_processes(rig: &Rig) -> Result<()> {
    let container = started(&rig.host()?.api(), "sleep 1001 & sleep 1002 & echo ready; wait")?;
    let pid = container.inspect()?["State"]["Pid"].to_string();
    let shown = top(&container, "")?;
    ensure!(
        shown["Titles"] == json!(["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]),
        "{shown}"
    );
    let rows = shown["Processes"].as_array().context("no processes")?;
    ensure!(
        rows.len() == 3 && rows.iter().all(|row| row.as_array().is_some_and(|row| row.len() == 8)),
        "{shown}"
    );
    ensure!(rows[0][0] == "root" && rows[0][1] == pid.as_str(), "{shown}");
    ensure!(rows.iter().any(|row| row[7] == "sleep 1001" && row[2] == pid.as_str()), "{shown}");
    // Jenkins looks for the columns that it asked for.
    let shown = top(&container, "-eo pid,comm")?;
    ensure!(shown["Titles"] == json!(["PID", "COMMAND"]), "{shown}");
    ensure!(shown["Processes"].as_array().is_some_and(|rows| rows.len() == 3), "{shown}");
    let shown = top(&container, "aux")?;
    ensure!(shown["Processes"].as_array().is_some_and(|rows| rows.len() == 3), "{shown}");
    Ok(())
}

fn top_refuses(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.run_script("sleep 1000")?;
    let message = |ps_args: &str| -> Result<String> {
        let path = container.path(&format!("/top?ps_args={}", encode(ps_args)));
        api.get(&path)?.expect_error(500)
    };
    ensure!(message("-eo comm=PID")? == "specifying \"comm=PID\" is not allowed");
    ensure!(message("-eo comm")? == "Couldn't find PID field in ps output");
    let refused = message("--no-such-option")?;
    ensure!(refused.starts_with("ps: "), "{refused}");
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    let stopped = api.get(&container.path("/top"))?.expect_error(409)?;
    ensure!(stopped == format!("container {} is not running", container.id), "{stopped}");
    let unknown = api.get("/containers/nobody/top")?.expect_error(404)?;
    ensure!(unknown == "No such container: nobody", "{unknown}");
    Ok(())
}
