//! Addresses that the `host-local` plugin has given away. Read only: the plugin itself writes them.
//!
//! `<data dir>/<network>/<address>` holds the container id and, on a second line, the interface.
//! Source: containernetworking/plugins `plugins/ipam/host-local/backend/disk/backend.go`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::error::{IoContext, Result};

/// Where `host-local` keeps its leases unless a conflist says otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// One address that is taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// CNI container id of who has it.
    pub container_id: String,
    /// Interface in the container; old releases did not write it.
    pub if_name: Option<String>,
}

/// All leases in a network's directory, sorted by address; none if it does not exist.
///
/// # Errors
/// If the directory exists and cannot be listed. A lease that vanishes meanwhile is left out.
pub fn read(directory: &Path) -> Result<Vec<Lease>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).during("list", directory),
    };
    let mut leases = Vec::new();
    for entry in entries {
        let entry = entry.during("list", directory)?;
        // "lock" and "last_reserved_ip.0" are there too.
        let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let Some(container_id) = lines.next() else { continue };
        leases.push(Lease {
            address,
            container_id: container_id.to_owned(),
            if_name: lines.next().map(str::to_owned),
        });
    }
    leases.sort();
    Ok(leases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_read_as_host_local_writes_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10.4.0.10"), "default-abc\r\neth0").unwrap();
        fs::write(dir.path().join("10.4.0.9"), "old").unwrap();
        fs::write(dir.path().join("10.4.0.11"), "").unwrap();
        fs::write(dir.path().join("last_reserved_ip.0"), "10.4.0.10").unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        assert_eq!(
            read(dir.path()).unwrap(),
            [
                Lease {
                    address: "10.4.0.9".parse().unwrap(),
                    container_id: "old".into(),
                    if_name: None
                },
                Lease {
                    address: "10.4.0.10".parse().unwrap(),
                    container_id: "default-abc".into(),
                    if_name: Some("eth0".into())
                },
            ]
        );
        assert!(read(&dir.path().join("absent")).unwrap().is_empty());
    }
}
