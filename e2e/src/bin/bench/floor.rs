//! What no daemon on containerd can go below: the same gRPC calls straight to containerd, and the CNI plugins alone.

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use containerd::containers::NewContainer;
use containerd::tasks::{CreateTask, ExecTask};
use containerd::{Any, Client, Labels};
use e2e::host::{Engine, NAMESPACE};
use e2e::{Context, Result, ensure, unique};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::clock::Clock;
use crate::cni::Helper;
use crate::crowd::{at_once, burst, milliseconds_since, timed};
use crate::daemon::{megabytes_per_second, writer};
use crate::ground::Ground;
use crate::rows::{Answer, Clients, CniCommand, Measure, Network};
use crate::side::{Probe, Side};

/// The same image that daemons run, by the name that containerd knows.
const IMAGE: &str = "docker.io/library/busybox:latest";
const SNAPSHOTTER: &str = "overlayfs";
/// The container whose record `ctr` makes, and whose spec all others have.
const TEMPLATE: &str = "template";

/// containerd alone.
pub(crate) struct Floor {
    runtime: Runtime,
    client: Client,
    template: NewContainer,
    /// The snapshot that containers are made on.
    layers: String,
    population: Mutex<Vec<String>>,
    ground: Ground,
}

impl Floor {
    /// Starts containerd in a sandbox of its own and makes a template.
    ///
    /// # Errors
    /// When something does not start.
    pub(crate) fn start() -> Result<Self> {
        let ground = Ground::new(Engine::Nerdctld)?;
        let host = ground.host();
        let certificates = host.root()?.join("certs.d");
        let certificates = certificates.to_str().context("path")?;
        host.ctr(&["images", "pull", "--hosts-dir", certificates, IMAGE])?;
        host.ctr(&["containers", "create", "--seccomp", IMAGE, TEMPLATE, "true"])?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("runtime")?;
        let client = Client::new(&host.containerd_socket()?, NAMESPACE);
        let record = runtime.block_on(client.get_container(TEMPLATE))?;
        let snapshotter = client.snapshotter(SNAPSHOTTER);
        let layers = runtime.block_on(snapshotter.stat(&record.snapshot_key))?.parent;
        let template = NewContainer {
            labels: record.labels,
            image: record.image,
            runtime_name: record.runtime_name,
            runtime_options: record.runtime_options,
            spec: record.spec,
            snapshotter: SNAPSHOTTER.into(),
            ..NewContainer::default()
        };
        Ok(Self { runtime, client, template, layers, population: Mutex::default(), ground })
    }

    /// What it stands on.
    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Makes record and snapshot of a container, in this order: a snapshot that nothing names is garbage at once.
    async fn create(&self, id: &str, command: &[impl AsRef<str>]) -> Result<()> {
        let new = NewContainer {
            id: id.into(),
            snapshot_key: id.into(),
            spec: Some(self.spec(id, command)?),
            ..self.template.clone()
        };
        self.client.create_container(new).await?;
        self.client.snapshotter(SNAPSHOTTER).prepare(id, &self.layers, Labels::new()).await?;
        Ok(())
    }

    fn spec(&self, id: &str, command: &[impl AsRef<str>]) -> Result<Any> {
        let template = self.template.spec.as_ref().context("the template has no spec")?;
        let mut spec: Value = serde_json::from_slice(&template.value).context("spec")?;
        spec["process"]["args"] = command.iter().map(AsRef::as_ref).collect();
        spec["linux"]["cgroupsPath"] = json!(format!("/{NAMESPACE}/{id}"));
        Ok(Any::new(template.type_url.clone(), spec.to_string()))
    }

    /// Runs a created container to its end; output goes to a URI of containerd's, or nowhere.
    async fn run(&self, id: &str, output: &str) -> Result<()> {
        let rootfs = self.client.snapshotter(SNAPSHOTTER).mounts(id).await?;
        let task = CreateTask {
            container_id: id.into(),
            rootfs,
            stdout: output.into(),
            stderr: output.into(),
            ..CreateTask::default()
        };
        self.client.create_task(task).await?;
        let wait = self.client.wait(id, None);
        let (exit, started) = tokio::join!(wait, self.client.start_task(id));
        started?;
        let status = exit?.status;
        ensure!(status == 0, "the process ended with {status}");
        self.client.delete_task(id).await?;
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.client.snapshotter(SNAPSHOTTER).remove(id).await?;
        self.client.delete_container(id).await?;
        Ok(())
    }

