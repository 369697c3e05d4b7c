//! Between the engine and registries: settings and credentials in, Docker's errors out.

use names::ImageRef;
use registry::{Access, Credentials as RegistryCredentials, Purpose, Registry, Repository, Secret};

use super::Credentials;
use crate::error::Class;
use crate::handle::Settings;
use crate::system::LoginOutcome;
use crate::{Engine, Error, Result};

/// What the daemon was told of registries, besides what `hosts.toml` files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Addresses that are asked for Docker Hub's images before Docker Hub: `https://mirror.example/`.
    pub mirrors: Vec<String>,
    /// Registries (`host`, `host:port`) and blocks of addresses (`10.0.0.0/8`) that need no certificate, nor TLS.
    pub insecure: Vec<String>,
}

/// How much is transferred at once, and how often it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// Layers of one image that load at once.
    pub downloads: u16,
    /// Blobs of one image that are sent at once.
    pub uploads: u16,
    /// Attempts in all for one request to a registry. At least one.
    pub attempts: u16,
}

/// dockerd's (moby `daemon/config/config.go`).
impl Default for TransferLimits {
    fn default() -> Self {
        Self { downloads: 3, uploads: 5, attempts: 5 }
    }
}

/// The client of all registries.
///
/// # Errors
/// None today; what can be wrong with a host's files is told by the operation that needs it.
pub(crate) fn registry_client(settings: &Settings) -> Result<Registry> {
    let mut insecure = settings.registries.insecure.clone();
    if settings.insecure_registry {
        insecure.push("*".to_owned());
    }
    let proxies = registry::Proxies::from_lookup(|name| std::env::var(name).ok());
    if let Some(error) = proxies.trouble() {
        tracing::warn!(%error, "nothing that goes through this proxy can be reached");
    }
    Ok(Registry::new(registry::Config {
        hosts_dirs: settings.hosts_dirs.clone(),
        user_agent: concat!("nerdctld/", env!("CARGO_PKG_VERSION")).to_owned(),
        insecure,
        mirrors: settings.registries.mirrors.clone(),
        proxies,
        patience: registry::Patience {
            attempts: settings.transfer_limits.attempts.into(),
            ..registry::Patience::default()
        },
    }))
}

/// The repository of an image, on behalf of a client.
pub(crate) async fn open_repository(
    engine: &Engine,
    image: &ImageRef,
    credentials: &Credentials,
    meta_headers: &[(String, String)],
    purpose: Purpose,
) -> Result<Repository> {
    let credentials = (!credentials.is_empty()).then(|| for_registry(credentials));
    let access = Access { credentials, headers: meta_headers.to_vec(), purpose };
    engine
        .registry()
        .repository(image, access)
        .await
        .map_err(|error| Error::failed("find the registry's host", error))
}

/// Credentials as the registry client takes them.
pub(super) fn for_registry(credentials: &Credentials) -> RegistryCredentials {
    RegistryCredentials {
        username: credentials.username.clone(),
        password: Secret::new(&credentials.password),
        identity_token: Secret::new(&credentials.identity_token),
        registry_token: Secret::new(&credentials.registry_token),
        server_address: credentials.server_address.clone(),
    }
}

/// A registry's refusal in Docker's words (moby `daemon/containerd/{image_pull,registry_errors}.go`).
pub(crate) fn remote_error(image: &ImageRef, error: registry::Error) -> Error {
    use registry::Error as Remote;
    match error {
        Remote::NotFound { .. } => Error::ManifestNotFound { reference: image.to_string() },
        Remote::Denied { .. } => {
            Error::PullAccessDenied { name: image.familiar_name(), detail: format!(": {error}") }
        }
        Remote::NoCredentials { .. } => Error::Registry {
            message: format!(
                "failed to resolve reference \"{image}\": pull access denied, repository does not exist or may \
                 require authorization: authorization failed: no basic auth credentials"
            ),
            class: Class::NotFound,
        },
        Remote::Unauthorized { .. } => Error::Unauthorized(format!("error from registry: {error}")),
        Remote::TooManyRequests { answer, .. } => too_many_requests(answer),
        Remote::DigestMismatch { .. } | Remote::TooLarge { .. } => {
            Error::BadContent(format!("failed to pull \"{image}\": {error}: failed precondition"))
        }
        other => Error::failed(format!("failed to resolve reference \"{image}\""), other),
    }
}

