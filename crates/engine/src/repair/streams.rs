//! Sockets and FIFOs of runs that are over: of containers that nerdctl removed while no daemon ran, and of starts that
//! never came to a process.

use std::collections::HashSet;
use std::path::Path;

use names::ContainerId;

use crate::containers::Owner;
use crate::{Engine, Result};

/// What the monitors of our containers and their health checks have there (`containers/streams.rs`).
const KINDS: [&str; 4] = ["sock", "fifos", "run", "probe"];

impl Engine {
    /// Remove them. The folder serves all namespaces of this containerd, so the containers of all of them count.
    pub(super) async fn remove_old_streams(&self) -> Result<usize> {
        if !self.presence().is_alone() {
            // A start of the other daemon makes them before it can be told from one that came to nothing.
            return Ok(0);
        }
        let there = stems(&io_monitor::runtime_dir(self.store().path()));
        if there.is_empty() {
            return Ok(0);
        }
        let known = self.ids_of_all_namespaces().await?;
        let running = self.running_streams();
        let mut count = 0;
        for stem in there {
            let Ok(short) = stem.parse::<ContainerId>() else { continue };
            let ours = self.id_with_stem(&stem);
            if running.contains(&stem) {
                if let Some(id) = &ours {
                    self.hide_fifos_of_running(id);
                }
                continue;
            }
            if ours.is_none() && known.contains(&stem) {
                continue;
            }
            // An operation that has the container now has made them.
            let Some(_guard) = self.locks().try_lock(ours.as_ref().unwrap_or(&short)) else {
                continue;
            };
            // It may have been started since the first look.
            if self.running_streams().contains(&stem) {
                continue;
            }
            self.remove_streams(&short).await;
            count += 1;
        }
        Ok(count)
    }

    async fn ids_of_all_namespaces(&self) -> Result<HashSet<String>> {
        let mut known = HashSet::new();
        let namespaces = self.containerd().list_namespaces().await;
        let namespaces =
            namespaces.map_err(|error| self.containerd_error("list namespaces", error))?;
        for namespace in namespaces {
            let mut records = self
                .containerd()
                .in_namespace(&namespace.name)
                .stream_containers(&[])
                .await
                .map_err(|error| self.containerd_error("list containers", error))?;
            while let Some(record) = records
                .next()
                .await
                .map_err(|error| self.containerd_error("list containers", error))?
            {
                known.extend(record.id.parse().ok().map(|id| self.stem(&id)));
            }
        }
        Ok(known)
    }

    /// Stems of containers of this namespace that run.
    fn running_streams(&self) -> HashSet<String> {
        let now = self.inventory().now();
        let running = now.entries().filter(|entry| entry.container.state.phase.has_process());
        running.map(|entry| self.stem(&entry.container.id)).collect()
    }

    fn id_with_stem(&self, stem: &str) -> Option<ContainerId> {
        let now = self.inventory().now();
        let found = now.entries().find(|entry| {
            entry.container.owner == Owner::Nerdctld && self.stem(&entry.container.id) == stem
        });
        found.map(|entry| entry.container.id.clone())
    }

    /// The beginning of the names of a container's socket and FIFOs.
    fn stem(&self, id: &ContainerId) -> String {
        let socket = self.stream_paths(id).socket;
        socket.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The daemon died between the start of the process and this.
    fn hide_fifos_of_running(&self, id: &ContainerId) {
        let paths = self.stream_paths(id);
        if paths.fresh.exists() && !paths.private.exists() {
            self.hide_fifos(id);
        }
    }
}

fn stems(dir: &Path) -> HashSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let stem = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let (stem, kind) = name.rsplit_once('.')?;
        KINDS.contains(&kind).then(|| stem.to_owned())
    };
    entries.filter_map(stem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_monitors_and_probes_make_counts() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.sock", "a.run", "b.fifos", "c.probe", "default.boot-id", "d"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let expected: HashSet<String> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(stems(dir.path()), expected);
        assert_eq!(stems(&dir.path().join("none")), HashSet::new());
    }
}
