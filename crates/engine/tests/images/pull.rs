//! Pulls: what is told, what is there afterwards, and what is not.

use engine::Error;
use engine::events::EventFilter;
use engine::images::{PullEvent, PullPlatforms, PullRequest, PullStatus};

use super::content::{Content, Layer, MANIFEST, host};
use super::registry::Fault;
use super::rig::{Rig, SNAPSHOTTER, layer_statuses, short};

/// Larger than what sockets buffer, so that a stall is seen.
const LARGE: usize = 3_000_000;

fn done(events: &[PullEvent]) -> (String, bool) {
    match events.last() {
        Some(PullEvent::Done { digest, newer, .. }) => (digest.clone(), *newer),
        other => panic!("the pull did not end well: {other:?}"),
    }
}

#[tokio::test]
async fn the_hosts_platform_of_an_index_is_pulled_and_unpacked() {
    let Some(rig) = Rig::start("the_hosts_platform_of_an_index_is_pulled_and_unpacked") else {
        return;
    };
    let mut content = Content::default();
    let layers = [Layer::new("a", 1000), Layer::new("b", LARGE)];
    let ours = content.image(&host(), "ours", &layers);
    let foreign = content.image("linux/s390x", "foreign", &[Layer::new("z", 10)]);
    let index = content.index(&[&foreign, &ours]);
    rig.registry.publish(&content, &[("team/app:1", &index)]);
    let mut news = rig.engine.events(EventFilter::default(), None);

    let events = rig.pull("team/app:1").await.unwrap();
    assert_eq!(
        events[0],
        PullEvent::PullingFrom { repository: "team/app".into(), reference: "1".into() }
    );
    assert_eq!(done(&events), (index.clone(), true));
    let statuses = layer_statuses(&events);
    for digest in &ours.layers {
        let of_layer: Vec<_> = statuses
            .iter()
            .filter(|(id, _)| *id == short(digest))
            .map(|(_, status)| *status)
            .collect();
        assert_eq!(
            of_layer,
            [PullStatus::PullingFsLayer, PullStatus::DownloadComplete, PullStatus::PullComplete]
        );
    }

    let client = rig.containerd();
    let image = client.get_image(&rig.registry.name("team/app:1")).await.unwrap();
    assert_eq!(image.target.digest, index);
    rig.wait_until_clean().await;
    rig.collect_garbage().await;
    for digest in [&index, &ours.digest, &ours.config, &ours.layers[0], &ours.layers[1]] {
        let blob = client.blob(digest).await.unwrap();
        // Without the port, as containerd writes it.
        let host = rig.registry.address.split(':').next().unwrap_or_default();
        let source = format!("containerd.io/distribution.source.{host}");
        assert_eq!(blob.labels.get(&source).map(String::as_str), Some("team/app"), "{digest}");
    }
    let label = |digest: String, key: &'static str| {
        let client = client.clone();
        async move { client.blob(&digest).await.unwrap().labels.get(key).cloned().unwrap_or_default() }
    };
    assert_eq!(label(index.clone(), "containerd.io/gc.ref.content.m.2").await, ours.digest);
    assert_eq!(
        label(ours.digest.clone(), "containerd.io/gc.ref.content.config").await,
        ours.config
    );
    assert_eq!(
        label(ours.digest.clone(), "containerd.io/gc.ref.content.l.1").await,
        ours.layers[1]
    );
    assert_eq!(
        label(ours.config.clone(), "containerd.io/gc.ref.snapshot.native").await,
        ours.chain_id
    );
    assert_eq!(
        label(ours.layers[1].clone(), "containerd.io/uncompressed").await,
        layers[1].diff_id
    );
    assert!(rig.has_snapshot(&ours.chain_id).await);
    assert!(!rig.has_blob(&foreign.digest).await, "other platforms stay away");
    assert_eq!(
        client.snapshotter(SNAPSHOTTER).list(&[]).await.unwrap().len(),
        2,
        "nothing half made stays"
    );

    let event = news.next().await.unwrap();
    assert_eq!(
        (event.action.as_str(), event.actor.as_str()),
        ("pull", rig.registry.name("team/app:1").as_str())
    );
    assert_eq!(event.attributes.get("name"), Some(&rig.registry.name("team/app")));
    assert_eq!(event.attributes.get("test").map(String::as_str), Some("ours"));
}

