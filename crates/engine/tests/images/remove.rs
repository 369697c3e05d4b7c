//! Removals: names, images, and what stands against them.

use containerd::images::{ImagePatch, NewImage};
use engine::Error;
use engine::events::EventFilter;
use engine::images::Removed;

use super::content::{Content, Layer, Made, host};
use super::rig::{Rig, short};

/// An image under each of the names.
async fn pulled(rig: &Rig, names: &[&str]) -> Made {
    let mut content = Content::default();
    let image = content.image(&host(), names[0], &[Layer::new("a", 1000)]);
    let published: Vec<_> = names.iter().map(|name| (*name, image.digest.as_str())).collect();
    rig.registry.publish(&content, &published);
    for name in names {
        rig.pull(name).await.unwrap();
    }
    image
}

fn untagged(rig: &Rig, name: &str) -> Removed {
    Removed::Untagged(rig.registry.name(name))
}

#[tokio::test]
async fn the_last_name_takes_the_image_along() {
    let Some(rig) = Rig::start("the_last_name_takes_the_image_along") else { return };
    let image = pulled(&rig, &["app:1", "app:2"]).await;
    let mut news = rig.engine.events(EventFilter::default(), None);

    assert_eq!(
        rig.engine.remove_image(&rig.registry.name("app:2"), false).await.unwrap(),
        [untagged(&rig, "app:2")]
    );
    assert!(rig.has_blob(&image.layers[0]).await);
    let removed = rig.engine.remove_image(&rig.registry.name("app:1"), false).await.unwrap();
    assert_eq!(removed, [untagged(&rig, "app:1"), Removed::Deleted(image.digest.clone())]);
    assert!(
        !rig.has_blob(&image.layers[0]).await && !rig.has_snapshot(&image.chain_id).await,
        "gone when it is told"
    );
    let error = rig.engine.remove_image(&rig.registry.name("app:1"), false).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchImage(_)));
    for action in ["untag", "untag", "delete"] {
        let event = news.next().await.unwrap();
        assert_eq!((event.action.as_str(), &event.actor), (action, &image.digest));
    }
}

#[tokio::test]
async fn an_id_means_all_names() {
    let Some(rig) = Rig::start("an_id_means_all_names") else { return };
    let image = pulled(&rig, &["app:1", "other:1"]).await;
    let id = short(&image.digest);
    let error = rig.engine.remove_image(&id, false).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        )
    );
    let removed = rig.engine.remove_image(&id, true).await.unwrap();
    assert_eq!(
        removed,
        [untagged(&rig, "app:1"), untagged(&rig, "other:1"), Removed::Deleted(image.digest)]
    );
    assert_eq!(rig.list().await, []);
}

#[tokio::test]
async fn an_image_of_a_container_stays() {
    let Some(rig) = Rig::start("an_image_of_a_container_stays") else { return };
    let image = pulled(&rig, &["app:1"]).await;
    let name = rig.registry.name("app:1");
    let container = &rig.foreign_container(&name).await[..12];
    let id = short(&image.digest);

    let error = rig.engine.remove_image(&name, false).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "conflict: unable to delete {name} (must be forced) - container {container} is using its referenced image {id}"
        )
    );
    let error = rig.engine.remove_image(&id, false).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {container}"
        )
    );
    assert_eq!(rig.engine.remove_image(&name, true).await.unwrap(), [untagged(&rig, "app:1")]);
    rig.collect_garbage().await;
    assert!(rig.has_blob(&image.layers[0]).await, "the container needs it");
    assert_eq!(rig.list().await[0].repo_tags, Vec::<String>::new());
}

#[tokio::test]
async fn what_kubernetes_pins_stays() {
    let Some(rig) = Rig::start("what_kubernetes_pins_stays") else { return };
    let image = pulled(&rig, &["pause:1"]).await;
    let name = rig.registry.name("pause:1");
    let label = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    let labels =
        [label("io.cri-containerd.image", "managed"), label("io.cri-containerd.pinned", "pinned")];
    rig.containerd()
        .update_image(&name, ImagePatch { labels: labels.into(), target: None })
        .await
        .unwrap();
    // CRI's own record by id, which is no name for people.
    let target = rig.containerd().get_image(&name).await.unwrap().target;
    let by_id = NewImage { name: image.config.clone(), target, ..NewImage::default() };
    rig.containerd().create_image(by_id).await.unwrap();
    assert_eq!(rig.list().await[0].repo_tags, [name.clone()]);

    for typed in [name.clone(), short(&image.digest)] {
        let error = rig.engine.remove_image(&typed, true).await.unwrap_err();
        assert_eq!(
            error.message(),
            format!(
                "conflict: unable to delete {typed} (cannot be forced) - image is pinned by Kubernetes"
            )
        );
    }
    let mine = NewImage {
        name: rig.registry.name("mine:1"),
        target: rig.containerd().get_image(&name).await.unwrap().target,
        ..NewImage::default()
    };
    rig.containerd().create_image(mine).await.unwrap();
    assert_eq!(
        rig.engine.remove_image(&rig.registry.name("mine:1"), false).await.unwrap(),
        [untagged(&rig, "mine:1")]
    );
}
