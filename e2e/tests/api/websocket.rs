//! Attaching over a WebSocket, byte by byte.

use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use e2e::api::script_body;
use e2e::http::{Head, Request};
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, tests};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests![
    the_handshake,
    input_and_output,
    older_versions_send_text_and_all_streams,
    a_client_that_says_goodbye,
    requests_that_are_none,
];

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

fn request(api: &Api, path: &str) -> Request {
    api.request("GET", path)
        .upgrade("websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Origin", "http://docker")
}

fn attach(container: &Container, query: &str) -> Result<(Head, BufReader<UnixStream>)> {
    attach_at(container.api(), container, query)
}

fn attach_at(
    api: &Api,
    container: &Container,
    query: &str,
) -> Result<(Head, BufReader<UnixStream>)> {
    api.hijack(&request(api, &container.path(&format!("/attach/ws?{query}"))))
}

/// Sends one whole frame, masked as a client must.
fn send(stream: &mut BufReader<UnixStream>, opcode: u8, payload: &[u8]) -> Result<()> {
    const MASK: [u8; 4] = [0xa5, 0x5a, 0x01, 0xff];
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
    let mut frame = vec![0x80 | opcode, 0x80 | length.context("a short payload, please")?];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(stream.get_mut().write_all(&frame)?)
}

/// The next frame: its kind and payload.
fn next(stream: &mut BufReader<UnixStream>) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).context("reading a frame")?;
    ensure!(head[0] & 0x70 == 0 && head[1] & 0x80 == 0, "not a server's frame: {head:?}");
    let mut length = usize::from(head[1]);
    if length == 126 {
        let mut long = [0; 2];
        stream.read_exact(&mut long)?;
        length = usize::from(u16::from_be_bytes(long));
    }
    ensure!(length < 127 || head[1] == 126, "longer than anything here");
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok((head[0] & 0x0f, payload))
}

/// Payloads up to the close, which must come; all of one kind.
fn all(stream: &mut BufReader<UnixStream>, kind: u8) -> Result<String> {
    let mut seen = Vec::new();
    loop {
        let (opcode, payload) = next(stream)?;
        if opcode == CLOSE {
            return Ok(String::from_utf8(seen)?);
        }
        ensure!(opcode == kind, "a frame of kind {opcode}");
        seen.extend(payload);
    }
}

fn the_handshake(rig: &Rig) -> Result<()> {
    let container = rig.host()?.api().create(script_body("echo hi"))?;
    let (head, mut stream) = attach(&container, "stream=1&stdout=1")?;
    ensure!(head.status == 101 && head.reason == "Switching Protocols", "{head:?}");
    for (name, value) in [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ] {
        ensure!(head.header(name) == Some(value), "{head:?}");
    }
    container.start()?;
    ensure!(all(&mut stream, BINARY)? == "hi\n");
    Ok(())
}

fn input_and_output(rig: &Rig) -> Result<()> {
    let mut body = script_body("while read line; do echo got $line; echo bad $line >&2; done");
    body["OpenStdin"] = json!(true);
    let container = rig.host()?.api().create(body)?;
    container.start()?;
    let (_, mut stream) = attach(&container, "stream=1&stdin=1&stdout=1")?;
    send(&mut stream, BINARY, b"one\n")?;
    ensure!(next(&mut stream)? == (BINARY, b"got one\n".to_vec()));
    send(&mut stream, PING, b"there?")?;
    ensure!(next(&mut stream)? == (PONG, b"there?".to_vec()));
    // Borders of frames are no borders of lines.
    send(&mut stream, TEXT, b"tw")?;
    send(&mut stream, BINARY, b"o\n")?;
    ensure!(next(&mut stream)? == (BINARY, b"got two\n".to_vec()));
    Ok(())
}

fn older_versions_send_text_and_all_streams(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (version, kind, query, expected) in [
        ("1.27", TEXT, "stream=1", "out\nerr\n"),
        ("1.28", BINARY, "stream=1", "out\nerr\n"),
        ("1.41", BINARY, "stream=1", "out\nerr\n"),
        ("1.42", BINARY, "stream=1&stderr=1", "err\n"),
    ] {
        let container = api.create(script_body("echo out; sleep 0.3; echo err >&2"))?;
        let older = api.at(version);
        // dockerd 29 does not speak to clients that old.
        if older.get("/_ping")?.status() != 200 {
            continue;
        }
        let (_, mut stream) = attach_at(&older, &container, query)?;
        container.start()?;
        let seen = all(&mut stream, kind).with_context(|| version.to_owned())?;
        ensure!(seen == expected, "{version}: {seen:?}");
    }
    Ok(())
}

fn a_client_that_says_goodbye(rig: &Rig) -> Result<()> {
    let mut body = script_body("cat; echo end; sleep 1000");
    body["OpenStdin"] = json!(true);
    body["StdinOnce"] = json!(true);
    let api = rig.host()?.api();
    let container = api.create(body)?;
    container.start()?;
    let (_, mut stream) = attach(&container, "stream=1&stdin=1&stdout=1")?;
    send(&mut stream, BINARY, b"typed\n")?;
    ensure!(next(&mut stream)? == (BINARY, b"typed\n".to_vec()));
    send(&mut stream, CLOSE, &[0x03, 0xe8])?;
    // Its input is over.
    container.until_logged("typed\nend\n")
}

fn requests_that_are_none(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let path = container.path("/attach/ws?stream=1&stdout=1");
    let plain = api.get(&path)?;
    ensure!(plain.status() == 400, "{}: {}", plain.status(), plain.text());
    let message = api.send(&request(&api, "/containers/nobody-has-this/attach/ws?stream=1"))?;
    ensure!(message.status() == 404, "{}", message.text());
    ensure!(message.message() == "No such container: nobody-has-this", "{}", message.text());
    let bad = request(&api, &container.path("/attach/ws?detachKeys=ctrl-nonsense"));
    let answer = api.send(&bad)?;
    ensure!(
        answer.status() == 400 && answer.text().contains("Invalid detach keys"),
        "{}",
        answer.text()
    );
    Ok(())
}
