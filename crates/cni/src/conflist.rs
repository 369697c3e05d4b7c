//! Network configurations: reading one, and all of a folder.
//!
//! Networks of nerdctl are `nerdctl-<name>.conflist`: the default one in the folder itself, others below it in one
//! folder for each namespace. Other files there, such as a Kubernetes CNI's, are networks too. nerdctl gives up on
//! everything when one file cannot be read; we leave that one out and say so.
//!
//! Sources: nerdctl `pkg/netutil/{netutil,store}.go`, containernetworking/cni `libcni/conf.go`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::default_bridge::DEFAULT_BRIDGE;
use crate::error::{CniError, IoContext, Result};
use crate::result::Cidr;
use crate::version::Version;

const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];
const DEFAULT_NETWORK_LABEL: &str = "nerdctl/default-network";

/// One network: a name and the plugins that make it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflist {
    /// Name of the network.
    pub name: String,
    /// Version of the specification that its plugins are to speak.
    pub cni_version: Version,
    /// Whether `CHECK` is to be left out.
    pub disable_check: bool,
    /// 64 hex digits on networks made by nerdctl or us.
    pub nerdctl_id: Option<String>,
    /// Labels on networks made by nerdctl or us.
    pub labels: BTreeMap<String, String>,
    /// The plugins, in the order of `ADD`.
    pub plugins: Vec<Plugin>,
    /// The configuration as a conflist: what libcni caches.
    pub bytes: Vec<u8>,
    /// Where it was read from, if from a file.
    pub file: Option<PathBuf>,
}

/// One plugin of a [`Conflist`].
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Name of its program.
    pub kind: String,
    /// Its part of the conflist.
    pub config: Map<String, Value>,
}

impl Plugin {
    /// Whether it declares a capability, and so wants the runtime's argument of that name.
    #[must_use]
    pub fn has_capability(&self, name: &str) -> bool {
        self.config
            .get("capabilities")
            .and_then(|all| all.get(name))
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        self.config.get(key).and_then(Value::as_bool).unwrap_or_default()
    }
}

impl Conflist {
    /// Decodes a conflist, or a configuration of a single plugin (`.conf`), which is a conflist of one.
    ///
    /// # Errors
    /// If it is not JSON, lacks name, plugins or a plugin's type, or has a name that libcni would refuse.
    pub fn parse(bytes: &[u8], file: Option<&Path>) -> Result<Self> {
        let path = || file.unwrap_or(Path::new("(cached)")).to_owned();
        let incomplete = |lack| CniError::Incomplete { path: path(), lack };
        let object: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|source| CniError::NotJson { path: path(), source })?;

