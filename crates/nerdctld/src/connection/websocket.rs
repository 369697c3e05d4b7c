//! A WebSocket as a plain connection: what the client sends in frames comes out as bytes, and what is written goes out in
//! frames (RFC 6455).
//!
//! Only the server's side, and only what a byte stream needs: borders of messages mean nothing, text and binary are the
//! same. A client's Close ends the connection; ours goes out when the writing side is shut down.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Buf as _, BufMut as _, BytesMut};
use http::HeaderMap;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a server adds to the client's key (section 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest frame that we send.
const LONGEST: usize = 64 * 1024;

/// The longest payload of a control frame (section 5.5).
const LONGEST_CONTROL: u64 = 125;

/// What is read in one go.
const PIECE: usize = 8 * 1024;

/// The kinds of frames (section 5.2).
mod opcode {
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

/// Why a connection is closed (section 7.4.1).
mod status {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const PROTOCOL_ERROR: u16 = 1002;
}

/// What the frames that we send are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    /// Text, whatever the bytes are.
    Text,
    /// Bytes.
    Binary,
}

/// A request's wish for a WebSocket, found in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// `Sec-WebSocket-Accept`.
    pub(crate) accept: String,
    /// The sub-protocol that the client offers first: browsers want to hear it again.
    pub(crate) protocol: Option<String>,
}

impl Handshake {
    /// Read it from a request's headers; `None` if that is no wish for a WebSocket, or for another version of it.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let has = |name, word: &str| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values
                .flat_map(|value| value.split(','))
                .any(|part| part.trim().eq_ignore_ascii_case(word))
        };
        let is_one = has(UPGRADE, "websocket")
            && has(CONNECTION, "upgrade")
            && has(SEC_WEBSOCKET_VERSION, "13");
        let key = headers.get(SEC_WEBSOCKET_KEY)?.as_bytes().trim_ascii();
        if !is_one || BASE64_STANDARD.decode(key).ok()?.len() != 16 {
            return None;
        }
        let offered = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        let protocol = offered.and_then(|offered| offered.split(',').next()).map(str::trim);
        Some(Self {
            accept: BASE64_STANDARD
                .encode(Sha1::new().chain_update(key).chain_update(MAGIC).finalize()),
            protocol: protocol.filter(|protocol| !protocol.is_empty()).map(str::to_owned),
        })
    }
}

/// A connection after its handshake.
pub(crate) struct WebSocket<S> {
    inner: S,
    kind: MessageKind,
    /// Read, and not yet taken apart.
    received: BytesMut,
    /// The data frame whose payload comes now.
    payload: Payload,
    /// The client has said that it is over, or nonsense.
    over: bool,
    /// Frames on their way out; one of data at most.
    sending: BytesMut,
    /// The answer to the last ping: those before it need none (section 5.5.3).
    pong: Option<Vec<u8>>,
    /// Waits to be sent.
    close: Option<Vec<u8>>,
    /// Nothing may be sent any more.
    closed: bool,
}

/// What is left of a frame's payload, and how it is masked.
#[derive(Clone, Copy, Debug, Default)]
struct Payload {
    left: u64,
    mask: u32,
}

impl Payload {
    /// Unmask bytes in their order.
    fn unmask(&mut self, bytes: &mut [u8]) {
        for byte in bytes.iter_mut() {
            let [first, ..] = self.mask.to_be_bytes();
            *byte ^= first;
            self.mask = self.mask.rotate_left(8);
        }
        self.left = self.left.saturating_sub(bytes.len() as u64);
    }
}

/// The head of a frame.
struct Head {
    opcode: u8,
    is_last: bool,
    payload: Payload,
    /// Of itself.
    length: usize,
}

/// Not a frame of a client's.
struct Nonsense;

impl Head {
    /// `None` until all of it is there.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Nonsense> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        // Extensions were not agreed upon, and clients must mask.
        if first & 0x70 != 0 || second & 0x80 == 0 {
            return Err(Nonsense);
        }
        let (left, rest) = match (second & 0x7f, rest) {
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
            }
            (126 | 127, _) => return Ok(None),
            (short, rest) => (u64::from(short), rest),
        };
        let [a, b, c, d, rest @ ..] = rest else { return Ok(None) };
        let payload = Payload { left, mask: u32::from_be_bytes([*a, *b, *c, *d]) };
        let length = bytes.len() - rest.len();
        Ok(Some(Self { opcode: first & 0x0f, is_last: first & 0x80 != 0, payload, length }))
    }

    fn is_control(&self) -> bool {
        self.opcode >= opcode::CLOSE
    }
}

