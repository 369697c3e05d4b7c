//! The hook protocol: what specs say to the hook mode of our binary.
//!
//! **Frozen.** The arguments are written into OCI specs, where they stay for years, and the helper they name is
//! replaced by newer ones meanwhile. So arguments may be added, never changed or removed, and a hook ignores flags
//! that it does not know. The form is
//!
//! ```text
//! <helper> oci-hook --data-store=<path> --cni-path=<path> --cni-netconfpath=<path> [--bridge-ip=<cidr>] <event>
//! ```
//!
//! with the event last: `createRuntime` or `postStop`. The runtime's state arrives on stdin; who the container is
//! stands in the annotations `nerdctl/*`. Everything the hook must know is in its arguments, because it has to work
//! without a daemon and with a configuration that has changed since. (nerdctl's own hook reads its configuration
//! anew and can act on another store. Source: nerdctl `pkg/cmd/container/create.go`, `pkg/ocihook`.)

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{NetworkingError, Result};

/// The first argument, by which our binary knows its mode.
pub const SUBCOMMAND: &str = "oci-hook";

/// Variables that the hook inherits. Not the daemon's whole environment, which may hold secrets and would be readable
/// by all who can inspect the spec.
const INHERITED: [&str; 5] = [
    "PATH",
    "XDG_RUNTIME_DIR",
    "ROOTLESSKIT_STATE_DIR",
    "ROOTLESSKIT_PARENT_EUID",
    "ROOTLESSKIT_PARENT_EGID",
];

const DATA_STORE: &str = "--data-store";
const CNI_PATH: &str = "--cni-path";
const CNI_NETCONFPATH: &str = "--cni-netconfpath";
const BRIDGE_IP: &str = "--bridge-ip";

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookEvent {
    /// The namespaces exist, the container's program has not started: inside of the task's creation.
    CreateRuntime,
    /// The container is gone: inside of the task's deletion, not at the exit of the process.
    PostStop,
}

impl HookEvent {
    /// As in the arguments, and in the name of the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateRuntime => "createRuntime",
            Self::PostStop => "postStop",
        }
    }
}

impl fmt::Display for HookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a hook must know: everything but the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// `<data root>/<hash8>`.
    pub data_store: PathBuf,
    /// Folder of the CNI plugins.
    pub cni_path: PathBuf,
    /// Folder of the conflists.
    pub cni_netconf_path: PathBuf,
    /// Address of the default bridge, if configured.
    pub bridge_ip: Option<String>,
}

/// One hook as it stands in an OCI spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCommand {
    /// The program, absolute.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its whole environment, `KEY=value`.
    pub env: Vec<String>,
}

impl HookSettings {
    /// The hook to write into a spec. `helper` is the copy of our binary that outlives the daemon; `environment` is
    /// the daemon's, of which little is taken.
    ///
    /// # Errors
    /// [`NetworkingError::NotUtf8`].
    pub fn command(
        &self,
        helper: &Path,
        event: HookEvent,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<HookCommand> {
        let mut args = vec![
            utf8(helper)?.to_owned(),
            SUBCOMMAND.to_owned(),
            flag(DATA_STORE, utf8(&self.data_store)?),
            flag(CNI_PATH, utf8(&self.cni_path)?),
            flag(CNI_NETCONFPATH, utf8(&self.cni_netconf_path)?),
        ];
        args.extend(self.bridge_ip.as_deref().map(|address| flag(BRIDGE_IP, address)));
        args.push(event.to_string());
        Ok(HookCommand { path: helper.to_owned(), args, env: inherited(environment) })
    }

    /// Decodes the arguments behind [`SUBCOMMAND`]; the opposite of [`Self::command`].
    ///
    /// # Errors
    /// [`HookUsage`], for the log of the runtime.
    pub fn parse(args: &[OsString]) -> std::result::Result<(Self, HookEvent), HookUsage> {
        let Some((event, flags)) = args.split_last() else { return Err(HookUsage::NoEvent) };
        let event = match event.to_str() {
            Some("createRuntime") => HookEvent::CreateRuntime,
            Some("postStop") => HookEvent::PostStop,
            _ => {
                return Err(HookUsage::UnknownEvent {
                    event: event.to_string_lossy().into_owned(),
                });
            }
        };
        let get = |name: &str| {
            flags.iter().find_map(|flag| flag.to_str()?.strip_prefix(name)?.strip_prefix('='))
        };
        let path = |name: &'static str| match get(name) {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => Err(HookUsage::MissingFlag { flag: name }),
        };
        let settings = Self {
            data_store: path(DATA_STORE)?,
            cni_path: path(CNI_PATH)?,
            cni_netconf_path: path(CNI_NETCONFPATH)?,
            bridge_ip: get(BRIDGE_IP).map(str::to_owned),
        };
        Ok((settings, event))
    }
}

