//! The end-to-end tests, group by group. `e2e`'s title page says how they run.
//!
//! | Group | About |
//! |---|---|
//! | `rig` | the rig itself, without the daemon |
//! | `startup` | sockets, flags, environment, systemd, a containerd of its own |
//! | `system` | `/_ping`, `/version`, `/info`, `/auth`, the connection, what is no part of it (swarm, plugins, …) |
//! | `manners` | clients in the middle of something, and those who keep others waiting |
//! | `transport` | ssh through `dial-stdio`, TCP, TLS with certificates |
//! | `operating` | readiness, metrics, the watchdog, a user's own containerd |
//! | `rootless` | a user's daemon beside his own containerd, in `RootlessKit`'s namespaces |
//! | `versions` | differences between API versions that no other group looks at |
//! | `shapes` | keys, types, nulls of all answers beside dockerd 29's, version by version |
//! | `images` | pull, list, inspect, remove, forged blobs, clients that leave |
//! | `push` | push, and what a registry has under a name |
//! | `registries` | mirrors, insecure registries, and registries that lie |
//! | `secure` | registries behind TLS with certificates of their own, and behind proxies |
//! | `create`, `refused`, `unsupported` | what create takes, what it refuses in which words, every field one by one |
//! | `hostconfig` | rights, namespaces, devices and limits, seen from inside; update |
//! | `contract` | every error of the engine over HTTP: text and status |
//! | `containers` | start, wait, stop, kill, remove |
//! | `stats`, `live` | stats, top; pause, rename, prune, changes |
//! | `logs`, `attach` | output stored and live, input, terminals |
//! | `archive`, `commit` | files out of containers and into them, export; images made of containers, history, tags |
//! | `store`, `import` | images saved, loaded, imported; archives that lie |
//! | `platforms` | images of several platforms, attestations |
//! | `housekeeping` | what images take up: lists, disk usage, prunes |
//! | `garbage` | images while containerd collects its garbage in every phase, and the daemon killed in each |
//! | `bombs` | archives and layers that are more than they seem |
//! | `mounts`, `volumes` | bind mounts, volumes, tmpfs, images; the volumes themselves |
//! | `logdrivers` | where output goes, and what options do with it |
//! | `exec`, `websocket` | processes added to a running container; attaching over a WebSocket |
//! | `lists`, `events` | the list and its filters; what is told of it all |
//! | `told` | events of what others do |
//! | `ports` | published ports: connections, numbers, conflicts, beside nerdctl, without the daemon |
//! | `networks` | networks as they are shown; names, hosts, addresses; another container's network |
//! | `links` | legacy links, aliases and links in networks |
//! | `cli` | the docker CLI 29 and 20.10 as a person uses it |
//! | `interop`, `pods` | nerdctl and ctr, and a Kubernetes pod on the same containerd |
//! | `kubernetes` | the kubelet's namespace: what pods are made of stays, whatever is cleaned up |
//! | `snapshotters` | other snapshotters than overlayfs |
//! | `restart`, `health` | restarts by hand and by policy; health checks |
//! | `recovery` | the daemon killed at each step of what it does, and started again |
//! | `figures` | what does not grow: shims, memory |
//! | `resilience` | killed daemons, monitors, containerds, and a shim that hangs |
//!
//! All but `startup`, `transport`, `interop`, `pods`, `garbage`, `recovery`, `figures` and `resilience` are written against Docker's API alone and pass on dockerd 29 as well
//! (`make reference`); a test marked `ours_only` says in a word why it does not.

use std::io::{BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bollard::{API_DEFAULT_VERSION, Docker};
use e2e::runner::skip;
use e2e::{Context as _, Host, Result, ensure};

mod archive;
mod attach;
mod bombs;
mod cli;
mod commit;
mod containers;
mod contract;
mod create;
mod events;
mod exec;
mod figures;
mod garbage;
mod health;
mod hostconfig;
mod housekeeping;
mod images;
mod import;
mod interop;
mod kubernetes;
mod links;
mod lists;
mod live;
mod logdrivers;
mod logs;
mod manners;
mod mounts;
mod networks;
mod operating;
mod platforms;
mod pods;
mod ports;
mod push;
mod recovery;
mod refused;
mod registries;
mod resilience;
mod restart;
mod rig;
mod rootless;
mod secure;
mod shapes;
mod snapshotters;
mod startup;
mod stats;
mod store;
mod system;
mod told;
mod transport;
mod unsupported;
mod versions;
mod volumes;
mod websocket;

fn main() -> ExitCode {
    e2e::runner::run(&[
        rig::TESTS,
        system::TESTS,
        transport::TESTS,
        operating::TESTS,
        rootless::TESTS,
        manners::TESTS,
        told::TESTS,
        images::TESTS,
        push::TESTS,
        registries::TESTS,
        secure::TESTS,
        versions::TESTS,
        shapes::TESTS,
        create::TESTS,
        refused::TESTS,
        hostconfig::TESTS,
        contract::TESTS,
        containers::TESTS,
        restart::TESTS,
        health::TESTS,
        stats::TESTS,
        live::TESTS,
        logs::TESTS,
        logdrivers::TESTS,
        attach::TESTS,
        archive::TESTS,
        mounts::TESTS,
        volumes::TESTS,
        commit::TESTS,
        store::TESTS,
        import::TESTS,
        platforms::TESTS,
        housekeeping::TESTS,
        garbage::TESTS,
        bombs::TESTS,
        exec::TESTS,
        websocket::TESTS,
        links::TESTS,
        lists::TESTS,
        events::TESTS,
        ports::TESTS,
        networks::TESTS,
        cli::TESTS,
        unsupported::TESTS,
        startup::TESTS,
        interop::TESTS,
        kubernetes::TESTS,
        snapshotters::TESTS,
        pods::TESTS,
        resilience::TESTS,
        recovery::TESTS,
        figures::TESTS,
    ])
}

/// An independent client of the same daemon.
fn bollard(host: &Host) -> Result<Docker> {
    Docker::connect_with_unix(&host.socket().to_string_lossy(), 60, API_DEFAULT_VERSION)
        .context("bollard")
}

/// Where bollard's futures run.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")
}

/// Skips a test that needs the registries, files or processes of the rig where the target is some daemon elsewhere.
fn needs_rig(host: &Host) -> Result<()> {
    host.sandbox().map(drop).map_err(|_| skip("needs a host of the rig"))
}

/// Reads raw bytes until they have `text`.
fn read_until(stream: &mut BufReader<UnixStream>, text: &str) -> Result<String> {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let count = stream
            .read(&mut buffer)
            .with_context(|| format!("{:?}", String::from_utf8_lossy(&seen)))?;
        ensure!(count > 0, "it ends with {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
        let shown = String::from_utf8_lossy(&seen).into_owned();
        if shown.contains(text) {
            return Ok(shown);
        }
    }
}

/// Answers within a time that no hung shim would give.
fn quick<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let answer = work().with_context(|| what.to_owned())?;
    // Not a promise of speed: the shim's own time-out is longer.
    ensure!(start.elapsed() < Duration::from_secs(5), "{what} took {:?}", start.elapsed());
    Ok(answer)
}
