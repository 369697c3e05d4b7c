//! Containers: the domain types. One operation, one file in `containers/`.

pub mod archive;
pub mod attach;
pub mod attachment;
pub mod changes;
pub mod commit;
mod confine;
pub mod create;
pub mod exec;
pub mod exit;
pub mod export;
pub mod health;
pub mod health_check;
pub mod inspect;
pub mod kill;
pub mod links;
pub mod list;
pub mod logs;
pub mod mounts;
pub mod name_generator;
pub mod pause;
pub mod prune;
pub mod record;
pub mod remove;
pub mod rename;
pub mod resize;
pub mod resolve;
pub mod restart;
pub mod restart_policy;
pub mod restarts;
pub mod shares;
pub mod size;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
pub mod stop;
pub mod streams;
pub mod top;
pub mod update;
pub mod wait;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use names::{ContainerId, ContainerName, Platform, Signal};

pub use io_monitor::log_config::{Driver as LogDriver, OptionError, check as check_log_options};
use spec::upkeep::{Upkeep, UpkeepSpec};
pub use state::{Phase, State};

/// Which networks a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The default bridge: CNI network `bridge`.
    Bridge,
    /// The host's network namespace.
    Host,
    /// A namespace of its own with nothing but loopback.
    None,
    /// Networks that a user made, by name or id; the first gives the way out.
    Networks(Vec<String>),
    /// Another container's network namespace: its name or id.
    Container(String),
}

impl NetworkMode {
    /// Whether the container gets interfaces of its own beside loopback, and so ports that can be published.
    #[must_use]
    pub fn has_own_interfaces(&self) -> bool {
        matches!(self, Self::Bridge | Self::Networks(_))
    }

    /// Whether its network namespace is nobody else's.
    #[must_use]
    pub fn is_private(&self) -> bool {
        !matches!(self, Self::Host | Self::Container(_))
    }
}

/// The client's request as it was sent (and normalised by the edge): opaque here, kept in the container's record,
/// given back on inspect. Behaviour never depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded(pub Arc<[u8]>);

/// Everything create needs; no impossible combination.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// The image as typed.
    pub image: String,
    /// Only this platform of it.
    pub platform: Option<Platform>,
    /// The name; a random one otherwise.
    pub name: Option<ContainerName>,
    /// Host name; the short id otherwise (the host's with [`NetworkMode::Host`]).
    pub hostname: Option<String>,
    /// Domain name, often empty.
    pub domainname: String,
    /// `user`, `user:group`, numbers allowed; empty = the image's.
    pub user: String,
    /// `KEY=value`; a bare `KEY` removes the image's.
    pub env: Vec<String>,
    /// Arguments; `None` = the image's (unless an entrypoint is given).
    pub cmd: Option<Vec<String>>,
    /// Program; `None` = the image's, `Some([])` or `Some([""])` = none.
    pub entrypoint: Option<Vec<String>>,
    /// Working directory; `None` = the image's.
    pub working_dir: Option<String>,
    /// The user's labels, of any size; already checked against reserved keys.
    pub labels: BTreeMap<String, String>,
    /// Ports it says it listens on (`80/tcp`), beside the image's; shown, nothing more.
    pub exposed_ports: Vec<String>,
    /// A terminal.
    pub tty: bool,
    /// Keep stdin open.
    pub open_stdin: bool,
    /// Close stdin when the first attached client leaves.
    pub stdin_once: bool,
    /// The signal that asks it to stop; the image's, else SIGTERM.
    pub stop_signal: Option<Signal>,
    /// Seconds between that signal and SIGKILL; −1 waits for ever; `None` = 10.
    pub stop_timeout: Option<i64>,
    /// Remove it when it ends.
    pub auto_remove: bool,
    /// Restart policy and health check.
    pub upkeep: UpkeepSpec,
    /// Networks.
    pub network: NetworkMode,
    /// Ports, names and addresses.
    pub networking: spec::networking::Networking,
    /// Log driver.
    pub log_driver: LogDriver,
    /// Options of the log driver, as given and checked.
    pub log_options: BTreeMap<String, String>,
    /// Initial terminal size `(height, width)`, if the client said one.
    pub console_size: Option<(u16, u16)>,
    /// Annotations for the OCI runtime; already checked against reserved keys.
    pub annotations: BTreeMap<String, String>,
    /// What is mounted into it.
    pub mounts: spec::mounts::MountsSpec,
    /// How much of the host it gets.
    pub confinement: spec::confinement::Confinement,
    /// What inspect gives back.
    pub recorded: Recorded,
}

