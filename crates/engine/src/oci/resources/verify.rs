//! Which limits make sense, and which of them this host can set.
//!
//! What makes no sense is refused; what the host's kernel does not have is taken out of the request and warned about,
//! as in moby `daemon/daemon_unix.go` (`verifyPlatformContainerResources`) and `daemon/internal/runconfig`. The texts
//! are Docker's: programs search for them.

use crate::containers::spec::confinement::Resources;
use crate::oci::host::{CpuList, Limits};
use crate::{Error, Result};

/// What a container needs to start at all, in bytes.
const MIN_MEMORY: i64 = 6 * 1024 * 1024;

/// Make `asked` something that this host can do, and say what was left out. `update` is a change of a container, which
/// may name swap alone.
///
/// # Errors
/// [`Error::InvalidParameter`] in Docker's words.
pub(crate) fn verify(
    asked: &mut Resources,
    limits: &Limits,
    cpus: u32,
    update: bool,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    realtime(asked, limits)?;
    memory(asked, limits, update, &mut warnings)?;
    swappiness(asked, limits, &mut warnings)?;
    oom_and_pids(asked, limits, &mut warnings);
    cpu(asked, limits, cpus, &mut warnings)?;
    cpuset(asked, limits, &mut warnings)?;
    blkio(asked, limits, &mut warnings)?;
    Ok(warnings)
}

fn invalid<T>(text: impl Into<String>) -> Result<T> {
    Err(Error::InvalidParameter(text.into()))
}

fn realtime(asked: &Resources, limits: &Limits) -> Result<()> {
    let (period, runtime) = (asked.cpu_realtime_period, asked.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !limits.cpu_realtime {
        return invalid("kernel does not support CPU real-time scheduler");
    }
    if period != 0 && runtime != 0 && runtime > period {
        return invalid("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if asked.cpu_shares < 0 {
        return invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            asked.cpu_shares
        ));
    }
    Ok(())
}

