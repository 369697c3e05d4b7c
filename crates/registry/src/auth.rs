//! Proving who we are: Basic, and Bearer tokens from the server that the registry names.
//!
//! One [`Authorizer`] per host and operation. It starts with nothing, as registries expect; the first 401 says what is
//! wanted (distribution docs/spec/auth/token.md, containerd core/remotes/docker/authorizer.go).

mod challenge;
mod form;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::http::payload::Payload;
use crate::http::{Http, Request, Response, authorization};
use crate::tls::Trust;
use crate::url::{Scheme, Url};
use crate::{Answer, Credentials, Error, Secret};
use challenge::Challenge;
use form::Form;

/// As what we introduce ourselves to token servers.
const CLIENT_ID: &str = "nerdctld";
/// A token server's answer; tokens of large organisations reach tens of kilobytes.
const MAX_TOKEN_BODY: usize = 1024 * 1024;
/// How long a token lives if the server does not say (distribution docs/spec/auth/token.md).
const DEFAULT_TOKEN_LIFE: Duration = Duration::from_secs(60);
/// A token is replaced this long before its end, so that it does not end on the way.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);

/// What one host has to be told with every request.
#[derive(Debug)]
pub(crate) struct Authorizer {
    /// The host, for errors.
    host: String,
    /// Only if they are for this host.
    credentials: Option<Arc<Credentials>>,
    /// `repository:<path>:pull` and the like, or nothing for a login.
    scopes: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    demand: Demand,
    /// A refresh token that the token server gave for the password.
    identity_token: Option<Secret>,
}

/// What the host asked for so far.
#[derive(Debug, Default)]
enum Demand {
    /// Nothing yet.
    #[default]
    Open,
    /// Name and password with every request.
    Basic,
    /// A token from the challenge's realm.
    Bearer { challenge: Challenge, token: Option<Token> },
}

#[derive(Debug)]
struct Token {
    value: Secret,
    expires: Instant,
}

impl Authorizer {
    pub(crate) fn new(
        host: String,
        credentials: Option<Arc<Credentials>>,
        scopes: Vec<String>,
    ) -> Self {
        Self { host, credentials, scopes, state: Mutex::new(State::default()) }
    }

    /// The value of the `Authorization` header, after fetching a token where one is needed. The lock is held meanwhile, so
    /// several downloads that start together fetch one token.
    pub(crate) async fn authorization(
        &self,
        http: &Arc<Http>,
        trust: &Arc<Trust>,
    ) -> Result<Option<HeaderValue>, Error> {
        if let Some(token) =
            self.credentials.as_ref().map(|c| &c.registry_token).filter(|token| !token.is_empty())
        {
            return self.header(&format!("Bearer {}", token.reveal())).map(Some);
        }
        let mut state = self.state.lock().await;
        let State { demand, identity_token } = &mut *state;
        match demand {
            Demand::Open => Ok(None),
            Demand::Basic => self.basic().map(Some),
            Demand::Bearer { challenge, token } => {
                if token.as_ref().is_none_or(|token| token.expires <= Instant::now()) {
                    let fetched = self.fetch_token(http, trust, challenge).await?;
                    if fetched.refresh.is_some() {
                        *identity_token = fetched.refresh;
                    }
                    *token = Some(fetched.token);
                }
                match token {
                    Some(token) => {
                        self.header(&format!("Bearer {}", token.value.reveal())).map(Some)
                    }
                    None => Ok(None),
                }
            }
        }
    }

