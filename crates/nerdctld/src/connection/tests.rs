//! Raw bytes in, raw bytes out, over a real socket pair.

use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;

/// More than a socket takes at once.
const UNREAD: usize = 1 << 20;
const RAW: &str = "application/vnd.docker.raw-stream";

/// `/unread` talks without ever reading, `/until-gone` says when nobody is there any more.
/// `/hijack` echoes raw bytes until the client closes its side, then says goodbye; anything else answers its path.
/// Below `/slow`, after a while in which the connection may be taken.
async fn respond(request: Request<Incoming>, handle: Arc<Handle>) -> Response<ReplyBody> {
    if request.uri().path().starts_with("/slow") {
        handle.may_be_taken(true);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if request.uri().path() != "/slow/hijack" {
            handle.may_be_taken(false);
        }
    }
    if request.uri().path() == "/hang" {
        let _dropped = DropFlag;
        std::future::pending::<()>().await;
    }
    let head = HijackHead::Plain { content_type: RAW };
    if request.uri().path() == "/unread" {
        handle.hijack(Hijack::new(head, |mut stream| async move {
            stream.write_all(&[b'x'; UNREAD]).await.unwrap();
            stream.shutdown().await.unwrap();
        }));
        std::future::pending::<()>().await;
    } else if request.uri().path() == "/until-gone" {
        handle.hijack(Hijack::new(head, |mut stream| async move {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
            stream.write_all(b"seen").await.unwrap();
            LEFT.notified().await;
            stream.read(&mut [0]).await.unwrap_err();
            GONE.notify_one();
        }));
        std::future::pending::<()>().await;
    }
    if request.uri().path().ends_with("/hijack") {
        let upgraded = request.headers().contains_key("upgrade");
        let head = if upgraded {
            HijackHead::Upgraded { content_type: RAW }
        } else {
            HijackHead::Plain { content_type: RAW }
        };
        handle.hijack(Hijack::new(head, |stream| async move {
            let (mut reader, mut writer) = stream.into_halves();
            let mut input = Vec::new();
            reader.read_to_end(&mut input).await.unwrap();
            writer.write_all(&input).await.unwrap();
            writer.write_all(b"goodbye").await.unwrap();
            writer.shutdown().await.unwrap();
        }));
        std::future::pending::<()>().await;
    }
    let mut response = Response::new(ReplyBody::full(request.uri().path().to_owned()));
    *response.status_mut() = StatusCode::OK;
    response
}

static LEFT: tokio::sync::Notify = tokio::sync::Notify::const_new();
static GONE: tokio::sync::Notify = tokio::sync::Notify::const_new();
static DROPPED: tokio::sync::Notify = tokio::sync::Notify::const_new();

struct DropFlag;

impl Drop for DropFlag {
    fn drop(&mut self) {
        DROPPED.notify_one();
    }
}

/// A client's end of a served connection, and the task that serves it.
fn connected(stop: &CancellationToken) -> (UnixStream, impl Future<Output = ()> + use<>) {
    let (client, server) = UnixStream::pair().unwrap();
    (client, serve(server, Welcome::Client, stop.clone(), respond))
}

/// Run the server beside the client's script, and fail instead of hanging.
async fn beside<T>(server: impl Future<Output = ()>, script: impl Future<Output = T>) -> T {
    let both = async { tokio::join!(server, script).1 };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("the connection hangs")
}