impl<S> WebSocket<S> {
    /// Frames go out as `kind`.
    pub(crate) fn new(inner: S, kind: MessageKind) -> Self {
        Self {
            inner,
            kind,
            received: BytesMut::new(),
            payload: Payload::default(),
            over: false,
            sending: BytesMut::new(),
            pong: None,
            close: None,
            closed: false,
        }
    }

    /// Take heads and control frames out of what was received, up to the next payload.
    fn advance(&mut self) -> Result<(), Nonsense> {
        while self.payload.left == 0 && !self.over {
            let Some(mut head) = Head::parse(&self.received)? else { return Ok(()) };
            if !head.is_control() {
                if head.opcode > opcode::BINARY {
                    return Err(Nonsense);
                }
                self.received.advance(head.length);
                self.payload = head.payload;
                continue;
            }
            if !head.is_last || head.payload.left > LONGEST_CONTROL {
                return Err(Nonsense);
            }
            let end = head.length + usize::try_from(head.payload.left).unwrap_or_default();
            if self.received.len() < end {
                return Ok(());
            }
            let mut payload = self.received.split_to(end).split_off(head.length).to_vec();
            head.payload.unmask(&mut payload);
            match head.opcode {
                opcode::PING => self.pong = Some(payload),
                opcode::PONG => {}
                // The answer repeats the client's reason (section 5.5.1).
                opcode::CLOSE if payload.len() != 1 => {
                    payload.truncate(2);
                    self.end(payload);
                }
                _ => return Err(Nonsense),
            }
        }
        Ok(())
    }

    fn end(&mut self, reason: Vec<u8>) {
        self.over = true;
        self.close.get_or_insert(reason);
    }

    fn push(&mut self, opcode: u8, payload: &[u8]) {
        const LAST: u8 = 0x80;
        self.sending.put_u8(LAST | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ ..126), _) => self.sending.put_u8(length),
            (_, Ok(length)) => {
                self.sending.put_u8(126);
                self.sending.put_u16(length);
            }
            _ => {
                self.sending.put_u8(127);
                self.sending.put_u64(payload.len() as u64);
            }
        }
        self.sending.put_slice(payload);
    }
}

