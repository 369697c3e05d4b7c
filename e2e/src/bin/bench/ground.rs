//! What every side of the comparison stands on: a sandbox of its own with registries and the same containerd.

use std::path::PathBuf;
use std::time::Duration;

use e2e::host::{ContainerdVersion, Engine, Plan};
use e2e::sandbox::{Process, until};
use e2e::{Context, Host, Result, Sandbox, peers};

/// A machine in miniature with a running containerd that logs no more than in production.
#[derive(Debug)]
pub(crate) struct Ground {
    // Dropped before the sandbox.
    _containerd: Process,
    host: Host,
}

impl Ground {
    /// Starts it. The daemon is started by the side itself.
    ///
    /// # Errors
    /// When something does not start; with its log.
    pub(crate) fn new(engine: Engine) -> Result<Self> {
        let own_containerd = engine == Engine::Dockerd;
        let host = Host::without_daemon(Plan {
            engine,
            containerd: ContainerdVersion::V2,
            kubernetes: false,
            binary: std::env::var_os("NERDCTLD").map(PathBuf::from),
            arguments: Vec::new(),
            // The rig starts our daemon with --debug, which this overrules.
            environment: vec![("RUST_LOG".into(), "info".into())],
        })?;
        if own_containerd {
            // The rig lets dockerd start one; here both daemons find it running.
            host.start_containerd()?;
        }
        host.kill_containerd()?;
        let mut command = host.command(peers::program("containerd-2", "containerd")?)?;
        // The rig's configuration, but for the log of a search for bugs.
        command.args(["--log-level", "warn", "--config"]).arg(host.root()?.join("containerd.toml"));
        let containerd = host.sandbox()?.spawn("containerd", command)?;
        until(Duration::from_secs(60), "containerd's first answer", || {
            host.ctr(&["version"]).is_ok()
        })
        .with_context(|| host.logs_since(&[]))?;
        Ok(Self { _containerd: containerd, host })
    }

    /// The machine.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Its namespaces.
    ///
    /// # Errors
    /// Never: the host has them.
    pub(crate) fn sandbox(&self) -> Result<&Sandbox> {
        self.host.sandbox()
    }

    /// First lines of what containerd and runc say of themselves.
    ///
    /// # Errors
    /// When they cannot be run.
    pub(crate) fn versions(&self) -> Result<[String; 2]> {
        let first = |program: &str| -> Result<String> {
            let text = self.sandbox()?.run(self.host.command(program)?.arg("--version"))?;
            Ok(text.lines().next().unwrap_or_default().to_owned())
        };
        Ok([first("containerd")?, first("runc")?])
    }
}
