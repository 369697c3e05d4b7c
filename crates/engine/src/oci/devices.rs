//! Which device nodes the container's cgroup lets it use.
//!
//! The nodes themselves (null, zero, full, random, urandom, tty, console, ptmx) are made by the runtime.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

use super::Built;

/// Character devices, `(major, minor)`; `None` is any minor (containerd `pkg/oci/spec_opts.go`, default unix devices).
const ALLOWED: [(i64, Option<i64>); 9] = [
    (1, Some(3)), // null
    (1, Some(8)), // random
    (1, Some(7)), // full
    (5, Some(0)), // tty
    (1, Some(5)), // zero
    (1, Some(9)), // urandom
    (5, Some(1)), // console
    (136, None),  // pseudo terminals
    (5, Some(2)), // ptmx
];

/// Nothing, and then what every container needs.
pub(super) fn rules() -> Built<Vec<LinuxDeviceCgroup>> {
    let nothing = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build();
    std::iter::once(nothing).chain(ALLOWED.map(allow)).collect()
}

fn allow((major, minor): (i64, Option<i64>)) -> Built<LinuxDeviceCgroup> {
    let rule = LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .typ(LinuxDeviceType::C)
        .major(major)
        .access("rwm");
    match minor {
        Some(minor) => rule.minor(minor).build(),
        None => rule.build(),
    }
}
