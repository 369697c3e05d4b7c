//! The OCI runtime spec of a container: pure, so that it can be tested for hosts that nobody has at hand.
//!
//! [`runtime_spec`] looks at nothing but its [`SpecInput`]; what has to be asked of the host is asked before
//! ([`HostFacts`], [`Lookups`]). One file per section of the spec, in the order in which the
//! function below calls them. The result is what nerdctl's own specs look like where nerdctl's commands and hooks read
//! them (nerdctl `pkg/cmd/container/create.go`, containerd `pkg/oci/spec.go`), and what dockerd's do where programs in
//! the container can see a difference (moby `daemon/oci_linux.go`).

mod capabilities;
mod cdi;
mod devices;
mod effective;
mod hooks;
mod host;
pub mod image_files;
mod lookups;
mod mounts;
mod namespaces;
mod process;
mod resources;
pub(crate) mod rewrite;
mod seccomp;
mod security;
mod system_mounts;
mod user;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use names::{ContainerId, Namespace};
use networking::ContainerFiles;
use oci_spec::OciSpecError;
use oci_spec::runtime::{Capabilities, Linux, Root, Spec};

pub use cdi::FOLDERS as CDI_FOLDERS;
pub use effective::Effective;
pub use hooks::HookCalls;
pub use host::{CgroupManager, CgroupVersion, CpuList, HostFacts, Limits};
pub use lookups::Lookups;
pub(crate) use lookups::block_numbers;
pub(crate) use resources::{limits, verify};
pub use seccomp::{InvalidProfile, SeccompProfile};
pub use user::ImageFiles;

pub(crate) use effective::key as env_key;
pub(crate) use process::override_env;
pub(crate) use user::Ids;

use crate::containers::ContainerSpec;
use crate::containers::mounts::MountPlan;
use crate::containers::spec::confinement::PidMode;
use crate::{Error, Result};

/// The version of the specification that every runtime in use understands.
const OCI_VERSION: &str = "1.0.2";

/// Where the shim mounts the root file system, relative to the bundle.
const ROOT: &str = "rootfs";

/// What oci-spec's builders give; they fail on impossible combinations only.
type Built<T> = std::result::Result<T, OciSpecError>;

/// Everything that decides what a spec looks like.
#[derive(Clone, Copy, Debug)]
pub struct SpecInput<'a> {
    /// The container's id.
    pub id: &'a ContainerId,
    /// containerd's namespace.
    pub namespace: &'a Namespace,
    /// What was asked for.
    pub container: &'a ContainerSpec,
    /// What request and image say together.
    pub effective: &'a Effective,
    /// The container's host name.
    pub hostname: &'a str,
    /// The image's user database.
    pub image_files: &'a ImageFiles,
    /// The files of the state directory that are mounted.
    pub files: &'a ContainerFiles,
    /// What else is mounted.
    pub mounts: &'a [MountPlan],
    /// nerdctl's labels, repeated as annotations: hooks read these.
    pub annotations: &'a BTreeMap<String, String>,
    /// How the OCI hook is called.
    pub hooks: &'a HookCalls,
    /// Where the shared memory of a container that shares it is mounted on the host.
    pub shm_path: &'a Path,
    /// What the host says about the devices that were asked for.
    pub lookups: &'a Lookups,
    /// What the host can do.
    pub host: &'a HostFacts,
}

/// The spec of a container.
///
/// # Errors
/// [`Error::NoSuchUser`] and [`Error::InvalidParameter`] for users and groups that the image does not have.
pub fn runtime_spec(input: &SpecInput<'_>) -> Result<Spec> {
    let asked = &input.container.confinement;
    let mut ids = Ids::find(&input.effective.user, input.image_files)?;
    ids.join(&asked.groups, input.image_files)?;
    let capabilities = capabilities::granted(&asked.security, input.host)?;
    build(input, &ids, capabilities).map_err(|source| {
        Error::failed(format!("build the OCI spec of container {}", input.id), source)
    })
}