/// Who made a container, and so who may change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This daemon (or one like it): the record has our extensions.
    Nerdctld,
    /// The nerdctl command line, or a program built on it.
    Nerdctl,
    /// A pod: read-only for us unless the daemon runs with `--manage-cri`.
    Kubernetes {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The container's name; `None` for the pod's sandbox.
        container: Option<String>,
    },
    /// `ctr` or any other client.
    Other,
}

/// A mount as lists and inspects show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, …
    pub kind: String,
    /// Volume name.
    pub name: String,
    /// Host path.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Volume driver.
    pub driver: String,
    /// Option text as given.
    pub mode: String,
    /// Writable.
    pub read_write: bool,
    /// `rprivate`, …
    pub propagation: String,
}

/// One network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// Its 64-hex id; empty if unknown.
    pub network_id: String,
    /// Id of the endpoint; empty while it is not connected.
    pub endpoint_id: String,
    /// `10.4.0.2`, without prefix length; empty while it is not connected.
    pub ipv4: String,
    /// Its prefix length.
    pub ipv4_prefix: u8,
    /// Gateway.
    pub ipv4_gateway: String,
    /// IPv6 address.
    pub ipv6: String,
    /// Its prefix length.
    pub ipv6_prefix: u8,
    /// IPv6 gateway.
    pub ipv6_gateway: String,
    /// MAC address.
    pub mac: String,
}

/// A published or exposed port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// In the container.
    pub container_port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// On the host, where it is published.
    pub host: Option<(String, u16)>,
}

/// What is true of one container, small enough to keep for thousands: all that a list shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Id.
    pub id: ContainerId,
    /// Name without slash; `k8s://ns/pod/container` for pods; empty if it has none.
    pub name: String,
    /// Who made it.
    pub owner: Owner,
    /// The image as typed, or the record's image name.
    pub image: String,
    /// The containerd image name of the record, exactly.
    pub image_name: String,
    /// Digest of the image's target at create (`sha256:…`); empty if unknown.
    pub image_id: String,
    /// Its manifest for the container's platform, if we made the container.
    pub image_manifest: Option<crate::images::Descriptor>,
    /// When the record was made.
    pub created: Timestamp,
    /// Docker's labels: without nerdctl's and containerd's own (design: they never show).
    pub labels: Arc<BTreeMap<String, String>>,
    /// The user's annotations for the OCI runtime, if we made the container.
    pub annotations: BTreeMap<String, String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What it is doing.
    pub state: State,
    /// First network as Docker names the mode: `bridge`, `host`, `none`, `container:<id>`, a network's name.
    pub network_mode: String,
    /// Its networks, also while stopped.
    pub endpoints: Vec<Endpoint>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Containers that it calls by names of its own.
    pub links: Vec<links::Link>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// Terminal: decides the framing of its streams.
    pub tty: bool,
    /// Stdin is kept open.
    pub open_stdin: bool,
    /// Stdin closes with the first client.
    pub stdin_once: bool,
    /// Remove when it ends.
    pub auto_remove: bool,
    /// Restart policy and health check.
    pub upkeep: Upkeep,
    /// How it was when that was written down last (label `nerdctl/healthstate`), if its health is checked.
    pub health_on_record: Option<health_check::Health>,
    /// Restarts so far by policy.
    pub restart_count: u32,
    /// nerdctl's state directory (label `nerdctl/state-dir`), where there is one.
    pub state_dir: Option<PathBuf>,
    /// Snapshotter of its root; empty without one.
    pub snapshotter: String,
    /// Key of its root's snapshot.
    pub snapshot_key: String,
    /// Anonymous volumes that go with it (label `nerdctl/anonymous-volumes`).
    pub anonymous_volumes: Vec<String>,
    /// containerd's restart plugin or nerdctl may start it (labels `containerd.io/restart.*`).
    pub has_restart_labels: bool,
    /// nerdctl's log URI, of containers that nerdctl made; `None` for ours, whose streams are FIFOs.
    pub log_uri: Option<String>,
    /// Where its output goes.
    pub log: LogSource,
    /// Stop signal.
    pub stop_signal: Signal,
    /// Seconds of grace; −1 for ever; `None` = 10.
    pub stop_timeout: Option<i64>,
    /// Namespaces that it shares with others.
    pub shares: shares::Shares,
}

impl Container {
    /// Whether CNI gives it its networks, in the way of nerdctl.
    #[must_use]
    pub fn has_cni_networks(&self) -> bool {
        let special = ["host", "none"].contains(&self.network_mode.as_str())
            || self.network_mode.starts_with("container:")
            || self.network_mode.starts_with("ns:");
        matches!(self.owner, Owner::Nerdctld | Owner::Nerdctl) && !special
    }

