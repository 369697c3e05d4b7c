//! The `binary://` front end, started as containerd's shim starts a logger: rows 13 to 15 of the table.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use io_monitor::client::Monitor;
use io_monitor::frames::{AttachRequest, End, StdinState};
use io_monitor::{BINARY_KEY, runtime_dir, socket_path};

use crate::rig::{BOTH, LIMIT, PROGRAM, entries, signal, until};

/// A logger as the shim's child, and the shim's ends of its pipes.
struct Logger {
    dir: tempfile::TempDir,
    child: Child,
    out: Option<PipeWriter>,
    err: Option<PipeWriter>,
    ready: PipeReader,
}

impl Logger {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ds").tempdir().unwrap();
        let state = dir.path().join("containers").join("default").join("c1");
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("log-config.json"), r#"{"driver":"json-file"}"#).unwrap();
        let bundle = dir.path().join("bundle");
        fs::create_dir(&bundle).unwrap();
        let (out_reader, out) = std::io::pipe().unwrap();
        let (err_reader, err) = std::io::pipe().unwrap();
        let (ready, ready_writer) = std::io::pipe().unwrap();
        // The shell puts the pipes where the shim puts them.
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                r#"exec "$0" "$@" 3<&0 4<&1 5>&2 0</dev/null 1>/dev/null 2>/dev/null"#,
                PROGRAM,
            ])
            .arg(BINARY_KEY)
            .arg(dir.path())
            .env_clear()
            .env("CONTAINER_ID", "c1")
            .env("CONTAINER_NAMESPACE", "default")
            .current_dir(bundle)
            .stdin(Stdio::from(out_reader))
            .stdout(Stdio::from(err_reader))
            .stderr(Stdio::from(ready_writer))
            .spawn()
            .unwrap();
        Self { dir, child, out: Some(out), err: Some(err), ready }
    }

    /// What the shim does: one byte, or the end, means go.
    fn wait_ready(&mut self) {
        let mut byte = [0];
        assert_eq!(self.ready.read(&mut byte).unwrap(), 1, "it died");
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("containers/default/c1/c1-json.log")
    }

    fn logged(&self) -> String {
        entries(&self.log()).into_iter().map(|(_, text)| text).collect()
    }

    fn out(&mut self, text: &str) {
        self.out.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn sigterm(&self) {
        signal(self.child.id(), rustix::process::Signal::TERM);
    }

    async fn connect(&self) -> Monitor {
        Monitor::connect(&socket_path(&runtime_dir(self.dir.path()), "c1")).await.unwrap()
    }

    async fn ends(mut self) {
        let child = &mut self.child;
        let mut status = None;
        until("the logger ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        assert!(status.unwrap().success());
        assert!(!socket_path(&runtime_dir(self.dir.path()), "c1").exists());
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(runtime_dir(self.dir.path()));
        // Only if nothing else of ours is there.
        let _ = fs::remove_dir(runtime_dir(self.dir.path()).parent().unwrap());
    }
}

#[tokio::test]
async fn row_13_deletion_of_the_task() {
    let mut logger = Logger::start();
    logger.wait_ready();
    let monitor = logger.connect().await;
    assert_eq!((monitor.hello().stdin, monitor.hello().started), (StdinState::None, true));
    let mut client = monitor.attach(&BOTH).await.unwrap();
    logger.out("one\ntwo");
    logger.sigterm();
    let mut got = Vec::new();
    let end = loop {
        match tokio::time::timeout(LIMIT, client.output.next()).await.unwrap().unwrap() {
            Some(io_monitor::client::AttachEvent::Output(_, bytes)) => {
                got.extend_from_slice(&bytes);
            }
            Some(io_monitor::client::AttachEvent::End(end)) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((&got[..], end), (&b"one\ntwo"[..], End { complete: true }));
    assert_eq!(logger.logged(), "one\ntwo");
    logger.ends().await;
}

#[tokio::test]
async fn row_13_as_the_shim_does_it_closing_the_pipes_first() {
    let mut logger = Logger::start();
    logger.wait_ready();
    logger.out(&"many lines\n".repeat(1_000));
    logger.out = None;
    logger.err = None;
    logger.sigterm();
    let log = logger.log();
    logger.child.wait().unwrap();
    assert_eq!(entries(&log).len(), 1_000);
    logger.ends().await;
}

#[tokio::test]
async fn row_14_the_init_process_ends_and_the_pipes_stay_open() {
    let mut logger = Logger::start();
    logger.wait_ready();
    let mut init = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    logger.out("running\n");
    // runc writes it once the container is made.
    fs::write(logger.dir.path().join("bundle/init.pid"), init.id().to_string()).unwrap();
    until("logged", || logger.log().exists() && logger.logged() == "running\n").await;
    assert!(logger.child.try_wait().unwrap().is_none());
    logger.out("last words");
    init.kill().unwrap();
    init.wait().unwrap();
    let log = logger.log();
    logger.ends().await;
    assert!(!log.exists(), "the directory went with the logger");
}

#[tokio::test]
async fn row_14_leaves_a_whole_log() {
    let mut logger = Logger::start();
    logger.wait_ready();
    let mut init = Command::new("/bin/true").spawn().unwrap();
    let pid = init.id();
    logger.out("last words");
    init.wait().unwrap();
    fs::write(logger.dir.path().join("bundle/init.pid"), pid.to_string()).unwrap();
    until("the logger ends", || logger.child.try_wait().unwrap().is_some()).await;
    assert_eq!(logger.logged(), "last words");
    logger.ends().await;
}

#[tokio::test]
async fn row_15_a_terminal_whose_stderr_pipe_never_ends() {
    let mut logger = Logger::start();
    logger.wait_ready();
    logger.out("$ exit\r\n");
    logger.out = None;
    until("the logger ends", || logger.child.try_wait().unwrap().is_some()).await;
    assert_eq!(logger.logged(), "$ exit\r\n");
    logger.ends().await;
}

#[tokio::test]
async fn a_terminal_whose_stderr_pipe_ends_at_once_goes_on() {
    let mut logger = Logger::start();
    logger.wait_ready();
    logger.err = None;
    let mut client =
        logger.connect().await.attach(&AttachRequest { stdout: true, ..BOTH }).await.unwrap();
    logger.out("still on\n");
    let event = tokio::time::timeout(LIMIT, client.output.next()).await.unwrap().unwrap();
    assert!(
        matches!(event, Some(io_monitor::client::AttachEvent::Output(_, bytes)) if bytes == "still on\n")
    );
    logger.out = None;
    logger.ends().await;
}

#[tokio::test]
async fn a_logger_without_a_place_for_its_log_still_reads() {
    let mut logger = Logger::start();
    logger.wait_ready();
    // As after `rm -f` by somebody else while the container runs.
    fs::remove_dir_all(logger.dir.path().join("containers")).unwrap();
    for _ in 0..100 {
        logger.out(&"never blocks\n".repeat(1_000));
    }
    logger.out = None;
    logger.err = None;
    logger.ends().await;
}
