//! Networks as they are shown, and what a container learns of its place in one: names, hosts, addresses, and the
//! network of another container.

use std::time::Duration;

use e2e::api::{BUSYBOX, filters};
use e2e::runner::OrSkip as _;
use e2e::sandbox::until;
use e2e::{Container, Context as _, Result, Rig, Test, ensure, peers, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    three_networks_are_always_there,
    lists_of_networks_are_filtered,
    a_network_shows_its_containers,
    hosts_and_name_servers_are_the_containers_own,
    a_mac_address_is_the_clients_choice,
    another_containers_network_is_shared,
    what_does_not_go_with_a_shared_network,
    a_network_that_does_not_exist_is_missed_at_the_start,
    endpoints_that_cannot_be_are_refused,
    names_bring_no_lines_into_hosts_files.ours_only(),
    a_network_of_nerdctls_is_joined.ours_only(),
];

/// What the container printed, once it has ended.
fn printed(container: &Container) -> Result<String> {
    container.start()?;
    container.wait()?;
    Ok(container.logs("")?.text())
}

fn three_networks_are_always_there(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let list = api.get_json("/networks")?;
    let rows = list.as_array().context("no list")?;
    for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
        let row = rows.iter().find(|row| row["Name"] == name).with_context(|| format!("{list}"))?;
        ensure!(row["Driver"] == driver && row["Scope"] == "local", "{row}");
        ensure!(row["Labels"] == json!({}) && row.get("Containers").is_none(), "{row}");
        let seen = api.get_json(&format!("/networks/{name}"))?;
        ensure!(seen["Id"] == row["Id"] && seen["Containers"].is_object(), "{seen}");
        ensure!(seen["Status"]["IPAM"].is_object(), "{seen}");
        let id = seen["Id"].as_str().context("no Id")?;
        ensure!(id.len() == 64, "{id}");
        let by_prefix = api.get_json(&format!("/networks/{}", &id[..12]))?;
        ensure!(by_prefix["Name"] == name, "{by_prefix}");
        let old = api.at("1.51").get_json(&format!("/networks/{name}"))?;
        ensure!(old.get("Status").is_none(), "{old}");
    }
    let bridge = api.get_json("/networks/bridge")?;
    let options = &bridge["Options"];
    ensure!(
        options["com.docker.network.driver.mtu"] == "1500"
            && options["com.docker.network.bridge.default_bridge"] == "true",
        "{options}"
    );
    let subnet = &bridge["IPAM"]["Config"][0];
    ensure!(
        subnet["Subnet"].as_str().is_some_and(|text| text.contains('/'))
            && subnet["Gateway"].as_str().is_some_and(|text| !text.is_empty()),
        "{bridge}"
    );
    ensure!(api.get_json("/networks/host")?["IPAM"]["Config"].is_null(), "host has no subnets");
    let old = api.at("1.27").get_json("/networks")?;
    ensure!(old[0]["Containers"].is_object(), "{old}");
    let text = api.get("/networks/nosuch")?.expect_error(404)?;
    ensure!(text == "network nosuch not found", "{text}");
    api.get("/networks/bridge?scope=swarm")?.expect_error(404)?;
    let text = api.get("/networks/bridge?verbose=x")?.expect_error(400)?;
    ensure!(text.starts_with("invalid value for verbose: x"), "{text}");
    Ok(())
}

fn lists_of_networks_are_filtered(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let names = |key: &str, value: &str| -> Result<Vec<String>> {
        let list = api.get_json(&format!("/networks?{}", filters(&[(key, value)])))?;
        let names = list.as_array().into_iter().flatten().filter_map(|row| row["Name"].as_str());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    };
    let only = ["bridge".to_owned()];
    ensure!(names("driver", "bridge")?.contains(&only[0]), "by driver");
    ensure!(!names("driver", "bridge")?.contains(&"host".to_owned()), "by driver");
    ensure!(names("name", "ridg")? == only, "by a part of the name");
    ensure!(names("type", "builtin")? == ["bridge", "host", "none"], "by type");
    ensure!(!names("dangling", "true")?.contains(&only[0]), "Docker's own never dangle");
    ensure!(names("scope", "swarm")?.is_empty() && names("label", "x")?.is_empty());
    let id = api.get_json("/networks/none")?["Id"].as_str().context("no Id")?.to_owned();
    ensure!(names("id", &id[..20])? == ["none"], "by id");
    for (key, value, expected) in [
        ("type", "x", "invalid value for filter 'type': must be 'builtin' or 'custom'"),
        (
            "dangling",
            "x",
            "invalid value for filter 'dangling': must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
        ),
        ("nope", "x", "invalid filter 'nope'"),
    ] {
        let path = format!("/networks?{}", filters(&[(key, value)]));
        let text = api.get(&path)?.expect_error(400)?;
        ensure!(text == expected, "{text}");
    }
    Ok(())
}

