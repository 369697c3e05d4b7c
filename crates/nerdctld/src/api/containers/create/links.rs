//! Names beside the container's own: links and aliases.
//!
//! In the words of moby `daemon/pkg/opts/opts.go` (`ParseLink`). dockerd refuses some of it with 500, and what is wrong with
//! an endpoint's link only at the start; here it is the request that is wrong.

use docker_wire::containers::ContainerCreateRequest;
use docker_wire::host_config::HostConfig;
use docker_wire::networks::EndpointSettings;
use engine::containers::spec::links::{EndpointNames, LinkWish, Names};

use super::bad;
use super::networking::{is_one_word, is_user_defined, mode};
use crate::api::error::Refusal;

/// All names, of the container and of its endpoints. In a network that a user made `HostConfig.Links` mean nothing: clients
/// send them with the endpoint as well.
pub(super) fn names(request: &ContainerCreateRequest, host: &HostConfig) -> Result<Names, Refusal> {
    let links = if is_user_defined(mode(host)) { Vec::new() } else { links(&host.links)? };
    let mut names = Names { links, ..Names::default() };
    let networking = request.networking_config.iter();
    for (network, settings) in networking.flat_map(|networking| &networking.endpoints_config) {
        if let Some(endpoint) = endpoint(settings)? {
            names.endpoints.insert(network.clone(), endpoint);
        }
    }
    Ok(names)
}

fn endpoint(settings: &EndpointSettings) -> Result<Option<EndpointNames>, Refusal> {
    let aliases = settings.aliases.clone().unwrap_or_default();
    for alias in &aliases {
        must_be_a_word(alias)?;
    }
    let links = links(&settings.links)?;
    let has_any = !aliases.is_empty() || !links.is_empty();
    Ok(has_any.then_some(EndpointNames { aliases, links }))
}

fn links(given: &Option<Vec<String>>) -> Result<Vec<LinkWish>, Refusal> {
    given.iter().flatten().map(|text| link(text)).collect()
}

/// `container:alias`, or `container`; or as inspect writes it, `/container:/this/alias`.
fn link(text: &str) -> Result<LinkWish, Refusal> {
    if text.is_empty() {
        return Err(bad("empty string specified for links"));
    }
    let (container, alias) = match text.split_once(':') {
        None => (text, text),
        Some((_, rest)) if rest.contains(':') => {
            return Err(bad(format!("bad format for links: {text}")));
        }
        Some((container, alias)) => match container.strip_prefix('/') {
            Some(container) => (container, alias.rsplit('/').next().unwrap_or(alias)),
            None => (container, alias),
        },
    };
    must_be_a_word(alias)?;
    Ok(LinkWish { container: container.to_owned(), alias: alias.to_owned() })
}

/// It stands in hosts files, so it must not be able to bring lines of its own.
fn must_be_a_word(alias: &str) -> Result<(), Refusal> {
    if is_one_word(alias) { Ok(()) } else { Err(bad(format!("invalid alias format: {alias:?}"))) }
}

#[cfg(test)]
mod tests {
    use docker_wire::decode;
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &Value) -> Result<Names, String> {
        let request: ContainerCreateRequest = decode::from_value(body).unwrap();
        let host = request.host_config.clone().unwrap_or_default();
        names(&request, &host).map_err(|error| error.to_string())
    }

    fn shown(links: &[LinkWish]) -> Vec<String> {
        links.iter().map(|link| format!("{} as {}", link.container, link.alias)).collect()
    }

    #[test]
    fn links_in_all_their_forms() {
        let names = read(&json!({"HostConfig": {"Links": ["db", "db:al", "/db:/web/al2", "db:"]}}));
        let links = names.unwrap().links;
        assert_eq!(shown(&links), ["db as db", "db as al", "db as al2", "db as "]);
        let of_user = json!({"HostConfig": {"NetworkMode": "mine", "Links": ["db"]}});
        assert_eq!(read(&of_user).unwrap(), Names::default());
    }

    #[test]
    fn endpoints_have_names_of_their_own() {
        let endpoints = json!({"mine": {"Aliases": ["a", "b"], "Links": ["x:y"]}, "other": {}});
        let body = json!({
            "HostConfig": {"NetworkMode": "mine"},
            "NetworkingConfig": {"EndpointsConfig": endpoints},
        });
        let names = read(&body).unwrap();
        assert_eq!(names.endpoints.len(), 1);
        let mine = &names.endpoints["mine"];
        assert_eq!((mine.aliases.len(), shown(&mine.links)), (2, vec!["x as y".to_owned()]));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (link, expected) in [
            ("", "empty string specified for links"),
            ("a:b:c", "bad format for links: a:b:c"),
            ("a:b\n192.0.2.1 c", r#"invalid alias format: "b\n192.0.2.1 c""#),
        ] {
            let body = json!({"HostConfig": {"Links": [link]}});
            assert_eq!(read(&body).unwrap_err(), expected, "{link:?}");
        }
        let body = json!({"NetworkingConfig": {"EndpointsConfig": {"mine": {"Aliases": ["a b"]}}}});
        assert_eq!(read(&body).unwrap_err(), r#"invalid alias format: "a b""#);
    }
}
