//! Health checks: verdicts, logs, events, what a probe may do, and what outlives the daemon.

use std::time::Duration;

use e2e::api::{filters, script_body};
use e2e::http::Stream;
use e2e::sandbox::until;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_container_gets_well,
    a_container_gets_ill,
    without_a_check_there_is_no_health,
    the_last_five_results_are_kept,
    output_is_shortened,
    a_probe_that_takes_too_long_is_killed,
    a_probe_that_cannot_be_started_has_failed,
    failures_do_not_count_in_the_start_period,
    probes_rest_while_it_is_stopped,
    probes_are_execs_to_those_who_watch,
    checks_are_validated,
    filters_know_health,
    health_survives_the_daemon.ours_only(),
    nerdctl_shows_our_health.ours_only(),
];

/// Nanoseconds.
const MS: i64 = 1_000_000;

const IDLE: &str = "while :; do sleep 0.1; done";

fn checked(api: &Api, script: &str, check: Value) -> Result<Container> {
    let mut body = script_body(script);
    body["Healthcheck"] = check;
    let container = api.create(body)?;
    container.start()?;
    Ok(container)
}

fn every(interval: i64, test: &str) -> Value {
    json!({"Test": ["CMD-SHELL", test], "Interval": interval * MS, "Retries": 2})
}

fn health(container: &Container) -> Result<Value> {
    Ok(container.inspect()?["State"]["Health"].clone())
}

fn until_health(container: &Container, status: &str) -> Result<()> {
    let what = format!("health {status}");
    until(Duration::from_secs(40), &what, || {
        health(container).is_ok_and(|health| health["Status"] == status)
    })
    .with_context(|| format!("{}", health(container).unwrap_or_default()))
}

fn events_of(api: &Api, container: &Container) -> Result<Stream> {
    let query = filters(&[("container", &container.id)]);
    let stream = api.stream(&api.request("GET", &format!("/events?{query}")))?;
    stream.patience(Duration::from_secs(40))?;
    Ok(stream)
}

fn until_event(stream: &mut Stream, action: &str) -> Result<Value> {
    loop {
        let event = stream.next_json()?.with_context(|| format!("no {action}"))?;
        if event["Action"].as_str().is_some_and(|seen| seen.starts_with(action)) {
            return Ok(event);
        }
    }
}

fn a_container_gets_well(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut body = script_body(&format!("[ -e /well ] || {{ sleep 1; touch /well; }}; {IDLE}"));
    body["Healthcheck"] = every(300, "test -e /well");
    let container = api.create(body)?;
    ensure!(health(&container)?.is_null(), "it has not been started");
    let mut stream = events_of(&api, &container)?;
    container.start()?;
    let shown = health(&container)?;
    ensure!(shown["Status"] == "starting" && shown["FailingStreak"] == 0, "{shown}");
    ensure!(shown["Log"] == json!([]), "{shown}");
    let row = container.listed()?.context("not listed")?;
    let status = row["Status"].as_str().unwrap_or_default();
    ensure!(status.ends_with(" (health: starting)"), "{row}");

    let event = until_event(&mut stream, "health_status")?;
    let first = event["Action"].as_str().unwrap_or_default().to_owned();
    ensure!(first == "health_status: healthy" || first == "health_status: unhealthy", "{event}");
    until_health(&container, "healthy")?;
    let row = container.listed()?.context("not listed")?;
    ensure!(row["Status"].as_str().is_some_and(|text| text.ends_with(" (healthy)")), "{row}");
    ensure!(row["Health"]["Status"] == "healthy", "{row}");
    let entry = health(&container)?["Log"].as_array().and_then(|log| log.last().cloned());
    let entry = entry.context("no log")?;
    ensure!(entry["ExitCode"] == 0 && entry["Output"] == "", "{entry}");
    ensure!(entry["Start"].as_str() <= entry["End"].as_str(), "{entry}");
    Ok(())
}

fn a_container_gets_ill(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let sick = checked(
        &api,
        "touch /well; sleep 1; rm /well; exec sleep 1000",
        every(200, "test -e /well"),
    )?;
    let mut stream = events_of(&api, &sick)?;
    until_health(&sick, "unhealthy")?;
    let shown = health(&sick)?;
    ensure!(shown["FailingStreak"].as_i64() >= Some(2), "{shown}");
    until_event(&mut stream, "health_status: unhealthy")?;
    let row = sick.listed()?.context("not listed")?;
    ensure!(row["Status"].as_str().is_some_and(|text| text.ends_with(" (unhealthy)")), "{row}");
    Ok(())
}

