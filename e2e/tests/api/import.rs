//! Images made of a file tree in an archive.

use e2e::api::{BUSYBOX, Image, encode};
use e2e::cli::Docker;
use e2e::http::Response;
use e2e::runner::OrSkip as _;
use e2e::{Api, Context as _, Result, Rig, Test, ensure, tests, unique};
use serde_json::json;

use crate::store::{archive, document, files, inspect, piped, save, sha256};

pub(crate) const TESTS: &[Test] = tests![
    an_archive_is_imported,
    an_archive_is_imported_from_an_address,
    what_cannot_be_imported,
    docker_import,
];

fn import(api: &Api, query: &str, archive: impl Into<Vec<u8>>) -> Result<Response> {
    let request = api.request("POST", &format!("/images/create?fromSrc=-&{query}"));
    api.send(&request.bytes(archive))
}

/// A file tree with a program that prints its own name.
pub(crate) fn tree() -> Result<Vec<u8>> {
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