async fn read_until(client: &mut UnixStream, end: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).ends_with(end) {
        let byte = client.read_u8().await.unwrap();
        text.push(byte);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn hijack_with_and_without_upgrade_keeps_early_bytes_and_half_closes() {
    for (header, head) in [
        (
            "Connection: Upgrade\r\nUpgrade: tcp\r\n",
            format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {RAW}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            ),
        ),
        ("", format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n")),
    ] {
        let (mut client, server) = connected(&CancellationToken::new());
        let script = async move {
            let request = format!(
                "POST /hijack HTTP/1.1\r\nHost: docker\r\n{header}Content-Length: 0\r\n\r\nearly "
            );
            client.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(read_until(&mut client, "\r\n\r\n").await, head);
            client.write_all(b"late ").await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "early late goodbye", "output goes on after the client's half-close");
        };
        beside(server, script).await;
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_requests_before_a_hijack() {
    let (mut client, server) = connected(&CancellationToken::new());
    let script = async move {
        for path in ["/one", "/two"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = read_until(&mut client, path).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        client.write_all(b"POST /hijack HTTP/1.1\r\nHost: docker\r\n\r\n").await.unwrap();
        read_until(&mut client, "\r\n\r\n").await;
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "goodbye");
    };
    beside(server, script).await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let (mut client, server) = connected(&CancellationToken::new());
    let script = async move {
        client.write_all(b"GET /hang HTTP/1.1\r\nHost: docker\r\n\r\n").await.unwrap();
        tokio::task::yield_now().await;
        drop(client);
        DROPPED.notified().await;
    };
    beside(server, script).await;
}

#[tokio::test]
async fn a_client_that_closes_its_side_at_once_is_answered() {
    for (path, head, end) in [
        ("/slow/hijack", "HTTP/1.1 200 OK\r\n", "\r\n\r\ngoodbye"),
        ("/slow/no", "HTTP/1.1 200 OK\r\n", "/slow/no"),
    ] {
        let (mut client, server) = connected(&CancellationToken::new());
        let script = async move {
            let request = format!("POST {path} HTTP/1.1\r\nHost: docker\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(head) && answer.ends_with(end), "{answer}");
        };
        beside(server, script).await;
    }
}

#[tokio::test]
async fn over_long_heads_and_nonsense_are_refused() {
    let long =
        format!("GET /x HTTP/1.1\r\nHost: docker\r\nX-Long: {}\r\n\r\n", "x".repeat(LONGEST_HEAD));
    for (request, status) in [
        (long.as_str(), "431"),
        ("nonsense\r\n\r\n", "400"),
        ("GET /x HTTP/1.1\r\nno colon\r\n\r\n", "400"),
    ] {
        let (client, server) = connected(&CancellationToken::new());
        let request = request.to_owned();
        let script = async move {
            let (mut reader, mut writer) = client.into_split();
            // The server may answer and close before it has read all.
            let sent = async { drop(writer.write_all(request.as_bytes()).await) };
            let mut answer = Vec::new();
            let received = async { drop(reader.read_to_end(&mut answer).await) };
            tokio::join!(sent, received);
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        };
        beside(server, script).await;
    }
}

#[tokio::test]
async fn http2_is_refused_in_its_own_words() {
    let (mut client, server) = connected(&CancellationToken::new());
    let script = async move {
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, http2_refusal());
        assert_eq!(&answer[..9], [0, 0, 0, 4, 0, 0, 0, 0, 0], "settings first");
        assert_eq!(answer[12], 7, "then goaway");
    };
    beside(server, script).await;
}

#[tokio::test]
async fn stopping_closes_idle_connections_and_ends_hijacked_ones() {
    let stop = CancellationToken::new();
    let (mut idle, idle_server) = connected(&stop);
    let (mut taken, taken_server) = connected(&stop);
    let script = async move {
        taken.write_all(b"POST /hijack HTTP/1.1\r\nHost: docker\r\n\r\n").await.unwrap();
        read_until(&mut taken, "\r\n\r\n").await;
        stop.cancel();
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        taken.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    };
    let servers = async {
        tokio::join!(idle_server, taken_server);
    };
    Box::pin(beside(servers, script)).await;
}

/// Both ends of a connection on TCP, where unread bytes turn a close into a reset.
async fn over_tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn output_arrives_whole_though_input_is_unread() {
    for (path, least) in [("/unread", UNREAD), ("/answered", 1)] {
        let (client, server) = over_tcp().await;
        let server = serve(server, Welcome::Client, CancellationToken::new(), respond);
        let script = async move {
            let (mut reader, mut writer) = client.into_split();
            let head = format!("POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n");
            let input = async {
                writer.write_all(head.as_bytes()).await.unwrap();
                writer.write_all(b"Content-Length: 100000000\r\n\r\n").await.unwrap();
                // Until nobody takes it any more.
                while writer.write_all(&[b'y'; 4096]).await.is_ok() {}
            };
            let output = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let mut output = Vec::new();
                reader.read_to_end(&mut output).await.expect("no reset");
                output.len()
            };
            let received = tokio::select! {
                received = output => received,
                () = input => panic!("{path}: reset before all was read"),
            };
            assert!(received > least, "{path}: {received}");
        };
        beside(server, script).await;
    }
}

#[tokio::test]
async fn a_hijacked_client_that_is_gone_is_noticed_behind_the_end_of_its_input() {
    let (mut client, server) = connected(&CancellationToken::new());
    let script = async move {
        client.write_all(b"POST /until-gone HTTP/1.1\r\nHost: docker\r\n\r\n").await.unwrap();
        read_until(&mut client, "\r\n\r\n").await;
        client.shutdown().await.unwrap();
        assert_eq!(read_until(&mut client, "seen").await, "seen");
        drop(client);
        LEFT.notify_one();
        GONE.notified().await;
    };
    beside(server, script).await;
}
