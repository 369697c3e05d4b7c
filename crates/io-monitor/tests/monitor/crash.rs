//! kill −9 of monitors while the container writes.

use std::time::Duration;

use io_monitor::client::{self, AttachEvent};
use io_monitor::fifos;
use io_monitor::frames::{AttachRequest, StdinState};

use crate::rig::{BOTH, Container, Shim};

/// Numbered lines with more than a number in them, so that a torn one is seen.
fn line(number: u32) -> String {
    format!("line {number:07} of the container's output\n")
}

/// Every line is there, in order; only whole batches may be there twice.
fn check(texts: &[String], count: u32) -> usize {
    let mut next = 0;
    let mut repeated = 0;
    for text in texts {
        let number: u32 = text
            .get(5..12)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("torn: {text:?}"));
        assert_eq!(*text, line(number), "torn");
        if number < next {
            repeated += 1;
        } else {
            assert_eq!(number, next, "lost");
            next += 1;
        }
    }
    assert_eq!(next, count, "lost at the end");
    repeated
}

#[tokio::test]
async fn no_line_is_lost_when_monitors_are_killed() {
    const LINES: u32 = 40_000;
    let mut container = Container::new();
    let mut monitor = container.spawn().await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    // What the daemon does after the start, so that nerdctl cannot open these FIFOs.
    let private = container.dir.path().join("private");
    std::fs::rename(&container.options.fifo_dir, &private).unwrap();
    // And this, so that what a killed monitor left unread outlives the container.
    let hold = fifos::Hold::new(&private).unwrap();
    container.options.fifo_dir = private;
    container.options.started = true;
    let writer = tokio::task::spawn_blocking(move || {
        for number in 0..LINES {
            shim.out(&line(number));
            if number % 10 == 0 {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    });
    let mut kills = 0;
    while !writer.is_finished() {
        // Moments that are spread over whatever the monitor does.
        tokio::time::sleep(Duration::from_micros(20_000 + 1_731 * kills)).await;
        monitor.kill().await;
        kills += 1;
        monitor = container.spawn().await;
    }
    writer.await.unwrap();
    assert!(kills > 3);
    client::drain(&container.options.socket, Duration::from_secs(5)).await.unwrap();
    monitor.ends().await;
    let texts: Vec<String> = container.logged().into_iter().map(|(_, text)| text).collect();
    check(&texts, LINES);
    drop(hold);
}

#[tokio::test]
async fn a_hold_covers_the_time_without_a_monitor_even_if_the_container_ends() {
    let mut container = Container::new();
    let monitor = container.spawn().await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    let hold = fifos::Hold::new(&container.options.fifo_dir).unwrap();
    monitor.kill().await;
    shim.out("written while nobody reads\n");
    shim.err("this too");
    drop(shim);
    container.options.started = true;
    let monitor = container.spawn().await;
    monitor.ends().await;
    let mut logged = container.logged();
    logged.sort();
    assert_eq!(logged[0].1, "this too");
    assert_eq!(logged[1].1, "written while nobody reads\n");
    drop(hold);
}

#[tokio::test]
async fn without_a_hold_and_without_a_shim_the_next_monitor_ends_at_once() {
    let mut container = Container::new();
    container.options.started = true;
    let monitor = container.spawn().await;
    monitor.ends().await;
}

#[tokio::test]
async fn a_client_comes_back_to_the_next_monitor_and_closed_stdin_stays_closed() {
    let mut container = Container::new();
    let monitor = container.spawn().await;
    let mut client = monitor.attach(AttachRequest { stdin: true, ..BOTH }).await;
    let mut shim = Shim::open(&container);
    monitor.started().await;
    client.stdin.write(b"all").await.unwrap();
    client.stdin.close().await.unwrap();
    assert!(
        matches!(client.next().await, Some(AttachEvent::StdinClosed(closed)) if closed.close_io)
    );
    monitor.kill().await;
    assert_eq!(client.next().await, None, "no End: it was killed");
    assert!(client.stdin.write(&[b'x'; 1_000_000]).await.is_err());

    container.options.started = true;
    let monitor = container.spawn().await;
    assert_eq!(monitor.connect().await.hello().stdin, StdinState::Closed);
    let mut client = monitor.attach(BOTH).await;
    shim.close_io();
    assert_eq!(shim.read_stdin(usize::MAX).await, (b"all".to_vec(), true));
    shim.out("goes on\n");
    assert_eq!(client.read(8).await, "goes on\n");
    drop(shim);
    client.rest().await;
    monitor.ends().await;
}

#[tokio::test]
async fn a_second_monitor_is_refused() {
    let container = Container::new();
    let monitor = container.spawn().await;
    let mut second = container.options.clone();
    second.state_dir = container.dir.path().join("elsewhere");
    std::fs::create_dir(&second.state_dir).unwrap();
    let error = client::spawn(&second).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("another monitor listens there"), "{text}");
    assert_eq!(monitor.connect().await.hello().container, "c1");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let container = Container::new();
    let mut options = container.options.clone();
    options.fifo_dir = container.dir.path().join("nowhere");
    let text = client::spawn(&options).await.unwrap_err().to_string();
    assert!(
        text.contains("open the FIFO directory") && text.contains("nowhere: No such file"),
        "{text}"
    );
    options.program = "/does/not/exist".into();
    let text = client::spawn(&options).await.unwrap_err().to_string();
    assert_eq!(text, "start the I/O monitor /does/not/exist");
}
