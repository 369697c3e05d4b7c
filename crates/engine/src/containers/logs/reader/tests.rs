//! Logs on disk, read in every way a request can ask for.

use fs::OpenOptions;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use super::*;

const BOTH: LogOptions =
    LogOptions { stdout: true, stderr: true, follow: false, tail: None, since: None, until: None };

/// Entry `number`, at that second.
fn line(number: u64) -> String {
    let stream = if number.is_multiple_of(2) { "stdout" } else { "stderr" };
    let time = Timestamp::from_second(i64::try_from(number).unwrap()).unwrap();
    format!("{{\"log\":\"line {number}\\n\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n")
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.fold(String::new(), |mut text, number| {
        write!(text, "{}", line(number)).unwrap();
        text
    })
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn numbers(batch: &[LogEntry]) -> Vec<u64> {
    let number = |entry: &LogEntry| {
        let text = std::str::from_utf8(&entry.line).unwrap();
        text.strip_prefix("line ").unwrap().strip_suffix('\n').unwrap().parse().unwrap()
    };
    batch.iter().map(number).collect()
}

/// All entries until there are no more.
fn rest(reader: &mut LogReader) -> (Vec<u64>, Block) {
    let mut got = Vec::new();
    loop {
        match reader.read().unwrap() {
            Block::Entries(batch) => got.extend(numbers(&batch)),
            end => return (got, end),
        }
    }
}

fn read(path: &Path, options: LogOptions) -> Vec<u64> {
    rest(&mut LogReader::open(path.to_owned(), Format::Json, options, None).unwrap()).0
}

#[test]
fn an_idle_reader_keeps_no_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    let unfinished = line(2);
    let (begun, missing) = unfinished.split_at(10);
    append(&path, &line(1));
    append(&path, begun);
    let options = LogOptions { follow: true, ..BOTH };
    let mut reader = LogReader::open(path.clone(), Format::Json, options, None).unwrap();
    for _ in 0..2 {
        rest(&mut reader);
        assert!(reader.buffer.capacity() < 1024, "{}", reader.buffer.capacity());
    }
    append(&path, missing);
    assert_eq!(rest(&mut reader), (vec![2], Block::AtEnd), "the carried bytes stayed");
}

#[test]
fn what_is_asked_for_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    fs::write(dir.path().join("c-json.log.1"), lines(0..10)).unwrap();
    fs::write(&path, lines(10..20)).unwrap();
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let all: Vec<u64> = (0..20).collect();
    assert_eq!(read(&path, BOTH), all);
    assert_eq!(
        read(&path, LogOptions { stderr: false, tail: Some(4), ..BOTH }),
        [16, 18],
        "the choice of stream is last"
    );
    assert_eq!(read(&path, LogOptions { tail: Some(12), ..BOTH }), all[8..]);
    assert_eq!(read(&path, LogOptions { tail: Some(0), ..BOTH }), [0; 0]);
    assert_eq!(read(&path, LogOptions { since: at(17), ..BOTH }), all[17..]);
    assert_eq!(read(&path, LogOptions { until: at(3), ..BOTH }), all[..=3]);
    assert_eq!(read(&path, LogOptions { since: at(5), until: at(11), ..BOTH }), all[5..=11]);
    assert_eq!(read(&path, LogOptions { since: at(5), tail: Some(3), ..BOTH }), all[17..]);
    assert_eq!(read(&path, LogOptions { stdout: false, stderr: false, ..BOTH }), [0; 0]);
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    assert_eq!(read(&path, LogOptions { since: Some(later), ..BOTH }), [0; 0]);
    assert_eq!(read(&dir.path().join("none"), BOTH), [0; 0]);
}

#[test]
fn a_mark_ends_the_reading_wherever_it_is_by_then() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    fs::write(&path, lines(0..5)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    let mark = Some(LogMark { inode: metadata.ino(), offset: metadata.len() });
    append(&path, &lines(5..7));
    fs::rename(&path, dir.path().join("c-json.log.1")).unwrap();
    fs::write(&path, lines(7..9)).unwrap();
    let mut reader = LogReader::open(path, Format::Json, BOTH, mark).unwrap();
    assert_eq!(rest(&mut reader), (vec![0, 1, 2, 3, 4], Block::Over));
}

