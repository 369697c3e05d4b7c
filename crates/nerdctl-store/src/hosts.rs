//! The hosts store: every container's `/etc/hosts`, and how containers find each other by name.
//!
//! `<data store>/etchosts/<namespace>/<id>/` holds `hosts`, which is bind-mounted into the container, and while the
//! container is attached to networks `meta.json`, which says what others are to know of it. Whenever one changes,
//! the marked region of every hosts file of the namespace is written anew. There is no DNS server.
//!
//! Lines outside of the marked region stay, so users have a place there, and so have aliases and links (`hosts/further.rs`).
//!
//! Source: nerdctl `pkg/dnsutil/hostsstore/{hostsstore,hosts,updater}.go`.

mod further;
mod render;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use further::Announced;
use names::ContainerId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use further::{FurtherNames, Link};

use crate::error::{Result, StoreError};
use crate::files::{
    InPlace, list_dir, read_optional, remove_if_present, remove_tree, write_atomic,
};
use crate::go_json;
use crate::locks::{create_private_dir, lock_directory};

const HOSTS_MODE: u32 = 0o644;
const META_MODE: u32 = 0o600;

/// File `meta.json`: what the hosts files of other containers are made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostsMeta {
    /// Container id.
    #[serde(rename = "ID")]
    pub id: String,
    /// CNI results by network, keyed as in the networks label. `None` for host and none. The type keeps out what
    /// crashes nerdctl: a network without result.
    pub networks: Option<BTreeMap<String, Map<String, Value>>>,
    /// Host name.
    pub hostname: String,
    /// Addresses of additional hosts by name.
    #[serde(deserialize_with = "null_as_empty")]
    pub extra_hosts: BTreeMap<String, String>,
    /// Container name; empty if it has none.
    pub name: String,
    /// Domain name; usually empty.
    pub domainname: String,
}

fn null_as_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The hosts files of one namespace.
#[derive(Debug, Clone)]
pub struct HostsStore {
    directory: PathBuf,
    in_place: InPlace,
    deadline: Duration,
}

impl HostsStore {
    pub(crate) fn new(directory: PathBuf, data_root: &Path, deadline: Duration) -> Self {
        Self { directory, in_place: InPlace::below(data_root), deadline }
    }

    /// Bind source of a container's `/etc/hosts`.
    #[must_use]
    pub fn hosts_path(&self, id: &ContainerId) -> PathBuf {
        self.directory.join(id.as_str()).join("hosts")
    }

    fn meta_path(&self, id: &str) -> PathBuf {
        self.directory.join(id).join("meta.json")
    }

    fn names_path(&self, id: &str) -> PathBuf {
        self.directory.join(id).join("further-names.json")
    }

