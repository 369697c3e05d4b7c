//! The contract with clients that search in texts and act on statuses: every error of the engine, provoked by the
//! request that causes it, with its text and its status.
//!
//! `crates/nerdctld/src/api/error/tests.rs` has the same texts without a daemon; here they are what a client reads. One
//! row, one variant of `engine::Error`. [`every_error_is_provoked`] knows from the definition itself which there are, and
//! [`UNPROVOKED`] says why the rest is not here.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::api::{BUSYBOX, Container, encode, filters, pull_messages, script_body};
use e2e::host::{LOGIN, LOGIN_REGISTRY};
use e2e::http::Response;
use e2e::lying::{Lie, LyingRegistry};
use e2e::sandbox::{send, until};
use e2e::{Context as _, Host, Result, Rig, Test, ensure, tests, unique};
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
        _ => response.message(),
    };
    Ok(Told { status: response.status(), message, expected: (status, text.into()) })
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
        told(&create(rig, json!({"Image": "nobody"}))?, 404, "No such image: nobody:latest")
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
        told(&create(rig, body)?, 400, "no command specified")
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
    ("CannotStop", |rig| {
        let container = sleeper(rig)?;
        let text = format!("cannot stop container: {}: invalid signal: SIGNOPE", container.id);
        told(&container.post("/stop?signal=SIGNOPE")?, 400, text)
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
];

fn containers_in_dockers_words(rig: &Rig) -> Result<()> {
    keep(rig, CONTAINERS)
}

fn create(rig: &Rig, body: Value) -> Result<Response> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    api.post_json("/containers/create", &body)
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
    ("Unauthorized", |rig| {
        crate::needs_rig(rig.host()?)?;
        let body =
            json!({"username": LOGIN.0, "password": "wrong", "serveraddress": LOGIN_REGISTRY});
        told(&rig.host()?.api().post_json("/auth", &body)?, 401, "{}unauthorized{}")
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
    ("EmptyContainerRef", |rig| {
        let path = format!("/containers/json?{}", filters(&[("before", "")]));
        told(&rig.host()?.api().get(&path)?, 400, "container name or ID cannot be empty")
    }),
    ("NoSuchUser", |rig| {
        let body = json!({"Image": BUSYBOX, "Cmd": ["true"], "User": "nobody-has-this"});
        let text = "unable to find user nobody-has-this: no matching entries in passwd file";
        told(&create(rig, body)?, 400, text)
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
        let host = rig.host()?;
        let container = rig.host()?.api().run_script("true")?;
        container.wait()?;
        let text = format!("removal of container {} is already in progress", container.id);
        let shim = host.sandbox()?.shim_of(&container.id).context("no shim")?;
        // A removal that takes its time: the shim of the ended task is asked to go, and is silent.
        send(shim, Signal::STOP)?;
        let first = std::thread::spawn({
            let (api, path) = (host.api(), container.path("?force=1"));
            move || api.delete(&path)
        });
        std::thread::sleep(Duration::from_millis(500));
        let answer = container.api().delete(&container.path("?force=1"));
        send(shim, Signal::CONT)?;
        first.join().map_err(|_| e2e::anyhow!("panicked"))??.expect(204)?;
        told(&answer?, 409, text)
    }),
];

fn our_own_words(rig: &Rig) -> Result<()> {
    keep(rig, OURS)
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
    (
        "ShuttingDown",
        "a race of some milliseconds between a signal and an answer: engine/images/progress.rs",
    ),
    (
        "StartRemoving",
        "the start waits for the removal and finds nothing then; a removal must fail half-way: unit tests of state",
    ),
    ("LogsOfDead", "the same"),
    (
        "AmbiguousImage",
        "two images with a common prefix cannot be made to order: engine/tests/images",
    ),
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
