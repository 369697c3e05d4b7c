//! The docker CLI, newest and Debian's, as a person uses it: each command of the walking product.

use std::time::Duration;

use e2e::cli::Docker;
use e2e::host::{LOGIN, LOGIN_REGISTRY};
use e2e::runner::OrSkip as _;
use e2e::{Result, Rig, Test, ensure, tests, unique};

pub(crate) const TESTS: &[Test] = tests![
    version_and_info,
    exit_codes,
    exit_codes_of_debians,
    run_and_look,
    run_and_look_with_debians,
    piped_input,
    on_a_terminal,
    on_a_terminal_with_debians,
    leaving_a_terminal_and_coming_back,
    interrupted_at_a_terminal,
    detached_and_ended_by_every_command,
    pull_list_and_remove_images,
    pulled_because_it_is_not_there,
    login_and_pull,
    following_logs,
    inspect_walks_through_all_kinds,
    events_are_printed,
];

fn newest(rig: &Rig) -> Result<Docker> {
    let docker = Docker::newest(rig.host()?).or_skip()?;
    rig.host()?.api().have("busybox:latest")?;
    Ok(docker)
}

fn debian(rig: &Rig) -> Result<Docker> {
    let docker = Docker::debian(rig.host()?).or_skip()?;
    rig.host()?.api().have("busybox:latest")?;
    Ok(docker)
}

fn version_and_info(rig: &Rig) -> Result<()> {
    for docker in [newest(rig)?, debian(rig)?] {
        let version = docker.run(&["version"])?.success()?;
        ensure!(
            version.contains("Server:")
                && version.contains("containerd:")
                && version.contains("runc:"),
            "{version}"
        );
        let info = docker.run(&["info"])?.success()?;
        ensure!(info.contains("Swarm: inactive") && info.contains("OSType: linux"), "{info}");
    }
    Ok(())
}

fn codes(docker: &Docker) -> Result<()> {
    for (arguments, code) in [
        (&["busybox", "true"][..], 0),
        (&["busybox", "false"], 1),
        (&["busybox", "sh", "-c", "exit 42"], 42),
        (&["--no-such-flag", "busybox"], 125),
        (&["--name", "in/valid", "busybox", "true"], 125),
        (&["busybox", "/etc/passwd"], 126),
        (&["busybox", "/etc"], 126),
        (&["busybox", "nobody-has-this"], 127),
        (&["busybox", "/nobody/has/this"], 127),
        (&["busybox", "sh", "-c", "kill -9 $$"], 137),
    ] {
        let mut words = vec!["run", "--rm", "--net=none"];
        words.extend(arguments);
        // Process 1 is not killed by itself: another one of its namespace would be needed.
        if code == 137 {
            words = vec![
                "run",
                "--rm",
                "--net=none",
                "busybox",
                "sh",
                "-c",
                "sh -c 'kill -9 $$'; exit $?",
            ];
        }
        let ended = docker.run(&words)?;
        ensure!(ended.code == code, "{arguments:?}: {ended:?}");
    }
    Ok(())
}

fn exit_codes(rig: &Rig) -> Result<()> {
    codes(&newest(rig)?)
}

fn exit_codes_of_debians(rig: &Rig) -> Result<()> {
    codes(&debian(rig)?)
}

fn look(docker: &Docker) -> Result<()> {
    let name = unique("look");
    let out = docker.run(&["run", "--rm", "busybox", "echo", "hello"])?.success()?;
    ensure!(out == "hello\n", "{out:?}");
    let ended = docker.run(&[
        "run",
        "--rm",
        "--net=none",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2",
    ])?;
    ensure!(ended.stdout == "out\n" && ended.stderr == "err\n", "{ended:?}");
    let id = docker
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "-e",
            "A=b",
            "-w",
            "/tmp",
            "-u",
            "1:2",
            "-l",
            "k=v",
            "busybox",
            "sh",
            "-c",
            "echo $A $PWD; sleep 1000",
        ])?
        .success()?;
    let id = id.trim();
    let rows = docker
        .run(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.Status}}"])?
        .success()?;
    ensure!(rows.lines().any(|row| row.starts_with(&format!("{id} {name} busybox Up "))), "{rows}");
    e2e::sandbox::until(Duration::from_secs(20), "its output", || {
        docker.run(&["logs", &name]).is_ok_and(|ended| ended.stdout == "b /tmp\n")
    })?;
    let seen = docker
        .run(&[
            "inspect",
            "--format",
            "{{.State.Status}} {{.Config.User}} {{index .Config.Labels \"k\"}}",
            &name,
        ])?
        .success()?;
    ensure!(seen == "running 1:2 v\n", "{seen}");
    let out = docker.run(&["rm", "-f", &name])?.success()?;
    ensure!(out.trim() == name, "{out}");
    Ok(())
}

