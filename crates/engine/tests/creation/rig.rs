//! A containerd, an image in it, and an engine on top.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use containerd::Client;
use engine::containers::spec::networking::Networking;
use engine::containers::{ContainerSpec, LogDriver, NetworkMode, Recorded};
use engine::{Engine, Settings};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Which containerd, if not the distribution's: the path of the binary, its shim beside it.
const CHOICE: &str = "TEST_CONTAINERD";

/// The image that [`Rig::start`] brings.
pub(crate) const IMAGE: &str = "docker.io/library/box:latest";

const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nweb:x:33:34:web:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:44:web\n";

/// A running containerd; stopped, with all that runs in it, when dropped.
pub(crate) struct Rig {
    directory: TempDir,
    process: Child,
    snapshotter: String,
}

impl Rig {
    /// A containerd with [`IMAGE`], or `None` (and a line on stderr) where there can be none.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let binary = std::env::var(CHOICE).unwrap_or("/usr/bin/containerd".into());
        let busybox = Path::new("/bin/busybox");
        for needed in [Path::new(&binary), busybox] {
            if !needed.exists() {
                return skip(test, &format!("there is no {}", needed.display()));
            }
        }
        if !rustix::process::geteuid().is_root() {
            return skip(test, "containerd needs root");
        }
        let directory = tempfile::Builder::new().prefix("ctd").tempdir().unwrap();
        let process = start_containerd(Path::new(&binary), directory.path());
        let mut rig = Self { directory, process, snapshotter: "native".into() };
        let overlay = rig.client().plugins(&["id==overlayfs"]).await.unwrap();
        if overlay.iter().any(containerd::introspection::Plugin::is_usable_snapshotter) {
            rig.snapshotter = "overlayfs".into();
        }
        rig.import(&image_archive(busybox));
        Some(rig)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("c.sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.socket(), "default")
    }

    pub(crate) fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// A new engine, as after a restart of the daemon.
    pub(crate) fn engine(&self) -> Engine {
        let at = |name: &str| self.path().join(name);
        Engine::start(Settings {
            containerd_address: self.socket().display().to_string(),
            namespace: names::Namespace::default(),
            snapshotter: self.snapshotter.clone(),
            data_root: at("data"),
            run_dir: at("run"),
            // The OCI hook: one that does nothing, and succeeds.
            helper: "/bin/true".into(),
            cni_path: at("cni/bin"),
            cni_netconf_path: at("cni/net.d"),
            hosts_dirs: Vec::new(),
            cgroup_manager: Some("cgroupfs".into()),
            bridge_ip: None,
            keep_stopped: 10,
            manage_cri: false,
            insecure_registry: false,
            transfer_limits: engine::images::TransferLimits::default(),
            registries: engine::images::RegistrySettings::default(),
            debug: false,
            buildkit_host: None,
        })
        .unwrap()
    }

