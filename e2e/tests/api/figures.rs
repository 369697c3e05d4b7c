//! What must not grow: shims with the number of ended containers, memory with what flows through the daemon.

use std::io::Read as _;
use std::time::Duration;

use e2e::api::script_body;
use e2e::sandbox::until;
use e2e::{Container, Context as _, Host, Result, Rig, Test, ensure, tests};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests![
    ended_containers_keep_few_shims.ours_only().slow(),
    memory_does_not_grow_with_logs.ours_only().slow(),
    memory_does_not_grow_with_trees.ours_only().slow(),
];

/// How many ended containers there are.
const ENDED: usize = 100;

/// How many of them may keep what `nerdctl ps` shows (`--keep-stopped`).
const KEPT: usize = 10;

/// What flows through the daemon, in bytes.
const FLOW: usize = 1_000_000_000;

/// By how much the daemon's memory may rise meanwhile, in KiB: buffers, and what the allocator keeps.
const RISE: u64 = 32 * 1024;

fn ended_containers_keep_few_shims(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let mut body = script_body("exit 3");
            body["HostConfig"]["NetworkMode"] = json!("none");
            let mut ended = Vec::with_capacity(ENDED);
            for _ in 0..ENDED {
                let container = api.create(body.clone())?;
                container.start()?;
                ended.push(container);
            }
            for container in &ended {
                ensure!(container.wait()? == 3, "an exit code is lost");
            }
            let mut left = 0;
            until(Duration::from_secs(60), "few shims", || {
                left = helpers(host, "containerd-shim");
                left <= KEPT && helpers(host, "io-monitor") == 0
            })
            .with_context(|| format!("{left} shims, {} monitors", helpers(host, "io-monitor")))?;
            ensure!(left > 0, "none is kept for nerdctl");
            for container in &ended {
                ensure!(container.inspect()?["State"]["ExitCode"] == 3, "its code is forgotten");
            }
            Ok(())
        },
    )
}

/// Processes of the host whose arguments have this word.
fn helpers(host: &Host, word: &str) -> usize {
    let processes = host.sandbox().map(e2e::Sandbox::processes).unwrap_or_default();
    let is_one = |arguments: &[String]| arguments.iter().any(|argument| argument.contains(word));
    processes.iter().filter(|process| is_one(&process.arguments)).count()
}

fn memory_does_not_grow_with_logs(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let line = "x".repeat(999);
            let script = format!("yes {line} | head -c {FLOW}");
            let container = host.api().create(script_body(&script))?;
            let rise = rise_of_memory(host, || {
                container.start()?;
                ensure!(container.wait()? == 0, "the writer failed");
                let read = flow(&container, "/logs?stdout=1")?;
                ensure!(read >= FLOW, "{read} bytes");
                Ok(())
            })?;
            ensure!(rise < RISE, "{rise} KiB more");
            Ok(())
        },
    )
}

fn memory_does_not_grow_with_trees(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            const FILES: usize = 100;
            let script = format!(
                "mkdir /tree; for n in $(seq {FILES}); do head -c {} /dev/urandom > /tree/$n; done; echo made; exec sleep 1000",
                FLOW / FILES
            );
            let (from, to) = (host.api().run_script(&script)?, host.api().run_script("sleep 1000")?);
            until(Duration::from_secs(120), "the tree", || {
                from.logs("").is_ok_and(|log| log.text().contains("made"))
            })?;
            let rise = rise_of_memory(host, || copy(&from, &to))?;
            ensure!(rise < RISE, "{rise} KiB more");
            Ok(())
        },
    )
}

/// Reads to the end, and gives how much it was.
fn flow(container: &Container, rest: &str) -> Result<usize> {
    let api = container.api();
    let mut stream = api.stream(&api.request("GET", &container.path(rest)))?;
    stream.patience(Duration::from_secs(60))?;
    ensure!(stream.head.status == 200, "{rest}: status {}", stream.head.status);
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(length),
            count => length += count,
        }
    }
}

/// A tree out of one container and, as it comes, into another one.
fn copy(from: &Container, to: &Container) -> Result<()> {
    let api = from.api();
    let mut out = api.stream(&api.request("GET", &from.path("/archive?path=/tree")))?;
    out.patience(Duration::from_secs(60))?;
    ensure!(out.head.status == 200, "status {}", out.head.status);
    let request = api
        .request("PUT", &to.path("/archive?path=/tmp"))
        .header("Content-Type", "application/x-tar")
        .header("Transfer-Encoding", "chunked");
    let mut connection = api.connect()?;
    connection.send(&request)?;
    let (mut buffer, mut length) = (vec![0; 1 << 20], 0);
    loop {
        let count = out.read(&mut buffer)?;
        length += count;
        connection.write(format!("{count:x}\r\n").as_bytes())?;
        connection.write(&buffer[..count])?;
        connection.write(b"\r\n")?;
        if count == 0 {
            break;
        }
    }
    ensure!(length > FLOW, "an archive of {length} bytes");
    let status = connection.head()?.status;
    ensure!(status == 200, "status {status}");
    Ok(())
}

/// By how many KiB the daemon's memory is higher at its highest during `work` than before.
fn rise_of_memory(host: &Host, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let pid = host.daemon_pid()?;
    let value = |key: &str| -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
        Ok(line.split_whitespace().next().context("no number")?.parse()?)
    };
    let before = value("VmRSS:")?;
    // From here on the highest is counted anew (proc(5)).
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    work()?;
    Ok(value("VmHWM:")?.saturating_sub(before))
}
