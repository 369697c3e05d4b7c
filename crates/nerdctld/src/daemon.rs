//! The daemon: started in order, stopped in reverse.
//!
//! Sockets are open before anything slow happens: containerd may be absent, slow or full, `_ping` answers all the same.
//! At the end no new connections are taken, endless streams end (clients see end of file), others are cut or tell that the
//! daemon stops, operations under way get ten seconds, and the socket files go. Containers, their monitors and a managed containerd are not touched.

use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, Settings};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Door};
use crate::cli::Cli;
use crate::config::{Config, ContainerdChoice, Shown};
use crate::listen::{self, Connections, Listener};
use crate::logging::Logging;
use crate::reload::Reloader;
use crate::systemd::{notify, watchdog};
use crate::{connection, helper, managed};

/// What connections get to finish their last answer after the operations have ended.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Threads that run requests. The work is waiting for others, so more would only cost memory.
const MOST_WORKERS: usize = 4;

/// Run until a signal, or until idle for as long as configured.
///
/// # Errors
/// The daemon could not start.
pub(crate) fn run(config: &Config, cli: &Cli, logging: &Logging) -> anyhow::Result<()> {
    let open_files = OpenFiles { before: listen::open_files(), now: listen::raise_open_files() };
    let workers = std::thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        .clamp(2, MOST_WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("nerdctld")
        // A blocking call (a lock, a tar) may start a thread; idle ones go soon, so that idle memory stays small.
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(config, open_files, cli, logging));
    // Blocking calls that are stuck (a plugin, a lock of somebody else) must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// How many files may be open.
#[derive(Clone, Copy)]
struct OpenFiles {
    /// When we were started; others get this again.
    before: Option<u64>,
    now: u64,
}

const BROKEN: &str = "a vital task has ended";

async fn serve(
    config: &Config,
    open_files: OpenFiles,
    cli: &Cli,
    logging: &Logging,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut hangups = signal(SignalKind::hangup())?;
    let listeners = listen::open(config)?;
    let metrics = listen::open_metrics(config)?;
    let helper = helper::install(&config.data_root)?;
    let engine = Engine::start(settings(config, helper))?;
    if let ContainerdChoice::Managed(layout) = &config.containerd {
        let layout = layout.clone();
        let keep = move || managed::keep(layout.clone(), open_files.before);
        engine.supervisor().service("managed containerd", keep);
    }
    let server = Server::new(engine.clone(), config.shown(), open_files.now);
    announce(config, &listeners);
    notify(&[NotifyState::Ready]);

    let reloader = Reloader { cli, config: config.clone(), logging, engine: engine.clone() };
    let reason = {
        let accepting = server.accept_on_all(&listeners, metrics.as_ref());
        tokio::select! {
            () = accepting => "every listener has ended",
            name = signals.next() => name,
            () = server.idle(config.idle_exit) => "idle",
            () = reloader.follow(&mut hangups) => "no more signals",
            () = watchdog(&engine) => "the watchdog has ended",
            () = engine.supervisor().broken() => BROKEN,
        }
    };
    tracing::info!(reason, "stopping");
    notify(&[NotifyState::Stopping]);
    drop(listeners);
    tokio::select! {
        () = server.drain() => {}
        name = signals.next() => tracing::warn!(reason = name, "stopping at once"),
    }
    // Not a success: systemd is to start the next one.
    anyhow::ensure!(reason != BROKEN, BROKEN);
    Ok(())
}

fn settings(config: &Config, helper: std::path::PathBuf) -> Settings {
    Settings {
        containerd_address: config.containerd.socket().display().to_string(),
        namespace: config.namespace.clone(),
        snapshotter: config.snapshotter.clone(),
        data_root: config.data_root.clone(),
        run_dir: config.run_dir.clone(),
        helper,
        cni_path: config.cni_path.clone(),
        cni_netconf_path: config.cni_netconf_path.clone(),
        hosts_dirs: config.hosts_dirs.clone(),
        cgroup_manager: config.cgroup_manager.clone(),
        bridge_ip: config.bridge_ip.clone(),
        keep_stopped: config.keep_stopped,
        manage_cri: config.manage_cri,
        insecure_registry: config.insecure_registry,
        transfer_limits: config.transfer_limits,
        registries: config.registries.clone(),
        debug: config.debug,
        buildkit_host: config.buildkit_host.clone(),
    }
}

fn announce(config: &Config, listeners: &[Listener]) {
    let listening: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        ?listening,
        containerd = %config.containerd.socket().display(),
        namespace = %config.namespace,
        data_root = %config.data_root.display(),
        "ready"
    );
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The engine, the API before it, and the connections before that.
struct Server {
    engine: Engine,
    api: Api,
    connections: Connections,
    stop: CancellationToken,
}

impl Server {
    fn new(engine: Engine, shown: Shown, open_files: u64) -> Self {
        let stop = CancellationToken::new();
        let api = Api::new(engine.clone(), stop.clone(), shown);
        Self { engine, api, connections: Connections::new(open_files), stop }
    }

    async fn accept_on_all(&self, listeners: &[Listener], metrics: Option<&Listener>) {
        let docker = listeners.iter().map(|listener| (listener, Door::Docker));
        let doors = docker.chain(metrics.map(|listener| (listener, Door::Metrics)));
        let loops = doors.map(|(listener, door)| {
            let api = self.api.at(door);
            listen::accept(
                &listener.socket,
                &listener.name,
                &self.connections,
                &self.stop,
                move |visit| {
                    let (api, stop) = (api.clone(), self.stop.clone());
                    async move {
                        let respond = move |request, handle: Arc<connection::Handle>| {
                            api.clone().respond(request, handle)
                        };
                        if let Some((stream, entered)) = visit.enter().await {
                            connection::serve(stream, entered.welcome(), stop, respond).await;
                            drop(entered);
                        }
                    }
                },
            )
        });
        futures_util::future::join_all(loops).await;
    }

    /// Nobody has been connected for `limit`, no operation is under way, and no container needs the daemon; never without
    /// a limit.
    async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let changed = tokio::time::timeout(limit, self.connections.changed()).await.is_ok();
            let unused = self.connections.open() == 0 && self.api.operations() == 0;
            if !changed && unused && !self.engine.is_needed() {
                return;
            }
        }
    }

    /// Streams end, operations finish, last answers go out.
    async fn drain(&self) {
        self.stop.cancel();
        self.engine.shutdown().await;
        if tokio::time::timeout(LAST_ANSWERS, self.connections.drained()).await.is_err() {
            tracing::warn!(
                open = self.connections.open(),
                "connections were still open when the daemon ended"
            );
        }
    }
}