    /// All files below the data root, relative to it, without the recovery folder of in-place writes.
    pub(crate) fn files(&self) -> Vec<String> {
        let root = self.path().join("data");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.starts_with(root.join("filesystem-ops")) {
                    found.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    fn import(&self, archive: &[u8]) {
        let file = self.path().join("image.tar");
        fs::write(&file, archive).unwrap();
        let status = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args([
                "--namespace",
                "default",
                "images",
                "import",
                "--snapshotter",
                &self.snapshotter,
            ])
            .arg(&file)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let client = self.client();
        // A runtime of its own in a thread of its own: the rig may be dropped inside one.
        let _ = thread::spawn(move || end_all_tasks(&client)).join();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A request for [`IMAGE`] that says nothing else.
pub(crate) fn request() -> ContainerSpec {
    ContainerSpec {
        image: "box".into(),
        platform: None,
        name: None,
        hostname: None,
        domainname: String::new(),
        user: String::new(),
        env: Vec::new(),
        cmd: None,
        entrypoint: None,
        working_dir: None,
        labels: std::collections::BTreeMap::new(),
        exposed_ports: Vec::new(),
        tty: false,
        open_stdin: false,
        stdin_once: false,
        stop_signal: None,
        stop_timeout: None,
        upkeep: engine::containers::spec::upkeep::UpkeepSpec::default(),
        auto_remove: false,
        network: NetworkMode::None,
        networking: Networking::default(),
        log_driver: LogDriver::JsonFile,
        log_options: std::collections::BTreeMap::new(),
        console_size: None,
        annotations: std::collections::BTreeMap::new(),
        mounts: engine::containers::spec::mounts::MountsSpec::default(),
        confinement: engine::containers::spec::confinement::Confinement::default(),
        recorded: Recorded(Arc::from(*br#"{"Image":"box"}"#)),
    }
}

fn start_containerd(binary: &Path, directory: &Path) -> Child {
    let at = directory.display();
    let config = format!(
        "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\noom_score = 0\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{at}/c.sock\"\n[ttrpc]\naddress = \"{at}/c.sock.ttrpc\"\n"
    );
    fs::write(directory.join("config.toml"), config).unwrap();
    let log = fs::File::create(directory.join("log")).unwrap();
    let beside = binary.parent().unwrap().display();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(binary)
        .env("PATH", format!("{beside}:{path}"))
        .arg("--config")
        .arg(directory.join("config.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    while std::os::unix::net::UnixStream::connect(directory.join("c.sock")).is_err() {
        if child.try_wait().unwrap().is_some() {
            panic!("containerd ended: {}", fs::read_to_string(directory.join("log")).unwrap());
        }
        thread::sleep(Duration::from_millis(20));
    }
    child
}

fn end_all_tasks(client: &Client) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for task in client.list_tasks().await.unwrap_or_default() {
            let _ = client.kill(&task.id, None, 9, true).await;
            let _ = client.wait(&task.id, None).await;
            let _ = client.delete_task(&task.id).await;
        }
    });
}

/// An OCI archive: busybox in one layer, users and groups in the one above.
fn image_archive(busybox: &Path) -> Vec<u8> {
    let program = fs::read(busybox).unwrap();
    let layers = [
        layer(&[("bin/busybox", &program, 0o755), ("etc/passwd", b"old:x:1:1::/:\n", 0o644)]),
        layer(&[("etc/passwd", PASSWD.as_bytes(), 0o644), ("etc/group", GROUP.as_bytes(), 0o644)]),
    ];
    let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
    let architecture = names::Platform::host().architecture().to_owned();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {
            "Env": ["PATH=/bin"], "Cmd": ["/bin/busybox", "true"], "StopSignal": "SIGQUIT", "WorkingDir": "/srv",
            "Labels": {"from": "image", "nerdctl/pid-file": "/etc/owned"},
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let describe = |kind: &str, bytes: &[u8]| {
        serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len(),
        })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", &config),
        "layers": layers.iter().map(|layer| describe("layer.v1.tar", layer)).collect::<Vec<_>>(),
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut target = describe("manifest.v1+json", &manifest);
    target["annotations"] = serde_json::json!({"io.containerd.image.name": IMAGE});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [target]});
    let index = serde_json::to_vec(&index).unwrap();

    let blobs = layers.iter().chain([&config, &manifest]);
    let named =
        blobs.map(|blob| (format!("blobs/{}", digest(blob).replace(':', "/")), blob.as_slice()));
    let files: Vec<_> = named
        .chain([
            ("index.json".to_owned(), index.as_slice()),
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice()),
        ])
        .collect();
    let files: Vec<_> = files.iter().map(|(path, bytes)| (path.as_str(), *bytes, 0o644)).collect();
    layer(&files)
}

fn layer(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        archive.append_data(&mut header, path, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Says that a test did not run. Not with `eprintln!`, which the test harness swallows.
fn skip<T>(test: &str, reason: &str) -> Option<T> {
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {reason}");
    None
}
