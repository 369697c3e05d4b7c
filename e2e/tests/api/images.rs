//! Pull with and without a login, list, inspect, remove, and images that are not what they say.

use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use e2e::api::{encode, filters, pull_messages};
use e2e::host::{LOGIN, LOGIN_REGISTRY};
use e2e::lying::{Lie, LyingRegistry};
use e2e::sandbox::until;
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_pull_tells_its_progress,
    a_pull_by_digest,
    a_pull_with_name_and_tag_in_one,
    a_pull_needs_the_login,
    a_pull_of_what_is_not_there,
    bad_references_are_refused,
    an_image_of_another_platform,
    lists_have_dockers_shape,
    lists_differ_by_version,
    lists_are_filtered,
    inspect_by_any_name,
    inspect_has_all_keys,
    inspect_differs_by_version,
    removing_untags_and_deletes,
    removing_one_of_two_names,
    an_image_in_use_stays,
    bollard_pulls_and_lists,
    a_blob_with_the_wrong_digest_is_refused,
    a_client_that_leaves_cancels_its_pull,
];

/// Each test that changes images has its own, so that they do not meet.
const PROGRESS: &str = "alpine:3.20";
const BY_DIGEST: &str = "alpine:3.10";
const IN_ONE: &str = "httpd:2.4-alpine";
const LISTED: &str = "busybox:1.36";
const REMOVED: &str = "busybox:glibc";
const RENAMED: &str = "debian:trixie-slim";
const USED: &str = "node:alpine";
const BOLLARDS: &str = "hello-world:linux";

fn statuses(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["status"].as_str()).collect()
}

fn a_pull_tells_its_progress(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.delete(&format!("/images/{PROGRESS}?force=1"))?;
    let request = api.request("POST", "/images/create?fromImage=alpine&tag=3.20");
    let mut stream = api.stream(&request)?;
    ensure!(stream.head.status == 200, "{:?}", stream.head);
    ensure!(stream.head.header("content-type") == Some("application/json"), "{:?}", stream.head);
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(
        text.ends_with("\r\n") && text.lines().count() == text.matches("\r\n").count(),
        "lines end in CR LF: {text:?}"
    );
    let messages: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let status = statuses(&messages);
    ensure!(
        messages[0] == json!({"status": "Pulling from library/alpine", "id": "3.20"}),
        "{}",
        messages[0]
    );
    let at = |words: &str| {
        status
            .iter()
            .position(|text| *text == words)
            .with_context(|| format!("no {words:?}: {status:?}"))
    };
    let (queued, complete, pulled) =
        (at("Pulling fs layer")?, at("Download complete")?, at("Pull complete")?);
    ensure!(queued < complete && complete < pulled, "{status:?}");
    let layer = &messages[queued];
    ensure!(layer["progressDetail"] == json!({}), "{layer}");
    ensure!(
        layer["id"]
            .as_str()
            .is_some_and(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit())),
        "{layer}"
    );
    let [.., digest, last] = status[..] else { e2e::bail!("{status:?}") };
    ensure!(digest.starts_with("Digest: sha256:"), "{status:?}");
    ensure!(last == "Status: Downloaded newer image for alpine:3.20", "{status:?}");
    // Once more: nothing to do.
    let again = api.pull(PROGRESS)?;
    ensure!(
        statuses(&again).last() == Some(&"Status: Image is up to date for alpine:3.20"),
        "{again:?}"
    );
    ensure!(statuses(&again).contains(&digest), "{again:?}");
    // Index and digest are told as tilt reads them.
    let inspect = api.get_json(&format!("/images/{PROGRESS}/json"))?;
    let digest = digest.trim_start_matches("Digest: ");
    ensure!(
        inspect["RepoDigests"] == json!([format!("alpine@{digest}")]),
        "{}",
        inspect["RepoDigests"]
    );
    Ok(())
}

