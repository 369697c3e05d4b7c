//! Blobs: written, resumed, refused, read.

use std::collections::BTreeMap;
use std::time::Duration;

use containerd::content::{Committed, Ingest, NewIngest, Writer};
use containerd::{Client, Kind, Labels};

use super::rig::Rig;

const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const SECOND: &str = "sha256:16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";
const NOT_HELLO: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn ingest(name: &str, digest: &str) -> NewIngest {
    NewIngest { name: name.into(), total: Some(5), expected: Some(digest.into()) }
}

async fn open(client: &Client, new: NewIngest) -> Writer {
    match client.open_ingest(new).await.unwrap() {
        Ingest::Open(writer) => writer,
        Ingest::AlreadyExists => panic!("the blob is there already"),
    }
}

fn labels() -> Labels {
    // Keeps the blob from the garbage collector.
    Labels::from([("containerd.io/gc.root".into(), "1".into()), ("l".into(), "v".into())])
}

#[tokio::test]
async fn a_blob_is_written_labelled_and_read() {
    let Some(rig) = Rig::shared("a_blob_is_written_labelled_and_read") else { return };
    let client = rig.client("blobs");
    let stored = client.write_blob(ingest("b", HELLO), b"hello", labels()).await.unwrap();
    assert_eq!(stored, Committed::Stored { digest: HELLO.into() });
    let blob = client.blob(HELLO).await.unwrap();
    assert_eq!((blob.size, &blob.labels), (5, &labels()));
    let patch = BTreeMap::from([("l".into(), None), ("m".into(), Some("w".into()))]);
    let blob = client.update_blob_labels(HELLO, patch).await.unwrap();
    assert!(!blob.labels.contains_key("l") && blob.labels["m"] == "w");
    let listed = client.list_blobs(&[]).await.unwrap();
    assert_eq!((listed.len(), &listed[0].labels), (1, &blob.labels));
    assert_eq!(client.read_all(HELLO, 5).await.unwrap(), b"hello");
    assert_eq!(client.read_all(HELLO, 4).await.unwrap_err().kind(), Kind::ResourceExhausted);
    let mut reader = client.read_blob(HELLO, 1, Some(3)).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), b"ell");
    assert_eq!(reader.next().await.unwrap(), None);
    assert!(client.read_all(NOT_HELLO, 5).await.unwrap_err().is_not_found());
    // Known by its digest: nothing to write.
    let again = client.open_ingest(ingest("again", HELLO)).await.unwrap();
    assert!(matches!(again, Ingest::AlreadyExists));
    // Known only at the end.
    let unnamed = NewIngest { name: "unnamed".into(), ..NewIngest::default() };
    let again = client.write_blob(unnamed, b"hello", labels()).await.unwrap();
    assert_eq!(again, Committed::AlreadyExists);
    client.delete_blob(HELLO).await.unwrap();
    assert!(client.blob(HELLO).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_upload_goes_on_where_it_stopped() {
    let Some(rig) = Rig::shared("an_upload_goes_on_where_it_stopped") else { return };
    let client = rig.client("resume");
    // More than may be under way at once, so that something has arrived for sure.
    let chunk = vec![b'x'; (6 << 20) + 17];
    let total = 2 * chunk.len() as u64;
    let new = NewIngest { name: "layer".into(), total: Some(total), expected: None };
    let mut writer = open(&client, new.clone()).await;
    assert_eq!((writer.offset(), writer.total()), (0, total));
    writer.write(&chunk).await.unwrap();
    drop(writer);

    // The lock of the dropped writer may be held for a moment: opening waits for it. What was
    // still under way may be lost, which is what the offset is for.
    let mut writer = open(&client, new).await;
    let offset = writer.offset();
    assert!(offset > 0 && offset <= chunk.len() as u64, "{offset}");
    let rest = vec![b'x'; usize::try_from(total - offset).unwrap()];
    writer.write(&rest).await.unwrap();
    let status = client.ingest("layer").await.unwrap();
    assert_eq!((status.total, status.name.as_str()), (total, "layer"));
    let Committed::Stored { digest } = writer.commit(labels()).await.unwrap() else {
        panic!("nobody else writes this");
    };
    let bytes = client.read_all(&digest, usize::MAX).await.unwrap();
    assert_eq!(bytes.len() as u64, total);
    assert!(client.list_ingests(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restarted_upload_forgets_its_bytes() {
    let Some(rig) = Rig::shared("a_restarted_upload_forgets_its_bytes") else { return };
    let client = rig.client("restart");
    let new = NewIngest { name: "layer".into(), ..NewIngest::default() };
    let mut writer = open(&client, new).await;
    writer.write(&vec![b'x'; 2 << 20]).await.unwrap();
    writer.restart().await.unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write(b"hello").await.unwrap();
    let stored = writer.commit(labels()).await.unwrap();
    assert_eq!(stored, Committed::Stored { digest: HELLO.into() });
}

#[tokio::test]
async fn a_wrong_digest_is_refused_and_the_upload_stays_until_aborted() {
    let Some(rig) = Rig::shared("a_wrong_digest_is_refused") else { return };
    let client = rig.client("wrong");
    let mut writer = open(&client, ingest("w", NOT_HELLO)).await;
    writer.write(b"hello").await.unwrap();
    let error = writer.commit(labels()).await.unwrap_err();
    assert!(error.is_failed_precondition(), "{error}");
    let writer = open(&client, ingest("w", NOT_HELLO)).await;
    assert!(writer.is_complete());
    drop(writer);
    // Finishing it in one go finds out the same and clears it away.
    let error = client.write_blob(ingest("w", NOT_HELLO), b"hello", labels()).await.unwrap_err();
    assert!(error.is_failed_precondition(), "{error}");
    assert!(client.ingest("w").await.unwrap_err().is_not_found());
    assert!(client.abort_ingest("w").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_second_writer_waits_for_the_first() {
    let Some(rig) = Rig::shared("a_second_writer_waits_for_the_first") else { return };
    let client = rig.client("locks");
    let second = NewIngest { name: "l".into(), total: Some(6), expected: Some(SECOND.into()) };
    let mut first = open(&client, second.clone()).await;
    let waiting = client.open_ingest(second.clone());
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
    assert!(early.is_err(), "the lock did not hold: {early:?}");
    first.write(b"second").await.unwrap();
    first.commit(labels()).await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Ingest::AlreadyExists));

    // In another namespace it is known, but not there: no bytes are needed.
    let neighbour = rig.client("neighbour");
    assert!(neighbour.blob(SECOND).await.unwrap_err().is_not_found());
    let writer = open(&neighbour, second).await;
    assert!(writer.is_complete());
    writer.commit(labels()).await.unwrap();
    assert_eq!(neighbour.read_all(SECOND, 6).await.unwrap(), b"second");
}

#[tokio::test]
async fn a_lease_keeps_a_blob_from_the_collector() {
    let Some(rig) = Rig::shared("a_lease_keeps_a_blob_from_the_collector") else { return };
    let client = rig.client("gc");
    client.create_lease("keep", Labels::new(), None).await.unwrap();
    let leased = client.with_lease("keep");
    leased.write_blob(ingest("b", HELLO), b"hello", Labels::new()).await.unwrap();
    let resources = client.list_lease_resources("keep").await.unwrap();
    assert!(resources.iter().any(|resource| resource.id == HELLO), "{resources:?}");
    // Ending another lease collects what is not held.
    client.create_lease("other", Labels::new(), None).await.unwrap();
    client.delete_lease("other", true).await.unwrap();
    client.blob(HELLO).await.unwrap();
    client.delete_lease("keep", true).await.unwrap();
    assert!(client.blob(HELLO).await.unwrap_err().is_not_found());
}
