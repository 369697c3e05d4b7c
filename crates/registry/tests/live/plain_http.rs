//! The least that speaks HTTP/1.1: reads requests and answers, for servers and for filling them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A message: a request or an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// Request line or status line.
    pub(crate) first: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Method of a request.
    pub(crate) fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    /// Target of a request.
    pub(crate) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// Status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// Reads one; `None` at the end of the connection or when it is no HTTP.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(first) = line(from)? else { return Ok(None) };
        let mut message = Self { first, ..Self::default() };
        while let Some(line) = line(from)?.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            message.headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let length = message
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0_u64);
        // What is cut off is kept as far as it came.
        from.take(length).read_to_end(&mut message.body)?;
        Ok(Some(message))
    }
}

fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    from.by_ref().take(16 * 1024).read_until(b'\n', &mut bytes)?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.ends_with('\n'));
    Ok(text.map(|text| text.trim_end().to_owned()))
}

/// Sends one request on a connection of its own.
pub(crate) fn send(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Message {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    Message::read(&mut BufReader::new(stream)).unwrap().unwrap()
}
