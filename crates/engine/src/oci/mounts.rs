//! What is mounted into the container, in order.

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

/// The defaults, and last the three files of the container's network identity.
pub(super) fn mounts(input: &SpecInput<'_>) -> Built<Vec<Mount>> {
    // sysfs shows the devices of the network namespace of whoever mounts it, and the owner of that namespace must be
    // ours; the host's is not where RootlessKit keeps its own apart.
    let no_sys = input.host.detached_netns && input.container.network == NetworkMode::Host;
    let defaults = DEFAULTS
        .into_iter()
        .filter(|(destination, ..)| !(no_sys && destination.starts_with("/sys")))
        .map(|(destination, kind, source, options)| {
            mount(destination, kind, Path::new(source), options)
        });
    let files = input.files;
    let binds = [
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hosts", &files.hosts),
        ("/etc/hostname", &files.hostname),
    ];
    let binds = binds
        .into_iter()
        // One that shares another's network gets them at its start.
        .filter(|(_, source)| !source.as_os_str().is_empty())
        .map(|(destination, source)| mount(destination, "bind", source, &["bind", "rprivate"]));
    defaults.chain(binds).collect()
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
