//! Networks and the endpoints of containers on them.
//!
//! Source: moby `api/types/network`. Addresses are texts: whoever builds an answer has checked them, and strict
//! clients parse every one; an empty text is allowed, an odd one is not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One container on one network.
///
/// Goes both ways: create and connect take the wishes in the first half, list and inspect give everything.
/// Programs send back what they inspected, so the second half may be in requests and is ignored there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses that were asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// `container:alias`.
    pub links: Option<Vec<String>>,
    /// Further DNS names.
    pub aliases: Option<Vec<String>>,
    /// For the network's driver.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// The network with the highest gives the default gateway; from 1.48 on.
    pub gw_priority: i64,
    /// 64 hex digits; stays when the container stops.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// 64 hex digits; empty when stopped.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Without prefix length.
    pub gateway: String,
    /// Without prefix length.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Colon separated. Also a wish.
    pub mac_address: String,
    /// In bits.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// Without prefix length.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Without prefix length.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// In bits.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// All names under which it is found; from 1.44 on.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses that were asked for. Goes both ways, as part of [`EndpointSettings`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpamConfig {
    /// Without prefix length.
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// Without prefix length.
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
    /// Without prefix length.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<String>,
}

/// A network, in the list and in inspect.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// RFC 3339; never empty.
    pub created: String,
    /// `local`.
    pub scope: String,
    /// `bridge`, `host`, `null`, …
    pub driver: String,
    /// Whether it hands out IPv4 addresses.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether it hands out IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// How it hands them out.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Whether it leads nowhere but to its containers.
    pub internal: bool,
    /// Only for swarms.
    pub attachable: bool,
    /// Only for swarms.
    pub ingress: bool,
    /// The network that configures this one.
    pub config_from: ConfigReference,
    /// Whether it only configures others.
    pub config_only: bool,
    /// The containers on it, by id. Only in inspect, and in lists below 1.28; never null there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeMap<String, EndpointResource>>,
    /// Of its driver; never null.
    pub options: BTreeMap<String, String>,
    /// Never null.
    pub labels: BTreeMap<String, String>,
    /// How full its subnets are. Only in inspect; from 1.52 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<NetworkStatus>,
}

/// How a network hands out addresses. Goes both ways: create takes it, inspect gives it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Of the driver.
    pub options: Option<BTreeMap<String, String>>,
    /// Its subnets.
    pub config: Option<Vec<IpamConfig>>,
}

/// One subnet of a network. Goes both ways, as part of [`Ipam`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// `172.18.0.0/16`.
    #[serde(rename = "Subnet", skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// The part of the subnet from which containers get addresses.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// Without prefix length.
    #[serde(rename = "Gateway", skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that containers do not get, with names for them.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// Another network by name. Goes both ways: create takes it, inspect gives it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// Its name.
    pub network: String,
}

/// One container on a network, as the network tells it. Addresses carry their prefix length here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointResource {
    /// The container's name, without slash.
    pub name: String,
    /// 64 hex digits.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Colon separated.
    pub mac_address: String,
    /// `172.18.0.2/16`.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// With prefix length.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// How full a network is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkStatus {
    /// Its addresses.
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// How many addresses of a network are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamStatus {
    /// By subnet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// How many addresses of a subnet are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubnetStatus {
    /// Those in use.
    #[serde(rename = "IPsInUse")]
    pub ips_in_use: u64,
    /// Those that can still be handed out.
    #[serde(rename = "DynamicIPsAvailable")]
    pub dynamic_ips_available: u64,
}

/// The body of `POST /networks/create`. `CheckDuplicate`, which old clients send, is an unknown key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreateRequest {
    /// Its name.
    pub name: String,
    /// Empty for `bridge`.
    pub driver: String,
    /// `local`, `swarm`.
    pub scope: String,
    /// From 1.48 on.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    /// Whether to hand out IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    /// How to hand out addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// Whether it leads nowhere but to its containers.
    pub internal: bool,
    /// Only for swarms.
    pub attachable: bool,
    /// Only for swarms.
    pub ingress: bool,
    /// Whether it only configures others.
    pub config_only: bool,
    /// The network that configures this one.
    pub config_from: Option<ConfigReference>,
    /// For its driver.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// The network that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkCreateResponse {
    /// 64 hex digits.
    pub id: String,
    /// Always present, mostly empty.
    pub warning: String,
}

