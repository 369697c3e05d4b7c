//! A daemon without root: a user's own containerd in `RootlessKit`'s namespaces, found and joined from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::cli::Docker;
use e2e::host::MIRROR;
use e2e::runner::{OrSkip as _, skip};
use e2e::sandbox::{Process, until};
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, peers, tests};
use rustix::process::Signal;

pub(crate) const TESTS: &[Test] = tests![
    a_user_with_a_network_of_his_own.slow().ours_only(),
    a_user_on_the_hosts_network.slow().ours_only(),
];

/// The user, his folders, and programs that he can reach: `NUMBER FOLDER NERDCTLD REGISTRY`.
const PREPARE: &str = r#"
set -e
folder=$2
mkdir -p "$folder/bin" "/run/user/$1" "$folder/home/.config/containerd/certs.d/docker.io"
# His name, and the users that his containers may have.
echo "user$1:x:$1:$1::$folder/home:/bin/sh" >>/etc/passwd
echo "user$1:${1}0000:65536" | tee -a /etc/subuid >>/etc/subgid
for program in containerd containerd-shim-runc-v2 runc "$3"; do
    place=$folder/bin/$(basename "$program")
    touch "$place"
    mount --bind "$(readlink -f "$(command -v "$program")")" "$place"
done
printf 'server = "http://%s"\n[host."http://%s"]\n' "$4" "$4" >"$folder/home/.config/containerd/certs.d/docker.io/hosts.toml"
# As udev makes it: for everybody.
if ! [ -e /run/tun ] && [ -e /dev/net/tun ]; then
    mknod -m 666 /run/tun c 10 200
    mount --bind /run/tun /dev/net/tun
fi
chown -R "$1:$1" "/run/user/$1" "$folder/home"
"#;

/// What nerdctl's containerd-rootless.sh does in `RootlessKit`'s namespaces.
const CHILD: &str = r#"
set -e
rm -f /run/containerd /var/lib/containerd /var/lib/cni /etc/containerd /run/xtables.lock
bind() { mkdir -p "$1" "$2"; mount --bind "$1" "$2"; }
bind "$XDG_RUNTIME_DIR/containerd" /run/containerd
bind "$HOME/.local/share/containerd" /var/lib/containerd
bind "$HOME/.local/share/cni" /var/lib/cni
printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >"$HOME/containerd.toml"
exec containerd --config "$HOME/containerd.toml"
"#;

/// A user's session with his own containerd.
struct Session<'a> {
    host: &'a Host,
    user: u32,
    folder: PathBuf,
    docker: Docker,
    _rootlesskit: Process,
}

impl<'a> Session<'a> {
    /// `options` are `RootlessKit`'s; the mirror is at `registry`, seen from inside.
    fn start(host: &'a Host, user: u32, options: &[&str], registry: &str) -> Result<Self> {
        let sandbox = host.sandbox()?;
        let name = format!("user-{user}");
        let folder = host.root()?.join(&name);
        // Sockets and programs of his are below.
        fs::set_permissions(host.root()?, fs::Permissions::from_mode(0o711))?;
        let mut prepare = host.command("/bin/sh")?;
        prepare.args(["-c", PREPARE, "sh"]).arg(user.to_string()).arg(&folder);
        sandbox.run(prepare.arg(peers::built("nerdctld")?).arg(registry))?;
        let mut command = as_user(host, user, &folder)?;
        let state = format!("/run/user/{user}/containerd-rootless");
        command.args(["rootlesskit", "--state-dir", &state]);
        command.args(["--copy-up=/etc", "--copy-up=/run", "--copy-up=/var/lib"]);
        command.arg("--propagation=rslave").args(options).args(["/bin/sh", "-c", CHILD]);
        let mut rootlesskit = sandbox.spawn(&name, command)?;
        let socket = sandbox.inside(&format!("/run/user/{user}/containerd/containerd.sock"));
        until(Duration::from_secs(30), "a containerd without root", || {
            socket.exists() || !rootlesskit.runs()
        })?;
        ensure!(rootlesskit.runs(), "{}", log(host, &name));
        let docker = Docker::newest(host).or_skip()?;
        Ok(Self { host, user, folder, docker, _rootlesskit: rootlesskit })
    }

    /// The daemon, started outside of all namespaces, without a word about where it has to be.
    fn daemon(&self) -> Result<Process> {
        let mut command = as_user(self.host, self.user, &self.folder)?;
        command.args(["nerdctld", "--debug"]);
        let mut daemon = self.host.sandbox()?.spawn(&self.log(), command)?;
        let api = Api::new(&self.socket()?);
        until(Duration::from_secs(30), "an answer", || api.answers() || !daemon.runs())?;
        ensure!(daemon.runs(), "{}", log(self.host, &self.log()));
        Ok(daemon)
    }

    /// The name of the daemon's log.
    fn log(&self) -> String {
        format!("daemon-of-{}", self.user)
    }

    fn socket(&self) -> Result<PathBuf> {
        Ok(self.host.sandbox()?.inside(&format!("/run/user/{}/nerdctl.sock", self.user)))
    }

