//! Shape tests: our answers have the keys, types, nulls and empty lists that dockerd's have, in every API version that
//! differs: those of dockerd 29, and those of 20.10, which clients of the versions up to 1.41 were made for.
//!
//! `e2e/golden/NAME.json` is what a dockerd answers to the scenario below (`make golden` records it); a run against that
//! dockerd itself compares as well, so that a stale file is noticed. Each [`Reference`] lists what differs for a reason,
//! and every line of that must still be true. Where the two dockerds differ in one version and both were recorded, we must
//! be as 29 is; such places need no line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use e2e::api::{Container, filters};
use e2e::host::Engine;
use e2e::runner::skip;
use e2e::sandbox::until;
use e2e::{Api, Context as _, Host, Result, Rig, Test, bail, ensure, peers, shape, tests, unique};
use serde_json::{Map, Value, json};

pub(crate) const TESTS: &[Test] =
    tests![answers_have_dockers_shape, answers_have_the_shape_of_dockerd_20_10];

/// A dockerd whose answers were recorded.
struct Reference {
    /// The name of the golden file.
    name: &'static str,
    engine: Engine,
    /// The versions between which answers differ, and the newest of all.
    versions: &'static [&'static str],
    /// Differences that are meant: `ENDPOINT PATH`, and why. A version may stand before it: `1.55 ENDPOINT PATH`.
    different: &'static [(&'static str, &'static str)],
    /// The newer one, whose way wins.
    newer: Option<&'static Reference>,
}

static NEW: Reference = Reference {
    name: "dockerd-29",
    engine: Engine::Dockerd,
    versions: &[
        "1.24", "1.30", "1.40", "1.41", "1.43", "1.44", "1.46", "1.47", "1.49", "1.51", "1.52",
        "1.55",
    ],
    different: DIFFERENT,
    newer: None,
};

static OLD: Reference = Reference {
    name: "dockerd-20.10",
    engine: Engine::DebianDockerd,
    versions: &["1.24", "1.30", "1.40", "1.41"],
    different: DIFFERENT_FROM_OLD,
    newer: Some(&NEW),
};

const DIFFERENT: &[(&str, &str)] = &[
    ("container inspect created 200.Config.OnBuild", OLD_DOCKERD),
    ("container inspect running 200.Config.OnBuild", OLD_DOCKERD),
    ("container inspect paused 200.Config.OnBuild", OLD_DOCKERD),
    ("container inspect exited 200.Config.OnBuild", OLD_DOCKERD),
    ("container inspect plain 200.Config.OnBuild", OLD_DOCKERD),
    ("image inspect with manifests 200.Manifests", NORMAL_FORM),
    ("image list with manifests 200", NORMAL_FORM),
    (
        "info 200.FirewallBackend.Info",
        "dockerd tells when its firewall was reloaded; the CNI plugins have no such thing",
    ),
    ("info 200.RegistryConfig.IndexConfigs.docker.io.Mirrors", MIRRORS),
    ("info 200.RegistryConfig.Mirrors", MIRRORS),
    ("info 200.Runtimes.io.containerd.runc.v2.status", FEATURES),
    ("info 200.Runtimes.runc.status", FEATURES),
    ("info 200.Warnings", "cgroup v1 is no deprecated thing here"),
    ("network inspect bridge 200.Status.IPAM.Subnets.10.4.0.0/24", SUBNET),
    ("network inspect bridge 200.Status.IPAM.Subnets.172.17.0.0/16", SUBNET),
    ("version 200.BuildTime", "builds of one source are alike"),
    ("version 200.Components", "the engine has no time of building"),
];

const NORMAL_FORM: &str =
    "platforms are shown without a variant that says nothing, and no containers are an empty list";
const OLD_DOCKERD: &str =
    "null up to 1.51, as the dockerds whose versions these are have it; 29 leaves it out";
const MIRRORS: &str = "mirrors are in hosts.toml, and belong to each registry";
const FEATURES: &str = "runc's features are not asked for";
const SUBNET: &str = "nerdctl's default subnet is another";

const DIFFERENT_FROM_OLD: &[(&str, &str)] = &[
    ("container wait 200.Error", "29 leaves it out where there is none"),
    ("info 200.RegistryConfig.IndexConfigs.docker.io.Mirrors", MIRRORS),
    ("info 200.RegistryConfig.Mirrors", MIRRORS),
    ("info 200.Warnings", "no warnings are an empty list"),
    ("version 200.BuildTime", "builds of one source are alike"),
];

