//! The event stream.

use std::time::Duration;

use containerd::containers::NewContainer;
use containerd::events::EventBody;
use containerd::{Any, filter};

use super::rig::Rig;

#[tokio::test]
async fn a_subscriber_sees_what_happens_in_its_namespace() {
    let Some(rig) = Rig::shared("a_subscriber_sees_what_happens_in_its_namespace") else { return };
    let client = rig.client("seen");
    let mut events = client.subscribe(&[&filter::equals("namespace", "seen")]).await.unwrap();
    let container = |id: &str| NewContainer {
        id: id.into(),
        image: "img".into(),
        runtime_name: "io.containerd.runc.v2".into(),
        spec: Some(Any::oci_spec("{}")),
        ..NewContainer::default()
    };
    client.in_namespace("unseen").create_container(container("other")).await.unwrap();
    client.create_container(container("web")).await.unwrap();
    client.delete_container("web").await.unwrap();
    let created = events.next().await.unwrap().unwrap();
    assert_eq!(
        (created.namespace.as_str(), created.topic.as_str()),
        ("seen", "/containers/create")
    );
    assert_eq!(created.body, EventBody::ContainerCreate { id: "web".into(), image: "img".into() });
    let deleted = events.next().await.unwrap().unwrap();
    assert_eq!(deleted.body, EventBody::ContainerDelete { id: "web".into() });
}

#[tokio::test]
async fn a_wrong_filter_is_an_error_and_the_end() {
    let Some(rig) = Rig::shared("a_wrong_filter_is_an_error_and_the_end") else { return };
    let client = rig.client("filters");
    let error = match client.subscribe(&["=="]).await {
        Err(error) => error,
        Ok(mut events) => {
            let error = events.next().await.unwrap().unwrap_err();
            assert!(events.next().await.is_none());
            error
        }
    };
    assert!(error.to_string().starts_with("follow events: "), "{error}");
}

#[tokio::test]
async fn the_stream_ends_with_its_containerd() {
    let Some(rig) = Rig::own("the_stream_ends_with_its_containerd") else { return };
    let client = rig.client("ending");
    let mut events = client.subscribe(&[]).await.unwrap();
    rig.kill();
    let last = tokio::time::timeout(Duration::from_secs(60), events.next()).await.unwrap();
    assert!(last.unwrap().unwrap_err().is_unavailable());
    assert!(events.next().await.is_none());
    let error = client.subscribe(&[]).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}
