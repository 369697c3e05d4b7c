//! Blobs and manifests on their way to a registry.
//!
//! A blob that is there is not sent; one that another repository of the same registry has is taken over from there. What has
//! to be sent goes in one request as it is read (containerd core/remotes/docker/pusher.go). After a cut the registry is
//! asked how far it came, and the rest follows (OCI distribution-spec, "Pushing a blob in chunks"); a registry that does not
//! know begins anew.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use http::{HeaderMap, Method};
use names::Digest;
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::http::payload::Payload;
use crate::http::{Request, Response};
use crate::manifest::{CONTENT_DIGEST, manifest_draft};
use crate::repository::Draft;
use crate::url::{Scheme, Url};
use crate::{BlobSource, Descriptor, Error, Repository};

/// Cuts in one upload after which we give up, however much came between them.
const MAX_CUTS: u32 = 64;
/// For a question or a note about an upload that failed.
const ASIDE: Duration = Duration::from_secs(10);

/// A blob that a registry is to have.
pub struct Parcel {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Path of another repository of the same registry that may have it.
    pub mount_from: Option<String>,
    /// Its bytes; without them it must be there, or be taken over.
    pub source: Option<Arc<dyn BlobSource>>,
}

/// How a registry came to have a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// It had it.
    Existed,
    /// It took it from this other repository.
    Mounted(String),
    /// It was sent.
    Sent,
    /// It has it not, and there was nothing to send.
    Impossible,
}

/// An upload that the registry knows about.
#[derive(Debug, Clone)]
struct Session {
    location: Url,
    /// Bytes that the registry has.
    offset: u64,
    /// It was cut, so what follows are pieces.
    in_pieces: bool,
}

/// What a request for an upload got.
enum Begun {
    Mounted,
    Session(Session),
}

impl Repository {
    /// Makes sure that the repository has a blob.
    ///
    /// # Errors
    /// As [`Repository::resolve`]; [`Error::Unreadable`] if the source fails.
    pub async fn deliver(&self, parcel: &Parcel) -> Result<Delivery, Error> {
        if self.has_blob(&parcel.digest).await? {
            return Ok(Delivery::Existed);
        }
        let session = match self.begin(parcel, parcel.mount_from.as_deref()).await? {
            Begun::Mounted => {
                return Ok(Delivery::Mounted(parcel.mount_from.clone().unwrap_or_default()));
            }
            Begun::Session(session) => session,
        };
        let Some(source) = &parcel.source else {
            self.give_up(&session).await;
            return Ok(Delivery::Impossible);
        };
        self.send(parcel, source, session).await?;
        Ok(Delivery::Sent)
    }

