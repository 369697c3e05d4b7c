//! One connection, from its first byte to its last.
//!
//! hyper drives HTTP/1.1 here, but not through its `upgrade` module: that serves only requests with an `Upgrade` header,
//! while Docker's clients also attach without one and expect `200 OK` and then raw bytes in both directions. So a handler
//! may ask for the connection itself ([`Hijack`]): the loop below then takes socket and unread bytes back from hyper,
//! writes Docker's literal head, and hands over the stream (moby `daemon/server/router/container/container_routes.go`,
//! `hijackServer`). Requests before it on the same connection are ordinary.
//!
//! *A client that goes* cancels its plain request: hyper sees the end of input and drops the handler's future. A hijacked
//! client that closes only its writing side has just finished its stdin; it keeps getting output. So while a handler may
//! still take the connection, the end of input is kept from hyper ([`socket`]): clients without stdin send their request
//! and close that side at once.
//!
//! *A client that still sends* when its connection is over must read our last bytes all the same. Closing a socket with
//! unread bytes makes TCP reset it, and a reset may overtake what was sent before; so only our side is closed first, and
//! what comes is thrown away for a moment ([`LINGER`]).
//!
//! *HTTP/2*: a client that opens with the HTTP/2 preface is told `HTTP_1_1_REQUIRED` in HTTP/2's own terms. No Docker
//! client does that but BuildKit's direct gRPC, which is not served yet.

mod busy;
mod hijack;
mod socket;
pub(crate) mod websocket;

use std::convert::Infallible;
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::api::reply::ReplyBody;
use busy::{Answering, Busy, Requests};
pub(crate) use hijack::{Hijack, HijackHead};
use socket::Socket;

/// How long a head may take from its first byte on, the first one from the connection's beginning (moby
/// `daemon/command/daemon.go`: `ReadHeaderTimeout`). Between requests a connection may be idle for as long as it likes:
/// clients keep some in a pool, and one that is closed there fails the next request.
const HEAD_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Longest head of a request; hyper answers 431 to longer ones. The longest real ones carry registry credentials for a
/// build in `X-Registry-Config`. An address alone, with filters of hundreds of ids in it, may have 65,534 bytes; hyper
/// answers 414 to longer ones.
const LONGEST_HEAD: usize = 256 * 1024;

/// Most headers of a request; hyper answers 431 to more. Go counts only bytes.
const MOST_HEADERS: usize = 512;

/// All the time that a client has which gets one answer only.
const BRIEF: Duration = Duration::from_secs(15);

/// How long a client may go on sending after our last byte (Go `net/http`, `rstAvoidanceDelay`).
const LINGER: Duration = Duration::from_millis(500);

/// What is thrown away in one go.
const DISCARDED: usize = 16 * 1024;

/// How a client is received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// A client of the Docker API, for as long as it likes.
    #[default]
    Client,
    /// There are too many: it gets one answer, to a ping or a refusal.
    Crowded,
    /// It reads metrics and may be anybody: it gets one answer.
    Reader,
}

impl Welcome {
    /// After one answer, or this time, the connection is closed.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Client => None,
            Self::Crowded | Self::Reader => Some(BRIEF),
        }
    }
}

/// What an answer may do with the connection it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    welcome: Welcome,
    may_be_taken: AtomicBool,
    hijack: Mutex<Option<Hijack>>,
    requests: Requests,
}

impl Handle {
    /// Where the connection is between requests.
    fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Too many connections: only pings are answered.
    pub(crate) fn crowded(&self) -> bool {
        self.welcome == Welcome::Crowded
    }

    /// Whether the answer that is being made may ask for the connection.
    pub(crate) fn may_be_taken(&self, may: bool) {
        self.may_be_taken.store(may, Ordering::Relaxed);
    }

    /// Ask for the raw connection. The answer that hyper waits for must then never come: the caller stays pending.
    pub(crate) fn hijack(&self, hijack: Hijack) {
        *self.hijack.lock().unwrap_or_else(PoisonError::into_inner) = Some(hijack);
    }