/// What is wrong with a hook's arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookUsage {
    /// There are no arguments.
    #[error("the event is missing")]
    NoEvent,
    /// The last argument is no event of ours.
    #[error("unexpected event {event:?}")]
    UnknownEvent {
        /// What was given.
        event: String,
    },
    /// A flag without which the hook cannot work.
    #[error("{flag} is missing")]
    MissingFlag {
        /// The flag.
        flag: &'static str,
    },
}

fn flag(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| NetworkingError::NotUtf8 { path: path.to_owned() })
}

/// A hook's environment: plugins need iptables, which a daemon's PATH may not have.
fn inherited(environment: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let mut kept: Vec<(String, String)> =
        environment.into_iter().filter(|(key, _)| INHERITED.contains(&key.as_str())).collect();
    kept.sort();
    let path = kept.iter().position(|(key, _)| key == "PATH").map(|at| kept.remove(at).1);
    let path = path.unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/bin:/bin".to_owned());
    kept.push(("PATH".to_owned(), format!("{path}:/usr/sbin:/sbin")));
    kept.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> HookSettings {
        HookSettings {
            data_store: "/var/lib/nerdctl/1935db59".into(),
            cni_path: "/opt/cni/bin".into(),
            cni_netconf_path: "/etc/cni/net.d".into(),
            bridge_ip: None,
        }
    }

    fn environment() -> Vec<(String, String)> {
        [("PATH", "/usr/bin:/bin"), ("SECRET", "x"), ("XDG_RUNTIME_DIR", "/run/user/0")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// These lines are in specs on users' hosts. If this test fails, the change is wrong, not the test.
    #[test]
    fn the_protocol_is_frozen() {
        let command = settings()
            .command(
                Path::new("/var/lib/nerdctl/bin/nerdctld"),
                HookEvent::CreateRuntime,
                environment(),
            )
            .unwrap();
        assert_eq!(
            command,
            HookCommand {
                path: "/var/lib/nerdctl/bin/nerdctld".into(),
                args: [
                    "/var/lib/nerdctl/bin/nerdctld",
                    "oci-hook",
                    "--data-store=/var/lib/nerdctl/1935db59",
                    "--cni-path=/opt/cni/bin",
                    "--cni-netconfpath=/etc/cni/net.d",
                    "createRuntime",
                ]
                .map(str::to_owned)
                .into(),
                env: vec![
                    "XDG_RUNTIME_DIR=/run/user/0".to_owned(),
                    "PATH=/usr/bin:/bin:/usr/sbin:/sbin".to_owned()
                ],
            }
        );
        let mut with_bridge = settings();
        with_bridge.bridge_ip = Some("10.9.0.1/24".into());
        let args = with_bridge.command(Path::new("/h"), HookEvent::PostStop, []).unwrap().args;
        assert_eq!(args[5..], ["--bridge-ip=10.9.0.1/24", "postStop"]);
    }

    #[test]
    fn what_is_written_is_understood() {
        for event in [HookEvent::CreateRuntime, HookEvent::PostStop] {
            for bridge_ip in [None, Some("10.9.0.1/24".to_owned())] {
                let written = HookSettings { bridge_ip, ..settings() };
                let args = written.command(Path::new("/h"), event, environment()).unwrap().args;
                let args: Vec<OsString> = args[2..].iter().map(OsString::from).collect();
                assert_eq!(HookSettings::parse(&args), Ok((written, event)));
            }
        }
    }

    #[test]
    fn flags_of_newer_releases_are_ignored() {
        let args: Vec<OsString> = [
            "--cni-netconfpath=/n",
            "--new=1",
            "--data-store=/d",
            "--also-new",
            "--cni-path=/c",
            "postStop",
        ]
        .map(OsString::from)
        .into();
        let (parsed, event) = HookSettings::parse(&args).unwrap();
        assert_eq!((parsed.data_store.as_path(), event), (Path::new("/d"), HookEvent::PostStop));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let parse = |args: &[&str]| {
            HookSettings::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
        };
        assert_eq!(parse(&[]), Err(HookUsage::NoEvent));
        assert_eq!(parse(&["prestart"]), Err(HookUsage::UnknownEvent { event: "prestart".into() }));
        assert_eq!(
            parse(&["--data-store=/d", "--cni-path=", "postStop"]),
            Err(HookUsage::MissingFlag { flag: "--cni-path" })
        );
    }
}
