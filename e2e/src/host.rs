//! A whole machine in miniature: containerd, registries, CNI, and the daemon under test, in one [`Sandbox`].

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::api::Api;
use crate::peers;
use crate::sandbox::{PATH, Process, Sandbox, until};

/// How long a daemon may take to answer after its start.
const START: Duration = Duration::from_secs(60);
/// Where the registry without a login listens, in the host's own network: the mirror of docker.io.
pub const MIRROR: &str = "127.0.0.1:5001";
/// Where the registry with a login listens.
pub const LOGIN_REGISTRY: &str = "localhost:5000";
/// The login of that registry.
pub const LOGIN: (&str, &str) = ("nerd", "secret");
/// The containerd namespace that the daemon and nerdctl work in, as a rule.
pub const NAMESPACE: &str = "default";

/// Which containerd a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerdVersion {
    /// Debian's 1.6 with Debian's runc.
    V1_6,
    /// 1.7 with the newest runc.
    V1_7,
    /// 2.x with the newest runc.
    V2,
}

impl ContainerdVersion {
    /// What `E2E_CONTAINERD` says; 1.6 without it.
    ///
    /// # Errors
    /// When it says something else.
    pub fn from_environment() -> Result<Self> {
        match std::env::var("E2E_CONTAINERD").unwrap_or_default().as_str() {
            "" | "1.6" => Ok(Self::V1_6),
            "1.7" => Ok(Self::V1_7),
            "2" => Ok(Self::V2),
            other => bail!("E2E_CONTAINERD={other}: 1.6, 1.7 or 2"),
        }
    }

    /// The folders with containerd, ctr, its shim and runc, in the order of `PATH`.
    fn path(self) -> Result<String> {
        let peer = match self {
            Self::V1_6 => return Ok(PATH.to_owned()),
            Self::V1_7 => "containerd-1.7",
            Self::V2 => "containerd-2",
        };
        Ok(format!("{}:{}:{PATH}", peers::bin(peer)?.display(), peers::bin("runc")?.display()))
    }

    fn config(self, root: &Path, kubernetes: bool) -> String {
        let root = root.display();
        let mut text = format!(
            "version = 2\nroot = \"{root}/containerd\"\nstate = \"/run/containerd\"\n\
             [grpc]\naddress = \"{root}/c.sock\"\n[debug]\nlevel = \"debug\"\n"
        );
        if kubernetes {
            // The pause image must run for ever; host network, so that no CNI is needed; and where a machine does not
            // let scores be lowered, pods must start all the same.
            text = text.replace("version = 2", "version = 3");
            text.push_str(&format!(
                "[plugins.\"io.containerd.cri.v1.images\".pinned_images]\nsandbox = \"docker.io/library/httpd:2\"\n\
                 [plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"{root}/certs.d\"\n\
                 [plugins.\"io.containerd.cri.v1.runtime\"]\nrestrict_oom_score_adj = true\n"
            ));
        } else {
            let plugins = match self {
                Self::V1_6 | Self::V1_7 => "\"io.containerd.grpc.v1.cri\"",
                Self::V2 => {
                    "\"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.grpc.v1.cri\""
                }
            };
            text = text.replace("[grpc]", &format!("disabled_plugins = [{plugins}]\n[grpc]"));
        }
        text
    }
}

impl fmt::Display for ContainerdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
            Self::V2 => "2",
        })
    }
}

/// What answers Docker's API on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// The daemon of this project.
    Nerdctld,
    /// The peer dockerd 29 (which brings its own containerd 2), for reference.
    Dockerd,
    /// Debian's dockerd 20.10, which brings Debian's containerd, for what older clients were made for.
    DebianDockerd,
    /// A daemon that runs already, somewhere. Nothing but its socket is known.
    Given(PathBuf),
}

impl Engine {
    /// What `E2E_TARGET` says; the daemon of this project without it.
    ///
    /// # Errors
    /// When it says something else.
    pub fn from_environment() -> Result<Self> {
        match std::env::var("E2E_TARGET").unwrap_or_default().as_str() {
            "" | "nerdctld" => Ok(Self::Nerdctld),
            "dockerd" => Ok(Self::Dockerd),
            "dockerd-20.10" => Ok(Self::DebianDockerd),
            other => match other.strip_prefix("unix://") {
                Some(path) => Ok(Self::Given(path.into())),
                None => {
                    bail!("E2E_TARGET={other}: nerdctld, dockerd, dockerd-20.10 or unix://PATH")
                }
            },
        }
    }
}

