//! Which hosts stand for a registry: mirrors first, as `hosts.toml` lists them, then the registry itself.
//!
//! The folder of a registry and the meaning of every key are containerd's (containerd docs/hosts.md and
//! core/remotes/docker/config/hosts.go), so one set of files serves containerd, nerdctl and us. A folder without a usable
//! `hosts.toml` may hold Docker's certificate files instead.

mod file;
mod insecure;

use std::path::{Path, PathBuf};

use http::HeaderMap;

use self::insecure::{Insecurity, insecurity};
use crate::credentials::{HUB_REGISTRY, is_docker_hub};
use crate::tls::TlsSettings;
use crate::url::{Scheme, Url, is_localhost, split_port};
use crate::{Config, Error};

/// What a host may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) push: bool,
}

impl Capabilities {
    pub(crate) const PULL: Self = Self { pull: true, resolve: false, push: false };
    pub(crate) const PUSH: Self = Self { pull: false, resolve: false, push: true };
    pub(crate) const ALL: Self = Self { pull: true, resolve: true, push: true };
}

/// One host that stands for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostConfig {
    /// Scheme, host and the path before `/<repository>/…`, usually `/v2`.
    pub(crate) base: Url,
    pub(crate) capabilities: Capabilities,
    pub(crate) tls: TlsSettings,
    /// Sent with every request to this host, and to no other: neither its token server nor where it redirects to.
    pub(crate) headers: HeaderMap,
}

impl HostConfig {
    /// Host and port as they stand in the address.
    pub(crate) fn name(&self) -> String {
        self.base.authority()
    }

    /// Whether this is another host than the registry's own, which is then told to it (`?ns=`).
    pub(crate) fn is_mirror_of(&self, registry: &str) -> bool {
        let same_hub = is_docker_hub(registry) && is_docker_hub(&self.base.host);
        self.base.authority() != registry && !same_hub
    }
}

/// The hosts for `registry` (`docker.io`, `localhost:5000`), best first; never empty. Reads files.
pub(crate) fn hosts_for(config: &Config, registry: &str) -> Result<Vec<HostConfig>, Error> {
    let mirrors: &[String] = if is_docker_hub(registry) { &config.mirrors } else { &[] };
    let mut hosts = Vec::new();
    for address in mirrors {
        hosts.push(mirror(config, address)?);
    }
    hosts.extend(configured(config, registry)?);
    Ok(hosts)
}

/// A mirror of Docker Hub that the daemon was told of (moby daemon/containerd/hosts.go). Docker's certificate files are
/// looked for as for any registry.
fn mirror(config: &Config, address: &str) -> Result<HostConfig, Error> {
    let mut base = Url::parse(address)?;
    let name = base.authority();
    let mut host = registry_itself(&name, insecurity(config, &name))?;
    base.path = format!("{}/v2", base.path.trim_end_matches('/'));
    host.base = base;
    host.capabilities.push = false;
    let folder = config.hosts_dirs.iter().map(|root| root.join(&name)).find(|path| path.is_dir());
    Ok(match folder {
        Some(folder) => with_docker_certificates(host, &folder),
        None => host,
    })
}

fn configured(config: &Config, registry: &str) -> Result<Vec<HostConfig>, Error> {
    let insecurity = insecurity(config, registry);
    let insecure = insecurity != Insecurity::None;
    let origin = registry_itself(registry, insecurity)?;
    for root in &config.hosts_dirs {
        let Some(folder) = folder_names(registry)
            .into_iter()
            .map(|name| root.join(name))
            .find(|folder| folder.is_dir())
        else {
            continue;
        };
        return match file::read(&folder, &origin, insecure)? {
            Some(hosts) => Ok(hosts),
            None => Ok(vec![with_docker_certificates(origin, &folder)]),
        };
    }
    Ok(vec![origin])
}

/// The folder names tried for a registry, in order. A registry named with the port 443 is also found without it, as
/// nerdctl does.
fn folder_names(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let (host, Some(port)) = split_port(registry) {
        names.push(format!("{host}_{port}_"));
        names.push(registry.to_owned());
        if port == 443 {
            names.push(host.to_owned());
        }
    } else {
        names.push(registry.to_owned());
    }
    names.push("_default".to_owned());
    names
}

