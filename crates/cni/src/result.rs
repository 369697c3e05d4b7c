//! What `ADD` gives, in any version of the specification.
//!
//! Sources: containernetworking/cni `pkg/types/{020,040,100}/types.go`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::version::Version;

/// An address with the length of its network's prefix: `10.4.0.5/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// Bits of it that name the network.
    pub prefix: u8,
}

impl Cidr {
    /// The network: the same with all other bits zero.
    #[must_use]
    pub fn network(self) -> Self {
        let prefix = u32::from(self.prefix);
        let address = match self.address {
            IpAddr::V4(v4) => {
                Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0))
                    .into()
            }
            IpAddr::V6(v6) => {
                Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0))
                    .into()
            }
        };
        Self { address, prefix: self.prefix }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text that is no address with prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with the length of its prefix, like 10.4.0.5/24")]
pub struct InvalidCidr(pub String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= bits).then_some(Self { address, prefix })
        });
        parsed.ok_or_else(|| InvalidCidr(text.to_owned()))
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The outcome of attaching a container to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CniResult {
    /// Interfaces that were made, on the host and in the container.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub interfaces: Vec<Interface>,
    /// Addresses in the container.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub ips: Vec<IpConfig>,
    /// Routes in the container.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub routes: Vec<Route>,
    /// Name servers of the network.
    #[serde(skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// An interface in a [`CniResult`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name where it is.
    pub name: String,
    /// Hardware address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Largest packet, bytes; 0 if not told.
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// Network namespace; empty for one on the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address in a [`CniResult`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Address and prefix.
    pub address: Cidr,
    /// The network's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index in [`CniResult::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route in a [`CniResult`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: Cidr,
    /// Over which gateway; that of the network if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

/// Name servers in a [`CniResult`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of servers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub nameservers: Vec<String>,
    /// Local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub search: Vec<String>,
    /// Options of resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub options: Vec<String>,
}

impl Dns {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The form before 0.3.0: one address of each family, each with its routes.
#[derive(Deserialize)]
struct Early {
    ip4: Option<EarlyIp>,
    ip6: Option<EarlyIp>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Deserialize)]
struct EarlyIp {
    ip: Cidr,
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "nullable")]
    routes: Vec<Route>,
}

impl From<Early> for CniResult {
    fn from(early: Early) -> Self {
        let mut result = Self { dns: early.dns, ..Self::default() };
        for ip in [early.ip4, early.ip6].into_iter().flatten() {
            result.ips.push(IpConfig { address: ip.ip, gateway: ip.gateway, interface: None });
            result.routes.extend(ip.routes);
        }
        result
    }
}

impl CniResult {
    /// Decodes a result of any version; its form tells which one it is.
    ///
    /// # Errors
    /// If a field does not hold what the specification says.
    pub fn from_value(value: &Value) -> serde_json::Result<Self> {
        let is_early = value.get("ip4").is_some() || value.get("ip6").is_some();
        if is_early { Early::deserialize(value).map(Into::into) } else { Self::deserialize(value) }
    }

    /// The newest form, with sorted keys: how nerdctl keeps results in `meta.json`.
    #[must_use]
    pub fn to_newest(&self) -> Map<String, Value> {
        // Structs with names as keys always make an object.
        let mut object = match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        };
        object.insert("cniVersion".into(), Version::NEWEST.to_string().into());
        object
    }

    /// The first address of the container in each family, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let first = |v4: bool| {
            self.ips.iter().map(|ip| ip.address.address).find(move |ip| ip.is_ipv4() == v4)
        };
        [first(true), first(false)].into_iter().flatten()
    }

    /// Hardware address of the container's own interface.
    #[must_use]
    pub fn mac(&self) -> Option<&str> {
        self.interfaces
            .iter()
            .find(|interface| !interface.sandbox.is_empty())
            .map(|interface| interface.mac.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_versions_mean_the_same() {
        let early = json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.4.0.5/24", "gateway": "10.4.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "dns": {}
        });
        let middle = json!({
            "cniVersion": "0.4.0",
            "ips": [{"version": "4", "address": "10.4.0.5/24", "gateway": "10.4.0.1"}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"nameservers": null}
        });
        let newest = json!({
            "cniVersion": "1.1.0",
            "ips": [{"address": "10.4.0.5/24", "gateway": "10.4.0.1"}],
            "routes": [{"dst": "0.0.0.0/0"}]
        });
        let expected = CniResult::from_value(&newest).unwrap();
        assert_eq!(CniResult::from_value(&early).unwrap(), expected);
        assert_eq!(CniResult::from_value(&middle).unwrap(), expected);
        assert_eq!(Value::Object(expected.to_newest()), newest);
    }

    #[test]
    fn the_newest_form_is_what_nerdctl_keeps() {
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "nerdctl0", "mac": "aa:bb"},
                {"name": "veth1", "mac": "cc:dd"},
                {"name": "eth0", "mac": "ee:ff", "sandbox": "/proc/1234/ns/net"}
            ],
            "ips": [{"interface": 2, "address": "10.4.0.5/24", "gateway": "10.4.0.1"}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {}
        });
        let result = CniResult::from_value(&result).unwrap();
        assert_eq!(
            serde_json::to_string(&result.to_newest()).unwrap(),
            concat!(
                r#"{"cniVersion":"1.1.0","interfaces":[{"mac":"aa:bb","name":"nerdctl0"},"#,
                r#"{"mac":"cc:dd","name":"veth1"},{"mac":"ee:ff","name":"eth0","sandbox":"/proc/1234/ns/net"}],"#,
                r#""ips":[{"address":"10.4.0.5/24","gateway":"10.4.0.1","interface":2}],"#,
                r#""routes":[{"dst":"0.0.0.0/0"}]}"#
            )
        );
        assert_eq!(result.mac(), Some("ee:ff"));
        assert_eq!(result.addresses().collect::<Vec<_>>(), ["10.4.0.5".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn networks_of_addresses() {
        for (cidr, network) in [
            ("10.4.0.5/24", "10.4.0.0/24"),
            ("10.4.0.5/0", "0.0.0.0/0"),
            ("10.4.0.5/32", "10.4.0.5/32"),
            ("fd00::1:2/112", "fd00::1:0/112"),
            ("fd00::1/0", "::/0"),
        ] {
            assert_eq!(cidr.parse::<Cidr>().unwrap().network().to_string(), network);
        }
        for bad in ["10.4.0.5", "10.4.0.5/33", "x/8", "fd00::/129", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
