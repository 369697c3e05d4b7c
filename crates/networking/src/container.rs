//! Who is to be attached to what, as the container's labels or annotations say.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use names::{ContainerId, ContainerName, Namespace};
use nerdctl_store::hosts::HostsMeta;
use nerdctl_store::labels::{ContainerLabels, keys};

use crate::error::{NetworkingError, Result};

/// A container, as far as its networks are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// containerd namespace.
    pub namespace: Namespace,
    /// Container id.
    pub id: ContainerId,
    /// Its name, if it has one.
    pub name: Option<ContainerName>,
    /// Host name in it.
    pub hostname: String,
    /// Domain name in it; usually empty.
    pub domainname: String,
    /// How it is attached.
    pub mode: NetworkMode,
    /// Addresses of additional hosts by name.
    pub extra_hosts: BTreeMap<String, String>,
    /// Static IPv4 address; goes to all of its networks, as with nerdctl.
    pub ip: Option<String>,
    /// Static IPv6 address.
    pub ip6: Option<String>,
    /// Static MAC address.
    pub mac_address: Option<String>,
}

/// How a container is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// To CNI networks, in this order: names or ids as the user typed them. The n-th becomes `eth<n>`.
    Cni(Vec<String>),
    /// It is in the host's network namespace.
    Host,
    /// It has loopback only.
    None,
    /// It is in another container's network namespace.
    Container(String),
    /// It is in the network namespace at this path.
    Path(String),
}

impl NetworkMode {
    /// Decodes the networks label: its entries must all be of one kind, and none means CNI.
    ///
    /// # Errors
    /// [`NetworkingError::MixedNetworks`].
    pub fn detect(networks: &[String]) -> Result<Self> {
        if let Some((first, second)) = different_kinds(networks) {
            return Err(NetworkingError::MixedNetworks { first, second });
        }
        let rest = |prefix| {
            networks.first().and_then(|network| network.strip_prefix(prefix)).unwrap_or_default()
        };
        Ok(match networks.first().map_or("", |network| kind(network)) {
            "none" => Self::None,
            "host" => Self::Host,
            "container" => Self::Container(rest("container:").to_owned()),
            "ns" => Self::Path(rest("ns:").to_owned()),
            _ => Self::Cni(networks.to_vec()),
        })
    }

    /// The CNI networks; none for the other modes.
    #[must_use]
    pub fn cni_networks(&self) -> &[String] {
        match self {
            Self::Cni(networks) => networks,
            _ => &[],
        }
    }
}

fn kind(network: &str) -> &str {
    match network.split(':').next().unwrap_or_default() {
        special @ ("none" | "host" | "container" | "ns") => special,
        _ => "cni",
    }
}

fn different_kinds(networks: &[String]) -> Option<(String, String)> {
    let first = networks.first()?;
    let second = networks.iter().find(|network| kind(network) != kind(first))?;
    Some((first.clone(), second.clone()))
}

impl Container {
    /// Decodes the labels of a container record, or the annotations of an OCI spec; the latter are what hooks get.
    ///
    /// Stricter than [`ContainerLabels`]: without its networks or extra hosts, or with damaged ones, a container
    /// would run, but not as it should.
    ///
    /// # Errors
    /// If a label without which it cannot be attached is missing or cannot be decoded.
    pub fn from_labels<S: BuildHasher>(
        id: &str,
        labels: &HashMap<String, String, S>,
    ) -> Result<Self> {
        let networks: Vec<String> = required_json(labels, keys::NETWORKS)?;
        let extra_hosts: Vec<String> = required_json(labels, keys::EXTRA_HOSTS)?;
        let parsed = ContainerLabels::parse(labels);
        if parsed.namespace.is_empty() {
            return Err(NetworkingError::Missing { key: keys::NAMESPACE });
        }
        Ok(Self {
            namespace: checked(keys::NAMESPACE, &parsed.namespace)?,
            id: checked("id", id)?,
            name: Some(parsed.name)
                .filter(|name| !name.is_empty())
                .map(|name| checked(keys::NAME, &name))
                .transpose()?,
            hostname: parsed.hostname,
            domainname: parsed.domainname,
            mode: NetworkMode::detect(&networks)?,
            extra_hosts: split_hosts(&extra_hosts),
            ip: parsed.ip,
            ip6: parsed.ip6,
            mac_address: parsed.mac_address,
        })
    }

