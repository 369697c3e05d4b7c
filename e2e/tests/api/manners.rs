//! How the daemon treats clients that are in the middle of something, and those who keep others waiting.

use std::time::Duration;

use e2e::api::{encode, pull_messages};
use e2e::http::Stream;
use e2e::lying::{Lie, LyingRegistry};
use e2e::sandbox::until;
use e2e::{Api, Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests![
    // dockerd takes its time for clients, and its containers with it.
    a_part_never_looks_like_the_whole.ours_only(),
    a_login_has_any_type,
    a_refusal_asks_for_no_body,
    // There is no containerd connection of dockerd's that we could fill.
    stalled_saves_hold_up_nobody.ours_only(),
];

/// An image with a layer of so many megabytes that no compression makes smaller.
fn large(api: &Api, name: &str, megabytes: usize) -> Result<()> {
    let script = format!("dd if=/dev/urandom of=/large bs=1M count={megabytes} 2>/dev/null");
    let container = api.run_script(&script)?;
    ensure!(container.wait()? == 0, "no room for an image");
    let path = format!("/commit?container={}&repo={name}&tag=latest", container.id);
    api.post_json(&path, &json!(null))?.expect(201)?;
    container.remove()
}

fn save(api: &Api, name: &str) -> Result<Stream> {
    let stream = api.stream(&api.request("GET", &format!("/images/{name}/get")))?;
    ensure!(stream.head.status == 200, "{:?}", stream.head);
    Ok(stream)
}

fn a_part_never_looks_like_the_whole(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            large(&api, "manners-part", 8)?;
            let liar = LyingRegistry::start(host, Lie::Stall)?;
            let from = encode(&format!("{}/library/alpine", liar.address));
            let path = format!("/images/create?fromImage={from}&tag=3.21");
            let pull = api.stream(&api.request("POST", &path))?;
            until(Duration::from_secs(30), "a blob is on its way", || liar.blobs() > 0)?;
            let saved = save(&api, "manners-part")?;
            let status = host.stop_daemon()?;
            ensure!(status.success(), "{status}");
            ensure!(saved.rest().is_err(), "half an archive ended as if it were whole");
            let head = pull.head.clone();
            let body = pull.rest().context("a pull tells its end")?;
            let told = pull_messages(&e2e::http::Response { head, body });
            ensure!(told.is_err(), "a pull that was broken off looks done: {told:?}");
            host.start_daemon()
        },
    )
}

/// curl names this type where it is told none.
fn a_login_has_any_type(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let login = json!({"username": "a", "password": "b", "serveraddress": "http://127.0.0.1:1"});
    let request = api.request("POST", "/auth").bytes(login.to_string());
    let answer = |kind: &str| {
        let response = api.send(&request.clone().header("Content-Type", kind))?;
        Ok::<_, e2e::Error>((response.status(), response.message()))
    };
    let (status, told) = answer("application/x-www-form-urlencoded")?;
    ensure!(!told.contains("X-Registry-Auth"), "the body was not read: {told}");
    ensure!(status == answer("application/json")?.0, "{status} {told}");
    Ok(())
}

fn a_refusal_asks_for_no_body(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut connection = api.connect()?;
    let request = api
        .request("POST", "/nonsense")
        .header("Expect", "100-continue")
        .header("Content-Length", "1000000");
    connection.send(&request)?;
    let head = connection.head()?;
    ensure!(head.status == 404, "{head:?}");
    ensure!(head.header("connection").is_some_and(|value| value == "close"), "{head:?}");
    Ok(())
}

fn stalled_saves_hold_up_nobody(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            large(&api, "manners-stalled", 12)?;
            let saves = (0..20).map(|_| save(&api, "manners-stalled"));
            let saves = saves.collect::<Result<Vec<_>>>()?;
            // Documents and layers come through the same connection.
            let name = unique("manners");
            api.pull("alpine:3.21")?;
            api.post(&format!("/images/alpine:3.21/tag?repo={name}&tag=1"))?.expect(201)?;
            api.get_json(&format!("/images/{name}:1/json"))?;
            let whole = save(&api, &name)?.rest()?;
            ensure!(whole.len() > 1_000_000, "{} bytes", whole.len());
            drop(saves);
            api.delete("/images/manners-stalled")?.expect(200)?;
            Ok(())
        },
    )
}
