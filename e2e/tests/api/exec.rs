//! Execs: processes added to a running container, their streams, their ends, and what is refused.

use std::io::{BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use e2e::api::script_body;
use e2e::cli::Docker;
use e2e::http::{Head, Response, Stream};
use e2e::runner::OrSkip as _;
use e2e::sandbox::until;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, frames, tests, unique};
use serde_json::{Value, json};

use crate::read_until;

pub(crate) const TESTS: &[Test] = tests![
    both_forms_of_the_head,
    output_is_in_frames_and_the_exit_code_is_known_at_the_end,
    a_half_closed_connection_still_gets_output,
    // dockerd drops such bytes (moby `daemon/server/httputils`: the reader of the hijack is not used).
    input_in_the_packet_of_the_request.ours_only(),
    a_terminal_is_raw_and_has_a_size,
    // dockerd 29 says that the process has ended with 126 (moby `daemon/exec.go`: the error of the keys is wrapped, and not
    // recognised), and tells nothing.
    detach_keys_end_the_connection_only.ours_only(),
    detached_it_runs_alone,
    exit_codes,
    programs_that_cannot_be_run,
    user_variables_and_working_directory,
    unknown_users_are_refused,
    privileged_has_all_capabilities,
    only_wanted_streams_are_sent,
    start_decides_the_framing,
    started_once_and_never_again,
    a_background_process_does_not_hold_the_connection,
    twenty_at_once,
    a_client_that_never_reads_stops_nobody,
    a_client_that_leaves_stops_nobody,
    inspect_tells_all,
    container_inspect_lists_the_live_ones,
    what_is_refused,
    not_in_a_stopped_container,
    not_in_a_paused_container,
    the_containers_end_ends_it,
    resizes,
    events_tell_of_it,
    older_versions_ignore_the_console_size,
    cli_exit_codes,
    cli_on_a_terminal,
    cli_detached_and_piped,
    nothing_is_left_behind.ours_only(),
    a_dead_daemons_execs_go_on.ours_only(),
    nerdctl_and_we_exec_in_each_others.ours_only(),
];

/// A container that waits, and is killed at once when it has to go.
fn waiting(rig: &Rig) -> Result<Container> {
    rig.host()?.api().run_script("trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done")
}

/// The body of an exec that wants its output.
fn wanting(command: &[&str]) -> Value {
    json!({"Cmd": command, "AttachStdout": true, "AttachStderr": true})
}

fn create(container: &Container, body: &Value) -> Result<String> {
    let answer = container.api().post_json(&container.path("/exec"), body)?.expect(201)?.json()?;
    Ok(answer["Id"].as_str().context("no id")?.to_owned())
}

fn refused(container: &Container, body: &Value) -> Result<Response> {
    container.api().post_json(&container.path("/exec"), body)
}

/// Starts an exec as clients do that upgrade.
fn start(api: &Api, id: &str, body: &Value) -> Result<(Head, BufReader<UnixStream>)> {
    api.hijack(&api.request("POST", &format!("/exec/{id}/start")).json(body).upgrade("tcp"))
}

fn inspect(api: &Api, id: &str) -> Result<Value> {
    api.get_json(&format!("/exec/{id}/json"))
}

/// Runs a command to its end: output and exit code.
fn run(container: &Container, body: &Value) -> Result<(frames::Output, Value)> {
    let id = create(container, body)?;
    let (_, mut stream) = start(container.api(), &id, &json!({}))?;
    let output = frames::all(&mut stream)?;
    let seen = inspect(container.api(), &id)?;
    ensure!(seen["Running"] == false, "{seen}");
    Ok((output, seen["ExitCode"].clone()))
}

fn script(container: &Container, text: &str) -> Result<(frames::Output, Value)> {
    run(container, &wanting(&["sh", "-c", text]))
}

