//! What create says about networks: mode, endpoints, ports, name servers, hosts.
//!
//! Refusals in the words of moby `daemon/internal/runconfig/hostconfig.go`, `daemon/container_operations.go`
//! (`validateEndpointSettings`), `daemon/pkg/opts/hosts.go`, and of Go's own parsers, which dockerd 29 lets speak.

use std::net::IpAddr;

use docker_wire::containers::{ContainerConfig, ContainerCreateRequest};
use docker_wire::host_config::{HostConfig, PortBinding, PortMap};
use docker_wire::networks::EndpointSettings;
use engine::containers::NetworkMode;
use engine::containers::spec::networking::{ExtraHost, HostAddress, Networking, Publish};
use names::{PortRange, PortSpec};

use super::{bad, links};
use crate::api::error::Refusal;

/// How a host entry names the host itself.
const HOST_GATEWAY: &str = "host-gateway";

/// Longest host name that Linux takes, in bytes.
const HOSTNAME: usize = 64;

/// How a mode names another container.
const CONTAINER: &str = "container:";

/// Networks that no user made.
const PREDEFINED: [&str; 4] = ["default", "bridge", "host", "none"];

/// Whether a user made the network of this name, or would have.
pub(in crate::api::containers) fn is_user_defined(network: &str) -> bool {
    !network.is_empty() && !PREDEFINED.contains(&network) && !network.starts_with(CONTAINER)
}

/// The mode, with Docker's default spelled out.
pub(super) fn mode(host: &HostConfig) -> &str {
    match host.network_mode.as_str() {
        "" | "default" => "bridge",
        mode => mode,
    }
}

/// Write ports as dockerd 29 keeps them: with protocol, and each with a binding (moby `daemon/create.go`).
pub(super) fn complete(request: &mut ContainerCreateRequest) {
    let Some(bindings) = request.host_config.as_mut().and_then(|host| host.port_bindings.as_mut())
    else {
        return;
    };
    let completed = std::mem::take(bindings).into_iter().map(|(port, bindings)| {
        let port = if port.contains('/') { port } else { format!("{port}/tcp") };
        let bindings = bindings.filter(|bindings| !bindings.is_empty());
        (port, Some(bindings.unwrap_or_else(|| vec![PortBinding::default()])))
    });
    *bindings = completed.collect();
}

/// What is wrong whatever else is asked for.
pub(super) fn validate(
    request: &ContainerCreateRequest,
    config: &ContainerConfig,
    host: &HostConfig,
) -> Result<(), Refusal> {
    validate_names(config)?;
    validate_mode(config, host)?;
    let networks = request.networking_config.iter();
    for (name, endpoint) in networks.flat_map(|networking| &networking.endpoints_config) {
        validate_endpoint(name, endpoint)?;
    }
    Ok(())
}

/// They stand in the hosts files of other containers too, so they must not be able to bring lines of their own.
fn validate_names(config: &ContainerConfig) -> Result<(), Refusal> {
    let hostname = &config.hostname;
    if hostname.len() > HOSTNAME {
        return Err(bad(format!("hostname {hostname:?} is too long (maximum {HOSTNAME} bytes)")));
    }
    if !is_one_word(hostname) {
        return Err(bad(format!("invalid hostname format: {hostname:?}")));
    }
    if !is_one_word(&config.domainname) {
        return Err(bad(format!("invalid domainname format: {:?}", config.domainname)));
    }
    Ok(())
}

pub(super) fn is_one_word(text: &str) -> bool {
    !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

fn validate_mode(config: &ContainerConfig, host: &HostConfig) -> Result<(), Refusal> {
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let mode = mode(host);
    let undefined = "This would result in undefined behavior";
    if mode == "host" && has(&host.links) {
        return Err(bad(format!(
            "conflicting options: host type networking can't be used with links. {undefined}"
        )));
    }
    let Some(other) = mode.strip_prefix(CONTAINER).or((mode == "container").then_some("")) else {
        return Ok(());
    };
    if other.is_empty() {
        let text = "invalid network mode: invalid container format container:<name|id>";
        return Err(bad(text));
    }
    let links = format!("container type network can't be used with links. {undefined}");
    let publishes = host.publish_all_ports
        || host.port_bindings.as_ref().is_some_and(|bindings| !bindings.is_empty());
    let conflicts: [(bool, &str); 6] = [
        (!config.hostname.is_empty(), "hostname and the network mode"),
        (has(&host.links), &links),
        (has(&host.dns), "dns and the network mode"),
        (has(&host.extra_hosts), "custom host-to-IP mapping and the network mode"),
        (publishes, "port publishing and the container type network mode"),
        (!config.exposed_ports.is_empty(), "port exposing and the container type network mode"),
    ];
    match conflicts.into_iter().find(|(conflicting, _)| *conflicting) {
        None => Ok(()),
        Some((_, what)) => Err(bad(format!("conflicting options: {what}"))),
    }
}

fn validate_endpoint(name: &str, endpoint: &EndpointSettings) -> Result<(), Refusal> {
    let ipam = endpoint.ipam_config.clone().unwrap_or_default();
    for text in [&ipam.ipv4_address, &ipam.ipv6_address].into_iter().chain(&ipam.link_local_ips) {
        if !text.is_empty() {
            ip(text)?;
        }
    }
    if !endpoint.mac_address.is_empty() && !is_mac(&endpoint.mac_address) {
        let text = format!("invalid JSON: address {}: invalid MAC address", endpoint.mac_address);
        return Err(bad(text));
    }
    if is_user_defined(name) || name.starts_with(CONTAINER) {
        return Ok(());
    }
    let has_address = !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty();
    let has_alias = endpoint.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty());
    let problems: Vec<&str> = [
        (has_address, "user-specified IP address is supported on user-defined networks only"),
        (has_alias, "network-scoped aliases are only supported for user-defined networks"),
    ]
    .into_iter()
    .filter_map(|(is_so, problem)| is_so.then_some(problem))
    .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(bad(format!(
        "invalid config for network {name}: invalid endpoint settings:\n{}",
        problems.join("\n")
    )))
}

