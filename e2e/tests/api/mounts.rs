//! What is mounted into containers: content, owners, permissions, propagation, what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;

use e2e::api::{BUSYBOX, filters};
use e2e::{Api, Container, Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use serde_json::{Value, json};

use crate::needs_rig;

pub(crate) const TESTS: &[Test] = tests![
    a_directory_of_the_host_is_seen,
    read_only_is_read_only,
    a_missing_source_is_made_or_refused,
    propagation_needs_a_shared_mount,
    one_file_may_take_the_place_of_another,
    a_named_volume_keeps_what_is_written,
    a_volume_gets_what_the_image_has,
    anonymous_volumes_go_with_their_container,
    an_image_declares_volumes,
    volumes_of_another_container,
    a_part_of_a_volume,
    a_part_of_a_volume_never_leaves_it,
    tmpfs_with_options,
    an_image_is_mounted_read_only,
    a_part_of_an_image,
    wrong_mounts_are_refused,
    a_failed_creation_leaves_no_volume.ours_only(),
    inspect_and_lists_show_mounts,
];

/// A directory of the host that is gone when this is dropped.
struct Place(PathBuf);

impl Place {
    fn make(host: &Host) -> Result<Self> {
        needs_rig(host)?;
        let path = host.root()?.join(unique("place"));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self, below: &str) -> String {
        self.0.join(below).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A volume's name; the volume is gone when this is dropped.
pub(crate) struct Named<'a>(&'a Api, pub(crate) String);

impl<'a> Named<'a> {
    pub(crate) fn new(api: &'a Api) -> Self {
        Self(api, unique("volume"))
    }

    pub(crate) fn seen(&self) -> Result<Value> {
        self.0.get_json(&format!("/volumes/{}", self.1))
    }

    pub(crate) fn mountpoint(&self) -> Result<PathBuf> {
        Ok(self.seen()?["Mountpoint"].as_str().context("no Mountpoint")?.into())
    }
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let _ = self.0.delete(&format!("/volumes/{}?force=1", self.1));
    }
}

pub(crate) fn body(script: &str, mut host: Value) -> Value {
    host["NetworkMode"] = json!("none");
    let mut body = json!({"Cmd": ["sh", "-c", script]});
    body["HostConfig"] = host;
    body
}

/// Runs a script to its end and gives its output; it must succeed.
pub(crate) fn run(api: &Api, body: Value) -> Result<String> {
    let container = api.create(body)?;
    finished(&container)
}

pub(crate) fn finished(container: &Container) -> Result<String> {
    container.start()?;
    let code = container.wait()?;
    let text = container.logs("")?.text();
    ensure!(code == 0, "exit code {code}: {text}");
    Ok(text)
}

/// The error of a create that must fail with one of these statuses (dockerd answers some of them with 500).
fn refused(api: &Api, body: &Value, statuses: &[u16]) -> Result<String> {
    let mut body = body.clone();
    body["Image"] = json!(BUSYBOX);
    api.have(BUSYBOX)?;
    let answer = api.post_json("/containers/create", &body)?;
    let status = answer.status();
    ensure!(statuses.contains(&status), "{status}: {}", answer.text());
    Ok(answer.json()?["message"].as_str().unwrap_or_default().to_owned())
}

pub(crate) fn mount_of(container: &Container, destination: &str) -> Result<Value> {
    let seen = container.inspect()?;
    let mounts = seen["Mounts"].as_array().context("no Mounts")?;
    let found = mounts.iter().find(|mount| mount["Destination"] == destination);
    found.cloned().with_context(|| format!("{destination} is not in {mounts:?}"))
}

// ---- bind mounts ------------------------------------------------------------

fn a_directory_of_the_host_is_seen(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (api, place) = (host.api(), Place::make(host)?);
    fs::write(place.path("from-host"), "hello")?;
    let script = "cat /mnt/from-host; echo answer > /mnt/from-container";
    let text = run(&api, body(script, json!({"Binds": [format!("{}:/mnt", place.path(""))]})))?;
    ensure!(text == "hello", "{text}");
    ensure!(fs::read_to_string(place.path("from-container"))? == "answer\n");
    // The same in the long form.
    let mount = json!({"Type": "bind", "Source": place.path(""), "Target": "/mnt"});
    let text = run(&api, body("cat /mnt/from-container", json!({"Mounts": [mount]})))?;
    ensure!(text == "answer\n", "{text}");
    Ok(())
}

fn read_only_is_read_only(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (api, place, volume) = (host.api(), Place::make(host)?, unique("ro"));
    let volume = Named(&api, volume);
    let mount =
        json!({"Type": "bind", "Source": place.path(""), "Target": "/long", "ReadOnly": true});
    let hosts = json!({
        "Binds": [format!("{}:/mnt:ro", place.path("")), format!("{}:/vol:ro", volume.1)],
        "Mounts": [mount],
    });
    let script = "for d in mnt vol long; do touch /$d/x 2>&1; done; true";
    let text = run(&api, body(script, hosts))?;
    ensure!(text.matches("Read-only file system").count() == 3, "{text}");
    Ok(())
}

fn a_missing_source_is_made_or_refused(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (api, place) = (host.api(), Place::make(host)?);
    run(&api, body("touch /mnt/x", json!({"Binds": [format!("{}:/mnt", place.path("a/b"))]})))?;
    ensure!(fs::metadata(place.path("a/b/x"))?.is_file());
    ensure!(fs::metadata(place.path("a"))?.mode() & 0o777 == 0o755);

    let mount = |more: Value| {
        let mut mount = json!({"Type": "bind", "Source": place.path("c"), "Target": "/mnt"});
        mount["BindOptions"] = more;
        body("true", json!({"Mounts": [mount]}))
    };
    let message = refused(&api, &mount(json!({})), &[400])?;
    let expected = format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        place.path("c")
    );
    ensure!(message == expected, "{message}");
    run(&api, mount(json!({"CreateMountpoint": true})))?;
    ensure!(fs::metadata(place.path("c"))?.is_dir());
    Ok(())
}

