//! The processes of a container, as the host's `ps` shows them.
//!
//! Which processes are the container's is read from its control group. So neither containerd nor the shim is asked, and a
//! shim that hangs holds up nobody (dockerd asks its own, moby `daemon/top_unix.go`).

mod own;
mod ps;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use super::{Container, Phase};
use crate::events::translate::container_event;
use crate::waiting::blocking;
use crate::{Engine, Error, Result};

pub use ps::TopError;

/// What `ps` shows where the client says nothing.
const DEFAULT_ARGUMENTS: &str = "-ef";

/// Processes as rows of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessTable {
    /// Titles of the columns.
    pub titles: Vec<String>,
    /// A row for each process; what the last column has too much of blanks is part of it.
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// List its processes. `ps_args` are arguments for `ps`, separated by blanks; `-ef` if empty.
    ///
    /// # Errors
    /// [`Error::Top`] with `ps`'s words; [`Error::NotRunning`], [`Error::IsRestarting`]; as [`Engine::resolve_container`].
    pub async fn container_top(&self, typed: &str, ps_args: &str) -> Result<ProcessTable> {
        let arguments = if ps_args.is_empty() { DEFAULT_ARGUMENTS } else { ps_args };
        ps::check_arguments(arguments).map_err(Error::Top)?;
        let container = self.resolve_container(typed).await?;
        let container = self.up_to_date(container, Phase::has_process).await;
        let id = || container.id.to_string();
        match container.state.phase {
            Phase::Running | Phase::Paused => {}
            Phase::Restarting => return Err(Error::IsRestarting(id())),
            Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => {
                return Err(Error::NotRunning(id()));
            }
        }
        let processes = self.processes(&container).await.ok_or_else(|| Error::NotRunning(id()))?;
        let processes = Arc::new(processes);
        let table = match ps::run(arguments, Arc::clone(&processes)).await {
            // A minimal host has no ps; the usual columns can be had without it.
            Err(TopError::NoPs) if arguments == DEFAULT_ARGUMENTS => {
                blocking("list processes", move || own::table(&processes)).await?
            }
            outcome => outcome.map_err(Error::Top)?,
        };
        self.hub().publish(container_event(&container, "top", &[]));
        Ok(table)
    }

    /// Process ids on the host; `None` if there are none any more.
    async fn processes(&self, container: &Arc<Container>) -> Option<BTreeSet<u32>> {
        let (engine, container) = (self.clone(), Arc::clone(container));
        let found = tokio::task::spawn_blocking(move || {
            let first = engine.first_process(&container)?;
            match engine.hierarchies().group_of(first, container.id.as_str()) {
                Some(group) => group.processes().ok(),
                None => in_namespace_of(first),
            }
        });
        found.await.ok().flatten().filter(|processes| !processes.is_empty())
    }
}

/// Without a control group of its own (rootless, without delegation) a container still has a pid namespace. In the host's it
/// is known by its first process alone.
fn in_namespace_of(first: u32) -> Option<BTreeSet<u32>> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let its_own = namespace(&first.to_string())?;
    if namespace("self").as_ref() == Some(&its_own) {
        return Some([first].into());
    }
    let entries = fs::read_dir("/proc").ok()?.filter_map(std::result::Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter_map(|name| Some((name.parse::<u32>().ok()?, name)));
    Some(
        pids.filter(|(_, name)| namespace(name).as_ref() == Some(&its_own))
            .map(|(pid, _)| pid)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_hosts_pid_namespace_only_the_first_process_is_known() {
        let own = std::process::id();
        assert_eq!(in_namespace_of(own), Some([own].into()));
        assert_eq!(in_namespace_of(u32::MAX), None);
    }
}
