//! One call: who asks, about what, and how long it may take.

use std::future::Future;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status};

use crate::{Client, Error, Kind, Result};

/// Calls that touch one record.
const SHORT: Duration = Duration::from_secs(10);
/// Calls that read many records.
const LIST: Duration = Duration::from_secs(60);
/// Calls that run programs (runc, hooks, a slow snapshotter) or wait for a garbage collection.
const LONG: Duration = Duration::from_secs(600);

/// What an error must be able to say, and the deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    operation: &'static str,
    thing: &'a str,
    deadline: Option<Duration>,
}

impl<'a> Call<'a> {
    /// A call that touches one record: 10 s.
    pub(crate) fn short(operation: &'static str, thing: &'a str) -> Self {
        Self { operation, thing, deadline: Some(SHORT) }
    }

    /// A call that reads many records: 60 s.
    pub(crate) fn list(operation: &'static str, thing: &'a str) -> Self {
        Self { operation, thing, deadline: Some(LIST) }
    }

    /// A call that runs programs: 10 min, so that a hanging one ends some day.
    pub(crate) fn long(operation: &'static str, thing: &'a str) -> Self {
        Self { operation, thing, deadline: Some(LONG) }
    }

    /// A call that removes a record; with `sync` it waits for the garbage collection, which deletes files.
    pub(crate) fn collecting(operation: &'static str, thing: &'a str, sync: bool) -> Self {
        if sync { Self::long(operation, thing) } else { Self::list(operation, thing) }
    }

    /// A call that ends when it ends.
    pub(crate) fn unlimited(operation: &'static str, thing: &'a str) -> Self {
        Self { operation, thing, deadline: None }
    }

    /// Waits for an answer, until the deadline at most.
    pub(crate) async fn finish<A>(
        self,
        answer: impl Future<Output = std::result::Result<A, Status>>,
    ) -> Result<A> {
        let Some(deadline) = self.deadline else {
            return answer.await.map_err(|status| self.failed(&status));
        };
        match tokio::time::timeout(deadline, answer).await {
            Ok(answered) => answered.map_err(|status| self.failed(&status)),
            Err(_elapsed) => Err(self.too_late(deadline)),
        }
    }

    /// containerd always sends this part of an answer; if not, that is an error.
    pub(crate) fn required<T>(self, part: Option<T>, name: &'static str) -> Result<T> {
        part.ok_or_else(|| {
            Error::unexpected(self.operation, self.thing, format!("the answer has no {name}"))
        })
    }

    pub(crate) fn failed(self, status: &Status) -> Error {
        Error::from_status(self.operation, self.thing, status)
    }

    pub(crate) fn error(self, kind: Kind, message: impl Into<String>) -> Error {
        Error::new(self.operation, self.thing, kind, message)
    }

    /// Waits for something that is no answer, until the deadline at most.
    pub(crate) async fn within<A>(self, step: impl Future<Output = A>) -> Result<A> {
        let Some(deadline) = self.deadline else { return Ok(step.await) };
        tokio::time::timeout(deadline, step).await.map_err(|_elapsed| self.too_late(deadline))
    }

    fn too_late(self, deadline: Duration) -> Error {
        let message = format!("no answer within {} s", deadline.as_secs());
        self.error(Kind::DeadlineExceeded, message)
    }

    fn header(self, name: &str, value: &str) -> Result<MetadataValue<Ascii>> {
        MetadataValue::try_from(value).map_err(|_| {
            self.error(Kind::InvalidArgument, format!("{value:?} cannot be sent as {name}"))
        })
    }
}

impl Client {
    /// Sends one message and gets one answer.
    pub(crate) async fn unary<M, A, F>(
        &self,
        call: Call<'_>,
        message: M,
        send: impl FnOnce(Request<M>) -> F,
    ) -> Result<A>
    where
        F: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let request = self.request(call, message)?;
        Ok(call.finish(send(request)).await?.into_inner())
    }

    /// The message with namespace and lease in its head (containerd `namespaces/grpc.go`,
    /// `leases/grpc.go`).
    pub(crate) fn request<M>(&self, call: Call<'_>, message: M) -> Result<Request<M>> {
        let mut request = Request::new(message);
        let head = request.metadata_mut();
        head.insert("containerd-namespace", call.header("namespace", self.namespace())?);
        if let Some(lease) = self.lease() {
            head.insert("containerd-lease", call.header("lease", lease)?);
        }
        Ok(request)
    }
}
