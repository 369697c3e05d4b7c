//! Log drivers: what they take, where output goes, and what can be read of it again.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use e2e::api::script_body;
use e2e::peers;
use e2e::runner::OrSkip as _;
use e2e::sandbox::until;
use e2e::{Api, Container, Context as _, Host, Result, Rig, Test, ensure, frames, tests, unique};
use serde_json::{Value, json};

use crate::needs_rig;

pub(crate) const TESTS: &[Test] = tests![
    unknown_drivers_and_options_are_refused,
    values_that_make_no_sense_are_refused,
    // dockerd has them.
    what_is_not_built_is_refused_by_name.ours_only(),
    inspect_shows_what_was_asked_for,
    local_rotates_and_is_read,
    compressed_files_are_read_with_the_others,
    a_follower_goes_through_rotations,
    details_show_labels_variables_and_tag,
    logs_as_json,
    syslog_gets_every_line,
    syslog_behind_tls_gets_lines_with_their_lengths,
    a_log_elsewhere_can_be_read_unless_that_is_switched_off,
    // dockerd waits for it all the same when the container ends.
    a_stuck_log_does_not_stop_who_does_not_wait_for_it.ours_only(),
    without_a_journal_nothing_starts,
    the_journal_gets_dockers_fields,
    // Both are about nerdctl's files.
    nerdctl_reads_what_local_writes.ours_only(),
    nerdctl_starts_with_the_same_log.ours_only(),
];

/// A container's body with a log of this kind.
fn body(script: &str, driver: &str, options: &Value) -> Value {
    let mut body = script_body(script);
    body["HostConfig"]["LogConfig"] = json!({"Type": driver, "Config": options});
    body
}

fn ended(api: &Api, script: &str, driver: &str, options: &Value) -> Result<Container> {
    let container = api.create(body(script, driver, options))?;
    container.start()?;
    ensure!(container.wait()? == 0);
    Ok(container)
}

fn unknown_drivers_and_options_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (driver, options, words) in [
        (
            "nonsense",
            json!({}),
            "error looking up logging plugin nonsense: plugin \"nonsense\" not found",
        ),
        (
            "json-file",
            json!({"nonsense": "x"}),
            "unknown log opt 'nonsense' for json-file log driver",
        ),
        ("local", json!({"nonsense": "x"}), "unknown log opt 'nonsense' for log driver local"),
        (
            "journald",
            json!({"max-size": "1m"}),
            "unknown log opt 'max-size' for journald log driver",
        ),
        ("syslog", json!({"max-size": "1m"}), "unknown log opt 'max-size' for syslog log driver"),
        ("json-file", json!({"mode": "eager"}), "logger: logging mode not supported: eager"),
        (
            "json-file",
            json!({"max-buffer-size": "1m"}),
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (
            "json-file",
            json!({"mode": "non-blocking", "max-buffer-size": "x"}),
            "error parsing option max-buffer-size: invalid size: 'x'",
        ),
        ("json-file", json!({"cache-disabled": "x"}), "invalid value for option cache-disabled: x"),
        ("syslog", json!({"syslog-facility": "x"}), "invalid syslog facility"),
        ("syslog", json!({"syslog-format": "x"}), "Invalid syslog format"),
        ("syslog", json!({"syslog-address": "http://x"}), "unsupported scheme: 'http'"),
        (
            "syslog",
            json!({"syslog-address": "unix:///nowhere/log"}),
            "stat /nowhere/log: no such file or directory",
        ),
    ] {
        let name = unique("refused");
        let create = format!("/containers/create?name={name}");
        let answer = api.post_json(&create, &body("true", driver, &options))?;
        let message = answer.expect_error(400).with_context(|| format!("{driver} {options}"))?;
        ensure!(message == words, "{driver} {options}: {message}");
        api.get(&format!("/containers/{name}/json"))?.expect_error(404)?;
    }
    Ok(())
}

