//! Names beside a container's own: legacy links on the default bridge, aliases and links in networks that a user made.

use e2e::api::BUSYBOX;
use e2e::cli::Docker;
use e2e::runner::OrSkip as _;
use e2e::{Api, Container, Context as _, Host, Result, Rig, Test, ensure, peers, tests, unique};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    a_link_is_a_name_and_a_condition_of_the_start,
    a_linked_container_has_further_names,
    a_link_is_removed_and_the_containers_stay,
    links_that_cannot_be_are_refused,
    // dockerd refuses with 500, or not before the start.
    odd_links_and_aliases_are_refused.ours_only(),
    aliases_are_known_in_their_network,
    the_cli_links.slow(),
    nerdctl_leaves_aliases_alone.ours_only(),
];

const SLEEP: [&str; 2] = ["sleep", "1000"];

/// A network that a user made, removed at the end.
struct Network<'a> {
    host: &'a Host,
    name: String,
}

impl<'a> Network<'a> {
    fn make(host: &'a Host) -> Result<Self> {
        let name = unique("net");
        if host.is_ours() {
            peers::program("nerdctl", "nerdctl").or_skip()?;
            host.nerdctl(&["network", "create", &name])?;
        } else {
            let body = json!({"Name": name});
            host.api().post_json("/networks/create", &body)?.expect(201)?;
        }
        Ok(Self { host, name })
    }

    fn container(&self, body: &Value, endpoint: &Value) -> Result<Container> {
        let mut body = body.clone();
        body["HostConfig"] = json!({"NetworkMode": self.name});
        body["NetworkingConfig"] = json!({"EndpointsConfig": {(self.name.as_str()): endpoint}});
        self.host.api().create(body)
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        // The host goes at the end in any case, and with it its networks.
        if self.host.is_ours() {
            let _ = self.host.nerdctl(&["network", "rm", &self.name]);
        } else {
            let _ = self.host.api().delete(&format!("/networks/{}", self.name));
        }
    }
}

/// Runs until it has pinged `name` once, and gives the address that the name stands for.
fn address_of(container: &Container, name: &str) -> Result<String> {
    let api = container.api();
    let body = json!({"Cmd": ["ping", "-c", "1", "-W", "5", name], "AttachStdout": true});
    let made = api.post_json(&container.path("/exec"), &body)?.expect(201)?.json()?;
    let id = made["Id"].as_str().context("no Id")?;
    let body = json!({"Detach": false});
    let output = api.post_json(&format!("/exec/{id}/start"), &body)?.text();
    let ended = api.get_json(&format!("/exec/{id}/json"))?;
    ensure!(ended["ExitCode"] == 0, "ping {name}: {output}");
    let (_, rest) = output.split_once('(').with_context(|| output.clone())?;
    Ok(rest.split(')').next().unwrap_or_default().to_owned())
}

fn address(container: &Container, network: &str) -> Result<String> {
    let seen = container.inspect()?;
    let address = seen["NetworkSettings"]["Networks"][network]["IPAddress"].as_str();
    Ok(address.context("no address")?.to_owned())
}

fn linked(api: &Api, links: &Value) -> Result<e2e::http::Response> {
    let host = json!({"Links": links});
    api.post_json(
        "/containers/create",
        &json!({"Image": BUSYBOX, "Cmd": SLEEP, "HostConfig": host}),
    )
}

fn a_link_is_a_name_and_a_condition_of_the_start(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let db = api.create(json!({"Hostname": "dbhost", "Cmd": SLEEP}))?;
    let links = json!([format!("{}:al", db.name), db.name]);
    let body = json!({"Cmd": SLEEP, "HostConfig": {"Links": links}});
    let web = api.create(body)?;
    let seen = web.inspect()?["HostConfig"]["Links"].clone();
    let mut seen: Vec<&str> =
        seen.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    seen.sort_unstable();
    let (db_name, web_name) = (&db.name, &web.name);
    let mut expected =
        [format!("/{db_name}:/{web_name}/al"), format!("/{db_name}:/{web_name}/{db_name}")];
    expected.sort();
    ensure!(seen == expected, "{seen:?}");

    let text = web.post("/start")?.expect_error(500)?;
    let start = format!("Cannot link to a non running container: /{db_name} AS /{web_name}/");
    ensure!(text.starts_with(&start), "{text}");
    ensure!(web.status()? == "created", "{}", web.status()?);
    db.start()?;
    web.start()?;
    for name in ["al", "dbhost", db_name] {
        ensure!(address_of(&web, name)? == address(&db, "bridge")?, "{name}");
    }
    // A new address is known at once.
    db.post("/kill")?.expect(204)?;
    let other = api.create(json!({"Cmd": SLEEP}))?;
    other.start()?;
    db.start()?;
    ensure!(address_of(&web, "al")? == address(&db, "bridge")?, "after its restart");
    // It goes, and with it the possibility to start.
    web.post("/kill")?.expect(204)?;
    db.remove()?;
    let text = web.post("/start")?.expect_error(500)?;
    ensure!(text.starts_with(&start), "{text}");
    ensure!(web.inspect()?["HostConfig"]["Links"].as_array().is_some_and(|links| links.len() == 2));
    Ok(())
}

