//! Ways to a host: TCP, proxies, tunnels, TLS; and the connection at their end.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::payload::Outgoing;
use crate::error::Interruption;
use crate::proxy::Proxy;
use crate::tls::{Handshake, Trust};
use crate::url::{Scheme, Url};
use crate::{Error, Proxies, Secret};

/// The head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// How long an address of a name is waited for before the next one is tried beside it (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(300);
/// The head of a proxy's answer to CONNECT, in bytes.
const MAX_PROXY_HEAD: usize = 8 * 1024;

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) proxies: Proxies,
    /// How long each step may take: TCP, the proxy's answer, a TLS handshake.
    pub(crate) limit: Duration,
}

/// Where a connection leads, and what it can be used for again.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) url: Url,
    pub(crate) trust: Arc<Trust>,
}

impl Route {
    /// As the host is really spoken to: a configured one that was found to know no TLS is the same at its `http` address.
    fn scheme(&self) -> Scheme {
        if self.trust.is_plain(&self.url) { Scheme::Http } else { self.url.scheme }
    }

    /// Whether a connection of `other` can be used for `self`.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        let port = |route: &Self| route.url.port.unwrap_or(route.scheme().default_port());
        Arc::ptr_eq(&self.trust, &other.trust)
            && self.scheme() == other.scheme()
            && port(self) == port(other)
            && self.url.host.eq_ignore_ascii_case(&other.url.host)
    }
}

/// An open connection. It works only while somebody polls it.
pub(crate) struct Connection {
    route: Route,
    sender: http1::SendRequest<Outgoing>,
    /// Resolves when the connection is closed.
    driver: Driver,
    closed: bool,
    /// Requests must carry the whole address, and the proxy's credentials if it has any: a plain request through a proxy.
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

// === impl Dialer ===

impl Dialer {
    /// A connection for the route: straight or through a proxy, with TLS or, where that is accepted and needed, without.
    pub(crate) async fn connect(&self, route: Route) -> Result<Connection, Error> {
        if route.scheme() == Scheme::Http {
            return self.connect_plain(route).await;
        }
        let limit = self.limit;
        let shown = format!("{}:{}", route.url.host, route.url.port());
        let stream = match self.proxies.for_url(&route.url)? {
            None => dial(&route.url, &route.trust, route.url.port(), limit).await,
            Some(proxy) => return self.connect_through(route, &proxy).await,
        };
        let stream = match stream {
            Ok(stream) => stream,
            // Nothing on 443: an insecure registry may be on 80 (containerd core/remotes/docker/resolver.go, HTTPFallback).
            Err(_) if route.trust.plain_fallback(&route.url) && route.url.port.is_none() => {
                route.trust.set_plain();
                return self.connect_plain(route).await;
            }
            Err(error) => return Err(error),
        };
        let fallback = route.trust.plain_fallback(&route.url);
        let handshake = route.trust.handshake(stream, route.url.dial_host(), &shown, fallback);
        match within(limit, &shown, handshake).await? {
            Handshake::Done(stream) => Connection::start(route, stream, None).await,
            Handshake::Plain => self.connect_plain(route).await,
        }
    }

