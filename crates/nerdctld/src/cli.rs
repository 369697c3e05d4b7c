//! The flags of the daemon, exactly as typed.
//!
//! Nothing is checked here beyond the shape of the command line: what the flags mean, together with the environment and
//! `nerdctl.toml`, is decided in [`crate::config`]. The forms that containerd and runc dictate (`oci-hook`, the I/O
//! monitor) never reach this parser; `main` recognises them first.

use std::path::PathBuf;

/// nerdctld: the Docker Engine API for containerd.
#[derive(clap::Parser, Clone, Debug, Default)]
#[command(name = "nerdctld", version, about, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Where to listen: unix:///path/to.sock, tcp://address:port, or fd:// for sockets that systemd opened. Repeatable.
    #[arg(long = "addr", value_name = "ADDRESS")]
    pub(crate) addr: Vec<String>,

    /// Listen on this Unix socket; the same as --addr unix://PATH.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// Group, by name or number, that may use the Unix sockets.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,

    /// Log what happens in detail.
    #[arg(long)]
    pub(crate) debug: bool,

    /// The configuration file, instead of nerdctl.toml at its usual place.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// containerd's socket, or "managed" for a containerd of our own.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) containerd: Option<String>,

    /// containerd's namespace.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// containerd's snapshotter.
    #[arg(long, value_name = "NAME")]
    pub(crate) snapshotter: Option<String>,

    /// Where nerdctl and nerdctld keep their files.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) data_root: Option<PathBuf>,

    /// Where the CNI plugins are.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cni_path: Option<PathBuf>,

    /// Where the CNI configurations are.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cni_netconfpath: Option<PathBuf>,

    /// Folder with one hosts.toml per registry. Repeatable.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) hosts_dir: Vec<PathBuf>,

    /// Ask here for Docker Hub's images before asking Docker Hub, as `https://mirror.example`. Repeatable.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) registry_mirror: Vec<String>,

    /// A registry (host, host:port) or a block of addresses (10.0.0.0/8) that needs no certificate, nor TLS. A block means
    /// registries with an address in it, whose host names are looked up for that. Repeatable.
    #[arg(long, value_name = "REGISTRY")]
    pub(crate) insecure_registry: Vec<String>,

    /// Layers of one image that are pulled at once [default: 3].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_concurrent_downloads: Option<u16>,

    /// Layers of one image that are pushed at once [default: 5].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_concurrent_uploads: Option<u16>,

    /// How often a registry is asked again, the first time included, after an error that may pass [default: 5].
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_download_attempts: Option<u16>,

    /// How many stopped containers keep their containerd task, which nerdctl needs to show their exit code.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) keep_stopped: Option<usize>,

    /// Allow changes to containers that belong to Kubernetes' pods.
    #[arg(long)]
    pub(crate) manage_cri: bool,

    /// End after this time without a client (90, 90s, 5m, 1h); for socket activation.
    #[arg(long, value_name = "TIME")]
    pub(crate) idle_exit: Option<String>,

    /// Serve metrics for Prometheus at http://ADDRESS/metrics, to anybody who asks.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_addr: Option<String>,

    /// On tcp:// encrypt, with --tlscert and --tlskey, and ask clients for certificates as --tlsverify does; with
    /// --tcp-insecure encrypt only, and serve everybody.
    #[arg(long)]
    pub(crate) tls: bool,

    /// On tcp:// encrypt, and serve only clients with a certificate that --tlscacert has signed.
    #[arg(long)]
    pub(crate) tlsverify: bool,

    /// Who signs the clients' certificates [default: ca.pem in $DOCKER_CERT_PATH or ~/.docker].
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscacert: Option<PathBuf>,

    /// The daemon's certificate and those between it and a root [default: cert.pem there].
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,

    /// The key of that certificate [default: key.pem there].
    #[arg(long, value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,

    /// Listen on any tcp:// address, without --tlsverify to clients without certificates: whoever reaches it is root here.
    #[arg(long)]
    pub(crate) tcp_insecure: bool,

    /// Something else than the daemon.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What the binary does besides being the daemon, when a person or a program asks for it by name.
#[derive(clap::Subcommand, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Connect standard input and output to the daemon, for DOCKER_HOST=ssh://…
    DialStdio,
    /// The same under the docker CLI's name for it.
    #[command(subcommand)]
    System(SystemCommand),
}

/// Below `system`.
#[derive(clap::Subcommand, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemCommand {
    /// Connect standard input and output to the daemon, for DOCKER_HOST=ssh://…
    DialStdio,
}

impl Cli {
    /// Connections are to be encrypted, after the flags.
    pub(crate) fn asks_for_tls(&self) -> bool {
        self.tls || self.tlsverify
    }

    /// The address to connect to: the first that is not systemd's.
    pub(crate) fn dial_address(&self) -> Option<String> {
        let named = self.addr.iter().find(|address| !address.starts_with("fd://")).cloned();
        named.or_else(|| self.socket.as_ref().map(|path| format!("unix://{}", path.display())))
    }
}

const AFTER_HELP: &str = "\
Environment: CONTAINERD_ADDRESS, CONTAINERD_NAMESPACE, CONTAINERD_SNAPSHOTTER, BUILDKIT_HOST, CNI_PATH, NETCONFPATH,
NERDCTL_TOML, RUST_LOG. A flag goes before the environment, the environment before the file, the file before the default.

File: $NERDCTL_TOML, else /etc/nerdctl/nerdctl.toml (as a user $XDG_CONFIG_HOME/nerdctl/nerdctl.toml), the file of nerdctl.";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_the_old_nerdctld_are_understood() {
        let cli = Cli::parse_from([
            "nerdctld",
            "--addr",
            "unix:///a.sock",
            "--addr=fd://",
            "--socket",
            "/b.sock",
            "--debug",
        ]);
        assert_eq!(cli.addr, ["unix:///a.sock", "fd://"]);
        assert_eq!(cli.socket, Some(PathBuf::from("/b.sock")));
        assert!(cli.debug);
        assert_eq!(cli.command, None);
        assert_eq!(cli.dial_address().as_deref(), Some("unix:///a.sock"));
    }

    #[test]
    fn dial_stdio_has_two_names() {
        let command = |words: &[&str]| Cli::parse_from([&["nerdctld"], words].concat()).command;
        assert_eq!(command(&["dial-stdio"]), Some(Command::DialStdio));
        let system = Some(Command::System(SystemCommand::DialStdio));
        assert_eq!(command(&["--addr", "unix:///a.sock", "system", "dial-stdio"]), system);
    }
}