fn memory(
    asked: &mut Resources,
    limits: &Limits,
    update: bool,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if asked.memory != 0 && asked.memory < MIN_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if asked.memory > 0 && !limits.memory {
        warnings.push("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.".to_owned());
        (asked.memory, asked.memory_swap) = (0, -1);
    }
    if asked.memory > 0 && asked.memory_swap != -1 && !limits.swap {
        warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".to_owned());
        asked.memory_swap = -1;
    }
    if asked.memory > 0 && asked.memory_swap > 0 && asked.memory_swap < asked.memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if asked.memory == 0 && asked.memory_swap > 0 && !update {
        return invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if asked.memory_reservation > 0 && !limits.memory_reservation {
        warnings.push("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.".to_owned());
        asked.memory_reservation = 0;
    }
    if asked.memory_reservation > 0 && asked.memory_reservation < MIN_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if asked.memory > 0 && asked.memory < asked.memory_reservation {
        return invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    Ok(())
}

fn swappiness(asked: &mut Resources, limits: &Limits, warnings: &mut Vec<String>) -> Result<()> {
    // The command line's word for "as the kernel does".
    if asked.memory_swappiness == Some(-1) {
        asked.memory_swappiness = None;
    }
    let Some(value) = asked.memory_swappiness else { return Ok(()) };
    if !limits.memory_swappiness {
        warnings.push("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.".to_owned());
        asked.memory_swappiness = None;
        return Ok(());
    }
    if (0..=100).contains(&value) {
        return Ok(());
    }
    invalid(format!("Invalid value: {value}, valid memory swappiness range is 0-100"))
}

fn oom_and_pids(asked: &mut Resources, limits: &Limits, warnings: &mut Vec<String>) {
    let disabled = asked.oom_kill_disable == Some(true);
    if disabled && !limits.oom_kill_disable {
        warnings.push(
            "Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned(),
        );
    } else if disabled && asked.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    if !limits.oom_kill_disable {
        asked.oom_kill_disable = None;
    }
    let pids = asked.pids_limit.is_some_and(|limit| limit > 0);
    if pids && !limits.pids {
        warnings.push("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.".to_owned());
    }
    if !limits.pids {
        asked.pids_limit = None;
    }
}

fn cpu(
    asked: &mut Resources,
    limits: &Limits,
    cpus: u32,
    warnings: &mut Vec<String>,
) -> Result<()> {
    if asked.nano_cpus > 0 && asked.cpu_period > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if asked.nano_cpus > 0 && asked.cpu_quota > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if asked.nano_cpus > 0 && !limits.cpu_cfs {
        return invalid(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    if asked.nano_cpus < 0 || asked.nano_cpus > i64::from(cpus) * 1_000_000_000 {
        return invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if asked.cpu_shares > 0 && !limits.cpu_shares {
        warnings.push("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.".to_owned());
        asked.cpu_shares = 0;
    }
    if (asked.cpu_period != 0 || asked.cpu_quota != 0) && !limits.cpu_cfs {
        warnings.push(
            "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
                .to_owned(),
        );
        (asked.cpu_period, asked.cpu_quota) = (0, 0);
    }
    if asked.cpu_period != 0 && !(1000..=1_000_000).contains(&asked.cpu_period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if asked.cpu_quota > 0 && asked.cpu_quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    Ok(())
}

fn cpuset(asked: &mut Resources, limits: &Limits, warnings: &mut Vec<String>) -> Result<()> {
    let wanted = !asked.cpuset_cpus.is_empty() || !asked.cpuset_mems.is_empty();
    if wanted && !limits.cpuset {
        warnings.push(
            "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded."
                .to_owned(),
        );
        asked.cpuset_cpus.clear();
        asked.cpuset_mems.clear();
    }
    available(&asked.cpuset_cpus, &limits.cpus, "cpus", "CPUs")?;
    available(&asked.cpuset_mems, &limits.mems, "mems", "memory nodes")
}

fn available(asked: &str, there: &CpuList, what: &str, things: &str) -> Result<()> {
    let Some(numbers) = ranges(asked) else {
        return invalid(format!(
            "Invalid value {asked} for cpuset {what}: invalid format: {asked}"
        ));
    };
    // Two numbers a range, however long it is.
    let all = |(first, last): (u32, u32)| {
        let in_range = there.numbers.range(first..=last).count();
        u32::try_from(in_range).is_ok_and(|count| count == last - first + 1)
    };
    if numbers.into_iter().all(all) {
        return Ok(());
    }
    invalid(format!(
        "Requested {things} are not available - requested {asked}, available: {}",
        there.text
    ))
}

/// First and last of each range of `0-2,4`; `None` for what is no such list. At most 8,191 is a number here, as the
/// kernel has no more (moby `pkg/sysinfo/sysinfo_linux.go`, `parseUintList`).
fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    if list.is_empty() {
        return Some(Vec::new());
    }
    let number = |text: &str| text.parse().ok().filter(|number| *number < 8192);
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };
    list.split(',').map(range).collect()
}

fn blkio(asked: &mut Resources, limits: &Limits, warnings: &mut Vec<String>) -> Result<()> {
    if asked.blkio_weight > 0 && !limits.blkio_weight {
        warnings.push("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".to_owned());
        asked.blkio_weight = 0;
    }
    if asked.blkio_weight > 0 && !(10..=1000).contains(&asked.blkio_weight) {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    let mut discard = |given: bool, text: &str| {
        if given {
            warnings.push(format!("Your kernel does not support {text}"));
        }
        given
    };
    let given = |list: Option<usize>, can: bool| list.is_some_and(|length| length > 0) && !can;
    let weights = asked.blkio_weight_device.as_ref().map(Vec::len);
    if discard(
        given(weights, limits.blkio_weight_device),
        "Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
    ) {
        asked.blkio_weight_device = Some(Vec::new());
    }
    for (list, can, text) in [
        (
            &mut asked.blkio_read_bps,
            limits.blkio_read_bps,
            "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
        ),
        (
            &mut asked.blkio_write_bps,
            limits.blkio_write_bps,
            "BPS Block I/O write limit or the cgroup is not mounted. Block I/O BPS write limit discarded.",
        ),
        (
            &mut asked.blkio_read_iops,
            limits.blkio_read_iops,
            "IOPS Block read limit or the cgroup is not mounted. Block I/O IOPS read limit discarded.",
        ),
        (
            &mut asked.blkio_write_iops,
            limits.blkio_write_iops,
            "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
        ),
    ] {
        if discard(given(list.as_ref().map(Vec::len), can), text) {
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::spec::confinement::resources::DeviceRate;
    use crate::oci::host::tests::{per_controller, unified};

    const MIB: i64 = 1024 * 1024;

    fn refused(asked: Resources) -> String {
        let mut asked = asked;
        verify(&mut asked, &per_controller(), 4, false).unwrap_err().to_string()
    }

    #[test]
    fn what_makes_no_sense() {
        let none = Resources::default;
        for (asked, expected) in [
            (Resources { memory: MIB, ..none() }, "Minimum memory limit allowed is 6MB"),
            (Resources { memory: -1, ..none() }, "Minimum memory limit allowed is 6MB"),
            (
                Resources { memory: 8 * MIB, memory_swap: 7 * MIB, ..none() },
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                Resources { memory_swap: 7 * MIB, ..none() },
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                Resources { memory_reservation: MIB, ..none() },
                "Minimum memory reservation allowed is 6MB",
            ),
            (
                Resources { memory: 8 * MIB, memory_reservation: 9 * MIB, ..none() },
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ),
            (
                Resources { memory_swappiness: Some(101), ..none() },
                "Invalid value: 101, valid memory swappiness range is 0-100",
            ),
            (
                Resources { nano_cpus: 1, cpu_period: 1000, ..none() },
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ),
            (
                Resources { nano_cpus: 1, cpu_quota: 1000, ..none() },
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
            (
                Resources { nano_cpus: 4_000_000_001, ..none() },
                "range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available",
            ),
            (
                Resources { cpu_period: 999, ..none() },
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            ),
            (
                Resources { cpu_quota: 999, ..none() },
                "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            ),
            (
                Resources { cpu_shares: -5, ..none() },
                "invalid CPU shares (-5): value must be a positive integer",
            ),
            (
                Resources { cpu_realtime_period: 5, cpu_realtime_runtime: 6, ..none() },
                "cpu real-time runtime cannot be higher than cpu real-time period",
            ),
            (
                Resources { cpuset_cpus: "0,4".into(), ..none() },
                "Requested CPUs are not available - requested 0,4, available: 0-3",
            ),
            (
                Resources { cpuset_cpus: "0-8191".into(), ..none() },
                "Requested CPUs are not available - requested 0-8191, available: 0-3",
            ),
            (
                Resources { cpuset_mems: "3-1".into(), ..none() },
                "Invalid value 3-1 for cpuset mems: invalid format: 3-1",
            ),
            (Resources { blkio_weight: 9, ..none() }, "Range of blkio weight is from 10 to 1000"),
        ] {
            assert_eq!(refused(asked), expected);
        }
    }

    #[test]
    fn a_change_may_name_swap_alone() {
        let mut asked = Resources { memory_swap: 7 * MIB, ..Resources::default() };
        assert_eq!(verify(&mut asked, &unified(), 4, true).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_the_host_can_do_stays() {
        let rate = Some(vec![DeviceRate { path: "/dev/sda".into(), rate: 1 }]);
        let asked = Resources {
            memory: 64 * MIB,
            memory_swap: -1,
            memory_swappiness: Some(0),
            oom_kill_disable: Some(true),
            pids_limit: Some(10),
            cpu_realtime_runtime: 5,
            cpuset_cpus: "0-1,3".into(),
            blkio_weight: 10,
            blkio_write_iops: rate,
            ..Resources::default()
        };
        let mut verified = asked.clone();
        assert_eq!(
            verify(&mut verified, &per_controller(), 4, false).unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(verified, asked);
    }

    #[test]
    fn what_the_host_cannot_do_is_left_out_and_told() {
        let mut asked = Resources {
            memory: 64 * MIB,
            memory_reservation: 32 * MIB,
            memory_swappiness: Some(5),
            oom_kill_disable: Some(true),
            pids_limit: Some(10),
            cpu_shares: 5,
            cpu_quota: 5000,
            cpuset_cpus: "0".into(),
            blkio_weight: 10,
            blkio_read_bps: Some(vec![DeviceRate::default()]),
            ..Resources::default()
        };
        let warnings = verify(&mut asked, &Limits::default(), 4, false).unwrap();
        assert_eq!(warnings.len(), 10, "{warnings:#?}");
        assert!(warnings.iter().all(|text| text.starts_with("Your kernel does not support ")));
        assert_eq!(
            asked,
            Resources { memory_swap: -1, blkio_read_bps: Some(Vec::new()), ..Resources::default() }
        );
        let mut asked = Resources { memory: 64 * MIB, ..Resources::default() };
        let without_swap = Limits { swap: false, ..unified() };
        let warnings = verify(&mut asked, &without_swap, 4, false).unwrap();
        assert!(warnings[0].ends_with("Memory limited without swap."), "{warnings:?}");
        assert_eq!(asked.memory_swap, -1);
    }

    #[test]
    fn an_oom_killer_without_a_limit_is_warned_about() {
        let mut asked = Resources { oom_kill_disable: Some(true), ..Resources::default() };
        let warnings = verify(&mut asked, &per_controller(), 4, false).unwrap();
        assert!(warnings[0].starts_with("OOM killer is disabled"), "{warnings:?}");
        let mut asked = Resources { oom_kill_disable: Some(false), ..Resources::default() };
        assert!(verify(&mut asked, &unified(), 4, false).unwrap().is_empty());
        assert_eq!(asked.oom_kill_disable, None, "no point in a warning");
    }
}
