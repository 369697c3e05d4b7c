//! Images made of containers.

use e2e::api::{BUSYBOX, Image, encode, filters, script_body};
use e2e::cli::Docker;
use e2e::runner::OrSkip as _;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, peers, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    the_image_runs_at_once_and_has_the_files,
    the_config_is_the_containers_with_changes,
    a_name_that_moves_leaves_the_other_image,
    running_containers_are_paused_meanwhile,
    bad_commits_are_refused,
    docker_commit,
    history_and_tag,
    nerdctl_runs_what_we_commit.ours_only(),
    nerdctls_containers_are_committed.ours_only(),
];

fn commit(container: &Container, query: &str, body: &Value) -> Result<Image> {
    let path = format!("/commit?container={}&{query}", container.id);
    let answer = container.api().post_json(&path, body)?.expect(201)?.json()?;
    let id = answer["Id"].as_str().context("no Id")?.to_owned();
    ensure!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    Ok(Image { api: container.api().clone(), name: id })
}

fn of(image: &Image) -> Result<Value> {
    image.api.get_json(&format!("/images/{}/json", image.name))
}

fn ended(api: &Api, script: &str) -> Result<Container> {
    let container = api.run_script(script)?;
    container.wait()?;
    Ok(container)
}

fn the_image_runs_at_once_and_has_the_files(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = ended(&api, "echo new > /new; rm /etc/passwd; mkdir -p /d; ln -s /new /d/l")?;
    let image = commit(&container, "comment=why&author=me", &json!(null))?;
    let mut body = script_body("cat /d/l; test -e /etc/passwd || echo gone");
    body["Image"] = json!(image.name);
    let run = api.create(body)?;
    run.start()?;
    run.wait()?;
    ensure!(run.logs("")?.text() == "new\ngone\n", "{:?}", run.logs("")?);
    let seen = of(&image)?;
    let layers = seen["RootFS"]["Layers"].as_array().map_or(0, Vec::len);
    let base = api.get_json(&format!("/images/{BUSYBOX}/json"))?;
    let below = base["RootFS"]["Layers"].as_array().map_or(0, Vec::len);
    ensure!(layers == below + 1, "{layers} layers on {below}");
    ensure!(seen["Author"] == "me" && seen["Comment"] == "why", "{seen}");
    ensure!(seen["Architecture"] == base["Architecture"] && seen["Os"] == "linux", "{seen}");
    ensure!(seen["RepoTags"] == json!([]), "{}", seen["RepoTags"]);
    // The container that runs it keeps it.
    drop(run);
    Ok(())
}

