//! The client against a real containerd in a directory of its own.
//!
//! Tests that run at the same time share one containerd, each in a namespace of its own; the last
//! one stops it. `TEST_CONTAINERD=/path/to/containerd` chooses another one than the distribution's
//! (1.7 and 2.x are tested so). What cannot run on a machine is said on stderr as `SKIPPED test: reason`.

#[cfg(test)]
mod live {
    mod containers;
    mod content;
    mod events;
    mod outage;
    mod rig;
    mod snapshots;
    mod tasks;
}
