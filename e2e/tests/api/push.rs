//! Push, and what a registry has: whole images, one platform, all tags; blobs that are there, or elsewhere.

use base64::Engine as _;
use e2e::api::{encode, pull_messages};
use e2e::cli::Docker;
use e2e::forge::{Forge, INDEX, LAYER, digest, tar};
use e2e::host::{LOGIN, LOGIN_REGISTRY, MIRROR};
use e2e::runner::OrSkip as _;
use e2e::{Api, Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_push_tells_its_progress,
    a_layer_is_taken_over_from_another_repository,
    what_was_pushed_is_pulled_again,
    all_tags_of_a_repository,
    one_platform_stands_for_an_index,
    a_platform_that_is_asked_for,
    // Docker's pull takes one platform.
    all_platforms_go_with_their_attestations.ours_only(),
    a_push_needs_the_login,
    what_cannot_be_pushed,
    // Takes a blob out of containerd's store.
    what_is_not_here_is_said_before_anything_is_sent.ours_only(),
    what_a_registry_has,
    what_a_registry_does_not_have,
    the_cli_prints_the_digest,
];

/// One layer, one platform; other tests have it as well and leave it alone.
const SMALL: &str = "busybox:latest";
/// An index with a platform of which nothing is here.
const MANY: &str = "busybox:stable";

/// A name at the registry without a login, which goes when this does.
struct Name<'a> {
    api: &'a Api,
    repository: String,
    tag: &'static str,
}

impl<'a> Name<'a> {
    /// Gives `image` another name.
    fn of(api: &'a Api, image: &str, repository: String, tag: &'static str) -> Result<Self> {
        api.have(image)?;
        let query = format!("repo={}&tag={tag}", encode(&repository));
        api.post(&format!("/images/{image}/tag?{query}"))?.expect(201)?;
        Ok(Self { api, repository, tag })
    }

    fn full(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    fn push(&self, query: &str) -> Result<Vec<Value>> {
        let path = format!("/images/{}/push?tag={}&{query}", self.repository, self.tag);
        pull_messages(&self.api.post(&path)?.expect(200)?)
    }

    fn at_registry(&self) -> Result<Value> {
        self.api.get_json(&format!("/distribution/{}/json", self.full()))
    }
}

impl Drop for Name<'_> {
    fn drop(&mut self) {
        let _ = self.api.delete(&format!("/images/{}?force=1", self.full()));
    }
}

fn repository(what: &str) -> String {
    format!("{MIRROR}/{}", unique(what))
}

fn statuses(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["status"].as_str()).collect()
}

/// Digest and size in the last status: `tag: digest: sha256:… size: 7`.
fn outcome<'a>(messages: &'a [Value], tag: &str) -> Result<(&'a str, &'a str)> {
    let last = statuses(messages).last().copied().context("no status")?;
    let rest = last.strip_prefix(tag).and_then(|rest| rest.strip_prefix(": digest: "));
    rest.and_then(|rest| rest.split_once(" size: ")).with_context(|| last.to_owned())
}

fn a_push_tells_its_progress(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let name = Name::of(&api, SMALL, repository("progress"), "one")?;
    let messages = name.push("")?;
    let refers = format!("The push refers to repository [{}]", name.repository);
    ensure!(messages[0] == json!({"status": refers}), "{}", messages[0]);
    let layers: Vec<&Value> = messages.iter().filter(|message| message["id"].is_string()).collect();
    let hex = |id: &str| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(layers.iter().all(|layer| layer["id"].as_str().is_some_and(hex)), "{layers:?}");
    ensure!(layers.last().is_some_and(|layer| layer["status"] == "Pushed"), "{messages:?}");
    let (digest, size) = outcome(&messages, "one")?;
    let there = name.at_registry()?;
    ensure!(there["Descriptor"]["digest"] == digest, "{there} {digest}");
    ensure!(there["Descriptor"]["size"] == size.parse::<u64>()?, "{there} {size}");
    let again = name.push("")?;
    ensure!(statuses(&again).contains(&"Layer already exists"), "{again:?}");
    ensure!(outcome(&again, "one")? == (digest, size), "{again:?}");
    if host.is_ours() {
        // What the daemon with graph drivers sends, and skaffold reads.
        let aux = json!({"Tag": "one", "Digest": digest, "Size": size.parse::<u64>()?});
        ensure!(messages.iter().any(|message| message["aux"] == aux), "{messages:?}");
    }
    Ok(())
}

