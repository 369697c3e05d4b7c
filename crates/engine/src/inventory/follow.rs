//! Following containerd: subscribe, look at everything, then take the news as they come; again after every break.
//!
//! containerd's events have no history, and a stream gives no sign that it has begun. So the order is: subscribe, read
//! everything, then process what arrived meanwhile. Whatever was missed shows as a difference and becomes an event.

use std::time::Duration;

use containerd::events::{Event, EventBody};
use jiff::Timestamp;
use names::ContainerId;
use tokio::sync::mpsc;

use super::load::Reader;
use super::{ContainerNews, Happening, News};
use crate::containers::state::Fact;

/// Pause between tries to reach containerd.
const RETRY: Duration = Duration::from_millis(250);

/// Where news go.
#[derive(Clone, Debug)]
pub(crate) struct Outlets {
    pub(crate) news: mpsc::Sender<News>,
}

/// Follow for ever; a break is a short pause and a new beginning.
pub(crate) async fn follow(reader: Reader, outlets: Outlets) {
    let mut reachable = true;
    loop {
        let why = match one_stream(&reader, &outlets, &mut reachable).await {
            Ok(()) => "it closed the event stream".to_owned(),
            Err(error) => error.message().to_owned(),
        };
        // Said once, not four times a second while containerd is away.
        if std::mem::replace(&mut reachable, false) {
            tracing::warn!(error = why, "containerd does not answer; waiting for it");
            let _ = outlets.news.send(News::Lost(why)).await;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn one_stream(
    reader: &Reader,
    outlets: &Outlets,
    reachable: &mut bool,
) -> Result<(), containerd::Error> {
    let filter = format!("namespace=={}", reader.namespace.as_str());
    let mut events = reader.containerd.subscribe(&[&filter]).await?;
    let _ = outlets.news.send(News::Loading).await;
    let loaded = reader.read_all().await?;
    tracing::info!(
        containers = loaded.len(),
        namespace = reader.namespace.as_str(),
        "containerd's state is read"
    );
    *reachable = true;
    let _ = outlets.news.send(News::Loaded(loaded)).await;
    while let Some(event) = events.next().await {
        outlets.take(event?).await;
    }
    Ok(())
}

impl Outlets {
    async fn take(&self, event: Event) {
        let at = Timestamp::try_from(event.timestamp).unwrap_or_else(|_| Timestamp::now());
        match event.body {
            EventBody::ContainerCreate { id, .. }
            | EventBody::ContainerUpdate { id, .. }
            | EventBody::ContainerDelete { id } => self.tell(&id, true, None).await,
            EventBody::TaskStart { container_id, pid } => {
                self.tell_fact(&container_id, true, Fact::Started { pid, at }).await;
            }
            EventBody::TaskExit { container_id, exec_id: None, pid, exit } => {
                self.tell(&container_id, false, Some(Happening::Exit { pid, exit })).await;
            }
            EventBody::TaskExit { container_id, exec_id: Some(exec), exit, .. } => {
                self.tell(&container_id, false, Some(Happening::ExecExit { exec, exit })).await;
            }
            EventBody::TaskPaused { container_id } => {
                self.tell_fact(&container_id, false, Fact::Paused).await;
            }
            EventBody::TaskResumed { container_id } => {
                self.tell_fact(&container_id, false, Fact::Resumed).await;
            }
            EventBody::TaskOom { container_id } => {
                self.tell_fact(&container_id, false, Fact::Oom).await;
            }
            _ => {}
        }
    }

    async fn tell_fact(&self, id: &str, refresh: bool, fact: Fact) {
        self.tell(id, refresh, Some(Happening::Fact(fact))).await;
    }

    async fn tell(&self, id: &str, refresh: bool, what: Option<Happening>) {
        // containerd accepts nothing else as an id.
        let Ok(id) = id.parse::<ContainerId>() else { return };
        let _ =
            self.news.send(News::Container(ContainerNews { id, refresh, what, done: None })).await;
    }
}
