//! The streams of a container: its stored output, its live ones, and the size of its terminal.

use bytes::Bytes;
use docker_wire::stream::{self, StreamKind};
use docker_wire::time;
use engine::containers::attach::AttachOptions;
use engine::containers::logs::{ContainerLogs, LogBatch, LogEntry, LogOptions, OutputStream};
use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::UPGRADE;
use jiff::Timestamp;

use crate::api::call::{Answer, Call, chain};
use crate::api::compat::{requests, responses};
use crate::api::error::Refusal;
use crate::api::reply::Reply;
use crate::connection::{Hijack, HijackHead};

/// `GET /containers/{id}/logs`: an ordinary answer that is written while the log is read.
pub(in crate::api) async fn logs(call: Call) -> Answer {
    if requests::logs_as_json(call.version, &call.query)? {
        return Err(engine::Error::unsupported("the log format \"json\"").into());
    }
    let options = log_options(&call)?;
    let style =
        LogStyle { timestamps: call.query.flag("timestamps"), details: call.query.flag("details") };
    let ContainerLogs { tty, batches } =
        call.engine.container_logs(call.parameter("id"), options).await?;
    let chunks = batches.map(move |batch| Ok(style.chunk(batch, tty)));
    Ok(Reply::stream(responses::stream_type(call.version, tty), chunks))
}

fn log_options(call: &Call) -> Result<LogOptions, Refusal> {
    let query = &call.query;
    Ok(LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        // Anything that is no number means all of it, as in Docker.
        tail: query.text("tail").parse().ok(),
        since: moment("since", query.text("since"))?,
        until: moment("until", query.text("until"))?
            .filter(|until| *until != Timestamp::UNIX_EPOCH),
    })
}

fn moment(name: &str, given: &str) -> Result<Option<Timestamp>, Refusal> {
    time::parse_unix(given).map_err(|error| {
        Refusal::BadParameter(format!("invalid value for \"{name}\": {}", chain(&error)))
    })
}

/// What stands before each line.
#[derive(Clone, Copy, Debug)]
struct LogStyle {
    timestamps: bool,
    details: bool,
}

impl LogStyle {
    /// Entries of one block of the log, or the failure in their place: the head is long gone (moby
    /// `daemon/server/httputils/logstream`).
    fn chunk(self, batch: engine::Result<LogBatch>, tty: bool) -> Bytes {
        match batch {
            Ok(entries) => self.entries(&entries, tty),
            Err(error) => {
                let text = format!("Error grabbing logs: {}\n", error.message());
                if tty {
                    text.into()
                } else {
                    stream::frame(StreamKind::SystemError, text.as_bytes()).into()
                }
            }
        }
    }

    fn entries(self, entries: &[LogEntry], tty: bool) -> Bytes {
        const BEFORE_A_LINE: usize = stream::HEADER_LEN + "2024-01-02T03:04:05.000000000Z  ".len();
        let bytes = entries.iter().map(|entry| entry.line.len() + BEFORE_A_LINE).sum();
        let mut out = Vec::with_capacity(bytes);
        for entry in entries {
            let before = self.before(entry);
            if !tty {
                let length = u32::try_from(before.len() + entry.line.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&stream::header(kind(entry.stream), length));
            }
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(&entry.line);
        }
        out.into()
    }

    /// The stamp, then the details, of which our log drivers keep none: an empty text and its blank.
    fn before(self, entry: &LogEntry) -> String {
        let mut text = String::new();
        if self.timestamps {
            text = time::log_stamp(entry.time);
            text.push(' ');
        }
        if self.details {
            text.push(' ');
        }
        text
    }
}

fn kind(stream: OutputStream) -> StreamKind {
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
    let head = if call.headers.contains_key(UPGRADE) {
        HijackHead::Upgraded { content_type: responses::stream_type(call.version, tty) }
    } else {
        // Framed or not, this form has one name (moby `container_routes.go`).
        HijackHead::Plain { content_type: responses::RAW_STREAM }
    };
    Ok(Reply::hijack(Hijack::new(head, move |client| session.run(client, encoder(tty)))))
}

/// How a chunk of live output goes over the wire.
fn encoder(tty: bool) -> impl Fn(OutputStream, &[u8], &mut Vec<u8>) + Send + Sync {
    move |from, bytes, out| {
        if tty {
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

fn size(call: &Call, what: &str, name: &str) -> Result<u32, Refusal> {
    call.query.required_u32(name).map_err(|problem| {
        Refusal::BadParameter(format!(
            "invalid resize {what} {:?}: {problem}",
            call.query.text(name)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: OutputStream, line: &'static str) -> LogEntry {
        LogEntry {
            stream,
            time: Timestamp::from_second(1).unwrap(),
            line: Bytes::from_static(line.as_bytes()),
        }
    }

    #[test]
    fn lines_are_framed_unless_there_is_a_terminal() {
        let entries =
            || Ok(vec![entry(OutputStream::Stdout, "a\n"), entry(OutputStream::Stderr, "b")]);
        let plain = LogStyle { timestamps: false, details: false };
        assert_eq!(
            &plain.chunk(entries(), false)[..],
            b"\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x01b"
        );
        assert_eq!(&plain.chunk(entries(), true)[..], b"a\nb");
    }

    #[test]
    fn stamps_and_details_stand_in_the_frame() {
        let style = LogStyle { timestamps: true, details: true };
        let chunk = style.chunk(Ok(vec![entry(OutputStream::Stdout, "a\n")]), true);
        assert_eq!(&chunk[..], b"1970-01-01T00:00:01.000000000Z  a\n");
    }

    #[test]
    fn a_failure_is_told_in_the_stream() {
        let style = LogStyle { timestamps: false, details: false };
        let chunk = style.chunk(Err(engine::Error::ShuttingDown), false);
        assert_eq!(chunk[0], 3);
        assert!(chunk.ends_with(b"Error grabbing logs: the daemon is shutting down\n"));
    }
}
