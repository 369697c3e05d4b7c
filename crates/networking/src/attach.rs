//! Attaching: what happens when a container's namespaces exist, but its program has not started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cni::{Attachment, CniResult, Conflist, Conflists};
use jiff::Timestamp;
use nerdctl_store::labels::values::PortMapping;
use nerdctl_store::locks::cni_concurrency;
use nerdctl_store::state_dir::Run;
use serde_json::{Map, Value};

use crate::blocking::blocking;
use crate::container::{Container, NetworkMode};
use crate::error::{NetworkingError, Result};
use crate::{CNI_LOCK_DEADLINE, Networks};

impl Networks {
    /// Everything the createRuntime hook does: takes the name again, attaches the networks, writes down the start.
    ///
    /// `pid` is the container's first process, and its network namespace is used unless `netns` names another one.
    /// A failure is written down as well, so that the postStop hook that follows does not take it for the end of the
    /// container, and nothing stays attached.
    ///
    /// # Errors
    /// If a network cannot be attached, or the files of the container not be written. A name that another container
    /// has taken meanwhile is only logged, as with nerdctl.
    pub async fn create_runtime(
        &self,
        container: &Container,
        pid: u32,
        netns: Option<&Path>,
    ) -> Result<Run> {
        self.retake_name(container).await;
        // Held until the run is noted: who releases the networks of the run before looks at the note.
        let (attached, _lock) = match &container.mode {
            NetworkMode::Cni(networks) if !networks.is_empty() => {
                let netns = netns
                    .map_or_else(|| PathBuf::from(format!("/proc/{pid}/ns/net")), Path::to_owned);
                match self.lock_cni().await {
                    Ok(lock) => (self.attach_locked(container, &netns).await.map(drop), Some(lock)),
                    Err(error) => (Err(error), None),
                }
            }
            _ => (Ok(()), None),
        };
        let run = Run { pid, started_at: Timestamp::now() };
        let state = self.store.state_dir(&container.namespace, &container.id);
        let failed = attached.is_err();
        let written = blocking(move || {
            state.note_start(
                |lifecycle| {
                    if failed { lifecycle.fail() } else { lifecycle.begin(run) }
                },
            )
        })
        .await;
        attached.and(written).map(|()| run)
    }

    /// Attaches a container to all of its networks and announces it to the others, under the lock of CNI.
    ///
    /// On failure nothing stays attached.
    ///
    /// # Errors
    /// If a network does not exist or cannot be attached.
    pub async fn attach(
        &self,
        container: &Container,
        netns: &Path,
    ) -> Result<BTreeMap<String, CniResult>> {
        let _lock = self.lock_cni().await?;
        self.attach_locked(container, netns).await
    }

    async fn attach_locked(
        &self,
        container: &Container,
        netns: &Path,
    ) -> Result<BTreeMap<String, CniResult>> {
        std::fs::metadata(netns)
            .map_err(|source| NetworkingError::NoNamespace { path: netns.to_owned(), source })?;
        let conflists = self.conflists_with_default(&container.namespace).await?;
        let mut planned = self.plan(container, &conflists, Some(netns)).await?;

        // A container that was not detached (power cut, killed daemon) would be refused an address, and its own ports.
        if self.has_leftovers(container, &planned).await {
            tracing::info!(container = %container.id, "detaching what an earlier run has left");
            self.detach_planned(container, &planned, None).await;
        }
        self.end_port_reserver(container).await?;
        let ports = self.allocate_ports(container).await?;
        for network in &mut planned {
            network.attachment.capability_args = capability_args(container, &ports.mappings);
        }

        let attached = self.add_and_announce(container, &planned).await;
        if attached.is_err() {
            tracing::warn!(container = %container.id, "could not be attached, detaching again");
            for problem in self.detach_planned(container, &planned, Some(netns)).await {
                tracing::warn!(error = %problem, "something stays attached");
            }
            return attached;
        }
        self.reserve_ports(container, ports).await;
        attached
    }

    async fn add_and_announce(
        &self,
        container: &Container,
        planned: &[Planned],
    ) -> Result<BTreeMap<String, CniResult>> {
        let mut results = BTreeMap::new();
        for network in planned {
            let result = self.cni.add(&network.conflist, &network.attachment).await?;
            results.insert(network.typed.clone(), result);
        }
        let mut announcement = container.announcement();
        announcement.networks =
            Some(results.iter().map(|(name, result)| (name.clone(), result.to_newest())).collect());
        let hosts = self.store.hosts(&container.namespace);
        blocking(move || hosts.acquire(&announcement)).await?;
        Ok(results)
    }