impl<S: AsyncWrite + Unpin> WebSocket<S> {
    /// Send what waits, control frames included.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.sending.has_remaining() {
                let count = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.sending))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.sending.advance(count);
            }
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            if let Some(pong) = self.pong.take() {
                self.push(opcode::PONG, &pong);
            } else if let Some(close) = self.close.take() {
                self.push(opcode::CLOSE, &close);
                self.closed = true;
            } else {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.advance().is_err() {
                self.end(status::PROTOCOL_ERROR.to_be_bytes().to_vec());
            }
            // Whoever reads also sends the answers to control frames; what is not sent now goes with the next output.
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            if self.over {
                // Not an end of input only: nothing can be sent either.
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            let left = usize::try_from(self.payload.left).unwrap_or(usize::MAX);
            let count = left.min(self.received.len()).min(buf.remaining());
            if count > 0 {
                let mut bytes = self.received.split_to(count);
                self.payload.unmask(&mut bytes);
                buf.put_slice(&bytes);
                return Poll::Ready(Ok(()));
            }
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.received.extend_from_slice(piece.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let piece = &buf[..buf.len().min(LONGEST)];
        let opcode = match self.kind {
            MessageKind::Text => opcode::TEXT,
            MessageKind::Binary => opcode::BINARY,
        };
        self.push(opcode, piece);
        // It counts as written; what does not go out now goes before the next.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(piece.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.close.get_or_insert_with(|| status::NORMAL.to_be_bytes().to_vec());
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_handshake_of_the_rfc() {
        let handshake = Handshake::of(&headers(&GOOD)).unwrap();
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.protocol, None);
        let mut with_protocol = GOOD.to_vec();
        with_protocol.push(("sec-websocket-protocol", "chat, superchat"));
        let handshake = Handshake::of(&headers(&with_protocol)).unwrap();
        assert_eq!(handshake.protocol.as_deref(), Some("chat"));
        for (at, bad) in
            [(0, "close"), (1, "tcp"), (2, "8"), (3, "dGhlIHNhbXBsZQ=="), (3, "no base64!")]
        {
            let mut given = GOOD;
            given[at].1 = bad;
            assert_eq!(Handshake::of(&headers(&given)), None, "{bad}");
        }
        assert_eq!(Handshake::of(&headers(&GOOD[..3])), None);
    }

    fn pair(kind: MessageKind) -> (WebSocket<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        (WebSocket::new(ours, kind), theirs)
    }

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match payload.len() {
            length @ ..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            length @ ..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[tokio::test]
    async fn frames_become_bytes_however_they_are_cut() {
        let long = vec![b'x'; 70_000];
        let mut sent = frame(0x82, b"one ");
        sent.extend(frame(0x89, b"ping"));
        sent.extend(frame(0x01, b"two "));
        sent.extend(frame(0x80, b""));
        sent.extend(frame(0x8a, b"pong"));
        sent.extend(frame(0x82, &long[..300]));
        sent.extend(frame(0x82, &long));
        for step in [1, 7, 100_000] {
            let (mut socket, mut client) = pair(MessageKind::Binary);
            let sent = sent.clone();
            let writer = async {
                for part in sent.chunks(step) {
                    client.write_all(part).await.unwrap();
                }
            };
            let mut seen = vec![0; 8 + 300 + 70_000];
            let reader = socket.read_exact(&mut seen);
            tokio::join!(writer, reader).1.unwrap();
            assert!(seen.starts_with(b"one two xxx"), "by {step}");
            let mut pong = [0; 6];
            client.read_exact(&mut pong).await.unwrap();
            assert_eq!(&pong, b"\x8a\x04ping", "by {step}");
        }
    }

    #[tokio::test]
    async fn bytes_become_frames_and_the_end_a_close() {
        for (kind, first) in [(MessageKind::Text, 0x81), (MessageKind::Binary, 0x82)] {
            let (mut socket, mut client) = pair(kind);
            socket.write_all(b"hello").await.unwrap();
            socket.write_all(&[b'x'; 70_000]).await.unwrap();
            socket.shutdown().await.unwrap();
            let mut seen = Vec::new();
            client.read_to_end(&mut seen).await.unwrap();
            let mut expected = vec![first, 5];
            expected.extend(b"hello");
            expected.extend([first, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
            expected.extend([b'x'; 65_536]);
            expected.extend([first, 126, 0x11, 0x70]);
            expected.extend([b'x'; 4464]);
            expected.extend([0x88, 2, 0x03, 0xe8]);
            assert!(seen == expected, "{} bytes", seen.len());
        }
    }

    #[tokio::test]
    async fn a_close_is_answered_and_ends_both_directions() {
        for (sent, answer) in [
            (frame(0x88, &[0x03, 0xe9, b'b', b'y', b'e']), &b"\x88\x02\x03\xe9"[..]),
            (frame(0x88, b""), b"\x88\x00"),
            // Unmasked, a reserved bit, an unknown kind, a control frame in parts, a reason cut in two.
            (b"\x82\x01x".to_vec(), b"\x88\x02\x03\xea"),
            (frame(0xc2, b"x"), b"\x88\x02\x03\xea"),
            (frame(0x83, b"x"), b"\x88\x02\x03\xea"),
            (frame(0x09, b"x"), b"\x88\x02\x03\xea"),
            (frame(0x88, b"x"), b"\x88\x02\x03\xea"),
            (frame(0x89, &[0; 126]), b"\x88\x02\x03\xea"),
        ] {
            let (mut socket, mut client) = pair(MessageKind::Binary);
            client.write_all(&sent).await.unwrap();
            assert!(socket.read_u8().await.is_err(), "{sent:?}");
            assert!(socket.write_all(b"x").await.is_err(), "{sent:?}");
            socket.shutdown().await.unwrap();
            let mut seen = Vec::new();
            client.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, answer, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_flood_of_pings_waits_for_one_answer() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut socket = WebSocket::new(ours, MessageKind::Binary);
        let writer = async {
            for _ in 0..10_000 {
                theirs.write_all(&frame(0x89, &[7; 50])).await.unwrap();
            }
            theirs.write_all(&frame(0x82, b"x")).await.unwrap();
        };
        let (byte, ()) = tokio::join!(socket.read_u8(), writer);
        assert_eq!(byte.unwrap(), b'x');
        assert!(socket.sending.len() < 200, "{}", socket.sending.len());
    }
}