fn build(input: &SpecInput<'_>, ids: &Ids, capabilities: Capabilities) -> Built<Spec> {
    let asked = &input.container.confinement;
    let mut root = Root::default();
    root.set_path(ROOT.into()).set_readonly(Some(asked.readonly_rootfs));
    let hostname = Some(input.hostname.to_owned()).filter(|_| !asked.namespaces.host_uts);

    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_linux(Some(linux(input, &capabilities)?))
        .set_process(Some(process::process(input, ids, capabilities)?))
        .set_root(Some(root))
        .set_hostname(hostname)
        .set_mounts(Some(system_mounts::adapt(mounts::mounts(input)?, input)?))
        .set_hooks(Some(hooks::hooks(input.hooks)?))
        .set_annotations(Some(annotations(input)));
    cdi::apply(&mut spec, &input.lookups.edits)?;
    Ok(spec)
}

fn linux(input: &SpecInput<'_>, capabilities: &Capabilities) -> Built<Linux> {
    let (host, asked) = (input.host, &input.container.confinement);
    let parent = asked.cgroup_parent.as_deref();
    let cgroups_path = resources::cgroups_path(host, input.namespace, input.id, parent);
    let devices = devices::nodes(input.lookups);
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces::namespaces(&input.container.network, asked, host)?))
        .set_sysctl(Some(sysctls(input)))
        .set_resources(Some(resources::resources(asked, input.lookups)?))
        .set_devices(Some(devices).filter(|list| !list.is_empty()))
        .set_cgroups_path(Some(cgroups_path.into()))
        .set_seccomp(seccomp::filter(&asked.security, host, capabilities)?)
        .set_masked_paths(Some(security::masked_paths(&asked.security, host)))
        .set_readonly_paths(Some(readonly_paths(input)));
    if let Some(propagation) = mounts::user::root_propagation(input.mounts) {
        linux.set_rootfs_propagation(Some(propagation.to_owned()));
    }
    Ok(linux)
}

/// A user namespace that sees the host's processes has the host's own `/proc`, of which nothing can be mounted again.
fn readonly_paths(input: &SpecInput<'_>) -> Vec<String> {
    let asked = &input.container.confinement;
    let mut paths = security::readonly_paths(&asked.security);
    if input.host.rootless && asked.namespaces.pid == PidMode::Host {
        paths.retain(|path| !path.starts_with("/proc"));
    }
    paths
}

/// The user's annotations, and over them nerdctl's labels, empty ones too (nerdctl `pkg/cmd/container/create.go`).
fn annotations(input: &SpecInput<'_>) -> HashMap<String, String> {
    let all = input.container.annotations.iter().chain(input.annotations);
    all.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Docker's kernel parameters (moby `daemon/oci_linux.go`, `withCommonOptions`): in a network of its own a container
/// may open low ports and ping without privileges. The domain name has no field that every runtime knows. What was
/// asked for counts more; the runtime judges it.
fn sysctls(input: &SpecInput<'_>) -> HashMap<String, String> {
    let own_network = input.container.network.is_private();
    let (host, asked) = (input.host, &input.container.confinement);
    let domainname = input.container.domainname.as_str();
    [
        ("net.ipv4.ip_unprivileged_port_start", "0", own_network && host.unprivileged_port_start),
        (
            "net.ipv4.ping_group_range",
            "0 2147483647",
            own_network && host.ping_group_range && !host.rootless,
        ),
        ("kernel.domainname", domainname, !domainname.is_empty() && !asked.namespaces.host_uts),
    ]
    .into_iter()
    .filter(|(_, _, set)| *set)
    .map(|(key, value, _)| (key.to_owned(), value.to_owned()))
    .chain(asked.sysctls.clone())
    .collect()
}

#[cfg(test)]
pub(crate) mod tests;
