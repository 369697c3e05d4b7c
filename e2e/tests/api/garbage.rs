//! Images while containerd collects its garbage in every phase of what is done with them, and while the daemon is killed
//! there: what ends well is whole, and what does not leaves nothing.
//!
//! A debug build waits or ends itself where it is told (`engine::fault`).

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::api::{encode, pull_messages};
use e2e::forge::{Forge, INDEX, LAYER, digest, tar};
use e2e::host::MIRROR;
use e2e::sandbox::until;
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

use crate::recovery::killed_at;
use crate::{import, store};

pub(crate) const TESTS: &[Test] = tests![
    clients_that_bring_one_image_at_once.ours_only(),
    nothing_is_collected_in_any_phase.ours_only().slow(),
    a_kill_in_any_phase_leaves_nothing.ours_only().slow(),
];

/// How long the repair of a start may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Unpacking, wherever it happens.
const UNPACK: [&str; 3] = ["unpack.prepared", "unpack.applied", "unpack.committed"];
const PULL: &[&str] = &[
    "pull.lease",
    "pull.index",
    "pull.config",
    "pull.layer",
    UNPACK[0],
    UNPACK[1],
    UNPACK[2],
    "pull.unpacked",
    "pull.manifest",
    "pull.image",
];
const LOAD: &[&str] = &[
    "load.lease",
    "load.blob",
    "load.read",
    "load.checked",
    UNPACK[0],
    UNPACK[1],
    UNPACK[2],
    "load.unpacked",
    "load.named",
];
const IMPORT: &[&str] = &[
    "import.lease",
    "import.read",
    "import.layer",
    UNPACK[0],
    UNPACK[1],
    UNPACK[2],
    "make.layer",
    "make.config",
    "make.manifest",
    "make.image",
];
const COMMIT: &[&str] = &[
    "commit.lease",
    "commit.paused",
    "commit.layer",
    "commit.resumed",
    UNPACK[0],
    UNPACK[1],
    UNPACK[2],
    "make.layer",
    "make.config",
    "make.manifest",
    "make.image",
    "commit.image",
];
const SAVE: &[&str] = &["save.lease", "save.image", "save.blob"];
const PUSH: &[&str] = &["push.lease", "push.planned", "push.blob", "push.manifest"];

/// Lets containerd collect its garbage, once.
pub(crate) fn collect(host: &Host) -> Result<()> {
    let id = unique("collect");
    host.ctr(&["leases", "create", "--id", &id])?;
    host.ctr(&["leases", "delete", "--sync", &id])?;
    Ok(())
}

/// All that work on images can leave in a host's containerd, one a line.
pub(crate) fn everything(host: &Host) -> Result<String> {
    let mut all = String::new();
    for arguments in
        [&["content", "ls", "-q"][..], &["images", "ls", "-q"], &["leases", "ls", "-q"]]
    {
        all.push_str(&host.ctr(arguments)?);
    }
    for arguments in [&["content", "active"][..], &["snapshots", "ls"]] {
        all.extend(host.ctr(arguments)?.lines().skip(1).map(|line| format!("{line}\n")));
    }
    Ok(all)
}

/// An image of two layers at the mirror, below an index. It prints what it is told.
fn forged(host: &Host) -> Result<String> {
    let forge = Forge::new(host, &unique("phases"));
    let tars = [import::tree()?, tar("second", b"layer")?];
    let layers = [forge.blob(LAYER, &tars[0])?, forge.blob(LAYER, &tars[1])?];
    let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
    let manifest = forge.image("manifest", &layers, &diff_ids)?;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    forge.document("one", INDEX, &index)?;
    Ok(forge.reference("one"))
}

/// The image is there with all its blobs and snapshots, also after one more collection, and can be run and saved.
fn is_whole(host: &Host, name: &str) -> Result<()> {
    collect(host)?;
    let checked = host.ctr(&["images", "check"])?;
    let row = checked.lines().find(|line| line.starts_with(name));
    let row = row.with_context(|| format!("{name} is gone: {checked}"))?;
    // By itself it says so of what is "incomplete", too.
    let whole = row.contains(" complete (") && row.trim_end().ends_with("true");
    ensure!(whole, "{row}");
    let api = host.api();
    let container = api.create(json!({
        "Image": name, "Cmd": ["/bin/echo", "runs"], "HostConfig": {"NetworkMode": "none"},
    }))?;
    container.start()?;
    container.wait()?;
    ensure!(container.logs("")?.text() == "runs\n", "{:?}", container.logs("")?);
    container.remove()?;
    api.get(&format!("/images/{name}/get"))?.expect(200)?;
    Ok(())
}

