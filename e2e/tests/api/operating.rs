//! What those who operate the daemon see of it: readiness, metrics, the watchdog, a user's own containerd.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use e2e::api::{filters, script_body};
use e2e::sandbox::{send, until};
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, peers, tests};
use rustix::process::Signal;
use serde_json::Value;

pub(crate) const TESTS: &[Test] = tests![
    metrics_have_dockers_names,
    readiness_names_the_neighbours.ours_only(),
    readiness_is_lost_with_containerd.ours_only(),
    the_watchdog_is_fed.ours_only(),
    a_hangup_is_told_as_a_reload,
    a_hangup_reads_the_configuration_again.ours_only(),
    a_users_daemon_lives_beside_a_rootless_containerd.ours_only(),
];

const METRICS: &str = "127.0.0.1:9400";

fn page(host: &Host, address: &str, path: &str) -> Result<String> {
    host.sandbox()?.in_network(|| {
        let mut stream = TcpStream::connect(address).context("connecting for metrics")?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).context("asking for metrics")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("reading metrics")?;
        Ok(text)
    })?
}

/// The value of the line that begins so.
fn value(page: &str, line: &str) -> Result<f64> {
    let found = page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    let text = found.with_context(|| format!("no {line} in {page}"))?;
    text.trim().parse().with_context(|| format!("{line} {text}"))
}

fn metrics_have_dockers_names(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |plan| plan.arguments.extend(["--metrics-addr".to_owned(), METRICS.to_owned()]),
        |host| {
            let api = host.api();
            api.have("busybox:latest")?;
            let created = api.create(script_body("true"))?;
            let running = api.create(script_body("sleep 100"))?;
            running.start()?;
            let text = page(host, METRICS, "/metrics")?;
            ensure!(
                text.starts_with("HTTP/1.")
                    && text.contains(" 200 OK")
                    && text.contains("text/plain"),
                "{text}"
            );
            let states = "engine_daemon_container_states_containers";
            ensure!(value(&text, &format!("{states}{{state=\"running\"}}"))? == 1.0, "{text}");
            ensure!(value(&text, &format!("{states}{{state=\"stopped\"}}"))? == 1.0, "{text}");
            ensure!(value(&text, &format!("{states}{{state=\"paused\"}}"))? == 0.0, "{text}");
            let creations = "engine_daemon_container_actions_seconds_count{action=\"create\"}";
            ensure!(value(&text, creations)? >= 2.0, "{text}");
            let slow =
                "engine_daemon_container_actions_seconds_bucket{action=\"start\",le=\"+Inf\"}";
            ensure!(value(&text, slow)? >= 1.0, "{text}");
            ensure!(value(&text, "engine_daemon_events_total")? >= 3.0, "{text}");
            for name in [
                "engine_daemon_events_subscribers_total",
                "engine_daemon_health_checks_total",
                "engine_daemon_health_checks_failed_total",
                "engine_daemon_engine_cpus_cpus",
                "engine_daemon_engine_memory_bytes",
                "process_resident_memory_bytes",
                "process_open_fds",
            ] {
                value(&text, name)?;
            }
            let info = text.lines().find(|line| line.starts_with("engine_daemon_engine_info{"));
            let info = info.with_context(|| format!("no engine_info: {text}"))?;
            for label in [
                "architecture=",
                "daemon_id=",
                "graphdriver=\"overlayfs\"",
                "kernel=",
                "os_type=\"linux\"",
                "version=",
            ] {
                ensure!(info.contains(label), "{label}: {info}");
            }
            ensure!(!info.contains("daemon_id=\"\""), "nobody asked /info: {info}");
            let docker = page(host, METRICS, "/containers/json")?;
            ensure!(
                docker.lines().next().is_some_and(|line| line.contains(" 404")),
                "the API is open on the address for metrics: {docker}"
            );
            running.remove()?;
            created.remove()
        },
    )
}

fn readiness(api: &Api) -> Result<(u16, Value)> {
    let response = api.send(&api.request("GET", "/readyz"))?;
    Ok((response.status(), response.json()?))
}