    /// His containerd's process, outside.
    fn containerd(&self) -> Result<u32> {
        let config = self.folder.join("home/containerd.toml").display().to_string();
        let processes = self.host.sandbox()?.processes();
        let is_it = |arguments: &[String]| {
            arguments.first().is_some_and(|program| program.ends_with("containerd"))
                && arguments.contains(&config)
        };
        let found = processes.iter().find(|process| is_it(&process.arguments));
        Ok(found.context("no containerd")?.pid)
    }

    /// What a line of shell prints in which `docker` is the CLI for this user.
    fn docker(&self, line: &str) -> Result<String> {
        let line = format!("export DOCKER_HOST=unix://{}; {line}", self.socket()?.display());
        let said = self.docker.shell(&line)?.success();
        said.with_context(|| format!("{line}\n{}", log(self.host, &self.log())))
    }
}

fn as_user(host: &Host, user: u32, folder: &Path) -> Result<Command> {
    let mut command = host.sandbox()?.command("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={user}"))
        .args(["--clear-groups", "--", "env", "-i"])
        .arg(format!("PATH={}/bin:/usr/sbin:/usr/bin:/sbin:/bin", folder.display()))
        .arg(format!("HOME={}", folder.join("home").display()))
        .arg(format!("XDG_RUNTIME_DIR=/run/user/{user}"))
        .args(["CNI_PATH=/usr/lib/cni", "CONTAINERD_SNAPSHOTTER=overlayfs"]);
    Ok(command)
}

fn log(host: &Host, name: &str) -> String {
    let path = host.root().map(|root| root.join("log").join(name)).unwrap_or_default();
    fs::read_to_string(path).unwrap_or_default()
}

fn needs_rootless(host: &Host) -> Result<()> {
    crate::needs_rig(host)?;
    for program in ["rootlesskit", "slirp4netns", "newuidmap"] {
        if !Path::new("/usr/bin").join(program).exists() {
            return Err(skip(format!("{program} is not installed (make setup)")));
        }
    }
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let barred = fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone");
    if most.trim() == "0" || barred.is_ok_and(|value| value.trim() == "0") {
        return Err(skip("users may not make user namespaces here"));
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err(skip("no /dev/net/tun for a user's network"));
    }
    Ok(())
}

fn namespace(pid: u32, kind: &str) -> Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).context("a namespace")
}

/// What a user can do, whatever the network is.
fn lives(session: &Session<'_>) -> Result<()> {
    let mut daemon = session.daemon()?;
    let (pid, containerd) = (daemon.pid()?, session.containerd()?);
    for kind in ["user", "mnt", "net"] {
        ensure!(namespace(pid, kind)? == namespace(containerd, kind)?, "another {kind}");
    }
    let info = Api::new(&session.socket()?).get_json("/info")?;
    let options = info["SecurityOptions"].as_array().context("no security options")?;
    ensure!(options.iter().any(|option| option == "name=rootless"), "{info}");
    ensure!(info["CgroupDriver"] == "none", "{info}");
    ensure!(info["DockerRootDir"].as_str().is_some_and(|root| root.contains("/home/")), "{info}");
    session.docker("docker version | grep -q containerd:")?;

    session.docker("docker pull -q alpine:3.21")?;
    session.docker("docker run --rm --network none alpine:3.21 true")?;
    let map =
        session.docker("docker run --rm --network host alpine:3.21 cat /proc/self/uid_map")?;
    ensure!(map.split_ascii_whitespace().nth(1) == Some(&session.user.to_string()), "{map}");
    session.docker(
        "docker run -d --name web --network none alpine:3.21 sh -c 'echo up; sleep 1000'",
    )?;
    ensure!(session.docker("docker exec web id -u")? == "0\n", "not root in there");
    ensure!(session.docker("docker top web")?.contains("sleep 1000"), "no processes");

    // The daemon is as replaceable as root's.
    daemon.kill()?;
    let mut daemon = session.daemon()?;
    ensure!(session.docker("docker ps --format {{.Names}}")? == "web\n", "the container is lost");
    ensure!(session.docker("docker logs web")? == "up\n", "its output is lost");
    session.docker("docker cp web:/etc/passwd - | grep -q root")?;
    session.docker("docker stop -t 0 web && docker rm web")?;
    let refused = session.docker("docker run --rm -p 8080:80 alpine:3.21 true 2>&1 || true")?;
    ensure!(refused.contains("without root"), "{refused}");
    ensure!(session.docker("docker ps -aq")?.is_empty(), "a refused container is left behind");
    session.docker("docker rmi alpine:3.21")?;
    daemon.signal(Signal::TERM)?;
    ensure!(daemon.wait(Duration::from_secs(30))?.success(), "no orderly end");
    ensure!(!session.socket()?.exists(), "the socket is left behind");
    Ok(())
}

fn a_user_with_a_network_of_his_own(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rootless(host)?;
    // 10.0.2.2 is this machine's loopback, as slirp4netns shows it.
    let session = Session::start(host, 4711, &["--net=slirp4netns"], "10.0.2.2:5001")?;
    lives(&session)?;
    let daemon = session.daemon()?;
    let interfaces = session.docker("docker run --rm alpine:3.21 ip address show eth0")?;
    ensure!(interfaces.contains("inet 10.4."), "{interfaces}");
    drop(daemon);
    Ok(())
}

fn a_user_on_the_hosts_network(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rootless(host)?;
    lives(&Session::start(host, 4712, &["--net=host"], MIRROR)?)
}
