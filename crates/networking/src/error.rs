//! The ways in which attaching and detaching can fail.

use std::io;
use std::path::PathBuf;

use cni::CniError;
use nerdctl_store::StoreError;

use crate::ports::PortError;

/// Result of everything here.
pub type Result<T> = std::result::Result<T, NetworkingError>;

/// A failed operation on a container's networks.
#[derive(Debug, thiserror::Error)]
pub enum NetworkingError {
    /// nerdctl's files could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// A network could not be attached to, detached from or read.
    #[error(transparent)]
    Cni(#[from] CniError),

    /// A port cannot be published, in Docker's words (moby `daemon/libnetwork/drivers/bridge/bridge_linux.go`).
    #[error("driver failed programming external connectivity on endpoint {endpoint} ({id})")]
    Ports {
        /// The container's name.
        endpoint: String,
        /// Its id.
        id: String,
        /// Why.
        source: PortError,
    },

    /// The container asks for a network that is not configured.
    #[error("network {name} not found")]
    NoSuchNetwork {
        /// What the networks label says.
        name: String,
    },

    /// Networks of different kinds cannot be combined (nerdctl `pkg/netutil/nettype`).
    #[error("mixed network types: {first:?} and {second:?}")]
    MixedNetworks {
        /// One of them.
        first: String,
        /// One of another kind.
        second: String,
    },

    /// An annotation or label that says how to attach the container is missing.
    #[error("the container has no {key:?}")]
    Missing {
        /// Its key.
        key: &'static str,
    },

    /// An annotation or label that says how to attach the container cannot be decoded.
    #[error("the container's {key:?} cannot be read")]
    BadJson {
        /// Its key.
        key: &'static str,
        /// Where decoding stopped.
        source: serde_json::Error,
    },

    /// An annotation or label holds something that cannot be a name.
    #[error("the container's {key:?} is {value:?}, which is not allowed")]
    BadName {
        /// Its key.
        key: &'static str,
        /// What it holds.
        value: String,
    },

    /// There is no network namespace to attach to.
    #[error("the container's network namespace {} is not there", path.display())]
    NoNamespace {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Something outside of the store could not be read or changed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file or program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// `iptables-save` or `iptables-restore` failed.
    #[error("{program} failed: {said}")]
    Iptables {
        /// Which of them.
        program: &'static str,
        /// What it said.
        said: String,
    },

    /// A path that hooks need is not UTF-8, so it cannot stand in an OCI spec.
    #[error("{} cannot be written into an OCI spec: it is not UTF-8", path.display())]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },

    /// The runtime is shutting down.
    #[error("interrupted by shutdown")]
    Interrupted,
}
