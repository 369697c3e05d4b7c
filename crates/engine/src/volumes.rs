//! Volumes: directories with a name that outlive the containers which mount them. One operation, one file in `volumes/`.
//!
//! They are nerdctl's (`nerdctl volume ls` lists ours, and the reverse), kept in its store under its lock; there is no
//! other driver than `local`. Who uses a volume is written in the containers' records alone, in nerdctl's label of mounts,
//! half-made containers included: a record comes before the volumes it names are made, so whoever looks at the records
//! with the lock held sees every user.

pub(crate) mod copy_up;
pub mod create;
pub mod list;
pub mod prune;
pub mod remove;
pub(crate) mod root;
pub(crate) mod size;
pub(crate) mod subpath;

use std::collections::BTreeMap;

use jiff::Timestamp;
use nerdctl_store::labels::is_visible_key;
use nerdctl_store::volumes::DOCKER_ANONYMOUS;

use crate::Engine;
use crate::containers::mounts::LOCAL;
use crate::events::{Event, EventType};

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The directory that is mounted.
    pub mountpoint: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its labels; `None` if it was made without any.
    pub labels: Option<BTreeMap<String, String>>,
}

impl Volume {
    /// The driver of all volumes.
    pub const DRIVER: &'static str = LOCAL;
}

impl From<nerdctl_store::volumes::Volume> for Volume {
    /// nerdctl's own labels are never shown; that a volume is anonymous is said in Docker's words.
    fn from(stored: nerdctl_store::volumes::Volume) -> Self {
        let is_anonymous = stored.is_anonymous();
        let mut labels = stored.labels;
        if let Some(labels) = &mut labels {
            labels.retain(|key, _| is_visible_key(key));
            if is_anonymous {
                labels.entry(DOCKER_ANONYMOUS.to_owned()).or_default();
            }
        }
        Self {
            name: stored.name.to_string(),
            mountpoint: stored.mountpoint.display().to_string(),
            created: Timestamp::try_from(stored.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
            labels,
        }
    }
}

impl Engine {
    /// Tell of a volume (moby `daemon/events.go`, `LogVolumeEvent`).
    pub(crate) fn tell_of_volume(&self, volume: &str, action: &str) {
        self.hub().publish(event(volume, action, [("driver", LOCAL.to_owned())]));
    }
}

/// An event about a volume.
pub(crate) fn event(
    volume: &str,
    action: &str,
    attributes: impl IntoIterator<Item = (&'static str, String)>,
) -> Event {
    Event {
        kind: EventType::Volume,
        action: action.to_owned(),
        actor: volume.to_owned(),
        attributes: attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        at: Timestamp::now(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn shown(labels: &[(&str, &str)]) -> Vec<String> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let stored = nerdctl_store::volumes::Volume {
            name: "data".parse().unwrap(),
            mountpoint: "/m".into(),
            labels: Some(labels.collect()),
            created_at: SystemTime::UNIX_EPOCH,
        };
        Volume::from(stored).labels.unwrap().into_keys().collect()
    }

    #[test]
    fn nerdctls_labels_do_not_show() {
        assert_eq!(shown(&[("a", "b"), ("nerdctl/x", "y")]), ["a"]);
        assert_eq!(shown(&[("nerdctl/anonymous-volumes", "")]), [DOCKER_ANONYMOUS]);
    }
}
