//! Published ports: real connections from the host, numbers chosen at the start, conflicts, and nothing left behind.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use e2e::runner::OrSkip as _;
use e2e::sandbox::until;
use e2e::{Container, Context as _, Host, Result, Rig, Test, ensure, peers, tests, unique};
use serde_json::{Value, json};

use super::needs_rig;

pub(crate) const TESTS: &[Test] = tests![
    a_published_port_leads_into_the_container,
    a_free_port_is_another_one_at_each_start,
    exposed_ports_are_published_on_request,
    ports_that_are_taken_are_refused_in_dockers_words,
    ports_without_a_network_of_ones_own,
    an_sctp_port_is_published,
    what_is_no_port_is_refused,
    a_kept_port_is_not_for_others.ours_only(),
    ports_are_shared_with_nerdctl.ours_only(),
    ports_outlive_the_daemon.ours_only(),
];

/// Answers every connection to port 80 with one word.
const SERVER: &str = "while :; do echo answer | nc -l -p 80; done";

fn serving(bindings: &Value) -> Value {
    json!({"Cmd": ["sh", "-c", SERVER], "HostConfig": {"PortBindings": {"80/tcp": bindings}}})
}

/// A port of the host that nobody has, nor will get by chance: below those that kernel and daemons choose from. After
/// it come more that are this test's.
fn free_port(host: &Host) -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    host.sandbox()?
        .in_network(|| {
            let mut candidates = std::iter::repeat_with(|| NEXT.fetch_add(50, Ordering::Relaxed));
            candidates.find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        })?
        .context("no port is free")
}

/// What a program of the host reads from the port.
fn answer(host: &Host, address: &str, port: u16) -> Result<String> {
    let address: SocketAddr = format!("{address}:{port}").parse()?;
    host.sandbox()?.in_network(|| {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut text = String::new();
        connection.read_to_string(&mut text)?;
        Ok(text)
    })?
}

fn until_it_answers(host: &Host, address: &str, port: u16) -> Result<()> {
    until(Duration::from_secs(20), &format!("an answer from {address}:{port}"), || {
        answer(host, address, port).is_ok_and(|text| text == "answer\n")
    })
}

/// The IPv4 binding of a port, as inspect tells it.
fn binding(container: &Container, port: &str) -> Result<(String, u16)> {
    let seen = container.inspect()?;
    let bindings = seen["NetworkSettings"]["Ports"][port].as_array();
    let first = bindings.and_then(|list| list.first()).with_context(|| format!("{seen}"))?;
    let number = first["HostPort"].as_str().context("HostPort is no text")?.parse()?;
    Ok((first["HostIp"].as_str().unwrap_or_default().to_owned(), number))
}