    /// Takes in a 401 to a request that was sent with `sent`. `Ok` means that another try with a new
    /// [`Self::authorization`] may succeed.
    pub(crate) async fn challenged(
        &self,
        sent: Option<&HeaderValue>,
        response: Response,
    ) -> Result<(), Error> {
        let headers = response.headers.clone();
        let answer = response.answer().await;
        if self
            .credentials
            .as_ref()
            .is_some_and(|credentials| !credentials.registry_token.is_empty())
        {
            return Err(self.unauthorized(answer));
        }
        let mut state = self.state.lock().await;
        let challenge =
            strongest_challenge(&headers).ok_or_else(|| self.unauthorized(answer.clone()))?;
        if challenge.is_basic() {
            // A request that was sent before the first demand says nothing about the password.
            if matches!(state.demand, Demand::Basic) && sent.is_some() {
                return Err(self.unauthorized(answer));
            }
            self.basic()?;
            state.demand = Demand::Basic;
            return Ok(());
        }
        match &mut state.demand {
            Demand::Bearer { challenge: known, token } => {
                let current =
                    token.as_ref().map(|token| format!("Bearer {}", token.value.reveal()));
                // A request that was sent before the first demand says nothing about tokens, nor does one with an old token.
                let was_current = current
                    .zip(sent)
                    .is_some_and(|(current, sent)| current.as_bytes() == sent.as_bytes());
                if was_current {
                    let refused = challenge.error().is_some();
                    *known = challenge;
                    *token = None;
                    if refused { Ok(()) } else { Err(self.unauthorized(answer)) }
                } else {
                    Ok(())
                }
            }
            demand => {
                *demand = Demand::Bearer { challenge, token: None };
                Ok(())
            }
        }
    }

    /// What a second refusal of a fresh token means: the token server knows us but does not let us in.
    pub(crate) async fn refused(&self, response: Response) -> Error {
        let scope_too_small = strongest_challenge(&response.headers)
            .is_some_and(|challenge| challenge.error() == Some("insufficient_scope"));
        let answer = response.answer().await;
        if scope_too_small {
            Error::Denied { host: self.host.clone(), answer: Answer::default() }
        } else {
            self.unauthorized(answer)
        }
    }

    /// A refresh token that came with an access token: what `docker login` keeps instead of the password.
    pub(crate) async fn identity_token(&self) -> Option<Secret> {
        self.state.lock().await.identity_token.clone()
    }

    /// Whether there is anything to prove who we are with to this host.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Only a login asks for a refresh token, which somebody will keep.
    fn is_login(&self) -> bool {
        self.scopes.is_empty()
    }

    fn unauthorized(&self, answer: Answer) -> Error {
        Error::Unauthorized { host: self.host.clone(), answer }
    }

    fn header(&self, value: &str) -> Result<HeaderValue, Error> {
        authorization(value).map(|(_, value)| value).ok_or_else(|| {
            self.unauthorized(Answer {
                code: String::new(),
                message: "the credentials contain a control character".to_owned(),
            })
        })
    }

