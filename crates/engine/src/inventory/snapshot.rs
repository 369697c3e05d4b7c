//! An immutable picture of all containers, and how to find one in it.

use std::sync::Arc;

use names::ContainerId;
use tokio::sync::watch;

use crate::containers::{Container, State};
use crate::{Error, Result};

/// All containers at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The first look at containerd has ended.
    pub loaded: bool,
    /// Whether containerd answers.
    pub reach: Reach,
    /// Sorted by id, so that ids and prefixes are found by bisection.
    pub(crate) entries: Vec<Arc<Entry>>,
}

/// Whether containerd answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nobody knows yet.
    #[default]
    Untried,
    /// It does, and its events are followed.
    Connected,
    /// It does not; why.
    Lost(Arc<str>),
}

/// One container, and a way to watch its state.
#[derive(Debug)]
pub struct Entry {
    /// What is true of it.
    pub container: Arc<Container>,
    /// Its state from now on; the channel closes when the container is gone.
    pub states: watch::Receiver<State>,
}

impl Snapshot {
    /// All containers, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// The container with exactly this id.
    #[must_use]
    pub fn get(&self, id: &ContainerId) -> Option<&Arc<Entry>> {
        let at = self.entries.binary_search_by(|entry| entry.container.id.cmp(id)).ok()?;
        self.entries.get(at)
    }

    /// The container that has this name (without slash).
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| !name.is_empty() && entry.container.name == name)
    }

    /// The container that another one calls so: `web/alias`.
    fn by_link(&self, name: &str) -> Option<&Arc<Entry>> {
        let (parent, alias) = name.split_once('/')?;
        let parent = &self.by_name(parent)?.container;
        parent.links.iter().find(|link| link.alias == alias)?.find(self)
    }

    /// The container a user means: full id, then name with or without slash, then unique id prefix (moby
    /// `daemon/container.go`, `GetContainer`).
    ///
    /// # Errors
    /// [`Error::EmptyContainerRef`], [`Error::NoSuchContainer`], [`Error::AmbiguousContainer`].
    pub fn resolve(&self, typed: &str) -> Result<&Arc<Entry>> {
        if typed.is_empty() {
            return Err(Error::EmptyContainerRef);
        }
        let at = self.entries.partition_point(|entry| entry.container.id.as_str() < typed);
        let with_prefix = |at: usize| {
            self.entries.get(at).filter(|entry| entry.container.id.as_str().starts_with(typed))
        };
        if let Some(exact) = with_prefix(at).filter(|entry| entry.container.id.as_str() == typed) {
            return Ok(exact);
        }
        if let Some(named) = self.by_name(typed.strip_prefix('/').unwrap_or(typed)) {
            return Ok(named);
        }
        if let Some(linked) = self.by_link(typed.strip_prefix('/').unwrap_or(typed)) {
            return Ok(linked);
        }
        match (with_prefix(at), with_prefix(at + 1)) {
            (Some(_), Some(_)) => Err(Error::AmbiguousContainer(typed.to_owned())),
            (Some(only), None) => Ok(only),
            (None, _) => Err(Error::NoSuchContainer(typed.to_owned())),
        }
    }
}
