//! One probe: a process in the container, its output, its end.
//!
//! All probes of a container have the same exec id for containerd. So at most one runs at a time, and one that a killed
//! daemon left is found without a list of execs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd::Any;
use containerd::tasks::ExecTask;
use io_monitor::fifos;
use jiff::Timestamp;
use names::{ContainerId, ExecId};
use nerdctl_store::state_dir::ProbeResult;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::containers::Container;
use crate::events::translate::container_event;
use crate::{Class, Engine, Error, Result, random};

/// The id of a probe among the execs of its container.
pub(crate) const EXEC_ID: &str = "nerdctld-health";

/// Bytes of output that are kept (moby `daemon/health.go`, `maxOutputLen`).
const MAX_OUTPUT: usize = 4096;

/// How long containerd may take to start a probe (moby `daemon/health.go`), or to end one.
const PATIENCE: Duration = Duration::from_secs(30);

/// Exit code of a probe that has none.
const NO_CODE: i64 = -1;

/// How a probe ended.
enum End {
    Code(u32),
    TooLate,
}

/// Why a probe has no end.
enum Unprobed {
    /// It could not be run.
    Failed(String),
    /// containerd went away: its restart, for example.
    Interrupted,
}

impl From<Error> for Unprobed {
    fn from(error: Error) -> Self {
        match error.class() {
            Class::Unavailable => Self::Interrupted,
            _ => Self::Failed(error.message()),
        }
    }
}

impl From<containerd::Error> for Unprobed {
    fn from(error: containerd::Error) -> Self {
        if error.is_unavailable() {
            Self::Interrupted
        } else {
            Self::Failed(error.message().to_owned())
        }
    }
}

impl Engine {
    /// Run a probe, for `limit` at most. One that cannot be run has failed; nothing if containerd went away meanwhile, which
    /// says nothing of the container.
    pub(super) async fn probe(
        &self,
        container: &Container,
        command: &[String],
        limit: Duration,
    ) -> Option<ProbeResult> {
        let begun = Timestamp::now();
        let outcome = self.run_probe(container, command, limit).await;
        if matches!(outcome, Err(Unprobed::Interrupted)) {
            return None;
        }
        self.system_cache().counted().health_check(outcome.is_err());
        let (start, exit_code, output) = match outcome {
            Ok((start, End::Code(code), output)) => (start, i64::from(code), output),
            Ok((start, End::TooLate, output)) => (start, NO_CODE, too_late(limit, &output)),
            Err(Unprobed::Failed(text)) => (begun, NO_CODE, text),
            Err(Unprobed::Interrupted) => return None,
        };
        Some(ProbeResult { start, end: Timestamp::now(), exit_code, output })
    }

    /// When the process was started, how it ended, and what it wrote; or why there was none.
    async fn run_probe(
        &self,
        container: &Container,
        command: &[String],
        limit: Duration,
    ) -> std::result::Result<(Timestamp, End, String), Unprobed> {
        let id = container.id.as_str();
        let process = self.probe_process(container, command).await?;
        let mut output = Output::new(self.stream_paths(&container.id).probe)
            .map_err(|error| Unprobed::Failed(error.to_string()))?;
        let event_id = ExecId::from_random(random::bytes()?).to_string();
        self.tell_of_probe(container, "exec_create", command, &event_id);
        let fifo = output.path();
        let exec = ExecTask {
            container_id: id.to_owned(),
            exec_id: EXEC_ID.to_owned(),
            process,
            stdin: String::new(),
            stdout: fifo.clone(),
            stderr: fifo,
            terminal: false,
        };
        let started = tokio::time::timeout(PATIENCE, self.start_probe(exec)).await;
        match started {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.end_probe(&container.id).await;
                return Err(error.into());
            }
            Err(_) => {
                self.end_probe(&container.id).await;
                let text = format!("timed out starting health check for container {id}");
                return Err(Unprobed::Failed(text));
            }
        }
        self.tell_of_probe(container, "exec_start", command, &event_id);
        let start = Timestamp::now();
        let end = tokio::select! {
            exit = self.containerd().wait(id, Some(EXEC_ID)) => {
                exit.map(|exit| End::Code(exit.status)).map_err(Unprobed::from)
            }
            () = tokio::time::sleep(limit) => Ok(End::TooLate),
            never = output.read_on() => match never {},
        };
        // Also reads what is still on its way: a probe is deleted when its output is copied.
        tokio::select! {
            () = self.end_probe(&container.id) => {}
            never = output.read_on() => match never {},
        }
        output.take_rest();
        let end = end?;
        let code = match end {
            End::Code(code) => code,
            End::TooLate => 137,
        };
        let extra = [("execID", event_id), ("exitCode", code.to_string())];
        self.hub().publish(container_event(container, "exec_die", &extra));
        Ok((start, end, output.text()))
    }

    async fn start_probe(&self, exec: ExecTask) -> std::result::Result<(), containerd::Error> {
        let id = exec.container_id.clone();
        let mut made = self.containerd().exec(exec.clone()).await;
        if made.as_ref().is_err_and(containerd::Error::is_already_exists) {
            if let Ok(id) = id.parse() {
                self.end_probe(&id).await;
            }
            made = self.containerd().exec(exec).await;
        }
        made?;
        self.containerd().start_exec(&id, EXEC_ID).await.map(drop)
    }

    /// End what an earlier daemon left, if it was killed in the middle of a probe. The shim that was starting it waits for a
    /// reader of its output, and answers nothing until then.
    pub(super) async fn end_left_probe(&self, id: &ContainerId) {
        let Some(mut output) = Output::left(self.stream_paths(id).probe) else {
            return self.end_probe(id).await;
        };
        tokio::select! {
            () = self.end_probe(id) => {}
            never = output.read_on() => match never {},
        }
    }

    /// Kill the probe that runs, if one does, and forget it.
    pub(crate) async fn end_probe(&self, id: &ContainerId) {
        let ended = async {
            if self.containerd().delete_process(id.as_str(), EXEC_ID).await.is_ok() {
                return;
            }
            if self.containerd().kill(id.as_str(), Some(EXEC_ID), 9, false).await.is_err() {
                // There is none, or its container is going away.
                return;
            }
            let _ = self.containerd().wait(id.as_str(), Some(EXEC_ID)).await;
            let _ = self.containerd().delete_process(id.as_str(), EXEC_ID).await;
        };
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            tracing::warn!(container = id.as_str(), "a health check does not end");
        }
    }

    /// The container's own process with another program.
    async fn probe_process(&self, container: &Container, command: &[String]) -> Result<Any> {
        let id = container.id.as_str();
        let doing = || format!("read the process of container {id}");
        let record = self.containerd().get_container(id).await;
        let record = record.map_err(|error| self.containerd_error(doing(), error))?;
        let spec = record.spec.map(|spec| spec.value).unwrap_or_default();
        let mut spec: serde_json::Value =
            serde_json::from_slice(&spec).map_err(|error| Error::failed(doing(), error))?;
        let mut process = spec["process"].take();
        process["args"] = command.into();
        process["terminal"] = false.into();
        Ok(Any::oci_process(process.to_string()))
    }

    fn tell_of_probe(&self, container: &Container, what: &str, command: &[String], id: &str) {
        let action = format!("{what}: {}", command.join(" "));
        let extra = [("execID", id.to_owned())];
        self.hub().publish(container_event(container, action, &extra));
    }
}