        let name = text(&object, "name")
            .filter(|name| !name.is_empty())
            .ok_or_else(|| incomplete("has no name"))?;
        // It becomes a part of file names in the cache.
        if !is_network_name(name) {
            return Err(incomplete("has a name with other characters than [a-zA-Z0-9_.-]"));
        }
        let (plugins, bytes) = match object.get("plugins") {
            Some(Value::Array(plugins)) => (plugins.clone(), bytes.to_vec()),
            Some(_) => return Err(incomplete("has plugins that are not a list")),
            None => single(&object),
        };
        let plugins = plugins
            .into_iter()
            .map(|plugin| {
                parse_plugin(plugin).ok_or_else(|| incomplete("has a plugin without type"))
            })
            .collect::<Result<Vec<_>>>()?;
        if plugins.is_empty() {
            return Err(incomplete("has no plugins"));
        }
        Ok(Self {
            name: name.to_owned(),
            cni_version: best_version(&object),
            disable_check: object.get("disableCheck").and_then(Value::as_bool).unwrap_or_default(),
            nerdctl_id: text(&object, "nerdctlID").map(str::to_owned),
            labels: string_map(object.get("nerdctlLabels")),
            plugins,
            bytes,
            file: file.map(Path::to_owned),
        })
    }

    /// What kind of network it is: the name of its first plugin, `bridge` or `macvlan`.
    #[must_use]
    pub fn driver(&self) -> &str {
        self.plugins.first().map(|plugin| plugin.kind.as_str()).unwrap_or_default()
    }

    /// Name of the bridge interface on the host, for bridges.
    #[must_use]
    pub fn bridge_interface(&self) -> Option<&str> {
        self.plugins
            .first()
            .filter(|plugin| plugin.kind == "bridge")
            .and_then(|plugin| text(&plugin.config, "bridge"))
    }

    /// Largest packet of a bridge's interfaces in bytes, if the configuration says.
    #[must_use]
    pub fn mtu(&self) -> Option<u64> {
        self.plugins.first()?.config.get("mtu")?.as_u64().filter(|mtu| *mtu > 0)
    }

    /// Whether a bridge's containers go out under the host's address.
    #[must_use]
    pub fn masquerades(&self) -> bool {
        self.plugins.first().is_some_and(|plugin| plugin.flag("ipMasq"))
    }

    /// Whether its containers reach each other: nerdctl's `icc` is an ingress policy of the firewall.
    #[must_use]
    pub fn lets_containers_talk(&self) -> bool {
        !self.plugins.iter().any(|plugin| text(&plugin.config, "ingressPolicy") == Some("isolated"))
    }

    /// Whether it has no way out. nerdctl writes no flag for that: it leaves out gateway, masquerading and ports.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        let Some(first) = self.plugins.first().filter(|plugin| plugin.kind == "bridge") else {
            return false;
        };
        let publishes_ports = self.plugins.iter().any(|plugin| plugin.kind == "portmap");
        !first.flag("isGateway") && !first.flag("ipMasq") && !publishes_ports
    }

    /// Whether nerdctl calls it the default network by label.
    #[must_use]
    pub fn is_labelled_default(&self) -> bool {
        self.labels.contains_key(DEFAULT_NETWORK_LABEL)
    }

    /// Name of the plugin that gives out addresses, `host-local`; empty if there is none.
    #[must_use]
    pub fn ipam_driver(&self) -> &str {
        self.ipam().and_then(|ipam| text(ipam, "type")).unwrap_or_default()
    }

    /// Where that plugin keeps its leases, if the conflist says.
    #[must_use]
    pub fn ipam_data_dir(&self) -> Option<PathBuf> {
        self.ipam().and_then(|ipam| text(ipam, "dataDir")).map(PathBuf::from)
    }

    /// Whether containers get IPv6 addresses in it.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.subnets().iter().any(|subnet| subnet.subnet.address.is_ipv6())
    }

    /// Subnets and gateways, in order; from `ranges`, or from the older single `subnet`.
    #[must_use]
    pub fn subnets(&self) -> Vec<Subnet> {
        let Some(ipam) = self.ipam() else { return Vec::new() };
        let sets = ipam.get("ranges").and_then(Value::as_array).into_iter().flatten();
        let ranges = sets.filter_map(Value::as_array).flatten().filter_map(Value::as_object);
        std::iter::once(ipam).chain(ranges).filter_map(Subnet::from_range).collect()
    }

    fn ipam(&self) -> Option<&Map<String, Value>> {
        self.plugins.first()?.config.get("ipam")?.as_object()
    }

    /// Whether `key` means this network: its name, its id, or exactly the first twelve digits of the id.
    fn answers_to(&self, key: &str) -> bool {
        self.name == key
            || self.nerdctl_id.as_deref().is_some_and(|id| id == key || id.get(..12) == Some(key))
    }
}

/// A range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The network.
    pub subnet: Cidr,
    /// Address of the bridge, if told.
    pub gateway: Option<String>,
    /// The part of the subnet that addresses are taken from, if nerdctl was told one.
    pub ip_range: Option<String>,
}

impl Subnet {
    fn from_range(range: &Map<String, Value>) -> Option<Self> {
        Some(Self {
            subnet: text(range, "subnet")?.parse().ok()?,
            gateway: text(range, "gateway").map(str::to_owned),
            ip_range: text(range, "ipRange").map(str::to_owned),
        })
    }
}

/// All networks that a namespace can see.
#[derive(Debug, Default)]
pub struct Conflists {
    /// Those that can be read, in nerdctl's order: sorted by path.
    pub found: Vec<Conflist>,
    /// Why the others cannot. nerdctl fails completely while there is one.
    pub broken: Vec<CniError>,
}

