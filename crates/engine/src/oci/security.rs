//! What of the kernel's file systems the container cannot see or change.

use super::HostFacts;

/// Hidden paths: moby's (`daemon/pkg/oci/defaults.go`), which are nerdctl's and two more that tell of neighbours'
/// activity.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that can be read only.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Hidden paths, those of this host's processors included.
pub(super) fn masked_paths(host: &HostFacts) -> Vec<String> {
    MASKED
        .iter()
        .map(|path| (*path).to_owned())
        .chain(host.thermal_throttle.iter().cloned())
        .collect()
}

/// Paths that can be read only.
pub(super) fn readonly_paths() -> Vec<String> {
    READ_ONLY.map(str::to_owned).to_vec()
}