fn run_and_look(rig: &Rig) -> Result<()> {
    look(&newest(rig)?)
}

fn run_and_look_with_debians(rig: &Rig) -> Result<()> {
    look(&debian(rig)?)
}

fn piped_input(rig: &Rig) -> Result<()> {
    for docker in [newest(rig)?, debian(rig)?] {
        let input: Vec<u8> =
            (0..200_000_u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let ended = docker
            .run_with_input(&["run", "--rm", "-i", "--net=none", "busybox", "cat"], &input)?;
        ensure!(
            ended.code == 0 && ended.stdout.as_bytes() == input,
            "{} of {} bytes",
            ended.stdout.len(),
            input.len()
        );
        let ended = docker.run_with_input(
            &["run", "--rm", "-i", "--net=none", "busybox", "sh", "-c", "wc -c; exit 3"],
            b"12345",
        )?;
        ensure!(ended.code == 3 && ended.stdout == "5\n", "{ended:?}");
        // Without -i nothing is read.
        let ended =
            docker.run_with_input(&["run", "--rm", "--net=none", "busybox", "cat"], b"12345")?;
        ensure!(ended.code == 0 && ended.stdout.is_empty(), "{ended:?}");
    }
    Ok(())
}

fn terminal(docker: &Docker) -> Result<()> {
    let mut terminal =
        docker.on_terminal(&["run", "--rm", "-it", "--net=none", "busybox", "sh"])?;
    terminal.expect("# ")?;
    // The CLI tells the size at the start, and each change.
    terminal.type_until(b"stty size\n", "33 99")?;
    terminal.resize_until_seen()?;
    terminal.type_keys(b"echo a$((1+1))b; tty\n")?;
    terminal.expect("a2b")?;
    terminal.expect("/dev/")?;
    // A key of the terminal: the process gets the signal.
    terminal.type_keys(b"sleep 1000\n")?;
    std::thread::sleep(Duration::from_millis(300));
    terminal.type_keys(b"\x03")?;
    terminal.expect("# ")?;
    terminal.type_keys(b"exit 7\n")?;
    let code = terminal.wait()?;
    ensure!(code == 7, "{code}");
    Ok(())
}

fn on_a_terminal(rig: &Rig) -> Result<()> {
    terminal(&newest(rig)?)
}

fn on_a_terminal_with_debians(rig: &Rig) -> Result<()> {
    terminal(&debian(rig)?)
}

fn leaving_a_terminal_and_coming_back(rig: &Rig) -> Result<()> {
    let docker = newest(rig)?;
    let name = unique("leave");
    let mut terminal =
        docker.on_terminal(&["run", "-it", "--name", &name, "--net=none", "busybox", "sh"])?;
    terminal.expect("# ")?;
    terminal.type_keys(b"X=kept\n")?;
    terminal.expect("# ")?;
    terminal.type_keys(b"\x10\x11")?;
    terminal.wait()?;
    let seen = docker.run(&["inspect", "--format", "{{.State.Status}}", &name])?.success()?;
    ensure!(seen == "running\n", "{seen}");
    let mut terminal = docker.on_terminal(&["attach", &name])?;
    terminal.type_keys(b"echo $X; exit 4\n")?;
    terminal.expect("kept")?;
    ensure!(terminal.wait()? == 4);
    // start -ai shows it again.
    let mut terminal = docker.on_terminal(&["start", "-ai", &name])?;
    terminal.type_keys(b"exit 5\n")?;
    ensure!(terminal.wait()? == 5);
    docker.run(&["rm", &name])?.success()?;
    Ok(())
}

fn interrupted_at_a_terminal(rig: &Rig) -> Result<()> {
    let docker = newest(rig)?;
    let name = unique("interrupt");
    // No -t: the CLI itself gets the signal, and passes it on.
    let mut terminal = docker.on_terminal(&[
        "run",
        "--rm",
        "--name",
        &name,
        "--net=none",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done",
    ])?;
    terminal.expect("ready")?;
    terminal.type_keys(b"\x03")?;
    let code = terminal.wait()?;
    ensure!(code == 9, "{code}");
    Ok(())
}

fn detached_and_ended_by_every_command(rig: &Rig) -> Result<()> {
    let docker = newest(rig)?;
    for (command, code) in
        [(&["stop", "-t", "1"][..], "137"), (&["kill"], "137"), (&["kill", "-s", "KILL"], "137")]
    {
        let name = unique("end");
        docker
            .run(&["run", "-d", "--name", &name, "--net=none", "busybox", "sleep", "1000"])?
            .success()?;
        let mut words = command.to_vec();
        words.push(&name);
        docker.run(&words)?.success()?;
        let out = docker.run(&["wait", &name])?.success()?;
        ensure!(out.trim() == code, "{command:?}: {out}");
        let rows = docker
            .run(&["ps", "-a", "--filter", &format!("name={name}"), "--format", "{{.Status}}"])?
            .success()?;
        ensure!(rows.starts_with(&format!("Exited ({code})")), "{rows}");
        docker.run(&["rm", &name])?.success()?;
    }
    let ended = docker.run(&["rm", "nobody-has-this"])?;
    ensure!(
        ended.code == 1 && ended.stderr.contains("No such container: nobody-has-this"),
        "{ended:?}"
    );
    Ok(())
}

fn pull_list_and_remove_images(rig: &Rig) -> Result<()> {
    for (docker, image) in
        [(newest(rig)?, "debian:bookworm-slim"), (debian(rig)?, "debian:bookworm")]
    {
        let out = docker.run(&["pull", image])?.success()?;
        ensure!(
            out.contains("Pull complete")
                && out.contains(&format!("Status: Downloaded newer image for {image}")),
            "{out}"
        );
        let out = docker.run(&["pull", "-q", image])?.success()?;
        ensure!(out.trim() == format!("docker.io/library/{image}"), "{out}");
        let rows = docker.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?.success()?;
        ensure!(rows.lines().any(|row| row == image), "{rows}");
        let out = docker.run(&["rmi", image])?.success()?;
        ensure!(
            out.contains(&format!("Untagged: {image}")) && out.contains("Deleted: sha256:"),
            "{out}"
        );
    }
    Ok(())
}

fn pulled_because_it_is_not_there(rig: &Rig) -> Result<()> {
    let docker = newest(rig)?;
    let ended = docker.run(&["run", "--rm", "hello-world:latest"])?;
    ensure!(ended.code == 0 && ended.stdout.contains("Hello from Docker!"), "{ended:?}");
    let ended = docker.run(&["run", "--rm", "nobody-has-this"])?;
    ensure!(ended.code == 125, "{ended:?}");
    Ok(())
}

fn login_and_pull(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    let docker = newest(rig)?;
    let login =
        |password: &str| docker.run(&["login", "-u", LOGIN.0, "-p", password, LOGIN_REGISTRY]);
    ensure!(login("wrong")?.code != 0);
    let out = login(LOGIN.1)?.success()?;
    ensure!(out.contains("Login Succeeded"), "{out}");
    let image = format!("{LOGIN_REGISTRY}/nginx:alpine");
    docker.run(&["pull", &image])?.success()?;
    docker.run(&["logout", LOGIN_REGISTRY])?.success()?;
    docker.run(&["rmi", &image])?.success()?;
    ensure!(docker.run(&["pull", &image])?.code != 0, "pulled after the logout");
    Ok(())
}

fn following_logs(rig: &Rig) -> Result<()> {
    let docker = newest(rig)?;
    let name = unique("follow");
    docker
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "--net=none",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done",
        ])?
        .success()?;
    let out = docker.run(&["logs", "-f", &name])?.success()?;
    ensure!(out == "1\n2\n3\n4\n5\n", "{out:?}");
    let out = docker.run(&["logs", "--tail", "2", &name])?.success()?;
    ensure!(out == "4\n5\n", "{out:?}");
    let out = docker.run(&["logs", "-t", "--since", "1h", &name])?.success()?;
    ensure!(out.lines().count() == 5 && out.lines().all(|line| line.contains("Z ")), "{out:?}");
    docker.run(&["rm", &name])?.success()?;
    Ok(())
}