fn propagation_needs_a_shared_mount(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (api, place) = (host.api(), Place::make(host)?);
    let (sandbox, mounted) = (host.sandbox()?, place.path("mounted"));
    fs::create_dir(&mounted)?;
    sandbox.run(sandbox.command("mount").args(["--bind", &mounted, &mounted]))?;
    let outcome = propagated(host, &api, &mounted);
    sandbox.run(sandbox.command("umount").arg(&mounted))?;
    outcome
}

fn propagated(host: &Host, api: &Api, mounted: &str) -> Result<()> {
    let sandbox = host.sandbox()?;
    sandbox.run(sandbox.command("mount").args(["--make-private", mounted]))?;
    for (mode, kind) in [("rshared", "shared"), ("rslave", "shared or slave")] {
        let binds = json!({"Binds": [format!("{mounted}:/mnt:{mode}")]});
        let container = api.create(body("true", binds))?;
        ensure!(mount_of(&container, "/mnt")?["Propagation"] == mode);
        let answer = container.post("/start")?;
        ensure!([400, 500].contains(&answer.status()), "{}", answer.status());
        let message = answer.json()?["message"].as_str().unwrap_or_default().to_owned();
        let expected =
            format!("path {mounted} is mounted on {mounted} but it is not a {kind} mount");
        ensure!(message == expected, "{message}");
    }
    sandbox.run(sandbox.command("mount").args(["--make-shared", mounted]))?;
    let binds = json!({"Binds": [format!("{mounted}:/mnt:rshared")]});
    let text = run(api, body("grep ' /mnt ' /proc/self/mountinfo", binds))?;
    ensure!(text.contains("shared:"), "{text}");
    Ok(())
}

fn one_file_may_take_the_place_of_another(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (api, place) = (host.api(), Place::make(host)?);
    fs::write(place.path("hosts"), "192.0.2.1 mine\n")?;
    let binds = json!({"Binds": [format!("{}:/etc/hosts", place.path("hosts"))]});
    let text = run(&api, body("cat /etc/hosts", binds))?;
    ensure!(text == "192.0.2.1 mine\n", "{text}");
    Ok(())
}

// ---- volumes ----------------------------------------------------------------