    /// Create, start, wait, remove of `true`.
    fn life(&self) -> Result<f64> {
        let id = unique("life");
        let (took, ()) = timed(|| {
            self.runtime.block_on(async {
                self.create(&id, &["true"]).await?;
                self.run(&id, "").await?;
                self.remove(&id).await
            })
        })?;
        Ok(took)
    }

    /// Makes record and snapshot; both go where nobody measures.
    fn create_probe(&self) -> Probe<'_> {
        Box::new(move || {
            let id = unique("create");
            let (took, ()) = timed(|| self.runtime.block_on(self.create(&id, &["true"])))?;
            self.runtime.block_on(self.remove(&id))?;
            Ok(vec![took])
        })
    }

    fn life_probe(&self, network: Network, count: usize) -> Result<Probe<'_>> {
        if network == Network::None {
            return Ok(Box::new(move || at_once(0..count, |_| Ok(vec![self.life()?]))));
        }
        let sandbox = self.ground.sandbox()?;
        let mut helpers: Vec<Helper> =
            (0..count).map(|_| Helper::start(sandbox)).collect::<Result<_>>()?;
        Ok(Box::new(move || {
            at_once(&mut helpers, |helper| {
                let cni = helper.attach_and_detach()?;
                Ok(vec![self.life()? + cni.add + cni.del])
            })
        }))
    }

    /// A task that waits, for execs; it goes with the sandbox.
    fn exec_probe(&self, count: usize) -> Result<Probe<'_>> {
        let id = unique("exec");
        self.runtime.block_on(self.create(&id, &["sleep", "100000"]))?;
        self.runtime.block_on(async {
            let rootfs = self.client.snapshotter(SNAPSHOTTER).mounts(&id).await?;
            let container_id = id.clone();
            self.client
                .create_task(CreateTask { container_id, rootfs, ..CreateTask::default() })
                .await?;
            self.client.start_task(&id).await?;
            Ok::<_, containerd::Error>(())
        })?;
        Ok(Box::new(move || {
            at_once(0..count, |_| {
                let (took, ()) = timed(|| self.runtime.block_on(self.exec(&id)))?;
                Ok(vec![took])
            })
        }))
    }

    /// The calls of an exec of `true`, without streams.
    async fn exec(&self, id: &str) -> Result<()> {
        let exec_id = unique("true");
        let record = self.client.get_container(id).await?;
        let spec = record.spec.context("no spec")?;
        let mut spec: Value = serde_json::from_slice(&spec.value).context("spec")?;
        spec["process"]["args"] = json!(["true"]);
        let exec = ExecTask {
            container_id: id.into(),
            exec_id: exec_id.clone(),
            process: Any::oci_process(spec["process"].to_string()),
            ..ExecTask::default()
        };
        self.client.exec(exec).await?;
        let wait = self.client.wait(id, Some(&exec_id));
        let (exit, started) = tokio::join!(wait, self.client.start_exec(id, &exec_id));
        started?;
        let status = exit?.status;
        ensure!(status == 0, "true ended with {status}");
        self.client.delete_process(id, &exec_id).await?;
        Ok(())
    }

    fn cni_probe(&self, command: CniCommand) -> Result<Probe<'_>> {
        let mut helper = Helper::start(self.ground.sandbox()?)?;
        Ok(Box::new(move || {
            let times = helper.attach_and_detach()?;
            Ok(vec![match command {
                CniCommand::Add => times.add,
                CniCommand::Del => times.del,
            }])
        }))
    }

    /// Starts a program in the sandbox that answers at once: the way there is part of a daemon's start.
    fn spawn_probe(&self) -> Result<Probe<'_>> {
        let sandbox = self.ground.sandbox()?;
        Ok(Box::new(move || {
            let mut command = sandbox.command("echo");
            let (took, mut program) = timed(|| {
                let mut program = command.stdout(Stdio::piped()).spawn().context("echo")?;
                let answer = program.stdout.as_mut().context("no output")?;
                answer.read_exact(&mut [0]).context("reading an answer")?;
                Ok(program)
            })?;
            program.wait().context("echo")?;
            Ok(vec![took])
        }))
    }

    fn list_probe(&self, clients: Clients) -> Probe<'_> {
        Box::new(move || {
            at_once(0..clients.count, |_| {
                burst(clients.requests, || {
                    self.runtime.block_on(self.client.list_containers(&[]))?;
                    Ok(())
                })
            })
        })
    }

    fn inspect_probe(&self, clients: Clients) -> Result<Probe<'_>> {
        let population = self.population.lock().unwrap_or_else(PoisonError::into_inner);
        let id = population.get(population.len() / 2).context("nothing was created")?.clone();
        Ok(Box::new(move || {
            let inspect = || -> Result<()> {
                self.runtime.block_on(async {
                    self.client.get_container(&id).await?;
                    let task = self.client.get_task(&id).await;
                    ensure!(task.is_err_and(|error| error.is_not_found()), "{id} has a task");
                    Ok(())
                })
            };
            at_once(0..clients.count, |_| burst(clients.requests, inspect))
        }))
    }

    /// A shim that writes what comes straight into a file.
    fn log_write_probe(&self, bytes: usize) -> Result<Probe<'_>> {
        let root = self.ground.host().root()?;
        Ok(Box::new(move || {
            let file = root.join(unique("log"));
            let took = self.runtime.block_on(self.write_log(bytes, &file))?;
            let written = std::fs::metadata(&file).context("the log")?.len();
            std::fs::remove_file(&file).context("the log")?;
            ensure!(written == bytes as u64, "{bytes} bytes, and {written} arrived");
            Ok(vec![megabytes_per_second(bytes, took)])
        }))
    }

    async fn write_log(&self, bytes: usize, file: &Path) -> Result<f64> {
        let id = unique("log");
        self.create(&id, &writer(bytes)).await?;
        let began = Instant::now();
        self.run(&id, &format!("file://{}", file.display())).await?;
        let took = milliseconds_since(began);
        self.remove(&id).await?;
        Ok(took)
    }
}