/// Shapes of one host's answers, by endpoint and version.
type Answers = BTreeMap<String, BTreeMap<String, Value>>;

/// The golden file: the shapes of each endpoint, each once, with the versions that have it.
type Golden = BTreeMap<String, Vec<Shared>>;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Shared {
    versions: Vec<String>,
    shape: Value,
}

fn answers_have_dockers_shape(rig: &Rig) -> Result<()> {
    NEW.is_met(rig)
}

fn answers_have_the_shape_of_dockerd_20_10(rig: &Rig) -> Result<()> {
    OLD.is_met(rig)
}

impl Reference {
    fn is_met(&self, rig: &Rig) -> Result<()> {
        let target = Engine::from_environment()?;
        if target != Engine::Nerdctld && target != self.engine {
            return Err(skip(format!("the answers are those of {}", self.name)));
        }
        let mut outcome = Ok(());
        // The lists of a host that other tests use would differ from run to run.
        rig.with_own_host(
            |_| (),
            |host| {
                let answers = play(host, self.versions)?;
                let recording = std::env::var_os("UPDATE_GOLDEN").is_some();
                outcome = if recording {
                    self.record(host, &answers)
                } else {
                    self.compare(host, &answers)
                };
                Ok(())
            },
        )?;
        outcome
    }

    fn recorded(&self) -> Result<Golden> {
        let text =
            std::fs::read_to_string(self.golden()).context("no golden file (make golden)")?;
        serde_json::from_str(&text).context("the golden file")
    }

    fn golden(&self) -> PathBuf {
        peers::checkout().join("e2e/golden").join(format!("{}.json", self.name))
    }

    fn record(&self, host: &Host, answers: &Answers) -> Result<()> {
        ensure!(!host.is_ours(), "golden files are recorded from dockerd (make golden)");
        let mut golden = Golden::new();
        for (endpoint, shapes) in answers {
            let shared = golden.entry(endpoint.clone()).or_default();
            // In the order of versions, which is not the order of their texts.
            for &version in self.versions {
                let Some(shape) = shapes.get(version) else { continue };
                match shared.iter_mut().find(|known| known.shape == *shape) {
                    Some(known) => known.versions.push(version.to_owned()),
                    None => {
                        let versions = vec![version.to_owned()];
                        shared.push(Shared { versions, shape: shape.clone() });
                    }
                }
            }
        }
        let text = serde_json::to_string_pretty(&golden)? + "\n";
        std::fs::write(self.golden(), text).context("writing the golden file")
    }

    fn compare(&self, host: &Host, answers: &Answers) -> Result<()> {
        let expected = self.recorded()?;
        let newer = self.newer.map(Reference::recorded).transpose()?.unwrap_or_default();
        let mut used = BTreeSet::new();
        let mut wrong = BTreeMap::<String, Vec<&str>>::new();
        let each =
            expected.iter().flat_map(|(endpoint, all)| all.iter().map(move |one| (endpoint, one)));
        for (endpoint, Shared { versions, shape }) in each {
            for version in versions {
                let found = answers.get(endpoint).and_then(|all| all.get(version));
                let found =
                    found.with_context(|| format!("no answer of {endpoint} in {version}"))?;
                let newest = recorded_shape(&newer, endpoint, version);
                for difference in shape::differences(shape, found) {
                    if newest.is_some_and(|newest| agree(newest, found, &difference.path)) {
                        continue;
                    }
                    let place = format!("{endpoint} {}", difference.path);
                    let known = self.different.iter().position(|(known, _)| {
                        *known == place || *known == format!("{version} {place}")
                    });
                    match known {
                        Some(known) if host.is_ours() => drop(used.insert(known)),
                        _ => wrong
                            .entry(format!("{endpoint} {difference}"))
                            .or_default()
                            .push(version),
                    }
                }
            }
        }
        let stale = self
            .different
            .iter()
            .enumerate()
            .filter(|(at, _)| host.is_ours() && !used.contains(at));
        let stale: Vec<_> = stale.map(|(_, (place, _))| place).collect();
        let lines: Vec<_> = wrong
            .iter()
            .map(|(what, versions)| format!("{what}  ({})", versions.join(" ")))
            .collect();
        ensure!(lines.is_empty(), "{} differences:\n{}", lines.len(), lines.join("\n"));
        ensure!(stale.is_empty(), "no longer different: {stale:?}");
        Ok(())
    }
}

