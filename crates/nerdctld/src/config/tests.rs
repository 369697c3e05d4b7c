//! Every value from every place it may come from, and every mistake.

use std::collections::BTreeMap;
use std::io;

use clap::Parser as _;

use super::*;

/// A machine made of words.
#[derive(Default)]
struct Machine {
    variables: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, &'static str>,
    folders: Vec<&'static str>,
    user: bool,
}

impl Machine {
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.insert(name, value);
        self
    }

    fn file(mut self, path: &'static str, text: &'static str) -> Self {
        self.files.insert(path, text);
        self
    }

    fn user() -> Self {
        Self { user: true, ..Self::default() }
            .with("XDG_RUNTIME_DIR", "/run/user/1000")
            .with("HOME", "/home/u")
    }

    fn config(&self, flags: &[&str]) -> Result<Config, Vec<Mistake>> {
        let cli = Cli::parse_from([&["nerdctld"], flags].concat());
        let surroundings = Surroundings {
            variable: &|name| self.variables.get(name).map(|&value| value.to_owned()),
            read: &|path| match self.files.get(path.to_str().unwrap()) {
                Some(&text) => Ok(text.to_owned()),
                None => Err(io::ErrorKind::NotFound.into()),
            },
            is_dir: &|path| self.folders.iter().any(|folder| Path::new(folder) == path),
            root: !self.user,
        };
        Config::from(&cli, &surroundings).map_err(|mistakes| mistakes.0)
    }
}

fn containerd(config: &Config) -> &str {
    config.containerd.socket().to_str().unwrap()
}

#[test]
fn defaults_of_root_are_nerdctls() {
    let config = Machine::default().config(&[]).unwrap();
    assert_eq!(config.listen, [ListenAddress::Unix("/run/nerdctl.sock".into())]);
    assert_eq!(containerd(&config), "/run/containerd/containerd.sock");
    assert_eq!(config.namespace.to_string(), "default");
    assert_eq!(config.snapshotter, "overlayfs");
    assert_eq!(config.data_root, Path::new("/var/lib/nerdctl"));
    assert_eq!(config.run_dir, Path::new("/run/nerdctld"));
    assert_eq!(config.cni_path, Path::new("/opt/cni/bin"));
    assert_eq!(config.cni_netconf_path, Path::new("/etc/cni/net.d"));
    assert_eq!(
        config.hosts_dirs,
        [Path::new("/etc/containerd/certs.d"), Path::new("/etc/docker/certs.d")]
    );
    assert_eq!((config.keep_stopped, config.manage_cri, config.debug), (10, false, false));
    assert_eq!((config.group, config.idle_exit, config.cgroup_manager), (None, None, None));
}

#[test]
fn defaults_of_a_user_are_in_the_users_folders() {
    let config = Machine::user().config(&[]).unwrap();
    assert_eq!(config.listen, [ListenAddress::Unix("/run/user/1000/nerdctl.sock".into())]);
    assert_eq!(config.data_root, Path::new("/home/u/.local/share/nerdctl"));
    assert_eq!(config.run_dir, Path::new("/run/user/1000/nerdctld"));
    assert_eq!(config.cni_netconf_path, Path::new("/home/u/.config/cni/net.d"));
    assert_eq!(config.hosts_dirs[0], Path::new("/home/u/.config/containerd/certs.d"));
}

#[test]
fn a_user_without_home_and_runtime_dir_hears_of_both() {
    let machine = Machine { user: true, ..Machine::default() };
    assert_eq!(
        machine.config(&[]).unwrap_err(),
        [Mistake::NoRuntimeDir, Mistake::NoHome("XDG_DATA_HOME")]
    );
}

#[test]
fn flag_before_environment_before_file_before_default() {
    let with_file = Machine::default()
        .file("/etc/nerdctl/nerdctl.toml", "address = '/file.sock'\nnamespace = 'from-file'");
    let config = with_file.config(&[]).unwrap();
    assert_eq!(
        (containerd(&config), config.namespace.to_string().as_str()),
        ("/file.sock", "from-file")
    );
    let with_both = with_file
        .with("CONTAINERD_ADDRESS", "unix:///env.sock")
        .with("CONTAINERD_NAMESPACE", "from-env");
    let config = with_both.config(&[]).unwrap();
    assert_eq!(
        (containerd(&config), config.namespace.to_string().as_str()),
        ("/env.sock", "from-env")
    );
    let config =
        with_both.config(&["--containerd", "/flag.sock", "--namespace", "from-flag"]).unwrap();
    assert_eq!(
        (containerd(&config), config.namespace.to_string().as_str()),
        ("/flag.sock", "from-flag")
    );
}

