//! A containerd for tests.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use containerd::Client;
use tempfile::TempDir;

/// Which containerd, if not the distribution's: the path of the binary, its shim beside it.
const CHOICE: &str = "TEST_CONTAINERD";

/// A running containerd; stopped, with all that runs in it, when dropped.
pub(crate) struct Rig {
    binary: PathBuf,
    directory: TempDir,
    process: Mutex<Option<Child>>,
}

/// The containerd that running tests share.
static SHARED: Mutex<Weak<Rig>> = Mutex::new(Weak::new());

impl Rig {
    /// The shared containerd, or `None` (and a line on stderr) where there can be none.
    pub(crate) fn shared(test: &str) -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rig) = shared.upgrade() {
            return Some(rig);
        }
        let rig = Arc::new(Self::own(test)?);
        *shared = Arc::downgrade(&rig);
        Some(rig)
    }

    /// A containerd for one test alone.
    pub(crate) fn own(test: &str) -> Option<Self> {
        let binary = std::env::var(CHOICE).unwrap_or("/usr/bin/containerd".into());
        if !Path::new(&binary).exists() {
            skip(test, &format!("there is no {binary}"));
            return None;
        }
        if !is_root() {
            skip(test, "containerd needs root");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("ctd").tempdir().unwrap();
        let rig = Self { binary: binary.into(), directory, process: Mutex::new(None) };
        rig.write_config();
        rig.start();
        Some(rig)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory().join("c.sock")
    }

    /// A client in a namespace of its own.
    pub(crate) fn client(&self, namespace: &str) -> Client {
        Client::new(&self.socket(), namespace)
    }

    fn write_config(&self) {
        let at = self.directory().display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\noom_score = 0\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{at}/c.sock\"\n[ttrpc]\naddress = \"{at}/c.sock.ttrpc\"\n"
        );
        fs::write(self.directory().join("config.toml"), config).unwrap();
    }

    /// Starts containerd and waits until it listens.
    pub(crate) fn start(&self) {
        let log = fs::File::create(self.directory().join("log")).unwrap();
        let beside = self.binary.parent().unwrap().display();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new(&self.binary)
            .env("PATH", format!("{beside}:{path}"))
            .arg("--config")
            .arg(self.directory().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "containerd ended: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    /// Kills containerd, as a crash does.
    pub(crate) fn kill(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut process) = process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory().join("log")).unwrap_or_default()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let client = self.client("");
        // A runtime of its own in a thread of its own: the last test may drop this inside one.
        let _ = thread::spawn(move || end_all_tasks(&client)).join();
        self.kill();
    }
}

/// Kills and deletes what failed tests left running.
fn end_all_tasks(client: &Client) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for namespace in client.list_namespaces().await.unwrap_or_default() {
            let client = client.in_namespace(&namespace.name);
            for task in client.list_tasks().await.unwrap_or_default() {
                let _ = client.kill(&task.id, None, 9, true).await;
                let _ = client.wait(&task.id, None).await;
                let _ = client.delete_task(&task.id).await;
            }
        }
    });
}

/// Says that a test did not run. Not with `eprintln!`, which the test harness swallows.
pub(crate) fn skip(test: &str, reason: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {reason}");
}

/// Whether we are root: we own our entry in proc.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}
