//! Images at rest: saved and loaded; what an archive may hold and what it may not.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::api::{BUSYBOX, Image, encode};
use e2e::cli::Docker;
use e2e::http::Response;
use e2e::runner::OrSkip as _;
use e2e::sandbox::until;
use e2e::{Api, Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_saved_image_has_both_layouts,
    several_names_share_an_archive,
    what_cannot_be_saved,
    what_was_saved_can_be_loaded,
    archives_may_be_compressed,
    old_archives_are_loaded,
    images_without_a_name_are_loaded,
    archives_that_are_none,
    archives_that_lie.ours_only(), // dockerd keeps what it could not unpack
    docker_save_and_load,
    nerdctl_loads_what_we_save.ours_only(),
];

/// An image of our own: busybox with one layer and, if any, a name.
pub(crate) fn made(api: &Api, name: Option<&str>) -> Result<Image> {
    committed(api, "echo made > /made", "", name)
}

/// An image of what `script` makes of busybox. `query` begins with `&` or is empty.
pub(crate) fn committed(api: &Api, script: &str, query: &str, name: Option<&str>) -> Result<Image> {
    let container = api.run_script(script)?;
    container.wait()?;
    let name_of = name.and_then(|name| name.split_once(':'));
    let named = name_of.map_or(String::new(), |(repo, tag)| format!("&repo={repo}&tag={tag}"));
    let path = format!("/commit?container={}{query}{named}", container.id);
    let answer = api.post_json(&path, &json!(null))?.expect(201)?.json()?;
    let id = answer["Id"].as_str().context("no Id")?.to_owned();
    Ok(Image { api: api.clone(), name: name.map_or(id, str::to_owned) })
}

pub(crate) fn inspect(api: &Api, name: &str) -> Result<Value> {
    api.get_json(&format!("/images/{name}/json"))
}

pub(crate) fn gone(api: &Api, name: &str) -> Result<()> {
    api.get(&format!("/images/{name}/json"))?.expect_error(404).map(drop)
}

pub(crate) fn save(api: &Api, query: &str) -> Result<Vec<u8>> {
    let response = api.get(&format!("/images/get?{query}"))?.expect(200)?;
    ensure!(response.head.header("content-type") == Some("application/x-tar"));
    Ok(response.body)
}

fn load(api: &Api, query: &str, archive: impl Into<Vec<u8>>) -> Result<Response> {
    let request = api
        .request("POST", &format!("/images/load?{query}"))
        .header("Content-Type", "application/x-tar");
    api.send(&request.bytes(archive))?.expect(200)
}

/// What a load says, one line a message.
pub(crate) fn loaded(api: &Api, query: &str, archive: impl Into<Vec<u8>>) -> Result<Vec<String>> {
    let response = load(api, query, archive)?;
    ensure!(response.head.header("content-type") == Some("application/json"));
    let messages = e2e::api::pull_messages(&response)?;
    let lines = messages.iter().map(|message| message["stream"].as_str().map(str::to_owned));
    lines.collect::<Option<_>>().with_context(|| format!("{messages:?}"))
}

/// Why a load failed.
pub(crate) fn refused(api: &Api, query: &str, archive: impl Into<Vec<u8>>) -> Result<String> {
    let response = load(api, query, archive)?;
    let text = response.text();
    let last: Value = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
    ensure!(last["error"] == last["errorDetail"]["message"], "{last}");
    Ok(last["error"].as_str().with_context(|| format!("no error: {last}"))?.to_owned())
}

/// Files of an archive with their content, in their order.
pub(crate) fn files(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.push((name, content));
    }
    Ok(files)
}

pub(crate) fn document(files: &[(String, Vec<u8>)], name: &str) -> Result<Value> {
    let found = files.iter().find(|(known, _)| known == name);
    let (_, content) = found.with_context(|| format!("no {name}"))?;
    Ok(serde_json::from_slice(content)?)
}

pub(crate) fn archive(files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice())?;
    }
    Ok(builder.into_inner()?)
}

pub(crate) fn sha256(bytes: &[u8]) -> Result<String> {
    let sum = piped(&["sha256sum"], bytes)?;
    Ok(String::from_utf8_lossy(&sum).chars().take(64).collect())
}