fn recorded_shape<'a>(golden: &'a Golden, endpoint: &str, version: &str) -> Option<&'a Value> {
    let mut all = golden.get(endpoint)?.iter();
    let one = all.find(|one| one.versions.iter().any(|known| known == version))?;
    Some(&one.shape)
}

/// Whether nothing differs at a path, above it or below it.
fn agree(expected: &Value, found: &Value, path: &str) -> bool {
    let related = |other: &str| other.starts_with(path) || path.starts_with(other);
    !shape::differences(expected, found).iter().any(|difference| related(&difference.path))
}

/// The scenario: a container with something of everything, seen in each state, and what is around it.
fn play(host: &Host, versions: &'static [&'static str]) -> Result<Answers> {
    let newest = versions.last().context("no versions")?;
    let api = host.api().at(newest);
    let mut recorder = Recorder { api: api.clone(), versions, newest, answers: Answers::new() };
    api.have("busybox:latest")?;
    api.have("nginx:latest")?;
    let container = rich_container(&api)?;
    let list = format!("/containers/json?all=1&size=1&{}", filters(&[("id", &container.id)]));
    recorder.see("container inspect created", &container.path("/json?size=1"))?;
    recorder.see("container list created", &list)?;
    container.start()?;
    until(Duration::from_secs(30), "its health", || {
        container.inspect().is_ok_and(|seen| seen["State"]["Health"]["Status"] == "healthy")
    })?;
    recorder.see("container inspect running", &container.path("/json"))?;
    recorder.see("container list running", &list)?;
    recorder.see("container stats", &container.path("/stats?stream=0&one-shot=1"))?;
    recorder.see("container top", &container.path("/top"))?;
    recorder.see("container changes", &container.path("/changes"))?;
    exec(&mut recorder, &container)?;
    let update = json!({"Memory": 96 << 20, "MemorySwap": 192 << 20});
    recorder.send("container update", "POST", &container.path("/update"), Some(&update))?;
    images(&mut recorder, &container)?;
    container.post("/pause")?.expect(204)?;
    recorder.see("container inspect paused", &container.path("/json"))?;
    container.post("/unpause")?.expect(204)?;
    container.post("/stop?t=0")?.expect(204)?;
    recorder.see("container inspect exited", &container.path("/json"))?;
    recorder.see("container list exited", &list)?;
    recorder.send("container wait", "POST", &container.path("/wait"), None)?;
    system(&mut recorder)?;
    let plain = api.create(json!({"Cmd": ["true"]}))?;
    plain.start()?;
    plain.wait()?;
    recorder.see("container inspect plain", &plain.path("/json"))?;
    let prune = format!("/containers/prune?{}", filters(&[("label", "shape=none")]));
    recorder.send("container prune nothing", "POST", &prune, None)?;
    errors(&mut recorder)?;
    Ok(recorder.answers)
}

fn rich_container(api: &Api) -> Result<Container> {
    let body = json!({
        "Image": "busybox:latest", "Cmd": ["sh", "-c", "echo x > /new; exec sleep 1000"], "Env": ["A=b"],
        "Labels": {"shape": "rich"}, "ExposedPorts": {"80/tcp": {}, "90/udp": {}}, "Volumes": {"/anonymous": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000_u64},
        "StopTimeout": 3, "Hostname": "shape", "Domainname": "example.com", "User": "0:0", "WorkingDir": "/tmp",
        "HostConfig": {
            "Binds": ["/tmp:/bound:ro"], "Tmpfs": {"/scratch": "size=1m"}, "Memory": 64 << 20, "NanoCpus": 500_000_000,
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}, "CapAdd": ["NET_ADMIN"],
            "ExtraHosts": ["other:10.1.1.1"], "Dns": ["10.2.2.2"], "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
            "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
            "Mounts": [{"Type": "volume", "Source": "shape-volume", "Target": "/volume"}],
        },
    });
    api.create_named(&unique("shape"), body)
}

