//! The table of end-of-stream cases in the crate's documentation, row by row (13 to 15 are in `binary.rs`).

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use io_monitor::client::{self, AttachEvent, Monitor};
use io_monitor::frames::{AttachRequest, End, StdinClosed, StdinState};
use io_monitor::{Error, fifos};

use crate::rig::{BOTH, Container, LIMIT, Shim, until};

const COMPLETE: End = End { complete: true };

#[tokio::test]
async fn row_1_all_writers_are_gone() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out("to stdout\n");
    shim.err("to stderr\n");
    assert!(!container.lock_is_free());
    drop(shim);
    let (out, err, end) = client.rest().await;
    assert_eq!((&out[..], &err[..], end), (&b"to stdout\n"[..], &b"to stderr\n"[..], COMPLETE));
    let mut logged = container.logged();
    logged.sort();
    assert_eq!(
        logged,
        [("stderr".into(), "to stderr\n".into()), ("stdout".into(), "to stdout\n".into())]
    );
    assert!(container.lock_is_free());
    monitor.ends().await;
    assert!(matches!(
        Monitor::connect(&container.options.socket).await,
        Err(Error::NotThere { .. })
    ));
    assert_eq!(client::drain(&container.options.socket, LIMIT).await.unwrap(), None);
}

#[tokio::test]
async fn row_2_a_writer_before_started_ends_nothing() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    let path = container.options.fifo_dir.join(fifos::STDOUT);
    OpenOptions::new().write(true).open(path).unwrap().write_all(b"early\n").unwrap();
    assert_eq!(client.read(6).await, "early\n");
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out("real\n");
    assert_eq!(client.read(5).await, "real\n");
    drop(shim);
    client.rest().await;
    assert_eq!(container.logged_text(), "early\nreal\n");
    monitor.ends().await;
}

#[tokio::test]
async fn row_3_one_stream_ends_before_the_other() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out.take();
    shim.err("still here\n");
    assert_eq!(client.read(11).await, "still here\n");
    assert!(!monitor.connect().await.hello().ended);
    drop(shim);
    assert_eq!(client.rest().await.2, COMPLETE);
    monitor.ends().await;
}

#[tokio::test]
async fn row_4_a_stray_process_keeps_the_fifo_open() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out("last words\n");
    let drained =
        client::drain(&container.options.socket, Duration::from_millis(50)).await.unwrap().unwrap();
    assert!(!drained.complete);
    assert_eq!(container.logged_text(), "last words\n");
    assert!(container.lock_is_free());
    let (out, _, end) = client.rest().await;
    assert_eq!((&out[..], end), (&b"last words\n"[..], End { complete: false }));
    monitor.ends().await;
}

#[tokio::test]
async fn row_4_without_a_stray_process_drain_waits_for_the_end_only() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out("a\n");
    let mut control = monitor.connect().await;
    let (drained, ()) = tokio::join!(control.drain(Duration::from_secs(3600)), async {
        shim.out("b\n");
        drop(shim);
    });
    assert!(drained.unwrap().complete);
    assert_eq!(container.logged_text(), "a\nb\n");
    monitor.ends().await;
}

#[tokio::test]
async fn row_5_a_client_leaves() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut stays = monitor.attach(BOTH).await;
    let mut leaves = monitor.attach(AttachRequest { stdin: true, ..BOTH }).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    leaves.stdin.write(b"typed\n").await.unwrap();
    assert_eq!(shim.read_stdin(6).await, (b"typed\n".to_vec(), false));
    drop(leaves);
    shim.out("one\n");
    assert_eq!(stays.read(4).await, "one\n");
    assert_eq!(monitor.connect().await.hello().stdin, StdinState::Open);
    drop(shim);
    stays.rest().await;
    monitor.ends().await;
}

#[tokio::test]
async fn row_6_stdin_closes_after_started() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(AttachRequest { stdin: true, ..BOTH }).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    client.stdin.write(b"input").await.unwrap();
    client.stdin.close().await.unwrap();
    assert_eq!(client.next().await, Some(AttachEvent::StdinClosed(StdinClosed { close_io: true })));
    shim.close_io();
    assert_eq!(shim.read_stdin(usize::MAX).await, (b"input".to_vec(), true));
    assert!(!container.options.fifo_dir.join(fifos::STDIN).exists());
    // The container goes on and may still write.
    shim.out("done\n");
    assert_eq!(client.read(5).await, "done\n");
    drop(shim);
    assert_eq!(client.next().await, Some(AttachEvent::End(COMPLETE)));
    drop(client);
    monitor.ends().await;
}

