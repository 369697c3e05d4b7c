//! Lists, inspects and look-ups.

use engine::Error;
use engine::images::{ImageFilter, PullPlatforms, PullRequest};

use super::content::{Content, Layer, host};
use super::rig::Rig;

async fn ids(rig: &Rig, filter: ImageFilter) -> Vec<String> {
    let mut ids: Vec<_> =
        rig.engine.list_images(&filter).await.unwrap().into_iter().map(|image| image.id).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn images_are_listed_by_digest_with_all_their_names() {
    let Some(rig) = Rig::start("images_are_listed_by_digest_with_all_their_names") else { return };
    let mut content = Content::default();
    let (a, b) = (Layer::new("a", 50_000), Layer::new("b", 10));
    let one = content.image(&host(), "one", std::slice::from_ref(&a));
    let two = content.image(&host(), "two", &[a, b]);
    let index = content.index(&[&one]);
    rig.registry
        .publish(&content, &[("app:1", &index), ("other:x", &index), ("two:1", &two.digest)]);
    for name in ["app:1", "other:x", "two:1"] {
        rig.pull(name).await.unwrap();
    }
    let listed = rig.list().await;
    let image = listed.iter().find(|image| image.id == index).unwrap();
    assert_eq!(image.repo_tags, [rig.registry.name("app:1"), rig.registry.name("other:x")]);
    assert_eq!(
        image.repo_digests,
        [rig.registry.name(&format!("app@{index}")), rig.registry.name(&format!("other@{index}"))]
    );
    assert_eq!(image.labels.get("test").map(String::as_str), Some("one"));
    assert_eq!(image.created.map(|created| created.as_second()), Some(1_704_067_200));
    assert_eq!(image.containers, 0);
    assert!(image.size > 100_000, "compressed and unpacked: {}", image.size);
    assert_eq!(listed.len(), 2);

    let mut all = vec![index.clone(), two.digest.clone()];
    all.sort();
    let only = |id: &String| vec![id.clone()];
    let reference =
        |pattern: String| ImageFilter { reference: vec![pattern], ..ImageFilter::default() };
    assert_eq!(ids(&rig, reference(rig.registry.name("two"))).await, only(&two.digest));
    assert_eq!(ids(&rig, reference(rig.registry.name("*:1"))).await, all);
    assert_eq!(ids(&rig, reference("app".to_owned())).await, Vec::<String>::new());
    let narrowed = rig.engine.list_images(&reference(rig.registry.name("other"))).await.unwrap();
    assert_eq!(narrowed[0].repo_tags, [rig.registry.name("other:x")], "only the names that passed");
    let label =
        |label: &str| ImageFilter { label: vec![label.to_owned()], ..ImageFilter::default() };
    assert_eq!(ids(&rig, label("test=two")).await, only(&two.digest));
    assert_eq!(ids(&rig, label("test")).await, all);
    let dangling = ImageFilter { dangling: Some(true), ..ImageFilter::default() };
    assert_eq!(ids(&rig, dangling).await, Vec::<String>::new());
    let before = ImageFilter { before: vec!["nothing".to_owned()], ..ImageFilter::default() };
    assert!(matches!(rig.engine.list_images(&before).await, Err(Error::NoSuchImage(_))));

    rig.foreign_container(&rig.registry.name("two:1"), &[]).await;
    let listed = rig.list().await;
    assert_eq!(
        listed.iter().find(|image| image.id == two.digest).map(|image| image.containers),
        Some(1)
    );
}

#[tokio::test]
async fn an_image_is_found_by_name_digest_and_id() {
    let Some(rig) = Rig::start("an_image_is_found_by_name_digest_and_id") else { return };
    let mut content = Content::default();
    let one = content.image(&host(), "one", &[Layer::new("a", 10)]);
    rig.registry.publish(&content, &[("app:1", &one.digest)]);
    rig.pull("app:1").await.unwrap();
    let hex = one.digest.trim_start_matches("sha256:");
    let typed = [
        rig.registry.name("app:1"),
        rig.registry.name(&format!("app@{}", one.digest)),
        one.digest.clone(),
        hex.to_owned(),
        hex[..12].to_owned(),
        hex[..4].to_owned(),
    ];
    for typed in typed {
        assert_eq!(
            rig.engine.inspect_image(&typed, None, false).await.unwrap().summary.id,
            one.digest,
            "{typed}"
        );
    }
    for (typed, text) in [
        ("nginx", "No such image: nginx:latest".to_owned()),
        (&rig.registry.name("app"), format!("No such image: {}", rig.registry.name("app:latest"))),
        (&format!("nginx@{}", one.digest), format!("No such image: nginx@{}", one.digest)),
        ("0000", "No such image: 0000:latest".to_owned()),
    ] {
        let error = rig.engine.inspect_image(typed, None, false).await.unwrap_err();
        assert_eq!(error.message(), text);
    }
    assert!(matches!(
        rig.engine.inspect_image("No Such", None, false).await,
        Err(Error::InvalidReference(_))
    ));
}

#[tokio::test]
async fn inspect_shows_one_platform() {
    let Some(rig) = Rig::start("inspect_shows_one_platform") else { return };
    let mut content = Content::default();
    let layer = Layer::new("a", 10_000);
    let ours = content.image(&host(), "ours", std::slice::from_ref(&layer));
    let foreign = content.image("linux/s390x", "foreign", &[Layer::new("z", 10)]);
    let index = content.index(&[&ours, &foreign]);
    rig.registry.publish(&content, &[("app:1", &index)]);
    rig.pull("app:1").await.unwrap();
    let name = rig.registry.name("app:1");

    let shown = rig.engine.inspect_image(&name, None, false).await.unwrap();
    assert_eq!((&shown.summary.id, &shown.diff_ids[..]), (&index, &[layer.diff_id][..]));
    assert_eq!(shown.config_json, content.blobs[&ours.config]);
    assert!(shown.last_tag_time.is_some() && shown.summary.size > 20_000);
    let host = host().parse().unwrap();
    let shown = rig.engine.inspect_image(&name, Some(&host), false).await.unwrap();
    assert_eq!(shown.summary.id, ours.digest);
    let s390x = "linux/s390x".parse().unwrap();
    let error = rig.engine.inspect_image(&name, Some(&s390x), false).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "image with reference {name} was found but does not provide the specified platform (linux/s390x)"
        )
    );

    let size = rig.list().await[0].size;
    rig.pull_request(PullRequest {
        platforms: PullPlatforms::These(vec![s390x.clone()]),
        ..rig.request("app:1")
    })
    .await
    .unwrap();
    assert_eq!(
        rig.engine.inspect_image(&name, Some(&s390x), false).await.unwrap().summary.labels["test"],
        "foreign"
    );
    assert!(rig.list().await[0].size > size, "both platforms count");
    assert_eq!(
        rig.engine.inspect_image(&name, None, false).await.unwrap().summary.labels["test"],
        "ours"
    );
}
