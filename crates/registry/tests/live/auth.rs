//! Tokens: how they are got, kept, refused; and who never sees a password.

use registry::{Access, Credentials, Error, Secret};

use super::plain_http::Message;
use super::scripted::{Reply, Scripted};
use super::server::{MANIFEST, digest};
use super::setting::{anonymous, login, read, registry, with_password};

const BODY: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

fn manifest() -> Reply {
    Reply::new(200, BODY)
        .header("content-type", MANIFEST)
        .header("docker-content-digest", digest(BODY).to_string())
}

fn wants_token(request: &Message, extra: &str) -> Reply {
    let host = request.header("host").unwrap();
    let challenge = format!(
        "Bearer realm=\"http://{host}/token\",service=\"svc\",scope=\"repository:app:pull\"{extra}"
    );
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    Reply::new(401, body).header("www-authenticate", challenge)
}

fn bearer(request: &Message) -> Option<&str> {
    request.header("authorization")?.strip_prefix("Bearer ")
}

#[tokio::test]
async fn an_anonymous_token_serves_all_requests() {
    let server = Scripted::start(|request| match request.target() {
        target if target.starts_with("/token") => {
            Reply::new(200, r#"{"token":"good","expires_in":300}"#)
        }
        _ if bearer(request) == Some("good") => manifest(),
        _ => wants_token(request, ""),
    });
    let repository = anonymous(&server.image("app")).await;
    let found = repository.resolve().await.unwrap();
    repository.manifest(&found.digest).await.unwrap();
    repository.manifest(&found.digest).await.unwrap();
    let tokens = server.requests_to("/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].method(), "GET");
    assert_eq!(tokens[0].target(), "/token?service=svc&scope=repository%3Aapp%3Apull");
    assert_eq!(tokens[0].header("authorization"), None);
    assert_eq!(tokens[0].header("user-agent"), Some("test/1"));
    assert_eq!(server.connections(), 1, "one connection serves them all");
}

#[tokio::test]
async fn downloads_that_start_together_share_a_token() {
    let server = Scripted::start(|request| match request.target() {
        target if target.starts_with("/token") => Reply::new(200, r#"{"access_token":"good"}"#),
        _ if bearer(request) == Some("good") => Reply::new(200, "hello"),
        _ => wants_token(request, ""),
    });
    let repository = anonymous(&server.image("app")).await;
    let digest = digest(b"hello");
    let download = || async { read(repository.blob(&digest, 5, 0).await.unwrap()).await.unwrap() };
    let (a, b, c) = tokio::join!(download(), download(), download());
    assert_eq!([a, b, c], [b"hello", b"hello", b"hello"]);
    assert_eq!(server.requests_to("/token").len(), 1);
}

#[tokio::test]
async fn a_password_is_posted() {
    let server = Scripted::start(|request| match request.target() {
        "/token" => Reply::new(200, r#"{"access_token":"good"}"#),
        _ if bearer(request) == Some("good") => manifest(),
        _ => wants_token(request, ""),
    });
    with_password(&server.image("app"), "ann", "se&cret").await.resolve().await.unwrap();
    let tokens = server.requests_to("/token");
    assert_eq!((tokens.len(), tokens[0].method()), (1, "POST"));
    let form = String::from_utf8(tokens[0].body.clone()).unwrap();
    assert_eq!(
        form,
        "grant_type=password&username=ann&password=se%26cret&service=svc&client_id=nerdctld&scope=repository%3Aapp%3Apull"
    );
}

#[tokio::test]
async fn a_token_server_without_post_is_asked_with_basic() {
    let server = Scripted::start(|request| match (request.method(), request.target()) {
        ("POST", _) => Reply::new(405, ""),
        (_, target) if target.starts_with("/token") => match request.header("authorization") {
            // ann:secret
            Some("Basic YW5uOnNlY3JldA==") => Reply::new(200, r#"{"token":"good"}"#),
            _ => Reply::new(401, r#"{"details":"incorrect username or password"}"#),
        },
        _ if bearer(request) == Some("good") => manifest(),
        _ => wants_token(request, ""),
    });
    with_password(&server.image("app"), "ann", "secret").await.resolve().await.unwrap();
    let error =
        with_password(&server.image("app"), "ann", "wrong").await.resolve().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }));
    assert_eq!(error.to_string(), "unauthorized: incorrect username or password");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_a_registry_token_used() {
    let server = Scripted::start(|request| match request.target() {
        "/token" if request.body.starts_with(b"grant_type=refresh_token&refresh_token=keep") => {
            Reply::new(200, r#"{"access_token":"good"}"#)
        }
        "/token" => Reply::new(401, ""),
        _ if bearer(request) == Some("good") => manifest(),
        _ => wants_token(request, ""),
    });
    let image = server.image("app");
    let resolve = |credentials| async {
        let access = Access { credentials: Some(credentials), ..Access::default() };
        registry().repository(&image, access).await.unwrap().resolve().await
    };
    resolve(Credentials { identity_token: Secret::new("keep"), ..Credentials::default() })
        .await
        .unwrap();
    let asked = server.requests_to("/token").len();
    resolve(Credentials { registry_token: Secret::new("good"), ..Credentials::default() })
        .await
        .unwrap();
    assert_eq!(server.requests_to("/token").len(), asked, "a ready token needs no token server");
    let error =
        resolve(Credentials { registry_token: Secret::new("stale"), ..Credentials::default() })
            .await
            .unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let server = Scripted::start(|request| match request.target() {
        target if target.starts_with("/token") => Reply::new(200, r#"{"token":"useless"}"#),
        _ if bearer(request).is_some() => wants_token(request, ",error=\"insufficient_scope\""),
        _ => wants_token(request, ""),
    });
    let error = anonymous(&server.image("app")).await.tags().await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert_eq!(error.to_string(), "denied: requested access to the resource is denied");
    assert_eq!(server.requests_to("/token").len(), 2);
}

#[tokio::test]
async fn a_login_asks_for_a_token_to_keep() {
    let server = Scripted::start(|request| match request.target() {
        "/token" => Reply::new(200, r#"{"access_token":"good","refresh_token":"keep me"}"#),
        "/v2/" if bearer(request) == Some("good") => Reply::new(200, "{}"),
        _ => wants_token(request, ""),
    });
    let credentials =
        Credentials { server_address: server.address.clone(), ..login("ann", "secret") };
    let done = registry().check_login(&credentials).await.unwrap();
    assert_eq!(done.identity_token.reveal(), "keep me");
    let form = String::from_utf8(server.requests_to("/token")[0].body.clone()).unwrap();
    assert!(form.contains("access_type=offline"), "{form}");
}

#[tokio::test]
async fn a_redirect_does_not_carry_credentials_away() {
    let storage = Scripted::start(|request| Reply::range(b"hello", request));
    let target = format!("http://{}/bucket?signature=s", storage.address);
    let server = Scripted::start(move |request| match request.header("authorization") {
        None => Reply::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
        Some(_) => Reply::new(307, "go there").header("location", target.clone()),
    });
    let image = server.image("app");
    let access = Access {
        credentials: Some(login("ann", "secret")),
        headers: vec![("X-Meta-Team".into(), "a".into())],
        ..Access::default()
    };
    let repository = registry().repository(&image, access).await.unwrap();
    let blob = repository.blob(&digest(b"hello"), 5, 2).await.unwrap();
    assert_eq!(read(blob).await.unwrap(), b"llo");
    assert!(server.requests().iter().all(|request| request.header("x-meta-team") == Some("a")));
    let seen = storage.requests();
    assert_eq!((seen.len(), seen[0].target()), (1, "/bucket?signature=s"));
    assert_eq!(seen[0].header("range"), Some("bytes=2-"));
    assert_eq!((seen[0].header("authorization"), seen[0].header("x-meta-team")), (None, None));
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let server = Scripted::start(|request| match request.header("authorization") {
        None => Reply::new(401, "").header("www-authenticate", "Basic realm=\"r\""),
        Some(_) => manifest(),
    });
    let repository = with_password(&server.image("app"), "ann", "hunter2").await;
    repository.resolve().await.unwrap();
    let printed = format!("{repository:?}");
    // base64 of ann:hunter2
    assert!(!printed.contains("hunter2") && !printed.contains("YW5uOmh1bnRlcjI="), "{printed}");
}
