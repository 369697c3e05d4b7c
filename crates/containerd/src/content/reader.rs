//! Reading blobs.

use containerd_client::services::v1::{ReadContentRequest, ReadContentResponse};
use tonic::Streaming;

use crate::call::Call;
use crate::{Client, Kind, Result, wire};

/// The bytes of a blob, in pieces of at most a few MiB. Drop to stop.
#[derive(Debug)]
pub struct BlobReader {
    digest: String,
    pieces: Streaming<ReadContentResponse>,
}

impl BlobReader {
    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when containerd goes away; [`Kind::DeadlineExceeded`] when it gives
    /// nothing for 60 s.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let call = Call::list("read blob", &self.digest);
        let piece = call.finish(self.pieces.message()).await?;
        Ok(piece.map(|piece| piece.data))
    }
}

impl Client {
    /// Reads a blob from `offset` on: `size` bytes, or all without a size.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::OutOfRange`] for an offset behind the end.
    pub async fn read_blob(
        &self,
        digest: &str,
        offset: u64,
        size: Option<u64>,
    ) -> Result<BlobReader> {
        let mut service = self.content_bytes_service();
        let request = ReadContentRequest {
            digest: digest.to_owned(),
            offset: wire::signed(offset),
            size: size.map(wire::signed).unwrap_or_default(),
        };
        let call = Call::list("read blob", digest);
        let pieces = self.unary(call, request, |request| service.read(request)).await?;
        Ok(BlobReader { digest: digest.to_owned(), pieces })
    }

    /// Reads a whole small blob, such as a manifest or config.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::ResourceExhausted`] when it has more than `limit` bytes.
    pub async fn read_all(&self, digest: &str, limit: usize) -> Result<Vec<u8>> {
        let mut reader = self.read_blob(digest, 0, None).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await? {
            if bytes.len() + piece.len() > limit {
                let message = format!("it has more than {limit} bytes");
                return Err(Call::list("read blob", digest).error(Kind::ResourceExhausted, message));
            }
            if bytes.is_empty() {
                bytes = piece; // most manifests come in one piece
            } else {
                bytes.extend_from_slice(&piece);
            }
        }
        Ok(bytes)
    }
}
