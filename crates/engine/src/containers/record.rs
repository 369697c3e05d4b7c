//! One container's record in containerd, read: the only place that knows what our extensions mean.
//!
//! A record of ours carries four extensions (containerd keeps them through nerdctl's own updates, and they have no
//! limit of 4,096 bytes as labels have): what the client asked for, its labels, a few facts that nerdctl has no place
//! for, and a mark that creation is finished. Everything else comes from where nerdctl reads it: labels and OCI spec.
//!
//! Labels and specs of containers that others made may have been steered by the image's author, because some clients
//! copy an image's labels to the container. So none of them is trusted with a path or a program here: see
//! `state_dir` and `log_uri`.

mod details;
mod facts;
mod file_system;
mod spec;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use names::{Namespace, PortSpec, Signal};
use nerdctl_store::labels::{self, ContainerLabels, keys};

use super::health_check::{Health, HealthStatus};
use super::mounts::MountPlan;
use super::restart_policy::RestartPolicy;
use super::shares::Shares;
use super::spec::upkeep::Upkeep;
use super::{Container, Endpoint, LogDriver, LogSource, MountPoint, Owner, Port, State};
pub(crate) use details::details;
pub(crate) use facts::{Facts, ManifestFact};
pub(crate) use file_system::FileSystem;
use spec::SlimSpec;

/// Extension: the client's request, verbatim.
pub const REQUEST: &str = "nerdctld.request.v1";
/// Extension: the container's Docker labels as a JSON object; authoritative, whatever containerd's labels say.
pub const LABELS: &str = "nerdctld.labels.v1";
/// Extension: facts that nerdctl has no place for, as JSON.
pub const FACTS: &str = "nerdctld.container.v1";
/// Extension: creation is finished. Without it a record of ours is shown to nobody.
pub const READY: &str = "nerdctld.ready";

/// Kubernetes' CRI keeps where the log is in an extension of this name.
const CRI_METADATA: &str = "io.cri-containerd.container.metadata";
/// More exposed ports than this of one container are not listed.
pub(crate) const MAX_PORTS: usize = 1000;
/// In the spec of a pod's container: whose network it shares.
const CRI_SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

/// Whether `record` is one of ours whose creation has not been finished (yet).
#[must_use]
pub fn is_half_made(record: &containerd::containers::Container) -> bool {
    let has = |name: &str| {
        record.extensions.get(name).is_some_and(|extension| !extension.value.is_empty())
    };
    has(FACTS) && !has(READY)
}

/// Whether buildkitd made it to run one step of a build: 25 characters of base 36, no image, no labels (buildkit
/// `executor/containerdexecutor`, `identity/randomid.go`).
fn is_build_step(record: &containerd::containers::Container) -> bool {
    let base36 = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    record.id.len() == 25
        && record.id.bytes().all(base36)
        && record.image.is_empty()
        && record.labels.is_empty()
}

