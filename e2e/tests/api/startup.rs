//! How the daemon starts and ends: sockets, flags, environment, systemd's protocol, a containerd of its own.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::sandbox::{Process, until};
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, peers, tests};

pub(crate) const TESTS: &[Test] = tests![
    the_socket_is_for_root_and_a_group.ours_only(),
    a_stale_socket_is_replaced.ours_only(),
    a_live_socket_is_an_error.ours_only(),
    the_old_environment_is_understood.ours_only(),
    systemds_sockets_are_taken.ours_only(),
    systemd_is_told.ours_only(),
    a_containerd_of_its_own.ours_only(),
    what_is_detached_has_the_limit_of_before.ours_only(),
    unknown_flags_and_bad_files_are_errors.ours_only(),
];

/// A second daemon on a host, with arguments of its own.
fn command(host: &Host, arguments: &[&str]) -> Result<Command> {
    let mut command = host.command(daemon()?)?;
    command.arg("--data-root").arg(host.root()?.join("data2")).args(arguments);
    command.env("CNI_PATH", "/usr/lib/cni").env("NETCONFPATH", host.root()?.join("cni/net.d"));
    Ok(command)
}

fn daemon() -> Result<std::path::PathBuf> {
    std::env::var_os("NERDCTLD").map_or_else(|| peers::built("nerdctld"), |path| Ok(path.into()))
}

fn start(host: &Host, arguments: &[&str]) -> Result<Process> {
    host.sandbox()?.spawn("daemon2", command(host, arguments)?)
}

fn answers(socket: &Path) -> Result<()> {
    let api = Api::new(socket);
    until(Duration::from_secs(30), &format!("an answer on {}", socket.display()), || api.answers())
}

fn the_socket_is_for_root_and_a_group(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let meta = std::fs::metadata(host.socket())?;
    ensure!(meta.file_type().is_socket() && meta.mode() & 0o777 == 0o660, "{:o}", meta.mode());
    let socket = host.root()?.join("group.sock");
    let _daemon = start(host, &["--group", "adm", "--socket", &socket.to_string_lossy()])?;
    answers(&socket)?;
    ensure!(std::fs::metadata(&socket)?.gid() == 4, "group {}", std::fs::metadata(&socket)?.gid());
    Ok(())
}

fn a_stale_socket_is_replaced(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let socket = host.root()?.join("stale.sock");
    drop(UnixListener::bind(&socket)?);
    let _daemon = start(host, &[&format!("--addr=unix://{}", socket.display())])?;
    answers(&socket)
}

fn a_live_socket_is_an_error(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let output =
        command(host, &[&format!("--addr=unix://{}", host.socket().display())])?.output()?;
    ensure!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(text.contains(&*host.socket().to_string_lossy()), "{text}");
    ensure!(host.api().answers(), "the first daemon has lost its socket");
    Ok(())
}

fn the_old_environment_is_understood(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (one, two) = (host.root()?.join("env1.sock"), host.root()?.join("env2.sock"));
    let mut command = command(
        host,
        &[
            "--addr",
            &format!("unix://{}", one.display()),
            "--addr",
            &format!("unix://{}", two.display()),
        ],
    )?;
    command
        .env("CONTAINERD_ADDRESS", format!("unix://{}", host.containerd_socket()?.display()))
        .env("CONTAINERD_NAMESPACE", "elsewhere")
        .env("CONTAINERD_SNAPSHOTTER", "native")
        .env("BUILDKIT_HOST", "unix:///nowhere");
    let _daemon = host.sandbox()?.spawn("daemon-env", command)?;
    answers(&one)?;
    answers(&two)?;
    let info = Api::new(&one).get_json("/info")?;
    ensure!(info["Driver"] == "native", "{}", info["Driver"]);
    // Another namespace has other containers.
    let container = host.api().create(e2e::api::script_body("true"))?;
    let list = Api::new(&one).get_json("/containers/json?all=1")?;
    ensure!(list.as_array().is_some_and(Vec::is_empty), "{list} and {}", container.id);
    Ok(())
}