fn a_published_port_leads_into_the_container(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rig(host)?;
    let port = free_port(host)?;
    let mut body = serving(&json!([{"HostIp": "", "HostPort": port.to_string()}]));
    body["ExposedPorts"] = json!({"443/tcp": {}});
    let container = host.api().create(body)?;
    ensure!(container.inspect()?["NetworkSettings"]["Ports"] == json!({}), "before the start");
    container.start()?;
    until_it_answers(host, "127.0.0.1", port)?;

    let seen = container.inspect()?;
    let ports = &seen["NetworkSettings"]["Ports"];
    ensure!(
        ports["80/tcp"][0] == json!({"HostIp": "0.0.0.0", "HostPort": port.to_string()})
            && ports["443/tcp"].is_null()
            && ports.get("443/tcp").is_some(),
        "{ports}"
    );
    let asked = &seen["HostConfig"]["PortBindings"]["80/tcp"];
    ensure!(*asked == json!([{"HostIp": "", "HostPort": port.to_string()}]), "{asked}");
    let row = container.listed()?.context("not listed")?;
    // dockerd lists them in no order.
    let rows = row["Ports"].as_array().context("no ports")?;
    let published = json!({"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"});
    let exposed = json!({"IP": "", "PrivatePort": 443, "Type": "tcp"});
    ensure!(rows.contains(&published) && rows.contains(&exposed), "{row}");
    // The host has other addresses, and the container reaches its own port through them.
    let gateway = seen["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
        .as_str()
        .context("no gateway")?
        .to_owned();
    until_it_answers(host, &gateway, port)?;

    container.post("/stop?t=0")?.expect(204)?;
    let seen = container.inspect()?;
    ensure!(seen["NetworkSettings"]["Ports"] == json!({}), "{}", seen["NetworkSettings"]);
    ensure!(container.listed()?.context("not listed")?["Ports"] == json!([]), "of a stopped one");
    // The host's programs may have it now.
    host.sandbox()?.in_network(|| TcpListener::bind(("0.0.0.0", port)).map(drop))??;
    Ok(())
}

fn a_free_port_is_another_one_at_each_start(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rig(host)?;
    let first = free_port(host)?;
    let mut body = serving(&json!([{"HostPort": ""}]));
    body["HostConfig"]["PortBindings"]["53/udp"] =
        json!([{"HostIp": "127.0.0.1", "HostPort": "0"}]);
    body["HostConfig"]["PortBindings"]["81/tcp"] =
        json!([{"HostPort": format!("{first}-{}", first.saturating_add(20))}]);
    let container = host.api().create(body)?;
    container.start()?;
    let (address, port) = binding(&container, "80/tcp")?;
    ensure!(address == "0.0.0.0" && port > 1024, "{address}:{port}");
    until_it_answers(host, "127.0.0.1", port)?;
    let (address, udp) = binding(&container, "53/udp")?;
    ensure!(address == "127.0.0.1", "{address}");
    host.sandbox()?.in_network(|| {
        ensure!(UdpSocket::bind(("127.0.0.1", udp)).is_err(), "nobody holds {udp}/udp");
        Ok(())
    })??;
    let (_, ranged) = binding(&container, "81/tcp")?;
    ensure!((first..=first.saturating_add(20)).contains(&ranged), "{ranged} is not in the range");
    // Another container with the same wishes gets others.
    let other = host.api().create(serving(
        &json!([{"HostPort": format!("{ranged}-{}", ranged.saturating_add(20))}]),
    ))?;
    other.start()?;
    ensure!(binding(&other, "80/tcp")?.1 > ranged, "the same port twice");
    // Somebody takes the port between two runs: it is chosen anew.
    container.post("/stop?t=0")?.expect(204)?;
    let taken = host.sandbox()?.in_network(|| TcpListener::bind(("0.0.0.0", port)))??;
    container.start()?;
    let (_, again) = binding(&container, "80/tcp")?;
    ensure!(again != port, "a port that is taken");
    drop(taken);
    until_it_answers(host, "127.0.0.1", again)
}

fn exposed_ports_are_published_on_request(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let body = json!({
        "Cmd": ["sleep", "1000"],
        "ExposedPorts": {"80/tcp": {}, "81/udp": {}},
        "HostConfig": {"PublishAllPorts": true},
    });
    let container = host.api().create(body)?;
    container.start()?;
    let (tcp, udp) = (binding(&container, "80/tcp")?.1, binding(&container, "81/udp")?.1);
    ensure!(tcp > 1024 && udp > 1024, "{tcp} {udp}");
    let row = container.listed()?.context("not listed")?;
    ensure!(
        row["Ports"]
            .as_array()
            .is_some_and(|ports| ports.iter().any(|port| port["PublicPort"] == tcp)),
        "{row}"
    );
    Ok(())
}

/// Starts a container that cannot have its port, and gives the message.
fn refused(host: &Host, bindings: &Value) -> Result<String> {
    let container = host.api().create(serving(bindings))?;
    let text = container.post("/start")?.expect_error(500)?;
    let state = container.inspect()?["State"].clone();
    ensure!(
        state["Status"] == "created" && state["ExitCode"] == 128 && state["Error"] == text.as_str(),
        "{state}"
    );
    ensure!(
        text.starts_with(&format!(
            "failed to set up container networking: driver failed programming external connectivity on endpoint {} (",
            container.name
        )),
        "{text}"
    );
    Ok(text)
}

fn ports_that_are_taken_are_refused_in_dockers_words(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rig(host)?;
    let port = free_port(host)?;
    let bindings = json!([{"HostPort": port.to_string()}]);
    let holder = host.api().create(serving(&bindings))?;
    holder.start()?;
    let text = refused(host, &bindings)?;
    ensure!(
        text.ends_with(&format!("Bind for 0.0.0.0:{port} failed: port is already allocated")),
        "{text}"
    );
    let text = refused(host, &json!([{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]))?;
    ensure!(text.ends_with("port is already allocated"), "{text}");
    until_it_answers(host, "127.0.0.1", port)?;
    holder.remove()?;
    // Freed with the container.
    let next = host.api().create(serving(&bindings))?;
    next.start()?;
    until_it_answers(host, "127.0.0.1", port)?;
    next.remove()?;
    // A program of the host has it.
    let program = host.sandbox()?.in_network(|| TcpListener::bind(("0.0.0.0", port)))??;
    let text = refused(host, &bindings)?;
    ensure!(
        text.ends_with(&format!(
            "failed to bind host port 0.0.0.0:{port}/tcp: address already in use"
        )),
        "{text}"
    );
    drop(program);
    let text = refused(host, &json!([{"HostIp": "192.0.2.1", "HostPort": port.to_string()}]))?;
    ensure!(text.ends_with("cannot assign requested address"), "{text}");
    Ok(())
}

fn ports_without_a_network_of_ones_own(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(e2e::api::BUSYBOX)?;
    let created = |mode: &str| {
        let body = json!({
            "Image": e2e::api::BUSYBOX, "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": mode, "PortBindings": {"80/tcp": [{"HostPort": "80"}]}},
        });
        let answer =
            api.post_json(&format!("/containers/create?name={}", unique("mode")), &body)?;
        answer.expect(201)?.json()
    };
    for (mode, warnings) in [
        ("host", json!(["Published ports are discarded when using host network mode"])),
        ("none", json!([])),
    ] {
        let answer = created(mode)?;
        ensure!(answer["Warnings"] == warnings, "{mode}: {answer}");
        let path = format!("/containers/{}", answer["Id"].as_str().unwrap_or_default());
        api.post(&format!("{path}/start"))?.expect(204)?;
        let seen = api.get_json(&format!("{path}/json"))?;
        ensure!(
            seen["NetworkSettings"]["Ports"] == json!({}),
            "{mode}: {}",
            seen["NetworkSettings"]
        );
        api.delete(&format!("{path}?force=1"))?.expect(204)?;
    }
    // An empty list is one free port, said to go away.
    let body = json!({"Image": e2e::api::BUSYBOX, "HostConfig": {"PortBindings": {"80/tcp": []}}});
    let answer = api.post_json("/containers/create", &body)?.expect(201)?.json()?;
    ensure!(
        answer["Warnings"][0]
            .as_str()
            .is_some_and(|text| text.contains("empty list of port-bindings: 80/tcp")),
        "{answer}"
    );
    let path = format!("/containers/{}", answer["Id"].as_str().unwrap_or_default());
    let seen = api.get_json(&format!("{path}/json"))?;
    let bindings = &seen["HostConfig"]["PortBindings"];
    ensure!(*bindings == json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]}), "{bindings}");
    api.delete(&path)?.expect(204)?;
    let old = api.at("1.51").post_json("/containers/create", &body)?.expect(201)?.json()?;
    ensure!(old["Warnings"] == json!([]), "{old}");
    api.delete(&format!("/containers/{}", old["Id"].as_str().unwrap_or_default()))?.expect(204)?;
    Ok(())
}

