//! How registries are found and reached: mirrors, insecure ones, and those that lie.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::api::{encode, pull_messages};
use e2e::forge::{CONFIG, Forge, INDEX, LAYER, MANIFEST, digest, tar, zstd};
use e2e::host::{Engine, MIRROR};
use e2e::lying::{Lie, LyingRegistry};
use e2e::sandbox::until;
use e2e::{Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

use crate::garbage::{collect, everything};

pub(crate) const TESTS: &[Test] = tests![
    mirrors_and_insecure_registries_are_options,
    layers_of_every_compression,
    layers_that_only_their_maker_has,
    an_image_says_where_it_was_pulled_from,
    // What is left is looked for in our containerd.
    images_that_are_not_what_they_say.ours_only(),
    registries_that_break_off.ours_only(),
    registries_that_break_off_uploads.ours_only(),
    nothing_is_collected_under_our_hands.ours_only(),
    two_clients_share_a_pull.ours_only(),
    as_many_layers_at_once_as_allowed,
];

fn mirrors_and_insecure_registries_are_options(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    let options = |plan: &mut e2e::host::Plan| {
        if plan.engine == Engine::Nerdctld {
            // dockerd has it from the rig, which gives us a hosts.toml for the same.
            plan.arguments.push(format!("--registry-mirror=http://{MIRROR}"));
            plan.arguments.push("--hosts-dir=/nowhere".to_owned());
        }
        plan.arguments.push("--insecure-registry=r.example:5000".to_owned());
        plan.arguments.push("--insecure-registry=10.9.0.0/16".to_owned());
    };
    rig.with_own_host(options, |host| {
        let api = host.api();
        let registries = api.get_json("/info")?["RegistryConfig"].clone();
        ensure!(registries["Mirrors"] == json!([format!("http://{MIRROR}/")]), "{registries}");
        let hub = &registries["IndexConfigs"]["docker.io"];
        ensure!(hub["Mirrors"] == registries["Mirrors"] && hub["Secure"] == true, "{registries}");
        let insecure = &registries["IndexConfigs"]["r.example:5000"];
        let expected =
            json!({"Name": "r.example:5000", "Mirrors": [], "Secure": false, "Official": false});
        ensure!(*insecure == expected, "{registries}");
        let blocks = registries["InsecureRegistryCIDRs"].as_array().cloned().unwrap_or_default();
        for block in ["10.9.0.0/16", "127.0.0.0/8", "::1/128"] {
            ensure!(blocks.contains(&json!(block)), "{block}: {registries}");
        }
        let pulled = api.post("/images/create?fromImage=hello-world&tag=linux")?;
        pull_messages(&pulled.expect(200)?)?;
        Ok(())
    })
}

fn layers_of_every_compression(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let forge = Forge::new(host, &unique("compressions"));
    // Larger than a block of the format, and than a message to containerd.
    let tars = [tar("plain", &vec![7; 3 << 20])?, tar("zstd", &vec![8; 3 << 20])?];
    let layers =
        [forge.blob(LAYER, &tars[0])?, forge.blob(&format!("{LAYER}+zstd"), &zstd(&tars[1]))?];
    let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
    forge.image("one", &layers, &diff_ids)?;
    let name = forge.reference("one");
    api.pull(&name)?;
    let image = api.get_json(&format!("/images/{name}/json"))?;
    ensure!(image["RootFS"]["Layers"] == json!(diff_ids), "{image}");
    let container = api.create(json!({"Image": name, "HostConfig": {"NetworkMode": "none"}}))?;
    for file in ["plain", "zstd"] {
        api.get(&container.path(&format!("/archive?path=/{file}")))?.expect(200)?;
    }
    container.remove()?;
    api.delete(&format!("/images/{name}"))?.expect(200)?;
    Ok(())
}

fn layers_that_only_their_maker_has(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let maker = unique("maker");
    let tar = tar("licensed", b"content")?;
    let blob = Forge::new(host, &maker).blob(LAYER, &tar)?;
    let forge = Forge::new(host, &unique("foreign"));
    let layer = |addresses: &[String]| {
        json!({
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "digest": blob["digest"], "size": blob["size"], "urls": addresses,
        })
    };
    let address = |repository: &str| {
        format!("http://{MIRROR}/v2/{repository}/blobs/{}", blob["digest"].as_str().unwrap_or(""))
    };
    let (nowhere, there) = (address(&unique("nowhere")), address(&maker));
    let diff_ids = [digest(&tar)];
    forge.image("nowhere", &[layer(std::slice::from_ref(&nowhere))], &diff_ids)?;
    let told = failure(host, &forge.reference("nowhere"))?;
    ensure!(told.contains("not found"), "{told}");
    forge.image("one", &[layer(&[nowhere, there])], &diff_ids)?;
    let name = forge.reference("one");
    api.pull(&name)?;
    let container = api.create(json!({"Image": name, "Cmd": ["x"]}))?;
    api.get(&container.path("/archive?path=/licensed"))?.expect(200)?;
    // What is made of it says where the layer is, too.
    let made = format!("{MIRROR}/{}", unique("made"));
    let query = format!("container={}&repo={}&tag=one", container.id, encode(&made));
    api.post_json(&format!("/commit?{query}"), &Value::Null)?.expect(201)?;
    container.remove()?;
    pull_messages(&api.post(&format!("/images/{made}/push?tag=one"))?.expect(200)?)?;
    for name in [name, format!("{made}:one")] {
        api.delete(&format!("/images/{name}"))?.expect(200)?;
    }
    api.pull(&format!("{made}:one"))?;
    api.delete(&format!("/images/{made}:one"))?.expect(200)?;
    Ok(())
}

fn an_image_says_where_it_was_pulled_from(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let repository = unique("identity");
    let forge = Forge::new(host, &repository);
    let tar = tar("file", repository.as_bytes())?;
    forge.image("one", &[forge.blob(LAYER, &tar)?], &[digest(&tar)])?;
    let name = forge.reference("one");
    api.pull(&name)?;
    let identity = |name: &str| -> Result<Value> {
        Ok(api.get_json(&format!("/images/{name}/json"))?["Identity"].clone())
    };
    // containerd notes it without the port.
    let (registry, _) = MIRROR.rsplit_once(':').context("no port")?;
    let pulled = json!({"Pull": [{"Repository": format!("{registry}/{repository}")}]});
    ensure!(identity(&name)? == pulled, "{}", identity(&name)?);
    let older = api.at("1.52").get_json(&format!("/images/{name}/json"))?;
    ensure!(older.get("Identity").is_none(), "{older}");
    // A name of one's own is no place to pull from.
    let own = unique("own");
    api.post(&format!("/images/{name}/tag?repo={own}&tag=one"))?.expect(201)?;
    let named = identity(&format!("{own}:one"))?;
    ensure!(named == pulled, "{named}");
    for name in [format!("{own}:one"), name] {
        api.delete(&format!("/images/{name}"))?.expect(200)?;
    }
    Ok(())
}

/// What a pull says that must fail.
pub(crate) fn failure(host: &Host, reference: &str) -> Result<String> {
    let response = host.api().post(&format!("/images/create?fromImage={}", encode(reference)))?;
    match response.status() {
        200 => {
            let error = pull_messages(&response).err();
            Ok(error.with_context(|| format!("{reference} was pulled"))?.to_string())
        }
        status => {
            ensure!((400..600).contains(&status), "{status}");
            Ok(response.message())
        }
    }
}

/// A pull fails with these words, in few, and leaves nothing.
fn fails_cleanly(host: &Host, reference: &str, words: &str) -> Result<()> {
    let told = failure(host, reference)?;
    ensure!(told.contains(words) && told.len() < 1000, "{told}");
    let left = everything(host)?;
    ensure!(left.is_empty(), "{told} leaves {left}");
    Ok(())
}

fn images_that_are_not_what_they_say(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let forge = Forge::new(host, "liar");
            let tar = tar("file", b"content")?;
            let layer = forge.blob(LAYER, &tar)?;
            let diff_id = digest(&tar);
            let sized = |size: usize| {
                let mut layer = layer.clone();
                layer["size"] = json!(size);
                layer
            };
            let no_tar = forge.blob(LAYER, b"this is no tar at all")?;
            forge.image("diff-id", std::slice::from_ref(&layer), &[digest(b"another")])?;
            forge.image(
                "too-many-diff-ids",
                std::slice::from_ref(&layer),
                &[diff_id.clone(), diff_id.clone()],
            )?;
            forge.image("no-diff-id", std::slice::from_ref(&layer), &["nonsense".to_owned()])?;
            forge.image("larger", &[sized(tar.len() - 1)], std::slice::from_ref(&diff_id))?;
            forge.image("smaller", &[sized(tar.len() + 1)], std::slice::from_ref(&diff_id))?;
            forge.image("no-tar", &[no_tar], &[digest(b"this is no tar at all")])?;
            let entry = forge.image(
                "typed",
                std::slice::from_ref(&layer),
                std::slice::from_ref(&diff_id),
            )?;
            for (tag, of) in [("manifest-as-index", INDEX), ("manifest-as-config", CONFIG)] {
                let mut entry = entry.clone();
                entry["mediaType"] = json!(of);
                let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
                forge.document(tag, INDEX, &index)?;
            }
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
            let mut entry = forge.document("inner", INDEX, &index)?;
            entry["mediaType"] = json!(MANIFEST);
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
            forge.document("index-as-manifest", INDEX, &index)?;
            let mut entry = forge.image("deep", std::slice::from_ref(&layer), &[diff_id])?;
            for _ in 0..6 {
                let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
                entry = forge.document("deep", INDEX, &index)?;
            }
            let rows = [
                ("diff-id", "wrong diff id"),
                ("too-many-diff-ids", "1 layers"),
                ("no-diff-id", "nonsense"),
                ("larger", "bytes"),
                ("smaller", "the blob ends before byte"),
                ("no-tar", "extract"),
                ("deep", "indexes within indexes"),
                ("manifest-as-index", "no match for platform"),
                ("manifest-as-config", "no match for platform"),
                ("index-as-manifest", "no config"),
            ];
            for (tag, words) in rows {
                fails_cleanly(host, &forge.reference(tag), words).context(tag)?;
            }
            Ok(())
        },
    )
}

