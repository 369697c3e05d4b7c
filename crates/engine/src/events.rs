//! Docker events: what happened, to whom, when.
//!
//! Life-cycle events of containers (create, start, die, oom, pause, unpause, destroy) come from one place: where the
//! inventory goes from one state to the next, whoever caused it. All others are published by the operation that did
//! them. The hub keeps the last 256 for `since` (moby `daemon/events/events.go`) and disconnects a reader that lags.

pub mod hub;
pub mod translate;
mod watch;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use hub::{EventHub, Subscription};

/// What kind of thing an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// The build cache.
    Builder,
    /// The daemon itself.
    Daemon,
}

impl EventType {
    /// Docker's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Builder => "builder",
            Self::Daemon => "daemon",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// About what.
    pub kind: EventType,
    /// Docker's word (`start`, `exec_create: sh -c ls`, `health_status: healthy`).
    pub action: String,
    /// Id of the thing; for pulled images the familiar reference.
    pub actor: String,
    /// Docker's attributes: labels of the thing plus `name`, `image` and the extras of the action.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
}

/// Which events a client wants; the keys of one kind are alternatives, the kinds must all match.
///
/// Matching follows moby `daemon/events/filter.go`: unknown keys are ignored by the edge before this is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// `type`: exact.
    pub types: Vec<String>,
    /// `event`: exact, but `exec_create`, `exec_start`, `exec_die` and `health_status` match as prefixes too.
    pub actions: Vec<String>,
    /// `container`, `network`, `volume`, … : beginning of an id or a name, of whatever type: Docker asks for no more.
    pub actors: BTreeMap<String, Vec<String>>,
    /// `image`: of image events and of the `image` attribute of container events, with or without tag.
    pub images: Vec<String>,
    /// `label`: `key` or `key=value`; all must match.
    pub labels: Vec<String>,
    /// `scope`: only `local` exists here.
    pub scopes: Vec<String>,
}
