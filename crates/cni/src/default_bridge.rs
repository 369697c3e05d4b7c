//! The conflist of the default network, byte for byte as nerdctl writes it.
//!
//! nerdctl never rewrites an existing conflist, so whoever comes first decides; it must not matter who it was.
//! Source: nerdctl `pkg/netutil/netutil.go` (`createDefaultNetworkConfig`), `cni_plugin_unix.go`.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::result::Cidr;

/// Name of the default network.
pub const DEFAULT_BRIDGE: &str = "bridge";

/// Its addresses, unless configured otherwise (`bridge_ip`).
pub const DEFAULT_BRIDGE_SUBNET: Cidr =
    Cidr { address: IpAddr::V4(Ipv4Addr::new(10, 4, 0, 1)), prefix: 24 };

/// The id nerdctl gives a network: SHA-256 of its name, in hex.
#[must_use]
pub fn network_id(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of `nerdctl-bridge.conflist`. `gateway` is the bridge's address with the length of the subnet's prefix,
/// usually [`DEFAULT_BRIDGE_SUBNET`]; `rootless` adds what is needed where firewalld cannot be reached.
#[must_use]
pub fn default_bridge(gateway: Cidr, rootless: bool) -> String {
    let list = List {
        cni_version: "1.0.0",
        name: DEFAULT_BRIDGE,
        nerdctl_id: network_id(DEFAULT_BRIDGE),
        nerdctl_labels: Labels { default_network: "true" },
        plugins: (
            Bridge {
                r#type: "bridge",
                bridge: "nerdctl0",
                is_gateway: true,
                ip_masq: true,
                hairpin_mode: true,
                ipam: Ipam {
                    ranges: [[Range {
                        gateway: gateway.address.to_string(),
                        subnet: gateway.network().to_string(),
                    }]],
                    routes: [Route { dst: "0.0.0.0/0" }],
                    r#type: "host-local",
                },
            },
            Portmap { r#type: "portmap", capabilities: Capabilities { port_mappings: true } },
            Firewall {
                r#type: "firewall",
                backend: rootless.then_some("iptables"),
                ingress_policy: "same-bridge",
            },
            Tuning { r#type: "tuning" },
        ),
    };
    // Structs of strings and booleans cannot fail to be encoded.
    serde_json::to_string_pretty(&list).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    cni_version: &'static str,
    name: &'static str,
    #[serde(rename = "nerdctlID")]
    nerdctl_id: String,
    nerdctl_labels: Labels,
    plugins: (Bridge, Portmap, Firewall, Tuning),
}

#[derive(Serialize)]
struct Labels {
    #[serde(rename = "nerdctl/default-network")]
    default_network: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bridge {
    r#type: &'static str,
    bridge: &'static str,
    is_gateway: bool,
    ip_masq: bool,
    hairpin_mode: bool,
    ipam: Ipam,
}

#[derive(Serialize)]
struct Ipam {
    ranges: [[Range; 1]; 1],
    routes: [Route; 1],
    r#type: &'static str,
}

#[derive(Serialize)]
struct Range {
    gateway: String,
    subnet: String,
}

#[derive(Serialize)]
struct Route {
    dst: &'static str,
}

#[derive(Serialize)]
struct Portmap {
    r#type: &'static str,
    capabilities: Capabilities,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    port_mappings: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Firewall {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'static str>,
    ingress_policy: &'static str,
}

#[derive(Serialize)]
struct Tuning {
    r#type: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hashes_of_names() {
        assert_eq!(
            network_id("bridge"),
            "17f29b073143d8cd97b5bbe492bdeffec1c5fee55cc1fe2112c8b9335f8b6121"
        );
        assert_eq!(
            network_id("mynet"),
            "11c844f95e2862126712e209cd3acbc68c137931c639633da9dfc17b3a464bde"
        );
    }

    #[test]
    fn the_default_bridge_is_nerdctls_byte_for_byte() {
        let expected = r#"{
  "cniVersion": "1.0.0",
  "name": "bridge",
  "nerdctlID": "17f29b073143d8cd97b5bbe492bdeffec1c5fee55cc1fe2112c8b9335f8b6121",
  "nerdctlLabels": {
    "nerdctl/default-network": "true"
  },
  "plugins": [
    {
      "type": "bridge",
      "bridge": "nerdctl0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "ranges": [
          [
            {
              "gateway": "10.4.0.1",
              "subnet": "10.4.0.0/24"
            }
          ]
        ],
        "routes": [
          {
            "dst": "0.0.0.0/0"
          }
        ],
        "type": "host-local"
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    },
    {
      "type": "firewall",
      "ingressPolicy": "same-bridge"
    },
    {
      "type": "tuning"
    }
  ]
}"#;
        assert_eq!(default_bridge(DEFAULT_BRIDGE_SUBNET, false), expected);
    }

    #[test]
    fn a_configured_bridge_address_gives_gateway_and_subnet() {
        let text = default_bridge("172.30.5.9/16".parse().unwrap(), true);
        assert!(text.contains("\"gateway\": \"172.30.5.9\""), "{text}");
        assert!(text.contains("\"subnet\": \"172.30.0.0/16\""), "{text}");
        assert!(text.contains("\"backend\": \"iptables\""), "{text}");
    }
}
