//! Shows a day with the docker CLI against the daemon: each command, and what it printed.
//!
//! `make transcript`; `E2E_CONTAINERD` chooses the containerd, as for the tests. The commands are those of
//! `transcript.commands`, and then some on a terminal.

use std::process::ExitCode;

use e2e::cli::{Docker, Terminal};
use e2e::host::{Host, Plan};
use e2e::{Context as _, Result};

/// Lines of shell, in order; comments are headings. An exit code other than 0 is part of the show.
const COMMANDS: &str = include_str!("transcript.commands");

fn main() -> ExitCode {
    match show() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("transcript: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result<()> {
    let host = Host::start(Plan::from_environment()?)?;
    let docker = Docker::newest(&host)?;
    for line in COMMANDS.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            say(&format!("\n{line}\n"));
            continue;
        }
        let ended = docker.shell(line)?;
        say(&format!("$ {line}\n{}{}", ended.stdout, ended.stderr));
    }
    say("\n# on a terminal\n");
    run_on_a_terminal(&docker)?;
    attach_and_detach(&docker)
}

fn run_on_a_terminal(docker: &Docker) -> Result<()> {
    let mut terminal = Screen::start(docker, &["run", "--rm", "-it", "busybox", "sh"])?;
    terminal.types("tty\n", "/dev/")?;
    terminal.types("echo a$((1+1))b\n", "a2b")?;
    terminal.ends("exit 7\n")
}

fn attach_and_detach(docker: &Docker) -> Result<()> {
    let words = ["run", "-d", "-it", "--name", "shell", "busybox", "sh"];
    docker.run(&words)?.success()?;
    say(&format!("$ docker {}\n", words.join(" ")));
    let mut terminal = Screen::start(docker, &["exec", "-it", "shell", "sh"])?;
    terminal.types("echo b$((1+2))c\n", "b3c")?;
    terminal.ends("exit 0\n")?;
    let mut terminal = Screen::start(docker, &["attach", "shell"])?;
    terminal.types("echo c$((2+2))d\n", "c4d")?;
    terminal.ends("\u{10}\u{11}")?;
    let status = docker.run(&["inspect", "--format", "{{.State.Status}}", "shell"])?.success()?;
    say(&format!("$ docker inspect --format '{{{{.State.Status}}}}' shell\n{status}"));
    let mut terminal = Screen::start(docker, &["attach", "--detach-keys", "ctrl-x,x", "shell"])?;
    terminal.terminal.type_until(b"\n", "# ")?;
    terminal.ends("exit 5\n")?;
    docker.run(&["rm", "-f", "shell"])?.success().map(drop)
}

/// A command on a terminal, told as it goes.
struct Screen {
    terminal: Terminal,
}

impl Screen {
    fn start(docker: &Docker, words: &[&str]) -> Result<Self> {
        say(&format!("$ docker {}\n", words.join(" ")));
        Ok(Self { terminal: docker.on_terminal(words)? })
    }

    /// Types at a prompt, and sees `text`.
    fn types(&mut self, keys: &str, text: &str) -> Result<()> {
        self.terminal.type_until(b"\n", "# ")?;
        self.terminal.type_keys(keys.as_bytes())?;
        self.terminal.expect(text)?;
        say(&format!("/ # {}   … {text} is on the screen\n", keys.trim_end()));
        Ok(())
    }

    /// Types what ends it.
    fn ends(mut self, keys: &str) -> Result<()> {
        self.terminal.type_keys(keys.as_bytes())?;
        let code = self.terminal.wait().context("its end")?;
        let shown = keys.trim_end().replace('\u{10}', "ctrl-p ").replace('\u{11}', "ctrl-q");
        say(&format!("/ # {shown}   … ends with exit code {code}\n"));
        Ok(())
    }
}

/// A reader that has gone is no reason to fail.
fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}