    fn take_hijack(&self) -> Option<Hijack> {
        self.hijack.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

enum Ended {
    Closed(hyper::Result<()>),
    Hijacked(Hijack),
}

/// Serve `stream` until it is closed. `respond` answers one request; `stop` ends idle connections and streams.
pub(crate) async fn serve<S, F, Fut>(
    stream: S,
    welcome: Welcome,
    stop: CancellationToken,
    respond: F,
) where
    S: AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static,
    F: Fn(Request<Incoming>, Arc<Handle>) -> Fut,
    Fut: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let handle = Arc::new(Handle { welcome, ..Handle::default() });
    let stream = Socket::new(stream, Arc::clone(&handle), HEAD_PATIENCE);
    let service = service_fn(|request| {
        let response = respond(request, Arc::clone(&handle));
        let busy = Busy::new(&handle);
        begun(Box::pin(async move { Ok(response.await.map(|body| Answering::new(body, busy))) }))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Socket has its own: hyper counts from the end of the answer before.
        .header_read_timeout(None)
        .keep_alive(welcome.limit().is_none())
        .max_header_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        // Go's canonical names (Api-Version, Ostype): they are case-insensitive, but people compare transcripts.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);

    let mut stopping = std::pin::pin!(stop.cancelled());
    let mut overdue = welcome.limit().map(|limit| Box::pin(tokio::time::sleep(limit)));
    let mut told = false;
    let ended = poll_fn(|context| {
        if !told && stopping.as_mut().poll(context).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let polled = connection.poll_without_shutdown(context);
        // Only a poll of the connection runs handlers, so this is the moment to look.
        if let Some(hijack) = handle.take_hijack() {
            return Poll::Ready(Ended::Hijacked(hijack));
        }
        if overdue.as_mut().is_some_and(|time| time.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Ended::Closed(Ok(())));
        }
        polled.map(Ended::Closed)
    })
    .await;

    let parts = connection.into_parts();
    let stream = parts.io.into_inner().into_inner();
    match ended {
        Ended::Closed(outcome) => {
            let mut stream = stream;
            refuse_http2(&mut stream, &parts.read_buf, outcome).await;
            close(stream, &stop).await;
        }
        Ended::Hijacked(hijack) => {
            let ran = tokio::select! {
                () = stop.cancelled() => None,
                stream = hijack.run(stream, parts.read_buf) => stream,
            };
            if let Some(stream) = ran {
                close(stream, &stop).await;
            }
        }
    }
}

type Promised = Pin<Box<dyn Future<Output = Result<Response<Answering>, Infallible>> + Send>>;

/// Poll an answer once, so that the work of a finishing request begins.
///
/// hyper reads on before it polls a handler; where a client sends its request and closes at once, it finds the end of
/// input and drops a handler that has never run. dockerd has begun by then, and so must a change here.
fn begun(mut answering: Promised) -> Promised {
    // hyper polls it again at once, with its own waker.
    match answering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
        Poll::Pending => answering,
    }
}

async fn refuse_http2<S: AsyncWrite + Unpin>(
    stream: &mut S,
    unread: &Bytes,
    outcome: hyper::Result<()>,
) {
    if let Err(error) = &outcome {
        // A client's doing in almost every case: it vanished, was slow, or does not speak HTTP.
        tracing::debug!(error = %error, "a connection ended early");
        if error.is_parse_version_h2() || unread.starts_with(b"PRI * HTTP/2.0") {
            let _ = stream.write_all(&http2_refusal()).await;
        }
    }
}

/// Close our side, then the rest once the client has closed its own, or has had time to read.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, stop: &CancellationToken) {
    let _ = stream.shutdown().await;
    let mut buffer = vec![0; DISCARDED];
    let discarded = async { while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = tokio::time::timeout(LINGER, discarded) => {}
    }
}

/// An empty SETTINGS frame, as HTTP/2 requires first, and GOAWAY with `HTTP_1_1_REQUIRED` (RFC 9113, sections 4.1, 6.5, 6.8).
fn http2_refusal() -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const HTTP_1_1_REQUIRED: u32 = 0xd;
    const REASON: &[u8] = b"nerdctld serves HTTP/1.1 on this socket";
    let goaway = [&0u32.to_be_bytes(), &HTTP_1_1_REQUIRED.to_be_bytes(), REASON].concat();
    let mut bytes = frame(SETTINGS, &[]);
    bytes.extend(frame(GOAWAY, &goaway));
    bytes
}

/// A frame of the connection (stream 0) without flags.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[1..], &[kind, 0], &0u32.to_be_bytes(), payload].concat()
}

#[cfg(test)]
mod tests;