    /// Whether it can only start while another container runs, whose namespaces it shares or to which it links.
    pub(crate) fn joins_another(&self) -> bool {
        self.network_mode.starts_with("container:")
            || self.shares.pid_of.is_some()
            || matches!(self.shares.ipc, shares::IpcShare::Of(_))
            || !self.links.is_empty()
    }
}

/// Where logs can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Docker's and nerdctl's json-file at this path.
    JsonFile(PathBuf),
    /// Kubernetes' format at this path.
    Cri(PathBuf),
    /// Nothing to read: driver none, journald, a URI, a sandbox.
    Unreadable,
}

/// What inspect adds to [`Container`]: read freshly from containerd's record and the state directory.
#[derive(Clone, Debug)]
pub struct ContainerDetails {
    /// The summary.
    pub container: Arc<Container>,
    /// What the client asked for, if we made it.
    pub recorded: Option<Recorded>,
    /// The process as the OCI spec has it.
    pub process: ProcessDetails,
    /// Entrypoint and command as the image and request gave them, if we made it.
    pub entrypoint: Option<Vec<String>>,
    /// See `entrypoint`.
    pub cmd: Option<Vec<String>>,
    /// Path of the log file, if there is one.
    pub log_path: String,
    /// `resolv.conf`.
    pub resolv_conf_path: String,
    /// `hostname`.
    pub hostname_path: String,
    /// `hosts`.
    pub hosts_path: String,
    /// Path of the network namespace, while it runs with one of its own.
    pub sandbox_key: String,
    /// Runtime (`io.containerd.runc.v2`).
    pub runtime: String,
    /// Its links, as Docker writes them: `/db:/web/alias`.
    pub links: Vec<String>,
    /// Masked paths of the spec.
    pub masked_paths: Vec<String>,
    /// Read-only paths of the spec.
    pub readonly_paths: Vec<String>,
    /// Log driver name and options.
    pub log_driver: String,
    /// See `log_driver`.
    pub log_options: BTreeMap<String, String>,
    /// Exposed ports of image and request.
    pub exposed_ports: Vec<String>,
    /// Volumes that image and request declare, as typed, if we made it.
    pub volumes: Vec<String>,
    /// The last results of its health check, oldest first.
    pub health_log: Vec<nerdctl_store::state_dir::ProbeResult>,
    /// Limits as they are now.
    pub resources: spec::confinement::Resources,
    /// What of the host it has, as the OCI spec says.
    pub host_parts: HostParts,
    /// AppArmor's profile, empty without one.
    pub apparmor_profile: String,
}

/// Which parts of the host a container has, read from its spec: for containers whose request nobody recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as Docker shows them")]
pub struct HostParts {
    /// Nearly everything (nerdctl's label).
    pub privileged: bool,
    /// Its root file system is read-only.
    pub readonly_rootfs: bool,
    /// The host's processes.
    pub pid: bool,
    /// The host's shared memory.
    pub ipc: bool,
    /// The host's name.
    pub uts: bool,
    /// The host's control groups.
    pub cgroup: bool,
    /// OOM score adjustment.
    pub oom_score_adj: i64,
}

/// The process part of an OCI spec, as inspect shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessDetails {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// User as asked for (`nerdctl/user` or the request), or `uid:gid`.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// Domain name.
    pub domainname: String,
}

/// What create tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The new id.
    pub id: ContainerId,
    /// Docker's warnings, often none.
    pub warnings: Vec<String>,
}

/// Which containers a list shows. Kinds must all match; values of one kind are alternatives, labels must all match.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Not only running ones.
    pub all: bool,
    /// At most so many of the newest, whatever their state.
    pub limit: Option<usize>,
    /// `ancestor`.
    pub ancestor: Vec<String>,
    /// `before`: container reference.
    pub before: Vec<String>,
    /// `since`: container reference.
    pub since: Vec<String>,
    /// `exited`: exit codes.
    pub exited: Vec<i64>,
    /// `expose`: `80/tcp`, `8000-8010/udp`.
    pub expose: Vec<names::PortSpec>,
    /// `publish`.
    pub publish: Vec<names::PortSpec>,
    /// `health`.
    pub health: Vec<String>,
    /// `id`: patterns already compiled by the edge are avoided; prefix or equal.
    pub id: Vec<String>,
    /// `label`.
    pub label: Vec<String>,
    /// `name`: matcher made by the edge (exact or regular expression).
    pub name: Option<NameMatcher>,
    /// `network`: name or id prefix.
    pub network: Vec<String>,
    /// `status`.
    pub status: Vec<Phase>,
    /// `volume`: name, source or destination.
    pub volume: Vec<String>,
}

/// Decides whether a container's name matches; the edge knows Docker's pattern language.
#[derive(Clone)]
pub struct NameMatcher(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for NameMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NameMatcher(..)")
    }
}