/// moby `daemon/health.go`, with Go's way to write durations.
fn too_late(limit: Duration, output: &str) -> String {
    let limit = docker_duration(limit);
    match output {
        "" => format!("Health check exceeded timeout ({limit})"),
        output => format!("Health check exceeded timeout ({limit}): {output}"),
    }
}

/// Go's `time.Duration.String`.
fn docker_duration(duration: Duration) -> String {
    let fraction = |value: f64| format!("{value}");
    if duration < Duration::from_secs(1) {
        let milliseconds = duration.as_secs_f64() * 1000.0;
        return format!("{}ms", fraction((milliseconds * 1e6).round() / 1e6));
    }
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    let seconds =
        format!("{}s", fraction(Duration::new(seconds, duration.subsec_nanos()).as_secs_f64()));
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// What a probe writes: both streams in one FIFO, which goes with this.
struct Output {
    dir: PathBuf,
    pipe: pipe::Receiver,
    kept: Vec<u8>,
    more: bool,
}

impl Output {
    fn new(dir: PathBuf) -> io::Result<Self> {
        // The FIFOs of a terminal: one for both streams.
        fifos::create(&dir, true, false).map_err(io::Error::other)?;
        Self::open(dir)
    }

    /// That of a probe whose daemon was killed.
    fn left(dir: PathBuf) -> Option<Self> {
        Self::open(dir).ok()
    }

    fn open(dir: PathBuf) -> io::Result<Self> {
        // Open for writing too: there is no end of file before the shim has come, or between its two openings.
        let pipe =
            pipe::OpenOptions::new().read_write(true).open_receiver(dir.join(fifos::STDOUT))?;
        Ok(Self { dir, pipe, kept: Vec::new(), more: false })
    }

    fn path(&self) -> String {
        self.dir.join(fifos::STDOUT).display().to_string()
    }

    /// Read until dropped.
    async fn read_on(&mut self) -> std::convert::Infallible {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.read(&mut buffer).await {
                Ok(length) => self.keep(&buffer[..length]),
                // It is open for writing, so it has no end; and reading memory does not fail.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Read what is there.
    fn take_rest(&mut self) {
        let mut buffer = [0; 4096];
        // Not through tokio, which only knows what it was told while somebody waited.
        while let Ok(length @ 1..) = rustix::io::read(&self.pipe, &mut buffer) {
            self.keep(&buffer[..length]);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT - self.kept.len();
        self.more |= bytes.len() > room;
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.more {
            text.push_str("...");
        }
        text
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

fn remove(dir: &Path) {
    if let Err(error) = fifos::remove(dir) {
        tracing::warn!(%error, "the FIFO of a health check could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn output_is_kept_up_to_a_bound() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("probe");
        let mut output = Output::new(dir.clone()).unwrap();
        let mut writer = std::fs::OpenOptions::new().write(true).open(output.path()).unwrap();
        writer.write_all(&[b'x'; 4000]).unwrap();
        output.take_rest();
        assert_eq!(output.text().len(), 4000);
        writer.write_all(&[b'y'; 1000]).unwrap();
        output.take_rest();
        assert_eq!(output.text().len(), MAX_OUTPUT + 3);
        assert!(output.text().ends_with("y..."));
        drop(output);
        assert!(!dir.exists());
    }

    #[test]
    fn durations_are_gos() {
        for (milliseconds, text) in
            [(1, "1ms"), (1500, "1.5s"), (30_000, "30s"), (90_000, "1m30s"), (3_600_000, "1h0m0s")]
        {
            assert_eq!(docker_duration(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(too_late(Duration::from_secs(1), ""), "Health check exceeded timeout (1s)");
        assert_eq!(too_late(Duration::from_secs(1), "x"), "Health check exceeded timeout (1s): x");
    }
}
