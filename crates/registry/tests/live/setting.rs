//! Settings and short cuts of the tests.

use std::path::Path;
use std::time::Duration;

use names::ImageRef;
use registry::{Access, Config, Credentials, Patience, Registry, Repository, Secret};

/// Pauses that let a test with retries take no time.
pub(crate) fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(10),
        answer: Duration::from_secs(10),
        stall: Duration::from_secs(10),
        alone: Duration::from_secs(10),
        attempts: 3,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
    }
}

pub(crate) fn config() -> Config {
    Config { user_agent: "test/1".to_owned(), patience: patience(), ..Config::default() }
}

pub(crate) fn registry() -> Registry {
    Registry::new(config())
}

/// A client that reads `hosts.toml` below `root`.
pub(crate) fn with_hosts(root: &Path) -> Registry {
    Registry::new(Config { hosts_dirs: vec![root.to_owned()], ..config() })
}

/// Writes the `hosts.toml` of a registry.
pub(crate) fn write_hosts(root: &Path, registry: &str, text: &str) {
    let folder = root.join(registry);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
}

pub(crate) async fn anonymous(image: &ImageRef) -> Repository {
    registry().repository(image, Access::default()).await.unwrap()
}

pub(crate) async fn with_password(image: &ImageRef, username: &str, password: &str) -> Repository {
    registry()
        .repository(
            image,
            Access { credentials: Some(login(username, password)), ..Access::default() },
        )
        .await
        .unwrap()
}

pub(crate) fn login(username: &str, password: &str) -> Credentials {
    Credentials {
        username: username.to_owned(),
        password: Secret::new(password),
        ..Credentials::default()
    }
}

/// A whole blob.
pub(crate) async fn read(mut blob: registry::Blob) -> Result<Vec<u8>, registry::Error> {
    let mut whole = Vec::new();
    while let Some(chunk) = blob.chunk().await? {
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}
