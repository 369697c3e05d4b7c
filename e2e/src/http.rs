//! An HTTP/1.1 client on a Unix socket that shows every byte: heads as they came, chunked bodies decoded as they arrive,
//! connections taken over after a hijack, half-closed and reused.
//!
//! Real clients hide just what these tests are about. Every read has a time limit, so a daemon that hangs fails a test.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// How long a read may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A request, built piece by piece.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request without a body. `path` is sent as it is, query included.
    #[must_use]
    pub fn new(method: &str, path: impl Into<String>) -> Self {
        Self { method: method.into(), path: path.into(), headers: Vec::new(), body: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a JSON body with its content type.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").bytes(body.to_string())
    }

    /// Adds a body; no content type comes with it.
    #[must_use]
    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Asks for the connection itself, as attach does.
    #[must_use]
    pub fn upgrade(self, protocol: &str) -> Self {
        self.header("Connection", "Upgrade").header("Upgrade", protocol)
    }

    fn encode(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: docker\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let own_framing = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length")
                || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if let (Some(body), false) = (&self.body, own_framing) {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// Status line and headers of a response.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The words behind it.
    pub reason: String,
    /// Names as sent, in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header, whatever the case of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status line and headers.
    pub head: Head,
    /// The body, decoded from chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// The text of a Docker error body.
    #[must_use]
    pub fn message(&self) -> String {
        let text = |value: Value| Some(value.get("message")?.as_str()?.to_owned());
        self.json().ok().and_then(text).unwrap_or_default()
    }

    /// Passes the response on if it has this status.
    ///
    /// # Errors
    /// With the body, if it has not.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(
            self.head.status == status,
            "status {} and not {status}: {}",
            self.head.status,
            self.text()
        );
        Ok(self)
    }

    /// The Docker error of a response that must be one: its status and content type are checked.
    ///
    /// # Errors
    /// When it is another response.
    pub fn expect_error(self, status: u16) -> Result<String> {
        let content_type = self.head.header("content-type").unwrap_or_default().to_owned();
        let response = self.expect(status)?;
        ensure!(content_type == "application/json", "an error of type {content_type:?}");
        let message = response.message();
        ensure!(!message.is_empty(), "an error without message: {}", response.text());
        Ok(message)
    }
}

/// One connection to a daemon.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<UnixStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connecting to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE)).context("time limit")?;
        stream.set_write_timeout(Some(PATIENCE)).context("time limit")?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sets how long a read may take.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn patience(&self, limit: Duration) -> Result<()> {
        self.reader.get_ref().set_read_timeout(Some(limit)).context("time limit")
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Writes a request.
    ///
    /// # Errors
    /// As [`Connection::write`].
    pub fn send(&mut self, request: &Request) -> Result<()> {
        self.write(&request.encode()).context("sending a request")
    }

    /// Ends our direction; the other stays open.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn close_write(&self) -> io::Result<()> {
        self.reader.get_ref().shutdown(Shutdown::Write)
    }

    /// A second handle, for writing from another thread.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn writer(&self) -> io::Result<UnixStream> {
        self.reader.get_ref().try_clone()
    }

    /// Reads the head of the next response.
    ///
    /// # Errors
    /// When none comes in time, or it is malformed.
    pub fn head(&mut self) -> Result<Head> {
        let first = self.line()?;
        let rest = first.strip_prefix("HTTP/1.1 ").or_else(|| first.strip_prefix("HTTP/1.0 "));
        let rest = rest.with_context(|| format!("not a status line: {first:?}"))?;
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = status.parse().with_context(|| format!("not a status: {first:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Head { status, reason: reason.into(), headers });
            }
            let (name, value) =
                line.split_once(':').with_context(|| format!("not a header: {line:?}"))?;
            headers.push((name.into(), value.trim().into()));
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).context("reading a head")?;
        ensure!(
            line.ends_with(b"\r\n"),
            "the head ends after {:?}",
            String::from_utf8_lossy(&line)
        );
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Reads the whole body that belongs to a head.
    ///
    /// # Errors
    /// When it does not come in time, or is malformed.
    pub fn body(&mut self, head: &Head, method: &str) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        Body::of(head, method)
            .into_reader(&mut self.reader)
            .read_to_end(&mut body)
            .context("reading a body")?;
        Ok(body)
    }

    /// Sends a request and reads the whole response; the connection can be used again.
    ///
    /// # Errors
    /// When none comes.
    pub fn roundtrip(&mut self, request: &Request) -> Result<Response> {
        self.send(request)?;
        let head = self.head()?;
        let body = self.body(&head, &request.method)?;
        Ok(Response { head, body })
    }

    /// Makes a stream of the body that belongs to a head.
    #[must_use]
    pub fn into_stream(self, head: Head) -> Stream {
        let body = Body::of(&head, "GET");
        Stream { head, reader: BufReader::new(body.into_reader(self.reader)) }
    }

    /// Takes the raw connection, with the bytes that were read ahead of need.
    #[must_use]
    pub fn into_raw(self) -> BufReader<UnixStream> {
        self.reader
    }
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy)]
enum Body {
    Empty,
    Length(u64),
    Chunked,
    UntilEnd,
}

