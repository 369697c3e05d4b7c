//! Blobs and manifests on their way out: a real registry, and one that cuts.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use names::Digest;
use registry::{
    Access, BlobSource, BlobStream, Cause, Config, Delivery, Descriptor, Error, Parcel, Purpose,
    Registry, Repository,
};

use super::scripted::{Reply, Scripted};
use super::server::{Door, MANIFEST, Server, digest};
use super::setting::{config, login, read};

/// A blob in memory, which counts what was asked of it.
#[derive(Default)]
pub(crate) struct Memory {
    bytes: Bytes,
    sent: AtomicU64,
    opened: Mutex<Vec<u64>>,
    /// Breaks off here.
    broken_at: Option<usize>,
}

impl BlobSource for Memory {
    fn open(
        &self,
        offset: u64,
    ) -> Pin<Box<dyn Future<Output = Result<BlobStream, Cause>> + Send + '_>> {
        self.opened.lock().unwrap().push(offset);
        let end = self.broken_at.unwrap_or(self.bytes.len());
        let rest = self.bytes.slice(usize::try_from(offset).unwrap()..end);
        let pieces: Vec<Result<Bytes, Cause>> =
            rest.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Box::pin(async { Ok(Box::pin(futures_util::stream::iter(pieces)) as BlobStream) })
    }

    fn sent(&self, bytes: u64) {
        self.sent.store(bytes, Ordering::SeqCst);
    }
}

fn layer() -> Bytes {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into()
}

/// A parcel of it, and the blob that stands behind it.
pub(crate) fn parcel(bytes: &Bytes, mount_from: Option<&str>) -> (Parcel, Arc<Memory>) {
    let memory = Arc::new(Memory { bytes: bytes.clone(), ..Memory::default() });
    let parcel = Parcel {
        digest: digest(bytes),
        size: bytes.len() as u64,
        mount_from: mount_from.map(str::to_owned),
        source: Some(Arc::clone(&memory) as Arc<dyn BlobSource>),
    };
    (parcel, memory)
}

async fn to_push(image: &names::ImageRef, mount_from: &[&str]) -> Repository {
    let purpose =
        Purpose::Push { mount_from: mount_from.iter().map(|path| (*path).to_owned()).collect() };
    let access = Access { purpose, ..Access::default() };
    Registry::new(Config { ..config() }).repository(image, access).await.unwrap()
}

#[tokio::test]
async fn a_real_registry_takes_an_image() {
    for door in [Door::Open, Door::Password] {
        let Some(server) = Server::start("a_real_registry_takes_an_image", door) else { return };
        let image = server.image("team/new:v1");
        let access = Access {
            credentials: (door == Door::Password).then(|| login("ann", "secret")),
            purpose: Purpose::Push { mount_from: vec!["team/old".to_owned()] },
            ..Access::default()
        };
        let registry = Registry::new(config());
        let repository = registry.repository(&image, access.clone()).await.unwrap();
        let bytes = layer();
        let (blob, memory) = parcel(&bytes, None);
        assert_eq!(repository.deliver(&blob).await.unwrap(), Delivery::Sent);
        assert_eq!(memory.sent.load(Ordering::SeqCst), bytes.len() as u64);
        assert_eq!(repository.deliver(&blob).await.unwrap(), Delivery::Existed);
        let back = repository.blob(&blob.digest, blob.size, 0).await.unwrap();
        assert!(read(back).await.unwrap() == bytes);

        // Another repository of the same registry takes it from there, without its bytes.
        let other =
            registry.repository(&server.image("team/other:v1"), access.clone()).await.unwrap();
        let mounted = Parcel { mount_from: Some("team/new".to_owned()), source: None, ..blob };
        assert_eq!(
            other.deliver(&mounted).await.unwrap(),
            Delivery::Mounted("team/new".to_owned())
        );
        let unknown = Parcel { digest: digest(b"unknown"), ..mounted };
        assert_eq!(other.deliver(&unknown).await.unwrap(), Delivery::Impossible);

        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{0}","size":{1}}},"layers":[]}}"#,
            digest(&bytes),
            bytes.len()
        );
        let manifest = Bytes::from(manifest);
        let descriptor = Descriptor {
            media_type: MANIFEST.to_owned(),
            digest: digest(&manifest),
            size: manifest.len() as u64,
        };
        for reference in ["v1", descriptor.digest.as_str()] {
            repository.put_manifest(reference, &descriptor, manifest.clone()).await.unwrap();
        }
        assert_eq!(repository.resolve().await.unwrap(), descriptor);
    }
}