#[tokio::test]
async fn row_7_stdin_closes_before_started() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(AttachRequest { stdin: true, ..BOTH }).await;
    client.stdin.write(b"echo x | docker run -i\n").await.unwrap();
    client.stdin.close().await.unwrap();
    assert_eq!(
        client.next().await,
        Some(AttachEvent::StdinClosed(StdinClosed { close_io: false }))
    );
    assert_eq!(monitor.connect().await.hello().stdin, StdinState::Closing);
    let mut shim = Shim::open(&container);
    let answer = monitor.connect().await.started().await.unwrap();
    assert!(answer.close_io);
    shim.close_io();
    assert_eq!(shim.read_stdin(usize::MAX).await, (b"echo x | docker run -i\n".to_vec(), true));
    // A daemon that asks again, after a restart for example, hears the same.
    assert!(monitor.connect().await.started().await.unwrap().close_io);
    drop((shim, client));
    monitor.ends().await;
}

#[tokio::test]
async fn row_8_a_client_that_does_not_read_is_cut_off() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut slow = monitor.attach(AttachRequest { patience_ms: Some(100), ..BOTH }).await;
    let mut good = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    let line = format!("{}\n", "x".repeat(999));
    let writer = tokio::task::spawn_blocking(move || {
        for _ in 0..5_000 {
            shim.out(&line);
        }
    });
    let (out, _, end) = good.rest().await;
    writer.await.unwrap();
    assert_eq!((out.len(), end), (5_000_000, COMPLETE));
    assert_eq!(container.logged().len(), 5_000);
    let mut got = 0;
    loop {
        match slow.next().await {
            Some(AttachEvent::Output(_, bytes)) => got += bytes.len(),
            Some(AttachEvent::CutOff) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(got < 5_000_000);
    assert_eq!(slow.next().await, None);
    monitor.ends().await;
}

#[tokio::test]
async fn row_9_a_client_may_read_after_the_end() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut late = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    let text = "y".repeat(600_000);
    let written = text.clone();
    // More than socket and queue hold, so that some of it is only taken while draining.
    let writer = tokio::task::spawn_blocking(move || shim.out(&written));
    let mut control = monitor.connect().await;
    until("held back", || container.logged_text().len() > 200_000).await;
    let drained = control.drain(LIMIT).await.unwrap();
    assert!(drained.complete);
    writer.await.unwrap();
    assert!(matches!(
        Monitor::connect(&container.options.socket).await,
        Err(Error::NotThere { .. })
    ));
    assert_eq!(container.logged_text(), text);
    let (out, _, end) = late.rest().await;
    assert_eq!((out.len(), end), (text.len(), COMPLETE));
    monitor.ends().await;
}

#[tokio::test]
async fn row_10_a_last_line_without_newline() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    shim.out("login: ");
    assert_eq!(client.read(7).await, "login: ");
    assert_eq!(container.logged(), [], "a line is logged when it is whole");
    shim.out("me\nand the rest");
    assert_eq!(client.read(15).await, "me\nand the rest");
    drop(shim);
    client.rest().await;
    let texts: Vec<String> = container.logged().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["login: me\n", "and the rest"]);
    monitor.ends().await;
}

#[tokio::test]
async fn row_11_nobody_came() {
    let container = Container::new();
    let monitor = container.spawn().await;
    assert!(!monitor.connect().await.hello().started);
    monitor.ends().await;
    assert!(container.lock_is_free());
}

#[tokio::test]
async fn row_11_the_daemon_died_before_it_said_started() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut shim = Shim::open(&container);
    tokio::time::sleep(io_monitor::monitor::ABANDONED + Duration::from_secs(1)).await;
    assert!(monitor.connect().await.hello().started, "it stops waiting for the word");
    shim.out("unheard\n");
    drop(shim);
    monitor.ends().await;
    assert_eq!(container.logged_text(), "unheard\n");
}

#[tokio::test]
async fn row_12_a_terminal_has_one_stream() {
    let container = Container::with(true, r#"{"driver":"json-file"}"#);
    let monitor = container.spawn().await;
    let mut client = monitor.attach(BOTH).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    assert!(monitor.connect().await.hello().tty);
    shim.out("\u{1b}[1mhi\u{1b}[0m\r\n$ ");
    drop(shim);
    let (out, err, end) = client.rest().await;
    assert_eq!((&out[..], &err[..], end), (&b"\x1b[1mhi\x1b[0m\r\n$ "[..], &b""[..], COMPLETE));
    assert_eq!(container.logged().len(), 2);
    monitor.ends().await;
}

#[tokio::test]
async fn no_start_at_all_and_told_to_go() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let drained = client::drain(&container.options.socket, Duration::ZERO).await.unwrap().unwrap();
    // Nobody ever wrote: whether that is complete nobody asks.
    let _ = drained.complete;
    monitor.ends().await;
}
