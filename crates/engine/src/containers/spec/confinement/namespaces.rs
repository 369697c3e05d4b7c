//! Which of the kernel's namespaces are the container's own.
//!
//! Source: moby `api/types/container/hostconfig.go`.

use std::str::FromStr;

/// The namespaces but for the network, which has a mode of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Processes.
    pub pid: PidMode,
    /// Shared memory, semaphores and message queues.
    pub ipc: IpcMode,
    /// Host and domain name are the host's.
    pub host_uts: bool,
    /// Control groups; the daemon's default otherwise.
    pub cgroup: Option<CgroupnsMode>,
}

/// Whose processes it sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PidMode {
    /// Its own only.
    #[default]
    Private,
    /// All of the host.
    Host,
    /// Those of another container: as typed, and its id once it has been found.
    Container(String),
}

/// Whose shared memory it sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IpcMode {
    /// Its own only.
    #[default]
    Private,
    /// Its own, which others can join.
    Shareable,
    /// Its own, without `/dev/shm`.
    None,
    /// The host's.
    Host,
    /// That of another container: as typed, and its id once it has been found.
    Container(String),
}

/// What it sees of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupnsMode {
    /// Its own as the root.
    Private,
    /// All of them.
    Host,
}

/// A mode that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} mode: {given}")]
pub struct InvalidMode {
    what: &'static str,
    given: String,
}

impl FromStr for PidMode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => match text.strip_prefix("container:") {
                Some(container) if !container.is_empty() => {
                    Ok(Self::Container(container.to_owned()))
                }
                _ => Err(InvalidMode { what: "PID", given: text.to_owned() }),
            },
        }
    }
}

impl FromStr for IpcMode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" | "private" => Ok(Self::Private),
            "shareable" => Ok(Self::Shareable),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            _ => match text.strip_prefix("container:") {
                Some(container) => Ok(Self::Container(container.to_owned())),
                None => Err(InvalidMode { what: "IPC", given: text.to_owned() }),
            },
        }
    }
}

impl FromStr for CgroupnsMode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => Err(InvalidMode { what: "cgroup namespace", given: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!("".parse(), Ok(PidMode::Private));
        assert_eq!("container:web".parse(), Ok(PidMode::Container("web".into())));
        assert_eq!("shareable".parse(), Ok(IpcMode::Shareable));
        assert_eq!("container:web".parse(), Ok(IpcMode::Container("web".into())));
        assert_eq!("private".parse(), Ok(CgroupnsMode::Private));
    }

    #[test]
    fn what_is_none_is_named() {
        let pid = |text: &str| text.parse::<PidMode>().unwrap_err().to_string();
        assert_eq!(pid("container:"), "invalid PID mode: container:");
        assert_eq!(pid("private"), "invalid PID mode: private");
        assert_eq!("x".parse::<IpcMode>().unwrap_err().to_string(), "invalid IPC mode: x");
        assert_eq!(
            "x".parse::<CgroupnsMode>().unwrap_err().to_string(),
            "invalid cgroup namespace mode: x"
        );
    }
}
