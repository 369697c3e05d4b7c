//! A syslog server, in the formats that Docker's driver has (moby `daemon/logger/syslog`, RackSec/srslog).
//!
//! Nothing here waits but a connection that is made anew, and that only shortly and once a second: until then lines are
//! lost and counted, as a server that is away must not stop its containers for good.

mod tls;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Zoned;
use jiff::tz::TimeZone;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio_rustls::rustls::ClientConfig;

use super::LogLine;
use crate::frames::Stream;
use crate::log_config::{SyslogAddress, SyslogFormat, SyslogOptions, host_name};

/// Where programs on the same host find their syslog.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

/// Severities of the two streams.
const INFO: u8 = 6;
const ERROR: u8 = 3;

/// How long a server may take to answer before it counts as away.
const CONNECT: Duration = Duration::from_millis(500);

/// How long the first time, when the container has not begun.
const FIRST_CONNECT: Duration = Duration::from_secs(5);

/// How long one that is away is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A server.
#[derive(Debug)]
pub(super) struct Syslog {
    options: SyslogOptions,
    tag: String,
    host: String,
    zone: TimeZone,
    /// Of a name, asked once: a resolver that hangs must not stop a container.
    resolved: Vec<SocketAddr>,
    /// How it is spoken to over TLS.
    trust: Option<Arc<ClientConfig>>,
    connection: Option<Connection>,
    /// Not before then.
    next_try: Option<Instant>,
    message: Vec<u8>,
    /// The rest of a message that went out in part.
    unsent: Vec<u8>,
}

#[derive(Debug)]
enum Connection {
    UnixDatagram(UnixDatagram),
    UnixStream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(tls::Tls),
}

impl Syslog {
    /// Not connected yet.
    pub(super) fn new(options: SyslogOptions, tag: String) -> Self {
        Self {
            options,
            tag,
            host: host_name(),
            zone: TimeZone::system(),
            resolved: Vec::new(),
            trust: None,
            connection: None,
            next_try: None,
            message: Vec::new(),
            unsent: Vec::new(),
        }
    }

    /// Find the server and connect.
    pub(super) fn open(&mut self) -> Result<(), String> {
        if let SyslogAddress::Tls(_) = self.options.address {
            self.trust = Some(tls::config(&self.options.tls)?);
        }
        if let SyslogAddress::Udp(name) | SyslogAddress::Tcp(name) | SyslogAddress::Tls(name) =
            &self.options.address
        {
            let found = name.to_socket_addrs().map_err(|error| format!("dial {name}: {error}"))?;
            self.resolved = found.collect();
        }
        self.connect(FIRST_CONNECT).map_err(|error| match &self.options.address {
            SyslogAddress::Local => "Unix syslog delivery error".to_owned(),
            SyslogAddress::Unix(path) | SyslogAddress::Unixgram(path) => {
                format!("dial {}: {error}", path.display())
            }
            SyslogAddress::Udp(name) | SyslogAddress::Tcp(name) | SyslogAddress::Tls(name) => {
                format!("dial {name}: {error}")
            }
        })
    }

    /// Send a line as one message; empty ones are not sent.
    pub(super) fn send(&mut self, line: &LogLine<'_>) -> io::Result<()> {
        let text = line.bytes.strip_suffix(b"\n").unwrap_or(line.bytes);
        if text.is_empty() {
            return Ok(());
        }
        self.flush()?;
        self.encode(line.stream, text);
        let message = std::mem::take(&mut self.message);
        let sent = self.write(&message);
        self.message = message;
        sent
    }