fn a_layer_is_taken_over_from_another_repository(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let first = Name::of(&api, SMALL, repository("mounted-from"), "one")?;
    first.push("")?;
    let second = Name::of(&api, SMALL, repository("mounted-to"), "one")?;
    let messages = second.push("")?;
    let mounted = statuses(&messages).iter().any(|status| status.starts_with("Mounted from "));
    ensure!(mounted, "{messages:?}");
    ensure!(second.at_registry()? == first.at_registry()?);
    Ok(())
}

fn what_was_pushed_is_pulled_again(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let name = Name::of(&api, "alpine:3", repository("again"), "one")?;
    let before = api.get_json(&format!("/images/{}/json", name.full()))?;
    let messages = name.push("")?;
    let (digest, _) = outcome(&messages, "one")?;
    let digest = digest.to_owned();
    api.delete(&format!("/images/{}", name.full()))?.expect(200)?;
    for reference in [format!("{}:one", name.repository), format!("{}@{digest}", name.repository)] {
        let query = format!("fromImage={}", encode(&reference));
        pull_messages(&api.post(&format!("/images/create?{query}"))?.expect(200)?)?;
        let image = api.get_json(&format!("/images/{reference}/json"))?;
        ensure!(image["Id"] == digest, "{image}");
        for key in ["Architecture", "Config", "Created", "RootFS"] {
            ensure!(image[key] == before[key], "{key}: {} {}", image[key], before[key]);
        }
        api.delete(&format!("/images/{reference}"))?.expect(200)?;
    }
    api.delete("/images/alpine:3")?;
    Ok(())
}

fn all_tags_of_a_repository(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let one = Name::of(&api, SMALL, repository("all-tags"), "one")?;
    let two = Name::of(&api, SMALL, one.repository.clone(), "two")?;
    let messages =
        pull_messages(&api.post(&format!("/images/{}/push", one.repository))?.expect(200)?)?;
    for name in [&one, &two] {
        let done = format!("{}: digest: sha256:", name.tag);
        ensure!(statuses(&messages).iter().any(|status| status.starts_with(&done)), "{messages:?}");
        name.at_registry()?;
    }
    // And back.
    api.delete(&format!("/images/{}", one.full()))?.expect(200)?;
    api.delete(&format!("/images/{}", two.full()))?.expect(200)?;
    let pulled = api.post(&format!("/images/create?fromImage={}", encode(&one.repository)))?;
    pull_messages(&pulled.expect(200)?)?;
    for name in [&one, &two] {
        api.get_json(&format!("/images/{}/json", name.full()))?;
    }
    Ok(())
}

fn one_platform_stands_for_an_index(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let name = Name::of(&api, MANY, repository("index"), "one")?;
    let image = api.get_json(&format!("/images/{}/json", name.full()))?;
    let messages = name.push("")?;
    let aux = messages.iter().find(|message| !message["aux"]["originalIndex"].is_null());
    let aux = &aux.with_context(|| format!("{messages:?}"))?["aux"];
    ensure!(aux["manifestPushedInsteadOfIndex"] == true, "{aux}");
    ensure!(aux["originalIndex"]["digest"] == image["Id"], "{aux} {image}");
    let (digest, size) = outcome(&messages, "one")?;
    ensure!(aux["selectedManifest"]["digest"] == digest, "{aux} {digest}");
    ensure!(aux["selectedManifest"]["size"] == size.parse::<u64>()?, "{aux} {size}");
    ensure!(aux["selectedManifest"]["platform"]["os"] == "linux", "{aux}");
    ensure!(name.at_registry()?["Descriptor"]["digest"] == digest);
    Ok(())
}

fn a_platform_that_is_asked_for(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let name = Name::of(&api, MANY, repository("platform"), "one")?;
    let platform = |architecture: &str| {
        format!(
            "platform={}",
            encode(&json!({"os": "linux", "architecture": architecture}).to_string())
        )
    };
    let here = api.get_json("/version")?["Arch"].as_str().context("no Arch")?.to_owned();
    let messages = name.push(&platform(&here))?;
    let (digest, _) = outcome(&messages, "one")?;
    ensure!(name.at_registry()?["Descriptor"]["digest"] == digest);
    let error = name.push(&platform("s390x")).err().context("s390x was pushed")?;
    ensure!(error.to_string().contains("linux/s390x"), "{error}");
    // Older clients sent it without a meaning.
    let old = api.at("1.45");
    let path = format!("/images/{}/push?tag=one&platform=nonsense", name.repository);
    pull_messages(&old.post(&path)?.expect(200)?)?;
    Ok(())
}

