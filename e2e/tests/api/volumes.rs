//! The volumes themselves: made, listed, in use, pruned, told of, shared with nerdctl.

use e2e::api::filters;
use e2e::runner::OrSkip as _;
use e2e::{Api, Context as _, Result, Rig, Test, ensure, peers, tests};
use serde_json::{Value, json};

use crate::mounts::{Named, body, finished, mount_of, run};

pub(crate) const TESTS: &[Test] = tests![
    volumes_are_made_listed_and_removed,
    volumes_in_use_stay,
    volumes_are_pruned,
    events_of_volumes,
    nerdctl_and_we_share_volumes.ours_only(),
];

fn names_in(api: &Api, of: &[(&str, &str)]) -> Result<Vec<String>> {
    let list = api.get_json(&format!("/volumes?{}", filters(of)))?;
    let volumes = list["Volumes"].as_array().context("no Volumes")?;
    Ok(volumes.iter().filter_map(|volume| Some(volume["Name"].as_str()?.to_owned())).collect())
}

fn volumes_are_made_listed_and_removed(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let volume = Named::new(&api);
    let path = format!("/volumes/{}", volume.1);
    let create = |body: Value| api.post_json("/volumes/create", &body);
    let made = create(json!({"Name": volume.1, "Labels": {"a": "b"}}))?.expect(201)?.json()?;
    ensure!(made["Name"] == volume.1.as_str() && made["Labels"] == json!({"a": "b"}), "{made}");
    ensure!(made["Mountpoint"].as_str().is_some_and(|path| path.ends_with("/_data")), "{made}");
    ensure!(made["CreatedAt"].as_str().is_some_and(|time| time.ends_with('Z')), "{made}");
    let again = create(json!({"Name": volume.1, "Labels": {"c": "d"}}))?.expect(201)?.json()?;
    ensure!(again == made, "an existing volume changed: {again}");
    ensure!(api.get_json(&path)? == made);
    for of in [
        [("name", volume.1.as_str()), ("label", "a=b")],
        [("name", volume.1.as_str()), ("driver", "local")],
        [("name", volume.1.as_str()), ("dangling", "true")],
    ] {
        ensure!(names_in(&api, &of)? == [volume.1.as_str()], "{of:?}");
    }
    for of in [("label", "a=c"), ("driver", "nope"), ("dangling", "false")] {
        ensure!(names_in(&api, &[("name", &volume.1), of])?.is_empty(), "{of:?}");
    }
    let anonymous = api.post("/volumes/create")?.expect(201)?.json()?;
    let name = anonymous["Name"].as_str().context("no Name")?;
    ensure!(name.len() == 64, "{anonymous}");
    ensure!(anonymous["Labels"] == json!({"com.docker.volume.anonymous": ""}), "{anonymous}");
    api.delete(&format!("/volumes/{name}"))?.expect(204)?;

    for (body, status, expected) in [
        (json!({"Name": "x"}), 400, "create x: volume name is too short"),
        (json!({"Name": "a/b"}), 400, "create a/b: \"a/b\" includes invalid characters"),
        (
            json!({"Name": "n3", "Driver": "nope"}),
            404,
            "create n3: error looking up volume plugin nope",
        ),
        (
            json!({"Name": "n4", "DriverOpts": {"foo": "x"}}),
            400,
            "create n4: invalid option: \"foo\"",
        ),
    ] {
        let message = create(body)?.expect_error(status)?;
        ensure!(message.starts_with(expected), "{message}");
    }
    for (query, expected) in [
        ("dangling\":[\"x\"]", "invalid filter 'dangling=[x]'"),
        ("foo\":[\"x\"]", "invalid filter 'foo'"),
    ] {
        let query = e2e::api::encode(&format!("{{\"{query}}}"));
        let message = api.get(&format!("/volumes?filters={query}"))?.expect_error(400)?;
        ensure!(message == expected, "{message}");
    }
    api.delete(&path)?.expect(204)?;
    let message = api.get(&path)?.expect_error(404)?;
    ensure!(message == format!("get {}: no such volume", volume.1), "{message}");
    api.delete(&path)?.expect_error(404)?;
    api.delete(&format!("{path}?force=1"))?.expect(204)?;
    Ok(())
}

fn volumes_in_use_stay(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let volume = Named::new(&api);
    let binds = json!({"Binds": [format!("{}:/data", volume.1)]});
    let container = api.create(body("true", binds))?;
    for force in ["", "?force=1"] {
        let path = format!("/volumes/{}{force}", volume.1);
        let message = api.delete(&path)?.expect_error(409)?;
        let expected = format!("remove {}: volume is in use - [{}]", volume.1, container.id);
        ensure!(message == expected, "{message}");
    }
    ensure!(names_in(&api, &[("name", &volume.1), ("dangling", "0")])? == [volume.1.as_str()]);
    container.remove()?;
    ensure!(names_in(&api, &[("name", &volume.1), ("dangling", "1")])? == [volume.1.as_str()]);
    api.delete(&format!("/volumes/{}", volume.1))?.expect(204)?;
    Ok(())
}

