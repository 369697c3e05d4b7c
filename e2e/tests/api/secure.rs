//! Registries behind TLS with certificates of their own, and behind proxies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::api::{encode, pull_messages};
use e2e::certificates::MAKE;
use e2e::host::{MIRROR, Plan};
use e2e::proxy::{Asked, Proxy};
use e2e::sandbox::{Process, until};
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, tests};

pub(crate) const TESTS: &[Test] = tests![
    certificates_of_a_registry,
    // Docker knows no hosts.toml.
    certificates_in_a_hosts_file.ours_only(),
    a_name_is_as_insecure_as_its_address,
    proxies_are_gone_through,
    a_proxy_that_refuses,
];

/// An address of the host that is none of the loopback's, which no proxy is used for.
const ADDRESS: &str = "10.77.0.1";
/// Who has the CA and nothing else is served here.
const OPEN: &str = "registry.test:5443";
/// Only clients with a certificate are served here.
const MUTUAL: &str = "registry.test:5444";
/// Here without TLS.
const PLAIN: &str = "registry.test:5080";
const IMAGE: &str = "busybox:latest";

/// Beside the certificates `stranger`, who signed himself; and the names.
const MORE: &str = "
openssl req -x509 $key -keyout stranger-key.pem -out stranger.pem -subj /CN=authority -days 2
ip address add 10.77.0.1/32 dev lo
echo 10.77.0.1 registry.test other.test >>/etc/hosts
echo 127.0.0.1 nearby.test >>/etc/hosts
";

/// The registries of a host, and where their certificates are.
struct Registries<'a> {
    host: &'a Host,
    folder: PathBuf,
    _processes: Vec<Process>,
}

impl<'a> Registries<'a> {
    fn start(host: &'a Host) -> Result<Self> {
        let (sandbox, folder) = (host.sandbox()?, host.root()?.join("secure"));
        std::fs::create_dir_all(&folder)?;
        let mut prepare = sandbox.command("/bin/sh");
        let script = format!("{MAKE}{MORE}");
        sandbox.run(prepare.args(["-c", &script, "sh"]).arg(&folder).arg("DNS:registry.test"))?;
        let shown = folder.display();
        let tls = format!(
            "  tls:\n    certificate: {shown}/server.pem\n    key: {shown}/server-key.pem\n"
        );
        let mutual = format!("{tls}    clientcas:\n      - {shown}/ca.pem\n");
        let processes = [(5443, tls), (5444, mutual), (5080, String::new())];
        let start = |(port, tls): (u16, String)| start(host, &folder, port, &tls);
        let processes = processes.into_iter().map(start).collect::<Result<_>>()?;
        Ok(Self { host, folder, _processes: processes })
    }

    /// The folder of a registry's certificates, empty; ours and dockerd's are at different places.
    fn certificates_of(&self, registry: &str) -> Result<PathBuf> {
        let all = match self.host.is_ours() {
            true => self.host.root()?.join("certs.d"),
            false => self.host.sandbox()?.inside("/etc/docker/certs.d"),
        };
        let folder = all.join(registry);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn give(&self, file: &str, to: &Path) -> Result<()> {
        std::fs::copy(self.folder.join(file), to).with_context(|| file.to_owned())?;
        Ok(())
    }
}

/// A registry whose blobs are in memory.
fn start(host: &Host, folder: &Path, port: u16, tls: &str) -> Result<Process> {
    let sandbox = host.sandbox()?;
    let file = folder.join(format!("{port}.yml"));
    let config = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage: {{inmemory: {{}}}}\nhttp:\n  addr: {ADDRESS}:{port}\n{tls}"
    );
    std::fs::write(&file, config)?;
    let mut command = sandbox.command("docker-registry");
    command.arg("serve").arg(&file);
    let process = sandbox.spawn(&format!("registry-{port}"), command)?;
    until(Duration::from_secs(30), "a registry", || {
        let connect = || std::net::TcpStream::connect((ADDRESS, port)).is_ok();
        sandbox.in_network(connect).unwrap_or(false)
    })?;
    Ok(process)
}