/// Does `work` on a daemon that is held at all the places. Meanwhile containerd collects its garbage, after `meddle` was
/// called with the place.
fn in_every_phase<T: Send>(
    host: &Host,
    places: &[&str],
    meddle: impl Fn(&str) -> Result<()>,
    work: impl FnOnce(&Api) -> Result<T> + Send,
) -> Result<T> {
    let folder = host.root()?.join("hold");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder)?;
    for place in places {
        std::fs::write(folder.join(place), "")?;
    }
    host.kill_daemon()?;
    host.start_daemon_with(&[("NERDCTLD_HOLD_IN", &folder.to_string_lossy())])?;
    let api = host.api();
    let mut seen = BTreeSet::new();
    let outcome = std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(&api));
        let mut meddled = Ok(());
        while !worker.is_finished() {
            let held = |place: &&&str| folder.join(format!("{place}.here")).exists();
            let Some(place) = places.iter().find(held) else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            // Whatever goes wrong, the work comes to an end.
            if meddled.is_ok() {
                seen.insert(*place);
                meddled = meddle(place).and_then(|()| collect(host)).context((*place).to_owned());
            }
            std::fs::remove_file(folder.join(format!("{place}.here")))?;
        }
        meddled?;
        worker.join().map_err(|_| e2e::anyhow!("the work panicked"))?
    })?;
    let missed: Vec<_> = places.iter().filter(|place| !seen.contains(*place)).collect();
    ensure!(missed.is_empty(), "it does not come by {missed:?}");
    host.kill_daemon()?;
    host.start_daemon()?;
    Ok(outcome)
}

fn no_meddling(_: &str) -> Result<()> {
    Ok(())
}

fn load(api: &Api, archive: &[u8]) -> Result<()> {
    let request = api.request("POST", "/images/load").bytes(archive.to_vec());
    pull_messages(&api.send(&request)?.expect(200)?).map(drop)
}

/// Imports [`import::tree`] under a name.
fn import_tree(api: &Api, name: &str) -> Result<()> {
    let (repository, tag) = name.rsplit_once(':').context("no tag")?;
    let path = format!("/images/create?fromSrc=-&repo={}&tag={tag}", encode(repository));
    let answer = api.send(&api.request("POST", &path).bytes(import::tree()?))?;
    pull_messages(&answer.expect(200)?).map(drop)
}

/// What a saved archive needs to be an OCI layout; without it, it is what Docker wrote before.
fn as_before_layouts(archive: &[u8]) -> Result<Vec<u8>> {
    let files = store::files(archive)?;
    let old = files.iter().filter(|(name, _)| {
        !name.ends_with('/') && !matches!(name.as_str(), "oci-layout" | "index.json")
    });
    let old: Vec<(&str, Vec<u8>)> =
        old.map(|(name, content)| (name.as_str(), content.clone())).collect();
    store::archive(&old)
}

/// Each sends its own bytes, but what is there is stored and unpacked once, and nobody takes away what another one has.
fn clients_that_bring_one_image_at_once(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let name = forged(host)?;
            api.pull(&name)?;
            let saved = api.get(&format!("/images/{name}/get"))?.expect(200)?.body;
            for _ in 0..3 {
                api.delete(&format!("/images/{name}"))?.expect(200)?;
                let brought: Vec<Result<()>> = std::thread::scope(|scope| {
                    let bring = |n: usize| {
                        let cut = &saved[..saved.len() / 2];
                        match n {
                            0 | 1 => api.pull(&name).map(drop),
                            // One that breaks off takes only its own away.
                            2 => {
                                ensure!(load(&api, cut).is_err(), "half an archive is loaded");
                                Ok(())
                            }
                            _ => load(&api, &saved),
                        }
                    };
                    let clients: Vec<_> = (0..6).map(|n| scope.spawn(move || bring(n))).collect();
                    clients.into_iter().filter_map(|client| client.join().ok()).collect()
                });
                ensure!(brought.len() == 6 && brought.iter().all(Result::is_ok), "{brought:?}");
                is_whole(host, &name)?;
            }
            api.delete(&format!("/images/{name}"))?.expect(200)?;
            nothing_left(host)
        },
    )
}

