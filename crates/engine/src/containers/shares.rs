//! Namespaces that containers share: joined at every start, because the other container's process is another by then.
//!
//! A spec that joins names its namespaces by the process that has them. So what is stored is rewritten before the task
//! is made, as `nerdctl start` does with the same labels (`pkg/containerutil`, `pkg/ipcutil`). Shared memory that others
//! may join is a tmpfs below the state directory: mounted at start, fresh as in Docker, and unmounted when the container
//! is removed. `nerdctl stop` and `rm` unmount it too, and fail without it, so it stays while the container is stopped.

use std::path::{Path, PathBuf};

use containerd::Any;
use containerd::containers::ContainerPatch;
use nerdctl_store::labels::ContainerLabels;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

use super::spec::confinement::SHM_SIZE;
use super::{Container, Phase};
use crate::oci::rewrite;
use crate::waiting::try_blocking;
use crate::{Engine, Error, Result};

/// What a container shares with others, or joins of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Whose processes it sees: an id.
    pub pid_of: Option<String>,
    /// Shared memory, semaphores and queues.
    pub ipc: IpcShare,
}

/// What of System V's and POSIX's shared memory is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IpcShare {
    /// Nothing.
    #[default]
    Own,
    /// The host's.
    Host,
    /// Its own is for others too: of so many bytes.
    Shareable(u64),
    /// That of another container: an id.
    Of(String),
}

impl Shares {
    /// As nerdctl's labels say.
    #[must_use]
    pub(crate) fn of(labels: &ContainerLabels) -> Self {
        let ipc = labels.ipc.clone().unwrap_or_default();
        let bytes =
            || names::ByteSize::parse_binary(&ipc.shm_size).ok().map(names::ByteSize::bytes);
        let ipc = match ipc.mode.as_str() {
            "host" => IpcShare::Host,
            "shareable" => IpcShare::Shareable(bytes().unwrap_or(SHM_SIZE)),
            "container" => IpcShare::Of(ipc.victim_container_id.clone().unwrap_or_default()),
            _ => IpcShare::Own,
        };
        Self { pid_of: labels.pid_container.clone(), ipc }
    }
}

/// Where the shared memory of the container with this state directory is, in nerdctl's place.
pub(super) fn shm_path(state_dir: &Path) -> PathBuf {
    state_dir.join("shm")
}

impl Engine {
    /// Make ready what the container shares, before its task is made.
    ///
    /// # Errors
    /// [`Error::JoinFailed`] if another container is not there, not running or does not share; containerd's.
    pub(super) async fn prepare_shares(&self, container: &Container) -> Result<()> {
        if container.shares == Shares::default() {
            return Ok(());
        }
        let id = container.id.as_str();
        let doing = || format!("join namespaces for container {id}");
        let record = self
            .containerd()
            .get_container(id)
            .await
            .map_err(|error| self.containerd_error(doing(), error))?;
        let stored = record.spec.map(|spec| spec.value).unwrap_or_default();
        let mut spec: Value =
            serde_json::from_slice(&stored).map_err(|error| Error::failed(doing(), error))?;
        let before = spec.clone();
        self.join(container, &mut spec).await?;
        if spec == before {
            return Ok(());
        }
        let spec = serde_json::to_vec(&spec).map_err(|error| Error::failed(doing(), error))?;
        let patch = ContainerPatch { spec: Some(Any::oci_spec(spec)), ..ContainerPatch::default() };
        let updated = self.containerd().update_container(id, patch).await;
        updated.map(drop).map_err(|error| self.containerd_error(doing(), error))
    }

    /// Only what the spec itself says to be joined: labels of others' containers may come from an image.
    async fn join(&self, container: &Container, spec: &mut Value) -> Result<()> {
        if let Some(donor) = &container.shares.pid_of
            && rewrite::namespace_path(spec, "pid").is_some()
        {
            let donor = self.donor("PID", donor)?;
            rewrite::join_namespace(spec, "pid", &donor.namespace("pid"));
        }
        match &container.shares.ipc {
            IpcShare::Of(donor) if rewrite::namespace_path(spec, "ipc").is_some() => {
                let donor = self.donor("IPC", donor)?;
                let shm = donor.shared_memory()?;
                rewrite::join_namespace(spec, "ipc", &donor.namespace("ipc"));
                rewrite::set_mount_source(spec, "/dev/shm", &shm);
            }
            IpcShare::Shareable(bytes) => {
                let Some(state_dir) = &container.state_dir else { return Ok(()) };
                let path = shm_path(state_dir);
                if rewrite::mount_source(spec, "/dev/shm") == path.to_str() {
                    let bytes = *bytes;
                    let doing = format!("mount {}", path.display());
                    let mount = move || mount_shm(&path, bytes).map_err(std::io::Error::from);
                    try_blocking(doing, mount).await?;
                }
            }
            IpcShare::Of(_) | IpcShare::Own | IpcShare::Host => {}
        }
        Ok(())
    }

    /// The other container, which must run (moby `daemon/container_operations_unix.go`).
    fn donor(&self, namespace: &'static str, id: &str) -> Result<Donor> {
        let failed = |source| Error::JoinFailed { namespace, source: Box::new(source) };
        let snapshot = self.inventory().now();
        let container = snapshot.resolve(id).map_err(failed)?.container.clone();
        match container.state.phase {
            Phase::Running | Phase::Paused if container.state.pid != 0 => Ok(Donor(container)),
            Phase::Restarting => Err(failed(Error::IsRestarting(id.to_owned()))),
            _ => Err(failed(Error::NotRunning(id.to_owned()))),
        }
    }

    /// Take the shared memory of a container away that is being removed. Whether there is any is not asked: a label
    /// may have been lost.
    pub(super) async fn remove_shm(&self, container: &Container) -> Result<()> {
        let Some(state_dir) = &container.state_dir else { return Ok(()) };
        let path = shm_path(state_dir);
        if !path.exists() {
            return Ok(());
        }
        let doing = format!("unmount {}", path.display());
        try_blocking(doing, move || unmount_shm(&path).map_err(std::io::Error::from)).await
    }
}

/// A running container whose namespaces are joined.
struct Donor(std::sync::Arc<Container>);

impl Donor {
    fn namespace(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.state.pid)
    }

    fn shared_memory(&self) -> Result<String> {
        let of_state = || self.0.state_dir.as_deref().map(shm_path);
        match (&self.0.shares.ipc, of_state()) {
            (IpcShare::Host, _) => Ok("/dev/shm".to_owned()),
            (IpcShare::Shareable(_), Some(path)) => Ok(path.display().to_string()),
            _ => Err(Error::JoinFailed {
                namespace: "IPC",
                source: Box::new(Error::NotShareable(self.0.id.to_string())),
            }),
        }
    }
}

/// A fresh tmpfs; what an earlier run left goes.
fn mount_shm(path: &Path, bytes: u64) -> rustix::io::Result<()> {
    match rustix::fs::mkdir(path, rustix::fs::Mode::RWXU) {
        Err(error) if error != Errno::EXIST => return Err(error),
        _ => unmount_shm(path)?,
    }
    let flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    let options =
        std::ffi::CString::new(format!("mode=1777,size={bytes}")).map_err(|_| Errno::INVAL)?;
    mount("shm", path, "tmpfs", flags, options.as_c_str())
}

fn unmount_shm(path: &Path) -> rustix::io::Result<()> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // It is none.
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        outcome => outcome,
    }
}
