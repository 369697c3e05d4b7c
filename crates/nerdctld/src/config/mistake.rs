//! What can be wrong in the configuration, in sentences that say what to write instead.

/// One thing that is wrong in the configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A listener of a kind that does not exist, or not yet.
    #[error("{origin}: cannot listen on {value:?}: {reason}")]
    Listen {
        /// The flag.
        origin: &'static str,
        /// As typed.
        value: String,
        /// What is wrong, and what to write instead.
        reason: &'static str,
    },
    /// A path that depends on where the daemon was started.
    #[error("{origin}: {value:?} must be an absolute path")]
    RelativePath {
        /// Flag, variable or key.
        origin: String,
        /// As given.
        value: String,
    },
    /// containerd's address is something else than a Unix socket.
    #[error(
        "{origin}: {value:?} must be the absolute path of containerd's socket, with or without unix://, or \"managed\""
    )]
    Containerd {
        /// Flag, variable or key.
        origin: String,
        /// As given.
        value: String,
    },
    /// A value with rules of its own.
    #[error("{origin}: {value:?}: {reason}")]
    Invalid {
        /// Flag, variable or key.
        origin: String,
        /// As given.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody in `/etc/group` has that name.
    #[error("--group: there is no group {0:?}")]
    NoSuchGroup(String),
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    UnreadableFile {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The file is no TOML, or a key we know has another type.
    #[error("{path}: {reason}")]
    BadFile {
        /// Which.
        path: String,
        /// The parser's words.
        reason: String,
    },
    /// As a user, without the variable that says where sockets go.
    #[error(
        "XDG_RUNTIME_DIR is not set, so there is no place for a user's sockets: set it, or run as root"
    )]
    NoRuntimeDir,
    /// Certificates are given, and nothing would use them.
    #[error(
        "--tlscacert, --tlscert and --tlskey need --tlsverify (or --tls, which asks clients for nothing)"
    )]
    TlsIsOff,
    /// As a user, without a home.
    #[error("neither HOME nor {0} is set: set one, or pass --data-root and --config")]
    NoHome(&'static str),
}

/// Everything that is wrong, one line each.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has mistakes:{}", lines(.0))]
pub(crate) struct Mistakes(pub(crate) Vec<Mistake>);

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect()
}
