//! Places where a test ends the daemon, as a kill at the worst moment would. In debug builds only.
//!
//! `NERDCTLD_ABORT_AT=start.task` aborts the process when it comes by [`reached`]`("start.task")`: after the step of that
//! name and before the next one. The variable is read once. In a release build nothing of this exists.

/// All the places, in the order in which the life of a container comes by.
#[cfg(debug_assertions)]
pub const PLACES: &[&str] = &[
    "create.planned",
    "create.record",
    "create.name",
    "create.volume",
    "create.network",
    "create.root",
    "create.parts",
    "create.ready",
    "start.monitor",
    "start.task",
    "start.process",
    "start.armed",
    "exec.streams",
    "exec.process",
    "exec.started",
    "exec.ended",
    "exec.deleted",
    "commit.lease",
    "commit.paused",
    "commit.layer",
    "commit.resumed",
    "commit.image",
    "stop.wanted",
    "stop.signalled",
    "exit.recorded",
    "exit.told",
    "remove.marked",
    "remove.killed",
    "remove.task",
    "remove.networks",
    "remove.snapshot",
    "remove.name",
    "remove.record",
];

/// The daemon comes by the place `name`.
#[cfg(debug_assertions)]
pub fn reached(name: &'static str) {
    use std::sync::OnceLock;

    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    debug_assert!(PLACES.contains(&name), "{name} is missing in the list");
    let wanted = WANTED.get_or_init(|| std::env::var("NERDCTLD_ABORT_AT").ok());
    if wanted.as_deref() == Some(name) {
        tracing::error!(place = name, "ended here, as a test asked");
        std::process::abort();
    }
}

/// The daemon comes by the place `name`: nothing happens in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reached(_name: &'static str) {}
