//! Creating containers with a real containerd: what is there afterwards, that runc takes it, and that nothing is left
//! of a creation that failed or was cut off in the middle.
//!
//! `TEST_CONTAINERD=/path/to/containerd` chooses another containerd than the distribution's. What cannot run on a
//! machine is said on stderr as `SKIPPED test: reason`.

#[cfg(test)]
mod creation {
    mod containers;
    mod rig;
}
