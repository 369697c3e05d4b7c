//! Container records, images, leases, namespaces, introspection.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use containerd::containers::{ContainerPatch, NewContainer};
use containerd::images::{ImagePatch, NewImage};
use containerd::leases::{EXPIRE_LABEL, Resource};
use containerd::messages::RuncOptions;
use containerd::{Any, Descriptor, Kind, Labels, filter};

use super::rig::Rig;

fn record(id: &str) -> NewContainer {
    NewContainer {
        id: id.into(),
        labels: Labels::from([("a".into(), "1".into()), ("x/y.z".into(), "2".into())]),
        image: "docker.io/library/alpine:latest".into(),
        runtime_name: "io.containerd.runc.v2".into(),
        runtime_options: Some(Any::runc_options(&RuncOptions {
            binary_name: "runc".into(),
            ..RuncOptions::default()
        })),
        spec: Some(Any::oci_spec("{}")),
        snapshotter: "native".into(),
        snapshot_key: id.into(),
        extensions: BTreeMap::from([("one".into(), Any::new("my.type", "value"))]),
    }
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_made() {
    let Some(rig) = Rig::shared("a_record_comes_back_as_it_was_made") else { return };
    let client = rig.client("records");
    let wanted = record("web");
    client.create_container(wanted.clone()).await.unwrap();
    let found = client.get_container("web").await.unwrap();
    assert_eq!(found.labels, wanted.labels);
    assert_eq!(found.image, wanted.image);
    assert_eq!(found.runtime_name, wanted.runtime_name);
    assert_eq!(found.runtime_options, wanted.runtime_options);
    assert_eq!(found.spec, wanted.spec);
    assert_eq!(found.extensions, wanted.extensions);
    assert!(found.created_at > SystemTime::UNIX_EPOCH);
    client.delete_container("web").await.unwrap();
}

#[tokio::test]
async fn a_patch_changes_only_what_it_names() {
    let Some(rig) = Rig::shared("a_patch_changes_only_what_it_names") else { return };
    let client = rig.client("patches");
    client.create_container(record("web")).await.unwrap();
    let patch = ContainerPatch {
        labels: BTreeMap::from([("x/y.z".into(), None), ("new".into(), Some("3".into()))]),
        extensions: BTreeMap::from([("two.x".into(), Any::new("my.type", vec![0, 255]))]),
        spec: Some(Any::oci_spec(r#"{"ociVersion":"1"}"#)),
        image: Some("other".into()),
        snapshot_key: None,
    };
    client.update_container("web", patch.clone()).await.unwrap();
    let found = client.get_container("web").await.unwrap();
    assert_eq!(found.labels, Labels::from([("a".into(), "1".into()), ("new".into(), "3".into())]));
    assert_eq!(found.extensions.len(), 2);
    assert_eq!(found.extensions["two.x"], patch.extensions["two.x"]);
    assert_eq!((found.spec, found.image), (patch.spec, "other".to_owned()));
    assert_eq!(found.snapshot_key, "web");
    // An empty patch is a read.
    let same = client.update_container("web", ContainerPatch::default()).await.unwrap();
    assert_eq!(same.labels, found.labels);
}

#[tokio::test]
async fn lists_are_filtered_and_not_limited_in_size() {
    let Some(rig) = Rig::shared("lists_are_filtered_and_not_limited_in_size") else { return };
    let client = rig.client("lists");
    // Together more than the 16 MiB that one answer can hold.
    for id in ["big1", "big2", "big3"] {
        let big = BTreeMap::from([("big".into(), Any::new("t", vec![7; 6 << 20]))]);
        client.create_container(NewContainer { extensions: big, ..record(id) }).await.unwrap();
    }
    assert_eq!(client.list_containers(&[]).await.unwrap().len(), 3);
    let one = filter::and(&filter::equals("id", "big2"), &filter::label("x/y.z", "2"));
    let found = client.list_containers(&[&one]).await.unwrap();
    assert_eq!(found.iter().map(|container| container.id.as_str()).collect::<Vec<_>>(), ["big2"]);
    assert!(client.list_containers(&[&filter::has_label("none")]).await.unwrap().is_empty());
    assert_eq!(client.list_containers(&["=="]).await.unwrap_err().kind(), Kind::InvalidArgument);
}

#[tokio::test]
async fn failures_name_operation_and_thing() {
    let Some(rig) = Rig::shared("failures_name_operation_and_thing") else { return };
    let client = rig.client("failures");
    let error = client.get_container("nobody").await.unwrap_err();
    assert!(error.is_not_found());
    let wanted = "get container nobody: container \"nobody\" in namespace \"failures\"";
    assert_eq!(error.to_string(), wanted);
    client.create_container(record("web")).await.unwrap();
    assert!(client.create_container(record("web")).await.unwrap_err().is_already_exists());
    let error = client.create_container(record("a__b")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    let error = rig.client("").get_container("web").await.unwrap_err();
    assert!(error.is_failed_precondition(), "{error}");
    let error = rig.client("b\u{e4}\n").get_container("web").await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
}

#[tokio::test]
async fn images_are_made_moved_and_removed() {
    let Some(rig) = Rig::shared("images_are_made_moved_and_removed") else { return };
    let client = rig.client("images");
    let target = |digit: &str| Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: format!("sha256:{}", digit.repeat(64)),
        size: 7,
        annotations: BTreeMap::new(),
    };
    let image = NewImage {
        name: "r.example/a:1".into(),
        labels: Labels::from([("l".into(), "1".into())]),
        target: target("1"),
    };
    client.create_image(image.clone()).await.unwrap();
    assert!(client.create_image(image).await.unwrap_err().is_already_exists());
    let patch = ImagePatch { target: Some(target("2")), ..ImagePatch::default() };
    client.update_image("r.example/a:1", patch).await.unwrap();
    let found = client.get_image("r.example/a:1").await.unwrap();
    assert_eq!(found.target, target("2"));
    assert_eq!(found.labels["l"], "1");
    let by_digest = filter::equals("target.digest", &target("2").digest);
    assert_eq!(client.list_images(&[&by_digest]).await.unwrap(), [found]);
    client.delete_image("r.example/a:1", true).await.unwrap();
    assert!(client.get_image("r.example/a:1").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn leases_have_ends_and_resources() {
    let Some(rig) = Rig::shared("leases_have_ends_and_resources") else { return };
    let client = rig.client("leases");
    let end = SystemTime::now() + Duration::from_secs(3600);
    let labels = Labels::from([("who".into(), "me".into())]);
    client.create_lease("l1", labels.clone(), Some(end)).await.unwrap();
    assert!(client.create_lease("l1", labels, None).await.unwrap_err().is_already_exists());
    let found = client.list_leases(&[&filter::label("who", "me")]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].labels[EXPIRE_LABEL].ends_with('Z'));
    let snapshot = Resource { kind: "snapshots/native".into(), id: "s".into() };
    client.add_lease_resource("l1", snapshot.clone()).await.unwrap();
    assert_eq!(client.list_lease_resources("l1").await.unwrap(), std::slice::from_ref(&snapshot));
    client.remove_lease_resource("l1", snapshot).await.unwrap();
    client.delete_lease("l1", true).await.unwrap();
    assert!(client.delete_lease("l1", false).await.unwrap_err().is_not_found());
    // A handle under a lease that is gone fails as soon as it makes something.
    let gone = client.with_lease("l1").snapshotter("native").prepare("k", "", Labels::new()).await;
    assert!(gone.unwrap_err().is_not_found());
}

#[tokio::test]
async fn containerd_tells_who_it_is() {
    let Some(rig) = Rig::shared("containerd_tells_who_it_is") else { return };
    let client = rig.client("who");
    assert!(!client.version().await.unwrap().version.is_empty());
    assert_eq!(client.server().await.unwrap().uuid.len(), 36);
    let plugins = client.plugins(&[]).await.unwrap();
    let native = plugins.iter().find(|plugin| plugin.id == "native").unwrap();
    assert!(native.is_usable_snapshotter());
    assert!(
        plugins.iter().all(|plugin| plugin.init_error.is_none() || !plugin.is_usable_snapshotter())
    );

    let labels = Labels::from([("containerd.io/defaults/snapshotter".into(), "native".into())]);
    client.create_namespace("who", labels.clone()).await.unwrap();
    assert_eq!(client.get_namespace("who").await.unwrap().labels, labels);
    let patch = BTreeMap::from([
        ("containerd.io/defaults/snapshotter".into(), None),
        ("b".into(), Some("2".into())),
    ]);
    client.update_namespace_labels("who", patch).await.unwrap();
    let all = client.list_namespaces().await.unwrap();
    let who = all.iter().find(|namespace| namespace.name == "who").unwrap();
    assert_eq!(who.labels, Labels::from([("b".into(), "2".into())]));
}
