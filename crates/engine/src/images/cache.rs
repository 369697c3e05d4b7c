//! What is remembered of images: only what can be read again at any moment.
//!
//! Documents never change under their digest, nor does the size of a committed snapshot, so both are
//! kept while some image uses them. The list itself is kept for a few seconds, and only as long as
//! the image records are the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use containerd::images::Image;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::claims::Claims;
use super::documents::{Config, Index, Kind, Manifest};
use super::foreign::Expected;
use super::turns::Turns;
use super::{ImageFacts, TransferLimits};

/// Layers of all pulls together that load at once, where one image alone may not have more.
const DOWNLOADS: u16 = 12;
/// Layers of all pushes together that are sent at once, likewise; each holds a few MiB on its way.
const UPLOADS: u16 = 8;
/// Documents kept; an image has two or three.
const MAX_DOCUMENTS: usize = 8192;
/// A longer document, in bytes, is read each time: with all that are kept it would be gigabytes.
const MAX_KEPT: usize = 256 * 1024;
/// Bytes of all documents that are kept.
const MAX_BYTES: usize = 32 << 20;
/// Bytes of the facts of all images that are kept; a list that has more of them is made each time.
const MAX_LISTED: usize = 32 << 20;
/// Layers whose size is kept.
const MAX_SIZES: usize = 65_536;
/// How long facts are believed that may change without a trace in the image records: what is there
/// of an image, and what is unpacked.
const BELIEVED: Duration = Duration::from_secs(10);

/// The engine's memory of images.
#[derive(Debug)]
pub struct Cache {
    documents: Mutex<Documents>,
    sizes: Mutex<HashMap<String, u64>>,
    facts: Mutex<Option<Listed>>,
    /// Counts what we did to images ourselves.
    changes: AtomicU64,
    turns: Turns,
    expected: Expected,
    claims: Claims,
    downloads: Semaphore,
    uploads: Semaphore,
}

/// Documents by digest, with the bytes they were read from.
#[derive(Debug, Default)]
struct Documents {
    kept: HashMap<String, (Document, usize)>,
    bytes: usize,
}

impl Documents {
    fn insert(&mut self, digest: &str, document: Document, length: usize) {
        if self.bytes + length > MAX_BYTES || self.kept.len() >= MAX_DOCUMENTS {
            *self = Self::default();
        }
        let before = self.kept.insert(digest.to_owned(), (document, length));
        self.bytes = self.bytes + length - before.map_or(0, |(_, length)| length);
    }

    fn retain(&mut self, is_used: impl Fn(&str) -> bool) {
        self.kept.retain(|digest, _| is_used(digest));
        self.bytes = self.kept.values().map(|(_, length)| length).sum();
    }
}

/// A parsed document.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Index(Arc<Index>),
    Manifest(Arc<Manifest>),
    Config(Arc<Config>),
}

impl Document {
    /// Whether it was read as this.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        let own = match self {
            Self::Index(_) => Kind::Index,
            Self::Manifest(_) => Kind::Manifest,
            Self::Config(_) => Kind::Config,
        };
        own == kind
    }
}

/// The facts of all images at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) records: Arc<Vec<Image>>,
    /// By target digest.
    pub(crate) facts: Arc<HashMap<String, Arc<ImageFacts>>>,
    changes: u64,
    read_at: Instant,
}

impl Cache {
    /// Nothing is known yet.
    pub(crate) fn new(limits: TransferLimits) -> Self {
        let places = |all: u16, of_one: u16| Semaphore::new(all.max(of_one).into());
        Self {
            documents: Mutex::default(),
            sizes: Mutex::default(),
            facts: Mutex::default(),
            changes: AtomicU64::new(0),
            turns: Turns::default(),
            expected: Expected::default(),
            claims: Claims::default(),
            downloads: places(DOWNLOADS, limits.downloads),
            uploads: places(UPLOADS, limits.uploads),
        }
    }

    /// Changes of ours that containerd will tell.
    pub(super) fn expected(&self) -> &Expected {
        &self.expected
    }