#[tokio::test]
async fn what_is_there_is_not_pulled_again() {
    let Some(rig) = Rig::start("what_is_there_is_not_pulled_again") else { return };
    let mut content = Content::default();
    let base = Layer::new("base", 1000);
    let first = content.image(&host(), "first", std::slice::from_ref(&base));
    let second = content.image(&host(), "second", &[base, Layer::new("top", 1000)]);
    rig.registry.publish(&content, &[("first:1", &first.digest), ("second:1", &second.digest)]);

    rig.pull("first:1").await.unwrap();
    let again = rig.pull("first:1").await.unwrap();
    assert_eq!(done(&again), (first.digest.clone(), false));
    assert_eq!(layer_statuses(&again), []);
    let statuses = layer_statuses(&rig.pull("second:1").await.unwrap());
    assert_eq!(
        statuses[..2],
        [
            (short(&second.layers[0]), PullStatus::AlreadyExists),
            (short(&second.layers[1]), PullStatus::PullingFsLayer)
        ]
    );
    assert_eq!(rig.registry.downloads(&first.layers[0]), 1);
    let by_digest = format!("first@{}", first.digest);
    assert_eq!(done(&rig.pull(&by_digest).await.unwrap()), (first.digest, true));
    rig.containerd().get_image(&rig.registry.name(&by_digest)).await.unwrap();
}

#[tokio::test]
async fn one_blob_is_fetched_once_by_many() {
    let Some(rig) = Rig::start("one_blob_is_fetched_once_by_many") else { return };
    let mut content = Content::default();
    let image = content.image(&host(), "x", &[Layer::new("a", LARGE), Layer::new("b", 1000)]);
    rig.registry.publish(&content, &[("app:1", &image.digest), ("app:2", &image.digest)]);
    let (a, b, c) = tokio::join!(rig.pull("app:1"), rig.pull("app:2"), rig.pull("app:1"));
    for events in [a, b, c] {
        assert_eq!(done(&events.unwrap()).0, image.digest);
    }
    for layer in &image.layers {
        assert_eq!(rig.registry.downloads(layer), 1);
    }
    rig.wait_until_clean().await;
}

#[tokio::test]
async fn the_same_layer_twice_is_one_blob() {
    let Some(rig) = Rig::start("the_same_layer_twice_is_one_blob") else { return };
    let mut content = Content::default();
    let layer = Layer::new("a", 1000);
    let image = content.image(&host(), "x", &[layer.clone(), Layer::new("b", 10), layer]);
    rig.registry.publish(&content, &[("app:1", &image.digest)]);
    rig.pull("app:1").await.unwrap();
    assert_eq!(rig.registry.downloads(&image.layers[0]), 1);
    assert!(rig.has_snapshot(&image.chain_id).await);
}

#[tokio::test]
async fn a_lie_is_refused_and_leaves_nothing() {
    let Some(rig) = Rig::start("a_lie_is_refused_and_leaves_nothing") else { return };
    let mut content = Content::default();
    let image = content.image(&host(), "x", &[Layer::new("a", 1000), Layer::new("b", 1000)]);
    rig.registry.publish(&content, &[("app:1", &image.digest)]);

    rig.registry.fault(&image.layers[1], Some(Fault::Lies(u32::MAX)));
    let error = rig.pull("app:1").await.unwrap_err();
    let text = format!(
        "failed commit on ref \"layer-{}\": unexpected commit digest sha256:",
        image.layers[1]
    );
    assert!(error.message().starts_with(&text), "{}", error.message());
    assert!(error.message().ends_with("failed precondition"), "{}", error.message());
    assert!(rig.registry.downloads(&image.layers[1]) > 1, "it was tried again");
    rig.wait_until_clean().await;
    assert_eq!(rig.list().await, []);
    rig.collect_garbage().await;
    assert!(!rig.has_blob(&image.layers[0]).await && !rig.has_blob(&image.config).await);
    assert_eq!(rig.containerd().snapshotter(SNAPSHOTTER).list(&[]).await.unwrap(), []);

    rig.registry.fault(&image.layers[1], Some(Fault::Lies(1)));
    rig.pull("app:1").await.unwrap();
    assert!(rig.has_snapshot(&image.chain_id).await);
}

