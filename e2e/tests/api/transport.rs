//! Ways to the daemon besides its socket: ssh through `dial-stdio`, TCP, TLS with certificates.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Duration;

use e2e::certificates::MAKE;
use e2e::cli::{Docker, Terminal};
use e2e::runner::OrSkip as _;
use e2e::sandbox::{Process, until};
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, peers, tests};

pub(crate) const TESTS: &[Test] = tests![
    requests_pass_through_standard_streams.ours_only(),
    the_cli_comes_in_over_ssh.ours_only(),
    the_stand_in_for_docker_says_what_it_is.ours_only(),
    tls_is_for_clients_with_certificates.ours_only(),
    streams_and_their_ends_pass_through_tls.ours_only(),
    loopback_is_served_in_the_clear.ours_only(),
    other_addresses_need_certificates_or_a_flag.ours_only(),
];

fn nerdctld() -> Result<PathBuf> {
    std::env::var_os("NERDCTLD").map_or_else(|| peers::built("nerdctld"), |path| Ok(path.into()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts a command that has got `input`, which goes on as long as its pipe is held.
fn piped(command: &mut Command, input: &[u8]) -> Result<(Child, ChildStdin)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting a command")?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    std::io::Write::write_all(&mut stdin, input).context("writing its input")?;
    Ok((child, stdin))
}

/// Runs a command with `input`, which then ends.
fn with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let (child, stdin) = piped(command, input)?;
    drop(stdin);
    child.wait_with_output().context("waiting for a command")
}

/// Sends one request through a command that dials, and keeps its input open: a client that ends it has left.
fn dialled(command: &mut Command) -> Result<String> {
    let request = b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let (child, stdin) = piped(command, request)?;
    let answer = success(&child.wait_with_output().context("waiting for a command")?)?;
    drop(stdin);
    ensure!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("OK"), "{answer}");
    Ok(answer)
}

fn success(output: &Output) -> Result<String> {
    ensure!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    Ok(text(&output.stdout))
}

fn requests_pass_through_standard_streams(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let address = format!("unix://{}", host.socket().display());
    for words in [&["dial-stdio"][..], &["system", "dial-stdio"]] {
        let mut command = Command::new(nerdctld()?);
        command.args(words).env("DOCKER_HOST", &address);
        dialled(&mut command)?;
    }
    let mut nobody = Command::new(nerdctld()?);
    let output = nobody.args(["--addr", "unix:///nobody/is.here", "dial-stdio"]).output()?;
    let said = text(&output.stderr);
    ensure!(!output.status.success() && said.contains("/nobody/is.here"), "{said}");
    Ok(())
}

/// An `ssh` that goes nowhere: it runs its command here, with the stand-in as `docker`.
fn fake_ssh(host: &Host) -> Result<PathBuf> {
    let folder = host.root()?.join("ssh-bin");
    let remote = host.root()?.join("ssh-remote-bin");
    std::fs::create_dir_all(&folder)?;
    std::fs::create_dir_all(&remote)?;
    let link = |from: &Path, to: PathBuf| {
        let _ = std::fs::remove_file(&to);
        std::os::unix::fs::symlink(from, to)
    };
    link(&nerdctld()?, remote.join("nerdctld"))?;
    link(&peers::checkout().join("packaging/docker"), remote.join("docker"))?;
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\n\
         export PATH={}:/usr/bin:/bin DOCKER_HOST=unix://{}\nexec sh -c \"$*\"\n",
        remote.display(),
        host.socket().display()
    );
    let program = folder.join("ssh");
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

