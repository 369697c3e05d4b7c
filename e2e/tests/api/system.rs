//! `/_ping`, `/version`, `/info`, `/auth`, negotiation of versions, the connection, and what is refused.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;

use e2e::host::{LOGIN, LOGIN_REGISTRY};
use e2e::http::Request;
use e2e::{Context as _, Result, Rig, Test, bail, ensure, tests};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = tests![
    ping_tells_what_clients_negotiate_with,
    every_version_of_the_range_is_served,
    versions_outside_of_the_range_are_refused,
    an_endpoint_that_is_younger_than_the_request_is_refused,
    version_has_all_keys,
    info_has_all_keys,
    info_differs_by_version,
    bollard_understands_version_and_info,
    unknown_paths_and_methods_are_not_found,
    swarm_is_refused_as_by_a_node_outside_of_one,
    // dockerd would join one.
    joining_a_swarm_is_refused.ours_only(),
    plugins_are_none,
    checkpoints_are_experimental,
    options_answers_any_path,
    a_connection_serves_many_requests,
    requests_may_be_pipelined,
    names_may_be_percent_encoded,
    odd_hosts_and_content_types_pass,
    huge_headers_are_refused,
    login_is_checked,
];

fn ping_tells_what_clients_negotiate_with(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let newest = api.get_json("/version")?["ApiVersion"].as_str().unwrap_or_default().to_owned();
    for method in ["GET", "HEAD"] {
        let response = api.send(&api.request(method, "/_ping"))?.expect(200)?;
        let header = |name: &str| response.head.header(name).unwrap_or("(none)").to_owned();
        ensure!(header("Api-Version") == newest, "{:?}", response.head);
        ensure!(header("Ostype") == "linux", "{:?}", response.head);
        ensure!(header("Docker-Experimental") == "false", "{:?}", response.head);
        ensure!(header("Swarm") == "inactive", "{:?}", response.head);
        ensure!(header("Builder-Version") == "2", "{:?}", response.head);
        ensure!(
            header("Cache-Control") == "no-cache, no-store, must-revalidate",
            "{:?}",
            response.head
        );
        ensure!(header("Pragma") == "no-cache", "{:?}", response.head);
        ensure!(
            header("Server").starts_with("Docker/") && header("Server").ends_with(" (linux)"),
            "{:?}",
            response.head
        );
        ensure!(header("Content-Type") == "text/plain; charset=utf-8", "{:?}", response.head);
        ensure!(
            response.text() == if method == "GET" { "OK" } else { "" },
            "{:?}",
            response.text()
        );
    }
    Ok(())
}

/// Minor numbers of the oldest and the newest version.
fn range(version: &Value) -> Result<(u32, u32)> {
    let minor = |key: &str| version[key].as_str()?.strip_prefix("1.")?.parse().ok();
    minor("MinAPIVersion").zip(minor("ApiVersion")).with_context(|| format!("no range: {version}"))
}

fn every_version_of_the_range_is_served(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let (oldest, newest) = range(&api.get_json("/version")?)?;
    ensure!(newest >= 53, "bollard 0.22 pins 1.53, and the newest is 1.{newest}");
    for minor in oldest..=newest {
        let response = api.at(&format!("1.{minor}")).get("/_ping")?.expect(200)?;
        ensure!(
            response.head.header("Api-Version") == Some(&format!("1.{newest}")),
            "{:?}",
            response.head
        );
        api.at(&format!("1.{minor}")).get("/containers/json")?.expect(200)?.json()?;
    }
    Ok(())
}

fn versions_outside_of_the_range_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let (oldest, newest) = range(&api.get_json("/version")?)?;
    let new = api.at("1.99").get("/containers/json")?.expect_error(400)?;
    ensure!(
        new == format!(
            "client version 1.99 is too new. Maximum supported API version is 1.{newest}"
        ),
        "{new}"
    );
    let old = api.at("1.23").get("/containers/json")?.expect(400)?;
    // Clients of that age know no JSON errors.
    let text = format!(
        "client version 1.23 is too old. Minimum supported API version is 1.{oldest}, please upgrade your client to a newer version"
    );
    ensure!(old.text().trim_end() == text, "{}", old.text());
    for odd in ["1", "2.0", "1.9"] {
        let status = api.at(odd).get("/_ping")?.status();
        ensure!(status == 400, "version {odd} is answered with {status}");
    }
    Ok(())
}

