//! A daemon of the release build that nobody uses, in a folder of its own.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// What is measured and traced: what `make install` installs.
pub(crate) const BINARY: &str = "target/release/nerdctld";

/// A traced start takes seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Ends, and takes its folder along, when dropped.
pub(crate) struct IdleDaemon {
    child: Child,
    folder: PathBuf,
}

impl IdleDaemon {
    /// Starts it on `containerd`, or without any; behind `tracer`, a program and its arguments, if that is not empty.
    ///
    /// # Errors
    /// If it does not answer.
    pub(crate) fn start(tracer: &[String], containerd: Option<&Path>) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("nerdctld-idle-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let nowhere = folder.join("containerd.sock");
        let words = tracer.iter().map(String::as_str).chain([BINARY]).collect::<Vec<_>>();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["--namespace", "nerdctld-idle", "--addr"]);
        command.arg(format!("unix://{}", folder.join("api.sock").display()));
        command.arg("--data-root").arg(folder.join("data"));
        command.arg("--containerd").arg(containerd.unwrap_or(&nowhere));
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = quiet.spawn().with_context(|| format!("start {}", words.join(" ")))?;
        let mut daemon = Self { child, folder };
        daemon.wait_until_it_answers()?;
        Ok(daemon)
    }

    fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.get("/_ping").is_err() {
            ensure!(self.child.try_wait()?.is_none(), "{BINARY} ended at once");
            ensure!(begun.elapsed() < ANSWERS_WITHIN, "{BINARY} does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The answer to one request, head and all.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut connection = UnixStream::connect(self.folder.join("api.sock"))?;
        write!(connection, "GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        ensure!(!answer.is_empty(), "no answer to {path}");
        Ok(answer)
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("the daemon has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.context("the daemon has no memory")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status()?;
        ensure!(asked.success(), "{BINARY} cannot be asked to end");
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for IdleDaemon {
    fn drop(&mut self) {
        // It may have ended; its folder goes in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
