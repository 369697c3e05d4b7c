//! Networks and volumes that others make and remove: nerdctl tells nobody, so its folders are watched (inotify(7)).
//!
//! A change in a folder is only the sign to look again; what is told is the difference between two looks, less what our own
//! operations have told meanwhile. Nobody is woken while nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Event, EventFilter, EventType};
use crate::{Engine, Error, Result};

/// After the first change of a folder: whoever makes something there is done by then, and has told it if it was us.
const SETTLED: Duration = Duration::from_millis(400);
/// Pause after a failure: a folder that cannot be read, containerd not yet known.
const RETRY: Duration = Duration::from_secs(10);

impl Engine {
    /// Tell what others do to networks and volumes, for ever.
    pub(crate) async fn watch_networks_and_volumes(self) {
        loop {
            if let Err(error) = self.watch_once().await {
                tracing::debug!(%error, "the folders of networks and volumes are not watched");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn watch_once(&self) -> Result<()> {
        let failed = |error: io::Error| Error::failed("watch nerdctl's folders", error);
        let watch = Watch::new().map_err(failed)?;
        watch.follow(&self.watched_folders()).map_err(failed)?;
        let mut looked = Timestamp::now();
        let mut known = self.look().await?;
        loop {
            watch.changed().await.map_err(failed)?;
            tokio::time::sleep(SETTLED).await;
            watch.drain().map_err(failed)?;
            // A folder may be there now that was not, or be another one.
            watch.follow(&self.watched_folders()).map_err(failed)?;
            let since = std::mem::replace(&mut looked, Timestamp::now());
            let found = self.look().await?;
            let mut told = self.events(EventFilter::default(), Some(since));
            while let Some(event) = told.next_past() {
                known.take_in(&event);
            }
            for event in known.differences(&found) {
                self.hub().publish(event);
            }
            known = found;
        }
    }

    fn watched_folders(&self) -> [PathBuf; 3] {
        let settings = self.settings();
        let volumes = self.store().volumes(&settings.namespace).path().to_owned();
        let networks = settings.cni_netconf_path.clone();
        [volumes, networks.join(settings.namespace.as_str()), networks]
    }

    async fn look(&self) -> Result<Seen> {
        let networks = self.all_networks().await?;
        let volumes = self.list_volumes(&crate::volumes::list::VolumeFilter::default()).await?;
        let networks = networks.into_iter().filter(|network| !network.is_builtin());
        Ok(Seen {
            volumes: volumes.into_iter().map(|volume| volume.name).collect(),
            networks: networks
                .map(|network| (network.id, Named { name: network.name, driver: network.driver }))
                .collect(),
        })
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    volumes: BTreeSet<String>,
    /// By id.
    networks: BTreeMap<String, Named>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: String,
    driver: String,
}

impl Seen {
    /// Something that has been told already.
    fn take_in(&mut self, event: &Event) {
        let attribute = |key: &str| event.attributes.get(key).cloned().unwrap_or_default();
        let id = &event.actor;
        match (event.kind, event.action.as_str()) {
            (EventType::Volume, "create") => drop(self.volumes.insert(id.clone())),
            (EventType::Volume, "destroy") => drop(self.volumes.remove(id)),
            (EventType::Network, "create") => {
                let named = Named { name: attribute("name"), driver: attribute("type") };
                self.networks.insert(id.clone(), named);
            }
            (EventType::Network, "destroy") => drop(self.networks.remove(id)),
            _ => {}
        }
    }

    /// What must have happened between this look and that one.
    fn differences(&self, now: &Self) -> Vec<Event> {
        let volume = |name: &String, action| {
            crate::volumes::event(
                name,
                action,
                [("driver", crate::volumes::Volume::DRIVER.to_owned())],
            )
        };
        let network = |(id, named): (&String, &Named), action: &str| Event {
            kind: EventType::Network,
            action: action.to_owned(),
            actor: id.clone(),
            attributes: [("name", &named.name), ("type", &named.driver)]
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .into(),
            at: Timestamp::now(),
        };
        let missing = |from: &Self, of: &Self| -> Vec<(String, Named)> {
            let gone = of.networks.iter().filter(|(id, _)| !from.networks.contains_key(*id));
            gone.map(|(id, named)| (id.clone(), named.clone())).collect()
        };
        let mut events = Vec::new();
        events.extend(missing(self, now).iter().map(|(id, named)| network((id, named), "create")));
        events.extend(now.volumes.difference(&self.volumes).map(|name| volume(name, "create")));
        events.extend(self.volumes.difference(&now.volumes).map(|name| volume(name, "destroy")));
        events.extend(missing(now, self).iter().map(|(id, named)| network((id, named), "destroy")));
        events
    }
}

/// Folders whose entries come and go.
struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    fn new() -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self(register(inotify::init(flags)?)?))
    }

    /// Watch each folder, or the nearest above it that exists. Those that are watched already stay so.
    fn follow(&self, folders: &[PathBuf]) -> io::Result<()> {
        use inotify::WatchFlags;
        let kinds = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        for folder in folders {
            let nearest = folder.ancestors().find(|folder| folder.is_dir());
            let nearest = nearest.unwrap_or(Path::new("/"));
            inotify::add_watch(self.0.get_ref(), nearest, kinds | WatchFlags::ONLYDIR)?;
        }
        Ok(())
    }

    async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            if self.drain()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Forget the signs that have come; says whether there were any.
    fn drain(&self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut any = false;
        loop {
            match rustix::io::read(self.0.get_ref(), &mut buffer) {
                Ok(0) => return Ok(any),
                Ok(_) => any = true,
                Err(rustix::io::Errno::AGAIN) => return Ok(any),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "the replacement is unsafe, which this workspace forbids; here the descriptor is given away and not touched again"
)]
fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(volumes: &[&str], networks: &[&str]) -> Seen {
        let named = |name: &str| Named { name: name.to_owned(), driver: "bridge".to_owned() };
        Seen {
            volumes: volumes.iter().map(|name| (*name).to_owned()).collect(),
            networks: networks.iter().map(|name| (format!("id-{name}"), named(name))).collect(),
        }
    }

    fn words(events: &[Event]) -> Vec<String> {
        let word =
            |event: &Event| format!("{} {} {}", event.kind.as_str(), event.action, event.actor);
        events.iter().map(word).collect()
    }

    #[test]
    fn two_looks_make_events() {
        let before = seen(&["old", "same"], &["gone"]);
        let now = seen(&["new", "same"], &["made"]);
        assert_eq!(
            words(&before.differences(&now)),
            [
                "network create id-made",
                "volume create new",
                "volume destroy old",
                "network destroy id-gone"
            ]
        );
        assert!(now.differences(&now).is_empty());
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let (mut known, now) = (seen(&[], &[]), seen(&["v"], &["n"]));
        let told = known.differences(&now);
        for event in &told {
            known.take_in(event);
        }
        assert_eq!(known, now);
        for event in now.differences(&seen(&[], &[])) {
            known.take_in(&event);
        }
        assert_eq!(known, seen(&[], &[]));
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_is_seen() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("a/b");
        let watch = Watch::new().unwrap();
        watch.follow(std::slice::from_ref(&folder)).unwrap();
        assert!(!watch.drain().unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        watch.changed().await.unwrap();
        watch.follow(std::slice::from_ref(&folder)).unwrap();
        std::fs::write(folder.join("c"), "").unwrap();
        watch.changed().await.unwrap();
        assert!(!watch.drain().unwrap());
    }
}