fn trouble<'a>(readiness: &'a Value, name: &str) -> Option<&'a str> {
    let all = readiness["neighbours"].as_array()?;
    all.iter().find(|one| one["name"] == name)?["trouble"].as_str()
}

fn readiness_names_the_neighbours(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    // Of a daemon that has just started it is true a moment later.
    until(Duration::from_secs(30), "readiness", || {
        readiness(&api).is_ok_and(|(status, _)| status == 200)
    })?;
    let (status, readiness) = readiness(&api)?;
    ensure!(status == 200 && readiness["ready"] == true, "{status} {readiness}");
    for needed in ["containerd", "containers", "helper", "cni-plugins"] {
        ensure!(trouble(&readiness, needed).is_none(), "{readiness}");
    }
    ensure!(
        trouble(&readiness, "buildkitd").is_some_and(|why| why.contains("does not run")),
        "{readiness}"
    );
    Ok(())
}

fn readiness_is_lost_with_containerd(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            host.kill_containerd()?;
            let (status, lost) = readiness(&api)?;
            ensure!(status == 503 && lost["ready"] == false, "{status} {lost}");
            ensure!(trouble(&lost, "containerd").is_some(), "{lost}");
            host.start_containerd()?;
            until(Duration::from_secs(30), "readiness with containerd", || {
                readiness(&api).is_ok_and(|(status, _)| status == 200)
            })
        },
    )
}

fn the_watchdog_is_fed(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let folder = host.root()?.join("watchdog");
    std::fs::create_dir_all(&folder)?;
    let notified = UnixDatagram::bind(folder.join("notify"))?;
    notified.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut command = host.command(peers::built("nerdctld")?)?;
    command
        .arg("--data-root")
        .arg(folder.join("data"))
        .arg("--socket")
        .arg(folder.join("n.sock"))
        .env("NOTIFY_SOCKET", folder.join("notify"))
        .env("WATCHDOG_USEC", "300000");
    let _daemon = host.sandbox()?.spawn("daemon-watchdog", command)?;
    let (mut ready, mut fed) = (false, 0);
    while fed < 3 {
        let mut buffer = [0; 256];
        let count = notified.recv(&mut buffer).context("systemd hears nothing")?;
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        ready |= text.contains("READY=1");
        fed += usize::from(text.contains("WATCHDOG=1"));
    }
    ensure!(ready, "fed before it was ready");
    Ok(())
}

/// What a reload tells, as soon as it is told.
fn reloaded(api: &Api) -> Result<Value> {
    let path = format!("/events?since=1&until={}&{}", now() + 1, filters(&[("event", "reload")]));
    let mut found = Value::Null;
    until(Duration::from_secs(20), "an event about the reload", || {
        let told = api
            .get(&path)
            .ok()
            .and_then(|response| serde_json::from_str(response.text().lines().last()?).ok());
        found = told.unwrap_or_default();
        found.is_object()
    })?;
    Ok(found)
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn hang_up(host: &Host) -> Result<()> {
    send(host.daemon_pid()?, Signal::HUP)
}

fn a_hangup_is_told_as_a_reload(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            hang_up(host)?;
            let event = reloaded(&api)?;
            ensure!(event["Type"] == "daemon" && event["scope"] == "local", "{event}");
            let attributes = &event["Actor"]["Attributes"];
            for key in [
                "name",
                "debug",
                "labels",
                "live-restore",
                "insecure-registries",
                "registry-mirrors",
                "max-concurrent-downloads",
                "max-concurrent-uploads",
                "max-download-attempts",
                "default-runtime",
            ] {
                ensure!(attributes[key].is_string(), "{key}: {event}");
            }
            ensure!(event["Actor"]["ID"] == api.get_json("/info")?["ID"], "{event}");
            Ok(())
        },
    )
}