fn a_linked_container_has_further_names(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let db = api.create(json!({"Cmd": SLEEP}))?;
    let web =
        api.create(json!({"Cmd": SLEEP, "HostConfig": {"Links": [format!("{}:al", db.name)]}}))?;
    let names = |container: &Container| -> Result<Vec<String>> {
        let list = api.get_json("/containers/json?all=1")?;
        let mut rows = list.as_array().into_iter().flatten();
        let row = rows.find(|row| row["Id"] == container.id.as_str()).context("no row")?;
        let names = row["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(names.map(str::to_owned).collect())
    };
    let mut expected = [format!("/{}", db.name), format!("/{}/al", web.name)];
    expected.sort();
    ensure!(names(&db)? == expected, "{:?}", names(&db)?);
    let seen = api.get_json(&format!("/containers/{}/al/json", web.name))?;
    ensure!(seen["Id"] == db.id.as_str(), "{}", seen["Id"]);
    web.remove()?;
    ensure!(names(&db)? == [format!("/{}", db.name)]);
    Ok(())
}

fn a_link_is_removed_and_the_containers_stay(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let db = api.create(json!({"Cmd": SLEEP}))?;
    let links = json!([format!("{}:one", db.name), format!("{}:two", db.name)]);
    let web = api.create(json!({"Cmd": SLEEP, "HostConfig": {"Links": links}}))?;
    let text = api.delete(&format!("/containers/{}?link=1", db.name))?.expect_error(500)?;
    let words = "Conflict, cannot remove the default link name of the container";
    ensure!(text == words, "{text}");
    api.delete(&format!("/containers/{}/three?link=1", web.name))?.expect_error(404)?;
    api.delete(&format!("/containers/{}/one?link=1", web.name))?.expect(204)?;
    let left = web.inspect()?["HostConfig"]["Links"].clone();
    ensure!(left == json!([format!("/{}:/{}/two", db.name, web.name)]), "{left}");
    api.get(&format!("/containers/{}/one/json", web.name))?.expect_error(404)?;
    db.start()?;
    web.start()?;
    ensure!(address_of(&web, "two")? == address(&db, "bridge")?);
    ensure!(address_of(&web, "one").is_err(), "the removed link");
    Ok(())
}

fn links_that_cannot_be_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(BUSYBOX)?;
    let text = linked(&api, &json!(["nosuch:x"]))?.expect_error(400)?;
    ensure!(text == "could not get container for nosuch: No such container: nosuch", "{text}");
    let on_host = api.create(json!({"Cmd": SLEEP, "HostConfig": {"NetworkMode": "host"}}))?;
    let text = linked(&api, &json!([format!("{}:x", on_host.name)]))?.expect_error(400)?;
    let words = "conflicting options: host type networking can't be used with links. This would result in undefined behavior";
    ensure!(text == words, "{text}");
    let nowhere = api.create(json!({"Cmd": SLEEP, "HostConfig": {"NetworkMode": "none"}}))?;
    nowhere.start()?;
    let created = linked(&api, &json!([format!("{}:x", nowhere.name)]))?.expect(201)?.json()?;
    let warning = created["Warnings"][0].as_str().unwrap_or_default().to_owned();
    ensure!(warning.starts_with("Links on the default bridge network are deprecated"), "{created}");
    let made = api.adopt(created["Id"].as_str().context("no Id")?, "");
    let text = made.post("/start")?.expect_error(500)?;
    ensure!(
        text == format!("container {} not attached to default bridge network", nowhere.id),
        "{text}"
    );
    Ok(())
}

