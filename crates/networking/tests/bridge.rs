//! Containers on the default bridge, with the real plugins, seen from the kernel and from nerdctl's files.
//!
//! Every test runs in a mount and network namespace of its own, so bridges, rules and leases cannot stay: the test
//! starts its own program again under `unshare`. Containers are network namespaces held open by a sleeping process.
//! What cannot run on a machine is said on stderr as `SKIPPED test: reason`.

#[cfg(test)]
mod bridge {
    mod rig;
    mod runs;
    mod trouble;
}
