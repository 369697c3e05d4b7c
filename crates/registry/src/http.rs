//! One HTTP/1.1 exchange: connection, request, answer, body.
//!
//! Connections are not driven by tasks of their own: whoever waits for an answer or reads its body polls the connection
//! along. So dropping a [`Response`] closes its connection at once, and nothing runs that nobody waits for. A connection
//! whose body was read to its end goes back to the idle ones of its [`Http`] and serves the next request to that host.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{Interruption, MAX_ERROR_BODY};
use crate::proxy::Proxy;
use crate::tls::{Handshake, Trust};
use crate::url::{Scheme, Url};
use crate::{Answer, Error, Patience, Proxies, Secret};

/// Connections kept for the next request; a pull uses three at once.
const MAX_IDLE: usize = 4;
/// The head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// The head of a proxy's answer to CONNECT.
const MAX_PROXY_HEAD: usize = 8 * 1024;
/// As many as Go's clients follow.
const MAX_REDIRECTS: usize = 10;
/// Body of a redirect that is read to keep the connection; a longer one costs a new connection.
const MAX_DRAIN: usize = 16 * 1024;

/// The client of one operation.
#[derive(Debug)]
pub(crate) struct Http {
    proxies: Proxies,
    patience: Patience,
    user_agent: HeaderValue,
    idle: Mutex<Vec<Idle>>,
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
    pub(crate) body: Bytes,
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

struct Idle {
    route: Route,
    connection: Connection,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Idle")
    }
}

/// Where a connection leads, and what it can be used for again.
#[derive(Debug, Clone)]
struct Route {
    url: Url,
    trust: Arc<Trust>,
}

impl Route {
    /// As the host is really spoken to: one that was found to know no TLS is the same at its `http` address.
    fn scheme(&self) -> Scheme {
        if self.trust.is_plain() { Scheme::Http } else { self.url.scheme }
    }

    fn fits(&self, other: &Self) -> bool {
        let port = |route: &Self| route.url.port.unwrap_or(route.scheme().default_port());
        Arc::ptr_eq(&self.trust, &other.trust)
            && self.scheme() == other.scheme()
            && port(self) == port(other)
            && self.url.host.eq_ignore_ascii_case(&other.url.host)
    }
}

