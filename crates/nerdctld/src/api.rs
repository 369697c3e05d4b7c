//! The path of one request.
//!
//! 1. [`crate::connection`] has read the head and calls [`Api::respond`].
//! 2. [`router`] takes the path apart: percent-decoding, version prefix, then the first matching line of [`routes`].
//! 3. [`version`] judges the version. Unknown pages are 404 before that, as in dockerd.
//! 4. The handler runs: in the connection's task, where it ends with its client; or, when its route *finishes*, as an
//!    operation of the engine's supervisor, which goes on without a client.
//! 5. A handler is three sentences: decode ([`call`], [`compat`] lifts old requests), one engine operation, encode
//!    ([`reply`], [`compat`] lowers answers for old versions).
//! 6. Errors become answers in [`error`], and every answer gets the headers that clients negotiate by.
//!
//! The version of the API is nobody else's business: only `routes`, `version`, `call` and `compat` look at it.

mod auth;
mod body;
mod call;
mod compat;
mod containers;
mod disk_usage;
mod distribution;
mod error;
mod events;
mod exec;
mod images;
mod metrics;
mod networks;
mod ready;
pub(crate) mod reply;
mod router;
mod routes;
mod system;
mod unsupported;
mod version;
mod volumes;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use docker_wire::query::Query;
use engine::Engine;
use futures_util::FutureExt as _;
use http::header::{CONNECTION, HeaderName, HeaderValue, SERVER};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::config::Shown;
use crate::connection::Handle;
use body::RequestBody;
use call::{Answer, Call};
use error::{ApiError, Refusal};
use metrics::Metrics;
use reply::{Content, Reply, ReplyBody};
pub(crate) use router::Door;
use router::{Found, Target};
use version::{ApiVersion, OutOfRange};

/// Answers requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api(Arc<Inner>, Door);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    stop: CancellationToken,
    server: HeaderValue,
    newest: HeaderValue,
    shown: Arc<Shown>,
    metrics: Arc<Metrics>,
    requests: AtomicU64,
    operations: AtomicUsize,
}

/// Counts one finishing request for as long as it works, with or without its client.
struct UnderWay(Api);

