//! Registries that lie to those who push, or for ever.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use registry::{
    Access, Config, Descriptor, Error, Interruption, Patience, Purpose, Registry, Repository,
};

use super::plain_http::Message;
use super::scripted::{Reply, Scripted};
use super::server::{MANIFEST, digest};
use super::setting::{anonymous, config, patience};
use super::uploads::parcel;

const PLACE: &str = "/v2/app/blobs/uploads/1";

async fn to_push(image: &names::ImageRef, patience: Patience) -> Repository {
    let purpose = Purpose::Push { mount_from: Vec::new() };
    let access = Access { purpose, ..Access::default() };
    Registry::new(Config { patience, ..config() }).repository(image, access).await.unwrap()
}

/// A registry that takes uploads, and sends requests of this method in circles.
fn circling(circle: &'static str) -> Scripted {
    Scripted::start(move |request| match (request.method(), request.target()) {
        (method, target) if method == circle => {
            Reply::new(307, "").header("location", target.to_owned())
        }
        ("HEAD", _) => Reply::new(404, ""),
        ("POST", _) => Reply::new(202, "").header("location", PLACE),
        // Cut, so that it goes on in pieces.
        ("PUT", target) if target.starts_with(PLACE) && !request.body.is_empty() => Reply::none(),
        ("GET", _) => Reply::new(204, "").header("location", PLACE).header("range", "0-9"),
        _ => Reply::new(201, ""),
    })
}

#[tokio::test]
async fn uploads_do_not_go_in_circles() {
    let bytes = Bytes::from_static(b"some bytes of a layer, more than ten");
    for method in ["HEAD", "POST", "PUT", "PATCH"] {
        let server = circling(method);
        let repository = to_push(&server.image("app"), patience()).await;
        let error = repository.deliver(&parcel(&bytes, None).0).await.unwrap_err();
        assert!(matches!(error, Error::Redirects { count: 10, .. }), "{method}: {error:?}");
        let asked = server.requests().len();
        assert!(asked < 40, "{method}: {asked} requests");
    }
    let descriptor = Descriptor {
        media_type: MANIFEST.to_owned(),
        digest: digest(&bytes),
        size: bytes.len() as u64,
    };
    let server = circling("PUT");
    let repository = to_push(&server.image("app"), patience()).await;
    let error = repository.put_manifest("latest", &descriptor, bytes).await.unwrap_err();
    assert!(matches!(error, Error::Redirects { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refusal_of_megabytes_is_not_read_to_its_end() {
    let mut essay = br#"{"errors":[{"code":"DENIED","message":""#.to_vec();
    essay.resize(20 << 20, b'x');
    let server = Scripted::start(move |request| match request.method() {
        "HEAD" => Reply::new(404, ""),
        _ => Reply::new(403, essay.clone()),
    });
    let repository = to_push(&server.image("app"), patience()).await;
    let error =
        repository.deliver(&parcel(&Bytes::from_static(b"a layer"), None).0).await.unwrap_err();
    assert_eq!(error.to_string(), "denied: requested access to the resource is denied");
}

#[tokio::test]
async fn token_servers_do_not_go_in_circles() {
    for status in [302, 307] {
        let server = Scripted::start(move |request| match request.target() {
            target if target.starts_with("/token") => {
                Reply::new(status, "").header("location", target.to_owned())
            }
            _ => {
                let host = request.header("host").unwrap();
                let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
                Reply::new(401, "").header("www-authenticate", challenge)
            }
        });
        let error = anonymous(&server.image("app")).await.resolve().await.unwrap_err();
        assert!(matches!(error, Error::Redirects { .. }), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn tokens_that_are_never_good_come_to_an_end() {
    let server = Scripted::start(|request| match request.target() {
        target if target.starts_with("/token") => {
            Reply::new(200, r#"{"token":"bad","expires_in":18446744073709551615}"#)
        }
        _ => {
            let host = request.header("host").unwrap();
            let challenge = format!("Bearer realm=\"http://{host}/token\",error=\"invalid_token\"");
            Reply::new(401, "").header("www-authenticate", challenge)
        }
    });
    let error = anonymous(&server.image("app")).await.resolve().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    let asked = server.requests().len();
    assert!(asked < 30, "{asked} requests");
}

#[tokio::test]
async fn nobody_waits_for_as_long_as_a_registry_likes() {
    for pause in ["86400", "18446744073709551615", "99999999999999999999", "-1", "tomorrow"] {
        let server = Scripted::start(move |_| Reply::new(429, "").header("retry-after", pause));
        let error = anonymous(&server.image("app")).await.tags().await.unwrap_err();
        assert!(matches!(error, Error::TooManyRequests { .. }), "{pause}: {error:?}");
        let asked = server.requests().len();
        assert!(asked <= 3, "{pause}: {asked} requests");
    }
}

/// A registry that takes the head of an upload and then does nothing.
fn stalling() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || answer_until_the_upload(&client));
        }
    });
    address
}

fn answer_until_the_upload(mut client: &TcpStream) {
    let mut first = [0];
    // Who begins with TLS is told that there is none.
    if client.peek(&mut first).is_err() || !first[0].is_ascii_uppercase() {
        let _ = client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        return;
    }
    let mut reader = BufReader::new(client);
    loop {
        let mut begin = [0; 3];
        if client.peek(&mut begin).is_err() || &begin == b"PUT" {
            // Held open until the client gives up, of which an empty read tells.
            thread::sleep(Duration::from_secs(5));
            return;
        }
        let Ok(Some(request)) = Message::read(&mut reader) else { return };
        let answer: &[u8] = match request.method() {
            "HEAD" => b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            "POST" => {
                b"HTTP/1.1 202 Yes\r\nLocation: /v2/app/blobs/uploads/1\r\nContent-Length: 0\r\n\r\n"
            }
            _ => b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        };
        if client.write_all(answer).is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn an_upload_that_nobody_takes_is_given_up() {
    let image = format!("{}/app", stalling()).parse().unwrap();
    let short = Duration::from_millis(200);
    let patience = Patience { answer: short, stall: short, attempts: 2, ..patience() };
    let repository = to_push(&image, patience).await;
    // More than lies in the kernel's buffers.
    let bytes = Bytes::from(vec![7; 32 << 20]);
    let error = repository.deliver(&parcel(&bytes, None).0).await.unwrap_err();
    assert!(
        matches!(error, Error::Interrupted { source: Interruption::Stalled(_), .. }),
        "{error:?}"
    );
}