impl Body {
    fn of(head: &Head, method: &str) -> Self {
        if method == "HEAD" || matches!(head.status, 100..200 | 204 | 304) {
            return Self::Empty;
        }
        if head
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            return Self::Chunked;
        }
        head.header("content-length")
            .and_then(|length| length.parse().ok())
            .map_or(Self::UntilEnd, Self::Length)
    }

    fn into_reader<R: BufRead>(self, inner: R) -> BodyReader<R> {
        let (left, chunked) = match self {
            Self::Empty => (0, false),
            Self::Length(length) => (length, false),
            Self::UntilEnd => (u64::MAX, false),
            Self::Chunked => (0, true),
        };
        BodyReader { inner, left, chunked, first: true, to_end: matches!(self, Self::UntilEnd) }
    }
}

/// Reads a body to its end and no further.
#[derive(Debug)]
struct BodyReader<R> {
    inner: R,
    left: u64,
    chunked: bool,
    first: bool,
    to_end: bool,
}

impl<R: BufRead> BodyReader<R> {
    /// Reads `SIZE\r\n`, and the line end of the chunk before; after the last chunk also the empty trailer.
    fn next_chunk(&mut self) -> io::Result<()> {
        let mut line = String::new();
        if !std::mem::take(&mut self.first) {
            self.inner.read_line(&mut line)?;
            line.clear();
        }
        self.inner.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        self.left = u64::from_str_radix(size, 16).map_err(|_| {
            io::Error::new(io::ErrorKind::UnexpectedEof, format!("not a chunk size: {line:?}"))
        })?;
        if self.left == 0 {
            self.chunked = false;
            self.inner.read_line(&mut line)?;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for BodyReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && self.chunked {
            self.next_chunk()?;
        }
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && !self.to_end {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the body ends early"));
        }
        if !self.to_end {
            self.left -= count as u64;
        }
        Ok(count)
    }
}

/// A response whose body arrives bit by bit. Dropping it closes the connection: a client that leaves.
#[derive(Debug)]
pub struct Stream {
    /// Status line and headers.
    pub head: Head,
    reader: BufReader<BodyReader<BufReader<UnixStream>>>,
}

impl Stream {
    /// Sets how long a read may take.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn patience(&self, limit: Duration) -> Result<()> {
        self.reader.get_ref().inner.get_ref().set_read_timeout(Some(limit)).context("time limit")
    }

    /// The next line of JSON, or `None` at the end of the stream.
    ///
    /// # Errors
    /// When nothing comes in time, or it is not JSON.
    pub fn next_json(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).context("reading a stream")? == 0 {
            return Ok(None);
        }
        let line = line.trim_matches(['\u{1e}', '\r', '\n']);
        serde_json::from_str(line).map(Some).with_context(|| format!("not JSON: {line:?}"))
    }

    /// All that still comes.
    ///
    /// # Errors
    /// As [`Stream::next_json`].
    pub fn rest(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).context("reading a stream")?;
        Ok(bytes)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// The head of a request or an answer, up to and with its empty line.
pub(crate) fn read_head(reader: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if reader.by_ref().read_line(&mut text).context("reading a head")? == 0 {
            anyhow::bail!("no head");
        }
    }
    Ok(text)
}
