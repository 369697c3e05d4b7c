//! From a tag to a digest to bytes that are what the digest says.

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LINK};
use names::{Digest, DigestAlgorithm};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::Digest as _;

use crate::hosts::Capabilities;
use crate::http::Response;
use crate::repository::Draft;
use crate::{Error, Repository};

/// The largest manifest or index that is fetched, in bytes (as containerd's `MaxManifestSize`).
pub const MAX_MANIFEST_BYTES: u64 = 8 * 1024 * 1024;

/// What we can read, best first; `*/*` lets a registry send what it has, so that we can say why it is of no use.
const ACCEPTED: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, */*";

/// Tags listed per request, and requests per listing.
const TAGS_PER_PAGE: u32 = 1000;
const MAX_TAG_PAGES: usize = 100;

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest or index as a registry names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Media type, without parameters.
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// A manifest or index whose digest was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it is.
    pub descriptor: Descriptor,
    /// The document, byte for byte.
    pub bytes: Bytes,
}

impl Repository {
    /// What the image's digest, else its tag, else the tag `latest` stands for: HEAD, or GET and hash where the registry's
    /// answer to HEAD says too little.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unauthorized`], [`Error::NoCredentials`] and [`Error::Denied`] as the registry says;
    /// [`Error::Unreachable`], [`Error::Tls`] and [`Error::Interrupted`] if it cannot be asked.
    pub async fn resolve(&self) -> Result<Descriptor, Error> {
        let image = self.image();
        let reference = image
            .digest()
            .map_or_else(|| image.tag().unwrap_or("latest").to_owned(), Digest::to_string);
        let by_tag = image.digest().is_none();
        let needs = Capabilities { resolve: by_tag, ..Capabilities::PULL };
        let draft = Draft { method: Method::HEAD, needs, ..manifest_draft(&reference) };
        match self.request(&draft, &image.to_string()).await {
            Ok(response) => {
                if let Some(descriptor) = descriptor_of(&response, image.digest())? {
                    return Ok(descriptor);
                }
            }
            // Nobody is there, or nothing: a GET would not find more.
            Err(
                error @ (Error::NotFound { .. }
                | Error::Unreachable { .. }
                | Error::Tls { .. }
                | Error::Interrupted { .. }
                | Error::NoCredentials { .. }),
            ) => {
                return Err(error);
            }
            // Answers to HEAD have no body; GET says why, or works where only HEAD is forbidden.
            Err(error) => tracing::debug!(%error, "HEAD failed, trying GET"),
        }
        let draft = Draft { needs, ..manifest_draft(&reference) };
        let response = self.request_within(&draft, &image.to_string(), 1).await?;
        Ok(read_manifest(response, image.digest()).await?.descriptor)
    }

    /// The manifest or index with this digest, verified, at most [`MAX_MANIFEST_BYTES`] long.
    ///
    /// # Errors
    /// As [`Self::resolve`]; [`Error::DigestMismatch`] and [`Error::TooLarge`] if something else came.
    pub async fn manifest(&self, digest: &Digest) -> Result<Manifest, Error> {
        let what = format!("{}@{digest}", self.image().repository());
        let response = self.request(&manifest_draft(digest.as_str()), &what).await?;
        read_manifest(response, Some(digest)).await
    }

    /// All tags of the repository, as the registry orders them.
    ///
    /// # Errors
    /// As [`Self::resolve`]; [`Error::Malformed`] if the list is none or does not end; [`Error::TooLarge`] if it has more than
    /// [`MAX_MANIFEST_BYTES`].
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        let what = self.image().repository();
        let mut draft = Draft::get("/tags/list".to_owned());
        draft.needs.resolve = true;
        draft.query = format!("n={TAGS_PER_PAGE}");
        let mut tags = Vec::new();
        let mut left = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
        for _ in 0..MAX_TAG_PAGES {
            let response = self.request(&draft, &what).await?;
            let next = next_page(&response);
            let request = response.request.clone();
            let malformed = |problem: &str| Error::Malformed {
                request: request.clone(),
                problem: problem.to_owned(),
            };
            let url = response.url.to_string();
            // The bound is for all pages together.
            let body = response.collect(left).await.map_err(|error| match error {
                Error::TooLarge { .. } => Error::TooLarge { what: url, limit: MAX_MANIFEST_BYTES },
                other => other,
            })?;
            left -= body.len();
            let page: TagList =
                serde_json::from_slice(&body).map_err(|_| malformed("not a list of tags"))?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                None => return Ok(tags),
                Some(query) => draft.query = query,
            }
        }
        Err(Error::Malformed {
            request: format!("GET {what}/tags/list"),
            problem: "the list of tags does not end".to_owned(),
        })
    }
}

#[derive(Deserialize)]
struct TagList {
    tags: Option<Vec<String>>,
}

pub(crate) fn manifest_draft(reference: &str) -> Draft {
    Draft::get(format!("/manifests/{reference}")).header(ACCEPT, HeaderValue::from_static(ACCEPTED))
}

/// What the headers of an answer to HEAD say, if they say enough. A registry that was asked for a digest need not repeat it.
fn descriptor_of(response: &Response, asked: Option<&Digest>) -> Result<Option<Descriptor>, Error> {
    let Some(media_type) = media_type(response) else { return Ok(None) };
    let Some(size) = response.header(CONTENT_LENGTH).and_then(|size| size.parse().ok()) else {
        return Ok(None);
    };
    let named = response.header(CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
    let Some(digest) = named.or_else(|| asked.cloned()) else { return Ok(None) };
    if let Some(asked) = asked.filter(|asked| **asked != digest) {
        return Err(mismatch(response, asked, digest.to_string()));
    }
    if size > MAX_MANIFEST_BYTES {
        return Err(Error::TooLarge { what: response.url.to_string(), limit: MAX_MANIFEST_BYTES });
    }
    Ok((size > 0).then_some(Descriptor { media_type, digest, size }))
}

async fn read_manifest(response: Response, asked: Option<&Digest>) -> Result<Manifest, Error> {
    let header_type = media_type(&response);
    let announced =
        response.header(CONTENT_DIGEST).and_then(|digest| digest.parse::<Digest>().ok());
    let (url, request) = (response.url.clone(), response.request.clone());
    let bytes = response.collect(usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX)).await?;
    let expected = asked.cloned().or(announced);
    let algorithm = expected.as_ref().map_or(DigestAlgorithm::Sha256, Digest::algorithm);
    let actual = digest_of(algorithm, &bytes);
    if let Some(expected) = expected.filter(|expected| expected.as_str() != actual) {
        return Err(Error::DigestMismatch {
            what: url.to_string(),
            expected: expected.to_string(),
            actual,
        });
    }
    let malformed =
        |problem: &str| Error::Malformed { request: request.clone(), problem: problem.to_owned() };
    let digest = actual.parse().map_err(|_| malformed("no digest"))?;
    let media_type = header_type
        .or_else(|| embedded_media_type(&bytes))
        .ok_or_else(|| malformed("the media type of the manifest is missing"))?;
    Ok(Manifest { descriptor: Descriptor { media_type, digest, size: bytes.len() as u64 }, bytes })
}

/// The digest of `bytes`, as text.
pub(crate) fn digest_of(algorithm: DigestAlgorithm, bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let sum = match algorithm {
        DigestAlgorithm::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
        DigestAlgorithm::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
        DigestAlgorithm::Sha512 => sha2::Sha512::digest(bytes).to_vec(),
    };
    let mut text = format!("{algorithm}:");
    for byte in sum {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn mismatch(response: &Response, expected: &Digest, actual: String) -> Error {
    Error::DigestMismatch { what: response.url.to_string(), expected: expected.to_string(), actual }
}

fn media_type(response: &Response) -> Option<String> {
    let value = response.header(CONTENT_TYPE)?.split(';').next()?.trim();
    // Registries in front of dumb storage do not know what they serve.
    let known = !value.is_empty()
        && !matches!(value, "application/octet-stream" | "text/plain" | "application/json");
    known.then(|| value.to_ascii_lowercase())
}

fn embedded_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
        manifests: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
    }
    let typed: Typed = serde_json::from_slice(bytes).ok()?;
    let guessed = match (typed.manifests, typed.layers) {
        (Some(_), _) => Some("application/vnd.oci.image.index.v1+json"),
        (None, Some(_)) => Some("application/vnd.oci.image.manifest.v1+json"),
        (None, None) => None,
    };
    typed
        .media_type
        .filter(|media_type| !media_type.is_empty())
        .or_else(|| guessed.map(str::to_owned))
}

/// The query of the next page (RFC 8288): `</v2/x/tags/list?n=2&last=b>; rel="next"`.
fn next_page(response: &Response) -> Option<String> {
    let link = response.header(LINK)?;
    let (target, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    relation
        .contains("next")
        .then(|| target.split_once('?').map(|(_, query)| query.to_owned()))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_known_texts() {
        assert_eq!(
            digest_of(DigestAlgorithm::Sha256, b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(digest_of(DigestAlgorithm::Sha512, b"abc").starts_with("sha512:ddaf35a193617aba"));
    }

    #[test]
    fn a_manifest_without_type_is_recognised_by_its_shape() {
        assert_eq!(embedded_media_type(br#"{"mediaType":"a/b"}"#).as_deref(), Some("a/b"));
        assert_eq!(
            embedded_media_type(br#"{"manifests":[]}"#).as_deref(),
            Some("application/vnd.oci.image.index.v1+json")
        );
        assert_eq!(
            embedded_media_type(br#"{"layers":[]}"#).as_deref(),
            Some("application/vnd.oci.image.manifest.v1+json")
        );
        assert_eq!(embedded_media_type(b"{}"), None);
        assert_eq!(embedded_media_type(b"<html>"), None);
    }
}