/// Peak of the daemon's memory in bytes.
pub(crate) fn peak(host: &Host) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.daemon_pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn registries_that_break_off(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let rows = [
                (Lie::CutAlways, "end of file before message length reached"),
                (Lie::Circle, "redirects"),
                (Lie::Essay(100), "denied"),
                (Lie::Refuse(500, "UNKNOWN", "out of order"), "out of order"),
                (Lie::TypedAs(MANIFEST), "no config"),
                (Lie::TypedAs(CONFIG), "is no image but"),
                (Lie::TypedAs("text/html"), "is no image but"),
                (Lie::Ouroboros, "digest"),
            ];
            for (lie, words) in rows {
                let liar = LyingRegistry::start(host, lie)?;
                let name = format!("{}/library/alpine:3.21", liar.address);
                fails_cleanly(host, &name, words).with_context(|| format!("{lie:?}"))?;
            }
            let peak = peak(host)?;
            ensure!(peak < 64 << 20, "{peak} bytes resident");
            // One that breaks off once is only slow.
            let liar = LyingRegistry::start(host, Lie::CutOnce)?;
            let name = format!("{}/library/alpine:3.21", liar.address);
            host.api().pull(&name)?;
            ensure!(liar.blobs() >= 4, "{} blobs were asked for", liar.blobs());
            host.api().get(&format!("/images/{name}/json"))?.expect(200)?;
            Ok(())
        },
    )
}

