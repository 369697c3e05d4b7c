//! All labels of one container, decoded and encoded.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys;
use super::values::{
    DnsSettings, HealthState, Healthcheck, HostConfig, Ipc, LogConfig, MountPoint, PortMapping,
};
use super::{MAX_LABEL_BYTES, is_storable};
use crate::error::Result;
use crate::go_json;

/// Labels that nerdctl only shows. One that is too long for containerd is left out, because a container without it runs as
/// it should; of the others, too long ones make the creation fail.
const ONLY_SHOWN: [&str; 4] = [keys::EXPOSED_PORTS, keys::HOST_CONFIG, keys::DNS, keys::ERROR];

/// The mounts of a container, for who deletes what nobody mounts: unlike [`ContainerLabels::parse`], this does not take
/// a label that cannot be decoded for a container without mounts.
///
/// # Errors
/// A label of the mounts that is not as nerdctl writes it.
pub fn mounts<S: BuildHasher>(
    labels: &HashMap<String, String, S>,
) -> serde_json::Result<Vec<MountPoint>> {
    let source = Source(labels);
    let array: Option<Vec<MountPoint>> =
        source.get(keys::MOUNTS).map(serde_json::from_str).transpose()?.flatten();
    match array.filter(|mounts| !mounts.is_empty()) {
        Some(mounts) => Ok(mounts),
        None => source.indexed_mounts().map(serde_json::from_str).collect(),
    }
}

/// What nerdctl's labels say about a container.
///
/// Reading is tolerant, because containers of every nerdctl release, of `ctr` and of Kubernetes come by: a missing
/// label leaves the default, and one that cannot be decoded is the same as missing. Writing gives what nerdctl
/// ≥ 2.3 would have written.
///
/// Labels of the user, and those of the image, are not in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerLabels {
    /// `nerdctl/namespace`.
    pub namespace: String,
    /// `nerdctl/name`; empty if it has none.
    pub name: String,
    /// `nerdctl/hostname`.
    pub hostname: String,
    /// `nerdctl/domainname`; usually empty.
    pub domainname: String,
    /// `nerdctl/extraHosts`: `host:ip` each.
    pub extra_hosts: Vec<String>,
    /// `nerdctl/state-dir`: absolute path.
    pub state_dir: String,
    /// `nerdctl/networks`, as typed: `bridge`, `host`, `none`, `container:<id>`, `ns:<path>` or names.
    pub networks: Vec<String>,
    /// `nerdctl/ports`: only old releases wrote it, and we never do; `network-config.json` has them now.
    pub legacy_ports: Vec<PortMapping>,
    /// `nerdctl/ip`.
    pub ip: Option<String>,
    /// `nerdctl/ip6`.
    pub ip6: Option<String>,
    /// `nerdctl/mac-address`.
    pub mac_address: Option<String>,
    /// `nerdctl/log-uri`.
    pub log_uri: Option<String>,
    /// `nerdctl/log-config`; written only together with a log URI.
    pub log_config: Option<LogConfig>,
    /// `nerdctl/platform`.
    pub platform: String,
    /// `nerdctl/mounts`, or `nerdctl/mounts.0` and so on.
    pub mounts: Vec<MountPoint>,
    /// `nerdctl/anonymous-volumes`.
    pub anonymous_volumes: Vec<String>,
    /// `nerdctl/exposed-ports`: `80/tcp`, sorted.
    pub exposed_ports: Vec<String>,
    /// `nerdctl/pid-container`.
    pub pid_container: Option<String>,
    /// `nerdctl/ipc`.
    pub ipc: Option<Ipc>,
    /// `nerdctl/stop-timeout`, seconds; not written if zero or absent.
    pub stop_timeout: Option<i64>,
    /// `nerdctl/auto-remove`.
    pub auto_remove: bool,
    /// `nerdctl/host-config`.
    pub host_config: HostConfig,
    /// `nerdctl/dns`.
    pub dns: DnsSettings,
    /// `nerdctl/user`.
    pub user: Option<String>,
    /// `nerdctl/privileged`.
    pub privileged: bool,
    /// `nerdctl/healthcheck`.
    pub healthcheck: Option<Healthcheck>,
    /// `nerdctl/healthstate`.
    pub health_state: Option<HealthState>,
    /// `nerdctl/error`.
    pub error: Option<String>,
    /// `io.containerd.image.config.stop-signal`.
    pub stop_signal: Option<String>,
    /// `containerd.io/restart.*`.
    pub restart: RestartLabels,
}

