//! Archives that others made, entry by entry: ustar, GNU and PAX, with bounded memory whatever they say.
//!
//! The `tar` crate knows the headers; its own loop keeps the long names and records of hostile archives in memory
//! however long they are, and knows only one of the four forms of sparse files.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::sparse::{self, Segment};

/// Block size.
const BLOCK: usize = 512;
/// Longest name, link or set of records (Go `archive/tar`, `maxSpecialFileSize`).
const MAX_SPECIAL: u64 = 1024 * 1024;

/// Why an archive cannot be read. The texts are Go's, which Docker passes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It ends in the middle.
    #[error("unexpected EOF")]
    Cut,
    /// Something that is no header where one must be, or a header of nonsense.
    #[error("archive/tar: invalid tar header")]
    Header,
    /// Names or records beyond every measure.
    #[error("archive/tar: header field too long")]
    TooLong,
    /// Every entry costs work, however small it is.
    #[error("archive/tar: more than {0} entries")]
    TooMany(usize),
    /// It does not come: the client left, or what it sends cannot be decompressed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Io(error),
        }
    }
}

/// Key and value, of a PAX record or an extended attribute.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// One entry; its content is read through the [`TarReader`].
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryType,
    /// Permissions with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(super) modified: (i64, u32),
    pub(super) device: (u32, u32),
    pub(super) attributes: Vec<Record>,
    /// Size of a sparse file, and where its content goes.
    pub(crate) sparse: Option<(u64, Vec<Segment>)>,
}

/// Reads entries one after the other; in between it reads the content of the last one.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    input: R,
    /// Content that has not been read.
    left: u64,
    /// Zeros behind it.
    padding: u64,
}

/// What headers before an entry say about it.
#[derive(Debug, Default)]
pub(super) struct Said {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<Record>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry; what is left of the last one's content is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut said = Said::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = or_zero(&header.as_old().size, header.entry_size())?;
            match header.entry_type() {
                EntryType::GNULongName => said.name = Some(self.text(size)?),
                EntryType::GNULongLink => said.link = Some(self.text(size)?),
                EntryType::XHeader => {
                    let records = self.special(size)?;
                    // The last ones count, as in Go's `archive/tar`.
                    said.records = parse_records(&records)?;
                }
                // What it says about all entries, Docker does not hear either.
                EntryType::XGlobalHeader => self.begin(size),
                _ => return self.entry(&header, size, &said).map(Some),
            }
        }
    }

    /// Bytes of the last entry's content that were not read.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Reads what comes after the end, as far as it is padding, so that the sender is not cut off.
    pub(crate) fn drain(&mut self) {
        let _ = io::copy(&mut (&mut self.input).take(MAX_SPECIAL), &mut io::sink());
    }

    /// The next block as a header; `None` at the end, be it marked or not.
    fn header(&mut self) -> Result<Option<Header>, ReadError> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|byte| *byte == 0) {
            let ends = !self.block(&mut block)? || block.iter().all(|byte| *byte == 0);
            return if ends { Ok(None) } else { Err(ReadError::Header) };
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = header.cksum().map_err(|_| ReadError::Header)?;
        (sum == checksum(&block)).then_some(Some(header)).ok_or(ReadError::Header)
    }

    /// A whole block; false if there is nothing at all.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, ReadError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(ReadError::Cut),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// From here on there are `size` bytes of content.
    fn begin(&mut self, size: u64) {
        self.left = size;
        let block = BLOCK as u64;
        self.padding = (block - size % block) % block;
    }

    fn skip_content(&mut self) -> Result<(), ReadError> {
        let rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink())?;
        if skipped == rest { Ok(()) } else { Err(ReadError::Cut) }
    }

    fn special(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        if size > MAX_SPECIAL {
            return Err(ReadError::TooLong);
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A name that ends with the first zero.
    fn text(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = self.special(size)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, size: u64, said: &Said) -> Result<Entry, ReadError> {
        let number = |key: &str, own: u64| match said.value(key.as_bytes()) {
            Some(value) => parse(value),
            None => Ok(own),
        };
        let id = |key: &str, field: &[u8; 8], own: io::Result<u64>| {
            let id = number(key, or_zero(field, own)?)?;
            u32::try_from(id).map_err(|_| ReadError::Header)
        };
        let old = header.as_old();
        let name = said.value(b"path").map(<[u8]>::to_vec).or(said.name.clone());
        let link = said.value(b"linkpath").map(<[u8]>::to_vec).or(said.link.clone());
        let mut entry = Entry {
            name: name.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default(),
            kind: header.entry_type(),
            mode: or_zero(&old.mode, header.mode())? & 0o7777,
            uid: id("uid", &old.uid, header.uid())?,
            gid: id("gid", &old.gid, header.gid())?,
            modified: match said.value(b"mtime") {
                Some(value) => seconds(value).ok_or(ReadError::Header)?,
                None => (modified(header)?, 0),
            },
            device: (
                header.device_major().unwrap_or_default().unwrap_or_default(),
                header.device_minor().unwrap_or_default().unwrap_or_default(),
            ),
            attributes: said.attributes(),
            sparse: None,
        };
        let size = if has_content(entry.kind) { number("size", size)? } else { 0 };
        self.begin(size);
        if entry.kind == EntryType::GNUSparse {
            entry.sparse = Some(sparse::old_gnu(header, &mut self.input)?);
            entry.kind = EntryType::Regular;
        } else if let Some(of) = sparse::pax(&said.records, self)? {
            entry.name = of.name.unwrap_or(entry.name);
            entry.sparse = Some((of.size, of.segments));
        } else if entry.kind == EntryType::Regular && entry.name.ends_with(b"/") {
            // As it was written before there was a type for directories.
            entry.kind = EntryType::Directory;
        }
        Ok(entry)
    }
}

impl<R: Read> Read for TarReader<R> {
    /// Content of the current entry; an archive that ends in it is an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

impl Said {
    /// The last record of that key counts.
    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        let record = self.records.iter().rev().find(|(known, _)| known == key)?;
        Some(record.1.as_slice()).filter(|value| !value.is_empty())
    }

    fn attributes(&self) -> Vec<Record> {
        let attribute = |(key, value): &Record| {
            Some((key.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value.clone()))
        };
        self.records.iter().filter_map(attribute).collect()
    }
}

/// Types without content may still say a size, which means something else or nothing.
fn has_content(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

/// The sum of all bytes, those of the sum itself taken for blanks. Some old programs add signed bytes.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let blanks = 8 * u32::from(b' ');
    let rest = block[..148].iter().chain(&block[156..]);
    blanks + rest.map(|byte| u32::from(*byte)).sum::<u32>()
}

/// A field that is left blank means nothing, and is no mistake (Go `archive/tar`, `parseNumeric`).
fn or_zero<T: Default>(field: &[u8], number: io::Result<T>) -> Result<T, ReadError> {
    match number {
        Ok(number) => Ok(number),
        Err(_) if field.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(T::default()),
        Err(_) => Err(ReadError::Header),
    }
}

/// Before 1970 it is written in GNU's binary form.
fn modified(header: &Header) -> Result<i64, ReadError> {
    let field = &header.as_old().mtime;
    if field[0] & 0x80 == 0 {
        return Ok(header.mtime().map_or(0, |seconds| i64::try_from(seconds).unwrap_or(0)));
    }
    // Two's complement of 95 bits.
    let sign = if field[0] & 0x40 == 0 { 0 } else { !0x3f_i128 };
    let first = i128::from(field[0] & 0x3f) | sign;
    let number = field[1..].iter().fold(first, |sum, byte| (sum << 8) | i128::from(*byte));
    i64::try_from(number).map_err(|_| ReadError::Header)
}

/// `LENGTH KEY=VALUE\n`, again and again. Values may contain anything.
pub(super) fn parse_records(mut bytes: &[u8]) -> Result<Vec<Record>, ReadError> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ').ok_or(ReadError::Header)?;
        let length: usize = parse(&bytes[..blank])?;
        let record = bytes.get(blank + 1..length).ok_or(ReadError::Header)?;
        let record = record.strip_suffix(b"\n").ok_or(ReadError::Header)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(ReadError::Header)?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

/// A decimal number.
pub(super) fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Result<T, ReadError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ReadError::Header)?;
    text.parse().map_err(|_| ReadError::Header)
}

