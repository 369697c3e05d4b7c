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
    let container = &rig.foreign_container(&name, &[]).await[..12];
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

/// Makes the records of an image CRI's own, and adds its record by id, which is no name for people.
async fn hand_to_kubernetes(rig: &Rig, image: &Made, name: &str, extra: &[(&str, &str)]) {
    let labels = [("io.cri-containerd.image", "managed")].iter().chain(extra);
    let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let labels: containerd::Labels = labels.collect();
    let patch = labels.clone().into_iter().map(|(key, value)| (key, Some(value))).collect();
    let client = rig.containerd();
    let target =
        client.update_image(name, ImagePatch { labels: patch, target: None }).await.unwrap().target;
    client.create_image(NewImage { name: image.config.clone(), labels, target }).await.unwrap();
}

#[tokio::test]
async fn what_kubernetes_pins_stays() {
    let Some(rig) = Rig::start("what_kubernetes_pins_stays") else { return };
    let image = pulled(&rig, &["pause:1"]).await;
    let name = rig.registry.name("pause:1");
    hand_to_kubernetes(&rig, &image, &name, &[("io.cri-containerd.pinned", "pinned")]).await;
    assert_eq!(rig.list().await[0].repo_tags, [name.as_str()]);
    for typed in [name.clone(), short(&image.digest)] {
        let error = rig.engine.remove_image(&typed, true).await.unwrap_err();
        let reason = "image is pinned by Kubernetes";
        assert_eq!(
            error.message(),
            format!("conflict: unable to delete {typed} (cannot be forced) - {reason}")
        );
    }
    // A name of ours for the same image is ours.
    let target = rig.containerd().get_image(&name).await.unwrap().target;
    let mine = NewImage { name: rig.registry.name("mine:1"), target, ..NewImage::default() };
    rig.containerd().create_image(mine).await.unwrap();
    let removed = rig.engine.remove_image(&rig.registry.name("mine:1"), false).await.unwrap();
    assert_eq!(removed, [untagged(&rig, "mine:1")]);
}

#[tokio::test]
async fn what_a_pod_uses_stays() {
    let Some(rig) = Rig::start("what_a_pod_uses_stays") else { return };
    let image = pulled(&rig, &["app:1"]).await;
    let name = rig.registry.name("app:1");
    hand_to_kubernetes(&rig, &image, &name, &[]).await;
    let labels = [
        ("io.cri-containerd.kind", "container"),
        ("io.kubernetes.pod.namespace", "prod"),
        ("io.kubernetes.pod.name", "web-1"),
        ("io.kubernetes.container.name", "web"),
    ];
    rig.foreign_container(&image.config, &labels).await;
    let error = rig.engine.remove_image(&name, true).await.unwrap_err();
    let reason = "image is being used by the Kubernetes pod prod/web-1";
    assert_eq!(
        error.message(),
        format!("conflict: unable to delete {name} (cannot be forced) - {reason}")
    );
    assert_eq!(rig.list().await[0].containers, 1);
}

#[tokio::test]
async fn what_kubernetes_left_goes_whole() {
    let Some(rig) = Rig::start("what_kubernetes_left_goes_whole") else { return };
    let image = pulled(&rig, &["app:1"]).await;
    let name = rig.registry.name("app:1");
    hand_to_kubernetes(&rig, &image, &name, &[]).await;
    let removed = rig.engine.remove_image(&name, false).await.unwrap();
    assert_eq!(removed, [Removed::Untagged(name), Removed::Deleted(image.digest)]);
    assert_eq!(rig.containerd().list_images(&[]).await.unwrap(), []);
}
