//! A containerd, a registry and an engine for one test.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use containerd::Client;
use engine::images::{
    Credentials, ImageFilter, ImageSummary, PullEvent, PullPlatforms, PullRequest, PullStatus,
};
use engine::{Engine, Error, Settings};
use tempfile::TempDir;

use super::registry::Registry;

/// Works on every file system, also on overlayfs itself.
pub(crate) const SNAPSHOTTER: &str = "native";

/// How long something may take that a test waits for. Only a broken program takes so long.
const HUNG: Duration = Duration::from_secs(60);

/// Everything a test needs; stopped and removed when dropped.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) registry: Registry,
    containerd: Child,
    directory: TempDir,
}

impl Rig {
    /// Starts all of it, or says why not.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let binary = std::env::var("TEST_CONTAINERD").unwrap_or("/usr/bin/containerd".into());
        if !Path::new(&binary).exists() {
            return skip(test, &format!("there is no {binary}"));
        }
        if fs::metadata("/proc/self").is_ok_and(|me| me.uid() != 0) {
            return skip(test, "containerd needs root");
        }
        let directory = tempfile::Builder::new().prefix("img").tempdir().unwrap();
        let at = directory.path();
        let containerd = start_containerd(&binary, at);
        let engine = Engine::start(settings(at)).unwrap();
        Some(Self { engine, registry: Registry::start(), containerd, directory })
    }

    pub(crate) fn containerd(&self) -> Client {
        Client::new(&self.directory.path().join("c.sock"), "test")
    }

    pub(crate) fn request(&self, name: &str) -> PullRequest {
        PullRequest {
            image: self.registry.name(name).parse().unwrap(),
            platforms: PullPlatforms::Host,
            credentials: Credentials::default(),
            meta_headers: Vec::new(),
        }
    }

    /// Pulls and gives what was told.
    pub(crate) async fn pull(&self, name: &str) -> Result<Vec<PullEvent>, Error> {
        self.pull_request(self.request(name)).await
    }

    pub(crate) async fn pull_request(&self, request: PullRequest) -> Result<Vec<PullEvent>, Error> {
        let mut pull = self.engine.pull_image(request);
        let mut events = Vec::new();
        while let Some(event) =
            tokio::time::timeout(HUNG, pull.next()).await.expect("the pull hangs")
        {
            events.push(event?);
        }
        Ok(events)
    }

    pub(crate) async fn list(&self) -> Vec<ImageSummary> {
        self.engine.list_images(&ImageFilter::default()).await.unwrap()
    }

    /// Waits until no lease and no upload is left.
    pub(crate) async fn wait_until_clean(&self) {
        let client = self.containerd();
        let clean = async {
            loop {
                let leases = client.list_leases(&[]).await.unwrap();
                let uploads = client.list_ingests(&[]).await.unwrap();
                if leases.is_empty() && uploads.is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(HUNG, clean).await.expect("leases or uploads stay");
    }

    /// Lets the garbage collector run.
    pub(crate) async fn collect_garbage(&self) {
        let client = self.containerd();
        client.create_lease("collect", containerd::Labels::new(), None).await.unwrap();
        client.delete_lease("collect", true).await.unwrap();
    }

    pub(crate) async fn has_blob(&self, digest: &str) -> bool {
        self.containerd().blob(digest).await.is_ok()
    }

    pub(crate) async fn has_snapshot(&self, chain_id: &str) -> bool {
        self.containerd().snapshotter(SNAPSHOTTER).stat(chain_id).await.is_ok()
    }

    /// A container's record as another client would make it, known to the engine.
    pub(crate) async fn foreign_container(&self, image: &str, labels: &[(&str, &str)]) -> String {
        let id = "c".repeat(64);
        let new = containerd::containers::NewContainer {
            id: id.clone(),
            image: image.to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            runtime_name: "io.containerd.runc.v2".to_owned(),
            spec: Some(containerd::Any::oci_spec(r#"{"ociVersion":"1.0.2"}"#)),
            ..containerd::containers::NewContainer::default()
        };
        self.containerd().create_container(new).await.unwrap();
        let known = async {
            while self.engine.resolve_container(&id).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(HUNG, known).await.expect("the engine does not see the container");
        id
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.containerd.kill();
        let _ = self.containerd.wait();
    }
}

/// What was told of the layers, in order.
pub(crate) fn layer_statuses(events: &[PullEvent]) -> Vec<(String, PullStatus)> {
    let layers = events.iter().filter_map(|event| match event {
        PullEvent::Layer { id, status } => Some((id.clone(), *status)),
        _ => None,
    });
    // Counts depend on how fast the machine is.
    layers
        .filter(|(_, status)| {
            !matches!(status, PullStatus::Downloading { .. } | PullStatus::Extracting { .. })
        })
        .collect()
}

pub(crate) fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:")[..12].to_owned()
}

fn settings(at: &Path) -> Settings {
    Settings {
        containerd_address: at.join("c.sock").display().to_string(),
        namespace: "test".parse().unwrap(),
        snapshotter: SNAPSHOTTER.to_owned(),
        data_root: at.join("data"),
        run_dir: at.join("run"),
        helper: at.join("helper"),
        cni_path: at.join("cni-bin"),
        cni_netconf_path: at.join("cni"),
        hosts_dirs: Vec::new(),
        cgroup_manager: Some("none".to_owned()),
        bridge_ip: None,
        keep_stopped: 0,
        manage_cri: false,
        insecure_registry: false,
        transfer_limits: engine::images::TransferLimits::default(),
        registries: engine::images::RegistrySettings::default(),
        debug: false,
        buildkit_host: None,
    }
}

fn start_containerd(binary: &str, at: &Path) -> Child {
    let config = format!(
        "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\noom_score = 0\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{0}/c.sock\"\n[ttrpc]\naddress = \"{0}/c.sock.ttrpc\"\n",
        at.display()
    );
    fs::write(at.join("config.toml"), config).unwrap();
    let mut child = Command::new(binary)
        .arg("--config")
        .arg(at.join("config.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(at.join("log")).unwrap())
        .spawn()
        .unwrap();
    while UnixStream::connect(at.join("c.sock")).is_err() {
        let log = || fs::read_to_string(at.join("log")).unwrap_or_default();
        assert!(child.try_wait().unwrap().is_none(), "containerd ended: {}", log());
        thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Says that a test did not run. Not with `eprintln!`, which the test harness swallows.
fn skip<T>(test: &str, reason: &str) -> Option<T> {
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {reason}");
    None
}
