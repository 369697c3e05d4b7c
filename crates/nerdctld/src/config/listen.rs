//! Addresses to listen on, and the certificates for those on TCP.
//!
//! Whoever can talk to the daemon is root on its host. So an address that other machines may reach is served to clients
//! with certificates only, unless a flag of its own says that something else protects it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::{Cli, Config, Mistake, Reader};

/// Docker's port without TLS, and with it.
const PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;
/// What dockerd's documentation uses for metrics.
const METRICS_PORT: u16 = 9323;

/// Where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// A Unix socket that we make.
    Unix(PathBuf),
    /// An address of the network; encrypted if there are [`TlsFiles`].
    Tcp(SocketAddr),
    /// Sockets that systemd made: all of them, or the one with this number (3 is the first).
    Inherited(Option<usize>),
}

/// PEM files for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Our certificate, and those between it and a root.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Who signs clients' certificates; without it every client is served, which takes `--tcp-insecure`.
    pub(crate) clients: Option<PathBuf>,
}

/// What an address on TCP depends on.
#[derive(Clone, Copy, Debug)]
struct Tcp {
    encrypted: bool,
    asks_clients: bool,
    insecure: bool,
}

impl Config {
    /// Addresses at which nobody is asked who he is, in dockerd's words (moby `daemon/info.go`, `fillAPIInfo`).
    pub(super) fn warnings(&self) -> Vec<String> {
        let (scheme, lacks) = match &self.tls {
            Some(files) if files.clients.is_some() => return Vec::new(),
            Some(_) => ("https", "TLS client verification"),
            None => ("http", "encryption"),
        };
        let open = self.listen.iter().filter_map(|address| match address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) | ListenAddress::Inherited(_) => None,
        });
        open.map(|address| {
            format!(
                "WARNING: API is accessible on {scheme}://{address} without {lacks}.\n         \
                 Access to the remote API is equivalent to root access on the host. Refer\n         \
                 to the 'Docker daemon attack surface' section in the documentation for\n         \
                 more information: https://docs.docker.com/go/attack-surface/"
            )
        })
        .collect()
    }
}

impl Reader<'_> {
    /// `--tls` alone asks clients for certificates as `--tlsverify` does (moby `daemon/command/daemon.go`, `TLSVerify`);
    /// encryption without that has to be wanted by name.
    fn tcp(&self) -> Tcp {
        let Cli { tls, tlsverify, tcp_insecure: insecure, .. } = *self.cli;
        Tcp { encrypted: tls || tlsverify, asks_clients: tlsverify || (tls && !insecure), insecure }
    }

    /// `--addr` and `--socket`, else the usual socket.
    pub(super) fn listeners(&mut self, run_base: Option<&std::path::Path>) -> Vec<ListenAddress> {
        let tcp = self.tcp();
        let mut listen = Vec::new();
        for text in &self.cli.addr {
            match parse(text, tcp) {
                Ok(address) => listen.push(address),
                Err(reason) => {
                    self.mistakes.push(Mistake::Listen {
                        origin: "--addr",
                        value: text.clone(),
                        reason,
                    });
                }
            }
        }
        if let Some(path) = &self.cli.socket {
            if path.is_absolute() {
                listen.push(ListenAddress::Unix(path.clone()));
            } else {
                self.mistakes.push(Mistake::RelativePath {
                    origin: "--socket".to_owned(),
                    value: path.display().to_string(),
                });
            }
        }
        let nothing_asked = self.cli.addr.is_empty() && self.cli.socket.is_none();
        if let (true, Some(base)) = (nothing_asked, run_base) {
            listen.push(ListenAddress::Unix(base.join("nerdctl.sock")));
        }
        listen
    }

    /// `--metrics-addr`; the port may be left out.
    pub(super) fn metrics(&mut self) -> Option<SocketAddr> {
        let text = self.cli.metrics_addr.as_ref()?;
        let address = parse_tcp(text.strip_prefix("tcp://").unwrap_or(text), METRICS_PORT);
        if address.is_none() {
            self.mistakes.push(Mistake::Listen {
                origin: "--metrics-addr",
                value: text.clone(),
                reason: "write address:port, with an IP address or localhost",
            });
        }
        address
    }

    /// The files of TLS, where it is asked for; dockerd's defaults (moby `daemon/command/options.go`).
    pub(super) fn tls(&mut self) -> Option<TlsFiles> {
        let (cli, tcp) = (self.cli, self.tcp());
        if !tcp.encrypted {
            if cli.tlscacert.is_some() || cli.tlscert.is_some() || cli.tlskey.is_some() {
                self.mistakes.push(Mistake::TlsIsOff);
            }
            return None;
        }
        let folder = self
            .variable("DOCKER_CERT_PATH")
            .map(PathBuf::from)
            .or_else(|| self.variable("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let mut file = |given: &Option<PathBuf>, name| {
            let path = given.clone().or_else(|| Some(folder.as_ref()?.join(name)));
            if path.is_none() {
                self.mistakes.push(Mistake::NoHome("DOCKER_CERT_PATH"));
            }
            path
        };
        let (certificate, key) = (file(&cli.tlscert, "cert.pem"), file(&cli.tlskey, "key.pem"));
        let clients = if tcp.asks_clients { Some(file(&cli.tlscacert, "ca.pem")?) } else { None };
        Some(TlsFiles { certificate: certificate?, key: key?, clients })
    }
}

