//! The archive on its way: blobs straight from containerd, one piece in memory at a time.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use containerd::Client;
use tokio::sync::OwnedSemaphorePermit;

use super::layout::{Part, padding};
use crate::archive::pipe::ByteStream;
use crate::fault;
use crate::images::lease::WorkLease;
use crate::images::parts::PartReader;

/// What is left to write.
struct Rest {
    client: Client,
    parts: VecDeque<Part>,
    open: Option<Open>,
    /// Keeps the blobs; ends with the archive, or when the client leaves.
    lease: Option<WorkLease>,
    _leave: OwnedSemaphorePermit,
}

/// A blob being written.
struct Open {
    reader: PartReader,
    digest: String,
    size: u64,
    left: u64,
}

pub(super) fn archive(
    leave: OwnedSemaphorePermit,
    lease: WorkLease,
    parts: VecDeque<Part>,
) -> ByteStream {
    let client = lease.client().clone();
    let rest = Rest { client, parts, open: None, lease: Some(lease), _leave: leave };
    Box::pin(futures_util::stream::try_unfold(rest, |mut rest| async move {
        match rest.next().await {
            Ok(Some(bytes)) => Ok(Some((bytes, rest))),
            Ok(None) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "images could not be saved to the end");
                Err(error)
            }
        }
    }))
}

impl Rest {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(piece) = open.reader.piece().await.map_err(io::Error::other)? {
                    open.count(piece.len() as u64)?;
                    return Ok(Some(piece.into()));
                }
                let fill = open.end()?;
                self.open = None;
                if !fill.is_empty() {
                    return Ok(Some(fill.into()));
                }
            }
            match self.parts.pop_front() {
                Some(Part::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Part::Blob { digest, size }) => {
                    let reader = PartReader::open(&self.client, &digest, 0, size).await;
                    let reader = reader.map_err(io::Error::other)?;
                    self.open = Some(Open { reader, digest, size, left: size });
                    fault::reached("save.blob");
                }
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.finish().await;
                    }
                    return Ok(None);
                }
            }
        }
    }
}

impl Open {
    /// The header has said how much comes.
    fn count(&mut self, bytes: u64) -> io::Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(self.wrong()),
        }
        Ok(())
    }

    fn end(&self) -> io::Result<Vec<u8>> {
        if self.left > 0 { Err(self.wrong()) } else { Ok(padding(self.size)) }
    }

    fn wrong(&self) -> io::Error {
        let text = format!("containerd gives other than {} bytes of {}", self.size, self.digest);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}
