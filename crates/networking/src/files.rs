//! `hosts`, `resolv.conf` and `hostname` of a container: made at create, bind-mounted, gone at removal.
//!
//! | Mode | `hosts` | `resolv.conf` | `meta.json` |
//! |---|---|---|---|
//! | CNI | empty until the start | servers it can reach | by the hook |
//! | none | empty | the same | at once |
//! | host, path | copy of the host's | all servers of the host | at once |
//! | container | that container's three files | | none |

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use names::ContainerId;
use nerdctl_store::hosts::FurtherNames;
use nerdctl_store::labels::values::DnsSettings;
use nerdctl_store::resolv_conf::{HOST_PATH, Network, ResolvConf, SYSTEMD_RESOLVED_PATH};

use crate::Networks;
use crate::blocking::blocking;
use crate::container::{Container, NetworkMode};
use crate::error::{NetworkingError, Result};

const HOST_HOSTS: &str = "/etc/hosts";

/// What to bind-mount into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFiles {
    /// Source of `/etc/hosts`.
    pub hosts: PathBuf,
    /// Source of `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Source of `/etc/hostname`.
    pub hostname: PathBuf,
}

impl ContainerFiles {
    /// Nothing to mount.
    #[must_use]
    pub fn none() -> Self {
        Self { hosts: PathBuf::new(), resolv_conf: PathBuf::new(), hostname: PathBuf::new() }
    }
}

impl Networks {
    /// Makes the files that a new container gets mounted; its state directory must exist.
    ///
    /// `further` are hosts beside those of [`Container::extra_hosts`]: they are not announced, but stand in the part of
    /// the hosts file that stays. `names` are names beside the container's own. With [`NetworkMode::Container`] nothing is made: the files are those of the other
    /// container.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub async fn prepare_files(
        &self,
        container: &Container,
        dns: &DnsSettings,
        further: &[(String, IpAddr)],
        names: &FurtherNames,
    ) -> Result<ContainerFiles> {
        let (store, container, dns) = (self.store.clone(), container.clone(), dns.clone());
        let names = names.clone();
        let further: String =
            further.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        blocking(move || {
            let owner: ContainerId = match &container.mode {
                NetworkMode::Container(other) => other.parse().map_err(|_| {
                    NetworkingError::BadName { key: "container", value: other.clone() }
                })?,
                _ => container.id.clone(),
            };
            let state = store.state_dir(&container.namespace, &owner);
            let hosts = store.hosts(&container.namespace);
            let files = ContainerFiles {
                hosts: hosts.hosts_path(&owner),
                resolv_conf: state.resolv_conf_path(),
                hostname: state.hostname_path(),
            };
            let (network, host_text) = match container.mode {
                NetworkMode::Container(_) => return Ok(files),
                NetworkMode::Host | NetworkMode::Path(_) => {
                    (Network::Host, read_or_empty(Path::new(HOST_HOSTS))?)
                }
                NetworkMode::Cni(_) | NetworkMode::None => (Network::Own, String::new()),
            };
            hosts.allocate(&owner, format!("{host_text}{further}").as_bytes(), &names)?;
            state.write_resolv_conf(
                &ResolvConf::for_container(&host_resolv_conf()?, &dns, network).render(),
            )?;
            state.write_hostname(&container.hostname)?;
            if !matches!(container.mode, NetworkMode::Cni(_)) {
                hosts.acquire(&container.announcement())?;
            }
            Ok::<_, NetworkingError>(files)
        })
        .await
    }

    /// Deletes what [`Self::prepare_files`] made outside of the state directory; absence is success.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub async fn remove_files(&self, container: &Container) -> Result<()> {
        let (store, container) = (self.store.clone(), container.clone());
        blocking(move || {
            let hosts = store.hosts(&container.namespace);
            hosts.release(&container.id)?;
            hosts.delete(&container.id)
        })
        .await
    }

    /// Gives a container another name in the hosts files of the namespace; one that is not announced is left alone.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub async fn rename_in_hosts(&self, container: &Container, name: &str) -> Result<()> {
        let (store, container, name) = (self.store.clone(), container.clone(), name.to_owned());
        blocking(move || match store.hosts(&container.namespace).rename(&container.id, &name) {
            Err(error) if error.is_not_found() => Ok(()),
            renamed => renamed,
        })
        .await
    }
}

/// The text of the host's `resolv.conf`: systemd-resolved's own where the usual file only names its stub.
fn host_resolv_conf() -> Result<String> {
    let text = read_or_empty(Path::new(HOST_PATH))?;
    if ResolvConf::parse(&text).is_systemd_stub() {
        return read_or_empty(Path::new(SYSTEMD_RESOLVED_PATH));
    }
    Ok(text)
}

fn read_or_empty(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(NetworkingError::Io { doing: "read", path: path.to_owned(), source }),
    }
}
