//! An image of one layer, made of a file tree that somebody archived (moby `daemon/containerd/image_import.go`).
//!
//! What is compressed with gzip or zstd is stored as it is; anything else is compressed with gzip. The bytes are read once:
//! a thread stores, decompresses and hashes them while they come.

use std::io::{self, Read, Write};

use bytes::Bytes;
use containerd::Labels;
use containerd::content::{Committed, Ingest, NewIngest};
use flate2::write::GzEncoder;
use futures_core::Stream;
use jiff::Timestamp;
use names::{ImageRef, Platform};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::lease::WorkLease;
use super::make::{LAYER, NewImageSpec};
use super::progress::{self, Progress, Throttle, Transfer};
use super::{Descriptor, RunConfig, changes};
use crate::archive::compression::decompressed;
use crate::archive::pipe::{Sink, Source};
use crate::error::Class;
use crate::events::{Event, EventType};
use crate::waiting::blocking;
use crate::{Engine, Error, Result, fault};

const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Label of a layer blob: its diffID.
const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Bytes by which compression is told.
const START: u64 = 6;
/// Bytes that are copied at once.
const PIECE: usize = 64 * 1024;

/// What to make of an archive.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// The image's name, with a tag; without one it has only its id.
    pub name: Option<ImageRef>,
    /// What it is for; the host's platform if not given.
    pub platform: Option<Platform>,
    /// Why.
    pub comment: String,
    /// Instructions of a Dockerfile that say how it is run.
    pub changes: Vec<String>,
}

/// An import from an address under way, as its client sees it. Dropping it cancels the import.
pub type Import = Transfer<ImportEvent>;

/// One message of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportEvent {
    /// The address answers.
    Downloading {
        /// The address.
        from: String,
    },
    /// Bytes so far.
    Importing {
        /// Bytes that came.
        current: u64,
        /// Bytes in all; 0 if nobody knows.
        total: u64,
    },
    /// The image is there.
    Done {
        /// Its id.
        id: String,
    },
}

/// What a thread found out about a layer.
struct Packed {
    media_type: &'static str,
    digest: String,
    size: u64,
    diff_id: String,
}

