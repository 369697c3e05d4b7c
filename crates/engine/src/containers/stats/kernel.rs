//! What the kernel counts outside of control groups: the host's processors, and a network namespace's interfaces.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::cgroups;

/// The unit of `/proc/stat` in nanoseconds: hundredths of a second on every architecture.
const TICK: u64 = 10_000_000;

/// Interfaces of one container that are counted; it may make any number.
const MAX_INTERFACES: usize = 1000;

/// Loopback, and what the kernel puts into every network namespace when a module for tunnels is loaded.
const NOT_ITS_OWN: [&str; 10] = [
    "lo", "erspan0", "gre0", "gretap0", "ip6gre0", "ip6tnl0", "ip6_vti0", "ip_vti0", "sit0",
    "tunl0",
];

/// Traffic of one interface, seen from the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets received wrong.
    pub rx_errors: u64,
    /// Packets received and dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets dropped before they were sent.
    pub tx_dropped: u64,
}

/// Whether the process exists.
pub(super) fn lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Nanoseconds that all processors have worked, and how many there are.
pub(super) fn processors() -> (u64, u32) {
    parse_stat(&cgroups::text(Path::new("/proc/stat")).unwrap_or_default())
}

/// moby `daemon/stats_unix.go`, `readSystemCPUUsage`: the first seven columns, up to softirq.
fn parse_stat(stat: &str) -> (u64, u32) {
    let mut worked = 0_u64;
    let mut count = 0;
    for line in stat.lines() {
        let Some(rest) = line.strip_prefix("cpu") else { break };
        if rest.starts_with(' ') {
            let ticks =
                rest.split_ascii_whitespace().take(7).filter_map(|field| field.parse::<u64>().ok());
            worked = ticks.fold(0, u64::saturating_add).saturating_mul(TICK);
        } else {
            count += 1;
        }
    }
    (worked, count)
}

/// The interfaces of a process's network namespace; none if that is ours, the host's.
pub(super) fn interfaces(pid: u32) -> BTreeMap<String, InterfaceCounters> {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
    let pid = pid.to_string();
    if namespace("self") == namespace(&pid) {
        return BTreeMap::new();
    }
    let path = Path::new("/proc").join(pid).join("net/dev");
    parse_interfaces(&cgroups::text(&path).unwrap_or_default())
}

/// Two lines of titles, then an interface a line (proc(5)).
fn parse_interfaces(dev: &str) -> BTreeMap<String, InterfaceCounters> {
    let row = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> =
            counters.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
        let at = |column: usize| counters.get(column).copied().unwrap_or(0);
        let counters = InterfaceCounters {
            rx_bytes: at(0),
            rx_packets: at(1),
            rx_errors: at(2),
            rx_dropped: at(3),
            tx_bytes: at(8),
            tx_packets: at(9),
            tx_errors: at(10),
            tx_dropped: at(11),
        };
        Some((name.trim().to_owned(), counters))
    };
    let rows = dev.lines().skip(2).filter_map(row);
    rows.filter(|(name, _)| !NOT_ITS_OWN.contains(&name.as_str())).take(MAX_INTERFACES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_processors() {
        let stat = "cpu  1 2 3 4 5 6 7 100 200 300\ncpu0 1 1 1 1 1 1 1 1 1 1\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 1 2\nctxt 3\n";
        assert_eq!(parse_stat(stat), (28 * TICK, 2));
        assert_eq!(parse_stat(""), (0, 0));
        let (worked, count) = processors();
        assert!(worked > 0 && count > 0);
    }

    #[test]
    fn interfaces_without_those_of_every_namespace() {
        let dev = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:       1       2    3    4    5     6          7         8        9      10   11   12   13    14      15         16
 tunl0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
";
        let found = parse_interfaces(dev);
        assert_eq!(Vec::from_iter(found.keys()), ["eth0"]);
        let expected = InterfaceCounters {
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 9,
            tx_packets: 10,
            tx_errors: 11,
            tx_dropped: 12,
        };
        assert_eq!(found["eth0"], expected);
        assert!(parse_interfaces("").is_empty());
    }

    #[test]
    fn our_own_namespace_is_no_containers() {
        assert!(interfaces(std::process::id()).is_empty());
        assert!(lives(std::process::id()) && !lives(u32::MAX));
    }
}
