//! `/_ping`, `/version`, `/info`.

use std::collections::BTreeMap;

use docker_wire::system::{
    Commit, ComponentVersion, ContainerdInfo, ContainerdNamespaces, FirewallInfo, IndexInfo, Info,
    PlatformInfo, PluginsInfo, RegistryServiceConfig, Runtime, SwarmInfo, Version,
};
use docker_wire::time;
use engine::images::RegistrySettings;
use engine::system::ComponentVersion as Component;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue, PRAGMA};
use names::Platform;

use super::call::{Answer, Call};
use super::compat::responses;
use super::reply::Reply;
use super::version;
use crate::config::Shown;

/// What we call ourselves to clients: the Docker Engine whose API this is, and who we are behind the plus sign.
///
/// Clients read the three numbers: cAdvisor refuses a major version below 1, buildx and Dev Containers compare them.
pub(in crate::api) const ENGINE_VERSION: &str =
    concat!("29.7.0+nerdctld.", env!("CARGO_PKG_VERSION"));

/// The key of Docker Hub in credentials files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Unknown, in Docker's words.
const NOT_AVAILABLE: &str = "N/A";

/// `GET` and `HEAD /_ping`: asks nobody, so that it tells whether the daemon lives and nothing else.
pub(super) async fn ping(call: Call) -> Answer {
    let reply = if call.route.method == "HEAD" {
        Reply::text(StatusCode::OK, "").with(CONTENT_LENGTH, HeaderValue::from_static("0"))
    } else {
        Reply::text(StatusCode::OK, "OK")
    };
    Ok(reply
        .with(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"))
        .with(PRAGMA, HeaderValue::from_static("no-cache"))
        .with(HeaderName::from_static("builder-version"), HeaderValue::from_static("2"))
        .with(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive")))
}

/// `GET /version`.
pub(super) async fn version(call: Call) -> Answer {
    let versions = call.engine.version().await;
    let (newest, oldest) = (version::MAX.to_string(), version::MIN.to_string());
    let architecture = Platform::host().architecture().to_owned();
    let details = [
        ("ApiVersion", newest.as_str()),
        ("Arch", &architecture),
        ("BuildTime", ""),
        ("Experimental", "false"),
        ("GitCommit", ""),
        ("GoVersion", ""),
        ("KernelVersion", &versions.kernel),
        ("MinAPIVersion", &oldest),
        ("Os", "linux"),
    ];
    let details = details.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut components = vec![component("Engine", ENGINE_VERSION, BTreeMap::from(details))];
    let own = env!("CARGO_PKG_VERSION").to_owned();
    let nerdctld = Component { version: own, commit: String::new() };
    // The first four are dockerd's, in its order.
    for (name, found) in [
        ("containerd", &versions.containerd),
        ("runc", &versions.runc),
        ("docker-init", &versions.init),
        ("nerdctld", &Some(nerdctld)),
        ("cni-plugins", &versions.plugins),
        ("buildkitd", &versions.buildkitd),
    ] {
        if let Some(found) = found {
            let commit = BTreeMap::from([("GitCommit".to_owned(), found.commit.clone())]);
            components.push(component(name, &found.version, commit));
        }
    }
    Ok(Reply::json(&Version {
        platform: PlatformInfo {
            name: format!("nerdctld {} (containerd)", env!("CARGO_PKG_VERSION")),
        },
        version: ENGINE_VERSION.to_owned(),
        api_version: newest,
        min_api_version: oldest,
        os: "linux".to_owned(),
        arch: architecture,
        components,
        kernel_version: versions.kernel,
        ..Version::default()
    }))
}

fn component(name: &str, version: &str, details: BTreeMap<String, String>) -> ComponentVersion {
    ComponentVersion { name: name.to_owned(), version: version.to_owned(), details }
}

/// `GET /info`.
pub(super) async fn info(call: Call) -> Answer {
    let mut info = info_view(call.engine.info().await?, &call.shown);
    responses::info(call.version, &mut info);
    Ok(Reply::json(&info))
}

fn info_view(found: engine::system::Info, shown: &Shown) -> Info {
    let proxies = &shown.proxies;
    let security_options = security_options(&found);
    let host = found.host;
    let limits = host.limits;
    let commit = |component: &Option<Component>| {
        let id = component
            .as_ref()
            .map(|found| found.commit.as_str())
            .filter(|commit| !commit.is_empty());
        Commit { id: id.unwrap_or(NOT_AVAILABLE).to_owned(), expected: None }
    };
    Info {
        id: found.id,
        containers: found.containers,
        containers_running: found.running,
        containers_paused: found.paused,
        containers_stopped: found.stopped,
        images: found.images,
        driver: found.snapshotter,
        driver_status: driver_status(&found.backing_filesystem),
        plugins: plugins(found.network_plugins),
        memory_limit: limits.memory,
        swap_limit: limits.swap,
        cpu_cfs_period: limits.cpu_cfs,
        cpu_cfs_quota: limits.cpu_cfs,
        cpu_shares: limits.cpu_shares,
        cpu_set: limits.cpuset,
        pids_limit: limits.pids,
        ipv4_forwarding: host.ipv4_forwarding,
        debug: found.debug,
        n_fd: open_files(),
        oom_kill_disable: limits.oom_kill_disable,
        n_goroutines: tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64,
        system_time: time::rfc3339_nano(jiff::Timestamp::now()),
        logging_driver: "json-file".to_owned(),
        cgroup_driver: found.cgroup_driver,
        cgroup_version: found.cgroup_version.to_string(),
        n_events_listener: found.event_listeners as u64,
        kernel_version: host.kernel,
        operating_system: host.operating_system,
        os_version: host.os_version,
        os_type: "linux".to_owned(),
        architecture: host.machine,
        index_server_address: DOCKER_HUB.to_owned(),
        registry_config: Some(registries(&found.registries)),
        n_cpu: host.cpus,
        mem_total: host.memory,
        docker_root_dir: found.data_root.display().to_string(),
        http_proxy: proxies.http.clone(),
        https_proxy: proxies.https.clone(),
        no_proxy: proxies.none.clone(),
        name: host.hostname,
        server_version: ENGINE_VERSION.to_owned(),
        runtimes: runtimes(),
        default_runtime: "runc".to_owned(),
        swarm: SwarmInfo::default(),
        // Containers do live on without the daemon.
        live_restore_enabled: true,
        init_binary: found.init_program.map_or(String::new(), |path| path.display().to_string()),
        cdi_spec_dirs: engine::oci::CDI_FOLDERS.map(str::to_owned).to_vec(),
        containerd_commit: commit(&found.version.containerd),
        runc_commit: commit(&found.version.runc),
        init_commit: commit(&found.version.init),
        security_options,
        // The CNI plugins portmap and firewall.
        firewall_backend: Some(FirewallInfo { driver: "iptables".to_owned(), info: Vec::new() }),
        containerd: Some(ContainerdInfo {
            address: found.containerd_address,
            namespaces: ContainerdNamespaces {
                containers: found.namespace.clone(),
                plugins: found.namespace,
            },
        }),
        warnings: [found.warnings, shown.warnings.clone()].concat(),
        ..Info::default()
    }
}

/// The second line announces containerd's image store to buildx, compose and tilt.
fn driver_status(backing_filesystem: &str) -> Vec<[String; 2]> {
    let line = |key: &str, value: &str| [key.to_owned(), value.to_owned()];
    let mut status = vec![line("driver-type", "io.containerd.snapshotter.v1")];
    if !backing_filesystem.is_empty() {
        // kind and cAdvisor look for this one, and read the first element of each.
        status.insert(0, line("Backing Filesystem", backing_filesystem));
    }
    status
}

fn plugins(network: Vec<String>) -> PluginsInfo {
    let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
    PluginsInfo {
        volume: words(&["local"]),
        network,
        authorization: None,
        log: words(&["journald", "json-file", "local", "none", "syslog"]),
    }
}

/// moby `daemon/pkg/registry/config.go`: hosts by name, blocks of addresses by themselves.
fn registries(settings: &RegistrySettings) -> RegistryServiceConfig {
    let (mut blocks, hosts): (Vec<String>, Vec<String>) =
        settings.insecure.iter().cloned().partition(|entry| entry.contains('/'));
    blocks.extend(["::1/128", "127.0.0.0/8"].map(str::to_owned));
    let hub = IndexInfo {
        name: "docker.io".to_owned(),
        mirrors: settings.mirrors.clone(),
        secure: true,
        official: true,
    };
    let insecure =
        hosts.into_iter().map(|name| (name.clone(), IndexInfo { name, ..IndexInfo::default() }));
    RegistryServiceConfig {
        insecure_registry_cidrs: blocks,
        index_configs: insecure.chain([("docker.io".to_owned(), hub)]).collect(),
        mirrors: (!settings.mirrors.is_empty()).then(|| settings.mirrors.clone()),
        ..RegistryServiceConfig::default()
    }
}

fn runtimes() -> BTreeMap<String, Runtime> {
    let runc = Runtime { path: "runc".to_owned(), ..Runtime::default() };
    BTreeMap::from([("io.containerd.runc.v2".to_owned(), runc.clone()), ("runc".to_owned(), runc)])
}

/// The command line splits each at commas and equal signs (docker/cli `cli/command/system/info.go`).
fn security_options(found: &engine::system::Info) -> Vec<String> {
    let options = [
        (found.apparmor, "name=apparmor"),
        (found.seccomp, "name=seccomp,profile=builtin"),
        (found.rootless, "name=rootless"),
        (found.cgroup_version == 2, "name=cgroupns"),
    ];
    options
        .into_iter()
        .filter(|(present, _)| *present)
        .map(|(_, option)| option.to_owned())
        .collect()
}

fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}
