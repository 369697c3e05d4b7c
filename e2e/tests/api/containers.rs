//! The life of a container: start, wait, stop, kill, remove.

use std::time::{Duration, Instant};

use e2e::api::{BUSYBOX, script_body};
use e2e::sandbox::until;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    states_follow_each_other,
    exit_codes_are_kept,
    a_container_starts_again,
    starting_twice_changes_nothing,
    start_takes_no_body,
    a_program_that_is_not_there,
    wait_answers_its_head_at_once,
    wait_for_the_next_exit,
    wait_for_the_removal,
    wait_knows_its_conditions,
    wait_below_1_30,
    stop_asks_then_kills,
    stop_with_a_signal,
    stop_of_a_stopped_one,
    kill_sends_any_signal,
    kill_of_what_does_not_run,
    remove_needs_force_while_it_runs,
    remove_of_what_is_not_there,
    auto_remove_frees_the_name,
    // dockerd gives a start up with its client.
    clients_that_leave_change_nothing.ours_only(),
    many_at_once,
];

/// A shell that waits in small steps, so that it acts on signals at once.
const IDLE: &str = "while :; do sleep 0.1; done";

fn started(api: &Api, script: &str) -> Result<Container> {
    let container = api.run_script(&format!("{script}; echo ready; {IDLE}"))?;
    container.until_logged("ready")?;
    Ok(container)
}

fn states_follow_each_other(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("read line; exit 3"))?;
    ensure!(container.status()? == "created");
    ensure!(container.listed()?.context("not listed")?["Status"] == "Created");
    ensure!(container.wait()? == 0, "a created one does not run, so a wait ends");
    container.remove()?;
    let mut body = script_body("exec sleep 1000");
    body["StopSignal"] = json!("SIGKILL");
    let container = api.create(script_body("exec sleep 1000"))?;
    container.start()?;
    let state = container.inspect()?["State"].clone();
    ensure!(
        state["Status"] == "running" && state["Running"] == true && state["ExitCode"] == 0,
        "{state}"
    );
    ensure!(state["Pid"].as_u64().is_some_and(|pid| pid > 1), "{state}");
    ensure!(state["FinishedAt"] == "0001-01-01T00:00:00Z", "{state}");
    let row = container.listed()?.context("not listed")?;
    ensure!(
        row["State"] == "running"
            && row["Status"].as_str().is_some_and(|text| text.starts_with("Up ")),
        "{row}"
    );
    container.post("/kill")?.expect(204)?;
    ensure!(container.wait()? == 137);
    let state = container.inspect()?["State"].clone();
    ensure!(
        state["Status"] == "exited"
            && state["Running"] == false
            && state["ExitCode"] == 137
            && state["Pid"] == 0,
        "{state}"
    );
    ensure!(
        state["OOMKilled"] == false && state["Dead"] == false && state["Error"] == "",
        "{state}"
    );
    let (started, finished) =
        (state["StartedAt"].as_str().unwrap_or(""), state["FinishedAt"].as_str().unwrap_or(""));
    ensure!(started.starts_with("20") && started.ends_with('Z') && started < finished, "{state}");
    let row = container.listed()?.context("not listed")?;
    ensure!(
        row["State"] == "exited"
            && row["Status"].as_str().is_some_and(|text| text.starts_with("Exited (137) ")),
        "{row}"
    );
    container.remove()?;
    ensure!(container.listed()?.is_none());
    Ok(())
}

fn exit_codes_are_kept(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 42", 42),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$; sleep 9", 0),
    ] {
        let container = api.run_script(script)?;
        // Process 1 of a PID namespace has no default handlers: the last script sleeps to its end, or is signalled.
        let seen = container.wait()?;
        let expected = if script.starts_with("kill -9") || script.starts_with("kill -TERM") {
            vec![code, 0, 143]
        } else {
            vec![code]
        };
        ensure!(expected.contains(&seen), "{script}: {seen}");
        ensure!(container.inspect()?["State"]["ExitCode"] == seen, "{script}");
    }
    Ok(())
}

fn a_container_starts_again(rig: &Rig) -> Result<()> {
    let container = rig
        .host()?
        .api()
        .run_script("n=$(cat /count 2>/dev/null); echo ${n}x > /count; cat /count; exit 5")?;
    ensure!(container.wait()? == 5);
    let first = container.inspect()?["State"].clone();
    container.start()?;
    ensure!(container.wait()? == 5);
    let second = container.inspect()?["State"].clone();
    ensure!(second["StartedAt"].as_str() > first["FinishedAt"].as_str(), "{first} {second}");
    // Files and log live on.
    let text = container.logs("")?.text();
    ensure!(text == "x\nxx\n", "{text:?}");
    Ok(())
}

fn starting_twice_changes_nothing(rig: &Rig) -> Result<()> {
    let container = started(&rig.host()?.api(), "true")?;
    let before = container.inspect()?["State"].clone();
    let response = container.post("/start")?.expect(304)?;
    ensure!(response.body.is_empty());
    ensure!(container.inspect()?["State"] == before);
    Ok(())
}