impl Side for Floor {
    fn name(&self) -> &str {
        "floor"
    }

    fn populate(&self, count: usize, clock: &Clock) -> Result<()> {
        const AT_ONCE: usize = 8;
        let mut population = self.population.lock().unwrap_or_else(PoisonError::into_inner);
        while population.len() < count {
            clock.check()?;
            let ids: Vec<String> =
                (0..AT_ONCE.min(count - population.len())).map(|_| unique("bench")).collect();
            let all = ids.iter().map(|id| self.create(id, &["true"]));
            self.runtime.block_on(try_join_all(all))?;
            population.extend(ids);
        }
        Ok(())
    }

    fn probe(&self, measure: Measure) -> Result<Option<Probe<'_>>> {
        Ok(match measure {
            Measure::Start(Answer::Ping) => Some(self.spawn_probe()?),
            Measure::List(clients) => Some(self.list_probe(clients)),
            Measure::Inspect(clients) => Some(self.inspect_probe(clients)?),
            Measure::Create => Some(self.create_probe()),
            Measure::Life { network, at_once } => Some(self.life_probe(network, at_once)?),
            Measure::Cni(command) => Some(self.cni_probe(command)?),
            Measure::Exec { at_once } => Some(self.exec_probe(at_once)?),
            Measure::LogWrite(bytes) => Some(self.log_write_probe(bytes)?),
            Measure::Start(_)
            | Measure::Memory { .. }
            | Measure::MemoryBeside(_)
            | Measure::ListHung
            | Measure::InspectHung
            | Measure::Look(_)
            | Measure::ImageList(_)
            | Measure::LogRead(_)
            | Measure::LogCrowd(_)
            | Measure::Copy(..)
            | Measure::Transfer(..) => None,
        })
    }
}
