//! Files out of containers and into them: what is where, archives in both directions, export.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::api::{encode, script_body};
use e2e::cli::Docker;
use e2e::http::Response;
use e2e::runner::OrSkip as _;
use e2e::sandbox::send;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, peers, tests, unique};
use rustix::process::Signal;
use serde_json::{Value, json};
use tar::EntryType;

pub(crate) const TESTS: &[Test] = tests![
    head_tells_what_is_there,
    archives_begin_with_the_last_name,
    paths_that_lead_nowhere,
    archives_are_unpacked_in_every_state,
    uploads_may_be_compressed,
    downloads_are_compressed_on_request,
    owners_modes_links_and_times_survive,
    what_is_in_the_way,
    archives_that_are_none,
    hostile_archives_stay_in_the_root,
    a_racing_link_leads_nowhere,
    what_the_kernel_makes_up_is_left_out,
    copying_is_told,
    docker_cp_both_ways,
    docker_cp_with_pipes,
    export_has_all_but_what_is_mounted,
    bind_mounts_are_part_of_it,
    paused_and_hung_containers_are_copied_from.ours_only(),
    volumes_of_nerdctl_are_seen.ours_only(),
    a_client_that_leaves_ends_the_work.ours_only(),
];

/// A container with files of all kinds in `/d`.
fn with_files(api: &Api) -> Result<Container> {
    let script = "mkdir -p /d/sub; echo hi > /d/f; ln -s /d /ld; ln -s f /d/lf; ln -s nowhere /d/broken
        mkfifo /d/p; chmod 4755 /d/f; touch -d '2001-02-03 04:05:06' /d/f; ln /d/f /d/sub/hard; echo made; sleep 1000";
    let container = api.run_script(script)?;
    container.until_logged("made")?;
    Ok(container)
}

fn archive_path(container: &Container, path: &str) -> String {
    container.path(&format!("/archive?path={}", encode(path)))
}

fn stat(container: &Container, path: &str) -> Result<(u16, Value)> {
    let api = container.api();
    let response = api.send(&api.request("HEAD", &archive_path(container, path)))?;
    Ok((response.status(), stat_of(&response)?))
}

fn stat_of(response: &Response) -> Result<Value> {
    let Some(header) = response.head.header("x-docker-container-path-stat") else {
        return Ok(Value::Null);
    };
    Ok(serde_json::from_slice(&STANDARD.decode(header)?)?)
}

fn get(container: &Container, path: &str) -> Result<Response> {
    container.api().get(&archive_path(container, path))
}

fn put(container: &Container, path: &str, more: &str, body: Vec<u8>) -> Result<Response> {
    let request = container
        .api()
        .request("PUT", &format!("{}{more}", archive_path(container, path)))
        .header("Content-Type", "application/x-tar");
    container.api().send(&request.bytes(body))
}

/// Name, type and link of each entry.
fn entries(archive: &[u8]) -> Result<Vec<(String, EntryType, String)>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    tar::Archive::new(archive)
        .entries()?
        .map(|entry| {
            let entry = entry?;
            let link = entry.link_name_bytes().map_or_else(String::new, |link| text(&link));
            Ok((text(&entry.path_bytes()), entry.header().entry_type(), link))
        })
        .collect()
}

fn names(archive: &[u8]) -> Result<Vec<String>> {
    Ok(entries(archive)?.into_iter().map(|(name, ..)| name).collect())
}

/// The content of the only file in what GET answers.
fn content(container: &Container, path: &str) -> Result<String> {
    let response = get(container, path)?.expect(200)?;
    let mut archive = tar::Archive::new(response.body.as_slice());
    let mut entry = archive.entries()?.next().context("an empty archive")??;
    let mut text = String::new();
    entry.read_to_string(&mut text)?;
    Ok(text)
}

/// One entry as it stands, whatever a proper program would write.
fn raw(name: &str, kind: EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_000_000_000);
    let _ = header.set_device_major(1);
    let _ = header.set_device_minor(3);
    header.set_cksum();
    let padding = content.len().next_multiple_of(512) - content.len();
    [header.as_bytes(), content, &vec![0; padding]].concat()
}

fn file(name: &str, content: &str) -> Vec<u8> {
    raw(name, EntryType::Regular, "", content.as_bytes())
}