/// dockerd looks at most values when the container starts; so late is not asked for.
fn values_that_make_no_sense_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (driver, options, words) in [
        ("json-file", json!({"max-size": "x"}), "invalid size: 'x'"),
        ("json-file", json!({"max-size": "0"}), "max-size must be a positive number"),
        ("json-file", json!({"max-file": "0"}), "max-file cannot be less than 1"),
        ("json-file", json!({"max-file": "x"}), "strconv.Atoi: parsing \"x\": invalid syntax"),
        ("json-file", json!({"compress": "x"}), "strconv.ParseBool: parsing \"x\": invalid syntax"),
        (
            "json-file",
            json!({"compress": "true"}),
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        ("json-file", json!({"labels-regex": "["}), "error parsing regexp: "),
        ("json-file", json!({"tag": "{{.Name"}), "template: log-tag:1: unclosed action"),
        ("local", json!({"max-size": "x"}), "invalid value for max-size: x: invalid size: 'x'"),
        (
            "local",
            json!({"max-file": "1"}),
            "compression cannot be enabled when max file count is 1",
        ),
    ] {
        let created = api.post_json("/containers/create", &body("true", driver, &options))?;
        let message = if created.status() == 201 {
            let id = created.json()?["Id"].as_str().context("Id")?.to_owned();
            let started = api.post(&format!("/containers/{id}/start"))?;
            api.delete(&format!("/containers/{id}"))?.expect(204)?;
            started.expect_error(500)?
        } else {
            created.expect_error(400)?
        };
        ensure!(message.contains(words), "{driver} {options}: {message}");
    }
    Ok(())
}

fn what_is_not_built_is_refused_by_name(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (driver, options, words) in [
        ("fluentd", json!({}), "HostConfig.LogConfig.Type \"fluentd\""),
        ("awslogs", json!({}), "HostConfig.LogConfig.Type \"awslogs\""),
        ("json-file", json!({"tag": "{{upper .Name}}"}), "{{upper .Name}}"),
    ] {
        let answer = api.post_json("/containers/create", &body("true", driver, &options))?;
        let message = answer.expect_error(501)?;
        ensure!(message.contains(words), "{driver}: {message}");
    }
    Ok(())
}

fn inspect_shows_what_was_asked_for(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (driver, options) in [
        ("json-file", json!({"max-size": "1m", "max-file": "2", "compress": "true"})),
        ("local", json!({"max-file": "7"})),
        ("local", json!({})),
        ("syslog", json!({"syslog-address": "udp://127.0.0.1:5514", "tag": "x"})),
        ("none", json!({"whatever": "x"})),
    ] {
        let container = api.create(body("true", driver, &options))?;
        let seen = container.inspect()?;
        let expected = json!({"Type": driver, "Config": options});
        ensure!(seen["HostConfig"]["LogConfig"] == expected, "{}", seen["HostConfig"]["LogConfig"]);
        // The files of other drivers are nobody's interface.
        ensure!(driver == "json-file" || seen["LogPath"] == "", "{driver}: {}", seen["LogPath"]);
    }
    let drivers = api.get_json("/info")?["Plugins"]["Log"].clone();
    for driver in ["json-file", "local", "journald", "syslog"] {
        ensure!(drivers.as_array().is_some_and(|all| all.contains(&json!(driver))), "{drivers}");
    }
    Ok(())
}

/// The lines `from` to `to`, as `seq` writes them.
fn numbers(from: u32, to: u32) -> String {
    (from..=to).map(|number| format!("{number}\n")).collect()
}

fn local_rotates_and_is_read(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let options = json!({"max-size": "20k", "max-file": "3"});
    let container = ended(&api, "seq 1 5000", "local", &options)?;
    let text = container.logs("")?.text();
    let first: u32 = text.lines().next().and_then(|line| line.parse().ok()).context("a number")?;
    ensure!(first > 1000, "the oldest are gone: {first}");
    ensure!(text == numbers(first, 5000), "from {first} on something is missing");
    ensure!(container.logs("&tail=300")?.text() == numbers(4701, 5000));
    // Without options nothing is lost.
    let container = ended(&api, "seq 1 5000", "local", &json!({}))?;
    ensure!(container.logs("")?.text() == numbers(1, 5000));
    Ok(())
}

fn compressed_files_are_read_with_the_others(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let options = json!({"max-size": "30k", "max-file": "100", "compress": "true"});
    let container = ended(&api, "seq 1 6000", "json-file", &options)?;
    for (query, from) in [("", 1), ("&tail=1", 6000), ("&tail=1500", 4501), ("&tail=9000", 1)] {
        let text = container.logs(query)?.text();
        ensure!(text == numbers(from, 6000), "{query}: {} lines", text.lines().count());
    }
    let stamped = container.logs("&timestamps=1&tail=2000")?.text();
    let since =
        stamped.lines().next().and_then(|line| line.split(' ').next()).context("a stamp")?;
    let output = std::process::Command::new("date").args(["+%s.%N", "-d", since]).output()?;
    let since = String::from_utf8(output.stdout)?;
    ensure!(container.logs(&format!("&since={}", since.trim()))?.text() == numbers(4001, 6000));
    Ok(())
}