fn a_named_volume_keeps_what_is_written(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let api = host.api();
    let volume = Named::new(&api);
    let binds = |mode: &str| json!({"Binds": [format!("{}:/data{mode}", volume.1)]});
    run(&api, body("echo kept > /data/file", binds("")))?;
    let text = run(&api, body("cat /data/file; stat -c %a:%u /data", binds(":ro")))?;
    ensure!(text == "kept\n755:0\n", "{text}");
    let seen = volume.seen()?;
    ensure!(seen["Driver"] == "local" && seen["Scope"] == "local", "{seen}");
    ensure!(seen["Labels"].is_null() && seen["Options"].is_null(), "{seen}");
    if needs_rig(host).is_ok() {
        ensure!(fs::read_to_string(volume.mountpoint()?.join("file"))? == "kept\n");
    }
    Ok(())
}

fn a_volume_gets_what_the_image_has(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let volume = Named::new(&api);
    // What busybox has there, with its owners, permissions and links.
    let script = "cd /etc && find . | sort | xargs stat -c '%n %a %u:%g %F' 2>/dev/null | grep -v 'hosts\\|hostname\\|resolv'";
    let image = run(&api, body(script, json!({})))?;
    let mounted = json!({"Binds": [format!("{}:/etc", volume.1)]});
    let copied = run(&api, body(script, mounted))?;
    ensure!(image.contains("passwd"), "{image}");
    let lines = |text: &str| {
        text.lines().filter(|line| !line.starts_with(". ")).map(str::to_owned).collect::<Vec<_>>()
    };
    ensure!(lines(&image) == lines(&copied), "image:\n{image}\nvolume:\n{copied}");
    // Once anything is in it, nothing is copied.
    let home = json!({"Binds": [format!("{}:/bin/inner", volume.1)]});
    let text = run(&api, body("ls /bin/inner/passwd", home))?;
    ensure!(text.contains("passwd"), "{text}");
    // And nothing where the client says so.
    let empty = Named::new(&api);
    let nocopy = json!({"Binds": [format!("{}:/etc:nocopy", empty.1)]});
    let text = run(&api, body("ls /etc | grep -c passwd || true", nocopy))?;
    ensure!(text.trim() == "0", "{text}");
    Ok(())
}

fn anonymous_volumes_go_with_their_container(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let volume_of = |container: &Container| -> Result<String> {
        let mount = mount_of(container, "/data")?;
        ensure!(mount["Type"] == "volume" && mount["Driver"] == "local", "{mount}");
        let name = mount["Name"].as_str().unwrap_or_default().to_owned();
        ensure!(name.len() == 64, "{name}");
        Ok(name)
    };
    let made = |auto_remove: bool| {
        let mut body = body("echo x > /data/x", json!({"AutoRemove": auto_remove}));
        body["Volumes"] = json!({"/data": {}});
        api.create(body)
    };
    // With v=1.
    let container = made(false)?;
    ensure!(container.inspect()?["Config"]["Volumes"] == json!({"/data": {}}));
    let name = volume_of(&container)?;
    let seen = api.get_json(&format!("/volumes/{name}"))?;
    ensure!(seen["Labels"] == json!({"com.docker.volume.anonymous": ""}), "{seen}");
    container.remove()?;
    api.get(&format!("/volumes/{name}"))?.expect_error(404)?;
    // Without it, it stays.
    let container = made(false)?;
    let name = volume_of(&container)?;
    api.delete(&container.path(""))?.expect(204)?;
    api.get_json(&format!("/volumes/{name}"))?;
    api.delete(&format!("/volumes/{name}"))?.expect(204)?;
    // With the end of a container that removes itself.
    let container = made(true)?;
    let name = volume_of(&container)?;
    container.start()?;
    e2e::sandbox::until(std::time::Duration::from_secs(20), "the volume goes", || {
        api.get(&format!("/volumes/{name}")).is_ok_and(|answer| answer.status() == 404)
    })
}

fn an_image_declares_volumes(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    // Its image has VOLUME /var/lib/registry.
    let image = "registry:2";
    api.have(image)?;
    let container = api.create(json!({"Image": image, "HostConfig": {"NetworkMode": "none"}}))?;
    let mount = mount_of(&container, "/var/lib/registry")?;
    ensure!(mount["Type"] == "volume" && mount["RW"] == true && mount["Mode"] == "", "{mount}");
    let seen = container.inspect()?;
    ensure!(seen["Config"]["Volumes"] == json!({"/var/lib/registry": {}}), "{}", seen["Config"]);
    // Something of the client's in its place.
    let tmpfs = json!({"NetworkMode": "none", "Tmpfs": {"/var/lib/registry": ""}});
    let container = api.create(json!({"Image": image, "HostConfig": tmpfs}))?;
    ensure!(container.inspect()?["Mounts"] == json!([]), "{}", container.inspect()?["Mounts"]);
    Ok(())
}