/// Six bytes in hex.
fn is_mac(text: &str) -> bool {
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '-']).collect();
    parts.len() == 6 && parts.into_iter().all(is_byte)
}

/// The engine's word for the mode and the endpoints beside it; mixtures were refused before.
pub(super) fn network_mode(
    request: &ContainerCreateRequest,
    config: &ContainerConfig,
    host: &HostConfig,
) -> NetworkMode {
    if config.network_disabled {
        return NetworkMode::None;
    }
    match mode(host) {
        "bridge" => NetworkMode::Bridge,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        mode => match mode.strip_prefix(CONTAINER) {
            Some(other) => {
                // Inspect writes a name with a slash before it, and tools send that back.
                NetworkMode::Container(other.strip_prefix('/').unwrap_or(other).to_owned())
            }
            None => {
                let endpoints = request.networking_config.iter();
                let others = endpoints.flat_map(|networking| networking.endpoints_config.keys());
                let others = others.filter(|name| *name != mode).cloned();
                NetworkMode::Networks(std::iter::once(mode.to_owned()).chain(others).collect())
            }
        },
    }
}

/// Ports, names and addresses.
pub(super) fn networking(
    request: &ContainerCreateRequest,
    config: &ContainerConfig,
    host: &HostConfig,
) -> Result<Networking, Refusal> {
    let list = |given: &Option<Vec<String>>| given.clone().unwrap_or_default();
    let endpoint = endpoint(request, host);
    let ipam = endpoint.ipam_config.clone().unwrap_or_default();
    let optional_ip = |text: &str| (!text.is_empty()).then(|| ip(text)).transpose();
    let publish = publish(host.port_bindings.as_ref())?;
    Ok(Networking {
        publish: if config.network_disabled { Vec::new() } else { publish },
        publish_all: host.publish_all_ports && !config.network_disabled,
        dns_servers: list(&host.dns).iter().map(|text| ip(text)).collect::<Result<_, _>>()?,
        dns_search: words("dns search domain", list(&host.dns_search))?,
        dns_options: words("dns option", list(&host.dns_options))?,
        extra_hosts: list(&host.extra_hosts)
            .iter()
            .map(|text| extra_host(text))
            .collect::<Result<_, _>>()?,
        names: links::names(request, host)?,
        mac_address: Some(endpoint.mac_address)
            // With an endpoint id it was a daemon that filled it in, and a tool that sent it back.
            .filter(|address| !address.is_empty() && endpoint.endpoint_id.is_empty()),
        ipv4: optional_ip(&ipam.ipv4_address)?,
        ipv6: optional_ip(&ipam.ipv6_address)?,
    })
}

/// The settings of the network that the mode names; several with settings were refused before.
fn endpoint(request: &ContainerCreateRequest, host: &HostConfig) -> EndpointSettings {
    let Some(networking) = &request.networking_config else { return EndpointSettings::default() };
    let mode = mode(host);
    let default = (mode == "bridge").then_some("default");
    let found =
        std::iter::once(mode).chain(default).find_map(|name| networking.endpoints_config.get(name));
    found.cloned().unwrap_or_default()
}

fn publish(bindings: Option<&PortMap>) -> Result<Vec<Publish>, Refusal> {
    let mut all = Vec::new();
    for (port, bindings) in bindings.into_iter().flatten() {
        let port = container_port(port)?;
        for binding in bindings.iter().flatten() {
            let host_ip = Some(binding.host_ip.as_str()).filter(|text| !text.is_empty());
            all.push(Publish {
                port,
                host_ip: host_ip.map(ip).transpose()?,
                host_ports: host_ports(&binding.host_port)?,
            });
        }
    }
    Ok(all)
}