struct Connection {
    route: Route,
    sender: http1::SendRequest<Full<Bytes>>,
    /// Resolves when the connection is closed.
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    closed: bool,
    /// Requests must carry the whole address: a plain request through a proxy.
    proxied: Option<Option<Secret>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("route", &self.route.url)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

// === impl Request ===

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            private_headers: HeaderMap::new(),
            body: Bytes::new(),
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
        Arc::new(Self { proxies, patience, user_agent, idle: Mutex::new(Vec::new()) })
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Sends `request` and follows redirects of GET and HEAD; credentials stay with the host they are for.
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
                    if cause.is_canceled() || cause.is_incomplete_message() => {}
                outcome => return outcome,
            }
        }
        let connection = self.connect(route).await?;
        self.exchange_on(connection, request).await
    }

    async fn exchange_on(
        self: &Arc<Self>,
        mut connection: Connection,
        request: &Request,
    ) -> Result<Response, Error> {
        let interrupted = |source| Error::Interrupted { request: request.shown(), source };
        let message = self.message(&connection, request)?;
        let answer = connection.sender.send_request(message);
        let mut answer = std::pin::pin!(answer);
        let head = poll_fn(|cx| {
            connection_poll(&mut connection.driver, &mut connection.closed, cx);
            answer.as_mut().poll(cx)
        });
        let head = timeout(self.patience.answer, head)
            .await
            .map_err(|_| interrupted(Interruption::Stalled(self.patience.answer)))?
            .map_err(|error| interrupted(Interruption::Http(error)))?;
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

    fn message(
        &self,
        connection: &Connection,
        request: &Request,
    ) -> Result<http::Request<Full<Bytes>>, Error> {
        let invalid = |problem| Error::Address { address: request.url.to_string(), problem };
        let target = match connection.proxied {
            Some(_) => format!("http://{}{}", request.url.authority(), request.url.path),
            None => request.url.path.clone(),
        };
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(target)
            .body(Full::new(request.body.clone()))
            .map_err(|_| invalid("not a URL"))?;
        let headers = message.headers_mut();
        headers.extend(request.headers.clone());
        headers.extend(request.private_headers.clone());
        headers.insert(
            HOST,
            HeaderValue::from_str(&request.url.authority()).map_err(|_| invalid("not a host"))?,
        );
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(Some(authorization)) = &connection.proxied {
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
                let at = idle.iter().position(|idle| idle.route.fits(route))?;
                idle.swap_remove(at).connection
            };
            if connection.is_open().await {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(Idle { route: connection.route.clone(), connection });
        }
    }

    async fn connect(&self, route: Route) -> Result<Connection, Error> {
        if route.scheme() == Scheme::Http {
            return self.connect_plain(route).await;
        }
        let limit = self.patience.connect;
        let shown = format!("{}:{}", route.url.host, route.url.port());
        let stream = match self.proxies.for_url(&route.url)? {
            None => dial(&route.url, route.url.port(), limit).await,
            Some(proxy) => return self.connect_through(route, &proxy).await,
        };
        let stream = match stream {
            Ok(stream) => stream,
            // Nothing on 443: an insecure registry may be on 80 (containerd core/remotes/docker/resolver.go, HTTPFallback).
            Err(_) if route.trust.plain_fallback() && route.url.port.is_none() => {
                route.trust.set_plain();
                return self.connect_plain(route).await;
            }
            Err(error) => return Err(error),
        };
        let handshake = route.trust.handshake(stream, route.url.dial_host(), &shown);
        match within(limit, &shown, handshake).await? {
            Handshake::Done(stream) => Connection::start(route, stream, None).await,
            Handshake::Plain => self.connect_plain(route).await,
        }
    }

    async fn connect_plain(&self, route: Route) -> Result<Connection, Error> {
        let limit = self.patience.connect;
        let mut url = route.url.clone();
        url.scheme = Scheme::Http;
        match self.proxies.for_url(&url)? {
            None => Connection::start(route, dial(&url, url.port(), limit).await?, None).await,
            Some(proxy) => {
                let stream = dial(&proxy.url, proxy.url.port(), limit).await?;
                if proxy.url.scheme == Scheme::Http {
                    return Connection::start(route, stream, Some(proxy.authorization)).await;
                }
                let stream = self.greet_proxy(stream, &proxy).await?;
                Connection::start(route, stream, Some(proxy.authorization)).await
            }
        }
    }

    /// TLS to the host inside a tunnel that the proxy makes.
    async fn connect_through(&self, route: Route, proxy: &Proxy) -> Result<Connection, Error> {
        let stream = dial(&proxy.url, proxy.url.port(), self.patience.connect).await?;
        if proxy.url.scheme == Scheme::Http {
            return self.connect_tunnelled(route, stream, proxy).await;
        }
        let stream = self.greet_proxy(stream, proxy).await?;
        self.connect_tunnelled(route, stream, proxy).await
    }

    async fn connect_tunnelled<S>(
        &self,
        route: Route,
        stream: S,
        proxy: &Proxy,
    ) -> Result<Connection, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shown = format!("{}:{}", route.url.host, route.url.port());
        let limit = self.patience.connect;
        let stream = within(limit, &proxy.url.authority(), tunnel(stream, &shown, proxy)).await?;
        let handshake = route.trust.handshake(stream, route.url.dial_host(), &shown);
        match within(limit, &shown, handshake).await? {
            Handshake::Done(stream) => Connection::start(route, stream, None).await,
            Handshake::Plain => self.connect_plain(route).await,
        }
    }

    /// TLS to the proxy itself, which is believed by the system's roots.
    async fn greet_proxy(
        &self,
        stream: TcpStream,
        proxy: &Proxy,
    ) -> Result<Box<tokio_rustls::client::TlsStream<TcpStream>>, Error> {
        let shown = proxy.url.authority();
        let trust = Trust::default();
        match within(
            self.patience.connect,
            &shown,
            trust.handshake(stream, proxy.url.dial_host(), &shown),
        )
        .await?
        {
            Handshake::Done(stream) => Ok(stream),
            Handshake::Plain => Err(Error::Address {
                address: proxy.url.to_string(),
                problem: "the proxy does not speak TLS",
            }),
        }
    }
}

