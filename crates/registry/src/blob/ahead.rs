//! The rest of a large blob in parts, several at once: for registries that give each connection little.
//!
//! The parts are handed out in order, so each that is ahead is kept in memory meanwhile; a daemon-wide number of places
//! bounds that. Nothing runs by itself: parts come while somebody waits for the next one.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use http::header::{HeaderValue, RANGE};
use names::Digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{blob_draft, range_start};
use crate::{Error, Repository};

/// Bytes of a part.
const PART: u64 = 2 << 20;
/// Parts of one blob that come at once.
const AT_ONCE: usize = 4;
/// Parts of all blobs that are in memory.
pub(crate) const PLACES: usize = 12;
/// With less than this left, another connection is not worth it.
const WORTH: u64 = 32 << 20;
/// Bytes a second; a connection that gives as much is fast enough.
const FAST: u64 = 32 << 20;

type Part = Result<(Bytes, OwnedSemaphorePermit), Error>;

/// Parts on their way.
pub(super) struct Ahead {
    parts: FuturesOrdered<Pin<Box<dyn Future<Output = Part> + Send>>>,
    repository: Repository,
    digest: Digest,
    /// Where the next part to be asked for begins.
    next: u64,
    size: u64,
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ahead").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Whether parts would help: much is left, and what came took long to come.
pub(super) fn is_worth_it(left: u64, came: u64, waited: Duration, after: Duration) -> bool {
    let enough = u128::from(FAST) * waited.as_millis() / 1000;
    left >= WORTH && waited >= after && u128::from(came) < enough
}

impl Ahead {
    pub(super) fn new(repository: &Repository, digest: &Digest, offset: u64, size: u64) -> Self {
        let (repository, digest) = (repository.clone(), digest.clone());
        Self { parts: FuturesOrdered::new(), repository, digest, next: offset, size }
    }

    /// The next bytes.
    pub(super) async fn take(&mut self) -> Result<Bytes, Error> {
        while self.parts.len() < AT_ONCE && self.next < self.size {
            let length = PART.min(self.size - self.next);
            let part = fetch(self.repository.clone(), self.digest.clone(), self.next, length);
            self.parts.push_back(Box::pin(part));
            self.next += length;
        }
        match self.parts.next().await {
            // Its place is free for others from now on.
            Some(part) => part.map(|(bytes, _place)| bytes),
            None => Ok(Bytes::new()),
        }
    }
}

async fn fetch(repository: Repository, digest: Digest, start: u64, length: u64) -> Part {
    let malformed = |problem: &str| Error::Malformed {
        request: format!("bytes from {start} of {digest}"),
        problem: problem.to_owned(),
    };
    let places: Arc<Semaphore> = Arc::clone(repository.places());
    let place = places.acquire_owned().await.map_err(|_| malformed("no place in memory"))?;
    let mut draft = blob_draft(&digest);
    let range = format!("bytes={start}-{}", start + length - 1);
    let range = HeaderValue::from_str(&range).map_err(|_| malformed("no range"))?;
    draft.headers.insert(RANGE, range);
    let what = format!("{}@{digest}", repository.image().repository());
    let response = repository.request_within(&draft, &what, 1).await?;
    if response.status.as_u16() != 206 || range_start(&response) != Some(start) {
        return Err(malformed("not the part that was asked for"));
    }
    let bytes = response.collect(usize::try_from(length).unwrap_or(usize::MAX)).await?;
    if bytes.len() as u64 != length {
        return Err(malformed("less than what was asked for"));
    }
    Ok((bytes, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_slow_and_large_comes_in_parts() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert!(is_worth_it(WORTH, 1 << 20, second, second));
        assert!(!is_worth_it(WORTH - 1, 1 << 20, second, second), "little is left");
        assert!(!is_worth_it(WORTH, FAST, second, second), "it is fast");
        assert!(!is_worth_it(WORTH, 1 << 20, second, minute), "too early to say");
    }
}
