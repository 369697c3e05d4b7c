//! `/events` of what others do, and filters that look across types.

use std::time::Duration;

use e2e::api::{encode, filters};
use e2e::http::Stream;
use e2e::runner::OrSkip as _;
use e2e::{Api, Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_filter_looks_at_names_of_its_type,
    what_others_do_to_images_is_told.ours_only(),
    our_own_changes_are_told_once.ours_only(),
    what_nerdctl_does_to_networks_and_volumes_is_told.ours_only(),
];

fn follow(api: &Api, filter: &[(&str, &str)]) -> Result<Stream> {
    let stream = api.stream(&api.request("GET", &format!("/events?{}", filters(filter))))?;
    ensure!(stream.head.status == 200, "{:?}", stream.head);
    Ok(stream)
}

fn next(stream: &mut Stream) -> Result<Value> {
    stream.next_json()?.context("the stream has ended")
}

fn a_filter_looks_at_names_of_its_type(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("told");
    api.post_json("/volumes/create", &json!({ "Name": name, "Labels": { "a": "b" } }))?
        .expect(201)?;
    api.delete(&format!("/volumes/{name}"))?.expect(204)?;
    let told = |filter: &[(&str, &str)]| -> Result<usize> {
        // Only kept events: the end of the time is over.
        let until =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 1;
        std::thread::sleep(Duration::from_millis(1100));
        let path = format!("/events?since=1&until={until}&{}", filters(filter));
        Ok(api.get(&path)?.expect(200)?.text().lines().count())
    };
    ensure!(told(&[("volume", &name)])? == 2, "volume={name}");
    ensure!(
        told(&[("volume", &name), ("event", "create"), ("event", "prune")])? == 1,
        "volume={name} event=create"
    );
    ensure!(told(&[("volume", &name), ("scope", "swarm")])? == 0, "scope=swarm");
    ensure!(told(&[("volume", &name), ("type", "network")])? == 0, "type=network");
    ensure!(told(&[("volume", &name), ("node", "x")])? == 0, "node=x");
    let across = told(&[("container", &name)])?;
    ensure!(across == ACROSS, "container={name} shows {across} of a volume's events");
    Ok(())
}

/// moby `daemon/events/filter.go` compares the name and asks for no type.
const ACROSS: usize = 2;

fn what_others_do_to_images_is_told(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let api = host.api();
    api.have("busybox:latest")?;
    let name = unique("others/busybox");
    let mut stream = follow(&api, &[("image", &name), ("type", "image")])?;
    // The follower of images may have begun after the daemon's first answer.
    api.get("/images/json")?.expect(200)?;
    let full = format!("docker.io/{name}:latest");
    host.ctr(&["images", "tag", "docker.io/library/busybox:latest", &full])?;
    let tag = next(&mut stream)?;
    ensure!(
        tag["Action"] == "tag" && tag["Actor"]["Attributes"]["name"] == format!("{name}:latest"),
        "{tag}"
    );
    host.ctr(&["images", "rm", &full])?;
    let untag = next(&mut stream)?;
    ensure!(untag["Action"] == "untag" && untag["Actor"]["ID"] == tag["Actor"]["ID"], "{untag}");
    Ok(())
}

fn our_own_changes_are_told_once(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have("busybox:latest")?;
    let name = unique("once/busybox");
    let mut stream = follow(&api, &[("image", &name), ("type", "image")])?;
    for tag in ["1", "2"] {
        api.post(&format!("/images/busybox:latest/tag?repo={}&tag={tag}", encode(&name)))?
            .expect(201)?;
        api.delete(&format!("/images/{name}:{tag}"))?.expect(200)?;
    }
    for (action, tag) in [("tag", "1"), ("untag", "1"), ("tag", "2"), ("untag", "2")] {
        let event = next(&mut stream)?;
        let named = event["Actor"]["Attributes"]["name"].as_str().unwrap_or_default();
        ensure!(
            event["Action"] == action && named == format!("{name}:{tag}"),
            "{event} is not {action} {tag}"
        );
    }
    Ok(())
}

fn what_nerdctl_does_to_networks_and_volumes_is_told(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let api = host.api();
    let name = unique("by-nerdctl");
    let mut stream = follow(&api, &[("volume", &name), ("event", "create"), ("event", "destroy")])?;
    host.nerdctl(&["volume", "create", "--label", "made=by", &name]).or_skip()?;
    let created = next(&mut stream)?;
    ensure!(created["Type"] == "volume" && created["Action"] == "create", "{created}");
    // Ours are told by ourselves, and once.
    let other = format!("{name}-ours");
    api.post_json("/volumes/create", &json!({ "Name": other }))?.expect(201)?;
    ensure!(next(&mut stream)?["Actor"]["ID"] == other, "our own volume is not the next one");
    host.nerdctl(&["volume", "rm", &name])?;
    let destroyed = next(&mut stream)?;
    ensure!(destroyed["Action"] == "destroy" && destroyed["Actor"]["ID"] == name, "{destroyed}");
    api.delete(&format!("/volumes/{other}"))?.expect(204)?;
    ensure!(next(&mut stream)?["Actor"]["ID"] == other, "our own volume is not the next one");

    let mut stream = follow(&api, &[("network", &name)])?;
    host.nerdctl(&["network", "create", "--label", "made=by", &name])?;
    let created = next(&mut stream)?;
    ensure!(
        created["Action"] == "create" && created["Actor"]["Attributes"]["type"] == "bridge",
        "{created}"
    );
    let id = created["Actor"]["ID"].as_str().unwrap_or_default().to_owned();
    for filter in [
        ("label", "made=by"),
        ("label", "made"),
        ("name", &name[..]),
        ("id", &id[..12]),
        ("dangling", "true"),
    ] {
        let mut all = vec![filter, ("driver", "bridge"), ("scope", "local"), ("type", "custom")];
        all.dedup_by_key(|(key, _)| *key);
        let list = api.get_json(&format!("/networks?{}", filters(&all)))?;
        let found = list.as_array().into_iter().flatten().any(|row| row["Id"] == id.as_str());
        ensure!(found, "{filter:?} does not find the network: {list}");
    }
    host.nerdctl(&["network", "rm", &name])?;
    ensure!(next(&mut stream)?["Action"] == "destroy");
    Ok(())
}
