//! Attached clients: the hand-over of the connection, standard input, half-closed connections, several at once, terminals.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use e2e::api::script_body;
use e2e::sandbox::until;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, frames, tests};
use serde_json::{Value, json};

use crate::read_until;

pub(crate) const TESTS: &[Test] = tests![
    with_upgrade_the_head_is_101,
    without_upgrade_the_head_is_200,
    content_types_differ_by_version,
    nothing_is_lost_before_the_start,
    // dockerd drops such bytes (moby `daemon/server/httputils`: the reader of the hijack is not used).
    input_in_the_packet_of_the_request.ours_only(),
    a_half_closed_connection_still_gets_output,
    input_stays_open_unless_asked_for_once,
    // dockerd leaves the input open where its output's side fails first.
    a_client_that_vanishes_ends_the_input.ours_only(),
    // dockerd lets go of it with the container's next output.
    nothing_is_held_for_a_client_that_vanished.ours_only(),
    input_needs_open_stdin,
    all_clients_get_all,
    // With dockerd it stops the container (moby `daemon/internal/stream`: writers wait).
    a_slow_client_stops_nobody.ours_only(),
    the_log_is_replayed_first,
    only_the_log,
    streams_are_chosen,
    a_terminal_is_raw,
    detach_keys_end_the_connection_only,
    bad_detach_keys_are_refused,
    nobody_to_attach_to,
    the_end_comes_after_the_exit_is_known,
    resize_changes_the_terminal,
    resize_of_what_does_not_run,
    bollard_attaches,
];

fn interactive(api: &Api, script: &str, change: impl FnOnce(&mut Value)) -> Result<Container> {
    let mut body = script_body(script);
    body["OpenStdin"] = json!(true);
    body["StdinOnce"] = json!(true);
    change(&mut body);
    api.create(body)
}

const ALL: &str = "stream=1&stdin=1&stdout=1&stderr=1";

fn with_upgrade_the_head_is_101(rig: &Rig) -> Result<()> {
    let container = interactive(&rig.host()?.api(), "cat", |_| ())?;
    let (head, _) = container.attach(ALL)?;
    ensure!(head.status == 101 && head.reason == "UPGRADED", "{head:?}");
    ensure!(
        head.header("Connection") == Some("Upgrade") && head.header("Upgrade") == Some("tcp"),
        "{head:?}"
    );
    ensure!(
        head.header("Content-Length").is_none() && head.header("Transfer-Encoding").is_none(),
        "{head:?}"
    );
    Ok(())
}

fn without_upgrade_the_head_is_200(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = interactive(&api, "cat", |_| ())?;
    let (head, mut stream) =
        api.hijack(&api.request("POST", &container.path(&format!("/attach?{ALL}"))))?;
    ensure!(head.status == 200 && head.reason == "OK", "{head:?}");
    ensure!(head.header("Content-Type") == Some("application/vnd.docker.raw-stream"), "{head:?}");
    ensure!(
        head.header("Content-Length").is_none() && head.header("Transfer-Encoding").is_none(),
        "{head:?}"
    );
    container.start()?;
    stream.get_mut().write_all(b"ping\n")?;
    ensure!(frames::next(&mut stream)? == Some((1, b"ping\n".to_vec())));
    Ok(())
}

fn content_types_differ_by_version(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (tty, version, kind) in [
        (false, "1.41", "application/vnd.docker.raw-stream"),
        (false, "1.42", "application/vnd.docker.multiplexed-stream"),
        (true, "1.42", "application/vnd.docker.raw-stream"),
    ] {
        let container = interactive(&api, "cat", |body| body["Tty"] = json!(tty))?;
        let at = api.at(version);
        let (head, _) = at.hijack(
            &at.request("POST", &container.path("/attach?stream=1&stdout=1")).upgrade("tcp"),
        )?;
        ensure!(head.header("Content-Type") == Some(kind), "{version}, tty {tty}: {head:?}");
    }
    Ok(())
}