fn an_endpoint_that_is_younger_than_the_request_is_refused(rig: &Rig) -> Result<()> {
    let message = rig.host()?.api().at("1.54").get("/images/x/attestations")?.expect_error(400)?;
    ensure!(
        message == "GET /images/{name:.*}/attestations requires minimum API version 1.55",
        "{message}"
    );
    Ok(())
}

fn has_keys(value: &Value, keys: &[&str]) -> Result<()> {
    let object = value.as_object().with_context(|| format!("not an object: {value}"))?;
    let missing: Vec<_> = keys.iter().filter(|key| !object.contains_key(**key)).collect();
    ensure!(missing.is_empty(), "without {missing:?}: {value}");
    Ok(())
}

fn version_has_all_keys(rig: &Rig) -> Result<()> {
    let version = rig.host()?.api().get_json("/version")?;
    let keys = ["Platform", "Components", "Version", "ApiVersion", "MinAPIVersion", "Os", "Arch"];
    has_keys(&version, &keys)?;
    has_keys(&version, &["KernelVersion"])?;
    ensure!(version["Os"] == "linux", "{version}");
    // cAdvisor, buildx and Dev Containers take it apart.
    let numbers = version["Version"].as_str().unwrap_or_default().split(['.', '-', '+']).take(3);
    ensure!(numbers.filter(|part| part.parse::<u32>().is_ok()).count() == 3, "{version}");
    let names: Vec<_> =
        version["Components"].as_array().into_iter().flatten().map(|c| c["Name"].clone()).collect();
    ensure!(names.starts_with(&[json!("Engine"), json!("containerd"), json!("runc")]), "{names:?}");
    for component in version["Components"].as_array().into_iter().flatten() {
        let details = component["Details"].as_object().context("no details")?;
        ensure!(details.values().all(Value::is_string), "{component}");
    }
    let engine = &version["Components"][0]["Details"];
    has_keys(
        engine,
        &[
            "ApiVersion",
            "MinAPIVersion",
            "Arch",
            "GitCommit",
            "GoVersion",
            "KernelVersion",
            "Os",
            "Experimental",
        ],
    )?;
    ensure!(engine["ApiVersion"] == version["ApiVersion"], "{version}");
    Ok(())
}

const INFO: &[&str] = &[
    "ID",
    "Containers",
    "ContainersRunning",
    "ContainersPaused",
    "ContainersStopped",
    "Images",
    "Driver",
    "DriverStatus",
    "Plugins",
    "MemoryLimit",
    "SwapLimit",
    "CpuCfsPeriod",
    "CpuCfsQuota",
    "CPUShares",
    "CPUSet",
    "PidsLimit",
    "IPv4Forwarding",
    "Debug",
    "NFd",
    "OomKillDisable",
    "NGoroutines",
    "SystemTime",
    "LoggingDriver",
    "CgroupDriver",
    "CgroupVersion",
    "NEventsListener",
    "KernelVersion",
    "OperatingSystem",
    "OSVersion",
    "OSType",
    "Architecture",
    "IndexServerAddress",
    "RegistryConfig",
    "NCPU",
    "MemTotal",
    "GenericResources",
    "DockerRootDir",
    "HttpProxy",
    "HttpsProxy",
    "NoProxy",
    "Name",
    "Labels",
    "ExperimentalBuild",
    "ServerVersion",
    "Runtimes",
    "DefaultRuntime",
    "Swarm",
    "LiveRestoreEnabled",
    "Isolation",
    "InitBinary",
    "ContainerdCommit",
    "RuncCommit",
    "InitCommit",
    "SecurityOptions",
    "CDISpecDirs",
    "Warnings",
];

