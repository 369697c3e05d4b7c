//! `GET /containers/{id}/logs`: stored output, and what comes.

use bytes::Bytes;
use docker_wire::logs::{LogAttribute, LogMessage};
use docker_wire::stream::{self, StreamKind};
use docker_wire::{encode, time};
use engine::containers::logs::{Attributes, ContainerLogs, LogBatch, LogEntry, LogOptions};
use futures_util::StreamExt as _;
use jiff::Timestamp;

use super::streams::kind;
use crate::api::call::{Answer, Call, chain};
use crate::api::compat::{requests, responses};
use crate::api::error::Refusal;
use crate::api::events::{JSON_SEQUENCE, RECORD_SEPARATOR};
use crate::api::reply::{ByteStream, Reply};

/// An ordinary answer that is written while the log is read.
pub(in crate::api) async fn logs(call: Call) -> Answer {
    let json = requests::logs_as_json(call.version, &call.query, &call.headers)?;
    let options = log_options(&call)?;
    // Only a followed log never ends.
    let reply: fn(&'static str, ByteStream) -> Reply =
        if options.follow { Reply::endless } else { Reply::stream };
    let (timestamps, details) = (call.query.flag("timestamps"), call.query.flag("details"));
    let ContainerLogs { tty, batches } =
        call.engine.container_logs(call.parameter("id"), options).await?;
    if let Some(content_type) = json {
        let style = JsonStyle { details, sequence: content_type == JSON_SEQUENCE };
        let chunks = batches.map(move |batch| Ok(style.chunk(batch)));
        return Ok(reply(content_type, Box::pin(chunks)));
    }
    let style = LogStyle { timestamps, details };
    let chunks = batches.map(move |batch| Ok(style.chunk(batch, tty)));
    Ok(reply(responses::stream_type(call.version, tty), Box::pin(chunks)))
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

    /// The stamp, then the details, which may be an empty text and its blank.
    fn before(self, entry: &LogEntry) -> String {
        let mut text = String::new();
        if self.timestamps {
            text = time::log_stamp(entry.time);
            text.push(' ');
        }
        if self.details {
            if let Some(attributes) = &entry.attributes {
                details(attributes, &mut text);
            }
            text.push(' ');
        }
        text
    }
}

/// `k1=v1,k2=v2`, sorted and escaped.
fn details(attributes: &Attributes, text: &mut String) {
    for (index, (key, value)) in attributes.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        query_escape(key, text);
        text.push('=');
        query_escape(value, text);
    }
}

/// Go's `url.QueryEscape`.
fn query_escape(given: &str, text: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in given.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            b' ' => text.push('+'),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                text.push('%');
                text.extend(digits.map(char::from));
            }
        }
    }
}

/// Entries as JSON objects, a line each.
#[derive(Clone, Copy, Debug)]
struct JsonStyle {
    details: bool,
    /// With RFC 7464's separators.
    sequence: bool,
}

impl JsonStyle {
    fn chunk(self, batch: engine::Result<LogBatch>) -> Bytes {
        let messages = match batch {
            Ok(entries) => entries.iter().map(|entry| self.message(entry)).collect(),
            Err(error) => vec![LogMessage {
                timestamp: time::rfc3339_nano_or_zero(None),
                error: error.message(),
                ..LogMessage::default()
            }],
        };
        let mut out = Vec::new();
        for message in messages {
            if self.sequence {
                out.push(RECORD_SEPARATOR);
            }
            // Texts only: this cannot fail.
            out.extend(encode::to_vec_line(&message).unwrap_or_default());
        }
        out.into()
    }

    fn message(self, entry: &LogEntry) -> LogMessage {
        let attributes = entry.attributes.iter().filter(|_| self.details);
        let attribute = |(key, value): (&String, &String)| LogAttribute {
            key: key.clone(),
            value: value.clone(),
        };
        LogMessage {
            line: String::from_utf8_lossy(&entry.line).into_owned(),
            source: entry.stream.as_str().to_owned(),
            timestamp: time::rfc3339_nano(entry.time),
            attrs: attributes.flat_map(|all| all.iter()).map(attribute).collect(),
            error: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::containers::logs::OutputStream;

    use super::*;

    fn entry(stream: OutputStream, line: &'static str) -> LogEntry {
        LogEntry {
            stream,
            time: Timestamp::from_second(1).unwrap(),
            line: Bytes::from_static(line.as_bytes()),
            attributes: None,
        }
    }

    fn with_attributes(line: &'static str, attributes: &[(&str, &str)]) -> LogEntry {
        let owned = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let attributes = Some(Attributes::new(owned.collect()));
        LogEntry { attributes, ..entry(OutputStream::Stdout, line) }
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
        let entry = with_attributes("a\n", &[("k 1", "v,ü"), ("l", "")]);
        let chunk = style.chunk(Ok(vec![entry]), true);
        assert_eq!(&chunk[..], b"1970-01-01T00:00:01.000000000Z k+1=v%2C%C3%BC,l= a\n");
    }

    #[test]
    fn a_failure_is_told_in_the_stream() {
        let style = LogStyle { timestamps: false, details: false };
        let chunk = style.chunk(Err(engine::Error::ShuttingDown), false);
        assert_eq!(chunk[0], 3);
        assert!(chunk.ends_with(b"Error grabbing logs: the daemon is shutting down\n"));
        let chunk =
            JsonStyle { details: false, sequence: false }.chunk(Err(engine::Error::ShuttingDown));
        assert_eq!(
            &chunk[..],
            b"{\"Timestamp\":\"0001-01-01T00:00:00Z\",\"Error\":\"the daemon is shutting down\"}\n"
        );
    }

    #[test]
    fn entries_as_json() {
        let entries = || Ok(vec![with_attributes("a\n", &[("k", "v")])]);
        let plain = JsonStyle { details: false, sequence: false }.chunk(entries());
        assert_eq!(
            &plain[..],
            b"{\"Line\":\"a\\n\",\"Source\":\"stdout\",\"Timestamp\":\"1970-01-01T00:00:01Z\"}\n"
        );
        let all = JsonStyle { details: true, sequence: true }.chunk(entries());
        assert!(
            all.starts_with(b"\x1e{") && all.ends_with(b"[{\"Key\":\"k\",\"Value\":\"v\"}]}\n")
        );
    }
}
