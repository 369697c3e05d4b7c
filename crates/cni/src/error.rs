//! The ways in which CNI can fail.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Result of everything here.
pub type Result<T> = std::result::Result<T, CniError>;

/// A failed operation on networks.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// A system call failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file is no network configuration.
    #[error("{} is not a CNI configuration", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Where decoding stopped.
        source: serde_json::Error,
    },

    /// A network configuration lacks something.
    #[error("CNI configuration {} {lack}", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is missing, as the end of a sentence.
        lack: &'static str,
    },

    /// A network without plugins cannot be attached to.
    #[error("network {network} has no plugins")]
    NoPlugins {
        /// The network.
        network: String,
    },

    /// A plugin is not installed.
    #[error("CNI plugin {plugin:?} is not in {}", list(searched))]
    NoSuchPlugin {
        /// The plugin.
        plugin: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },

    /// A plugin could not be started, fed or read.
    #[error("CNI plugin {plugin:?} could not be run ({command})")]
    NotRun {
        /// The plugin.
        plugin: String,
        /// `ADD`, `DEL` or `CHECK`.
        command: &'static str,
        /// What the system said.
        source: io::Error,
    },

    /// A plugin did not end in time and was killed.
    #[error("CNI plugin {plugin:?} took longer than {} s ({command})", deadline.as_secs())]
    TimedOut {
        /// The plugin.
        plugin: String,
        /// `ADD`, `DEL` or `CHECK`.
        command: &'static str,
        /// How long it had.
        deadline: Duration,
    },

    /// A plugin said no.
    #[error("CNI plugin {plugin:?} failed ({command}): {message}")]
    Refused {
        /// The plugin.
        plugin: String,
        /// `ADD`, `DEL` or `CHECK`.
        command: &'static str,
        /// Error code of the CNI specification; 0 if the plugin gave none.
        code: u32,
        /// What it said.
        message: String,
    },

    /// A plugin succeeded, but what it printed is no result.
    #[error("CNI plugin {plugin:?} printed no result")]
    BadResult {
        /// The plugin, or the network for the result of them all.
        plugin: String,
        /// Where decoding stopped.
        source: serde_json::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

/// Adds operation and path to an I/O result.
pub(crate) trait IoContext<T> {
    /// Says that the failure happened while `doing` something to `path`.
    fn during(self, doing: &'static str, path: &std::path::Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, doing: &'static str, path: &std::path::Path) -> Result<T> {
        self.map_err(|source| CniError::Io { doing, path: path.to_owned(), source })
    }
}
