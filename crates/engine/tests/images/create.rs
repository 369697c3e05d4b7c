//! What create gets of an image.

use engine::Error;

use super::content::{Content, Layer, host};
use super::rig::{Rig, SNAPSHOTTER};

#[tokio::test]
async fn an_image_is_made_ready_to_run() {
    let Some(rig) = Rig::start("an_image_is_made_ready_to_run") else { return };
    let mut content = Content::default();
    let ours = content.image(&host(), "ours", &[Layer::new("a", 1000), Layer::new("b", 1000)]);
    let index = content.index(&[&ours]);
    rig.registry.publish(&content, &[("app:1", &index)]);
    rig.pull("app:1").await.unwrap();
    let name = rig.registry.name("app:1");

    let image = rig.engine.image_for_create(&name, None).await.unwrap();
    assert_eq!((&image.name, &image.id, &image.manifest.digest), (&name, &index, &ours.digest));
    assert_eq!((&image.chain_id, image.platform.to_string()), (&ours.chain_id, host()));
    assert_eq!(
        (image.config.cmd, image.config.env),
        (Some(vec!["/hello".to_owned()]), vec!["PATH=/bin".to_owned()])
    );
    assert_eq!(
        image.config.labels.into_iter().collect::<Vec<_>>(),
        [("test".to_owned(), "ours".to_owned())]
    );
    let by_id = rig.engine.image_for_create(&index[..15], None).await.unwrap();
    assert_eq!(by_id.name, name);

    let missing = rig.engine.image_for_create("busybox", None).await.unwrap_err();
    assert_eq!(missing.message(), "No such image: busybox:latest");
    let other = "linux/s390x".parse().unwrap();
    assert!(matches!(
        rig.engine.image_for_create(&name, Some(&other)).await,
        Err(Error::NoSuchPlatform { .. })
    ));
}

#[tokio::test]
async fn what_is_not_unpacked_is_unpacked() {
    let Some(rig) = Rig::start("what_is_not_unpacked_is_unpacked") else { return };
    let mut content = Content::default();
    let ours = content.image(&host(), "ours", &[Layer::new("a", 1000), Layer::new("b", 1000)]);
    rig.registry.publish(&content, &[("app:1", &ours.digest)]);
    rig.pull("app:1").await.unwrap();
    let snapshots = rig.containerd().snapshotter(SNAPSHOTTER);
    let bottom = snapshots.stat(&ours.chain_id).await.unwrap().parent;
    snapshots.remove(&ours.chain_id).await.unwrap();
    snapshots.remove(&bottom).await.unwrap();

    // Two at once do it once.
    let name = rig.registry.name("app:1");
    let (first, second) = tokio::join!(
        rig.engine.image_for_create(&name, None),
        rig.engine.image_for_create(&name, None)
    );
    assert_eq!(first.unwrap().chain_id, second.unwrap().chain_id);
    assert!(rig.has_snapshot(&ours.chain_id).await);
    rig.wait_until_clean().await;
    rig.collect_garbage().await;
    assert!(rig.has_snapshot(&ours.chain_id).await, "the config keeps it alive");
}