    /// We changed something about images.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that differs when we changed something meanwhile.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Who works on which blob or layer.
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Images that containers are being made of.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// A place among the downloads.
    pub(crate) async fn download_line(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.downloads.acquire().await.ok()
    }

    /// A place among the uploads.
    pub(crate) async fn upload_line(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.uploads.acquire().await.ok()
    }

    /// What is known of all images, if it is about exactly these records and fresh.
    pub(crate) fn listed(&self, records: &[Image]) -> Option<Listed> {
        let known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref()?;
        let fresh = known.read_at.elapsed() < BELIEVED && known.changes == self.changes();
        (fresh && known.records.as_slice() == records).then(|| known.clone())
    }

    /// Remembers what is known of all images, as of `changes`.
    pub(crate) fn keep(
        &self,
        records: Vec<Image>,
        facts: HashMap<String, Arc<ImageFacts>>,
        changes: u64,
    ) -> Listed {
        let listed = Listed {
            records: Arc::new(records),
            facts: Arc::new(facts),
            changes,
            read_at: Instant::now(),
        };
        let weight: usize = listed.facts.values().map(|facts| facts.weight()).sum();
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) =
            (weight <= MAX_LISTED).then(|| listed.clone());
        listed
    }

    pub(crate) fn document(&self, digest: &str) -> Option<Document> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.kept.get(digest).map(|(document, _)| document.clone())
    }

    /// Remembers a document that has `length` bytes, unless it is too long for that.
    pub(crate) fn keep_document(&self, digest: &str, document: Document, length: usize) {
        if length > MAX_KEPT {
            return;
        }
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.insert(digest, document, length);
    }

    pub(crate) fn size(&self, chain_id: &str) -> Option<u64> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(chain_id).copied()
    }

    pub(crate) fn keep_size(&self, chain_id: &str, size: u64) {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        bound(&mut sizes, MAX_SIZES);
        sizes.insert(chain_id.to_owned(), size);
    }

    /// Forgets what no image of the list uses any more.
    pub(crate) fn forget_unused(&self, is_used: impl Fn(&str) -> bool) {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).retain(&is_used);
        self.sizes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|chain_id, _| is_used(chain_id));
    }
}

/// A full memory starts anew: that costs a few reads, and no bookkeeping of who used what when.
fn bound<T>(map: &mut HashMap<String, T>, most: usize) {
    if map.len() >= most {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_is_believed_while_nothing_changes() {
        let cache = Cache::new(TransferLimits::default());
        assert!(cache.listed(&[]).is_none());
        cache.keep(Vec::new(), HashMap::new(), cache.changes());
        assert!(cache.listed(&[]).is_some());
        cache.changed();
        assert!(cache.listed(&[]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_not_believed_for_long() {
        let cache = Cache::new(TransferLimits::default());
        cache.keep(Vec::new(), HashMap::new(), cache.changes());
        tokio::time::sleep(BELIEVED).await;
        assert!(cache.listed(&[]).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let cache = Cache::new(TransferLimits::default());
        let index = Document::Index(Arc::new(Index { manifests: Vec::new() }));
        cache.keep_document("long", index.clone(), MAX_KEPT + 1);
        cache.keep_document("short", index, MAX_KEPT);
        assert!(cache.document("long").is_none());
        let short = cache.document("short").unwrap();
        assert!(short.is(Kind::Index) && !short.is(Kind::Manifest));
        for number in 0..=MAX_BYTES / MAX_KEPT {
            cache.keep_document(&number.to_string(), short.clone(), MAX_KEPT);
        }
        assert!(cache.documents.lock().unwrap().bytes <= MAX_BYTES);
        for number in 0..=MAX_SIZES {
            cache.keep_size(&number.to_string(), 1);
        }
        assert!(cache.sizes.lock().unwrap().len() <= MAX_SIZES);
        cache.forget_unused(|_| false);
        assert_eq!(cache.sizes.lock().unwrap().len(), 0);
    }
}
