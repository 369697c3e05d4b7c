//! A host of its own for each test, and containers on it.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use cni::Cni;
use cni::leases::{self, Lease};
use names::Namespace;
use nerdctl_store::DataStore;
use networking::{Container, Networks};

/// Set in the process that has the namespaces.
const INSIDE: &str = "NETWORKING_TEST_INSIDE";

/// Where distributions put the plugins.
const PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni"];

/// Runs `test` on a host of its own; `name` is the name of the calling test as the harness has it.
pub(crate) fn on_own_host(name: &str, test: impl AsyncFnOnce(Host)) {
    if std::env::var_os(INSIDE).is_none() {
        return run_again_inside(name);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test(Host::new()));
}

fn run_again_inside(name: &str) {
    if let Some(reason) = obstacle() {
        // Not with `eprintln!`, which the harness swallows.
        let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
        return;
    }
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn obstacle() -> Option<&'static str> {
    if fs::metadata("/proc/self").is_ok_and(|me| me.uid() != 0) {
        return Some("namespaces need root");
    }
    if plugin_dir().is_none() {
        return Some("there are no CNI plugins");
    }
    let has_iptables = Command::new("iptables-save").output().is_ok();
    (!has_iptables).then_some("there is no iptables-save")
}

fn plugin_dir() -> Option<PathBuf> {
    PLUGIN_DIRS.map(PathBuf::from).into_iter().find(|dir| dir.join("bridge").is_file())
}

/// One host: folders of nerdctl and CNI, and an empty network.
pub(crate) struct Host {
    dir: tempfile::TempDir,
    pub(crate) networks: Networks,
}

impl Host {
    fn new() -> Self {
        // Plugins have their state in a fixed place.
        succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/var/lib"]));
        succeed(Command::new("ip").args(["link", "set", "lo", "up"]));
        let dir = tempfile::tempdir().unwrap();
        let store = DataStore::new(dir.path().join("nerdctl"), "/nowhere/containerd.sock");
        let networks =
            Networks::new(store, Cni::new(vec![plugin_dir().unwrap()]), dir.path().join("net.d"))
                .with_run_dir(dir.path().join("run"));
        Self { dir, networks }
    }

    pub(crate) fn store(&self) -> &DataStore {
        self.networks.store()
    }

    /// What nerdctl would call plugins with.
    pub(crate) fn cni(&self) -> Cni {
        Cni::new(vec![plugin_dir().unwrap()])
    }

    pub(crate) fn netconf(&self) -> PathBuf {
        self.dir.path().join("net.d")
    }

    /// A container called `name`, as its labels describe it.
    pub(crate) fn container(&self, name: &str, networks: &str) -> Container {
        let id =
            format!("{:0>64}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        let labels = [
            ("nerdctl/namespace", "default"),
            ("nerdctl/name", name),
            ("nerdctl/hostname", &format!("{name}-host")),
            ("nerdctl/networks", networks),
            ("nerdctl/extraHosts", r#"["db:192.0.2.9"]"#),
        ];
        let labels: HashMap<String, String> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let container = Container::from_labels(&id, &labels).unwrap();
        self.store().state_dir(&container.namespace, &container.id).create().unwrap();
        container
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        leases::read(&Path::new(leases::DEFAULT_DATA_DIR).join("bridge")).unwrap()
    }

    pub(crate) fn rules(&self) -> String {
        stdout(&mut Command::new("iptables-save"))
    }

    pub(crate) fn links(&self) -> String {
        stdout(Command::new("ip").args(["-o", "link"]))
    }

    /// Names of the files in libcni's cache.
    pub(crate) fn cache(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir("/var/lib/cni/results") else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) fn hosts_file(&self, container: &Container) -> String {
        fs::read_to_string(self.store().hosts(&container.namespace).hosts_path(&container.id))
            .unwrap()
    }

    pub(crate) fn meta_file(&self, container: &Container) -> PathBuf {
        self.store()
            .hosts(&container.namespace)
            .hosts_path(&container.id)
            .with_file_name("meta.json")
    }

    pub(crate) fn owner(&self, name: &str) -> Option<String> {
        self.store().names(&Namespace::default()).owner(&name.parse().unwrap()).unwrap()
    }

    /// What a power cut takes: all of the kernel's, and the last files that were written. Leases stay.
    pub(crate) fn lose_power(&self) {
        fs::remove_dir_all("/var/lib/cni/results").unwrap();
        succeed(Command::new("iptables").args(["-t", "filter", "-F"]));
        succeed(Command::new("iptables").args(["-t", "nat", "-F"]));
        succeed(Command::new("ip").args(["link", "delete", "nerdctl0"]));
    }

    /// That no trace of a container is left, but for its name and files.
    pub(crate) fn assert_detached(&self, container: &Container) {
        assert_eq!(self.leases(), []);
        assert_eq!(self.cache(), Vec::<String>::new());
        assert!(!self.rules().contains(&container.cni_id()), "{}", self.rules());
        assert!(!self.rules().contains("-A CNI-FORWARD -d 10.4.0."), "{}", self.rules());
        // The kernel takes an ended process's namespace apart when it finds the time.
        let started = Instant::now();
        while self.links().contains("veth") {
            assert!(started.elapsed() < Duration::from_secs(30), "{}", self.links());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A process in a network namespace of its own, in place of a container's first one.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start() -> Self {
        let child = Command::new("unshare").args(["--net", "--", "sleep", "1000"]).spawn().unwrap();
        let process = Self(child);
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let started = Instant::now();
        while fs::read_link(process.netns()).is_ok_and(|netns| netns == own) {
            assert!(started.elapsed() < Duration::from_secs(30), "unshare does not unshare");
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// Output of a program in the namespace.
    pub(crate) fn inside(&self, program: &[&str]) -> String {
        let netns = format!("--net={}", self.netns().display());
        stdout(Command::new("nsenter").arg(netns).arg("--").args(program))
    }

    pub(crate) fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