fn registries_that_break_off_uploads(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            api.pull("alpine:3.21")?;
            let push = |liar: &LyingRegistry| -> Result<(String, e2e::http::Request)> {
                let name = format!("{}/{}", liar.address, unique("pushed"));
                api.post(&format!("/images/alpine:3.21/tag?repo={}&tag=one", encode(&name)))?
                    .expect(201)?;
                let request = api.request("POST", &format!("/images/{name}/push?tag=one"));
                Ok((name, request))
            };
            let held = |host: &Host| -> Result<String> { host.ctr(&["leases", "ls", "-q"]) };
            let liar =
                LyingRegistry::start(host, Lie::RefuseUploads(403, "DENIED", "not for you"))?;
            let failure = |liar: &LyingRegistry| -> Result<String> {
                let answer = api.send(&push(liar)?.1)?.expect(200)?;
                Ok(pull_messages(&answer).err().context("pushed")?.to_string())
            };
            let told = failure(&liar)?;
            ensure!(told == "error from registry: denied: not for you", "{told}");
            for (lie, words) in
                [(Lie::CircleUploads, "redirects"), (Lie::EssayUploads(100), "denied")]
            {
                let told = failure(&LyingRegistry::start(host, lie)?)?;
                ensure!(told.contains(words) && told.len() < 1000, "{lie:?}: {told}");
                ensure!(held(host)?.is_empty(), "{lie:?} leaves a lease");
            }
            let peak = peak(host)?;
            ensure!(peak < 64 << 20, "{peak} bytes resident");

            let liar = LyingRegistry::start(host, Lie::StallUploads)?;
            let (_, request) = push(&liar)?;
            let stream = api.stream(&request)?;
            until(Duration::from_secs(30), "an upload is on its way", || liar.uploads() > 0)?;
            ensure!(!held(host)?.is_empty(), "what is pushed is not protected");
            drop(stream);
            until(Duration::from_secs(20), "the push is cancelled", || {
                held(host).is_ok_and(|held| held.is_empty())
            })?;

            // Last, as the registry has it all then.
            let liar = LyingRegistry::start(host, Lie::CutUploads)?;
            let (name, request) = push(&liar)?;
            pull_messages(&api.send(&request)?.expect(200)?)?;
            ensure!(liar.uploads() >= 4, "{} uploads", liar.uploads());
            let pushed = api.get_json(&format!("/distribution/{name}:one/json"))?;
            ensure!(pushed["Platforms"].as_array().is_some_and(|all| !all.is_empty()), "{pushed}");
            Ok(())
        },
    )
}