/// Becomes a command with two listening sockets as descriptors 3 and 4, as systemd does it.
const ACTIVATE: &str = "
import os, socket, sys
n = int(sys.argv[1])
def listening(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(path); s.listen(8)
    # Away from the numbers that are given out below.
    high = os.dup2(s.fileno(), 50 + s.fileno())
    s.detach()
    return high
high = [listening(path) for path in sys.argv[2:2 + n]]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
    os.close(fd)
os.environ['LISTEN_FDS'] = str(n)
os.environ['LISTEN_PID'] = str(os.getpid())
os.execv(sys.argv[2 + n], sys.argv[2 + n:])
";

fn systemds_sockets_are_taken(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (one, two) = (host.root()?.join("fd1.sock"), host.root()?.join("fd2.sock"));
    let mut command = host.command("/usr/bin/python3")?;
    command
        .args(["-c", ACTIVATE, "2"])
        .arg(&one)
        .arg(&two)
        .arg(daemon()?)
        .args(["--addr", "fd://"]);
    command.arg("--data-root").arg(host.root()?.join("data2"));
    let mut process = host.sandbox()?.spawn("daemon-fd", command)?;
    answers(&one)?;
    answers(&two)?;
    process.signal(rustix::process::Signal::TERM)?;
    ensure!(process.wait(Duration::from_secs(20))?.success());
    ensure!(one.exists(), "the socket belongs to systemd, and is gone");
    // Without systemd it is an error, in words.
    let output = self::command(host, &["--addr", "fd://"])?.output()?;
    ensure!(!output.status.success() && !output.stderr.is_empty());
    Ok(())
}

fn systemd_is_told(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (notify, socket) = (host.root()?.join("notify.sock"), host.root()?.join("told.sock"));
    let listener = UnixDatagram::bind(&notify)?;
    listener.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut command = command(host, &["--socket", &socket.to_string_lossy()])?;
    command.env("NOTIFY_SOCKET", &notify);
    let mut process = host.sandbox()?.spawn("daemon-notify", command)?;
    expect_note(&listener, "READY=1")?;
    // Ready means that it answers.
    Api::new(&socket).get("/_ping")?.expect(200)?;
    process.signal(rustix::process::Signal::TERM)?;
    expect_note(&listener, "STOPPING=1")?;
    ensure!(process.wait(Duration::from_secs(20))?.success());
    ensure!(!socket.exists(), "its socket is left");
    Ok(())
}

fn expect_note(listener: &UnixDatagram, note: &str) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = listener.recv(&mut buffer).with_context(|| format!("waiting for {note}"))?;
        if String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == note) {
            return Ok(());
        }
    }
}

fn a_containerd_of_its_own(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let socket = host.root()?.join("managed.sock");
            let certs = host.root()?.join("certs.d");
            let words = [
                "--containerd=managed",
                "--hosts-dir",
                &certs.to_string_lossy(),
                "--socket",
                &socket.to_string_lossy(),
            ]
            .map(str::to_owned);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let api = Api::new(&socket);
            let mut first = start(host, &words)?;
            answers(&socket)?;
            until(Duration::from_secs(60), "its containerd", || {
                api.get("/containers/json").is_ok_and(|answer| answer.status() == 200)
            })?;
            let container = api.run_script("sleep 1000")?;
            let others = host.api().get_json("/containers/json?all=1")?;
            ensure!(
                others.as_array().is_some_and(Vec::is_empty),
                "it is not a containerd of its own"
            );
            // The next daemon finds it again, with what runs in it.
            first.kill()?;
            let _second = start(host, &words)?;
            answers(&socket)?;
            until(Duration::from_secs(30), "the container", || {
                container.status().is_ok_and(|status| status == "running")
            })?;
            container.remove()
        },
    )
}

fn what_is_detached_has_the_limit_of_before(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let mut command = host.command(daemon()?)?;
    command.args(["detach", "777", "sh", "-c", "ulimit -Sn"]);
    let said = host.sandbox()?.run(&mut command)?;
    ensure!(said.trim() == "777", "{said}");
    Ok(())
}

fn unknown_flags_and_bad_files_are_errors(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let file = host.root()?.join("bad.toml");
    std::fs::write(&file, "address = [")?;
    let file = file.to_string_lossy().into_owned();
    for words in [
        &["--no-such-flag"][..],
        &["--addr", "tcp:/nonsense"],
        &["--addr", "http://x"],
        &["--config", &file],
        &["--config", "/nobody/has/this.toml"],
    ] {
        let output = command(host, words)?.output()?;
        ensure!(!output.status.success(), "{words:?} is taken");
        ensure!(!output.stderr.is_empty(), "{words:?} fails without a word");
    }
    // Unknown keys of nerdctl's file are nerdctl's business.
    let (file, socket) = (host.root()?.join("odd.toml"), host.root()?.join("odd.sock"));
    std::fs::write(&file, "of_the_future = true\n[table]\nx = 1\n")?;
    let _daemon =
        start(host, &["--config", &file.to_string_lossy(), "--socket", &socket.to_string_lossy()])?;
    answers(&socket)
}
