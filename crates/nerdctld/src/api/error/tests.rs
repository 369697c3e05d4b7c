//! The contract with clients that search in texts and act on statuses: every error of the engine, word for word.

use engine::Error;
use engine::containers::top::TopError;
use engine::error::Cause;

use super::*;

/// The definition of [`Error`]: it is `non_exhaustive`, so the compiler does not tell when a variant is new.
const DEFINITION: &str = include_str!("../../../../engine/src/error.rs");

fn text(given: &str) -> String {
    given.to_owned()
}

fn cause(given: &str) -> Cause {
    given.into()
}

/// Each variant with its status and text.
fn contract() -> Vec<(Error, u16, &'static str)> {
    vec![
        (Error::NoSuchContainer(text("web")), 404, "No such container: web"),
        (Error::AmbiguousContainer(text("ab")), 400, "multiple IDs found with provided prefix: ab"),
        (Error::EmptyContainerRef, 400, "container name or ID cannot be empty"),
        (Error::NoSuchImage(text("nginx:latest")), 404, "No such image: nginx:latest"),
        (
            Error::NoSuchPlatform { image: text("nginx"), platform: text("linux/arm64") },
            404,
            "image with reference nginx was found but does not provide the specified platform (linux/arm64)",
        ),
        (
            Error::NameInUse { name: text("web"), id: text("0123") },
            409,
            "Conflict. The container name \"/web\" is already in use by container \"0123\". You have to remove (or rename) that container to be able to reuse that name.",
        ),
        (Error::NoCommand, 400, "no command specified"),
        (Error::InvalidParameter(text("invalid signal: X")), 400, "invalid signal: X"),
        (
            Error::NoSuchUser {
                user: text("u"),
                reason: text("no matching entries in passwd file"),
            },
            400,
            "unable to find user u: no matching entries in passwd file",
        ),
        (
            Error::unsupported("HostConfig.Memory"),
            501,
            "HostConfig.Memory is not supported by nerdctld",
        ),
        (Error::NotRunning(text("0123")), 409, "container 0123 is not running"),
        (Error::NoExitEvent, 500, "tried to kill container, but did not receive an exit event"),
        (
            Error::NoInit,
            500,
            "no init for containers found in $PATH (docker-init, tini-static, tini): install tini, or create the container without an init",
        ),
        (
            Error::NoDeviceDriver { driver: text("nvidia"), capabilities: text("[[gpu]]") },
            400,
            "could not select device driver \"nvidia\" with capabilities: [[gpu]]",
        ),
        (
            Error::JoinFailed {
                namespace: "PID",
                source: Box::new(Error::NotRunning(text("0123"))),
            },
            500,
            "failed to join PID namespace: container 0123 is not running",
        ),
        (
            Error::NotShareable(text("0123")),
            400,
            "container 0123: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
        ),
        (
            Error::IsRestarting(text("0123")),
            409,
            "Container 0123 is restarting, wait until the container is running",
        ),
        (
            Error::CannotUpdate {
                container: text("0123"),
                source: Box::new(Error::ConflictingUpdate("Conflicting options: x")),
            },
            409,
            "Cannot update container 0123: Conflicting options: x",
        ),
        (Error::ConflictingUpdate("Conflicting options: x"), 409, "Conflicting options: x"),
        (Error::UpdateRemoving, 409, "container is marked for removal and cannot be \"update\""),
        (Error::AlreadyPaused(text("0123")), 409, "container 0123 is already paused"),
        (Error::NotPaused(text("0123")), 500, "Container 0123 is not paused"),
        (
            Error::CannotPause { container: text("0123"), source: cause("frozen") },
            500,
            "cannot pause container 0123: frozen",
        ),
        (
            Error::CannotUnpause { container: text("0123"), source: cause("frozen") },
            500,
            "Cannot unpause container 0123: frozen",
        ),
        (Error::EmptyName, 400, "Neither old nor new names may be empty"),
        (Error::SameName, 400, "Renaming a container with the same name as its current name"),
        (
            Error::NewName {
                source: Box::new(Error::NameInUse { name: text("web"), id: text("0123") }),
            },
            409,
            "Error when allocating new name: Conflict. The container name \"/web\" is already in use by container \"0123\". You have to remove (or rename) that container to be able to reuse that name.",
        ),
        (Error::Top(TopError::NoPid), 500, "Couldn't find PID field in ps output"),
        (Error::StartPaused, 409, "cannot start a paused container, try unpause instead"),
        (Error::StartRemoving, 409, "container is marked for removal and cannot be started"),
        (
            Error::AttachPaused(text("web")),
            409,
            "container web is paused, unpause the container before attach",
        ),
        (
            Error::AttachRestarting(text("web")),
            409,
            "container web is restarting, wait until the container is running",
        ),
        (Error::NoExecCommand, 400, "No exec command specified"),
        (Error::NoSuchExec(text("0123")), 404, "No such exec instance: 0123"),
        (
            Error::ExecPaused(text("web")),
            409,
            "Container web is paused, unpause the container before exec",
        ),
        (
            Error::ExecRestarting(text("0123")),
            409,
            "Container 0123 is restarting, wait until the container is running",
        ),
        (Error::ExecIsRunning(text("0123")), 409, "exec command 0123 is already running"),
        (Error::ExecHasRun(text("0123")), 409, "exec command 0123 has already run"),
        (Error::InvalidEscapeKeys(text("x-y")), 400, "Invalid escape keys (x-y) provided"),
        (
            Error::ExecFailed { message: text("exec: \"x\": not found"), exit_code: 127 },
            400,
            "exec: \"x\": not found",
        ),
        (Error::ExecFailed { message: text("out of stars"), exit_code: 128 }, 500, "out of stars"),
        (Error::ExecNotStarted, 400, "exec process is not started"),
        (Error::ExecNotReady, 500, "timeout waiting for exec session ready"),
        (Error::NotModified, 304, "nothing to do"),
        (
            Error::CannotKill {
                container: text("web"),
                source: Box::new(Error::NotRunning(text("0123"))),
            },
            409,
            "cannot kill container: web: container 0123 is not running",
        ),
        (
            Error::CannotStop {
                container: text("web"),
                source: Box::new(Error::InvalidParameter(text("invalid signal: X"))),
            },
            400,
            "cannot stop container: web: invalid signal: X",
        ),
        (
            Error::CannotRestart { container: text("web"), source: Box::new(Error::StartRemoving) },
            409,
            "Cannot restart container web: container is marked for removal and cannot be started",
        ),
        (
            Error::CannotRemove {
                container: text("web"),
                reason: "container is running: stop the container before removing or force remove",
            },
            409,
            "cannot remove container \"web\": container is running: stop the container before removing or force remove",
        ),
        (
            Error::RemovalInProgress(text("web")),
            409,
            "removal of container web is already in progress",
        ),
        (
            Error::StartFailed {
                message: text("exec: \"x\": executable file not found in $PATH"),
                exit_code: 127,
            },
            400,
            "failed to create task for container: exec: \"x\": executable file not found in $PATH",
        ),
        (
            Error::Networking { source: cause("no bridge") },
            500,
            "failed to set up container networking: no bridge",
        ),
        (
            Error::NetworkSetup { source: Box::new(Error::NetworkNotFound(text("mine"))) },
            404,
            "failed to set up container networking: network mine not found",
        ),
        (
            Error::CannotJoin { container: text("web"), status: "exited" },
            409,
            "cannot join network namespace of a non running container: container web is exited",
        ),
        (
            Error::JoinMissing { source: Box::new(Error::NoSuchContainer(text("web"))) },
            500,
            "joining network namespace of container: No such container: web",
        ),
        (
            Error::LinkMissing {
                container: text("db"),
                source: Box::new(Error::NoSuchContainer(text("db"))),
            },
            400,
            "could not get container for db: No such container: db",
        ),
        (
            Error::LinkNotRunning { name: text("db"), alias: text("/web/al") },
            500,
            "Cannot link to a non running container: /db AS /web/al",
        ),
        (
            Error::DefaultLinkName,
            500,
            "Conflict, cannot remove the default link name of the container",
        ),
        (
            Error::LinkNotOnBridge(text("0123")),
            500,
            "container 0123 not attached to default bridge network",
        ),
        (Error::JoinItself, 400, "cannot join own network namespace"),
        (Error::NetworkNotFound(text("mine")), 404, "network mine not found"),
        (
            Error::AmbiguousNetwork { typed: text("ab"), matches: 2, basis: "ID prefix" },
            400,
            "network ab is ambiguous (2 matches found based on ID prefix)",
        ),
        (
            Error::ManagedByKubernetes {
                verb: "stop",
                container: text("c"),
                namespace: text("n"),
                pod: text("p"),
            },
            409,
            "cannot stop container c: it belongs to the Kubernetes pod n/p, which the kubelet manages; use kubectl delete pod --namespace n p",
        ),
        (
            Error::NoSuchPath { path: text("/x"), container: text("web") },
            404,
            "Could not find the file /x in container web",
        ),
        (Error::NotADirectory(text("/etc/passwd/")), 400, "lstat /etc/passwd/: not a directory"),
        (Error::NotAnExtractionPoint, 400, "extraction point is not a directory"),
        (Error::ReadOnlyRoot, 400, "container rootfs is marked read-only"),
        (Error::ReadOnlyVolume, 400, "mounted volume is marked read-only"),
        (
            Error::CannotOverwrite(text(
                "cannot overwrite non-directory \"a\" with directory \"/d\"",
            )),
            500,
            "cannot overwrite non-directory \"a\" with directory \"/d\"",
        ),
        (Error::BadArchive(text("unexpected EOF")), 400, "unexpected EOF"),
        (
            Error::CannotExport { container: text("0123"), reason: "which is being removed" },
            409,
            "You cannot export container 0123 which is being removed",
        ),
        (
            Error::BindSourceMissing(text("/x")),
            400,
            "invalid mount config for type \"bind\": bind source path does not exist: /x",
        ),
        (
            Error::VolumeOverFile(text("/etc/passwd")),
            400,
            "cannot mount volume over existing file, file exists /etc/passwd",
        ),
        (Error::NoSuchVolume(text("v")), 404, "get v: no such volume"),
        (
            Error::VolumeInUse { volume: text("v"), containers: vec![text("01"), text("02")] },
            409,
            "remove v: volume is in use - [01, 02]",
        ),
        (
            Error::NoSuchVolumeDriver { volume: text("v"), driver: text("d") },
            404,
            "create v: error looking up volume plugin d: plugin \"d\" not found",
        ),
        (Error::PruneRunning, 409, "a prune operation is already running"),
        (
            Error::SubpathEscapes { base: text("/v/_data"), subpath: text("a") },
            400,
            "path concatenation escapes the base directory, base: /v/_data, subpath: a",
        ),
        (
            Error::SubpathMissing {
                path: text("/v/_data/a"),
                source: std::io::Error::other("no such file or directory"),
            },
            404,
            "cannot access path /v/_data/a: no such file or directory",
        ),
        (
            Error::NotPropagated { path: text("/a"), mount: text("/"), kind: "shared" },
            400,
            "path /a is mounted on / but it is not a shared mount",
        ),
        (
            Error::CannotCommit { container: text("0123"), reason: "which is Dead" },
            409,
            "You cannot commit container 0123 which is Dead",
        ),
        (Error::NoStreamSelected, 400, "must specify at least one of 'stdout' or 'stderr'"),
        (
            Error::LogsOfDead,
            409,
            "can not get logs from container which is dead or marked for removal",
        ),
        (
            Error::LogDriver { message: text("journald is not enabled on this host") },
            500,
            "failed to create task for container: failed to initialize logging driver: journald is not enabled on this host",
        ),
        (Error::LogsUnreadable, 501, "configured logging driver does not support reading"),
        (Error::InvalidDetachKeys(text("x")), 400, "Invalid detach keys (x) provided"),
        (
            Error::InvalidReference(text("invalid reference format")),
            400,
            "invalid reference format",
        ),
        (Error::AmbiguousImage(text("ab")), 404, "ambiguous reference: ab"),
        (Error::ReservedImageName, 403, "'scratch' is a reserved name"),
        (
            Error::PullAccessDenied {
                name: text("x/y"),
                detail: text(": denied: requested access to the resource is denied"),
            },
            404,
            "pull access denied for x/y, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        (
            Error::ManifestNotFound { reference: text("docker.io/library/x:1") },
            404,
            "failed to resolve reference \"docker.io/library/x:1\": docker.io/library/x:1: not found",
        ),
        (
            Error::NoMatchingManifest { platform: text("linux/arm64/v8") },
            404,
            "no matching manifest for linux/arm64/v8 in the manifest list entries: no match for platform in manifest: not found",
        ),
        (Error::NoSuchTag(text("x:1")), 404, "tag does not exist: x:1"),
        (Error::NoTagsToPush(text("x")), 404, "An image does not exist locally with the tag: x"),
        (Error::ContentMissing(text("sha256:ab")), 404, "content digest sha256:ab: not found"),
        (
            Error::Unauthorized(text("unauthorized: incorrect username or password")),
            401,
            "unauthorized: incorrect username or password",
        ),
        (Error::TooManyRequests(text("wait")), 429, "toomanyrequests: wait"),
        (Error::Registry { message: text("denied"), class: Class::Forbidden }, 403, "denied"),
        (Error::BadContent(text("unexpected digest")), 400, "unexpected digest"),
        (
            Error::ImageInUse {
                image: text("x"),
                force: "must be forced",
                reason: text("image is being used by stopped container 0123456789ab"),
            },
            409,
            "conflict: unable to delete x (must be forced) - image is being used by stopped container 0123456789ab",
        ),
        (
            Error::ContainerdUnavailable {
                address: text("/c.sock"),
                source: cause("connection refused"),
            },
            503,
            "cannot connect to containerd at /c.sock; is it running?: connection refused",
        ),
        (
            Error::NotLoaded,
            503,
            "nerdctld is still reading containerd's state; try again in a moment",
        ),
        (Error::ShuttingDown, 503, "the daemon is shutting down"),
        (Error::failed("do this", cause("disk full")), 500, "do this: disk full"),
    ]
}