fn container_port(text: &str) -> Result<PortSpec, Refusal> {
    let number = text.split('/').next().unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad(format!("invalid JSON: invalid port '{number}': invalid syntax")));
    }
    text.parse().map_err(|_| bad(format!("invalid port specification: {text:?}")))
}

fn host_ports(text: &str) -> Result<PortRange, Refusal> {
    if text.is_empty() {
        return Ok(PortRange::single(0));
    }
    text.parse().map_err(|_| bad(format!("invalid port specification: {text:?}")))
}

fn ip(text: &str) -> Result<IpAddr, Refusal> {
    text.parse().map_err(|_| bad(format!("invalid JSON: ParseAddr({text:?}): unable to parse IP")))
}

/// `name:address`; only the first colon parts them.
fn extra_host(text: &str) -> Result<ExtraHost, Refusal> {
    let Some((name, address)) =
        text.split_once(':').filter(|(name, _)| !name.is_empty() && is_one_word(name))
    else {
        return Err(bad(format!("bad format for add-host: {text:?}")));
    };
    let address = if address == HOST_GATEWAY {
        HostAddress::Gateway
    } else {
        let parsed = address.trim().parse();
        HostAddress::Ip(
            parsed.map_err(|_| bad(format!("invalid IP address in add-host: {address:?}")))?,
        )
    };
    Ok(ExtraHost { name: name.to_owned(), address })
}

