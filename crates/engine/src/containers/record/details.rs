//! What inspect shows beyond the summary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use names::Namespace;

use super::spec::SlimSpec;
use super::{REQUEST, View};
use crate::containers::spec::confinement::Resources;
use crate::containers::{
    Container, ContainerDetails, HostParts, LogSource, Owner, ProcessDetails, Recorded,
};
use crate::oci::rewrite;

/// The details of `record`, whose summary (with its state) is `container`.
///
/// Reads nothing but the record: paths of files are named whether they exist or not.
pub(crate) fn details(
    record: &containerd::containers::Container,
    container: Arc<Container>,
    namespace: &Namespace,
) -> Option<ContainerDetails> {
    let view = View::new(record, namespace)?;
    let spec = SlimSpec::of(record);
    let ours = view.owner == Owner::Nerdctld;
    let (log_driver, log_options) = if ours {
        (view.facts.log_driver.clone(), view.facts.log_options.clone())
    } else {
        let config = view.nerdctl.log_config.clone().unwrap_or_default();
        (config.driver, config.opts)
    };
    Some(ContainerDetails {
        recorded: record
            .extensions
            .get(REQUEST)
            .map(|request| Recorded(Arc::from(request.value.as_slice()))),
        process: process(&view, &spec),
        entrypoint: view.facts.entrypoint.clone(),
        cmd: view.facts.cmd.clone(),
        log_path: log_path(&container.log, &log_driver),
        resolv_conf_path: spec.source_of("/etc/resolv.conf").unwrap_or_default().to_owned(),
        hostname_path: spec.source_of("/etc/hostname").unwrap_or_default().to_owned(),
        hosts_path: spec.source_of("/etc/hosts").unwrap_or_default().to_owned(),
        sandbox_key: sandbox_key(&container, &spec),
        runtime: record.runtime_name.clone(),
        links: Vec::new(),
        masked_paths: spec.linux.masked_paths.clone(),
        readonly_paths: spec.linux.readonly_paths.clone(),
        log_driver,
        log_options,
        exposed_ports: view.exposed_ports().to_vec(),
        volumes: view.facts.volumes.clone(),
        health_log: Vec::new(),
        resources: resources(&view),
        host_parts: host_parts(&view, &spec),
        apparmor_profile: spec.process.apparmor_profile.clone(),
        container,
    })
}

/// Limits: of ours as they were asked for, of others as far as their spec tells.
fn resources(view: &View<'_>) -> Resources {
    if let Some(known) = view.facts.resources.clone() {
        return known;
    }
    let spec = view.record.spec.as_ref().and_then(|spec| serde_json::from_slice(&spec.value).ok());
    rewrite::resources(&spec.unwrap_or_default())
}

fn host_parts(view: &View<'_>, spec: &SlimSpec) -> HostParts {
    let hosts = |kind: &str| !spec.linux.has_namespace(kind);
    HostParts {
        privileged: view.nerdctl.privileged,
        readonly_rootfs: spec.root.readonly,
        pid: hosts("pid"),
        ipc: hosts("ipc"),
        uts: hosts("uts"),
        cgroup: hosts("cgroup"),
        oom_score_adj: spec.process.oom_score_adj,
    }
}

/// Of ours with the variables and the user that Docker shows, not with what the daemon made of them: tools create
/// containers again from what inspect tells.
fn process(view: &View<'_>, spec: &SlimSpec) -> ProcessDetails {
    let process = &spec.process;
    let ours = view.owner == Owner::Nerdctld;
    let ids = || format!("{}:{}", process.user.uid, process.user.gid);
    let sysctl = spec.linux.sysctl.get("kernel.domainname");
    ProcessDetails {
        // The spec's may begin with an init.
        args: if ours { view.facts.args() } else { process.args.clone() },
        env: if ours { view.facts.env.clone() } else { process.env.clone() },
        cwd: process.cwd.clone(),
        user: if ours {
            view.facts.user.clone()
        } else {
            view.nerdctl.user.clone().unwrap_or_else(ids)
        },
        // With the host's name the spec has none, but Docker shows one.
        hostname: if spec.hostname.is_empty() {
            view.nerdctl.hostname.clone()
        } else {
            spec.hostname.clone()
        },
        domainname: sysctl.unwrap_or(&spec.domainname).clone(),
    }
}

/// Docker shows it of json-file alone: what other drivers keep beside is nobody's interface (moby
/// `daemon/container/container.go`, `StartLogger`).
fn log_path(log: &LogSource, driver: &str) -> String {
    match log {
        LogSource::JsonFile(_) if !["", "json-file"].contains(&driver) => String::new(),
        LogSource::JsonFile(path) | LogSource::Cri(path) => path.display().to_string(),
        LogSource::Unreadable => String::new(),
    }
}

/// The network namespace: one that the container joined, or its process's own while there is one.
fn sandbox_key(container: &Container, spec: &SlimSpec) -> String {
    if let Some(joined) = spec.linux.namespace_path("network") {
        return joined.to_owned();
    }
    let pid = container.state.pid;
    if !spec.linux.has_namespace("network") || pid == 0 {
        return String::new();
    }
    let path: PathBuf = Path::new("/proc").join(pid.to_string()).join("ns/net");
    path.display().to_string()
}