/// The body of `POST /networks/{id}/connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkConnectRequest {
    /// By name, id, or the start of an id.
    pub container: String,
    /// Wishes.
    pub endpoint_config: Option<EndpointSettings>,
}

/// The body of `POST /networks/{id}/disconnect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkDisconnectRequest {
    /// By name, id, or the start of an id.
    pub container: String,
    /// Whether to go on when the container is not there.
    pub force: bool,
}

/// What `POST /networks/prune` removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkPruneResponse {
    /// Their names; `null` when there are none.
    pub networks_deleted: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::decode;

    fn json<T: Serialize>(value: &T) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn an_endpoint_shows_every_key() {
        expect![[r#"{"IPAMConfig":null,"Links":null,"Aliases":null,"DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","MacAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}"#]].assert_eq(&json(&EndpointSettings::default()));
    }

    #[test]
    fn what_was_inspected_can_be_sent() {
        let sent = r#"{"IPAMConfig":{"IPv4Address":"10.0.0.2","LinkLocalIPs":["169.254.0.1"]},"Links":null,"Aliases":["a"],"DriverOpts":{"k":"v"},"GwPriority":1,"NetworkID":"n","EndpointID":"e","Gateway":"10.0.0.1","IPAddress":"10.0.0.2","MacAddress":"02:42:0a:00:00:02","IPPrefixLen":24,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":["a"]}"#;
        let endpoint: EndpointSettings = decode::from_slice(sent.as_bytes()).unwrap();
        assert_eq!(json(&endpoint), sent);
    }

    #[test]
    fn a_network_of_the_list_and_of_inspect() {
        let listed = Network {
            name: "n".to_owned(),
            created: crate::time::ZERO.to_owned(),
            ..Network::default()
        };
        expect![[r#"{"Name":"n","Id":"","Created":"0001-01-01T00:00:00Z","Scope":"","Driver":"","EnableIPv4":false,"EnableIPv6":false,"IPAM":{"Driver":"","Options":null,"Config":null},"Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,"Options":{},"Labels":{}}"#]].assert_eq(&json(&listed));
        let inspected = Network { containers: Some(BTreeMap::new()), ..listed };
        assert!(json(&inspected).contains(r#""Containers":{},"#));
    }

    #[test]
    fn old_clients_may_check_for_duplicates() {
        let request: NetworkCreateRequest = decode::from_slice(
            br#"{"Name":"n","CheckDuplicate":true,"EnableIPv6":false,"IPAM":{"Driver":"default","Config":[{"Subnet":"10.0.0.0/24","AuxiliaryAddresses":null}]},"Labels":null}"#,
        )
        .unwrap();
        assert_eq!((request.enable_ipv4, request.enable_ipv6), (None, Some(false)));
        assert_eq!(request.ipam.unwrap().config.unwrap()[0].subnet, "10.0.0.0/24");
    }

    #[test]
    fn connecting_and_disconnecting() {
        let connect: NetworkConnectRequest =
            decode::from_slice(br#"{"Container":"c","EndpointConfig":{}}"#).unwrap();
        assert_eq!(connect.endpoint_config, Some(EndpointSettings::default()));
        let disconnect: NetworkDisconnectRequest =
            decode::from_slice(br#"{"container":"c","force":true}"#).unwrap();
        assert!(disconnect.force);
        assert_eq!(json(&NetworkPruneResponse::default()), r#"{"NetworksDeleted":null}"#);
        assert_eq!(json(&NetworkCreateResponse::default()), r#"{"Id":"","Warning":""}"#);
    }
}