/// `-12.345` as seconds and nanoseconds, the latter never negative.
fn seconds(bytes: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    match (whole.starts_with('-'), nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_contain_anything() {
        let records = parse_records(b"12 a=b\nc=d\n\n7 k=\x00\xff\n").unwrap();
        assert_eq!(records[0], (b"a".to_vec(), b"b\nc=d\n".to_vec()));
        assert_eq!(records[1], (b"k".to_vec(), b"\x00\xff".to_vec()));
        for bad in [&b"x a=b\n"[..], b"99 a=b\n", b"6 a=b", b"6 abc\n", b"0 a=b\n", b"2 a=b\n"] {
            assert!(parse_records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_with_fractions() {
        for (text, expected) in [
            ("1", Some((1, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("1.0000000019", Some((1, 1))),
            ("", None),
            ("1.x", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn endless_names_are_refused_before_they_are_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = Read::chain(header.as_bytes().as_slice(), io::repeat(b'x'));
        assert!(matches!(TarReader::new(endless).next(), Err(ReadError::TooLong)));
    }

    #[test]
    fn what_is_no_archive() {
        let next = |bytes: &[u8]| TarReader::new(bytes).next().map(|entry| entry.is_some());
        assert!(matches!(next(b""), Ok(false)));
        assert!(matches!(next(&[0; 1024]), Ok(false)));
        assert!(matches!(next(&[0; 512]), Ok(false)));
        assert!(matches!(next(&[b'x'; 20]), Err(ReadError::Cut)));
        assert!(matches!(next(&[b'x'; 2000]), Err(ReadError::Header)));
        assert!(matches!(next(&[[0; 512], [1; 512]].concat()), Err(ReadError::Header)));
    }

    #[test]
    fn negative_binary_times() {
        let mut header = Header::new_gnu();
        header.as_old_mut().mtime = [0xff; 12];
        assert_eq!(modified(&header).unwrap(), -1);
        header.as_old_mut().mtime = [0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(modified(&header).unwrap(), 1 << 32);
    }
}
