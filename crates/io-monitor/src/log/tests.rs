//! A log that is busy, one that drops, and what is told of both.

use std::os::unix::net::UnixDatagram;

use super::*;
use crate::log_config::{JsonFileOptions, RemoteOptions};

fn piece(text: &str) -> Piece<'_> {
    Piece { bytes: text.as_bytes(), continues: false, ends: true }
}

/// A log with a journal of ours at its end, as direct writer.
struct Rig {
    dir: tempfile::TempDir,
    journal: UnixDatagram,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = UnixDatagram::bind(dir.path().join("journal")).unwrap();
        Self { dir, journal }
    }

    fn sinks(&self) -> Sinks {
        let fields = std::collections::BTreeMap::new();
        let path = self.dir.path().join("journal");
        Sinks::of(sinks::Remote::Journald(journald::Journald::new(path, &fields)))
    }

    fn log(&self, writer: Writer) -> Log {
        let begun = [BegunLine::default(); 2];
        Log { clock: Clock::default(), begun, long_lines: 0, has_file: false, writer }
    }

    /// Number of entries that wait in the journal; reads them.
    fn received(&self) -> u64 {
        self.journal.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let count = std::iter::from_fn(|| self.journal.recv(&mut buffer).ok()).count();
        count.try_into().unwrap()
    }
}

#[test]
fn a_busy_log_takes_the_same_piece_later() {
    let rig = Rig::new();
    let mut log = rig.log(Writer::Direct(Box::new(rig.sinks())));
    let taken = (0..100_000).take_while(|_| log.push(Stream::Stdout, &piece("x\n"))).count();
    assert!(taken < 100_000, "its queue has an end");
    let taken = u64::try_from(taken).unwrap();
    assert_eq!(log.counters(), Counters { entries: taken, ..Counters::default() });
    assert_eq!(rig.received(), taken);
    assert!(log.push(Stream::Stdout, &piece("x\n")));
    assert_eq!(log.close().counters().entries, taken + 1);
    assert_eq!(rig.received(), 1);
}

#[test]
fn at_the_end_a_busy_log_loses_and_says_so() {
    let rig = Rig::new();
    let mut log = rig.log(Writer::Direct(Box::new(rig.sinks())));
    while log.push(Stream::Stdout, &piece("x\n")) {}
    let by = Instant::now() + Duration::from_millis(20);
    log.push_by(Stream::Stdout, &piece("last words\n"), by);
    assert_eq!(log.close().counters().lost, 1);
}

#[test]
fn a_ring_never_waits_and_drops_what_has_no_room() {
    const LINES: u64 = 20_000;
    let rig = Rig::new();
    let mut log = rig.log(Writer::Ring(Ring::new(rig.sinks(), 50_000)));
    for _ in 0..LINES {
        assert!(log.push(Stream::Stdout, &piece("a line of output\n")));
    }
    let reader = std::thread::spawn(move || {
        let mut received = 0;
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            received += rig.received();
            std::thread::sleep(Duration::from_millis(1));
        }
        received
    });
    let counters = log.close().counters();
    assert_eq!(counters.entries + counters.lost, LINES);
    assert!(counters.lost > 0, "the ring has an end");
    assert_eq!(reader.join().unwrap(), counters.entries);
}

#[test]
fn a_ring_writes_a_file_in_order_and_knows_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    let file = JsonFileOptions {
        path: path.clone(),
        max_size: 1_000_000,
        max_files: None,
        compress: false,
        attributes: std::collections::BTreeMap::new(),
    };
    let config = LogConfig { file: Some(file), ring: Some(1_000_000), ..LogConfig::default() };
    let (log, opened) = Log::open(&config);
    assert!(opened.is_ok());
    let mut log = log.unwrap();
    for number in 0..1000 {
        log.push(Stream::Stdout, &piece(&format!("{number}\n")));
    }
    let mark = log.mark().unwrap();
    assert_eq!(mark.offset, std::fs::metadata(&path).unwrap().len());
    assert_eq!(log.counters().entries, 1000);
    log.close().settle();
    let text = std::fs::read_to_string(&path).unwrap();
    for (number, line) in text.lines().enumerate() {
        assert!(line.starts_with(&format!("{{\"log\":\"{number}\\n\"")), "{line}");
    }
}

#[test]
fn a_log_that_is_elsewhere_and_not_there_is_an_error_and_still_counts() {
    let options = crate::log_config::SyslogOptions {
        address: crate::log_config::SyslogAddress::Unixgram("/nowhere/log".into()),
        ..crate::log_config::SyslogOptions::default()
    };
    let remote = Some(RemoteOptions::Syslog { options, tag: "t".into() });
    let (log, opened) = Log::open(&LogConfig { remote, ..LogConfig::default() });
    assert!(matches!(opened, Err(OpenError::Driver(message)) if message.starts_with("dial ")));
    let mut log = log.unwrap();
    assert!(log.push(Stream::Stdout, &piece("lost\n")));
    assert_eq!(log.counters().lost, 1);
    let (nothing, opened) = Log::open(&LogConfig::default());
    assert!(nothing.is_none() && opened.is_ok());
}
