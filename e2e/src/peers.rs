//! Where the programs are that tests put beside the daemon: Debian's, and those that `scripts/setup.sh` built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One line a peer: folder, version, and more that only the build needs.
const LIST: &str = include_str!("../../scripts/peers/peers.list");

/// The folder with the programs of a peer (`containerd-2`, `runc`, …), if set-up has built it.
///
/// # Errors
/// A sentence that names what is missing, fit as the reason of a skipped test.
pub fn bin(peer: &str) -> Result<PathBuf> {
    let version = LIST
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(peer)).then(|| words.next().unwrap_or_default())
        })
        .with_context(|| format!("peers.list does not know {peer}"))?;
    existing(cache().join(format!("{peer}-{version}")).join("bin"))
        .with_context(|| format!("peer {peer} {version} is not built (make setup)"))
}

/// The folder with Debian's docker 20.10, CLI and dockerd, unpacked by set-up.
///
/// # Errors
/// As [`bin`].
pub fn debian_docker() -> Result<PathBuf> {
    existing(cache().join("docker-debian/bin"))
        .context("Debian's docker is not unpacked (make setup)")
}

/// The program `name` of a peer.
///
/// # Errors
/// As [`bin`].
pub fn program(peer: &str, name: &str) -> Result<PathBuf> {
    Ok(bin(peer)?.join(name))
}

/// A program that is built together with this one (`nerdctld`, `e2e-rig`): in the same `target/<profile>` folder.
///
/// # Errors
/// Where it was looked for.
pub fn built(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe().context("path of this program")?;
    let mut folder = me.parent().context("folder of this program")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("target folder")?;
    }
    existing(folder.join(name)).with_context(|| format!("cargo build -p {name} first"))
}

/// The top folder of the checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NERDCTLD_PEERS").unwrap_or_else(|| {
        set("XDG_CACHE_HOME")
            .unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache"))
            .join("nerdctld-peers")
    })
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    std::fs::metadata(&path).with_context(|| format!("{}", path.display()))?;
    Ok(path)
}
