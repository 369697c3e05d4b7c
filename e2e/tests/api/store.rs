//! Images at rest: saved, loaded, imported, pruned; what an archive may hold and what it may not.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::api::{BUSYBOX, encode, filters};
use e2e::cli::Docker;
use e2e::http::Response;
use e2e::runner::OrSkip as _;
use e2e::sandbox::until;
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_saved_image_has_both_layouts,
    several_names_share_an_archive,
    what_cannot_be_saved,
    what_was_saved_can_be_loaded,
    archives_may_be_compressed,
    old_archives_are_loaded,
    images_without_a_name_are_loaded,
    platforms_are_chosen,
    archives_that_are_none,
    archives_that_lie.ours_only(), // dockerd keeps what it could not unpack
    docker_save_and_load,
    nerdctl_loads_what_we_save.ours_only(),
    prunes,
    an_archive_is_imported,
    an_archive_is_imported_from_an_address,
    what_cannot_be_imported,
    single_platforms_are_removed,
    searches_that_cannot_be,
    docker_import,
    lists_tell_manifests_and_what_is_shared,
    attestations_are_kept_and_shown,
    disk_usage_tells_sizes,
    docker_system_df,
];

/// An image that is removed when this is dropped.
struct Image {
    api: Api,
    name: String,
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.api.delete(&format!("/images/{}?force=1", self.name));
    }
}

/// An image of our own: busybox with one layer and, if any, a name.
fn made(api: &Api, name: Option<&str>) -> Result<Image> {
    let container = api.run_script("echo made > /made")?;
    container.wait()?;
    let query = match name.and_then(|name| name.split_once(':')) {
        Some((repo, tag)) => format!("&repo={repo}&tag={tag}"),
        None => String::new(),
    };
    let path = format!("/commit?container={}{query}", container.id);
    let answer = api.post_json(&path, &json!(null))?.expect(201)?.json()?;
    let id = answer["Id"].as_str().context("no Id")?.to_owned();
    Ok(Image { api: api.clone(), name: name.map_or(id, str::to_owned) })
}

fn inspect(api: &Api, name: &str) -> Result<Value> {
    api.get_json(&format!("/images/{name}/json"))
}

fn gone(api: &Api, name: &str) -> Result<()> {
    api.get(&format!("/images/{name}/json"))?.expect_error(404).map(drop)
}

fn save(api: &Api, query: &str) -> Result<Vec<u8>> {
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
fn loaded(api: &Api, query: &str, archive: impl Into<Vec<u8>>) -> Result<Vec<String>> {
    let response = load(api, query, archive)?;
    ensure!(response.head.header("content-type") == Some("application/json"));
    let messages = e2e::api::pull_messages(&response)?;
    let lines = messages.iter().map(|message| message["stream"].as_str().map(str::to_owned));
    lines.collect::<Option<_>>().with_context(|| format!("{messages:?}"))
}

/// Why a load failed.
fn refused(api: &Api, query: &str, archive: impl Into<Vec<u8>>) -> Result<String> {
    let response = load(api, query, archive)?;
    let text = response.text();
    let last: Value = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
    ensure!(last["error"] == last["errorDetail"]["message"], "{last}");
    Ok(last["error"].as_str().with_context(|| format!("no error: {last}"))?.to_owned())
}

/// Files of an archive with their content, in their order.
fn files(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
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

fn document(files: &[(String, Vec<u8>)], name: &str) -> Result<Value> {
    let found = files.iter().find(|(known, _)| known == name);
    let (_, content) = found.with_context(|| format!("no {name}"))?;
    Ok(serde_json::from_slice(content)?)
}

fn archive(files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content.as_slice())?;
    }
    Ok(builder.into_inner()?)
}

fn sha256(bytes: &[u8]) -> Result<String> {
    let sum = piped(&["sha256sum"], bytes)?;
    Ok(String::from_utf8_lossy(&sum).chars().take(64).collect())
}

