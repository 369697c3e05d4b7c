//! The streams of attach and logs without a terminal: frames of eight bytes of head (stream, three zeros, big-endian
//! length) and a payload (moby `pkg/stdcopy`).

use std::io::{self, Read};

use anyhow::{Context, Result, bail};

/// What a container wrote, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// From its standard output.
    pub stdout: Vec<u8>,
    /// From its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Reads one frame: the number of the stream and its bytes; `None` at the end.
///
/// # Errors
/// When the stream ends within a frame, or has no frames.
pub fn next(reader: &mut impl Read) -> Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 8];
    if !fill(reader, &mut head).context("reading a frame's head")? {
        return Ok(None);
    }
    let [stream @ 0..=3, 0, 0, 0, a, b, c, d] = head else { bail!("not a frame's head: {head:?}") };
    let mut payload = vec![0; u32::from_be_bytes([a, b, c, d]) as usize];
    reader.read_exact(&mut payload).context("reading a frame")?;
    Ok(Some((stream, payload)))
}

/// Reads frames to the end.
///
/// # Errors
/// As [`next`].
pub fn all(reader: &mut impl Read) -> Result<Output> {
    let mut output = Output::default();
    while let Some((stream, payload)) = next(reader)? {
        match stream {
            1 => output.stdout.extend(payload),
            2 => output.stderr.extend(payload),
            other => bail!("a frame of stream {other}: {}", String::from_utf8_lossy(&payload)),
        }
    }
    Ok(output)
}

/// Fills `buffer`; false when the stream ends before its first byte.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    let mut count = 0;
    while count < buffer.len() {
        match reader.read(&mut buffer[count..])? {
            0 if count == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => count += more,
        }
    }
    Ok(true)
}
