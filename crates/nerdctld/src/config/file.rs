//! The keys of `nerdctl.toml` that concern the daemon (nerdctl `pkg/config/config.go`).

use serde::Deserialize;

/// What the file says. Keys that are not here are nerdctl's own business, or newer than we are.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub(super) debug: bool,
    pub(super) debug_full: bool,
    pub(super) address: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) snapshotter: Option<String>,
    pub(super) cni_path: Option<String>,
    pub(super) cni_netconfpath: Option<String>,
    pub(super) data_root: Option<String>,
    pub(super) cgroup_manager: Option<String>,
    pub(super) insecure_registry: bool,
    pub(super) hosts_dir: Option<Vec<String>>,
    pub(super) bridge_ip: Option<String>,
}

impl File {
    /// # Errors
    /// The parser's words, with the line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}