/// What a program makes of its input.
pub(crate) fn piped(command: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut program = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| command[0].to_owned())?;
    let mut stdin = program.stdin.take().context("stdin")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        program.wait_with_output()
    })?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(output.stdout)
}

fn a_saved_image_has_both_layouts(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("saved"));
    let _image = made(&api, Some(&name))?;
    let files = files(&save(&api, &format!("names={name}"))?)?;
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names[..2] == ["blobs/", "blobs/sha256/"], "{names:?}");
    ensure!(names[names.len() - 3..] == ["index.json", "manifest.json", "oci-layout"], "{names:?}");
    ensure!(document(&files, "oci-layout")? == json!({"imageLayoutVersion": "1.0.0"}));
    let index = document(&files, "index.json")?;
    let of = inspect(&api, &name)?;
    let entry = &index["manifests"][0];
    ensure!(
        entry["digest"] == of["Id"]
            && entry["annotations"]["io.containerd.image.name"]
                == format!("docker.io/library/{name}")
            && entry["annotations"]["org.opencontainers.image.ref.name"] == "1",
        "{index}"
    );
    let manifest = document(&files, "manifest.json")?;
    ensure!(manifest[0]["RepoTags"] == json!([name]), "{manifest}");
    let layers = manifest[0]["Layers"].as_array().context("no Layers")?;
    ensure!(layers.len() == of["RootFS"]["Layers"].as_array().map_or(0, Vec::len), "{manifest}");
    for path in layers.iter().chain([&manifest[0]["Config"]]) {
        let path = path.as_str().context("no path")?;
        let (_, content) = files.iter().find(|(name, _)| name == path).context(path.to_owned())?;
        ensure!(path == format!("blobs/sha256/{}", sha256(content)?), "{path}");
    }
    let one = api.get(&format!("/images/{name}/get"))?.expect(200)?;
    ensure!(document(&self::files(&one.body)?, "index.json")? == index);
    // By its id it has no name.
    let id = of["Id"].as_str().context("no Id")?;
    let nameless = self::files(&save(&api, &format!("names={}", encode(id)))?)?;
    let manifest = document(&nameless, "manifest.json")?;
    ensure!(manifest[0]["RepoTags"].is_null(), "{manifest}");
    Ok(())
}

fn several_names_share_an_archive(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let repo = unique("shared");
    let _one = made(&api, Some(&format!("{repo}:1")))?;
    let _two = Image { api: api.clone(), name: format!("{repo}:2") };
    api.post(&format!("/images/{repo}:1/tag?repo={repo}&tag=2"))?.expect(201)?;
    api.have(BUSYBOX)?;
    let by_names = files(&save(&api, &format!("names={repo}:1&names={repo}:2&names={BUSYBOX}"))?)?;
    let manifest = document(&by_names, "manifest.json")?;
    let images = manifest.as_array().context("no list")?;
    ensure!(images.len() == 2, "{manifest}");
    let tags = [format!("{repo}:1"), format!("{repo}:2")];
    ensure!(images.iter().any(|image| image["RepoTags"] == json!(tags)), "{manifest}");
    let mut names: Vec<&String> = by_names.iter().map(|(name, _)| name).collect();
    let count = names.len();
    names.dedup();
    ensure!(names.len() == count, "blobs are there once");
    // The repository's name alone means all its tags.
    let all = document(&files(&save(&api, &format!("names={repo}"))?)?, "index.json")?;
    ensure!(all["manifests"].as_array().map(Vec::len) == Some(2), "{all}");
    Ok(())
}

