//! CNI: conflists, plugin runs, results, leases.
//!
//! A *conflist* ([`Conflist`]) names a network and the plugins that make it. Attaching a container runs every plugin
//! with `ADD`, first to last, each getting the result of the one before; detaching runs them with `DEL`, last to
//! first. [`Cni`] does that for one container interface at a time, with libcni's result cache, so that nerdctl can
//! detach what we attached and the reverse.
//!
//! What a container is, which networks it has and which locks protect all of this is not known here.
//!
//! Sources: containernetworking/cni `SPEC.md`, `libcni/{api,conf}.go`, `pkg/invoke`, `pkg/types`.

mod cache;
pub mod conflist;
mod default_bridge;
mod error;
pub mod leases;
mod plugin;
pub mod result;
mod version;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

pub use cache::CachedAttachment;
pub use conflist::{Conflist, Conflists};
pub use default_bridge::{DEFAULT_BRIDGE, DEFAULT_BRIDGE_SUBNET, default_bridge, network_id};
pub use error::{CniError, Result};
pub use result::{Cidr, CniResult};

use conflist::Plugin;
use plugin::{Command, Invocation};
use version::Version;

/// Where libcni, and thus nerdctl, keeps its cache.
pub const DEFAULT_CACHE_DIR: &str = "/var/lib/cni";

/// How long one plugin may run. Debian's take 50–100 ms each; the longest waits are for the lock of iptables.
pub const PLUGIN_DEADLINE: Duration = Duration::from_secs(60);

/// One interface of one container: what libcni calls a `RuntimeConf`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attachment {
    /// Id under which plugins remember the container. nerdctl's form is `<namespace>-<id>`.
    pub container_id: String,
    /// Path of the network namespace; `None` if it is gone, for `DEL` only.
    pub netns: Option<PathBuf>,
    /// Name of the interface in the container, `eth0`.
    pub if_name: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// Arguments for plugins that declare the capability of that name: `portMappings`, `ips`.
    pub capability_args: Map<String, Value>,
}

/// Runs plugins.
#[derive(Debug, Clone)]
pub struct Cni {
    plugin_dirs: Vec<PathBuf>,
    cache_dir: PathBuf,
    deadline: Duration,
}

impl Cni {
    /// Plugins are looked for in these directories, in order.
    #[must_use]
    pub fn new(plugin_dirs: Vec<PathBuf>) -> Self {
        Self { plugin_dirs, cache_dir: DEFAULT_CACHE_DIR.into(), deadline: PLUGIN_DEADLINE }
    }

    /// The same with another cache than [`DEFAULT_CACHE_DIR`]; nerdctl will not see it.
    #[must_use]
    pub fn with_cache_dir(mut self, cache_dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = cache_dir.into();
        self
    }

    /// The same with another limit than [`PLUGIN_DEADLINE`] for each plugin.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Where libcni's cache and, by default, host-local's leases are.
    #[must_use]
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// Attaches a container to a network and remembers it in the cache.
    ///
    /// Nothing is taken back on failure: call [`Self::del`], as the specification wants it.
    ///
    /// # Errors
    /// The first plugin that fails ends it; see [`CniError`].
    pub async fn add(&self, list: &Conflist, attachment: &Attachment) -> Result<CniResult> {
        let mut previous = None;
        for plugin in &list.plugins {
            let request = self.request(list, plugin, previous.as_ref(), attachment);
            let output = self.invoke(Command::Add, plugin, attachment, &request).await?;
            previous = Some(self.decode_result(plugin, &output)?);
        }
        let Some(last) = previous else {
            return Err(CniError::NoPlugins { network: list.name.clone() });
        };
        let result = CniResult::from_value(&last)
            .map_err(|source| CniError::BadResult { plugin: list.name.clone(), source })?;
        cache::store(&self.cache_dir, list, attachment, last).await?;
        Ok(result)
    }

    /// Checks that an attachment is still as it was made. Does nothing where the network does not support it.
    ///
    /// # Errors
    /// The first plugin that complains.
    pub async fn check(&self, list: &Conflist, attachment: &Attachment) -> Result<()> {
        if list.disable_check || list.cni_version < Version::WITH_PREVIOUS_RESULT {
            return Ok(());
        }
        let previous = self.cached_result(list, attachment).await;
        for plugin in &list.plugins {
            let request = self.request(list, plugin, previous.as_ref(), attachment);
            self.invoke(Command::Check, plugin, attachment, &request).await?;
        }
        Ok(())
    }