#[test]
fn an_empty_variable_is_no_variable() {
    let config = Machine::default().with("CONTAINERD_ADDRESS", "").config(&[]).unwrap();
    assert_eq!(containerd(&config), "/run/containerd/containerd.sock");
}

#[test]
fn every_variable_of_the_old_nerdctld_is_read() {
    let config = Machine::default()
        .with("CONTAINERD_SNAPSHOTTER", "native")
        .with("BUILDKIT_HOST", "unix:///b.sock")
        .with("CNI_PATH", "/cni")
        .with("NETCONFPATH", "/net.d")
        .with("RUST_LOG", "warn")
        .config(&[])
        .unwrap();
    assert_eq!(config.snapshotter, "native");
    assert_eq!(config.buildkit_host.as_deref(), Some("unix:///b.sock"));
    assert_eq!(
        (config.cni_path.as_path(), config.cni_netconf_path.as_path()),
        (Path::new("/cni"), Path::new("/net.d"))
    );
    assert_eq!(config.log_filter.as_deref(), Some("warn"));
}

#[test]
fn every_key_of_the_file_is_read_and_unknown_ones_are_tolerated() {
    let config = Machine::default()
        .with("NERDCTL_TOML", "/my.toml")
        .file(
            "/my.toml",
            "debug = true\nsnapshotter = 's'\ncni_path = '/c'\ncni_netconfpath = '/n'\ndata_root = '/d'\n\
             cgroup_manager = 'cgroupfs'\ninsecure_registry = true\nhosts_dir = ['/h1', '/h2']\nbridge_ip = '10.9.0.1/24'\n\
             a_key_of_tomorrow = 1\n[a_table]\nx = 2\n",
        )
        .config(&[])
        .unwrap();
    assert!(config.debug && config.insecure_registry);
    assert_eq!((config.snapshotter.as_str(), config.data_root.as_path()), ("s", Path::new("/d")));
    assert_eq!(
        (config.cni_path.as_path(), config.cni_netconf_path.as_path()),
        (Path::new("/c"), Path::new("/n"))
    );
    assert_eq!(config.cgroup_manager.as_deref(), Some("cgroupfs"));
    assert_eq!(config.hosts_dirs, [Path::new("/h1"), Path::new("/h2")]);
    assert_eq!(config.bridge_ip.as_deref(), Some("10.9.0.1/24"));
}

#[test]
fn a_file_that_was_asked_for_must_exist() {
    let mistakes = Machine::default().config(&["--config", "/none.toml"]).unwrap_err();
    assert!(
        matches!(mistakes.as_slice(), [Mistake::UnreadableFile { path, .. }] if path == "/none.toml")
    );
    assert!(
        Machine::default().with("NERDCTL_TOML", "/none.toml").config(&[]).is_ok(),
        "as nerdctl does"
    );
}

#[test]
fn a_key_of_another_type_is_named() {
    let machine =
        Machine::default().file("/etc/nerdctl/nerdctl.toml", "debug = true\nhosts_dir = 'x'");
    let mistakes = machine.config(&[]).unwrap_err();
    let text = mistakes[0].to_string();
    assert!(text.contains("/etc/nerdctl/nerdctl.toml") && text.contains("hosts_dir"), "{text}");
}

#[test]
fn addr_and_socket_add_up() {
    let config = Machine::default()
        .config(&[
            "--addr",
            "unix:///a.sock",
            "--addr",
            "fd://",
            "--addr",
            "fd://4",
            "--socket",
            "/b.sock",
        ])
        .unwrap();
    let expected = [
        ListenAddress::Unix("/a.sock".into()),
        ListenAddress::Inherited(None),
        ListenAddress::Inherited(Some(4)),
        ListenAddress::Unix("/b.sock".into()),
    ];
    assert_eq!(config.listen, expected);
}