    /// Puts a manifest or index under `reference`, a tag or its own digest. Nothing is sent if it is there.
    ///
    /// # Errors
    /// As [`Repository::resolve`]; [`Error::DigestMismatch`] if the registry took something else.
    pub async fn put_manifest(
        &self,
        reference: &str,
        descriptor: &Descriptor,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let what = format!("{}:{reference}", self.image().repository());
        if self.has_manifest(reference, &descriptor.digest).await? {
            return Ok(());
        }
        let mut draft = Draft::push(Method::PUT, format!("/manifests/{reference}"));
        let media_type = HeaderValue::from_str(&descriptor.media_type);
        draft.headers.insert(
            CONTENT_TYPE,
            media_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
        );
        draft.payload = Payload::Document(bytes);
        let response = self.request(&draft, &what).await?;
        match response.header(CONTENT_DIGEST) {
            Some(actual) if actual != descriptor.digest.as_str() => Err(Error::DigestMismatch {
                what,
                expected: descriptor.digest.to_string(),
                actual: actual.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    async fn has_manifest(&self, reference: &str, digest: &Digest) -> Result<bool, Error> {
        let accept = manifest_draft(reference);
        let draft = Draft { headers: accept.headers, ..Draft::push(Method::HEAD, accept.path) };
        match self.request(&draft, reference).await {
            Ok(response) => Ok(response.header(CONTENT_DIGEST) == Some(digest.as_str())),
            Err(Error::NotFound { .. }) => Ok(false),
            // Only a question; what is wrong is told when the manifest is put.
            Err(Error::Status { .. } | Error::Denied { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let draft = Draft::push(Method::HEAD, format!("/blobs/{digest}"));
        match self.request(&draft, digest.as_str()).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for an upload, or for the blob of another repository.
    async fn begin(&self, parcel: &Parcel, mount_from: Option<&str>) -> Result<Begun, Error> {
        let mut draft = Draft::push(Method::POST, "/blobs/uploads/".to_owned());
        let what = self.image().repository();
        let Some(from) = mount_from else {
            let response = self.request(&draft, &what).await?;
            return Ok(Begun::Session(self.session(&response)?));
        };
        draft.query = format!("mount={}&from={}", escaped(parcel.digest.as_str()), escaped(from));
        match self.request(&draft, &what).await {
            Ok(response) if response.status.as_u16() == 201 => Ok(Begun::Mounted),
            Ok(response) => Ok(Begun::Session(self.session(&response)?)),
            // Not allowed to read there, which says nothing of what we may write here.
            Err(Error::Unauthorized { .. } | Error::Denied { .. } | Error::NotFound { .. }) => {
                Box::pin(self.begin(parcel, None)).await
            }
            Err(error) => Err(error),
        }
    }

    async fn send(
        &self,
        parcel: &Parcel,
        source: &Arc<dyn BlobSource>,
        mut session: Session,
    ) -> Result<(), Error> {
        let (mut failed, mut cuts) = (0, 0);
        loop {
            let Err(error) = self.send_rest(parcel, source, &mut session).await else {
                return Ok(());
            };
            failed += 1;
            cuts += 1;
            let lost = matches!(error, Error::NotFound { .. } | Error::Status { status: 416, .. });
            let again =
                cuts < MAX_CUTS && (lost && failed == 1 || self.pause_after(&error, failed).await);
            if !again {
                self.give_up(&session).await;
                return Err(error);
            }
            tracing::info!(digest = %parcel.digest, %error, "the upload was cut and goes on");
            let standing = if lost { None } else { self.standing(&session, parcel.size).await };
            match standing {
                Some(standing) => {
                    if standing.offset > session.offset {
                        failed = 0;
                    }
                    session = standing;
                }
                // Only the answer was lost; a registry forgets an upload that it has made a blob of.
                None if matches!(self.has_blob(&parcel.digest).await, Ok(true)) => return Ok(()),
                None => {
                    self.give_up(&session).await;
                    match self.begin(parcel, None).await? {
                        Begun::Session(anew) => session = anew,
                        Begun::Mounted => return Ok(()),
                    }
                }
            }
        }
    }

    /// What the registry does not have yet, and the end of the upload.
    async fn send_rest(
        &self,
        parcel: &Parcel,
        source: &Arc<dyn BlobSource>,
        session: &mut Session,
    ) -> Result<(), Error> {
        let rest = Payload::Blob {
            source: Arc::clone(source),
            from: session.offset,
            length: parcel.size - session.offset,
        };
        if !session.in_pieces {
            let whole =
                self.upload_request(Method::PUT, finished(&session.location, &parcel.digest), rest);
            return self.upload_step(whole).await.map(drop);
        }
        if session.offset < parcel.size {
            let mut piece = self.upload_request(Method::PATCH, session.location.clone(), rest);
            let range = format!("{}-{}", session.offset, parcel.size - 1);
            if let Ok(range) = HeaderValue::from_str(&range) {
                piece.headers.insert(CONTENT_RANGE, range);
            }
            let response = self.upload_step(piece).await?;
            *session = Session { offset: parcel.size, in_pieces: true, ..self.session(&response)? };
        }
        let end = finished(&session.location, &parcel.digest);
        self.upload_step(self.upload_request(Method::PUT, end, Payload::Empty)).await.map(drop)
    }

    /// How far the registry says it is.
    async fn standing(&self, session: &Session, size: u64) -> Option<Session> {
        let ask = self.upload_request(Method::GET, session.location.clone(), Payload::Empty);
        let response = timeout(ASIDE, self.upload_step(ask)).await.ok()?.ok()?;
        // "0-99" are a hundred bytes; "0-0" is how registries say none (distribution registry/handlers/blobupload.go).
        let range = response.header(RANGE)?;
        let last: u64 =
            range.trim_start_matches("bytes=").split_once('-')?.1.trim().parse().ok()?;
        let offset = if last == 0 { 0 } else { last + 1 };
        let location = match response.header(LOCATION) {
            Some(_) => self.session(&response).ok()?.location,
            None => session.location.clone(),
        };
        (offset <= size).then_some(Session { location, offset, in_pieces: true })
    }

    /// Lets the registry forget an upload; if it does not, that is its own affair.
    async fn give_up(&self, session: &Session) {
        let forget = self.upload_request(Method::DELETE, session.location.clone(), Payload::Empty);
        if let Ok(Err(error)) = timeout(ASIDE, self.upload_step(forget)).await {
            tracing::debug!(%error, "the registry does not forget an upload");
        }
    }

    fn upload_request(&self, method: Method, url: Url, payload: Payload) -> Request {
        let mut request = Request::new(method, url);
        if !matches!(payload, Payload::Empty) {
            request
                .headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        request.payload = payload;
        request
    }

    /// One request about an upload, sent once. Another host than the registry's gets no credentials.
    async fn upload_step(&self, mut request: Request) -> Result<Response, Error> {
        let endpoint = self.pushed_to()?;
        let response = if request.url.same_origin(&endpoint.config.base) {
            request.private_headers = self.client_headers().clone();
            endpoint.send(self.http(), request).await?
        } else {
            request.private_headers = HeaderMap::new();
            self.http().send(endpoint.trust(), &request).await?
        };
        if response.status.is_success() {
            return Ok(response);
        }
        Err(endpoint.failure(&self.image().repository(), response).await)
    }

    fn pushed_to(&self) -> Result<&Endpoint, Error> {
        self.push_endpoint().ok_or_else(|| Error::Address {
            address: self.image().domain().to_owned(),
            problem: "no host that can be pushed to is configured for it",
        })
    }

    fn session(&self, response: &Response) -> Result<Session, Error> {
        let endpoint = self.pushed_to()?;
        let location = response.header(LOCATION).ok_or_else(|| Error::Malformed {
            request: response.request.clone(),
            problem: "the registry does not say where to upload to".to_owned(),
        })?;
        let location = response.url.join(location)?;
        // A registry that was found to know no TLS is known to us by its https address.
        let known = Url { scheme: Scheme::Https, ..location.clone() };
        let location = if endpoint.trust().is_plain(&known) { known } else { location };
        Ok(Session { location, offset: 0, in_pieces: false })
    }
}

/// Where an upload ends.
fn finished(location: &Url, digest: &Digest) -> Url {
    let mut url = location.clone();
    let separator = if url.path.contains('?') { '&' } else { '?' };
    url.path = format!("{}{separator}digest={}", url.path, escaped(digest.as_str()));
    url
}

/// A value of a query; paths and digests have no other characters that mean something there.
fn escaped(text: &str) -> String {
    text.replace(':', "%3A").replace('/', "%2F").replace('+', "%2B")
}