fn head_tells_what_is_there(rig: &Rig) -> Result<()> {
    let container = with_files(&rig.host()?.api())?;
    const DIR: u64 = 1 << 31;
    const LINK: u64 = 1 << 27;
    const SETUID: u64 = 1 << 23;
    const FIFO: u64 = 1 << 25;
    for (path, name, mode, target) in [
        ("/d", "d", DIR | 0o755, ""),
        ("d", "d", DIR | 0o755, ""),
        ("/d/", "d", DIR | 0o755, ""),
        ("/d/.", ".", DIR | 0o755, ""),
        ("/d/sub/..", "..", DIR | 0o755, ""),
        ("/", "/", DIR | 0o755, ""),
        ("/d/f", "f", SETUID | 0o755, ""),
        ("/d/../d/f", "f", SETUID | 0o755, ""),
        ("/ld", "ld", LINK | 0o777, "/d"),
        ("/ld/", "ld", DIR | 0o755, ""),
        ("/ld/lf", "lf", LINK | 0o777, "/d/f"),
        ("/d/broken", "broken", LINK | 0o777, "/d/nowhere"),
        ("/d/p", "p", FIFO | 0o644, ""),
    ] {
        let (status, seen) = stat(&container, path)?;
        ensure!(status == 200, "{path}: {status}");
        ensure!(
            seen["name"] == name && seen["mode"] == mode && seen["linkTarget"] == target,
            "{path}: {seen}"
        );
    }
    let (_, seen) = stat(&container, "/d/f")?;
    ensure!(seen["size"] == 3 && seen["mtime"] == "2001-02-03T04:05:06Z", "{seen}");
    Ok(())
}

fn archives_begin_with_the_last_name(rig: &Rig) -> Result<()> {
    let container = with_files(&rig.host()?.api())?;
    let below = |prefix: &str| {
        let names = ["", "broken", "f", "lf", "p", "sub/", "sub/hard"];
        names.map(|name| format!("{prefix}{name}")).to_vec()
    };
    for (path, expected) in [
        ("/d", below("d/")),
        ("d/", below("d/")),
        ("/d/.", below("./")),
        ("/d/sub/..", below("d/")),
        ("/ld/", below("ld/")),
        ("/ld/.", below("./")),
        ("/ld", vec!["ld".to_owned()]),
        ("/d/f", vec!["f".to_owned()]),
        ("/ld/lf", vec!["lf".to_owned()]),
    ] {
        let response = get(&container, path)?.expect(200)?;
        ensure!(names(&response.body)? == expected, "{path}: {:?}", names(&response.body)?);
        ensure!(response.head.header("content-type") == Some("application/x-tar"), "{path}");
        ensure!(stat_of(&response)?["mode"].is_u64(), "{path}");
    }
    let found = entries(&get(&container, "/d")?.body)?;
    let has = |name: &str, kind, link: &str| found.contains(&(name.into(), kind, link.into()));
    ensure!(
        has("d/lf", EntryType::Symlink, "f")
            && has("d/p", EntryType::Fifo, "")
            && has("d/sub/hard", EntryType::Link, "d/f"),
        "{found:?}"
    );
    Ok(())
}

fn paths_that_lead_nowhere(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let container = with_files(&host.api())?;
    for path in ["/nope", "/nope/", "/d/broken/", "/ld/nope/x"] {
        ensure!(stat(&container, path)?.0 == 404, "{path}");
        let message = get(&container, path)?.expect_error(404)?;
        let expected = format!("Could not find the file {path} in container {}", container.id);
        ensure!(message == expected, "{message}");
        let message = put(&container, path, "", file("x", ""))?.expect_error(404)?;
        ensure!(message == expected, "{message}");
    }
    // A path that goes on behind a file: dockerd calls this its own fault.
    let status = if host.is_ours() { 400 } else { 500 };
    let message = get(&container, "/d/f/")?.expect_error(status)?;
    ensure!(message == "lstat /d/f/: not a directory", "{message}");
    let message = put(&container, "/d/f", "", file("x", ""))?.expect_error(400)?;
    ensure!(message == "extraction point is not a directory", "{message}");
    for method in ["GET", "PUT"] {
        let request = container.api().request(method, &container.path("/archive"));
        let message = container.api().send(&request)?.expect_error(400)?;
        ensure!(message == "bad parameter: path cannot be empty", "{message}");
    }
    let message = host.api().get("/containers/nobody/archive?path=/")?.expect_error(404)?;
    ensure!(message == "No such container: nobody", "{message}");
    Ok(())
}

