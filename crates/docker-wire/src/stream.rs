//! How stdout and stderr share one connection: every chunk follows a header of eight bytes.
//!
//! Source: moby `api/pkg/stdcopy/stdcopy.go`.

/// The length of the header before every chunk, in bytes.
pub const HEADER_LEN: usize = 8;

/// Which stream a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// Standard input; only ever written by daemons long ago.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// A failure of the daemon: clients end the stream and report the payload as an error.
    SystemError = 3,
}

/// The header of a chunk of `payload_len` bytes: the stream, three zeros, the length in network order.
#[must_use]
pub const fn header(stream: StreamKind, payload_len: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = payload_len.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Appends `payload` as one chunk to `out`, or as several when it is larger than a header can say (4 GiB).
pub fn append(out: &mut Vec<u8>, stream: StreamKind, payload: &[u8]) {
    const MOST: usize = u32::MAX as usize;
    for chunk in payload.chunks(MOST) {
        let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&header(stream, len));
        out.extend_from_slice(chunk);
    }
}

/// One chunk on its own.
#[must_use]
pub fn frame(stream: StreamKind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + payload.len());
    append(&mut out, stream, payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_stream_and_length() {
        assert_eq!(header(StreamKind::Stdout, 0), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(header(StreamKind::Stderr, 0x0102_0304), [2, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(header(StreamKind::SystemError, u32::MAX), [3, 0, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn chunks_follow_each_other() {
        let mut out = frame(StreamKind::Stdout, b"a\n");
        append(&mut out, StreamKind::Stderr, b"b");
        assert_eq!(out, b"\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x01b");
        assert!(frame(StreamKind::Stdout, b"").is_empty(), "nothing is not a chunk");
    }
}
