//! Docker's first registry protocol, of which only the search is left; nobody but Docker Hub and a few others answers it
//! (moby `daemon/pkg/registry/search.go`).

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::http::Request;
use crate::url::hostname_of;
use crate::{Credentials, Registry, credentials};

/// Where Docker Hub is searched.
const HUB_SEARCH: &str = "index.docker.io";
/// What a token must allow, where a registry wants one (distribution docs/spec/auth/scope.md).
const SCOPE: &str = "registry:catalog:*";
/// As much of an answer as is read, in bytes.
const LIMIT: usize = 4 << 20;

/// A repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// `nginx`.
    pub name: String,
    /// For people.
    #[serde(deserialize_with = "lenient")]
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// Whether Docker looks after it.
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<SearchResult>,
}

impl Registry {
    /// Repositories that have `term` in their name or description; at most `most`. A term that begins with a host asks that
    /// one, in the way that it is configured and with `credentials` that are for it; others ask Docker Hub, which wants none.
    ///
    /// # Errors
    /// As [`Registry::download`]; [`Error::Unauthorized`] and the like; [`Error::Malformed`] for an answer that is none.
    pub async fn search(
        &self,
        term: &str,
        most: u32,
        credentials: Option<Credentials>,
    ) -> Result<Vec<SearchResult>, Error> {
        let (host, name) = split(term);
        let path = format!("/v1/search?q={}&n={most}", encode(name));
        let address = format!("https://{host}{path}");
        let bytes = if host == HUB_SEARCH {
            self.download(&address).await?.collect(LIMIT).await?
        } else {
            self.ask(&host, path, credentials).await?
        };
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| Error::Malformed {
            request: format!("GET {address}"),
            problem: error.to_string(),
        })?;
        Ok(answer.results)
    }

    /// What a registry answers that is configured like any other: mirrors are for images only.
    async fn ask(
        &self,
        host: &str,
        path: String,
        credentials: Option<Credentials>,
    ) -> Result<Bytes, Error> {
        let Some(config) = self.hosts(host).await?.pop() else {
            let problem = "no host is configured for it";
            return Err(Error::Address { address: host.to_owned(), problem });
        };
        let credentials = credentials.filter(|given| !given.is_empty()).map(Arc::new);
        let endpoint = Endpoint::new(config, host, credentials.as_ref(), vec![SCOPE.to_owned()]);
        let mut url = endpoint.config.base.clone();
        url.path = path;
        let response = endpoint.send(&self.http(), Request::new(Method::GET, url.clone())).await?;
        if !response.status.is_success() {
            return Err(endpoint.failure(&url.to_string(), response).await);
        }
        response.collect(LIMIT).await
    }
}

/// Host and what to look for there.
fn split(term: &str) -> (String, &str) {
    let hub = || HUB_SEARCH.to_owned();
    match term.split_once('/') {
        Some((host, name)) if host.contains(['.', ':']) || host == "localhost" => {
            if credentials::is_docker_hub(hostname_of(host)) {
                (hub(), name)
            } else {
                (host.to_owned(), name)
            }
        }
        _ => (hub(), term.strip_prefix("library/").unwrap_or(term)),
    }
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn lenient<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_with_and_without_a_host() {
        for (term, host, name) in [
            ("nginx", "index.docker.io", "nginx"),
            ("library/nginx", "index.docker.io", "nginx"),
            ("me/nginx", "index.docker.io", "me/nginx"),
            ("docker.io/nginx", "index.docker.io", "nginx"),
            ("quay.io/me/x", "quay.io", "me/x"),
            ("localhost:5000/x", "localhost:5000", "x"),
        ] {
            assert_eq!(split(term), (host.to_owned(), name), "{term}");
        }
        assert_eq!(encode("a b&c"), "a%20b%26c");
    }
}
