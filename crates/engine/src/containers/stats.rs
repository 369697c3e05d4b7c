//! What a container uses: processors, memory, devices, network.
//!
//! Everything is read from the kernel's files, never through containerd or the shim, so the answer does not depend on
//! either. One sampler for each container that somebody looks at reads once a second, however many look; it begins with the
//! first and ends with the last, or with the container (moby `daemon/stats.go`, `daemon/stats/collector.go`).

mod kernel;
mod sampler;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::watch;

pub use kernel::InterfaceCounters;
pub use sampler::Samplers;

use super::{Container, Phase};
use crate::cgroups::Usage;
use crate::{Engine, Error, Result};
use sampler::Reading;

/// One look at a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub read: Timestamp,
    /// What it has used so far. The memory limit is the host's memory where there is none, or a higher one.
    pub usage: Usage,
    /// Nanoseconds that all processors of the host have worked so far.
    pub system_cpu: u64,
    /// Processors of the host.
    pub online_cpus: u32,
    /// Traffic by interface; empty without a network of its own.
    pub networks: BTreeMap<String, InterfaceCounters>,
}

/// A look at a container, and the look before.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The container as it is now.
    pub container: Arc<Container>,
    /// `None` while it does not run.
    pub now: Option<Arc<Sample>>,
    /// `None` at the first look.
    pub before: Option<Arc<Sample>>,
}

impl Engine {
    /// What a container uses now. `previous` asks for the look before as well, which takes up to two seconds. Of one that
    /// does not run nothing is told.
    ///
    /// # Errors
    /// As [`Engine::resolve_container`].
    pub async fn container_stats_once(&self, typed: &str, previous: bool) -> Result<Stats> {
        let container = self.resolve_container(typed).await?;
        if !container.state.phase.has_process() {
            return Ok(Stats { container, now: None, before: None });
        }
        if !previous {
            let now = self.sample(&container).await.map(Arc::new);
            return Ok(Stats { container, now, before: None });
        }
        let mut looks = Looks::new(self.readings(&container.id));
        looks.next().await;
        looks.next().await.ok_or_else(|| Error::NoSuchContainer(typed.to_owned()))
    }

    /// What a container uses, once a second, also while it does not run; the stream ends with the container.
    ///
    /// # Errors
    /// As [`Engine::resolve_container`].
    pub async fn container_stats(
        &self,
        typed: &str,
    ) -> Result<impl Stream<Item = Stats> + Send + use<>> {
        let container = self.resolve_container(typed).await?;
        let looks = Looks::new(self.readings(&container.id));
        Ok(stream::unfold(looks, |mut looks| async move {
            let look = looks.next().await?;
            Some((look, looks))
        }))
    }

    /// Look at a container; `None` if it does not run (any more).
    async fn sample(&self, container: &Arc<Container>) -> Option<Sample> {
        if !matches!(container.state.phase, Phase::Running | Phase::Paused) {
            return None;
        }
        let (engine, container) = (self.clone(), Arc::clone(container));
        let sample = tokio::task::spawn_blocking(move || {
            let pid = engine.first_process(&container)?;
            let usage = engine.hierarchies().group_of(pid, container.id.as_str());
            let mut usage = usage
                .map_or_else(|| kernel::lives(pid).then(Usage::default), |group| group.usage())?;
            let memory = engine.samplers().memory();
            if memory > 0 {
                usage.memory.limit = usage.memory.limit.min(memory);
            }
            let (system_cpu, online_cpus) = kernel::processors();
            let networks = match container.network_mode.as_str() {
                "host" => BTreeMap::new(),
                _ => kernel::interfaces(pid),
            };
            Some(Sample { read: Timestamp::now(), usage, system_cpu, online_cpus, networks })
        });
        sample.await.ok().flatten()
    }

    /// A container's first process. Where the inventory does not know it, because the shim has been silent since the
    /// daemon started, our hook's note does.
    pub(crate) fn first_process(&self, container: &Container) -> Option<u32> {
        if container.state.pid != 0 {
            return Some(container.state.pid);
        }
        container.state_dir.as_ref()?;
        let state_dir = self.store().state_dir(&self.settings().namespace, &container.id);
        state_dir.lifecycle().ok()?.pid
    }
}

/// What one client has seen.
struct Looks {
    readings: watch::Receiver<Option<Reading>>,
    before: Option<Arc<Sample>>,
}

impl Looks {
    fn new(readings: watch::Receiver<Option<Reading>>) -> Self {
        Self { readings, before: None }
    }

    /// The next look; `None` when the container is gone. What a slow client misses is not made up for.
    async fn next(&mut self) -> Option<Stats> {
        self.readings.changed().await.ok()?;
        let Reading { container, sample } = self.readings.borrow_and_update().clone()?;
        let before = std::mem::replace(&mut self.before, sample.clone());
        Some(Stats { container, now: sample, before })
    }
}
