//! The headers of entries that we write: ustar, with PAX records for what does not fit (POSIX.1-2001, `pax`).

use std::io::{self, Write};

use tar::{EntryType, Header};

/// What the 12-byte fields of a header hold in octal.
const MOST: u64 = 0o7777_7777_7777;
/// What the 8-byte fields hold.
const MOST_ID: u64 = 0o777_7777;
/// Block size.
const BLOCK: usize = 512;

/// One entry's description.
#[derive(Clone, Debug)]
pub(crate) struct Description<'a> {
    /// Directories end in a slash.
    pub(crate) name: &'a [u8],
    pub(crate) kind: EntryType,
    /// Target of a link.
    pub(crate) link: &'a [u8],
    /// Permissions with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of content.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    /// Extended attributes.
    pub(crate) attributes: &'a [(Vec<u8>, Vec<u8>)],
}

impl Description<'_> {
    /// Writes the header, and before it one with all that does not fit.
    pub(crate) fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let records = self.records();
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            set_name(&mut header, b"PaxHeaders.0/entry");
            header.set_mode(0o644);
            header.set_size(records.len() as u64);
            header.set_cksum();
            output.write_all(header.as_bytes())?;
            output.write_all(&records)?;
            pad(output, records.len() as u64)?;
        }
        output.write_all(self.header()?.as_bytes())
    }

    fn header(&self) -> io::Result<Header> {
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind);
        set_name(&mut header, self.name);
        put(&mut header.as_old_mut().linkname, self.link);
        header.set_mode(self.mode);
        header.set_uid(u64::from(self.uid).min(MOST_ID));
        header.set_gid(u64::from(self.gid).min(MOST_ID));
        header.set_size(self.size.min(MOST));
        header.set_mtime(u64::try_from(self.modified).unwrap_or(0).min(MOST));
        if matches!(self.kind, EntryType::Block | EntryType::Char) {
            header.set_device_major(self.device.0)?;
            header.set_device_minor(self.device.1)?;
        }
        header.set_cksum();
        Ok(header)
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        if self.name.len() > 100 || !self.name.is_ascii() {
            push(&mut records, b"path", self.name);
        }
        if self.link.len() > 100 || !self.link.is_ascii() {
            push(&mut records, b"linkpath", self.link);
        }
        for (key, number, most) in [
            ("uid", u64::from(self.uid), MOST_ID),
            ("gid", u64::from(self.gid), MOST_ID),
            ("size", self.size, MOST),
        ] {
            if number > most {
                push(&mut records, key.as_bytes(), number.to_string().as_bytes());
            }
        }
        if u64::try_from(self.modified).map_or(true, |seconds| seconds > MOST) {
            push(&mut records, b"mtime", self.modified.to_string().as_bytes());
        }
        for (name, value) in self.attributes {
            push(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        records
    }
}

/// The name, or its beginning where a record has all of it.
fn set_name(header: &mut Header, name: &[u8]) {
    put(&mut header.as_old_mut().name, name);
}

fn put(field: &mut [u8; 100], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// `LENGTH KEY=VALUE\n`, whose length counts its own digits.
fn push(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Zeros up to the next block.
pub(crate) fn pad(output: &mut impl Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 {
        return Ok(());
    }
    output.write_all(&[0; BLOCK][over..])
}

/// The end of an archive.
pub(crate) fn end(output: &mut impl Write) -> io::Result<()> {
    output.write_all(&[0; 2 * BLOCK])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        for length in [1, 88, 89, 90, 91, 92, 985, 986, 987, 988, 989, 990] {
            let mut record = Vec::new();
            push(&mut record, b"path", &vec![b'x'; length]);
            let said = String::from_utf8_lossy(&record);
            let said: usize = said.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len(), "{length}");
        }
    }
}