fn a_follower_goes_through_rotations(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let options = json!({"max-size": "20k", "max-file": "1000", "compress": "true"});
    let script = "i=1; while [ $i -le 4000 ]; do seq $i $((i+99)); i=$((i+100)); sleep 0.02; done";
    let container = api.create(body(script, "json-file", &options))?;
    container.start()?;
    let mut stream = api.stream(&api.request("GET", &container.path("/logs?stdout=1&follow=1")))?;
    let text = frames::all(&mut stream)?.text();
    ensure!(text == numbers(1, 4000), "{} lines", text.lines().count());
    Ok(())
}

fn details_show_labels_variables_and_tag(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (driver, name) in [("json-file", unique("tagged")), ("local", unique("tagged"))] {
        let options = json!({
            "labels": "stage,absent", "labels-regex": "^com\\.", "env": "COLOUR", "env-regex": "^X_", "tag": "{{.Name}}"
        });
        let mut body = body("echo one; echo two >&2", driver, &options);
        body["Labels"] = json!({"stage": "a b", "com.x": "1,2", "rest": "no"});
        body["Env"] = json!(["COLOUR=red", "X_1=y", "OTHER=no"]);
        let container = api.create_named(&name, body)?;
        container.start()?;
        container.wait()?;
        let expected = format!("COLOUR=red,X_1=y,com.x=1%2C2,stage=a+b,tag={name} one\n");
        let seen = container.logs("&details=1&tail=2")?;
        ensure!(seen.text() == expected, "{:?}", seen.text());
        ensure!(seen.error_text().ends_with(" two\n"), "{:?}", seen.error_text());
        let stamped = container.logs("&details=1&timestamps=1")?.text();
        ensure!(stamped.contains("Z COLOUR=red,"), "{stamped:?}");
        ensure!(container.logs("")?.text() == "one\n");
    }
    let plain = ended(&api, "echo one", "json-file", &json!({}))?;
    ensure!(plain.logs("&details=1")?.text() == " one\n");
    Ok(())
}