#[test]
fn tls_asks_clients_for_certificates_unless_that_is_waived_by_name() {
    let certificates = Machine::default().with("DOCKER_CERT_PATH", "/certs");
    let clients = |flags: &[&str]| {
        let address = ["--addr", "tcp://0.0.0.0"];
        let config = certificates.config(&[&address, flags].concat()).unwrap();
        (config.tls.unwrap().clients, config.listen)
    };
    let everywhere = || vec![ListenAddress::Tcp("0.0.0.0:2376".parse().unwrap())];
    let authority = || Some(PathBuf::from("/certs/ca.pem"));
    for flags in [
        &["--tls"][..],
        &["--tlsverify"],
        &["--tls", "--tlsverify"],
        &["--tlsverify", "--tcp-insecure"],
    ] {
        assert_eq!(clients(flags), (authority(), everywhere()), "{flags:?}");
    }
    assert_eq!(clients(&["--tls", "--tcp-insecure"]), (None, everywhere()));
}

#[test]
fn the_first_cni_folder_that_exists_is_taken() {
    let machine =
        Machine { folders: vec!["/usr/lib/cni", "/usr/libexec/cni"], ..Machine::default() };
    assert_eq!(machine.config(&[]).unwrap().cni_path, Path::new("/usr/libexec/cni"));
}

#[test]
fn managed_lives_below_data_root_and_run_dir() {
    let config =
        Machine::default().config(&["--containerd", "managed", "--data-root", "/data"]).unwrap();
    let ContainerdChoice::Managed(layout) = &config.containerd else {
        panic!("{:?}", config.containerd)
    };
    assert!(layout.root.starts_with("/data"));
    assert!(layout.socket.starts_with("/run/nerdctld"));
}

#[test]
fn a_group_is_a_name_or_a_number() {
    let machine = Machine::default().file("/etc/group", "root:x:0:\ndocker:x:998:me\n");
    assert_eq!(machine.config(&["--group", "docker"]).unwrap().group, Some(998));
    assert_eq!(machine.config(&["--group", "12"]).unwrap().group, Some(12));
    assert_eq!(
        machine.config(&["--group", "dock"]).unwrap_err(),
        [Mistake::NoSuchGroup("dock".into())]
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    let mistakes = Machine::default()
        .file("/etc/nerdctl/nerdctl.toml", "cgroup_manager = 'openrc'")
        .with("CNI_PATH", "relative")
        .config(&[
            "--addr",
            "tcp://0.0.0.0:2375",
            "--addr",
            "unix://relative.sock",
            "--addr",
            "fd://0",
            "--addr",
            "nonsense",
            "--socket",
            "also-relative",
            "--containerd",
            "tcp://c:1",
            "--namespace",
            "not a namespace",
            "--idle-exit",
            "soon",
            "--group",
            "nobody-has-it",
            "--data-root",
            "data",
        ])
        .unwrap_err();
    let text = Mistakes(mistakes).to_string();
    for part in [
        "tcp://0.0.0.0:2375",
        "--tcp-insecure",
        "relative.sock",
        "fd://0",
        "nonsense",
        "also-relative",
        "tcp://c:1",
        "not a namespace",
        "soon",
        "nobody-has-it",
        "\"data\"",
        "CNI_PATH",
        "openrc",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[test]
fn times_have_units() {
    for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600)] {
        assert_eq!(parse_time(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "0", "0s", "s", "-1", "1d", "1.5", "99999999999999999999h"] {
        assert_eq!(parse_time(text), None, "{text}");
    }
}

#[test]
fn proxies_are_shown_without_their_credentials() {
    let config = Machine::default()
        .with("HTTPS_PROXY", "http://user:secret@proxy:3128/x@y")
        .with("http_proxy", "proxy:3128")
        .with("NO_PROXY", "localhost,.lan")
        .config(&[])
        .unwrap();
    assert_eq!(config.proxies.https, "http://xxxxx:xxxxx@proxy:3128/x@y");
    assert_eq!(config.proxies.http, "proxy:3128");
    assert_eq!(config.proxies.none, "localhost,.lan");
    assert_eq!(mask_credentials("user:secret@proxy"), "xxxxx:xxxxx@proxy");
}
