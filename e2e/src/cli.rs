//! The docker CLI, with pipes or on a terminal.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::host::Host;
use crate::peers;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(90);

/// A docker CLI that talks to a host.
#[derive(Debug, Clone)]
pub struct Docker {
    program: PathBuf,
    socket: PathBuf,
    config: PathBuf,
}

/// What a command left.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; 128 + signal for one that was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output of a command that must have succeeded.
    ///
    /// # Errors
    /// With what it printed, if it has not.
    pub fn success(self) -> Result<String> {
        if self.code != 0 {
            bail!("exit code {}: {}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

impl Docker {
    /// The newest CLI (29).
    ///
    /// # Errors
    /// When set-up has not built it.
    pub fn newest(host: &Host) -> Result<Self> {
        Self::of(host, peers::program("docker-cli", "docker")?)
    }

    /// Debian's CLI (20.10).
    ///
    /// # Errors
    /// When set-up has not unpacked it.
    pub fn debian(host: &Host) -> Result<Self> {
        Self::of(host, peers::debian_docker()?.join("docker"))
    }

    fn of(host: &Host, program: PathBuf) -> Result<Self> {
        let config = match host.root() {
            Ok(root) => root.join("home/.docker"),
            Err(_) => std::env::temp_dir().join("nerdctld-e2e-no-docker-config"),
        };
        Ok(Self { program, socket: host.socket().to_path_buf(), config })
    }

    /// The command, not yet started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", crate::sandbox::PATH)
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", &self.config)
            .env("TERM", "xterm");
    }

    /// Runs it without input.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn run(&self, arguments: &[&str]) -> Result<Ended> {
        self.run_with_input(arguments, b"")
    }

    /// Runs it with `input` on a pipe that is then closed.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Result<Ended> {
        let child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        finish(child, input).with_context(|| format!("docker {}", arguments.join(" ")))
    }

    /// Runs a line of shell in which `docker` is this one.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn shell(&self, line: &str) -> Result<Ended> {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        self.environment(&mut command);
        let folder = self.program.parent().unwrap_or(Path::new("/"));
        let child = command
            .env("PATH", format!("{}:{}", folder.display(), crate::sandbox::PATH))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting a shell")?;
        finish(child, b"").with_context(|| line.to_owned())
    }

    /// Runs it on a terminal of its own.
    ///
    /// # Errors
    /// When there is no terminal, or it cannot be started.
    pub fn on_terminal(&self, arguments: &[&str]) -> Result<Terminal> {
        let mut words = vec![self.program.as_os_str()];
        words.extend(arguments.iter().map(OsStr::new));
        Terminal::start(&words, |command| self.environment(command))
    }
}

fn finish(mut child: Child, input: &[u8]) -> Result<Ended> {
    let stdin = child.stdin.take();
    let stdout = collect(child.stdout.take().context("no stdout")?);
    let stderr = collect(child.stderr.take().context("no stderr")?);
    std::thread::scope(|scope| {
        // A thread, because a command need not read before it writes; one that never reads is no error.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        let code = wait(&mut child, LIMIT)?;
        let text =
            |receiver: Receiver<Vec<u8>>| receiver.into_iter().flatten().collect::<Vec<u8>>();
        Ok(Ended {
            code,
            stdout: String::from_utf8_lossy(&text(stdout)).into_owned(),
            stderr: String::from_utf8_lossy(&text(stderr)).into_owned(),
        })
    })
}

/// Exit code of a child, which is killed when it takes too long.
fn wait(child: &mut Child, limit: Duration) -> Result<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    match crate::sandbox::wait_for(limit, || child.try_wait().ok().flatten()) {
        Some(status) => Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            bail!("still running after {limit:?}")
        }
    }
}

/// Reads on a thread, so that a reader can wait for a while only.
fn collect(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A program on a pseudo terminal, with us at the keyboard.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Runs a command that is made elsewhere, with its arguments and environment, on a terminal of its own.
    ///
    /// # Errors
    /// When there is no terminal, or it cannot be started.
    pub fn run(command: &Command) -> Result<Self> {
        let words: Vec<&OsStr> =
            std::iter::once(command.get_program()).chain(command.get_args()).collect();
        Self::start(&words, |terminal| {
            let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
            terminal.env_clear().envs(set);
        })
    }

    fn start(words: &[&OsStr], environment: impl FnOnce(&mut Command)) -> Result<Self> {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("no pseudo terminal")?;
        grantpt(&master).context("grantpt")?;
        unlockpt(&master).context("unlockpt")?;
        let name = ptsname(&master, Vec::new()).context("ptsname")?;
        let path = Path::new(name.to_str().context("terminal's name")?);
        tcsetwinsize(&master, Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 })
            .context("size")?;
        let side =
            File::options().read(true).write(true).open(path).context("opening a terminal")?;
        // setsid makes it the controlling terminal, so that a change of its size is told.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).args(words);
        environment(&mut command);
        let child = command
            .stdin(side.try_clone().context("terminal")?)
            .stdout(side.try_clone().context("terminal")?)
            .stderr(side)
            .spawn()
            .context("starting a program on a terminal")?;
        let master = File::from(master);
        let screen = collect(master.try_clone().context("terminal")?);
        Ok(Self { child, keyboard: master, screen, seen: String::new() })
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn type_keys(&mut self, keys: &[u8]) -> Result<()> {
        self.keyboard.write_all(keys).context("typing")
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        tcsetwinsize(
            &self.keyboard,
            Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 },
        )
        .context("resizing")
    }

    /// Changes the size until the shell on the terminal notices: clients begin to listen for changes a moment late.
    ///
    /// # Errors
    /// When no change gets through.
    pub fn resize_until_seen(&mut self) -> Result<()> {
        for columns in 111..131 {
            self.resize(44, columns)?;
            self.type_keys(b"stty size\n")?;
            if self.expect_within(&format!("44 {columns}"), Duration::from_secs(2)).is_ok() {
                return Ok(());
            }
        }
        bail!("no change of size gets through")
    }

    /// Waits until the screen has shown `text`, and forgets all up to it.
    ///
    /// # Errors
    /// With what it has shown, if it has not for long.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        self.expect_within(text, LIMIT)
    }

    /// Types `keys` again and again until the screen shows `text`: for what comes true a moment later.
    ///
    /// # Errors
    /// As [`Terminal::expect`].
    pub fn type_until(&mut self, keys: &[u8], text: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            self.type_keys(keys)?;
            let shown = self.expect_within(text, Duration::from_secs(2));
            if shown.is_ok() || Instant::now() > end {
                return shown;
            }
        }
    }

    /// Waits for `text` as [`Terminal::expect`] does, for at most `limit`.
    ///
    /// # Errors
    /// As [`Terminal::expect`].
    pub fn expect_within(&mut self, text: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return Ok(());
            }
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {text:?} on the screen, but {:?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("ended without {text:?}, but with {:?}", self.seen)
                }
            }
        }
    }

    /// Waits for the end of the program and gives its exit code.
    ///
    /// # Errors
    /// When it does not end.
    pub fn wait(&mut self) -> Result<i32> {
        wait(&mut self.child, LIMIT).with_context(|| format!("on the screen: {:?}", self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
