//! The contract with clients that search in texts and act on statuses: every error of the engine, provoked by the
//! request that causes it, with its text and its status.
//!
//! `crates/nerdctld/src/api/error/tests.rs` has the same texts without a daemon; here they are what a client reads. One
//! row, one variant of `engine::Error`. [`every_error_is_provoked`] knows from the definition itself which there are, and
//! [`UNPROVOKED`] says why the rest is not here.

use std::collections::BTreeSet;
use std::time::Duration;

use containerd::images::NewImage;
use containerd::{Client, Descriptor, Labels};
use e2e::api::{BUSYBOX, Container, encode, pull_messages, script_body};
use e2e::host::{LOGIN, LOGIN_REGISTRY};
use e2e::http::Response;
use e2e::lying::{Lie, LyingRegistry};
use e2e::sandbox::{send, until};
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, tests, unique};
use rustix::process::Signal;
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    containers_in_dockers_words,
    streams_in_dockers_words,
    images_in_dockers_words,
    // dockerd has other neighbours, and other words for what it does not do.
    our_own_words.ours_only(),
    neighbours_that_fail.ours_only(),
    a_silent_containerd.ours_only().slow(),
    every_error_is_provoked.ours_only(),
];

/// What a client was told, and what it should have been.
struct Told {
    status: u16,
    message: String,
    expected: (u16, String),
}

/// An answer that is an error, or has one in its progress.
fn told(response: &Response, status: u16, text: impl Into<String>) -> Result<Told> {
    let message = match response.status() {
        200 => pull_messages(response).err().map(|error| error.to_string()).unwrap_or_default(),
        _ => words(response),
    };
    Ok(Told { status: response.status(), message, expected: (status, text.into()) })
}

/// dockerd refuses an attach in plain text.
fn words(response: &Response) -> String {
    match response.message() {
        empty if empty.is_empty() => response.text().trim().to_owned(),
        message => message,
    }
}

