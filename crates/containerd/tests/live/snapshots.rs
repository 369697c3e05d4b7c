//! Snapshots and diffs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use containerd::content::NewIngest;
use containerd::diff::CreateDiff;
use containerd::snapshots::SnapshotKind;
use containerd::{Descriptor, Kind, Labels, Mount, filter};

use super::rig::Rig;

fn rooted() -> Labels {
    Labels::from([("containerd.io/gc.root".into(), "1".into()), ("l".into(), "1".into())])
}

/// The native snapshotter works everywhere: its snapshots are plain directories.
fn directory(mounts: &[Mount]) -> &Path {
    assert_eq!(mounts.len(), 1);
    Path::new(&mounts[0].source)
}

#[tokio::test]
async fn snapshots_are_prepared_committed_and_removed() {
    let Some(rig) = Rig::shared("snapshots_are_prepared_committed_and_removed") else { return };
    let native = rig.client("snapshots").snapshotter("native");
    let mounts = native.prepare("work", "", rooted()).await.unwrap();
    fs::write(directory(&mounts).join("file"), "text").unwrap();
    assert_eq!(native.mounts("work").await.unwrap(), mounts);
    assert!(native.prepare("work", "", rooted()).await.unwrap_err().is_already_exists());
    native.commit("layer", "work", rooted()).await.unwrap();
    assert!(native.stat("work").await.unwrap_err().is_not_found());

    let view = native.view("look", "layer", rooted()).await.unwrap();
    assert!(view[0].options.contains(&"ro".to_owned()), "{view:?}");
    assert_eq!(fs::read_to_string(directory(&view).join("file")).unwrap(), "text");
    let found = native.stat("look").await.unwrap();
    assert_eq!((found.kind, found.parent.as_str()), (SnapshotKind::View, "layer"));
    assert!(native.usage("layer").await.unwrap().inodes > 0);

    let patch = BTreeMap::from([("l".into(), None), ("m".into(), Some("2".into()))]);
    native.update_labels("layer", patch).await.unwrap();
    let found = native.list(&[&filter::label("m", "2")]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].kind, found[0].name.as_str()), (SnapshotKind::Committed, "layer"));
    assert!(!found[0].labels.contains_key("l"));

    assert!(native.remove("layer").await.unwrap_err().is_failed_precondition());
    native.remove("look").await.unwrap();
    native.remove("layer").await.unwrap();
    assert!(native.list(&[]).await.unwrap().is_empty());
    let unknown = rig.client("snapshots").snapshotter("nosuch").list(&[]).await;
    assert_eq!(unknown.unwrap_err().kind(), Kind::InvalidArgument);
}

#[tokio::test]
async fn a_layer_goes_out_of_one_snapshot_and_into_another() {
    let Some(rig) = Rig::shared("a_layer_goes_out_of_one_snapshot_and_into_another") else {
        return;
    };
    let client = rig.client("diffs");
    client.create_lease("diffs", Labels::new(), None).await.unwrap();
    let client = client.with_lease("diffs");
    let native = client.snapshotter("native");
    let left = native.prepare("left", "", Labels::new()).await.unwrap();
    let right = native.prepare("right", "", Labels::new()).await.unwrap();
    fs::write(directory(&right).join("file"), "text").unwrap();
    let diff = CreateDiff {
        left,
        right,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        ..CreateDiff::default()
    };
    let layer = client.create_diff(diff).await.unwrap();
    let blob = client.blob(&layer.digest).await.unwrap();

    let target = native.prepare("target", "", Labels::new()).await.unwrap();
    let applied = client.apply_diff(layer.clone(), target.clone()).await.unwrap();
    assert_eq!(applied.digest, blob.labels["containerd.io/uncompressed"]);
    assert_eq!(fs::read_to_string(directory(&target).join("file")).unwrap(), "text");

    let absent = Descriptor { digest: format!("sha256:{}", "0".repeat(64)), ..layer.clone() };
    assert!(client.apply_diff(absent, target.clone()).await.unwrap_err().is_not_found());
    let no_layer = NewIngest { name: "n".into(), ..NewIngest::default() };
    client.write_blob(no_layer, b"no layer", Labels::new()).await.unwrap();
    let odd = Descriptor { media_type: "text/plain".into(), ..layer };
    let error = client.apply_diff(odd, target).await.unwrap_err();
    assert!(error.message().contains("text/plain"), "{error}");
}
