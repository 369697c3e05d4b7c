//! Where everything lies: the data store of one containerd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use names::{ContainerId, Namespace};
use sha2::{Digest, Sha256};

use crate::hosts::HostsStore;
use crate::locks::LOCK_DEADLINE;
use crate::names::NameStore;
use crate::state_dir::StateDir;
use crate::volumes::VolumeStore;

/// The folder `<data root>/<hash8>` that nerdctl keeps for one containerd socket, and the way to everything in it.
///
/// Cheap to clone; holds paths only. Directories are made when something is first written into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataStore {
    data_root: PathBuf,
    path: PathBuf,
    hash8: String,
    lock_deadline: Duration,
}

impl DataStore {
    /// The store of the containerd at `containerd_address` (`unix://` in front is allowed).
    ///
    /// The folder is named after the socket's path with all symlinks resolved, as nerdctl does it
    /// (`pkg/clientutil/client.go`, `DataStore`). nerdctl gives up when the socket does not exist. We resolve what
    /// exists of the path, so that the daemon can start before containerd; the answer is the same unless the
    /// socket itself is to become a symlink.
    #[must_use]
    pub fn new(data_root: impl Into<PathBuf>, containerd_address: &str) -> Self {
        let socket = containerd_address.strip_prefix("unix://").unwrap_or(containerd_address);
        let resolved = resolve_existing(Path::new(socket));
        let hash8 = sha256_hex(resolved.as_os_str().as_encoded_bytes())[..8].to_owned();
        Self::in_root(data_root.into(), hash8)
    }

    /// The store at a path that somebody else has computed: hooks and loggers get `<data root>/<hash8>` by argument.
    ///
    /// A path without parent is its own data root; nothing is written to disk here.
    #[must_use]
    pub fn locate(path: &Path) -> Self {
        let hash8 =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let data_root = path.parent().unwrap_or(path).to_owned();
        Self { data_root, path: path.to_owned(), hash8, lock_deadline: LOCK_DEADLINE }
    }

    fn in_root(data_root: PathBuf, hash8: String) -> Self {
        Self { path: data_root.join(&hash8), data_root, hash8, lock_deadline: LOCK_DEADLINE }
    }

    /// The same store, waiting at most `deadline` for each of its locks instead of [`LOCK_DEADLINE`].
    #[must_use]
    pub fn with_lock_deadline(mut self, deadline: Duration) -> Self {
        self.lock_deadline = deadline;
        self
    }

    /// `<data root>/<hash8>`, the value nerdctl passes to its own hooks and loggers.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder above, shared by the stores of all containerds.
    #[must_use]
    pub fn data_root(&self) -> &Path {
        &self.data_root
    }

    /// The first eight hex digits of the socket path's SHA-256.
    #[must_use]
    pub fn hash8(&self) -> &str {
        &self.hash8
    }

    /// The state directory of a container: value of its label `nerdctl/state-dir`.
    #[must_use]
    pub fn container_dir(&self, namespace: &Namespace, id: &ContainerId) -> PathBuf {
        self.path.join("containers").join(namespace.as_str()).join(id.as_str())
    }

    /// The files in [`Self::container_dir`].
    #[must_use]
    pub fn state_dir(&self, namespace: &Namespace, id: &ContainerId) -> StateDir {
        StateDir::new(
            self.container_dir(namespace, id),
            id.as_str(),
            &self.data_root,
            self.lock_deadline,
        )
    }

    /// The ids of the containers that have a state directory. Presence proves nothing: a plain `nerdctl ps` makes an
    /// empty directory for every foreign container.
    ///
    /// # Errors
    /// If the directory exists and cannot be read.
    pub fn container_dirs(&self, namespace: &Namespace) -> crate::Result<Vec<String>> {
        crate::files::list_dir(&self.path.join("containers").join(namespace.as_str()))
    }

    /// Who owns which name.
    #[must_use]
    pub fn names(&self, namespace: &Namespace) -> NameStore {
        NameStore::new(self.path.join("names").join(namespace.as_str()), self.lock_deadline)
    }

    /// The hosts files of all containers of a namespace.
    #[must_use]
    pub fn hosts(&self, namespace: &Namespace) -> HostsStore {
        HostsStore::new(
            self.path.join("etchosts").join(namespace.as_str()),
            &self.data_root,
            self.lock_deadline,
        )
    }

    /// The volumes of a namespace.
    #[must_use]
    pub fn volumes(&self, namespace: &Namespace) -> VolumeStore {
        let below = |folder: &str| self.path.join(folder).join(namespace.as_str());
        VolumeStore::new(below("volumes"), below("removed-volumes"), self.lock_deadline)
    }
}

/// Lower-case hex of the SHA-256 of `bytes`.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Resolves the symlinks of the longest part of `path` that exists, and appends the rest unchanged.
fn resolve_existing(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        let Ok(resolved) = ancestor.canonicalize() else { continue };
        return match path.strip_prefix(ancestor) {
            Ok(rest) if !rest.as_os_str().is_empty() => resolved.join(rest),
            _ => resolved,
        };
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sockets_have_the_folders_nerdctl_gives_them() {
        for (socket, hash8) in [
            ("/run/containerd/containerd.sock", "1935db59"),
            ("/run/k3s/containerd/containerd.sock", "dbb19c5e"),
            ("/run/docker/containerd/containerd.sock", "55e780ce"),
            ("/run/user/1000/containerd/containerd.sock", "0fbd635d"),
        ] {
            assert_eq!(sha256_hex(socket.as_bytes())[..8], *hash8, "{socket}");
        }
    }

    #[test]
    fn a_scheme_in_front_changes_nothing() {
        let plain = DataStore::new("/d", "/nowhere/containerd.sock");
        assert_eq!(DataStore::new("/d", "unix:///nowhere/containerd.sock"), plain);
        assert_eq!(plain.path(), Path::new("/d").join(plain.hash8()));
    }

    #[test]
    fn symlinks_are_resolved_also_above_a_socket_that_does_not_exist_yet() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let through_link = dir.path().join("link/sub/containerd.sock");
        let direct = real.join("sub/containerd.sock");
        assert_eq!(
            DataStore::new("/d", through_link.to_str().unwrap()),
            DataStore::new("/d", direct.to_str().unwrap())
        );

        std::fs::write(real.join("target.sock"), "").unwrap();
        std::os::unix::fs::symlink(real.join("target.sock"), dir.path().join("socket")).unwrap();
        assert_eq!(resolve_existing(&dir.path().join("socket")), real.join("target.sock"));
    }

    #[test]
    fn a_located_store_is_the_computed_one() {
        let computed = DataStore::new("/var/lib/nerdctl", "/nowhere/containerd.sock");
        assert_eq!(DataStore::locate(computed.path()), computed);
    }
}