fn both_forms_of_the_head(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let (raw, framed) =
        ("application/vnd.docker.raw-stream", "application/vnd.docker.multiplexed-stream");
    for (version, tty, kind) in [("1.41", false, raw), ("1.42", false, framed), ("1.42", true, raw)]
    {
        let api = api.at(version);
        let mut body = wanting(&["echo", "hi"]);
        body["Tty"] = json!(tty);
        let id = create(&container, &body)?;
        let (head, mut stream) = start(&api, &id, &json!({"Tty": tty}))?;
        ensure!(head.status == 101 && head.reason == "UPGRADED", "{head:?}");
        for (name, value) in [("Content-Type", kind), ("Connection", "Upgrade"), ("Upgrade", "tcp")]
        {
            ensure!(head.header(name) == Some(value), "{version}, tty {tty}: {head:?}");
        }
        ensure!(head.header("Content-Length").is_none(), "{head:?}");
        // Unlike attach, it shows the headers of ordinary answers.
        for name in ["Api-Version", "Docker-Experimental", "Ostype", "Server"] {
            ensure!(head.header(name).is_some(), "{name}: {head:?}");
        }
        let mut output = Vec::new();
        stream.read_to_end(&mut output)?;
        let expected: &[u8] = if tty { b"hi\r\n" } else { b"\x01\0\0\0\0\0\0\x03hi\n" };
        ensure!(output == expected, "{output:?}");
    }
    let id = create(&container, &wanting(&["echo", "hi"]))?;
    let (head, mut stream) =
        api.hijack(&api.request("POST", &format!("/exec/{id}/start")).json(&json!({})))?;
    ensure!(head.status == 200 && head.reason == "OK", "{head:?}");
    ensure!(head.header("Content-Type") == Some(raw), "{head:?}");
    ensure!(
        head.header("Content-Length").is_none() && head.header("Transfer-Encoding").is_none(),
        "{head:?}"
    );
    ensure!(frames::all(&mut stream)?.text() == "hi\n");
    Ok(())
}

fn output_is_in_frames_and_the_exit_code_is_known_at_the_end(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    for _ in 0..5 {
        let (output, code) = script(&container, "echo out; echo err >&2; exit 7")?;
        ensure!(output.text() == "out\n" && output.error_text() == "err\n", "{output:?}");
        ensure!(code == 7, "{code}");
    }
    let (output, _) = script(&container, "head -c 3000000 /dev/zero | tr '\\0' x")?;
    ensure!(output.stdout.len() == 3_000_000, "{} bytes", output.stdout.len());
    Ok(())
}

fn a_half_closed_connection_still_gets_output(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let mut body =
        wanting(&["sh", "-c", "sum=$(cat | wc -c); sleep 0.3; echo $sum; sleep 0.3; echo end"]);
    body["AttachStdin"] = json!(true);
    let id = create(&container, &body)?;
    let (_, mut stream) = start(container.api(), &id, &json!({}))?;
    stream.get_mut().write_all(&vec![b'x'; 300_000])?;
    stream.get_ref().shutdown(Shutdown::Write)?;
    let output = frames::all(&mut stream)?;
    ensure!(output.text() == "300000\nend\n", "{output:?}");
    // Nothing was typed at all: the process sees the end at once.
    let id = create(&container, &body)?;
    let (_, mut stream) = start(container.api(), &id, &json!({}))?;
    stream.get_ref().shutdown(Shutdown::Write)?;
    ensure!(frames::all(&mut stream)?.text() == "0\nend\n");
    // Without stdin asked for, a closed side means nothing, and the process has none.
    let id = create(&container, &wanting(&["sh", "-c", "cat; sleep 0.3; echo end"]))?;
    let (_, mut stream) = start(container.api(), &id, &json!({}))?;
    stream.get_ref().shutdown(Shutdown::Write)?;
    ensure!(frames::all(&mut stream)?.text() == "end\n");
    Ok(())
}

fn input_in_the_packet_of_the_request(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let mut body = wanting(&["cat"]);
    body["AttachStdin"] = json!(true);
    for upgrade in ["Connection: Upgrade\r\nUpgrade: tcp\r\n", ""] {
        let id = create(&container, &body)?;
        let mut connection = container.api().connect()?;
        let request = format!(
            "POST /exec/{id}/start HTTP/1.1\r\nHost: docker\r\n{upgrade}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}early\n"
        );
        connection.write(request.as_bytes())?;
        connection.close_write()?;
        connection.head()?;
        let output = frames::all(&mut connection.into_raw())?;
        ensure!(output.text() == "early\n", "{output:?}");
    }
    Ok(())
}

fn a_terminal_is_raw_and_has_a_size(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let mut body =
        wanting(&["sh", "-c", "stty size; echo $TERM; tty; read line; stty size; echo got $line"]);
    body["AttachStdin"] = json!(true);
    body["Tty"] = json!(true);
    body["ConsoleSize"] = json!([11, 22]);
    for (size, expected) in [(Value::Null, "11 22"), (json!([33, 44]), "33 44")] {
        let id = create(&container, &body)?;
        let (_, mut stream) = start(api, &id, &json!({"Tty": true, "ConsoleSize": size}))?;
        let seen = read_until(&mut stream, "/dev/pts/")?;
        ensure!(seen.starts_with(&format!("{expected}\r\nxterm\r\n")), "{seen:?}");
        api.post(&format!("/exec/{id}/resize?h=41&w=123"))?.expect(200)?;
        stream.get_mut().write_all(b"hi\n")?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest)?;
        // The terminal echoes what is typed.
        ensure!(rest.ends_with("hi\r\n41 123\r\ngot hi\r\n"), "{rest:?}");
    }
    Ok(())
}