fn without_a_check_there_is_no_health(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let plain = api.run_script(IDLE)?;
    ensure!(plain.inspect()?["State"].get("Health").is_none());
    let off = checked(&api, IDLE, json!({"Test": ["NONE"]}))?;
    let shown = off.inspect()?;
    ensure!(shown["State"].get("Health").is_none(), "{}", shown["State"]);
    ensure!(shown["Config"]["Healthcheck"] == json!({"Test": ["NONE"]}), "{}", shown["Config"]);
    let row = off.listed()?.context("not listed")?;
    ensure!(row["Health"]["Status"] == "none", "{row}");
    ensure!(row["Status"].as_str().is_some_and(|text| !text.contains('(')), "{row}");
    Ok(())
}

fn the_last_five_results_are_kept(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let count = "n=$(($(cat /n 2>/dev/null || echo 0) + 1)); echo $n > /n; echo run $n";
    let container = checked(&api, IDLE, every(100, count))?;
    until(Duration::from_secs(40), "seven results", || {
        health(&container).is_ok_and(|health| {
            health["Log"].as_array().is_some_and(|log| {
                log.last().is_some_and(|last| {
                    let text = last["Output"].as_str().unwrap_or_default();
                    text.trim().trim_start_matches("run ").parse::<u32>().is_ok_and(|run| run >= 7)
                })
            })
        })
    })?;
    let shown = health(&container)?;
    let log = shown["Log"].as_array().context("no log")?;
    ensure!(log.len() == 5, "{shown}");
    let starts: Vec<_> = log.iter().map(|entry| entry["Start"].as_str()).collect();
    ensure!(starts.is_sorted(), "oldest first: {shown}");
    Ok(())
}

fn output_is_shortened(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let test = "yes | head -c 9000; echo oops >&2; exit 3";
    let container = checked(&api, IDLE, every(100, test))?;
    until_health(&container, "unhealthy")?;
    let shown = health(&container)?;
    let entry = &shown["Log"][0];
    let output = entry["Output"].as_str().context("no output")?;
    ensure!(entry["ExitCode"] == 3, "{entry}");
    ensure!(output.len() == 4099 && output.ends_with("..."), "{} {entry}", output.len());
    let both = checked(&api, IDLE, every(100, "echo out; echo err >&2"))?;
    until_health(&both, "healthy")?;
    let entry = health(&both)?["Log"][0].clone();
    let output = entry["Output"].as_str().context("no output")?;
    ensure!(output.contains("out\n") && output.contains("err\n"), "{entry}");
    Ok(())
}

fn a_probe_that_takes_too_long_is_killed(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut check = every(100, "echo begun; exec sleep 1000");
    check["Timeout"] = json!(500 * MS);
    let container = checked(&api, IDLE, check)?;
    until_health(&container, "unhealthy")?;
    let entry = health(&container)?["Log"][0].clone();
    ensure!(entry["ExitCode"] == -1, "{entry}");
    ensure!(entry["Output"] == "Health check exceeded timeout (500ms): begun\n", "{entry}");
    Ok(())
}

fn a_probe_that_cannot_be_started_has_failed(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let check = json!({"Test": ["CMD", "/nobody/has/this"], "Interval": 100 * MS, "Retries": 1});
    let container = checked(&api, IDLE, check)?;
    until_health(&container, "unhealthy")?;
    let entry = health(&container)?["Log"][0].clone();
    ensure!(entry["ExitCode"] == -1, "{entry}");
    let output = entry["Output"].as_str().unwrap_or_default();
    ensure!(output.contains("/nobody/has/this") && output.contains("no such file"), "{entry}");
    Ok(())
}

fn failures_do_not_count_in_the_start_period(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut check = every(60_000, "test -e /well");
    check["StartPeriod"] = json!(60_000 * MS);
    check["StartInterval"] = json!(200 * MS);
    let container = checked(&api, &format!("sleep 2; touch /well; {IDLE}"), check.clone())?;
    until(Duration::from_secs(40), "failures", || {
        health(&container)
            .is_ok_and(|health| health["Log"].as_array().is_some_and(|log| log.len() >= 3))
    })?;
    let mut stream = events_of(&api, &container)?;
    let shown = health(&container)?;
    if shown["Status"] == "starting" {
        ensure!(shown["FailingStreak"] == 0, "{shown}");
        until_event(&mut stream, "health_status: healthy")?;
    }
    until_health(&container, "healthy")?;
    let shown = container.inspect()?["Config"]["Healthcheck"].clone();
    ensure!(shown == check, "{shown}");
    Ok(())
}

fn probes_rest_while_it_is_stopped(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = checked(&api, "exec sleep 1000", every(100, "true"))?;
    until_health(&container, "healthy")?;
    container.post("/kill")?.expect(204)?;
    container.wait()?;
    // Docker's word for what nobody probes.
    let stopped = health(&container)?;
    ensure!(stopped["Status"] == "unhealthy", "{stopped}");
    container.start()?;
    let shown = health(&container)?;
    ensure!(shown["Status"] == "starting" || shown["Status"] == "healthy", "{shown}");
    until_health(&container, "healthy")?;
    ensure!(health(&container)?["FailingStreak"] == 0);
    Ok(())
}