#[tokio::test]
async fn a_lying_config_or_manifest_is_refused() {
    let Some(rig) = Rig::start("a_lying_config_or_manifest_is_refused") else { return };
    let mut content = Content::default();
    let image = content.image(&host(), "x", &[Layer::new("a", 1000)]);
    let other = content.image(&host(), "other", &[Layer::new("a", 1000)]);
    let (_, bytes) = content.manifests[&other.digest].clone();
    content.manifests.insert(image.digest.clone(), (MANIFEST, bytes));
    rig.registry.publish(&content, &[("config:1", &other.digest)]);
    rig.registry.fault(&other.config, Some(Fault::Lies(u32::MAX)));
    assert!(matches!(rig.pull("config:1").await, Err(Error::BadContent(_))));
    let by_digest = format!("manifest@{}", image.digest);
    assert!(matches!(rig.pull(&by_digest).await, Err(Error::BadContent(_))));
    rig.wait_until_clean().await;
    assert_eq!(rig.list().await, []);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_pull_along() {
    let Some(rig) = Rig::start("a_client_that_leaves_takes_its_pull_along") else { return };
    let mut content = Content::default();
    let image = content.image(&host(), "x", &[Layer::new("a", 1000), Layer::new("b", LARGE)]);
    rig.registry.publish(&content, &[("app:1", &image.digest)]);
    rig.registry.fault(&image.layers[1], Some(Fault::Stalls));

    let mut pull = rig.engine.pull_image(rig.request("app:1"));
    loop {
        let event = pull.next().await.unwrap().unwrap();
        if let PullEvent::Layer { status: PullStatus::Downloading { total, .. }, .. } = event
            && total > 1_000_000
        {
            break;
        }
    }
    assert_eq!(rig.containerd().list_leases(&[]).await.unwrap().len(), 1);
    let upload = format!("layer-{}", image.layers[1]);
    rig.containerd().ingest(&upload).await.unwrap();
    drop(pull);
    rig.wait_until_clean().await;
    assert_eq!(rig.list().await, []);
    rig.collect_garbage().await;
    assert!(!rig.has_blob(&image.layers[0]).await);
    assert_eq!(rig.containerd().snapshotter(SNAPSHOTTER).list(&[]).await.unwrap(), []);

    rig.registry.fault(&image.layers[1], None);
    rig.pull("app:1").await.unwrap();
}

#[tokio::test]
async fn a_waiting_pull_goes_on_when_the_other_is_cancelled() {
    let Some(rig) = Rig::start("a_waiting_pull_goes_on_when_the_other_is_cancelled") else {
        return;
    };
    let mut content = Content::default();
    let image = content.image(&host(), "x", &[Layer::new("b", LARGE)]);
    rig.registry.publish(&content, &[("app:1", &image.digest)]);
    rig.registry.fault(&image.layers[0], Some(Fault::Stalls));
    let mut stalled = rig.engine.pull_image(rig.request("app:1"));
    while rig.registry.downloads(&image.layers[0]) == 0 {
        stalled.next().await.unwrap().unwrap();
    }
    rig.registry.fault(&image.layers[0], None);
    let (waiting, ()) = tokio::join!(rig.pull("app:1"), async { drop(stalled) });
    waiting.unwrap();
    rig.wait_until_clean().await;
    rig.collect_garbage().await;
    assert!(rig.has_blob(&image.layers[0]).await);
}

#[tokio::test]
async fn layers_that_do_not_fit_the_config_are_refused() {
    let Some(rig) = Rig::start("layers_that_do_not_fit_the_config_are_refused") else { return };
    let mut content = Content::default();
    let layer = Layer::new("a", 1000);
    let wrong = content.image_claiming(
        &host(),
        "wrong",
        std::slice::from_ref(&layer),
        &[Layer::new("b", 1000).diff_id],
    );
    let few = content.image_claiming(&host(), "few", &[layer], &[]);
    rig.registry.publish(&content, &[("app:wrong", &wrong.digest), ("app:few", &few.digest)]);
    let error = rig.pull("app:wrong").await.unwrap_err();
    assert!(error.message().starts_with("wrong diff id"), "{}", error.message());
    assert!(matches!(rig.pull("app:few").await, Err(Error::BadContent(_))));
    rig.wait_until_clean().await;
    assert_eq!(rig.containerd().snapshotter(SNAPSHOTTER).list(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn what_cannot_be_pulled_is_told_first() {
    let Some(rig) = Rig::start("what_cannot_be_pulled_is_told_first") else { return };
    let mut content = Content::default();
    let foreign = content.image("linux/s390x", "foreign", &[Layer::new("z", 10)]);
    let index = content.index(&[&foreign]);
    let schema1 = content
        .manifest("application/vnd.docker.distribution.manifest.v1+prettyjws", "{}".to_owned())
        .0;
    rig.registry.publish(
        &content,
        &[("app:1", &index), ("app:bare", &foreign.digest), ("app:old", &schema1)],
    );

    let first = |request: PullRequest| {
        let mut pull = rig.engine.pull_image(request);
        async move { pull.next().await.unwrap().unwrap_err() }
    };
    let full = rig.registry.name("app:2");
    assert_eq!(
        first(rig.request("app:2")).await.message(),
        format!("failed to resolve reference \"{full}\": {full}: not found")
    );
    let error = first(rig.request("app:1")).await;
    let text = format!(
        "no matching manifest for {} in the manifest list entries: no match for platform in manifest: not found",
        host()
    );
    assert_eq!(error.message(), text);
    assert!(
        first(rig.request("app:old")).await.message().contains("schema 1 support has been removed")
    );
    let scratch = PullRequest { image: "scratch".parse().unwrap(), ..rig.request("x") };
    assert!(matches!(first(scratch).await, Error::ReservedImageName));
    // Who did not ask for a platform gets what there is; who did does not.
    rig.pull("app:bare").await.unwrap();
    let asked = PullRequest {
        platforms: PullPlatforms::These(vec!["linux/riscv64".parse().unwrap()]),
        ..rig.request("app:bare")
    };
    assert!(matches!(rig.pull_request(asked).await, Err(Error::NoMatchingManifest { .. })));
    let asked = PullRequest {
        platforms: PullPlatforms::These(vec!["linux/s390x".parse().unwrap()]),
        ..rig.request("app:1")
    };
    assert_eq!(done(&rig.pull_request(asked).await.unwrap()).0, index);
    rig.wait_until_clean().await;
}

#[tokio::test]
async fn a_moved_tag_leaves_the_old_image_without_name() {
    let Some(rig) = Rig::start("a_moved_tag_leaves_the_old_image_without_name") else { return };
    let mut content = Content::default();
    let old = content.image(&host(), "old", &[Layer::new("a", 1000)]);
    let new = content.image(&host(), "new", &[Layer::new("b", 1000)]);
    rig.registry.publish(&content, &[("app:1", &old.digest)]);
    rig.pull("app:1").await.unwrap();
    rig.registry.publish(&content, &[("app:1", &new.digest)]);
    assert_eq!(done(&rig.pull("app:1").await.unwrap()), (new.digest.clone(), true));

    let listed = rig.list().await;
    let tags =
        |id: &str| listed.iter().find(|image| image.id == id).map(|image| image.repo_tags.clone());
    assert_eq!(tags(&new.digest), Some(vec![rig.registry.name("app:1")]));
    assert_eq!(tags(&old.digest), Some(Vec::new()));
    rig.registry.publish(&content, &[("app:1", &old.digest)]);
    rig.pull("app:1").await.unwrap();
    let listed = rig.list().await;
    let tags =
        |id: &str| listed.iter().find(|image| image.id == id).map(|image| image.repo_tags.clone());
    assert_eq!(tags(&old.digest), Some(vec![rig.registry.name("app:1")]), "it has its name again");
    assert_eq!(listed.len(), 2);
}