fn detach_keys_end_the_connection_only(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let filter = e2e::api::filters(&[("container", &container.name)]);
    let mut events = api.stream(&api.request("GET", &format!("/events?{filter}")))?;
    for (keys, typed) in [("", b"\x10\x11".as_slice()), ("ctrl-a,x", b"\x01x")] {
        let mut body = wanting(&["sh"]);
        body["AttachStdin"] = json!(true);
        body["Tty"] = json!(true);
        body["DetachKeys"] = json!(keys);
        let id = create(&container, &body)?;
        let (_, mut stream) = start(api, &id, &json!({"Tty": true}))?;
        stream.get_mut().write_all(b"echo a$((1+1))b\n")?;
        read_until(&mut stream, "a2b\r\n")?;
        stream.get_mut().write_all(typed)?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        for action in ["exec_create: sh ", "exec_start: sh ", "exec_detach"] {
            let event = events.next_json()?.context("no event")?;
            ensure!(event["Action"] == action, "{event}");
            ensure!(event["Actor"]["Attributes"]["execID"] == id.as_str(), "{event}");
        }
        let seen = inspect(api, &id)?;
        ensure!(seen["Running"] == true && seen["ExitCode"].is_null(), "{keys}: {seen}");
        let expected = if keys.is_empty() { "" } else { "AXg=" };
        ensure!(seen["DetachKeys"] == expected, "{seen}");
    }
    Ok(())
}

fn detached_it_runs_alone(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    for tty in [false, true] {
        // More than any pipe holds: somebody must take it away.
        let mut body = wanting(&["sh", "-c", "head -c 300000 /dev/zero; exit 9"]);
        body["Tty"] = json!(tty);
        let id = create(&container, &body)?;
        let answer =
            api.post_json(&format!("/exec/{id}/start"), &json!({"Detach": true, "Tty": tty}))?;
        let answer = answer.expect(200)?;
        ensure!(answer.body.is_empty(), "{}", answer.text());
        until(Duration::from_secs(30), "the end of a detached exec", || {
            inspect(api, &id).is_ok_and(|seen| seen["ExitCode"] == 9 && seen["Running"] == false)
        })?;
    }
    Ok(())
}

fn exit_codes(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    for (text, code) in
        [("true", 0), ("false", 1), ("exit 126", 126), ("kill -9 $$", 137), ("kill $$", 143)]
    {
        let (_, seen) = script(&container, text)?;
        ensure!(seen == code, "{text}: {seen}");
    }
    Ok(())
}

fn programs_that_cannot_be_run(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    for (program, code, words) in [
        ("nobody-has-this", 127, "executable file not found in $PATH"),
        ("/nobody/has/this", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, "permission denied"),
    ] {
        let (output, seen) = run(&container, &wanting(&[program]))?;
        let text = output.text();
        ensure!(
            seen == code && text.starts_with("OCI runtime exec failed: ") && text.contains(words),
            "{program}: {seen}, {text:?}"
        );
        ensure!(text.ends_with("\r\n"), "{text:?}");
        let id = create(&container, &wanting(&[program]))?;
        let message = api
            .post_json(&format!("/exec/{id}/start"), &json!({"Detach": true}))?
            .expect_error(400)?;
        ensure!(message.contains(words), "{message}");
        ensure!(inspect(api, &id)?["ExitCode"] == code, "{program}");
    }
    Ok(())
}

fn user_variables_and_working_directory(rig: &Rig) -> Result<()> {
    let mut body = script_body(
        "echo 'web:x:3333:34::/:' >> /etc/passwd; echo 'logs:x:44:web' >> /etc/group; sleep 1000",
    );
    body["User"] = json!("0:0");
    body["Env"] = json!(["A=1", "B=2", "C=3"]);
    body["WorkingDir"] = json!("/tmp");
    body["Hostname"] = json!("box");
    body["HostConfig"]["Init"] = json!(false);
    let api = rig.host()?.api();
    let container = api.create(body)?;
    container.start()?;
    until(Duration::from_secs(10), "the user", || {
        script(&container, "grep web /etc/passwd").is_ok_and(|(_, code)| code == 0)
    })?;
    let (output, _) = script(&container, "pwd; id -u; echo $A$B$C$HOSTNAME; env | grep -c ^TERM=")?;
    ensure!(output.text() == "/tmp\n0\n123box\n0\n", "{output:?}");
    let mut body = wanting(&["sh", "-c", "pwd; id -u; id -g; id -G; echo $A$B$C"]);
    body["Env"] = json!(["A=9", "B", "C="]);
    body["WorkingDir"] = json!("/etc");
    // By name, as the container's own files say now; by number; with a group.
    for (user, ids) in [
        ("web", "3333\n34\n34 44\n"),
        ("3333", "3333\n34\n34 44\n"),
        ("1000:7", "1000\n7\n7\n"),
        ("web:logs", "3333\n44\n44\n"),
    ] {
        body["User"] = json!(user);
        let (output, code) = run(&container, &body)?;
        ensure!(code == 0 && output.text() == format!("/etc\n{ids}9\n"), "{user}: {output:?}");
    }
    body["WorkingDir"] = json!("relative");
    let (output, code) = run(&container, &body)?;
    ensure!(code != 0 && output.text().contains("bsolute"), "{code}: {output:?}");
    Ok(())
}