fn a_pull_by_digest(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.pull(BY_DIGEST)?;
    let digests = api.get_json(&format!("/images/{BY_DIGEST}/json"))?["RepoDigests"].clone();
    let digest = digests[0]
        .as_str()
        .and_then(|name| name.split_once('@'))
        .context("no digest")?
        .1
        .to_owned();
    api.delete(&format!("/images/{BY_DIGEST}?force=1"))?.expect(200)?;
    for query in [format!("fromImage=alpine&tag={digest}"), format!("fromImage=alpine%40{digest}")]
    {
        let messages = pull_messages(&api.post(&format!("/images/create?{query}"))?.expect(200)?)?;
        let last = statuses(&messages).last().copied().unwrap_or_default().to_owned();
        ensure!(last.ends_with(&format!("for alpine@{digest}")), "{last}");
    }
    let image = api.get_json(&format!("/images/alpine@{digest}/json"))?;
    ensure!(image["RepoDigests"] == digests, "{image}");
    // dockerd 29 lists the digest as a tag, older ones an empty list.
    let no_tag = |tag: &Value| tag.as_str().is_some_and(|tag| tag.contains('@'));
    ensure!(image["RepoTags"].as_array().is_some_and(|tags| tags.iter().all(no_tag)), "{image}");
    api.delete(&format!("/images/alpine@{digest}"))?.expect(200)?;
    Ok(())
}

fn a_pull_with_name_and_tag_in_one(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let response = api.post(&format!(
        "/images/create?fromImage={}",
        encode(&format!("docker.io/library/{IN_ONE}"))
    ))?;
    pull_messages(&response.expect(200)?)?;
    let image = api.get_json(&format!("/images/{IN_ONE}/json"))?;
    ensure!(image["RepoTags"] == json!([IN_ONE]), "{image}");
    Ok(())
}

/// `X-Registry-Auth` as Go's clients send it.
fn credentials(password: &str) -> String {
    let login = json!({"username": LOGIN.0, "password": password, "serveraddress": LOGIN_REGISTRY});
    base64::engine::general_purpose::URL_SAFE.encode(login.to_string())
}

fn a_pull_needs_the_login(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let pull = |authentication: Option<String>| {
        let request = api.request(
            "POST",
            &format!("/images/create?fromImage={}&tag=3.21", encode("localhost:5000/alpine")),
        );
        let request = match authentication {
            Some(value) => request.header("X-Registry-Auth", value),
            None => request,
        };
        api.send(&request)
    };
    for wrong in [None, Some(String::new()), Some("%%%".into()), Some(credentials("wrong"))] {
        let response = pull(wrong.clone())?;
        // For a stranger Docker says 404, as the image may not even exist; without TLS dockerd says 500.
        let message = match response.status() {
            200 => format!("{:#}", pull_messages(&response).err().context("pulled")?),
            401 | 404 | 500 => response.message(),
            other => e2e::bail!("{wrong:?}: status {other}: {}", response.text()),
        };
        ensure!(message.to_lowercase().contains("auth"), "{wrong:?}: {message}");
        ensure!(!message.contains("wrong") && !message.contains(LOGIN.1), "a secret in {message}");
    }
    let response = pull(Some(credentials(LOGIN.1)))?.expect(200)?;
    let messages = pull_messages(&response)?;
    ensure!(
        statuses(&messages).last()
            == Some(&"Status: Downloaded newer image for localhost:5000/alpine:3.21"),
        "{messages:?}"
    );
    api.delete("/images/localhost:5000/alpine:3.21")?.expect(200)?;
    Ok(())
}

fn a_pull_of_what_is_not_there(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    for (name, tag) in [("nobody-has-this", "latest"), ("busybox", "no-such-tag")] {
        let message =
            api.post(&format!("/images/create?fromImage={name}&tag={tag}"))?.expect_error(404)?;
        ensure!(
            message.contains("not found") || message.contains("pull access denied"),
            "{message}"
        );
    }
    Ok(())
}

