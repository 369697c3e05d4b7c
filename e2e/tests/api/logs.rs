//! What a container wrote, read again: frames, stamps, tail, since and until, following.

use std::io::Read as _;
use std::time::Duration;

use e2e::api::script_body;
use e2e::{Api, Container, Context as _, Result, Rig, Test, ensure, frames, tests};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests![
    streams_are_framed_line_by_line,
    a_terminal_has_no_frames,
    content_types_differ_by_version,
    the_streams_are_chosen,
    some_stream_must_be_chosen,
    tail_counts_lines_from_the_end,
    stamps_are_before_each_line,
    since_and_until_cut,
    bad_times_are_refused,
    follow_shows_lines_as_they_come,
    follow_ends_with_the_container,
    follow_of_a_stopped_one_ends,
    a_container_that_never_ran_has_none,
    long_and_unfinished_lines_are_whole,
    binary_output_is_whole,
    starts_write_one_after_another,
    nobody_has_no_logs,
];

fn ended(api: &Api, script: &str) -> Result<Container> {
    let container = api.run_script(script)?;
    container.wait()?;
    Ok(container)
}

fn streams_are_framed_line_by_line(rig: &Rig) -> Result<()> {
    let container =
        ended(&rig.host()?.api(), "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three")?;
    let response = container.api().get(&container.path("/logs?stdout=1&stderr=1"))?.expect(200)?;
    let mut body = response.body.as_slice();
    let mut seen = Vec::new();
    while let Some((stream, bytes)) = frames::next(&mut body)? {
        seen.push((stream, String::from_utf8(bytes)?));
    }
    let expected = [(1, "one\n"), (2, "two\n"), (1, "three\n")]
        .map(|(stream, text)| (stream, text.to_owned()));
    ensure!(seen == expected, "{seen:?}");
    Ok(())
}

fn a_terminal_has_no_frames(rig: &Rig) -> Result<()> {
    let mut body = script_body("echo one; echo two >&2");
    body["Tty"] = json!(true);
    let container = rig.host()?.api().create(body)?;
    container.start()?;
    container.wait()?;
    let response = container.api().get(&container.path("/logs?stdout=1&stderr=1"))?.expect(200)?;
    ensure!(response.text() == "one\r\ntwo\r\n", "{:?}", response.text());
    ensure!(
        response.head.header("content-type") == Some("application/vnd.docker.raw-stream"),
        "{:?}",
        response.head
    );
    Ok(())
}

fn content_types_differ_by_version(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = ended(&api, "echo one")?;
    for (version, kind) in [
        ("1.41", "application/vnd.docker.raw-stream"),
        ("1.42", "application/vnd.docker.multiplexed-stream"),
    ] {
        let response = api.at(version).get(&container.path("/logs?stdout=1"))?.expect(200)?;
        ensure!(
            response.head.header("content-type") == Some(kind),
            "{version}: {:?}",
            response.head
        );
        // Framed at every version.
        ensure!(frames::all(&mut response.body.as_slice())?.text() == "one\n");
    }
    Ok(())
}

fn the_streams_are_chosen(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = ended(&api, "echo out; echo err >&2")?;
    let read = |query: &str| -> Result<(String, String)> {
        let response = api.get(&container.path(&format!("/logs?{query}")))?.expect(200)?;
        let output = frames::all(&mut response.body.as_slice())?;
        Ok((output.text(), output.error_text()))
    };
    ensure!(read("stdout=1")? == ("out\n".into(), String::new()));
    ensure!(read("stderr=true")? == (String::new(), "err\n".into()));
    // Docker's booleans: whatever is not one of five words is true.
    ensure!(read("stdout=yes&stderr=no")? == ("out\n".into(), String::new()));
    Ok(())
}

fn some_stream_must_be_chosen(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    for query in ["", "?stdout=0&stderr=false", "?follow=1"] {
        let message = api.get(&container.path(&format!("/logs{query}")))?.expect_error(400)?;
        ensure!(message == "must specify at least one of 'stdout' or 'stderr'", "{message}");
    }
    Ok(())
}