impl Conflists {
    /// Reads `.conf`, `.conflist` and `.json` of `<netconf>` and of `<netconf>/<namespace>`.
    ///
    /// Take nerdctl's lock of the folder (`.nerdctl.lock`) for it.
    ///
    /// # Errors
    /// If a folder exists and cannot be listed.
    pub fn read(netconf: &Path, namespace: &str) -> Result<Self> {
        let mut files = files_in(netconf)?;
        files.extend(files_in(&netconf.join(namespace))?);
        files.sort();
        let mut conflists = Self::default();
        for file in files {
            match fs::read(&file)
                .during("read", &file)
                .and_then(|bytes| Conflist::parse(&bytes, Some(&file)))
            {
                Ok(conflist) => conflists.found.push(conflist),
                Err(error) => conflists.broken.push(error),
            }
        }
        Ok(conflists)
    }

    /// The network that a name, an id, or the first twelve digits of an id means: the first that matches.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Conflist> {
        self.found.iter().find(|conflist| conflist.answers_to(key))
    }

    /// The default network: the first with nerdctl's label, else the one called `bridge`.
    #[must_use]
    pub fn default_network(&self) -> Option<&Conflist> {
        let labelled = self.found.iter().find(|conflist| conflist.is_labelled_default());
        labelled.or_else(|| self.found.iter().find(|conflist| conflist.name == DEFAULT_BRIDGE))
    }
}

