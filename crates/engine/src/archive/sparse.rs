//! Files with holes, in the four forms in which GNU tar writes them (GNU tar manual, "Storing Sparse Files").

use std::io::Read;

use tar::{GnuExtSparseHeader, Header};

use super::reader::{ReadError, TarReader, parse};

/// Pieces of one file: as many as take 16 MiB of memory.
const MAX_SEGMENTS: usize = 1 << 20;
/// Digits of a number in a map.
const MAX_DIGITS: usize = 20;
/// Block size.
const BLOCK: usize = 512;

/// A piece of content between holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What PAX records say of a sparse file.
#[derive(Debug)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: u64,
    pub(super) segments: Vec<Segment>,
}

/// The oldest form: a map in the header and in blocks behind it.
pub(super) fn old_gnu(
    header: &Header,
    input: &mut impl Read,
) -> Result<(u64, Vec<Segment>), ReadError> {
    let gnu = header.as_gnu().ok_or(ReadError::Header)?;
    let size = gnu.real_size().map_err(|_| ReadError::Header)?;
    let mut segments = Vec::new();
    let mut push = |found: &tar::GnuSparseHeader| -> Result<(), ReadError> {
        if found.is_empty() {
            return Ok(());
        }
        let offset = found.offset().map_err(|_| ReadError::Header)?;
        let length = found.length().map_err(|_| ReadError::Header)?;
        if segments.len() == MAX_SEGMENTS {
            return Err(ReadError::TooLong);
        }
        segments.push(Segment { offset, length });
        Ok(())
    };
    gnu.sparse.iter().try_for_each(&mut push)?;
    let mut more = gnu.is_extended();
    while more {
        let mut block = GnuExtSparseHeader::new();
        input.read_exact(block.as_mut_bytes())?;
        block.sparse().iter().try_for_each(&mut push)?;
        more = block.is_extended();
    }
    checked(size, segments)
}

/// The forms of PAX; `None` if it is no sparse file.
pub(super) fn pax(
    records: &[(Vec<u8>, Vec<u8>)],
    content: &mut TarReader<impl Read>,
) -> Result<Option<PaxSparse>, ReadError> {
    let value = |key: &str| {
        let found = records.iter().rev().find(|(known, _)| known == key.as_bytes());
        found.map(|(_, value)| value.as_slice())
    };
    let size = match (value("GNU.sparse.realsize"), value("GNU.sparse.size")) {
        (Some(size), _) | (None, Some(size)) => parse(size)?,
        (None, None) => return Ok(None),
    };
    let segments = if value("GNU.sparse.major") == Some(b"1") {
        map_before_content(content)?
    } else if let Some(map) = value("GNU.sparse.map") {
        pairs(map.split(|byte| *byte == b',').map(parse))?
    } else {
        let numbers = records.iter().filter(|(key, _)| {
            [b"GNU.sparse.offset".as_slice(), b"GNU.sparse.numbytes"].contains(&key.as_slice())
        });
        pairs(numbers.map(|(_, value)| parse(value)))?
    };
    let (size, segments) = checked(size, segments)?;
    let name = value("GNU.sparse.name").map(<[u8]>::to_vec);
    Ok(Some(PaxSparse { name, size, segments }))
}

/// Offset, length, offset, length, …
fn pairs(numbers: impl Iterator<Item = Result<u64, ReadError>>) -> Result<Vec<Segment>, ReadError> {
    let mut segments = Vec::new();
    let mut offset = None;
    for number in numbers {
        match offset.take() {
            None => offset = Some(number?),
            Some(offset) => segments.push(Segment { offset, length: number? }),
        }
    }
    if offset.is_none() { Ok(segments) } else { Err(ReadError::Header) }
}

/// Version 1.0: decimal numbers, one a line, in blocks of their own before the content.
fn map_before_content(content: &mut TarReader<impl Read>) -> Result<Vec<Segment>, ReadError> {
    let mut lines = Lines { content, block: [0; BLOCK], at: BLOCK };
    let count: usize = lines.number()?;
    if count > MAX_SEGMENTS {
        return Err(ReadError::TooLong);
    }
    (0..count).map(|_| Ok(Segment { offset: lines.number()?, length: lines.number()? })).collect()
}

struct Lines<'a, R> {
    content: &'a mut TarReader<R>,
    block: [u8; BLOCK],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number<T: std::str::FromStr>(&mut self) -> Result<T, ReadError> {
        let mut digits = Vec::new();
        loop {
            if self.at == BLOCK {
                self.content.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' => return parse(&digits),
                _ if digits.len() == MAX_DIGITS => return Err(ReadError::Header),
                _ => digits.push(byte),
            }
        }
    }
}

/// Pieces come one after the other and within the file.
fn checked(size: u64, segments: Vec<Segment>) -> Result<(u64, Vec<Segment>), ReadError> {
    let mut end = 0;
    for segment in &segments {
        let next = segment.offset.checked_add(segment.length).ok_or(ReadError::Header)?;
        if segment.offset < end || next > size {
            return Err(ReadError::Header);
        }
        end = next;
    }
    if i64::try_from(size).is_err() {
        return Err(ReadError::Header);
    }
    Ok((size, segments))
}