/// What a program makes of its input.
fn piped(command: &[&str], input: &[u8]) -> Result<Vec<u8>> {
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

fn platforms_are_chosen(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("platform"));
    let image = made(&api, Some(&name))?;
    let of = inspect(&api, &name)?;
    let here = json!({"os": of["Os"], "architecture": of["Architecture"]});
    let here = format!("platform={}", encode(&here.to_string()));
    let archive = save(&api, &format!("names={name}&{here}"))?;
    drop(image);
    let other = format!("platform={}", encode(r#"{"os":"linux","architecture":"s390x"}"#));
    let error = refused(&api, &other, archive.clone())?;
    ensure!(error.contains("linux/s390x"), "{error}");
    let lines = loaded(&api, &here, archive)?;
    let _image = Image { api: api.clone(), name: name.clone() };
    ensure!(lines == [format!("Loaded image: {name}\n")], "{lines:?}");
    let request = api.request("POST", "/images/load?platform=nonsense").bytes(b"x".to_vec());
    api.send(&request)?.expect_error(400)?;
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

/// An image with a label of its own, made of busybox.
fn labelled(api: &Api, label: &str, name: Option<&str>) -> Result<Image> {
    let container = api.run_script(&format!("echo {label} > /made"))?;
    container.wait()?;
    let query = name.and_then(|name| name.split_once(':'));
    let query = query.map_or(String::new(), |(repo, tag)| format!("&repo={repo}&tag={tag}"));
    let change = encode(&format!("LABEL {label}=1"));
    let path = format!("/commit?container={}&changes={change}{query}", container.id);
    let answer = api.post_json(&path, &json!(null))?.expect(201)?.json()?;
    let id = answer["Id"].as_str().context("no Id")?.to_owned();
    Ok(Image { api: api.clone(), name: name.map_or(id, str::to_owned) })
}

fn prune(api: &Api, of: &[(&str, &str)]) -> Result<Value> {
    api.post(&format!("/images/prune?{}", filters(of)))?.expect(200)?.json()
}

/// On a host of its own: dockerd's prune takes the leases away that protect what others are just making.
fn prunes(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| {},
        |host| {
            prune_takes_what_nobody_uses(&host.api())?;
            prune_spares_what_containers_use(&host.api())?;
            docker_prunes(host)
        },
    )
}

fn prune_takes_what_nobody_uses(api: &Api) -> Result<()> {
    let label = unique("prune");
    let name = format!("{label}:1");
    let named = labelled(api, &label, Some(&name))?;
    let nameless = labelled(api, &label, None)?;
    let of: &[(&str, &str)] = &[("label", &label)];
    let pruned = prune(api, &[of, &[("label!", label.as_str())]].concat())?;
    ensure!(pruned == json!({"ImagesDeleted": null, "SpaceReclaimed": 0}), "{pruned}");
    let pruned = prune(api, &[of, &[("until", "1h")]].concat())?;
    ensure!(pruned["ImagesDeleted"].is_null(), "{pruned}");
    let pruned = prune(api, of)?;
    let expected = json!([{"Untagged": nameless.name}, {"Deleted": nameless.name}]);
    ensure!(pruned["ImagesDeleted"] == expected, "{pruned}");
    ensure!(pruned["SpaceReclaimed"].as_u64().is_some_and(|bytes| bytes > 100), "{pruned}");
    gone(api, &nameless.name)?;
    let id = inspect(api, &name)?["Id"].clone();
    let pruned = prune(api, &[of, &[("dangling", "false")]].concat())?;
    ensure!(pruned["ImagesDeleted"] == json!([{"Untagged": name}, {"Deleted": id}]), "{pruned}");
    gone(api, &named.name)?;
    for bad in [[("reference", "x")], [("until", "x")], [("dangling", "x")]] {
        api.post(&format!("/images/prune?{}", filters(&bad)))?.expect_error(400)?;
    }
    Ok(())
}

fn prune_spares_what_containers_use(api: &Api) -> Result<()> {
    let label = unique("spare");
    let (one, two) = (format!("{label}:1"), format!("{label}:2"));
    let _one = labelled(api, &label, Some(&one))?;
    api.post(&format!("/images/{one}/tag?repo={label}&tag=2"))?.expect(201)?;
    let _two = Image { api: api.clone(), name: two.clone() };
    let nameless = labelled(api, &label, None)?;
    let by_name = api.create(json!({"Image": one, "Cmd": ["true"]}))?;
    let by_id = api.create(json!({"Image": nameless.name, "Cmd": ["true"]}))?;
    let all: &[(&str, &str)] = &[("label", &label), ("dangling", "false")];
    let pruned = prune(api, all)?;
    ensure!(pruned["ImagesDeleted"] == json!([{"Untagged": two}]), "{pruned}");
    inspect(api, &one)?;
    inspect(api, &nameless.name)?;
    drop((by_name, by_id));
    let pruned = prune(api, all)?;
    ensure!(pruned["ImagesDeleted"].as_array().map(Vec::len) == Some(4), "{pruned}");
    Ok(())
}

fn docker_prunes(host: &Host) -> Result<()> {
    let docker = Docker::newest(host).or_skip()?;
    let api = host.api();
    let label = unique("cliprune");
    let name = format!("{label}:1");
    let filter = format!("label={label}");
    let image = labelled(&api, &label, Some(&name))?;
    let out = docker.run(&["image", "prune", "-f", "--filter", &filter])?.success()?;
    ensure!(out == "Total reclaimed space: 0B\n", "{out}");
    let out = docker.run(&["image", "prune", "-a", "-f", "--filter", &filter])?.success()?;
    ensure!(
        out.contains(&format!("untagged: {name}\n")) && out.contains("deleted: sha256:"),
        "{out}"
    );
    gone(&api, &image.name)?;
    let image = labelled(&api, &label, None)?;
    let ended = docker.run(&["system", "prune", "-f", "--volumes"])?;
    ensure!(ended.stdout.contains(&format!("deleted: {}\n", image.name)), "{ended:?}");
    gone(&api, &image.name)?;
    Ok(())
}

fn lists_tell_manifests_and_what_is_shared(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let label = unique("share");
    let name = format!("{label}:1");
    let _image = labelled(&api, &label, Some(&name))?;
    let of = filters(&[("label", &label)]);
    let plain = api.get_json(&format!("/images/json?{of}"))?;
    ensure!(plain[0]["SharedSize"] == -1 && plain[0].get("Manifests").is_none(), "{plain}");
    let full = api.get_json("/images/json?shared-size=1&manifests=1")?;
    let mut all = full.as_array().context("no list")?.iter();
    let image = all.find(|image| image["RepoTags"] == json!([name])).context("not listed")?;
    let (shared, size) = (image["SharedSize"].as_u64(), image["Size"].as_u64());
    ensure!(shared.is_some_and(|shared| shared > 100_000) && shared < size, "{image}");
    let manifest = &image["Manifests"][0];
    ensure!(
        manifest["ID"] == image["Id"]
            && manifest["Kind"] == "image"
            && manifest["Available"] == true
            && manifest["Size"]["Total"] == image["Size"]
            && manifest["ImageData"]["Platform"]["os"] == "linux"
            && manifest["ImageData"]["Size"]["Unpacked"]
                .as_u64()
                .is_some_and(|size| size > 100_000),
        "{manifest}"
    );
    let older = api.at("1.46").get_json(&format!("/images/json?manifests=1&shared-size=1&{of}"))?;
    ensure!(older[0].get("Manifests").is_none(), "{older}");
    let oldest = api.at("1.41").get_json(&format!("/images/json?shared-size=1&{of}"))?;
    ensure!(oldest[0]["SharedSize"] == -1, "{oldest}");
    let inspected = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    ensure!(inspected["Manifests"][0]["ID"] == image["Id"], "{inspected}");
    Ok(())
}

/// An OCI layout of an index: one image, and what is attested of it.
fn attested(name: &str) -> Result<(Vec<u8>, Value)> {
    let layer = archive(&[("file", name.as_bytes().to_vec())])?;
    let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": []});
    let statement = statement.to_string().into_bytes();
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut store = |kind: &str, bytes: Vec<u8>| -> Result<Value> {
        let sum = sha256(&bytes)?;
        let entry =
            json!({"mediaType": kind, "digest": format!("sha256:{sum}"), "size": bytes.len()});
        blobs.push((format!("blobs/sha256/{sum}"), bytes));
        Ok(entry)
    };
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let config_type = "application/vnd.oci.image.config.v1+json";
    let mut manifest = |os: &str, layer: Value, diff_id: Value| -> Result<Value> {
        let config = json!({
            "architecture": if os == "linux" { "amd64" } else { os }, "os": os,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = store(config_type, config.to_string().into_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer],
        });
        store(manifest_type, manifest.to_string().into_bytes())
    };
    let described = |kind: &str, bytes: &[u8]| -> Result<Value> {
        Ok(
            json!({"mediaType": kind, "digest": format!("sha256:{}", sha256(bytes)?), "size": bytes.len()}),
        )
    };
    let layer_entry = described("application/vnd.oci.image.layer.v1.tar", &layer)?;
    let mut image = manifest("linux", layer_entry.clone(), layer_entry["digest"].clone())?;
    image["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let mut statement_entry = described("application/vnd.in-toto+json", &statement)?;
    statement_entry["annotations"] =
        json!({"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"});
    let mut attestation =
        manifest("unknown", statement_entry.clone(), statement_entry["digest"].clone())?;
    attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    });
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({
        "schemaVersion": 2, "mediaType": index_type, "manifests": [image, attestation],
    });
    let mut target = store(index_type, index.to_string().into_bytes())?;
    target["annotations"] =
        json!({"io.containerd.image.name": format!("docker.io/library/{name}")});
    let top = json!({"schemaVersion": 2, "manifests": [target]}).to_string().into_bytes();
    let path = |entry: &Value| -> String {
        format!("blobs/{}", entry["digest"].as_str().unwrap_or_default().replace(':', "/"))
    };
    blobs.push((path(&layer_entry), layer));
    blobs.push((path(&statement_entry), statement));
    blobs.push(("index.json".to_owned(), top));
    blobs.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    let files: Vec<(&str, Vec<u8>)> =
        blobs.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    Ok((archive(&files)?, statement_entry))
}

fn attestations_are_kept_and_shown(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("attested"));
    let (archive, statement) = attested(&name)?;
    let lines = loaded(&api, "", archive)?;
    let _image = Image { api: api.clone(), name: name.clone() };
    ensure!(lines == [format!("Loaded image: {name}\n")], "{lines:?}");
    let of = format!("/images/{name}/attestations");
    let shown = api.get_json(&of)?;
    ensure!(
        shown[0]["Descriptor"]["digest"] == statement["digest"]
            && shown[0]["PredicateType"] == "https://slsa.dev/provenance/v0.2"
            && shown[0].get("Statement").is_none(),
        "{shown}"
    );
    let full = api.get_json(&format!("{of}?statement=1"))?;
    ensure!(full[0]["Statement"]["_type"] == "https://in-toto.io/Statement/v0.1", "{full}");
    ensure!(api.get_json(&format!("{of}?type=other"))? == json!([]));
    api.get("/images/nothing-like-it/attestations")?.expect_error(404)?;
    let kinds = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    let kinds: Vec<&Value> =
        kinds["Manifests"].as_array().context("no Manifests")?.iter().map(|m| &m["Kind"]).collect();
    ensure!(kinds == ["image", "attestation"], "{kinds:?}");
    // A saved archive has them, too.
    let saved = files(&save(&api, &format!("names={name}"))?)?;
    let path = statement["digest"].as_str().unwrap_or_default().replace(':', "/");
    ensure!(saved.iter().any(|(known, _)| *known == format!("blobs/{path}")));
    Ok(())
}