/// The variant, and how to cause it. `{}` in the text is anything.
type Row = (&'static str, fn(&Rig) -> Result<Told>);

fn keep(rig: &Rig, rows: &[Row]) -> Result<()> {
    let mut broken = Vec::new();
    for (variant, provoke) in rows {
        let told = provoke(rig).with_context(|| (*variant).to_owned())?;
        let (status, text) = &told.expected;
        if told.status != *status || !fits(&told.message, text) {
            broken.push(format!(
                "{variant}: {} {:?}\n  instead of {status} {text:?}",
                told.status, told.message
            ));
        }
    }
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

/// Whether a message is a text in which `{}` stands for anything.
fn fits(message: &str, text: &str) -> bool {
    let mut parts = text.split("{}");
    let Some(mut rest) = message.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || text.ends_with("{}")
}

// ---- containers --------------------------------------------------------------------------------------------------------

const CONTAINERS: &[Row] = &[
    ("NoSuchContainer", |rig| {
        told(&rig.host()?.api().get("/containers/nobody/json")?, 404, "No such container: nobody")
    }),
    ("AmbiguousContainer", |rig| {
        let api = rig.host()?.api();
        // Seventeen ids have two with the same first digit.
        let all = (0..17).map(|_| api.create(script_body("true"))).collect::<Result<Vec<_>>>()?;
        let mut firsts: Vec<&str> = all.iter().map(|container| &container.id[..1]).collect();
        firsts.sort_unstable();
        let twice = firsts.windows(2).find(|pair| pair[0] == pair[1]).context("no pair")?[0];
        let text = format!("multiple IDs found with provided prefix: {twice}");
        told(&api.get(&format!("/containers/{twice}/json"))?, 400, text)
    }),
    ("NoSuchImage", |rig| {
        told(&create(rig, &json!({"Image": "nobody"}))?, 404, "No such image: nobody:latest")
    }),
    ("NoSuchPlatform", |rig| {
        let api = rig.host()?.api();
        api.have(BUSYBOX)?;
        let answer =
            api.post_json("/containers/create?platform=linux%2Fs390x", &json!({"Image": BUSYBOX}))?;
        let text = "image with reference {}busybox:latest was found but does not provide the specified platform (linux/s390x)";
        told(&answer, 404, text)
    }),
    ("NameInUse", |rig| {
        let first = rig.host()?.api().create(script_body("true"))?;
        let path = format!("/containers/create?name={}", first.name);
        let answer = first.api().post_json(&path, &json!({"Image": BUSYBOX}))?;
        let text = format!(
            "Conflict. The container name \"/{}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            first.name, first.id
        );
        told(&answer, 409, text)
    }),
    ("NoCommand", |rig| {
        let body = json!({"Image": BUSYBOX, "Entrypoint": [""], "Cmd": null});
        told(&create(rig, &body)?, 400, "no command specified")
    }),
    ("NotRunning", |rig| {
        let container = rig.host()?.api().create(script_body("true"))?;
        let text = format!("container {} is not running", container.id);
        told(&container.post("/resize?h=10&w=10")?, 409, text)
    }),
    ("NotModified", |rig| {
        let container = sleeper(rig)?;
        told(&container.post("/start")?, 304, "")
    }),
    ("CannotKill", |rig| {
        let container = rig.host()?.api().create(script_body("true"))?;
        let Container { id, .. } = &container;
        let text = format!("cannot kill container: {id}: container {id} is not running");
        told(&container.post("/kill")?, 409, text)
    }),
    ("InvalidParameter", |rig| {
        told(&sleeper(rig)?.post("/kill?signal=SIGNOPE")?, 400, "{}nvalid signal: SIGNOPE")
    }),
    ("CannotRemove", |rig| {
        let container = sleeper(rig)?;
        let text = format!(
            "cannot remove container \"{}\": container is running: stop the container before removing or force remove",
            container.id
        );
        told(&container.api().delete(&container.path(""))?, 409, text)
    }),
    ("StartFailed", |rig| {
        let container = rig.host()?.api().create(json!({"Cmd": ["/nobody/has/this"]}))?;
        let text = "failed to create task for container: {}no such file or directory{}";
        told(&container.post("/start")?, 400, text)
    }),
    ("LinkMissing", |rig| {
        let body = json!({"Image": BUSYBOX, "HostConfig": {"Links": ["nobody:x"]}});
        let text = "could not get container for nobody: No such container: nobody";
        told(&create(rig, &body)?, 400, text)
    }),
    ("LinkNotRunning", |rig| {
        let api = rig.host()?.api();
        let db = api.create(script_body("true"))?;
        let links = json!([format!("{}:al", db.name)]);
        let web = api.create(json!({"Cmd": ["true"], "HostConfig": {"Links": links}}))?;
        let text =
            format!("Cannot link to a non running container: /{} AS /{}/al", db.name, web.name);
        told(&web.post("/start")?, 500, text)
    }),
    ("LinkNotOnBridge", |rig| {
        let api = rig.host()?.api();
        let nowhere = json!({"Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}});
        let db = api.create(nowhere)?;
        db.post("/start")?.expect(204)?;
        let links = json!([format!("{}:al", db.name)]);
        let web = api.create(json!({"Cmd": ["true"], "HostConfig": {"Links": links}}))?;
        let text = format!("{{}}ontainer {} not attached to default bridge network", db.id);
        told(&web.post("/start")?, 500, text)
    }),
    ("DefaultLinkName", |rig| {
        let container = sleeper(rig)?;
        let text = "Conflict, cannot remove the default link name of the container";
        told(&container.api().delete(&container.path("?link=1"))?, 500, text)
    }),
    ("AlreadyPaused", |rig| {
        let container = paused(rig)?;
        let text = format!("{{}}ontainer {} is already paused", container.id);
        told(&container.post("/pause")?, 409, text)
    }),
    ("NotPaused", |rig| {
        let container = sleeper(rig)?;
        let text = format!("Container {} is not paused", container.id);
        told(&container.post("/unpause")?, 500, text)
    }),
    ("StartPaused", |rig| {
        let text = "cannot start a paused container, try unpause instead";
        told(&paused(rig)?.post("/start")?, 409, text)
    }),
    ("IsRestarting", |rig| {
        restarting(
            rig,
            "/pause",
            &json!({}),
            "Container {} is restarting, wait until the container is running",
        )
    }),
    ("CannotUpdate", |rig| {
        let container = sleeper(rig)?;
        let body = json!({"NanoCpus": 500_000_000, "CpuQuota": 50_000});
        let answer = container.api().post_json(&container.path("/update"), &body)?;
        told(&answer, 400, "Conflicting options: Nano CPUs and CPU {} cannot both be set")
    }),
    ("EmptyName", |rig| {
        let text = "Neither old nor new names may be empty";
        told(&sleeper(rig)?.post("/rename?name=")?, 400, text)
    }),
    ("SameName", |rig| {
        let container = sleeper(rig)?;
        let text = "Renaming a container with the same name as its current name";
        told(&container.post(&format!("/rename?name={}", container.name))?, 400, text)
    }),
    ("NewName", |rig| {
        let (first, second) = (sleeper(rig)?, sleeper(rig)?);
        let text = format!(
            "Error when allocating new name: Conflict. The container name \"/{}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            first.name, first.id
        );
        told(&second.post(&format!("/rename?name={}", first.name))?, 409, text)
    }),
    ("Top", |rig| {
        let container = sleeper(rig)?;
        let answer = container.api().get(&container.path("/top?ps_args=-o%20comm"))?;
        told(&answer, 500, "Couldn't find PID field in ps output")
    }),
    ("NoDeviceDriver", |rig| {
        let request = json!([{"Driver": "nobody", "Capabilities": [["gpu"]]}]);
        let text = "could not select device driver \"nobody\" with capabilities: [[gpu]]";
        let told = create_or_start(rig, &json!({"DeviceRequests": request}), text)?;
        // dockerd calls it its own fault.
        Ok(Told { expected: (told.status, text.to_owned()), ..told })
    }),
    ("JoinFailed", |rig| {
        let ended = rig.host()?.api().create(script_body("true"))?;
        let text =
            format!("failed to join PID namespace: {{}}ontainer {} is not running", ended.id);
        let told =
            create_or_start(rig, &json!({"PidMode": format!("container:{}", ended.id)}), &text)?;
        Ok(Told { expected: (500, text), ..told })
    }),
    ("NotShareable", |rig| {
        let mut body = script_body("exec sleep 1000");
        body["HostConfig"]["IpcMode"] = json!("private");
        let other = rig.host()?.api().create(body)?;
        other.start()?;
        let text = format!(
            "{{}}container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
            other.id
        );
        let told =
            create_or_start(rig, &json!({"IpcMode": format!("container:{}", other.id)}), &text)?;
        Ok(Told { expected: (told.status.min(400), text), ..told })
    }),
    ("NetworkSetup", |rig| {
        let text = "failed to set up container networking: network nobody-has-this not found";
        create_or_start(rig, &json!({"NetworkMode": "nobody-has-this"}), text)
            .map(|told| Told { expected: (404, text.to_owned()), ..told })
    }),
    ("NetworkNotFound", |rig| {
        told(&rig.host()?.api().get("/networks/nobody")?, 404, "network nobody not found")
    }),
    ("CannotJoin", |rig| {
        let ended = rig.host()?.api().create(script_body("true"))?;
        let text =
            "cannot join network namespace of a non running container: container {} is created";
        create_or_start(rig, &json!({"NetworkMode": format!("container:{}", ended.id)}), text)
    }),
    ("BindSourceMissing", |rig| {
        let mount = json!([{"Type": "bind", "Source": "/nobody/has/this", "Target": "/x"}]);
        let text = "invalid mount config for type \"bind\": bind source path does not exist: /nobody/has/this";
        create_or_start(rig, &json!({"Mounts": mount}), text)
            .map(|told| Told { expected: (400, text.to_owned()), ..told })
    }),
    ("NoSuchVolume", |rig| {
        told(&rig.host()?.api().get("/volumes/nobody")?, 404, "get nobody: no such volume")
    }),
    ("VolumeInUse", |rig| {
        let volume = unique("used");
        let mut body = script_body("true");
        body["HostConfig"]["Binds"] = json!([format!("{volume}:/x")]);
        let container = rig.host()?.api().create(body)?;
        let answer = container.api().delete(&format!("/volumes/{volume}"))?;
        let text = format!("remove {volume}: volume is in use - [{}]", container.id);
        told(&answer, 409, text)
    }),
    ("NoSuchVolumeDriver", |rig| {
        let body = json!({"Name": "vv", "Driver": "nobody"});
        let answer = rig.host()?.api().post_json("/volumes/create", &body)?;
        let text = "create vv: error looking up volume plugin nobody: plugin \"nobody\" not found";
        told(&answer, 404, text)
    }),
    ("NoSuchPath", |rig| {
        let container = sleeper(rig)?;
        let text = format!("Could not find the file /nobody in container {}", container.id);
        told(&container.api().get(&container.path("/archive?path=/nobody"))?, 404, text)
    }),
    ("NotAnExtractionPoint", |rig| {
        let container = sleeper(rig)?;
        told(&extract(&container, "/etc/passwd")?, 400, "extraction point is not a directory")
    }),
    ("ReadOnlyVolume", |rig| {
        let mut body = script_body("true");
        body["HostConfig"]["Binds"] = json!(["/tmp:/kept:ro"]);
        let container = rig.host()?.api().create(body)?;
        told(&extract(&container, "/kept")?, 400, "mounted volume is marked read-only")
    }),
    ("ReadOnlyRoot", |rig| {
        let mut body = script_body("true");
        body["HostConfig"]["ReadonlyRootfs"] = json!(true);
        let container = rig.host()?.api().create(body)?;
        told(&extract(&container, "/etc")?, 400, "container rootfs is marked read-only")
    }),
    ("NoExecCommand", |rig| {
        let container = sleeper(rig)?;
        let answer = container.api().post_json(&container.path("/exec"), &json!({"Cmd": []}))?;
        told(&answer, 400, "No exec command specified")
    }),
    ("NoSuchExec", |rig| {
        told(&rig.host()?.api().get("/exec/nobody/json")?, 404, "No such exec instance: nobody")
    }),
    ("ExecPaused", |rig| {
        let container = paused(rig)?;
        let body = json!({"Cmd": ["true"]});
        let answer = container.api().post_json(&container.path("/exec"), &body)?;
        let text =
            format!("Container {} is paused, unpause the container before exec", container.id);
        told(&answer, 409, text)
    }),
    ("ExecRestarting", |rig| {
        let text = "Container {} is restarting, wait until the container is running";
        restarting(rig, "/exec", &json!({"Cmd": ["true"]}), text)
    }),
];

fn containers_in_dockers_words(rig: &Rig) -> Result<()> {
    keep(rig, CONTAINERS)
}

fn create(rig: &Rig, body: &Value) -> Result<Response> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    api.post_json("/containers/create", body)
}

/// What create or, if that has no objection, start says of these fields of `HostConfig`.
fn create_or_start(rig: &Rig, host_config: &Value, text: &str) -> Result<Told> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": host_config});
    let created = api.post_json("/containers/create", &body)?;
    if created.status() != 201 {
        return told(&created, 409, text);
    }
    let id = created.json()?["Id"].as_str().context("no Id")?.to_owned();
    let started = api.post(&format!("/containers/{id}/start"))?;
    api.delete(&format!("/containers/{id}?force=1"))?.expect(204)?;
    told(&started, 409, text)
}

/// Sends an empty archive.
fn extract(container: &Container, path: &str) -> Result<Response> {
    let path = container.path(&format!("/archive?path={}", encode(path)));
    let request = container.api().request("PUT", &path);
    container.api().send(&request.header("Content-Type", "application/x-tar").bytes([0; 1024]))
}

/// An exec of `true` that nobody has started.
fn exec_of(container: &Container) -> Result<String> {
    let body = json!({"Cmd": ["true"]});
    let made = container.api().post_json(&container.path("/exec"), &body)?.expect(201)?.json()?;
    made["Id"].as_str().map(str::to_owned).context("no Id")
}

fn paused(rig: &Rig) -> Result<Container> {
    let container = sleeper(rig)?;
    container.post("/pause")?.expect(204)?;
    Ok(container)
}

/// Asks a container that fails again and again, until it is between two tries.
fn restarting(rig: &Rig, path: &str, request: &Value, text: &str) -> Result<Told> {
    let mut body = script_body("false");
    body["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
    let container = rig.host()?.api().create(body)?;
    container.start()?;
    let mut answer = None;
    until(Duration::from_secs(60), "a refusal between two tries", || {
        let waits = container.status().is_ok_and(|status| status == "restarting");
        let asked = || container.api().post_json(&container.path(path), request);
        answer = if waits { asked().ok() } else { None };
        answer.as_ref().is_some_and(|answer| words(answer).contains("is restarting"))
    })?;
    told(&answer.context("no answer")?, 409, text.replacen("{}", &container.id, 1))
}

fn sleeper(rig: &Rig) -> Result<Container> {
    rig.host()?.api().run_script("exec sleep 1000")
}

// ---- streams -----------------------------------------------------------------------------------------------------------

const STREAMS: &[Row] = &[
    ("NoStreamSelected", |rig| {
        let container = sleeper(rig)?;
        let answer = container.api().get(&container.path("/logs"))?;
        told(&answer, 400, "{}ust {} at least one {}")
    }),
    ("LogsUnreadable", |rig| {
        let mut body = script_body("true");
        body["HostConfig"]["LogConfig"] = json!({"Type": "none"});
        let container = rig.host()?.api().create(body)?;
        let answer = container.api().get(&container.path("/logs?stdout=1"))?;
        told(&answer, 501, "configured logging driver does not support reading")
    }),
    ("InvalidDetachKeys", |rig| {
        let answer = sleeper(rig)?.post("/attach?stream=1&stdout=1&detachKeys=nonsense")?;
        told(&answer, 400, "Invalid detach keys (nonsense) provided")
    }),
    ("AttachPaused", |rig| {
        let container = paused(rig)?;
        let text =
            format!("{{}}ontainer {} is paused, unpause the container before attach", container.id);
        told(&container.post("/attach?stream=1&stdout=1")?, 409, text)
    }),
    ("AttachRestarting", |rig| {
        let text = "{}ontainer {} is restarting, wait until the container is running";
        restarting(rig, "/attach?stream=1&stdout=1", &json!({}), text)
            .map(|told| Told { expected: (409, text.to_owned()), ..told })
    }),
    ("LogDriver", |rig| {
        crate::needs_rig(rig.host()?)?;
        let mut body = script_body("true");
        body["HostConfig"]["LogConfig"] = json!({"Type": "journald"});
        let container = rig.host()?.api().create(body)?;
        let text = "failed to create task for container: failed to initialize logging driver: journald is not enabled on this host";
        told(&container.post("/start")?, 500, text)
    }),
];

fn streams_in_dockers_words(rig: &Rig) -> Result<()> {
    keep(rig, STREAMS)
}

// ---- images ------------------------------------------------------------------------------------------------------------

const IMAGES: &[Row] = &[
    ("InvalidReference", |rig| {
        let text = "{}invalid reference format: repository name ({}UPPER) must be lowercase";
        told(&pull(rig, "UPPER&tag=latest")?, 400, text)
    }),
    ("ReservedImageName", |rig| {
        told(&pull(rig, "scratch&tag=latest")?, 403, "'scratch' is a reserved name")
    }),
    ("ManifestNotFound", |rig| {
        let answer = pull(rig, "busybox&tag=nobody-has-this")?;
        told(
            &answer,
            404,
            "failed to resolve reference \"docker.io/library/busybox:nobody-has-this\": docker.io/library/busybox:nobody-has-this: not found",
        )
    }),
    ("NoSuchTag", |rig| {
        let answer = rig.host()?.api().post("/images/nobody-has-this/push?tag=one")?;
        told(&answer, 200, "tag does not exist: nobody-has-this:one")
    }),
    ("NoTagsToPush", |rig| {
        let answer = rig.host()?.api().post("/images/nobody-has-this/push")?;
        told(&answer, 200, "An image does not exist locally with the tag: nobody-has-this")
    }),
    ("ImageInUse", |rig| {
        let container = sleeper(rig)?;
        // Which container it names, and which of Docker's two sentences it is, depends on what else uses the image.
        let answer = container.api().delete("/images/busybox:latest")?;
        let text = if answer.message().contains("is being used") {
            "conflict: unable to delete {} (must be forced) - image is being used by running container {}"
        } else {
            "conflict: unable to delete busybox:latest (must be forced) - container {} is using its referenced image {}"
        };
        told(&answer, 409, text)
    }),
];

fn images_in_dockers_words(rig: &Rig) -> Result<()> {
    keep(rig, IMAGES)
}

/// Pulls `fromImage`; more parameters may follow it.
fn pull(rig: &Rig, image: &str) -> Result<Response> {
    rig.host()?.api().post(&format!("/images/create?fromImage={image}"))
}

// ---- what dockerd says in other words, or never ------------------------------------------------------------------------

const OURS: &[Row] = &[
    ("NoSuchUser", |rig| {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "User": "nobody-has-this"});
        let text = "unable to find user nobody-has-this: no matching entries in passwd file";
        told(&create(rig, &body)?, 400, text)
    }),
    ("Unsupported", |rig| {
        told(&rig.host()?.api().post("/build")?, 501, "{} is not supported by nerdctld{}")
    }),
    ("ManagedByKubernetes", |rig| {
        let host = rig.host()?;
        let (api, id) = (host.api(), unique("pods-container"));
        api.have(BUSYBOX)?;
        host.ctr(&[
            "containers",
            "create",
            "--label",
            "io.cri-containerd.kind=container",
            "--label",
            "io.kubernetes.pod.name=p1",
            "--label",
            "io.kubernetes.pod.namespace=shop",
            "--label",
            "io.kubernetes.container.name=web",
            "docker.io/library/busybox:latest",
            &id,
            "true",
        ])?;
        let path = format!("/containers/{id}");
        until(Duration::from_secs(20), "it is known", || {
            api.get(&format!("{path}/json")).is_ok_and(|answer| answer.status() == 200)
        })?;
        let answer = api.post(&format!("{path}/stop"))?;
        host.ctr(&["containers", "delete", &id])?;
        let text = format!(
            "cannot stop container {id}: it belongs to the Kubernetes pod shop/p1, which the kubelet manages; use kubectl delete pod --namespace shop p1"
        );
        told(&answer, 409, text)
    }),
    ("NoMatchingManifest", |rig| {
        let text = "no matching manifest for linux/s390x in the manifest list entries: no match for platform in manifest: not found";
        told(&pull(rig, "busybox&tag=stable&platform=linux%2Fs390x")?, 404, text)
    }),
    ("PullAccessDenied", |rig| {
        let refused = Lie::Refuse(403, "DENIED", "requested access to the resource is denied");
        let text = "pull access denied for {}/library/alpine, repository does not exist or may require 'docker login': {}requested access to the resource is denied{}";
        told(&pull_from_liar(rig, refused)?, 404, text)
    }),
    ("TooManyRequests", |rig| {
        let refused = Lie::Refuse(429, "TOOMANYREQUESTS", "come back tomorrow");
        told(&pull_from_liar(rig, refused)?, 429, "toomanyrequests: come back tomorrow")
    }),
    ("Registry", |rig| {
        let answer =
            pull(rig, &format!("{}&tag=3.21", encode(&format!("{LOGIN_REGISTRY}/alpine"))))?;
        let text = "failed to resolve reference \"localhost:5000/alpine:3.21\": pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials";
        told(&answer, 404, text)
    }),
    ("BadContent", |rig| {
        let text = "failed to pull \"{}/library/alpine:3.21\": {}: failed precondition";
        told(&pull_from_liar(rig, Lie::WrongBytes)?, 200, text)
    }),
    ("RemovalInProgress", |rig| {
        while_it_is_removed(
            rig.host()?,
            409,
            "removal of container ID is already in progress",
            |container| container.api().delete(&container.path("?force=1")),
        )
    }),
    ("LogsOfDead", |rig| {
        let text = "can not get logs from container which is dead or marked for removal";
        while_it_is_removed(rig.host()?, 409, text, |container| {
            container.api().get(&container.path("/logs?stdout=1"))
        })
    }),
    ("CannotExport", |rig| {
        let text = "You cannot export container ID which is being removed";
        while_it_is_removed(rig.host()?, 409, text, |container| {
            container.api().get(&container.path("/export"))
        })
    }),
    ("CannotCommit", |rig| {
        let text = "You cannot commit container ID which is being removed";
        while_it_is_removed(rig.host()?, 409, text, |container| {
            container.api().post(&format!("/commit?container={}", container.id))
        })
    }),
    ("JoinMissing", |rig| {
        let api = rig.host()?.api();
        let gone = sleeper(rig)?;
        let mode = format!("container:{}", gone.id);
        let body = json!({"Cmd": ["true"], "HostConfig": {"NetworkMode": mode}});
        let container = api.create(body)?;
        gone.remove()?;
        let text =
            format!("joining network namespace of container: No such container: {}", gone.id);
        told(&container.post("/start")?, 500, text)
    }),
    ("JoinItself", |rig| {
        let name = unique("itself");
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "HostConfig": {"NetworkMode": format!("container:{name}")}});
        let api = rig.host()?.api();
        api.have(BUSYBOX)?;
        let created = api.post_json(&format!("/containers/create?name={name}"), &body)?;
        if created.status() != 201 {
            return told(&created, 400, "cannot join own network namespace");
        }
        let answer = api.post(&format!("/containers/{name}/start"))?;
        api.delete(&format!("/containers/{name}"))?.expect(204)?;
        told(&answer, 400, "cannot join own network namespace")
    }),
    ("NotADirectory", |rig| {
        let container = sleeper(rig)?;
        let answer = container.api().get(&container.path("/archive?path=/etc/passwd/"))?;
        told(&answer, 400, "{}/etc/passwd{}: not a directory")
    }),
    ("BadArchive", |rig| {
        let container = sleeper(rig)?;
        let request = container.api().request("PUT", &container.path("/archive?path=/tmp"));
        let request =
            request.header("Content-Type", "application/x-tar").bytes("nonsense ".repeat(200));
        told(&container.api().send(&request)?, 400, "{}")
    }),
    ("VolumeOverFile", |rig| {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "Volumes": {"/etc/passwd": {}}});
        let text = "cannot mount volume over existing file, file exists {}/etc/passwd";
        told(&create(rig, &body)?, 400, text)
    }),
    ("SubpathEscapes", |rig| {
        told(
            &subpath(rig, "out/of")?,
            400,
            "{}path concatenation escapes the base directory, base: {}, subpath: out/of",
        )
    }),
    ("SubpathMissing", |rig| {
        told(&subpath(rig, "missing")?, 404, "{}cannot access path {}/missing: {}")
    }),
    // What is the client's mistake here is dockerd's own fault, in its eyes.
    ("CannotStop", |rig| {
        let container = sleeper(rig)?;
        let text = format!("cannot stop container: {}: invalid signal: SIGNOPE", container.id);
        told(&container.post("/stop?signal=SIGNOPE")?, 400, text)
    }),
    ("CannotRestart", |rig| {
        let container = sleeper(rig)?;
        let text =
            format!("{{}}annot restart container {}: {{}}nvalid signal: SIGNOPE", container.id);
        told(&container.post("/restart?signal=SIGNOPE")?, 400, text)
    }),
    ("Unauthorized", |rig| {
        crate::needs_rig(rig.host()?)?;
        let body =
            json!({"username": LOGIN.0, "password": "wrong", "serveraddress": LOGIN_REGISTRY});
        told(&rig.host()?.api().post_json("/auth", &body)?, 401, "{}unauthorized{}")
    }),
    ("InvalidEscapeKeys", |rig| {
        let container = sleeper(rig)?;
        let body = json!({"Cmd": ["true"], "DetachKeys": "nonsense"});
        let answer = container.api().post_json(&container.path("/exec"), &body)?;
        told(&answer, 400, "Invalid escape keys (nonsense) provided")
    }),
    ("ExecNotStarted", |rig| {
        let container = sleeper(rig)?;
        let exec = exec_of(&container)?;
        let api = container.api();
        api.post_json(&format!("/exec/{exec}/start"), &json!({"Detach": true}))?.expect(200)?;
        until(Duration::from_secs(20), "its end", || {
            api.get_json(&format!("/exec/{exec}/json")).is_ok_and(|seen| seen["Running"] == false)
        })?;
        let answer = api.post(&format!("/exec/{exec}/resize?h=10&w=10"))?;
        told(&answer, 400, "exec process is not started")
    }),
];

