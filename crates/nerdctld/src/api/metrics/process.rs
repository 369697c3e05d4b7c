//! The daemon's own process, under the names of Prometheus' client libraries.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::text::{Kind, Page};

/// Write what `/proc` says; what it does not say is left out.
pub(super) fn write(page: &mut Page) {
    let mut one = |name: &str, kind, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            page.family(name, kind, help);
            page.value(name, &[], value);
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let found = parse(&stat);
    let help = "Total user and system CPU time spent in seconds.";
    one("process_cpu_seconds_total", Kind::Counter, help, found.map(|stat| stat.cpu_seconds));
    let limit = getrlimit(Resource::Nofile).current;
    let help = "Maximum number of open file descriptors.";
    one("process_max_fds", Kind::Gauge, help, limit.map(float));
    let open = fs::read_dir("/proc/self/fd").ok().map(|files| float(files.count() as u64));
    one("process_open_fds", Kind::Gauge, "Number of open file descriptors.", open);
    let help = "Resident memory size in bytes.";
    one("process_resident_memory_bytes", Kind::Gauge, help, found.map(|stat| stat.resident));
    let booted = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_time(&text));
    let started = found.zip(booted).map(|(stat, booted)| booted + stat.started_after_boot);
    let help = "Start time of the process since unix epoch in seconds.";
    one("process_start_time_seconds", Kind::Gauge, help, started);
    let help = "Virtual memory size in bytes.";
    one("process_virtual_memory_bytes", Kind::Gauge, help, found.map(|stat| stat.virtual_size));
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    started_after_boot: f64,
    virtual_size: f64,
    resident: f64,
}

/// proc_pid_stat(5). Its second field is a name that may contain anything, and ends with the last parenthesis.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
    let number = |number: usize| fields.get(number - 3)?.parse::<u64>().ok().map(float);
    let ticks = float(clock_ticks_per_second());
    Some(Stat {
        cpu_seconds: (number(14)? + number(15)?) / ticks,
        started_after_boot: number(22)? / ticks,
        virtual_size: number(23)?,
        resident: number(24)? * float(page_size() as u64),
    })
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// Exact below 2^53, which is enough for a measurement.
#[expect(clippy::cast_precision_loss, reason = "a measurement; 53 bits are enough")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_can_be_read() {
        let found = parse(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(found.resident > 1e5 && found.virtual_size >= found.resident, "{found:?}");
        assert!(boot_time("cpu 1\nbtime 1700000000\n") == Some(1.7e9));
        assert_eq!(parse("1 (a) b) c"), None);
    }
}
