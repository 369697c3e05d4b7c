//! The event stream: what happened in containerd, in all namespaces.
//!
//! Delivery is at most once: there is no history and no place to go on from, so after every
//! (re)subscription compare with lists. Order is kept per shim: a process starts before it exits.
//! Do not rely on events for exits, use [`Client::wait`].

mod body;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use containerd_client::services::v1::SubscribeRequest;
use containerd_client::types::Envelope;
use futures_core::Stream;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tonic::Response;

pub use self::body::EventBody;
use crate::call::Call;
use crate::{Any, Client, Result, wire};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub timestamp: SystemTime,
    /// Where.
    pub namespace: String,
    /// What, as `/tasks/exit`.
    pub topic: String,
    /// What, with its details.
    pub body: EventBody,
}

/// Events as they come. After an error it has ended; subscribe again and compare with lists.
pub struct EventStream {
    events: Pin<Box<dyn Stream<Item = Result<Event>> + Send>>,
}

impl Client {
    /// Subscribes to the events that match one of the filters (all without filters). Fields:
    /// `namespace`, `topic`, `event.<field>`; operators `==`, `!=`, `~=` (a regular expression, as
    /// in `topic~=|^/tasks/|`).
    ///
    /// When this returns, containerd has the request, and what it reports from then on should not be
    /// lost while the stream lives, also while nobody reads (it then queues in containerd's memory).
    /// That is not guaranteed: containerd takes up each call by itself, so what happens in the
    /// moment until it has taken up this one may be missed.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`]; [`crate::Kind::InvalidArgument`] for a filter that is none (as
    /// the first item of the stream at the latest).
    pub async fn subscribe(&self, filters: &[&str]) -> Result<EventStream> {
        let call = Call::unlimited("follow events", "");
        let request = self.request(call, SubscribeRequest { filters: wire::filters(filters) })?;
        let mut service = self.events_service();
        let mut opening = Box::pin(async move { service.subscribe(request).await });
        // containerd sends nothing before the first event, so awaiting the answer here could take
        // for ever. Polling once sends the request; the version call behind it, on the same
        // connection, tells that containerd is there and has read that far. Its handler may still
        // have to run, but it was started before that of the version.
        let envelopes = match poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx))).await {
            Poll::Ready(answer) => {
                answer.map_err(|status| call.failed(&status))?.into_inner().left_stream()
            }
            Poll::Pending => {
                self.version().await?;
                stream::once(opening).map_ok(Response::into_inner).try_flatten().right_stream()
            }
        };
        let events = envelopes.map(move |item| match item {
            Ok(envelope) => Ok(envelope.into()),
            Err(status) => Err(call.failed(&status)),
        });
        Ok(EventStream { events: Box::pin(events) })
    }
}

impl EventStream {
    /// The next event; `None` after the end.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`] when containerd goes away.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        self.events.next().await
    }
}

impl Stream for EventStream {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl From<Envelope> for Event {
    fn from(envelope: Envelope) -> Self {
        Self {
            timestamp: wire::recorded_instant(envelope.timestamp),
            namespace: envelope.namespace,
            topic: envelope.topic,
            body: Any::from(envelope.event.unwrap_or_default()).into(),
        }
    }
}
