//! The ways in which work on the store can fail.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Result of everything that touches the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A failed operation on nerdctl's files.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried, as a verb: "read", "create".
        doing: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Another process kept a lock longer than we are willing to wait.
    #[error("another process has kept {} locked for more than {} s", path.display(), waited.as_secs())]
    LockHeld {
        /// The locked file or directory.
        path: PathBuf,
        /// How long we waited for it.
        waited: Duration,
    },

    /// A file is there, but does not hold what nerdctl would write into it.
    #[error("{} is not as nerdctl writes it", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where decoding stopped.
        source: serde_json::Error,
    },

    /// A value of ours could not be written as JSON.
    #[error("cannot encode {what}")]
    Encode {
        /// Which document.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },

    /// The name belongs to another container.
    #[error("name {name:?} is already used by ID {owner:?}")]
    NameTaken {
        /// The name that was asked for.
        name: String,
        /// The id of the container that has it.
        owner: String,
    },

    /// A name was to be released or renamed by a container that does not own it.
    #[error("name {name:?} belongs to ID {owner:?}, not to {id:?}")]
    NameOfAnother {
        /// The name.
        name: String,
        /// The container that wanted to give it up.
        id: String,
        /// The container that owns it.
        owner: String,
    },

    /// A name was to be renamed that nobody has.
    #[error("name {name:?} is not in use")]
    NameNotInUse {
        /// The name.
        name: String,
    },

    /// A container has no entry in the hosts store.
    #[error("container {id} has no entry in the hosts store")]
    NoHostsEntry {
        /// The container.
        id: String,
    },
}

impl StoreError {
    /// True if the reason is that a file or directory does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::NameNotInUse { .. } | Self::NoHostsEntry { .. } => true,
            _ => false,
        }
    }
}

/// Adds operation and path to an I/O result.
pub(crate) trait IoContext<T> {
    /// Says that the failure happened while `doing` something to `path`.
    fn during(self, doing: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| StoreError::Io { doing, path: path.to_owned(), source })
    }
}

impl<T> IoContext<T> for rustix::io::Result<T> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T> {
        self.map_err(|errno| StoreError::Io { doing, path: path.to_owned(), source: errno.into() })
    }
}