/// Names of the variants, as the definition has them.
fn defined() -> Vec<&'static str> {
    let (_, rest) = DEFINITION.split_once("pub enum Error {\n").unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let variants = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase));
    variants.map(|line| line.split(['(', ' ', ',']).next().unwrap()).collect()
}

#[test]
fn every_error_of_the_engine_has_its_text_and_status() {
    let mut told = Vec::new();
    for (error, status, text) in contract() {
        let debug = format!("{error:?}");
        let name = debug.split(['(', ' ', ',']).next().unwrap().to_owned();
        let error = ApiError::from(error);
        assert_eq!((error.status().as_u16(), error.message().as_str()), (status, text), "{name}");
        told.push(name);
    }
    let missing: Vec<_> =
        defined().into_iter().filter(|name| !told.iter().any(|known| known == name)).collect();
    assert!(missing.is_empty(), "the contract says nothing about {missing:?}");
}

#[test]
fn errors_are_exactly_json() {
    let reply = ApiError::from(Error::NoSuchContainer(text("<web>"))).into_reply();
    assert_eq!(reply.headers[http::header::CONTENT_TYPE], "application/json");
    let crate::api::reply::Content::Full(bytes) = reply.content else { panic!("a body") };
    assert_eq!(&bytes[..], b"{\"message\":\"No such container: <web>\"}\n");
}

#[test]
fn nothing_to_do_has_no_body() {
    let reply = ApiError::from(Error::NotModified).into_reply();
    assert_eq!(reply.status, StatusCode::NOT_MODIFIED);
    assert!(matches!(reply.content, crate::api::reply::Content::Full(bytes) if bytes.is_empty()));
}