fn inspect_walks_through_all_kinds(rig: &Rig) -> Result<()> {
    let docker = newest(rig)?;
    // Container, image, network, volume, plugin: each must be a plain "not found".
    let ended = docker.run(&["inspect", "nobody-has-this"])?;
    ensure!(ended.code == 1, "{ended:?}");
    ensure!(ended.stderr.to_lowercase().contains("no such object: nobody-has-this"), "{ended:?}");
    let out = docker.run(&["inspect", "busybox:latest", "--format", "{{.Os}}"])?.success()?;
    ensure!(out == "linux\n", "{out}");
    Ok(())
}

fn events_are_printed(rig: &Rig) -> Result<()> {
    let docker = newest(rig)?;
    let name = unique("printed");
    docker.run(&["run", "--rm", "--name", &name, "--net=none", "busybox", "true"])?.success()?;
    // The CLI counts whole seconds, and rounds down.
    std::thread::sleep(Duration::from_millis(1200));
    let out = docker
        .run(&[
            "events",
            "--since",
            "1m",
            "--until",
            "0s",
            "--filter",
            &format!("container={name}"),
            "--format",
            "{{.Action}}",
        ])?
        .success()?;
    for action in ["create", "attach", "start", "die", "destroy"] {
        ensure!(out.lines().any(|line| line == action), "no {action}: {out}");
    }
    Ok(())
}