/// The summary of `record`: all but its state (`State::created()` here), its addresses and its published ports, which
/// are not in the record.
///
/// `None` for what is never shown: a record of ours that is not ready yet, and the containers that buildkitd makes for
/// the steps of a build.
#[must_use]
pub fn summary(
    record: &containerd::containers::Container,
    namespace: &Namespace,
) -> Option<Container> {
    if is_half_made(record) || is_build_step(record) {
        return None;
    }
    let view = View::new(record, namespace)?;
    let facts = &view.facts;
    let ours = view.owner == Owner::Nerdctld;
    Some(Container {
        name: labels::display_name(&view.labels).unwrap_or_default(),
        image: if ours { facts.image.clone() } else { record.image.clone() },
        image_name: record.image.clone(),
        image_id: facts.image_id.clone(),
        image_manifest: facts.manifest.descriptor(),
        created: Timestamp::try_from(record.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        labels: Arc::new(view.docker_labels()),
        annotations: facts.annotations.clone(),
        command: if ours { facts.args() } else { view.spec.process.args.clone() },
        state: State::created(),
        network_mode: view.network_mode(),
        endpoints: view.endpoints(),
        ports: view.ports(),
        links: facts.links.clone(),
        mounts: view.mounts(),
        tty: if ours { facts.tty } else { view.spec.process.terminal },
        open_stdin: facts.open_stdin,
        stdin_once: facts.stdin_once,
        auto_remove: if ours { facts.auto_remove } else { view.nerdctl.auto_remove },
        upkeep: view.upkeep(),
        health_on_record: view.health_on_record(),
        restart_count: view.restart_count(),
        log: view.log_source(),
        log_uri: view.log_uri(),
        state_dir: view.state_dir.clone(),
        snapshotter: record.snapshotter.clone(),
        snapshot_key: record.snapshot_key.clone(),
        anonymous_volumes: view.nerdctl.anonymous_volumes.clone(),
        has_restart_labels: view.nerdctl.restart.policy.is_some()
            || view.nerdctl.restart.status.is_some(),
        stop_signal: view.stop_signal(),
        stop_timeout: if ours { facts.stop_timeout } else { view.nerdctl.stop_timeout },
        shares: if view.is_nerdctls() { Shares::of(&view.nerdctl) } else { Shares::default() },
        id: record.id.parse().ok()?,
        owner: view.owner,
    })
}

/// What is mounted into the container of `record`, if another container can have it too: of ours as it was decided, of
/// nerdctl's as its label says.
pub(crate) fn mount_plans(
    record: &containerd::containers::Container,
    namespace: &Namespace,
) -> Vec<MountPlan> {
    let Some(view) = View::new(record, namespace) else { return Vec::new() };
    if view.owner == Owner::Nerdctld {
        return view.facts.mounts;
    }
    let nerdctl = &view.nerdctl;
    let plan = |mount| MountPlan::of_label(mount, nerdctl.anonymous_volumes.contains(&mount.name));
    nerdctl.mounts.iter().filter_map(plan).collect()
}

/// A record with everything in it decoded that summary and details need.
struct View<'a> {
    record: &'a containerd::containers::Container,
    owner: Owner,
    labels: HashMap<String, String>,
    nerdctl: ContainerLabels,
    /// Of ours only.
    facts: Facts,
    /// Decoded only for containers of others, or on request: ours have all that a list shows in their facts.
    spec: SlimSpec,
    state_dir: Option<PathBuf>,
}

impl<'a> View<'a> {
    fn new(record: &'a containerd::containers::Container, namespace: &Namespace) -> Option<Self> {
        let labels: HashMap<String, String> = record.labels.clone().into_iter().collect();
        let nerdctl = ContainerLabels::parse(&labels);
        let facts = Facts::of(record);
        let owner = owner(facts.is_some(), &labels, &nerdctl, namespace);
        let spec =
            if owner == Owner::Nerdctld { SlimSpec::default() } else { SlimSpec::of(record) };
        let state_dir = match owner {
            Owner::Nerdctld | Owner::Nerdctl => state_dir(&nerdctl, namespace, &record.id),
            Owner::Kubernetes { .. } | Owner::Other => None,
        };
        Some(Self {
            record,
            owner,
            labels,
            nerdctl,
            facts: facts.unwrap_or_default(),
            spec,
            state_dir,
        })
    }

    fn is_nerdctls(&self) -> bool {
        matches!(self.owner, Owner::Nerdctld | Owner::Nerdctl)
    }