#[test]
fn what_comes_after_the_first_look_is_for_followers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    fs::write(&path, lines(0..20_000)).unwrap();
    let mut once = LogReader::open(path.clone(), Format::Json, BOTH, None).unwrap();
    let mut follower =
        LogReader::open(path.clone(), Format::Json, LogOptions { follow: true, ..BOTH }, None)
            .unwrap();
    assert!(matches!(once.read().unwrap(), Block::Entries(_)));
    assert!(matches!(follower.read().unwrap(), Block::Entries(_)));
    append(&path, &lines(20_000..20_010));
    let (got, end) = rest(&mut once);
    assert_eq!((got.last(), end), (Some(&19_999), Block::Over));
    let (got, end) = rest(&mut follower);
    assert_eq!((got.last(), end), (Some(&20_009), Block::AtEnd));
    append(&path, &lines(20_010..20_012));
    assert_eq!(rest(&mut follower), (vec![20_010, 20_011], Block::AtEnd));
}

#[test]
fn a_follower_goes_through_rotations_truncation_and_half_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    let rotate =
        |number: u32| fs::rename(&path, dir.path().join(format!("c-json.log.{number}"))).unwrap();
    let mut reader =
        LogReader::open(path.clone(), Format::Json, LogOptions { follow: true, ..BOTH }, None)
            .unwrap();
    assert_eq!(rest(&mut reader), (vec![], Block::AtEnd), "no log yet");
    append(&path, &lines(0..2));
    assert_eq!(rest(&mut reader).0, [0, 1]);
    // Half a line, then the other half.
    let (first, second) = (line(2), line(3));
    append(&path, &first[..20]);
    assert_eq!(rest(&mut reader).0, [0; 0]);
    append(&path, &format!("{}{second}", &first[20..]));
    assert_eq!(rest(&mut reader).0, [2, 3]);
    // Two rotations at once, with lines that were not read before the first.
    append(&path, &line(4));
    rotate(1);
    append(&path, &line(5));
    rotate(2);
    assert_eq!(rest(&mut reader), (vec![4, 5], Block::AtEnd), "between rename and creation");
    append(&path, &line(6));
    assert_eq!(rest(&mut reader).0, [6]);
    // The file we read is gone.
    append(&path, &line(7));
    fs::remove_file(&path).unwrap();
    append(&path, &line(8));
    fs::remove_file(dir.path().join("c-json.log.1")).unwrap();
    fs::remove_file(dir.path().join("c-json.log.2")).unwrap();
    assert_eq!(rest(&mut reader).0, [7, 8]);
    // logrotate's copytruncate.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(rest(&mut reader).0, [0; 0]);
    append(&path, &line(9));
    assert_eq!(rest(&mut reader).0, [9]);
}

#[test]
fn tail_with_follow_goes_on_after_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    append(&path, &format!("{}{}", lines(0..5), &line(5)[..10]));
    for (tail, expected) in [(Some(0), vec![]), (Some(2), vec![3, 4])] {
        let options = LogOptions { follow: true, tail, ..BOTH };
        let mut reader = LogReader::open(path.clone(), Format::Json, options, None).unwrap();
        assert_eq!(rest(&mut reader).0, expected);
    }
    let options = LogOptions { follow: true, tail: Some(0), ..BOTH };
    let mut reader = LogReader::open(path.clone(), Format::Json, options, None).unwrap();
    assert_eq!(rest(&mut reader).0, [0; 0]);
    append(&path, &line(5)[10..]);
    assert_eq!(rest(&mut reader).0, [5], "the line that was being written is new");
}

#[test]
fn lines_that_are_no_entries_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    append(&path, &line(0));
    append(&path, "{\"log\":\"torn\n\n\0\0\0garbage\n");
    append(&path, &line(1));
    append(&path, &"x".repeat(LONGEST_LINE + 2 * BLOCK));
    append(&path, "\n");
    append(&path, &line(2));
    assert_eq!(read(&path, BOTH), [0, 1, 2]);
}