fn volumes_of_another_container(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (api, place) = (host.api(), Place::make(host)?);
    let volume = Named::new(&api);
    fs::write(place.path("file"), "from the host")?;
    let binds =
        json!({"Binds": [format!("{}:/named", volume.1), format!("{}:/bound:ro", place.path(""))]});
    let mut first = body("echo a > /anon/a; echo b > /named/b", binds);
    first["Volumes"] = json!({"/anon": {}});
    let first = api.create(first)?;
    finished(&first)?;
    let script = "cat /anon/a /named/b /bound/file; touch /named/x 2>&1; touch /bound/x 2>&1; true";
    let text = run(&api, body(script, json!({"VolumesFrom": [first.name]})))?;
    ensure!(text.starts_with("a\nb\nfrom the host"), "{text}");
    ensure!(text.matches("Read-only").count() == 1, "{text}");
    let all = json!({"VolumesFrom": [format!("{}:ro", first.id)]});
    let text = run(&api, body(script, all))?;
    ensure!(text.matches("Read-only").count() == 2, "{text}");
    // Both have gone with v=1, and the first one's anonymous volume is still there.
    let anonymous = mount_of(&first, "/anon")?["Name"].as_str().unwrap_or_default().to_owned();
    api.get_json(&format!("/volumes/{anonymous}"))?;

    for (from, expected) in [
        ("no-such-container", "No such container: no-such-container"),
        ("x:foo", "invalid mode: foo"),
        ("", "volumes-from specification cannot be an empty string"),
    ] {
        let message = refused(&api, &body("true", json!({"VolumesFrom": [from]})), &[400])?;
        ensure!(message == expected, "{message}");
    }
    Ok(())
}

fn subpath(volume: &str, subpath: &str) -> Value {
    // Nothing is there in the image: what is, would be copied into the volume already at create.
    let options = json!({"Subpath": subpath});
    json!({"Mounts": [{"Type": "volume", "Source": volume, "Target": "/part", "VolumeOptions": options}]})
}

fn a_part_of_a_volume(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let volume = Named::new(&api);
    let binds = json!({"Binds": [format!("{}:/data", volume.1)]});
    let script = "mkdir -p /data/d/e; echo deep > /data/d/e/f; ln -s d/e /data/link";
    run(&api, body(script, binds))?;
    for part in ["d/e", "./d/../d/e", "link"] {
        let text = run(&api, body("cat /part/f; ls /part", subpath(&volume.1, part)))?;
        ensure!(text == "deep\nf\n", "{part}: {text}");
    }
    let text = run(&api, body("cat /part", subpath(&volume.1, "d/e/f")))?;
    ensure!(text == "deep\n", "{text}");
    let container = api.create(body("true", subpath(&volume.1, "nothing")))?;
    let message = container.post("/start")?.expect_error(404)?;
    ensure!(message.starts_with("cannot access path "), "{message}");
    Ok(())
}

fn a_part_of_a_volume_never_leaves_it(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rig(host)?;
    let api = host.api();
    let volume = Named::new(&api);
    let binds = json!({"Binds": [format!("{}:/data", volume.1)]});
    run(&api, body("mkdir /data/d; ln -s /etc /data/abs; ln -s ../../../.. /data/d/up", binds))?;
    for escape in ["abs", "d/up", "abs/ssl"] {
        let container = api.create(body("ls /part", subpath(&volume.1, escape)))?;
        let message = container.post("/start")?.expect_error(400)?;
        ensure!(message.starts_with("path concatenation escapes the base directory"), "{message}");
        ensure!(container.status()? == "created", "{}", container.status()?);
    }
    // What was a directory at create may be a link at start.
    let container = api.create(body("ls /part", subpath(&volume.1, "d")))?;
    let directory = volume.mountpoint()?.join("d");
    fs::remove_dir_all(&directory)?;
    symlink("/etc", &directory)?;
    container.post("/start")?.expect_error(400)?;
    if host.is_ours() {
        // Nor is it left by looking into the container while it does not run.
        let path = container.path("/archive?path=/part/passwd");
        api.get(&path)?.expect_error(404)?;
    }
    // A path that is no path within it.
    let message = refused(&api, &body("true", subpath(&volume.1, "../x")), &[400])?;
    ensure!(message.ends_with("subpath must be a relative path within the volume"), "{message}");
    Ok(())
}

