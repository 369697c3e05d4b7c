//! Registries over HTTPS: `hosts.toml`, tokens, manifests, blobs.
//!
//! A client of the OCI distribution protocol, and of the token servers that stand beside registries. It knows how
//! containerd is told about registries (`certs.d/<host>/hosts.toml`, which Docker's certificate folders also fit into) and
//! nothing of containerd itself, of Docker's JSON or of what an image means: it resolves references, verifies manifests and
//! streams blobs both ways.
//!
//! # How it is put together
//!
//! ```text
//! Registry            the settings; cheap to clone; owns no connection, no token, no password
//!   └─ Repository     one image name for one operation: its hosts (mirrors first), tokens and idle connections
//!        ├─ resolve, manifest, tags
//!        ├─ Blob      a download that resumes by itself after a cut
//!        └─ deliver, put_manifest
//!                     uploads, which go on where the registry says it stands
//! ```
//!
//! Everything secret and everything open lives in a [`Repository`] and goes away with it, so a pull that ends, or whose
//! client left, leaves no credential in memory and no socket behind. No task is spawned: connections are driven by whoever
//! waits for their answer, so dropping a future closes its connection.
//!
//! # Bounds
//!
//! Manifests, error bodies and token answers are limited in size, blobs by the size in their descriptor; connecting, waiting
//! for an answer and every pause within an answer are limited in time ([`Patience`]); redirects and retries in number.

mod auth;
mod blob;
mod credentials;
mod download;
mod endpoint;
mod error;
mod hosts;
mod http;
mod login;
mod manifest;
mod pace;
mod proxy;
mod repository;
mod search;
mod tls;
mod upload;
mod url;

pub use blob::Blob;
pub use credentials::{Credentials, Secret};
pub use download::Download;
pub use error::{Answer, Cause, Error, Interruption};
pub use http::payload::{BlobSource, BlobStream};
pub use login::Login;
pub use manifest::{Descriptor, MAX_MANIFEST_BYTES, Manifest};
pub use proxy::Proxies;
pub use repository::{Access, Purpose, Repository};
pub use search::SearchResult;
pub use tls::TlsFailure;
pub use upload::{Delivery, Parcel};
pub use url::without_secrets;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// How registries are found and spoken to. The same for every image.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Folders that hold `<host>/hosts.toml` (`/etc/containerd/certs.d`, `/etc/docker/certs.d`); the first one that has a
    /// folder for the host wins.
    pub hosts_dirs: Vec<PathBuf>,
    /// The `User-Agent` of every request.
    pub user_agent: String,
    /// Registries (`host`, `host:port`, an address block such as `10.0.0.0/8`, or `*`) whose certificate is not verified and which
    /// may answer in plain HTTP, as dockerd's `insecure-registries`. Registries on this machine are treated so in any case.
    pub insecure: Vec<String>,
    /// Addresses (`https://mirror.example`) that are asked for Docker Hub's images before Docker Hub, as dockerd's
    /// `registry-mirrors`. Nothing is pushed to them.
    pub mirrors: Vec<String>,
    /// Proxies on the way out.
    pub proxies: Proxies,
    /// How long to wait and how often to try again.
    pub patience: Patience,
}

/// How long this crate waits for a registry, and how often it tries again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a TCP connection, and again for its TLS handshake.
    pub connect: Duration,
    /// For the head of an answer once the request was sent.
    pub answer: Duration,
    /// For the next bytes of an answer's body.
    pub stall: Duration,
    /// Waiting for a large blob after which more connections are tried if it comes slowly.
    pub alone: Duration,
    /// Attempts in all for one request that fails in a way that may pass: 408, 429, 5xx, a cut connection. At least one.
    pub attempts: u32,
    /// The pause after the first failed attempt; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause; a registry that asks for more (`Retry-After`) is not asked again.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            alone: Duration::from_secs(1),
            attempts: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// The way to all registries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    config: Arc<Config>,
    /// For parts of blobs in memory.
    places: Arc<Semaphore>,
}

impl Registry {
    /// A client with these settings. Nothing is read or opened before the first operation, so a changed `hosts.toml` or
    /// certificate store is seen by the next one.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let places = Arc::new(Semaphore::new(blob::ahead::PLACES));
        Self { config: Arc::new(config), places }
    }
}