/// A kernel without the protocol says so at the start.
fn an_sctp_port_is_published(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let bindings = json!({"7/sctp": [{"HostPort": "0"}]});
    let body = json!({"Cmd": ["sleep", "1000"], "HostConfig": {"PortBindings": bindings}});
    let container = host.api().create(body)?;
    let started = container.post("/start")?;
    if started.status() == 500 {
        let text = started.expect_error(500)?;
        ensure!(text.contains("/sctp: protocol not supported"), "{text}");
        return Ok(());
    }
    started.expect(204)?;
    let ports = container.inspect()?["NetworkSettings"]["Ports"].clone();
    let number = ports["7/sctp"][0]["HostPort"].as_str().and_then(|port| port.parse::<u16>().ok());
    ensure!(number.is_some_and(|number| number != 0), "{ports}");
    Ok(())
}

fn what_is_no_port_is_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(e2e::api::BUSYBOX)?;
    for (bindings, expected) in [
        (json!({"80/tcp": [{"HostPort": "x"}]}), "invalid port specification: \"x\""),
        (json!({"80/tcp": [{"HostPort": "70000"}]}), "invalid port specification: \"70000\""),
        (json!({"80/tcp": [{"HostPort": "80-79"}]}), "invalid port specification: \"80-79\""),
        (json!({"x/tcp": [{"HostPort": "80"}]}), "invalid JSON: invalid port 'x': invalid syntax"),
        (json!({"0/tcp": [{"HostPort": "80"}]}), "invalid port specification: \"0/tcp\""),
        (
            json!({"80/tcp": [{"HostIp": "nope", "HostPort": "80"}]}),
            "invalid JSON: ParseAddr(\"nope\"): unable to parse IP",
        ),
    ] {
        let body = json!({"Image": e2e::api::BUSYBOX, "HostConfig": {"PortBindings": bindings}});
        let text = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(text == expected, "{bindings}: {text}");
    }
    Ok(())
}