// ---- tmpfs and images -------------------------------------------------------

fn tmpfs_with_options(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mount = json!({
        "Type": "tmpfs", "Target": "/long", "TmpfsOptions": {"SizeBytes": 65536, "Mode": 0o1710, "Options": [["exec"]]}
    });
    let host = json!({"Tmpfs": {"/short": "size=1m,mode=700"}, "Mounts": [mount]});
    let script = "grep -E ' /(short|long) ' /proc/mounts; stat -c '%n %a' /short /long";
    let container = api.create(body(script, host))?;
    let text = finished(&container)?;
    let line = |place: &str| {
        text.lines()
            .find(|line| line.contains(&format!(" {place} ")))
            .unwrap_or_default()
            .to_owned()
    };
    for word in ["noexec", "nosuid", "nodev", "size=1024k"] {
        ensure!(line("/short").contains(word), "{word}: {text}");
    }
    ensure!(line("/long").contains("size=64k") && !line("/long").contains("noexec"), "{text}");
    ensure!(text.contains("/short 700") && text.contains("/long 1710"), "{text}");
    // Only the long form is listed.
    let mounts = container.inspect()?["Mounts"].clone();
    let expected = json!([{
        "Type": "tmpfs", "Source": "", "Destination": "/long", "Mode": "", "RW": true, "Propagation": ""
    }]);
    ensure!(mounts == expected, "{mounts}");
    Ok(())
}

fn image_mount(image: &str, subpath: &str) -> Value {
    let options = json!({"Subpath": subpath});
    json!({"Mounts": [{"Type": "image", "Source": image, "Target": "/part", "ImageOptions": options}]})
}

fn an_image_is_mounted_read_only(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let image = "nginx:latest";
    api.have(image)?;
    let script = "ls /part; touch /part/x 2>&1; true";
    let container = api.create(body(script, image_mount(image, "")))?;
    let text = finished(&container)?;
    ensure!(text.contains("etc\n") && text.contains("Read-only file system"), "{text}");
    let mount = mount_of(&container, "/part")?;
    ensure!(mount["Type"] == "image" && mount["Name"] == image && mount["RW"] == false, "{mount}");
    // It outlives the collection of garbage that a removal starts.
    api.create(body("true", json!({})))?.remove()?;
    ensure!(finished(&container)?.contains("etc\n"), "a second run");
    let message = refused(&api, &body("true", image_mount("no-such-image", "")), &[404])?;
    ensure!(message == "No such image: no-such-image:latest", "{message}");
    let old = api.at("1.47");
    let message = refused(&old, &body("true", image_mount(image, "")), &[400])?;
    ensure!(message == "Mount type \"Image\" needs API v1.48 or newer", "{message}");
    Ok(())
}

fn a_part_of_an_image(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let text = run(&api, body("cat /part/passwd", image_mount(BUSYBOX, "etc")))?;
    ensure!(text.contains("root:"), "{text}");
    let text = run(&api, body("cat /part", image_mount(BUSYBOX, "etc/passwd")))?;
    ensure!(text.contains("root:"), "{text}");
    // dockerd looks when it is started.
    let answer = api.post_json("/containers/create", &{
        let mut body = body("true", image_mount(BUSYBOX, "nothing"));
        body["Image"] = json!(BUSYBOX);
        body
    })?;
    let failed = if answer.status() == 201 {
        let id = answer.json()?["Id"].as_str().context("no Id")?.to_owned();
        let failed = api.post(&format!("/containers/{id}/start"))?;
        api.delete(&format!("/containers/{id}?force=1"))?;
        failed
    } else {
        answer
    };
    let message = failed.expect_error(404)?;
    ensure!(message.starts_with("cannot access path "), "{message}");
    Ok(())
}

// ---- refusals ---------------------------------------------------------------

