//! The machine: names, processors, memory, what networks it can make.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::HostInfo;
use crate::oci::HostFacts;

/// Network drivers that Docker's clients know, and that CNI has plugins of the same name for.
const DRIVERS: [&str; 3] = ["bridge", "ipvlan", "macvlan"];

/// Read it. What cannot be read is empty, or zero.
pub(super) fn read(facts: &HostFacts) -> HostInfo {
    let uname = rustix::system::uname();
    let os_release =
        text("/etc/os-release").or_else(|| text("/usr/lib/os-release")).unwrap_or_default();
    HostInfo {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        operating_system: release_value(&os_release, "PRETTY_NAME")
            .unwrap_or_else(|| "Linux".to_owned()),
        os_version: release_value(&os_release, "VERSION_ID").unwrap_or_default(),
        machine: uname.machine().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        memory: memory(),
        limits: facts.limits.clone(),
        ipv4_forwarding: text("/proc/sys/net/ipv4/ip_forward")
            .is_none_or(|value| value.trim() != "0"),
    }
}

/// Drivers of networks that can be made with the plugins in `folder`; `host` and `null` need none.
pub(super) fn network_plugins(folder: &Path) -> Vec<String> {
    let found = DRIVERS.into_iter().filter(|driver| folder.join(driver).exists());
    found.chain(["host", "null"]).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
}

/// Bytes of memory; 0 if the kernel does not say.
pub(crate) fn memory() -> u64 {
    total_memory(&text("/proc/meminfo").unwrap_or_default())
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// A value of os-release(5). The last one counts, as in a shell.
fn release_value(os_release: &str, key: &str) -> Option<String> {
    let value = os_release.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = value?.trim_matches(['"', '\'', ' ']);
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

/// Bytes, of a `/proc/meminfo`.
fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\nEMPTY=\nPRETTY_NAME_X=no\n";
        assert_eq!(
            release_value(text, "PRETTY_NAME").as_deref(),
            Some("Debian GNU/Linux 12 (bookworm)")
        );
        assert_eq!(release_value(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(release_value(text, "EMPTY"), None);
        assert_eq!(release_value(text, "ABSENT"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:        2048 kB\n"), 2_097_152);
        assert_eq!(total_memory("nothing"), 0);
    }

    #[test]
    fn drivers_are_the_plugins_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(network_plugins(folder.path()), ["host", "null"]);
        fs::write(folder.path().join("macvlan"), "").unwrap();
        fs::write(folder.path().join("portmap"), "").unwrap();
        assert_eq!(network_plugins(folder.path()), ["host", "macvlan", "null"]);
    }

    #[test]
    fn this_machine_can_be_read() {
        let host = read(&HostFacts::read(None));
        assert!(host.cpus > 0 && host.memory > 0);
        assert!(
            !host.kernel.is_empty()
                && !host.machine.is_empty()
                && !host.operating_system.is_empty()
        );
    }
}