/// The rules alone would not keep a program of the host from listening.
fn a_kept_port_is_not_for_others(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    needs_rig(host)?;
    let container = host.api().create(serving(&json!([{"HostPort": ""}])))?;
    container.start()?;
    let (_, port) = binding(&container, "80/tcp")?;
    let bound = host.sandbox()?.in_network(|| TcpListener::bind(("0.0.0.0", port)).is_ok())?;
    ensure!(!bound, "{port} is kept by nobody");
    container.remove()?;
    host.sandbox()?.in_network(|| TcpListener::bind(("0.0.0.0", port)).map(drop))??;
    Ok(())
}

fn ports_are_shared_with_nerdctl(rig: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let port = free_port(host)?;
            let ours = api.create(serving(&json!([{"HostPort": port.to_string()}])))?;
            ours.start()?;
            let shown = host.nerdctl(&["port", &ours.name])?;
            ensure!(shown.trim() == format!("80/tcp -> 0.0.0.0:{port}"), "{shown}");
            let rows = host.nerdctl(&["ps", "--format", "{{.Names}} {{.Ports}}"])?;
            ensure!(rows.contains(&format!("{} 0.0.0.0:{port}->80/tcp", ours.name)), "{rows}");
            // What we have is taken for nerdctl.
            let publish = format!("{port}:80");
            let second = host.nerdctl(&["run", "-d", "-p", &publish, "busybox", "sleep", "1000"]);
            ensure!(second.is_err(), "the same port twice");
            host.nerdctl(&["stop", "-t", "0", &ours.name])?;
            host.nerdctl(&["start", &ours.name])?;
            until_it_answers(host, "127.0.0.1", port)?;
            host.nerdctl(&["rm", "-f", &ours.name])?;

            let name = unique("theirs");
            host.nerdctl(&[
                "run", "-d", "--name", &name, "-p", &publish, "busybox", "sh", "-c", SERVER,
            ])?;
            let path = format!("/containers/{name}/json");
            until(Duration::from_secs(20), "its port", || {
                api.get_json(&path).is_ok_and(|seen| {
                    seen["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].as_str()
                        == Some(port.to_string().as_str())
                })
            })?;
            let text = refused(host, &json!([{"HostPort": port.to_string()}]))?;
            ensure!(text.ends_with("port is already allocated"), "{text}");
            api.delete(&format!("/containers/{name}?force=1"))?.expect(204)?;
            let after = api.create(serving(&json!([{"HostPort": port.to_string()}])))?;
            after.start()?;
            until_it_answers(host, "127.0.0.1", port)
        },
    )
}

fn ports_outlive_the_daemon(rig: &Rig) -> Result<()> {
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let container = api.create(serving(&json!([{"HostPort": ""}])))?;
            container.start()?;
            let (_, port) = binding(&container, "80/tcp")?;
            let before = rules(host)?;
            ensure!(before.contains(&format!("--dport {port}")), "no rule for {port}");
            host.kill_daemon()?;
            until_it_answers(host, "127.0.0.1", port)?;
            host.start_daemon()?;
            ensure!(binding(&container, "80/tcp")?.1 == port, "it is shown again");
            // The run ends while nobody looks.
            host.kill_daemon()?;
            host.ctr(&["tasks", "kill", "-s", "SIGKILL", &container.id])?;
            until(Duration::from_secs(20), "its end", || {
                host.ctr(&["tasks", "ls"]).is_ok_and(|rows| rows.contains("STOPPED"))
            })?;
            host.start_daemon()?;
            let sandbox = host.sandbox()?;
            until(Duration::from_secs(20), "the port is free", || {
                sandbox
                    .in_network(|| TcpListener::bind(("0.0.0.0", port)).is_ok())
                    .unwrap_or_default()
            })?;
            until(Duration::from_secs(20), "the rules are gone", || {
                rules(host).is_ok_and(|rules| !rules.contains(&format!("--dport {port}")))
            })?;
            container.start()?;
            let (_, again) = binding(&container, "80/tcp")?;
            until_it_answers(host, "127.0.0.1", again)?;
            container.remove()?;
            let left = rules(host)?;
            ensure!(!left.contains("CNI-DN-") && !left.contains(&container.id), "{left}");
            let leases = sandbox.inside("/var/lib/cni/networks/bridge");
            let leases = std::fs::read_dir(leases)?.flatten().filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok())
            });
            ensure!(leases.count() == 0, "a lease is left");
            ensure!(
                !sandbox.processes().iter().any(|process| process
                    .arguments
                    .starts_with(&["sleep".to_owned(), "infinity".to_owned()])),
                "a port reserver is left"
            );
            Ok(())
        },
    )
}

fn rules(host: &Host) -> Result<String> {
    let sandbox = host.sandbox()?;
    sandbox.run(sandbox.command("iptables-save").args(["-t", "nat"]))
}