fn tail_counts_lines_from_the_end(rig: &Rig) -> Result<()> {
    let container = ended(&rig.host()?.api(), "for i in $(seq 1 300); do echo line $i; done")?;
    let all: String = (1..=300).map(|number| format!("line {number}\n")).collect();
    for (tail, expected) in [
        ("all", all.as_str()),
        ("", all.as_str()),
        ("nonsense", all.as_str()),
        ("-1", all.as_str()),
        ("1000", all.as_str()),
        ("0", ""),
        ("1", "line 300\n"),
        ("3", "line 298\nline 299\nline 300\n"),
    ] {
        let text = container.logs(&format!("&tail={tail}"))?.text();
        ensure!(text == expected, "tail={tail}: {} lines", text.lines().count());
    }
    ensure!(container.logs("&tail=257")?.text().lines().next() == Some("line 44"));
    Ok(())
}

fn stamps_are_before_each_line(rig: &Rig) -> Result<()> {
    let container = ended(&rig.host()?.api(), "echo one; echo two")?;
    let started =
        container.inspect()?["State"]["StartedAt"].as_str().unwrap_or_default().to_owned();
    let text = container.logs("&timestamps=1")?.text();
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    ensure!(lines.iter().map(|(_, line)| *line).eq(["one", "two"]), "{text}");
    for (stamp, _) in lines {
        ensure!(
            stamp.len() == 30 && stamp.ends_with('Z') && stamp.as_bytes()[19] == b'.',
            "nine digits: {stamp}"
        );
        // compose follows from StartedAt on, and must not miss the first line.
        ensure!(stamp > started.trim_end_matches('Z'), "{stamp} is before the start at {started}");
    }
    Ok(())
}