fn logs_as_json(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let options = json!({"labels": "a"});
    let mut body = body("echo out; sleep 0.1; echo err >&2", "json-file", &options);
    body["Labels"] = json!({"a": "b"});
    let container = api.create(body)?;
    container.start()?;
    container.wait()?;
    let path = container.path("/logs?stdout=1&stderr=1&format=json");
    let answer = api.at("1.54").get(&path)?.expect(200)?;
    ensure!(
        answer.head.header("content-type") == Some("application/x-ndjson"),
        "{:?}",
        answer.head
    );
    let text = answer.text();
    let rows: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("JSON lines")?;
    let seen: Vec<_> =
        rows.iter().map(|row| (row["Line"].clone(), row["Source"].clone())).collect();
    let expected = [("out\n", "stdout"), ("err\n", "stderr")].map(|(a, b)| (json!(a), json!(b)));
    ensure!(seen == expected && rows[0]["Attrs"].is_null(), "{rows:?}");
    let detailed = api.at("1.54").get(&format!("{path}&details=1"))?.expect(200)?.text();
    ensure!(detailed.contains(r#""Attrs":[{"Key":"a","Value":"b"}]"#), "{detailed}");
    // Nobody asked for it before.
    let old = api.at("1.53").get(&path)?.expect(200)?;
    ensure!(frames::all(&mut old.body.as_slice())?.text() == "out\n");
    let message = api.at("1.54").get(&format!("{path}x"))?.expect_error(400)?;
    ensure!(message == "unsupported log format", "{message}");
    Ok(())
}

/// A datagram socket of ours that the host's daemon can reach.
struct Receiver {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Receiver {
    fn new(host: &Host) -> Result<Self> {
        needs_rig(host)?;
        let path = host.root()?.join(unique("log"));
        let socket = UnixDatagram::bind(&path).context("bind a socket")?;
        socket.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { socket, path })
    }

    fn address(&self) -> String {
        format!("unixgram://{}", self.path.display())
    }

    fn next(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; 256 * 1024];
        let count = self.socket.recv(&mut bytes).context("nothing was sent")?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn syslog_behind_tls_gets_lines_with_their_lengths(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rig(host)?;
    let (sandbox, name) = (host.sandbox()?, unique("tls"));
    let file = |end: &str| -> Result<String> {
        Ok(host.root()?.join(format!("{name}.{end}")).display().to_string())
    };
    let (certificate, key) = (file("pem")?, file("key")?);
    let mut make = sandbox.command("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &key, "-out", &certificate]);
    sandbox.run(&mut make)?;
    // Without an input that stays open it does not read.
    let script = format!(
        "sleep 1000 | openssl s_server -accept 127.0.0.1:6514 -quiet -cert {certificate} -key {key}"
    );
    let mut serve = sandbox.command("sh");
    serve.args(["-c", &script]);
    let _server = sandbox.spawn(&name, serve)?;
    until(Duration::from_secs(20), "a server", || {
        let connect = || std::net::TcpStream::connect("127.0.0.1:6514").is_ok();
        sandbox.in_network(connect).unwrap_or(false)
    })?;
    let mut options = json!({
        "syslog-address": "tcp+tls://127.0.0.1:6514", "syslog-format": "rfc5424", "tag": "x"
    });
    let script = "echo one; sleep 0.1; echo two >&2";
    let refused = host.api().create(body(script, "syslog", &options))?;
    let text = refused.post("/start")?.expect_error(500)?;
    ensure!(text.contains("certificate"), "{text}");
    options["syslog-tls-ca-cert"] = json!(certificate);
    ended(&host.api(), script, "syslog", &options)?;
    let log = host.root()?.join("log").join(&name);
    let mut got = String::new();
    until(Duration::from_secs(20), "both lines", || {
        got = std::fs::read_to_string(&log).unwrap_or_default();
        got.contains(" - one\n") && got.contains(" - two\n")
    })
    .with_context(|| got.clone())?;
    let line = got.lines().find(|line| line.ends_with(" - two")).context("no line")?;
    let (length, message) = line.split_once(' ').context("no length")?;
    ensure!(length.parse() == Ok(message.len() + 1) && message.starts_with("<27>1 "), "{line:?}");
    Ok(())
}

fn syslog_gets_every_line(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let receiver = Receiver::new(host)?;
    let options = json!({
        "syslog-address": receiver.address(), "syslog-facility": "local0", "syslog-format": "rfc5424micro", "tag": "{{.Name}}"
    });
    let name = unique("sys");
    let container = host
        .api()
        .create_named(&name, body("echo one; echo; sleep 0.2; echo two >&2", "syslog", &options))?;
    container.start()?;
    container.wait()?;
    for (priority, line) in [(16 * 8 + 6, "one"), (16 * 8 + 3, "two")] {
        let message = String::from_utf8(receiver.next()?)?;
        let parts: Vec<&str> = message.trim_end().split(' ').collect();
        ensure!(parts.len() == 8, "{message}");
        ensure!(parts[0] == format!("<{priority}>1") && parts[7] == line, "{message}");
        ensure!(parts[3] == name && parts[5] == name && parts[6] == "-", "{message}");
        // Microseconds: moby's own choice.
        ensure!(parts[1].split(['.', 'Z', '+']).nth(1).map(str::len) == Some(6), "{message}");
    }
    Ok(())
}

fn a_log_elsewhere_can_be_read_unless_that_is_switched_off(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let receiver = Receiver::new(host)?;
    let mut options = json!({"syslog-address": receiver.address()});
    let container = ended(&host.api(), "echo one; sleep 0.1; echo two >&2", "syslog", &options)?;
    let seen = container.logs("")?;
    ensure!((seen.text(), seen.error_text()) == ("one\n".into(), "two\n".into()));
    ensure!(receiver.next()?.ends_with(b": one\n"));
    options["cache-disabled"] = json!("true");
    let container = ended(&host.api(), "echo three", "syslog", &options)?;
    let none = ended(&host.api(), "echo three", "none", &json!({}))?;
    for container in [container, none] {
        let answer = host.api().get(&container.path("/logs?stdout=1"))?;
        let message = answer.expect_error(501)?;
        ensure!(message == "configured logging driver does not support reading", "{message}");
    }
    Ok(())
}

fn a_stuck_log_does_not_stop_who_does_not_wait_for_it(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let receiver = Receiver::new(host)?;
    let options = json!({
        "syslog-address": receiver.address(), "mode": "non-blocking", "max-buffer-size": "20k", "cache-disabled": "true"
    });
    // More than the socket's queue, the ring, and all pipes on the way can hold.
    let script = "yes 'a line of about fifty bytes, again and again' | head -n 40000";
    let container = host.api().create(body(script, "syslog", &options))?;
    container.start()?;
    ensure!(container.wait()? == 0);
    ensure!(receiver.next()?.ends_with(b"again\n"));
    Ok(())
}

fn without_a_journal_nothing_starts(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rig(host)?;
    let container = host.api().create(body("true", "journald", &json!({})))?;
    let message = container.post("/start")?.expect_error(500)?;
    ensure!(
        message
            .ends_with("failed to initialize logging driver: journald is not enabled on this host"),
        "{message}"
    );
    ensure!(container.status()? == "created", "{}", container.status()?);
    Ok(())
}

/// The fields of an entry in the journal's own form, of which no value has newlines.
fn fields(entry: &[u8]) -> Result<std::collections::BTreeMap<String, String>> {
    let text = std::str::from_utf8(entry)?;
    let pairs = text.lines().map(|line| line.split_once('=').context("no field"));
    pairs.map(|pair| pair.map(|(key, value)| (key.to_owned(), value.to_owned()))).collect()
}

fn the_journal_gets_dockers_fields(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let receiver = Receiver::new(host)?;
            let sandbox = host.sandbox()?;
            let link = format!(
                "mkdir -p /run/systemd/journal && ln -s {} /run/systemd/journal/socket",
                receiver.path.display()
            );
            sandbox.run(sandbox.command("sh").args(["-c", &link]))?;
            let options = json!({"labels": "my.label"});
            let script = "echo one; sleep 0.2; head -c 20000 /dev/zero | tr '\\0' x >&2; echo >&2";
            let mut body = body(script, "journald", &options);
            body["Labels"] = json!({"my.label": "v"});
            let name = unique("journal");
            let container = host.api().create_named(&name, body)?;
            container.start()?;
            container.wait()?;
            let first = fields(&receiver.next()?)?;
            for (field, expected) in [
                ("MESSAGE", "one"),
                ("PRIORITY", "6"),
                ("CONTAINER_ID", &container.id[..12]),
                ("CONTAINER_ID_FULL", &container.id),
                ("CONTAINER_NAME", &name),
                ("CONTAINER_TAG", &container.id[..12]),
                ("SYSLOG_IDENTIFIER", &container.id[..12]),
                ("IMAGE_NAME", "busybox"),
                ("CONTAINER_LOG_ORDINAL", "1"),
                ("MY_LABEL", "v"),
            ] {
                let seen = first.get(field).map(String::as_str).unwrap_or_default();
                ensure!(seen.starts_with(expected), "{field}: {seen:?}");
            }
            ensure!(
                first.contains_key("SYSLOG_TIMESTAMP") && first.contains_key("CONTAINER_LOG_EPOCH")
            );
            let (part, last) = (fields(&receiver.next()?)?, fields(&receiver.next()?)?);
            ensure!(part["PRIORITY"] == "3" && part["MESSAGE"].len() == 16 * 1024);
            ensure!(
                part["CONTAINER_PARTIAL_MESSAGE"] == "true"
                    && part["CONTAINER_PARTIAL_LAST"] == "false"
            );
            ensure!(
                last["CONTAINER_PARTIAL_LAST"] == "true"
                    && last["CONTAINER_PARTIAL_ORDINAL"] == "2"
            );
            ensure!(part["CONTAINER_PARTIAL_ID"] == last["CONTAINER_PARTIAL_ID"]);
            if host.is_ours() {
                ensure!(container.logs("")?.text() == "one\n");
            }
            Ok(())
        },
    )
}

fn nerdctl_reads_what_local_writes(rig: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    let host = rig.host()?;
    let container = ended(&host.api(), "echo hello", "local", &json!({}))?;
    let text = host.nerdctl(&["logs", &container.id])?;
    ensure!(text.trim() == "hello", "{text:?}");
    Ok(())
}

fn nerdctl_starts_with_the_same_log(rig: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    let host = rig.host()?;
    let receiver = Receiver::new(host)?;
    let options = json!({"syslog-address": receiver.address(), "tag": "{{.ImageName}}"});
    let container = host.api().create(body("echo from the logger", "syslog", &options))?;
    host.nerdctl(&["start", &container.id])?;
    let message = String::from_utf8(receiver.next()?)?;
    ensure!(message.contains(" busybox") && message.ends_with(": from the logger\n"), "{message}");
    Ok(())
}