    /// Taking a name that the container has already is nothing; nerdctl's postStop hook may have freed it, though.
    async fn retake_name(&self, container: &Container) {
        let Some(name) = container.name.clone() else { return };
        let names = self.store.names(&container.namespace);
        let id = container.id.clone();
        if let Err(error) = blocking(move || names.acquire(&name, &id)).await {
            tracing::error!(%error, "could not take the container's name again");
        }
    }

    /// The lock under which hooks run CNI plugins.
    pub(crate) async fn lock_cni(&self) -> Result<nerdctl_store::locks::FileLock> {
        let netconf = self.netconf.clone();
        blocking(move || cni_concurrency(&netconf, CNI_LOCK_DEADLINE)).await
    }

    /// Finds the container's networks and says how it is to be attached to each.
    ///
    /// A network that does not exist any more is an error when there is a namespace to attach, and left out otherwise.
    pub(crate) async fn plan(
        &self,
        container: &Container,
        conflists: &Conflists,
        netns: Option<&Path>,
    ) -> Result<Vec<Planned>> {
        let state = self.store.state_dir(&container.namespace, &container.id);
        let ports = blocking(move || state.network_config()).await?.port_mappings;
        let mut planned = Vec::new();
        for (index, typed) in container.mode.cni_networks().iter().enumerate() {
            match conflists.find(typed) {
                Some(conflist) => planned.push(Planned {
                    typed: typed.clone(),
                    conflist: conflist.clone(),
                    attachment: attachment(container, index, netns, &ports),
                }),
                None if netns.is_some() => {
                    return Err(NetworkingError::NoSuchNetwork { name: typed.clone() });
                }
                None => tracing::warn!(network = %typed, "does not exist any more"),
            }
        }
        Ok(planned)
    }
}

/// One network of a container, and how it is attached to it.
#[derive(Debug)]
pub(crate) struct Planned {
    /// As in the networks label.
    pub(crate) typed: String,
    pub(crate) conflist: Conflist,
    pub(crate) attachment: Attachment,
}

/// The n-th interface of a container, with the arguments that nerdctl passes.
fn attachment(
    container: &Container,
    index: usize,
    netns: Option<&Path>,
    ports: &[PortMapping],
) -> Attachment {
    let mut args = vec![
        ("IgnoreUnknown".to_owned(), "1".to_owned()),
        ("NERDCTL_CNI_DHCP_HOSTNAME".to_owned(), container.hostname.clone()),
    ];
    args.extend(container.ip.clone().map(|ip| ("IP".to_owned(), ip)));
    args.extend(container.mac_address.clone().map(|mac| ("MAC".to_owned(), mac)));
    Attachment {
        container_id: container.cni_id(),
        netns: netns.map(Path::to_owned),
        if_name: format!("eth{index}"),
        args,
        capability_args: capability_args(container, ports),
    }
}

fn capability_args(container: &Container, ports: &[PortMapping]) -> Map<String, Value> {
    let mut arguments = Map::new();
    if !ports.is_empty() {
        // A list of structs with string keys can always be encoded.
        arguments
            .insert("portMappings".to_owned(), serde_json::to_value(ports).unwrap_or_default());
    }
    if let Some(ip6) = &container.ip6 {
        arguments.insert("ips".to_owned(), Value::from(vec![ip6.clone()]));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_get_what_nerdctl_gives_them() {
        let container = Container {
            namespace: "default".parse().unwrap(),
            id: "abc".parse().unwrap(),
            name: None,
            hostname: "h".into(),
            domainname: String::new(),
            mode: NetworkMode::Cni(vec!["a".into(), "b".into()]),
            extra_hosts: BTreeMap::new(),
            ip: Some("10.4.0.9".into()),
            ip6: Some("fd00::9".into()),
            mac_address: Some("02:00:00:00:00:01".into()),
        };
        let ports = [PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".into(),
            host_ip: "0.0.0.0".into(),
        }];
        let attachment = attachment(&container, 1, Some(Path::new("/proc/7/ns/net")), &ports);
        assert_eq!(
            (attachment.container_id.as_str(), attachment.if_name.as_str()),
            ("default-abc", "eth1")
        );
        let args: Vec<_> =
            attachment.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            args,
            [
                "IgnoreUnknown=1",
                "NERDCTL_CNI_DHCP_HOSTNAME=h",
                "IP=10.4.0.9",
                "MAC=02:00:00:00:00:01"
            ]
        );
        assert_eq!(
            Value::Object(attachment.capability_args),
            serde_json::json!({
                "portMappings": [
                    {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "0.0.0.0"}
                ],
                "ips": ["fd00::9"]
            })
        );
    }
}
