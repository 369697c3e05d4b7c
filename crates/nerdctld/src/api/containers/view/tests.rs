//! What clients index, parse and slice is always there.

use std::path::PathBuf;
use std::sync::Arc;

use engine::containers::health_check::{Health, HealthStatus};
use engine::containers::restart_policy::RestartPolicy;
use engine::containers::spec::upkeep::Upkeep;
use engine::containers::{Endpoint, LogSource, Owner, Port, ProcessDetails};
use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn container(phase: Phase) -> Container {
    Container {
        id: "0123456789ab".repeat(6)[..64].parse().unwrap(),
        name: "web".to_owned(),
        owner: Owner::Nerdctld,
        image: "nginx".to_owned(),
        image_name: "docker.io/library/nginx:latest".to_owned(),
        image_id: format!("sha256:{}", "a".repeat(64)),
        image_manifest: None,
        created: at(100),
        labels: Arc::new([("k".to_owned(), "v".to_owned())].into()),
        annotations: BTreeMap::new(),
        command: ["nginx", "-g", "daemon off;"].map(str::to_owned).to_vec(),
        state: domain::State {
            phase,
            pid: 7,
            exit_code: 3,
            started_at: Some(at(110)),
            finished_at: Some(at(120)),
            ..domain::State::created()
        },
        network_mode: "bridge".to_owned(),
        endpoints: vec![Endpoint {
            network: "bridge".to_owned(),
            network_id: "ab".to_owned(),
            ipv4: "10.4.0.2".to_owned(),
            ipv4_prefix: 24,
            ..Endpoint::default()
        }],
        ports: vec![
            Port {
                container_port: 80,
                protocol: "tcp".to_owned(),
                host: Some(("0.0.0.0".to_owned(), 8080)),
            },
            Port {
                container_port: 80,
                protocol: "tcp".to_owned(),
                host: Some(("::".to_owned(), 8080)),
            },
            Port { container_port: 443, protocol: "tcp".to_owned(), host: None },
        ],
        links: Vec::new(),
        mounts: Vec::new(),
        shares: engine::containers::shares::Shares::default(),
        tty: false,
        open_stdin: false,
        stdin_once: false,
        auto_remove: false,
        upkeep: Upkeep::default(),
        health_on_record: None,
        restart_count: 0,
        state_dir: Some(PathBuf::from("/state")),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: "key".to_owned(),
        anonymous_volumes: Vec::new(),
        has_restart_labels: false,
        log_uri: None,
        log: LogSource::JsonFile(PathBuf::from("/log")),
        stop_signal: Signal::TERM,
        stop_timeout: None,
    }
}

fn details(container: Container) -> ContainerDetails {
    ContainerDetails {
        process: ProcessDetails {
            args: container.command.clone(),
            cwd: "/".to_owned(),
            ..ProcessDetails::default()
        },
        container: Arc::new(container),
        recorded: None,
        entrypoint: None,
        cmd: None,
        log_path: "/log".to_owned(),
        resolv_conf_path: String::new(),
        hostname_path: String::new(),
        hosts_path: String::new(),
        sandbox_key: String::new(),
        runtime: "io.containerd.runc.v2".to_owned(),
        links: Vec::new(),
        masked_paths: vec!["/proc/kcore".to_owned()],
        readonly_paths: vec!["/proc/sys".to_owned()],
        log_driver: String::new(),
        log_options: BTreeMap::new(),
        volumes: Vec::new(),
        exposed_ports: vec!["443/tcp".to_owned()],
        health_log: Vec::new(),
        resources: engine::containers::spec::confinement::Resources::default(),
        host_parts: engine::containers::HostParts::default(),
        apparmor_profile: String::new(),
    }
}

fn row(container: &Container) -> Listed {
    Listed { container: Arc::new(container.clone()), links: Vec::new() }
}

fn listed(container: &Container) -> Value {
    serde_json::to_value(summary(&row(container), at(125))).unwrap()
}

fn inspected(details: &ContainerDetails) -> Value {
    serde_json::to_value(inspect(details, &HostFacts::read(None))).unwrap()
}