fn unknown_users_are_refused(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    for (user, words) in [
        (
            "nobody-has-this",
            "unable to find user nobody-has-this: no matching entries in passwd file",
        ),
        (
            "0:nobody-has-this",
            "unable to find group nobody-has-this: no matching entries in group file",
        ),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
    ] {
        let mut body = wanting(&["true"]);
        body["User"] = json!(user);
        let message = refused(&container, &body)?.expect_error(400)?;
        ensure!(message == words, "{user}: {message}");
    }
    Ok(())
}

fn privileged_has_all_capabilities(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let effective = |privileged: bool| -> Result<u64> {
        let mut body = wanting(&["sh", "-c", "grep CapEff /proc/self/status"]);
        body["Privileged"] = json!(privileged);
        let (output, _) = run(&container, &body)?;
        let text = output.text();
        let bits = text.split_whitespace().last().context("no capabilities")?;
        u64::from_str_radix(bits, 16).with_context(|| text.clone())
    };
    // CAP_SYS_ADMIN and CAP_NET_ADMIN.
    let both = 1 << 21 | 1 << 12;
    ensure!(effective(true)? & both == both, "not all");
    ensure!(effective(false)? & both == 0, "too many");
    Ok(())
}

fn only_wanted_streams_are_sent(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    for (out, err) in [(true, false), (false, true)] {
        let body = json!({"Cmd": ["sh", "-c", "echo out; echo err >&2"], "AttachStdout": out, "AttachStderr": err});
        let (output, code) = run(&container, &body)?;
        ensure!(output.text() == if out { "out\n" } else { "" }, "{output:?}");
        ensure!(output.error_text() == if err { "err\n" } else { "" }, "{output:?}");
        ensure!(code == 0, "{code}");
    }
    // None at all: the connection closes as soon as it runs.
    let id = create(&container, &json!({"Cmd": ["sleep", "1000"]}))?;
    let (_, mut stream) = start(container.api(), &id, &json!({}))?;
    ensure!(frames::all(&mut stream)?.text().is_empty());
    ensure!(inspect(container.api(), &id)?["Running"] == true);
    Ok(())
}

/// The terminal is the one of create, the frames are those of start.
fn start_decides_the_framing(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let mut body = wanting(&["sh", "-c", "echo out; echo err >&2"]);
    let id = create(&container, &body)?;
    let (head, mut stream) = start(api, &id, &json!({"Tty": true}))?;
    ensure!(head.header("Content-Type") == Some("application/vnd.docker.raw-stream"), "{head:?}");
    let mut output = Vec::new();
    stream.read_to_end(&mut output)?;
    ensure!(output == b"out\n", "{output:?}");
    body["Tty"] = json!(true);
    let id = create(&container, &body)?;
    let (_, mut stream) = start(api, &id, &json!({"Tty": false}))?;
    let output = frames::all(&mut stream)?;
    ensure!(output.text() == "out\r\nerr\r\n", "{output:?}");
    Ok(())
}

fn started_once_and_never_again(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let again = |id: &str, words: &str| -> Result<()> {
        let (head, mut stream) = start(api, id, &json!({}))?;
        ensure!(head.status == 101, "{head:?}");
        let output = frames::all(&mut stream)?;
        ensure!(output.text() == format!("exec command {id} {words}\r\n"), "{output:?}");
        let message = api
            .post_json(&format!("/exec/{id}/start"), &json!({"Detach": true}))?
            .expect_error(409)?;
        ensure!(message == format!("exec command {id} {words}"), "{message}");
        Ok(())
    };
    let id = create(&container, &wanting(&["sh", "-c", "read go; exit 5"]))?;
    api.post_json(&format!("/exec/{id}/start"), &json!({"Detach": true}))?.expect(200)?;
    until(Duration::from_secs(10), "its end", || {
        inspect(api, &id).is_ok_and(|seen| seen["Running"] == false)
    })?;
    again(&id, "has already run")?;
    let id = create(&container, &wanting(&["sleep", "1000"]))?;
    let (_, _stream) = start(api, &id, &json!({}))?;
    until(Duration::from_secs(10), "its start", || {
        inspect(api, &id).is_ok_and(|seen| seen["Running"] == true)
    })?;
    again(&id, "is already running")
}

