//! Shows a day with the docker CLI against the daemon: each command, and what it printed.
//!
//! `make transcript`; `E2E_CONTAINERD` chooses the containerd, `E2E_TARGET` the daemon, as for the tests. The commands are
//! those of `transcript.commands`, and then some on a terminal.
//!
//! With `--beside-dockerd` the day goes by twice at the same time, here and with dockerd 29, and only the difference is
//! shown, with its reason: `beside.rs` puts both side by side · `mask.rs` takes out what differs from run to run anyway ·
//! `explained.rs` has the reasons.

use std::process::ExitCode;

use clap::Parser;
use e2e::cli::{Docker, Terminal};
use e2e::host::{Host, Plan};
use e2e::{Context as _, Result};

mod beside;
mod explained;
mod mask;

/// Lines of shell, in order; comments are headings. An exit code other than 0 is part of the show.
const COMMANDS: &str = include_str!("../transcript.commands");

/// Shows what the docker CLI prints, command by command.
#[derive(Debug, Parser)]
#[command(name = "transcript")]
struct Flags {
    /// Show only what dockerd 29 prints otherwise, and why. Fails when there is no reason for a difference.
    #[arg(long)]
    beside_dockerd: bool,
}

/// One command and all it printed; or a heading.
struct Shown {
    command: String,
    printed: String,
}

fn main() -> ExitCode {
    let outcome = if Flags::parse().beside_dockerd {
        beside::compare()
    } else {
        Plan::from_environment().and_then(|plan| show(plan, &mut |shown| print(&shown)))
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("transcript: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn print(shown: &Shown) {
    let Shown { command, printed } = shown;
    match command.starts_with('#') {
        true => say(&format!("\n{command}\n")),
        false => say(&format!("$ {command}\n{printed}")),
    }
}

/// Plays the whole day on a host of its own, and tells of each command once it has ended.
fn show(plan: Plan, tell: &mut dyn FnMut(Shown)) -> Result<()> {
    let host = Host::start(plan)?;
    let docker = Docker::newest(&host)?;
    for line in COMMANDS.lines().filter(|line| !line.is_empty()) {
        let mut printed = String::new();
        if !line.starts_with('#') {
            let ended = docker.shell(line)?;
            printed = ended.stdout + &ended.stderr;
        }
        tell(Shown { command: line.to_owned(), printed });
    }
    tell(Shown { command: "# on a terminal".into(), printed: String::new() });
    run_on_a_terminal(&docker, tell)?;
    attach_and_detach(&docker, tell)
}

fn run_on_a_terminal(docker: &Docker, tell: &mut dyn FnMut(Shown)) -> Result<()> {
    let mut terminal = Screen::start(docker, &["run", "--rm", "-it", "busybox", "sh"])?;
    terminal.types("tty\n", "/dev/")?;
    terminal.types("echo a$((1+1))b\n", "a2b")?;
    tell(terminal.ends("exit 7\n")?);
    Ok(())
}

fn attach_and_detach(docker: &Docker, tell: &mut dyn FnMut(Shown)) -> Result<()> {
    let mut run = |words: &[&str]| -> Result<()> {
        let printed = docker.run(words)?.success()?;
        tell(Shown { command: format!("docker {}", words.join(" ")), printed });
        Ok(())
    };
    run(&["run", "-d", "-it", "--name", "shell", "busybox", "sh"])?;
    let mut terminal = Screen::start(docker, &["exec", "-it", "shell", "sh"])?;
    terminal.types("echo b$((1+2))c\n", "b3c")?;
    tell(terminal.ends("exit 0\n")?);
    let mut terminal = Screen::start(docker, &["attach", "shell"])?;
    terminal.types("echo c$((2+2))d\n", "c4d")?;
    tell(terminal.ends("\u{10}\u{11}")?);
    let status = ["inspect", "--format", "{{.State.Status}}", "shell"];
    let printed = docker.run(&status)?.success()?;
    tell(Shown { command: format!("docker {}", status.join(" ")), printed });
    let mut terminal = Screen::start(docker, &["attach", "--detach-keys", "ctrl-x,x", "shell"])?;
    terminal.terminal.type_until(b"\n", "# ")?;
    tell(terminal.ends("exit 5\n")?);
    docker.run(&["rm", "-f", "shell"])?.success().map(drop)
}

/// A command on a terminal, told as it goes.
struct Screen {
    terminal: Terminal,
    shown: Shown,
}

impl Screen {
    fn start(docker: &Docker, words: &[&str]) -> Result<Self> {
        let shown =
            Shown { command: format!("docker {}", words.join(" ")), printed: String::new() };
        Ok(Self { terminal: docker.on_terminal(words)?, shown })
    }

    /// Types at a prompt, and sees `text`.
    fn types(&mut self, keys: &str, text: &str) -> Result<()> {
        self.terminal.type_until(b"\n", "# ")?;
        self.terminal.type_keys(keys.as_bytes())?;
        self.terminal.expect(text)?;
        self.shown.printed += &format!("/ # {}   … {text} is on the screen\n", keys.trim_end());
        Ok(())
    }

    /// Types what ends it.
    fn ends(mut self, keys: &str) -> Result<Shown> {
        self.terminal.type_keys(keys.as_bytes())?;
        let code = self.terminal.wait().context("its end")?;
        let keys = keys.trim_end().replace('\u{10}', "ctrl-p ").replace('\u{11}', "ctrl-q");
        self.shown.printed += &format!("/ # {keys}   … ends with exit code {code}\n");
        Ok(self.shown)
    }
}

/// A reader that has gone is no reason to fail.
fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}
