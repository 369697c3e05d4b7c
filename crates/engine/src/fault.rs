//! Places where a test ends the daemon, as a kill at the worst moment would, or holds it. In debug builds only.
//!
//! `NERDCTLD_ABORT_AT=start.task` aborts the process when it comes by [`reached`]`("start.task")`: after the step of that
//! name and before the next one. `NERDCTLD_HOLD_IN=FOLDER` holds whoever comes by a place of which the folder has a file:
//! he makes a second file `start.task.here`, and goes on when somebody has taken it away. The variables are read once. In a
//! release build nothing of this exists.

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
    "pull.lease",
    "pull.index",
    "pull.config",
    "pull.layer",
    "pull.unpacked",
    "pull.manifest",
    "pull.image",
    "unpack.prepared",
    "unpack.applied",
    "unpack.committed",
    "push.lease",
    "push.planned",
    "push.blob",
    "push.manifest",
    "save.lease",
    "save.image",
    "save.blob",
    "load.lease",
    "load.blob",
    "load.read",
    "load.checked",
    "load.unpacked",
    "load.named",
    "import.lease",
    "import.read",
    "import.layer",
    "make.layer",
    "make.config",
    "make.manifest",
    "make.image",
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
    use std::path::PathBuf;
    use std::sync::LazyLock;

    static ABORT_AT: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("NERDCTLD_ABORT_AT").ok());
    static HOLD_IN: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("NERDCTLD_HOLD_IN").map(PathBuf::from));
    debug_assert!(PLACES.contains(&name), "{name} is missing in the list");
    if ABORT_AT.as_deref() == Some(name) {
        tracing::error!(place = name, "ended here, as a test asked");
        std::process::abort();
    }
    let Some(folder) = HOLD_IN.as_deref().filter(|folder| folder.join(name).exists()) else {
        return;
    };
    let here = folder.join(format!("{name}.here"));
    let held = std::fs::write(&here, "");
    tracing::error!(place = name, ?held, "held here, as a test asked");
    while here.exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// The daemon comes by the place `name`: nothing happens in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reached(_name: &'static str) {}
