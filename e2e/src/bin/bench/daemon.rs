//! A Docker API socket: of a daemon that is started here, or of any other.

use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use e2e::api::BUSYBOX;
use e2e::host::Engine;
use e2e::http::{Connection, Request};
use e2e::sandbox::{Process, send, until};
use e2e::{Api, Container, Context, Result, bail, ensure, frames, unique};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::crowd::{at_once, burst, milliseconds_since, timed};
use crate::ground::Ground;
use crate::rows::{Answer, Clients, Helpers, LINE, Look, Measure, Network, READING};
use crate::side::{Probe, Side};
use crate::{copy, memory, transfer};

mod image_names;
mod log_crowd;

/// A list of a thousand, asked for by 32 at once, may take this long.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long a start may take.
const START: Duration = Duration::from_secs(60);
/// How many create or remove containers at once where nobody measures.
const HANDS: usize = 4;
/// How many running containers share what [`Measure::MemoryBeside`] finds.
const SLEEPERS: usize = 5;

/// One daemon.
pub(crate) struct Daemon {
    name: String,
    api: Api,
    /// Ids of the created containers.
    population: Mutex<Vec<String>>,
    /// The container with a large tree, for as long as rows want it.
    tree: Mutex<Option<Container>>,
    // Dropped in this order: the process before what it stands on.
    process: Mutex<Option<Process>>,
    ground: Option<Ground>,
}

impl Daemon {
    /// Starts one of the rig's daemons in a sandbox of its own.
    ///
    /// # Errors
    /// When it does not start; with its log.
    pub(crate) fn start(name: String, engine: Engine) -> Result<Self> {
        let ground = Ground::new(engine)?;
        let daemon = Self {
            name,
            api: Api::new(ground.host().socket()),
            population: Mutex::default(),
            tree: Mutex::default(),
            process: Mutex::default(),
            ground: Some(ground),
        };
        daemon.restart(|| daemon.api.answers())?;
        daemon.api.have(BUSYBOX)?;
        // Pulling leaves its traces in memory.
        daemon.restart(|| daemon.api.answers())?;
        Ok(daemon)
    }

    /// Takes a daemon that runs already.
    ///
    /// # Errors
    /// When it has no image to run, and cannot get it.
    pub(crate) fn given(name: String, socket: &Path) -> Result<Self> {
        let api = Api::new(socket);
        api.have(BUSYBOX)?;
        Ok(Self {
            name,
            api,
            population: Mutex::default(),
            tree: Mutex::default(),
            process: Mutex::default(),
            ground: None,
        })
    }