fn our_own_words(rig: &Rig) -> Result<()> {
    keep(rig, OURS)
}

/// Asks while a removal takes its time: the shim of the ended task is asked to go, and is silent. `ID` in the text is the
/// container's.
fn while_it_is_removed(
    host: &Host,
    status: u16,
    text: &str,
    ask: impl FnOnce(&Container) -> Result<Response>,
) -> Result<Told> {
    let container = ended(host)?;
    let path = container.path("?force=1");
    let (first, answer) =
        during_removal(host, &container, move |api| api.delete(&path), || ask(&container))?;
    first.expect(204)?;
    told(&answer, status, text.replace("ID", &container.id))
}

fn ended(host: &Host) -> Result<Container> {
    let container = host.api().run_script("true")?;
    container.wait()?;
    Ok(container)
}

/// What `remove` and `ask` get if the second comes while the first is at it.
fn during_removal(
    host: &Host,
    container: &Container,
    remove: impl FnOnce(&Api) -> Result<Response> + Send,
    ask: impl FnOnce() -> Result<Response>,
) -> Result<(Response, Response)> {
    let shim = host.sandbox()?.shim_of(&container.id).context("no shim")?;
    send(shim, Signal::STOP)?;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| remove(&host.api()));
        let answer = until(Duration::from_secs(10), "its removal", || {
            container.status().is_ok_and(|status| status == "removing")
        })
        .and_then(|()| ask());
        send(shim, Signal::CONT)?;
        Ok((first.join().map_err(|_| e2e::anyhow!("panicked"))??, answer?))
    })
}