fn start_takes_no_body(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let request = api.request("POST", &container.path("/start")).json(&json!({"Binds": ["/a:/b"]}));
    let message = api.send(&request)?.expect_error(400)?;
    ensure!(
        message
            == "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        "{message}"
    );
    ensure!(container.status()? == "created");
    // Some clients send `null` or `{}`.
    api.send(&api.request("POST", &container.path("/start")).json(&Value::Null))?.expect(204)?;
    Ok(())
}

fn a_program_that_is_not_there(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (program, words, code) in [
        ("nobody-has-this", "executable file not found in $PATH", 127),
        ("/nobody/has/this", "no such file or directory", 127),
        ("/etc/passwd", "permission denied", 126),
    ] {
        let container =
            api.create(json!({"Cmd": [program], "HostConfig": {"NetworkMode": "none"}}))?;
        let message = container.post("/start")?.expect_error(400)?;
        ensure!(message.contains(words), "{program}: {message}");
        let state = container.inspect()?["State"].clone();
        ensure!(state["ExitCode"] == code && state["Running"] == false, "{program}: {state}");
        ensure!(
            state["Error"].as_str().is_some_and(|error| error.contains(words)),
            "{program}: {state}"
        );
        ensure!(state["Status"] == "created", "{program}: {state}");
        container.remove()?;
    }
    Ok(())
}