fn all_platforms_go_with_their_attestations(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let forge = Forge::new(host, &unique("platforms"));
    let mut entries = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let tar = tar(architecture, b"content")?;
        let layer = forge.blob(LAYER, &tar)?;
        let mut entry = forge.image(architecture, &[layer], &[digest(&tar)])?;
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let statement = forge.blob("application/vnd.in-toto+json", b"{}")?;
    let mut attestation = forge.image("attestation", &[statement], &[])?;
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    entries.push(attestation);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let index = forge.document("one", INDEX, &index)?;
    let source = forge.reference("one");
    let query = format!("fromImage={}&platform=all", encode(&source));
    pull_messages(&api.post(&format!("/images/create?{query}"))?.expect(200)?)?;
    let name = Name::of(&api, &source, repository("all-platforms"), "one")?;
    let messages = name.push("")?;
    ensure!(outcome(&messages, "one")?.0 == index["digest"], "{messages:?}");
    ensure!(!messages.iter().any(|message| !message["aux"]["originalIndex"].is_null()));
    let there = name.at_registry()?;
    ensure!(there["Platforms"].as_array().is_some_and(|all| all.len() == 3), "{there}");
    api.delete(&format!("/images/{source}"))?.expect(200)?;
    // Two that are named, which is not all of it: the one that runs here stands for the index.
    let query =
        format!("fromImage={}&platform=linux%2Famd64&platform=linux%2Farm64", encode(&source));
    pull_messages(&api.post(&format!("/images/create?{query}"))?.expect(200)?)?;
    let query =
        format!("fromImage={}&platform=linux%2Famd64&platform=linux%2Fs390x", encode(&source));
    let refused = api.post(&format!("/images/create?{query}"))?.expect_error(404)?;
    ensure!(refused.contains("linux/s390x"), "{refused}");
    api.delete(&format!("/images/{source}"))?.expect(200)?;
    Ok(())
}

fn a_push_needs_the_login(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let name = Name::of(&api, SMALL, format!("{LOGIN_REGISTRY}/{}", unique("login")), "one")?;
    let push = |password: Option<&str>| {
        let path = format!("/images/{}/push?tag=one", name.repository);
        let request = api.request("POST", &path);
        let login = password.map(|password| {
            let login =
                json!({"username": LOGIN.0, "password": password, "serveraddress": LOGIN_REGISTRY});
            base64::engine::general_purpose::URL_SAFE.encode(login.to_string())
        });
        let request = match login {
            Some(login) => request.header("X-Registry-Auth", login),
            None => request,
        };
        pull_messages(&api.send(&request)?.expect(200)?)
    };
    for wrong in [None, Some("wrong")] {
        let error = push(wrong).err().context("pushed without the login")?.to_string();
        ensure!(error.to_lowercase().contains("auth"), "{wrong:?}: {error}");
        ensure!(!error.contains("wrong"), "a secret in {error}");
    }
    outcome(&push(Some(LOGIN.1))?, "one")?;
    Ok(())
}

fn what_cannot_be_pushed(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let failure = |path: &str| -> Result<String> {
        let response = api.post(path)?.expect(200)?;
        Ok(pull_messages(&response).err().with_context(|| response.text())?.to_string())
    };
    let told = failure("/images/nobody-has-this/push?tag=one")?;
    ensure!(told == "tag does not exist: nobody-has-this:one", "{told}");
    let told = failure("/images/nobody-has-this/push")?;
    ensure!(told == "An image does not exist locally with the tag: nobody-has-this", "{told}");
    for bad in ["UPPER/push?tag=x", "busybox/push?tag=in%20valid"] {
        let told = api.post(&format!("/images/{bad}"))?.expect_error(400)?;
        ensure!(told.contains("invalid"), "{told}");
    }
    let bad = api.post("/images/busybox/push?tag=latest&platform=nonsense")?.expect_error(400)?;
    ensure!(bad.contains("platform"), "{bad}");
    Ok(())
}

