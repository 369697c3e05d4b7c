//! The real binary: sockets, signals, systemd's protocols, and a containerd of its own.
//!
//! Every test has its own folders. `TEST_CONTAINERD=/path/to/containerd` chooses another containerd for the managed one
//! than the distribution's. What cannot run on a machine is said on stderr as `SKIPPED test: reason`.

#[cfg(test)]
mod daemon {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};
    use tempfile::TempDir;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Folders for one daemon.
    struct Place {
        folder: TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn socket(&self) -> PathBuf {
            self.folder.path().join("n.sock")
        }

        fn data_root(&self) -> PathBuf {
            self.folder.path().join("data")
        }

        fn pid_file(&self, containerd: &Path) -> PathBuf {
            containerd.with_file_name("containerd.pid")
        }

        /// A daemon that asks a containerd that is not there, unless the arguments name another.
        fn command(&self, arguments: &[&str]) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_nerdctld"));
            command.arg("--data-root").arg(self.data_root()).args(arguments);
            if !arguments.contains(&"--containerd") {
                command.arg("--containerd").arg(self.folder.path().join("nobody.sock"));
            }
            command
                .env_remove("RUST_LOG")
                .env_remove("NERDCTL_TOML")
                .stdin(Stdio::null())
                .stderr(Stdio::piped());
            command
        }

        fn start(&self, arguments: &[&str]) -> Daemon {
            let socket = self.socket();
            let arguments = [&["--socket", socket.to_str().unwrap()], arguments].concat();
            Daemon(self.command(&arguments).spawn().unwrap())
        }
    }

    /// A running daemon; killed when the test ends.
    struct Daemon(Child);

    impl Drop for Daemon {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Daemon {
        fn signal(&self, signal: Signal) {
            kill_process(Pid::from_child(&self.0), signal).unwrap();
        }

        fn ended(&mut self) -> ExitStatus {
            eventually(|| self.0.try_wait().unwrap())
        }
    }

    fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(began.elapsed() < PATIENCE, "it does not happen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn request(socket: &Path, path: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn answers(socket: &Path, path: &str) -> String {
        eventually(|| {
            request(socket, path).ok().filter(|answer| answer.starts_with("HTTP/1.1 200 OK\r\n"))
        })
    }

    fn skip(test: &str, reason: &str) {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    }

    #[test]
    fn it_answers_and_goes_with_its_socket() {
        let place = Place::new();
        let mut daemon = place.start(&[]);
        assert!(answers(&place.socket(), "/_ping").ends_with("\r\n\r\nOK"));
        let mode = fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o660);
        assert!(place.data_root().join("bin/nerdctld").exists(), "the copy that specs point to");
        daemon.signal(Signal::TERM);
        assert!(daemon.ended().success());
        assert!(!place.socket().exists());
    }

    #[test]
    fn a_killed_daemon_is_replaced_and_a_living_one_is_not() {
        let place = Place::new();
        let mut killed = place.start(&[]);
        answers(&place.socket(), "/_ping");
        killed.signal(Signal::KILL);
        killed.ended();
        assert!(place.socket().exists());
        let _living = place.start(&[]);
        answers(&place.socket(), "/_ping");
        let mut third = place.start(&[]);
        assert!(!third.ended().success());
        let mut said = String::new();
        third.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("another daemon is listening on this socket"), "{said}");
        answers(&place.socket(), "/_ping");
    }

    #[test]
    fn an_open_stream_does_not_delay_the_end() {
        let place = Place::new();
        let mut daemon = place.start(&[]);
        answers(&place.socket(), "/_ping");
        let mut stream = UnixStream::connect(place.socket()).unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: docker\r\n\r\n").unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        daemon.signal(Signal::INT);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("\r\n\r\n0\r\n\r\n"), "{rest}");
        assert!(daemon.ended().success());
    }

    #[test]
    fn every_mistake_of_the_configuration_is_told() {
        let place = Place::new();
        let output = place
            .command(&["--addr", "tcp://0.0.0.0:2375", "--namespace", "not one"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(said.contains("tcp://0.0.0.0:2375") && said.contains("not one"), "{said}");
        assert!(!place.data_root().exists(), "nothing is made before the configuration is good");
    }

    /// systemd's part: a listening socket as descriptor 3, `LISTEN_FDS`, and our own process id in `LISTEN_PID`.
    #[test]
    fn it_serves_the_socket_that_systemd_made_and_leaves_it() {
        let place = Place::new();
        let socket = place.folder.path().join("systemd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut daemon = place.command(&["--addr", "fd://"]);
        let script = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(daemon.get_program()).args(daemon.get_args());
        daemon = shell;
        let mut daemon = Daemon(daemon.stdin(OwnedFd::from(listener)).spawn().unwrap());
        assert!(answers(&socket, "/_ping").ends_with("OK"));
        daemon.signal(Signal::TERM);
        assert!(daemon.ended().success());
        assert!(socket.exists(), "the file is systemd's");
    }

    #[test]
    fn without_systemd_there_is_nothing_to_inherit() {
        let place = Place::new();
        let output = place.command(&["--addr", "fd://"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no sockets found via socket activation"), "{said}");
        assert!(!output.status.success());
    }

    #[test]
    fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
        let place = Place::new();
        let notify = place.folder.path().join("notify.sock");
        let systemd = UnixDatagram::bind(&notify).unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let socket = place.socket();
        let mut command = place.command(&["--socket", socket.to_str().unwrap()]);
        let mut daemon = Daemon(command.env("NOTIFY_SOCKET", &notify).spawn().unwrap());
        let mut word = [0; 100];
        let mut hear = || {
            let length = systemd.recv(&mut word).unwrap();
            String::from_utf8_lossy(&word[..length]).into_owned()
        };
        assert_eq!(hear(), "READY=1\n");
        assert!(request(&socket, "/_ping").unwrap().ends_with("OK"), "ready means that it answers");
        daemon.signal(Signal::TERM);
        assert_eq!(hear(), "STOPPING=1\n");
        assert!(daemon.ended().success());
    }

    #[test]
    fn an_idle_daemon_ends_and_a_busy_one_does_not() {
        let place = Place::new();
        let mut daemon = place.start(&["--idle-exit", "1s"]);
        answers(&place.socket(), "/_ping");
        let mut stream = UnixStream::connect(place.socket()).unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: docker\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_secs(2));
        assert!(daemon.0.try_wait().unwrap().is_none(), "somebody is connected");
        drop(stream);
        assert!(daemon.ended().success());
    }

    /// A managed containerd, stopped with the test.
    struct Managed {
        socket: PathBuf,
        pid_file: PathBuf,
    }

    impl Managed {
        fn pid(&self) -> i32 {
            fs::read_to_string(&self.pid_file).unwrap().trim().parse().unwrap()
        }
    }

    impl Drop for Managed {
        fn drop(&mut self) {
            if let Some(pid) = fs::read_to_string(&self.pid_file)
                .ok()
                .and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?))
            {
                let _ = kill_process(pid, Signal::TERM);
                eventually(|| {
                    (!Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists()).then_some(())
                });
            }
            let _ = fs::remove_dir_all(self.socket.parent().unwrap());
        }
    }

    fn info(socket: &Path) -> serde_json::Value {
        let answer = answers(socket, "/info");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    #[test]
    fn a_managed_containerd_outlives_the_daemon_and_is_found_again() {
        const TEST: &str = "a_managed_containerd_outlives_the_daemon_and_is_found_again";
        let containerd = std::env::var("TEST_CONTAINERD")
            .map_or_else(|_| PathBuf::from("/usr/bin/containerd"), PathBuf::from);
        if !rustix::process::geteuid().is_root() {
            return skip(TEST, "containerd needs root");
        }
        if !containerd.exists() {
            return skip(TEST, "there is no containerd on this machine");
        }
        let path = format!(
            "{}:{}",
            containerd.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let place = Place::new();
        let socket = place.socket();
        let start = || {
            let mut command =
                place.command(&["--socket", socket.to_str().unwrap(), "--containerd", "managed"]);
            Daemon(command.env("PATH", &path).spawn().unwrap())
        };
        let mut first = start();
        answers(&socket, "/_ping");
        let address = PathBuf::from(info(&socket)["Containerd"]["Address"].as_str().unwrap());
        let managed = Managed { pid_file: place.pid_file(&address), socket: address };
        let (id, pid) = (info(&socket)["ID"].clone(), managed.pid());

        first.signal(Signal::KILL);
        first.ended();
        assert!(
            Path::new(&format!("/proc/{pid}")).exists(),
            "containers must not end with the daemon"
        );
        let mut second = start();
        assert_eq!(info(&socket)["ID"], id);
        assert_eq!(managed.pid(), pid, "found, not started again");

        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let next = eventually(|| Some(managed.pid()).filter(|next| *next != pid));
        eventually(|| {
            request(&socket, "/info").ok().filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        assert_eq!(info(&socket)["ID"], id, "the same state, in process {next}");
        second.signal(Signal::TERM);
        assert!(second.ended().success());
    }
}