/// Starts a container that mounts a part of a volume in which `out` leads elsewhere.
fn subpath(rig: &Rig, path: &str) -> Result<Response> {
    let api = rig.host()?.api();
    let volume = unique("parts");
    let mut body = script_body("ln -s / /v/out");
    body["HostConfig"]["Binds"] = json!([format!("{volume}:/v")]);
    let filler = api.create(body)?;
    filler.start()?;
    ensure!(filler.wait()? == 0);
    let mount = json!([{"Type": "volume", "Source": volume, "Target": "/p", "VolumeOptions": {"Subpath": path}}]);
    let mut body = script_body("true");
    body["HostConfig"]["Mounts"] = mount;
    body["Image"] = json!(BUSYBOX);
    let created = api.post_json("/containers/create", &body)?;
    if created.status() != 201 {
        return Ok(created);
    }
    let id = created.json()?["Id"].as_str().context("no Id")?.to_owned();
    let started = api.post(&format!("/containers/{id}/start"))?;
    api.delete(&format!("/containers/{id}"))?.expect(204)?;
    Ok(started)
}

fn pull_from_liar(rig: &Rig, lie: Lie) -> Result<Response> {
    let liar = LyingRegistry::start(rig.host()?, lie)?;
    pull(rig, &format!("{}&tag=3.21", encode(&format!("{}/library/alpine", liar.address))))
}

