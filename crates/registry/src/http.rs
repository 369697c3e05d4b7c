//! One HTTP/1.1 exchange: connection, request, answer, body.
//!
//! Connections are not driven by tasks of their own: whoever waits for an answer or reads its body polls the connection
//! along. So dropping a [`Response`] closes its connection at once, and nothing runs that nobody waits for. A connection
//! whose body was read to its end goes back to the idle ones of its [`Http`] and serves the next request to that host.

mod connection;
pub(crate) mod payload;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use self::connection::{Connection, Dialer, Route};
use self::payload::{Outgoing, Payload, Watch};
use crate::error::{Interruption, MAX_ERROR_BODY};
use crate::pace::Pace;
use crate::tls::{TlsFailure, Trust};
use crate::url::Url;
use crate::{Answer, Error, Patience, Proxies};

/// Connections kept for the next request; a pull uses three at once, a push five.
const MAX_IDLE: usize = 6;
/// As many as Go's clients follow.
const MAX_REDIRECTS: usize = 10;
/// For the whole of a document, an error's body, and the body of a redirect, however many pieces they come in.
const DOCUMENT_TIME: Duration = Duration::from_secs(5 * 60);
const ANSWER_TIME: Duration = Duration::from_secs(60);
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long a registry may think about an upload once it has all of it: it hashes it, or moves it to a storage of its own.
const VERDICT_TIME: Duration = Duration::from_secs(5 * 60);
/// Body of a redirect that is read to keep the connection; a longer one costs a new connection.
const MAX_DRAIN: usize = 16 * 1024;

/// The client of one operation.
#[derive(Debug)]
pub(crate) struct Http {
    dialer: Dialer,
    patience: Patience,
    user_agent: HeaderValue,
    idle: Mutex<Vec<Connection>>,
}

/// A request that can be sent more than once.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Sent wherever the request is redirected.
    pub(crate) headers: HeaderMap,
    /// Sent only to the host the request was made for: credentials and what the host's configuration adds.
    pub(crate) private_headers: HeaderMap,
    pub(crate) payload: Payload,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Where the answer came from in the end.
    pub(crate) url: Url,
    /// Method and address, for errors.
    pub(crate) request: String,
    body: Body,
}

#[derive(Debug)]
struct Body {
    incoming: Incoming,
    connection: Option<Connection>,
    home: Arc<Http>,
    stall: Duration,
}

// === impl Request ===

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            private_headers: HeaderMap::new(),
            payload: Payload::Empty,
        }
    }

    /// Method and address, for errors.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.method, self.url)
    }

    fn redirected(&self, url: Url) -> Self {
        let mut next = self.clone();
        if !self.url.same_origin(&url) {
            next.private_headers = HeaderMap::new();
        }
        next.url = url;
        next
    }
}

// === impl Http ===