    /// Name and password as RFC 7617 wants them.
    fn basic(&self) -> Result<HeaderValue, Error> {
        let given =
            self.credentials.as_ref().filter(|c| !c.username.is_empty() && !c.password.is_empty());
        let Some(given) = given else {
            return Err(Error::NoCredentials { host: self.host.clone() });
        };
        let pair = format!("{}:{}", given.username, given.password.reveal());
        self.header(&format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair)))
    }

    /// Gets a token: with a secret by POST as OAuth 2 wants, and by GET where the server does not know that, or anonymously
    /// (containerd core/remotes/docker/authorizer.go, fetchToken).
    async fn fetch_token(
        &self,
        http: &Arc<Http>,
        trust: &Arc<Trust>,
        challenge: &Challenge,
    ) -> Result<Fetched, Error> {
        let realm = Url::parse(challenge.realm().unwrap_or_default())?;
        if realm.scheme == Scheme::Http && self.credentials.is_some() {
            tracing::warn!(host = %self.host, %realm, "the registry's token server is reached without TLS");
        }
        let scopes = challenge.scopes_with(&self.scopes);
        if let Some(form) = self.oauth_form(challenge, &scopes) {
            let mut request = Request::new(Method::POST, realm.clone());
            request.headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            request.payload = Payload::Form(form.into());
            let response = http.send(trust, &request).await?;
            match response.status.as_u16() {
                200..=299 => return self.read_token(response).await,
                // Servers that only know GET answer with one of these (405 by the book).
                400 | 401 | 404 | 405 => drop(response),
                _ => return Err(self.token_error(response).await),
            }
        }
        let mut request =
            Request::new(Method::GET, with_query(&realm, &self.token_query(challenge, &scopes)));
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if self
            .credentials
            .as_ref()
            .is_some_and(|c| !c.username.is_empty() && !c.password.is_empty())
        {
            request.private_headers.insert(http::header::AUTHORIZATION, self.basic()?);
        }
        let response = http.send(trust, &request).await?;
        if response.status.is_success() {
            self.read_token(response).await
        } else {
            Err(self.token_error(response).await)
        }
    }

    /// The OAuth 2 form, if there is a secret to put into it.
    fn oauth_form(&self, challenge: &Challenge, scopes: &[String]) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let mut form = Form::default();
        if !credentials.identity_token.is_empty() {
            form.pair("grant_type", "refresh_token")
                .pair("refresh_token", credentials.identity_token.reveal());
        } else if !credentials.username.is_empty() && !credentials.password.is_empty() {
            form.pair("grant_type", "password")
                .pair("username", &credentials.username)
                .pair("password", credentials.password.reveal());
        } else {
            return None;
        }
        form.pair("service", challenge.service()).pair("client_id", CLIENT_ID);
        if self.is_login() {
            form.pair("access_type", "offline");
        }
        if !scopes.is_empty() {
            form.pair("scope", &scopes.join(" "));
        }
        Some(form.finish())
    }

    fn token_query(&self, challenge: &Challenge, scopes: &[String]) -> String {
        let mut query = Form::default();
        if !challenge.service().is_empty() {
            query.pair("service", challenge.service());
        }
        for scope in scopes {
            query.pair("scope", scope);
        }
        if self.credentials.is_some() {
            query.pair("client_id", CLIENT_ID);
        }
        if self.is_login() {
            query.pair("offline_token", "true");
        }
        query.finish()
    }

    async fn read_token(&self, response: Response) -> Result<Fetched, Error> {
        let request = response.request.clone();
        let malformed = |problem: String| Error::Malformed { request: request.clone(), problem };
        let body = response.collect(MAX_TOKEN_BODY).await?;
        // The error must not quote the body: it holds the token.
        let document: TokenDocument = serde_json::from_slice(&body)
            .map_err(|_| malformed("the token server's answer is not JSON".to_owned()))?;
        let value = [document.access_token, document.token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty());
        let value =
            value.ok_or_else(|| malformed("the token server's answer has no token".to_owned()))?;
        let life = document.expires_in.map_or(DEFAULT_TOKEN_LIFE, Duration::from_secs);
        // Nonsense such as 2^63 seconds must not overflow the clock.
        let life = life.clamp(TOKEN_MARGIN * 2, Duration::from_secs(24 * 3600));
        let token =
            Token { value: Secret::new(value), expires: Instant::now() + (life - TOKEN_MARGIN) };
        let refresh = document.refresh_token.filter(|token| !token.is_empty()).map(Secret::new);
        Ok(Fetched { token, refresh })
    }

    async fn token_error(&self, response: Response) -> Error {
        let (status, request) = (response.status.as_u16(), response.request.clone());
        let retry_after = crate::endpoint::retry_after(&response);
        let answer = response.answer().await;
        let host = self.host.clone();
        match status {
            401 => Error::Unauthorized { host, answer },
            403 => Error::Denied { host, answer },
            429 => Error::TooManyRequests { host, answer, retry_after },
            _ => Error::Status { request, status, answer, retry_after },
        }
    }
}

struct Fetched {
    token: Token,
    refresh: Option<Secret>,
}

#[derive(Deserialize)]
struct TokenDocument {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

/// Bearer before Basic, as every client prefers it.
fn strongest_challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let challenges: Vec<_> = values.flat_map(Challenge::parse_all).collect();
    let bearer = challenges
        .iter()
        .position(|challenge| challenge.is_bearer() && challenge.realm().is_some());
    let chosen = bearer.or_else(|| challenges.iter().position(Challenge::is_basic))?;
    challenges.into_iter().nth(chosen)
}

fn with_query(url: &Url, query: &str) -> Url {
    let mut url = url.clone();
    let separator = if url.path.contains('?') { '&' } else { '?' };
    url.path = format!("{}{separator}{query}", url.path);
    url
}
