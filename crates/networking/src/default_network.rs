//! The networks that are configured, and the default one, which is made when it is first needed.

use std::net::IpAddr;
use std::path::Path;

use cni::conflist::file_for;
use cni::{CniError, Conflist, Conflists, DEFAULT_BRIDGE, DEFAULT_BRIDGE_SUBNET, default_bridge};
use names::Namespace;
use nerdctl_store::files::{InPlace, write_atomic};
use nerdctl_store::locks::{LOCK_DEADLINE, Mode, conflists as lock_conflists};

use crate::Networks;
use crate::blocking::blocking;
use crate::error::Result;

const CONFLIST_MODE: u32 = 0o644;

impl Networks {
    /// All networks that a namespace can see, under nerdctl's lock. What cannot be read is in `broken`.
    ///
    /// # Errors
    /// If the lock or the folder cannot be had.
    pub async fn conflists(&self, namespace: &Namespace) -> Result<Conflists> {
        let (netconf, namespace) = (self.netconf.clone(), namespace.clone());
        blocking(move || {
            let _lock = lock_conflists(&netconf, Mode::Shared, LOCK_DEADLINE)?;
            read(&netconf, &namespace)
        })
        .await
    }

    /// All networks as they are shown: the default one is among them before it has been made.
    ///
    /// # Errors
    /// If the lock or the folder cannot be had.
    pub async fn conflists_to_show(&self, namespace: &Namespace) -> Result<Conflists> {
        let mut conflists = self.conflists(namespace).await?;
        if conflists.default_network().is_none() {
            let text =
                default_bridge(self.bridge_ip.unwrap_or(DEFAULT_BRIDGE_SUBNET), self.rootless);
            conflists.found.push(Conflist::parse(text.as_bytes(), None)?);
        }
        Ok(conflists)
    }

    /// The addresses that a network has given out; none where they cannot be read. Reads files: call it where waiting
    /// is allowed.
    #[must_use]
    pub fn leases(&self, network: &Conflist) -> Vec<IpAddr> {
        let leases = self.cni.leases(network).unwrap_or_default();
        leases.into_iter().map(|lease| lease.address).collect()
    }

    /// All networks, after the default one has been made if there is none: nerdctl does so at every run, stop, kill
    /// and hook.
    ///
    /// # Errors
    /// If the lock or the folder cannot be had, or the default network's file not be written.
    pub async fn conflists_with_default(&self, namespace: &Namespace) -> Result<Conflists> {
        let conflists = self.conflists(namespace).await?;
        if conflists.default_network().is_some() {
            return Ok(conflists);
        }
        let text = default_bridge(self.bridge_ip.unwrap_or(DEFAULT_BRIDGE_SUBNET), self.rootless);
        let (netconf, namespace) = (self.netconf.clone(), namespace.clone());
        let markers = InPlace::below(self.store.data_root());
        blocking(move || {
            let _lock = lock_conflists(&netconf, Mode::Exclusive, LOCK_DEADLINE)?;
            // Somebody may have been faster.
            let conflists = read(&netconf, &namespace)?;
            if conflists.default_network().is_some() {
                return Ok(conflists);
            }
            let file = file_for(&netconf, namespace.as_str(), DEFAULT_BRIDGE);
            // A marker that an interrupted nerdctl left would make it delete our file at its next reading.
            markers.recover(&file)?;
            // Nobody has mounted it, and programs that watch the folder must not see a part of it: by rename.
            write_atomic(&file, text.as_bytes(), CONFLIST_MODE)?;
            tracing::info!(file = %file.display(), "made the default network");
            read(&netconf, &namespace)
        })
        .await
    }
}

fn read(netconf: &Path, namespace: &Namespace) -> Result<Conflists> {
    let conflists = Conflists::read(netconf, namespace.as_str())?;
    for error in &conflists.broken {
        let reason = match error {
            CniError::Io { source, .. } => source.to_string(),
            CniError::NotJson { source, .. } => source.to_string(),
            _ => String::new(),
        };
        tracing::warn!(%error, reason, "a network is left out; nerdctl fails completely while this file is there");
    }
    Ok(conflists)
}

#[cfg(test)]
mod tests {
    use cni::Cni;
    use nerdctl_store::DataStore;

    use super::*;

    #[tokio::test]
    async fn the_default_network_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let netconf = dir.path().join("net.d");
        let store = DataStore::new(dir.path().join("data"), "/nowhere.sock");
        let networks = Networks::new(store, Cni::new(vec![]), &netconf);
        let namespace = Namespace::default();

        let found = networks.conflists_with_default(&namespace).await.unwrap();
        assert_eq!(found.default_network().unwrap().name, "bridge");
        let file = netconf.join("nerdctl-bridge.conflist");
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            default_bridge(DEFAULT_BRIDGE_SUBNET, false)
        );

        std::fs::write(&file, default_bridge("10.9.0.1/24".parse().unwrap(), false)).unwrap();
        let found = networks.conflists_with_default(&namespace).await.unwrap();
        assert_eq!(
            found.found[0].subnets()[0].gateway.as_deref(),
            Some("10.9.0.1"),
            "it is left as it is"
        );
    }

    #[tokio::test]
    async fn a_labelled_network_is_default_enough() {
        let dir = tempfile::tempdir().unwrap();
        let netconf = dir.path().join("net.d");
        std::fs::create_dir(&netconf).unwrap();
        let text = r#"{"name":"mine","nerdctlLabels":{"nerdctl/default-network":"true"},"plugins":[{"type":"t"}]}"#;
        std::fs::write(netconf.join("nerdctl-mine.conflist"), text).unwrap();
        let store = DataStore::new(dir.path().join("data"), "/nowhere.sock");
        let networks = Networks::new(store, Cni::new(vec![]), &netconf)
            .with_bridge_ip(None)
            .with_rootless(true);
        let found = networks.conflists_with_default(&Namespace::default()).await.unwrap();
        assert_eq!(found.found.len(), 1);
    }
}
