//! Reading one container, or all: its record, the files beside it, its task.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use names::{ContainerId, Namespace};
use nerdctl_store::DataStore;
use tokio::sync::Semaphore;

use crate::containers::state::Fact;
use crate::containers::{Container, Endpoint, Owner, Port, record};
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
    /// `exit.json`: code and time.
    pub(crate) exit: Option<(u32, Timestamp)>,
}

impl RunFiles {
    /// The hook noted the start before the process could write; containerd's event comes after. Logs are read from the
    /// start on, so the earlier one is the right one.
    pub(crate) fn date(&self, fact: Fact) -> Fact {
        match (fact, self.started_at) {
            (Fact::Started { pid, at }, Some(noted)) if noted < at && at.duration_since(noted).as_secs() < 60 => {
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

    async fn task_facts(&self, container: &Container, files: &RunFiles) -> Facts {
        let asked = tokio::time::timeout(TASK_ANSWER, self.containerd.get_task(container.id.as_str())).await;
        match asked {
            Ok(Ok(task)) => facts_of(Some(&task), files, container.created),
            Ok(Err(error)) if error.is_not_found() => facts_of(None, files, container.created),
            // Its shim hangs, so it has one: it runs, as far as anybody can tell.
            Ok(Err(_)) | Err(_) => {
                let since = files.started_at.unwrap_or(container.created);
                vec![Fact::Started { pid: 0, at: since }]
            }
        }
    }

    /// Add what nerdctl's files know: addresses, ports, when it was started and how it ended.
    async fn with_files(&self, mut container: Container) -> (Container, RunFiles) {
        if container.state_dir.is_none() || matches!(container.owner, Owner::Kubernetes { .. }) {
            return (container, RunFiles::default());
        }
        let (store, namespace, id) = (self.store.clone(), self.namespace.clone(), container.id.clone());
        let read = tokio::task::spawn_blocking(move || read_files(&store, &namespace, &id)).await;
        let Ok((endpoints, ports, files)) = read else { return (container, RunFiles::default()) };
        for endpoint in endpoints {
            if let Some(known) = container.endpoints.iter_mut().find(|known| known.network == endpoint.network) {
                *known = endpoint;
            }
        }
        if !ports.is_empty() {
            container.ports = ports;
        }
        (container, files)
    }
}

fn read_files(store: &DataStore, namespace: &Namespace, id: &ContainerId) -> (Vec<Endpoint>, Vec<Port>, RunFiles) {
    let _ = (store, namespace, id);
    (Vec::new(), Vec::new(), RunFiles::default())
}

/// What must have happened, from the task (or its absence) and the files.
fn facts_of(task: Option<&containerd::tasks::Task>, files: &RunFiles, created: Timestamp) -> Facts {
    use containerd::tasks::TaskStatus;
    let started_at = files.started_at.unwrap_or(created);
    let ended = |code: u32, at: Timestamp| {
        // A run that ended has begun, even where nobody noted when.
        vec![Fact::Started { pid: u32::MAX, at: started_at.min(at) }, Fact::Exited { code, at }]
    };
    let Some(task) = task else {
        return files.exit.map(|(code, at)| ended(code, at)).unwrap_or_default();
    };
    let start = Fact::Started { pid: task.pid, at: started_at };
    match task.status {
        TaskStatus::Running | TaskStatus::Unknown => vec![start],
        TaskStatus::Paused | TaskStatus::Pausing => vec![start, Fact::Paused],
        TaskStatus::Stopped => {
            let at = task.exited_at.and_then(|at| Timestamp::try_from(at).ok()).unwrap_or(started_at);
            ended(task.exit_status, at)
        }
        TaskStatus::Created => Vec::new(),
    }
}