fn parse(text: &str, tcp: Tcp) -> Result<ListenAddress, &'static str> {
    if let Some(path) = text.strip_prefix("unix://") {
        if !path.starts_with('/') {
            return Err("a Unix socket needs an absolute path: unix:///path/to.sock");
        }
        return Ok(ListenAddress::Unix(PathBuf::from(path)));
    }
    if let Some(which) = text.strip_prefix("fd://") {
        return match which {
            "" | "*" => Ok(ListenAddress::Inherited(None)),
            number => match number.parse() {
                Ok(number) if number >= 3 => Ok(ListenAddress::Inherited(Some(number))),
                _ => Err("fd:// takes all sockets of systemd, fd://3 the first of them"),
            },
        };
    }
    let Some(host) = text.strip_prefix("tcp://") else {
        return Err("write unix:///path/to.sock, tcp://address:port or fd://");
    };
    let address = parse_tcp(host, if tcp.encrypted { TLS_PORT } else { PORT })
        .ok_or("write tcp://address:port, with an IP address or localhost")?;
    if address.ip().is_loopback() || tcp.asks_clients || tcp.insecure {
        return Ok(ListenAddress::Tcp(address));
    }
    Err(
        "whoever reaches this address would be root here: add --tlsverify with --tlscacert, --tlscert and --tlskey, \
         or --tcp-insecure if something else protects it",
    )
}

/// What stands behind `tcp://`: host (in brackets if it is an address of IPv6) and port. What is missing is localhost and
/// Docker's port without TLS (moby `daemon/pkg/opts/hosts.go`).
pub(crate) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = split(text, PORT)?;
    Some((if host.is_empty() { "localhost" } else { host }, port))
}

fn split(text: &str, port: u16) -> Option<(&str, u16)> {
    let text = text.trim_end_matches('/');
    match text.rsplit_once(':') {
        Some((host, digits)) if !digits.contains(']') => Some((host, digits.parse().ok()?)),
        _ => Some((text, port)),
    }
}

/// `127.0.0.1:2375`, `[::1]`, `:2375`; nothing for the host is localhost (moby `daemon/pkg/opts/hosts.go`).
fn parse_tcp(text: &str, port: u16) -> Option<SocketAddr> {
    let (host, port) = split(text, port)?;
    let ip = match host {
        "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(inner.parse().ok()?),
            None => IpAddr::V4(host.parse().ok()?),
        },
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Tcp = Tcp { encrypted: false, asks_clients: false, insecure: false };

    fn tcp(text: &str, tcp: Tcp) -> Option<String> {
        match parse(text, tcp) {
            Ok(ListenAddress::Tcp(address)) => Some(address.to_string()),
            _ => None,
        }
    }

    #[test]
    fn ports_and_hosts_have_dockers_defaults() {
        let encrypted = Tcp { encrypted: true, ..PLAIN };
        for (text, plain, tls) in [
            ("tcp://", "127.0.0.1:2375", "127.0.0.1:2376"),
            ("tcp://localhost", "127.0.0.1:2375", "127.0.0.1:2376"),
            ("tcp://:4000", "127.0.0.1:4000", "127.0.0.1:4000"),
            ("tcp://127.1.2.3:0", "127.1.2.3:0", "127.1.2.3:0"),
            ("tcp://[::1]", "[::1]:2375", "[::1]:2376"),
            ("tcp://[::1]:7/", "[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(tcp(text, PLAIN).as_deref(), Some(plain), "{text}");
            assert_eq!(tcp(text, encrypted).as_deref(), Some(tls), "{text}");
        }
        for wrong in ["tcp://name:1", "tcp://::1:1", "tcp://1.2.3.4:x", "tcp://1.2.3.4:70000"] {
            assert_eq!(tcp(wrong, Tcp { insecure: true, ..PLAIN }), None, "{wrong}");
        }
    }

    #[test]
    fn other_machines_need_certificates() {
        let encrypted = Tcp { encrypted: true, ..PLAIN };
        for open in
            ["tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://10.0.0.1:1", "tcp://[::ffff:127.0.0.1]:1"]
        {
            assert!(parse(open, PLAIN).unwrap_err().contains("--tlsverify"), "{open}");
            assert!(parse(open, encrypted).is_err(), "{open}: encryption asks nobody who he is");
            assert!(parse(open, Tcp { asks_clients: true, ..encrypted }).is_ok(), "{open}");
            assert!(parse(open, Tcp { insecure: true, ..PLAIN }).is_ok(), "{open}");
        }
    }
}
