//! Reading one container, or all: its record, the files beside it, its task.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use names::{ContainerId, Namespace};
use nerdctl_store::DataStore;
use nerdctl_store::state_dir::ExitRecord;
use tokio::sync::Semaphore;

use super::missed::found_state;
use crate::containers::exit::UNKNOWN;
use crate::containers::state::Fact;
use crate::containers::{Container, Endpoint, Owner, Port, State, record};
use crate::supervise::Supervisor;

/// How long one task may take to say what it does. A hung shim answers never; containerd gives up after 2 s.
const TASK_ANSWER: Duration = Duration::from_secs(3);

/// Tasks asked at once at a load.
const TASKS_AT_ONCE: usize = 16;

/// Reads containers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    /// containerd, in the namespace.
    pub containerd: containerd::Client,
    /// nerdctl's files.
    pub store: DataStore,
    /// The namespace.
    pub namespace: Namespace,
    /// Owner of the tasks that ask in parallel.
    pub supervisor: Supervisor,
}

/// One container as found at a load.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) container: Container,
    /// What must have happened to it.
    pub(crate) facts: Vec<Fact>,
}

/// Facts read from the outside world, in the order in which they happened.
pub(crate) type Facts = Vec<Fact>;

/// What reading one container gave.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is there.
    Present(Box<Container>, RunFiles),
    /// There is no such record, or it is none to show.
    Gone,
    /// containerd did not answer; what is known stays.
    Unknown,
}

/// What the files say about the last run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunFiles {
    /// `lifecycle.json`.
    pub(crate) started_at: Option<Timestamp>,
    /// `exit.json`.
    pub(crate) exit: Option<NotedEnd>,
    /// How the run before the one that is being started ended, and its start.
    pub(crate) earlier: Option<(Timestamp, NotedEnd)>,
}

/// How a run ended, as it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotedEnd {
    pub(crate) code: u32,
    pub(crate) at: Timestamp,
    pub(crate) oom_killed: bool,
}

impl From<ExitRecord> for NotedEnd {
    fn from(record: ExitRecord) -> Self {
        let ExitRecord { exit_code, finished_at, oom_killed, .. } = record;
        Self { code: exit_code, at: finished_at, oom_killed }
    }
}

impl RunFiles {
    /// The hook noted the start before the process could write; containerd's event comes after. Logs are read from the
    /// start on, so the earlier one is the right one.
    pub(crate) fn date(&self, fact: Fact) -> Fact {
        match (fact, self.started_at) {
            (Fact::Started { pid, at }, Some(noted))
                if noted < at && at.duration_since(noted).as_secs() < 60 =>
            {
                Fact::Started { pid, at: noted }
            }
            (fact, _) => fact,
        }
    }
}

impl Reader {
    /// Read one container.
    pub(crate) async fn read(&self, id: &ContainerId) -> Outcome {
        match self.containerd.get_container(id.as_str()).await {
            Ok(found) => match record::summary(&found, &self.namespace) {
                Some(container) => {
                    let (container, files) = self.with_files(container).await;
                    Outcome::Present(Box::new(container), files)
                }
                None => Outcome::Gone,
            },
            Err(error) if error.is_not_found() => Outcome::Gone,
            Err(error) => {
                tracing::warn!(container = id.as_str(), %error, "a container's record could not be read");
                Outcome::Unknown
            }
        }
    }

    /// Read all containers and ask all tasks, each with its own deadline, so that a hung one costs only its own answer.
    pub(crate) async fn read_all(&self) -> Result<Vec<Loaded>, containerd::Error> {
        let records = self.containerd.list_containers(&[]).await?;
        let gate = Arc::new(Semaphore::new(TASKS_AT_ONCE));
        let mut running = Vec::with_capacity(records.len());
        for found in records {
            let Some(container) = record::summary(&found, &self.namespace) else { continue };
            let (reader, gate) = (self.clone(), Arc::clone(&gate));
            running.push(async move {
                let _turn = gate.acquire().await;
                let (container, files) = reader.with_files(container).await;
                let facts = reader.task_facts(&container, &files).await;
                Loaded { container, facts }
            });
        }
        Ok(futures_util::future::join_all(running).await)
    }

