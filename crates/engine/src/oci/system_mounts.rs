//! The kernel's own file systems in a container, as its namespaces and rights have them.
//!
//! Works on the finished list of mounts, and changes those only that are the defaults: what the user mounts over one of
//! them stays as it is (moby `daemon/oci_linux.go`, `withMounts`; nerdctl `pkg/ipcutil`).

use std::path::Path;

use oci_spec::runtime::{Mount, MountBuilder};

use super::{Built, SpecInput};
use crate::containers::spec::confinement::{Confinement, IpcMode, PidMode};

/// Where an init is in the container (moby `daemon/oci_linux.go`, `inContainerInitPath`).
pub(super) const INIT: &str = "/sbin/docker-init";

/// Options of shared memory that is another's.
const SHARED: [&str; 4] = ["rbind", "nosuid", "noexec", "nodev"];

/// What a joined container's shared memory is called until the start, which names it. See
/// [`super::namespaces`].
const NOT_JOINED_YET: &str = "/proc/0/shm";

/// The mounts, adapted.
pub(super) fn adapt(mounts: Vec<Mount>, input: &SpecInput<'_>) -> Built<Vec<Mount>> {
    let asked = &input.container.confinement;
    let mut adapted = Vec::with_capacity(mounts.len() + 1);
    for mount in mounts {
        adapted.extend(one(mount, input)?);
    }
    if let Some(init) = init(asked, input)? {
        adapted.push(init);
    }
    Ok(adapted)
}

/// One of the defaults as it has to be; `None` if it has to go.
fn one(mut mount: Mount, input: &SpecInput<'_>) -> Built<Option<Mount>> {
    let asked = &input.container.confinement;
    let kind = mount.typ().clone().unwrap_or_default();
    let destination = mount.destination().to_string_lossy().into_owned();
    match (kind.as_str(), destination.as_str()) {
        ("tmpfs", "/dev/shm") if is_default_shm(&mount) => return shm(mount, input),
        // Without privileges there it cannot be mounted anew.
        ("mqueue", "/dev/mqueue")
            if asked.namespaces.ipc == IpcMode::Host && input.host.rootless =>
        {
            return shared(Path::new("/dev/mqueue"), "/dev/mqueue").map(Some);
        }
        ("sysfs", "/sys") if asked.security.privileged => writable(&mut mount),
        ("cgroup", _) if writable_cgroups(asked) => writable(&mut mount),
        // A user namespace may not mount the processes of another.
        ("proc", "/proc") if input.host.rootless && asked.namespaces.pid == PidMode::Host => {
            mount.set_typ(Some("bind".to_owned())).set_source(Some("/proc".into()));
            let options = ["rbind", "nosuid", "noexec", "nodev"].map(str::to_owned);
            mount.set_options(Some(options.to_vec()));
        }
        _ => {}
    }
    Ok(Some(mount))
}

fn is_default_shm(mount: &Mount) -> bool {
    mount.source().as_deref() == Some(Path::new("shm"))
}

/// Shared memory: none, its own with its size, or another's.
fn shm(mut mount: Mount, input: &SpecInput<'_>) -> Built<Option<Mount>> {
    let asked = &input.container.confinement;
    match &asked.namespaces.ipc {
        IpcMode::None => Ok(None),
        IpcMode::Host => shared(Path::new("/dev/shm"), "/dev/shm").map(Some),
        IpcMode::Container(_) => shared(Path::new(NOT_JOINED_YET), "/dev/shm").map(Some),
        IpcMode::Shareable => shared(input.shm_path, "/dev/shm").map(Some),
        IpcMode::Private => {
            let options = mount.options_mut().get_or_insert_default();
            options.retain(|option| !option.starts_with("size="));
            options.push(size(asked.shm_bytes()));
            Ok(Some(mount))
        }
    }
}

/// In kibibytes where it can be, as in nerdctl's specs.
fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1024) {
        format!("size={}k", bytes / 1024)
    } else {
        format!("size={bytes}")
    }
}

fn shared(source: &Path, destination: &str) -> Built<Mount> {
    let options: Vec<String> = SHARED.map(str::to_owned).to_vec();
    MountBuilder::default()
        .destination(destination)
        .typ("bind")
        .source(source)
        .options(options)
        .build()
}

fn writable(mount: &mut Mount) {
    if let Some(options) = mount.options_mut() {
        options.retain(|option| option != "ro");
    }
}

fn writable_cgroups(asked: &Confinement) -> bool {
    asked.security.writable_cgroups.unwrap_or(asked.security.privileged)
}

/// Whether the container gets an init: not where somebody else's already is process 1.
pub(super) fn has_init(asked: &Confinement) -> bool {
    asked.init && asked.namespaces.pid == PidMode::Private
}

fn init(asked: &Confinement, input: &SpecInput<'_>) -> Built<Option<Mount>> {
    let Some(program) = input.host.init.as_deref().filter(|_| has_init(asked)) else {
        return Ok(None);
    };
    let options = ["bind", "ro"].map(str::to_owned);
    MountBuilder::default()
        .destination(INIT)
        .typ("bind")
        .source(program)
        .options(options)
        .build()
        .map(Some)
}