    /// Send the rest of the last message.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let Some(connection) = &mut self.connection else {
                // Half a message on another connection is none.
                self.unsent.clear();
                return Ok(());
            };
            match connection.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => self.connection = None,
            }
        }
        match &mut self.connection {
            Some(Connection::Tls(session)) => session.flush(),
            _ => Ok(()),
        }
    }

    /// Write a message; once more over a new connection if the old one is broken.
    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        if let Some(connection) = &mut self.connection {
            match connection.write(message) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.connection = None,
                written => return written.map(|count| self.keep(&message[count..])),
            }
        }
        self.connect_again()?;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let count = connection.write(message)?;
        self.keep(&message[count..]);
        Ok(())
    }

    fn keep(&mut self, rest: &[u8]) {
        self.unsent.extend_from_slice(rest);
    }

    fn connect_again(&mut self) -> io::Result<()> {
        if self.next_try.is_some_and(|at| Instant::now() < at) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the syslog server is away"));
        }
        self.connect(CONNECT).inspect_err(|_| self.next_try = Some(Instant::now() + PAUSE))
    }

    fn connect(&mut self, patience: Duration) -> io::Result<()> {
        let connection = match &self.options.address {
            SyslogAddress::Local => connect_local()?,
            SyslogAddress::Unix(path) => Connection::stream(path)?,
            SyslogAddress::Unixgram(path) => Connection::datagram(path)?,
            SyslogAddress::Udp(_) => first(&self.resolved, |address| {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Ok(Connection::Udp(socket))
            })?,
            SyslogAddress::Tcp(_) => first(&self.resolved, |address| {
                let stream = TcpStream::connect_timeout(address, patience)?;
                stream.set_nonblocking(true)?;
                Ok(Connection::Tcp(stream))
            })?,
            SyslogAddress::Tls(name) => {
                let Some(trust) = &self.trust else { return Err(io::ErrorKind::NotFound.into()) };
                first(&self.resolved, |address| {
                    let stream = TcpStream::connect_timeout(address, patience)?;
                    tls::Tls::connect(trust, host_of(name), stream, patience).map(Connection::Tls)
                })?
            }
        };
        self.connection = Some(connection);
        self.next_try = None;
        Ok(())
    }

    fn counts_octets(&self) -> bool {
        let modern =
            matches!(self.options.format, SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro);
        modern && matches!(self.options.address, SyslogAddress::Tls(_))
    }

    fn encode(&mut self, stream: Stream, text: &[u8]) {
        let now = Zoned::now().with_time_zone(self.zone.clone());
        let severity = if stream == Stream::Stderr { ERROR } else { INFO };
        let priority = (self.options.facility << 3) | severity;
        let (tag, pid) = (&self.tag, std::process::id());
        let host = match self.options.address {
            SyslogAddress::Local if self.host.is_empty() => "localhost",
            _ => &self.host,
        };
        let head = match self.options.format {
            SyslogFormat::Unix => format!("<{priority}>{} {tag}[{pid}]: ", stamp(&now)),
            SyslogFormat::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", stamp(&now)),
            SyslogFormat::Rfc5424 => {
                format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", rfc3339(&now, "%S"))
            }
            SyslogFormat::Rfc5424Micro => {
                format!("<{priority}>1 {} {host} {tag} {pid} {tag} - ", rfc3339(&now, "%S.%6f"))
            }
        };
        self.message.clear();
        if self.counts_octets() {
            // RFC 5425; the end of the line is part of the message.
            let length = head.len() + text.len() + 1;
            self.message.extend_from_slice(format!("{length} ").as_bytes());
        }
        self.message.extend_from_slice(head.as_bytes());
        self.message.extend_from_slice(text);
        self.message.push(b'\n');
    }
}

