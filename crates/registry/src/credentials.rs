//! What a client gave us to prove who it is.
//!
//! Nothing here can be printed by accident: `Debug` shows `***`.

use std::fmt;

use crate::url::hostname_of;

/// A string that must not appear in logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. The name is long so that its use is seen in a review.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is no secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

/// Credentials as a Docker client sends them with a request. Fields that do not apply are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The user's password or access token.
    pub password: Secret,
    /// A refresh token that an earlier login gave instead of a password.
    pub identity_token: Secret,
    /// A ready bearer token, used as it is.
    pub registry_token: Secret,
    /// The registry these are for, possibly with scheme and path (`https://index.docker.io/v1/`); empty means the registry
    /// of the image they came with.
    pub server_address: String,
}

impl Credentials {
    /// Whether there is anything to prove oneself with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.username.is_empty()
            && self.password.is_empty()
            && self.identity_token.is_empty()
            && self.registry_token.is_empty()
    }

    /// The host that may see these, where `domain` is the registry of the image: never another one, above all no mirror
    /// (moby daemon/containerd/resolver.go, authorizerFromAuthConfig).
    pub(crate) fn host(&self, domain: &str) -> String {
        let named = hostname_of(&self.server_address);
        let host = if named.is_empty() { domain } else { named };
        if is_docker_hub(host) { HUB_REGISTRY.to_owned() } else { host.to_owned() }
    }
}

/// Where Docker Hub's images really are.
pub(crate) const HUB_REGISTRY: &str = "registry-1.docker.io";

/// The names by which clients know Docker Hub.
pub(crate) fn is_docker_hub(host: &str) -> bool {
    ["docker.io", "index.docker.io", HUB_REGISTRY]
        .iter()
        .any(|name| host.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_print() {
        let credentials = Credentials {
            username: "ann".into(),
            password: Secret::new("hunter2"),
            identity_token: Secret::new("refresh-me"),
            registry_token: Secret::new("bearer-me"),
            server_address: String::new(),
        };
        let text = format!("{credentials:?}");
        assert!(text.contains("ann") && text.contains("***"), "{text}");
        for secret in ["hunter2", "refresh-me", "bearer-me"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn credentials_belong_to_one_host() {
        let rows = [
            ("", "quay.io", "quay.io"),
            ("", "docker.io", "registry-1.docker.io"),
            ("https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"),
            ("docker.io", "quay.io", "registry-1.docker.io"),
            ("http://localhost:5000/v2/", "quay.io", "localhost:5000"),
            ("quay.io/team", "docker.io", "quay.io"),
        ];
        for (server_address, domain, host) in rows {
            let credentials =
                Credentials { server_address: server_address.into(), ..Credentials::default() };
            assert_eq!(credentials.host(domain), host, "{server_address}");
        }
    }
}
