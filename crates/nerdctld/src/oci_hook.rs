//! Mode `oci-hook`: what runc calls when a container's namespaces exist, and when they are gone.
//!
//! The runtime writes the container's state to our stdin; who the container is stands in its annotations, and all
//! else in our arguments ([`networking::hook`], a frozen protocol). No daemon is needed, and no configuration is read:
//! `nerdctl start`, and containerd after a reboot, call this as well.
//!
//! What went on is in `<state>/oci-hook.<event>.log`, written anew at each run. The reason of a failure also goes to
//! stderr, which the runtime puts into its own error.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Context as _;
use cni::Cni;
use nerdctl_store::DataStore;
use nerdctl_store::labels::keys;
use networking::hook::{HookEvent, HookSettings};
use networking::{Container, Networks};
use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;

/// The argument by which `main` knows this mode.
pub(crate) const MODE: &str = networking::hook::SUBCOMMAND;

/// More than any state or spec has; what comes from elsewhere must not fill our memory.
const INPUT_LIMIT: u64 = 16 << 20;

/// The state that the OCI runtime specification promises, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    id: String,
    /// First process in the container; 0 when it is gone.
    pid: u32,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
}

/// The part of a bundle's `config.json` that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    annotations: HashMap<String, String>,
}

/// Runs the hook with the whole command line of the process.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    match try_run(args.get(2..).unwrap_or_default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            // runc quotes this in its own error; if nobody listens, there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "nerdctld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(args: &[OsString]) -> anyhow::Result<()> {
    let (settings, event) = HookSettings::parse(args).context("oci-hook")?;
    let state = read_state(std::io::stdin().lock())?;
    let container = Container::from_labels(&state.id, &state.annotations)?;
    let networks = networks(&settings)?;
    log_to(&networks, &container, event)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start tokio")?;
    runtime.block_on(async {
        match event {
            HookEvent::CreateRuntime => {
                let netns = state.annotations.get(keys::NETWORK_NAMESPACE).map(Path::new);
                networks.create_runtime(&container, state.pid, netns).await.map(drop)
            }
            HookEvent::PostStop => networks.post_stop(&container).await,
        }
    })?;
    Ok(())
}

/// Decodes the state; its annotations may be left to the bundle, where they are from.
fn read_state(input: impl Read) -> anyhow::Result<State> {
    let mut text = Vec::new();
    input
        .take(INPUT_LIMIT)
        .read_to_end(&mut text)
        .context("read the container's state from stdin")?;
    let mut state: State =
        serde_json::from_slice(&text).context("decode the container's state on stdin")?;
    if !state.annotations.contains_key(keys::NETWORKS) {
        let config = state.bundle.join("config.json");
        let text = fs::read(&config).with_context(|| format!("read {}", config.display()))?;
        let spec: Spec = serde_json::from_slice(&text)
            .with_context(|| format!("decode {}", config.display()))?;
        state.annotations = spec.annotations;
    }
    Ok(state)
}

fn networks(settings: &HookSettings) -> anyhow::Result<Networks> {
    let plugin_dirs = std::env::split_paths(&settings.cni_path).collect();
    let bridge_ip =
        settings.bridge_ip.as_deref().map(str::parse).transpose().context("--bridge-ip")?;
    let is_rootless = std::env::var_os("ROOTLESSKIT_STATE_DIR").is_some();
    let store = DataStore::locate(&settings.data_store);
    Ok(Networks::new(store, Cni::new(plugin_dirs), &settings.cni_netconf_path)
        .with_bridge_ip(bridge_ip)
        .with_rootless(is_rootless))
}

/// From here on, log into the container's state directory.
fn log_to(networks: &Networks, container: &Container, event: HookEvent) -> anyhow::Result<()> {
    let state = networks.store().state_dir(&container.namespace, &container.id);
    state.create()?;
    let path = state.hook_log_path(event.as_str());
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_writer(Mutex::new(file))
        .with_ansi(false)
        .with_target(false)
        .init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_come_with_the_state() {
        let state = r#"{"ociVersion":"1.0.2","id":"abc","status":"created","pid":42,"bundle":"/nowhere",
            "annotations":{"nerdctl/networks":"[]"}}"#;
        let state = read_state(state.as_bytes()).unwrap();
        assert_eq!((state.id.as_str(), state.pid), ("abc", 42));
        assert_eq!(state.annotations["nerdctl/networks"], "[]");
    }

    #[test]
    fn annotations_come_from_the_bundle_otherwise() {
        let bundle = tempfile::tempdir().unwrap();
        fs::write(
            bundle.path().join("config.json"),
            r#"{"annotations":{"nerdctl/networks":"[\"bridge\"]"}}"#,
        )
        .unwrap();
        let state = format!(r#"{{"id":"abc","bundle":"{}"}}"#, bundle.path().display());
        let state = read_state(state.as_bytes()).unwrap();
        assert_eq!(state.pid, 0);
        assert_eq!(state.annotations["nerdctl/networks"], r#"["bridge"]"#);
    }

    #[test]
    fn what_is_wrong_with_the_state_is_said() {
        let error = read_state(&b"{"[..]).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("decode the container's state on stdin"),
            "{error:#}"
        );
        let error = read_state(&br#"{"id":"abc","bundle":"/nowhere"}"#[..]).unwrap_err();
        assert!(format!("{error:#}").starts_with("read /nowhere/config.json"), "{error:#}");
    }
}