fn a_network_shows_its_containers(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({"Cmd": ["sleep", "1000"]}))?;
    let of = |network: &str| -> Result<Value> {
        Ok(api.get_json(&format!("/networks/{network}"))?["Containers"][&container.id].clone())
    };
    ensure!(of("bridge")?.is_null(), "before the start");
    container.start()?;
    let (shown, seen) = (of("bridge")?, container.inspect()?);
    let endpoint = &seen["NetworkSettings"]["Networks"]["bridge"];
    let address = format!(
        "{}/{}",
        endpoint["IPAddress"].as_str().unwrap_or_default(),
        endpoint["IPPrefixLen"]
    );
    ensure!(
        shown["Name"] == container.name.as_str()
            && shown["IPv4Address"] == address.as_str()
            && shown["MacAddress"] == endpoint["MacAddress"]
            && shown["EndpointID"] == endpoint["EndpointID"],
        "{shown}, {endpoint}"
    );
    ensure!(endpoint["NetworkID"] == api.get_json("/networks/bridge")?["Id"], "{endpoint}");
    container.post("/stop?t=0")?.expect(204)?;
    ensure!(of("bridge")?.is_null(), "after the end");
    Ok(())
}

fn hosts_and_name_servers_are_the_containers_own(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let container = api.create(json!({
        "Hostname": "h", "Domainname": "d.example",
        "Cmd": ["sh", "-c", "cat /etc/hosts /etc/resolv.conf; echo name: $(cat /etc/hostname) $(hostname) $(hostname -f)"],
        "HostConfig": {
            "ExtraHosts": ["a:192.0.2.1", "a:192.0.2.2", "six:fd00::1", "me:host-gateway", "l:127.0.0.5"],
            "Dns": ["192.0.2.53"], "DnsSearch": ["example.org"], "DnsOptions": ["ndots:3"],
        },
    }))?;
    let text = printed(&container)?;
    let gateway = api.get_json("/networks/bridge")?["IPAM"]["Config"][0]["Gateway"]
        .as_str()
        .context("no gateway")?
        .to_owned();
    let has = |words: &[&str]| {
        text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == words)
    };
    for line in [
        &["192.0.2.1", "a"][..],
        &["192.0.2.2", "a"],
        &["fd00::1", "six"],
        &[gateway.as_str(), "me"],
        &["127.0.0.5", "l"],
        &["nameserver", "192.0.2.53"],
        &["search", "example.org"],
        &["options", "ndots:3"],
        &["name:", "h", "h", "h.d.example"],
    ] {
        ensure!(has(line), "no line {line:?}:\n{text}");
    }
    ensure!(text.matches("\nnameserver ").count() == 1, "{text}");
    let asked = container.inspect()?["HostConfig"].clone();
    ensure!(
        asked["Dns"] == json!(["192.0.2.53"]) && asked["ExtraHosts"][3] == "me:host-gateway",
        "{asked}"
    );
    Ok(())
}

fn a_mac_address_is_the_clients_choice(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let address = "02:42:ac:11:77:01";
    let script = json!(["sh", "-c", "cat /sys/class/net/eth0/address"]);
    let newest = json!({"Cmd": script, "NetworkingConfig": {"EndpointsConfig": {"bridge": {"MacAddress": address}}}});
    ensure!(printed(&api.create(newest)?)?.trim() == address);
    let old = json!({"Cmd": script, "MacAddress": address});
    ensure!(printed(&api.at("1.43").create(old)?)?.trim() == address);
    Ok(())
}

