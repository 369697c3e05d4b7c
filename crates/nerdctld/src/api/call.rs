//! What a handler gets: one request, taken apart.

use std::sync::Arc;

use docker_wire::decode::{self, DecodeError};
use docker_wire::query::{InvalidNumber, Query};
use engine::Engine;
use http::HeaderMap;
use serde_json::Value;

use super::body::{self, RequestBody};
use super::error::{ApiError, Refusal};
use super::metrics::Metrics;
use super::reply::Reply;
use super::routes::Route;
use super::version::ApiVersion;
use crate::config::Shown;

/// What a handler gives.
pub(in crate::api) type Answer = Result<Reply, ApiError>;

/// One request, routed.
#[derive(Debug)]
pub(in crate::api) struct Call {
    /// The operations.
    pub(in crate::api) engine: Engine,
    /// What of the daemon's configuration is shown to clients.
    pub(in crate::api) shown: Arc<Shown>,
    /// What is measured.
    pub(in crate::api) metrics: Arc<Metrics>,
    /// The version of the path, or the newest. Only `compat` compares it.
    pub(in crate::api) version: ApiVersion,
    /// The route that matched.
    pub(in crate::api) route: &'static Route,
    /// Query, and the form of a POST before it.
    pub(in crate::api) query: Query,
    /// Headers.
    pub(in crate::api) headers: HeaderMap,
    /// Body, unless it was a form.
    pub(in crate::api) body: RequestBody,
    /// Values of the placeholders of the path.
    pub(in crate::api) parameters: Vec<(&'static str, String)>,
}

impl Call {
    /// What a placeholder of the path matched; empty if the route has none of that name.
    pub(in crate::api) fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// The request's body as JSON, to be read by Go's rules ([`decode::from_value`]); `None` for an empty body.
    ///
    /// # Errors
    /// A wrong content type; no JSON.
    pub(in crate::api) async fn json_value(&self) -> Result<Option<Value>, ApiError> {
        body::check_json_type(&self.headers, self.body.is_empty())?;
        if self.body.is_empty() {
            return Ok(None);
        }
        let bytes = self.body.read().await?;
        Ok(Some(decode::value(&bytes).map_err(bad_json)?))
    }

    /// A number of the query.
    ///
    /// # Errors
    /// It is none.
    pub(in crate::api) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.query
            .integer(name)
            .map_err(|error: InvalidNumber| Refusal::BadParameter(chain(&error)))
    }

    /// A header as text; empty if it is not there or no text.
    pub(in crate::api) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The client's JSON is at fault, and the decoder says where.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(in crate::api) fn bad_json(error: DecodeError) -> Refusal {
    Refusal::BadJson(chain(&error))
}

/// An error and its causes, joined as clients see them.
pub(in crate::api) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
