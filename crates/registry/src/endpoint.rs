//! One host that answers for a registry, during one operation: its trust, its tokens, and what its answers mean.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, RETRY_AFTER};
use names::ImageRef;

use crate::auth::Authorizer;
use crate::hosts::{Capabilities, HostConfig};
use crate::http::{Http, Request, Response};
use crate::tls::Trust;
use crate::{Credentials, Error, Purpose};

/// Rounds of proving who we are: without anything, with a token, with a fresh token.
const MAX_ROUNDS: usize = 3;

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) config: HostConfig,
    trust: Arc<Trust>,
    authorizer: Authorizer,
}

impl Endpoint {
    /// `scopes` are what a token must allow; a login has none.
    pub(crate) fn new(
        config: HostConfig,
        domain: &str,
        credentials: Option<&Arc<Credentials>>,
        scopes: Vec<String>,
    ) -> Self {
        let name = config.name();
        let own = credentials
            .filter(|credentials| config.base.is_at(&credentials.host(domain)))
            .map(Arc::clone);
        if credentials.is_some() && own.is_none() {
            tracing::debug!(
                host = name,
                "the credentials are for another host and are not sent to this one"
            );
        }
        let trust = Trust::new(config.tls.clone(), &config.base);
        Self { authorizer: Authorizer::new(name, own, scopes), config, trust }
    }

    /// What a token must allow so that `image` can be pulled or pushed.
    pub(crate) fn scopes(image: &ImageRef, purpose: &Purpose) -> Vec<String> {
        let path = image.path();
        let Purpose::Push { mount_from } = purpose else {
            return vec![format!("repository:{path}:pull")];
        };
        let sources = mount_from.iter().filter(|source| *source != path);
        let sources = sources.map(|source| format!("repository:{source}:pull"));
        std::iter::once(format!("repository:{path}:pull,push")).chain(sources).collect()
    }

    pub(crate) fn can(&self, needs: Capabilities) -> bool {
        (self.config.capabilities.pull || !needs.pull)
            && (self.config.capabilities.resolve || !needs.resolve)
            && (self.config.capabilities.push || !needs.push)
    }

    pub(crate) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    pub(crate) fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }

    /// Sends one request, with as many rounds as proving who we are takes. Any status but a 401 of this host may come back.
    pub(crate) async fn send(
        &self,
        http: &Arc<Http>,
        mut request: Request,
    ) -> Result<Response, Error> {
        request.private_headers.extend(self.config.headers.clone());
        let mut round = 1;
        loop {
            let authorization = self.authorizer.authorization(http, &self.trust).await?;
            if let Some(value) = &authorization {
                request.private_headers.insert(AUTHORIZATION, value.clone());
            }
            let response = http.send(&self.trust, &request).await?;
            // A 401 of the storage that a blob was redirected to is not ours to answer.
            if response.status.as_u16() != 401 || !response.url.same_origin(&request.url) {
                return Ok(response);
            }
            if round == MAX_ROUNDS {
                return Err(self.authorizer.refused(response).await);
            }
            round += 1;
            self.authorizer.challenged(authorization.as_ref(), response).await?;
        }
    }

    /// What an answer without success means; `what` is the reference that was asked for.
    pub(crate) async fn failure(&self, what: &str, response: Response) -> Error {
        let (status, request, host) =
            (response.status.as_u16(), response.request.clone(), self.config.name());
        let retry_after = retry_after(&response);
        let answer = response.answer().await;
        match status {
            401 => Error::Unauthorized { host, answer },
            403 => Error::Denied { host, answer },
            404 => Error::NotFound { what: what.to_owned(), answer },
            429 => Error::TooManyRequests { host, answer, retry_after },
            _ => Error::Status { request, status, answer, retry_after },
        }
    }
}

/// The pause that a server asks for; only the form in seconds, which is what registries send.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    response.header(RETRY_AFTER)?.trim().parse().ok().map(Duration::from_secs)
}