fn info_has_all_keys(rig: &Rig) -> Result<()> {
    let info = rig.host()?.api().get_json("/info")?;
    has_keys(&info, INFO)?;
    for key in [
        "ID",
        "Driver",
        "ServerVersion",
        "KernelVersion",
        "OperatingSystem",
        "Name",
        "DockerRootDir",
        "SystemTime",
    ] {
        ensure!(info[key].as_str().is_some_and(|text| !text.is_empty()), "{key} is empty");
    }
    let architecture =
        String::from_utf8(std::process::Command::new("uname").arg("-m").output()?.stdout)?;
    ensure!(info["Architecture"] == architecture.trim(), "{}", info["Architecture"]);
    ensure!(
        info["OSType"] == "linux" && info["IndexServerAddress"] == "https://index.docker.io/v1/"
    );
    ensure!(info["NCPU"].as_u64().is_some_and(|count| count > 0), "{}", info["NCPU"]);
    ensure!(info["MemTotal"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{}", info["MemTotal"]);
    ensure!(
        ["1", "2"].map(|version| json!(version)).contains(&info["CgroupVersion"]),
        "{}",
        info["CgroupVersion"]
    );
    let status = info["DriverStatus"].as_array().context("no DriverStatus")?;
    ensure!(status.contains(&json!(["driver-type", "io.containerd.snapshotter.v1"])), "{status:?}");
    let swarm = json!({"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null});
    ensure!(info["Swarm"] == swarm, "{}", info["Swarm"]);
    ensure!(info["Plugins"]["Volume"] == json!(["local"]), "{}", info["Plugins"]);
    for plugin in ["bridge", "host", "null"] {
        ensure!(
            info["Plugins"]["Network"].as_array().is_some_and(|all| all.contains(&json!(plugin))),
            "{}",
            info["Plugins"]
        );
    }
    ensure!(
        info["Plugins"]["Log"].as_array().is_some_and(|all| all.contains(&json!("json-file"))),
        "{}",
        info["Plugins"]
    );
    ensure!(info["RegistryConfig"]["IndexConfigs"].is_object(), "{}", info["RegistryConfig"]);
    ensure!(
        info["SecurityOptions"].is_array()
            && info["CDISpecDirs"].is_array()
            && info["Labels"].is_array()
    );
    ensure!(
        info["Runtimes"].as_object().is_some_and(|runtimes| runtimes.contains_key("runc")),
        "{}",
        info["Runtimes"]
    );
    for key in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        ensure!(info[key]["ID"].is_string(), "{key}: {}", info[key]);
    }
    let counts = ["ContainersRunning", "ContainersPaused", "ContainersStopped"]
        .map(|key| info[key].as_u64().unwrap_or(0));
    ensure!(info["Containers"].as_u64() == Some(counts.iter().sum()), "{}", info["Containers"]);
    // Stable: Portainer keys on it.
    ensure!(rig.host()?.api().get_json("/info")?["ID"] == info["ID"], "the ID changes");
    Ok(())
}

fn info_differs_by_version(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let has = |version: &str, path: &[&str]| -> Result<bool> {
        let info = api.at(version).get_json("/info")?;
        Ok(path.iter().try_fold(&info, |value, key| value.get(key)).is_some())
    };
    for (path, below) in [
        (&["ContainerdCommit", "Expected"][..], "1.48"),
        (&["RuncCommit", "Expected"], "1.48"),
        (&["BridgeNfIptables"], "1.49"),
        (&["BridgeNfIp6tables"], "1.49"),
        (&["RegistryConfig", "AllowNondistributableArtifactsCIDRs"], "1.46"),
    ] {
        ensure!(has(below, path)?, "{path:?} is missing at {below}");
        ensure!(!has("1.55", path)?, "{path:?} is there at 1.55");
    }
    ensure!(
        has("1.46", &["Containerd"])? && !has("1.45", &["Containerd"])?,
        "Containerd comes with 1.46"
    );
    let status = |version: &str| has(version, &["Runtimes", "runc", "status"]);
    ensure!(!status("1.43")?, "Runtimes have a status at 1.43");
    Ok(())
}

fn bollard_understands_version_and_info(rig: &Rig) -> Result<()> {
    let docker = crate::bollard(rig.host()?)?;
    let runtime = crate::runtime()?;
    let ping = runtime.block_on(docker.ping())?;
    ensure!(ping == "OK", "{ping}");
    let version = runtime.block_on(docker.version())?;
    ensure!(version.os.as_deref() == Some("linux"), "{version:?}");
    let info = runtime.block_on(docker.info())?;
    ensure!(info.ncpu.is_some_and(|count| count > 0), "{info:?}");
    Ok(())
}

fn unknown_paths_and_methods_are_not_found(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/v1.44/nothing"),
        ("GET", "/containers/x/nothing"),
        ("DELETE", "/info"),
        ("PUT", "/containers/json"),
        ("GET", "/containers/create"),
        ("POST", "/containers/x/copy"),
    ] {
        let message = api
            .send(&Request::new(method, path))?
            .expect_error(404)
            .with_context(|| format!("{method} {path}"))?;
        ensure!(message == "page not found", "{method} {path}: {message}");
    }
    Ok(())
}

const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

fn swarm_is_refused_as_by_a_node_outside_of_one(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for path in [
        "/swarm",
        "/swarm/unlockkey",
        "/nodes",
        "/nodes/x",
        "/services",
        "/services/x",
        "/tasks",
        "/tasks/x",
        "/secrets",
        "/secrets/x",
        "/configs",
        "/configs/x",
    ] {
        let message = api.get(path)?.expect_error(503).with_context(|| path.to_owned())?;
        ensure!(message == NO_MANAGER, "{path}: {message}");
    }
    for path in ["/nodes/x", "/services/x", "/secrets/x", "/configs/x"] {
        let message = api.delete(path)?.expect_error(503).with_context(|| path.to_owned())?;
        ensure!(message == NO_MANAGER, "DELETE {path}: {message}");
    }
    let message = api
        .post_json(
            "/services/create",
            &json!({"Name": "s", "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}}}),
        )?
        .expect_error(503)?;
    ensure!(message == NO_MANAGER, "{message}");
    let message = api.post("/swarm/leave")?.expect_error(503)?;
    ensure!(message == "This node is not part of a swarm", "{message}");
    let put = api.request("PUT", "/volumes/x").json(&json!({}));
    let message = api.send(&put)?.expect_error(503)?;
    ensure!(
        message == "volume update only valid for cluster volumes, but swarm is unavailable",
        "{message}"
    );
    Ok(())
}

fn joining_a_swarm_is_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for path in ["/swarm/init", "/swarm/join"] {
        api.post_json(path, &json!({"ListenAddr": "0.0.0.0:2377"}))?
            .expect_error(503)
            .with_context(|| path.to_owned())?;
    }
    Ok(())
}

fn plugins_are_none(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    ensure!(api.get_json("/plugins")? == json!([]));
    let message = api.get("/plugins/nobody/json")?.expect_error(404)?;
    ensure!(message == "plugin \"nobody\" not found", "{message}");
    Ok(())
}

fn checkpoints_are_experimental(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let text = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.";
    for (method, path) in [
        ("GET", "/containers/x/checkpoints"),
        ("POST", "/containers/x/checkpoints"),
        ("DELETE", "/containers/x/checkpoints/y"),
    ] {
        let message = api.send(&api.request(method, path).json(&json!({})))?.expect_error(501)?;
        ensure!(message == text, "{message}");
    }
    Ok(())
}

fn options_answers_any_path(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for path in ["/containers/json", "/anything"] {
        let response = api.send(&Request::new("OPTIONS", path))?.expect(200)?;
        ensure!(response.body.is_empty(), "{}", response.text());
    }
    Ok(())
}

fn a_connection_serves_many_requests(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut connection = api.connect()?;
    for _ in 0..3 {
        connection.roundtrip(&api.request("GET", "/_ping"))?.expect(200)?;
        connection.roundtrip(&api.request("GET", "/containers/nobody/json"))?.expect_error(404)?;
        connection.roundtrip(&api.request("GET", "/nothing"))?.expect_error(404)?;
        connection
            .roundtrip(&api.request("POST", "/containers/create").json(&json!({})))?
            .expect_error(400)?;
        connection.roundtrip(&api.request("HEAD", "/_ping"))?.expect(200)?;
    }
    Ok(())
}

fn requests_may_be_pipelined(rig: &Rig) -> Result<()> {
    let mut connection = rig.host()?.api().connect()?;
    connection
        .write(b"GET /_ping HTTP/1.1\r\nHost: a\r\n\r\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let head = connection.head()?;
    ensure!(connection.body(&head, "GET")? == b"OK");
    let head = connection.head()?;
    let version: Value = serde_json::from_slice(&connection.body(&head, "GET")?)?;
    ensure!(version["Os"] == "linux", "{version}");
    Ok(())
}

fn names_may_be_percent_encoded(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    api.have(e2e::api::BUSYBOX)?;
    let ids: BTreeSet<String> = [
        "busybox:latest",
        "library/busybox:latest",
        "docker.io%2Flibrary%2Fbusybox%3Alatest",
        "docker.io/library/busybox",
    ]
    .iter()
    .map(|name| Ok(api.get_json(&format!("/images/{name}/json"))?["Id"].to_string()))
    .collect::<Result<_>>()?;
    ensure!(ids.len() == 1, "{ids:?}");
    Ok(())
}

fn odd_hosts_and_content_types_pass(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    for host in ["", "docker", "api.moby.localhost", "%2Fvar%2Frun%2Fdocker.sock"] {
        let mut connection = api.connect()?;
        connection.write(format!("GET /_ping HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        ensure!(connection.head()?.status == 200, "host {host:?}");
    }
    let container = api.create(e2e::api::script_body("sleep 100"))?;
    // Old Go clients say text/plain where there is no body.
    let start = api
        .request("POST", &container.path("/start"))
        .header("Content-Type", "text/plain")
        .bytes("");
    api.send(&start)?.expect(204)?;
    let kill = api
        .request("POST", &container.path("/kill"))
        .header("Content-Type", "application/x-www-form-urlencoded");
    api.send(&kill.header("Content-Length", "0"))?.expect(204)?;
    Ok(())
}

fn huge_headers_are_refused(rig: &Rig) -> Result<()> {
    let api = rig.host()?.api();
    let mut connection = api.connect()?;
    connection.patience(Duration::from_secs(30))?;
    let request =
        format!("GET /_ping HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(4 << 20));
    // The daemon may answer, or hang up before it has read all.
    let sent = connection.write(request.as_bytes());
    match connection.head() {
        Ok(head) => ensure!((400..500).contains(&head.status), "{head:?}"),
        Err(error) if sent.is_ok() => bail!("neither answered nor refused: {error:#}"),
        Err(_) => {}
    }
    let mut rest = Vec::new();
    let _ = connection.into_raw().read_to_end(&mut rest);
    ensure!(api.answers(), "the daemon answers no more");
    Ok(())
}

fn login_is_checked(rig: &Rig) -> Result<()> {
    let host = rig.host()?;
    crate::needs_rig(host)?;
    let login = |password: &str| {
        host.api().post_json(
            "/auth",
            &json!({"username": LOGIN.0, "password": password, "serveraddress": LOGIN_REGISTRY}),
        )
    };
    let good = login(LOGIN.1)?.expect(200)?.json()?;
    ensure!(good["Status"] == "Login Succeeded", "{good}");
    // For a registry without TLS dockerd loses the class of the error on its way (moby `daemon/pkg/registry/auth.go`).
    let message = login("wrong")?.expect_error(if host.is_ours() { 401 } else { 500 })?;
    ensure!(message.to_lowercase().contains("unauthorized"), "{message}");
    Ok(())
}
