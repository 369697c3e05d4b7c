//! systemd's journal, spoken to over its own socket (systemd "Native Journal Protocol").
//!
//! The fields are Docker's (moby `daemon/logger/journald/journald.go`), so that `journalctl CONTAINER_NAME=web` finds them.
//! nerdctl reads its own journald containers by `SYSLOG_IDENTIFIER`, which is the short id unless a tag is set.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};

use super::LogLine;
use super::clock::TimeText;
use crate::frames::Stream;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Priorities of the two streams (`syslog.h`).
const INFO: &str = "6";
const ERROR: &str = "3";

/// The journal.
#[derive(Debug)]
pub(super) struct Journald {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Fields of every entry, as they are sent.
    fields: Vec<u8>,
    /// Tells the runs of a container apart.
    epoch: String,
    ordinal: u64,
    times: TimeText,
    buffer: Vec<u8>,
}

impl Journald {
    /// Not connected yet.
    pub(super) fn new(path: impl AsRef<Path>, fields: &BTreeMap<String, String>) -> Self {
        let epoch = random_id();
        let mut encoded = Vec::new();
        for (name, value) in fields {
            field(&mut encoded, name, value.as_bytes());
        }
        field(&mut encoded, "CONTAINER_LOG_EPOCH", epoch.as_bytes());
        Self {
            path: path.as_ref().to_owned(),
            socket: None,
            fields: encoded,
            epoch,
            ordinal: 0,
            times: TimeText::default(),
            buffer: Vec::new(),
        }
    }

    /// Whether there is a journal.
    pub(super) fn open(&mut self) -> Result<(), String> {
        let enabled = UnixDatagram::unbound().and_then(|probe| probe.connect(&self.path));
        enabled.map_err(|_| "journald is not enabled on this host".to_owned())
    }

    /// Send a line as one entry.
    pub(super) fn send(&mut self, line: &LogLine<'_>) -> io::Result<()> {
        self.encode(line);
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            self.socket = Some(socket);
        }
        let Some(socket) = &self.socket else { return Ok(()) };
        // By name, so that the journal may be started anew.
        match socket.send_to(&self.buffer, &self.path) {
            Ok(_) => {}
            Err(error) if is_too_large(&error) => send_as_file(socket, &self.path, &self.buffer)?,
            Err(error) => return Err(error),
        }
        self.ordinal += 1;
        Ok(())
    }

    fn encode(&mut self, line: &LogLine<'_>) {
        let out = &mut self.buffer;
        out.clear();
        let priority = if line.stream == Stream::Stderr { ERROR } else { INFO };
        field(out, "PRIORITY", priority.as_bytes());
        field(out, "MESSAGE", line.bytes.strip_suffix(b"\n").unwrap_or(line.bytes));
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(b"SYSLOG_TIMESTAMP=");
        self.times.write(out, line.time);
        out.push(b'\n');
        field(out, "CONTAINER_LOG_ORDINAL", (self.ordinal + 1).to_string().as_bytes());
        if let Some(part) = line.part {
            let id = format!("{}{:016x}", &self.epoch[..48], part.line);
            field(out, "CONTAINER_PARTIAL_ID", id.as_bytes());
            field(out, "CONTAINER_PARTIAL_ORDINAL", part.ordinal.to_string().as_bytes());
            field(out, "CONTAINER_PARTIAL_LAST", part.is_last.to_string().as_bytes());
            if !part.is_last {
                field(out, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
    }
}

/// `NAME=value`, or with the length in front if the value has newlines.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&u64::try_from(value.len()).unwrap_or_default().to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn is_too_large(error: &io::Error) -> bool {
    let large = [Errno::MSGSIZE, Errno::NOBUFS].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| large.contains(&code))
}