fn a_hangup_reads_the_configuration_again(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let folder = host.root()?.join("hangup");
            std::fs::create_dir_all(&folder)?;
            let (file, socket) = (folder.join("nerdctl.toml"), folder.join("n.sock"));
            let usual = std::fs::read_to_string(host.root()?.join("nerdctl.toml"))?;
            std::fs::write(&file, &usual)?;
            let mut command = host.command(peers::built("nerdctld")?)?;
            command.arg("--config").arg(&file).arg("--socket").arg(&socket);
            command.arg("--data-root").arg(folder.join("data"));
            let mut daemon = host.sandbox()?.spawn("daemon-hangup", command)?;
            let api = Api::new(&socket);
            until(Duration::from_secs(30), "an answer", || api.answers())?;
            let debug = || Ok::<_, e2e::Error>(api.get_json("/info")?["Debug"] == true);
            ensure!(!debug()?, "logs in detail already");
            let changed = format!("debug = true\ninsecure_registry = true\n{usual}");
            std::fs::write(&file, changed)?;
            daemon.signal(Signal::HUP)?;
            until(Duration::from_secs(20), "a detailed log", || debug().unwrap_or(false))?;
            let told = reloaded(&api)?["Actor"]["Attributes"]["insecure-registries"].clone();
            let info = api.get_json("/info")?;
            let shown = &info["RegistryConfig"]["InsecureRegistryCIDRs"];
            for block in ["0.0.0.0/0", "::/0"] {
                ensure!(told.as_str().is_some_and(|told| told.contains(block)), "{told}");
                ensure!(
                    shown.as_array().is_some_and(|all| all.iter().any(|one| one == block)),
                    "{shown}"
                );
            }
            // A mistake changes nothing, and is said.
            std::fs::write(&file, "debug = [")?;
            daemon.signal(Signal::HUP)?;
            let log = host.root()?.join("log/daemon-hangup");
            until(Duration::from_secs(20), "a word about the mistake", || {
                std::fs::read_to_string(&log).is_ok_and(|log| log.contains("stays as it was"))
            })?;
            ensure!(debug()?, "a file with a mistake has changed something");
            std::fs::write(&file, usual.replace("overlayfs", "native"))?;
            daemon.signal(Signal::HUP)?;
            until(Duration::from_secs(20), "the first level again", || !debug().unwrap_or(true))?;
            let log = std::fs::read_to_string(&log)?;
            ensure!(log.contains("wait for a restart") && log.contains("snapshotter"), "{log}");
            Ok(())
        },
    )
}

/// A user's session with a stand-in for RootlessKit's child: namespaces, and nothing in them.
const ROOTLESS: &str = "
set -e
run=/run/user/1000
mkdir -p $run/containerd-rootless $run/home
cp \"$1\" $run/nerdctld
chown -R 1000:1000 /run/user/1000
user=\"setpriv --reuid=1000 --regid=1000 --clear-groups env -i PATH=/usr/bin:/bin XDG_RUNTIME_DIR=$run HOME=$run/home\"
if $user $run/nerdctld --containerd /nobody/is.here 2>$run/words; then exit 1; fi
grep -q containerd-rootless-setuptool.sh $run/words
$user unshare --user --map-root-user --mount --net sleep 60 >/dev/null 2>&1 &
child=$!
trap 'kill $child $daemon 2>/dev/null' EXIT
own=$(readlink /proc/self/ns/net)
while [ \"$(readlink /proc/$child/ns/net)\" = \"$own\" ]; do sleep 0.01; done
echo $child > $run/containerd-rootless/child_pid
$user $run/nerdctld >/dev/null 2>$run/log &
daemon=$!
while ! [ -S $run/nerdctl.sock ]; do kill -0 $daemon || { cat $run/log; exit 1; }; sleep 0.01; done
for kind in user mnt net; do
    [ \"$(readlink /proc/$daemon/ns/$kind)\" = \"$(readlink /proc/$child/ns/$kind)\" ]
done
curl -sf --unix-socket $run/nerdctl.sock http://d/_ping
";

fn a_users_daemon_lives_beside_a_rootless_containerd(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let mut command: Command = host.sandbox()?.command("/bin/sh");
    command.args(["-c", ROOTLESS, "sh"]).arg(peers::built("nerdctld")?);
    let said = host.sandbox()?.run(&mut command)?;
    ensure!(said == "OK", "{said}");
    Ok(())
}
