//! Which device nodes the container has, and which its cgroup lets it use.
//!
//! The nodes of every container (null, zero, full, random, urandom, tty, console, ptmx) are made by the runtime.

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use super::Built;
use super::lookups::Lookups;
use crate::containers::spec::confinement::Confinement;
use crate::containers::spec::confinement::devices::{DeviceKind, DeviceRule};

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

/// Nodes beyond those of every container.
pub(super) fn nodes(lookups: &Lookups) -> Vec<LinuxDevice> {
    lookups.devices.iter().map(|(device, _)| device.clone()).collect()
}

/// Everything for privileged containers; for others nothing, then what every container needs, and then what was asked
/// for (moby `daemon/oci_linux.go`, `WithDevices`).
pub(super) fn rules(asked: &Confinement, lookups: &Lookups) -> Built<Vec<LinuxDeviceCgroup>> {
    if asked.security.privileged {
        return Ok(vec![LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build()?]);
    }
    let nothing = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build();
    let given = lookups.devices.iter().map(|(device, access)| {
        allow(device.typ(), Some(device.major()), Some(device.minor()), access.as_str())
    });
    std::iter::once(nothing)
        .chain(ALLOWED.map(|(major, minor)| allow(LinuxDeviceType::C, Some(major), minor, "rwm")))
        .chain(given)
        .chain(asked.devices.rules.iter().map(rule))
        .collect()
}

fn rule(asked: &DeviceRule) -> Built<LinuxDeviceCgroup> {
    let kind = match asked.kind {
        DeviceKind::All => LinuxDeviceType::A,
        DeviceKind::Block => LinuxDeviceType::B,
        DeviceKind::Char => LinuxDeviceType::C,
    };
    allow(kind, asked.major.map(i64::from), asked.minor.map(i64::from), asked.access.as_str())
}

fn allow(
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Built<LinuxDeviceCgroup> {
    let rule = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access);
    let rule = match major {
        Some(major) => rule.major(major),
        None => rule,
    };
    match minor {
        Some(minor) => rule.minor(minor).build(),
        None => rule.build(),
    }
}