fn what_cannot_be_saved(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let nothing = api.get("/images/get?names=nothing:like-it")?.expect_error(404)?;
    ensure!(nothing.contains("nothing:like-it"), "{nothing}");
    api.get("/images/nothing/get")?.expect_error(404)?;
    let platform = encode(r#"{"os":"linux","architecture":"s390x"}"#);
    let absent =
        api.get(&format!("/images/{BUSYBOX}/get?platform={platform}"))?.expect_error(404)?;
    ensure!(absent.contains("linux/s390x"), "{absent}");
    let two = format!("/images/{BUSYBOX}/get?platform={platform}&platform={platform}");
    let many = api.at("1.51").get(&two)?.expect_error(400)?;
    ensure!(many.contains("multiple platform parameters"), "{many}");
    api.get(&format!("/images/{BUSYBOX}/get?platform=nonsense"))?.expect_error(400)?;
    // Nobody knew it before 1.48.
    api.at("1.47").get(&format!("/images/{BUSYBOX}/get?platform=nonsense"))?.expect(200)?;
    Ok(())
}

fn what_was_saved_can_be_loaded(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("again"));
    let image = made(&api, Some(&name))?;
    let before = inspect(&api, &name)?;
    let archive = save(&api, &format!("names={name}"))?;
    drop(image);
    gone(&api, &name)?;
    let lines = loaded(&api, "", archive.clone())?;
    let _image = Image { api: api.clone(), name: name.clone() };
    ensure!(lines == [format!("Loaded image: {name}\n")], "{lines:?}");
    let after = inspect(&api, &name)?;
    // dockerd's size is another one when a layer's archive was not made by itself.
    for key in ["Id", "RepoTags", "RootFS", "Config"] {
        ensure!(before[key] == after[key], "{key}: {} {}", before[key], after[key]);
    }
    let mut body = e2e::api::script_body("cat /made");
    body["Image"] = json!(name);
    let run = api.create(body)?;
    run.start()?;
    run.wait()?;
    ensure!(run.logs("")?.text() == "made\n");
    // What is there is no obstacle.
    let lines = loaded(&api, "quiet=0", archive)?;
    ensure!(lines == [format!("Loaded image: {name}\n")], "{lines:?}");
    Ok(())
}

fn archives_may_be_compressed(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("packed"));
    let _image = made(&api, Some(&name))?;
    let plain = save(&api, &format!("names={name}"))?;
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = piped(&[program, "-c", "-1"], &plain)?;
        let lines = loaded(&api, "", packed).with_context(|| program)?;
        ensure!(lines == [format!("Loaded image: {name}\n")], "{program}: {lines:?}");
    }
    Ok(())
}

/// An image as Docker wrote it before OCI layouts: its config, its layer, and a link to another's.
fn old_archive(name: &str, layer: &[u8]) -> Result<(Vec<u8>, String)> {
    let diff_id = format!("sha256:{}", sha256(layer)?);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/old"]}, "created": "2020-01-02T03:04:05Z",
        "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]},
        "history": [{"created_by": "one"}, {"created_by": "two"}],
    })
    .to_string()
    .into_bytes();
    let config_path = format!("{}.json", sha256(&config)?);
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let manifest = json!([{
        "Config": config_path, "RepoTags": [name],
        "Layers": [format!("{one}/layer.tar"), format!("{two}/layer.tar")],
    }]);
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content)
    };
    add(&format!("{one}/VERSION"), b"1.0")?;
    add(&format!("{one}/json"), b"{}")?;
    add(&format!("{one}/layer.tar"), layer)?;
    add(&config_path, &config)?;
    add("manifest.json", manifest.to_string().as_bytes())?;
    add("repositories", b"{}")?;
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, format!("{two}/layer.tar"), format!("../{one}/layer.tar"))?;
    Ok((builder.into_inner()?, diff_id))
}

fn old_archives_are_loaded(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("old"));
    let layer = archive(&[("old", name.clone().into_bytes())])?;
    let (old, diff_id) = old_archive(&name, &layer)?;
    let lines = loaded(&api, "", old)?;
    let _image = Image { api: api.clone(), name: name.clone() };
    ensure!(lines == [format!("Loaded image: {name}\n")], "{lines:?}");
    let of = inspect(&api, &name)?;
    ensure!(of["RootFS"]["Layers"] == json!([diff_id, diff_id]), "{of}");
    ensure!(of["Config"]["Cmd"] == json!(["/old"]) && of["Architecture"] == "amd64", "{of}");
    let (bad, _) = old_archive("UPPER", &layer)?;
    let error = refused(&api, "", bad)?;
    ensure!(error.contains("UPPER") || error.contains("lowercase"), "{error}");
    Ok(())
}