fn bad_references_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let create = |query: &str| api.post(&format!("/images/create?{query}"));
    let message = create("fromImage=UPPER&tag=latest")?.expect_error(400)?;
    ensure!(
        message.contains("invalid reference format") && message.contains("must be lowercase"),
        "{message}"
    );
    for (name, tag) in [
        ("busybox", "in%20valid"),
        ("busybox", "sha256:12"),
        ("a%2F%2Fb", "x"),
        ("-x", "latest"),
        ("busybox", &"x".repeat(129)),
    ] {
        let message = create(&format!("fromImage={name}&tag={tag}"))?
            .expect_error(400)
            .with_context(|| format!("{name}:{tag}"))?;
        ensure!(message.contains("invalid"), "{message}");
    }
    let message = create("fromImage=scratch&tag=latest")?.expect_error(403)?;
    ensure!(message == "'scratch' is a reserved name", "{message}");
    let message =
        create("fromImage=busybox&tag=latest&platform=nonsense%2F%2F%2F%2F")?.expect_error(400)?;
    ensure!(!message.is_empty());
    for path in ["/images/UPPER/json", "/images/a%20b/json"] {
        let status = api.get(path)?.status();
        ensure!(matches!(status, 400 | 404), "{path}: {status}");
    }
    let message = api.get("/images/nobody-has-this/json")?.expect_error(404)?;
    ensure!(message == "No such image: nobody-has-this:latest", "{message}");
    let message = api.delete("/images/nobody-has-this")?.expect_error(404)?;
    ensure!(message == "No such image: nobody-has-this:latest", "{message}");
    Ok(())
}

fn an_image_of_another_platform(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    // An index with the host's platform and a foreign one; and an architecture nobody has.
    let response =
        api.post("/images/create?fromImage=busybox&tag=stable&platform=linux%2Fs390x")?;
    let message = match response.status() {
        200 => format!("{:#}", pull_messages(&response).err().context("it was pulled")?),
        _ => response.expect_error(404)?,
    };
    ensure!(message.contains("linux/s390x"), "{message}");
    let body = json!({"Image": "busybox:latest", "Cmd": ["true"]});
    api.have("busybox:latest")?;
    let message =
        api.post_json("/containers/create?platform=linux%2Fs390x", &body)?.expect_error(404)?;
    ensure!(
        message.contains("image with reference") && message.contains("(linux/s390x)"),
        "{message}"
    );
    Ok(())
}

fn row(api: &Api, name: &str) -> Result<Value> {
    let list = api.get_json("/images/json")?;
    let has =
        |row: &&Value| row["RepoTags"].as_array().is_some_and(|tags| tags.contains(&json!(name)));
    list.as_array()
        .into_iter()
        .flatten()
        .find(has)
        .cloned()
        .with_context(|| format!("{name} is not in {list}"))
}

fn lists_have_dockers_shape(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(LISTED)?;
    let row = row(&api, LISTED)?;
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    ensure!(text("Id").starts_with("sha256:") && text("Id").len() == 71, "{row}");
    ensure!(row["ParentId"] == "", "{row}");
    ensure!(row["Created"].as_i64().is_some_and(|time| time > 0), "{row}");
    ensure!(row["Size"].as_i64().is_some_and(|bytes| bytes > 1 << 20), "{row}");
    ensure!(row["SharedSize"] == -1, "{row}");
    ensure!(row["Containers"].is_i64() || row["Containers"].is_u64(), "{row}");
    ensure!(row["RepoDigests"].as_array().is_some_and(|all| all.len() == 1), "{row}");
    ensure!(row["Descriptor"]["digest"] == row["Id"], "{row}");
    ensure!(row.get("Manifests").is_none() && row.get("VirtualSize").is_none(), "{row}");
    ensure!(row.get("Labels").is_some(), "{row}");
    Ok(())
}

