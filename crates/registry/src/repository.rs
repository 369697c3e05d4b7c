//! One image's repository, for the length of one operation.
//!
//! Every request goes to the hosts of the registry in their order until one answers it; on each of them it may be
//! challenged, redirected and tried again (containerd core/remotes/docker/resolver.go and fetcher.go).

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use names::ImageRef;
use tokio::sync::Semaphore;

use crate::endpoint::Endpoint;
use crate::error::Answer;
use crate::hosts::{Capabilities, hosts_for};
use crate::http::payload::Payload;
use crate::http::{Http, Request, Response};
use crate::url::Url;
use crate::{Credentials, Error, Registry};

/// On whose behalf a repository is used.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `None` for anonymous access.
    pub credentials: Option<Credentials>,
    /// Headers of the client that go along to the registry (`X-Meta-*`); names and values that cannot be headers are left
    /// out.
    pub headers: Vec<(String, String)>,
    /// What it is used for; a token is asked for just that.
    pub purpose: Purpose,
}

/// What a repository is used for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Reading.
    #[default]
    Pull,
    /// Writing.
    Push {
        /// Paths of other repositories of the registry from which blobs may be taken over.
        mount_from: Vec<String>,
    },
}

/// One image name on its registry: hosts, tokens and connections for one operation. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub struct Repository {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    image: ImageRef,
    http: Arc<Http>,
    endpoints: Vec<Endpoint>,
    headers: HeaderMap,
    /// For parts of blobs in memory; the whole daemon's.
    places: Arc<Semaphore>,
}

/// A request for any of the hosts.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) method: Method,
    /// What follows `/v2/<repository>`, for example `/manifests/latest`.
    pub(crate) path: String,
    /// Without `?`; may be empty.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) needs: Capabilities,
    pub(crate) payload: Payload,
}

impl Draft {
    /// A GET that any host can answer that may be pulled from.
    pub(crate) fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            query: String::new(),
            headers: HeaderMap::new(),
            needs: Capabilities::PULL,
            payload: Payload::Empty,
        }
    }

    /// A request to the one host that is pushed to.
    pub(crate) fn push(method: Method, path: String) -> Self {
        Self { method, needs: Capabilities::PUSH, ..Self::get(path) }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }
}

impl Registry {
    /// The repository of `image`, for one operation. Reads the host configuration; connects to nobody yet.
    ///
    /// # Errors
    /// [`Error::Address`] if `hosts.toml` names a host that is none.
    pub async fn repository(&self, image: &ImageRef, access: Access) -> Result<Repository, Error> {
        let domain = image.domain();
        let credentials =
            access.credentials.filter(|credentials| !credentials.is_empty()).map(Arc::new);
        let scopes = Endpoint::scopes(image, &access.purpose);
        let endpoints = self.hosts(domain).await?.into_iter();
        let endpoints = endpoints
            .map(|config| Endpoint::new(config, domain, credentials.as_ref(), scopes.clone()))
            .collect();
        let headers = client_headers(&access.headers);
        Ok(Repository {
            inner: Arc::new(Inner {
                image: image.clone(),
                http: self.http(),
                endpoints,
                headers,
                places: Arc::clone(&self.places),
            }),
        })
    }

    /// The configured hosts of a registry, read anew.
    pub(crate) async fn hosts(&self, domain: &str) -> Result<Vec<crate::hosts::HostConfig>, Error> {
        let (config, registry) = (Arc::clone(&self.config), domain.to_owned());
        let read = tokio::task::spawn_blocking(move || hosts_for(&config, &registry)).await;
        // Fails only when the runtime ends; nobody will read this.
        read.unwrap_or_else(|_| {
            Err(Error::Address {
                address: domain.to_owned(),
                problem: "the daemon is shutting down",
            })
        })
    }

    pub(crate) fn http(&self) -> Arc<Http> {
        Http::new(self.config.proxies.clone(), self.config.patience, &self.config.user_agent)
    }
}

fn client_headers(given: &[(String, String)]) -> HeaderMap {
    given
        .iter()
        .filter_map(|(name, value)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
        })
        .collect()
}