impl Engine {
    /// Makes an image of an archive, compressed or not. Gives its id. Dropping the future cancels it, and nothing stays.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a change that is none; [`Error::BadArchive`], or containerd's words, for what is no
    /// archive.
    pub async fn import_image<S>(&self, request: ImportRequest, body: S) -> Result<String>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let mut config = RunConfig::default();
        changes::apply(&mut config, &request.changes)?;
        let lease = WorkLease::begin(self, "import").await?;
        fault::reached("import.lease");
        match self.import_under(&lease, request, config, body).await {
            Ok(id) => {
                lease.finish().await;
                self.hub().publish(Event {
                    kind: EventType::Image,
                    action: "import".to_owned(),
                    actor: id.clone(),
                    attributes: [("name".to_owned(), id.clone())].into(),
                    at: Timestamp::now(),
                });
                Ok(id)
            }
            Err(error) => {
                tracing::info!(error = error.message(), "an image could not be imported");
                lease.abandon().await;
                Err(error)
            }
        }
    }

    /// The same from an address. The first message may be an error.
    #[must_use]
    pub fn import_image_from(&self, address: String, request: ImportRequest) -> Import {
        let (progress, import) = progress::channel();
        let engine = self.clone();
        self.supervisor().spawn(async move {
            tokio::select! {
                () = progress.abandoned() => tracing::info!("the client left, its import is cancelled"),
                outcome = Box::pin(engine.import_from(&address, request, &progress)) => {
                    progress.end(outcome).await;
                }
            }
        });
        import
    }

    async fn import_from(
        &self,
        address: &str,
        request: ImportRequest,
        progress: &Progress<ImportEvent>,
    ) -> Result<()> {
        let download = self.registry().download(address).await;
        let download = download.map_err(|error| unreachable_address(address, error))?;
        progress.tell(ImportEvent::Downloading { from: address.to_owned() }).await;
        let total = download.length().unwrap_or_default();
        let throttle = Throttle::default();
        let (throttle, state) = (&throttle, (download, 0));
        let body = futures_util::stream::try_unfold(state, |(mut download, current)| async move {
            let Some(chunk) = download.chunk().await.map_err(io::Error::other)? else {
                return Ok(None);
            };
            let current = current + chunk.len() as u64;
            if throttle.is_due() {
                progress.hint(ImportEvent::Importing { current, total });
            }
            Ok(Some((chunk, (download, current))))
        });
        let id = self.import_image(request, std::pin::pin!(body)).await?;
        progress.tell(ImportEvent::Done { id }).await;
        Ok(())
    }

    async fn import_under<S>(
        &self,
        lease: &WorkLease,
        request: ImportRequest,
        config: RunConfig,
        body: S,
    ) -> Result<String>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let layer = self.store_layer(lease, body).await?;
        let platform = request.platform.unwrap_or_else(Platform::host);
        let mut base: Map<String, Value> = Map::new();
        base.insert("os".into(), platform.os().into());
        base.insert("architecture".into(), platform.architecture().into());
        if let Some(variant) = platform.variant() {
            base.insert("variant".into(), variant.into());
        }
        let spec = NewImageSpec {
            base,
            layers: Vec::new(),
            layer: Some(layer),
            config,
            author: String::new(),
            comment: request.comment,
            created_by: String::new(),
            parent: String::new(),
            name: request.name,
        };
        Box::pin(self.make_image(lease, spec)).await
    }

    /// The archive as a layer in the store.
    async fn store_layer<S>(&self, lease: &WorkLease, body: S) -> Result<Descriptor>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let leave = self.transfer().await?;
        let (feed, source) = Source::new();
        let (sink, receiver) = Sink::new();
        let packing = blocking("read an archive", move || {
            let _leave = leave;
            pack(source, sink)
        });
        let ((), packed, upload) =
            tokio::join!(feed.pump(body), packing, self.upload_layer(lease, receiver));
        let packed = packed?.map_err(|error| Error::BadArchive(error.to_string()));
        // What is wrong with the store shows in the reader as well.
        let (name, writer) = upload?;
        let packed = packed?;
        fault::reached("import.read");
        let failed = |error| self.containerd_error("store the layer", error);
        let labels = Labels::from([(UNCOMPRESSED.to_owned(), packed.diff_id)]);
        if writer.commit(labels.clone()).await.map_err(failed)? == Committed::AlreadyExists {
            lease.hold(&packed.digest).await.map_err(failed)?;
            let labels = labels.into_iter().map(|(key, value)| (key, Some(value))).collect();
            self.containerd().update_blob_labels(&packed.digest, labels).await.map_err(failed)?;
        }
        lease.uploaded(&name);
        fault::reached("import.layer");
        Ok(Descriptor {
            media_type: packed.media_type.to_owned(),
            digest: packed.digest,
            size: packed.size,
            ..Descriptor::default()
        })
    }

    /// Everything that the thread gives, under a name of our own: nobody knows the digest before the end.
    async fn upload_layer(
        &self,
        lease: &WorkLease,
        mut pieces: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<(String, containerd::content::Writer)> {
        let failed = |error| self.containerd_error("store the layer", error);
        let name = format!("{}-layer", lease.id());
        let mut turn = lease.upload_turn(&name).await;
        let new = NewIngest { name: name.clone(), ..NewIngest::default() };
        let Ingest::Open(mut writer) = lease.open(new, &mut turn).await.map_err(failed)? else {
            return Err(Error::BadContent(format!("upload {name} is there already")));
        };
        while let Some(Ok(piece)) = pieces.recv().await {
            writer.write(&piece).await.map_err(failed)?;
        }
        Ok((name, writer))
    }
}

/// The server's refusal, in Docker's words (moby `daemon/builder/remotecontext/remote.go`, `GetWithStatusError`).
fn unreachable_address(address: &str, error: registry::Error) -> Error {
    // What stands in a query may open it to whoever reads the log.
    let address = registry::without_secrets(address);
    let (status, class) = match &error {
        registry::Error::Address { .. } => return Error::InvalidParameter(error.to_string()),
        registry::Error::NotFound { .. } => ("404 Not Found".to_owned(), Class::NotFound),
        registry::Error::Status { status, .. } => (status.to_string(), Class::Internal),
        _ => return Error::failed(format!("Get {address:?}"), error),
    };
    Error::Registry { message: format!("failed to GET {address} with status {status}"), class }
}

