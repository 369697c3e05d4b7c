//! Downloading a blob: from any offset, on after a cut, and in parts where one connection is slow.
//!
//! The bytes are not hashed here: who stores them (containerd) does that, and knows the running state after a resume. Size
//! is checked: not a byte more than announced is ever handed out.

pub(crate) mod ahead;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_RANGE, HeaderValue, RANGE};
use names::Digest;
use tokio::time::Instant;

use self::ahead::Ahead;
use crate::error::{Answer, Interruption};
use crate::http::Response;
use crate::pace::Pace;
use crate::repository::Draft;
use crate::{Error, Repository};

/// Cuts in one download after which we give up, however much came between them.
const MAX_CUTS: u32 = 64;

/// A download under way. Dropping it ends it and closes its connection.
#[derive(Debug)]
pub struct Blob {
    repository: Repository,
    digest: Digest,
    size: u64,
    /// How much was handed out, counted from the blob's start.
    offset: u64,
    response: Option<Response>,
    /// Bytes of the current answer that come before `offset`.
    skip: u64,
    /// Failures since bytes came last.
    failed: u32,
    cuts: u32,
    pace: Pace,
    /// What came over this connection, and how long it was waited for.
    came: Pace,
    /// The rest comes in parts.
    ahead: Option<Ahead>,
    /// The registry does not do parts.
    whole_only: bool,
}

impl Repository {
    /// Starts to download the blob `digest` of `size` bytes at `offset`. The first request is sent here, so that a blob that
    /// is not there is known at once.
    ///
    /// # Errors
    /// As [`Repository::resolve`].
    pub async fn blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<Blob, Error> {
        let mut blob = Blob {
            repository: self.clone(),
            digest: digest.clone(),
            size,
            offset,
            response: None,
            skip: 0,
            failed: 0,
            cuts: 0,
            pace: Pace::default(),
            came: Pace::default(),
            ahead: None,
            whole_only: false,
        };
        if offset < size {
            blob.open().await?;
        }
        Ok(blob)
    }

    /// A whole small blob (an image config), of `size` bytes and not more than `limit`. Its digest is verified.
    ///
    /// # Errors
    /// As [`Repository::resolve`]; [`Error::TooLarge`] and [`Error::DigestMismatch`].
    pub async fn small_blob(&self, digest: &Digest, size: u64, limit: u64) -> Result<Bytes, Error> {
        let what = format!("{}@{digest}", self.image().repository());
        if size > limit {
            return Err(Error::TooLarge { what, limit });
        }
        let mut blob = self.blob(digest, size, 0).await?;
        let mut whole = Vec::new();
        while let Some(chunk) = blob.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        let actual = crate::manifest::digest_of(digest.algorithm(), &whole);
        if actual != digest.as_str() {
            return Err(Error::DigestMismatch { what, expected: digest.to_string(), actual });
        }
        Ok(whole.into())
    }
}