/// Sends an image there.
fn push(api: &Api, registry: &str) -> Result<()> {
    api.have(IMAGE)?;
    let name = format!("{registry}/app");
    let path = format!("/images/{IMAGE}/tag?repo={}&tag=one", encode(&name));
    api.post(&path)?.expect(201)?;
    pull_messages(&api.post(&format!("/images/{name}/push?tag=one"))?.expect(200)?).map(drop)
}

/// Fetches it back.
fn pull(api: &Api, registry: &str) -> Result<()> {
    api.pull(&format!("{registry}/app:one")).map(drop)
}

/// What is said of a push or pull that must fail.
fn refusal(outcome: Result<()>) -> Result<String> {
    Ok(format!("{:#}", outcome.err().context("it works")?))
}

fn both(api: &Api, registry: &str) -> Result<()> {
    push(api, registry)?;
    pull(api, registry)
}

fn certificates_of_a_registry(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let (api, registries) = (host.api(), Registries::start(host)?);
            for outcome in [push(&api, OPEN), pull(&api, OPEN)] {
                let said = refusal(outcome)?;
                let words = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
                ensure!(said.contains(words), "{said}");
            }
            let folder = registries.certificates_of(OPEN)?;
            registries.give("ca.pem", &folder.join("ca.crt"))?;
            both(&api, OPEN)?;

            let folder = registries.certificates_of("other.test:5443")?;
            registries.give("ca.pem", &folder.join("ca.crt"))?;
            let said = refusal(pull(&api, "other.test:5443"))?;
            ensure!(said.contains("x509: certificate is valid for registry.test, not other.test"), "{said}");

            let folder = registries.certificates_of(MUTUAL)?;
            registries.give("ca.pem", &folder.join("ca.crt"))?;
            let said = refusal(pull(&api, MUTUAL))?;
            // Which word it has for it is the registry's affair.
            ensure!(said.contains("remote error: tls: "), "{said}");
            registries.give("stranger.pem", &folder.join("client.cert"))?;
            registries.give("stranger-key.pem", &folder.join("client.key"))?;
            let said = refusal(pull(&api, MUTUAL))?;
            ensure!(said.contains("remote error: tls: "), "{said}");
            registries.give("client.pem", &folder.join("client.cert"))?;
            registries.give("client-key.pem", &folder.join("client.key"))?;
            both(&api, MUTUAL)?;

            let said = refusal(pull(&api, PLAIN))?;
            ensure!(said.contains("http: server gave HTTP response to HTTPS client"), "{said}");
            Ok(())
        },
    )
}

fn certificates_in_a_hosts_file(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(
        |_| (),
        |host| {
            let (api, registries) = (host.api(), Registries::start(host)?);
            let folder = registries.certificates_of(MUTUAL)?;
            let write = |settings: &str| {
                let text = format!("server = \"https://{MUTUAL}\"\n{settings}\n");
                std::fs::write(folder.join("hosts.toml"), text)
            };
            for file in
                ["ca.pem", "client.pem", "client-key.pem", "stranger.pem", "stranger-key.pem"]
            {
                registries.give(file, &folder.join(file))?;
            }
            write("client = [[\"client.pem\", \"client-key.pem\"]]")?;
            let said = refusal(pull(&api, MUTUAL))?;
            ensure!(said.contains("x509: certificate signed by unknown authority"), "{said}");
            write("ca = \"ca.pem\"\nclient = [[\"stranger.pem\", \"stranger-key.pem\"]]")?;
            let said = refusal(pull(&api, MUTUAL))?;
            ensure!(said.contains("remote error: tls: "), "{said}");
            write("ca = \"ca.pem\"\nclient = [[\"missing.pem\", \"client-key.pem\"]]")?;
            let said = refusal(pull(&api, MUTUAL))?;
            ensure!(said.contains("missing.pem"), "{said}");
            write("ca = \"ca.pem\"\nclient = [[\"client.pem\", \"client-key.pem\"]]")?;
            both(&api, MUTUAL)?;
            write("skip_verify = true\nclient = [[\"client.pem\", \"client-key.pem\"]]")?;
            both(&api, MUTUAL)
        },
    )
}

