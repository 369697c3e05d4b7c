//! The live streams of a container, and the size of its terminal.

use docker_wire::stream::{self, StreamKind};
use engine::containers::attach::AttachOptions;
use engine::containers::logs::OutputStream;
use http::StatusCode;
use http::header::UPGRADE;
use io_monitor::Duplex;

use crate::api::call::{Answer, Call};
use crate::api::compat::{requests, responses};
use crate::api::error::Refusal;
use crate::api::reply::Reply;
use crate::connection::websocket::{Handshake, WebSocket};
use crate::connection::{Hijack, HijackHead};

/// How a stream is named in a frame.
pub(super) fn kind(stream: OutputStream) -> StreamKind {
    match stream {
        OutputStream::Stdout => StreamKind::Stdout,
        OutputStream::Stderr => StreamKind::Stderr,
    }
}

/// `POST /containers/{id}/attach`. Everything that can be refused is refused here, as JSON; after the head the connection
/// belongs to the container.
pub(in crate::api) async fn attach(call: Call) -> Answer {
    let query = &call.query;
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: query.text("detachKeys").to_owned(),
    };
    let session = call.engine.attach_container(call.parameter("id"), options).await?;
    let tty = session.tty();
    let head = hijack_head(&call, tty);
    Ok(Reply::hijack(Hijack::new(head, move |client| session.run(client, encoder(tty)))))
}

/// `GET /containers/{id}/attach/ws`: the same over a WebSocket, whose frames tell no stream from another (moby
/// `container_routes.go`, `wsContainersAttach`).
pub(in crate::api) async fn attach_websocket(call: Call) -> Answer {
    let query = &call.query;
    let all = requests::websocket_has_all_streams(call.version);
    let options = AttachOptions {
        stdin: all || query.flag("stdin"),
        stdout: all || query.flag("stdout"),
        stderr: all || query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: query.text("detachKeys").to_owned(),
    };
    let session = call.engine.attach_container(call.parameter("id"), options).await?;
    let handshake = Handshake::of(&call.headers).ok_or(Refusal::NoWebSocket)?;
    let kind = responses::websocket_kind(call.version);
    let run = move |client| session.run(Duplex::new(WebSocket::new(client, kind)), encoder(true));
    Ok(Reply::hijack(Hijack::new(HijackHead::WebSocket(handshake), run)))
}

/// The head before a stream that is `raw`, or else in frames.
pub(in crate::api) fn hijack_head(call: &Call, raw: bool) -> HijackHead {
    if call.headers.contains_key(UPGRADE) {
        HijackHead::Upgraded { content_type: responses::stream_type(call.version, raw) }
    } else {
        // Framed or not, this form has one name (moby `container_routes.go`).
        HijackHead::Plain { content_type: responses::RAW_STREAM }
    }
}

/// How a chunk of live output goes over the wire.
pub(in crate::api) fn encoder(
    raw: bool,
) -> impl Fn(OutputStream, &[u8], &mut Vec<u8>) + Send + Sync {
    move |from, bytes, out| {
        if raw {
            out.extend_from_slice(bytes);
        } else {
            stream::append(out, kind(from), bytes);
        }
    }
}

/// `POST /containers/{id}/resize`.
pub(in crate::api) async fn resize(call: Call) -> Answer {
    let (height, width) = (size(&call, "height", "h")?, size(&call, "width", "w")?);
    call.engine.resize_container(call.parameter("id"), height, width).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// One side of a terminal.
pub(in crate::api) fn size(call: &Call, what: &str, name: &str) -> Result<u32, Refusal> {
    call.query.required_u32(name).map_err(|problem| {
        Refusal::BadParameter(format!(
            "invalid resize {what} {:?}: {problem}",
            call.query.text(name)
        ))
    })
}
