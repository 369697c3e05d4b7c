//! A container as it is going to be, before anything of it exists.

use std::path::PathBuf;

use containerd::Any;
use containerd::containers::NewContainer;
use containerd::messages::RuncOptions;
use io_monitor::log_config;
use names::{ContainerId, Namespace, Platform};
use nerdctl_store::go_json;
use nerdctl_store::labels::values::{self, DeviceMapping, HealthState, HostConfig, Ipc, LogConfig};
use nerdctl_store::labels::{ContainerLabels, RestartLabels, is_reserved_key, is_storable, keys};
use nerdctl_store::state_dir::PortWish;
use networking::ContainerFiles;
use networking::hook::{HookEvent, HookSettings};

use super::image_mounts::references;
use super::mounts::MountsDraft;
use super::network::{NetworkPlan, dns, port_wishes};
use crate::containers::health_check::{HealthCheck, HealthStatus};
use crate::containers::mounts::MountPlan;
use crate::containers::record::{FACTS, Facts, LABELS, ManifestFact, REQUEST};
use crate::containers::shares::shm_path;
use crate::containers::spec::confinement::{Confinement, IpcMode, PidMode};
use crate::containers::{ContainerSpec, LogDriver, NetworkMode};
use crate::images::ResolvedImage;
use crate::oci::{self, CgroupManager, Effective, HookCalls, ImageFiles, Lookups, SpecInput};
use crate::{Engine, Error, Result};

/// Shims with runc's options start so.
const RUNC_SHIMS: &str = "io.containerd.runc.";

/// moby `daemon/create.go`.
const LINKS_ARE_OLD: &str = "Links on the default bridge network are deprecated and will be removed in a future release. Use \
     a custom network instead.";

/// Everything about a new container but its name, which may have to be drawn several times.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) id: ContainerId,
    pub(super) spec: ContainerSpec,
    pub(super) image: ResolvedImage,
    effective: Effective,
    lookups: Lookups,
    namespace: Namespace,
    /// What is mounted.
    pub(super) mounts: MountsDraft,
    /// nerdctl's labels.
    pub(super) labels: ContainerLabels,
    /// Its place in the network.
    pub(super) network: NetworkPlan,
}

impl Draft {
    pub(super) fn new(
        engine: &Engine,
        id: ContainerId,
        mut spec: ContainerSpec,
        network: NetworkPlan,
        image: ResolvedImage,
        effective: Effective,
        (mounts, lookups): (MountsDraft, Lookups),
    ) -> Self {
        if let Some(joined) = &network.joined {
            spec.hostname = Some(joined.hostname.clone()).filter(|name| !name.is_empty());
            spec.domainname.clone_from(&joined.domainname);
        }
        let namespace = engine.settings().namespace.clone();
        let place = Place {
            namespace: namespace.as_str(),
            state_dir: engine.store().container_dir(&namespace, &id),
            logger: io_monitor::log_uri(&engine.settings().helper, engine.store().path()),
            containerd_address: &engine.settings().containerd_address,
            host_name: &engine.host().hostname,
        };
        let labels = ContainerLabels {
            mounts: mounts.plans.iter().filter_map(MountPlan::label).collect(),
            anonymous_volumes: anonymous_volumes(&mounts.plans),
            ..labels(&id, &spec, &network, &image, &effective, &place)
        };
        Self { id, spec, image, effective, lookups, namespace, mounts, labels, network }
    }

