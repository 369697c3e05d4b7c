//! What uploads may be compressed with, found by their first bytes whatever the client says (moby
//! `pkg/archive/compression`), and what downloads can be.

use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::os::fd::AsFd;

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use flate2::write::{DeflateEncoder, GzEncoder};
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::pipe::Output;

/// Bytes that tell.
const MAGIC: usize = 6;
/// Memory of a decoder, in KiB: twice what the highest levels of the usual programs need.
const MAX_MEMORY: u32 = 128 * 1024;
/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;

/// Compression of a download, as HTTP names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    #[default]
    Identity,
    /// `gzip`.
    Gzip,
    /// `deflate`, without zlib's frame as Go writes it.
    Deflate,
}

/// What is in `input`, decompressed if it is compressed.
pub(crate) fn decompressed<'a>(
    mut input: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = Vec::with_capacity(MAGIC);
    (&mut input).take(MAGIC as u64).read_to_end(&mut start)?;
    let is = |magic: &[u8]| start.starts_with(magic);
    let kind = (
        is(b"\x1f\x8b\x08"),
        is(b"BZh"),
        is(b"\xfd7zXZ\x00"),
        is(b"\x28\xb5\x2f\xfd") || is_skippable_frame(&start),
    );
    let whole = Cursor::new(start).chain(input);
    Ok(match kind {
        (true, ..) => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, whole))),
        (_, true, ..) => Box::new(MultiBzDecoder::new(BufReader::with_capacity(BUFFER, whole))),
        (.., true, _) => {
            let input = BufReader::with_capacity(BUFFER, whole);
            Box::new(XzReader::new_mem_limit(input, true, MAX_MEMORY))
        }
        (.., true) => Box::new(ZstdReader::new(BufReader::with_capacity(BUFFER, whole))),
        _ => Box::new(whole),
    })
}

/// A frame of zstd that holds something for somebody else (RFC 8878, 3.1.2).
fn is_skippable_frame(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Frame after frame of zstd.
struct ZstdReader<R> {
    input: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(u64::from(MAX_MEMORY) * 1024);
        Self { input, decoder, in_frame: false }
    }

    /// Goes to the next frame; false at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.input).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let said = self.decoder.get_checksum_from_data();
        if said.is_some() && said != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "zstd: wrong checksum"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut self.input, strategy)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.end_frame()?;
        }
    }
}

/// Compresses what is written to it.
pub(crate) enum Compressor<W: Write> {
    Identity(W),
    Gzip(GzEncoder<W>),
    Deflate(DeflateEncoder<W>),
}

impl<W: Write> Compressor<W> {
    pub(crate) fn new(output: W, compression: Compression) -> Self {
        let level = flate2::Compression::fast();
        match compression {
            Compression::Identity => Self::Identity(output),
            Compression::Gzip => Self::Gzip(GzEncoder::new(output, level)),
            Compression::Deflate => Self::Deflate(DeflateEncoder::new(output, level)),
        }
    }

    /// Ends the compressed stream, and gives what it was written to.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Identity(output) => Ok(output),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Identity(output) => output.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Deflate(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(output) => output.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Deflate(encoder) => encoder.flush(),
        }
    }
}

impl<W: Output> Output for Compressor<W> {
    fn append_from(&mut self, file: impl AsFd, most: u64) -> io::Result<usize> {
        match self {
            Self::Identity(output) => output.append_from(file, most),
            Self::Gzip(_) | Self::Deflate(_) => {
                let mut bytes = vec![0; BUFFER.min(usize::try_from(most).unwrap_or(BUFFER))];
                let count = rustix::io::read(file, &mut bytes[..])?;
                self.write_all(&bytes[..count])?;
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "hello, hello, hello\n";
    /// The text, compressed by the usual programs.
    const COMPRESSED: [(&str, &str); 3] = [
        (
            "xz",
            "fd377a585a000004e6d6b4460200210116000000742fe5a3e00013000e5d00341949ee8def8c8731f52f640000000000b0488559d7a9ae4b00012a147ead37551fb6f37d010000000004595a",
        ),
        ("zstd", "28b52ffd24147500004068656c6c6f2c200a0100e28a1121699d87"),
        (
            "bzip2",
            "425a6839314159265359cb52e5670000055100001040040244a00021243108602f1844c715178bb9229c284865a972b380",
        ),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
        digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect()
    }

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        decompressed(bytes)?.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn plain_bytes_pass() {
        for text in ["", "a", "BZ", "some text that is longer"] {
            assert_eq!(read(text.as_bytes()).unwrap(), text);
        }
    }

    #[test]
    fn every_kind_is_found_and_may_come_in_pieces() {
        let mut kinds: Vec<(&str, Vec<u8>)> =
            COMPRESSED.map(|(name, hex)| (name, bytes(hex))).into();
        let mut gzip = Compressor::new(Vec::new(), Compression::Gzip);
        gzip.write_all(TEXT.as_bytes()).unwrap();
        kinds.push(("gzip", gzip.finish().unwrap()));
        for (name, once) in kinds {
            assert_eq!(read(&once).unwrap(), TEXT, "{name}");
            let twice = [once.clone(), once.clone()].concat();
            assert_eq!(read(&twice).unwrap(), [TEXT, TEXT].concat(), "{name} twice");
            assert!(read(&once[..once.len() - 6]).is_err(), "{name} cut");
        }
    }

    #[test]
    fn frames_of_zstd_for_others_are_passed_over_and_sums_are_checked() {
        let mut frame = bytes(COMPRESSED[1].1);
        let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        assert_eq!(read(&[&skippable[..], &frame, &skippable].concat()).unwrap(), TEXT);
        if let Some(last) = frame.last_mut() {
            *last ^= 1;
        }
        assert!(read(&frame).unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn downloads() {
        let mut deflate = Compressor::new(Vec::new(), Compression::Deflate);
        deflate.write_all(TEXT.as_bytes()).unwrap();
        let mut text = String::new();
        let bytes = deflate.finish().unwrap();
        flate2::read::DeflateDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, TEXT);
    }
}
