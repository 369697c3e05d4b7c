//! Flags, environment and `nerdctl.toml` become one checked [`Config`].
//!
//! This is the only place that reads the environment (systemd's socket protocol apart, which `listenfd` and `sd-notify`
//! speak for us). Everything is read before the first error is told, so that a person sees every mistake at once, and
//! nothing is opened or written before the whole configuration is known to be good.
//!
//! | Value | Flag | Environment | `nerdctl.toml` | Default |
//! |---|---|---|---|---|
//! | listeners | `--addr`, `--socket` | – | – | `/run/nerdctl.sock`, as a user `$XDG_RUNTIME_DIR/nerdctl.sock` |
//! | TLS of those on TCP | `--tls`, `--tlsverify`, `--tlscacert`, `--tlscert`, `--tlskey`, `--tcp-insecure` | `DOCKER_CERT_PATH` | – | off |
//! | metrics | `--metrics-addr` | – | – | off |
//! | group | `--group` | – | – | the process's |
//! | detail | `--debug` | `RUST_LOG` (log filter) | `debug`, `debug_full` | off |
//! | containerd | `--containerd` | `CONTAINERD_ADDRESS` | `address` | `/run/containerd/containerd.sock` |
//! | namespace | `--namespace` | `CONTAINERD_NAMESPACE` | `namespace` | `default` |
//! | snapshotter | `--snapshotter` | `CONTAINERD_SNAPSHOTTER` | `snapshotter` | `overlayfs` |
//! | data root | `--data-root` | – | `data_root` | `/var/lib/nerdctl`, as a user `$XDG_DATA_HOME/nerdctl` |
//! | CNI plugins | `--cni-path` | `CNI_PATH` | `cni_path` | the first of [`CNI_PLUGIN_FOLDERS`] that exists |
//! | CNI files | `--cni-netconfpath` | `NETCONFPATH` | `cni_netconfpath` | `/etc/cni/net.d` |
//! | registries | `--hosts-dir` | – | `hosts_dir` | `/etc/containerd/certs.d`, `/etc/docker/certs.d` |
//! | mirrors of Docker Hub | `--registry-mirror` | – | – | none |
//! | registries without certificate | `--insecure-registry` | – | `insecure_registry` (all) | those on this machine |
//! | how much at once | `--max-concurrent-downloads`, `--max-concurrent-uploads`, `--max-download-attempts` | – | – | 3, 5, 5 |
//! | buildkitd | – | `BUILDKIT_HOST` | – | found by the builder |
//! | proxies | – | `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, also in lower case | – | none |
//! | others | `--keep-stopped`, `--manage-cri`, `--idle-exit` | – | `cgroup_manager`, `bridge_ip` | |
//!
//! Keys, variables and defaults are nerdctl's (nerdctl `pkg/config/config.go`, `pkg/defaults`), so that both programs work
//! on the same state. Keys of the file that we do not know are tolerated (nerdctl of tomorrow may); the file is never
//! written, because nerdctl itself does not tolerate ours.

mod file;
mod listen;
mod mistake;
mod registries;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::images::{RegistrySettings, TransferLimits};
use names::Namespace;

use crate::cli::Cli;
use crate::{managed, rootless};
use file::File;
pub(crate) use listen::{ListenAddress, TlsFiles, host_and_port};
pub(crate) use mistake::{Mistake, Mistakes};

/// Where nerdctl looks for CNI plugins, in its order (nerdctl `pkg/defaults/cni_linux.go`).
const CNI_PLUGIN_FOLDERS: &[&str] = &[
    "/opt/cni/bin",
    "/usr/local/libexec/cni",
    "/usr/local/lib/cni",
    "/home/linuxbrew/.linuxbrew/opt/cni-plugins/bin",
    "/usr/libexec/cni",
    "/usr/lib/cni",
];

const DEFAULT_CONTAINERD: &str = "/run/containerd/containerd.sock";
const DEFAULT_KEEP_STOPPED: usize = 10;
const CGROUP_MANAGERS: &[&str] = &["systemd", "cgroupfs", "none"];

/// Which containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContainerdChoice {
    /// One that somebody else runs, at this socket.
    At(PathBuf),
    /// Our own; started when it does not run.
    Managed(managed::Layout),
}