fn a_background_process_does_not_hold_the_connection(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let (output, code) = script(&container, "sleep 1000 & echo done; exit 4")?;
    ensure!(output.text() == "done\n" && code == 4, "{code}: {output:?}");
    Ok(())
}

fn twenty_at_once(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20)
            .map(|number| {
                let container = &container;
                scope.spawn(move || script(container, &format!("echo {number}; exit {number}")))
            })
            .collect();
        for (number, one) in all.into_iter().enumerate() {
            let (output, code) = one.join().ok().context("a thread panicked")??;
            ensure!(output.text() == format!("{number}\n") && code == number, "{code}: {output:?}");
        }
        Ok(())
    })
}

fn a_client_that_never_reads_stops_nobody(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let id = create(&container, &wanting(&["sh", "-c", "yes; true"]))?;
    let (_, stuck) = start(api, &id, &json!({}))?;
    let (output, code) = script(&container, "echo free")?;
    ensure!(output.text() == "free\n" && code == 0, "{output:?}");
    ensure!(inspect(api, &id)?["Running"] == true);
    drop(stuck);
    Ok(())
}

/// Its output goes nowhere, its input ends, and it goes on.
fn a_client_that_leaves_stops_nobody(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let mut body = wanting(&["sh", "-c", "echo here; cat; head -c 1000000 /dev/zero; exit 6"]);
    body["AttachStdin"] = json!(true);
    let id = create(&container, &body)?;
    let (_, mut stream) = start(api, &id, &json!({}))?;
    ensure!(frames::next(&mut stream)? == Some((1, b"here\n".to_vec())));
    drop(stream);
    until(Duration::from_secs(30), "the end of an abandoned exec", || {
        inspect(api, &id).is_ok_and(|seen| seen["ExitCode"] == 6)
    })
}

fn inspect_tells_all(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let mut body = wanting(&["sh", "-c", "sleep 1000"]);
    body["User"] = json!("0");
    let id = create(&container, &body)?;
    let before = json!({
        "ID": id, "Running": false, "ExitCode": null,
        "ProcessConfig": {"tty": false, "entrypoint": "sh", "arguments": ["-c", "sleep 1000"], "privileged": false, "user": "0"},
        "OpenStdin": false, "OpenStderr": true, "OpenStdout": true, "CanRemove": false,
        "ContainerID": container.id, "DetachKeys": "", "Pid": 0,
    });
    let seen = inspect(api, &id)?;
    ensure!(seen == before, "{seen}");
    api.post_json(&format!("/exec/{id}/start"), &json!({"Detach": true}))?.expect(200)?;
    let seen = inspect(api, &id)?;
    ensure!(seen["Running"] == true && seen["Pid"].as_u64() > Some(0), "{seen}");
    api.get(&format!("/exec/{}/json", &id[..12]))?.expect_error(404)?;
    let message = api.get("/exec/nobody-has-this/json")?.expect_error(404)?;
    ensure!(message == "No such exec instance: nobody-has-this", "{message}");
    container.remove()?;
    let message = api.get(&format!("/exec/{id}/json"))?.expect_error(404)?;
    ensure!(message == format!("No such exec instance: {id}"), "{message}");
    let message = api.post_json(&format!("/exec/{id}/start"), &json!({}))?.expect_error(404)?;
    ensure!(
        message == format!("No such container: {id}") || message.contains("No such exec"),
        "{message}"
    );
    Ok(())
}

fn container_inspect_lists_the_live_ones(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    ensure!(container.inspect()?["ExecIDs"].is_null());
    let id = create(&container, &wanting(&["true"]))?;
    ensure!(container.inspect()?["ExecIDs"] == json!([id]));
    let (_, mut stream) = start(container.api(), &id, &json!({}))?;
    frames::all(&mut stream)?;
    ensure!(container.inspect()?["ExecIDs"].is_null());
    Ok(())
}

