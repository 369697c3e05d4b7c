//! Docker's first registry protocol, of which only the search is left; nobody but Docker Hub and a few others answers it
//! (moby `daemon/pkg/registry/search.go`).

use serde::Deserialize;

use crate::error::Error;
use crate::url::hostname_of;
use crate::{Registry, credentials};

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
    /// one, others ask Docker Hub.
    ///
    /// # Errors
    /// As [`Registry::download`]; [`Error::Malformed`] for an answer that is none.
    pub async fn search(&self, term: &str, most: u32) -> Result<Vec<SearchResult>, Error> {
        let (host, name) = split(term);
        let query = format!("search?q={}&n={most}", encode(name));
        let address = format!("https://{host}/v1/{query}");
        let found = match self.download(&address).await {
            // As dockerd: a registry on this machine need not speak TLS.
            Err(Error::Tls { .. }) if crate::url::is_localhost(&host) => {
                self.download(&format!("http://{host}/v1/{query}")).await?
            }
            found => found?,
        };
        let bytes = found.collect(LIMIT).await?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| Error::Malformed {
            request: format!("GET {address}"),
            problem: error.to_string(),
        })?;
        Ok(answer.results)
    }
}

/// Host and what to look for there.
fn split(term: &str) -> (String, &str) {
    let hub = || "index.docker.io".to_owned();
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