fn exec(recorder: &mut Recorder, container: &Container) -> Result<()> {
    let body = json!({"Cmd": ["true"], "AttachStdout": true, "Env": ["X=y"], "User": "0"});
    let made = recorder.send("exec create", "POST", &container.path("/exec"), Some(&body))?;
    let Some(id) = made["Id"].as_str() else { return Ok(()) };
    recorder.see("exec inspect created", &format!("/exec/{id}/json"))?;
    let started = recorder.api.post_json(&format!("/exec/{id}/start"), &json!({"Detach": true}))?;
    started.expect(200)?;
    until(Duration::from_secs(20), "its end", || {
        recorder
            .api
            .get_json(&format!("/exec/{id}/json"))
            .is_ok_and(|seen| seen["Running"] == false)
    })?;
    recorder.see("exec inspect ended", &format!("/exec/{id}/json"))
}

fn images(recorder: &mut Recorder, container: &Container) -> Result<()> {
    recorder.see("image list", "/images/json?all=1&digests=1")?;
    recorder.see("image list with manifests", "/images/json?manifests=1&shared-size=1")?;
    recorder.see("image inspect", "/images/nginx:latest/json")?;
    recorder.see("image inspect with manifests", "/images/nginx:latest/json?manifests=1")?;
    recorder.see("image history", "/images/nginx:latest/history")?;
    recorder.see("distribution", "/distribution/busybox:latest/json")?;
    let commit =
        format!("/commit?container={}&repo=shape-commit&tag=1&comment=c&author=a", container.id);
    recorder.send("commit", "POST", &commit, None)?;
    recorder.see("image inspect committed", "/images/shape-commit:1/json")?;
    recorder.send("image remove", "DELETE", "/images/shape-commit:1", None)?;
    let prune = format!("/images/prune?{}", filters(&[("label", "shape=none")]));
    recorder.send("image prune nothing", "POST", &prune, None)?;
    Ok(())
}

fn system(recorder: &mut Recorder) -> Result<()> {
    recorder.see("version", "/version")?;
    recorder.see("info", "/info")?;
    recorder.see("disk usage", "/system/df")?;
    recorder.see("volume list", "/volumes")?;
    recorder.see("volume inspect", "/volumes/shape-volume")?;
    recorder.see("network list", &format!("/networks?{}", filters(&[("type", "builtin")])))?;
    recorder.see("network inspect bridge", "/networks/bridge")?;
    recorder.see("network inspect host", "/networks/host")?;
    let since = format!(
        "/events?since=1&until={}&{}",
        now(),
        filters(&[("type", "container"), ("event", "start")])
    );
    recorder.stream("event start", &since)?;
    let since = format!(
        "/events?since=1&until={}&{}",
        now(),
        filters(&[("type", "container"), ("event", "die")])
    );
    recorder.stream("event die", &since)
}

fn errors(recorder: &mut Recorder) -> Result<()> {
    recorder.see("error", "/containers/nobody/json")?;
    recorder.see("error of swarm", "/swarm")
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.as_secs() + 1)
}

/// Asks in all versions and keeps the shapes.
struct Recorder {
    api: Api,
    versions: &'static [&'static str],
    newest: &'static str,
    answers: Answers,
}

impl Recorder {
    fn see(&mut self, endpoint: &str, path: &str) -> Result<()> {
        for version in self.versions {
            let response = self.api.at(version).get(path)?;
            self.keep(
                version,
                endpoint,
                response.status(),
                &response.json().unwrap_or(Value::Null),
            )?;
        }
        Ok(())
    }

    /// What cannot be done once for each version is done in the newest.
    fn send(
        &mut self,
        endpoint: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let request = self.api.request(method, path);
        let response = self.api.send(&match body {
            Some(body) => request.json(body),
            None => request,
        })?;
        let answer = response.json().unwrap_or(Value::Null);
        self.keep(self.newest, endpoint, response.status(), &answer)?;
        Ok(answer)
    }

    /// The first document of a stream.
    fn stream(&mut self, endpoint: &str, path: &str) -> Result<()> {
        for version in self.versions {
            let mut stream =
                self.api.at(version).stream(&self.api.at(version).request("GET", path))?;
            let first = stream.next_json()?.unwrap_or(Value::Null);
            self.keep(version, endpoint, stream.head.status, &first)?;
        }
        Ok(())
    }

    /// The status is part of the shape.
    fn keep(&mut self, version: &str, endpoint: &str, status: u16, answer: &Value) -> Result<()> {
        let mut whole = Map::new();
        whole.insert(status.to_string(), shape::of(answer));
        let slot = self.answers.entry(endpoint.to_owned()).or_default();
        if slot.insert(version.to_owned(), Value::Object(whole)).is_some() {
            bail!("{endpoint} is asked for twice");
        }
        Ok(())
    }
}