    /// Docker's warnings (moby `daemon/create.go`).
    pub(super) fn warnings(&self, host: &Platform) -> Vec<String> {
        [self.platform_warning(host), self.links_warning(), self.ports_warning()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn links_warning(&self) -> Option<String> {
        let linked = self.spec.network == NetworkMode::Bridge
            && !self.spec.networking.names.links.is_empty();
        linked.then(|| LINKS_ARE_OLD.to_owned())
    }

    /// moby `daemon/daemon_unix.go`, `verifyPlatformContainerSettings`.
    fn ports_warning(&self) -> Option<String> {
        let discarded =
            self.spec.network == NetworkMode::Host && !self.spec.networking.publish.is_empty();
        discarded.then(|| "Published ports are discarded when using host network mode".to_owned())
    }

    fn platform_warning(&self, host: &Platform) -> Option<String> {
        let image = &self.image.platform;
        let runs = image.os() == host.os() && image.architecture() == host.architecture()
            || host.rank(image).is_some();
        (self.spec.platform.is_none() && !runs).then(|| {
            format!(
                "The requested image's platform ({image}) does not match the detected host platform ({host}) and no specific \
                 platform was requested"
            )
        })
    }

    /// What `log-config.json` says; a container without a log has none.
    pub(super) fn log_config_file(&self) -> Option<LogConfig> {
        match self.spec.log_driver {
            LogDriver::None => None,
            _ => self.labels.log_config.clone(),
        }
    }

    /// What the log tells about its container, if it tells anything.
    pub(super) fn log_subject(&self) -> Result<Option<Vec<u8>>> {
        let ContainerSpec { log_driver, log_options, .. } = &self.spec;
        if !log_config::needs_subject(*log_driver, log_options) {
            return Ok(None);
        }
        let failed = |error: crate::error::Cause| {
            Error::failed(format!("describe container {} to its log", self.id), error)
        };
        let effective = &self.effective;
        let subject = log_config::Subject {
            id: self.id.to_string(),
            name: self.labels.name.clone(),
            image: self.spec.image.clone(),
            image_id: self.image.id.clone(),
            command: self.facts().args(),
            attributes: log_config::attributes(log_options, &effective.labels, &effective.env)
                .map_err(|error| failed(error.into()))?,
        };
        serde_json::to_vec(&subject).map(Some).map_err(|error| failed(error.into()))
    }

    /// The container as its networks know it.
    pub(super) fn network_identity(&self) -> networking::Container {
        let networks = self.labels.networks.clone();
        let mode = match &self.spec.network {
            NetworkMode::Bridge | NetworkMode::Networks(_) => {
                networking::NetworkMode::Cni(networks)
            }
            NetworkMode::Host => networking::NetworkMode::Host,
            NetworkMode::None => networking::NetworkMode::None,
            NetworkMode::Container(typed) => networking::NetworkMode::Container(typed.clone()),
        };
        let extra_hosts = self.network.extra_hosts.iter();
        networking::Container {
            namespace: self.namespace.clone(),
            id: self.id.clone(),
            name: self.labels.name.parse().ok(),
            hostname: self.labels.hostname.clone(),
            domainname: self.labels.domainname.clone(),
            mode,
            extra_hosts: extra_hosts
                .map(|(name, address)| (name.clone(), address.to_string()))
                .collect(),
            ip: self.labels.ip.clone(),
            ip6: self.labels.ip6.clone(),
            mac_address: self.labels.mac_address.clone(),
        }
    }

    /// containerd's record, still without the mark that creation is finished.
    pub(super) fn record(&self, engine: &Engine, files: &ImageFiles) -> Result<NewContainer> {
        let failed = |source: serde_json::Error| {
            Error::failed(format!("encode container {}", self.id), source)
        };
        let spec = serde_json::to_vec(&self.oci_spec(engine, files)?).map_err(failed)?;
        let docker_labels = serde_json::to_vec(&self.effective.labels).map_err(failed)?;
        let extensions = [
            (REQUEST, Any::new(REQUEST, &*self.spec.recorded.0)),
            (LABELS, Any::new(LABELS, docker_labels)),
            (FACTS, self.facts().to_any().map_err(failed)?),
        ];
        let runtime = self.spec.confinement.runtime.name();
        let options = RuncOptions {
            systemd_cgroup: engine.host().cgroup_manager == CgroupManager::Systemd,
            ..RuncOptions::default()
        };
        Ok(NewContainer {
            id: self.id.to_string(),
            labels: self.all_labels(engine)?,
            image: self.image.name.clone(),
            runtime_name: runtime.to_owned(),
            runtime_options: runtime.starts_with(RUNC_SHIMS).then(|| Any::runc_options(&options)),
            spec: Some(Any::oci_spec(spec)),
            snapshotter: engine.settings().snapshotter.clone(),
            snapshot_key: self.id.to_string(),
            extensions: extensions.map(|(name, value)| (name.to_owned(), value)).into(),
        })
    }

    /// nerdctl's labels, and as many of the user's as containerd takes.
    fn all_labels(&self, engine: &Engine) -> Result<containerd::Labels> {
        let mut all = self.encoded(ContainerLabels::to_labels)?;
        all.extend(references(&self.mounts.plans, &engine.settings().snapshotter));
        let of_user = self.effective.labels.iter();
        let storable =
            of_user.filter(|(key, value)| is_storable(key, value) && !is_reserved_key(key));
        all.extend(storable.map(|(key, value)| (key.clone(), value.clone())));
        Ok(all)
    }

    fn encoded(
        &self,
        encode: impl FnOnce(&ContainerLabels) -> nerdctl_store::Result<containerd::Labels>,
    ) -> Result<containerd::Labels> {
        encode(&self.labels).map_err(|error| {
            Error::failed(format!("encode the labels of container {}", self.id), error)
        })
    }

    fn oci_spec(&self, engine: &Engine, files: &ImageFiles) -> Result<oci_spec::runtime::Spec> {
        let state = engine.store().state_dir(&self.namespace, &self.id);
        let own = ContainerFiles {
            hosts: engine.store().hosts(&self.namespace).hosts_path(&self.id),
            resolv_conf: state.resolv_conf_path(),
            hostname: state.hostname_path(),
        };
        let files_of_container = self.network.files(&self.spec, own);
        oci::runtime_spec(&SpecInput {
            id: &self.id,
            namespace: &self.namespace,
            container: &self.spec,
            effective: &self.effective,
            hostname: &self.labels.hostname,
            image_files: files,
            files: &files_of_container,
            mounts: &self.mounts.plans,
            annotations: &self.encoded(ContainerLabels::to_annotations)?,
            hooks: &hooks(engine)?,
            shm_path: &shm_path(&engine.store().container_dir(&self.namespace, &self.id)),
            lookups: &self.lookups,
            host: engine.host(),
        })
    }

    /// The request's and the image's, each once.
    fn exposed_ports(&self) -> Vec<String> {
        let all = self.image.config.exposed_ports.iter().chain(&self.spec.exposed_ports);
        all.cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// The ports to publish, for the hook.
    pub(super) fn port_wishes(&self) -> Vec<PortWish> {
        port_wishes(&self.spec, &self.exposed_ports())
    }

    /// The request's and the image's, as typed.
    fn declared_volumes(&self) -> Vec<String> {
        let all = self.image.config.volumes.iter().chain(&self.spec.mounts.volumes);
        all.cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    fn facts(&self) -> Facts {
        let (spec, effective) = (&self.spec, &self.effective);
        Facts {
            image: spec.image.clone(),
            image_id: self.image.id.clone(),
            manifest: ManifestFact::of(&self.image),
            entrypoint: effective.entrypoint.clone(),
            cmd: effective.cmd.clone(),
            env: effective.env.clone(),
            user: effective.user.clone(),
            tty: spec.tty,
            open_stdin: spec.open_stdin,
            stdin_once: spec.stdin_once,
            auto_remove: spec.auto_remove,
            health_check: effective.health_check.clone(),
            stop_signal: effective.stop_signal.name(),
            stop_timeout: spec.stop_timeout,
            log_driver: spec.log_driver.as_str().to_owned(),
            log_options: spec.log_options.clone(),
            exposed_ports: self.exposed_ports(),
            annotations: spec.annotations.clone(),
            mounts: self.mounts.plans.clone(),
            volumes: self.declared_volumes(),
            links: self.network.links.clone(),
            resources: Some(spec.confinement.resources.clone()),
        }
    }
}

/// Those that go with the container, also if it shares them (nerdctl `pkg/cmd/container/create.go`).
fn anonymous_volumes(plans: &[MountPlan]) -> Vec<String> {
    let volumes = plans.iter().filter_map(MountPlan::volume);
    volumes.filter(|volume| volume.anonymous).map(|volume| volume.name.clone()).collect()
}

/// What labels say about where a container is.
struct Place<'a> {
    namespace: &'a str,
    state_dir: PathBuf,
    /// Log URI that starts our logger.
    logger: String,
    containerd_address: &'a str,
    host_name: &'a str,
}

/// nerdctl's labels as its own `create` writes them (`pkg/cmd/container/create.go`); the name comes later.
fn labels(
    id: &ContainerId,
    spec: &ContainerSpec,
    network: &NetworkPlan,
    image: &ResolvedImage,
    effective: &Effective,
    place: &Place<'_>,
) -> ContainerLabels {
    let networking = &spec.networking;
    let address = |ip: std::net::IpAddr| ip.to_string();
    let extra_hosts = network.extra_hosts.iter();
    let default_hostname =
        if spec.network == NetworkMode::Host { place.host_name } else { id.short() };
    let (log_uri, log_config) = match spec.log_driver {
        LogDriver::None => ("none".to_owned(), LogConfig::default()),
        driver => {
            let (driver, opts) = driver.stored(&spec.log_options);
            let address = place.containerd_address.to_owned();
            (place.logger.clone(), LogConfig { driver: driver.to_owned(), opts, address })
        }
    };
    let confinement = &spec.confinement;
    let check = effective.health_check.as_ref();
    ContainerLabels {
        pid_container: match &confinement.namespaces.pid {
            PidMode::Container(id) => Some(id.clone()),
            PidMode::Private | PidMode::Host => None,
        },
        ipc: Some(ipc(confinement, &place.state_dir)),
        host_config: host_config(confinement),
        privileged: confinement.security.privileged,
        namespace: place.namespace.to_owned(),
        hostname: spec.hostname.clone().unwrap_or_else(|| default_hostname.to_owned()),
        domainname: spec.domainname.clone(),
        state_dir: place.state_dir.display().to_string(),
        networks: network.networks.clone(),
        extra_hosts: extra_hosts.map(|(name, address)| format!("{name}:{address}")).collect(),
        ip: networking.ipv4.map(address),
        ip6: networking.ipv6.map(address),
        mac_address: networking.mac_address.clone(),
        dns: dns(networking),
        log_config: Some(log_config),
        platform: image.platform.to_string(),
        exposed_ports: image.config.exposed_ports.clone(),
        // nerdctl knows no waiting for ever.
        stop_timeout: spec.stop_timeout.filter(|seconds| *seconds > 0),
        auto_remove: spec.auto_remove,
        user: Some(effective.user.clone()).filter(|user| !user.is_empty()),
        stop_signal: Some(effective.stop_signal.name()),
        restart: RestartLabels {
            policy: spec.upkeep.restart.to_label(),
            // What containerd's restart plugin gives the tasks that it starts.
            log_uri: spec.upkeep.restart.to_label().map(|_| log_uri.clone()),
            ..RestartLabels::default()
        },
        health_state: check.and_then(HealthCheck::command).map(|_| HealthState {
            status: HealthStatus::Starting.as_str().to_owned(),
            ..HealthState::default()
        }),
        healthcheck: check.map(health_label).filter(fits_into_a_label),
        log_uri: Some(log_uri),
        ..ContainerLabels::default()
    }
}

/// How `nerdctl start` and `rm` know what to do about its shared memory.
fn ipc(confinement: &Confinement, state_dir: &std::path::Path) -> Ipc {
    let mode = |mode: &str| Ipc {
        mode: mode.to_owned(),
        shm_size: confinement.shm_size.map(|bytes| bytes.to_string()).unwrap_or_default(),
        ..Ipc::default()
    };
    match &confinement.namespaces.ipc {
        IpcMode::Private => mode("private"),
        // nerdctl does not know it; a size would make it look for what is not there.
        IpcMode::None => Ipc::default(),
        IpcMode::Host => Ipc { shm_size: String::new(), ..mode("host") },
        IpcMode::Shareable => Ipc {
            host_shm_path: Some(shm_path(state_dir).display().to_string()),
            ..mode("shareable")
        },
        IpcMode::Container(id) => Ipc {
            victim_container_id: Some(id.clone()),
            shm_size: String::new(),
            ..mode("container")
        },
    }
}

/// What `nerdctl inspect` cannot find in the spec.
fn host_config(confinement: &Confinement) -> HostConfig {
    let devices = confinement.devices.mappings.iter().map(|mapping| DeviceMapping {
        path_on_host: mapping.on_host.display().to_string(),
        path_in_container: mapping.in_container.display().to_string(),
        cgroup_permissions: mapping.access.as_str().to_owned(),
    });
    HostConfig {
        blkio_weight: confinement.resources.blkio_weight,
        devices: devices.collect(),
        ..HostConfig::default()
    }
}

/// nerdctl's form of a health check, which has no interval of its own for the start period.
fn health_label(check: &HealthCheck) -> values::Healthcheck {
    let nanoseconds = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    values::Healthcheck {
        test: check.test.clone(),
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        retries: i64::from(check.retries),
        start_period: nanoseconds(check.start_period),
    }
}

/// One that does not is known to us alone.
fn fits_into_a_label(check: &values::Healthcheck) -> bool {
    go_json::to_string(keys::HEALTHCHECK, check)
        .is_ok_and(|text| is_storable(keys::HEALTHCHECK, &text))
}

fn hooks(engine: &Engine) -> Result<HookCalls> {
    let settings = engine.settings();
    let hook = HookSettings {
        data_store: engine.store().path().to_owned(),
        cni_path: settings.cni_path.clone(),
        cni_netconf_path: settings.cni_netconf_path.clone(),
        bridge_ip: settings.bridge_ip.clone(),
    };
    let call = |event| {
        // A variable that is not text is none that a hook wants.
        let environment = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        hook.command(&settings.helper, event, environment)
            .map_err(|error| Error::failed("write the OCI hook", error))
    };
    Ok(HookCalls {
        create_runtime: call(HookEvent::CreateRuntime)?,
        post_stop: call(HookEvent::PostStop)?,
    })
}