fn nothing_is_lost_before_the_start(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for _ in 0..5 {
        let container = api.create(script_body("echo first; echo second >&2; exit 3"))?;
        let (_, mut stream) = container.attach("stream=1&stdout=1&stderr=1")?;
        container.start()?;
        let output = frames::all(&mut stream)?;
        ensure!(output.text() == "first\n" && output.error_text() == "second\n", "{output:?}");
    }
    Ok(())
}

fn input_in_the_packet_of_the_request(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = interactive(&api, "cat", |_| ())?;
    container.start()?;
    let mut connection = api.connect()?;
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nearly\n",
        container.path(&format!("/attach?{ALL}"))
    );
    connection.write(request.as_bytes())?;
    ensure!(connection.head()?.status == 101);
    connection.close_write()?;
    let output = frames::all(&mut connection.into_raw())?;
    ensure!(output.text() == "early\n", "{output:?}");
    Ok(())
}

fn a_half_closed_connection_still_gets_output(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container =
        interactive(&api, "sum=$(cat | wc -c); sleep 0.5; echo $sum; sleep 0.5; echo end", |_| ())?;
    let (_, mut stream) = container.attach(ALL)?;
    container.start()?;
    stream.get_mut().write_all(&vec![b'x'; 300_000])?;
    stream.get_ref().shutdown(Shutdown::Write)?;
    let output = frames::all(&mut stream)?;
    ensure!(output.text() == "300000\nend\n", "{output:?}");
    ensure!(container.wait()? == 0);
    Ok(())
}

fn input_stays_open_unless_asked_for_once(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = interactive(&api, "while read line; do echo got $line; done", |body| {
        body["StdinOnce"] = json!(false);
    })?;
    container.start()?;
    for name in ["one", "two"] {
        let (_, mut stream) = container.attach(ALL)?;
        stream.get_mut().write_all(format!("{name}\n").as_bytes())?;
        ensure!(
            frames::next(&mut stream)? == Some((1, format!("got {name}\n").into_bytes())),
            "{name}"
        );
        stream.get_ref().shutdown(Shutdown::Write)?;
    }
    std::thread::sleep(Duration::from_millis(300));
    ensure!(container.status()? == "running", "its input was closed");
    Ok(())
}

fn a_client_that_vanishes_ends_the_input(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let script = "read line; echo got $line; echo read $(cat | wc -c); sleep 1000";
    let container = interactive(&api, script, |_| ())?;
    let (_, mut stream) = container.attach(ALL)?;
    container.start()?;
    stream.get_mut().write_all(b"one\n")?;
    container.until_logged("got one")?;
    stream.get_mut().write_all(b"four")?;
    drop(stream);
    container.until_logged("read 4")
}

fn nothing_is_held_for_a_client_that_vanished(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let container = interactive(&host.api(), "cat; sleep 1000", |_| ())?;
            container.start()?;
            let sockets = || -> Result<usize> {
                let links = std::fs::read_dir(format!("/proc/{}/fd", host.daemon_pid()?))?;
                let links = links.flatten().filter_map(|link| std::fs::read_link(link.path()).ok());
                Ok(links.filter(|to| to.to_string_lossy().starts_with("socket:")).count())
            };
            let before = sockets()?;
            let (_, stream) = container.attach(ALL)?;
            ensure!(sockets()? > before, "a client has no socket");
            drop(stream);
            until(Duration::from_secs(10), "the client's sockets are closed", || {
                sockets().is_ok_and(|now| now <= before)
            })?;
            ensure!(container.status()? == "running");
            Ok(())
        },
    )
}

fn input_needs_open_stdin(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("cat; echo end"))?;
    let (_, mut stream) = container.attach(ALL)?;
    let _ = stream.get_mut().write_all(b"lost\n");
    container.start()?;
    let output = frames::all(&mut stream)?;
    ensure!(output.text() == "end\n", "{output:?}");
    Ok(())
}

