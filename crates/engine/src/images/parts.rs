//! A blob read part by part, at the pace of who takes it.
//!
//! containerd would send all of it ahead of a slow client or registry, as far as the window of the connection allows; a few
//! of them that stall would fill it, and nobody else could read or write a blob.

use containerd::Client;
use containerd::content::BlobReader;

/// Bytes that are asked for at once.
const PART: u64 = 1 << 20;

/// A blob being read.
#[derive(Debug)]
pub(crate) struct PartReader {
    client: Client,
    digest: String,
    /// Where the next part begins.
    next: u64,
    total: u64,
    part: BlobReader,
}

impl PartReader {
    /// Begins at `offset` of a blob that has `total` bytes.
    ///
    /// # Errors
    /// As [`Client::read_blob`].
    pub(crate) async fn open(
        client: &Client,
        digest: &str,
        offset: u64,
        total: u64,
    ) -> containerd::Result<Self> {
        let part = client.read_blob(digest, offset, Some(PART)).await?;
        let (client, digest) = (client.clone(), digest.to_owned());
        Ok(Self { client, digest, next: offset.saturating_add(PART), total, part })
    }

    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// As [`Client::read_blob`] and [`BlobReader::next`].
    pub(crate) async fn piece(&mut self) -> containerd::Result<Option<Vec<u8>>> {
        loop {
            if let Some(piece) = self.part.next().await? {
                return Ok(Some(piece));
            }
            if self.next >= self.total {
                return Ok(None);
            }
            self.part = self.client.read_blob(&self.digest, self.next, Some(PART)).await?;
            self.next = self.next.saturating_add(PART);
        }
    }
}
