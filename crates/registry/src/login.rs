//! Checking a user's credentials, for `docker login`.

use http::Method;

use crate::credentials::is_docker_hub;
use crate::endpoint::Endpoint;
use crate::http::Request;
use crate::url::hostname_of;
use crate::{Credentials, Error, Registry, Secret};

/// A successful login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// What the client shall keep instead of the password; empty if it shall keep the password.
    pub identity_token: Secret,
}

impl Registry {
    /// Whether the registry takes these credentials. Asks the registry of `credentials.server_address` itself (Docker Hub if
    /// that is empty), never a mirror (moby daemon/pkg/registry/service.go, Auth).
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if it does not; [`Error::Address`] if `hosts.toml` names another host for the registry, which
    /// must not see them; anything else says nothing about the credentials.
    pub async fn check_login(&self, credentials: &Credentials) -> Result<Login, Error> {
        let named = hostname_of(&credentials.server_address);
        let domain = if named.is_empty() || is_docker_hub(named) { "docker.io" } else { named };
        let mut hosts = self.hosts(domain).await?;
        let Some(config) = hosts.pop() else {
            return Err(Error::Address {
                address: domain.to_owned(),
                problem: "no host is configured for it",
            });
        };
        let credentials = std::sync::Arc::new(credentials.clone());
        let endpoint = Endpoint::new(config, domain, Some(&credentials), Vec::new());
        if !endpoint.authorizer().has_credentials() {
            return Err(Error::Address {
                address: endpoint.config.base.to_string(),
                problem: "the configuration names this host for the registry, but the credentials are for the registry",
            });
        }
        let mut url = endpoint.config.base.clone();
        url.path.push('/');
        let response = endpoint.send(&self.http(), Request::new(Method::GET, url.clone())).await?;
        if !response.status.is_success() {
            return Err(endpoint.failure(&url.to_string(), response).await);
        }
        Ok(Login {
            identity_token: endpoint.authorizer().identity_token().await.unwrap_or_default(),
        })
    }
}