fn archives_are_unpacked_in_every_state(rig: &Rig) -> Result<()> {
    let container = rig.host()?.api().create(script_body("cat /tmp/new/file; sleep 1000"))?;
    put(&container, "/tmp", "", file("new/file", "before the start\n"))?.expect(200)?;
    ensure!(content(&container, "/tmp/new/file")? == "before the start\n", "created");
    container.start()?;
    container.until_logged("before the start")?;
    let answer = put(&container, "/tmp/", "", file("/new/file", "while it runs\n"))?;
    ensure!(answer.expect(200)?.body.is_empty(), "the answer is empty");
    ensure!(content(&container, "/tmp/new/file")? == "while it runs\n", "running");
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    put(&container, "/tmp/new/.", "", file("file", "after the end\n"))?.expect(200)?;
    ensure!(content(&container, "/tmp/new/file")? == "after the end\n", "exited");
    let (_, implied) = stat(&container, "/tmp/new")?;
    ensure!(implied["mode"] == (1_u64 << 31) + 0o755, "{implied}");
    put(&container, "/tmp", "", Vec::new())?.expect(200)?;
    Ok(())
}

fn uploads_may_be_compressed(rig: &Rig) -> Result<()> {
    let container = rig.host()?.api().create(script_body("true"))?;
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let text = format!("by {program}\n").repeat(20_000);
        let Ok(mut child) =
            Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        else {
            return Err(e2e::runner::skip(format!("{program} is not installed")));
        };
        let mut input = child.stdin.take().context("no input")?;
        let archive = file("file", &text);
        let writer = std::thread::spawn(move || input.write_all(&archive));
        let compressed = child.wait_with_output()?.stdout;
        ensure!(matches!(writer.join(), Ok(Ok(()))), "{program}");
        put(&container, "/tmp", "", compressed)?.expect(200).context(program)?;
        ensure!(content(&container, "/tmp/file")? == text, "{program}");
    }
    Ok(())
}

fn downloads_are_compressed_on_request(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let plain = get(&container, "/etc/passwd")?.expect(200)?;
    ensure!(plain.head.header("content-encoding").is_none(), "{:?}", plain.head);
    let request = api.request("GET", &archive_path(&container, "/etc/passwd"));
    let zipped = api.send(&request.header("Accept-Encoding", "gzip"))?.expect(200)?;
    ensure!(zipped.head.header("content-encoding") == Some("gzip"), "{:?}", zipped.head);
    ensure!(zipped.body.starts_with(&[0x1f, 0x8b]) && zipped.body.len() < plain.body.len());
    Ok(())
}

fn owners_modes_links_and_times_survive(rig: &Rig) -> Result<()> {
    let mut body = script_body(
        "stat -c '%n %u:%g %a %Y' /tmp/in/file /tmp/in/mine; readlink /tmp/in/link; cat /tmp/in/hard",
    );
    body["User"] = json!("33:44");
    let container = rig.host()?.api().create(body)?;
    let archive = [
        raw("in", EntryType::Directory, "", b""),
        file("in/file", "content\n"),
        raw("in/link", EntryType::Symlink, "../../etc/passwd", b""),
        raw("in/hard", EntryType::Link, "in/file", b""),
    ]
    .concat();
    // Directories without the right to search: for root only.
    let archive = [archive, raw("in/deep/", EntryType::Directory, "", b"")].concat();
    put(&container, "/tmp", "", archive)?.expect(200)?;
    put(&container, "/tmp/in", "&copyUIDGID=1", file("mine", ""))?.expect(200)?;
    put(&container, "/tmp", "", directory_for_all("in"))?.expect(200)?;
    put(&container, "/tmp/in", "&copyUIDGID=true", file("file2", ""))?.expect(200)?;
    let owned = |path: &str| -> Result<(u64, u64)> {
        let response = get(&container, path)?.expect(200)?;
        let mut archive = tar::Archive::new(response.body.as_slice());
        let entry = archive.entries()?.next().context("empty")??;
        Ok((entry.header().uid()?, entry.header().gid()?))
    };
    ensure!(owned("/tmp/in/file")? == (7, 8) && owned("/tmp/in/mine")? == (33, 44), "owners");
    let (_, seen) = stat(&container, "/tmp/in/file")?;
    ensure!(seen["mode"] == 0o640 && seen["mtime"] == "2001-09-09T01:46:40Z", "{seen}");
    let found = entries(&get(&container, "/tmp/in")?.body)?;
    ensure!(
        found.contains(&("in/link".into(), EntryType::Symlink, "../../etc/passwd".into()))
            && found.contains(&("in/hard".into(), EntryType::Link, "in/file".into())),
        "{found:?}"
    );
    Ok(())
}

