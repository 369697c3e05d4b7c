//! Requests as bytes, answers as bytes: the edge over a real socket pair, and an engine whose containerd is absent.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::*;
use crate::connection::{self, Welcome};

/// An answer, taken apart.
struct Seen {
    status: u16,
    head: String,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn message(&self) -> String {
        let body: serde_json::Value =
            serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body));
        body["message"].as_str().unwrap().to_owned()
    }
}

/// The edge, without a containerd.
struct Edge {
    api: Api,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Edge {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(settings(folder.path())).unwrap();
        let stop = CancellationToken::new();
        Self { api: Api::new(engine, stop.clone(), Shown::default()), stop, _folder: folder }
    }

    /// Send bytes on a connection of their own, and read all that comes back until it is closed.
    async fn send(&self, welcome: Welcome, request: &[u8]) -> String {
        let (client, server) = UnixStream::pair().unwrap();
        let api = self.api.clone();
        let serving =
            connection::serve(server, welcome, self.stop.clone(), move |request, handle| {
                api.clone().respond(request, handle)
            });
        let (mut reader, mut writer) = client.into_split();
        // The client's ends go with it, as soon as it has seen the end.
        let request = request.to_owned();
        let talking = async move {
            let sent = async { drop(writer.write_all(&request).await) };
            let mut answer = Vec::new();
            let received = async { drop(reader.read_to_end(&mut answer).await) };
            tokio::join!(sent, received);
            String::from_utf8_lossy(&answer).into_owned()
        };
        let both = async { tokio::join!(serving, talking).1 };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("the connection hangs")
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Seen {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: docker\r\n{headers}{length}Connection: close\r\n\r\n"
        );
        take_apart(&self.send(Welcome::Client, &[head.as_bytes(), body].concat()).await)
    }

    async fn get(&self, path: &str) -> Seen {
        self.ask("GET", path, "", b"").await
    }
}

fn take_apart(answer: &str) -> Seen {
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Seen { status, head: head.to_owned(), body: body.to_owned() }
}