/// The labels that containerd's restart plugin reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestartLabels {
    /// `restart.policy`: `always`, `unless-stopped`, `on-failure[:n]`; none means no restarts.
    pub policy: Option<String>,
    /// `restart.status`: `running`, `stopped`, or something inert.
    pub status: Option<String>,
    /// `restart.loguri`.
    pub log_uri: Option<String>,
    /// `restart.count`.
    pub count: u64,
    /// `restart.explicitly-stopped`.
    pub explicitly_stopped: bool,
}

impl ContainerLabels {
    /// Decodes a container's labels, or the annotations of its OCI spec.
    #[must_use]
    pub fn parse<S: BuildHasher>(labels: &HashMap<String, String, S>) -> Self {
        let source = Source(labels);
        Self {
            namespace: source.text(keys::NAMESPACE),
            name: source.text(keys::NAME),
            hostname: source.text(keys::HOSTNAME),
            domainname: source.text(keys::DOMAINNAME),
            extra_hosts: source.json(keys::EXTRA_HOSTS).unwrap_or_default(),
            state_dir: source.text(keys::STATE_DIR),
            networks: source.json(keys::NETWORKS).unwrap_or_default(),
            legacy_ports: source.json(keys::PORTS).unwrap_or_default(),
            ip: source.optional(keys::IP),
            ip6: source.optional(keys::IP6),
            mac_address: source.optional(keys::MAC_ADDRESS),
            log_uri: source.optional(keys::LOG_URI),
            log_config: source.json(keys::LOG_CONFIG),
            platform: source.text(keys::PLATFORM),
            mounts: source.mounts(),
            anonymous_volumes: source.json(keys::ANONYMOUS_VOLUMES).unwrap_or_default(),
            exposed_ports: source.object_keys(keys::EXPOSED_PORTS),
            pid_container: source.optional(keys::PID_CONTAINER),
            ipc: source.json(keys::IPC),
            stop_timeout: source.number(keys::STOP_TIMEOUT),
            auto_remove: source.flag(keys::AUTO_REMOVE),
            host_config: source.json(keys::HOST_CONFIG).unwrap_or_default(),
            dns: source.json(keys::DNS).unwrap_or_default(),
            user: source.optional(keys::USER),
            privileged: source.flag(keys::PRIVILEGED),
            healthcheck: source.json(keys::HEALTHCHECK),
            health_state: source.json(keys::HEALTHSTATE),
            error: source.optional(keys::ERROR),
            stop_signal: source.optional(keys::STOP_SIGNAL),
            restart: RestartLabels {
                policy: source.optional(keys::RESTART_POLICY),
                status: source.optional(keys::RESTART_STATUS),
                log_uri: source.optional(keys::RESTART_LOG_URI),
                count: source.number(keys::RESTART_COUNT).unwrap_or_default(),
                explicitly_stopped: source.flag(keys::RESTART_EXPLICITLY_STOPPED),
            },
        }
    }

    /// The labels to store with the container record. Nothing with an empty value is in it: containerd drops those. Nor is
    /// what nerdctl only shows and containerd would refuse.
    ///
    /// # Errors
    /// None in practice; the documents can all be encoded.
    pub fn to_labels(&self) -> Result<BTreeMap<String, String>> {
        let mut sink = Sink(self.nerdctl_entries()?);
        sink.optional(keys::STOP_SIGNAL, self.stop_signal.as_ref());
        sink.optional(keys::RESTART_POLICY, self.restart.policy.as_ref());
        sink.optional(keys::RESTART_STATUS, self.restart.status.as_ref());
        sink.optional(keys::RESTART_LOG_URI, self.restart.log_uri.as_ref());
        if self.restart.count > 0 {
            sink.text(keys::RESTART_COUNT, &self.restart.count.to_string());
        }
        if self.restart.explicitly_stopped {
            sink.text(keys::RESTART_EXPLICITLY_STOPPED, "true");
        }
        sink.0.retain(|key, value| {
            let droppable = value.is_empty() || ONLY_SHOWN.contains(&key.as_str());
            !droppable || is_storable(key, value)
        });
        Ok(sink.0)
    }

