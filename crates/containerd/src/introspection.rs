//! Which containerd this is, and what it can do.
//!
//! Ask plugins and capabilities instead of reading version numbers: distributions append suffixes
//! to those.

use containerd_client::services::v1::{Plugin as WirePlugin, PluginsRequest};

use crate::call::Call;
use crate::{Client, Labels, Result, wire};

/// Plugin type of snapshotters.
pub const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";

/// Version texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As `1.7.34` or `1.6.20~ds1`.
    pub version: String,
    /// Source revision.
    pub revision: String,
}

/// The running containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Made with containerd's root directory: another one means other containers.
    pub uuid: String,
    /// Process id; 0 before containerd 1.7.
    pub pid: u64,
    /// Inode of its pid namespace; 0 before containerd 1.7.
    pub pid_namespace: u64,
    /// What its configuration uses and a later version drops.
    pub deprecations: Vec<Deprecation>,
}

/// Something in use that a later containerd drops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecation {
    /// Short name.
    pub id: String,
    /// What to do.
    pub message: String,
}

/// A plugin of containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Type, as `io.containerd.snapshotter.v1`.
    pub kind: String,
    /// Name in its type, as `overlayfs`.
    pub id: String,
    /// Platforms it serves, as `linux/arm64/v8`.
    pub platforms: Vec<String>,
    /// Facts it publishes, as `root`.
    pub exports: Labels,
    /// What it can do, as `remap-ids`.
    pub capabilities: Vec<String>,
    /// Why it is not usable.
    pub init_error: Option<String>,
}

impl Plugin {
    /// Whether this is a snapshotter that can be used.
    #[must_use]
    pub fn is_usable_snapshotter(&self) -> bool {
        self.kind == SNAPSHOTTER && self.init_error.is_none()
    }

    /// Whether it can do that.
    #[must_use]
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }
}

impl Client {
    /// The version of containerd.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`].
    pub async fn version(&self) -> Result<Version> {
        let mut service = self.version_service();
        let call = Call::short("get version", "");
        let answer = self.unary(call, (), |request| service.version(request)).await?;
        Ok(Version { version: answer.version, revision: answer.revision })
    }

    /// The running containerd.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`].
    pub async fn server(&self) -> Result<Server> {
        let mut service = self.introspection_service();
        let call = Call::short("get server", "");
        let answer = self.unary(call, (), |request| service.server(request)).await?;
        let deprecations = answer.deprecations.into_iter();
        Ok(Server {
            uuid: answer.uuid,
            pid: answer.pid,
            pid_namespace: answer.pidns,
            deprecations: deprecations
                .map(|warning| Deprecation { id: warning.id, message: warning.message })
                .collect(),
        })
    }

    /// All plugins that match one of the filters (all without filters). Fields: `type`, `id`,
    /// `platforms`, `capabilities`.
    ///
    /// # Errors
    /// [`crate::Kind::InvalidArgument`] for a filter that is none.
    pub async fn plugins(&self, filters: &[&str]) -> Result<Vec<Plugin>> {
        let mut service = self.introspection_service();
        let call = Call::list("list plugins", "");
        let request = PluginsRequest { filters: wire::filters(filters) };
        let answer = self.unary(call, request, |request| service.plugins(request)).await?;
        Ok(answer.plugins.into_iter().map(Into::into).collect())
    }
}

impl From<WirePlugin> for Plugin {
    fn from(plugin: WirePlugin) -> Self {
        let platforms = plugin.platforms.into_iter().map(|platform| {
            let parts = [platform.os, platform.architecture, platform.variant];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
        });
        Self {
            kind: plugin.r#type,
            id: plugin.id,
            platforms: platforms.collect(),
            exports: wire::sorted(plugin.exports),
            capabilities: plugin.capabilities,
            init_error: plugin.init_err.map(|status| status.message),
        }
    }
}