    /// What it says of itself: platform and version.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn version(&self) -> Result<String> {
        let version = self.api.get_json("/version")?;
        let text = |pointer| version.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        Ok(format!("{} (API {})", text("/Version"), text("/ApiVersion")))
    }

    /// What it stands on, if it was started here.
    pub(crate) fn ground(&self) -> Option<&Ground> {
        self.ground.as_ref()
    }

    /// Ends the daemon in peace, starts it, and gives the milliseconds from then until `answered`.
    fn restart(&self, answered: impl Fn() -> bool) -> Result<f64> {
        let ground = self.ground.as_ref().context("a given daemon is not started")?;
        let host = ground.host();
        let mut slot = self.process();
        if let Some(mut process) = slot.take() {
            process.signal(Signal::TERM)?;
            process.wait(Duration::from_secs(60))?;
        }
        let mut command = host.daemon_command()?;
        if host.plan().engine == Engine::Dockerd {
            // As ours, it finds its containerd running.
            command.arg("--containerd").arg(host.containerd_socket()?);
        }
        let began = Instant::now();
        let process = slot.insert(ground.sandbox()?.spawn("daemon", command)?);
        while !answered() {
            if !process.runs() || began.elapsed() > START {
                bail!("the daemon does not start: {}", host.logs_since(&[]));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(milliseconds_since(began))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn population(&self) -> MutexGuard<'_, Vec<String>> {
        self.population.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree(&self) -> MutexGuard<'_, Option<Container>> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self) -> Request {
        self.api.request("GET", "/containers/json?all=1")
    }

    /// A list must have what was created, or fast answers would mean nothing.
    fn check_list(&self) -> Result<()> {
        let mut connection = patient(&self.api)?;
        let list = connection.roundtrip(&self.list())?.expect(200)?.json()?;
        let (rows, created) = (list.as_array().map_or(0, Vec::len), self.population().len());
        ensure!(rows >= created, "a list of {rows}, and {created} were created");
        Ok(())
    }

    /// Asks `request` on connections that stay open.
    fn requests(&self, request: Request, clients: Clients) -> Result<Probe<'_>> {
        let mut connections: Vec<Connection> =
            (0..clients.count).map(|_| patient(&self.api)).collect::<Result<_>>()?;
        Ok(Box::new(move || {
            at_once(&mut connections, |connection| {
                burst(clients.requests, || {
                    connection.roundtrip(&request)?.expect(200)?;
                    Ok(())
                })
            })
        }))
    }

    fn start_probe(&self, answer: Answer) -> Option<Probe<'_>> {
        self.ground.as_ref()?;
        Some(match answer {
            Answer::Ping => Box::new(|| Ok(vec![self.restart(|| self.api.answers())?])),
            Answer::List => Box::new(|| {
                let listed = || {
                    let answer = || patient(&self.api)?.roundtrip(&self.list());
                    answer().is_ok_and(|response| response.status() == 200)
                };
                let took = self.restart(listed)?;
                self.check_list()?;
                Ok(vec![took])
            }),
        })
    }

    fn memory_probe(&self, kind: memory::Kind, after_list: bool) -> Option<Probe<'_>> {
        self.ground.as_ref()?;
        Some(Box::new(move || {
            if after_list {
                self.check_list()?;
            }
            let pid = self.process().as_mut().context("the daemon does not run")?.pid()?;
            Ok(vec![memory::of(pid, kind)?])
        }))
    }

    /// What processes appeared with some sleeping containers, the sleepers apart.
    fn memory_beside_probe(&self, helpers: Helpers) -> Result<Option<Probe<'_>>> {
        let has_helpers = |ground: &&Ground| {
            helpers == Helpers::All || ground.host().plan().engine == Engine::Nerdctld
        };
        let Some(ground) = self.ground.as_ref().filter(has_helpers) else { return Ok(None) };
        let sandbox = ground.sandbox()?;
        let before: Vec<u32> = sandbox.processes().iter().map(|process| process.pid).collect();
        let sleepers: Vec<Container> = (0..SLEEPERS)
            .map(|_| self.api.run_script("exec sleep 10000"))
            .collect::<Result<_>>()?;
        Ok(Some(Box::new(move || {
            // Start-up garbage goes, forked helpers end.
            std::thread::sleep(Duration::from_secs(1));
            let mut total = 0.0;
            for process in sandbox.processes() {
                let has = |wanted: &str| process.arguments.iter().any(|word| word == wanted);
                let counts = match helpers {
                    Helpers::All => !has("10000"),
                    Helpers::Monitors => has("io-monitor"),
                };
                if !before.contains(&process.pid) && counts {
                    // One may end while we look.
                    total += memory::of(process.pid, memory::Kind::Private).unwrap_or_default();
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            let each = total / sleepers.len() as f64;
            Ok(vec![each])
        })))
    }

    fn hung_probe(&self, inspect: bool) -> Result<Option<Probe<'_>>> {
        let Some(ground) = &self.ground else { return Ok(None) };
        let container = self.api.run_script("exec sleep 10000")?;
        let shim = ground.sandbox()?.shim_of(&container.id).context("the container has no shim")?;
        let request =
            if inspect { self.api.request("GET", &container.path("/json")) } else { self.list() };
        let hung = Hung { shim: Stopped::new(shim)?, container };
        self.check_list()?;
        let mut ask = self.requests(request, Clients::ALONE)?;
        Ok(Some(Box::new(move || {
            let _held = (&hung.shim, &hung.container);
            ask()
        })))
    }

    fn look_probe(&self, look: Look) -> Result<Probe<'_>> {
        let container = self.api.run_script("exec sleep 10000")?;
        let path = match look {
            Look::Stats => container.path("/stats?stream=0&one-shot=1"),
            Look::Top => container.path("/top"),
        };
        let mut ask = self.requests(self.api.request("GET", &path), Clients::ALONE)?;
        Ok(Box::new(move || {
            let _held = &container;
            ask()
        }))
    }

    /// Create alone: the guard removes what was made before the next side's turn.
    fn create(&self) -> Result<f64> {
        let (took, container) = timed(|| self.api.create(body_of_true(Network::None)))?;
        container.remove()?;
        std::mem::forget(container);
        Ok(took)
    }

    fn life(&self, network: Network) -> Result<f64> {
        let (took, container) = timed(|| {
            let container = self.api.create(body_of_true(network))?;
            container.start()?;
            let code = container.wait()?;
            ensure!(code == 0, "true ended with {code}");
            container.remove()?;
            Ok(container)
        })?;
        // It is removed; dropping the guard would ask for that again while others are measured.
        std::mem::forget(container);
        Ok(took)
    }

    fn exec_probe(&self, count: usize) -> Result<Probe<'_>> {
        let container = self.api.create(json!({
            "Image": BUSYBOX,
            "Cmd": ["sleep", "100000"],
            "HostConfig": host_config(Network::None),
        }))?;
        container.start()?;
        Ok(Box::new(move || at_once(0..count, |_| Ok(vec![self.exec(&container)?]))))
    }

    fn exec(&self, container: &Container) -> Result<f64> {
        let body = json!({"Cmd": ["true"], "AttachStdout": true, "AttachStderr": true});
        let (took, ()) = timed(|| {
            let made = self.api.post_json(&container.path("/exec"), &body)?.expect(201)?.json()?;
            let id = made["Id"].as_str().context("exec without Id")?;
            let start = self.api.request("POST", &format!("/exec/{id}/start"));
            let (_, mut stream) = self.api.hijack(&start.json(&json!({})).upgrade("tcp"))?;
            frames::all(&mut stream)?;
            let seen = self.api.get_json(&format!("/exec/{id}/json"))?;
            ensure!(seen["ExitCode"] == 0, "true ended with {}", seen["ExitCode"]);
            Ok(())
        })?;
        Ok(took)
    }

    /// A container that writes `bytes` in lines.
    fn writer(&self, bytes: usize) -> Result<Container> {
        self.api.create(json!({
            "Image": BUSYBOX,
            "Cmd": writer(bytes),
            "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "json-file", "Config": {}}},
        }))
    }

    fn log_write_probe(&self, bytes: usize) -> Probe<'_> {
        Box::new(move || {
            let container = self.writer(bytes)?;
            let (took, _) = timed(|| run_to_end(&container))?;
            Ok(vec![megabytes_per_second(bytes, took)])
        })
    }

    fn log_read_probe(&self, bytes: usize) -> Result<Probe<'_>> {
        let container = self.writer(bytes)?;
        run_to_end(&container)?;
        Ok(Box::new(move || {
            let request = self.api.request("GET", &container.path("/logs?stdout=1&stderr=1"));
            let (took, read) = timed(|| read_log(&self.api, &request))?;
            let enough = read == bytes || took > READING.as_secs_f64() * 1e3;
            ensure!(enough, "{bytes} bytes were written, and {read} read");
            Ok(vec![megabytes_per_second(read, took)])
        }))
    }
}