    /// Detaches a container and forgets it. What is gone already is no error, as plugins see it.
    ///
    /// # Errors
    /// The first plugin that fails ends it; the cache then still has the attachment.
    pub async fn del(&self, list: &Conflist, attachment: &Attachment) -> Result<()> {
        let previous = if list.cni_version < Version::WITH_PREVIOUS_RESULT {
            None
        } else {
            self.cached_result(list, attachment).await
        };
        for plugin in list.plugins.iter().rev() {
            let request = self.request(list, plugin, previous.as_ref(), attachment);
            self.invoke(Command::Del, plugin, attachment, &request).await?;
        }
        cache::forget(&self.cache_dir, &list.name, attachment).await
    }

    /// What the cache has about a container: one entry for each of its interfaces, sorted by interface.
    /// Entries that cannot be read are left out.
    ///
    /// # Errors
    /// If the cache exists and cannot be listed.
    pub async fn attachments(&self, container_id: &str) -> Result<Vec<CachedAttachment>> {
        cache::of_container(&self.cache_dir, container_id).await
    }

    /// host-local's leases in a network, wherever its conflist keeps them.
    ///
    /// # Errors
    /// If the lease directory exists and cannot be read.
    pub fn leases(&self, list: &Conflist) -> Result<Vec<leases::Lease>> {
        leases::read(&self.lease_dir(list))
    }

    /// Where host-local keeps the leases of a network.
    #[must_use]
    pub fn lease_dir(&self, list: &Conflist) -> PathBuf {
        list.ipam_data_dir()
            .unwrap_or_else(|| Path::new(leases::DEFAULT_DATA_DIR).to_owned())
            .join(&list.name)
    }

    async fn cached_result(&self, list: &Conflist, attachment: &Attachment) -> Option<Value> {
        let cached = cache::load(&self.cache_dir, &list.name, attachment).await?;
        cached.result
    }

    /// What a plugin reads: its part of the conflist, with what the runtime adds.
    fn request(
        &self,
        list: &Conflist,
        plugin: &Plugin,
        previous: Option<&Value>,
        attachment: &Attachment,
    ) -> Value {
        let mut request = plugin.config.clone();
        request.insert("name".into(), list.name.clone().into());
        request.insert("cniVersion".into(), list.cni_version.to_string().into());
        if let Some(previous) = previous {
            request.insert("prevResult".into(), previous.clone());
        }
        let arguments: Map<String, Value> = attachment
            .capability_args
            .iter()
            .filter(|(capability, _)| plugin.has_capability(capability))
            .map(|(capability, argument)| (capability.clone(), argument.clone()))
            .collect();
        if !arguments.is_empty() {
            request.insert("runtimeConfig".into(), arguments.into());
        }
        request.into()
    }

    async fn invoke(
        &self,
        command: Command,
        plugin: &Plugin,
        attachment: &Attachment,
        request: &Value,
    ) -> Result<Vec<u8>> {
        let program = self.find(&plugin.kind)?;
        let invocation = Invocation {
            plugin: &plugin.kind,
            program: &program,
            command,
            attachment,
            search_path: self.search_path(),
            deadline: self.deadline,
        };
        invocation.run(&request.to_string()).await
    }

    fn find(&self, plugin: &str) -> Result<PathBuf> {
        let missing = || CniError::NoSuchPlugin {
            plugin: plugin.to_owned(),
            searched: self.plugin_dirs.clone(),
        };
        if plugin.is_empty() || plugin.contains('/') {
            return Err(missing());
        }
        self.plugin_dirs
            .iter()
            .map(|dir| dir.join(plugin))
            .find(|path| path.is_file())
            .ok_or_else(missing)
    }

    fn search_path(&self) -> OsString {
        // A directory with a colon in its name cannot be told to plugins.
        std::env::join_paths(&self.plugin_dirs).unwrap_or_default()
    }

    fn decode_result(&self, plugin: &Plugin, output: &[u8]) -> Result<Value> {
        serde_json::from_slice(output)
            .map_err(|source| CniError::BadResult { plugin: plugin.kind.clone(), source })
    }
}