#[test]
fn a_running_container_in_the_list() {
    let shown = listed(&container(Phase::Running));
    assert_eq!(shown["Names"], json!(["/web"]));
    assert_eq!(shown["Command"], "nginx -g 'daemon off;'");
    assert_eq!((&shown["State"], &shown["Status"]), (&json!("running"), &json!("Up 15 seconds")));
    assert_eq!(
        shown["Ports"],
        json!([
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "", "PrivatePort": 443, "Type": "tcp"}
        ])
    );
    assert_eq!(shown["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], "10.4.0.2");
}

#[test]
fn the_words_of_every_state() {
    for (phase, word, text) in [
        (Phase::Created, "created", "Created"),
        (Phase::Running, "running", "Up 15 seconds"),
        (Phase::Paused, "paused", "Up 15 seconds (Paused)"),
        (Phase::Restarting, "restarting", "Restarting (3) 5 seconds ago"),
        (Phase::Removing, "removing", "Removal In Progress"),
        (Phase::Exited, "exited", "Exited (3) 5 seconds ago"),
        (Phase::Dead, "dead", "Dead"),
    ] {
        let shown = listed(&container(phase));
        assert_eq!((shown["State"].as_str(), shown["Status"].as_str()), (Some(word), Some(text)));
        let state = inspected(&details(container(phase)))["State"].clone();
        assert_eq!(state["Status"], word);
        assert_eq!(state["Running"], phase.counts_as_running(), "{word}");
        assert_eq!(state["Paused"], phase == Phase::Paused);
    }
}

#[test]
fn health_shows_once_it_is_checked() {
    let mut checked = container(Phase::Running);
    assert_eq!(inspected(&details(checked.clone()))["State"].get("Health"), None);
    assert_eq!(listed(&checked)["Health"]["Status"], "none");
    checked.state.health = Some(Health { status: HealthStatus::Unstarted, failing_streak: 0 });
    assert_eq!(inspected(&details(checked.clone()))["State"].get("Health"), None);
    checked.state.health = Some(Health { status: HealthStatus::Healthy, failing_streak: 1 });
    assert_eq!(
        inspected(&details(checked.clone()))["State"]["Health"],
        json!({"Status": "healthy", "FailingStreak": 1, "Log": []})
    );
    assert_eq!(listed(&checked)["Status"], "Up 15 seconds (healthy)");
    assert_eq!(listed(&checked)["Health"], json!({"Status": "healthy", "FailingStreak": 1}));
}

#[test]
fn what_is_stopped_has_networks_and_no_ports() {
    let shown = listed(&container(Phase::Exited));
    assert_eq!(shown["Ports"], json!([]));
    assert_eq!(shown["NetworkSettings"]["Networks"]["bridge"]["NetworkID"], "ab");
    let shown = inspected(&details(container(Phase::Exited)));
    assert_eq!(shown["NetworkSettings"]["Ports"], json!({}));
}

#[test]
fn published_ports_have_all_their_bindings() {
    let shown = inspected(&details(container(Phase::Running)));
    assert_eq!(
        shown["NetworkSettings"]["Ports"],
        json!({
            "443/tcp": null,
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
        })
    );
}

#[test]
fn a_container_of_somebody_else_has_every_part() {
    let mut nameless = container(Phase::Running);
    nameless.name.clear();
    nameless.endpoints.clear();
    nameless.network_mode = "host".to_owned();
    nameless.state.started_at = None;
    nameless.upkeep.restart = RestartPolicy::from_label("on-failure:3");
    let shown = inspected(&details(nameless));
    assert_eq!(shown["Name"], "/0123456789ab");
    assert_eq!(shown["Config"]["Cmd"], json!(["nginx", "-g", "daemon off;"]));
    assert_eq!(shown["Config"]["Labels"], json!({"k": "v"}));
    assert_eq!(
        shown["HostConfig"]["RestartPolicy"],
        json!({"Name": "on-failure", "MaximumRetryCount": 3})
    );
    assert_eq!(shown["HostConfig"]["NetworkMode"], "host");
    assert_eq!(shown["HostConfig"]["LogConfig"], json!({"Type": "json-file", "Config": {}}));
    assert_eq!(shown["HostConfig"]["MaskedPaths"], json!(["/proc/kcore"]));
    assert!(shown["NetworkSettings"]["Networks"]["host"].is_object());
    assert_eq!(shown["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(shown["Mounts"], json!([]));
    assert_eq!(shown["ExecIDs"], Value::Null);
}

#[test]
fn what_a_client_sent_comes_back() {
    let request = Recorded {
        config: ContainerConfig {
            attach_stdout: true,
            volumes: Some(BTreeMap::new()),
            ..ContainerConfig::default()
        },
        host_config: HostConfig {
            dns: Some(Vec::new()),
            auto_remove: true,
            ..HostConfig::default()
        },
        ..Recorded::default()
    };
    let mut details = details(container(Phase::Running));
    details.recorded =
        Some(engine::containers::Recorded(serde_json::to_vec(&request).unwrap().into()));
    details.cmd = None;
    let shown = inspected(&details);
    assert_eq!(shown["Config"]["AttachStdout"], true);
    // An empty set of volumes is none, as in dockerd.
    assert_eq!(
        (&shown["Config"]["Cmd"], &shown["Config"]["Volumes"]),
        (&Value::Null, &Value::Null)
    );
    details.volumes = vec!["/data".to_owned()];
    assert_eq!(inspected(&details)["Config"]["Volumes"], json!({"/data": {}}));
    assert_eq!(shown["Config"]["WorkingDir"], "", "the root directory is nobody's choice");
    assert_eq!(
        (&shown["HostConfig"]["Dns"], &shown["HostConfig"]["AutoRemove"]),
        (&json!([]), &json!(true))
    );
    assert_eq!(shown["HostConfig"]["ReadonlyPaths"], json!(["/proc/sys"]));
}

#[test]
fn a_clock_that_was_set_back_is_no_panic() {
    let shown = serde_json::to_value(summary(&row(&container(Phase::Running)), at(1))).unwrap();
    assert_eq!(shown["Status"], "Up Less than a second");
}