fn directory_for_all(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let _ = header.set_path(name);
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o777);
    header.set_size(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn what_is_in_the_way(rig: &Rig) -> Result<()> {
    let container = with_files(&rig.host()?.api())?;
    let keep = "&noOverwriteDirNonDir=true";
    let answer = put(&container, "/d", keep, raw("f", EntryType::Directory, "", b""))?;
    let message = answer.expect_error(500)?;
    ensure!(message == "cannot overwrite non-directory \"f\" with directory \"/d\"", "{message}");
    let message = put(&container, "/d", keep, file("sub", ""))?.expect_error(500)?;
    ensure!(message == "cannot overwrite directory \"sub\" with non-directory \"/d\"", "{message}");
    put(&container, "/d", "", file("sub", "now a file"))?.expect(200)?;
    ensure!(content(&container, "/d/sub")? == "now a file");
    put(&container, "/ld", "", file("lf", "no link any more"))?.expect(200)?;
    ensure!(content(&container, "/d/lf")? == "no link any more");
    ensure!(content(&container, "/d/f")? == "hi\n", "what the link led to is as it was");
    Ok(())
}

fn archives_that_are_none(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let container = with_files(&host.api())?;
    // dockerd calls them its own fault.
    let status = if host.is_ours() { 400 } else { 500 };
    for (body, expected) in [
        (vec![b'x'; 2000], "archive/tar: invalid tar header"),
        (vec![b'x'; 20], "unexpected EOF"),
        (file("x", "content")[..514].to_vec(), "unexpected EOF"),
        (raw("x", EntryType::new(b'Z'), "", b""), "unhandled tar header type 90"),
        (file("../x", ""), "invalid entry name \"../x\""),
        (
            raw("x", EntryType::Link, "../etc/passwd", b""),
            "invalid hardlink target \"../etc/passwd\"",
        ),
    ] {
        let message = put(&container, "/d", "", body)?.expect_error(status)?;
        ensure!(message == expected, "{message}");
    }
    let broken = [b"\x1f\x8b\x08\x00".as_slice(), &[0xff; 100]].concat();
    put(&container, "/d", "", broken)?.expect_error(status)?;
    Ok(())
}

fn hostile_archives_stay_in_the_root(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let container = with_files(&host.api())?;
    let marker = unique("escaped");
    let (link, hard, dir) = (EntryType::Symlink, EntryType::Link, EntryType::Directory);
    let up = "../../../../../../../../../../tmp";
    let nested = raw("a", link, ".", b"");
    for archive in [
        file(&format!("../../../../tmp/{marker}"), "x"),
        [raw("l1", link, up, b""), file(&format!("l1/{marker}"), "x")].concat(),
        [raw("l2", link, "/tmp", b""), file(&format!("l2/{marker}"), "x")].concat(),
        [raw("l3", link, "/proc/self/root/tmp", b""), file(&format!("l3/{marker}"), "x")].concat(),
        [raw("l4", link, "/proc/1/cwd", b""), file(&format!("l4/{marker}"), "x")].concat(),
        [raw("h1", hard, "/etc/hostname", b""), file("h1", "x")].concat(),
        [nested, raw("a/b", link, "..", b""), file(&format!("a/b/../{marker}"), "x")].concat(),
        [raw("dev", EntryType::Block, "", b""), file("dev", &marker)].concat(),
        [raw("d1", dir, "", b""), raw("d1", link, "/tmp", b""), file(&format!("d1/{marker}"), "x")]
            .concat(),
    ] {
        // Whether it is refused is not the point.
        put(&container, "/d", "", archive)?;
    }
    let outside = |folder: &str| Path::new(folder).join(&marker).exists();
    ensure!(!outside("/tmp") && !outside("/") && !outside("/proc/self/cwd"), "it left the root");
    ensure!(content(&container, "/d/dev")? == marker, "a file, and not what is on a device");
    if host.is_ours() {
        // dockerd 29 refuses links that lead out of the directory, even within the container.
        get(&container, &format!("/tmp/{marker}"))?.expect(200).context("links work within")?;
    }
    Ok(())
}

fn a_racing_link_leads_nowhere(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let marker = unique("raced");
    // A directory that is a link to the host's /tmp half of the time.
    let script = "mkdir -p /r/real; ln -s ../../../../../../../../../tmp /r/out; mkdir /r/dir; echo made
        while :; do mv /r/dir /r/aside; mv /r/out /r/dir; mv /r/dir /r/out; mv /r/aside /r/dir; done";
    let container = host.api().run_script(script)?;
    container.until_logged("made")?;
    for _ in 0..150 {
        put(&container, "/r", "", file(&format!("dir/{marker}"), "x"))?;
        put(&container, "/r/dir", "", file(&marker, "x"))?;
        let _ = get(&container, "/r/dir/.")?;
    }
    ensure!(!Path::new("/tmp").join(&marker).exists(), "it left the root");
    ensure!(!host.root()?.join(&marker).exists(), "it left the root");
    Ok(())
}

fn what_the_kernel_makes_up_is_left_out(rig: &Rig) -> Result<()> {
    let container = with_files(&rig.host()?.api())?;
    ensure!(names(&get(&container, "/proc")?.expect(200)?.body)? == ["proc/"]);
    ensure!(names(&get(&container, "/sys/.")?.expect(200)?.body)? == ["./"]);
    get(&container, "/proc/cpuinfo")?.expect_error(404)?;
    let all = names(&get(&container, "/")?.expect(200)?.body)?;
    ensure!(all.contains(&"/d/f".to_owned()), "{all:?}");
    ensure!(!all.iter().any(|name| name.starts_with("/proc/1")), "{all:?}");
    Ok(())
}

fn copying_is_told(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let filter = e2e::api::filters(&[("container", &container.id)]);
    let mut events = api.stream(&api.request("GET", &format!("/events?{filter}")))?;
    get(&container, "/etc/passwd")?.expect(200)?;
    put(&container, "/tmp", "", file("x", ""))?.expect(200)?;
    api.get(&container.path("/export"))?.expect(200)?;
    for action in ["archive-path", "extract-to-dir", "export"] {
        let event = events.next_json()?.context("no event")?;
        ensure!(
            event["Action"] == action && event["Actor"]["ID"] == container.id.as_str(),
            "{event}"
        );
    }
    Ok(())
}

fn docker_cp_both_ways(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let docker = Docker::newest(host).or_skip()?;
    let temp = tempfile::tempdir()?;
    let at = |name: &str| temp.path().join(name).to_string_lossy().into_owned();
    for running in [false, true] {
        let container = host.api().create(script_body("sleep 1000"))?;
        if running {
            container.start()?;
        }
        let inside = |path: &str| format!("{}:{path}", container.name);
        let cp = |arguments: &[&str]| -> Result<String> {
            docker.run(&[&["cp"], arguments].concat())?.success()
        };
        let tree = temp.path().join(format!("tree{running}"));
        std::fs::create_dir_all(tree.join("sub"))?;
        std::fs::write(tree.join("sub/file"), vec![b'x'; 200_000])?;
        std::fs::set_permissions(tree.join("sub/file"), std::fs::Permissions::from_mode(0o751))?;
        std::os::unix::fs::symlink("sub/file", tree.join("link"))?;
        let tree = tree.to_string_lossy().into_owned();
        cp(&[&tree, &inside("/tmp/copy")])?;
        cp(&[&format!("{tree}/sub/file"), &inside("/tmp/renamed")])?;
        cp(&[&format!("{tree}/sub/file"), &inside("/tmp")])?;
        cp(&["-a", &format!("{tree}/."), &inside("/tmp/copy")])?;
        cp(&["-L", &format!("{tree}/link"), &inside("/tmp/followed")])?;
        let refused = docker.run(&["cp", &tree, &inside("/etc/passwd")])?;
        ensure!(refused.code != 0, "a directory onto a file");

        let back = at(&format!("back{running}"));
        cp(&[&inside("/tmp/copy"), &back])?;
        ensure!(std::fs::read(format!("{back}/sub/file"))?.len() == 200_000);
        let kept = std::fs::metadata(format!("{back}/sub/file"))?;
        ensure!(kept.mode() & 0o777 == 0o751, "{:o}", kept.mode());
        ensure!(std::fs::read_link(format!("{back}/link"))? == Path::new("sub/file"));
        for name in ["renamed", "file", "followed"] {
            let out = at(&format!("{name}{running}"));
            cp(&[&inside(&format!("/tmp/{name}")), &out])?;
            ensure!(std::fs::read(&out)?.len() == 200_000, "{name}");
        }
        cp(&["-L", &inside("/tmp/copy/link"), &at("target")])?;
        ensure!(std::fs::symlink_metadata(at("target"))?.is_file(), "-L follows");
        let missing = docker.run(&["cp", &inside("/nope"), &at("nope")])?;
        ensure!(
            missing.stderr.contains("Could not find the file /nope in container"),
            "{missing:?}"
        );
    }
    Ok(())
}

fn docker_cp_with_pipes(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let docker = Docker::newest(host).or_skip()?;
    let container = host.api().create(script_body("true"))?;
    let to = format!("{}:/tmp", container.name);
    let archive = [file("piped", "through a pipe"), vec![0; 10_240]].concat();
    docker.run_with_input(&["cp", "-", &to], &archive)?.success()?;
    let out = docker
        .command(&["cp", &format!("{}:/tmp/piped", container.name), "-"])
        .output()
        .context("docker cp")?;
    ensure!(names(&out.stdout)? == ["piped"], "{}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn export_has_all_but_what_is_mounted(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = with_files(&api)?;
    let running = api.get(&container.path("/export"))?.expect(200)?;
    ensure!(running.head.header("content-type") == Some("application/octet-stream"));
    let found = entries(&running.body)?;
    let has = |name: &str| found.iter().any(|(known, ..)| known == name);
    ensure!(has("d/f") && has("d/lf") && has("bin/") && has("etc/passwd") && has("proc/"));
    let mounted = |name: &str| ["proc/", "sys/", "dev/"].iter().any(|top| name.starts_with(top));
    let devices = found.iter().filter(|(_, kind, _)| *kind == EntryType::Char).count();
    ensure!(devices == 0 && !found.iter().any(|(name, ..)| mounted(name) && name.contains("self")));
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    let stopped = api.get(&container.path("/export"))?.expect(200)?;
    ensure!(names(&stopped.body)?.contains(&"d/sub/hard".to_owned()));
    api.get("/containers/nobody/export")?.expect_error(404)?;
    Ok(())
}

fn bind_mounts_are_part_of_it(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let folder = host.root()?.join(unique("bound"));
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("from-the-host"), "hello")?;
    let source = folder.display();
    let mut body = script_body("sleep 1000");
    body["HostConfig"]["Binds"] =
        json!([format!("{source}:/not/there/yet"), format!("{source}:/ro:ro")]);
    let container = host.api().create(body)?;
    for state in ["created", "running", "exited"] {
        match state {
            "running" => container.start()?,
            "exited" => {
                container.post("/kill")?.expect(204)?;
                container.wait()?;
            }
            _ => {}
        }
        ensure!(content(&container, "/ro/from-the-host")? == "hello", "{state}");
        put(&container, "/not/there/yet", "", file(state, state))?.expect(200).context(state)?;
        ensure!(std::fs::read_to_string(folder.join(state))? == state, "{state}");
        let message = put(&container, "/ro", "", file("x", ""))?.expect_error(400)?;
        ensure!(message == "mounted volume is marked read-only", "{state}: {message}");
        let exported = names(&host.api().get(&container.path("/export"))?.expect(200)?.body)?;
        ensure!(!exported.iter().any(|name| name.ends_with("from-the-host")), "{state}");
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn paused_and_hung_containers_are_copied_from(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let container = with_files(&host.api())?;
    host.ctr(&["tasks", "pause", &container.id])?;
    ensure!(content(&container, "/d/f")? == "hi\n", "paused");
    put(&container, "/d", "", file("paused", ""))?.expect(200)?;
    host.ctr(&["tasks", "resume", &container.id])?;
    let shim = host.sandbox()?.shim_of(&container.id).context("no shim")?;
    send(shim, Signal::STOP)?;
    let hung = content(&container, "/d/f");
    let written = put(&container, "/d", "", file("hung", ""));
    let exported = container.api().get(&container.path("/export"));
    send(shim, Signal::CONT)?;
    ensure!(hung? == "hi\n", "hung");
    written?.expect(200)?;
    ensure!(names(&exported?.expect(200)?.body)?.contains(&"d/hung".to_owned()));
    Ok(())
}

fn volumes_of_nerdctl_are_seen(rig: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    let host = rig.host()?;
    let (name, volume) = (unique("nv"), unique("vol"));
    let run =
        |arguments: &[&str]| host.nerdctl(arguments).with_context(|| format!("{arguments:?}"));
    host.api().have(e2e::api::BUSYBOX)?;
    let mounts = format!("{volume}:/new/data");
    let read_only = format!("{volume}:/ro:ro");
    run(&[
        "create",
        "--net=none",
        "--name",
        &name,
        "-v",
        &mounts,
        "-v",
        &read_only,
        "--read-only",
        "--tmpfs",
        "/scratch",
        e2e::api::BUSYBOX,
        "sh",
        "-c",
        "echo s > /scratch/s; sleep 1000",
    ])?;
    let id = host.api().get_json(&format!("/containers/{name}/json"))?["Id"].clone();
    // Removed by the API when it is dropped.
    let container = host.api().adopt(id.as_str().context("no id")?, &name);
    for state in ["created", "running", "stopped"] {
        match state {
            "running" => drop(run(&["start", &name])?),
            "stopped" => drop(run(&["kill", &name])?),
            _ => {}
        }
        put(&container, "/new/data", "", file(state, state))?.expect(200).context(state)?;
        ensure!(content(&container, &format!("/ro/{state}"))? == state, "{state}");
        let message = put(&container, "/ro", "", file("x", ""))?.expect_error(400)?;
        ensure!(message == "mounted volume is marked read-only", "{state}: {message}");
        for path in ["/", "/tmp"] {
            let message = put(&container, path, "", file("x", ""))?.expect_error(400)?;
            ensure!(message == "container rootfs is marked read-only", "{state}: {message}");
        }
        let exported = names(&host.api().get(&container.path("/export"))?.expect(200)?.body)?;
        ensure!(!exported.iter().any(|name| name == "new/data/created"), "{state}");
        if state == "running" {
            e2e::sandbox::until(
                std::time::Duration::from_secs(10),
                "the file in the tmpfs",
                || content(&container, "/scratch/s").is_ok_and(|text| text == "s\n"),
            )?;
        }
    }
    container.remove()?;
    run(&["volume", "rm", &volume])?;
    Ok(())
}

fn a_client_that_leaves_ends_the_work(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let api = host.api();
    let container = api
        .run_script("dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; echo made; sleep 1000")?;
    container.until_logged("made")?;
    let mut stream = api.stream(&api.request("GET", &archive_path(&container, "/big")))?;
    stream.read_exact(&mut [0; 4096])?;
    drop(stream);
    // An upload that stops in the middle of a file.
    let mut connection = api.connect()?;
    let request = api
        .request("PUT", &archive_path(&container, "/tmp"))
        .header("Content-Length", "100000")
        .bytes(raw("cut", EntryType::Regular, "", &[1; 20_000]));
    connection.send(&request)?;
    drop(connection);
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    // Whatever held the root is gone: nothing is mounted in it, and the container can be removed.
    container.remove()?;
    let held = || {
        let pid = host.daemon_pid().unwrap_or_default();
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|to| to.ends_with("big"))
    };
    e2e::sandbox::until(std::time::Duration::from_secs(10), "the file is closed", || !held())
}
