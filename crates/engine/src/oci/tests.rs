//! Whole specs, compared with the ones kept in `golden/`. `UPDATE_EXPECT=1 cargo test` writes them anew.

use std::path::PathBuf;
use std::sync::Arc;

use expect_test::{ExpectFile, expect_file};
use networking::hook::HookCommand;
use serde_json::Value;

use super::host::tests::facts;
pub(crate) use super::host::tests::facts as host_facts;
use super::host::tests::per_controller;
use super::*;
use crate::containers::spec::confinement::Confinement;
use crate::containers::{LogDriver, NetworkMode, Recorded};
use crate::images::ImageConfig;

/// A request that says nothing but the image.
pub(crate) fn container() -> ContainerSpec {
    ContainerSpec {
        image: "busybox".into(),
        platform: None,
        name: None,
        hostname: None,
        domainname: String::new(),
        user: String::new(),
        env: Vec::new(),
        cmd: None,
        entrypoint: None,
        working_dir: None,
        labels: BTreeMap::new(),
        exposed_ports: Vec::new(),
        tty: false,
        open_stdin: false,
        stdin_once: false,
        stop_signal: None,
        stop_timeout: None,
        upkeep: crate::containers::spec::upkeep::UpkeepSpec::default(),
        auto_remove: false,
        network: NetworkMode::Bridge,
        networking: crate::containers::spec::networking::Networking::default(),
        log_driver: LogDriver::JsonFile,
        log_options: BTreeMap::new(),
        console_size: None,
        annotations: BTreeMap::new(),
        mounts: crate::containers::spec::mounts::MountsSpec::default(),
        confinement: Confinement::default(),
        recorded: Recorded(Arc::from(*b"{}")),
    }
}

/// An image that runs a shell.
pub(crate) fn image() -> ImageConfig {
    ImageConfig {
        env: vec!["PATH=/bin".into()],
        cmd: Some(vec!["sh".into()]),
        ..ImageConfig::default()
    }
}

fn label(network: &NetworkMode) -> &str {
    match network {
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
        _ => "bridge",
    }
}

fn spec_of(container: &ContainerSpec, image: &ImageConfig, host: &HostFacts) -> Result<Spec> {
    spec_with(container, image, host, &[])
}

fn spec_with(
    container: &ContainerSpec,
    image: &ImageConfig,
    host: &HostFacts,
    mounts: &[MountPlan],
) -> Result<Spec> {
    let id = "0123456789abcdef".repeat(4).parse().unwrap();
    let state = PathBuf::from("/var/lib/nerdctl/1935db59/containers/default/0123");
    let call = |event: &str| HookCommand {
        path: "/var/lib/nerdctl/bin/nerdctld".into(),
        args: vec!["nerdctld".into(), "oci-hook".into(), event.into()],
        env: vec!["PATH=/usr/sbin:/sbin".into()],
    };
    let annotations = BTreeMap::from([
        ("nerdctl/networks".to_owned(), format!("[\"{}\"]", label(&container.network))),
        ("nerdctl/domainname".to_owned(), String::new()),
    ]);
    runtime_spec(&SpecInput {
        id: &id,
        namespace: &Namespace::default(),
        container,
        effective: &Effective::merge(container, image)?,
        hostname: container.hostname.as_deref().unwrap_or("0123456789ab"),
        image_files: &ImageFiles {
            passwd: "web:x:33:33::/:\n".into(),
            group: "wheel:x:10:web\n".into(),
        },
        files: &ContainerFiles {
            resolv_conf: state.join("resolv.conf"),
            hosts: "/var/lib/nerdctl/1935db59/etchosts/default/0123/hosts".into(),
            hostname: state.join("hostname"),
        },
        mounts,
        annotations: &annotations,
        hooks: &HookCalls { create_runtime: call("createRuntime"), post_stop: call("postStop") },
        shm_path: &state.join("shm"),
        lookups: &Lookups::default(),
        host,
    })
}

/// Pretty, with sorted keys and sorted sets, and without the seccomp filter, which has tests of its own.
fn check(container: &ContainerSpec, image: &ImageConfig, host: &HostFacts, golden: &ExpectFile) {
    let mut spec = serde_json::to_value(spec_of(container, image, host).unwrap()).unwrap();
    for set in spec["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
        set.as_array_mut().unwrap().sort_by_key(Value::to_string);
    }
    if let Some(seccomp) = spec["linux"].get_mut("seccomp") {
        *seccomp = Value::from(format!(
            "default profile, {} rules",
            seccomp["syscalls"].as_array().unwrap().len()
        ));
    }
    golden.assert_eq(&(serde_json::to_string_pretty(&spec).unwrap() + "\n"));
}

#[test]
fn an_ordinary_container_on_an_ordinary_server() {
    check(&container(), &image(), &facts(), &expect_file!["golden/plain.json"]);
}