    /// Id under which CNI plugins know the container. Another form would leak leases and rules, because nerdctl
    /// would not find them.
    #[must_use]
    pub fn cni_id(&self) -> String {
        format!("{}-{}", self.namespace, self.id)
    }

    /// What other containers are to know of it, still without addresses.
    pub(crate) fn announcement(&self) -> HostsMeta {
        HostsMeta {
            id: self.id.to_string(),
            networks: None,
            hostname: self.hostname.clone(),
            extra_hosts: self.extra_hosts.clone(),
            name: self.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            domainname: self.domainname.clone(),
        }
    }
}

fn required_json<T, S>(labels: &HashMap<String, String, S>, key: &'static str) -> Result<T>
where
    T: serde::de::DeserializeOwned,
    S: BuildHasher,
{
    let text = labels.get(key).ok_or(NetworkingError::Missing { key })?;
    serde_json::from_str(text).map_err(|source| NetworkingError::BadJson { key, source })
}

fn checked<T: std::str::FromStr>(key: &'static str, value: &str) -> Result<T> {
    value.parse().map_err(|_| NetworkingError::BadName { key, value: value.to_owned() })
}

/// `host:ip` each; an IPv6 address has more colons. What has none is skipped, as nerdctl does.
fn split_hosts(hosts: &[String]) -> BTreeMap<String, String> {
    let pairs = hosts.iter().filter_map(|host| host.split_once(':'));
    pairs.map(|(host, address)| (host.to_owned(), address.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn modes_are_told_by_the_part_before_the_colon() {
        for (networks, mode) in [
            (&[][..], NetworkMode::Cni(vec![])),
            (&["bridge"], NetworkMode::Cni(strings(&["bridge"]))),
            (&["front", "back"], NetworkMode::Cni(strings(&["front", "back"]))),
            (&["host"], NetworkMode::Host),
            (&["none"], NetworkMode::None),
            (&["container:abc"], NetworkMode::Container("abc".into())),
            (&["ns:/run/netns/x:y"], NetworkMode::Path("/run/netns/x:y".into())),
        ] {
            assert_eq!(NetworkMode::detect(&strings(networks)).unwrap(), mode);
        }
        let error = NetworkMode::detect(&strings(&["bridge", "host"])).unwrap_err();
        assert_eq!(error.to_string(), r#"mixed network types: "bridge" and "host""#);
    }

    #[test]
    fn a_container_is_read_from_its_annotations() {
        let container = Container::from_labels(
            "abc",
            &labels(&[
                ("nerdctl/namespace", "default"),
                ("nerdctl/name", "web"),
                ("nerdctl/hostname", "h"),
                ("nerdctl/domainname", ""),
                ("nerdctl/networks", r#"["bridge"]"#),
                ("nerdctl/extraHosts", r#"["db:192.0.2.1","six:fd00::1","damaged"]"#),
            ]),
        )
        .unwrap();
        assert_eq!(container.cni_id(), "default-abc");
        assert_eq!(container.mode.cni_networks(), ["bridge"]);
        let hosts: Vec<_> =
            container.extra_hosts.iter().map(|(host, ip)| format!("{host} {ip}")).collect();
        assert_eq!(hosts, ["db 192.0.2.1", "six fd00::1"]);
    }

    #[test]
    fn what_hooks_need_must_be_there() {
        let whole = [
            ("nerdctl/namespace", "default"),
            ("nerdctl/networks", "[]"),
            ("nerdctl/extraHosts", "[]"),
        ];
        assert!(Container::from_labels("abc", &labels(&whole)).is_ok());
        for missing in 0..whole.len() {
            let mut pairs = whole.to_vec();
            let (key, _) = pairs.remove(missing);
            let error = Container::from_labels("abc", &labels(&pairs)).unwrap_err();
            assert_eq!(error.to_string(), format!("the container has no {key:?}"));
        }
        let damaged = labels(&[("nerdctl/namespace", "default"), ("nerdctl/networks", "bridge")]);
        let error = Container::from_labels("abc", &damaged).unwrap_err();
        assert_eq!(error.to_string(), r#"the container's "nerdctl/networks" cannot be read"#);
        let outside = labels(&[
            ("nerdctl/namespace", "../x"),
            ("nerdctl/networks", "[]"),
            ("nerdctl/extraHosts", "[]"),
        ]);
        assert!(matches!(
            Container::from_labels("abc", &outside),
            Err(NetworkingError::BadName { .. })
        ));
    }
}
