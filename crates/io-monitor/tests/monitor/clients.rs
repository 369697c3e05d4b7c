//! Attach clients among each other, and against the container.

use std::time::Duration;

use io_monitor::client::AttachEvent;
use io_monitor::frames::{AttachRequest, Stream};

use crate::rig::{BOTH, Container, LIMIT, Shim, until};

#[tokio::test]
async fn who_attaches_before_the_start_gets_the_first_bytes() {
    for _ in 0..20 {
        let container = Container::new();
        let monitor = container.spawn().await;
        let mut client = monitor.attach(BOTH).await;
        let mut shim = Shim::open(&container);
        shim.out("first\n");
        drop(shim);
        monitor.started().await;
        assert_eq!(client.rest().await.0, b"first\n");
        monitor.ends().await;
    }
}

#[tokio::test]
async fn each_gets_the_streams_it_asked_for() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut out_only = monitor.attach(AttachRequest { stderr: false, ..BOTH }).await;
    let mut err_only = monitor.attach(AttachRequest { stdout: false, ..BOTH }).await;
    let mut neither = monitor.attach(AttachRequest::default()).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out("o\n");
    shim.err("e\n");
    drop(shim);
    assert_eq!(out_only.rest().await.0, b"o\n");
    assert_eq!(err_only.rest().await.1, b"e\n");
    let (out, err, _) = neither.rest().await;
    assert!(out.is_empty() && err.is_empty());
    monitor.ends().await;
}

#[tokio::test]
async fn log_and_stream_fit_together_without_gap_or_overlap() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out("logged\nbegun");
    until("the line is logged", || container.logged_text() == "logged\n").await;
    let mut client = monitor.attach(BOTH).await;
    let mark = client.mark.unwrap();
    let logged = std::fs::read(container.log_path()).unwrap();
    assert_eq!(usize::try_from(mark.offset).unwrap(), logged.len());
    shim.out(" line\nlater\n");
    assert_eq!(client.read(17).await, "begun line\nlater\n");
    // The same when the beginning of the line was taken into memory.
    shim.out("again");
    assert_eq!(client.read(5).await, "again");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut second = monitor.attach(BOTH).await;
    shim.out(" done\n");
    assert_eq!(second.read(11).await, "again done\n");
    assert_eq!(client.read(6).await, " done\n");
    drop(shim);
    client.rest().await;
    second.rest().await;
    assert_eq!(container.logged_text(), "logged\nbegun line\nlater\nagain done\n");
    monitor.ends().await;
}

#[tokio::test]
async fn who_follows_the_log_hears_when_it_has_grown() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client =
        monitor.attach(AttachRequest { log_news: true, ..AttachRequest::default() }).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    for number in 0..50 {
        shim.out(&format!("{number}\n"));
        assert_eq!(client.next().await, Some(AttachEvent::Logged));
        assert_eq!(container.logged().len(), number + 1);
    }
    // However much comes meanwhile, one frame waits.
    let text = "more\n".repeat(10_000);
    let mut shim = tokio::task::spawn_blocking(move || {
        shim.out(&text);
        shim
    })
    .await
    .unwrap();
    until("all is logged", || container.logged().len() == 10_050).await;
    let mut frames = 0;
    while let Ok(event) =
        tokio::time::timeout(Duration::from_millis(100), client.output.next()).await
    {
        assert_eq!(event.unwrap(), Some(AttachEvent::Logged));
        frames += 1;
    }
    assert!((1..=10_000).contains(&frames));
    shim.err("last without newline");
    drop(shim);
    assert!(client.rest().await.0.is_empty());
    monitor.ends().await;
}

#[tokio::test]
async fn a_patient_client_holds_the_container_back_and_loses_nothing() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    let writer = tokio::task::spawn_blocking(move || {
        for number in 0..200_000 {
            shim.out(&format!("{number:09}\n"));
        }
    });
    let mut control = monitor.connect().await;
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !control.stats().await.unwrap().held_back {
        assert!(tokio::time::Instant::now() < deadline, "never held back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!writer.is_finished());
    let (out, _, _) = client.rest().await;
    writer.await.unwrap();
    let expected: String = (0..200_000).map(|number| format!("{number:09}\n")).collect();
    assert!(out == expected.as_bytes(), "what came differs, {} bytes", out.len());
    assert!(container.logged_text() == expected);
    drop(control);
    monitor.ends().await;
}

#[tokio::test]
async fn stdin_waits_for_the_container_and_does_not_mix() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut one = monitor.attach(AttachRequest { stdin: true, ..AttachRequest::default() }).await;
    let mut two = monitor.attach(AttachRequest { stdin: true, ..AttachRequest::default() }).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    let writing = async {
        let (a, b) = (vec![b'a'; 300_000], vec![b'b'; 300_000]);
        let (first, second) = tokio::join!(one.stdin.write(&a), two.stdin.write(&b));
        first.unwrap();
        second.unwrap();
    };
    let ((), (got, ended)) = tokio::join!(writing, shim.read_stdin(600_000));
    assert!(!ended);
    assert_eq!(got.iter().filter(|byte| **byte == b'a').count(), 300_000);
    // Pieces of 16 KiB are whole.
    let runs = got.chunk_by(|a, b| a == b).map(<[u8]>::len);
    assert!(
        runs.clone().all(|run| run % 16_384 == 0 || run % 16_384 == 300_000 % 16_384),
        "{:?}",
        runs.collect::<Vec<_>>()
    );
    // A control connection is not stuck behind stdin that nobody reads.
    let much = vec![b'c'; 2_000_000];
    let stuck = one.stdin.write(&much);
    assert!(tokio::time::timeout(Duration::from_millis(200), stuck).await.is_err());
    assert_eq!(monitor.connect().await.stats().await.unwrap().clients, 3);
    drop((one, two, shim));
    monitor.ends().await;
}

#[tokio::test]
async fn nonsense_ends_its_own_connection_only() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    for nonsense in
        [&b"\x01\xff\xff\xff\xff"[..], b"\x01\x00\x00\x00\x01{", b"\x05\x00\x00\x00\x02{}"]
    {
        let mut raw = tokio::net::UnixStream::connect(&container.options.socket).await.unwrap();
        raw.write_all(nonsense).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LIMIT, raw.read_to_end(&mut answer)).await.unwrap();
    }
    // A kind of the future is skipped.
    let mut raw = tokio::net::UnixStream::connect(&container.options.socket).await.unwrap();
    raw.write_all(b"\x63\x00\x00\x00\x03abc\x06\x00\x00\x00\x00").await.unwrap();
    let mut hello = [0; 5];
    raw.read_exact(&mut hello).await.unwrap();
    assert_eq!(hello[0], 128);
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.err("fine\n");
    assert_eq!(client.next().await, Some(AttachEvent::Output(Stream::Stderr, "fine\n".into())));
    drop((raw, shim));
    client.rest().await;
    monitor.ends().await;
}
