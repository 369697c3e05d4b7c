//! Who of the neighbours answers: what a probe of the daemon wants to know before it sends work.
//!
//! Everybody is asked at once and nobody for longer than [`PATIENCE`], so the answer takes no longer than that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::buildkit;
use crate::{Engine, inventory::Reach};

/// How long one neighbour is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What containers on networks need; they come in one package (nerdctl `pkg/netutil`).
const PLUGINS: [&str; 5] = ["bridge", "firewall", "host-local", "portmap", "tuning"];

/// One thing that the daemon depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub name: &'static str,
    /// Without it nothing works; the others are needed by some operations only.
    pub needed: bool,
    /// What it is or where, for people.
    pub detail: String,
    /// Why it cannot be used, if it cannot.
    pub trouble: Option<String>,
}

/// What is wrong with the plugins, and with the helper.
type Troubles = (Option<String>, Option<String>);

/// The look at files that is under way. There is one at a time, because it keeps its thread for as long as the disk does not
/// answer.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<Option<JoinHandle<Troubles>>>);

impl Files {
    /// What a look finds; whoever comes while one is under way waits for that one. `None` if it panicked.
    async fn look(&self, look: impl FnOnce() -> Troubles + Send + 'static) -> Option<Troubles> {
        let mut running = self.0.lock().await;
        // Nobody has waited for its end: it is old.
        if running.as_ref().is_some_and(JoinHandle::is_finished) {
            *running = None;
        }
        let found = running.get_or_insert_with(|| tokio::task::spawn_blocking(look)).await;
        *running = None;
        found.ok()
    }
}

impl Engine {
    /// All neighbours, the needed ones first.
    pub async fn neighbours(&self) -> Vec<Neighbour> {
        let settings = self.settings();
        let (plugins, helper) = (settings.cni_path.clone(), settings.helper.clone());
        let look = move || (cni(&plugins), executable(&helper));
        let (containerd, containers, files, buildkitd) = tokio::join!(
            self.ask_containerd(),
            self.containers_are_known(),
            within(self.system_cache().files().look(look)),
            self.ask_buildkitd(),
        );
        let (plugins, helper) = match files {
            Some(Some(found)) => found,
            _ => (
                Some("the disk does not answer".to_owned()),
                Some("the disk does not answer".to_owned()),
            ),
        };
        let neighbour =
            |name, needed, detail: String, trouble| Neighbour { name, needed, detail, trouble };
        vec![
            neighbour("containerd", true, settings.containerd_address.clone(), containerd),
            neighbour("containers", true, format!("namespace {}", settings.namespace), containers),
            neighbour("helper", true, settings.helper.display().to_string(), helper),
            neighbour("cni-plugins", true, settings.cni_path.display().to_string(), plugins),
            buildkitd,
        ]
    }

    async fn ask_containerd(&self) -> Option<String> {
        match within(self.containerd().version()).await {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(error.to_string()),
            None => Some(silent()),
        }
    }

    async fn containers_are_known(&self) -> Option<String> {
        if within(self.beat()).await != Some(true) {
            return Some(silent());
        }
        let now = self.inventory().now();
        match &now.reach {
            Reach::Connected if now.loaded => None,
            Reach::Lost(why) => Some(why.to_string()),
            _ => Some("containerd's containers are not read yet".to_owned()),
        }
    }

    pub(super) async fn ask_buildkitd(&self) -> Neighbour {
        let candidates = self.buildkit_sockets();
        let shown = |path: &Path| format!("unix://{}", path.display());
        let detail = candidates.first().map(|path| shown(path)).unwrap_or_default();
        let mut neighbour = Neighbour { name: "buildkitd", needed: false, detail, trouble: None };
        for path in &candidates {
            if let Some(Ok(_)) = within(UnixStream::connect(path)).await {
                neighbour.detail = shown(path);
                return neighbour;
            }
        }
        neighbour.trouble = Some("does not run; only builds need it".to_owned());
        neighbour
    }

    /// Where buildkitd may listen, in the order of asking.
    pub(crate) fn buildkit_sockets(&self) -> Vec<PathBuf> {
        let settings = self.settings();
        let run = settings.run_dir.parent().unwrap_or(Path::new("/run"));
        buildkit::sockets(settings.buildkit_host.as_deref(), run, settings.namespace.as_str())
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, work).await.ok()
}

fn silent() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

fn cni(folder: &Path) -> Option<String> {
    let missing: Vec<_> =
        PLUGINS.into_iter().filter(|plugin| executable(&folder.join(plugin)).is_some()).collect();
    (!missing.is_empty()).then(|| format!("missing: {}", missing.join(", ")))
}

fn executable(path: &Path) -> Option<String> {
    access(path, Access::EXEC_OK).err().map(|error| std::io::Error::from(error).to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_keeps_one_thread() {
        let files = Files::default();
        let (answer, disk) = std::sync::mpsc::channel::<()>();
        let slow = move || {
            let _ = disk.recv();
            (Some("old".to_owned()), None)
        };
        let soon = Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, files.look(slow)).await.is_err());
        let unused = || panic!("a second look was begun");
        assert!(tokio::time::timeout(soon, files.look(unused)).await.is_err());
        drop(answer);
        while !files.0.lock().await.as_ref().is_some_and(JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        assert_eq!(files.look(|| (None, None)).await, Some((None, None)));
    }

    #[test]
    fn missing_plugins_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for plugin in PLUGINS {
            let path = folder.path().join(plugin);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(cni(folder.path()), None);
        fs::remove_file(folder.path().join("portmap")).unwrap();
        fs::remove_file(folder.path().join("bridge")).unwrap();
        assert_eq!(cni(folder.path()).as_deref(), Some("missing: bridge, portmap"));
    }
}
