//! Whether another daemon works on the same containers right now.
//!
//! Each daemon holds a shared lock on one file as long as it lives; the kernel lets go of it however the daemon ends. Who
//! can lock it alone for a moment is the only one: whatever is half made then was made by somebody who is dead.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use names::Namespace;
use rustix::fs::{FlockOperation, flock};

/// The lock, until this is dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    _file: Option<File>,
    alone: bool,
}

impl Presence {
    /// Announce ourselves in `dir`, which no boot leaves. Where that is not possible we count as one of several.
    pub(crate) fn announce(dir: &Path, namespace: &Namespace) -> Self {
        match lock(dir, namespace) {
            Ok((file, alone)) => Self { _file: Some(file), alone },
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "other daemons cannot be told of this one");
                Self { _file: None, alone: false }
            }
        }
    }

    /// Nobody else was there when this one started.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }
}

fn lock(dir: &Path, namespace: &Namespace) -> io::Result<(File, bool)> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("{}.daemons", namespace.as_str()));
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    let alone = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    // The other one holds it exclusively for this moment only.
    flock(&file, FlockOperation::LockShared)?;
    Ok((file, alone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_not_alone_until_the_first_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("run");
        let announce = |namespace: &str| Presence::announce(&dir, &namespace.parse().unwrap());
        let first = announce("default");
        assert!(first.is_alone());
        let second = announce("default");
        assert!(!second.is_alone());
        assert!(announce("other").is_alone());
        drop((first, second));
        assert!(announce("default").is_alone());
    }
}