    /// What a container does, by its task and its files.
    pub(crate) async fn find(&self, container: &Container) -> State {
        let (container, files) = self.with_files(container.clone()).await;
        found_state(&self.task_facts(&container, &files).await)
    }

    async fn task_facts(&self, container: &Container, files: &RunFiles) -> Facts {
        let ours = container.owner == Owner::Nerdctld;
        let asked =
            tokio::time::timeout(TASK_ANSWER, self.containerd.get_task(container.id.as_str()))
                .await;
        match asked {
            Ok(Ok(task)) => facts_of(Some(&task), files, container.created, ours),
            Ok(Err(error)) if error.is_not_found() => {
                facts_of(None, files, container.created, ours)
            }
            Ok(Err(_)) | Err(_) => facts_without_answer(files, container.created),
        }
    }

    /// Add what nerdctl's files know: addresses, ports, when it was started and how it ended.
    async fn with_files(&self, mut container: Container) -> (Container, RunFiles) {
        if container.state_dir.is_none() || matches!(container.owner, Owner::Kubernetes { .. }) {
            return (container, RunFiles::default());
        }
        let (store, namespace, id) =
            (self.store.clone(), self.namespace.clone(), container.id.clone());
        let read = tokio::task::spawn_blocking(move || read_files(&store, &namespace, &id)).await;
        let Ok((endpoints, ports, files)) = read else { return (container, RunFiles::default()) };
        for endpoint in endpoints {
            if let Some(known) =
                container.endpoints.iter_mut().find(|known| known.network == endpoint.network)
            {
                *known = endpoint;
            }
        }
        if !ports.is_empty() {
            let exposed = std::mem::take(&mut container.ports)
                .into_iter()
                .map(|port| Port { host: None, ..port })
                .collect();
            container.ports = record::with_exposed(ports, exposed);
        }
        (container, files)
    }
}

fn read_files(
    store: &DataStore,
    namespace: &Namespace,
    id: &ContainerId,
) -> (Vec<Endpoint>, Vec<Port>, RunFiles) {
    let state_dir = store.state_dir(namespace, id);
    // A file that does not decode is somebody else's accident; the container is shown without what it would say.
    let exit = state_dir.last_exit().ok().flatten().map(NotedEnd::from);
    let earlier = state_dir.earlier_exit().ok().flatten().map(|exit| {
        let started_at = exit.run.map_or(exit.finished_at, |run| run.started_at);
        (started_at, exit.into())
    });
    let lifecycle = state_dir.lifecycle().unwrap_or_default();
    let started_at = lifecycle.started_at.filter(|_| !lifecycle.create_error);
    let ports = state_dir.network_config().map(|config| config.port_mappings).unwrap_or_default();
    let meta = store.hosts(namespace).meta(id).ok().flatten();
    let networks = meta.and_then(|meta| meta.networks).unwrap_or_default();
    let endpoints = networks.iter().map(|(network, result)| endpoint(network, result)).collect();
    (endpoints, ports.into_iter().map(Port::from).collect(), RunFiles { started_at, exit, earlier })
}

impl From<nerdctl_store::labels::values::PortMapping> for Port {
    fn from(mapping: nerdctl_store::labels::values::PortMapping) -> Self {
        Self {
            container_port: mapping.container_port,
            protocol: mapping.protocol,
            host: Some((mapping.host_ip, mapping.host_port)),
        }
    }
}

