//! How much of the disk a volume takes.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of all files in a directory, each counted once (moby `daemon/internal/directory`). What cannot be read counts
/// nothing. Dropping the future ends the walk.
pub(crate) async fn size_of(directory: PathBuf) -> u64 {
    let stop = Stop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    let walk = move || walk(&directory, &stopped);
    tokio::task::spawn_blocking(walk).await.unwrap_or(0)
}

/// Stops a walk when it is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn walk(directory: &Path, stopped: &AtomicBool) -> u64 {
    let mut pending = vec![directory.to_owned()];
    let mut counted = HashSet::new();
    let mut bytes: u64 = 0;
    while let Some(directory) = pending.pop() {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.nlink() == 1 || counted.insert((metadata.dev(), metadata.ino())) {
                bytes = bytes.saturating_add(metadata.len());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_two_names_are_counted_once() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("d")).unwrap();
        std::fs::write(temp.path().join("d/a"), [0; 100]).unwrap();
        std::fs::hard_link(temp.path().join("d/a"), temp.path().join("b")).unwrap();
        std::fs::write(temp.path().join("c"), [0; 20]).unwrap();
        let go_on = AtomicBool::new(false);
        assert_eq!(walk(temp.path(), &go_on), 120);
        assert_eq!(walk(&temp.path().join("nothing"), &go_on), 0);
        assert_eq!(walk(temp.path(), &AtomicBool::new(true)), 0, "it is stopped");
    }
}