// ---- neighbours --------------------------------------------------------------------------------------------------------

/// They need a host of their own, because they break it.
const NEIGHBOURS: &[Row] = &[
    ("Networking", |rig| {
        on_own_host(rig, |host| {
            let plugin = host.root()?.join("cni/net.d");
            // A file where its networks are looked for.
            std::fs::remove_dir_all(&plugin)?;
            std::fs::write(&plugin, "")?;
            let container = host.api().create(json!({"Cmd": ["true"]}))?;
            told(&container.post("/start")?, 500, "failed to set up container networking: {}")
        })
    }),
    ("Failed", |rig| {
        on_own_host(rig, |host| {
            host.api().create(script_body("true"))?.remove()?;
            let folder = state_folder(host)?;
            std::fs::remove_dir_all(&folder)?;
            std::fs::write(&folder, "")?;
            let body = json!({"Image": BUSYBOX, "Cmd": ["true"]});
            told(&host.api().post_json("/containers/create", &body)?, 500, "{}: {}ot a directory{}")
        })
    }),
    ("AmbiguousImage", |rig| {
        on_own_host(rig, |host| {
            let containerd = Client::new(&host.containerd_socket()?, host.namespace());
            let runtime = crate::runtime()?;
            // Nothing but their names is looked at.
            for digit in ["1", "2"] {
                let target = Descriptor {
                    media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
                    digest: format!("sha256:abcd{}", digit.repeat(60)),
                    size: 2,
                    ..Descriptor::default()
                };
                let name = format!("example.org/{digit}:1");
                let image = NewImage { name, labels: Labels::new(), target };
                runtime.block_on(containerd.create_image(image))?;
            }
            told(&host.api().get("/images/abcd/json")?, 404, "ambiguous reference: abcd")
        })
    }),
    ("AmbiguousNetwork", |rig| {
        on_own_host(rig, |host| {
            let networks = host.root()?.join("cni/net.d");
            for (name, digit) in [("one", "1"), ("two", "2")] {
                let list = json!({
                    "cniVersion": "1.0.0",
                    "name": name,
                    "nerdctlID": format!("abcd{}", digit.repeat(60)),
                    "plugins": [{"type": "bridge", "bridge": name}],
                });
                std::fs::write(networks.join(format!("{name}.conflist")), list.to_string())?;
            }
            let text = "network abcd is ambiguous (2 matches found based on ID prefix)";
            told(&host.api().get("/networks/abcd")?, 400, text)
        })
    }),
    ("PruneRunning", |rig| {
        on_own_host(rig, |host| {
            let container = ended(host)?;
            let prune = |api: &Api| api.post("/containers/prune");
            let (first, answer) = during_removal(host, &container, prune, || prune(&host.api()))?;
            first.expect(200)?;
            told(&answer, 409, "a prune operation is already running")
        })
    }),
    ("ContainerdUnavailable", |rig| {
        on_own_host(rig, |host| {
            host.kill_containerd()?;
            let text = format!(
                "cannot connect to containerd at {}; is it running?: {{}}",
                host.containerd_socket()?.display()
            );
            told(&host.api().get("/containers/json")?, 503, text)
        })
    }),
];