impl Blob {
    /// Where the next chunk starts, counted from the blob's start.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes; `None` when `size` bytes were handed out. After a cut the download goes on where it was.
    ///
    /// # Errors
    /// When the registry stays away or sends something else than the blob.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while self.offset < self.size {
            if let Some(ahead) = &mut self.ahead {
                match ahead.take().await {
                    Ok(part) => {
                        self.offset += part.len() as u64;
                        return Ok(Some(part));
                    }
                    Err(error) => {
                        tracing::info!(digest = %self.digest, %error, "the download goes on in one piece");
                        (self.ahead, self.whole_only) = (None, true);
                    }
                }
            }
            let error = match self.try_chunk().await {
                Ok(Some(chunk)) => {
                    self.failed = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) => continue,
                Err(error) => error,
            };
            self.response = None;
            self.failed += 1;
            self.cuts += 1;
            if self.cuts > MAX_CUTS || !self.repository.pause_after(&error, self.failed).await {
                return Err(error);
            }
            tracing::info!(digest = %self.digest, offset = self.offset, %error, "the download was cut and goes on");
        }
        // Reading the end lets the connection be used again; whether there is more is the registry's problem.
        if let Some(mut response) = self.response.take()
            && let Ok(Some(_)) = response.chunk().await
        {
            return Err(self.too_large());
        }
        Ok(None)
    }

    /// `None`: nothing to hand out, but nothing wrong.
    async fn try_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(response) = &mut self.response else {
            self.open().await?;
            return Ok(None);
        };
        let asked = Instant::now();
        let Some(mut chunk) = response.chunk().await? else {
            let source = Interruption::Short { got: self.offset, expected: self.size };
            return Err(Error::Interrupted { request: response.request.clone(), source });
        };
        let kept_up = self.pace.keeps_up(chunk.len() as u64, asked.elapsed());
        kept_up
            .map_err(|source| Error::Interrupted { request: response.request.clone(), source })?;
        self.came.bytes += chunk.len() as u64;
        self.came.waited += asked.elapsed();
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        // At most the length of the chunk, which is a usize.
        let _ = chunk.split_to(usize::try_from(skipped).unwrap_or(chunk.len()));
        if chunk.len() as u64 > self.size - self.offset {
            return Err(self.too_large());
        }
        self.offset += chunk.len() as u64;
        self.go_ahead_if_slow();
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// A connection that gives little while much is left is given up for several.
    fn go_ahead_if_slow(&mut self) {
        let (left, after) = (self.size - self.offset, self.repository.http().patience().alone);
        if self.whole_only || !ahead::is_worth_it(left, self.came.bytes, self.came.waited, after) {
            return;
        }
        tracing::info!(digest = %self.digest, offset = self.offset, "the download is slow and goes on in parts");
        self.response = None;
        self.ahead = Some(Ahead::new(&self.repository, &self.digest, self.offset, self.size));
    }

    async fn open(&mut self) -> Result<(), Error> {
        let what = format!("{}@{}", self.repository.image().repository(), self.digest);
        let mut draft = blob_draft(&self.digest);
        if self.offset > 0 {
            let range = format!("bytes={}-", self.offset);
            draft.headers.insert(
                RANGE,
                HeaderValue::from_str(&range).unwrap_or(HeaderValue::from_static("bytes=0-")),
            );
        }
        let asked = self.repository.request(&draft, &what).await;
        let response = asked.map_err(|error| self.ends_here(error))?;
        let start = match response.status.as_u16() {
            200 => 0,
            206 => range_start(&response).unwrap_or(self.offset),
            status => {
                let request = response.request.clone();
                return Err(Error::Status {
                    request,
                    status,
                    answer: Answer::default(),
                    retry_after: None,
                });
            }
        };
        if start > self.offset {
            let problem = format!("asked for bytes from {}, got them from {start}", self.offset);
            return Err(Error::Malformed { request: response.request, problem });
        }
        self.skip = self.offset - start;
        self.pace = Pace::default();
        self.came = Pace::default();
        self.response = Some(response);
        Ok(())
    }

    /// A registry that has no more bytes from here on has a smaller blob than the descriptor says.
    fn ends_here(&self, error: Error) -> Error {
        match error {
            Error::Status { request, status: 416, .. } if self.offset > 0 => Error::Malformed {
                request,
                problem: format!(
                    "the blob ends before byte {}, but should have {} bytes",
                    self.offset, self.size
                ),
            },
            other => other,
        }
    }

    fn too_large(&self) -> Error {
        Error::TooLarge {
            what: format!("{}@{}", self.repository.image().repository(), self.digest),
            limit: self.size,
        }
    }
}

fn blob_draft(digest: &Digest) -> Draft {
    Draft::get(format!("/blobs/{digest}"))
        .header(ACCEPT, HeaderValue::from_static("application/octet-stream, */*"))
        // A compressed transfer would make offsets meaningless.
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
}

/// `Content-Range: bytes 5-9/10` begins at 5.
fn range_start(response: &Response) -> Option<u64> {
    response
        .header(CONTENT_RANGE)?
        .trim()
        .strip_prefix("bytes")?
        .trim()
        .split('-')
        .next()?
        .parse()
        .ok()
}
