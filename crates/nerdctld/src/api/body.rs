//! Bodies of requests: bounded, checked, and never left half-read in the way of the answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, EXPECT};
use http_body_util::{BodyExt as _, BodyStream};
use hyper::body::{Body as _, Incoming};

use super::error::Refusal;

/// Longest JSON or form body. A create request with a megabyte of labels fits eight times.
pub(in crate::api) const LIMIT: usize = 8 * 1024 * 1024;

/// What is read and thrown away of a body that nobody wanted, so that the connection can be used again and the client
/// reads our answer instead of "broken pipe". Go's server reads the same amount.
const DRAIN: usize = 256 * 1024;
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// The body of one request. The handler reads it; the edge cleans up what the handler left.
#[derive(Clone, Debug)]
pub(in crate::api) struct RequestBody(Arc<Mutex<Option<Unread>>>);

/// What is left of a body.
#[derive(Debug)]
struct Unread {
    incoming: Incoming,
    /// The client waits to be asked for it (`Expect: 100-continue`), which reading does.
    unasked: bool,
}

impl RequestBody {
    /// Nothing read yet.
    pub(in crate::api) fn new(incoming: Incoming, headers: &HeaderMap) -> Self {
        let unasked = headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let unread = (!incoming.is_end_stream()).then_some(Unread { incoming, unasked });
        Self(Arc::new(Mutex::new(unread)))
    }

    fn take(&self) -> Option<Unread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_back(&self, unread: Unread) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread);
    }

    /// Nothing is left to read, as far as is known without reading.
    pub(in crate::api) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Everything, up to [`LIMIT`].
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`]; [`Refusal::BodyCut`] if the client stopped in the middle.
    pub(in crate::api) async fn read(&self) -> Result<Bytes, Refusal> {
        let Some(unread) = self.take() else { return Ok(Bytes::new()) };
        if usize::try_from(unread.incoming.size_hint().lower()).unwrap_or(usize::MAX) > LIMIT {
            self.put_back(unread);
            return Err(Refusal::BodyTooLarge { limit: LIMIT });
        }
        let mut incoming = unread.incoming;
        let mut collected = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| Refusal::BodyCut(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            if collected.len() + data.len() > LIMIT {
                self.put_back(Unread { incoming, unasked: false });
                return Err(Refusal::BodyTooLarge { limit: LIMIT });
            }
            collected.extend_from_slice(&data);
        }
        Ok(collected.freeze())
    }

    /// Bytes that are left to read; `None` if the client did not say.
    pub(in crate::api) fn length(&self) -> Option<u64> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.as_ref().map_or(Some(0), |unread| unread.incoming.size_hint().exact())
    }

    /// The body as it arrives, for the input of a stream.
    pub(in crate::api) fn into_stream(
        self,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin {
        let incoming = self.take().map(|unread| unread.incoming);
        futures_util::stream::iter(incoming).flat_map(BodyStream::new).filter_map(|frame| {
            std::future::ready(match frame {
                Ok(frame) => frame.into_data().ok().map(Ok),
                Err(error) => Some(Err(std::io::Error::other(error))),
            })
        })
    }

    /// Read and drop what is left, within reason. Returns whether the connection can be used again: not, if the client may
    /// have been about to send what nobody wants.
    pub(in crate::api) async fn drain(&self) -> bool {
        let Some(Unread { mut incoming, unasked }) = self.take() else { return true };
        if unasked {
            return false;
        }
        let draining = async {
            let mut dropped = 0;
            while let Some(Ok(frame)) = incoming.frame().await {
                dropped += frame.data_ref().map_or(0, Bytes::len);
                if dropped > DRAIN {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(DRAIN_PATIENCE, draining).await.unwrap_or(false)
    }
}

/// Whether the headers allow a JSON body (moby `daemon/server/httputils/httputils.go`, `CheckForJSON`).
///
/// `empty` says that there is no body: then a missing type is fine.
///
/// # Errors
/// A missing, malformed or other type.
pub(in crate::api) fn check_json_type(headers: &HeaderMap, empty: bool) -> Result<(), Refusal> {
    let given = headers
        .get(CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let given = match given {
        None if empty => return Ok(()),
        given => given.unwrap_or_default(),
    };
    match media_type(&given) {
        Err(reason) => Err(Refusal::MalformedContentType { given, reason }),
        Ok(media_type) if media_type == "application/json" => Ok(()),
        Ok(_) => Err(Refusal::UnsupportedContentType(given)),
    }
}

/// A form sent with POST is a second query string, as Go's `ParseForm` has it.
pub(in crate::api) fn is_form(headers: &HeaderMap) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type(given).is_ok_and(|media_type| media_type == "application/x-www-form-urlencoded")
}

/// The type without parameters, in lower case; the errors are those of Go's `mime.ParseMediaType`.
fn media_type(given: &str) -> Result<String, &'static str> {
    let base = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if base.is_empty() {
        return Err("mime: no media type");
    }
    let is_token = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
    };
    match base.split_once('/') {
        None if is_token(&base) => Ok(base),
        None => Err("mime: expected slash after first token"),
        Some((kind, _)) if !is_token(kind) => Err("mime: no media type"),
        Some((_, subtype)) if !is_token(subtype) => {
            Err("mime: unexpected content after media subtype")
        }
        // A trailing semicolon is fine, a nameless or valueless parameter is not.
        Some(_) if parameters(given).any(|(name, value)| !is_token(name) || value.is_empty()) => {
            Err("mime: invalid media parameter")
        }
        Some(_) => Ok(base),
    }
}

/// Name and value of each parameter behind a media type.
fn parameters(given: &str) -> impl Iterator<Item = (&str, &str)> {
    let texts = given.split(';').skip(1).map(str::trim).filter(|text| !text.is_empty());
    texts.map(|text| text.split_once('=').unwrap_or((text, "")))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[test]
    fn only_json_is_json() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            " application/json ;x=y",
        ] {
            assert!(check_json_type(&headers(good), false).is_ok(), "{good}");
        }
        assert!(check_json_type(&HeaderMap::new(), true).is_ok());
        let text = |headers: &HeaderMap| check_json_type(headers, false).unwrap_err().to_string();
        assert_eq!(
            text(&HeaderMap::new()),
            "malformed Content-Type header (): mime: no media type"
        );
        assert_eq!(
            text(&headers("text/plain")),
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert_eq!(
            text(&headers("no good")),
            "malformed Content-Type header (no good): mime: expected slash after first token"
        );
        assert!(
            check_json_type(&headers("text/plain"), true).is_err(),
            "dockerd checks a type that is there"
        );
    }

    #[test]
    fn forms_are_recognised() {
        assert!(is_form(&headers("application/x-www-form-urlencoded; charset=utf-8")));
        assert!(!is_form(&headers("multipart/form-data")));
        assert!(!is_form(&HeaderMap::new()));
    }
}