fn lists_differ_by_version(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(LISTED)?;
    let at = |version: &str| row(&api.at(version), LISTED);
    ensure!(at("1.43")?["VirtualSize"] == at("1.43")?["Size"], "VirtualSize is there below 1.44");
    ensure!(at("1.44")?.get("VirtualSize").is_none(), "VirtualSize is gone from 1.44");
    ensure!(
        at("1.47")?.get("Descriptor").is_none() && at("1.48")?.get("Descriptor").is_some(),
        "Descriptor comes with 1.48"
    );
    ensure!(at("1.50")?["Containers"] == -1, "Containers is -1 below 1.51");
    ensure!(
        at("1.51")?["Containers"].as_i64().is_some_and(|count| count >= 0),
        "Containers is a count from 1.51"
    );
    // The singular filter of 1.24.
    let old = api.at("1.24").get_json("/images/json?filter=busybox")?;
    ensure!(old.as_array().is_some_and(|rows| !rows.is_empty()), "{old}");
    let all = |list: &Value| {
        list.as_array()
            .into_iter()
            .flatten()
            .all(|row| row["RepoTags"].to_string().contains("busybox"))
    };
    ensure!(all(&old), "{old}");
    Ok(())
}

fn lists_are_filtered(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(LISTED)?;
    let tags = |query: &str| -> Result<String> {
        let list = api.get_json(&format!("/images/json?{query}"))?;
        Ok(list.as_array().into_iter().flatten().map(|row| row["RepoTags"].to_string()).collect())
    };
    for pattern in ["busybox:1.36", "busybox:1.*", "busy*:1.36", "docker.io/library/busybox:1.36"] {
        ensure!(tags(&filters(&[("reference", pattern)]))?.contains(LISTED), "reference={pattern}");
    }
    ensure!(
        !tags(&filters(&[("reference", "*/busybox")]))?.contains(LISTED),
        "a star crosses a slash"
    );
    ensure!(!tags(&filters(&[("dangling", "true")]))?.contains(LISTED), "dangling=true");
    ensure!(tags(&filters(&[("dangling", "false")]))?.contains(LISTED), "dangling=false");
    ensure!(!tags(&filters(&[("label", "nobody=has")]))?.contains(LISTED), "label");
    ensure!(
        tags("filters=%7B%22reference%22%3A%5B%22busybox%3A1.36%22%5D%7D")?.contains(LISTED),
        "the list form of filters"
    );
    ensure!(tags("filters=%7B%7D")?.contains(LISTED), "an empty filter");
    let message =
        api.get(&format!("/images/json?{}", filters(&[("nonsense", "x")])))?.expect_error(400)?;
    ensure!(message == "invalid filter 'nonsense'", "{message}");
    let message = api.get("/images/json?filters=nonsense")?.expect_error(400)?;
    ensure!(message.starts_with("invalid filter"), "{message}");
    let message =
        api.get(&format!("/images/json?{}", filters(&[("dangling", "x")])))?.expect_error(400)?;
    ensure!(message == "invalid filter 'dangling=[x]'", "{message}");
    Ok(())
}

fn inspect_by_any_name(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(LISTED)?;
    let image = api.get_json(&format!("/images/{LISTED}/json"))?;
    let id = image["Id"].as_str().context("no Id")?;
    let digest = image["RepoDigests"][0].as_str().context("no digest")?;
    let hex = id.trim_start_matches("sha256:");
    for name in [
        id,
        hex,
        &hex[..12],
        &format!("sha256:{}", &hex[..8]),
        digest,
        "docker.io/library/busybox:1.36",
        "library/busybox:1.36",
    ] {
        let found =
            api.get_json(&format!("/images/{name}/json")).with_context(|| name.to_owned())?;
        ensure!(found["Id"] == id, "{name} is {}", found["Id"]);
    }
    Ok(())
}

