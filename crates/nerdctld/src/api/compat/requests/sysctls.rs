//! Kernel parameters that name an interface: below 1.48 they are moved to the driver options of the container's network.
//!
//! They cannot be set before the interface is there. Only `eth0` can be told apart, and only where there is one network
//! (moby `daemon/server/router/container/container_routes.go`, `handleSysctlBC`).

use docker_wire::containers::ContainerCreateRequest;

use super::main_endpoint;
use crate::api::error::Refusal;

/// The driver option that takes them.
const OPTION: &str = "com.docker.network.endpoint.sysctls";

/// Move them if that is allowed, with a warning.
///
/// # Errors
/// An interface that cannot be told apart; from 1.48 on any.
pub(super) fn of_interfaces(
    request: &mut ContainerCreateRequest,
    may_move: bool,
) -> Result<Option<String>, Refusal> {
    let Some(host) = &mut request.host_config else { return Ok(None) };
    if host.network_mode == "host" || host.network_mode.starts_with("container:") {
        return Ok(None);
    }
    let (mut moved, mut settings) = (Vec::new(), Vec::new());
    for (key, value) in &host.sysctls {
        let Some((interface, general)) = interface_of(key) else { continue };
        if !may_move {
            return Err(Refusal::BadParameter(format!(
                "interface specific sysctl setting {key:?} must be supplied using driver option '{OPTION}'"
            )));
        }
        if interface != "eth0" {
            return Err(Refusal::BadParameter(format!(
                "unable to determine network endpoint for sysctl {key}, use driver option '{OPTION}' to set per-interface sysctls"
            )));
        }
        moved.push(key.clone());
        settings.push(format!("{general}={value}"));
    }
    if moved.is_empty() {
        return Ok(None);
    }
    host.sysctls.retain(|key, _| !moved.contains(key));
    let settings = settings.join(",");
    let warning =
        format!("Migrated sysctl {:?} to DriverOpts{{{OPTION:?}:{settings:?}}}.", moved.join(","));
    let options = main_endpoint(request).driver_opts.get_or_insert_default();
    // What was said about the endpoint itself comes last, and so counts.
    let all = match options.get(OPTION) {
        Some(own) => format!("{settings},{own}"),
        None => settings,
    };
    options.insert(OPTION.to_owned(), all);
    Ok(Some(warning))
}

/// The interface in `net.ipv4.conf.eth0.forwarding`, and the parameter with `IFNAME` in its place.
fn interface_of(key: &str) -> Option<(&str, String)> {
    let mut parts = key.splitn(5, '.');
    let (net, family, section) = (parts.next()?, parts.next()?, parts.next()?);
    let (interface, name) = (parts.next()?, parts.next()?);
    let is_one = net == "net" && interface.starts_with("eth");
    is_one.then(|| (interface, format!("net.{family}.{section}.IFNAME.{name}")))
}

#[cfg(test)]
mod tests {
    use docker_wire::decode;
    use serde_json::json;

    use super::*;

    fn request(sysctl: &str) -> ContainerCreateRequest {
        let body = json!({"Image": "i", "HostConfig": {"Sysctls": {sysctl: "1", "net.core.somaxconn": "5"}}});
        decode::from_value(&body).unwrap()
    }

    #[test]
    fn those_of_the_first_interface_move() {
        let mut given = request("net.ipv4.conf.eth0.forwarding");
        let warning = of_interfaces(&mut given, true).unwrap().unwrap();
        assert_eq!(
            warning,
            "Migrated sysctl \"net.ipv4.conf.eth0.forwarding\" to DriverOpts{\"com.docker.network.endpoint.sysctls\":\"net.ipv4.conf.IFNAME.forwarding=1\"}."
        );
        assert_eq!(given.host_config.as_ref().unwrap().sysctls.len(), 1);
        let endpoints = given.networking_config.unwrap().endpoints_config;
        let options = endpoints["default"].driver_opts.as_ref().unwrap();
        assert_eq!(options[OPTION], "net.ipv4.conf.IFNAME.forwarding=1");
    }

    #[test]
    fn others_are_refused() {
        let mut given = request("net.ipv4.conf.eth1.forwarding");
        assert!(of_interfaces(&mut given, true).is_err());
        let mut given = request("net.ipv4.conf.eth0.forwarding");
        let text = of_interfaces(&mut given, false).unwrap_err().to_string();
        assert!(text.starts_with("interface specific sysctl setting"), "{text}");
        let mut given = request("net.ipv4.conf.all.forwarding");
        assert_eq!(of_interfaces(&mut given, false).unwrap(), None);
    }
}