fn disk_usage_tells_sizes(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let volume = unique("df");
    let mut body =
        e2e::api::script_body("head -c 300000 /dev/zero > /v/f; head -c 200000 /dev/zero > /f");
    body["HostConfig"]["Binds"] = json!([format!("{volume}:/v")]);
    let container = api.create(body)?;
    container.start()?;
    container.wait()?;
    let old = api.at("1.51").get_json("/system/df")?;
    let of = |list: &str, key: &str, value: &str| -> Result<Value> {
        let mut items = old[list].as_array().with_context(|| format!("no {list}"))?.iter();
        Ok(items.find(|item| item[key] == value).with_context(|| format!("no {value}"))?.clone())
    };
    let used = of("Volumes", "Name", &volume)?["UsageData"].clone();
    ensure!(used["RefCount"] == 1, "{used}");
    ensure!(used["Size"].as_u64().is_some_and(|size| size >= 300_000), "{used}");
    let written = of("Containers", "Id", &container.id)?;
    ensure!(written["SizeRw"].as_u64().is_some_and(|size| size >= 200_000), "{written}");
    ensure!(written["SizeRootFs"].as_u64() > written["SizeRw"].as_u64(), "{written}");
    ensure!(old["Images"][0]["SharedSize"].as_i64().is_some_and(|size| size >= 0), "{old}");
    ensure!(
        old["LayersSize"].as_u64().is_some_and(|size| size > 100_000)
            && old["BuildCache"] == json!([])
    );
    ensure!(old.get("ImageUsage").is_none(), "{old}");
    let new = api.get_json("/system/df")?;
    ensure!(new["Images"] == new["ImageUsage"]["Items"], "{new}");
    ensure!(new["ContainerUsage"]["TotalCount"].as_u64().is_some_and(|count| count > 0), "{new}");
    let verbose = api.get_json("/system/df?verbose=1&type=volume")?;
    let keys: Vec<&String> = verbose.as_object().context("no object")?.keys().collect();
    ensure!(keys == ["VolumeUsage"], "{keys:?}");
    ensure!(verbose["VolumeUsage"]["Items"].is_array(), "{verbose}");
    let one = api.at("1.51").get_json("/system/df?type=container&type=build-cache")?;
    ensure!(one.get("Images").is_none() && one["Containers"].is_array(), "{one}");
    let unknown = api.get("/system/df?type=x")?.expect_error(400)?;
    ensure!(unknown == "unknown object type: x", "{unknown}");
    container.remove()?;
    api.delete(&format!("/volumes/{volume}"))?.expect(204)?;
    Ok(())
}