fn the_cli_comes_in_over_ssh(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let docker = Docker::newest(host).or_skip()?;
    host.api().have("busybox:latest")?;
    let path = format!("{}:/usr/bin:/bin", fake_ssh(host)?.display());
    let over = |address: &str, words: &[&str], input: &[u8]| {
        let mut command = docker.command(words);
        command.env("DOCKER_HOST", address).env("PATH", &path);
        success(&with_input(&mut command, input)?)
    };
    let version = over("ssh://me@there", &["version"], b"")?;
    ensure!(version.contains("nerdctld"), "{version}");
    // A path behind the host names the socket there.
    let address = format!("ssh://there{}", host.socket().display());
    let words = ["run", "--rm", "-i", "--net=none", "busybox", "sh", "-c", "wc -c; echo end"];
    let counted = over(&address, &words, &[b'x'; 70_000])?;
    ensure!(counted.trim() == "70000\nend", "{counted}");
    Ok(())
}

fn the_stand_in_for_docker_says_what_it_is(_: &Rig) -> Result<()> {
    let output = Command::new(peers::checkout().join("packaging/docker")).arg("ps").output()?;
    let said = text(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("docker system dial-stdio"), "{said}");
    Ok(())
}

/// Beside the certificates `stranger` and `impostor`, who signed themselves.
const MORE: &str = "
openssl req -x509 $key -keyout stranger-key.pem -out stranger.pem -subj /CN=stranger -days 2
openssl req -x509 $key -keyout impostor-key.pem -out impostor.pem -subj /CN=authority -days 2
";

/// A daemon beside the shared one, on TCP and with a containerd namespace of its own.
struct Remote {
    _daemon: Process,
    folder: PathBuf,
    port: u16,
}

impl Remote {
    fn start(host: &Host, name: &str, port: u16, tls: bool) -> Result<Self> {
        let folder = host.root()?.join(name);
        std::fs::create_dir_all(&folder)?;
        let file = |name: &str| folder.join(name).display().to_string();
        let socket = folder.join("n.sock");
        let mut command = host.command(nerdctld()?)?;
        command.arg("--namespace").arg(name).arg("--data-root").arg(folder.join("data"));
        command.args([
            format!("--addr=tcp://127.0.0.1:{port}"),
            format!("--addr=unix://{}", socket.display()),
        ]);
        if tls {
            let script = format!("{MAKE}{MORE}");
            let mut make = Command::new("sh");
            let made =
                make.args(["-c", &script, "sh"]).arg(&folder).arg("IP:127.0.0.1").output()?;
            ensure!(made.status.success(), "openssl: {}", text(&made.stderr));
            command.args(["--tlsverify", "--tlscacert", &file("ca.pem")]);
            command.args(["--tlscert", &file("server.pem"), "--tlskey", &file("server-key.pem")]);
        }
        let daemon = host.sandbox()?.spawn(name, command)?;
        let api = Api::new(&socket);
        until(Duration::from_secs(30), "an answer of the second daemon", || api.answers())?;
        Ok(Self { _daemon: daemon, folder, port })
    }

    /// The docker CLI in the daemon's own network.
    fn docker(&self, host: &Host, options: &[&str], words: &[&str]) -> Result<Command> {
        let mut command = host.command(peers::program("docker-cli", "docker").or_skip()?)?;
        command.arg(format!("--host=tcp://127.0.0.1:{}", self.port)).args(options).args(words);
        command.env("DOCKER_CONFIG", self.folder.join("docker-config"));
        Ok(command)
    }

    /// The same with the certificates of `who`.
    fn docker_as(&self, host: &Host, who: &str, words: &[&str]) -> Result<Command> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let options = [
            "--tlsverify".to_owned(),
            format!("--tlscacert={}", file("ca.pem")),
            format!("--tlscert={}", file(&format!("{who}.pem"))),
            format!("--tlskey={}", file(&format!("{who}-key.pem"))),
        ];
        self.docker(host, &options.each_ref().map(String::as_str), words)
    }
}

fn tls_is_for_clients_with_certificates(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let remote = Remote::start(host, "tls-doors", 2476, true)?;
    let version = success(&with_input(&mut remote.docker_as(host, "client", &["version"])?, b"")?)?;
    ensure!(version.contains("nerdctld"), "{version}");
    let refused = |mut command: Command, why: &str| {
        let output = with_input(&mut command, b"")?;
        let said = text(&output.stderr);
        ensure!(!output.status.success() && said.contains(why), "{said}");
        Ok(())
    };
    refused(remote.docker_as(host, "stranger", &["version"])?, "certificate")?;
    // It names the authority as who signed it, so that the client does show it.
    refused(remote.docker_as(host, "impostor", &["version"])?, "certificate")?;
    refused(remote.docker(host, &[], &["version"])?, "HTTP")
}