fn what_is_refused(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    for body in [json!({}), json!({"Cmd": []}), json!({"Cmd": null})] {
        let message = refused(&container, &body)?.expect_error(400)?;
        ensure!(message == "No exec command specified", "{message}");
    }
    let message = api
        .post_json("/containers/nobody-has-this/exec", &wanting(&["true"]))?
        .expect_error(404)?;
    ensure!(message == "No such container: nobody-has-this", "{message}");
    let mut body = wanting(&["true"]);
    body["DetachKeys"] = json!("ctrl-nonsense");
    let answer = refused(&container, &body)?;
    ensure!(
        answer.message() == "Invalid escape keys (ctrl-nonsense) provided",
        "{}",
        answer.text()
    );
    // dockerd blames itself (500).
    ensure!(matches!(answer.status(), 400 | 500), "{}", answer.status());
    for path in ["start", "resize?h=1&w=1"] {
        let message = api
            .post_json(&format!("/exec/nobody-has-this/{path}"), &json!({}))?
            .expect_error(404)?;
        ensure!(message == "No such exec instance: nobody-has-this", "{message}");
    }
    let id = create(&container, &wanting(&["true"]))?;
    let request = api.request("POST", &format!("/exec/{id}/start"));
    api.send(&request.header("Content-Type", "application/json").bytes("{"))?.expect_error(400)?;
    ensure!(inspect(api, &id)?["ExitCode"].is_null(), "it was started");
    Ok(())
}

fn not_in_a_stopped_container(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let ended = create(&container, &wanting(&["sh", "-c", "exit 3"]))?;
    let (_, mut stream) = start(api, &ended, &json!({}))?;
    frames::all(&mut stream)?;
    let id = create(&container, &wanting(&["true"]))?;
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    let words = format!("container {} is not running", container.id);
    let message = refused(&container, &wanting(&["true"]))?.expect_error(409)?;
    ensure!(message == words, "{message}");
    // What was never started goes with the run that it was made for; what has ended stays.
    let gone = format!("No such exec instance: {id}");
    for body in [json!({}), json!({"Detach": true})] {
        let message = api.post_json(&format!("/exec/{id}/start"), &body)?.expect_error(404)?;
        ensure!(message == gone, "{message}");
    }
    ensure!(api.get(&format!("/exec/{id}/json"))?.expect_error(404)? == gone);
    ensure!(inspect(api, &ended)?["ExitCode"] == 3);
    for path in ["start", "resize?h=1&w=1"] {
        let message =
            api.post_json(&format!("/exec/{ended}/{path}"), &json!({}))?.expect_error(409)?;
        ensure!(message == words, "{message}");
    }
    container.start()?;
    ensure!(api.get(&format!("/exec/{id}/json"))?.expect_error(404)? == gone);
    let created = api.create(script_body("true"))?;
    refused(&created, &wanting(&["true"]))?.expect_error(409)?;
    Ok(())
}

fn not_in_a_paused_container(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let host = rig.host()?;
    let id = create(&container, &wanting(&["true"]))?;
    if host.is_ours() {
        host.ctr(&["tasks", "pause", &container.id])?;
    } else {
        container.post("/pause")?.expect(204)?;
    }
    until(Duration::from_secs(10), "the pause", || {
        container.status().is_ok_and(|status| status == "paused")
    })?;
    let message = refused(&container, &wanting(&["true"]))?.expect_error(409)?;
    let words = "is paused, unpause the container before exec";
    ensure!(message == format!("Container {} {words}", container.id), "{message}");
    let message = api.post_json(&format!("/exec/{id}/start"), &json!({}))?.expect_error(409)?;
    ensure!(message == format!("Container {} {words}", container.id), "{message}");
    Ok(())
}

fn the_containers_end_ends_it(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let id = create(&container, &wanting(&["sh", "-c", "echo here; sleep 1000"]))?;
    let (_, mut stream) = start(api, &id, &json!({}))?;
    ensure!(frames::next(&mut stream)? == Some((1, b"here\n".to_vec())));
    container.post("/kill")?.expect(204)?;
    ensure!(frames::all(&mut stream)?.text().is_empty());
    let seen = inspect(api, &id)?;
    ensure!(seen["Running"] == false && seen["ExitCode"] == 137, "{seen}");
    Ok(())
}

fn resizes(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let id = create(&container, &wanting(&["sleep", "1000"]))?;
    for query in ["", "?h=1", "?h=x&w=1", "?h=-1&w=1", "?h=1&w=99999999999"] {
        api.post(&format!("/exec/{id}/resize{query}"))?
            .expect_error(400)
            .with_context(|| query.to_owned())?;
    }
    api.post_json(&format!("/exec/{id}/start"), &json!({"Detach": true}))?.expect(200)?;
    // Without a terminal it means nothing.
    api.post(&format!("/exec/{id}/resize?h=10&w=10"))?.expect(200)?;
    let id = create(&container, &wanting(&["nobody-has-this"]))?;
    api.post_json(&format!("/exec/{id}/start"), &json!({"Detach": true}))?.expect_error(400)?;
    let message = api.post(&format!("/exec/{id}/resize?h=10&w=10"))?.expect_error(400)?;
    ensure!(message == "exec process is not started", "{message}");
    Ok(())
}