impl Side for Daemon {
    fn name(&self) -> &str {
        &self.name
    }

    fn populate(&self, count: usize, clock: &Clock) -> Result<()> {
        let missing = count.saturating_sub(self.population().len());
        let body = json!({
            "Image": BUSYBOX,
            "Cmd": ["true"],
            "Labels": {"com.docker.compose.project": "bench", "com.docker.compose.service": "true"},
        });
        let names: Vec<String> = (0..missing).map(|_| unique("bench")).collect();
        at_once(names.chunks(missing.div_ceil(HANDS).max(1)), |names| {
            for name in names {
                clock.check()?;
                let path = format!("/containers/create?name={name}");
                let created = self.api.post_json(&path, &body)?.expect(201)?.json()?;
                let id = created["Id"].as_str().context("create answers without Id")?;
                self.population().push(id.to_owned());
            }
            Ok(Vec::new())
        })?;
        Ok(())
    }

    fn probe(&self, measure: Measure) -> Result<Option<Probe<'_>>> {
        if !matches!(measure, Measure::Copy(..)) {
            drop(self.tree().take());
        }
        Ok(match measure {
            Measure::Start(answer) => self.start_probe(answer),
            Measure::Memory { kind, after_list } => self.memory_probe(kind, after_list),
            Measure::MemoryBeside(helpers) => self.memory_beside_probe(helpers)?,
            Measure::List(clients) => {
                self.check_list()?;
                Some(self.requests(self.list(), clients)?)
            }
            Measure::Inspect(clients) => {
                let population = self.population();
                let id = population.get(population.len() / 2).context("nothing was created")?;
                let request = self.api.request("GET", &format!("/containers/{id}/json"));
                Some(self.requests(request, clients)?)
            }
            Measure::ListHung => self.hung_probe(false)?,
            Measure::InspectHung => self.hung_probe(true)?,
            Measure::Look(look) => Some(self.look_probe(look)?),
            Measure::Create => Some(Box::new(move || Ok(vec![self.create()?]))),
            Measure::ImageList(count) => Some(image_names::probe(self, count)?),
            Measure::Life { network, at_once: count } => {
                Some(Box::new(move || at_once(0..count, |_| Ok(vec![self.life(network)?]))))
            }
            Measure::Exec { at_once } => Some(self.exec_probe(at_once)?),
            Measure::LogWrite(bytes) => Some(self.log_write_probe(bytes)),
            Measure::LogRead(bytes) => Some(self.log_read_probe(bytes)?),
            Measure::Copy(way, bytes) => {
                let mut tree = self.tree();
                let container = match &mut *tree {
                    Some(container) => container,
                    none => none.insert(copy::with_tree(&self.api, bytes)?),
                };
                Some(copy::probe(container, way, bytes)?)
            }
            Measure::Transfer(way, figure, bytes) => match &self.ground {
                Some(ground) => {
                    let pid = self.process().as_mut().context("the daemon does not run")?.pid()?;
                    let side = transfer::Stand { host: ground.host(), api: &self.api, pid };
                    Some(transfer::probe(side, way, figure, bytes)?)
                }
                None => None,
            },
            Measure::LogCrowd(count) => log_crowd::probe(self, count),
            Measure::Cni(_) => None,
        })
    }
}

