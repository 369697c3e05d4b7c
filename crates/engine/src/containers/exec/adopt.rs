//! Execs of a dead daemon: their processes go on, and nobody reads what they write.
//!
//! Nobody can ask for them any more, since their ids were in that daemon's memory. What is left to do is what happens to
//! every exec whose client has gone: its output is thrown away so that it does not stand still, and when it has ended, it
//! is taken off containerd.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd::tasks::TaskStatus;
use futures_util::StreamExt as _;
use names::{ContainerId, ExecId};
use tokio::sync::watch;

use super::Stage;
use super::pipes::{ExecDir, Pipes};
use crate::{Engine, Error, Result};

/// Directories that are looked at at the same time.
const AT_ONCE: usize = 8;

/// How long a shim may take to tell of a process. One that hangs must not hold up the rest of the repair.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Find what an earlier daemon left, and mind it to its end. Gives how many there were.
    ///
    /// # Errors
    /// [`Error::Failed`] if the directories cannot be listed.
    pub(crate) async fn adopt_execs(&self) -> Result<usize> {
        let parent = self.exec_dirs();
        let found = list(&parent)
            .map_err(|error| Error::failed(format!("list {}", parent.display()), error))?;
        let adopted = futures_util::stream::iter(found)
            .map(|(path, container, exec)| self.adopt_exec(path, container, exec))
            .buffer_unordered(AT_ONCE);
        Ok(adopted.filter(|adopted| std::future::ready(*adopted)).count().await)
    }

    /// `false`: another daemon has it, or containerd does not say what became of it.
    async fn adopt_exec(&self, path: PathBuf, container: ContainerId, exec: ExecId) -> bool {
        let dir = match ExecDir::claim(&path) {
            Ok(Some(dir)) => dir,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what an exec left cannot be opened");
                return false;
            }
        };
        // Before the question: a shim that is starting the process waits for readers, and answers nothing until then.
        let pipes = dir.reopen();
        let question = self.containerd().get_exec(container.as_str(), exec.as_str());
        let process = tokio::time::timeout(PATIENCE, question).await;
        let process = match process {
            Ok(Ok(process)) => process,
            Err(_) => {
                // As for a terminal: that its input is left alone is right for both.
                let minded = self.clone().mind_orphan(container, exec, true, pipes, dir);
                self.supervisor().spawn(minded);
                return true;
            }
            Ok(Err(error)) if error.is_not_found() => {
                dir.remove();
                return true;
            }
            Ok(Err(error)) => {
                tracing::warn!(exec = exec.as_str(), %error, "containerd does not tell of an exec; the next start tries again");
                return false;
            }
        };
        let engine = self.clone();
        if matches!(process.status, TaskStatus::Running | TaskStatus::Paused | TaskStatus::Pausing)
        {
            self.supervisor().spawn(engine.mind_orphan(
                container,
                exec,
                process.terminal,
                pipes,
                dir,
            ));
        } else {
            self.supervisor().spawn_operation(engine.forget_exec(container, exec, dir));
        }
        true
    }

    async fn mind_orphan(
        self,
        container: ContainerId,
        exec: ExecId,
        tty: bool,
        pipes: io::Result<Pipes>,
        dir: ExecDir,
    ) {
        let (stage, stages) = watch::channel(Stage::Running { pid: 0 });
        let ended = async {
            let code = self.clone().exit_of_exec(container.clone(), exec.clone()).await.status;
            stage.send_replace(Stage::Ended { pid: 0, code });
        };
        match pipes {
            Ok(pipes) => {
                tokio::join!(ended, self.throw_away(&container, &exec, tty, pipes, stages));
            }
            Err(error) => {
                tracing::warn!(exec = exec.as_str(), %error, "the output of an exec cannot be opened");
                ended.await;
            }
        }
        self.supervisor().spawn_operation(self.clone().forget_exec(container, exec, dir));
    }
}

/// Directories and what their names say.
fn list(parent: &Path) -> io::Result<Vec<(PathBuf, ContainerId, ExecId)>> {
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // Neither id has a dot at its end; ours have none at all.
            let (container, exec) = name.rsplit_once('.')?;
            Some((entry.path(), container.parse().ok()?, exec.parse().ok()?))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_container_and_exec() {
        let temp = tempfile::tempdir().unwrap();
        let exec = ExecId::from_random([1; 32]);
        for name in [&format!("web.1.{exec}"), "nonsense", "a.b/"] {
            std::fs::create_dir(temp.path().join(name)).unwrap();
        }
        let mut found = list(temp.path()).unwrap();
        found.sort();
        let found: Vec<_> =
            found.iter().map(|(_, container, exec)| (container.as_str(), exec.as_str())).collect();
        assert_eq!(found, [("a", "b"), ("web.1", exec.as_str())]);
        assert!(list(&temp.path().join("none")).unwrap().is_empty());
    }
}