fn odd_links_and_aliases_are_refused(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let api = host.api();
    let db = api.create(json!({"Cmd": SLEEP}))?;
    for (link, words) in [
        ("a:b:c".to_owned(), "bad format for links: a:b:c"),
        (String::new(), "empty string specified for links"),
        (format!("{}:a\n192.0.2.1 b", db.name), r#"invalid alias format: "a\n192.0.2.1 b""#),
    ] {
        let text = linked(&api, &json!([link]))?.expect_error(400)?;
        ensure!(text == words, "{text}");
    }
    let endpoint = |settings: Value| {
        api.post_json(
            "/containers/create",
            &json!({
                "Image": BUSYBOX, "HostConfig": {"NetworkMode": "mine"},
                "NetworkingConfig": {"EndpointsConfig": {"mine": settings}},
            }),
        )?
        .expect_error(400)
    };
    let text = endpoint(json!({"Aliases": ["a b"]}))?;
    ensure!(text == r#"invalid alias format: "a b""#, "{text}");
    let text = endpoint(json!({"Links": ["a:b:c"]}))?;
    ensure!(text == "bad format for links: a:b:c", "{text}");
    Ok(())
}

fn aliases_are_known_in_their_network(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let network = Network::make(host)?;
    let endpoint = json!({"Aliases": ["al1", "al2", "al1"], "Links": ["nosuch:y"]});
    let db = network.container(&json!({"Hostname": "dbhost", "Cmd": SLEEP}), &endpoint)?;
    let shown = |container: &Container| -> Result<Value> {
        Ok(container.inspect()?["NetworkSettings"]["Networks"][&network.name].clone())
    };
    let seen = shown(&db)?;
    ensure!(seen["Aliases"] == endpoint["Aliases"] && seen["Links"] == endpoint["Links"], "{seen}");
    ensure!(seen["DNSNames"].is_null(), "{seen}");
    db.start()?;
    let seen = shown(&db)?;
    let names = json!([db.name, "al1", "al2", &db.id[..12], "dbhost"]);
    ensure!(seen["DNSNames"] == names, "{seen}");

    let endpoint = json!({"Aliases": ["me"], "Links": [format!("{}:fresh", db.name), "al1:old"]});
    let web = network.container(&json!({"Cmd": SLEEP}), &endpoint)?;
    web.start()?;
    for name in ["al1", "al2", "fresh", "old", "dbhost", &db.name] {
        ensure!(address_of(&web, name)? == address(&db, &network.name)?, "{name}");
    }
    ensure!(address_of(&web, "me")? == address(&web, &network.name)?, "its own alias");
    // Links are one's own, aliases everybody's; nobody elsewhere knows either.
    ensure!(address_of(&db, "me")? == address(&web, &network.name)?, "the other's alias");
    ensure!(address_of(&db, "fresh").is_err(), "the other's link");
    let stranger = host.api().create(json!({"Cmd": SLEEP}))?;
    stranger.start()?;
    ensure!(address_of(&stranger, "al1").is_err(), "an alias of another network");
    web.remove()?;
    ensure!(address_of(&db, "me").is_err(), "the alias of what is gone");
    db.remove()
}

fn the_cli_links(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let cli = Docker::newest(host)?;
    let network = Network::make(host)?;
    for (network, alias) in
        [("bridge", &[][..]), (network.name.as_str(), &["--network-alias=other"])]
    {
        let (db, web) = (unique("db"), unique("web"));
        let run = [
            &["run", "-d", "--network", network, "--name", &db],
            alias,
            &[BUSYBOX, "sleep", "1000"],
        ];
        cli.run(&run.concat())?.success()?;
        let link = format!("{db}:al");
        let run = ["run", "--rm", "--network", network, "--link", &link, "--name", &web, BUSYBOX];
        let ping = ["ping", "-c", "1", "-W", "5", "al"];
        let out = cli.run(&[&run[..], &ping].concat())?.success()?;
        ensure!(out.contains("1 packets received"), "{out}");
        cli.run(&["rm", "-f", &db])?.success()?;
    }
    Ok(())
}

/// A container of nerdctl's makes nerdctl write all hosts files anew; one of ours that it starts has its names again.
fn nerdctl_leaves_aliases_alone(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    let network = Network::make(host)?;
    let db = network.container(&json!({"Cmd": SLEEP}), &json!({"Aliases": ["al"]}))?;
    let web = network
        .container(&json!({"Cmd": SLEEP}), &json!({"Links": [format!("{}:fresh", db.name)]}))?;
    db.start()?;
    web.start()?;
    let theirs = ["run", "--rm", "--network", &network.name, "busybox", "cat", "/etc/hosts"];
    let hosts = host.nerdctl(&theirs)?;
    ensure!(hosts.contains(&db.name), "{hosts}");
    let of_db = address(&db, &network.name)?;
    for name in ["al", "fresh"] {
        ensure!(address_of(&web, name)? == of_db, "{name}");
    }
    host.nerdctl(&["restart", "-t", "0", &db.name])?;
    host.nerdctl(&theirs)?;
    for name in ["al", "fresh"] {
        let found = address_of(&web, name)?;
        ensure!(found == address(&db, &network.name)?, "{name} is {found} after its restart");
    }
    Ok(())
}