impl ContainerdChoice {
    /// Its socket.
    pub(crate) fn socket(&self) -> &Path {
        match self {
            Self::At(socket) => socket,
            Self::Managed(layout) => &layout.socket,
        }
    }
}

/// Proxies to registries, for people to see: credentials are masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    /// For plain HTTP.
    pub(crate) http: String,
    /// For HTTPS.
    pub(crate) https: String,
    /// Hosts that need none.
    pub(crate) none: String,
}

/// What of the configuration clients see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// How registries are reached.
    pub(crate) proxies: Proxies,
    /// What the operator should think about again.
    pub(crate) warnings: Vec<String>,
}

/// Everything the daemon was told, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Listeners; never empty.
    pub(crate) listen: Vec<ListenAddress>,
    /// We are root of the machine, not of a user's own namespaces.
    pub(crate) root: bool,
    /// Certificates for those on TCP, where they are encrypted.
    pub(crate) tls: Option<TlsFiles>,
    /// Where metrics are served.
    pub(crate) metrics: Option<SocketAddr>,
    /// Group id for Unix sockets that we make.
    pub(crate) group: Option<u32>,
    /// Log in detail.
    pub(crate) debug: bool,
    /// `RUST_LOG`.
    pub(crate) log_filter: Option<String>,
    /// Which containerd.
    pub(crate) containerd: ContainerdChoice,
    /// containerd's namespace.
    pub(crate) namespace: Namespace,
    /// Snapshotter.
    pub(crate) snapshotter: String,
    /// nerdctl's data root.
    pub(crate) data_root: PathBuf,
    /// Our sockets and other things that go with a reboot.
    pub(crate) run_dir: PathBuf,
    /// CNI plugins.
    pub(crate) cni_path: PathBuf,
    /// CNI configurations.
    pub(crate) cni_netconf_path: PathBuf,
    /// `hosts.toml` folders.
    pub(crate) hosts_dirs: Vec<PathBuf>,
    /// `systemd`, `cgroupfs` or `none`; `None` lets the engine decide as nerdctl does.
    pub(crate) cgroup_manager: Option<String>,
    /// Registries may be plain HTTP or have unknown certificates.
    pub(crate) insecure_registry: bool,
    /// Mirrors of Docker Hub, and registries that need no certificate.
    pub(crate) registries: RegistrySettings,
    /// How much of images is transferred at once.
    pub(crate) transfer_limits: TransferLimits,
    /// Address of the default bridge (`10.4.0.1/24`), where the operator chose one.
    pub(crate) bridge_ip: Option<String>,
    /// Stopped containers that keep their task.
    pub(crate) keep_stopped: usize,
    /// Kubernetes' containers may be changed.
    pub(crate) manage_cri: bool,
    /// buildkitd, where the operator named one.
    pub(crate) buildkit_host: Option<String>,
    /// End after so long without a client.
    pub(crate) idle_exit: Option<Duration>,
    /// `HTTP_PROXY` and its relatives, masked.
    pub(crate) proxies: Proxies,
}

/// Where values come from besides the command line; a test has its own.
pub(crate) struct Surroundings<'a> {
    /// One variable of the environment; empty counts as absent.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Contents of a file.
    pub(crate) read: &'a dyn Fn(&Path) -> std::io::Result<String>,
    /// Whether a directory exists.
    pub(crate) is_dir: &'a dyn Fn(&Path) -> bool,
    /// Effective user id is 0, and not that of a user's own namespace.
    pub(crate) root: bool,
}

impl Config {
    /// What clients see of it.
    pub(crate) fn shown(&self) -> Shown {
        Shown { proxies: self.proxies.clone(), warnings: self.warnings() }
    }

    /// Read the process's environment and the file.
    ///
    /// # Errors
    /// Every mistake there is.
    pub(crate) fn load(cli: &Cli) -> Result<Self, Mistakes> {
        let surroundings = Surroundings {
            variable: &|name| std::env::var(name).ok(),
            read: &|path| std::fs::read_to_string(path),
            is_dir: &Path::is_dir,
            // Root in a user's namespaces has the user's folders (nerdctl `pkg/rootlessutil`).
            root: rustix::process::geteuid().is_root() && !rootless::is_inside(),
        };
        Self::from(cli, &surroundings)
    }