fn nothing_is_collected_under_our_hands(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let liar = LyingRegistry::start(host, Lie::Dribble)?;
            let name = format!("{}/library/nginx:latest", liar.address);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let collector = scope.spawn(|| {
                    let mut times = 0;
                    while !done.load(Ordering::Relaxed) {
                        collect(host)?;
                        times += 1;
                    }
                    Ok::<_, e2e::Error>(times)
                });
                let worked = api.pull(&name).and_then(|_| {
                    let path = format!("/images/{name}/push?tag=latest");
                    pull_messages(&api.post(&path)?.expect(200)?)
                });
                done.store(true, Ordering::Relaxed);
                let times = collector.join().map_err(|_| e2e::anyhow!("the collector"))??;
                worked?;
                ensure!(times > 5, "collected {times} times only");
                Ok(())
            })?;
            collect(host)?;
            let checked = host.ctr(&["images", "check"])?;
            let wrong = ["incomplete", "unavailable"].iter().any(|word| checked.contains(word));
            ensure!(checked.contains("complete") && !wrong, "{checked}");
            let container =
                api.create(json!({"Image": name, "HostConfig": {"NetworkMode": "none"}}))?;
            container.start()?;
            container.remove()
        },
    )
}

fn two_clients_share_a_pull(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let liar = LyingRegistry::start(host, Lie::Dribble)?;
            let name = format!("{}/library/nginx:latest", liar.address);
            let pulls: Vec<Result<Vec<Value>>> = std::thread::scope(|scope| {
                let clients: Vec<_> = (0..3).map(|_| scope.spawn(|| api.pull(&name))).collect();
                clients.into_iter().filter_map(|client| client.join().ok()).collect()
            });
            ensure!(pulls.len() == 3 && pulls.iter().all(Result::is_ok), "{pulls:?}");
            let image = api.get_json(&format!("/images/{name}/json"))?;
            let layers = image["RootFS"]["Layers"].as_array().map_or(0, Vec::len);
            // The small config may be read by each.
            ensure!(liar.blobs() <= layers + 3, "{} blobs, {layers} layers", liar.blobs());
            Ok(())
        },
    )
}

fn as_many_layers_at_once_as_allowed(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    let limited = |plan: &mut e2e::host::Plan| {
        plan.arguments.push("--max-concurrent-downloads=1".to_owned());
    };
    rig.with_own_host(limited, |host| {
        let liar = LyingRegistry::start(host, Lie::Dribble)?;
        let name = format!("{}/library/nginx:latest", liar.address);
        host.api().pull(&name)?;
        let layers = host.api().get_json(&format!("/images/{name}/json"))?["RootFS"]["Layers"]
            .as_array()
            .map_or(0, Vec::len);
        ensure!(layers > 1 && liar.most_at_once() == 1, "{} at once", liar.most_at_once());
        Ok(())
    })
}
