//! Images against a real containerd, and a registry whose content and faults each test chooses.
//!
//! `TEST_CONTAINERD=/path/to/containerd` chooses another containerd than the distribution's (1.7 and 2.x
//! are tested so). What cannot run on a machine is said on stderr as `SKIPPED test: reason`.

#[cfg(test)]
mod images {
    mod content;
    mod create;
    mod list;
    mod pull;
    mod registry;
    mod remove;
    mod rig;
}