fn images_without_a_name_are_loaded(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let image = made(&api, None)?;
    let id = image.name.clone();
    let archive = save(&api, &format!("names={}", encode(&id)))?;
    drop(image);
    gone(&api, &id)?;
    let lines = loaded(&api, "", archive)?;
    let _image = Image { api: api.clone(), name: id.clone() };
    ensure!(lines == [format!("Loaded image ID: {id}\n")], "{lines:?}");
    ensure!(inspect(&api, &id)?["RepoTags"] == json!([]));
    Ok(())
}

fn archives_that_are_none(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (what, words, bytes) in [
        ("nothing of an image", "unrecognized image format", archive(&[("a", b"a".to_vec())])?),
        ("no tar", "invalid tar header", vec![b'x'; 3000]),
        ("nothing", "unrecognized image format", Vec::new()),
        (
            "an old format",
            "unrecognized image format",
            archive(&[("repositories", b"{}".to_vec())])?,
        ),
        (
            "an index that is missing",
            "missing index.json",
            archive(&[("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())])?,
        ),
        (
            "another version",
            "unsupported OCI version",
            archive(&[
                ("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec()),
                ("index.json", br#"{"manifests":[]}"#.to_vec()),
            ])?,
        ),
        (
            "a manifest that is none",
            "untar manifest",
            archive(&[("manifest.json", b"<".to_vec())])?,
        ),
        (
            "layers elsewhere",
            "not found",
            archive(&[(
                "manifest.json",
                br#"[{"Config":"../../etc/passwd","Layers":["/etc/passwd"]}]"#.to_vec(),
            )])?,
        ),
    ] {
        let error = refused(&api, "", bytes).with_context(|| what)?;
        ensure!(error.contains(words), "{what}: {error}");
    }
    let whole = save(&api, &format!("names={BUSYBOX}"))?;
    refused(&api, "", whole[..whole.len() / 2].to_vec())?;
    let packed = piped(&["gzip", "-c", "-1"], &whole)?;
    refused(&api, "", packed[..packed.len() / 2].to_vec())?;
    Ok(())
}

/// An OCI layout of one image. What is wrong with it is decided by `change`.
fn layout(
    name: &str,
    change: impl Fn(&mut Vec<u8>, &mut Value, &mut Value, &mut Value),
) -> Result<Vec<u8>> {
    let mut layer = archive(&[("file", name.as_bytes().to_vec())])?;
    let diff_id = format!("sha256:{}", sha256(&layer)?);
    let mut config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let described = |kind: &str, bytes: &[u8]| -> Result<Value> {
        let digest = format!("sha256:{}", sha256(bytes)?);
        let kind = format!("application/vnd.oci.image.{kind}");
        Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    };
    let mut layer_entry = described("layer.v1.tar", &layer)?;
    change(&mut layer, &mut layer_entry, &mut config, &mut json!(null));
    let config = config.to_string().into_bytes();
    let mut manifest = json!({
        "schemaVersion": 2, "config": described("config.v1+json", &config)?, "layers": [layer_entry],
    });
    change(&mut Vec::new(), &mut json!(null), &mut json!(null), &mut manifest);
    let bytes = manifest.to_string().into_bytes();
    let mut entry = described("manifest.v1+json", &bytes)?;
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let blob = |value: &Value| -> String {
        value["digest"].as_str().unwrap_or_default().replace(':', "/")
    };
    let config_entry = described("config.v1+json", &config)?;
    archive(&[
        (&format!("blobs/{}", blob(&layer_entry)), layer),
        (&format!("blobs/{}", blob(&config_entry)), config),
        (&format!("blobs/{}", blob(&entry)), bytes),
        ("index.json", index),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ])
}

fn archives_that_lie(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let api = host.api();
    let name = format!("{}:1", unique("lie"));
    let good = layout(&name, |_, _, _, _| {})?;
    loaded(&api, "", good)?;
    drop(Image { api: api.clone(), name: name.clone() });
    type Change = fn(&mut Vec<u8>, &mut Value, &mut Value, &mut Value);
    let lies: &[(&str, Change, &str)] = &[
        (
            "other bytes",
            |layer, _, _, _| layer.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            "digest",
        ),
        ("another size", |_, entry, _, _| halve(entry, "size"), "its descriptor says"),
        (
            "another diffID",
            |_, _, config, _| {
                set(config, &["rootfs", "diff_ids"], json!([format!("sha256:{}", "a".repeat(64))]));
            },
            "wrong diff id",
        ),
        (
            "too many diffIDs",
            |_, _, config, _| set(config, &["rootfs", "diff_ids"], json!([])),
            "diffIDs",
        ),
        (
            "another type",
            |_, _, _, manifest| {
                set(manifest, &["mediaType"], json!("application/vnd.oci.image.index.v1+json"));
            },
            "says it is",
        ),
        (
            "two things at once",
            |_, _, _, manifest| set(manifest, &["manifests"], json!([])),
            "at once",
        ),
        (
            "a layer that is missing",
            |_, _, _, manifest| {
                set(
                    manifest,
                    &["layers"],
                    json!([{
                        "mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 7,
                        "digest": format!("sha256:{}", "b".repeat(64)),
                    }]),
                );
            },
            "not found",
        ),
        (
            "a digest that is none",
            |_, _, _, manifest| {
                set(manifest, &["layers"], json!([{"digest": "../../x", "size": 1}]));
            },
            "digest",
        ),
    ];
    for (what, change, words) in lies {
        let name = format!("{}:1", unique("lie"));
        let error = refused(&api, "", layout(&name, change)?).with_context(|| *what)?;
        ensure!(error.contains(words), "{what}: {error}");
        gone(&api, &name)?;
    }
    // Other tests load at the same time, and are done in between.
    until(Duration::from_secs(20), "nothing of a load stays", || {
        let stays = |arguments: &[&str]| {
            host.ctr(arguments).map_or(true, |listed| listed.contains("nerdctld-load"))
        };
        !stays(&["content", "active"]) && !stays(&["leases", "ls", "-q"])
    })?;
    Ok(())
}

fn set(value: &mut Value, path: &[&str], to: Value) {
    if value.is_object() {
        let place = path.iter().fold(value, |value, key| &mut value[*key]);
        *place = to;
    }
}

fn halve(value: &mut Value, key: &str) {
    if let Some(number) = value[key].as_u64() {
        value[key] = json!(number / 2);
    }
}

fn docker_save_and_load(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let docker = Docker::newest(host).or_skip()?;
    let api = host.api();
    let name = format!("{}:1", unique("cli"));
    let image = made(&api, Some(&name))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("image.tar");
    let file = file.to_str().context("path")?;
    docker.run(&["save", "-o", file, &name])?.success()?;
    drop(image);
    let out = docker.run(&["load", "-i", file])?.success()?;
    let _image = Image { api: api.clone(), name: name.clone() };
    ensure!(out == format!("Loaded image: {name}\n"), "{out}");
    let out = docker.run_with_input(&["load"], b"nonsense")?;
    ensure!(out.code != 0, "nonsense is loaded");
    Ok(())
}

fn nerdctl_loads_what_we_save(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let api = host.api();
    let name = format!("{}:1", unique("nerd"));
    let image = made(&api, Some(&name))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ours.tar");
    let path = file.to_str().context("path")?.to_owned();
    std::fs::write(&file, save(&api, &format!("names={name}"))?)?;
    drop(image);
    host.nerdctl(&["load", "-i", &path]).or_skip()?;
    let _image = Image { api: api.clone(), name: name.clone() };
    ensure!(inspect(&api, &name)?["RepoTags"] == json!([name]));
    let out = host.nerdctl(&["run", "--rm", "--net=none", &name, "cat", "/made"])?;
    ensure!(out == "made\n", "{out}");
    let theirs = folder.path().join("theirs.tar");
    host.nerdctl(&["save", "-o", theirs.to_str().context("path")?, &name])?;
    host.nerdctl(&["rmi", "-f", &name])?;
    let lines = loaded(&api, "", std::fs::read(theirs)?)?;
    ensure!(lines == [format!("Loaded image: {name}\n")], "{lines:?}");
    Ok(())
}