fn inspect_has_all_keys(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have("nginx:latest")?;
    let image = api.get_json("/images/nginx:latest/json")?;
    for key in [
        "Id",
        "RepoTags",
        "RepoDigests",
        "Created",
        "Config",
        "Architecture",
        "Os",
        "Size",
        "RootFS",
        "Metadata",
        "Descriptor",
    ] {
        ensure!(image.get(key).is_some(), "no {key}: {image}");
    }
    ensure!(image["Os"] == "linux" && image["RootFS"]["Type"] == "layers", "{image}");
    ensure!(
        image["RootFS"]["Layers"].as_array().is_some_and(|layers| layers.len() == 2),
        "{image}"
    );
    ensure!(image["Config"]["ExposedPorts"] == json!({"80/tcp": {}}), "{}", image["Config"]);
    ensure!(
        image["Config"]["Cmd"].is_array() && image["Config"]["Env"].is_array(),
        "{}",
        image["Config"]
    );
    ensure!(
        image["Metadata"]["LastTagTime"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z') || time.contains('+')),
        "{image}"
    );
    Ok(())
}

fn inspect_differs_by_version(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(LISTED)?;
    let at = |version: &str| api.at(version).get_json(&format!("/images/{LISTED}/json"));
    ensure!(
        at("1.43")?.get("VirtualSize").is_some() && at("1.44")?.get("VirtualSize").is_none(),
        "VirtualSize"
    );
    ensure!(
        at("1.44")?.get("ContainerConfig").is_some()
            && at("1.45")?.get("ContainerConfig").is_none(),
        "ContainerConfig"
    );
    ensure!(
        at("1.47")?.get("Descriptor").is_none() && at("1.48")?.get("Descriptor").is_some(),
        "Descriptor"
    );
    for key in ["Parent", "Comment", "DockerVersion", "Author"] {
        ensure!(at("1.51")?.get(key).is_some(), "{key} is missing below 1.52");
    }
    ensure!(at("1.52")?.get("Parent").is_none(), "Parent is gone from 1.52");
    ensure!(
        at("1.51")?.get("GraphDriver").is_some() && at("1.52")?.get("GraphDriver").is_none(),
        "GraphDriver"
    );
    ensure!(
        at("1.49")?["Config"].get("Tty").is_some() && at("1.50")?["Config"].get("Tty").is_none(),
        "Config of a container"
    );
    Ok(())
}

fn removing_untags_and_deletes(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.pull(REMOVED)?;
    let id = api.get_json(&format!("/images/{REMOVED}/json"))?["Id"].clone();
    let gone = api.delete(&format!("/images/{REMOVED}"))?.expect(200)?.json()?;
    let rows = gone.as_array().context("not a list")?;
    ensure!(rows.first() == Some(&json!({"Untagged": REMOVED})), "{gone}");
    ensure!(rows.contains(&json!({"Deleted": id})), "{gone}");
    api.get(&format!("/images/{REMOVED}/json"))?.expect_error(404)?;
    // By its id, and all its names with it.
    api.pull(REMOVED)?;
    let id = id.as_str().context("no id")?;
    api.delete(&format!("/images/{id}"))?.expect(200)?;
    api.get(&format!("/images/{REMOVED}/json"))?.expect_error(404)?;
    Ok(())
}

fn removing_one_of_two_names(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    api.pull(RENAMED)?;
    // The same image under the name of another registry, as its index has the same digest.
    let image = api.get_json(&format!("/images/{RENAMED}/json"))?;
    let digest = image["RepoDigests"][0].as_str().context("no digest")?.to_owned();
    let gone = api.delete(&format!("/images/{RENAMED}"))?.expect(200)?.json()?;
    ensure!(gone[0] == json!({"Untagged": RENAMED}), "{gone}");
    let status = api.get(&format!("/images/{digest}/json"))?.status();
    ensure!(status == 404, "the digest still answers {status}");
    Ok(())
}

fn an_image_in_use_stays(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.pull(USED)?;
    let container = api.create(
        json!({"Image": USED, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}),
    )?;
    let short = &container.id[..12];
    let message = api.delete(&format!("/images/{USED}"))?.expect_error(409)?;
    ensure!(
        message.contains("unable to")
            && message.contains(short)
            && message.contains("(must be forced)"),
        "{message}"
    );
    container.start()?;
    let message = api.delete(&format!("/images/{USED}"))?.expect_error(409)?;
    ensure!(message.contains(short), "{message}");
    let id =
        api.get_json(&format!("/images/{USED}/json"))?["Id"].as_str().context("no id")?.to_owned();
    let message = api.delete(&format!("/images/{id}?force=1"))?.expect_error(409)?;
    ensure!(
        message.contains("(cannot be forced) - image is being used by running container"),
        "{message}"
    );
    ensure!(row(&api, USED)?["Containers"] == 1, "the list counts containers");
    container.remove()?;
    api.delete(&format!("/images/{USED}"))?.expect(200)?;
    Ok(())
}

fn bollard_pulls_and_lists(rig: &Rig) -> Result<()> {
    use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder};
    use futures_util::StreamExt as _;
    let docker = crate::bollard(rig.host()?)?;
    crate::runtime()?.block_on(async {
        let options = CreateImageOptionsBuilder::default().from_image(BOLLARDS).build();
        let messages: Vec<_> = docker.create_image(Some(options), None, None).collect().await;
        ensure!(messages.iter().all(Result::is_ok), "{messages:?}");
        let images =
            docker.list_images(Some(ListImagesOptionsBuilder::default().all(true).build())).await?;
        ensure!(
            images.iter().any(|image| image.repo_tags.iter().any(|tag| tag == BOLLARDS)),
            "{images:?}"
        );
        let image = docker.inspect_image(BOLLARDS).await?;
        ensure!(image.os.as_deref() == Some("linux"), "{image:?}");
        Ok(())
    })
}

