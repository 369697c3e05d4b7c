//! Snapshotters other than overlayfs: nothing may assume that layers are overlays.

use e2e::api::{BUSYBOX, pull_messages, script_body};
use e2e::{Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests![all_works_on_native.ours_only().slow()];

/// containerd's simplest one: each layer is a copy of the one below.
fn all_works_on_native(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |plan| plan.arguments.extend(["--snapshotter".to_owned(), "native".to_owned()]),
        all_works,
    )
}

fn all_works(host: &Host) -> Result<()> {
    let api = host.api();
    ensure!(api.get_json("/info")?["Driver"] == "native");
    api.have(BUSYBOX)?;
    let container =
        api.run_script("echo made > /made; rm /bin/vi; mkdir /d; echo kept > /d/f; cat /made")?;
    container.wait()?;
    ensure!(container.logs("")?.text() == "made\n");
    let changes = api.get_json(&container.path("/changes"))?;
    ensure!(
        changes.as_array().is_some_and(|list| list.contains(&json!({"Path": "/made", "Kind": 1}))),
        "{changes}"
    );
    let copied = api.get(&container.path("/archive?path=/d/f"))?.expect(200)?;
    ensure!(copied.body.windows(4).any(|bytes| bytes == b"kept"), "not copied");
    let image = unique("committed");
    let path = format!("/commit?container={}&repo={image}", container.id);
    api.post_json(&path, &json!({}))?.expect(201)?;
    let again = api.create(json!({"Image": image, "Cmd": ["cat", "/made"]}))?;
    again.start()?;
    again.wait()?;
    ensure!(again.logs("")?.text() == "made\n", "{:?}", again.logs("")?);
    again.remove()?;
    let name = format!("{}:1", unique("native"));
    let (repo, tag) = name.split_once(':').context("no tag")?;
    let path = format!("/images/{BUSYBOX}/tag?repo={repo}&tag={tag}");
    api.post(&path)?.expect(201)?;
    let saved = api.get(&format!("/images/get?names={name}"))?.expect(200)?.body;
    api.delete(&format!("/images/{name}?force=1"))?.expect(200)?;
    let loaded = api.send(&api.request("POST", "/images/load").bytes(saved))?.expect(200)?;
    let messages = pull_messages(&loaded)?;
    ensure!(messages[0]["stream"] == format!("Loaded image: {name}\n"), "{messages:?}");
    let mut body = script_body("echo runs");
    body["Image"] = json!(name);
    let run = api.create(body)?;
    run.start()?;
    run.wait()?;
    ensure!(run.logs("")?.text() == "runs\n", "{:?}", run.logs("")?);
    let usage = api.at("1.51").get_json("/system/df")?;
    ensure!(usage["LayersSize"].as_u64().is_some_and(|size| size > 1_000_000), "{usage}");
    run.remove()?;
    container.remove()?;
    let filters = e2e::api::filters(&[("dangling", "false")]);
    let pruned = api.post(&format!("/images/prune?{filters}"))?.expect(200)?.json()?;
    let untagged = json!({"Untagged": name});
    ensure!(
        pruned["ImagesDeleted"].as_array().is_some_and(|lines| lines.contains(&untagged)),
        "{pruned}"
    );
    ensure!(api.get_json("/images/json")? == json!([]));
    // The copies went with it.
    let left = host.ctr(&["snapshots", "--snapshotter", "native", "ls"])?;
    let overlays = host.ctr(&["snapshots", "ls"])?;
    ensure!(overlays.lines().count() <= 1, "{overlays}");
    ensure!(
        pruned["SpaceReclaimed"].as_u64().is_some_and(|bytes| bytes > 1_000_000),
        "{pruned} {left}"
    );
    Ok(())
}