    /// Makes a container's hosts file, at create: empty for its own network, the host's text for the host's. `names` are
    /// those beside its own. Gives back the file's path.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn allocate(
        &self,
        id: &ContainerId,
        content: &[u8],
        names: &FurtherNames,
    ) -> Result<PathBuf> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        self.in_place.ensure_directory()?;
        let path = self.hosts_path(id);
        create_private_dir(&self.directory.join(id.as_str()))?;
        self.in_place.write(&path, content, HOSTS_MODE)?;
        if !names.is_empty() {
            self.write_names(id, names)?;
        }
        Ok(path)
    }

    /// Announces a container: replaces its `meta.json`, makes its hosts file if it is missing, and writes the hosts
    /// files of the namespace anew.
    ///
    /// # Errors
    /// Lock and I/O errors on the container's own files; trouble with others' files is logged.
    pub fn acquire(&self, meta: &HostsMeta) -> Result<()> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        let own = self.directory.join(&meta.id);
        create_private_dir(&own)?;
        let hosts = own.join("hosts");
        if self.in_place.read(&hosts)?.is_none() {
            self.in_place.write(&hosts, b"", HOSTS_MODE)?;
        }
        self.write_meta(meta)?;
        self.regenerate()
    }

    /// Makes others forget a container: deletes its `meta.json` but keeps its hosts file, which is still mounted.
    /// Says whether it was announced (nerdctl fails if it was not).
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn release(&self, id: &ContainerId) -> Result<bool> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        if !remove_if_present(&self.meta_path(id.as_str()))? {
            return Ok(false);
        }
        self.regenerate()?;
        Ok(true)
    }

    /// Makes others forget a container's addresses, but keeps its `meta.json`, without which nerdctl's postStop hook
    /// would fail. Says whether it had any.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn forget_networks(&self, id: &ContainerId) -> Result<bool> {
        self.change(id, |meta| {
            let had_any = meta.networks.as_ref().is_some_and(|networks| !networks.is_empty());
            meta.networks = Some(BTreeMap::new());
            had_any
        })
        .map(Option::unwrap_or_default)
    }

    /// Gives a container another name in all hosts files.
    ///
    /// # Errors
    /// [`StoreError::NoHostsEntry`] if it is not announced; lock and I/O errors.
    pub fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        self.change(id, |meta| name.clone_into(&mut meta.name))?
            .ok_or_else(|| StoreError::NoHostsEntry { id: id.to_string() })
    }

    /// Makes a container forget what it calls another one in a network.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn remove_link(&self, id: &ContainerId, network: &str, alias: &str) -> Result<()> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        let mut names = self.read_names(id.as_str())?;
        let Some(links) = names.links.get_mut(network) else { return Ok(()) };
        links.retain(|link| link.alias != alias);
        self.write_names(id, &names)?;
        self.regenerate()
    }

    fn write_names(&self, id: &ContainerId, names: &FurtherNames) -> Result<()> {
        let text = go_json::to_string("further-names.json", names)?;
        write_atomic(&self.names_path(id.as_str()), text.as_bytes(), META_MODE)
    }

    /// What a container has announced; `None` if nothing, or nothing that can be read. Takes no lock.
    ///
    /// # Errors
    /// I/O errors.
    pub fn meta(&self, id: &ContainerId) -> Result<Option<HostsMeta>> {
        self.read_meta(id.as_str())
    }

    /// Deletes a container's hosts file and announcement, at its removal; absence is success.
    ///
    /// Other hosts files are left alone: the container has been released before.
    ///
    /// # Errors
    /// Lock and I/O errors.
    pub fn delete(&self, id: &ContainerId) -> Result<()> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        remove_tree(&self.directory.join(id.as_str()))
    }

    /// Changes a container's announcement and writes all hosts files anew; `None` if there is no announcement.
    fn change<R>(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut HostsMeta) -> R,
    ) -> Result<Option<R>> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        let Some(mut meta) = self.read_meta(id.as_str())? else { return Ok(None) };
        let answer = change(&mut meta);
        self.write_meta(&meta)?;
        self.regenerate()?;
        Ok(Some(answer))
    }

    fn read_meta(&self, id: &str) -> Result<Option<HostsMeta>> {
        let path = self.meta_path(id);
        let Some(bytes) = read_optional(&path)? else { return Ok(None) };
        match serde_json::from_slice::<HostsMeta>(&bytes) {
            // The id becomes a path again: a damaged file must not lead elsewhere.
            Ok(meta) => Ok(Some(HostsMeta { id: id.to_owned(), ..meta })),
            // One damaged announcement must not stop all containers of the namespace.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "skipping an announcement that cannot be read");
                Ok(None)
            }
        }
    }

    /// The names of a container beside its own. Damaged ones cost it these names, not others theirs.
    fn read_names(&self, id: &str) -> Result<FurtherNames> {
        let path = self.names_path(id);
        let Some(bytes) = read_optional(&path)? else { return Ok(FurtherNames::default()) };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "aliases and links that cannot be read are left out");
            FurtherNames::default()
        }))
    }

    fn read_announced(&self, id: &str) -> Result<Option<Announced>> {
        let Some(meta) = self.read_meta(id)? else { return Ok(None) };
        Ok(Some(Announced { meta, names: self.read_names(id)? }))
    }

    fn write_meta(&self, meta: &HostsMeta) -> Result<()> {
        write_atomic(
            &self.meta_path(&meta.id),
            go_json::to_string("meta.json", meta)?.as_bytes(),
            META_MODE,
        )
    }

    /// Writes the hosts files of all announced containers. Trouble with one is logged and does not stop the rest.
    fn regenerate(&self) -> Result<()> {
        let mut announced = Vec::new();
        for id in list_dir(&self.directory)? {
            match self.read_announced(&id) {
                Ok(Some(found)) => announced.push((id, found)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "skipping an announcement"),
            }
        }
        let book = render::AddressBook::new(announced.iter().map(|(_, found)| found));
        for (id, me) in &announced {
            let path = self.directory.join(id).join("hosts");
            let rewritten = self.in_place.read(&path).and_then(|old| match old {
                Some(old) => {
                    self.in_place.write(&path, book.hosts_file(&old, me).as_bytes(), HOSTS_MODE)
                }
                None => Ok(false),
            });
            if let Err(error) = rewritten {
                tracing::warn!(%error, "a hosts file stays as it was");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::locks::LOCK_DEADLINE;

    fn store(dir: &Path) -> HostsStore {
        HostsStore::new(dir.join("etchosts/default"), dir, LOCK_DEADLINE)
    }

    fn id(id: &str) -> ContainerId {
        id.parse().unwrap()
    }

    fn meta(id: &str, address: &str) -> HostsMeta {
        let result = serde_json::json!({"cniVersion": "1.1.0", "ips": [{"address": address}]});
        HostsMeta {
            id: id.to_owned(),
            networks: Some(BTreeMap::from([(
                "bridge".to_owned(),
                result.as_object().unwrap().clone(),
            )])),
            hostname: format!("{id}-host"),
            name: format!("name-of-{id}"),
            ..HostsMeta::default()
        }
    }

    #[test]
    fn announcements_are_those_of_nerdctl() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let mut one = meta("one", "10.4.0.2/24");
        one.extra_hosts.insert("db".into(), "192.0.2.9".into());
        store.acquire(&one).unwrap();
        let file = dir.path().join("etchosts/default/one/meta.json");
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            concat!(
                r#"{"ID":"one","Networks":{"bridge":{"cniVersion":"1.1.0","ips":[{"address":"10.4.0.2/24"}]}},"#,
                r#""Hostname":"one-host","ExtraHosts":{"db":"192.0.2.9"},"Name":"name-of-one","Domainname":""}"#
            )
        );
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(store.hosts_path(&id("one"))).unwrap().mode() & 0o777, 0o644);
        assert_eq!(store.meta(&id("one")).unwrap(), Some(one));

        let host = HostsMeta { networks: None, ..meta("two", "") };
        store.acquire(&host).unwrap();
        let text = fs::read_to_string(dir.path().join("etchosts/default/two/meta.json")).unwrap();
        assert!(text.contains(r#""Networks":null"#), "{text}");
    }

    #[test]
    fn an_announcement_with_another_id_changes_nothing_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.acquire(&meta("one", "10.4.0.2/24")).unwrap();
        let file = dir.path().join("etchosts/default/one/meta.json");
        let text = fs::read_to_string(&file).unwrap().replace(r#""one""#, r#""../../two""#);
        fs::write(&file, text).unwrap();
        fs::create_dir(dir.path().join("two")).unwrap();
        store.rename(&id("one"), "renamed").unwrap();
        assert_eq!(store.meta(&id("one")).unwrap().unwrap().name, "renamed");
        assert_eq!(fs::read_dir(dir.path().join("two")).unwrap().count(), 0);
    }

    #[test]
    fn what_others_have_changes_all_files_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let hosts =
            store.allocate(&id("one"), b"10.0.0.1 mine\n", &FurtherNames::default()).unwrap();
        let inode = fs::metadata(&hosts).unwrap().ino();
        store.acquire(&meta("one", "10.4.0.2/24")).unwrap();
        store.acquire(&meta("two", "10.4.0.3/24")).unwrap();
        let text = || fs::read_to_string(&hosts).unwrap();
        assert!(text().starts_with("10.0.0.1 mine\n# <nerdctl>\n"), "{}", text());
        assert!(text().contains("10.4.0.3        two-host name-of-two\n"));

        store.rename(&id("two"), "renamed").unwrap();
        assert!(text().contains("10.4.0.3        two-host renamed\n"));

        assert!(store.forget_networks(&id("two")).unwrap());
        assert!(!store.forget_networks(&id("two")).unwrap());
        assert!(!text().contains("10.4.0.3"));
        assert_eq!(store.meta(&id("two")).unwrap().unwrap().networks, Some(BTreeMap::new()));

        assert!(store.release(&id("two")).unwrap());
        assert!(!store.release(&id("two")).unwrap());
        assert!(store.hosts_path(&id("two")).exists(), "it is still mounted");
        store.delete(&id("two")).unwrap();
        assert!(!store.hosts_path(&id("two")).exists());
        assert_eq!(fs::metadata(&hosts).unwrap().ino(), inode);
    }

    #[test]
    fn aliases_are_everybodys_and_links_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let link = |target: &str, alias: &str| Link { target: target.into(), alias: alias.into() };
        let names = |aliases: &[&str], links: Vec<Link>| FurtherNames {
            aliases: [("bridge".into(), aliases.iter().map(|&alias| alias.into()).collect())]
                .into(),
            links: [("bridge".into(), links)].into(),
        };
        let one = names(&["db", "db"], vec![]);
        let two = names(&[], vec![link("one", "by-id"), link("db", "by-alias"), link("x", "none")]);
        let (one, two) = (("one", one), ("two", two));
        let hosts = [one, two].map(|(name, names)| store.allocate(&id(name), b"", &names).unwrap());
        store.acquire(&meta("one", "10.4.0.2/24")).unwrap();
        store.acquire(&meta("two", "10.4.0.3/24")).unwrap();
        let text = |which: usize| fs::read_to_string(&hosts[which]).unwrap();
        let first = |which: usize| text(which).lines().next().unwrap().to_owned();
        assert_eq!(first(0), "10.4.0.2 db alias.nerdctld.invalid");
        assert_eq!(first(1), "10.4.0.2 db by-id by-alias alias.nerdctld.invalid");

        store.remove_link(&id("two"), "bridge", "by-id").unwrap();
        assert_eq!(first(1), "10.4.0.2 db by-alias alias.nerdctld.invalid");

        // A new address takes the place of the old one, and with the container its names go.
        store.acquire(&meta("one", "10.4.0.9/24")).unwrap();
        assert_eq!(first(1), "10.4.0.9 db by-alias alias.nerdctld.invalid");
        assert!(!text(1).contains("10.4.0.2"), "{}", text(1));
        store.release(&id("one")).unwrap();
        assert_eq!(first(1), "# <nerdctl>");
        store.delete(&id("one")).unwrap();
        assert!(!dir.path().join("etchosts/default/one").exists());
    }

    #[test]
    fn damaged_neighbours_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        for (neighbour, text) in
            [("bad", "{"), ("null", r#"{"ID":"null","Networks":{"bridge":null}}"#)]
        {
            fs::create_dir_all(dir.path().join("etchosts/default").join(neighbour)).unwrap();
            fs::write(dir.path().join("etchosts/default").join(neighbour).join("meta.json"), text)
                .unwrap();
        }
        store.acquire(&meta("one", "10.4.0.2/24")).unwrap();
        assert!(fs::read_to_string(store.hosts_path(&id("one"))).unwrap().contains("one-host"));
        assert_eq!(store.meta(&id("bad")).unwrap(), None);
        assert!(!store.forget_networks(&id("absent")).unwrap());
        assert!(matches!(store.rename(&id("absent"), "x"), Err(StoreError::NoHostsEntry { .. })));
    }

    #[test]
    fn an_announcement_of_go_without_maps_is_read() {
        let meta: HostsMeta = serde_json::from_str(
            r#"{"ID":"a","Networks":null,"Hostname":"h","ExtraHosts":null,"Name":""}"#,
        )
        .unwrap();
        assert_eq!(
            meta,
            HostsMeta { id: "a".into(), hostname: "h".into(), ..HostsMeta::default() }
        );
    }
}