fn what_is_not_here_is_said_before_anything_is_sent(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let container = api.create(json!({"Image": SMALL, "Cmd": ["true"]}))?;
    let repository = repository("missing");
    let query = format!("container={}&repo={}&tag=one", container.id, encode(&repository));
    let made = api.post(&format!("/commit?{query}"))?.expect(201)?.json()?;
    let name = Name { api: &api, repository, tag: "one" };
    let manifest = host.ctr(&["content", "get", made["Id"].as_str().context("no Id")?])?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    // The config: layers may be other tests' as well.
    let config = manifest["config"]["digest"].as_str().context("no config")?;
    host.ctr(&["content", "rm", config])?;
    let path = format!("/images/{}/push?tag=one", name.repository);
    let response = api.post(&path)?.expect(200)?;
    let error = pull_messages(&response).err().context("it was pushed")?.to_string();
    ensure!(error == format!("content digest {config}: not found"), "{error}");
    ensure!(response.text().contains("\"contentMissing\":true"), "{}", response.text());
    ensure!(!response.text().contains("Pushed"), "{}", response.text());
    Ok(())
}

fn what_a_registry_has(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let index = api.get_json(&format!("/distribution/{MIRROR}/library/{MANY}/json"))?;
    let kind = index["Descriptor"]["mediaType"].as_str().unwrap_or_default();
    ensure!(kind.contains("index") || kind.contains("list"), "{index}");
    let platforms = index["Platforms"].as_array().context("no Platforms")?;
    ensure!(platforms.len() > 1 && platforms.iter().all(|one| one["os"] == "linux"), "{index}");
    let digest = index["Descriptor"]["digest"].as_str().context("no digest")?;
    let by_digest =
        api.get_json(&format!("/distribution/{MIRROR}/library/busybox@{digest}/json"))?;
    ensure!(by_digest == index, "{by_digest} {index}");
    // Through the mirror of the hub, and without a tag.
    for name in ["busybox", "docker.io/library/busybox:latest"] {
        let found = api.get_json(&format!("/distribution/{name}/json"))?;
        ensure!(found["Descriptor"]["size"].as_u64().is_some_and(|size| size > 0), "{found}");
    }
    let login = json!({"username": LOGIN.0, "password": LOGIN.1, "serveraddress": LOGIN_REGISTRY});
    let login = base64::engine::general_purpose::URL_SAFE.encode(login.to_string());
    let path = format!("/distribution/{LOGIN_REGISTRY}/alpine:3.21/json");
    let request = api.request("GET", &path).header("X-Registry-Auth", login);
    api.send(&request)?.expect(200)?;
    Ok(())
}

fn what_a_registry_does_not_have(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let status = |name: &str| -> Result<(u16, String)> {
        let response = api.get(&format!("/distribution/{name}/json"))?;
        Ok((response.status(), response.message()))
    };
    let (missing, text) = status(&format!("{MIRROR}/library/busybox:no-such-tag"))?;
    ensure!(missing == 404 && text.contains("manifest unknown"), "{missing} {text}");
    let (denied, text) = status(&format!("{LOGIN_REGISTRY}/alpine:3.21"))?;
    // dockerd has no class for it.
    let expected = if host.is_ours() { 401 } else { 500 };
    ensure!(denied == expected && text.contains("no basic auth credentials"), "{denied} {text}");
    let (bad, text) = status("UPPER")?;
    ensure!(bad == 400 && text.contains("must be lowercase"), "{bad} {text}");
    api.at("1.29").get("/distribution/busybox/json")?.expect_error(400)?;
    Ok(())
}

fn the_cli_prints_the_digest(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let api = host.api();
    let docker = Docker::newest(host).or_skip()?;
    let name = Name::of(&api, MANY, repository("cli"), "one")?;
    let printed = docker.run(&["push", &name.full()])?.success()?;
    // Another test may have pushed the layer to another repository.
    ensure!(printed.contains(": Pushed") || printed.contains(": Mounted from "), "{printed}");
    ensure!(printed.contains("only the available single-platform image was pushed"), "{printed}");
    let digest = name.at_registry()?["Descriptor"]["digest"].clone();
    let digest = digest.as_str().context("no digest")?;
    ensure!(printed.contains(&format!("one: digest: {digest} size: ")), "{printed}");
    let quiet = docker.run(&["push", "--quiet", &name.full()])?.success()?;
    ensure!(quiet.lines().next() == Some(&name.full()), "{quiet}");
    let failed = docker.run(&["push", &format!("{}:none", name.repository)])?;
    ensure!(failed.code == 1, "{failed:?}");
    ensure!(failed.stderr.contains("tag does not exist"), "{failed:?}");
    Ok(())
}