/// Where the conflist of a network is to be written.
#[must_use]
pub fn file_for(netconf: &Path, namespace: &str, network: &str) -> PathBuf {
    let folder =
        if network == DEFAULT_BRIDGE { netconf.to_owned() } else { netconf.join(namespace) };
    folder.join(format!("nerdctl-{network}.conflist"))
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$` (containernetworking/cni `pkg/utils/utils.go`).
fn is_network_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).during("list", folder),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.during("list", folder)?.path();
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if EXTENSIONS.contains(&extension) && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// The conflist that libcni makes of a configuration for one plugin.
fn single(object: &Map<String, Value>) -> (Vec<Value>, Vec<u8>) {
    let plugins = vec![Value::Object(object.clone())];
    let mut list = Map::new();
    for key in ["name", "cniVersion"] {
        if let Some(value) = object.get(key) {
            list.insert(key.to_owned(), value.clone());
        }
    }
    list.insert("plugins".to_owned(), Value::Array(plugins.clone()));
    (plugins, Value::Object(list).to_string().into_bytes())
}

fn parse_plugin(plugin: Value) -> Option<Plugin> {
    let Value::Object(config) = plugin else { return None };
    let kind = text(&config, "type").filter(|kind| !kind.is_empty())?.to_owned();
    Some(Plugin { kind, config })
}

/// The highest version among `cniVersion` and `cniVersions` that we know.
fn best_version(object: &Map<String, Value>) -> Version {
    let several = object
        .get("cniVersions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let known =
        text(object, "cniVersion").into_iter().chain(several).filter_map(|text| text.parse().ok());
    known.filter(|version| *version <= Version::NEWEST).max().unwrap_or(Version::OLDEST)
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEFAULT_BRIDGE_SUBNET, default_bridge, network_id};

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_folder_is_read_as_nerdctl_does_but_for_broken_files() {
        let dir = tempfile::tempdir().unwrap();
        let netconf = dir.path();
        write(
            &file_for(netconf, "default", "bridge"),
            &default_bridge(DEFAULT_BRIDGE_SUBNET, false),
        );
        let mine = format!(
            r#"{{"cniVersion":"1.0.0","name":"mine","nerdctlID":"{}","plugins":[{{"type":"macvlan"}}]}}"#,
            network_id("mine")
        );
        write(&file_for(netconf, "default", "mine"), &mine);
        write(&file_for(netconf, "other", "hidden"), &mine.replace("mine", "hidden"));
        write(&netconf.join("10-k8s.conf"), r#"{"cniVersion":"0.3.1","name":"k8s","type":"ptp"}"#);
        write(&netconf.join("99-half.conflist"), "{\"cniVersion\":");
        write(&netconf.join("98-empty.conflist"), r#"{"name":"empty","plugins":[]}"#);
        write(&netconf.join("notes.txt"), "not a network");

        let networks = Conflists::read(netconf, "default").unwrap();
        let names: Vec<_> = networks.found.iter().map(|network| network.name.as_str()).collect();
        assert_eq!(names, ["k8s", "mine", "bridge"], "sorted by path");
        assert_eq!(networks.broken.len(), 2);

        for key in ["mine", &network_id("mine"), &network_id("mine")[..12]] {
            assert_eq!(networks.find(key).unwrap().name, "mine", "{key}");
        }
        assert!(networks.find(&network_id("mine")[..11]).is_none(), "no other prefix");
        assert!(networks.find("hidden").is_none(), "another namespace");
        assert_eq!(networks.default_network().unwrap().name, "bridge");
        assert!(Conflists::read(&netconf.join("absent"), "default").unwrap().found.is_empty());
    }

    #[test]
    fn a_network_says_what_it_is() {
        let bridge =
            Conflist::parse(default_bridge(DEFAULT_BRIDGE_SUBNET, false).as_bytes(), None).unwrap();
        assert_eq!(bridge.driver(), "bridge");
        assert_eq!(bridge.bridge_interface(), Some("nerdctl0"));
        assert_eq!(bridge.ipam_driver(), "host-local");
        assert!(bridge.is_labelled_default());
        assert!(!bridge.is_internal());
        assert!(bridge.plugins[1].has_capability("portMappings"));
        assert_eq!(
            bridge.subnets(),
            [Subnet {
                subnet: "10.4.0.0/24".parse().unwrap(),
                gateway: Some("10.4.0.1".into()),
                ip_range: None
            }]
        );
    }

    #[test]
    fn internal_networks_are_recognised_by_what_they_lack() {
        let internal = br#"{"cniVersion":"1.0.0","name":"i","plugins":[{"type":"bridge"},{"type":"firewall"}]}"#;
        assert!(Conflist::parse(internal, None).unwrap().is_internal());
        let macvlan = br#"{"cniVersion":"1.0.0","name":"m","plugins":[{"type":"macvlan"}]}"#;
        assert!(!Conflist::parse(macvlan, None).unwrap().is_internal());
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let conf = br#"{"cniVersion":"0.3.1","name":"k8s","type":"ptp","ipam":{"type":"host-local","subnet":"10.0.0.0/8"}}"#;
        let list = Conflist::parse(conf, None).unwrap();
        assert_eq!((list.name.as_str(), list.driver()), ("k8s", "ptp"));
        assert_eq!(list.subnets()[0].subnet.to_string(), "10.0.0.0/8");
        let reread = Conflist::parse(&list.bytes, None).unwrap();
        assert_eq!((reread.name, reread.plugins), (list.name, list.plugins));
    }

    #[test]
    fn the_best_known_version_wins() {
        let version = |versions: &str| {
            let text = format!(r#"{{"name":"n",{versions}"plugins":[{{"type":"t"}}]}}"#);
            Conflist::parse(text.as_bytes(), None).unwrap().cni_version.to_string()
        };
        assert_eq!(version(""), "0.1.0");
        assert_eq!(version(r#""cniVersion":"1.0.0","#), "1.0.0");
        assert_eq!(
            version(r#""cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0","9.0.0"],"#),
            "1.1.0"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, said) in [
            ("[]", "is not a CNI configuration"),
            (r#"{"plugins":[{"type":"t"}]}"#, "has no name"),
            (r#"{"name":"../n","plugins":[{"type":"t"}]}"#, "other characters"),
            (r#"{"name":"a/b","plugins":[{"type":"t"}]}"#, "other characters"),
            (r#"{"name":"n","plugins":{}}"#, "not a list"),
            (r#"{"name":"n","plugins":[{}]}"#, "without type"),
            (r#"{"name":"n"}"#, "without type"),
        ] {
            let error =
                Conflist::parse(text.as_bytes(), Some(Path::new("/x.conflist"))).unwrap_err();
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
    }
}