impl Repository {
    /// The image this is the repository of.
    #[must_use]
    pub fn image(&self) -> &ImageRef {
        &self.inner.image
    }

    /// Sends a request until a host answers it with success. `what` is the full reference, for [`Error::NotFound`].
    pub(crate) async fn request(&self, draft: &Draft, what: &str) -> Result<Response, Error> {
        self.request_within(draft, what, self.inner.http.patience().attempts).await
    }

    /// As [`Self::request`], with another number of attempts on the last host.
    pub(crate) async fn request_within(
        &self,
        draft: &Draft,
        what: &str,
        attempts: u32,
    ) -> Result<Response, Error> {
        let mut endpoints: Vec<_> =
            self.inner.endpoints.iter().filter(|endpoint| endpoint.can(draft.needs)).collect();
        if draft.needs.push {
            // What is begun at one host cannot be ended at another (containerd core/remotes/docker/pusher.go).
            endpoints.truncate(1);
        }
        let mut worst: Option<Error> = None;
        for (at, endpoint) in endpoints.iter().enumerate() {
            let last = at + 1 == endpoints.len();
            // A mirror that stumbles is not waited for.
            let attempts = if last { attempts } else { 1 };
            let error = match self.request_from(endpoint, draft, what, attempts).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if !last {
                tracing::info!(host = endpoint.config.name(), %error, "the mirror does not help, trying the next host");
            }
            if worst.as_ref().is_none_or(|worst| error.rank() >= worst.rank()) {
                worst = Some(error);
            }
        }
        Err(worst.unwrap_or_else(|| Error::NotFound {
            what: what.to_owned(),
            answer: Answer::default(),
        }))
    }

    async fn request_from(
        &self,
        endpoint: &Endpoint,
        draft: &Draft,
        what: &str,
        attempts: u32,
    ) -> Result<Response, Error> {
        let mut request = Request::new(draft.method.clone(), self.url(endpoint, draft));
        request.headers = draft.headers.clone();
        request.payload = draft.payload.clone();
        request.private_headers = self.inner.headers.clone();
        let mut failed = 0;
        loop {
            let error = match endpoint.send(&self.inner.http, request.clone()).await {
                Ok(response) if response.status.is_success() => return Ok(response),
                Ok(response) => endpoint.failure(what, response).await,
                Err(error) => error,
            };
            failed += 1;
            if failed >= attempts || !self.pause_after(&error, failed).await {
                return Err(error);
            }
        }
    }

    /// Pauses after the `failed`th failure in a row; `false` if another attempt makes no sense.
    pub(crate) async fn pause_after(&self, error: &Error, failed: u32) -> bool {
        let patience = self.inner.http.patience();
        if !error.may_pass() || failed >= patience.attempts {
            return false;
        }
        let doubled = patience.first_pause.saturating_mul(1 << failed.saturating_sub(1).min(16));
        let pause = error.retry_after().unwrap_or(doubled.min(patience.longest_pause));
        if pause > patience.longest_pause {
            return false;
        }
        tracing::debug!(%error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        true
    }

    /// The host that is pushed to.
    pub(crate) fn push_endpoint(&self) -> Option<&Endpoint> {
        self.inner.endpoints.iter().find(|endpoint| endpoint.can(Capabilities::PUSH))
    }

    pub(crate) fn http(&self) -> &Arc<Http> {
        &self.inner.http
    }

    pub(crate) fn places(&self) -> &Arc<Semaphore> {
        &self.inner.places
    }

    pub(crate) fn client_headers(&self) -> &HeaderMap {
        &self.inner.headers
    }

    fn url(&self, endpoint: &Endpoint, draft: &Draft) -> Url {
        let registry = self.inner.image.domain();
        let namespace = if endpoint.config.is_mirror_of(registry) {
            format!("ns={registry}")
        } else {
            String::new()
        };
        let query: Vec<_> = [draft.query.as_str(), &namespace]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        let question = if query.is_empty() { "" } else { "?" };
        let mut url = endpoint.config.base.clone();
        url.path = format!(
            "{}/{}{}{question}{}",
            url.path,
            self.inner.image.path(),
            draft.path,
            query.join("&")
        );
        url
    }
}