/// The registry as it is without configuration. One on this machine is plain HTTP unless it has no port or 443, and TLS of
/// any kind is tried first.
fn registry_itself(registry: &str, insecurity: Insecurity) -> Result<HostConfig, Error> {
    let host = if is_docker_hub(registry) { HUB_REGISTRY } else { registry };
    let (_, port) = split_port(host);
    let local = is_localhost(host);
    let scheme = if local && port == Some(80) { Scheme::Http } else { Scheme::Https };
    let insecure = insecurity != Insecurity::None;
    let plain_fallback = insecure || (local && !matches!(port, None | Some(443)));
    let only_within = match insecurity {
        Insecurity::Within(blocks) => blocks,
        Insecurity::None | Insecurity::Named => Vec::new(),
    };
    let base = Url::parse(&format!("{}://{host}/v2", scheme.as_str()))?;
    let tls = TlsSettings {
        skip_verify: insecure || local,
        plain_fallback,
        only_within,
        ..TlsSettings::default()
    };
    Ok(HostConfig { base, capabilities: Capabilities::ALL, tls, headers: HeaderMap::new() })
}

/// Docker's certificate files: `*.crt` are authorities, `*.cert` with a `*.key` beside it is ours
/// (moby daemon/pkg/registry/registry.go, loadTLSConfig).
fn with_docker_certificates(mut host: HostConfig, folder: &Path) -> HostConfig {
    let Ok(entries) = std::fs::read_dir(folder) else { return host };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => host.tls.ca.push(file),
            Some("cert") => {
                let key = file.with_extension("key");
                host.tls.client.push((file, key.exists().then_some(key)));
            }
            _ => {}
        }
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(root: &Path) -> Config {
        Config { hosts_dirs: vec![root.to_owned()], ..Config::default() }
    }

    fn write(root: &Path, folder: &str, file: &str, text: &str) {
        std::fs::create_dir_all(root.join(folder)).unwrap();
        std::fs::write(root.join(folder).join(file), text).unwrap();
    }

    fn shown(hosts: &[HostConfig]) -> Vec<String> {
        hosts.iter().map(|host| host.base.to_string()).collect()
    }

    #[test]
    fn without_files_a_registry_is_itself() {
        let none = Config::default();
        let rows = [
            ("docker.io", "https://registry-1.docker.io/v2", false, false),
            ("quay.io", "https://quay.io/v2", false, false),
            ("localhost", "https://localhost/v2", true, false),
            ("localhost:443", "https://localhost:443/v2", true, false),
            ("localhost:80", "http://localhost:80/v2", true, true),
            ("127.0.0.1:5000", "https://127.0.0.1:5000/v2", true, true),
            ("[::1]:5000", "https://[::1]:5000/v2", true, true),
        ];
        for (registry, base, skip_verify, plain_fallback) in rows {
            let hosts = hosts_for(&none, registry).unwrap();
            assert_eq!(shown(&hosts), [base], "{registry}");
            assert_eq!(
                (hosts[0].tls.skip_verify, hosts[0].tls.plain_fallback),
                (skip_verify, plain_fallback),
                "{registry}"
            );
            assert!(!hosts[0].is_mirror_of(registry), "{registry}");
        }
    }

    #[test]
    fn insecure_registries_are_named_by_host_or_block() {
        let config = Config {
            insecure: vec!["reg.example:5000".into(), "10.0.0.0/8".into()],
            ..Config::default()
        };
        for (registry, expected) in [
            ("reg.example:5000", true),
            ("reg.example", false),
            ("10.1.1.1:5000", true),
            ("11.1.1.1", false),
        ] {
            let hosts = hosts_for(&config, registry).unwrap();
            assert_eq!(hosts[0].tls.plain_fallback, expected, "{registry}");
        }
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file() {
        let root = tempfile::tempdir().unwrap();
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://zulu.example"]
              capabilities = ["pull"]
            [host."http://alpha.example:8080/proxy"]
              skip_verify = true
              [host."http://alpha.example:8080/proxy".header]
                x-team = ["a", "b"]
                x-one = "c"
            [host."https://mike.example/deep/path"]
              override_path = true
              ca = ["ca.pem", "/abs/ca.pem"]
              client = [["c.pem", "k.pem"]]
        "#;
        write(root.path(), "docker.io", "hosts.toml", text);
        let hosts = hosts_for(&config(root.path()), "docker.io").unwrap();
        assert_eq!(
            shown(&hosts),
            [
                "https://zulu.example/v2",
                "http://alpha.example:8080/proxy/v2",
                "https://mike.example/deep/path",
                "https://registry-1.docker.io/v2"
            ]
        );
        assert_eq!(hosts[0].capabilities, Capabilities { pull: true, resolve: false, push: false });
        assert!(
            hosts[1].tls.skip_verify
                && hosts[0].is_mirror_of("docker.io")
                && !hosts[3].is_mirror_of("docker.io")
        );
        assert_eq!(hosts[1].headers.get_all("x-team").iter().count(), 2);
        let folder = root.path().join("docker.io");
        assert_eq!(hosts[2].tls.ca, [folder.join("ca.pem"), "/abs/ca.pem".into()]);
        assert_eq!(hosts[2].tls.client, [(folder.join("c.pem"), Some(folder.join("k.pem")))]);
    }

    #[test]
    fn folders_are_found_by_port_and_default() {
        let root = tempfile::tempdir().unwrap();
        let mirror = |name: &str| format!("[host.\"https://{name}.example\"]\n");
        write(root.path(), "_default", "hosts.toml", &mirror("default"));
        write(root.path(), "r.example:5000", "hosts.toml", &mirror("colon"));
        let first = |registry: &str| {
            hosts_for(&config(root.path()), registry).unwrap()[0].base.host.clone()
        };
        assert_eq!(first("r.example:5000"), "colon.example");
        write(root.path(), "r.example_5000_", "hosts.toml", &mirror("underscore"));
        assert_eq!(first("r.example:5000"), "underscore.example");
        assert_eq!(first("r.example"), "default.example");
        write(root.path(), "r.example", "hosts.toml", &mirror("bare"));
        assert_eq!(first("r.example:443"), "bare.example");
    }

    #[test]
    fn keys_at_the_top_are_the_registrys_own() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            "r.example",
            "hosts.toml",
            "skip_verify = true\n[host.\"https://m.example\"]\n",
        );
        let hosts = hosts_for(&config(root.path()), "r.example").unwrap();
        assert_eq!(shown(&hosts), ["https://m.example/v2", "https://r.example/v2"]);
        assert!(!hosts[0].tls.skip_verify && hosts[1].tls.skip_verify);
    }

    #[test]
    fn mirrors_of_the_hub_come_first_and_are_not_pushed_to() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "m.example:5000", "own.crt", "");
        let config = Config {
            mirrors: vec!["https://m.example:5000".into(), "http://127.0.0.1:5001/hub/".into()],
            ..config(root.path())
        };
        let hosts = hosts_for(&config, "docker.io").unwrap();
        assert_eq!(
            shown(&hosts),
            [
                "https://m.example:5000/v2",
                "http://127.0.0.1:5001/hub/v2",
                "https://registry-1.docker.io/v2"
            ]
        );
        let push: Vec<_> = hosts.iter().map(|host| host.capabilities.push).collect();
        assert_eq!(push, [false, false, true]);
        assert_eq!(hosts[0].tls.ca, [root.path().join("m.example:5000/own.crt")]);
        assert_eq!(shown(&hosts_for(&config, "quay.io").unwrap()), ["https://quay.io/v2"]);
    }

    #[test]
    fn an_insecure_registry_stays_so_by_its_own_name() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "r.example", "hosts.toml", "server = \"https://r.example\"\n");
        let insecure = Config { insecure: vec!["r.example".into()], ..config(root.path()) };
        for (config, expected) in [(config(root.path()), false), (insecure, true)] {
            let tls = hosts_for(&config, "r.example").unwrap().remove(0).tls;
            assert_eq!((tls.skip_verify, tls.plain_fallback), (expected, expected));
        }
    }

    #[test]
    fn a_broken_file_leaves_dockers_certificates() {
        let root = tempfile::tempdir().unwrap();
        for broken in ["", "this is = not toml ["] {
            write(root.path(), "r.example", "hosts.toml", broken);
            write(root.path(), "r.example", "own.crt", "");
            write(root.path(), "r.example", "me.cert", "");
            write(root.path(), "r.example", "me.key", "");
            let hosts = hosts_for(&config(root.path()), "r.example").unwrap();
            let folder = root.path().join("r.example");
            assert_eq!(hosts[0].tls.ca, [folder.join("own.crt")]);
            assert_eq!(
                hosts[0].tls.client,
                [(folder.join("me.cert"), Some(folder.join("me.key")))]
            );
        }
    }

    #[test]
    fn a_host_that_is_no_address_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "r.example", "hosts.toml", "[host.\"https://bad host\"]\n");
        assert!(matches!(hosts_for(&config(root.path()), "r.example"), Err(Error::Address { .. })));
    }
}