/// What a host is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What answers the API.
    pub engine: Engine,
    /// Which containerd; dockerd has its own.
    pub containerd: ContainerdVersion,
    /// Whether containerd serves the kubelet (CRI) as well; 2.x only. The daemon then works in the kubelet's namespace.
    pub kubernetes: bool,
    /// The daemon's binary, if not the one in `target/`.
    pub binary: Option<PathBuf>,
    /// Further arguments of the daemon.
    pub arguments: Vec<String>,
    /// Further environment of the daemon.
    pub environment: Vec<(String, String)>,
}

impl Plan {
    /// What the environment asks for (see the crate's title page).
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            engine: Engine::from_environment()?,
            containerd: ContainerdVersion::from_environment()?,
            kubernetes: false,
            binary: std::env::var_os("NERDCTLD").map(PathBuf::from),
            arguments: Vec::new(),
            environment: vec![("RUST_BACKTRACE".into(), "1".into())],
        })
    }
}

/// A running machine in miniature. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Host {
    plan: Plan,
    socket: PathBuf,
    // Order of fields is order of dropping: the sandbox ends last, and takes what is left.
    daemon: Mutex<Option<Process>>,
    containerd: Mutex<Option<Process>>,
    _registries: Vec<Process>,
    sandbox: Option<Sandbox>,
}

impl Host {
    /// Starts what the plan says and waits until the daemon answers.
    ///
    /// # Errors
    /// When something does not start; with its log.
    pub fn start(plan: Plan) -> Result<Self> {
        if let Engine::Given(socket) = &plan.engine {
            let socket = socket.clone();
            return Ok(Self {
                plan,
                socket,
                daemon: Mutex::default(),
                containerd: Mutex::default(),
                _registries: Vec::new(),
                sandbox: None,
            });
        }
        let host = Self::without_daemon(plan)?;
        host.start_daemon()?;
        Ok(host)
    }