    /// The annotations to put into the OCI spec: the same values for every `nerdctl/` key, empty ones included.
    /// nerdctl's hooks, `stop`, `kill` and `rm` read these, not the labels.
    ///
    /// # Errors
    /// None in practice; the documents can all be encoded.
    pub fn to_annotations(&self) -> Result<BTreeMap<String, String>> {
        self.nerdctl_entries()
    }

    fn nerdctl_entries(&self) -> Result<BTreeMap<String, String>> {
        let mut sink = Sink(BTreeMap::new());
        sink.text(keys::NAMESPACE, &self.namespace);
        sink.text(keys::NAME, &self.name);
        sink.text(keys::HOSTNAME, &self.hostname);
        sink.text(keys::DOMAINNAME, &self.domainname);
        sink.json(keys::EXTRA_HOSTS, &self.extra_hosts)?;
        sink.text(keys::STATE_DIR, &self.state_dir);
        sink.json(keys::NETWORKS, &self.networks)?;
        sink.optional(keys::IP, self.ip.as_ref());
        sink.optional(keys::IP6, self.ip6.as_ref());
        sink.optional(keys::MAC_ADDRESS, self.mac_address.as_ref());
        if let Some(uri) = &self.log_uri {
            sink.text(keys::LOG_URI, uri);
            sink.json(keys::LOG_CONFIG, &self.log_config.clone().unwrap_or_default())?;
        }
        sink.text(keys::PLATFORM, &self.platform);
        sink.mounts(&self.mounts)?;
        sink.list(keys::ANONYMOUS_VOLUMES, &self.anonymous_volumes)?;
        sink.set(keys::EXPOSED_PORTS, &self.exposed_ports)?;
        sink.optional(keys::PID_CONTAINER, self.pid_container.as_ref());
        sink.json(keys::IPC, &self.ipc.clone().unwrap_or_default())?;
        if let Some(seconds) = self.stop_timeout.filter(|seconds| *seconds != 0) {
            sink.text(keys::STOP_TIMEOUT, &seconds.to_string());
        }
        sink.text(keys::AUTO_REMOVE, if self.auto_remove { "true" } else { "false" });
        sink.json(keys::HOST_CONFIG, &self.host_config)?;
        sink.json(keys::DNS, &self.dns)?;
        sink.optional(keys::USER, self.user.as_ref());
        if self.privileged {
            sink.text(keys::PRIVILEGED, "true");
        }
        if let Some(check) = &self.healthcheck {
            sink.json(keys::HEALTHCHECK, check)?;
        }
        if let Some(state) = &self.health_state {
            sink.json(keys::HEALTHSTATE, state)?;
        }
        sink.optional(keys::ERROR, self.error.as_ref());
        Ok(sink.0)
    }
}

/// Reads labels one by one.
struct Source<'a, S>(&'a HashMap<String, String, S>);

impl<S: BuildHasher> Source<'_, S> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }

    fn optional(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        self.get(key)?.parse().ok()
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key) == Some("true")
    }

    fn json<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.get(key)?).ok()
    }

    fn object_keys(&self, key: &str) -> Vec<String> {
        let object: BTreeMap<String, serde_json::Value> = self.json(key).unwrap_or_default();
        object.into_keys().collect()
    }

    /// The array if it says something, as in all releases; otherwise the indexed labels.
    fn mounts(&self) -> Vec<MountPoint> {
        let array: Vec<MountPoint> = self.json(keys::MOUNTS).unwrap_or_default();
        if !array.is_empty() {
            return array;
        }
        self.indexed_mounts().filter_map(|mount| serde_json::from_str(mount).ok()).collect()
    }

    /// Those up to the first gap, as nerdctl reads them.
    fn indexed_mounts(&self) -> impl Iterator<Item = &str> {
        (0..self.0.len()).map_while(|index| self.get(&indexed_mount_key(index)))
    }
}

/// Writes labels one by one.
struct Sink(BTreeMap<String, String>);

