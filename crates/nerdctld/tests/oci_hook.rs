//! The hook as runc runs it: our binary, arguments out of a spec, the state on stdin, and no daemon anywhere.
//!
//! Runs in a mount and network namespace of its own. What cannot run on a machine is said on stderr as
//! `SKIPPED test: reason`.

#[cfg(test)]
mod oci_hook {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use nerdctl_store::labels::ContainerLabels;
    use networking::hook::{HookEvent, HookSettings};
    use serde_json::json;

    /// Set in the process that has the namespaces.
    const INSIDE: &str = "OCI_HOOK_TEST_INSIDE";
    const PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni"];
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_container_is_attached_and_detached_without_a_daemon() {
        if std::env::var_os(INSIDE).is_none() {
            return run_again_inside(
                "oci_hook::a_container_is_attached_and_detached_without_a_daemon",
            );
        }
        succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/var/lib"]));
        let host = Host::new();
        let state_dir = host.store.join("containers/default").join(ID);
        let log = |event: &str| {
            fs::read_to_string(state_dir.join(format!("oci-hook.{event}.log"))).unwrap()
        };

        // The annotations come with the state, as from runc …
        let process = Process::start();
        let said =
            host.run(HookEvent::CreateRuntime, process.pid(), Some(&host.annotations("bridge")));
        assert!(said.status.success(), "{said:?}");
        let lease = fs::read_to_string("/var/lib/cni/networks/bridge/10.4.0.2").unwrap();
        assert_eq!(lease, format!("default-{ID}\r\neth0"));
        let meta =
            fs::read_to_string(host.store.join("etchosts/default").join(ID).join("meta.json"))
                .unwrap();
        assert!(meta.contains(r#""address":"10.4.0.2/24""#), "{meta}");
        assert_eq!(fs::read_to_string(host.store.join("names/default/web")).unwrap(), ID);
        let lifecycle = fs::read_to_string(state_dir.join("lifecycle.json")).unwrap();
        assert!(lifecycle.contains(&format!(r#""nerdctld_pid":{}"#, process.pid())), "{lifecycle}");
        assert!(log("createRuntime").contains("made the default network"));

        // … or stand in the bundle only.
        drop(process);
        let config = json!({"annotations": host.annotations("bridge")});
        fs::write(host.dir.path().join("config.json"), config.to_string()).unwrap();
        let said = host.run(HookEvent::PostStop, 0, None);
        assert!(said.status.success(), "{said:?}");
        assert!(!Path::new("/var/lib/cni/networks/bridge/10.4.0.2").exists());
        assert!(
            host.store.join("names/default/web").exists(),
            "a stopped container keeps its name"
        );
        assert_eq!(log("postStop"), "");

        // runc's error quotes stderr.
        let process = Process::start();
        let said =
            host.run(HookEvent::CreateRuntime, process.pid(), Some(&host.annotations("gone")));
        assert_eq!(said.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&said.stderr), "nerdctld: network gone not found\n");
        assert!(log("createRuntime").contains("network gone not found"));
    }

    #[test]
    fn wrong_calls_are_refused_in_a_sentence() {
        let call = |args: &[&str], input: &str| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_nerdctld"))
                .arg("oci-hook")
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // One that refuses its arguments does not read.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            String::from_utf8(output.stderr).unwrap()
        };
        let flags =
            ["--data-store=/nowhere/1935db59", "--cni-path=/c", "--cni-netconfpath=/n", "postStop"];
        assert_eq!(call(&[], ""), "nerdctld: oci-hook: the event is missing\n");
        assert_eq!(call(&["prestart"], ""), "nerdctld: oci-hook: unexpected event \"prestart\"\n");
        assert!(call(&flags, "{").starts_with("nerdctld: decode the container's state on stdin: "));
        let state = json!({"id": "x", "annotations": {"nerdctl/networks": "[]"}}).to_string();
        assert_eq!(call(&flags, &state), "nerdctld: the container has no \"nerdctl/extraHosts\"\n");
    }

    struct Host {
        dir: tempfile::TempDir,
        store: PathBuf,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = dir.path().join("nerdctl/1935db59");
            Self { dir, store }
        }

        fn annotations(&self, network: &str) -> BTreeMap<String, String> {
            let labels = ContainerLabels {
                namespace: "default".into(),
                name: "web".into(),
                hostname: "web".into(),
                state_dir: self.store.join("containers/default").join(ID).display().to_string(),
                networks: vec![network.into()],
                ..ContainerLabels::default()
            };
            labels.to_annotations().unwrap()
        }

        fn run(
            &self,
            event: HookEvent,
            pid: u32,
            annotations: Option<&BTreeMap<String, String>>,
        ) -> Output {
            let settings = HookSettings {
                data_store: self.store.clone(),
                cni_path: plugin_dir().unwrap(),
                cni_netconf_path: self.dir.path().join("net.d"),
                bridge_ip: None,
            };
            let helper = Path::new(env!("CARGO_BIN_EXE_nerdctld"));
            let hook = settings.command(helper, event, std::env::vars()).unwrap();
            let mut state =
                json!({"ociVersion": "1.0.2", "id": ID, "pid": pid, "bundle": self.dir.path()});
            if let Some(annotations) = annotations {
                state["annotations"] = json!(annotations);
            }
            let mut child = Command::new(&hook.path)
                .args(&hook.args[1..])
                .env_clear()
                .envs(hook.env.iter().filter_map(|variable| variable.split_once('=')))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(state.to_string().as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        }
    }

    /// A process in a network namespace of its own, in place of a container's first one.
    struct Process(Child);

    impl Process {
        fn start() -> Self {
            let child =
                Command::new("unshare").args(["--net", "--", "sleep", "1000"]).spawn().unwrap();
            let process = Self(child);
            let own = fs::read_link("/proc/self/ns/net").unwrap();
            let netns = format!("/proc/{}/ns/net", process.pid());
            let started = Instant::now();
            while fs::read_link(&netns).is_ok_and(|netns| netns == own) {
                assert!(started.elapsed() < Duration::from_secs(30), "unshare does not unshare");
                std::thread::sleep(Duration::from_millis(5));
            }
            process
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn run_again_inside(name: &str) {
        let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        if !is_root || plugin_dir().is_none() {
            // Not with `eprintln!`, which the harness swallows.
            let reason = if is_root { "there are no CNI plugins" } else { "namespaces need root" };
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

    fn plugin_dir() -> Option<PathBuf> {
        PLUGIN_DIRS.map(PathBuf::from).into_iter().find(|dir| dir.join("bridge").is_file())
    }

    fn succeed(command: &mut Command) {
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
