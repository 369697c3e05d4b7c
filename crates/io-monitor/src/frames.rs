//! The protocol on a monitor's socket.
//!
//! A frame is one byte of kind, four bytes of length (big-endian) and the payload: raw bytes for the streams, JSON for
//! everything else. The monitor greets with [`Hello`]; answers to a connection's requests come in their order, output in
//! between. A monitor lives as long as its container, so it talks to newer daemons and older ones: unknown kinds and
//! unknown JSON fields are ignored by both sides, fields are only ever added, and [`PROTOCOL`] counts what was added.
//!
//! Stdin frames of one connection are written to the container in order, and while the container does not read, the
//! monitor does not read that connection: commands that must not wait behind stdin go over a connection of their own.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Version of the protocol, told in [`Hello`].
pub const PROTOCOL: u32 = 1;

/// The longest payload; a longer one ends the connection.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Bytes before the payload.
pub const HEADER: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    // --- to the monitor
    /// [`AttachRequest`]: send output from now on; answered by [`Kind::Attached`].
    Attach = 1,
    /// Bytes for the container's stdin.
    Stdin = 2,
    /// No more stdin; answered by [`Kind::StdinClosed`].
    CloseStdin = 3,
    /// The shim has opened its ends (`Tasks.Create` returned); answered by [`Kind::StartedReply`].
    Started = 4,
    /// [`DrainRequest`]: the process has ended, come to an end; answered by [`Kind::Drained`].
    Drain = 5,
    /// Tell [`Stats`]; answered by [`Kind::StatsReply`].
    Stats = 6,

    // --- from the monitor
    /// [`Hello`]: the first frame of a connection.
    Hello = 128,
    /// [`Attached`]: output follows.
    Attached = 129,
    /// Output of stdout, or of the terminal.
    Stdout = 130,
    /// Output of stderr.
    Stderr = 131,
    /// [`End`]: there will be no more output. Told to every connection.
    End = 132,
    /// The client did not read for longer than its patience; the connection ends.
    CutOff = 133,
    /// [`StdinClosed`].
    StdinClosed = 134,
    /// [`StdinClosed`], as answer to [`Kind::Started`].
    StartedReply = 135,
    /// [`Stats`].
    StatsReply = 136,
    /// [`Drained`].
    Drained = 137,
    /// Entries have been added to the log since the last frame of this kind.
    Logged = 138,
}

