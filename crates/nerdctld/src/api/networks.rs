//! `/networks`: what is there. Making and changing networks is not built yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use docker_wire::filters::{self, Filters};
use docker_wire::networks::{
    EndpointResource, Ipam, IpamConfig, IpamStatus, Network, NetworkStatus, SubnetStatus,
};
use docker_wire::time;
use engine::containers::NameMatcher;
use engine::networks::{self as domain, NetworkFilter};

use super::call::{Answer, Call};
use super::compat::responses;
use super::error::Refusal;
use super::reply::Reply;

/// Values of the filter `type`.
const KINDS: [&str; 2] = ["builtin", "custom"];

/// The scope of all networks.
const SCOPE: &str = "local";

/// `GET /networks`.
pub(in crate::api) async fn list(call: Call) -> Answer {
    let filter = filter(&call)?;
    let mut networks: Vec<Network> =
        call.engine.list_networks(&filter).await?.iter().map(view).collect();
    for network in &mut networks {
        responses::network_in_list(call.version, network);
    }
    Ok(Reply::json(&networks))
}

/// `GET /networks/{id}`.
pub(in crate::api) async fn inspect(call: Call) -> Answer {
    let typed = call.parameter("id");
    check_verbose(call.query.text("verbose"))?;
    let scope = call.query.text("scope");
    if !scope.is_empty() && scope != SCOPE {
        // Other scopes are a swarm's.
        return Err(engine::Error::NetworkNotFound(typed.to_owned()).into());
    }
    let mut network = view(&call.engine.inspect_network(typed).await?);
    responses::network(call.version, &mut network);
    Ok(Reply::json(&network))
}

/// There is nothing more to tell, but dockerd reads it.
fn check_verbose(given: &str) -> Result<(), Refusal> {
    const BOOLEANS: [&str; 13] =
        ["", "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"];
    if BOOLEANS.contains(&given) {
        return Ok(());
    }
    let words = format!("strconv.ParseBool: parsing {given:?}: invalid syntax");
    Err(Refusal::BadParameter(format!("invalid value for verbose: {given}: {words}")))
}

/// moby `daemon/network/filter.go`.
fn filter(call: &Call) -> Result<NetworkFilter, Refusal> {
    let given = Filters::parse(call.query.text("filters"))?;
    given.accept_only(filters::NETWORK_LIST)?;
    let values = |key: &str| given.values(key).map(str::to_owned).collect::<Vec<_>>();
    let kind = values("type");
    if kind.iter().any(|kind| !KINDS.contains(&kind.as_str())) {
        let text = "invalid value for filter 'type': must be 'builtin' or 'custom'";
        return Err(Refusal::BadParameter(text.to_owned()));
    }
    let matcher = |key: &str| {
        let patterns = given.patterns(key);
        (!patterns.is_empty())
            .then(|| NameMatcher(Arc::new(move |text: &str| patterns.matches(text))))
    };
    Ok(NetworkFilter {
        dangling: dangling(&values("dangling"))?,
        driver: values("driver"),
        id: matcher("id"),
        label: values("label"),
        name: matcher("name"),
        scope: values("scope"),
        kind,
    })
}

fn dangling(values: &[String]) -> Result<Option<bool>, Refusal> {
    match values {
        [] => Ok(None),
        [one] => match one.as_str() {
            "1" | "true" => Ok(Some(true)),
            "0" | "false" => Ok(Some(false)),
            _ => Err(Refusal::BadParameter(
                "invalid value for filter 'dangling': must be \"true\" (or \"1\"), or \"false\" (or \"0\")".to_owned(),
            )),
        },
        _ => Err(Refusal::BadParameter(
            "got more than one value for filter key \"dangling\"".to_owned(),
        )),
    }
}

fn view(network: &domain::Network) -> Network {
    let config: Vec<IpamConfig> = network
        .subnets
        .iter()
        .map(|subnet| IpamConfig {
            subnet: subnet.subnet.to_string(),
            ip_range: subnet.ip_range.clone(),
            gateway: subnet.gateway.clone(),
            ..IpamConfig::default()
        })
        .collect();
    Network {
        name: network.name.clone(),
        id: network.id.clone(),
        created: time::rfc3339_nano(network.created),
        scope: SCOPE.to_owned(),
        driver: network.driver.clone(),
        enable_ipv4: network.ipv4,
        enable_ipv6: network.ipv6,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: None,
            config: (!config.is_empty()).then_some(config),
        },
        internal: network.internal,
        containers: Some(containers(network)),
        options: network.options.clone(),
        labels: network.labels.clone(),
        status: Some(status(network)),
        ..Network::default()
    }
}

fn containers(network: &domain::Network) -> BTreeMap<String, EndpointResource> {
    let resource = |attached: &domain::Attached| EndpointResource {
        name: attached.name.clone(),
        endpoint_id: attached.endpoint_id.clone(),
        mac_address: attached.mac.clone(),
        ipv4_address: attached.ipv4.clone(),
        ipv6_address: attached.ipv6.clone(),
    };
    network
        .attached
        .iter()
        .map(|attached| (attached.container.clone(), resource(attached)))
        .collect()
}

fn status(network: &domain::Network) -> NetworkStatus {
    let subnets = network.subnets.iter().map(|subnet| {
        let status =
            SubnetStatus { ips_in_use: subnet.in_use, dynamic_ips_available: subnet.available };
        (subnet.subnet.to_string(), status)
    });
    NetworkStatus { ipam: IpamStatus { subnets: subnets.collect() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangling_is_one_boolean() {
        let read = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            dangling(&values).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["1"]), Ok(Some(true)));
        assert_eq!(read(&["false"]), Ok(Some(false)));
        assert!(read(&["x"]).unwrap_err().contains("'dangling'"));
        assert!(read(&["false", "true"]).unwrap_err().starts_with("got more than one value"));
    }

    #[test]
    fn verbose_is_read_as_go_reads_it() {
        assert!(check_verbose("true").is_ok() && check_verbose("").is_ok());
        assert_eq!(
            check_verbose("x").unwrap_err().to_string(),
            "invalid value for verbose: x: strconv.ParseBool: parsing \"x\": invalid syntax"
        );
    }
}