fn wait_answers_its_head_at_once(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = started(&api, "trap 'exit 7' TERM")?;
    for condition in ["", "?condition=not-running", "?condition=next-exit"] {
        let mut stream =
            api.stream(&api.request("POST", &container.path(&format!("/wait{condition}"))))?;
        ensure!(
            stream.head.status == 200
                && stream.head.header("content-type") == Some("application/json"),
            "{:?}",
            stream.head
        );
        container.post("/kill?signal=TERM")?.expect(204)?;
        let answer = stream.next_json()?.context("no answer")?;
        ensure!(
            answer["StatusCode"] == 7 && answer.get("Error").is_none_or(Value::is_null),
            "{answer}"
        );
        container.start()?;
        container.until_logged("ready")?;
        until(Duration::from_secs(10), "its trap is set", || {
            container.logs("").is_ok_and(|output| output.text().ends_with("ready\n"))
        })?;
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

fn wait_for_the_next_exit(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("exit 9"))?;
    // As `docker run` does: registered before the start.
    let mut stream =
        api.stream(&api.request("POST", &container.path("/wait?condition=next-exit")))?;
    ensure!(stream.head.status == 200);
    container.start()?;
    ensure!(stream.next_json()?.context("no answer")?["StatusCode"] == 9);
    // It has exited; the next exit is another one.
    let mut stream =
        api.stream(&api.request("POST", &container.path("/wait?condition=next-exit")))?;
    stream.patience(Duration::from_millis(700))?;
    ensure!(stream.next_json().is_err(), "an old exit was told as the next one");
    ensure!(container.wait()? == 9);
    // Its removal ends such a wait.
    let mut stream =
        api.stream(&api.request("POST", &container.path("/wait?condition=next-exit")))?;
    container.remove()?;
    ensure!(stream.next_json()?.is_some());
    Ok(())
}

fn wait_for_the_removal(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for auto_remove in [false, true] {
        let mut body = script_body("exit 4");
        body["HostConfig"]["AutoRemove"] = json!(auto_remove);
        let container = api.create(body)?;
        let mut stream =
            api.stream(&api.request("POST", &container.path("/wait?condition=removed")))?;
        container.start()?;
        if !auto_remove {
            ensure!(container.wait()? == 4);
            container.remove()?;
        }
        let answer = stream.next_json()?.context("no answer")?;
        ensure!(answer["StatusCode"] == 4, "auto-remove {auto_remove}: {answer}");
        ensure!(api.get(&container.path("/json"))?.status() == 404, "it is still there");
    }
    Ok(())
}

fn wait_knows_its_conditions(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let message = container.post("/wait?condition=sometime")?.expect_error(400)?;
    ensure!(message == "invalid condition: \"sometime\"", "{message}");
    let message = api.post("/containers/nobody-has-this/wait")?.expect_error(404)?;
    ensure!(message == "No such container: nobody-has-this", "{message}");
    Ok(())
}

fn wait_below_1_30(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = started(&api, "true")?;
    let old = api.at("1.29");
    let mut connection = old.connect()?;
    connection.send(&old.request("POST", &container.path("/wait?condition=sometime")))?;
    connection.patience(Duration::from_millis(500))?;
    ensure!(connection.head().is_err(), "a head before the end, below 1.30");
    connection.patience(Duration::from_secs(30))?;
    container.post("/kill")?.expect(204)?;
    ensure!(connection.head()?.status == 200);
    Ok(())
}

fn stop_asks_then_kills(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let polite = started(&api, "trap 'exit 7' TERM")?;
    polite.post("/stop")?.expect(204)?;
    ensure!(polite.status()? == "exited" && polite.wait()? == 7);
    let deaf = started(&api, "trap '' TERM")?;
    let before = Instant::now();
    deaf.post("/stop?t=1")?.expect(204)?;
    ensure!(before.elapsed() >= Duration::from_secs(1), "killed before its time");
    ensure!(deaf.status()? == "exited" && deaf.wait()? == 137);
    let message = deaf.post("/stop?t=x")?.expect_error(400)?;
    ensure!(!message.is_empty());
    let message = api.post("/containers/nobody-has-this/stop")?.expect_error(404)?;
    ensure!(message == "No such container: nobody-has-this", "{message}");
    Ok(())
}

fn stop_with_a_signal(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = started(&api, "trap 'exit 8' USR1; trap 'exit 9' TERM")?;
    container.post("/stop?signal=SIGUSR1")?.expect(204)?;
    ensure!(container.wait()? == 8);
    // Below 1.42 nobody knew the parameter.
    container.start()?;
    std::thread::sleep(Duration::from_millis(500));
    api.at("1.41").post(&container.path("/stop?signal=SIGUSR1"))?.expect(204)?;
    ensure!(container.wait()? == 9);
    Ok(())
}

fn stop_of_a_stopped_one(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.run_script("true")?;
    container.wait()?;
    ensure!(container.post("/stop")?.expect(304)?.body.is_empty());
    Ok(())
}

fn kill_sends_any_signal(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = started(&api, "trap 'echo got USR1' USR1; trap 'exit 6' HUP")?;
    for signal in ["USR1", "SIGUSR1", "sigusr1", "10"] {
        container
            .post(&format!("/kill?signal={signal}"))?
            .expect(204)
            .with_context(|| signal.to_owned())?;
        std::thread::sleep(Duration::from_millis(300));
    }
    container.until_logged("got USR1\ngot USR1\ngot USR1\ngot USR1\n")?;
    for signal in ["NONSENSE", "0x", "-1", "999"] {
        let message = container
            .post(&format!("/kill?signal={signal}"))?
            .expect_error(400)
            .with_context(|| signal.to_owned())?;
        ensure!(message.to_lowercase().contains("signal"), "{message}");
    }
    ensure!(container.status()? == "running");
    container.post("/kill?signal=HUP")?.expect(204)?;
    ensure!(container.wait()? == 6);
    Ok(())
}

fn kill_of_what_does_not_run(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    let message = container.post("/kill")?.expect_error(409)?;
    ensure!(message.ends_with(&format!("container {} is not running", container.id)), "{message}");
    ensure!(message.starts_with("cannot kill container: "), "{message}");
    let message = api.post("/containers/nobody-has-this/kill")?.expect_error(404)?;
    ensure!(message.contains("No such container: nobody-has-this"), "{message}");
    Ok(())
}

fn remove_needs_force_while_it_runs(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = started(&api, "true")?;
    let message = api.delete(&container.path(""))?.expect_error(409)?;
    ensure!(
        message
            .contains("container is running: stop the container before removing or force remove"),
        "{message}"
    );
    ensure!(container.status()? == "running");
    container.remove()?;
    let message = api.get(&container.path("/json"))?.expect_error(404)?;
    ensure!(message == format!("No such container: {}", container.id), "{message}");
    Ok(())
}

fn remove_of_what_is_not_there(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for query in ["", "?force=1", "?v=1"] {
        let message =
            api.delete(&format!("/containers/nobody-has-this{query}"))?.expect_error(404)?;
        ensure!(message == "No such container: nobody-has-this", "{message}");
    }
    Ok(())
}

fn auto_remove_frees_the_name(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut body = script_body("true");
    body["HostConfig"]["AutoRemove"] = json!(true);
    let name = e2e::unique("auto");
    for _ in 0..3 {
        let container = api.create_named(&name, body.clone())?;
        let mut stream =
            api.stream(&api.request("POST", &container.path("/wait?condition=removed")))?;
        container.start()?;
        stream.next_json()?;
    }
    Ok(())
}

fn clients_that_leave_change_nothing(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let container = api.create(script_body(IDLE))?;
    let mut connection = api.connect()?;
    connection.send(&api.request("POST", &container.path("/start")))?;
    drop(connection);
    until(Duration::from_secs(20), "it runs all the same", || {
        container.status().is_ok_and(|status| status == "running")
    })?;
    // And a wait that nobody waits for is no obstacle.
    drop(api.stream(&api.request("POST", &container.path("/wait")))?);
    container.remove()?;
    Ok(())
}

fn many_at_once(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let api = &api;
                scope.spawn(move || -> Result<()> {
                    let container = api.run_script(&format!("echo {number}; exit {number}"))?;
                    ensure!(container.wait()? == number);
                    ensure!(container.logs("")?.text() == format!("{number}\n"));
                    container.remove()
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| e2e::anyhow!("a thread panicked"))??;
        }
        Ok(())
    })
}