#[test]
fn everything_that_can_be_asked_for() {
    let asked = ContainerSpec {
        hostname: Some("box".into()),
        domainname: "example.org".into(),
        user: "web".into(),
        env: vec!["A=1".into(), "PATH".into()],
        cmd: Some(vec!["-c".into(), "true".into()]),
        entrypoint: Some(vec!["/bin/sh".into()]),
        working_dir: Some("/srv/".into()),
        tty: true,
        open_stdin: true,
        network: NetworkMode::None,
        console_size: Some((24, 80)),
        annotations: BTreeMap::from([("com.example.note".into(), "kept".into())]),
        ..container()
    };
    check(&asked, &image(), &facts(), &expect_file!["golden/everything.json"]);
}

#[test]
fn the_hosts_network_on_cgroup_v1() {
    let host = HostFacts {
        cgroup_version: CgroupVersion::V1,
        cgroup_manager: CgroupManager::Cgroupfs,
        thermal_throttle: Vec::new(),
        ..facts()
    };
    let asked = ContainerSpec { network: NetworkMode::Host, ..container() };
    check(&asked, &image(), &host, &expect_file!["golden/host-network-v1.json"]);
}

#[test]
fn rootless_without_delegation() {
    let host = HostFacts {
        cgroup_manager: CgroupManager::None,
        rootless: true,
        detached_netns: true,
        oom_score_adj: 200,
        ..facts()
    };
    let asked = ContainerSpec { network: NetworkMode::Host, ..container() };
    check(&asked, &image(), &host, &expect_file!["golden/rootless.json"]);
}

#[test]
fn another_users_network_has_no_sysfs_for_us() {
    let host = HostFacts { rootless: true, foreign_netns: true, ..facts() };
    let sys = |network| {
        let asked = ContainerSpec { network, ..container() };
        let spec = spec_of(&asked, &image(), &host).unwrap();
        let mounts = spec.mounts().clone().unwrap_or_default();
        mounts.iter().filter(|mount| mount.destination().starts_with("/sys")).count()
    };
    assert_eq!(sys(NetworkMode::Host), 0);
    assert_eq!(sys(NetworkMode::None), 2);
}

#[test]
fn a_rootless_scope_belongs_to_the_users_slice() {
    let host = HostFacts { rootless: true, ..facts() };
    let spec = spec_of(&container(), &image(), &host).unwrap();
    let path = spec.linux().as_ref().unwrap().cgroups_path().clone().unwrap();
    assert!(path.to_string_lossy().starts_with("user.slice:nerdctl:0123"), "{path:?}");
}

#[test]
fn a_kernel_without_seccomp_gets_no_filter() {
    let host = HostFacts { seccomp: false, ..facts() };
    let spec = spec_of(&container(), &image(), &host).unwrap();
    assert_eq!(*spec.linux().as_ref().unwrap().seccomp(), None);
}

#[test]
fn an_unknown_user_is_the_clients_mistake() {
    let asked = ContainerSpec { user: "nobody".into(), ..container() };
    let error = spec_of(&asked, &image(), &facts()).unwrap_err();
    assert_eq!(error.class(), crate::Class::Invalid);
}

#[test]
fn mounts_come_in_dockers_order() {
    use crate::containers::mounts::tests::{bind, plan, volume};
    let plans = [
        plan("/etc/hosts", bind("/srv/hosts")),
        plan("/data/deep/inside", volume("inside")),
        plan("/data", volume("data")),
        plan("/dev/shm", bind("/dev/shm")),
    ];
    let spec = spec_with(&container(), &image(), &facts(), &plans).unwrap();
    let mounts: Vec<String> = spec
        .mounts()
        .as_ref()
        .unwrap()
        .iter()
        .map(|mount| {
            let options = mount.options().clone().unwrap_or_default().join(",");
            let source = mount.source().clone().unwrap_or_default();
            format!("{} {} {options}", mount.destination().display(), source.display())
        })
        .collect();
    expect_file!["golden/mounts.txt"].assert_eq(&(mounts.join("\n") + "\n"));
}

/// Every right, every device and limit, on cgroup v1 with cgroupfs.
fn confined() -> Confinement {
    use crate::containers::spec::confinement::{IpcMode, Runtime, Ulimit};
    let mut asked = Confinement {
        groups: vec!["wheel".into(), "777".into()],
        ulimits: vec![Ulimit::new("nofile", 1024, -1).unwrap()],
        sysctls: BTreeMap::from([("net.ipv4.ping_group_range".into(), "0 0".into())]),
        oom_score_adj: 500,
        init: true,
        shm_size: Some(1 << 20),
        readonly_rootfs: true,
        cgroup_parent: Some("/mine/".into()),
        runtime: Runtime::Runc,
        ..Confinement::default()
    };
    asked.security.no_new_privileges = true;
    asked.security.cap_add = vec!["SYS_ADMIN".parse().unwrap()];
    asked.security.cap_drop = vec!["ALL".parse().unwrap()];
    asked.security.masked_paths = Some(vec!["/proc/kcore".into()]);
    asked.devices.rules = vec!["c 10:* r".parse().unwrap()];
    asked.namespaces.ipc = IpcMode::Private;
    asked.resources.memory = 64 << 20;
    asked.resources.memory_swap = 128 << 20;
    asked.resources.nano_cpus = 500_000_000;
    asked.resources.cpu_shares = 512;
    asked.resources.cpuset_cpus = "0-1".into();
    asked.resources.pids_limit = Some(50);
    asked.resources.blkio_weight = 300;
    asked.resources.oom_kill_disable = Some(false);
    asked
}