/// containerd's unfinished writes, and the leases that keep content alive, in a host of ours.
fn leftovers(host: &Host) -> Result<String> {
    let ingests = host.ctr(&["content", "active"])?.lines().skip(1).collect::<String>();
    let leases = host.ctr(&["leases", "ls", "-q"])?;
    Ok(format!("{ingests}{leases}").trim().to_owned())
}

fn a_blob_with_the_wrong_digest_is_refused(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let liar = LyingRegistry::start(host, Lie::WrongBytes)?;
            let name = format!("{}/library/alpine", liar.address);
            let response =
                host.api().post(&format!("/images/create?fromImage={}&tag=3.21", encode(&name)))?;
            let told = match response.status() {
                200 => pull_messages(&response).err().map(|error| format!("{error:#}")),
                _ => Some(response.message()),
            };
            let told = told.context("a forged image was pulled")?;
            ensure!(told.contains("digest"), "{told}");
            ensure!(liar.blobs() > 0, "no blob was asked for");
            host.api().get(&format!("/images/{name}:3.21/json"))?.expect_error(404)?;
            if host.is_ours() {
                ensure!(liar.blobs() > 1, "a broken blob is asked for again");
                let left = leftovers(host)?;
                ensure!(left.is_empty(), "left in containerd: {left}");
                // The honest one still works (dockerd 29 fails on what the forged one left).
                host.api().pull("alpine:3.21")?;
            }
            Ok(())
        },
    )
}

fn a_client_that_leaves_cancels_its_pull(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let liar = LyingRegistry::start(host, Lie::Stall)?;
            let name = format!("{}/library/alpine", liar.address);
            let api = host.api();
            let stream = api.stream(&api.request(
                "POST",
                &format!("/images/create?fromImage={}&tag=3.21", encode(&name)),
            ))?;
            until(Duration::from_secs(30), "a blob is on its way", || liar.blobs() > 0)?;
            drop(stream);
            if host.is_ours() {
                until(Duration::from_secs(20), "nothing is left in containerd", || {
                    leftovers(host).is_ok_and(|left| left.is_empty())
                })?;
            }
            api.get(&format!("/images/{name}:3.21/json"))?.expect_error(404)?;
            ensure!(api.answers());
            Ok(())
        },
    )
}