fn events_tell_of_it(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let filter = e2e::api::filters(&[("container", &container.name)]);
    let mut events: Stream = api.stream(&api.request("GET", &format!("/events?{filter}")))?;
    let id = create(&container, &wanting(&["sh", "-c", "exit 3"]))?;
    let (_, mut stream) = start(api, &id, &json!({}))?;
    frames::all(&mut stream)?;
    for (action, code) in [
        ("exec_create: sh -c exit 3", None),
        ("exec_start: sh -c exit 3", None),
        ("exec_die", Some("3")),
    ] {
        let event = events.next_json()?.context("no event")?;
        let attributes = &event["Actor"]["Attributes"];
        ensure!(
            event["Action"] == action && event["Actor"]["ID"] == container.id.as_str(),
            "{event}"
        );
        ensure!(
            attributes["execID"] == id.as_str() && attributes["name"] == container.name.as_str(),
            "{event}"
        );
        ensure!(attributes["exitCode"].as_str() == code, "{event}");
    }
    Ok(())
}

fn older_versions_ignore_the_console_size(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let mut body = wanting(&["stty", "size"]);
    body["Tty"] = json!(true);
    body["ConsoleSize"] = json!([11, 22]);
    for (version, honoured) in [("1.41", false), ("1.42", true)] {
        let api = container.api().at(version);
        let answer = api.post_json(&container.path("/exec"), &body)?.expect(201)?.json()?;
        let id = answer["Id"].as_str().context("no id")?;
        let (_, mut stream) = start(&api, id, &json!({"Tty": true}))?;
        let mut output = String::new();
        stream.read_to_string(&mut output)?;
        ensure!(output.contains("11 22") == honoured, "{version}: {output:?}");
    }
    Ok(())
}

fn cli_exit_codes(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let docker = Docker::newest(rig.host()?).or_skip()?;
    for (arguments, code) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 42"], 42),
        (&["/etc/passwd"], 126),
        (&["/etc"], 126),
        (&["nobody-has-this"], 127),
        (&["sh", "-c", "kill -9 $$"], 137),
    ] {
        let mut words = vec!["exec", container.name.as_str()];
        words.extend(arguments);
        let ended = docker.run(&words)?;
        ensure!(ended.code == code, "{arguments:?}: {ended:?}");
    }
    let out = docker
        .run(&[
            "exec",
            "-e",
            "A=1",
            "-w",
            "/tmp",
            "-u",
            "1000:7",
            &container.name,
            "sh",
            "-c",
            "echo $A $PWD $(id -u)",
        ])?
        .success()?;
    ensure!(out == "1 /tmp 1000\n", "{out:?}");
    let ended = docker.run(&["exec", "-u", "nobody-has-this", &container.name, "true"])?;
    ensure!(ended.code == 126 || ended.code == 1, "{ended:?}");
    ensure!(ended.stderr.contains("unable to find user nobody-has-this"), "{ended:?}");
    Ok(())
}

fn cli_on_a_terminal(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let docker = Docker::newest(rig.host()?).or_skip()?;
    let mut terminal = docker.on_terminal(&["exec", "-it", &container.name, "sh"])?;
    terminal.resize(41, 123)?;
    terminal.type_until(b"stty size\n", "41 123")?;
    terminal.type_keys(b"exit 3\n")?;
    ensure!(terminal.wait()? == 3);
    let mut terminal = docker.on_terminal(&["exec", "-it", &container.name, "sh"])?;
    terminal.type_until(b"echo a$((1+1))b\n", "a2b")?;
    terminal.type_keys(b"\x10\x11")?;
    terminal.wait()?;
    Ok(())
}

fn cli_detached_and_piped(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let docker = Docker::newest(rig.host()?).or_skip()?;
    docker.run(&["exec", "-d", &container.name, "touch", "/tmp/mark"])?.success()?;
    until(Duration::from_secs(10), "the mark", || {
        docker
            .run(&["exec", &container.name, "test", "-e", "/tmp/mark"])
            .is_ok_and(|ended| ended.code == 0)
    })?;
    let ended = docker
        .run_with_input(&["exec", "-i", &container.name, "sha256sum"], &vec![b'x'; 1_000_000])?;
    let expected = "1b977e9f84f1b26b6ed7f68b0498faee2385ea4125bd29adce4a7d9106ba3134  -\n";
    ensure!(ended.success()? == expected);
    Ok(())
}