fn volumes_are_pruned(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let create = |body: Value| -> Result<String> {
                let made = api.post_json("/volumes/create", &body)?.expect(201)?.json()?;
                Ok(made["Name"].as_str().unwrap_or_default().to_owned())
            };
            let pruned = |api: &Api, query: &str| -> Result<Value> {
                api.post(&format!("/volumes/prune{query}"))?.expect(200)?.json()
            };
            create(json!({"Name": "named", "Labels": {"x": "y"}}))?;
            create(json!({"Name": "used"}))?;
            let anonymous = create(json!({}))?;
            let binds = json!({"Binds": ["used:/data"]});
            let container = api.create(body("echo 12345 > /data/file", binds))?;
            finished(&container)?;
            let answer = pruned(&api, "")?;
            ensure!(answer["VolumesDeleted"] == json!([anonymous]), "{answer}");
            let all = format!("?{}", filters(&[("all", "true"), ("label", "x=y")]));
            let answer = pruned(&api, &all)?;
            ensure!(answer["VolumesDeleted"] == json!(["named"]), "{answer}");
            container.remove()?;
            // All of them, before 1.42.
            let answer = pruned(&api.at("1.41"), "")?;
            let expected = json!({"VolumesDeleted": ["used"], "SpaceReclaimed": 6});
            ensure!(answer == expected, "{answer}");
            let wrong = format!("?{}", filters(&[("all", "x")]));
            api.post(&format!("/volumes/prune{wrong}"))?.expect_error(400)?;
            Ok(())
        },
    )
}

fn events_of_volumes(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let volume = Named::new(&api);
    let of = filters(&[("volume", &volume.1)]);
    let mut events = api.stream(&api.request("GET", &format!("/events?{of}")))?;
    let binds = json!({"Binds": [format!("{}:/data:ro", volume.1)]});
    let container = api.create(body("true", binds))?;
    finished(&container)?;
    container.remove()?;
    api.delete(&format!("/volumes/{}", volume.1))?.expect(204)?;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(events.next_json()?.context("too few events")?);
    }
    let actions: Vec<&str> =
        seen.iter().map(|event| event["Action"].as_str().unwrap_or_default()).collect();
    ensure!(actions == ["create", "mount", "unmount", "destroy"], "{seen:?}");
    ensure!(seen.iter().all(|event| event["Type"] == "volume"), "{seen:?}");
    let mounted = json!({
        "container": container.id, "destination": "/data", "driver": "local", "propagation": "", "read/write": "false"
    });
    ensure!(seen[1]["Actor"]["Attributes"] == mounted, "{}", seen[1]);
    let unmounted = json!({"container": container.id, "driver": "local"});
    ensure!(seen[2]["Actor"]["Attributes"] == unmounted, "{}", seen[2]);
    Ok(())
}

fn nerdctl_and_we_share_volumes(rig: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            // Ours, seen by nerdctl.
            let binds = json!({"Binds": ["ours:/data"]});
            let mut first = body("echo hello > /data/file; sleep 1000", binds);
            first["Volumes"] = json!({"/anonymous": {}});
            let first = api.create_named("first", first)?;
            first.start()?;
            ensure!(host.nerdctl(&["volume", "ls", "-q"])?.lines().any(|name| name == "ours"));
            let point = host.nerdctl(&["volume", "inspect", "-f", "{{.Mountpoint}}", "ours"])?;
            ensure!(api.get_json("/volumes/ours")?["Mountpoint"] == point.trim(), "{point}");
            let shown = host.nerdctl(&["inspect", "-f", "{{json .Mounts}}", "first"])?;
            ensure!(shown.contains("\"Name\":\"ours\""), "{shown}");
            ensure!(
                host.nerdctl(&["volume", "rm", "ours"]).is_err(),
                "a volume in use was removed"
            );
            let text = host.nerdctl(&[
                "run",
                "--rm",
                "--net=none",
                "-v",
                "ours:/x",
                "busybox",
                "cat",
                "/x/file",
            ])?;
            ensure!(text.trim() == "hello", "{text}");
            // nerdctl's, seen by us.
            host.nerdctl(&["volume", "create", "--label", "a=b", "theirs"])?;
            ensure!(api.get_json("/volumes/theirs")?["Labels"] == json!({"a": "b"}));
            host.nerdctl(&[
                "run",
                "-d",
                "--name",
                "second",
                "--net=none",
                "-v",
                "theirs:/y",
                "busybox",
                "sleep",
                "1000",
            ])?;
            e2e::sandbox::until(std::time::Duration::from_secs(20), "it is listed", || {
                api.get("/containers/second/json").is_ok_and(|answer| answer.status() == 200)
            })?;
            api.delete("/volumes/theirs")?.expect_error(409)?;
            let seen = api.get_json("/containers/second/json")?;
            ensure!(seen["Mounts"][0]["Name"] == "theirs", "{}", seen["Mounts"]);
            // And the mounts of its container in one of ours.
            let text = run(&api, body("touch /y/z; ls /y", json!({"VolumesFrom": ["second"]})))?;
            ensure!(text == "z\n", "{text}");
            // nerdctl removes ours with its anonymous volume.
            let anonymous =
                mount_of(&first, "/anonymous")?["Name"].as_str().unwrap_or_default().to_owned();
            host.nerdctl(&["rm", "-f", "-v", "first"])?;
            api.get(&format!("/volumes/{anonymous}"))?.expect_error(404)?;
            api.get_json("/volumes/ours")?;
            api.delete("/containers/second?force=1")?.expect(204)?;
            Ok(())
        },
    )
}