fn neighbours_that_fail(rig: &Rig) -> Result<()> {
    keep(rig, NEIGHBOURS)
}

fn on_own_host(rig: &Rig, work: impl FnOnce(&Host) -> Result<Told>) -> Result<Told> {
    let mut outcome = None;
    rig.with_own_host(
        |_| (),
        |host| {
            outcome = Some(work(host)?);
            Ok(())
        },
    )?;
    outcome.context("nothing was told")
}

/// Where the containers of the namespace have their files.
fn state_folder(host: &Host) -> Result<std::path::PathBuf> {
    let data = host.root()?.join("data");
    let mut stores = std::fs::read_dir(data)?.flatten().map(|entry| entry.path());
    let store = stores.find(|path| path.join("containers").is_dir()).context("no data store")?;
    Ok(store.join("containers").join(host.namespace()))
}

const SILENCE: &[Row] = &[("ContainerdUnavailable", |rig| {
    on_own_host(rig, |host| {
        host.stop_daemon()?;
        let containerd = host.containerd_pid()?;
        send(containerd, Signal::STOP)?;
        let answer = host.start_daemon().and_then(|()| host.api().get("/containers/json"));
        send(containerd, Signal::CONT)?;
        told(
            &answer?,
            503,
            "cannot connect to containerd at {}; is it running?: no answer within 10 s",
        )
    })
})];