    /// What list and inspect show: of ours the extension, of others what is not somebody's internal label.
    fn docker_labels(&self) -> BTreeMap<String, String> {
        let own = self.record.extensions.get(LABELS).filter(|_| self.owner == Owner::Nerdctld);
        if let Some(labels) = own.and_then(|own| serde_json::from_slice(&own.value).ok()) {
            return labels;
        }
        labels::visible_labels(&self.labels)
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn network_mode(&self) -> String {
        if self.is_nerdctls() {
            return self.nerdctl.networks.first().cloned().unwrap_or_else(|| "bridge".to_owned());
        }
        if let Some(sandbox) =
            self.spec.annotations.get(CRI_SANDBOX_ID).filter(|id| **id != self.record.id)
        {
            return format!("container:{sandbox}");
        }
        if self.spec.linux.has_namespace("network") { "none".to_owned() } else { "host".to_owned() }
    }

    /// One for each network, without addresses (nerdctl's id is made of the name; `host` and `none` get theirs alike); a container in another's network has none of its own.
    fn endpoints(&self) -> Vec<Endpoint> {
        let mode = self.network_mode();
        let networks = if self.is_nerdctls() { self.nerdctl.networks.clone() } else { vec![mode] };
        networks
            .into_iter()
            .filter(|network| !network.contains(':'))
            .map(|network| Endpoint {
                network_id: cni::network_id(&network),
                network,
                ..Endpoint::default()
            })
            .collect()
    }

    /// Exposed ones; releases of nerdctl before 2.1.3 said in a label which are published.
    fn ports(&self) -> Vec<Port> {
        let published = self.nerdctl.legacy_ports.iter().cloned().map(Port::from);
        with_exposed(published.collect(), exposed(self.exposed_ports()))
    }

    fn exposed_ports(&self) -> &[String] {
        if self.owner == Owner::Nerdctld {
            &self.facts.exposed_ports
        } else {
            &self.nerdctl.exposed_ports
        }
    }

    /// nerdctl's label; for containers without it the bind mounts of the spec, without those of every container.
    fn mounts(&self) -> Vec<MountPoint> {
        if self.is_nerdctls() {
            return self.nerdctl.mounts.iter().map(mount_point).collect();
        }
        self.spec.binds().map(spec::SlimMount::to_mount_point).collect()
    }

    /// Counted by us and by containerd's restart plugin; of others' containers valid only while the plugin is in charge
    /// (nerdctl `pkg/inspecttypes/dockercompat`).
    fn restart_count(&self) -> u32 {
        let counts = self.owner == Owner::Nerdctld || self.is_armed();
        if counts { u32::try_from(self.nerdctl.restart.count).unwrap_or(u32::MAX) } else { 0 }
    }

    fn is_armed(&self) -> bool {
        self.nerdctl.restart.status.as_deref() == Some("running")
    }

    fn upkeep(&self) -> Upkeep {
        let restart = &self.nerdctl.restart;
        Upkeep {
            restart: RestartPolicy::from_label(restart.policy.as_deref().unwrap_or_default()),
            armed: self.is_armed(),
            stopped: restart.explicitly_stopped,
            health_check: self.facts.health_check.clone().map(Arc::new),
        }
    }

    /// nerdctl shows health where there is this label, and only there; ours have it from the beginning.
    fn health_on_record(&self) -> Option<Health> {
        let checked = match self.owner {
            Owner::Nerdctld => self.facts.health_check.as_ref()?.command().is_some(),
            _ => self.nerdctl.health_state.is_some(),
        };
        let state = self.nerdctl.health_state.clone().unwrap_or_default();
        checked.then(|| Health {
            status: HealthStatus::from_word(&state.status),
            failing_streak: u32::try_from(state.failing_streak).unwrap_or_default(),
        })
    }

    fn stop_signal(&self) -> Signal {
        let text = if self.owner == Owner::Nerdctld {
            Some(self.facts.stop_signal.as_str())
        } else {
            self.nerdctl.stop_signal.as_deref()
        };
        text.and_then(|signal| signal.parse().ok()).unwrap_or(Signal::TERM)
    }

    fn log_source(&self) -> LogSource {
        let json_file = |directory: &Path| {
            LogSource::JsonFile(directory.join(format!("{}-json.log", self.record.id)))
        };
        match (&self.owner, &self.state_dir) {
            (Owner::Nerdctld, Some(directory)) if self.facts.keeps_log_file() => {
                json_file(directory)
            }
            (Owner::Nerdctl, Some(directory))
                if self.nerdctl_driver() == LogDriver::JsonFile.as_str() =>
            {
                json_file(directory)
            }
            (Owner::Kubernetes { .. }, _) => {
                cri_log(self.record).map_or(LogSource::Unreadable, LogSource::Cri)
            }
            _ => LogSource::Unreadable,
        }
    }

    /// Releases before 2.0.4 wrote no label, and always json-file.
    fn nerdctl_driver(&self) -> &str {
        self.nerdctl.log_config.as_ref().map_or("json-file", |config| config.driver.as_str())
    }

    fn log_uri(&self) -> Option<String> {
        match (&self.owner, &self.state_dir) {
            (Owner::Nerdctl, Some(directory)) => {
                log_uri(self.nerdctl.log_uri.as_deref()?, directory)
            }
            _ => None,
        }
    }
}

/// Who made it. Our own extensions cannot come from an image; Kubernetes comes before nerdctl, because it protects.
fn owner(
    ours: bool,
    labels: &HashMap<String, String>,
    nerdctl: &ContainerLabels,
    namespace: &Namespace,
) -> Owner {
    if ours {
        return Owner::Nerdctld;
    }
    if labels::is_cri(labels) {
        let get = |key: &str| labels.get(key).cloned();
        return Owner::Kubernetes {
            namespace: get(keys::POD_NAMESPACE).unwrap_or_default(),
            pod: get(keys::POD_NAME).unwrap_or_default(),
            container: get(keys::POD_CONTAINER_NAME),
        };
    }
    if nerdctl.namespace == namespace.as_str() { Owner::Nerdctl } else { Owner::Other }
}

/// The state directory that the labels name, if it has the place that nerdctl gives it below any data store.
///
/// Files are read, written and deleted there, so the label alone is not believed.
fn state_dir(nerdctl: &ContainerLabels, namespace: &Namespace, id: &str) -> Option<PathBuf> {
    let place = Path::new("containers").join(namespace.as_str()).join(id);
    let given = Path::new(&nerdctl.state_dir);
    let clean = given.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    (given.is_absolute() && clean && given.ends_with(&place)).then(|| given.to_owned())
}

/// nerdctl's log URI, if it starts a logger for the data store that the state directory is in.
///
/// containerd executes the program in it when the container is started; what it is told must at least be harmless.
fn log_uri(uri: &str, state_dir: &Path) -> Option<String> {
    let store = state_dir.ancestors().nth(3)?;
    let (program, query) = uri.strip_prefix("binary://")?.split_once('?')?;
    let (key, value) = query.split_once('=')?;
    let is_logger = ["_NERDCTL_INTERNAL_LOGGING", io_monitor::BINARY_KEY].contains(&key);
    let is_ours = percent_decoded(value).as_deref() == store.to_str();
    (program.starts_with('/') && is_logger && is_ours).then(|| uri.to_owned())
}

/// A value of a query as Go's `url.QueryEscape` writes it; `None` if it is none, or more than one value.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            b'+' => bytes.push(b' '),
            b'&' | b'=' | b'?' | b'#' => return None,
            plain => bytes.push(plain),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Each port on its own. An image can say `1-65535` in a few bytes, so there is a bound.
fn exposed(texts: &[String]) -> Vec<Port> {
    let specs = texts.iter().filter_map(|text| text.parse::<PortSpec>().ok());
    let port = |spec: PortSpec| Port {
        container_port: spec.range().first(),
        protocol: spec.protocol().to_string(),
        host: None,
    };
    specs.flat_map(PortSpec::each).take(MAX_PORTS).map(port).collect()
}

/// Published ports, and those exposed ones that are not published.
pub(crate) fn with_exposed(mut published: Vec<Port>, exposed: Vec<Port>) -> Vec<Port> {
    let is_new = |port: &Port| {
        !published.iter().any(|known| {
            known.container_port == port.container_port && known.protocol == port.protocol
        })
    };
    let more: Vec<Port> = exposed.into_iter().filter(is_new).collect();
    published.extend(more);
    published
}

fn mount_point(mount: &labels::values::MountPoint) -> MountPoint {
    MountPoint {
        kind: mount.r#type.clone(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone(),
        mode: mount.mode.clone(),
        read_write: mount.rw,
        propagation: mount.propagation.clone(),
    }
}

/// Where the kubelet told CRI to log (containerd `internal/cri/store/container/metadata.go`); a sandbox has none.
fn cri_log(record: &containerd::containers::Container) -> Option<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        #[serde(rename = "Metadata")]
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(rename = "LogPath", default)]
        log_path: PathBuf,
    }
    let extension = record.extensions.get(CRI_METADATA)?;
    let found: Versioned = serde_json::from_slice(&extension.value).ok()?;
    Some(found.metadata.log_path).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests;