/// Texts that fit into a line of `resolv.conf`.
fn words(what: &str, texts: Vec<String>) -> Result<Vec<String>, Refusal> {
    match texts.iter().find(|text| text.contains(char::is_control)) {
        None => Ok(texts),
        Some(odd) => Err(bad(format!("invalid {what} {odd:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use docker_wire::decode;
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &Value) -> Result<(NetworkMode, Networking), String> {
        let mut request: ContainerCreateRequest = decode::from_value(body).unwrap();
        complete(&mut request);
        let config = request.config.clone().unwrap_or_default();
        let host = request.host_config.clone().unwrap_or_default();
        validate(&request, &config, &host).map_err(|error| error.to_string())?;
        let read = networking(&request, &config, &host).map_err(|error| error.to_string())?;
        Ok((network_mode(&request, &config, &host), read))
    }

    fn with_host(host: &Value) -> Result<Networking, String> {
        read(&json!({"Image": "i", "HostConfig": host})).map(|(_, networking)| networking)
    }

    #[test]
    fn ports_in_all_their_forms() {
        let networking = with_host(&json!({"PortBindings": {
            "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": "8080"}],
            "81": null,
            "82/udp": [],
            "83/sctp": [{"HostPort": "0"}],
            "84/tcp": [{"HostPort": "9000-9010"}],
        }}))
        .unwrap();
        let shown: Vec<_> = networking
            .publish
            .iter()
            .map(|publish| {
                let address =
                    publish.host_ip.map(|address| address.to_string()).unwrap_or_default();
                format!("{address}|{}|{}", publish.host_ports, publish.port)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "127.0.0.1|8080|80/tcp",
                "::1|8080|80/tcp",
                "|0|81/tcp",
                "|0|82/udp",
                "|0|83/sctp",
                "|9000-9010|84/tcp"
            ]
        );
    }

    #[test]
    fn hosts_and_name_servers() {
        let networking = with_host(&json!({
            "ExtraHosts": ["db:192.0.2.1", "six:fd00::1", "me:host-gateway"],
            "Dns": ["192.0.2.53", "fd00::53"], "DnsSearch": ["."], "DnsOptions": ["ndots:2"],
        }))
        .unwrap();
        assert_eq!(networking.extra_hosts.len(), 3);
        assert_eq!(networking.extra_hosts[1].address, HostAddress::Ip("fd00::1".parse().unwrap()));
        assert_eq!(networking.extra_hosts[2].address, HostAddress::Gateway);
        assert_eq!(networking.dns_servers.len(), 2);
        assert_eq!(
            (networking.dns_search, networking.dns_options),
            (vec![".".to_owned()], vec!["ndots:2".to_owned()])
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_dockers_words() {
        let ports = |key: &str, binding: Value| json!({"PortBindings": {key: [binding]}});
        for (host, expected) in [
            (ports("80/tcp", json!({"HostPort": "x"})), r#"invalid port specification: "x""#),
            (
                ports("80/tcp", json!({"HostPort": "70000"})),
                r#"invalid port specification: "70000""#,
            ),
            (
                ports("80/tcp", json!({"HostPort": "80-79"})),
                r#"invalid port specification: "80-79""#,
            ),
            (ports("x/tcp", json!({})), "invalid JSON: invalid port 'x': invalid syntax"),
            (ports("80-82/tcp", json!({})), "invalid JSON: invalid port '80-82': invalid syntax"),
            (ports("0/tcp", json!({})), r#"invalid port specification: "0/tcp""#),
            (
                ports("80/tcp", json!({"HostIp": "nope"})),
                r#"invalid JSON: ParseAddr("nope"): unable to parse IP"#,
            ),
            (json!({"Dns": ["nope"]}), r#"invalid JSON: ParseAddr("nope"): unable to parse IP"#),
            (json!({"ExtraHosts": ["a"]}), r#"bad format for add-host: "a""#),
            (json!({"ExtraHosts": ["a=1.2.3.4"]}), r#"bad format for add-host: "a=1.2.3.4""#),
            (json!({"ExtraHosts": ["a:nope"]}), r#"invalid IP address in add-host: "nope""#),
            (json!({"ExtraHosts": ["a:[::1]"]}), r#"invalid IP address in add-host: "[::1]""#),
            (json!({"ExtraHosts": ["a\nb:1.2.3.4"]}), r#"bad format for add-host: "a\nb:1.2.3.4""#),
            (
                json!({"NetworkMode": "host", "Links": ["a:b"]}),
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ),
            (
                json!({"NetworkMode": "container:"}),
                "invalid network mode: invalid container format container:<name|id>",
            ),
            (
                json!({"NetworkMode": "container:x", "PublishAllPorts": true}),
                "conflicting options: port publishing and the container type network mode",
            ),
            (
                json!({"NetworkMode": "container:x", "Dns": ["192.0.2.53"]}),
                "conflicting options: dns and the network mode",
            ),
            (
                json!({"NetworkMode": "container:x", "ExtraHosts": ["a:192.0.2.1"]}),
                "conflicting options: custom host-to-IP mapping and the network mode",
            ),
        ] {
            assert_eq!(with_host(&host).unwrap_err(), expected, "{host}");
        }
        let endpoint = |settings: Value| {
            let body = json!({"Image": "i", "NetworkingConfig": {"EndpointsConfig": {"bridge": settings}}});
            read(&body).map(drop).unwrap_err()
        };
        assert_eq!(
            endpoint(json!({"IPAMConfig": {"IPv4Address": "10.4.0.9"}, "Aliases": ["a"]})),
            "invalid config for network bridge: invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only\nnetwork-scoped aliases are only supported for user-defined networks"
        );
        assert_eq!(
            endpoint(json!({"MacAddress": "nope"})),
            "invalid JSON: address nope: invalid MAC address"
        );
        let named = |field: &str, value: &str| {
            read(&json!({"Image": "i", field: value})).map(drop).unwrap_err()
        };
        let long = "a".repeat(65);
        assert_eq!(
            named("Hostname", &long),
            format!("hostname {long:?} is too long (maximum 64 bytes)")
        );
        assert_eq!(
            named("Hostname", "a\n192.0.2.1 b"),
            r#"invalid hostname format: "a\n192.0.2.1 b""#
        );
        assert_eq!(named("Domainname", "a b"), r#"invalid domainname format: "a b""#);
    }

    #[test]
    fn modes_and_their_endpoints() {
        let mode = |body: Value| read(&body).unwrap().0;
        let networks = |names: &[&str]| {
            NetworkMode::Networks(names.iter().map(|name| (*name).to_owned()).collect())
        };
        for (body, expected) in [
            (json!({"Image": "i"}), NetworkMode::Bridge),
            (json!({"HostConfig": {"NetworkMode": "default"}}), NetworkMode::Bridge),
            (json!({"HostConfig": {"NetworkMode": "mine"}}), networks(&["mine"])),
            (
                json!({"HostConfig": {"NetworkMode": "mine"}, "NetworkingConfig": {"EndpointsConfig": {"a": {}, "mine": {}, "z": {}}}}),
                networks(&["mine", "a", "z"]),
            ),
            (
                json!({"HostConfig": {"NetworkMode": "container:/web"}}),
                NetworkMode::Container("web".to_owned()),
            ),
            (json!({"NetworkDisabled": true}), NetworkMode::None),
        ] {
            assert_eq!(mode(body.clone()), expected, "{body}");
        }
    }

    #[test]
    fn an_address_that_a_daemon_filled_in_is_not_asked_for() {
        let mac = |endpoint: Value| {
            let body = json!({"Image": "i", "NetworkingConfig": {"EndpointsConfig": {"default": endpoint}}});
            read(&body).unwrap().1.mac_address
        };
        assert_eq!(
            mac(json!({"MacAddress": "02:42:0a:04:00:02"})).as_deref(),
            Some("02:42:0a:04:00:02")
        );
        assert_eq!(mac(json!({"MacAddress": "02:42:0a:04:00:02", "EndpointID": "ab"})), None);
    }
}
