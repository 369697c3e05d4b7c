//! Shows a day with the docker CLI against the daemon: each command, and what it printed.
//!
//! `make transcript`; `E2E_CONTAINERD` chooses the containerd, as for the tests.

use std::process::ExitCode;

use e2e::cli::{Docker, Ended};
use e2e::host::{Host, LOGIN, LOGIN_REGISTRY, Plan};
use e2e::{Context as _, Result};

/// Commands, in order. An exit code other than 0 is part of the show.
const COMMANDS: &[&[&str]] = &[
    &["version"],
    &["info"],
    &["pull", "busybox"],
    &["images"],
    &["run", "--rm", "hello-world"],
    &["run", "--rm", "busybox", "echo", "hello"],
    &["run", "--rm", "busybox", "sh", "-c", "exit 42"],
    &["run", "--rm", "--no-such-flag", "busybox"],
    &["run", "--rm", "busybox", "/etc"],
    &["run", "--rm", "busybox", "nobody-has-this"],
    &["run", "--rm", "--net=none", "busybox", "ip", "addr"],
    &[
        "run",
        "--rm",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "-u",
        "nobody",
        "busybox",
        "sh",
        "-c",
        "id; pwd; echo $A",
    ],
    &["run", "-d", "--name", "web", "nginx"],
    &["ps"],
    &["logs", "--tail", "5", "web"],
    &[
        "inspect",
        "--format",
        "{{.State.Status}} {{.NetworkSettings.Networks.bridge.IPAddress}}",
        "web",
    ],
    &["stop", "web"],
    &["start", "web"],
    &["kill", "web"],
    &["wait", "web"],
    &["ps", "-a"],
    &["rm", "web"],
    &[
        "run",
        "-d",
        "--name",
        "counter",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.2; done",
    ],
    &["logs", "-f", "counter"],
    &["rm", "-f", "counter"],
    &["rm", "nobody-has-this"],
    &["run", "--rm", "-m", "64m", "busybox", "true"],
    &["rmi", "hello-world"],
    &["events", "--since", "10m", "--until", "0s", "--filter", "container=counter"],
];

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
    for words in COMMANDS {
        print(words, &docker.run(words)?);
    }
    let words = ["run", "--rm", "-i", "busybox", "wc", "-c"];
    say("\n$ echo 12345 | ");
    print(&words, &docker.run_with_input(&words, b"12345\n")?);
    let login = ["login", "-u", LOGIN.0, "-p", LOGIN.1, LOGIN_REGISTRY];
    print(&login, &docker.run(&login)?);
    let image = format!("{LOGIN_REGISTRY}/alpine:3.21");
    print(&["pull", &image], &docker.run(&["pull", &image])?);
    on_a_terminal(&docker)
}

fn on_a_terminal(docker: &Docker) -> Result<()> {
    let words = ["run", "--rm", "-it", "busybox", "sh"];
    say(&format!("\n$ docker {}\n", words.join(" ")));
    let mut terminal = docker.on_terminal(&words)?;
    for (keys, text) in [("tty\n", "/dev/"), ("echo a$((1+1))b\n", "a2b")] {
        terminal.expect("# ")?;
        terminal.type_keys(keys.as_bytes())?;
        terminal.expect(text)?;
        say(&format!("/ # {}… {text} is on the screen\n", keys.replace('\n', "  ")));
    }
    terminal.type_keys(b"exit 7\n")?;
    let code = terminal.wait().context("its end")?;
    say(&format!("/ # exit 7  (exit code {code})\n"));
    Ok(())
}

fn print(words: &[&str], ended: &Ended) {
    let code =
        if ended.code == 0 { String::new() } else { format!("(exit code {})\n", ended.code) };
    say(&format!("\n$ docker {}\n{}{}{code}", words.join(" "), ended.stdout, ended.stderr));
}

/// A reader that has gone is no reason to fail.
fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}
