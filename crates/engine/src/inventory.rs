//! The read model: what containers there are and what they do, in memory, never waiting for anybody.
//!
//! One task owns the data ([`owner`]). It is fed by containerd's events ([`follow`]), by exits that the engine waits for,
//! and by operations that tell what they did. It reads one record again per piece of news ([`load`]), and publishes an
//! immutable [`Snapshot`]. Readers clone an `Arc`; no reader takes a lock or makes a call that a hung shim could hold up.
//!
//! This is also the one place where life-cycle events are born: where a state goes to the next, whoever caused it.

mod follow;
mod load;
mod missed;
mod owner;
mod snapshot;

use containerd::tasks::Exit;
use std::sync::Arc;
use std::time::Duration;

use names::ContainerId;
use tokio::sync::{mpsc, oneshot, watch};

pub use load::Reader;
pub use owner::{Reaction, Transition};
pub use snapshot::{Entry, Reach, Snapshot};

use crate::containers::Container;
use crate::containers::state::{Fact, State};
use crate::{Error, Result};

/// News that wait for the owner; senders wait when it is full (they are RPC followers and operations, not readers).
const QUEUE: usize = 1024;

/// How long a request waits for the first load before it gives up with 503.
const FIRST_LOAD: Duration = Duration::from_secs(10);

/// How long containerd may be away before requests are refused.
const ABSENCE: Duration = Duration::from_secs(1);

/// Handle of the read model. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inventory {
    news: mpsc::Sender<News>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    reader: Reader,
}

/// What the owner is told.
#[derive(Debug)]
pub(crate) enum News {
    /// Something about one container.
    Container(ContainerNews),
    /// A whole look at containerd begins. What is told from here on is newer than what it will give.
    Loading,
    /// What the look gave, after a (re)connect.
    Loaded(Vec<load::Loaded>),
    /// containerd is gone; what is known stays as it is.
    Lost(String),
    /// Whether the owner and who reacts to it still work: that one answers when both have come so far.
    Beat(oneshot::Sender<()>),
    /// A refresh that the owner had started has ended. `None`: the record does not exist.
    Refreshed(ContainerId, load::Outcome),
}

/// Something about one container.
#[derive(Debug)]
pub(crate) struct ContainerNews {
    pub(crate) id: ContainerId,
    /// Read its record and files again first.
    pub(crate) refresh: bool,
    pub(crate) what: Option<Happening>,
    /// Told when the snapshot has it.
    pub(crate) done: Option<oneshot::Sender<()>>,
}

/// What happened to a container.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Its state changes.
    Fact(Fact),
    /// The run with this number ended, and that has been worked on.
    Ended {
        generation: u64,
        /// [`Fact::Exited`].
        fact: Fact,
    },
    /// Its task was looked at, ahead of the events.
    Found(State),
    /// containerd says that its first process ended; the engine has work to do before anybody hears of it.
    Exit { pid: u32, exit: Exit },
    /// containerd says that a further process of it ended; ours are told by those who started them.
    ExecExit { exec: String, exit: Exit },
}

impl Inventory {
    /// What is known now.
    #[must_use]
    pub fn now(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// What is known, after the first look at containerd has ended; and only while containerd answers, because what is
    /// known goes stale without its events. A short absence, as of an update, is waited for.
    ///
    /// # Errors
    /// [`Error::ContainerdUnavailable`] after [`ABSENCE`]; [`Error::NotLoaded`] after ten seconds of a first look.
    pub async fn loaded(&self) -> Result<Arc<Snapshot>> {
        let mut snapshots = self.snapshot.clone();
        let known =
            |snapshot: &Arc<Snapshot>| snapshot.loaded && snapshot.reach == Reach::Connected;
        let settled =
            |snapshot: &Arc<Snapshot>| known(snapshot) || matches!(snapshot.reach, Reach::Lost(_));
        match tokio::time::timeout(FIRST_LOAD, snapshots.wait_for(settled)).await {
            Ok(Ok(snapshot)) if known(&snapshot) => return Ok(snapshot.clone()),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Error::ShuttingDown),
            Err(_) => return Err(Error::NotLoaded),
        }
        match tokio::time::timeout(ABSENCE, snapshots.wait_for(known)).await {
            Ok(Ok(snapshot)) => Ok(snapshot.clone()),
            Ok(Err(_)) => Err(Error::ShuttingDown),
            Err(_) => Err(self.unavailable()),
        }
    }

    fn unavailable(&self) -> Error {
        match &self.now().reach {
            Reach::Lost(why) => {
                let address = self.reader.containerd.socket().display().to_string();
                Error::ContainerdUnavailable { address, source: why.to_string().into() }
            }
            Reach::Untried | Reach::Connected => Error::NotLoaded,
        }
    }

    /// Whether the owner has worked on all that it was told before, and the engine has reacted to that; false as soon as one
    /// of them is gone. Waits as long as one of them hangs.
    pub(crate) async fn beat(&self) -> bool {
        let (done, told) = oneshot::channel();
        self.news.send(News::Beat(done)).await.is_ok() && told.await.is_ok()
    }

    /// Tell a fact; returns when the snapshot has it.
    pub async fn tell(&self, id: &ContainerId, fact: Fact) {
        self.send(id, false, Some(Happening::Fact(fact))).await;
    }

    /// Read one container's record and files again; returns when the snapshot has them.
    pub async fn refresh(&self, id: &ContainerId) {
        self.send(id, true, None).await;
    }

    /// Read the record and files again, then apply the fact; returns when the snapshot has both.
    pub async fn refresh_and_tell(&self, id: &ContainerId, fact: Fact) {
        self.send(id, true, Some(Happening::Fact(fact))).await;
    }

    /// Read the record and files again, then tell the end of one run: nothing happens if another one has begun meanwhile.
    pub(crate) async fn refresh_and_tell_end(&self, id: &ContainerId, generation: u64, fact: Fact) {
        self.send(id, true, Some(Happening::Ended { generation, fact })).await;
    }

    /// Ask containerd what a container's task does, because the news of what others did a moment ago may still be on their
    /// way, and take that in; nothing happens if nobody answers within three seconds. Says whether its run has been found
    /// to have ended, which is being worked on then, or is in a moment.
    pub(crate) async fn look(&self, container: &Container) -> bool {
        let found = self.reader.find(container).await;
        let ahead = missed::ahead(&container.state, &found);
        if ahead.is_something() {
            self.send(&container.id, true, Some(Happening::Found(found))).await;
        }
        ahead.is_end()
    }

    async fn send(&self, id: &ContainerId, refresh: bool, what: Option<Happening>) {
        let (done, told) = oneshot::channel();
        let news = ContainerNews { id: id.clone(), refresh, what, done: Some(done) };
        if self.news.send(News::Container(news)).await.is_ok() {
            // The owner only goes away with the daemon.
            let _ = told.await;
        }
    }
}
