//! containerd away, gone, and back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use containerd::content::{Ingest, NewIngest};
use containerd::{Client, Kind};

use super::rig::Rig;

#[tokio::test]
async fn without_a_socket_calls_fail_as_unavailable() {
    let client = Client::new(Path::new("/nonexistent/containerd.sock"), "default");
    let error = client.version().await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(error.to_string(), "get version: No such file or directory (os error 2)");
    let blob = client.read_all("sha256:0", 1).await.unwrap_err();
    assert!(blob.is_unavailable(), "{blob}");
    let upload = client.open_ingest(NewIngest { name: "x".into(), ..NewIngest::default() }).await;
    assert!(upload.unwrap_err().is_unavailable());
}

#[test]
fn a_client_can_be_made_outside_a_runtime() {
    let client = Client::new(Path::new("/nonexistent/containerd.sock"), "default");
    assert_eq!(client.in_namespace("other").namespace(), "other");
    assert_eq!(client.with_lease("l").lease(), Some("l"));
    assert_eq!(client.with_lease("l").in_namespace("other").lease(), None);
}

#[tokio::test]
async fn a_restarted_containerd_is_found_by_the_next_call() {
    let Some(rig) = Rig::own("a_restarted_containerd_is_found_by_the_next_call") else { return };
    let rig = Arc::new(rig);
    let client = rig.client("outage");
    let uuid = client.server().await.unwrap().uuid;
    client.list_blobs(&[]).await.unwrap();
    let new = NewIngest { name: "x".into(), ..NewIngest::default() };
    let Ingest::Open(mut writer) = client.open_ingest(new).await.unwrap() else {
        panic!("there is no such blob");
    };
    rig.kill();
    let write = writer.write(&vec![0; 8 << 20]).await;
    assert!(write.unwrap_err().is_unavailable());
    assert!(client.server().await.unwrap_err().is_unavailable());
    assert!(client.get_container("web").await.unwrap_err().is_unavailable());
    rig.start();
    assert_eq!(client.server().await.unwrap().uuid, uuid);
    assert!(client.get_container("web").await.unwrap_err().is_not_found());
    assert!(client.read_all("sha256:0", 1).await.unwrap_err().kind() != Kind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_containerd_that_does_not_answer_costs_the_deadline_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("silent.sock");
    let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let client = Client::new(&socket, "default");
    let error = client.get_container("web").await.unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded);
    assert_eq!(error.to_string(), "get container web: no answer within 10 s");
    let error = client.list_containers(&[]).await.unwrap_err();
    assert_eq!(error.message(), "no answer within 60 s");
    let error = client.subscribe(&[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded);
    // Waiting for a process has no deadline of its own.
    let an_hour = Duration::from_secs(3600);
    assert!(tokio::time::timeout(an_hour, client.wait("web", None)).await.is_err());
}