fn another_containers_network_is_shared(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let target =
        api.create(json!({"Hostname": "th", "Domainname": "td", "Cmd": ["sleep", "1000"]}))?;
    let script = "hostname; cat /etc/hosts; ip -4 -o addr show eth0; sleep 1000";
    let body = json!({
        "Cmd": ["sh", "-c", script],
        "HostConfig": {"NetworkMode": format!("container:{}", target.name)},
    });
    let guest = api.create(body)?;
    let text = guest.post("/start")?.expect_error(409)?;
    let expected = format!(
        "cannot join network namespace of a non running container: container {} is created",
        target.name
    );
    ensure!(text == expected, "{text}");
    ensure!(guest.inspect()?["State"]["ExitCode"] == 128, "{}", guest.inspect()?["State"]);
    // At each of its starts the other has another namespace.
    for _ in 0..2 {
        target.start()?;
        guest.start()?;
        let seen = target.inspect()?;
        let address = seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            .as_str()
            .context("no address")?
            .to_owned();
        guest.until_logged(&format!("inet {address}/"))?;
        guest.until_logged("th.td")?;
        let seen = guest.inspect()?;
        ensure!(
            seen["NetworkSettings"]["Networks"] == json!({})
                && seen["NetworkSettings"]["Ports"] == json!({})
                && seen["NetworkSettings"]["SandboxKey"] == "",
            "{}",
            seen["NetworkSettings"]
        );
        ensure!(
            seen["HostConfig"]["NetworkMode"] == format!("container:{}", target.id),
            "{}",
            seen["HostConfig"]["NetworkMode"]
        );
        ensure!(seen["Config"]["Hostname"] == "th", "{}", seen["Config"]["Hostname"]);
        guest.post("/stop?t=0")?.expect(204)?;
        target.post("/stop?t=0")?.expect(204)?;
    }
    Ok(())
}