/// A registry that takes one upload and cuts it `cuts` times. It keeps what came, and says so if it `remembers`.
fn cutting(cuts: usize, remembers: bool) -> (Scripted, Arc<Mutex<Vec<u8>>>) {
    let kept = Arc::new(Mutex::new(Vec::<u8>::new()));
    let (store, left) = (Arc::clone(&kept), Mutex::new(cuts));
    let server = Scripted::start(move |request| {
        let mut store = store.lock().unwrap();
        let place = "/v2/app/blobs/uploads/1?state=x";
        match (request.method(), request.target()) {
            ("HEAD", _) => Reply::new(404, ""),
            ("POST", _) => {
                store.clear();
                Reply::new(202, "").header("location", place)
            }
            ("GET", _) if remembers => Reply::new(204, "")
                .header("location", place)
                .header("range", format!("0-{}", store.len().saturating_sub(1))),
            ("PUT" | "PATCH", target) if target.starts_with("/v2/app/blobs/uploads/1") => {
                let mut left = left.lock().unwrap();
                if *left > 0 && !request.body.is_empty() {
                    *left -= 1;
                    store.extend_from_slice(&request.body[..request.body.len() / 2]);
                    return Reply::none();
                }
                store.extend_from_slice(&request.body);
                match request.method() {
                    "PUT" => Reply::new(201, ""),
                    _ => Reply::new(202, "").header("location", place),
                }
            }
            _ => Reply::new(404, ""),
        }
    });
    (server, kept)
}

#[tokio::test]
async fn an_upload_goes_on_where_the_registry_stands() {
    let bytes = layer();
    let (server, kept) = cutting(2, true);
    let repository = to_push(&server.image("app"), &[]).await;
    let (blob, memory) = parcel(&bytes, None);
    assert_eq!(repository.deliver(&blob).await.unwrap(), Delivery::Sent);
    assert!(*kept.lock().unwrap() == bytes);
    let half = bytes.len() as u64 / 2;
    assert_eq!(*memory.opened.lock().unwrap(), [0, half, half + half / 2]);
    let pieces: Vec<_> =
        server.requests().into_iter().filter(|request| request.method() == "PATCH").collect();
    let range = |at: u64| Some(format!("{at}-{}", bytes.len() - 1));
    assert_eq!(
        pieces
            .iter()
            .map(|piece| piece.header("content-range").map(str::to_owned))
            .collect::<Vec<_>>(),
        [range(half), range(half + half / 2)]
    );
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_begins_anew() {
    let bytes = layer();
    let (server, kept) = cutting(1, false);
    let repository = to_push(&server.image("app"), &[]).await;
    let (blob, memory) = parcel(&bytes, None);
    assert_eq!(repository.deliver(&blob).await.unwrap(), Delivery::Sent);
    assert!(*kept.lock().unwrap() == bytes);
    assert_eq!(*memory.opened.lock().unwrap(), [0, 0]);
}

#[tokio::test]
async fn a_registry_that_always_cuts_uploads_is_given_up() {
    let (server, _) = cutting(1000, false);
    let repository = to_push(&server.image("app"), &[]).await;
    let (blob, memory) = parcel(&layer(), None);
    let error = repository.deliver(&blob).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert_eq!(memory.opened.lock().unwrap().len(), 3, "as many as patience allows");
}

#[tokio::test]
async fn a_blob_that_cannot_be_read_is_not_the_registrys_fault() {
    let (server, _) = cutting(0, true);
    let repository = to_push(&server.image("app"), &[]).await;
    let (mut blob, _) = parcel(&layer(), None);
    let short = Memory { bytes: layer(), broken_at: Some(1000), ..Memory::default() };
    blob.source = Some(Arc::new(short));
    let error = repository.deliver(&blob).await.unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
}

#[tokio::test]
async fn tokens_are_asked_for_all_that_a_push_needs() {
    let tokens = Scripted::start(|_| Reply::new(200, r#"{"token":"t"}"#));
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.address);
    let server = Scripted::start(move |request| match request.header("authorization") {
        None => Reply::new(401, "").header("www-authenticate", realm.clone()),
        Some(_) => Reply::new(200, ""),
    });
    let repository = to_push(&server.image("app"), &["base"]).await;
    let (blob, _) = parcel(&layer(), Some("base"));
    assert_eq!(repository.deliver(&blob).await.unwrap(), Delivery::Existed);
    assert_eq!(
        tokens.requests()[0].target(),
        "/token?service=s&scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull"
    );
}

#[tokio::test]
async fn another_host_that_takes_the_bytes_gets_no_credentials() {
    let storage = Scripted::start(|_| Reply::new(201, ""));
    let location = format!("http://{}/bucket?sign=1", storage.address);
    let server =
        Scripted::start(move |request| match (request.header("authorization"), request.method()) {
            (None, _) => Reply::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
            (_, "HEAD") => Reply::new(404, ""),
            _ => Reply::new(202, "").header("location", location.clone()),
        });
    let access = Access {
        credentials: Some(login("ann", "secret")),
        purpose: Purpose::Push { mount_from: Vec::new() },
        ..Access::default()
    };
    let image = server.image("app");
    let repository = Registry::new(config()).repository(&image, access).await.unwrap();
    let (blob, _) = parcel(&layer(), None);
    assert_eq!(repository.deliver(&blob).await.unwrap(), Delivery::Sent);
    let sent = storage.requests();
    assert!(sent.len() == 1 && sent[0].header("authorization").is_none(), "{:?}", sent[0].headers);
    let expected: Digest = digest(&layer());
    let escaped = expected.to_string().replace(':', "%3A");
    assert_eq!(sent[0].target(), format!("/bucket?sign=1&digest={escaped}"));
}