/// Directories of FIFOs that are there.
fn directories(rig: &Rig) -> Result<Vec<String>> {
    let run = rig.host()?.sandbox()?.inside("/run/nerdctld");
    let mut found = Vec::new();
    for store in std::fs::read_dir(&run).into_iter().flatten().flatten() {
        for namespace in
            std::fs::read_dir(store.path().join("exec")).into_iter().flatten().flatten()
        {
            for exec in std::fs::read_dir(namespace.path()).into_iter().flatten().flatten() {
                found.push(exec.file_name().to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

fn nothing_is_left_behind(rig: &Rig) -> Result<()> {
    let container = waiting(rig)?;
    let api = container.api();
    let mine = || -> Result<usize> {
        Ok(directories(rig)?.iter().filter(|name| name.starts_with(&container.id)).count())
    };
    let id = create(&container, &wanting(&["sleep", "1000"]))?;
    let (_, stream) = start(api, &id, &json!({}))?;
    until(Duration::from_secs(10), "its start", || {
        inspect(api, &id).is_ok_and(|seen| seen["Pid"].as_u64() > Some(0))
    })?;
    ensure!(mine()? == 1, "the test looks in the wrong place");
    script(&container, "echo hi")?;
    run(&container, &wanting(&["nobody-has-this"]))?;
    let detached = create(&container, &wanting(&["true"]))?;
    api.post_json(&format!("/exec/{detached}/start"), &json!({"Detach": true}))?.expect(200)?;
    until(Duration::from_secs(10), "the end of FIFOs", || mine().is_ok_and(|count| count == 1))?;
    // containerd knows the one that runs, and no other.
    let pid = inspect(api, &id)?["Pid"].as_u64().context("no pid")?;
    let processes = rig.host()?.ctr(&["tasks", "ps", &container.id])?;
    ensure!(processes.contains(&id), "{pid}: {processes}");
    ensure!(!processes.contains(&detached), "{processes}");
    container.post("/kill")?.expect(204)?;
    drop(stream);
    until(Duration::from_secs(10), "the end of all FIFOs", || mine().is_ok_and(|count| count == 0))
}

/// Whoever starts it is gone; nobody else may be held up by that, and nothing stays.
fn a_dead_daemons_execs_go_on(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let container = api.run_script("sleep 1000")?;
            // It writes more than a FIFO holds before it leaves a mark.
            let id = create(
                &container,
                &wanting(&["sh", "-c", "sleep 1; head -c 500000 /dev/zero; touch /tmp/mark"]),
            )?;
            let (_, stream) = start(&api, &id, &json!({}))?;
            until(Duration::from_secs(10), "its start", || {
                inspect(&api, &id).is_ok_and(|seen| seen["Pid"].as_u64() > Some(0))
            })?;
            host.kill_daemon()?;
            drop(stream);
            host.start_daemon()?;
            api.get(&format!("/exec/{id}/json"))?.expect_error(404)?;
            until(Duration::from_secs(30), "the mark", || {
                script(&container, "test -e /tmp/mark").is_ok_and(|(_, code)| code == 0)
            })?;
            until(Duration::from_secs(10), "the end of the exec", || {
                host.ctr(&["tasks", "ps", &container.id]).is_ok_and(|seen| !seen.contains(&id))
            })
        },
    )
}

fn nerdctl_and_we_exec_in_each_others(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    e2e::peers::program("nerdctl", "nerdctl").or_skip()?;
    let ours = waiting(rig)?;
    let out = host.nerdctl(&["exec", "-u", "1000:7", &ours.name, "id", "-u"])?;
    ensure!(out.trim() == "1000", "{out}");
    let name = unique("theirs");
    host.nerdctl(&["run", "-d", "--net=none", "--name", &name, "busybox", "sleep", "1000"])?;
    let api = host.api();
    until(Duration::from_secs(10), "nerdctl's container", || {
        api.get(&format!("/containers/{name}/json")).is_ok_and(|answer| answer.status() == 200)
    })?;
    let outcome = (|| {
        let mut body = wanting(&["sh", "-c", "id -un; cat; exit 8"]);
        body["AttachStdin"] = json!(true);
        body["User"] = json!("daemon");
        let answer =
            api.post_json(&format!("/containers/{name}/exec"), &body)?.expect(201)?.json()?;
        let id = answer["Id"].as_str().context("no id")?;
        let (_, mut stream) = start(&api, id, &json!({}))?;
        stream.get_mut().write_all(b"typed")?;
        stream.get_ref().shutdown(Shutdown::Write)?;
        ensure!(frames::all(&mut stream)?.text() == "daemon\ntyped");
        ensure!(inspect(&api, id)?["ExitCode"] == 8);
        Ok(())
    })();
    host.nerdctl(&["rm", "-f", &name])?;
    outcome
}