fn all_clients_get_all(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container =
        interactive(&api, "read go; for i in $(seq 1 2000); do echo line $i; done", |_| ())?;
    container.start()?;
    let clients =
        (0..4).map(|_| Ok(container.attach("stream=1&stdout=1")?.1)).collect::<Result<Vec<_>>>()?;
    let (_, mut stdin) = container.attach("stream=1&stdin=1")?;
    stdin.get_mut().write_all(b"go\n")?;
    let expected: String = (1..=2000).map(|number| format!("line {number}\n")).collect();
    for mut client in clients {
        let output = frames::all(&mut client)?;
        ensure!(output.text() == expected, "{} bytes", output.stdout.len());
    }
    Ok(())
}

fn a_slow_client_stops_nobody(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = interactive(
        &api,
        "read go; head -c 30000000 /dev/zero | tr '\\0' x | fold -w 1000; echo; echo end",
        |_| (),
    )?;
    container.start()?;
    // It reads nothing, for ever.
    let (_, slow) = container.attach("stream=1&stdout=1")?;
    let (_, mut stdin) = container.attach("stream=1&stdin=1")?;
    stdin.get_mut().write_all(b"go\n")?;
    ensure!(container.wait()? == 0);
    ensure!(container.logs("&tail=1")?.text() == "end\n");
    drop(slow);
    Ok(())
}

fn the_log_is_replayed_first(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = interactive(&api, "echo old; read go; echo new", |_| ())?;
    container.start()?;
    container.until_logged("old")?;
    let (_, mut stream) = container.attach("logs=1&stream=1&stdin=1&stdout=1")?;
    ensure!(frames::next(&mut stream)? == Some((1, b"old\n".to_vec())));
    stream.get_mut().write_all(b"go\n")?;
    ensure!(frames::all(&mut stream)?.text() == "new\n");
    Ok(())
}

fn only_the_log(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.run_script("echo old; sleep 1000")?;
    container.until_logged("old")?;
    let (_, mut stream) = container.attach("logs=1&stdout=1")?;
    ensure!(frames::all(&mut stream)?.text() == "old\n", "it ends after the replay");
    let (_, mut stream) = container.attach("stdout=1")?;
    ensure!(frames::all(&mut stream)?.text().is_empty(), "neither log nor stream: it ends at once");
    Ok(())
}

fn streams_are_chosen(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("echo out; echo err >&2"))?;
    let (_, mut only_err) = container.attach("stream=1&stderr=1")?;
    container.start()?;
    let output = frames::all(&mut only_err)?;
    ensure!(output.text().is_empty() && output.error_text() == "err\n", "{output:?}");
    Ok(())
}

fn a_terminal_is_raw(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = interactive(&api, "tty; echo err >&2; read line; echo got $line", |body| {
        body["Tty"] = json!(true);
    })?;
    let (_, mut stream) = container.attach(ALL)?;
    container.start()?;
    let seen = read_until(&mut stream, "err\r\n")?;
    ensure!(seen.starts_with("/dev/pts/0\r\n") || seen.starts_with("/dev/console\r\n"), "{seen:?}");
    stream.get_mut().write_all(b"hi\n")?;
    let mut rest = String::new();
    stream.read_to_string(&mut rest)?;
    // The terminal echoes what is typed.
    ensure!(rest == "hi\r\ngot hi\r\n", "{rest:?}");
    Ok(())
}

fn detach_keys_end_the_connection_only(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (query, keys) in [
        ("", b"\x10\x11".as_slice()),
        ("&detachKeys=ctrl-a,x", b"\x01x"),
        ("&detachKeys=a,b,c", b"abc"),
    ] {
        let container = interactive(&api, "while read line; do echo got $line; done", |body| {
            body["Tty"] = json!(true);
        })?;
        let (_, mut stream) = container.attach(&format!("{ALL}{query}"))?;
        container.start()?;
        stream.get_mut().write_all(b"one\n")?;
        read_until(&mut stream, "got one\r\n")?;
        stream.get_mut().write_all(keys)?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        ensure!(container.status()? == "running", "{query}");
        // And it can be attached to again.
        let (_, mut again) = container.attach(ALL)?;
        again.get_mut().write_all(b"two\n")?;
        read_until(&mut again, "got two\r\n").with_context(|| query.to_owned())?;
    }
    Ok(())
}