/// Docker's form of a stamp in a query: Unix seconds with a fraction.
fn unix(container: &Container, line: &str) -> Result<String> {
    let text = container.logs("&timestamps=1")?.text();
    let stamp = text
        .lines()
        .find_map(|row| row.strip_suffix(&format!(" {line}")))
        .context("no such line")?;
    let output = std::process::Command::new("date").args(["+%s.%N", "-d", stamp]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn since_and_until_cut(rig: &Rig) -> Result<()> {
    let container = ended(&rig.host()?.api(), "for i in 1 2 3 4; do echo $i; sleep 0.3; done")?;
    let (two, three) = (unix(&container, "2")?, unix(&container, "3")?);
    for (query, expected) in [
        (format!("&since={two}"), "2\n3\n4\n"),
        (format!("&until={three}"), "1\n2\n3\n"),
        (format!("&since={two}&until={three}"), "2\n3\n"),
        (format!("&since={two}&tail=1"), "4\n"),
        ("&since=0&until=0".to_owned(), "1\n2\n3\n4\n"),
        ("&since=9999999999".to_owned(), ""),
        ("&since=9999999999.5".to_owned(), ""),
    ] {
        let text = container.logs(&query)?.text();
        ensure!(text == expected, "{query}: {text:?}");
    }
    Ok(())
}

fn bad_times_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(script_body("true"))?;
    for key in ["since", "until"] {
        let message = api
            .get(&container.path(&format!("/logs?stdout=1&{key}=yesterday")))?
            .expect_error(400)?;
        ensure!(message.starts_with(&format!("invalid value for \"{key}\":")), "{message}");
    }
    Ok(())
}

fn follow_shows_lines_as_they_come(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut body = script_body("echo before; while read line; do echo got $line; done");
    body["OpenStdin"] = json!(true);
    let container = api.create(body)?;
    let (_, stdin) = container.attach("stream=1&stdin=1")?;
    container.start()?;
    let mut stream = api.stream(&api.request("GET", &container.path("/logs?stdout=1&follow=1")))?;
    ensure!(frames::next(&mut stream)?.context("no frame")?.1 == b"before\n");
    // Each line is there before the next is written.
    for number in 0..20 {
        let mut stdin = stdin.get_ref();
        std::io::Write::write_all(&mut stdin, format!("{number}\n").as_bytes())?;
        let (_, line) = frames::next(&mut stream)?.context("no frame")?;
        ensure!(
            line == format!("got {number}\n").into_bytes(),
            "{:?}",
            String::from_utf8_lossy(&line)
        );
    }
    // tail=0: only new lines.
    let mut late =
        api.stream(&api.request("GET", &container.path("/logs?stdout=1&follow=1&tail=0")))?;
    std::io::Write::write_all(&mut stdin.get_ref(), b"last\n")?;
    ensure!(frames::next(&mut late)?.context("no frame")?.1 == b"got last\n");
    Ok(())
}

fn follow_ends_with_the_container(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.run_script("for i in $(seq 1 50); do echo $i; sleep 0.01; done")?;
    let mut stream =
        api.stream(&api.request("GET", &container.path("/logs?stdout=1&stderr=1&follow=1")))?;
    let text = frames::all(&mut stream)?.text();
    let expected: String = (1..=50).map(|number| format!("{number}\n")).collect();
    ensure!(text == expected, "{text:?}");
    Ok(())
}

fn follow_of_a_stopped_one_ends(rig: &Rig) -> Result<()> {
    let container = ended(&rig.host()?.api(), "echo one")?;
    ensure!(container.logs("&follow=1")?.text() == "one\n");
    Ok(())
}

fn a_container_that_never_ran_has_none(rig: &Rig) -> Result<()> {
    let container = rig.host()?.api().create(script_body("true"))?;
    for query in ["", "&follow=1", "&tail=5"] {
        ensure!(container.logs(query)?.text().is_empty(), "{query}");
    }
    Ok(())
}

fn long_and_unfinished_lines_are_whole(rig: &Rig) -> Result<()> {
    let container = ended(
        &rig.host()?.api(),
        "head -c 100000 /dev/zero | tr '\\0' x; echo; echo short; printf unfinished",
    )?;
    let response = container.api().get(&container.path("/logs?stdout=1"))?.expect(200)?;
    let text = frames::all(&mut response.body.as_slice())?.text();
    let lines: Vec<&str> = text.split('\n').collect();
    ensure!(
        lines.len() == 3 && lines[0].len() == 100_000 && lines[1..] == ["short", "unfinished"],
        "{} {:?}",
        lines[0].len(),
        &lines[1..]
    );
    ensure!(container.logs("&tail=1")?.text() == "unfinished");
    // One line, one stamp.
    let stamped = container.logs("&timestamps=1&tail=2")?.text();
    ensure!(stamped.lines().count() == 2 && stamped.contains("Z short\n"), "{stamped}");
    Ok(())
}

fn binary_output_is_whole(rig: &Rig) -> Result<()> {
    // Bytes that are no UTF-8 and no text; a line end keeps them one entry.
    let script = r#"printf '\000\001\377\376\342\202\n\033[31m"\\\t\r\n'"#;
    let container = ended(&rig.host()?.api(), script)?;
    let bytes = container.logs("")?.stdout;
    ensure!(bytes.ends_with(b"\x1b[31m\"\\\t\r\n"), "{bytes:?}");
    // JSON has no place for bytes that are no UTF-8: json-file replaces them, as Docker's does.
    let shown = String::from_utf8(bytes)?;
    ensure!(shown.starts_with("\0\u{1}\u{fffd}\u{fffd}"), "{shown:?}");
    Ok(())
}

fn starts_write_one_after_another(rig: &Rig) -> Result<()> {
    let container = ended(&rig.host()?.api(), "date +%s%N")?;
    let first = container.logs("")?.text();
    container.start()?;
    container.wait()?;
    let both = container.logs("")?.text();
    ensure!(both.starts_with(&first) && both.lines().count() == 2, "{both:?}");
    Ok(())
}

fn nobody_has_no_logs(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let message = api.get("/containers/nobody-has-this/logs?stdout=1")?.expect_error(404)?;
    ensure!(message == "No such container: nobody-has-this", "{message}");
    // A reader that leaves is no trouble for the writer.
    let container = api.run_script("while :; do echo x; sleep 0.01; done")?;
    let mut stream = api.stream(&api.request("GET", &container.path("/logs?stdout=1&follow=1")))?;
    stream.read_exact(&mut [0; 10])?;
    drop(stream);
    std::thread::sleep(Duration::from_millis(200));
    ensure!(container.status()? == "running");
    Ok(())
}