/// A registry's refusal of a question, in the words of distribution's own client, which dockerd asks with.
pub(crate) fn inspect_error(error: registry::Error) -> Error {
    use registry::Error as Remote;
    match error {
        Remote::NotFound { answer, .. } if answer.is_empty() => {
            Error::Registry { message: "manifest unknown".to_owned(), class: Class::NotFound }
        }
        Remote::NotFound { answer, .. } => {
            Error::Registry { message: answer.to_string(), class: Class::NotFound }
        }
        Remote::NoCredentials { .. } => Error::Unauthorized("no basic auth credentials".to_owned()),
        Remote::Unauthorized { .. } => Error::Unauthorized(error.to_string()),
        Remote::Denied { .. } => {
            Error::Registry { message: error.to_string(), class: Class::Forbidden }
        }
        Remote::TooManyRequests { answer, .. } => too_many_requests(answer),
        Remote::DigestMismatch { .. } | Remote::TooLarge { .. } => {
            Error::BadContent(error.to_string())
        }
        other => Error::failed("failed to ask the registry", other),
    }
}

fn too_many_requests(answer: registry::Answer) -> Error {
    Error::TooManyRequests(match answer.message {
        empty if empty.is_empty() => "too many requests".to_owned(),
        message => message,
    })
}

/// A registry's refusal of a push, in Docker's words (moby `daemon/containerd/{image_push,registry_errors}.go`, containerd
/// `core/remotes/docker/pusher.go`).
pub(crate) fn push_error(error: registry::Error) -> Error {
    use registry::Error as Remote;
    let from_registry = |text: String, class| Error::Registry {
        message: format!("error from registry: {text}"),
        class,
    };
    match error {
        Remote::NoCredentials { .. } => Error::Registry {
            message: "push access denied, repository does not exist or may require authorization: authorization failed: \
                      no basic auth credentials"
                .to_owned(),
            class: Class::Forbidden,
        },
        Remote::Unauthorized { .. } => Error::Unauthorized(format!("error from registry: {error}")),
        Remote::Denied { .. } => from_registry(error.to_string(), Class::Forbidden),
        Remote::NotFound { answer, .. } if !answer.is_empty() => {
            from_registry(answer.to_string(), Class::NotFound)
        }
        Remote::Status { status, answer, .. } if !answer.is_empty() => {
            let class = if status < 500 { Class::Invalid } else { Class::Internal };
            from_registry(answer.to_string(), class)
        }
        Remote::TooManyRequests { answer, .. } => too_many_requests(answer),
        other => Error::failed("failed to push", other),
    }
}

impl Engine {
    /// Whether a registry takes these credentials.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if it does not; [`Error::Failed`] if it cannot be asked.
    pub async fn check_login(&self, credentials: &Credentials) -> Result<LoginOutcome> {
        match self.registry().check_login(&for_registry(credentials)).await {
            Ok(login) => Ok(LoginOutcome {
                status: "Login Succeeded".to_owned(),
                identity_token: login.identity_token.reveal().to_owned(),
            }),
            Err(
                error @ (registry::Error::Unauthorized { .. }
                | registry::Error::Denied { .. }
                | registry::Error::NoCredentials { .. }),
            ) => Err(Error::Unauthorized(error.to_string())),
            Err(error) => Err(Error::failed(
                format!("login attempt to {:?} failed", credentials.server_address),
                error,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use registry::Answer;

    use super::*;

    #[test]
    fn refusals_speak_docker() {
        let image: ImageRef = "ghost:1".parse().unwrap();
        let host = || "r.example".to_owned();
        let answer = |code: &str, message: &str| Answer {
            code: code.to_owned(),
            message: message.to_owned(),
        };
        let rows = [
            (
                registry::Error::Denied { host: host(), answer: Answer::default() },
                "pull access denied for ghost, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                Class::NotFound,
            ),
            (
                registry::Error::NotFound {
                    what: "x".into(),
                    answer: answer("MANIFEST_UNKNOWN", "manifest unknown"),
                },
                "failed to resolve reference \"docker.io/library/ghost:1\": docker.io/library/ghost:1: not found",
                Class::NotFound,
            ),
            (
                registry::Error::Unauthorized {
                    host: host(),
                    answer: answer("", "incorrect username or password"),
                },
                "error from registry: unauthorized: incorrect username or password",
                Class::Unauthorized,
            ),
            (
                registry::Error::TooManyRequests {
                    host: host(),
                    answer: answer("TOOMANYREQUESTS", "slow down"),
                    retry_after: None,
                },
                "toomanyrequests: slow down",
                Class::Internal,
            ),
        ];
        for (given, text, class) in rows {
            let error = remote_error(&image, given);
            assert_eq!((error.message().as_str(), error.class()), (text, class));
        }
    }
}