#[test]
fn a_pods_log_with_its_rotated_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(dir.path().join("0.log.20260101-000000"), "2026-01-01T00:00:00Z stdout F line 0\n")
        .unwrap();
    fs::write(&path, "2026-01-02T00:00:00.5Z stderr P li\n2026-01-02T00:00:00.6Z stderr F ne 1\n")
        .unwrap();
    let mut reader = LogReader::open(path, Format::Cri, BOTH, None).unwrap();
    let mut texts = Vec::new();
    while let Block::Entries(batch) = reader.read().unwrap() {
        texts.extend(batch.into_iter().map(|entry| (entry.stream, entry.line)));
    }
    let expected = [
        (OutputStream::Stdout, "line 0\n"),
        (OutputStream::Stderr, "li"),
        (OutputStream::Stderr, "ne 1\n"),
    ];
    assert_eq!(texts, expected.map(|(stream, text)| (stream, Bytes::from(text))));
}

/// Compress `plain` as the monitor does.
fn compress(plain: &Path) {
    let metadata = fs::metadata(plain).unwrap();
    let to = File::create(plain.with_added_extension("gz")).unwrap();
    let comment = format!("{}{}", io_monitor::COMPRESSED_FROM, metadata.ino());
    let mut encoder =
        flate2::GzBuilder::new().comment(comment).write(to, flate2::Compression::fast());
    encoder.write_all(&fs::read(plain).unwrap()).unwrap();
    encoder.finish().unwrap().set_modified(metadata.modified().unwrap()).unwrap();
    fs::remove_file(plain).unwrap();
}

#[test]
fn compressed_files_are_read_as_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    let older = dir.path().join("c-json.log.1");
    fs::write(&older, lines(0..30_000)).unwrap();
    compress(&older);
    fs::write(dir.path().join("c-json.log.2"), lines(30_000..30_005)).unwrap();
    fs::write(&path, lines(30_005..30_010)).unwrap();
    let all: Vec<u64> = (0..30_010).collect();
    assert_eq!(read(&path, BOTH), all);
    assert_eq!(read(&path, LogOptions { tail: Some(20), ..BOTH }), all[29_990..]);
    assert_eq!(read(&path, LogOptions { tail: Some(30_000), ..BOTH }), all[10..]);
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    assert_eq!(read(&path, LogOptions { since: at(29_999), ..BOTH }), all[29_999..]);
    assert_eq!(read(&path, LogOptions { until: at(7), ..BOTH }), all[..=7]);
}

#[test]
fn a_reader_finds_its_place_when_its_file_is_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    fs::write(&path, lines(0..20_000)).unwrap();
    let options = LogOptions { follow: true, ..BOTH };
    let mut reader = LogReader::open(path.clone(), Format::Json, options, None).unwrap();
    let Block::Entries(first) = reader.read().unwrap() else { panic!("no entries") };
    let mut got = numbers(&first);
    let aside = dir.path().join("c-json.log.1");
    fs::rename(&path, &aside).unwrap();
    compress(&aside);
    // What is not read yet when this one is compressed is read from there.
    fs::write(dir.path().join("c-json.log.2"), lines(20_000..20_010)).unwrap();
    compress(&dir.path().join("c-json.log.2"));
    fs::write(&path, lines(20_010..20_020)).unwrap();
    let (rest, end) = rest(&mut reader);
    got.extend(rest);
    assert_eq!((got, end), ((0..20_020).collect(), Block::AtEnd));
}

#[test]
fn a_mark_in_a_file_that_was_compressed_meanwhile_is_not_passed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c-json.log");
    fs::write(&path, lines(0..5)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    let mark = Some(LogMark { inode: metadata.ino(), offset: metadata.len() });
    let aside = dir.path().join("c-json.log.1");
    fs::rename(&path, &aside).unwrap();
    let mut reader = LogReader::open(path, Format::Json, BOTH, mark).unwrap();
    drop(reader.open.take());
    let future = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    append(
        &aside,
        &format!("{{\"log\":\"line 9\\n\",\"stream\":\"stdout\",\"time\":\"{future}\"}}\n"),
    );
    compress(&aside);
    assert_eq!(rest(&mut reader), (vec![0, 1, 2, 3, 4], Block::Over));
}