impl Drop for Daemon {
    /// A sandbox takes its containers with it; a daemon that lives on must not keep ours.
    fn drop(&mut self) {
        if self.ground.is_some() {
            return;
        }
        let ids = std::mem::take(&mut *self.population());
        let hands = ids.chunks(ids.len().div_ceil(HANDS).max(1));
        let _ = at_once(hands, |ids| {
            for id in ids {
                let _ = self.api.delete(&format!("/containers/{id}?force=1&v=1"));
            }
            Ok(Vec::new())
        });
    }
}

/// A container whose shim is stopped; the shim goes on before the container is removed.
struct Hung {
    shim: Stopped,
    container: Container,
}

/// A process that does nothing (SIGSTOP) until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Result<Self> {
        send(pid, Signal::STOP)?;
        let stopped = Self(pid);
        until(Duration::from_secs(5), "the shim stops", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = send(self.0, Signal::CONT);
    }
}

fn patient(api: &Api) -> Result<Connection> {
    let connection = api.connect()?;
    connection.patience(PATIENCE)?;
    Ok(connection)
}

fn host_config(network: Network) -> Value {
    let mode = match network {
        Network::None => "none",
        Network::Bridge => "bridge",
    };
    json!({"NetworkMode": mode})
}

fn body_of_true(network: Network) -> Value {
    json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": host_config(network)})
}

/// Reads a log to its end, or until [`READING`] is over, and gives its length so far.
fn read_log(api: &Api, request: &Request) -> Result<usize> {
    let began = Instant::now();
    let mut stream = api.stream(request)?;
    ensure!(stream.head.status == 200, "logs: status {}", stream.head.status);
    let mut read = 0;
    while let Some((_, payload)) = frames::next(&mut stream)? {
        read += payload.len();
        if began.elapsed() > READING {
            return Ok(read);
        }
    }
    stream.read_to_end(&mut Vec::new())?;
    Ok(read)
}

fn run_to_end(container: &Container) -> Result<()> {
    container.start()?;
    // A gigabyte takes its time.
    let wait = container.api().request("POST", &container.path("/wait"));
    let ended = patient(container.api())?.roundtrip(&wait)?.expect(200)?.json()?;
    ensure!(ended["StatusCode"] == 0, "the writer ended with {ended}");
    Ok(())
}

/// A command that writes `bytes` in lines of [`LINE`].
pub(crate) fn writer(bytes: usize) -> [String; 3] {
    let line = "x".repeat(LINE - 1);
    ["sh".into(), "-c".into(), format!("yes {line} | head -c {bytes}")]
}

/// Speed of `bytes` in so many milliseconds.
pub(crate) fn megabytes_per_second(bytes: usize, milliseconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let bytes = bytes as f64;
    bytes / 1e3 / milliseconds
}