fn what_does_not_go_with_a_shared_network(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    for (more, expected) in [
        (json!({"Hostname": "h"}), "conflicting options: hostname and the network mode"),
        (
            json!({"ExposedPorts": {"80/tcp": {}}}),
            "conflicting options: port exposing and the container type network mode",
        ),
    ] {
        let mut body = json!({"Image": BUSYBOX, "HostConfig": {"NetworkMode": "container:x"}});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let text = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(text == expected, "{text}");
    }
    for (more, expected) in [
        (
            json!({"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}),
            "conflicting options: port publishing and the container type network mode",
        ),
        (json!({"Dns": ["192.0.2.1"]}), "conflicting options: dns and the network mode"),
        (
            json!({"ExtraHosts": ["a:192.0.2.1"]}),
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            json!({"NetworkMode": "container:"}),
            "invalid network mode: invalid container format container:<name|id>",
        ),
    ] {
        let mut host = json!({"NetworkMode": "container:x"});
        for (key, value) in more.as_object().into_iter().flatten() {
            host[key] = value.clone();
        }
        let body = json!({"Image": BUSYBOX, "HostConfig": host});
        let text = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(text == expected, "{text}");
    }
    let gone = api.create(json!({"HostConfig": {"NetworkMode": "container:nobody-has-this"}}))?;
    let text = gone.post("/start")?.expect_error(500)?;
    ensure!(
        text == "joining network namespace of container: No such container: nobody-has-this",
        "{text}"
    );
    Ok(())
}

fn a_network_that_does_not_exist_is_missed_at_the_start(rig: &Rig) -> Result<()> {
    let container =
        rig.host()?.api().create(json!({"HostConfig": {"NetworkMode": "nobody-has-this-net"}}))?;
    let text = container.post("/start")?.expect_error(404)?;
    let expected = "failed to set up container networking: network nobody-has-this-net not found";
    ensure!(text == expected, "{text}");
    let state = container.inspect()?["State"].clone();
    ensure!(
        state["Status"] == "created" && state["ExitCode"] == 128 && state["Error"] == expected,
        "{state}"
    );
    Ok(())
}

fn endpoints_that_cannot_be_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let problem = "invalid config for network bridge: invalid endpoint settings:\n";
    for (endpoint, expected) in [
        (
            json!({"IPAMConfig": {"IPv4Address": "172.17.0.99"}}),
            format!(
                "{problem}user-specified IP address is supported on user-defined networks only"
            ),
        ),
        (
            json!({"Aliases": ["x"]}),
            format!("{problem}network-scoped aliases are only supported for user-defined networks"),
        ),
        (
            json!({"MacAddress": "nope"}),
            "invalid JSON: address nope: invalid MAC address".to_owned(),
        ),
    ] {
        let body = json!({"Image": BUSYBOX, "NetworkingConfig": {"EndpointsConfig": {"bridge": endpoint}}});
        let text = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(text == expected, "{text}");
    }
    for (hosts, expected) in [
        ("nocolon", "bad format for add-host: \"nocolon\""),
        ("a:nope", "invalid IP address in add-host: \"nope\""),
    ] {
        let body = json!({"Image": BUSYBOX, "HostConfig": {"ExtraHosts": [hosts]}});
        let text = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(text == expected, "{text}");
    }
    Ok(())
}

/// The hosts files of other containers on the network repeat a container's names.
fn names_bring_no_lines_into_hosts_files(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    for (field, value) in [("Hostname", "a\n192.0.2.1 registry.example"), ("Domainname", "a b")] {
        let body = json!({"Image": BUSYBOX, field: value});
        let text = api.post_json("/containers/create", &body)?.expect_error(400)?;
        ensure!(text.starts_with(&format!("invalid {} format", field.to_lowercase())), "{text}");
    }
    Ok(())
}

fn a_network_of_nerdctls_is_joined(rig: &Rig) -> Result<()> {
    peers::program("nerdctl", "nerdctl").or_skip()?;
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            let network = unique("net");
            let labels = ["--label", "com.example/k=v", "--subnet", "10.77.0.0/24"];
            host.nerdctl(&[&["network", "create"], &labels[..], &[&network]].concat())?;
            let shown = api.get_json(&format!("/networks/{network}"))?;
            ensure!(
                shown["Driver"] == "bridge"
                    && shown["Labels"] == json!({"com.example/k": "v"})
                    && shown["IPAM"]["Config"][0]["Subnet"] == "10.77.0.0/24",
                "{shown}"
            );
            let listed = api.get_json(&format!("/networks?{}", filters(&[("type", "custom")])))?;
            ensure!(listed.as_array().is_some_and(|list| list.len() == 1), "{listed}");

            let container = api.create(json!({
                "Cmd": ["sleep", "1000"],
                "HostConfig": {"NetworkMode": network, "PortBindings": {"80/tcp": [{"HostPort": ""}]}},
                "NetworkingConfig": {"EndpointsConfig": {(network.as_str()): {"IPAMConfig": {"IPv4Address": "10.77.0.9"}}}},
            }))?;
            container.start()?;
            let seen = container.inspect()?;
            let endpoint = &seen["NetworkSettings"]["Networks"][&network];
            ensure!(
                endpoint["IPAddress"] == "10.77.0.9"
                    && endpoint["NetworkID"] == shown["Id"]
                    && endpoint["IPAMConfig"]["IPv4Address"] == "10.77.0.9",
                "{endpoint}"
            );
            ensure!(seen["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"].is_string(), "{seen}");
            let shown = api.get_json(&format!("/networks/{network}"))?;
            ensure!(
                shown["Containers"][&container.id]["IPv4Address"] == "10.77.0.9/24",
                "{shown}"
            );
            // nerdctl's container finds it by name.
            let by_name = host.nerdctl(&[
                "run", "--rm", "--network", &network, "busybox", "ping", "-c", "1", "-W", "5", &container.name,
            ])?;
            ensure!(by_name.contains("10.77.0.9"), "{by_name}");
            container.remove()?;
            host.nerdctl(&["network", "rm", &network])?;
            until(Duration::from_secs(10), "the network is gone", || {
                api.get(&format!("/networks/{network}")).is_ok_and(|answer| answer.status() == 404)
            })
        },
    )
}