fn wrong_mounts_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (host, expected) in [
        (json!({"Binds": ["a:b:c:d"]}), "invalid volume specification: 'a:b:c:d'"),
        (json!({"Binds": ["/a:/b:foo"]}), "invalid mode: foo"),
        (json!({"Binds": ["/foo:rw"]}), "invalid volume specification: '/foo:rw'"),
        (
            json!({"Binds": ["/a:/"]}),
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
        ),
        (json!({"Binds": ["/a:/b", "/c:/b"]}), "Duplicate mount point: /b"),
        (json!({"Binds": ["/a:/b"], "Tmpfs": {"/b": ""}}), "Duplicate mount point: /b"),
        (json!({"Tmpfs": {"b": ""}}), "invalid mount path: 'b' mount path must be absolute"),
        (
            json!({"Mounts": [{"Type": "npipe", "Source": "x", "Target": "/b"}]}),
            "invalid mount config for type \"npipe\": mount type unknown",
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/b", "BindOptions": {}}]}),
            "BindOptions must not be specified on mount type \"tmpfs\"",
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Source": "x", "Target": "/b"}]}),
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
    ] {
        let message = refused(&api, &body("true", host), &[400, 500])?;
        ensure!(message == expected, "{message} instead of {expected}");
    }
    let volume = Named::new(&api);
    let driver = json!({"Binds": [format!("{}:/b", volume.1)], "VolumeDriver": "nope"});
    let message = refused(&api, &body("true", driver), &[404])?;
    let expected = format!(
        "create {}: error looking up volume plugin nope: plugin \"nope\" not found",
        volume.1
    );
    ensure!(message == expected, "{message}");
    api.get(&format!("/volumes/{}", volume.1))?.expect_error(404)?;
    Ok(())
}

fn a_failed_creation_leaves_no_volume(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let (new, old) = (Named::new(&api), Named::new(&api));
    api.post_json("/volumes/create", &json!({"Name": old.1}))?.expect(201)?;
    let binds = json!({"Binds": [format!("{}:/a", new.1), format!("{}:/b", old.1)]});
    let mut wrong = body("true", binds);
    wrong["Volumes"] = json!({"/etc/passwd": {}, "/anonymous": {}});
    let message = refused(&api, &wrong, &[400])?;
    ensure!(message.starts_with("cannot mount volume over existing file"), "{message}");
    api.get(&format!("/volumes/{}", new.1))?.expect_error(404)?;
    api.get_json(&format!("/volumes/{}", old.1))?;
    Ok(())
}

// ---- what is shown ----------------------------------------------------------

fn inspect_and_lists_show_mounts(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let (api, place) = (host.api(), Place::make(host)?);
    let volume = Named::new(&api);
    let source = place.path("x");
    let binds = json!({"Binds": [format!("{source}:/bound:ro"), format!("{}:/named", volume.1)]});
    let container = api.create(body("true", binds))?;
    let bound = mount_of(&container, "/bound")?;
    // dockerd takes care of its own root; the rig's is not below it.
    let expected = json!({
        "Type": "bind", "Source": source, "Destination": "/bound", "Mode": "ro", "RW": false, "Propagation": "rprivate"
    });
    ensure!(bound == expected, "{bound}");
    let named = mount_of(&container, "/named")?;
    let expected = json!({
        "Type": "volume", "Name": volume.1, "Source": volume.seen()?["Mountpoint"], "Destination": "/named",
        "Driver": "local", "Mode": "z", "RW": true, "Propagation": ""
    });
    ensure!(named == expected, "{named}");
    let row = container.listed()?.context("not listed")?;
    ensure!(row["Mounts"].as_array().is_some_and(|mounts| mounts.len() == 2), "{row}");
    for value in [volume.1.as_str(), "/named", "/bound"] {
        let query = format!("all=1&{}", filters(&[("volume", value), ("name", &container.name)]));
        let list = api.get_json(&format!("/containers/json?{query}"))?;
        ensure!(list.as_array().is_some_and(|rows| rows.len() == 1), "{value}: {list}");
    }
    let seen = container.inspect()?;
    ensure!(
        seen["HostConfig"]["Binds"][0] == format!("{source}:/bound:ro"),
        "{}",
        seen["HostConfig"]
    );
    Ok(())
}
