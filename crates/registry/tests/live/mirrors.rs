//! `hosts.toml` and proxies: who is asked, in which order, with what.

use registry::{Access, Config, Error, Proxies, Registry};

use super::scripted::{Reply, Scripted};
use super::server::{MANIFEST, digest};
use super::setting::{config, login, read, with_hosts, write_hosts};

const BODY: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

fn manifest() -> Reply {
    Reply::new(200, BODY)
        .header("content-type", MANIFEST)
        .header("docker-content-digest", digest(BODY).to_string())
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_told_for_whom() {
    let mirror = Scripted::start(|request| {
        match request.target().starts_with("/cache/v2/team/app/blobs/") {
            true => Reply::new(404, ""),
            false => manifest(),
        }
    });
    let origin = Scripted::start(|_| Reply::new(200, "hello"));
    let root = tempfile::tempdir().unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}/cache\"]\n[host.\"http://{}/cache\".header]\nx-key = \"k\"\n",
        origin.address, mirror.address, mirror.address
    );
    write_hosts(root.path(), "r.example", &text);
    let image = "r.example/team/app:1".parse().unwrap();
    let access = Access { credentials: Some(login("ann", "secret")), ..Access::default() };
    let repository = with_hosts(root.path()).repository(&image, access).await.unwrap();
    repository.resolve().await.unwrap();
    let blob = repository.blob(&digest(b"hello"), 5, 0).await.unwrap();
    assert_eq!(read(blob).await.unwrap(), b"hello");

    let asked: Vec<_> =
        mirror.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(asked[0], "/cache/v2/team/app/manifests/1?ns=r.example");
    assert!(mirror.requests().iter().all(|request| request.header("x-key") == Some("k")));
    let asked = origin.requests();
    assert_eq!(
        (asked.len(), asked[0].target().split('?').next()),
        (1, Some(format!("/v2/team/app/blobs/{}", digest(b"hello")).as_str()))
    );
    assert_eq!(asked[0].header("x-key"), None);
}

#[tokio::test]
async fn a_dead_or_incapable_mirror_is_passed_over() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pull_only = Scripted::start(|_| manifest());
    let origin = Scripted::start(|_| manifest());
    let root = tempfile::tempdir().unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{dead}\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        origin.address, pull_only.address
    );
    write_hosts(root.path(), "r.example", &text);
    let image = "r.example/app:1".parse().unwrap();
    let repository = with_hosts(root.path()).repository(&image, Access::default()).await.unwrap();
    let found = repository.resolve().await.unwrap();
    assert_eq!(
        (pull_only.requests().len(), origin.requests().len()),
        (0, 1),
        "tags are not asked of it"
    );
    repository.manifest(&found.digest).await.unwrap();
    assert_eq!((pull_only.requests().len(), origin.requests().len()), (1, 1));
}

#[tokio::test]
async fn the_most_telling_error_is_told() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mirror = Scripted::start(|_| {
        Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"not here"}]}"#)
    });
    let root = tempfile::tempdir().unwrap();
    let text = format!("server = \"http://{dead}\"\n[host.\"http://{}\"]\n", mirror.address);
    write_hosts(root.path(), "r.example", &text);
    let image = "r.example/app:1".parse().unwrap();
    let repository = with_hosts(root.path()).repository(&image, Access::default()).await.unwrap();
    let error = repository.tags().await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
}

#[tokio::test]
async fn plain_requests_go_through_the_proxy_and_tls_through_a_tunnel() {
    let proxy = Scripted::start(|request| match request.method() {
        "CONNECT" => Reply::new(407, "who are you"),
        _ => manifest(),
    });
    let root = tempfile::tempdir().unwrap();
    write_hosts(root.path(), "plain.example", "server = \"http://plain.example\"\n");
    let setting = format!("http://ann:secret@{}", proxy.address);
    let proxies = Proxies::from_lookup(|name| {
        name.ends_with("_PROXY")
            .then(|| if name == "NO_PROXY" { String::new() } else { setting.clone() })
    });
    let registry =
        Registry::new(Config { hosts_dirs: vec![root.path().to_owned()], proxies, ..config() });
    let resolve = |image: &'static str| {
        let registry = registry.clone();
        async move {
            registry
                .repository(&image.parse().unwrap(), Access::default())
                .await
                .unwrap()
                .resolve()
                .await
        }
    };

    resolve("plain.example/app:1").await.unwrap();
    let asked = proxy.requests();
    assert_eq!(asked[0].target(), "http://plain.example/v2/app/manifests/1");
    assert_eq!(asked[0].header("host"), Some("plain.example"));
    // ann:secret
    assert_eq!(asked[0].header("proxy-authorization"), Some("Basic YW5uOnNlY3JldA=="));
    let error = resolve("secure.example/app:1").await.unwrap_err();
    assert!(matches!(&error, Error::Proxy { answer, .. } if answer.contains("407")), "{error:?}");
    let asked = proxy.requests();
    assert_eq!(
        asked.last().map(|request| request.first.as_str()),
        Some("CONNECT secure.example:443 HTTP/1.1")
    );
}
