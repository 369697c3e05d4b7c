//! Records of every kind of maker, as they are found on real hosts.

use std::time::SystemTime;

use containerd::Any;
use containerd::containers::Container as Record;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const STATE: &str = "/var/lib/nerdctl/1935db59/containers/default/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const URI: &str =
    "binary:///usr/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59";

fn record(id: &str, labels: &[(&str, &str)], spec: &str) -> Record {
    Record {
        id: id.into(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        image: "docker.io/library/busybox:latest".into(),
        runtime_name: "io.containerd.runc.v2".into(),
        runtime_options: None,
        spec: Some(Any::oci_spec(spec)),
        snapshotter: "overlayfs".into(),
        snapshot_key: id.into(),
        created_at: SystemTime::UNIX_EPOCH,
        updated_at: SystemTime::UNIX_EPOCH,
        extensions: BTreeMap::new(),
        sandbox: String::new(),
    }
}

fn of(record: &Record) -> Option<Container> {
    summary(record, &Namespace::default())
}

fn ours() -> Record {
    let mut record = record(
        ID,
        &[
            ("nerdctl/namespace", "default"),
            ("nerdctl/name", "web"),
            ("nerdctl/networks", r#"["bridge"]"#),
            ("nerdctl/state-dir", STATE),
            ("nerdctl/log-uri", URI),
            ("team", "a"),
        ],
        "this spec is not even read",
    );
    let facts = Facts {
        image: "busybox".into(),
        image_id: "sha256:1".into(),
        entrypoint: Some(vec!["/bin/sh".into()]),
        cmd: Some(vec!["-c".into(), "true".into()]),
        tty: true,
        stop_signal: "SIGQUIT".into(),
        stop_timeout: Some(-1),
        log_driver: "json-file".into(),
        exposed_ports: vec!["80/tcp".into()],
        ..Facts::default()
    };
    record.extensions = BTreeMap::from([
        (FACTS.to_owned(), facts.to_any().unwrap()),
        (LABELS.to_owned(), Any::new(LABELS, r#"{"empty":"","team":"a"}"#)),
        (REQUEST.to_owned(), Any::new(REQUEST, r#"{"Image":"busybox"}"#)),
        (READY.to_owned(), Any::new(READY, "true")),
    ]);
    record
}

#[test]
fn one_of_ours() {
    let container = of(&ours()).unwrap();
    assert_eq!(container.owner, Owner::Nerdctld);
    assert_eq!((container.name.as_str(), container.image.as_str()), ("web", "busybox"));
    assert_eq!(container.command, ["/bin/sh", "-c", "true"]);
    assert_eq!(
        container.labels.keys().collect::<Vec<_>>(),
        ["empty", "team"],
        "also those that containerd drops"
    );
    assert_eq!(container.network_mode, "bridge");
    assert_eq!(container.endpoints[0].network, "bridge");
    assert_eq!(container.ports, [Port { container_port: 80, protocol: "tcp".into(), host: None }]);
    assert_eq!((container.stop_signal, container.stop_timeout), (Signal::QUIT, Some(-1)));
    assert_eq!(container.log, LogSource::JsonFile(format!("{STATE}/{ID}-json.log").into()));
    assert_eq!(container.log_uri, None, "our streams are FIFOs");
    assert!(container.tty);
}

#[test]
fn one_of_ours_is_hidden_until_it_is_ready() {
    let mut record = ours();
    record.extensions.remove(READY);
    assert!(is_half_made(&record));
    assert!(of(&record).is_none());
}

#[test]
fn damaged_facts_do_not_hide_a_container() {
    let mut record = ours();
    record.extensions.insert(FACTS.into(), Any::new(FACTS, "{"));
    let container = of(&record).unwrap();
    assert_eq!((container.owner, container.name), (Owner::Nerdctld, "web".to_owned()));
}

#[test]
fn one_of_nerdctls() {
    let spec = r#"{"process":{"terminal":true,"args":["sh"],"user":{"uid":0,"gid":0},"cwd":"/"},"mounts":null}"#;
    let labels = [
        ("nerdctl/namespace", "default"),
        ("nerdctl/name", "cli"),
        ("nerdctl/networks", r#"["host"]"#),
        ("nerdctl/state-dir", STATE),
        ("nerdctl/log-uri", URI),
        ("nerdctl/auto-remove", "true"),
        (
            "nerdctl/mounts",
            r#"[{"Type":"volume","Name":"data","Source":"/v","Destination":"/d","Mode":"","RW":true,"Propagation":""}]"#,
        ),
        ("containerd.io/restart.policy", "always"),
        ("io.containerd.image.config.stop-signal", "SIGINT"),
        ("mine", "1"),
    ];
    let container = of(&record(ID, &labels, spec)).unwrap();
    assert_eq!(container.owner, Owner::Nerdctl);
    assert_eq!(container.image, "docker.io/library/busybox:latest");
    assert_eq!(container.command, ["sh"]);
    assert_eq!(container.labels.keys().collect::<Vec<_>>(), ["mine"]);
    assert_eq!(container.mounts[0].name, "data");
    assert_eq!(container.log_uri.as_deref(), Some(URI));
    assert_eq!(container.stop_signal, Signal::INT);
    assert!(container.tty && container.auto_remove && container.has_restart_labels);
}

#[test]
fn a_container_of_a_pod() {
    let spec = r#"{"process":{"args":["nginx"]},"annotations":{"io.kubernetes.cri.sandbox-id":"sandbox0"},
        "linux":{"namespaces":[{"type":"network","path":"/proc/7/ns/net"}]},
        "mounts":[{"destination":"/etc/hosts","type":"bind","source":"/h"},
                  {"destination":"/data","type":"bind","source":"/d","options":["rbind","ro","rslave"]}]}"#;
    let mut record = record(
        "c0",
        &[
            ("io.cri-containerd.kind", "container"),
            ("io.kubernetes.pod.namespace", "kube-system"),
            ("io.kubernetes.pod.name", "dns"),
            ("io.kubernetes.container.name", "coredns"),
            // An image's author cannot make it ours.
            ("nerdctl/namespace", "default"),
            ("nerdctl/state-dir", "/etc"),
        ],
        spec,
    );
    let metadata = r#"{"Version":"v1","Metadata":{"LogPath":"/var/log/pods/x/0.log"}}"#;
    record
        .extensions
        .insert(CRI_METADATA.into(), Any::new("github.com/containerd/cri/x", metadata));
    let container = of(&record).unwrap();
    assert_eq!(container.name, "k8s://kube-system/dns/coredns");
    let pod = Owner::Kubernetes {
        namespace: "kube-system".into(),
        pod: "dns".into(),
        container: Some("coredns".into()),
    };
    assert_eq!(container.owner, pod);
    assert_eq!(container.network_mode, "container:sandbox0");
    assert_eq!(container.log, LogSource::Cri("/var/log/pods/x/0.log".into()));
    assert_eq!(container.state_dir, None);
    let mount = &container.mounts[..];
    assert_eq!(mount.len(), 1);
    assert_eq!(
        (mount[0].destination.as_str(), mount[0].read_write, mount[0].propagation.as_str()),
        ("/data", false, "rslave")
    );
}

#[test]
fn one_that_ctr_made() {
    let spec =
        r#"{"process":{"args":["top"],"env":["A=1"]},"linux":{"namespaces":[{"type":"network"}]}}"#;
    let container = of(&record("my-ctr.one", &[], spec)).unwrap();
    assert_eq!((container.owner, container.name.as_str()), (Owner::Other, ""));
    assert_eq!(container.network_mode, "none");
    assert_eq!(container.endpoints[0].network, "none");
    assert_eq!(container.log, LogSource::Unreadable);
}

#[test]
fn a_broken_spec_is_an_empty_one() {
    for spec in ["", "null", "[]", r#"{"process":7}"#] {
        let container = of(&record("x1", &[], spec)).unwrap();
        assert!(container.command.is_empty(), "{spec}");
    }
    let bare = Record { spec: None, ..record("x1", &[], "") };
    assert_eq!(of(&bare).unwrap().network_mode, "host");
}

#[test]
fn buildkits_steps_are_hidden() {
    let step = Record { image: String::new(), ..record("0a1b2c3d4e5f6g7h8i9j0k1l2", &[], "{}") };
    assert!(of(&step).is_none());
    assert!(of(&Record { image: "x".into(), ..step }).is_some());
}

#[test]
fn only_nerdctls_own_places_are_believed() {
    let with = |state_dir: &str, uri: &str| {
        let labels = [
            ("nerdctl/namespace", "default"),
            ("nerdctl/state-dir", state_dir),
            ("nerdctl/log-uri", uri),
        ];
        let container = of(&record(ID, &labels, "{}")).unwrap();
        (container.state_dir.is_some(), container.log_uri.is_some())
    };
    assert_eq!(with(STATE, URI), (true, true));
    assert_eq!(with("/etc", URI), (false, false));
    assert_eq!(with(&STATE.replace("/default/", "/../default/"), URI), (false, false));
    for uri in [
        "binary:///bin/sh?-c=reboot",
        "binary:///usr/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Ftmp",
        "binary:///usr/bin/nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59&x=y",
        "binary://nerdctl?_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fnerdctl%2F1935db59",
        "file:///etc/passwd",
    ] {
        assert_eq!(with(STATE, uri), (true, false), "{uri}");
    }
}

#[test]
fn details_of_one_of_ours() {
    let mut record = ours();
    let spec = r#"{"process":{"args":["/bin/sh","-c","true"],"env":["HOSTNAME=x"],"cwd":"/srv","user":{"uid":5,"gid":6}},
        "hostname":"box","mounts":[{"destination":"/etc/hosts","type":"bind","source":"/h"}],
        "linux":{"namespaces":[{"type":"network"}],"maskedPaths":["/proc/acpi"],"sysctl":{"kernel.domainname":"example.org"}}}"#;
    record.spec = Some(Any::oci_spec(spec));
    let mut container = of(&record).unwrap();
    container.state.pid = 7;
    let details = details(&record, Arc::new(container), &Namespace::default()).unwrap();
    assert_eq!(details.recorded.unwrap().0.as_ref(), br#"{"Image":"busybox"}"#);
    assert!(details.process.env.is_empty(), "what the daemon adds is not shown");
    assert_eq!(
        (details.process.hostname.as_str(), details.process.domainname.as_str()),
        ("box", "example.org")
    );
    assert_eq!((details.process.cwd.as_str(), details.process.user.as_str()), ("/srv", ""));
    assert_eq!(details.hosts_path, "/h");
    assert_eq!(details.sandbox_key, "/proc/7/ns/net");
    assert_eq!(details.masked_paths, ["/proc/acpi"]);
    assert_eq!(details.log_driver, "json-file");
    assert_eq!(details.log_path, format!("{STATE}/{ID}-json.log"));
}

#[test]
fn details_of_somebody_elses() {
    let spec = r#"{"process":{"args":["top"],"env":["A=1"],"user":{"uid":5,"gid":6}},
        "linux":{"namespaces":[{"type":"network","path":"/run/netns/x"}]}}"#;
    let record = record("other", &[], spec);
    let container = Arc::new(of(&record).unwrap());
    let details = details(&record, container, &Namespace::default()).unwrap();
    assert_eq!(details.recorded, None);
    assert_eq!(details.process.env, ["A=1"]);
    assert_eq!(details.process.user, "5:6");
    assert_eq!(details.sandbox_key, "/run/netns/x");
}