/// A CNI result, as it stands in nerdctl's `meta.json`, as an endpoint.
fn endpoint(network: &str, result: &serde_json::Map<String, serde_json::Value>) -> Endpoint {
    let mut endpoint = Endpoint {
        network: network.to_owned(),
        network_id: cni::network_id(network),
        ..Endpoint::default()
    };
    let list = |key: &str| {
        result.get(key).and_then(serde_json::Value::as_array).map_or(&[][..], Vec::as_slice)
    };
    let text = |value: &serde_json::Value, key: &str| {
        value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    for ip in list("ips") {
        let address = text(ip, "address");
        let (address, prefix) = address.split_once('/').unwrap_or((&address, "0"));
        let (prefix, gateway) = (prefix.parse().unwrap_or(0), text(ip, "gateway"));
        if address.contains(':') {
            (endpoint.ipv6, endpoint.ipv6_prefix, endpoint.ipv6_gateway) =
                (address.to_owned(), prefix, gateway);
        } else {
            (endpoint.ipv4, endpoint.ipv4_prefix, endpoint.ipv4_gateway) =
                (address.to_owned(), prefix, gateway);
        }
    }
    // The interface inside the container is the one with a sandbox.
    if let Some(inside) =
        list("interfaces").iter().find(|interface| !text(interface, "sandbox").is_empty())
    {
        endpoint.mac = text(inside, "mac");
    }
    endpoint.endpoint_id = sha256_hex(&format!("{network}/{}/{}", endpoint.mac, endpoint.ipv4));
    endpoint
}

fn sha256_hex(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What must have happened, from the task (or its absence) and the files.
fn facts_of(
    task: Option<&containerd::tasks::Task>,
    files: &RunFiles,
    created: Timestamp,
    ours: bool,
) -> Facts {
    use containerd::tasks::TaskStatus;
    let started_at = files.started_at.unwrap_or(created);
    let ended = |end: NotedEnd| whole_run(started_at, end);
    let Some(task) = task else {
        return match (files.exit, files.started_at) {
            (Some(end), _) => ended(end),
            // It ran, and ended where nobody could see it: a reboot, or containerd was away.
            (None, Some(at)) if ours => ended(NotedEnd { code: UNKNOWN, at, oom_killed: false }),
            (None, _) => Vec::new(),
        };
    };
    let start = Fact::Started { pid: task.pid, at: started_at };
    match task.status {
        TaskStatus::Running => vec![start],
        TaskStatus::Unknown => facts_without_answer(files, created),
        TaskStatus::Paused | TaskStatus::Pausing => vec![start, Fact::Paused],
        TaskStatus::Stopped => {
            let at =
                task.exited_at.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(started_at);
            let oom_killed = files.exit.is_some_and(|end| end.oom_killed);
            ended(NotedEnd { code: task.exit_status, at, oom_killed })
        }
        // It is being started, or was when a daemon died: nothing has happened yet since the run before.
        TaskStatus::Created => {
            files.earlier.map(|(started_at, end)| whole_run(started_at, end)).unwrap_or_default()
        }
    }
}

/// There is a task whose shim hangs. It runs, as far as anybody can tell, unless its end is on record: the next run would
/// have deleted that.
fn facts_without_answer(files: &RunFiles, created: Timestamp) -> Facts {
    let started_at = files.started_at.unwrap_or(created);
    match files.exit {
        Some(end) => whole_run(started_at, end),
        None => vec![Fact::Started { pid: 0, at: started_at }],
    }
}

/// A run that ended has begun, even where nobody noted when.
fn whole_run(started_at: Timestamp, end: NotedEnd) -> Facts {
    let NotedEnd { code, at, oom_killed } = end;
    let started = Fact::Started { pid: u32::MAX, at: started_at.min(at) };
    let exited = Fact::Exited { code, at, restart: None };
    [started, exited].into_iter().chain(oom_killed.then_some(Fact::Oom)).collect()
}

#[cfg(test)]
mod tests {
    use containerd::tasks::{Task, TaskStatus};

    use super::*;
    use crate::containers::Phase;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn task(status: TaskStatus) -> Task {
        Task {
            id: "a".into(),
            pid: 7,
            status,
            exit_status: 3,
            exited_at: Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(20)),
            stdin: String::new(),
            stdout: String::new(),
            stderr: String::new(),
            terminal: false,
        }
    }

    fn found(task: Option<&Task>, files: &RunFiles, ours: bool) -> State {
        found_state(&facts_of(task, files, at(1), ours))
    }

    #[test]
    fn a_state_is_found_from_task_and_files() {
        let noted = |code, second| NotedEnd { code, at: at(second), oom_killed: code == 5 };
        let files = RunFiles { started_at: Some(at(10)), exit: Some(noted(5, 15)), earlier: None };
        let running = found(Some(&task(TaskStatus::Running)), &files, true);
        assert_eq!(
            (running.phase, running.pid, running.started_at),
            (Phase::Running, 7, Some(at(10)))
        );
        assert_eq!(found(Some(&task(TaskStatus::Paused)), &files, true).phase, Phase::Paused);
        let stopped = found(Some(&task(TaskStatus::Stopped)), &files, true);
        assert_eq!(
            (stopped.phase, stopped.exit_code, stopped.finished_at),
            (Phase::Exited, 3, Some(at(20)))
        );
        assert!(stopped.oom_killed && !running.oom_killed, "only the files know that");
        let forgotten = found(None, &files, true);
        assert_eq!((forgotten.phase, forgotten.exit_code, forgotten.pid), (Phase::Exited, 5, 0));
        assert!(forgotten.oom_killed);
        assert_eq!(found(None, &RunFiles::default(), true).phase, Phase::Created);
        let hung = Task { pid: 0, ..task(TaskStatus::Unknown) };
        assert_eq!(found(Some(&hung), &files, true).phase, Phase::Exited, "its end is on record");
        let no_exit = RunFiles { exit: None, ..files };
        assert_eq!(found(Some(&hung), &no_exit, true).phase, Phase::Running);
        let earlier = RunFiles { earlier: Some((at(1), noted(4, 2))), ..RunFiles::default() };
        let created = Task { pid: 8, ..task(TaskStatus::Created) };
        let unstarted = found(Some(&created), &earlier, true);
        assert_eq!((unstarted.phase, unstarted.exit_code), (Phase::Exited, 4));
        assert_eq!(found(Some(&created), &RunFiles::default(), true).phase, Phase::Created);
        let unseen = RunFiles { started_at: Some(at(10)), exit: None, ..earlier };
        assert_eq!(found(None, &unseen, true).exit_code, UNKNOWN);
        assert_eq!(
            found(None, &unseen, false).phase,
            Phase::Created,
            "nerdctl says the same of its own"
        );
    }

    #[test]
    fn the_hook_dates_the_start() {
        let files = RunFiles { started_at: Some(at(10)), ..RunFiles::default() };
        let started = |second| Fact::Started { pid: 7, at: at(second) };
        assert_eq!(files.date(started(11)), started(10));
        assert_eq!(files.date(started(9)), started(9), "a note of the future is of another clock");
        assert_eq!(files.date(started(900)), started(900), "an old note is of another run");
    }

    #[test]
    fn an_endpoint_is_read_from_a_cni_result() {
        let result = serde_json::json!({
            "interfaces": [{"name": "nerdctl0", "mac": "a"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/proc/7/ns/net"}],
            "ips": [{"address": "10.4.0.5/24", "gateway": "10.4.0.1"}, {"address": "fd00::5/64", "gateway": "fd00::1"}],
        });
        let endpoint = endpoint("bridge", result.as_object().unwrap());
        assert_eq!(
            (endpoint.ipv4.as_str(), endpoint.ipv4_prefix, endpoint.ipv4_gateway.as_str()),
            ("10.4.0.5", 24, "10.4.0.1")
        );
        assert_eq!((endpoint.ipv6.as_str(), endpoint.ipv6_prefix), ("fd00::5", 64));
        assert_eq!(endpoint.mac, "02:00:00:00:00:01");
        assert_eq!(
            endpoint.network_id,
            "17f29b073143d8cd97b5bbe492bdeffec1c5fee55cc1fe2112c8b9335f8b6121"
        );
    }
}