fn a_name_is_as_insecure_as_its_address(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    let insecure = |plan: &mut Plan| plan.arguments.push("--insecure-registry=10.77.0.0/16".into());
    rig.with_own_host(insecure, |host| {
        let (api, _registries) = (host.api(), Registries::start(host)?);
        both(&api, PLAIN)?;
        both(&api, OPEN)?;
        // This machine's own addresses are in the list from the start.
        let port = MIRROR.rsplit(':').next().unwrap_or_default();
        both(&api, &format!("nearby.test:{port}"))
    })
}

/// The daemon's environment, once the proxy is there.
fn with_proxies<'a>(proxy: &'a str, none: &'a str) -> [(&'static str, &'a str); 3] {
    [("HTTP_PROXY", proxy), ("HTTPS_PROXY", proxy), ("NO_PROXY", none)]
}

fn targets(asked: &[Asked], method: &str) -> Vec<String> {
    let chosen = asked.iter().filter(|asked| asked.method == method);
    chosen.map(|asked| asked.target.clone()).collect()
}

/// Both registries by their name, without their certificates.
fn careless(plan: &mut Plan) {
    plan.arguments.extend([OPEN, PLAIN].map(|name| format!("--insecure-registry={name}")));
}

fn proxies_are_gone_through(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(careless, |host| {
        let (api, _registries) = (host.api(), Registries::start(host)?);
        // base64 of "ann:p@ss"
        let proxy = Proxy::start(host, Some("Basic YW5uOnBAc3M="))?;
        let setting = format!("http://ann:p%40ss@{}", proxy.address);
        let restart = |none: &str| -> Result<()> {
            host.stop_daemon()?;
            host.start_daemon_with(&with_proxies(&setting, none))
        };
        restart("")?;
        api.have(IMAGE)?;
        let shown = api.get_json("/info")?["HttpsProxy"].clone();
        ensure!(shown == format!("http://xxxxx:xxxxx@{}", proxy.address), "{shown}");
        let _ = proxy.take_asked();
        both(&api, OPEN)?;
        let asked = proxy.take_asked();
        let tunnels = targets(&asked, "CONNECT");
        ensure!(!tunnels.is_empty() && tunnels.iter().all(|one| one == OPEN), "{asked:?}");
        both(&api, PLAIN)?;
        let asked = proxy.take_asked();
        let plain = format!("http://{PLAIN}/v2/app/");
        ensure!(targets(&asked, "HEAD").iter().any(|one| one.starts_with(&plain)), "{asked:?}");
        ensure!(asked.iter().any(|one| one.method == "PUT" || one.method == "PATCH"), "{asked:?}");

        for none in ["registry.test", ".test", "10.0.0.1,registry.test:5443", "*"] {
            restart(none)?;
            pull(&api, OPEN)?;
            let asked = proxy.take_asked();
            ensure!(asked.is_empty(), "NO_PROXY={none}: {asked:?}");
        }
        Ok(())
    })
}

fn a_proxy_that_refuses(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    rig.with_own_host(careless, |host| {
        let (api, _registries) = (host.api(), Registries::start(host)?);
        let proxy = Proxy::start(host, Some("Basic secret"))?;
        host.stop_daemon()?;
        host.start_daemon_with(&with_proxies(&format!("http://{}", proxy.address), ""))?;
        let said = refusal(pull(&api, OPEN))?;
        ensure!(said.contains("Proxy Authentication Required"), "{said}");
        if host.is_ours() {
            ensure!(said.contains(&proxy.address) && said.contains(OPEN), "{said}");
        }
        let said = refusal(pull(&api, "registry.test:5081"))?;
        ensure!(said.contains("Proxy Authentication Required"), "{said}");
        // Nobody listens there.
        host.stop_daemon()?;
        host.start_daemon_with(&with_proxies("http://127.0.0.1:1", ""))?;
        let said = refusal(pull(&api, OPEN))?;
        ensure!(said.contains("127.0.0.1:1") && said.to_lowercase().contains("refused"), "{said}");
        Ok(())
    })
}