    async fn connect_plain(&self, route: Route) -> Result<Connection, Error> {
        let limit = self.limit;
        let mut url = route.url.clone();
        url.scheme = Scheme::Http;
        match self.proxies.for_url(&url)? {
            None => {
                let stream = dial(&url, &route.trust, url.port(), limit).await?;
                Connection::start(route, stream, None).await
            }
            Some(proxy) => {
                let stream = dial(&proxy.url, &Trust::default(), proxy.url.port(), limit).await?;
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
        let stream = dial(&proxy.url, &Trust::default(), proxy.url.port(), self.limit).await?;
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
        let limit = self.limit;
        let stream = within(limit, &proxy.url.authority(), tunnel(stream, &shown, proxy)).await?;
        let fallback = route.trust.plain_fallback(&route.url);
        let handshake = route.trust.handshake(stream, route.url.dial_host(), &shown, fallback);
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
    ) -> Result<Box<TlsStream<TcpStream>>, Error> {
        let shown = proxy.url.authority();
        let trust = Trust::default();
        let handshake = trust.handshake(stream, proxy.url.dial_host(), &shown, false);
        match within(self.limit, &shown, handshake).await? {
            Handshake::Done(stream) => Ok(stream),
            Handshake::Plain => Err(Error::Address {
                address: proxy.url.to_string(),
                problem: "the proxy does not speak TLS",
            }),
        }
    }
}

async fn dial(url: &Url, trust: &Trust, port: u16, limit: Duration) -> Result<TcpStream, Error> {
    let shown = format!("{}:{port}", url.host);
    let connect = async {
        let addresses = tokio::net::lookup_host((url.dial_host(), port)).await?;
        let addresses = addresses.filter(|address| trust.allows(url, address.ip()));
        let stream = connect_any(addresses.collect()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    within(limit, &shown, async {
        connect.await.map_err(|source| Error::Unreachable { host: shown.clone(), source })
    })
    .await
}

/// Connects to the first of the addresses that answers. One that is silent does not hold up the next for long (RFC 8305).
async fn connect_any(addresses: Vec<SocketAddr>) -> std::io::Result<TcpStream> {
    let mut waiting = interleaved(addresses).into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    let mut failed = None;
    loop {
        attempts.extend(waiting.next().map(TcpStream::connect));
        let outcome = match waiting.peek() {
            None => attempts.next().await,
            Some(_) => match timeout(HEAD_START, attempts.next()).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            },
        };
        match outcome {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failed = Some(error),
            None => {
                let nowhere = || std::io::Error::other("the name has no address that may be used");
                return Err(failed.unwrap_or_else(nowhere));
            }
        }
    }
}

/// The addresses as they came, but one kind after the other: a machine with half of a way to IPv6 is common.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut ordered = Vec::new();
    loop {
        let (one, other) = (preferred.next(), others.next());
        if one.is_none() && other.is_none() {
            return ordered;
        }
        ordered.extend(one.into_iter().chain(other));
    }
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

// === impl Connection ===

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// After its end a connection is only remembered as closed. Its error, if any, also reaches the request.
fn work(driver: &mut Driver, closed: &mut bool, cx: &mut Context<'_>) {
    if !*closed {
        *closed = driver.as_mut().poll(cx).is_ready();
    }
}

impl Connection {
    /// Begins to speak HTTP over `stream`.
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

    /// What it can be used for again.
    pub(crate) fn route(&self) -> &Route {
        &self.route
    }

    /// Set for plain requests through a proxy: its credentials, if it has any.
    pub(crate) fn proxied(&self) -> Option<Option<&Secret>> {
        self.proxied.as_ref().map(Option::as_ref)
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        message: Request<Outgoing>,
    ) -> hyper::Result<Response<Incoming>> {
        let mut answer = std::pin::pin!(self.sender.send_request(message));
        let (driver, closed) = (&mut self.driver, &mut self.closed);
        poll_fn(|cx| {
            work(driver, closed, cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Lets the connection work.
    pub(crate) fn work(&mut self, cx: &mut Context<'_>) {
        work(&mut self.driver, &mut self.closed, cx);
    }

    /// Whether another request can be sent: the server has neither hung up nor sent anything unasked.
    pub(crate) async fn is_open(&mut self) -> bool {
        poll_fn(|cx| {
            self.work(cx);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsSettings;

    #[test]
    fn kinds_of_addresses_take_turns() {
        let addresses = |text: &str| -> Vec<SocketAddr> {
            text.split(' ').map(|address| address.parse().unwrap()).collect()
        };
        let given = addresses("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 2.2.2.2:1");
        let ordered = addresses("[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1");
        assert_eq!(interleaved(given), ordered);
    }

    #[tokio::test]
    async fn the_next_address_is_tried_beside_a_dead_one() {
        let alive = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Nobody is there, and nobody says so (RFC 5737).
        let silent: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let good = alive.local_addr().unwrap();
        for addresses in [vec![silent, good], vec![refused, good], vec![good]] {
            let connected = connect_any(addresses).await.unwrap();
            assert_eq!(connected.peer_addr().unwrap(), good);
        }
        assert!(connect_any(vec![refused]).await.is_err());
        assert!(connect_any(Vec::new()).await.is_err());
    }

    #[test]
    fn a_plain_registry_leaves_tls_to_where_it_sends_us() {
        let origin = Url::parse("https://r.example:5000/v2").unwrap();
        let settings = TlsSettings { plain_fallback: true, ..TlsSettings::default() };
        let trust = Trust::new(settings, &origin);
        trust.set_plain();
        let route = |url: Url| Route { url, trust: Arc::clone(&trust) };
        assert_eq!(route(origin).scheme(), Scheme::Http);
        let realm = Url::parse("https://auth.example/token").unwrap();
        assert_eq!(route(realm).scheme(), Scheme::Https);
    }
}