fn docker_system_df(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let docker = Docker::newest(host).or_skip()?;
    host.api().have(BUSYBOX)?;
    let out = docker.run(&["system", "df"])?.success()?;
    for row in ["Images", "Containers", "Local Volumes", "Build Cache"] {
        ensure!(out.lines().any(|line| line.starts_with(row)), "{out}");
    }
    let out = docker.run(&["system", "df", "-v"])?.success()?;
    ensure!(out.contains("busybox"), "{out}");
    let old = Docker::debian(host).or_skip()?;
    old.run(&["system", "df"])?.success()?;
    Ok(())
}

fn import(api: &Api, query: &str, archive: impl Into<Vec<u8>>) -> Result<Response> {
    let request = api.request("POST", &format!("/images/create?fromSrc=-&{query}"));
    api.send(&request.bytes(archive))
}

/// A file tree with a program that prints its own name.
fn tree() -> Result<Vec<u8>> {
    let busybox = std::fs::read("/bin/busybox").context("busybox-static")?;
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(busybox.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "bin/echo", busybox.as_slice())?;
    Ok(builder.into_inner()?)
}

fn imported(api: &Api, query: &str, archive: impl Into<Vec<u8>>) -> Result<Image> {
    let messages = e2e::api::pull_messages(&import(api, query, archive)?.expect(200)?)?;
    let id = messages.last().and_then(|message| message["status"].as_str());
    let id = id.with_context(|| format!("{messages:?}"))?.to_owned();
    ensure!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    Ok(Image { api: api.clone(), name: id })
}