fn bad_detach_keys_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = interactive(&api, "cat", |body| body["Tty"] = json!(true))?;
    let response = api.send(
        &api.request("POST", &container.path(&format!("/attach?{ALL}&detachKeys=ctrl-nonsense")))
            .upgrade("tcp"),
    )?;
    // dockerd writes this one error as text.
    ensure!(
        response.status() == 400
            && response.text().contains("Invalid detach keys (ctrl-nonsense) provided"),
        "{}",
        response.text()
    );
    Ok(())
}

fn nobody_to_attach_to(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let response = api.send(
        &api.request("POST", "/containers/nobody-has-this/attach?stream=1&stdout=1").upgrade("tcp"),
    )?;
    ensure!(
        response.status() == 404 && response.text().contains("No such container: nobody-has-this"),
        "{}",
        response.text()
    );
    Ok(())
}

fn the_end_comes_after_the_exit_is_known(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for _ in 0..5 {
        let container = api.create(script_body("echo x; exit 5"))?;
        let (_, mut stream) = container.attach("stream=1&stdout=1")?;
        container.start()?;
        frames::all(&mut stream)?;
        ensure!(container.wait()? == 5);
    }
    Ok(())
}

fn resize_changes_the_terminal(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container =
        interactive(&api, "while read line; do stty size; done", |body| body["Tty"] = json!(true))?;
    let (_, mut stream) = container.attach(ALL)?;
    container.start()?;
    container.post("/resize?h=41&w=123")?.expect(200)?;
    stream.get_mut().write_all(b"\n")?;
    read_until(&mut stream, "41 123\r\n")?;
    for query in ["", "?h=1", "?h=x&w=1", "?h=-1&w=1", "?h=1&w=99999999999"] {
        container
            .post(&format!("/resize{query}"))?
            .expect_error(400)
            .with_context(|| query.to_owned())?;
    }
    Ok(())
}

fn resize_of_what_does_not_run(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = interactive(&api, "cat", |body| body["Tty"] = json!(true))?;
    let message = container.post("/resize?h=10&w=10")?.expect_error(409)?;
    ensure!(message == format!("container {} is not running", container.id), "{message}");
    api.post("/containers/nobody-has-this/resize?h=10&w=10")?.expect_error(404)?;
    Ok(())
}

fn bollard_attaches(rig: &Rig) -> Result<()> {
    use bollard::query_parameters::AttachContainerOptionsBuilder;
    use futures_util::StreamExt as _;
    let host = rig.host()?;
    let container = host.api().create(script_body("echo one; echo two >&2"))?;
    let docker = crate::bollard(host)?;
    crate::runtime()?.block_on(async {
        let options =
            AttachContainerOptionsBuilder::default().stream(true).stdout(true).stderr(true).build();
        let attached = docker.attach_container(&container.id, Some(options)).await?;
        docker.start_container(&container.id, None).await?;
        let lines: Vec<String> = attached
            .output
            .map(|line| line.map_or_else(|e| e.to_string(), |line| line.to_string()))
            .collect()
            .await;
        ensure!(
            lines.contains(&"one\n".to_owned()) && lines.contains(&"two\n".to_owned()),
            "{lines:?}"
        );
        let waited: Vec<_> = docker.wait_container(&container.id, None).collect().await;
        ensure!(matches!(&waited[..], [Ok(answer)] if answer.status_code == 0), "{waited:?}");
        let inspect = docker.inspect_container(&container.id, None).await?;
        ensure!(inspect.id.as_deref() == Some(&container.id), "{inspect:?}");
        let list = docker
            .list_containers(Some(
                bollard::query_parameters::ListContainersOptionsBuilder::default()
                    .all(true)
                    .build(),
            ))
            .await?;
        ensure!(list.iter().any(|row| row.id.as_deref() == Some(&container.id)), "{list:?}");
        Ok(())
    })
}