fn a_silent_containerd(rig: &Rig) -> Result<()> {
    keep(rig, SILENCE)
}

// ---- all of them -------------------------------------------------------------------------------------------------------

/// The definition of the errors.
const DEFINITION: &str = include_str!("../../../crates/engine/src/error.rs");

/// What no request can cause at will, and where it is tested instead; `error/tests.rs` has the text of each.
const UNPROVOKED: &[(&str, &str)] = &[
    ("NotLoaded", "a first look of more than ten seconds: sometimes what a_silent_containerd gets"),
    (
        "ShuttingDown",
        "a race of milliseconds between a signal and an answer: engine/images/progress.rs",
    ),
    ("StartRemoving", "the start waits for the removal, and finds nothing then: engine/state.rs"),
    ("UpdateRemoving", "the same"),
    (
        "NoExitEvent",
        "SIGKILL without effect for ten seconds: resilience.rs has the shim that hangs",
    ),
    ("CannotPause", "the runtime must fail: live.rs has the shim that hangs"),
    ("CannotUnpause", "the same"),
    ("ConflictingUpdate", "always the source of CannotUpdate"),
    ("ExecIsRunning", "told within the stream: exec.rs"),
    ("ExecHasRun", "the same"),
    ("ExecFailed", "the same"),
    ("ExecNotReady", "after ten seconds of waiting for somebody to start it: exec.rs"),
    ("NoInit", "machines that run these tests have one: engine/oci/init.rs"),
    ("CannotOverwrite", "archive.rs has both, with the archives it takes"),
    ("NotPropagated", "mounts.rs: whether the host's mounts are shared is not the test's to say"),
    ("ContentMissing", "push.rs takes a layer out of containerd's store"),
    ("EmptyContainerRef", "no route has an empty segment"),
];

fn every_error_is_provoked(_: &Rig) -> Result<()> {
    let (_, rest) = DEFINITION.split_once("pub enum Error {\n").context("the definition")?;
    let (body, _) = rest.split_once("\n}\n").context("its end")?;
    let defined: BTreeSet<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase))
        .filter_map(|line| line.split(['(', ' ', ',']).next())
        .collect();
    let rows = [CONTAINERS, STREAMS, IMAGES, OURS, NEIGHBOURS, SILENCE].into_iter().flatten();
    let here: BTreeSet<&str> =
        rows.map(|(variant, _)| *variant).chain(UNPROVOKED.iter().map(|(name, _)| *name)).collect();
    let missing: Vec<_> = defined.difference(&here).collect();
    let gone: Vec<_> = here.difference(&defined).collect();
    ensure!(
        missing.is_empty() && gone.is_empty(),
        "nobody provokes {missing:?}; {gone:?} are no errors"
    );
    Ok(())
}