fn an_archive_is_imported(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let tree = tree()?;
    let plain = imported(&api, "message=why", tree.clone())?;
    let of = inspect(&api, &plain.name)?;
    ensure!(of["Comment"] == "why" && of["RepoTags"] == json!([]) && of["Os"] == "linux", "{of}");
    let diff_id = format!("sha256:{}", sha256(&tree)?);
    ensure!(of["RootFS"]["Layers"] == json!([diff_id]), "{of}");
    let repo = unique("imported");
    let change = encode("ENTRYPOINT [\"/bin/echo\"]");
    let more = encode("CMD [\"hello\"]");
    let query = format!("repo={repo}&tag=1&changes={change}&changes={more}");
    let mut images = Vec::new();
    for program in [None, Some("gzip"), Some("bzip2"), Some("xz"), Some("zstd")] {
        let bytes = match program {
            Some(program) => piped(&[program, "-c", "-1"], &tree)?,
            None => tree.clone(),
        };
        let image = imported(&api, &query, bytes).with_context(|| format!("{program:?}"))?;
        let of = inspect(&api, &image.name)?;
        ensure!(of["RepoTags"] == json!([format!("{repo}:1")]), "{of}");
        ensure!(of["RootFS"]["Layers"] == json!([diff_id]), "{program:?}: {of}");
        ensure!(of["Comment"] == "Imported from -", "{of}");
        images.push(image);
    }
    let body = json!({"Image": format!("{repo}:1"), "HostConfig": {"NetworkMode": "none"}});
    let container = api.create(body)?;
    container.start()?;
    container.wait()?;
    ensure!(container.logs("")?.text() == "hello\n");
    let other = imported(&api, "platform=linux/arm64/v8", tree)?;
    let of = inspect(&api, &other.name)?;
    ensure!(of["Architecture"] == "arm64", "{of}");
    Ok(())
}