/// Without port and brackets.
fn host_of(name: &str) -> &str {
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Go's `time.Stamp`.
fn stamp(now: &Zoned) -> String {
    now.strftime("%b %e %H:%M:%S").to_string()
}

fn rfc3339(now: &Zoned, seconds: &str) -> String {
    let zone = if now.offset().is_zero() { "Z" } else { "%:z" };
    now.strftime(&format!("%Y-%m-%dT%H:%M:{seconds}{zone}")).to_string()
}

fn first(
    addresses: &[SocketAddr],
    connect: impl Fn(&SocketAddr) -> io::Result<Connection>,
) -> io::Result<Connection> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in addresses {
        match connect(address) {
            Ok(connection) => return Ok(connection),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn connect_local() -> io::Result<Connection> {
    let ways = [Connection::datagram, Connection::stream];
    let mut tries = ways.into_iter().flat_map(|way| LOCAL.map(|path| way(Path::new(path))));
    tries.find_map(Result::ok).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Connection {
    fn datagram(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self::UnixDatagram(socket))
    }

    fn stream(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => Ok(Self::UnixStream(socket.into())),
            // It has no time for us; to wait for it would be to hold the container.
            Err(Errno::AGAIN) => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::UnixDatagram(socket) => socket.send(bytes),
            Self::UnixStream(stream) => stream.write(bytes),
            Self::Udp(socket) => socket.send(bytes),
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(session) => session.write(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;
    use crate::log::clock::Clock;

    pub(super) fn client(address: SyslogAddress, format: SyslogFormat) -> Syslog {
        let options = SyslogOptions { address, format, ..SyslogOptions::default() };
        Syslog::new(options, "web/1".into())
    }

    pub(super) fn line(stream: Stream, text: &str) -> LogLine<'_> {
        LogLine { stream, bytes: text.as_bytes(), time: Clock::default().now(), part: None }
    }

    #[test]
    fn a_server_that_accepts_nobody_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.sock");
        let flags = SocketFlags::CLOEXEC;
        let server =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&server, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&server, 0).unwrap();
        let mut taken = Vec::new();
        let refused = loop {
            assert!(taken.len() < 16, "its backlog takes all");
            match Connection::stream(&path) {
                Ok(connection) => taken.push(connection),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }

    /// A message with its time, host and process replaced.
    fn shape(message: &[u8]) -> String {
        let text = std::str::from_utf8(message).unwrap();
        let own =
            text.replace(&host_name(), "HOST").replace(&std::process::id().to_string(), "PID");
        let digits = own.chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
        digits.collect::<String>()
    }

    #[test]
    fn every_format_over_udp() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 2048];
        for (format, expected) in [
            (SyslogFormat::Rfc3164, "<00>MMM DD 00:00:00 HOST web/0[PID]: hello\n"),
            (SyslogFormat::Unix, "<00>MMM DD 00:00:00 web/0[PID]: hello\n"),
            (SyslogFormat::Rfc5424, "<00>0 0000-00-00T00:00:00Z HOST web/0 PID web/0 - hello\n"),
            (
                SyslogFormat::Rfc5424Micro,
                "<00>0 0000-00-00T00:00:00.000000Z HOST web/0 PID web/0 - hello\n",
            ),
        ] {
            let address = SyslogAddress::Udp(server.local_addr().unwrap().to_string());
            let mut client = client(address, format);
            client.zone = TimeZone::UTC;
            client.open().unwrap();
            client.send(&line(Stream::Stdout, "\n")).unwrap();
            client.send(&line(Stream::Stdout, "hello\n")).unwrap();
            let count = server.recv(&mut buffer).unwrap();
            let got = shape(&buffer[..count]);
            let month_and_day = got.get(4..10).unwrap();
            let got = if expected.contains("MMM") {
                got.replacen(month_and_day, "MMM DD", 1)
            } else {
                got
            };
            assert_eq!(got, expected);
            assert!(buffer.starts_with(b"<30>"));
            client.send(&line(Stream::Stderr, "bad\n")).unwrap();
            server.recv(&mut buffer).unwrap();
            assert!(buffer.starts_with(b"<27>"));
        }
    }

    #[test]
    fn over_a_datagram_and_a_stream_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dgram");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut sender = client(SyslogAddress::Unixgram(path), SyslogFormat::Unix);
        sender.open().unwrap();
        sender.send(&line(Stream::Stdout, "one\n")).unwrap();
        let mut buffer = [0; 2048];
        let count = server.recv(&mut buffer).unwrap();
        assert!(buffer[..count].ends_with(b": one\n"));

        let path = dir.path().join("stream");
        let server = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut sender = client(SyslogAddress::Unix(path), SyslogFormat::Unix);
        sender.open().unwrap();
        sender.send(&line(Stream::Stdout, "two\n")).unwrap();
        let mut got = String::new();
        BufReader::new(server.accept().unwrap().0).read_line(&mut got).unwrap();
        assert!(got.ends_with(": two\n"), "{got}");
    }

    #[test]
    fn a_server_that_does_not_read_gets_whole_lines_later() {
        const LINES: usize = 20_000;
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = SyslogAddress::Tcp(server.local_addr().unwrap().to_string());
        let mut client = client(address, SyslogFormat::Unix);
        client.open().unwrap();
        let (accepted, _) = server.accept().unwrap();
        let text = |number: usize| format!("{number:0500}\n");
        let mut reader = Some(accepted);
        let mut reading = None;
        let mut was_busy = false;
        for number in 0..LINES {
            while let Err(error) = client.send(&line(Stream::Stdout, &text(number))) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                was_busy = true;
                if let Some(stream) = reader.take() {
                    reading = Some(std::thread::spawn(move || {
                        BufReader::new(stream).lines().map(Result::unwrap).collect::<Vec<_>>()
                    }));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        while client.flush().is_err() {}
        drop(client);
        assert!(was_busy);
        let got = reading.unwrap().join().unwrap();
        assert_eq!(got.len(), LINES);
        assert!((0..LINES).all(|number| got[number].ends_with(&text(number)[..500])));
    }

    #[test]
    fn a_server_that_went_and_came_back() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = server.local_addr().unwrap();
        let mut client = client(SyslogAddress::Tcp(place.to_string()), SyslogFormat::Unix);
        client.open().unwrap();
        drop(server.accept().unwrap());
        drop(server);
        // The first may still go into the dead connection's buffer.
        let lost = (0..3).filter(|_| client.send(&line(Stream::Stdout, "x\n")).is_err()).count();
        assert!(lost >= 1);
        let server = TcpListener::bind(place).unwrap();
        client.next_try = None;
        client.send(&line(Stream::Stdout, "back\n")).unwrap();
        let mut got = String::new();
        BufReader::new(server.accept().unwrap().0).read_line(&mut got).unwrap();
        assert!(got.ends_with(": back\n"));
    }

    #[test]
    fn nobody_there_is_said() {
        let mut client = client(SyslogAddress::Unixgram("/nowhere/log".into()), SyslogFormat::Unix);
        assert!(client.open().unwrap_err().starts_with("dial /nowhere/log: "));
    }
}