    /// The same from given surroundings.
    ///
    /// # Errors
    /// Every mistake there is.
    pub(crate) fn from(cli: &Cli, surroundings: &Surroundings<'_>) -> Result<Self, Mistakes> {
        let mut reader = Reader { cli, surroundings, file: File::default(), mistakes: Vec::new() };
        reader.read_file();
        let config = reader.config();
        match config {
            Some(config) if reader.mistakes.is_empty() => Ok(config),
            _ => Err(Mistakes(reader.mistakes)),
        }
    }
}

/// A text and where it came from, for the message about it.
struct Given {
    origin: String,
    text: String,
}

struct Reader<'a> {
    cli: &'a Cli,
    surroundings: &'a Surroundings<'a>,
    file: File,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (self.surroundings.variable)(name).filter(|value| !value.is_empty())
    }

    /// `--config`, else `$NERDCTL_TOML`, else the usual place; only a file that was asked for must exist.
    fn read_file(&mut self) {
        let (path, required) = match (&self.cli.config, self.variable("NERDCTL_TOML")) {
            (Some(path), _) => (path.clone(), true),
            // nerdctl tolerates a missing $NERDCTL_TOML (pkg/config), so a daemon with its environment must.
            (None, Some(path)) => (PathBuf::from(path), false),
            (None, None) => match self.usual_file() {
                Some(path) => (path, false),
                None => return,
            },
        };
        let text = match (self.surroundings.read)(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return,
            Err(error) => {
                self.mistakes.push(Mistake::UnreadableFile {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                });
                return;
            }
        };
        match File::parse(&text) {
            Ok(file) => self.file = file,
            Err(reason) => {
                self.mistakes.push(Mistake::BadFile { path: path.display().to_string(), reason });
            }
        }
    }

    fn usual_file(&self) -> Option<PathBuf> {
        if self.surroundings.root {
            return Some(PathBuf::from("/etc/nerdctl/nerdctl.toml"));
        }
        Some(self.xdg_dir("XDG_CONFIG_HOME", ".config")?.join("nerdctl/nerdctl.toml"))
    }

    fn xdg_dir(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        self.variable(variable)
            .map(PathBuf::from)
            .or_else(|| self.variable("HOME").map(|home| PathBuf::from(home).join(below_home)))
    }

    /// Flag > environment > file.
    fn given(
        &self,
        flag: (&str, Option<String>),
        variable: Option<&str>,
        key: (&str, Option<String>),
    ) -> Option<Given> {
        if let (name, Some(text)) = flag {
            return Some(Given { origin: name.to_owned(), text });
        }
        if let Some((name, text)) = variable.and_then(|name| Some((name, self.variable(name)?))) {
            return Some(Given { origin: name.to_owned(), text });
        }
        let (name, text) = key;
        text.map(|text| Given { origin: format!("nerdctl.toml, {name}"), text })
    }

    fn absolute(&mut self, given: Given) -> PathBuf {
        let path = PathBuf::from(&given.text);
        if !path.is_absolute() {
            self.mistakes.push(Mistake::RelativePath { origin: given.origin, value: given.text });
        }
        path
    }

    /// `None` only together with a mistake.
    fn config(&mut self) -> Option<Config> {
        let run_base = self.run_base();
        let data_root = self.data_root();
        let run_dir = run_base.as_ref().map(|base| base.join("nerdctld"));
        let containerd = self.containerd(data_root.as_deref(), run_dir.as_deref());
        let listen = self.listeners(run_base.as_deref());
        let tls = self.tls();
        let metrics = self.metrics();
        let group = self.group();
        let namespace = self.namespace();
        let snapshotter = self.snapshotter();
        let (cni_path, cni_netconf_path) = (self.cni_path(), self.cni_netconf_path());
        let hosts_dirs = self.hosts_dirs();
        let registries = registries::read(self.cli, &mut self.mistakes);
        let cgroup_manager = self.cgroup_manager();
        let idle_exit = self.idle_exit();
        Some(Config {
            listen,
            root: self.surroundings.root,
            tls,
            metrics,
            group,
            debug: self.cli.debug || self.file.debug || self.file.debug_full,
            log_filter: self.variable("RUST_LOG"),
            containerd: containerd?,
            namespace: namespace?,
            snapshotter,
            data_root: data_root?,
            run_dir: run_dir?,
            cni_path,
            cni_netconf_path,
            hosts_dirs,
            cgroup_manager,
            insecure_registry: self.file.insecure_registry,
            registries,
            transfer_limits: registries::limits(self.cli),
            bridge_ip: self.file.bridge_ip.clone(),
            keep_stopped: self.cli.keep_stopped.unwrap_or(DEFAULT_KEEP_STOPPED),
            manage_cri: self.cli.manage_cri,
            buildkit_host: self.variable("BUILDKIT_HOST"),
            idle_exit,
            proxies: self.proxies(),
        })
    }

    fn proxies(&self) -> Proxies {
        let either = |upper: &str, lower: &str| {
            self.variable(upper).or_else(|| self.variable(lower)).unwrap_or_default()
        };
        Proxies {
            http: mask_credentials(&either("HTTP_PROXY", "http_proxy")),
            https: mask_credentials(&either("HTTPS_PROXY", "https_proxy")),
            none: either("NO_PROXY", "no_proxy"),
        }
    }

    /// `/run`, or the user's own.
    fn run_base(&mut self) -> Option<PathBuf> {
        if self.surroundings.root {
            return Some(PathBuf::from("/run"));
        }
        let base = self.variable("XDG_RUNTIME_DIR").map(PathBuf::from);
        if base.is_none() {
            self.mistakes.push(Mistake::NoRuntimeDir);
        }
        base
    }

    fn data_root(&mut self) -> Option<PathBuf> {
        let flag = self.cli.data_root.as_ref().map(|path| path.display().to_string());
        if let Some(given) =
            self.given(("--data-root", flag), None, ("data_root", self.file.data_root.clone()))
        {
            return Some(self.absolute(given));
        }
        if self.surroundings.root {
            return Some(PathBuf::from("/var/lib/nerdctl"));
        }
        let base = self.xdg_dir("XDG_DATA_HOME", ".local/share");
        if base.is_none() {
            self.mistakes.push(Mistake::NoHome("XDG_DATA_HOME"));
        }
        Some(base?.join("nerdctl"))
    }

    fn containerd(
        &mut self,
        data_root: Option<&Path>,
        run_dir: Option<&Path>,
    ) -> Option<ContainerdChoice> {
        let flag = ("--containerd", self.cli.containerd.clone());
        let Some(given) =
            self.given(flag, Some("CONTAINERD_ADDRESS"), ("address", self.file.address.clone()))
        else {
            return Some(ContainerdChoice::At(PathBuf::from(DEFAULT_CONTAINERD)));
        };
        if given.text == "managed" {
            return Some(ContainerdChoice::Managed(managed::Layout::below(data_root?, run_dir?)));
        }
        let path = given.text.strip_prefix("unix://").unwrap_or(&given.text);
        if !path.starts_with('/') {
            self.mistakes.push(Mistake::Containerd { origin: given.origin, value: given.text });
            return None;
        }
        Some(ContainerdChoice::At(PathBuf::from(path)))
    }

    fn group(&mut self) -> Option<u32> {
        let name = self.cli.group.as_ref()?;
        if let Ok(number) = name.parse() {
            return Some(number);
        }
        let groups = (self.surroundings.read)(Path::new("/etc/group")).unwrap_or_default();
        let id = group_id(&groups, name);
        if id.is_none() {
            self.mistakes.push(Mistake::NoSuchGroup(name.clone()));
        }
        id
    }

    fn namespace(&mut self) -> Option<Namespace> {
        let flag = ("--namespace", self.cli.namespace.clone());
        let given = self
            .given(flag, Some("CONTAINERD_NAMESPACE"), ("namespace", self.file.namespace.clone()))
            .unwrap_or_else(|| Given { origin: String::new(), text: "default".to_owned() });
        match given.text.parse() {
            Ok(namespace) => Some(namespace),
            Err(error) => {
                let reason = format!("{error}");
                self.mistakes.push(Mistake::Invalid {
                    origin: given.origin,
                    value: given.text,
                    reason,
                });
                None
            }
        }
    }

    fn snapshotter(&mut self) -> String {
        let flag = ("--snapshotter", self.cli.snapshotter.clone());
        self.given(
            flag,
            Some("CONTAINERD_SNAPSHOTTER"),
            ("snapshotter", self.file.snapshotter.clone()),
        )
        .map_or_else(|| "overlayfs".to_owned(), |given| given.text)
    }

    fn cni_path(&mut self) -> PathBuf {
        let flag = self.cli.cni_path.as_ref().map(|path| path.display().to_string());
        if let Some(given) = self.given(
            ("--cni-path", flag),
            Some("CNI_PATH"),
            ("cni_path", self.file.cni_path.clone()),
        ) {
            return self.absolute(given);
        }
        let found = CNI_PLUGIN_FOLDERS
            .iter()
            .map(Path::new)
            .find(|folder| (self.surroundings.is_dir)(folder));
        found.unwrap_or_else(|| Path::new(CNI_PLUGIN_FOLDERS[0])).to_owned()
    }

    fn cni_netconf_path(&mut self) -> PathBuf {
        let flag = self.cli.cni_netconfpath.as_ref().map(|path| path.display().to_string());
        let key = ("cni_netconfpath", self.file.cni_netconfpath.clone());
        if let Some(given) = self.given(("--cni-netconfpath", flag), Some("NETCONFPATH"), key) {
            return self.absolute(given);
        }
        if self.surroundings.root {
            return PathBuf::from("/etc/cni/net.d");
        }
        self.xdg_dir("XDG_CONFIG_HOME", ".config")
            .unwrap_or_else(|| PathBuf::from("/etc"))
            .join("cni/net.d")
    }

    fn hosts_dirs(&mut self) -> Vec<PathBuf> {
        if !self.cli.hosts_dir.is_empty() {
            return self.cli.hosts_dir.clone();
        }
        if let Some(folders) = &self.file.hosts_dir {
            return folders.iter().map(PathBuf::from).collect();
        }
        let base =
            if self.surroundings.root { None } else { self.xdg_dir("XDG_CONFIG_HOME", ".config") };
        let base = base.unwrap_or_else(|| PathBuf::from("/etc"));
        vec![base.join("containerd/certs.d"), base.join("docker/certs.d")]
    }

    fn cgroup_manager(&mut self) -> Option<String> {
        let manager = self.file.cgroup_manager.clone().filter(|manager| !manager.is_empty())?;
        if !CGROUP_MANAGERS.contains(&manager.as_str()) {
            self.mistakes.push(Mistake::Invalid {
                origin: "nerdctl.toml, cgroup_manager".to_owned(),
                value: manager,
                reason: "must be systemd, cgroupfs or none".to_owned(),
            });
            return None;
        }
        Some(manager)
    }

    fn idle_exit(&mut self) -> Option<Duration> {
        let text = self.cli.idle_exit.as_ref()?;
        let time = parse_time(text);
        if time.is_none() {
            self.mistakes.push(Mistake::Invalid {
                origin: "--idle-exit".to_owned(),
                value: text.clone(),
                reason:
                    "must be a number of seconds, or a number with s, m or h behind it, and not 0"
                        .to_owned(),
            });
        }
        time
    }
}

/// `http://user:secret@proxy` becomes `http://xxxxx:xxxxx@proxy` (moby `daemon/config`, `MaskCredentials`).
fn mask_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match host.rsplit_once('@') {
        Some((_, host)) if scheme.is_empty() => format!("xxxxx:xxxxx@{host}{path}"),
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}{path}"),
        None => url.to_owned(),
    }
}

/// Number of the group with this name in the text of `/etc/group`.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// `90`, `90s`, `5m`, `1h`; not zero.
fn parse_time(text: &str) -> Option<Duration> {
    let (digits, unit) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1),
        b'm' => (&text[..text.len() - 1], 60),
        b'h' => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().ok()?;
    let seconds = number.checked_mul(unit).filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