fn an_archive_is_imported_from_an_address(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let api = host.api();
    crate::needs_rig(host)?;
    // The registry has it as a blob.
    api.have(BUSYBOX)?;
    let saved = files(&save(&api, &format!("names={BUSYBOX}"))?)?;
    let layer = document(&saved, "manifest.json")?[0]["Layers"][0].clone();
    let digest = layer.as_str().context("no layer")?.trim_start_matches("blobs/").replace('/', ":");
    let mirror = e2e::host::MIRROR;
    let address = format!("{mirror}/v2/library/busybox/blobs/{digest}");
    let path = format!("/images/create?fromSrc={}", encode(&address));
    let messages = e2e::api::pull_messages(&api.post(&path)?.expect(200)?)?;
    ensure!(messages[0]["status"] == format!("Downloading from http://{address}"), "{messages:?}");
    let id = messages.last().and_then(|message| message["status"].as_str()).context("no id")?;
    let image = Image { api: api.clone(), name: id.to_owned() };
    let of = inspect(&api, &image.name)?;
    let same = inspect(&api, BUSYBOX)?;
    ensure!(of["RootFS"]["Layers"][0] == same["RootFS"]["Layers"][0], "{of}");
    let missing = encode(&format!("http://{mirror}/nothing"));
    let error = api.post(&format!("/images/create?fromSrc={missing}"))?.expect_error(404)?;
    ensure!(error.starts_with("failed to GET") && error.contains("404"), "{error}");
    Ok(())
}

fn what_cannot_be_imported(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let tree = tree()?;
    let change = encode("FROM scratch");
    let small = archive(&[("a", b"a".to_vec())])?;
    import(&api, &format!("changes={change}"), small.clone())?.expect_error(400)?;
    import(&api, "repo=UPPER", small.clone())?.expect_error(400)?;
    import(&api, "platform=a/b/c/d", small)?.expect_error(400)?;
    let packed = piped(&["gzip", "-c", "-1"], &tree)?;
    let cut = import(&api, "", packed[..packed.len() / 2].to_vec())?;
    ensure!(cut.status() >= 400, "a cut archive is imported: {}", cut.text());
    let nonsense = import(&api, "", vec![b'x'; 3000])?;
    ensure!(nonsense.status() >= 400, "nonsense is imported: {}", nonsense.text());
    Ok(())
}

fn docker_import(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let docker = Docker::newest(host).or_skip()?;
    let name = format!("{}:1", unique("import"));
    let out = docker
        .run_with_input(&["import", "-c", "CMD [\"/bin/echo\", \"x\"]", "-", &name], &tree()?)?;
    let _image = Image { api: host.api(), name: name.clone() };
    let out = out.success()?;
    ensure!(out.starts_with("sha256:"), "{out}");
    let out = docker.run(&["run", "--rm", "--net=none", &name])?.success()?;
    ensure!(out == "x\n", "{out}");
    Ok(())
}

fn single_platforms_are_removed(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = format!("{}:1", unique("single"));
    let (archive, _) = attested(&name)?;
    loaded(&api, "", archive.clone())?;
    let _image = Image { api: api.clone(), name: name.clone() };
    let of = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    let manifest = of["Manifests"][0]["ID"].clone();
    let platform = |architecture: &str| {
        encode(&json!({"os": "linux", "architecture": architecture}).to_string())
    };
    let path = |architecture: &str, force: &str| {
        format!("/images/{name}?platforms={}{force}", platform(architecture))
    };
    let text = api.delete(&path("amd64", ""))?.expect_error(400)?;
    ensure!(text.starts_with("Content will be removed from all images"), "{text}");
    api.delete(&path("s390x", "&force=1"))?.expect_error(404)?;
    let removed = api.delete(&path("amd64", "&force=1"))?.expect(200)?.json()?;
    ensure!(removed == json!([{"Deleted": manifest}]), "{removed}");
    let left = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    ensure!(left["Manifests"][0]["Available"] == false, "{left}");
    loaded(&api, "", archive)?;
    let back = api.get_json(&format!("/images/{name}/json?manifests=1"))?;
    ensure!(back["Manifests"][0]["Available"] == true, "{back}");
    Ok(())
}

fn searches_that_cannot_be(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for query in [
        "term=x&limit=x".to_owned(),
        "term=x&limit=101".to_owned(),
        format!("term={}", encode("https://x/y")),
        format!("term=x&{}", filters(&[("stars", "x")])),
        format!("term=x&{}", filters(&[("name", "x")])),
    ] {
        let answer = api.get(&format!("/images/search?{query}"))?;
        answer.expect_error(400).with_context(|| query)?;
    }
    let none =
        api.get_json(&format!("/images/search?term=x&{}", filters(&[("is-automated", "true")])))?;
    ensure!(none == json!([]), "{none}");
    // There is no hub in the rig.
    let error = api.get("/images/search?term=x")?.expect_error(500)?;
    ensure!(error.contains("index.docker.io"), "{error}");
    Ok(())
}