    /// Starts all but the daemon (and, with dockerd, its containerd).
    ///
    /// # Errors
    /// As [`Host::start`].
    pub fn without_daemon(plan: Plan) -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let root = sandbox.root().to_path_buf();
        for folder in ["home", "certs.d", "cni/net.d", "data"] {
            fs::create_dir_all(root.join(folder)).context("making folders")?;
        }
        registry_hosts(&root)?;
        fs::write(root.join("nerdctl.toml"), nerdctl_toml(&root))
            .context("writing nerdctl.toml")?;
        let registries = vec![
            start_registry(&sandbox, MIRROR, "mirror")?,
            start_registry(&sandbox, LOGIN_REGISTRY, "login")?,
        ];
        let host = Self {
            socket: root.join("docker.sock"),
            plan,
            daemon: Mutex::default(),
            containerd: Mutex::default(),
            _registries: registries,
            sandbox: Some(sandbox),
        };
        if host.plan.engine == Engine::Nerdctld {
            host.start_containerd()?;
        }
        Ok(host)
    }

    /// What it was made from.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The containerd namespace that the daemon and nerdctl work in.
    #[must_use]
    pub fn namespace(&self) -> &'static str {
        if self.plan.kubernetes { "k8s.io" } else { NAMESPACE }
    }

    /// Whether the daemon is this project's, and not Docker's.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.plan.engine == Engine::Nerdctld
    }

    /// Requests to the daemon, at its newest API version.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::new(&self.socket)
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The namespaces everything runs in.
    ///
    /// # Errors
    /// For a daemon that runs somewhere else.
    pub fn sandbox(&self) -> Result<&Sandbox> {
        self.sandbox.as_ref().context("the target is not a host of this rig")
    }

    /// The folder of this host.
    ///
    /// # Errors
    /// As [`Host::sandbox`].
    pub fn root(&self) -> Result<&Path> {
        Ok(self.sandbox()?.root())
    }

    /// containerd's socket.
    ///
    /// # Errors
    /// As [`Host::sandbox`].
    pub fn containerd_socket(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("c.sock"))
    }

    /// A program inside that finds this host's containerd, runc and CNI plugins.
    ///
    /// # Errors
    /// When a peer is missing.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let root = self.root()?;
        let mut command = self.sandbox()?.command(program);
        command
            .env("PATH", self.plan.containerd.path()?)
            .env("NERDCTL_TOML", root.join("nerdctl.toml"))
            .env("CONTAINERD_ADDRESS", root.join("c.sock"))
            .env("CONTAINERD_NAMESPACE", self.namespace());
        Ok(command)
    }

    // ---- the daemon --------------------------------------------------------

    /// Starts the daemon and waits until it answers `_ping`.
    ///
    /// # Errors
    /// When it does not; with its log.
    pub fn start_daemon(&self) -> Result<()> {
        self.start_daemon_with(&[])
    }

    /// The same with further environment.
    ///
    /// # Errors
    /// As [`Host::start_daemon`].
    pub fn start_daemon_with(&self, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.daemon_command()?;
        command.envs(environment.iter().copied());
        let process = self.sandbox()?.spawn("daemon", command)?;
        let mut slot = self.daemon();
        let process = slot.insert(process);
        let api = self.api();
        let answered =
            until(START, "the daemon's first answer", || api.answers() || !process.runs());
        if !process.runs() {
            bail!("the daemon ended at once:\n{}", self.log_tail("daemon", 0));
        }
        answered.with_context(|| self.log_tail("daemon", 0))
    }

    /// The command that starts the daemon, not yet started: for a measurement of its start.
    ///
    /// # Errors
    /// When a program is missing.
    pub fn daemon_command(&self) -> Result<Command> {
        let root = self.root()?;
        let mut command = match self.plan.engine {
            Engine::Nerdctld => self.nerdctld(root)?,
            Engine::Dockerd => {
                let bin = peers::bin("dockerd")?;
                self.dockerd(root, &bin, &ContainerdVersion::V2.path()?)?
            }
            Engine::DebianDockerd => {
                self.dockerd(root, &peers::debian_docker()?, &ContainerdVersion::V1_6.path()?)?
            }
            Engine::Given(_) => bail!("a daemon that runs already is not started"),
        };
        command.args(&self.plan.arguments).envs(self.plan.environment.iter().cloned());
        Ok(command)
    }

    fn nerdctld(&self, root: &Path) -> Result<Command> {
        let binary = match &self.plan.binary {
            Some(path) => path.clone(),
            None => peers::built("nerdctld")?,
        };
        let mut command = self.command(binary)?;
        command
            .arg(format!("--addr=unix://{}", self.socket.display()))
            .args(["--namespace", self.namespace(), "--debug"])
            .arg("--containerd")
            .arg(root.join("c.sock"))
            .arg("--data-root")
            .arg(root.join("data"))
            .arg("--config")
            .arg(root.join("nerdctl.toml"))
            .env("CNI_PATH", CNI_PLUGINS)
            .env("NETCONFPATH", root.join("cni/net.d"));
        Ok(command)
    }

    /// A dockerd from the folder `bin`, with a containerd and a runc from the folders of `path`.
    fn dockerd(&self, root: &Path, bin: &Path, path: &str) -> Result<Command> {
        let mut command = self.sandbox()?.command(bin.join("dockerd"));
        command
            .env("PATH", format!("{}:{path}", bin.display()))
            // Its own default is 1.40; ours goes back to 1.24, and both sides of each difference are tested.
            .env("DOCKER_MIN_API_VERSION", "1.24")
            .arg(format!("--host=unix://{}", self.socket.display()))
            .arg("--data-root")
            .arg(root.join("docker"))
            .args(["--exec-root=/run/docker", "--pidfile=/run/docker.pid"])
            .arg(format!("--init-path={INIT}"))
            .arg(format!("--registry-mirror=http://{MIRROR}"));
        Ok(command)
    }

    /// Kills the daemon (SIGKILL); its containers live on.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill_daemon(&self) -> Result<()> {
        self.daemon().take().context("no daemon")?.kill()
    }

    /// Asks the daemon to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_daemon(&self) -> Result<std::process::ExitStatus> {
        let mut process = self.daemon().take().context("no daemon")?;
        process.signal(Signal::TERM)?;
        process.wait(Duration::from_secs(30))
    }

    /// The daemon's process id, outside.
    ///
    /// # Errors
    /// When it does not run.
    pub fn daemon_pid(&self) -> Result<u32> {
        self.daemon().as_mut().context("no daemon")?.pid()
    }

    // ---- containerd --------------------------------------------------------

    /// Starts containerd and waits until it answers.
    ///
    /// # Errors
    /// When it does not; with its log.
    pub fn start_containerd(&self) -> Result<()> {
        let root = self.root()?;
        let version = self.plan.containerd;
        fs::write(root.join("containerd.toml"), version.config(root, self.plan.kubernetes))
            .context("writing containerd.toml")?;
        let program = match version {
            ContainerdVersion::V1_6 => PathBuf::from("containerd"),
            ContainerdVersion::V1_7 => peers::program("containerd-1.7", "containerd")?,
            ContainerdVersion::V2 => peers::program("containerd-2", "containerd")?,
        };
        let mut command = self.command(program)?;
        command.arg("--config").arg(root.join("containerd.toml"));
        let process = self.sandbox()?.spawn("containerd", command)?;
        let mut slot = self.containerd();
        let process = slot.insert(process);
        until(START, "containerd's first answer", || {
            !process.runs() || self.ctr(&["version"]).is_ok()
        })
        .and_then(|()| if process.runs() { Ok(()) } else { bail!("containerd ended at once") })
        .with_context(|| self.log_tail("containerd", 0))
    }

    /// Kills containerd (SIGKILL); shims and containers live on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_containerd(&self) -> Result<()> {
        self.containerd().take().context("no containerd")?.kill()
    }

    /// containerd's process id, outside.
    ///
    /// # Errors
    /// When it does not run.
    pub fn containerd_pid(&self) -> Result<u32> {
        self.containerd().as_mut().context("no containerd")?.pid()
    }

    /// Runs this host's `ctr` in the daemon's namespace and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        self.sandbox()?.run(self.command("ctr")?.args(arguments))
    }

    /// Runs nerdctl on this host and gives what it printed.
    ///
    /// # Errors
    /// When it is not there, or fails.
    pub fn nerdctl(&self, arguments: &[&str]) -> Result<String> {
        self.sandbox()?.run(self.command(peers::program("nerdctl", "nerdctl")?)?.args(arguments))
    }

    // ---- logs --------------------------------------------------------------

    /// How long each log is now, to be given to [`Host::logs_since`].
    #[must_use]
    pub fn log_lengths(&self) -> Vec<(String, u64)> {
        let Ok(root) = self.root() else { return Vec::new() };
        let files = fs::read_dir(root.join("log")).into_iter().flatten().flatten();
        files
            .filter_map(|file| {
                Some((file.file_name().into_string().ok()?, file.metadata().ok()?.len()))
            })
            .collect()
    }

    /// What was logged since, at most the last lines of each.
    #[must_use]
    pub fn logs_since(&self, lengths: &[(String, u64)]) -> String {
        let since = |name: &str| {
            lengths.iter().find(|(known, _)| known == name).map_or(0, |(_, length)| *length)
        };
        let mut names: Vec<String> = self.log_lengths().into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.iter().map(|name| self.log_tail(name, since(name))).collect()
    }

    fn log_tail(&self, name: &str, since: u64) -> String {
        const LINES: usize = 60;
        let Ok(root) = self.root() else { return String::new() };
        let bytes = fs::read(root.join("log").join(name)).unwrap_or_default();
        let since = usize::try_from(since).unwrap_or(0).min(bytes.len());
        let text = String::from_utf8_lossy(&bytes[since..]).into_owned();
        if text.is_empty() {
            return text;
        }
        let lines: Vec<&str> = text.lines().collect();
        let hidden = lines.len().saturating_sub(LINES);
        format!(
            "---- log of {name} ({hidden} earlier lines not shown)\n{}\n",
            lines[hidden..].join("\n")
        )
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Process>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn containerd(&self) -> MutexGuard<'_, Option<Process>> {
        self.containerd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Debian's init of containers, by another name than dockerd's own.
const INIT: &str = "/usr/bin/tini-static";

/// Where Debian has the CNI plugins.
const CNI_PLUGINS: &str = "/usr/lib/cni";

/// What nerdctl reads, and our daemon as well.
fn nerdctl_toml(root: &Path) -> String {
    let root = root.display();
    format!(
        "address = \"{root}/c.sock\"\nnamespace = \"{NAMESPACE}\"\nsnapshotter = \"overlayfs\"\n\
         data_root = \"{root}/data\"\ncni_path = \"{CNI_PLUGINS}\"\ncni_netconfpath = \"{root}/cni/net.d\"\n\
         hosts_dir = [\"{root}/certs.d\"]\ncgroup_manager = \"cgroupfs\"\n"
    )
}

/// `hosts.toml` files: docker.io has a mirror, the registry with a login speaks plain HTTP.
fn registry_hosts(root: &Path) -> Result<()> {
    let write = |name: &str, address: &str| {
        let folder = root.join("certs.d").join(name);
        fs::create_dir_all(&folder)?;
        fs::write(
            folder.join("hosts.toml"),
            format!(
                "server = \"http://{address}\"\n[host.\"http://{address}\"]\ncapabilities = [\"pull\", \"resolve\", \"push\"]\n"
            ),
        )
    };
    // The others are names that the images have, all kept by the one mirror.
    for name in ["docker.io", "ghcr.io", "quay.io", "public.ecr.aws"] {
        write(name, MIRROR).context("writing hosts.toml")?;
    }
    write(LOGIN_REGISTRY, LOGIN_REGISTRY).context("writing hosts.toml")
}

/// A registry on a copy-on-write view of what set-up filled.
fn start_registry(sandbox: &Sandbox, address: &str, name: &str) -> Result<Process> {
    let filled = seeds()?.join(name);
    let folder = sandbox.root().join(format!("registry-{name}"));
    for part in ["data", "upper", "work"] {
        fs::create_dir_all(folder.join(part)).context("making a registry's folders")?;
    }
    let shown = folder.display();
    let options =
        format!("lowerdir={},upperdir={shown}/upper,workdir={shown}/work", filled.display());
    let mut mount = sandbox.command("mount");
    sandbox
        .run(mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(folder.join("data")))?;
    let mut config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    \
         rootdirectory: {shown}/data\nhttp:\n  addr: {address}\n"
    );
    // Layers that are handed out elsewhere.
    config.push_str("validation:\n  manifests:\n    urls:\n      allow:\n        - ^http://\n");
    if name == "login" {
        let file = folder.join("htpasswd");
        let mut htpasswd = sandbox.command("htpasswd");
        fs::write(&file, sandbox.run(htpasswd.args(["-Bbn", LOGIN.0, LOGIN.1]))?)
            .context("writing htpasswd")?;
        config.push_str(&format!(
            "auth:\n  htpasswd:\n    realm: tests\n    path: {}\n",
            file.display()
        ));
    }
    fs::write(folder.join("config.yml"), config).context("writing a registry's config")?;
    let mut command = sandbox.command("docker-registry");
    command.arg("serve").arg(folder.join("config.yml"));
    let mut process = sandbox.spawn(&format!("registry-{name}"), command)?;
    until(START, "the registry's first answer", || {
        !process.runs()
            || sandbox.in_network(|| std::net::TcpStream::connect(address).is_ok()).unwrap_or(false)
    })?;
    if !process.runs() {
        bail!("the registry {name} does not start; its log is below {shown}");
    }
    Ok(process)
}

/// The folder with what registries offer and the image archives; made when it is not there.
///
/// # Errors
/// When it cannot be made: packages are missing.
pub fn seeds() -> Result<PathBuf> {
    let output = Command::new(peers::checkout().join("scripts/seed.sh"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("scripts/seed.sh")?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || path.is_empty() {
        bail!("scripts/seed.sh failed: the registries have nothing to offer (make setup)");
    }
    Ok(path.into())
}