impl Kind {
    const ALL: [Self; 17] = [
        Self::Attach,
        Self::Stdin,
        Self::CloseStdin,
        Self::Started,
        Self::Drain,
        Self::Stats,
        Self::Hello,
        Self::Attached,
        Self::Stdout,
        Self::Stderr,
        Self::End,
        Self::CutOff,
        Self::StdinClosed,
        Self::StartedReply,
        Self::StatsReply,
        Self::Drained,
        Self::Logged,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, or all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`, as in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Stdout => Kind::Stdout,
            Self::Stderr => Kind::Stderr,
        }
    }
}

/// Who the monitor is and how far it got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the monitor.
    pub protocol: u32,
    /// Its process id.
    pub pid: u32,
    /// Its container.
    pub container: String,
    /// The container has a terminal: one stream.
    pub tty: bool,
    /// [`Kind::Started`] was told.
    pub started: bool,
    /// All output has ended.
    pub ended: bool,
    /// What can be done with stdin.
    pub stdin: StdinState,
    /// It writes a log.
    pub logs: bool,
}

/// What can be done with the container's stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StdinState {
    /// The container has none.
    None,
    /// Open.
    Open,
    /// Will be closed at `started`.
    Closing,
    /// Closed.
    Closed,
}

/// Which streams, and how long a client that does not read may hold the container back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// Send stdout.
    #[serde(default)]
    pub stdout: bool,
    /// Send stderr.
    #[serde(default)]
    pub stderr: bool,
    /// This client will send stdin: the monitor stays for it after the end of output.
    #[serde(default)]
    pub stdin: bool,
    /// Milliseconds without taking a byte, with a full queue, before the client is cut off; until then the container
    /// waits. `None`: for as long as it takes (dockerd's behaviour towards every client, moby
    /// `daemon/internal/stream/bytespipe`).
    #[serde(default)]
    pub patience_ms: Option<u64>,
    /// Send [`Kind::Logged`] when the log has grown: for who follows the log itself. At most one waits at a time.
    #[serde(default)]
    pub log_news: bool,
}

/// Output follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Where the log was: everything before is in the log, everything after comes over this connection (the beginning of
    /// an unfinished line included). `None` without a log.
    pub log: Option<LogMark>,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    /// Inode of the current file; rotation renames it.
    pub inode: u64,
    /// Bytes in it.
    pub offset: u64,
}

/// No more output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Every writer was gone; `false`: the grace of [`DrainRequest`] was over first.
    pub complete: bool,
}

/// Stdin is closed, or will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinClosed {
    /// The asker has to call containerd's `CloseIO` now. Of the requests `CloseStdin` and `Started` the later one is
    /// answered with `true`, whatever order they come in.
    pub close_io: bool,
}

/// The container's process has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRequest {
    /// How long to wait for writers that are still there.
    pub grace_ms: u64,
}

/// All output is in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// As in [`End`].
    pub complete: bool,
    /// Lines that could not be written to the log.
    #[serde(default)]
    pub lost_lines: u64,
}

/// Counters since the monitor started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Bytes of output read.
    pub bytes: u64,
    /// Entries written to the log.
    pub entries: u64,
    /// Lines that could not be written to the log.
    pub lost_lines: u64,
    /// Why, the last time.
    pub last_error: Option<String>,
    /// Times the log was rotated.
    pub rotations: u64,
    /// Clients connected now.
    pub clients: usize,
    /// Clients cut off so far.
    pub cut_off: u64,
    /// A slow client is holding the container back now.
    pub held_back: bool,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Raw bytes or JSON.
    pub payload: Bytes,
}

/// A frame that breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// A frame with a JSON payload.
pub fn encode<T: Serialize>(kind: Kind, value: &T) -> Bytes {
    // The types of this module always serialise.
    let payload = serde_json::to_vec(value).unwrap_or_default();
    raw(kind, &payload)
}

/// A frame with a raw payload.
#[must_use]
pub fn raw(kind: Kind, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + payload.len());
    out.put_u8(kind as u8);
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.put_slice(payload);
    out.freeze()
}

/// Take the next whole frame out of `buffer`; `None` if it is not whole yet. Frames of unknown kind are skipped.
///
/// # Errors
/// [`Malformed`] if the length is over [`MAX_PAYLOAD`].
pub fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
    loop {
        let Some(header) = buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(Malformed("a frame longer than 64 KiB"));
        }
        if buffer.len() < HEADER + length {
            buffer.reserve(HEADER + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(HEADER);
        let payload = buffer.split_to(length).freeze();
        if let Some(kind) = Kind::from_byte(kind) {
            return Ok(Some(Frame { kind, payload }));
        }
    }
}

impl Frame {
    /// The JSON payload.
    ///
    /// # Errors
    /// [`Malformed`] if it is none of that type.
    pub fn json<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Malformed> {
        serde_json::from_slice(&self.payload)
            .map_err(|_| Malformed("a control frame whose JSON cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut wire = Vec::new();
        wire.extend_from_slice(&raw(Kind::Stdout, b"hello"));
        wire.extend_from_slice(&[77, 0, 0, 0, 3, 1, 2, 3]); // a kind of the future
        wire.extend_from_slice(&encode(Kind::Drain, &DrainRequest { grace_ms: 7 }));
        wire.extend_from_slice(&raw(Kind::CloseStdin, b""));
        for step in 1..=wire.len() {
            let mut buffer = BytesMut::new();
            let mut got = Vec::new();
            for part in wire.chunks(step) {
                buffer.extend_from_slice(part);
                while let Some(frame) = take(&mut buffer).unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got.len(), 3);
            assert_eq!((got[0].kind, &got[0].payload[..]), (Kind::Stdout, &b"hello"[..]));
            assert_eq!(got[1].json::<DrainRequest>().unwrap().grace_ms, 7);
            assert_eq!((got[2].kind, got[2].payload.len()), (Kind::CloseStdin, 0));
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_allocated() {
        let mut buffer = BytesMut::from(&[2u8, 0xff, 0xff, 0xff, 0xff][..]);
        assert!(take(&mut buffer).is_err());
    }

    #[test]
    fn fields_of_the_future_are_ignored_and_missing_ones_have_defaults() {
        let frame = Frame {
            kind: Kind::Attach,
            payload: Bytes::from_static(br#"{"stdout":true,"new":[1]}"#),
        };
        let request: AttachRequest = frame.json().unwrap();
        assert_eq!(request, AttachRequest { stdout: true, ..AttachRequest::default() });
        let bad = Frame { kind: Kind::Attach, payload: Bytes::from_static(b"[") };
        assert!(bad.json::<AttachRequest>().is_err());
    }

    #[test]
    fn kinds_are_a_frozen_protocol() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_byte(kind as u8), Some(kind));
        }
        assert_eq!(
            (Kind::Attach as u8, Kind::Stats as u8, Kind::Hello as u8, Kind::Drained as u8),
            (1, 6, 128, 137)
        );
    }
}