/// An entry that is no datagram: its bytes in a file without a name, whose descriptor is sent.
fn send_as_file(socket: &UnixDatagram, journal: &Path, entry: &[u8]) -> io::Result<()> {
    let file = rustix::fs::memfd_create("log-entry", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(entry)?;
    let fds = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let address = SocketAddrUnix::new(journal)?;
    rustix::net::sendmsg_addr(
        socket,
        &address,
        &[IoSlice::new(&[])],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// 64 characters that no other run has.
fn random_id() -> String {
    let mut bytes = [0_u8; 32];
    // Without random bytes entries of two runs could be confused, no more.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read as _, Seek as _};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    use super::*;
    use crate::log::Part;
    use crate::log::clock::Clock;

    /// A journal that keeps what it gets.
    struct Journal {
        dir: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Journal {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(dir.path().join("socket")).unwrap();
            Self { dir, socket }
        }

        fn client(&self, fields: &[(&str, &str)]) -> Journald {
            let fields = fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            Journald::new(self.dir.path().join("socket"), &fields)
        }

        /// The fields of the next entry.
        fn next(&self) -> BTreeMap<String, Vec<u8>> {
            let mut bytes = vec![0; 1 << 20];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::empty(),
            )
            .unwrap();
            bytes.truncate(received.bytes);
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    for fd in fds {
                        let mut file = File::from(fd);
                        file.rewind().unwrap();
                        file.read_to_end(&mut bytes).unwrap();
                    }
                }
            }
            decoded(&bytes)
        }
    }

    fn decoded(mut rest: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let line = &rest[..end];
            rest = &rest[end + 1..];
            let (name, value) = match line.iter().position(|byte| *byte == b'=') {
                Some(at) => (&line[..at], line[at + 1..].to_vec()),
                None => {
                    let (length, after) = rest.split_first_chunk::<8>().unwrap();
                    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                    let value = after[..length].to_vec();
                    assert_eq!(after[length], b'\n');
                    rest = &after[length + 1..];
                    (line, value)
                }
            };
            let name = String::from_utf8(name.to_vec()).unwrap();
            assert!(fields.insert(name, value).is_none());
        }
        fields
    }

    fn line(stream: Stream, bytes: &[u8], part: Option<Part>) -> LogLine<'_> {
        LogLine { stream, bytes, time: Clock::default().now(), part }
    }

    #[test]
    fn an_entry_has_dockers_fields() {
        let journal = Journal::new();
        let mut client = journal.client(&[("CONTAINER_NAME", "web"), ("NOTE", "two\nlines")]);
        assert_eq!(client.open(), Ok(()));
        client.send(&line(Stream::Stdout, b"hello\n", None)).unwrap();
        client.send(&line(Stream::Stderr, b"bad=1\n", None)).unwrap();
        let first = journal.next();
        assert_eq!(first["MESSAGE"], b"hello");
        assert_eq!(first["PRIORITY"], b"6");
        assert_eq!(first["CONTAINER_NAME"], b"web");
        assert_eq!(first["NOTE"], b"two\nlines");
        assert_eq!(first["CONTAINER_LOG_ORDINAL"], b"1");
        let time = String::from_utf8(first["SYSLOG_TIMESTAMP"].clone()).unwrap();
        time.parse::<jiff::Timestamp>().unwrap();
        let second = journal.next();
        assert_eq!((&second["MESSAGE"][..], &second["PRIORITY"][..]), (&b"bad=1"[..], &b"3"[..]));
        assert_eq!(second["CONTAINER_LOG_ORDINAL"], b"2");
        assert_eq!(second["CONTAINER_LOG_EPOCH"], first["CONTAINER_LOG_EPOCH"]);
        assert!(!second.keys().any(|name| name.starts_with("CONTAINER_PARTIAL")));
    }

    #[test]
    fn parts_of_a_line_say_so() {
        let journal = Journal::new();
        let mut client = journal.client(&[]);
        let part = |ordinal, is_last| Some(Part { line: 7, ordinal, is_last });
        client.send(&line(Stream::Stdout, b"first", part(1, false))).unwrap();
        client.send(&line(Stream::Stdout, b"last\n", part(2, true))).unwrap();
        let (first, last) = (journal.next(), journal.next());
        assert_eq!(first["CONTAINER_PARTIAL_MESSAGE"], b"true");
        assert_eq!(
            (&first["CONTAINER_PARTIAL_ORDINAL"][..], &first["CONTAINER_PARTIAL_LAST"][..]),
            (&b"1"[..], &b"false"[..])
        );
        assert_eq!(
            (&last["CONTAINER_PARTIAL_ORDINAL"][..], &last["CONTAINER_PARTIAL_LAST"][..]),
            (&b"2"[..], &b"true"[..])
        );
        assert_eq!(first["CONTAINER_PARTIAL_ID"], last["CONTAINER_PARTIAL_ID"]);
        assert_eq!(first["CONTAINER_PARTIAL_ID"].len(), 64);
        assert!(!last.contains_key("CONTAINER_PARTIAL_MESSAGE"));
    }

    #[test]
    fn an_entry_that_is_too_large_for_a_datagram_goes_as_a_file() {
        let journal = Journal::new();
        let large = "x".repeat(4 << 20);
        let mut client = journal.client(&[("LABEL", &large)]);
        client.send(&line(Stream::Stdout, b"hello\n", None)).unwrap();
        let entry = journal.next();
        assert_eq!(
            (entry["MESSAGE"].as_slice(), entry["LABEL"].len()),
            (&b"hello"[..], large.len())
        );
    }

    #[test]
    fn a_journal_that_does_not_read_is_busy_and_no_journal_is_said() {
        let journal = Journal::new();
        let mut client = journal.client(&[]);
        let busy = (0..100_000)
            .find_map(|_| client.send(&line(Stream::Stdout, b"x\n", None)).err())
            .expect("its queue has an end");
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        let ordinal = client.ordinal;
        journal.next();
        client.send(&line(Stream::Stdout, b"y\n", None)).unwrap();
        assert_eq!(client.ordinal, ordinal + 1);
        let mut nobody = Journald::new("/nowhere/journal", &BTreeMap::new());
        assert_eq!(nobody.open(), Err("journald is not enabled on this host".to_owned()));
    }
}