fn probes_are_execs_to_those_who_watch(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut body = script_body(IDLE);
    body["Healthcheck"] = every(100, "exit 0");
    let container = api.create(body)?;
    let mut stream = events_of(&api, &container)?;
    container.start()?;
    let created = until_event(&mut stream, "exec_create")?;
    ensure!(created["Action"] == "exec_create: /bin/sh -c exit 0", "{created}");
    let started = until_event(&mut stream, "exec_start")?;
    ensure!(started["Action"] == "exec_start: /bin/sh -c exit 0", "{started}");
    let died = until_event(&mut stream, "exec_die")?;
    let id = |event: &Value| event["Actor"]["Attributes"]["execID"].clone();
    ensure!(id(&died) == id(&created) && id(&started) == id(&created), "{created} {died}");
    ensure!(died["Actor"]["Attributes"]["exitCode"] == "0", "{died}");
    Ok(())
}

fn checks_are_validated(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(e2e::api::BUSYBOX)?;
    for (check, text) in [
        (json!({"Interval": 1}), "Interval in Healthcheck cannot be less than 1ms"),
        (json!({"Interval": -1}), "Interval in Healthcheck cannot be less than 1ms"),
        (json!({"Timeout": 999_999}), "Timeout in Healthcheck cannot be less than 1ms"),
        (json!({"Retries": -1}), "Retries in Healthcheck cannot be negative"),
        (json!({"StartPeriod": 1}), "StartPeriod in Healthcheck cannot be less than 1ms"),
        (json!({"StartInterval": 1}), "StartInterval in Healthcheck cannot be less than 1ms"),
    ] {
        let mut check = check;
        check["Test"] = json!(["CMD", "true"]);
        let body = json!({"Image": e2e::api::BUSYBOX, "Healthcheck": check});
        let message = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(message == text, "{message}");
    }
    // Before 1.44 nobody knew of it.
    let body = json!({
        "Image": e2e::api::BUSYBOX,
        "Healthcheck": {"Test": ["CMD", "true"], "StartInterval": 5_000_000_000_i64}
    });
    let made = api.at("1.43").post_json("/containers/create", &body)?.expect(201)?.json()?;
    let path = format!("/containers/{}", made["Id"].as_str().context("no Id")?);
    let shown = api.get_json(&format!("{path}/json"))?["Config"]["Healthcheck"].clone();
    api.delete(&path)?.expect(204)?;
    ensure!(shown == json!({"Test": ["CMD", "true"]}), "{shown}");
    Ok(())
}

fn filters_know_health(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let well = checked(&api, IDLE, every(100, "true"))?;
    let plain = api.run_script(IDLE)?;
    until_health(&well, "healthy")?;
    for (value, with_check) in [("healthy", true), ("none", false)] {
        let list = api.get_json(&format!("/containers/json?{}", filters(&[("health", value)])))?;
        let has = |container: &Container| {
            list.as_array().into_iter().flatten().any(|row| row["Id"] == container.id.as_str())
        };
        ensure!(has(&well) == with_check && has(&plain) != with_check, "{value}: {list}");
    }
    Ok(())
}

fn health_survives_the_daemon(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            // A probe that takes long, so that the daemon dies in the middle of one.
            let well = checked(&api, IDLE, every(100, "sleep 0.5"))?;
            until_health(&well, "healthy")?;
            let log = health(&well)?["Log"].clone();
            host.kill_daemon()?;
            host.start_daemon()?;
            let shown = health(&well)?;
            ensure!(shown["Status"] == "healthy", "{shown}");
            ensure!(shown["Log"][0]["Start"].as_str() >= log[0]["Start"].as_str(), "{shown}");
            let mut stream = events_of(&api, &well)?;
            until_event(&mut stream, "exec_die")?;
            ensure!(health(&well)?["Status"] == "healthy");
            Ok(())
        },
    )
}

fn nerdctl_shows_our_health(rig: &Rig) -> Result<()> {
    use e2e::runner::OrSkip as _;
    e2e::peers::program("nerdctl", "nerdctl").or_skip()?;
    rig.with_own_host(
        |_| (),
        |host| {
            let container = checked(&host.api(), IDLE, every(100, "echo fine"))?;
            until_health(&container, "healthy")?;
            let mut shown = String::new();
            until(Duration::from_secs(20), "nerdctl's view", || {
                shown = host
                    .nerdctl(&["inspect", "--mode=dockercompat", &container.id])
                    .unwrap_or_default();
                shown.contains("\"Status\": \"healthy\"") && shown.contains("fine\\n")
            })
            .with_context(|| shown)
        },
    )
}