/// Where a redirect leads, if `response` is one that can be followed.
fn redirect_target(request: &Request, response: &Response) -> Result<Option<Url>, Error> {
    let followed = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    if !followed || !matches!(request.method, Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let Some(location) = response.headers.get(LOCATION) else { return Ok(None) };
    let location = location.to_str().map_err(|_| Error::Malformed {
        request: request.shown(),
        problem: "a Location header that is not text".to_owned(),
    })?;
    request.url.join(location).map(Some)
}

async fn dial(url: &Url, port: u16, limit: Duration) -> Result<TcpStream, Error> {
    let shown = format!("{}:{port}", url.host);
    let connect = async {
        let stream = TcpStream::connect((url.dial_host(), port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    within(limit, &shown, async {
        connect.await.map_err(|source| Error::Unreachable { host: shown.clone(), source })
    })
    .await
}

/// Gives up after `limit` as if the host could not be reached.
async fn within<T>(
    limit: Duration,
    host: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let problem = format!("no answer for {} seconds", limit.as_secs_f32());
        Err(Error::Unreachable {
            host: host.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::TimedOut, problem),
        })
    })
}

/// Asks a proxy for a way to `target` (RFC 9110 §9.3.6) and reads its answer byte by byte, so that nothing of what follows
/// is lost.
async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    target: &str,
    proxy: &Proxy,
) -> Result<S, Error> {
    let authorization = proxy
        .authorization
        .as_ref()
        .map(|value| format!("Proxy-Authorization: {}\r\n", value.reveal()))
        .unwrap_or_default();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    let unreachable = |source| Error::Unreachable { host: proxy.url.authority(), source };
    stream.write_all(request.as_bytes()).await.map_err(unreachable)?;
    stream.flush().await.map_err(unreachable)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_PROXY_HEAD {
        head.push(stream.read_u8().await.map_err(unreachable)?);
    }
    let status = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let accepted = status.starts_with("HTTP/1.")
        && status.split(' ').nth(1).is_some_and(|code| code.len() == 3 && code.starts_with('2'));
    if accepted {
        return Ok(stream);
    }
    Err(Error::Proxy { proxy: proxy.url.authority(), host: target.to_owned(), answer: status })
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

// === impl Connection ===

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Lets the connection work; after its end it is only remembered as closed. Its error, if any, also reaches the request.
fn connection_poll(driver: &mut Driver, closed: &mut bool, cx: &mut Context<'_>) {
    if !*closed {
        *closed = driver.as_mut().poll(cx).is_ready();
    }
}

impl Connection {
    async fn start<S>(
        route: Route,
        stream: S,
        proxied: Option<Option<Secret>>,
    ) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shown = format!("{}:{}", route.url.host, route.url.port());
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Error::Interrupted {
                request: shown,
                source: Interruption::Http(error),
            })?;
        Ok(Self { route, sender, driver: Box::pin(driver), closed: false, proxied })
    }

    /// Whether another request can be sent: the server has neither hung up nor sent anything unasked.
    async fn is_open(&mut self) -> bool {
        poll_fn(|cx| {
            connection_poll(&mut self.driver, &mut self.closed, cx);
            if self.closed {
                return Poll::Ready(false);
            }
            // Not ready now means busy with something that nobody waits for any more.
            match self.sender.poll_ready(cx) {
                Poll::Ready(outcome) => Poll::Ready(outcome.is_ok()),
                Poll::Pending => Poll::Ready(false),
            }
        })
        .await
    }
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

    /// The whole body, if it has no more than `limit` bytes.
    pub(crate) async fn collect(mut self, limit: usize) -> Result<Bytes, Error> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if whole.len() + chunk.len() > limit {
                return Err(Error::TooLarge { what: self.url.to_string(), limit: limit as u64 });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// What the registry said in the body of an error; a body that breaks off or is too long still counts.
    pub(crate) async fn answer(mut self) -> Answer {
        let mut body = BytesMut::new();
        while body.len() < MAX_ERROR_BODY {
            match self.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        Answer::parse(&body)
    }

    /// Reads a short body so that the connection can be used again.
    async fn drain(mut self, limit: usize) {
        let mut seen = 0;
        while let Ok(Some(chunk)) = self.chunk().await {
            seen += chunk.len();
            if seen > limit {
                return;
            }
        }
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
            connection_poll(&mut connection.driver, &mut connection.closed, cx);
        }
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some(connection) = &mut self.connection
        {
            // Reading made room in the body's channel; the connection may go on at once.
            connection_poll(&mut connection.driver, &mut connection.closed, cx);
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