fn streams_and_their_ends_pass_through_tls(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let remote = Remote::start(host, "tls-streams", 2477, true)?;
    let run = |words: &[&str], input: &[u8]| {
        success(&with_input(&mut remote.docker_as(host, "client", words)?, input)?)
    };
    run(&["pull", "-q", "busybox:latest"], b"")?;
    let base = ["run", "--rm", "-i", "--net=none", "busybox"];
    // The end of input closes one direction only; what comes then must still arrive.
    let counted =
        run(&[&base[..], &["sh", "-c", "wc -c; sleep 0.2; echo end"]].concat(), &[b'x'; 300_000])?;
    ensure!(counted.trim() == "300000\nend", "{counted}");
    let big =
        run(&[&base[..], &["sh", "-c", "head -c 2000000 /dev/zero | tr '\\0' y"]].concat(), b"")?;
    ensure!(big.len() == 2_000_000, "{} bytes", big.len());

    let script = "test -t 0 && stty size && read x && echo got $x";
    let words = ["run", "--rm", "-it", "--net=none", "busybox", "sh", "-c", script];
    let mut command = remote.docker_as(host, "client", &words)?;
    command.env("TERM", "xterm").env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    let mut terminal = Terminal::run(&command)?;
    terminal.expect("33 99")?;
    terminal.type_keys(b"hello\n")?;
    terminal.expect("got hello")?;
    ensure!(terminal.wait()? == 0, "the container has failed");

    run(&["create", "-i", "--name", "later", "--net=none", "busybox", "cat"], b"")?;
    let attached = run(&["start", "-ai", "later"], b"through TLS\n")?;
    ensure!(attached == "through TLS\n", "{attached}");
    run(&["rm", "-f", "later"], b"")?;
    Ok(())
}

fn loopback_is_served_in_the_clear(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let remote = Remote::start(host, "tcp-plain", 2475, false)?;
    let version = success(&with_input(&mut remote.docker(host, &[], &["version"])?, b"")?)?;
    ensure!(version.contains("nerdctld"), "{version}");
    let info = success(&with_input(&mut remote.docker(host, &[], &["info"])?, b"")?)?;
    ensure!(info.contains("nerdctld"), "{info}");
    let warned = Api::new(&remote.folder.join("n.sock")).get_json("/info")?["Warnings"].to_string();
    ensure!(
        warned.contains("API is accessible on http://127.0.0.1:2475 without encryption"),
        "{warned}"
    );
    let mut dial = host.command(nerdctld()?)?;
    dial.args(["--addr", "tcp://127.0.0.1:2475", "dial-stdio"]);
    dialled(&mut dial).map(drop)
}

fn other_addresses_need_certificates_or_a_flag(_: &Rig) -> Result<()> {
    for (words, part) in [
        (&["--addr=tcp://0.0.0.0:0"][..], "--tlsverify"),
        (
            &["--addr=tcp://0.0.0.0:0", "--tls", "--tlscert=/no/cert", "--tlskey=/no/key"],
            "/no/cert",
        ),
        (&["--addr=tcp://127.0.0.1:0", "--tlscert=/no/cert"], "--tlsverify"),
        (
            &["--addr=tcp://127.0.0.1:0", "--tls", "--tlscert=/no/cert", "--tlskey=/no/key"],
            "/no/cert",
        ),
    ] {
        let mut command = Command::new(nerdctld()?);
        let output = command.arg("--data-root=/nonexistent/data").args(words).output()?;
        let said = text(&output.stderr);
        ensure!(!output.status.success() && said.contains(part), "{words:?}: {said}");
    }
    Ok(())
}
