//! The OCI runtime spec of a container: pure, so that it can be tested for hosts that nobody has at hand.
//!
//! [`runtime_spec`] looks at nothing but its [`SpecInput`]. One file per section of the spec, in the order in which the
//! function below calls them. The result is what nerdctl's own specs look like where nerdctl's commands and hooks read
//! them (nerdctl `pkg/cmd/container/create.go`, containerd `pkg/oci/spec.go`), and what dockerd's do where programs in
//! the container can see a difference (moby `daemon/oci_linux.go`).

mod capabilities;
mod devices;
mod effective;
mod hooks;
mod host;
pub mod image_files;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;
mod security;
mod user;

use std::collections::{BTreeMap, HashMap};

use names::{ContainerId, Namespace};
use networking::ContainerFiles;
use oci_spec::OciSpecError;
use oci_spec::runtime::{Linux, Root, Spec};

pub use effective::Effective;
pub use hooks::HookCalls;
pub use host::{CgroupManager, CgroupVersion, HostFacts};
pub use user::ImageFiles;

use crate::containers::ContainerSpec;
use crate::containers::mounts::MountPlan;
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
    /// What the host can do.
    pub host: &'a HostFacts,
}

/// The spec of a container.
///
/// # Errors
/// [`Error::NoSuchUser`] and [`Error::InvalidParameter`] for users and groups that the image does not have.
pub fn runtime_spec(input: &SpecInput<'_>) -> Result<Spec> {
    let ids = user::Ids::find(&input.effective.user, input.image_files)?;
    build(input, &ids).map_err(|source| {
        Error::failed(format!("build the OCI spec of container {}", input.id), source)
    })
}

fn build(input: &SpecInput<'_>, ids: &user::Ids) -> Built<Spec> {
    let capabilities = capabilities::docker_defaults();
    let mut root = Root::default();
    root.set_path(ROOT.into()).set_readonly(Some(false));

    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_linux(Some(linux(input, &capabilities)?))
        .set_process(Some(process::process(input, ids, capabilities)?))
        .set_root(Some(root))
        .set_hostname(Some(input.hostname.to_owned()))
        .set_mounts(Some(mounts::mounts(input)?))
        .set_hooks(Some(hooks::hooks(input.hooks)?))
        .set_annotations(Some(annotations(input)));
    Ok(spec)
}

fn linux(input: &SpecInput<'_>, capabilities: &oci_spec::runtime::Capabilities) -> Built<Linux> {
    let host = input.host;
    let cgroups_path = resources::cgroups_path(host, input.namespace, input.id);
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces::namespaces(&input.container.network, host)?))
        .set_sysctl(Some(sysctls(input)))
        .set_resources(Some(resources::resources()?))
        .set_cgroups_path(Some(cgroups_path.into()))
        .set_masked_paths(Some(security::masked_paths(host)))
        .set_readonly_paths(Some(security::readonly_paths()));
    if let Some(propagation) = mounts::user::root_propagation(input.mounts) {
        linux.set_rootfs_propagation(Some(propagation.to_owned()));
    }
    if host.seccomp {
        linux.set_seccomp(Some(seccomp::default_profile(host, capabilities)?));
    }
    Ok(linux)
}

/// The user's annotations, and over them nerdctl's labels, empty ones too (nerdctl `pkg/cmd/container/create.go`).
fn annotations(input: &SpecInput<'_>) -> HashMap<String, String> {
    let all = input.container.annotations.iter().chain(input.annotations);
    all.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Docker's kernel parameters (moby `daemon/oci_linux.go`, `withCommonOptions`): in a network of its own a container
/// may open low ports and ping without privileges. The domain name has no field that every runtime knows.
fn sysctls(input: &SpecInput<'_>) -> HashMap<String, String> {
    let own_network = input.container.network.is_private();
    let host = input.host;
    let domainname = input.container.domainname.as_str();
    [
        ("net.ipv4.ip_unprivileged_port_start", "0", own_network && host.unprivileged_port_start),
        (
            "net.ipv4.ping_group_range",
            "0 2147483647",
            own_network && host.ping_group_range && !host.rootless,
        ),
        ("kernel.domainname", domainname, !domainname.is_empty()),
    ]
    .into_iter()
    .filter(|(_, _, set)| *set)
    .map(|(key, value, _)| (key.to_owned(), value.to_owned()))
    .collect()
}

#[cfg(test)]
pub(crate) mod tests;