fn settings(folder: &Path) -> engine::Settings {
    engine::Settings {
        containerd_address: folder.join("nobody.sock").display().to_string(),
        namespace: "default".parse().unwrap(),
        snapshotter: "overlayfs".to_owned(),
        data_root: folder.join("data"),
        run_dir: folder.join("run"),
        helper: folder.join("helper"),
        cni_path: folder.join("cni"),
        cni_netconf_path: folder.join("net.d"),
        hosts_dirs: Vec::new(),
        cgroup_manager: None,
        bridge_ip: None,
        keep_stopped: 10,
        manage_cri: false,
        insecure_registry: false,
        transfer_limits: engine::images::TransferLimits::default(),
        registries: engine::images::RegistrySettings::default(),
        debug: false,
        buildkit_host: None,
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn ping_answers_without_containerd() {
    let edge = Edge::new();
    let ping = edge.get("/_ping").await;
    assert_eq!((ping.status, ping.body.as_str()), (200, "OK"));
    assert_eq!(ping.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(ping.header("Builder-Version"), Some("2"));
    assert_eq!(ping.header("Swarm"), Some("inactive"));
    assert_eq!(ping.header("Pragma"), Some("no-cache"));
    let head = edge.ask("HEAD", "/v1.40/_ping", "", b"").await;
    assert_eq!(
        (head.status, head.body.as_str(), head.header("Content-Length")),
        (200, "", Some("0"))
    );
}

#[tokio::test]
async fn every_handled_answer_has_the_headers_of_negotiation() {
    let edge = Edge::new();
    for seen in [
        edge.get("/version").await,
        edge.get("/swarm").await,
        edge.get("/v1.99/version").await,
        edge.get("/v1.23/info").await,
    ] {
        assert_eq!(seen.header("Api-Version"), Some("1.55"), "{}", seen.head);
        assert_eq!(
            (seen.header("Ostype"), seen.header("Docker-Experimental")),
            (Some("linux"), Some("false"))
        );
        assert!(seen.header("Server").unwrap().starts_with("Docker/29."));
    }
}

#[tokio::test]
async fn unknown_pages_and_methods_are_404_without_those_headers() {
    let edge = Edge::new();
    for (method, path) in [
        ("GET", "/nonsense"),
        ("PUT", "/containers/json"),
        ("GET", "/v1.99/nonsense"),
        ("DELETE", "/v1.41"),
    ] {
        let seen = edge.ask(method, path, "", b"").await;
        assert_eq!(
            (seen.status, seen.message().as_str()),
            (404, "page not found"),
            "{method} {path}"
        );
        assert_eq!(
            (seen.header("Api-Version"), seen.header("Content-Type")),
            (None, Some("application/json"))
        );
    }
}

#[tokio::test]
async fn versions_outside_of_the_range_are_refused() {
    let edge = Edge::new();
    let new = edge.get("/v1.56/version").await;
    assert_eq!(new.status, 400);
    assert_eq!(
        new.message(),
        "client version 1.56 is too new. Maximum supported API version is 1.55"
    );
    let old = edge.get("/v1.23/_ping").await;
    assert_eq!((old.status, old.header("Content-Type")), (400, Some("text/plain; charset=utf-8")));
    assert_eq!(
        old.body,
        "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"
    );
    let young = edge.ask("GET", "/v1.54/images/a/b/attestations", "", b"").await;
    assert_eq!(
        (young.status, young.message().as_str()),
        (400, "GET /images/{name:.*}/attestations requires minimum API version 1.55")
    );
    assert_eq!(edge.get("/v1.24/_ping").await.status, 200);
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_dockers_words() {
    let edge = Edge::new();
    for (method, path, status, text) in [
        ("GET", "/swarm", 503, "This node is not a swarm manager."),
        ("GET", "/services", 503, "This node is not a swarm manager."),
        ("POST", "/swarm/leave", 503, "This node is not part of a swarm"),
        ("POST", "/swarm/init", 503, "nerdctld does not support Swarm"),
        ("PUT", "/volumes/x", 503, "volume update only valid for cluster volumes"),
        ("GET", "/containers/x/checkpoints", 501, "This experimental feature is disabled"),
        ("GET", "/plugins/a/b/json", 404, "plugin \"a/b\" not found"),
        ("POST", "/plugins/pull", 501, "nerdctld does not support plugins"),
        ("POST", "/networks/prune", 501, "POST /networks/prune is not supported by nerdctld yet"),
    ] {
        let seen = edge.ask(method, path, "", b"").await;
        assert!(
            seen.status == status && seen.message().starts_with(text),
            "{method} {path}: {}",
            seen.body
        );
    }
    assert_eq!(edge.get("/plugins").await.body, "[]\n");
    let options = edge.ask("OPTIONS", "/any/path", "", b"").await;
    assert_eq!((options.status, options.body.as_str()), (200, ""));
}

#[tokio::test]
async fn an_absent_containerd_is_503_with_a_sentence() {
    let edge = Edge::new();
    // Endpoints that need the inventory wait for it first, which would take this test ten seconds.
    for path in ["/images/json", "/images/alpine/json"] {
        let seen = edge.get(path).await;
        assert_eq!(seen.status, 503, "{path}: {}", seen.body);
        assert!(seen.message().starts_with("cannot connect to containerd at "), "{}", seen.body);
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_and_change_nothing() {
    let edge = Edge::new();
    let create = "/containers/create?name=x";
    for (headers, body, status, text) in [
        (JSON, &b""[..], 400, "invalid JSON: got EOF while reading request body"),
        (JSON, b"{\"Image\"", 400, "invalid JSON: "),
        (JSON, b"{}{}", 400, "unexpected content after JSON"),
        (JSON, b"{}", 400, "config cannot be empty in order to create a container"),
        (JSON, br#"{"Tty":"yes"}"#, 400, "invalid JSON: Tty: "),
        (
            "Content-Type: text/plain\r\n",
            b"{}",
            400,
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        ("", b"{}", 400, "malformed Content-Type header (): mime: no media type"),
        (
            JSON,
            br#"{"Image":"i","HostConfig":{"Cgroup":"container:x"}}"#,
            501,
            "HostConfig.Cgroup is not supported by nerdctld",
        ),
    ] {
        let seen = edge.ask("POST", create, headers, body).await;
        assert!(seen.status == status && seen.message().starts_with(text), "{text}: {}", seen.body);
    }
}

#[tokio::test]
async fn a_body_over_the_bound_is_413_and_closes() {
    let edge = Edge::new();
    let too_much = vec![b' '; body::LIMIT + 1];
    let seen = edge.ask("POST", "/containers/create", JSON, &too_much).await;
    assert_eq!(seen.status, 413);
    assert_eq!(seen.header("Connection"), Some("close"));
    let chunk = "100000\r\n".to_owned() + &" ".repeat(0x10_0000) + "\r\n";
    let chunked = format!(
        "POST /containers/create HTTP/1.1\r\nHost: d\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{}",
        chunk.repeat(9)
    );
    assert_eq!(take_apart(&edge.send(Welcome::Client, chunked.as_bytes()).await).status, 413);
}

#[tokio::test]
async fn a_start_takes_no_body() {
    let edge = Edge::new();
    let text = "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";
    let seen = edge.ask("POST", "/containers/x/start", JSON, b"{\"a\": 1}").await;
    assert_eq!((seen.status, seen.message().as_str()), (400, text));
    let chunked = "POST /containers/x/start HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n";
    assert_eq!(take_apart(&edge.send(Welcome::Client, chunked.as_bytes()).await).message(), text);
}

#[tokio::test]
async fn a_connection_serves_on_after_a_body_that_nobody_read() {
    let edge = Edge::new();
    let unread = "POST /swarm/init HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n{\"a\": 1} ";
    let next = "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
    let both = edge.send(Welcome::Client, format!("{unread}{next}").as_bytes()).await;
    assert!(both.starts_with("HTTP/1.1 503 ") && both.ends_with("\r\n\r\nOK"), "{both}");
}

#[tokio::test]
async fn a_refusal_asks_for_no_body() {
    let edge = Edge::new();
    let unasked =
        "POST /swarm/init HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    let answer = edge.send(Welcome::Client, unasked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_login_is_json_whatever_its_type_says() {
    let edge = Edge::new();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let seen = edge.ask("POST", "/auth", form, b"{\"username\": 1}").await;
    assert_eq!(seen.status, 400);
    assert!(seen.message().contains("invalid X-Registry-Auth header"), "{}", seen.message());
    assert!(seen.message().contains("username"), "{}", seen.message());
}

#[tokio::test]
async fn filters_and_parameters_are_judged_before_anything_is_asked() {
    let edge = Edge::new();
    for (method, path, text) in [
        ("GET", "/containers/json?filters=nonsense", "invalid filter"),
        ("GET", "/containers/json?filters=%7B%22xyz%22%3A%5B%22a%22%5D%7D", "invalid filter 'xyz'"),
        (
            "GET",
            "/containers/json?filters=%7B%22status%22%3A%5B%22x%22%5D%7D",
            "invalid filter 'status=x': invalid value for state (x): must be one of created, running",
        ),
        ("GET", "/containers/json?limit=x", "strconv.Atoi: parsing \"x\": invalid syntax"),
        ("GET", "/containers/json?a=%zz", "invalid URL escape \"%zz\""),
        (
            "GET",
            "/images/json?filters=%7B%22dangling%22%3A%5B%22x%22%5D%7D",
            "invalid filter 'dangling=[x]'",
        ),
        ("GET", "/images/%zz/json", "invalid URL escape \"%zz\""),
        ("GET", "/events?since=x", "invalid value for 'since': "),
        ("GET", "/events?since=20&until=10", "`since` time (20) cannot be after `until` time (10)"),
        ("GET", "/containers/x/logs", "must specify at least one of 'stdout' or 'stderr'"),
        ("GET", "/containers/x/logs?stdout=1&since=x", "invalid value for \"since\": "),
        ("POST", "/containers/x/wait?condition=x", "invalid condition: \"x\""),
        ("POST", "/containers/x/resize?h=x&w=1", "invalid resize height \"x\": invalid syntax"),
        ("POST", "/containers/x/resize?h=1", "invalid resize width \"\": invalid syntax"),
        ("POST", "/containers/x/stop?t=soon", "strconv.Atoi: parsing \"soon\": invalid syntax"),
        (
            "POST",
            "/containers/x/stop?signal=NOPE",
            "cannot stop container: x: invalid signal: NOPE",
        ),
        (
            "POST",
            "/images/create?fromImage=UPPER",
            "invalid reference format: repository name (library/UPPER) must be lowercase",
        ),
        ("POST", "/images/create?fromImage=a&platform=a/b/c/d", "\"a/b/c/d\""),
        (
            "GET",
            "/images/a/json?manifests=1&platform=x",
            "conflicting options: manifests and platform options cannot both be set",
        ),
    ] {
        let seen = edge.ask(method, path, "", b"").await;
        assert!(
            seen.status == 400 && seen.message().starts_with(text),
            "{method} {path}: {} {}",
            seen.status,
            seen.body
        );
    }
}

#[tokio::test]
async fn a_form_is_a_second_query() {
    let edge = Edge::new();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let seen = edge.ask("POST", "/containers/x/stop?t=5", form, b"t=soon").await;
    assert_eq!(seen.message(), "strconv.Atoi: parsing \"soon\": invalid syntax");
}

#[tokio::test]
async fn too_many_connections_leave_the_pings() {
    let edge = Edge::new();
    let ping =
        take_apart(&edge.send(Welcome::Crowded, b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n").await);
    assert_eq!((ping.status, ping.header("Connection")), (200, Some("close")));
    let refused = take_apart(
        &edge.send(Welcome::Crowded, b"GET /containers/json HTTP/1.1\r\nHost: d\r\n\r\n").await,
    );
    assert_eq!((refused.status, refused.header("Connection")), (503, Some("close")));
    assert!(refused.message().starts_with("nerdctld has too many open connections"));
}

#[tokio::test]
async fn a_panic_ends_one_request_and_is_500() {
    let edge = Edge::new();
    for finishes in [false, true] {
        let outcome = edge.api.run(finishes, async { panic!("in a handler") }).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(error.message().contains("log says where"));
    }
    assert_eq!(edge.api.operations(), 0);
}

#[tokio::test]
async fn a_change_goes_on_without_its_client() {
    let edge = Edge::new();
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let work = async move {
        let _ = begun.await;
        let _ = end.send(());
        Ok(Reply::no_content())
    };
    let mut client = Box::pin(edge.api.run(true, work));
    assert!(futures_util::poll!(client.as_mut()).is_pending());
    assert_eq!(edge.api.operations(), 1);
    drop(client);
    begin.send(()).unwrap();
    ended.await.expect("the change was dropped with its client");
}

#[tokio::test]
async fn events_are_live_when_the_head_arrives_and_end_with_the_daemon() {
    let edge = Edge::new();
    let (mut client, server) = UnixStream::pair().unwrap();
    let api = edge.api.clone();
    let serving =
        connection::serve(server, Welcome::Client, edge.stop.clone(), move |request, handle| {
            api.clone().respond(request, handle)
        });
    let talking = async {
        client.write_all(b"GET /v1.51/events HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n")
                && head.contains("Content-Type: application/json\r\n"),
            "{head}"
        );
        edge.stop.cancel();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "0\r\n\r\n", "the stream ends in good order");
    };
    let both = async { tokio::join!(serving, talking) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("the stream does not end");
}