/// Reads all of it, and writes it as it is to be stored.
fn pack(mut source: impl Read + Send, sink: Sink) -> io::Result<Packed> {
    let mut start = Vec::new();
    (&mut source).take(START).read_to_end(&mut start)?;
    let as_it_is = match start[..] {
        [0x1f, 0x8b, ..] => Some(LAYER),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(LAYER_ZSTD),
        _ => None,
    };
    let whole = io::Cursor::new(start).chain(source);
    let mut output = Hashed { sink, hash: Sha256::new(), size: 0 };
    let diff_id = match as_it_is {
        Some(_) => {
            let mut tee = Tee { input: whole, output: &mut output };
            let diff_id = copy(&mut decompressed(&mut tee)?, &mut io::sink())?;
            // What is behind the end of what was compressed belongs to the blob, too.
            io::copy(&mut tee, &mut io::sink())?;
            diff_id
        }
        None => {
            let mut encoder = GzEncoder::new(&mut output, flate2::Compression::default());
            let diff_id = copy(&mut decompressed(whole)?, &mut encoder)?;
            encoder.finish()?;
            diff_id
        }
    };
    output.sink.flush()?;
    Ok(Packed {
        media_type: as_it_is.unwrap_or(LAYER),
        digest: digest(output.hash),
        size: output.size,
        diff_id,
    })
}

/// Copies everything, and gives its digest.
fn copy(input: &mut impl Read, output: &mut impl Write) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(digest(hash)),
            Ok(count) => {
                hash.update(&piece[..count]);
                output.write_all(&piece[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn digest(hash: Sha256) -> String {
    names::Digest::from_sha256(hash.finalize().into()).to_string()
}

/// Hashes and counts what is stored.
struct Hashed {
    sink: Sink,
    hash: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Stores what is read.
struct Tee<'a, R> {
    input: R,
    output: &'a mut Hashed,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.output.write_all(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::documents::digest_of;

    /// What is stored of `input`, and what is known of it.
    async fn packed(input: Vec<u8>) -> (Vec<u8>, Packed) {
        let (sink, mut receiver) = Sink::new();
        let thread = tokio::task::spawn_blocking(move || pack(&input[..], sink));
        let mut stored = Vec::new();
        while let Some(piece) = receiver.recv().await {
            stored.extend_from_slice(&piece.unwrap());
        }
        let packed = thread.await.unwrap().unwrap();
        assert_eq!(
            (packed.digest.as_str(), packed.size),
            (digest_of(&stored).as_str(), stored.len() as u64)
        );
        (stored, packed)
    }

    #[tokio::test]
    async fn plain_archives_are_compressed_and_others_stay() {
        let plain = vec![b'x'; 300_000];
        let (stored, of_plain) = packed(plain.clone()).await;
        assert!(stored.starts_with(b"\x1f\x8b") && stored.len() < plain.len());
        assert_eq!((of_plain.media_type, of_plain.diff_id), (LAYER, digest_of(&plain)));
        let (again, of_gzip) = packed(stored.clone()).await;
        assert_eq!(again, stored, "gzip stays as it is");
        assert_eq!(of_gzip.diff_id, digest_of(&plain));
    }

    #[test]
    fn errors_do_not_tell_the_query() {
        let error =
            registry::Error::NotFound { what: String::new(), answer: registry::Answer::default() };
        let error = unreachable_address("http://me:secret@h/a?signature=secret", error);
        assert_eq!(error.message(), "failed to GET http://h/a with status 404 Not Found");
    }

    #[tokio::test]
    async fn what_cannot_be_decompressed_fails() {
        let (sink, mut receiver) = Sink::new();
        let thread = tokio::task::spawn_blocking(move || pack(&b"\x1f\x8b\x08nonsense"[..], sink));
        while receiver.recv().await.is_some() {}
        assert!(thread.await.unwrap().is_err());
    }
}
