//! Registries that stumble, lie or stop.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use registry::{Access, Config, Error, Interruption, MAX_MANIFEST_BYTES, Patience, Registry};

use super::scripted::{Reply, Scripted};
use super::server::{MANIFEST, digest};
use super::setting::{anonymous, config, patience, read};

const BODY: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

fn layer() -> Vec<u8> {
    (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// Counts calls from 0.
fn counter() -> impl Fn() -> usize + Send + Sync {
    let calls = AtomicUsize::new(0);
    move || calls.fetch_add(1, Ordering::SeqCst)
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was() {
    let (body, call) = (layer(), counter());
    let served = body.clone();
    let server = Scripted::start(move |request| {
        let reply = Reply::range(&served, request);
        if call() < 2 { reply.cut_after(70_000) } else { reply }
    });
    let repository = anonymous(&server.image("app")).await;
    let blob = repository.blob(&digest(&body), body.len() as u64, 0).await.unwrap();
    assert!(read(blob).await.unwrap() == body);
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [None, Some("bytes=70000-".to_owned()), Some("bytes=140000-".to_owned())]);
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_again_from_the_start() {
    let (body, call) = (layer(), counter());
    let served = body.clone();
    let server = Scripted::start(move |_| {
        let reply = Reply::new(200, served.clone());
        if call() == 0 { reply.cut_after(70_000) } else { reply }
    });
    let repository = anonymous(&server.image("app")).await;
    let blob = repository.blob(&digest(&body), body.len() as u64, 0).await.unwrap();
    assert!(read(blob).await.unwrap() == body);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_registry_that_always_cuts_is_given_up() {
    let body = layer();
    let served = body.clone();
    let server = Scripted::start(move |request| Reply::range(&served, request).cut_after(0));
    let repository = anonymous(&server.image("app")).await;
    let blob = repository.blob(&digest(&body), body.len() as u64, 0).await.unwrap();
    let error = read(blob).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 3, "as many as patience allows");
}

#[tokio::test]
async fn a_registry_that_stalls_is_given_up() {
    let body = layer();
    let served = body.clone();
    let server = Scripted::start(move |_| Reply::new(200, served.clone()).stall_after(1000));
    let patience = Patience { stall: Duration::from_millis(30), attempts: 1, ..patience() };
    let registry = Registry::new(Config { patience, ..config() });
    let repository = registry.repository(&server.image("app"), Access::default()).await.unwrap();
    let blob = repository.blob(&digest(&body), body.len() as u64, 0).await.unwrap();
    let error = read(blob).await.unwrap_err();
    assert!(
        matches!(error, Error::Interrupted { source: Interruption::Stalled(_), .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn not_a_byte_too_many_is_taken() {
    let server = Scripted::start(|_| Reply::new(200, "hello, world"));
    let repository = anonymous(&server.image("app")).await;
    let blob = repository.blob(&digest(b"hello"), 5, 0).await.unwrap();
    assert!(matches!(read(blob).await, Err(Error::TooLarge { limit: 5, .. })));
    let refused = repository.small_blob(&digest(b"hello"), 5, 4).await;
    assert!(matches!(refused, Err(Error::TooLarge { limit: 4, .. })));
}

#[tokio::test]
async fn a_wrong_digest_is_told() {
    let server = Scripted::start(|request| match request.target() {
        "/v2/app/manifests/liar" => Reply::new(200, BODY)
            .header("content-type", MANIFEST)
            .header("docker-content-digest", digest(b"x").to_string()),
        _ => Reply::new(200, BODY).header("content-type", MANIFEST),
    });
    let repository = anonymous(&server.image("app")).await;
    let error = repository.manifest(&digest(b"other")).await.unwrap_err();
    assert!(
        matches!(&error, Error::DigestMismatch { actual, .. } if *actual == digest(BODY).to_string()),
        "{error:?}"
    );
    let error =
        repository.small_blob(&digest(b"other"), BODY.len() as u64, 1000).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }));
    // HEAD is believed, GET is not.
    let liar = anonymous(&server.image("app:liar")).await;
    let found = liar.resolve().await.unwrap();
    assert!(matches!(liar.manifest(&found.digest).await, Err(Error::DigestMismatch { .. })));
}

#[tokio::test]
async fn a_huge_manifest_is_refused() {
    let server = Scripted::start(|request| match request.target() {
        "/v2/app/manifests/announced" => Reply::new(200, "")
            .header("content-length", (MAX_MANIFEST_BYTES + 1).to_string())
            .header("content-type", MANIFEST)
            .header("docker-content-digest", digest(b"x").to_string()),
        _ => Reply::new(200, vec![b' '; usize::try_from(MAX_MANIFEST_BYTES).unwrap() + 1])
            .header("content-type", MANIFEST),
    });
    let announced = anonymous(&server.image("app:announced")).await.resolve().await;
    assert!(matches!(announced, Err(Error::TooLarge { .. })), "{announced:?}");
    let sent = anonymous(&server.image("app:sent")).await.manifest(&digest(b"x")).await;
    assert!(matches!(sent, Err(Error::TooLarge { .. })), "{sent:?}");
}

#[tokio::test]
async fn a_poor_answer_to_head_is_made_up_for_by_get() {
    let server = Scripted::start(|request| match (request.method(), request.target()) {
        ("HEAD", "/v2/app/manifests/forbidden") => Reply::new(405, ""),
        ("HEAD", _) => {
            Reply::new(200, "").header("content-length", "31").header("content-type", MANIFEST)
        }
        _ => Reply::new(200, BODY).header("content-type", format!("{MANIFEST}; charset=utf-8")),
    });
    for tag in ["forbidden", "no-digest"] {
        let found = anonymous(&server.image(&format!("app:{tag}"))).await.resolve().await.unwrap();
        assert_eq!(
            (found.digest, found.media_type.as_str(), found.size),
            (digest(BODY), MANIFEST, BODY.len() as u64)
        );
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let call = counter();
        let server = Scripted::start(move |_| match call() {
            0 | 1 => Reply::new(status, "later").header("retry-after", "0"),
            _ => Reply::new(200, BODY).header("content-type", MANIFEST),
        });
        anonymous(&server.image("app")).await.manifest(&digest(BODY)).await.unwrap();
        assert_eq!(server.requests().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn what_does_not_pass_is_told_in_the_registrys_words() {
    let limit = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let server = Scripted::start(move |request| match request.target() {
        "/v2/app/manifests/busy" => Reply::new(429, limit).header("retry-after", "3600"),
        "/v2/app/manifests/broken" => Reply::new(500, "<html>oops</html>"),
        "/v2/app/manifests/denied" => {
            Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"no entry"}]}"#)
        }
        _ => Reply::new(418, r#"{"errors":[{"code":"TEAPOT","message":"short and stout"}]}"#),
    });
    let error = |tag: &str| {
        let image = server.image(&format!("app:{tag}"));
        async move { anonymous(&image).await.resolve().await.unwrap_err() }
    };
    let busy = error("busy").await;
    assert!(matches!(busy, Error::TooManyRequests { .. }));
    assert_eq!(busy.to_string(), "toomanyrequests: You have reached your pull rate limit.");
    assert_eq!(server.requests_to("/v2/app/manifests/busy").len(), 2, "an hour is not waited for");
    assert_eq!(error("denied").await.to_string(), "denied: no entry");
    let broken = error("broken").await;
    assert_eq!(
        broken.to_string(),
        format!(
            "unexpected status from GET http://{}/v2/app/manifests/broken: 500",
            server.address
        )
        .replace("http:", "https:")
    );
    assert!(error("pot").await.to_string().ends_with(": 418: teapot: short and stout"));
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let image = format!("{address}/app").parse().unwrap();
    let error = anonymous(&image).await.resolve().await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { host, .. } if *host == address.to_string()),
        "{error:?}"
    );
}

#[tokio::test]
async fn redirects_end() {
    let server = Scripted::start(|request| {
        Reply::new(302, "").header("location", request.target().to_owned())
    });
    let error = anonymous(&server.image("app")).await.tags().await.unwrap_err();
    assert!(matches!(error, Error::Redirects { count: 10, .. }), "{error:?}");
    let server = Scripted::start(|_| Reply::new(302, "").header("location", "file:///etc/passwd"));
    let error = anonymous(&server.image("app")).await.tags().await.unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error:?}");
}

#[tokio::test]
async fn a_list_of_tags_has_pages_and_an_end() {
    let server = Scripted::start(|request| match request.target() {
        "/v2/app/tags/list?n=1000" => Reply::new(200, r#"{"name":"app","tags":["a","b"]}"#)
            .header("link", "</v2/app/tags/list?n=1000&last=b>; rel=\"next\""),
        "/v2/app/tags/list?n=1000&last=b" => Reply::new(200, r#"{"name":"app","tags":["c"]}"#),
        "/v2/empty/tags/list?n=1000" => Reply::new(200, r#"{"name":"empty","tags":null}"#),
        _ => Reply::new(200, r#"{"name":"endless","tags":["x"]}"#)
            .header("link", format!("<{}>; rel=\"next\"", request.target())),
    });
    assert_eq!(anonymous(&server.image("app")).await.tags().await.unwrap(), ["a", "b", "c"]);
    assert_eq!(anonymous(&server.image("empty")).await.tags().await.unwrap(), Vec::<String>::new());
    assert!(matches!(
        anonymous(&server.image("endless")).await.tags().await,
        Err(Error::Malformed { .. })
    ));
}

/// A download from a slow registry, and what was asked of that.
async fn slow_download(knows_parts: bool) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let body: Vec<u8> = (0..9_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let served = body.clone();
    let server = Scripted::start(move |request| {
        let is_part = request.header("range").is_some_and(|range| !range.ends_with('-'));
        match (is_part, knows_parts) {
            (false, _) => Reply::range(&served, request).slowly(),
            (true, true) => Reply::range(&served, request),
            (true, false) => Reply::new(200, served.clone()).slowly(),
        }
    });
    let patience = Patience { alone: Duration::from_millis(10), ..patience() };
    let registry = Registry::new(Config { patience, ..config() });
    let repository = registry.repository(&server.image("app"), Access::default()).await.unwrap();
    let blob = repository.blob(&digest(&body), body.len() as u64, 0).await.unwrap();
    let got = read(blob).await.unwrap();
    let ranges = server
        .requests()
        .iter()
        .filter_map(|request| request.header("range").map(str::to_owned))
        .collect();
    (body, got, ranges)
}

#[tokio::test]
async fn a_slow_download_goes_on_in_parts() {
    let (body, got, ranges) = slow_download(true).await;
    assert!(got == body);
    assert!(ranges.len() > 10 && ranges.iter().all(|range| !range.ends_with('-')), "{ranges:?}");
}

#[tokio::test]
async fn a_registry_without_parts_gives_all_in_one_piece() {
    let (body, got, ranges) = slow_download(false).await;
    assert!(got == body);
    assert!(ranges.last().is_some_and(|range| range.ends_with('-')), "{ranges:?}");
}