impl Http {
    pub(crate) fn new(proxies: Proxies, patience: Patience, user_agent: &str) -> Arc<Self> {
        let user_agent =
            HeaderValue::from_str(user_agent).unwrap_or(HeaderValue::from_static("nerdctld"));
        let dialer = Dialer { proxies, limit: patience.connect };
        Arc::new(Self { dialer, patience, user_agent, idle: Mutex::new(Vec::new()) })
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Sends `request` and follows redirects; credentials stay with the host they are for.
    pub(crate) async fn send(
        self: &Arc<Self>,
        trust: &Arc<Trust>,
        request: &Request,
    ) -> Result<Response, Error> {
        let mut response = self.exchange(trust, request).await?;
        let mut hop = request.clone();
        for _ in 0..MAX_REDIRECTS {
            let Some(url) = redirect_target(&hop, &response)? else { return Ok(response) };
            tracing::debug!(from = %hop.url, to = %url, "redirected");
            response.drain(MAX_DRAIN).await;
            hop = hop.redirected(url);
            response = self.exchange(trust, &hop).await?;
        }
        match redirect_target(&hop, &response)? {
            None => Ok(response),
            Some(_) => Err(Error::Redirects { request: request.shown(), count: MAX_REDIRECTS }),
        }
    }

    async fn exchange(
        self: &Arc<Self>,
        trust: &Arc<Trust>,
        request: &Request,
    ) -> Result<Response, Error> {
        let route = Route { url: request.url.clone(), trust: Arc::clone(trust) };
        if let Some(connection) = self.take_idle(&route).await {
            match self.exchange_on(connection, request).await {
                // The server closed it between our look and our request; that says nothing about the next one.
                Err(Error::Interrupted { source: Interruption::Http(cause), .. })
                    if request.payload.is_repeatable()
                        && (cause.is_canceled() || cause.is_incomplete_message()) => {}
                outcome => return outcome,
            }
        }
        let connection = self.dialer.connect(route).await?;
        self.exchange_on(connection, request).await
    }

    async fn exchange_on(
        self: &Arc<Self>,
        mut connection: Connection,
        request: &Request,
    ) -> Result<Response, Error> {
        let interrupted = |source| Error::Interrupted { request: request.shown(), source };
        let watch = Arc::new(Watch::default());
        let body = request.payload.open(&watch).await?;
        let message = self.message(&connection, request, body)?;
        let head = self.patiently(connection.send(message), &watch).await;
        if let Some(source) = watch.failure() {
            return Err(Error::Unreadable { source });
        }
        let head =
            head.map_err(interrupted)?.map_err(|error| match TlsFailure::in_request(&error) {
                Some(source) => Error::Tls { host: request.url.authority(), source },
                None => interrupted(Interruption::Http(error)),
            })?;
        let (parts, incoming) = head.into_parts();
        let mut body = Body {
            incoming,
            connection: Some(connection),
            home: Arc::clone(self),
            stall: self.patience.stall,
        };
        if body.incoming.is_end_stream() {
            // An answer to HEAD, which nobody will read to its end.
            body.release().await;
        }
        Ok(Response {
            status: parts.status,
            headers: parts.headers,
            url: request.url.clone(),
            request: request.shown(),
            body,
        })
    }

    /// Waits for the head of an answer: so long from the request's end on, and not longer for each piece of its body, of which
    /// there must be enough.
    async fn patiently<T>(
        &self,
        head: impl Future<Output = T>,
        watch: &Watch,
    ) -> Result<T, Interruption> {
        let mut head = std::pin::pin!(head);
        let mut pace = Pace::default();
        loop {
            let moved = watch.moved();
            let limit = match (moved, watch.is_complete()) {
                (0, _) => self.patience.answer,
                (_, false) => self.patience.stall,
                (_, true) => VERDICT_TIME,
            };
            match timeout(limit, head.as_mut()).await {
                Ok(head) => return Ok(head),
                Err(_) if watch.moved() == moved => return Err(Interruption::Stalled(limit)),
                // All of it has gone meanwhile: from now on the answer is waited for.
                Err(_) if watch.is_complete() => {}
                Err(_) => pace.keeps_up(watch.moved() - moved, limit)?,
            }
        }
    }

    fn message(
        &self,
        connection: &Connection,
        request: &Request,
        body: Outgoing,
    ) -> Result<http::Request<Outgoing>, Error> {
        let invalid = |problem| Error::Address { address: request.url.to_string(), problem };
        let target = match connection.proxied() {
            Some(_) => format!("http://{}{}", request.url.authority(), request.url.path),
            None => request.url.path.clone(),
        };
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(target)
            .body(body)
            .map_err(|_| invalid("not a URL"))?;
        let headers = message.headers_mut();
        headers.extend(request.headers.clone());
        headers.extend(request.private_headers.clone());
        headers.insert(
            HOST,
            HeaderValue::from_str(&request.url.authority()).map_err(|_| invalid("not a host"))?,
        );
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(Some(authorization)) = connection.proxied() {
            let value = HeaderValue::from_str(authorization.reveal())
                .map_err(|_| invalid("the proxy's credentials are not printable"))?;
            headers.insert(http::header::PROXY_AUTHORIZATION, sensitive(value));
        }
        Ok(message)
    }

    /// An idle connection that is still open.
    async fn take_idle(&self, route: &Route) -> Option<Connection> {
        loop {
            let mut connection = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                let at = idle.iter().position(|idle| idle.route().fits(route))?;
                idle.swap_remove(at)
            };
            if connection.is_open().await {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

/// Where a redirect leads, if `response` is one that can be followed.
fn redirect_target(request: &Request, response: &Response) -> Result<Option<Url>, Error> {
    let status = response.status.as_u16();
    let followed = match (request.method == Method::GET || request.method == Method::HEAD, status) {
        (true, 301..=303) => true,
        // A form has a password in it, which is for the server that it was made for.
        (_, 307 | 308) => !request.payload.is_secret(),
        _ => false,
    };
    if !followed {
        return Ok(None);
    }
    let Some(location) = response.headers.get(LOCATION) else { return Ok(None) };
    let location = location.to_str().map_err(|_| Error::Malformed {
        request: request.shown(),
        problem: "a Location header that is not text".to_owned(),
    })?;
    request.url.join(location).map(Some)
}

/// Marks a header so that `Debug` does not show it.
pub(crate) fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// An `Authorization` header value; `None` if the credentials cannot be one.
pub(crate) fn authorization(value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((AUTHORIZATION, sensitive(HeaderValue::from_str(value).ok()?)))
}

// === impl Response ===

impl Response {
    /// The value of a header, if it is there and is text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next bytes of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.body
            .chunk()
            .await
            .map_err(|source| Error::Interrupted { request: self.request.clone(), source })
    }

    /// The whole body, if it has no more than `limit` bytes and comes within [`DOCUMENT_TIME`].
    pub(crate) async fn collect(self, limit: usize) -> Result<Bytes, Error> {
        let request = self.request.clone();
        timeout(DOCUMENT_TIME, self.collect_patiently(limit)).await.unwrap_or_else(|_| {
            Err(Error::Interrupted { request, source: Interruption::Slow(DOCUMENT_TIME) })
        })
    }

    async fn collect_patiently(mut self, limit: usize) -> Result<Bytes, Error> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit {
                return Err(Error::TooLarge { what: self.url.to_string(), limit: limit as u64 });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// What the registry said in the body of an error; of one that breaks off, is too long or takes longer than
    /// [`ANSWER_TIME`] what came still counts.
    pub(crate) async fn answer(mut self) -> Answer {
        let mut body = BytesMut::new();
        let reading = async {
            while body.len() < MAX_ERROR_BODY {
                match self.chunk().await {
                    Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                    Ok(None) | Err(_) => break,
                }
            }
        };
        // Too late is as good as the end.
        let _ = timeout(ANSWER_TIME, reading).await;
        Answer::parse(&body)
    }

    /// Reads a short body so that the connection can be used again; one that takes longer than [`DRAIN_TIME`] is not worth
    /// it.
    async fn drain(mut self, limit: usize) {
        let reading = async {
            let mut seen = 0;
            while let Ok(Some(chunk)) = self.chunk().await {
                seen += chunk.len();
                if seen > limit {
                    return;
                }
            }
        };
        let _ = timeout(DRAIN_TIME, reading).await;
    }
}

impl Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, Interruption> {
        loop {
            let frame = timeout(self.stall, poll_fn(|cx| self.poll_frame(cx)))
                .await
                .map_err(|_| Interruption::Stalled(self.stall))?;
            match frame.transpose()? {
                None => {
                    self.release().await;
                    return Ok(None);
                }
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<http_body::Frame<Bytes>>>> {
        if let Some(connection) = &mut self.connection {
            connection.work(cx);
        }
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some(connection) = &mut self.connection
        {
            // Reading made room in the body's channel; the connection may go on at once.
            connection.work(cx);
            return Pin::new(&mut self.incoming).poll_frame(cx);
        }
        frame
    }

    /// The body is complete: the connection can serve another request, if the server keeps it.
    async fn release(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if connection.is_open().await {
            self.home.keep(connection);
        }
    }
}