impl UnderWay {
    fn new(api: &Api) -> Self {
        api.0.operations.fetch_add(1, Ordering::Relaxed);
        Self(api.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.operations.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that has found its handler.
struct Routed {
    found: Found,
    version: ApiVersion,
}

impl Api {
    /// `stop` ends streams that would otherwise go on; `shown` is what `/info` tells of the configuration.
    pub(crate) fn new(engine: Engine, stop: CancellationToken, shown: Shown) -> Self {
        let header =
            |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        let inner = Arc::new(Inner {
            engine,
            stop,
            server: header(format!("Docker/{} (linux)", system::ENGINE_VERSION)),
            newest: header(version::MAX.to_string()),
            shown: Arc::new(shown),
            metrics: Arc::default(),
            requests: AtomicU64::new(0),
            operations: AtomicUsize::new(0),
        });
        Self(inner, Door::Docker)
    }

    /// The same for what comes in elsewhere.
    pub(crate) fn at(&self, door: Door) -> Self {
        Self(Arc::clone(&self.0), door)
    }

    /// Finishing requests that are under way.
    pub(crate) fn operations(&self) -> usize {
        self.0.operations.load(Ordering::Relaxed)
    }

    /// Answer one request. Stays pending when the handler takes the connection (see [`crate::connection`]).
    pub(crate) async fn respond(
        self,
        request: Request<Incoming>,
        connection: Arc<Handle>,
    ) -> Response<ReplyBody> {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let span = tracing::info_span!(
            "request",
            id = number,
            method = %request.method(),
            route = tracing::field::Empty,
            version = tracing::field::Empty,
        );
        self.respond_in_span(request, connection).instrument(span).await
    }

    async fn respond_in_span(
        self,
        request: Request<Incoming>,
        connection: Arc<Handle>,
    ) -> Response<ReplyBody> {
        let began = Instant::now();
        let (head, incoming) = request.into_parts();
        let body = RequestBody::new(incoming, &head.headers);
        let reply = match route(self.1, &head) {
            // This answer is not a handler's: it has no API headers, as in dockerd.
            Err(refusal @ Refusal::PageNotFound) => refuse(refusal.into()),
            Err(refusal) => self.with_api_headers(refuse(refusal.into())),
            Ok(routed) => {
                connection.may_be_taken(routed.found.route.hijacks);
                self.with_api_headers(self.handle(routed, head, &body, &connection).await)
            }
        };
        let reply = settle(reply, body).await;
        if !matches!(reply.content, Content::Hijack(_)) {
            connection.may_be_taken(false);
        }
        tracing::debug!(
            status = reply.status.as_u16(),
            took_us = began.elapsed().as_micros(),
            "answered"
        );
        match reply.content {
            Content::Hijack(mut hijack) => {
                hijack.set_headers(&reply.headers);
                connection.hijack(hijack);
                std::future::pending().await
            }
            _ => response(reply, &self.0.stop),
        }
    }

    /// Run the handler and make an answer of whatever comes out.
    async fn handle(
        &self,
        routed: Routed,
        head: Parts,
        body: &RequestBody,
        connection: &Handle,
    ) -> Reply {
        let Routed { found: Found { route, parameters }, version } = routed;
        let span = tracing::Span::current();
        span.record("route", route.pattern).record("version", tracing::field::display(version));
        // Too many connections: only what tells that the daemon lives is answered.
        if connection.crowded() && !route.vital {
            return refuse(Refusal::Crowded.into());
        }
        let (api, body) = (self.clone(), body.clone());
        let work = async move {
            let mut query =
                Query::parse(head.uri.query().unwrap_or_default()).map_err(Refusal::from)?;
            if route.takes_form && head.method == Method::POST && body::is_form(&head.headers) {
                query = query.with_form_body(&body.read().await?).map_err(Refusal::from)?;
            }
            let (engine, shown) = (api.0.engine.clone(), Arc::clone(&api.0.shown));
            let (metrics, headers) = (Arc::clone(&api.0.metrics), head.headers);
            let call =
                Call { engine, shown, metrics, version, route, query, headers, body, parameters };
            let began = Instant::now();
            let answer = (route.handler)(call).await;
            if let (Some(action), Ok(_)) = (route.timed, &answer) {
                api.0.metrics.observe(action, began.elapsed());
            }
            answer
        };
        self.run(route.finishes, work).await.unwrap_or_else(refuse)
    }

    /// Run a handler's work: with its client, or to its end. A panic ends this request and no other.
    async fn run(
        &self,
        finishes: bool,
        work: impl Future<Output = Answer> + Send + 'static,
    ) -> Answer {
        let work = AssertUnwindSafe(work).catch_unwind();
        let outcome = if finishes {
            let under_way = UnderWay::new(self);
            let work = async move {
                let outcome = work.await;
                drop(under_way);
                outcome
            };
            // The outer error is a runtime that is going away.
            self.0.engine.supervisor().detached(work).await.ok().and_then(Result::ok)
        } else {
            work.await.ok()
        };
        // The panic hook has told the log where.
        outcome.unwrap_or_else(|| Err(Refusal::Crashed.into()))
    }

    /// What clients negotiate by (moby `daemon/server/middleware/version.go`, `experimental.go`).
    fn with_api_headers(&self, mut reply: Reply) -> Reply {
        let headers = &mut reply.headers;
        headers.insert(SERVER, self.0.server.clone());
        headers.insert(HeaderName::from_static("api-version"), self.0.newest.clone());
        headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
        headers.insert(
            HeaderName::from_static("docker-experimental"),
            HeaderValue::from_static("false"),
        );
        reply
    }
}

/// Path to handler and version.
fn route(door: Door, request: &Parts) -> Result<Routed, Refusal> {
    let target = Target::parse(request.uri.path())?;
    let found =
        router::find(door, request.method.as_str(), &target.path).ok_or(Refusal::PageNotFound)?;
    let version = match target.version {
        None => version::MAX,
        Some(text) => version::negotiate(&text).map_err(|out_of_range| match out_of_range {
            OutOfRange::TooOld => {
                Refusal::VersionTooOld { version: text, minimum: version::MIN.to_string() }
            }
            OutOfRange::TooNew => {
                Refusal::VersionTooNew { version: text, maximum: version::MAX.to_string() }
            }
        })?,
    };
    if let Some(minimum) = found.route.since.filter(|since| version < *since) {
        let (method, route) = (found.route.method, found.route.moby_pattern());
        return Err(Refusal::EndpointTooNew { method, route, minimum: minimum.to_string() });
    }
    Ok(Routed { found, version })
}

/// Bring what is left of the request's body into order with the answer.
///
/// A client that wants the connection without `Upgrade` and sends a chunked body means that body to be the input
/// (docker-modem does, with `hijack: false`); then hyper keeps both directions. Any other rest is dropped.
async fn settle(mut reply: Reply, unread: RequestBody) -> Reply {
    match reply.content {
        Content::Hijack(hijack) if unread.length().is_none() && !hijack.upgrades() => {
            reply::over_body(hijack, unread.into_stream())
        }
        _ => {
            if !unread.drain().await {
                reply.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            reply
        }
    }
}

/// An error becomes an answer, and a line in the log where it is our fault.
fn refuse(error: ApiError) -> Reply {
    if error.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(error = %error.message(), "a request failed");
    } else {
        tracing::debug!(error = %error.message(), "a request was refused");
    }
    error.into_reply()
}

/// What hyper sends. [`reply::AtStop`] says what of a stream is left when the daemon stops.
fn response(reply: Reply, stop: &CancellationToken) -> Response<ReplyBody> {
    let body = match reply.content {
        Content::Full(bytes) => ReplyBody::full(bytes),
        Content::Stream(chunks, at_stop) => ReplyBody::Stream(at_stop.apply(chunks, stop)),
        // Taken out before.
        Content::Hijack(_) => ReplyBody::full(""),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

#[cfg(test)]
mod tests;