impl Sink {
    fn text(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    fn optional(&mut self, key: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn json<T: Serialize>(&mut self, key: &'static str, value: &T) -> Result<()> {
        self.text(key, &go_json::to_string(key, value)?);
        Ok(())
    }

    fn list(&mut self, key: &'static str, items: &[String]) -> Result<()> {
        if items.is_empty() { Ok(()) } else { self.json(key, &items) }
    }

    /// A Go set: an object with empty objects as values.
    fn set(&mut self, key: &'static str, items: &[String]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let object: BTreeMap<&String, BTreeMap<(), ()>> =
            items.iter().map(|item| (item, BTreeMap::new())).collect();
        self.json(key, &object)
    }

    /// One array while it fits into a label, because every release reads that; otherwise a label for each mount,
    /// which releases before 2.3.2 do not see. Never both.
    fn mounts(&mut self, mounts: &[MountPoint]) -> Result<()> {
        if mounts.is_empty() {
            return Ok(());
        }
        let array = go_json::to_string(keys::MOUNTS, mounts)?;
        if is_storable(keys::MOUNTS, &array) {
            self.text(keys::MOUNTS, &array);
            return Ok(());
        }
        debug_assert!(array.len() + keys::MOUNTS.len() > MAX_LABEL_BYTES);
        for (index, mount) in mounts.iter().enumerate() {
            let value = go_json::to_string(keys::MOUNTS, mount)?;
            self.text(&indexed_mount_key(index), &value);
        }
        Ok(())
    }
}

fn indexed_mount_key(index: usize) -> String {
    format!("{}{index}", keys::MOUNTS_INDEXED_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels of `nerdctl run -d --name web -v data:/data --restart unless-stopped nginx`.
    fn web() -> ContainerLabels {
        let uri = "binary:///usr/local/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59";
        ContainerLabels {
            namespace: "default".into(),
            name: "web".into(),
            hostname: "0123456789ab".into(),
            state_dir: "/var/lib/nerdctl/1935db59/containers/default/0123456789ab".into(),
            networks: vec!["bridge".into()],
            log_uri: Some(uri.into()),
            log_config: Some(LogConfig {
                driver: "json-file".into(),
                address: "/run/containerd/containerd.sock".into(),
                ..LogConfig::default()
            }),
            platform: "linux/amd64".into(),
            mounts: vec![volume("data")],
            ipc: Some(Ipc::default()),
            stop_signal: Some("SIGQUIT".into()),
            restart: RestartLabels {
                policy: Some("unless-stopped".into()),
                log_uri: Some(uri.into()),
                ..RestartLabels::default()
            },
            ..ContainerLabels::default()
        }
    }

    fn volume(name: &str) -> MountPoint {
        MountPoint {
            r#type: "volume".into(),
            name: name.into(),
            source: format!("/var/lib/nerdctl/1935db59/volumes/default/{name}/_data"),
            destination: "/data".into(),
            driver: "local".into(),
            rw: true,
            ..MountPoint::default()
        }
    }

    fn unordered(map: BTreeMap<String, String>) -> HashMap<String, String> {
        map.into_iter().collect()
    }

    #[test]
    fn labels_are_those_nerdctl_stores() {
        let expected = [
            (
                "containerd.io/restart.loguri",
                "binary:///usr/local/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59",
            ),
            ("containerd.io/restart.policy", "unless-stopped"),
            ("io.containerd.image.config.stop-signal", "SIGQUIT"),
            ("nerdctl/auto-remove", "false"),
            (
                "nerdctl/dns",
                r#"{"DNSServers":null,"DNSResolvConfOptions":null,"DNSSearchDomains":null}"#,
            ),
            ("nerdctl/extraHosts", "[]"),
            ("nerdctl/host-config", r#"{"BlkioWeight":0,"CidFile":"","Devices":null}"#),
            ("nerdctl/hostname", "0123456789ab"),
            ("nerdctl/ipc", r#"{"mode":"private"}"#),
            (
                "nerdctl/log-config",
                r#"{"driver":"json-file","address":"/run/containerd/containerd.sock"}"#,
            ),
            (
                "nerdctl/log-uri",
                "binary:///usr/local/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59",
            ),
            (
                "nerdctl/mounts",
                r#"[{"Type":"volume","Name":"data","Source":"/var/lib/nerdctl/1935db59/volumes/default/data/_data","Destination":"/data","Driver":"local","Mode":"","RW":true,"Propagation":""}]"#,
            ),
            ("nerdctl/name", "web"),
            ("nerdctl/namespace", "default"),
            ("nerdctl/networks", r#"["bridge"]"#),
            ("nerdctl/platform", "linux/amd64"),
            ("nerdctl/state-dir", "/var/lib/nerdctl/1935db59/containers/default/0123456789ab"),
        ];
        let labels = web().to_labels().unwrap();
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(labels, expected);
    }

    #[test]
    fn annotations_have_the_nerdctl_keys_with_empty_values_too() {
        let annotations = web().to_annotations().unwrap();
        assert!(annotations.keys().all(|key| key.starts_with(keys::NERDCTL_PREFIX)));
        assert_eq!(annotations[keys::DOMAINNAME], "");
        let labels = web().to_labels().unwrap();
        for (key, value) in annotations.iter().filter(|(key, _)| key.as_str() != keys::DOMAINNAME) {
            assert_eq!(labels[key], *value, "{key}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut labels = web();
        labels.ip = Some("10.4.0.9".into());
        labels.exposed_ports = vec!["53/udp".into(), "80/tcp".into()];
        labels.stop_timeout = Some(3);
        labels.auto_remove = true;
        labels.privileged = true;
        labels.anonymous_volumes = vec!["a".repeat(64)];
        labels.restart.count = 7;
        labels.restart.explicitly_stopped = true;
        assert_eq!(ContainerLabels::parse(&unordered(labels.to_labels().unwrap())), labels);
    }

    #[test]
    fn many_mounts_get_a_label_each() {
        let mut labels = web();
        labels.mounts = (0..40).map(|n| volume(&format!("volume-{n}"))).collect();
        let written = labels.to_labels().unwrap();
        assert!(!written.contains_key(keys::MOUNTS));
        assert!(written.contains_key("nerdctl/mounts.39"));
        assert!(written.iter().all(|(key, value)| is_storable(key, value)));
        assert_eq!(ContainerLabels::parse(&unordered(written)).mounts, labels.mounts);
    }

    #[test]
    fn what_is_only_shown_is_left_out_where_it_is_too_long() {
        let mut labels = web();
        labels.exposed_ports = (1..600).map(|port| format!("{port}/tcp")).collect();
        labels.error = Some("x".repeat(MAX_LABEL_BYTES));
        let written = labels.to_labels().unwrap();
        assert!(!written.contains_key(keys::EXPOSED_PORTS) && !written.contains_key(keys::ERROR));
        assert!(written.contains_key(keys::HOST_CONFIG) && written.contains_key(keys::DNS));
        assert!(written.iter().all(|(key, value)| is_storable(key, value)));
        assert!(labels.to_annotations().unwrap().contains_key(keys::EXPOSED_PORTS));
        labels.networks = vec!["n".repeat(MAX_LABEL_BYTES)];
        assert!(
            labels.to_labels().unwrap().contains_key(keys::NETWORKS),
            "for containerd to refuse"
        );
    }

    #[test]
    fn mounts_that_cannot_be_decoded_are_not_none() {
        let read = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            mounts(&labels.collect::<HashMap<_, _>>())
        };
        let one = serde_json::to_string(&volume("a")).unwrap();
        assert_eq!(read(&[("nerdctl/name", "web")]).unwrap(), []);
        assert_eq!(read(&[("nerdctl/mounts", &format!("[{one}]"))]).unwrap(), [volume("a")]);
        for empty in ["", "null", "[]"] {
            let labels = [("nerdctl/mounts", empty), ("nerdctl/mounts.0", &one)];
            assert_eq!(read(&labels).unwrap(), [volume("a")], "{empty:?}");
        }
        assert!(read(&[("nerdctl/mounts", "[{")]).is_err());
        assert!(read(&[("nerdctl/mounts.0", &one), ("nerdctl/mounts.1", "7")]).is_err());
    }

    #[test]
    fn foreign_and_damaged_labels_are_tolerated() {
        let labels = HashMap::from([
            ("nerdctl/networks".to_owned(), "not json".to_owned()),
            ("nerdctl/ipc".to_owned(), "7".to_owned()),
            ("nerdctl/stop-timeout".to_owned(), "soon".to_owned()),
            ("containerd.io/restart.count".to_owned(), "-1".to_owned()),
            ("other".to_owned(), "x".to_owned()),
        ]);
        assert_eq!(ContainerLabels::parse(&labels), ContainerLabels::default());
    }

    #[test]
    fn labels_of_an_old_release_are_read() {
        let labels = HashMap::from([(
            "nerdctl/ports".to_owned(),
            r#"[{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"}]"#
                .to_owned(),
        )]);
        assert_eq!(ContainerLabels::parse(&labels).legacy_ports[0].container_port, 80);
    }
}
