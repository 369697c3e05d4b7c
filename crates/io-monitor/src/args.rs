//! The two command lines of a monitor. Both are frozen: a helper binary that was upgraded is started with old ones.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::{BINARY_KEY, MODE};

/// How this monitor was started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By the daemon, for FIFOs.
    Fifos(FifoMode),
    /// By containerd's shim, with pipes as descriptors 3, 4 and 5.
    Binary(BinaryMode),
}

/// `nerdctld io-monitor --container ID --fifos DIR --state DIR --socket PATH [--tty] [--started]`
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FifoMode {
    pub(crate) container: String,
    pub(crate) fifo_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) tty: bool,
    pub(crate) started: bool,
}

/// `nerdctld _NERDCTLD_IO_MONITOR DATA_STORE`, `CONTAINER_ID` and `CONTAINER_NAMESPACE` in the environment
/// (containerd `core/runtime/v2/logging`).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BinaryMode {
    pub(crate) container: String,
    pub(crate) namespace: String,
    pub(crate) data_store: PathBuf,
}

impl BinaryMode {
    /// nerdctl's state directory of the container.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.data_store.join("containers").join(&self.namespace).join(&self.container)
    }
}

/// Parse a whole command line, program included; the binary form also reads the environment.
pub(crate) fn parse(args: &[OsString]) -> Result<Mode, String> {
    match args.get(1) {
        Some(mode) if mode == MODE => {
            parse_fifos(args.get(2..).unwrap_or_default()).map(Mode::Fifos)
        }
        Some(mode) if mode == BINARY_KEY => {
            parse_binary(args.get(2), |key| std::env::var(key).ok()).map(Mode::Binary)
        }
        _ => Err(format!("neither {MODE} nor {BINARY_KEY}")),
    }
}

fn parse_fifos(args: &[OsString]) -> Result<FifoMode, String> {
    let mut mode = FifoMode::default();
    let mut rest = args.iter();
    while let Some(flag) = rest.next() {
        let mut value = || {
            rest.next().cloned().ok_or_else(|| format!("{} needs a value", flag.to_string_lossy()))
        };
        match flag.to_str() {
            Some("--container") => mode.container = component(&value()?, "--container")?,
            Some("--fifos") => mode.fifo_dir = value()?.into(),
            Some("--state") => mode.state_dir = value()?.into(),
            Some("--socket") => mode.socket = value()?.into(),
            Some("--tty") => mode.tty = true,
            Some("--started") => mode.started = true,
            _ => return Err(format!("unknown argument {}", flag.to_string_lossy())),
        }
    }
    let absolute =
        [&mode.fifo_dir, &mode.state_dir, &mode.socket].into_iter().all(|path| path.is_absolute());
    if mode.container.is_empty() || !absolute {
        return Err(
            "--container, --fifos, --state and --socket are needed, with absolute paths".into()
        );
    }
    Ok(mode)
}

fn parse_binary(
    data_store: Option<&OsString>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<BinaryMode, String> {
    let data_store = data_store.map(PathBuf::from).filter(|path| path.is_absolute());
    let variable = |key: &str| component(OsStr::new(&env(key).unwrap_or_default()), key);
    Ok(BinaryMode {
        container: variable("CONTAINER_ID")?,
        namespace: variable("CONTAINER_NAMESPACE")?,
        data_store: data_store.ok_or("the data store must be an absolute path")?,
    })
}

/// A text that becomes one component of a path.
fn component(text: &OsStr, what: &str) -> Result<String, String> {
    match text.to_str() {
        Some(name)
            if !name.is_empty()
                && name.len() < 256
                && !name.contains('/')
                && name != "."
                && name != ".." =>
        {
            Ok(name.to_owned())
        }
        _ => Err(format!("{what} is no name of a container or namespace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_daemons_command_line() {
        let all =
            "nerdctld io-monitor --container c1 --fifos /f --state /s --socket /k --tty --started";
        let expected = FifoMode {
            container: "c1".into(),
            fifo_dir: "/f".into(),
            state_dir: "/s".into(),
            socket: "/k".into(),
            tty: true,
            started: true,
        };
        assert_eq!(parse(&line(all)), Ok(Mode::Fifos(expected)));
        for bad in [
            "nerdctld",
            "nerdctld serve",
            "nerdctld io-monitor",
            "nerdctld io-monitor --container",
            "nerdctld io-monitor --container c1 --fifos f --state /s --socket /k",
            "nerdctld io-monitor --container ../c1 --fifos /f --state /s --socket /k",
            "nerdctld io-monitor --container c1 --fifos /f --state /s --socket /k --what",
        ] {
            assert!(parse(&line(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_shims_command_line() {
        let env = |key: &str| match key {
            "CONTAINER_ID" => Some("c1".to_owned()),
            "CONTAINER_NAMESPACE" => Some("default".to_owned()),
            _ => None,
        };
        let mode = parse_binary(Some(&"/var/lib/nerdctl/1935db59".into()), env).unwrap();
        assert_eq!(
            mode.state_dir(),
            PathBuf::from("/var/lib/nerdctl/1935db59/containers/default/c1")
        );
        assert!(parse_binary(None, env).is_err());
        assert!(parse_binary(Some(&"relative".into()), env).is_err());
        assert!(parse_binary(Some(&"/d".into()), |_| None).is_err());
        assert!(parse_binary(Some(&"/d".into()), |_| Some("..".into())).is_err());
    }
}