fn nothing_is_collected_in_any_phase(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let name = forged(host)?;
            in_every_phase(host, PULL, no_meddling, |api| api.pull(&name)).context("pull")?;
            is_whole(host, &name).context("pull")?;
            // Once it is found, it may go.
            let forget = |at: &'static str, name: &str| {
                let name = name.to_owned();
                move |place: &str| match place == at {
                    true if host.ctr(&["images", "ls", "-q"])?.contains(&name) => {
                        host.ctr(&["images", "rm", &name]).map(drop)
                    }
                    _ => Ok(()),
                }
            };
            let saved = in_every_phase(host, SAVE, forget("save.image", &name), |api| {
                Ok(api.get(&format!("/images/{name}/get"))?.expect(200)?.body)
            });
            let saved = saved.context("save")?;
            nothing_left(host).context("save")?;
            for archive in [&saved, &as_before_layouts(&saved)?] {
                in_every_phase(host, LOAD, no_meddling, |api| load(api, archive))
                    .context("load")?;
                is_whole(host, &name).context("load")?;
                host.api().delete(&format!("/images/{name}"))?.expect(200)?;
            }
            let base = format!("{MIRROR}/{}:one", unique("imported"));
            in_every_phase(host, IMPORT, no_meddling, |api| import_tree(api, &base))
                .context("import")?;
            is_whole(host, &base).context("import")?;
            let made = committed(host, &base, forget("commit.lease", &base)).context("commit")?;
            is_whole(host, &made).context("commit")?;
            let (repository, _) = made.rsplit_once(':').context("no tag")?;
            in_every_phase(host, PUSH, forget("push.planned", &made), |api| {
                let path = format!("/images/{repository}/push?tag=one");
                pull_messages(&api.post(&path)?.expect(200)?)
            })
            .context("push")?;
            host.api().pull(&made)?;
            is_whole(host, &made).context("pushed and pulled")
        },
    )
}

/// An image made of a container of `base`; its name.
fn committed(host: &Host, base: &str, meddle: impl Fn(&str) -> Result<()>) -> Result<String> {
    let api = host.api();
    let container = api.create(json!({"Image": base, "Cmd": ["/bin/echo"]}))?;
    let made = format!("{MIRROR}/{}:one", unique("committed"));
    let (repository, tag) = made.rsplit_once(':').context("no tag")?;
    let body = tar("added", b"by hand")?;
    let put = api.request("PUT", &container.path("/archive?path=/")).bytes(body);
    api.send(&put)?.expect(200)?;
    let query = format!("container={}&repo={}&tag={tag}", container.id, encode(repository));
    in_every_phase(host, COMMIT, meddle, |api| {
        api.post_json(&format!("/commit?{query}"), &Value::Null)?.expect(201)
    })?;
    container.remove()?;
    Ok(made)
}

/// Nothing is in containerd, as soon as it has collected its garbage.
pub(crate) fn nothing_left(host: &Host) -> Result<()> {
    let mut left = String::new();
    let gone = until(LIMIT, "nothing is left", || {
        left = everything(host).unwrap_or_else(|error| error.to_string());
        left.is_empty()
    });
    gone.with_context(|| left)
}

/// Kills the daemon at each place of some work on an image of this name. Only the last one is too late to undo it.
fn killed_in_every_phase(
    host: &Host,
    places: &[&'static str],
    name: &str,
    work: impl Fn(&Api) -> Result<()>,
) -> Result<()> {
    let delete = || host.api().delete(&format!("/images/{name}"))?.expect(200).map(drop);
    let (last, before) = places.split_last().context("no places")?;
    for place in before {
        killed_at(host, place, |api| drop(work(api)))?;
        nothing_left(host).with_context(|| (*place).to_owned())?;
    }
    killed_at(host, last, |api| drop(work(api)))?;
    is_whole(host, name).with_context(|| (*last).to_owned())?;
    delete()?;
    nothing_left(host)?;
    work(&host.api()).context("the last time")?;
    is_whole(host, name)?;
    delete()?;
    nothing_left(host)
}

fn a_kill_in_any_phase_leaves_nothing(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let name = forged(host)?;
            killed_in_every_phase(host, PULL, &name, |api| api.pull(&name).map(drop))
                .context("pull")?;
            host.api().pull(&name)?;
            let saved = host.api().get(&format!("/images/{name}/get"))?.expect(200)?.body;
            host.api().delete(&format!("/images/{name}"))?.expect(200)?;
            killed_in_every_phase(host, LOAD, &name, |api| load(api, &saved)).context("load")?;
            let old = as_before_layouts(&saved)?;
            // What is behind the manifests is the same.
            killed_in_every_phase(
                host,
                &["load.read", "load.checked", "load.named"],
                &name,
                |api| load(api, &old),
            )
            .context("old load")?;
            let made = format!("{MIRROR}/{}:one", unique("imported"));
            killed_in_every_phase(host, IMPORT, &made, |api| import_tree(api, &made))
                .context("import")
        },
    )
}