fn the_config_is_the_containers_with_changes(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({
        "Cmd": ["sh", "-c", "true"], "Env": ["A=1"], "User": "1000", "WorkingDir": "/tmp",
        "Labels": {"own": "1"}, "HostConfig": {"NetworkMode": "none"},
    }))?;
    let plain = of(&commit(&container, "", &json!(null))?)?["Config"].clone();
    ensure!(
        plain["Cmd"] == json!(["sh", "-c", "true"])
            && plain["User"] == "1000"
            && plain["WorkingDir"] == "/tmp"
            && plain["Labels"]["own"] == "1",
        "{plain}"
    );
    let env = plain["Env"].as_array().context("no Env")?;
    ensure!(env.contains(&json!("A=1")) && env.len() == 2, "{env:?}");

    let changes = [
        "ENV B=\"x y\" C=$B",
        "LABEL l=\"of the image\"",
        "EXPOSE 80 81/udp",
        "VOLUME /v",
        "USER u",
        "WORKDIR sub",
        "ONBUILD RUN x",
        "STOPSIGNAL SIGUSR1",
        "HEALTHCHECK --interval=5s CMD true",
        "ENTRYPOINT [\"/e\"]",
    ];
    let query: Vec<String> =
        changes.iter().map(|change| format!("changes={}", encode(change))).collect();
    let body = json!({"Cmd": ["from", "the", "body"], "Labels": {"body": "2"}});
    let changed = of(&commit(&container, &query.join("&"), &body)?)?["Config"].clone();
    for (key, expected) in [
        ("Entrypoint", json!(["/e"])),
        ("Cmd", Value::Null),
        ("User", json!("u")),
        ("WorkingDir", json!("/sub")),
        ("ExposedPorts", json!({"80/tcp": {}, "81/udp": {}})),
        ("Volumes", json!({"/v": {}})),
        ("OnBuild", json!(["RUN x"])),
        ("StopSignal", json!("SIGUSR1")),
        ("Labels", json!({"body": "2", "l": "of the image", "own": "1"})),
        ("Healthcheck", json!({"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_u64})),
    ] {
        ensure!(changed[key] == expected, "{key}: {} of {changed}", changed[key]);
    }
    let env = changed["Env"].as_array().context("no Env")?;
    ensure!(env.contains(&json!("B=x y")) && env.contains(&json!("A=1")), "{env:?}");
    Ok(())
}

fn a_name_that_moves_leaves_the_other_image(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let name = unique("committed");
    let container = ended(&api, "echo 1 > /number")?;
    let filter = filters(&[("container", &container.id), ("event", "commit")]);
    let mut events = api.stream(&api.request("GET", &format!("/events?{filter}")))?;
    let first = commit(&container, &format!("repo={name}&comment=first"), &json!(null))?;
    ensure!(of(&first)?["RepoTags"] == json!([format!("{name}:latest")]), "{}", of(&first)?);
    let event = events.next_json()?.context("no event")?;
    let attributes = &event["Actor"]["Attributes"];
    ensure!(
        event["Action"] == "commit"
            && attributes["imageID"] == first.name.as_str()
            && attributes["comment"] == "first"
            && attributes["imageRef"]
                .as_str()
                .is_some_and(|text| text.ends_with(&format!("{name}:latest"))),
        "{event}"
    );
    let second = commit(&container, &format!("repo={name}&tag=latest"), &json!(null))?;
    ensure!(second.name != first.name);
    ensure!(of(&first)?["RepoTags"] == json!([]), "the old one has no name");
    ensure!(of(&second)?["RepoTags"] == json!([format!("{name}:latest")]));
    Ok(())
}

fn running_containers_are_paused_meanwhile(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.run_script("echo 1 > /made; echo ready; sleep 1000")?;
    container.until_logged("ready")?;
    let filter = filters(&[("container", &container.id)]);
    let mut events = api.stream(&api.request("GET", &format!("/events?{filter}")))?;
    commit(&container, "pause=0", &json!(null))?;
    commit(&container, "", &json!(null))?;
    let mut seen = Vec::new();
    while seen.iter().filter(|action| *action == "commit").count() < 2
        || !seen.contains(&"unpause".to_owned())
    {
        let event = events.next_json()?.context("the stream ends")?;
        seen.push(event["Action"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(seen[0] == "commit", "the first one was not paused: {seen:?}");
    ensure!(seen.iter().filter(|action| *action == "pause").count() == 1, "{seen:?}");
    ensure!(container.status()? == "running", "{}", container.status()?);
    Ok(())
}

fn bad_commits_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let count = || -> Result<usize> {
        Ok(api.get_json("/images/json?all=1")?.as_array().map_or(0, Vec::len))
    };
    let before = count()?;
    let hex = "a".repeat(64);
    for (query, expected) in [
        (
            "repo=UPPER".to_owned(),
            "invalid reference format: repository name (library/UPPER) must be lowercase"
                .to_owned(),
        ),
        ("repo=a&tag=b%20c".into(), "invalid tag format".into()),
        (
            format!("repo={hex}"),
            format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"),
        ),
        (format!("repo=x@sha256:{hex}"), "cannot import digest reference".into()),
        ("changes=RUN%20x".into(), "RUN is not a valid change command".into()),
        ("changes=ENV".into(), "ENV requires at least one argument".into()),
        (
            "changes=ENV%20A=1%202".into(),
            "Syntax error - can't find = in \"2\". Must be of the form: name=value".into(),
        ),
        ("changes=EXPOSE%2070000".into(), "invalid containerPort: 70000".into()),
        ("changes=STOPSIGNAL%20foo".into(), "invalid signal: foo".into()),
        ("changes=HEALTHCHECK%20x".into(), "Unknown type \"X\" in HEALTHCHECK (try CMD)".into()),
        ("changes=ONBUILD%20FROM%20x".into(), "FROM isn't allowed as an ONBUILD trigger".into()),
        ("changes=WORKDIR".into(), "WORKDIR requires exactly one argument".into()),
    ] {
        let message = api
            .post(&format!("/commit?container={}&{query}", container.id))?
            .expect_error(400)
            .with_context(|| query.clone())?;
        ensure!(message == expected, "{query}: {message}");
    }
    let message = api.post("/commit?container=nobody")?.expect_error(404)?;
    ensure!(message == "No such container: nobody", "{message}");
    let message = api.post("/commit")?.expect_error(400)?;
    ensure!(message == "invalid name or ID supplied: \"\"", "{message}");
    // Other tests make images at the same time; none of ours is left.
    ensure!(count()? <= before + 8, "refused commits leave images");
    Ok(())
}

fn docker_commit(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let docker = Docker::newest(host).or_skip()?;
    let api = host.api();
    let container = ended(&api, "echo committed > /file")?;
    let name = format!("{}:v1", unique("cli"));
    let change = "CMD [\"cat\", \"/file\"]";
    let id = docker
        .run(&["commit", "-m", "message", "-a", "author", "-c", change, &container.name, &name])?
        .success()?;
    let image = Image { api: api.clone(), name: name.clone() };
    ensure!(of(&image)?["Id"] == id.trim(), "{id}");
    let out = docker.run(&["run", "--rm", "--net=none", &name])?.success()?;
    ensure!(out == "committed\n", "{out}");
    Ok(())
}

fn history_and_tag(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = ended(&api, "echo x > /x")?;
    let image = commit(&container, "comment=why", &json!(null))?;
    let history = api.get_json(&format!("/images/{}/history", image.name))?;
    let rows = history.as_array().context("no list")?;
    ensure!(
        rows[0]["Id"] == image.name.as_str()
            && rows[0]["Comment"] == "why"
            && rows[0]["CreatedBy"] == "sh -c echo x > /x"
            && rows[0]["Created"].as_i64().is_some_and(|created| created > 1_700_000_000)
            && rows[0]["Tags"].is_null()
            && rows[0]["Size"].as_i64().is_some_and(|size| size > 0),
        "{}",
        rows[0]
    );
    let base = api.get_json(&format!("/images/{BUSYBOX}/history"))?;
    ensure!(rows.len() == base.as_array().map_or(0, Vec::len) + 1, "{history}");
    ensure!(rows.last().is_some_and(|row| row["Id"] == "<missing>"), "{history}");
    let name = unique("tagged");
    let tag = |query: &str| api.post(&format!("/images/{}/tag?{query}", image.name));
    ensure!(tag(&format!("repo={name}&tag=a"))?.expect(201)?.body.is_empty());
    tag(&format!("repo={name}"))?.expect(201)?;
    let tags = of(&image)?["RepoTags"].clone();
    ensure!(tags == json!([format!("{name}:a"), format!("{name}:latest")]), "{tags}");
    let rows = api.get_json(&format!("/images/{name}:a/history"))?;
    ensure!(
        rows[0]["Tags"] == json!([format!("{name}:a"), format!("{name}:latest")]),
        "{}",
        rows[0]
    );
    let message = tag("repo=UPPER&tag=a")?.expect_error(400)?;
    ensure!(
        message == "invalid reference format: repository name (library/UPPER) must be lowercase",
        "{message}"
    );
    let missing = api.post("/images/nobody-has-this/tag?repo=x")?.expect_error(404)?;
    ensure!(missing == "No such image: nobody-has-this:latest", "{missing}");
    let missing = api.get("/images/nobody-has-this/history")?.expect_error(404)?;
    ensure!(missing == "No such image: nobody-has-this:latest", "{missing}");
    Ok(())
}

fn nerdctl_runs_what_we_commit(rig: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    let host = rig.host()?;
    let container = ended(&host.api(), "echo for nerdctl > /file")?;
    let name = unique("shared");
    let _image = commit(&container, &format!("repo={name}"), &json!(null))?;
    let out = host.nerdctl(&["run", "--rm", "--net=none", &name, "cat", "/file"])?;
    ensure!(out.contains("for nerdctl"), "{out}");
    let listed = host.nerdctl(&["images", "--format", "{{.Repository}}"])?;
    ensure!(listed.lines().any(|line| line == name), "{listed}");
    Ok(())
}

fn nerdctls_containers_are_committed(rig: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    let host = rig.host()?;
    let api = host.api();
    api.have(BUSYBOX)?;
    let name = unique("nc");
    host.nerdctl(&[
        "run",
        "--net=none",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "echo by nerdctl > /file",
    ])?;
    let id = api.get_json(&format!("/containers/{name}/json"))?["Id"].clone();
    let container = api.adopt(id.as_str().context("no id")?, &name);
    let image = commit(&container, "changes=CMD%20cat%20/file", &json!(null))?;
    let run = api.create(json!({"Image": image.name, "HostConfig": {"NetworkMode": "none"}}))?;
    run.start()?;
    run.wait()?;
    ensure!(run.logs("")?.text() == "by nerdctl\n", "{:?}", run.logs("")?);
    Ok(())
}