#[test]
fn a_confined_container_on_cgroup_v1() {
    let host = HostFacts {
        cgroup_version: CgroupVersion::V1,
        cgroup_manager: CgroupManager::Cgroupfs,
        limits: per_controller(),
        ..facts()
    };
    let asked = ContainerSpec { confinement: confined(), ..container() };
    check(&asked, &image(), &host, &expect_file!["golden/confined-v1.json"]);
}

#[test]
fn a_confined_container_on_cgroup_v2_with_systemd() {
    let mut asked = ContainerSpec { confinement: confined(), ..container() };
    asked.confinement.cgroup_parent = Some("mine.slice".into());
    asked.confinement.resources.oom_kill_disable = None;
    check(&asked, &image(), &facts(), &expect_file!["golden/confined-v2.json"]);
}

#[test]
fn a_privileged_container() {
    let mut asked = container();
    asked.confinement.security.privileged = true;
    check(&asked, &image(), &facts(), &expect_file!["golden/privileged.json"]);
}

#[test]
fn the_hosts_namespaces() {
    use crate::containers::spec::confinement::{CgroupnsMode, IpcMode};
    let mut asked = container();
    asked.domainname = "example.org".into();
    asked.confinement.namespaces.pid = PidMode::Host;
    asked.confinement.namespaces.ipc = IpcMode::Host;
    asked.confinement.namespaces.host_uts = true;
    asked.confinement.namespaces.cgroup = Some(CgroupnsMode::Host);
    check(&asked, &image(), &facts(), &expect_file!["golden/host-namespaces.json"]);
}

#[test]
fn the_hosts_processes_without_root() {
    let host = HostFacts { rootless: true, oom_score_adj: 100, ..facts() };
    let mut asked = container();
    asked.confinement.namespaces.pid = PidMode::Host;
    asked.confinement.oom_score_adj = -5;
    check(&asked, &image(), &host, &expect_file!["golden/rootless-host-pid.json"]);
}

#[test]
fn joined_namespaces_are_named_at_the_start_only() {
    use crate::containers::spec::confinement::IpcMode;
    let mut asked = container();
    asked.confinement.namespaces.pid = PidMode::Container("a".repeat(64));
    asked.confinement.namespaces.ipc = IpcMode::Container("a".repeat(64));
    let spec = serde_json::to_value(spec_of(&asked, &image(), &facts()).unwrap()).unwrap();
    for kind in ["pid", "ipc"] {
        let path = rewrite::namespace_path(&spec, kind).unwrap();
        assert!(path.starts_with("/proc/0/"), "{path}");
    }
    assert_eq!(rewrite::mount_source(&spec, "/dev/shm"), Some("/proc/0/shm"));
}

#[test]
fn shared_memory_as_asked() {
    use crate::containers::spec::confinement::IpcMode;
    let shm = |ipc| {
        let mut asked = container();
        asked.confinement.namespaces.ipc = ipc;
        let spec = serde_json::to_value(spec_of(&asked, &image(), &facts()).unwrap()).unwrap();
        rewrite::mount_source(&spec, "/dev/shm").map(str::to_owned)
    };
    assert_eq!(shm(IpcMode::None), None);
    assert_eq!(shm(IpcMode::Private).as_deref(), Some("shm"));
    assert_eq!(shm(IpcMode::Host).as_deref(), Some("/dev/shm"));
    assert!(shm(IpcMode::Shareable).unwrap().ends_with("/containers/default/0123/shm"));
}

#[test]
fn the_filter_follows_the_capabilities() {
    let filter = |asked: &ContainerSpec| {
        let spec = spec_of(asked, &image(), &facts()).unwrap();
        spec.linux().as_ref().unwrap().seccomp().clone()
    };
    let allows_mount = |asked: &ContainerSpec| {
        let filter = filter(asked).unwrap();
        filter
            .syscalls()
            .iter()
            .flatten()
            .any(|rule| rule.names().iter().any(|name| name == "mount"))
    };
    let mut asked = container();
    assert!(!allows_mount(&asked));
    asked.confinement.security.cap_add = vec!["SYS_ADMIN".parse().unwrap()];
    assert!(allows_mount(&asked));
    asked.confinement.security.apply("seccomp=unconfined").unwrap();
    assert_eq!(filter(&asked), None);
}
