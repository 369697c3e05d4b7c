//! What is mounted into the container, in order.

pub(super) mod user;

use std::path::Path;

use oci_spec::runtime::{Mount, MountBuilder};

use super::{Built, SpecInput};
use crate::containers::NetworkMode;

/// `(destination, type, source, options)`: containerd's defaults (`pkg/oci/mounts.go`) as nerdctl uses them.
const DEFAULTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
];

/// The files of the container's network identity.
const NETWORK_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

/// The defaults, and after them what was asked for and the files of the container's network identity, those higher up in
/// the tree first. What was asked for takes the place of a default or of a file (moby `daemon/oci_linux.go`,
/// `withMounts`).
pub(super) fn mounts(input: &SpecInput<'_>) -> Built<Vec<Mount>> {
    // sysfs shows the devices of the network namespace of whoever mounts it, and the owner of that namespace must be
    // ours; the host's is not where RootlessKit keeps its own apart, or has none.
    let foreign = input.host.detached_netns || input.host.foreign_netns;
    let no_sys = foreign && input.container.network == NetworkMode::Host;
    let taken = |destination: &str| {
        user::effective(input.mounts).any(|plan| plan.destination == destination)
    };
    let below_own_dev = |destination: &str| taken("/dev") && destination.starts_with("/dev/");
    let defaults = DEFAULTS
        .into_iter()
        .filter(|(destination, ..)| !(no_sys && destination.starts_with("/sys")))
        .filter(|(destination, ..)| !taken(destination) && !below_own_dev(destination))
        .map(|(destination, kind, source, options)| {
            mount(destination, kind, Path::new(source), options)
        });
    let files = input.files;
    let sources = [&files.resolv_conf, &files.hosts, &files.hostname];
    let files = NETWORK_FILES
        .into_iter()
        .zip(sources)
        // One that shares another's network gets them at its start.
        .filter(|(_, source)| !source.as_os_str().is_empty())
        .filter(|(destination, _)| !taken(destination))
        .map(|(destination, source)| mount(destination, "bind", source, &["bind", "rprivate"]));
    let asked = user::effective(input.mounts).map(user::user_mount);
    let mut later: Vec<Mount> = asked.chain(files).collect::<Built<_>>()?;
    // Stable: mounts of the same depth stay in the order of the request.
    later.sort_by_key(|mount| mount.destination().components().count());
    let mut all: Vec<Mount> = defaults.collect::<Built<_>>()?;
    all.extend(later);
    Ok(all)
}

fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Built<Mount> {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options)
        .build()
}
