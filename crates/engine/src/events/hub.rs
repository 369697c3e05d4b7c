//! Where events are published and read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;

use super::{Event, EventFilter};

/// Events kept for `since` (moby `daemon/events/events.go`: 256).
const HISTORY: usize = 256;

/// How far apart two events are made at most that are told in the other order: less than a step of the clock.
const SAME_MOMENT: SignedDuration = SignedDuration::from_secs(1);

/// Events a reader may lag behind before it is disconnected: bounded memory beats completeness.
const LAG: usize = 1024;

/// Keeps the last events and hands new ones to all readers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventHub {
    // One lock orders publishing and subscribing, so that a reader gets each event once: from the past or live.
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    history: VecDeque<Arc<Event>>,
    live: broadcast::Sender<Arc<Event>>,
    told: u64,
}

impl Default for EventHub {
    fn default() -> Self {
        let live = broadcast::Sender::new(LAG);
        Self { shared: Arc::new(Mutex::new(Shared { history: VecDeque::new(), live, told: 0 })) }
    }
}

impl EventHub {
    /// Tell everybody.
    pub fn publish(&self, mut event: Event) {
        tracing::debug!(
            kind = event.kind.as_str(),
            action = event.action,
            actor = event.actor,
            "event"
        );
        let mut shared = self.lock();
        if let Some(last) = shared.history.back() {
            event.at = in_order(last.at, event.at);
        }
        let event = Arc::new(event);
        if shared.history.len() == HISTORY {
            shared.history.pop_front();
        }
        shared.history.push_back(Arc::clone(&event));
        shared.told += 1;
        // No reader is not an error.
        let _ = shared.live.send(event);
    }

    /// Read from now on, and the kept events at or after `since` before that.
    #[must_use]
    pub fn subscribe(&self, filter: EventFilter, since: Option<Timestamp>) -> Subscription {
        let shared = self.lock();
        let past = match since {
            None => VecDeque::new(),
            Some(since) => {
                shared.history.iter().filter(|event| event.at >= since).cloned().collect()
            }
        };
        Subscription { filter, past, live: shared.live.subscribe() }
    }

    /// How many events were told so far.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.lock().told
    }

    /// How many readers there are.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.lock().live.receiver_count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader.
#[derive(Debug)]
pub struct Subscription {
    filter: EventFilter,
    past: VecDeque<Arc<Event>>,
    live: broadcast::Receiver<Arc<Event>>,
}

impl Subscription {
    /// The next event that passes the filter; `None` when the reader lagged too far and is cut off.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            if let Some(event) = self.next_past() {
                return Some(event);
            }
            match self.live.recv().await {
                Ok(event) if self.filter.matches(&event) => return Some(event),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a reader of events was too slow and is disconnected");
                    return None;
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event that has already happened, without waiting.
    pub fn next_past(&mut self) -> Option<Arc<Event>> {
        while let Some(event) = self.past.pop_front() {
            if self.filter.matches(&event) {
                return Some(event);
            }
        }
        None
    }
}

impl EventFilter {
    /// The event is wanted.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        any(&self.types, |kind| kind == event.kind.as_str())
            && actions_match(&self.actions, &event.action)
            && any(&self.scopes, |scope| scope == "local")
            && any(&self.images, |image| image_matches(image, event))
            && self.actors.values().all(|wanted| any(wanted, |wanted| actor_matches(wanted, event)))
            && self.labels.iter().all(|label| label_matches(label, event))
    }
}

/// The time of an event that is told after another one: later, so that who sorts by time, or asks since the last one he
/// saw, has them in order. A clock that was set back is believed.
fn in_order(last: Timestamp, at: Timestamp) -> Timestamp {
    let behind = last.duration_since(at);
    if behind.is_negative() || behind > SAME_MOMENT {
        return at;
    }
    last.checked_add(SignedDuration::from_nanos(1)).unwrap_or(at)
}

fn any<T>(wanted: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

/// moby `daemon/events/filter.go`: actions with details behind a colon are asked for by how they begin, and then all are.
fn actions_match(wanted: &[String], action: &str) -> bool {
    const WITH_DETAIL: [&str; 3] = ["exec_create", "exec_start", "health_status"];
    let by_beginning = wanted.iter().any(|wanted| WITH_DETAIL.contains(&wanted.as_str()));
    any(wanted, |wanted| wanted == action || (by_beginning && action.starts_with(wanted.as_str())))
}

fn actor_matches(wanted: &str, event: &Event) -> bool {
    let wanted = wanted.trim_start_matches('/');
    event.actor.starts_with(wanted)
        || event.attributes.get("name").is_some_and(|name| name.starts_with(wanted))
}

fn image_matches(wanted: &str, event: &Event) -> bool {
    let bare = |text: &str| {
        let text = text.split_once('@').map_or(text, |(name, _)| name);
        match text.rfind(':') {
            Some(colon) if !text[colon..].contains('/') => text[..colon].to_owned(),
            _ => text.to_owned(),
        }
    };
    let candidates = match event.kind {
        super::EventType::Image => {
            [Some(event.actor.as_str()), event.attributes.get("name").map(String::as_str)]
        }
        _ => [event.attributes.get("image").map(String::as_str), None],
    };
    candidates
        .into_iter()
        .flatten()
        .any(|candidate| wanted == candidate || wanted == bare(candidate))
}

fn label_matches(label: &str, event: &Event) -> bool {
    match label.split_once('=') {
        None => event.attributes.contains_key(label),
        Some((key, value)) => event.attributes.get(key).is_some_and(|found| found == value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventType;

    fn event(action: &str, second: i64) -> Event {
        Event {
            kind: EventType::Container,
            action: action.into(),
            actor: "0123abcd".into(),
            attributes: [("name", "web"), ("image", "nginx:1.25"), ("tier", "front")]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    fn filter(change: impl FnOnce(&mut EventFilter)) -> EventFilter {
        let mut filter = EventFilter::default();
        change(&mut filter);
        filter
    }

    #[test]
    fn filters_match_as_docker_does() {
        let start = event("start", 1);
        let exec = event("exec_start: ls -l", 1);
        let cases = [
            (filter(|f| f.types = vec!["container".into()]), &start, true),
            (filter(|f| f.types = vec!["image".into()]), &start, false),
            (filter(|f| f.actions = vec!["die".into(), "start".into()]), &start, true),
            (filter(|f| f.actions = vec!["exec_start".into()]), &exec, true),
            (filter(|f| f.actions = vec!["exec".into()]), &exec, false),
            (filter(|f| f.images = vec!["nginx".into()]), &start, true),
            (filter(|f| f.images = vec!["nginx:1.26".into()]), &start, false),
            (filter(|f| f.labels = vec!["tier=front".into(), "name".into()]), &start, true),
            (filter(|f| f.labels = vec!["tier=back".into()]), &start, false),
            (
                filter(|f| drop(f.actors.insert("container".into(), vec!["0123".into()]))),
                &start,
                true,
            ),
            (
                filter(|f| drop(f.actors.insert("container".into(), vec!["web".into()]))),
                &start,
                true,
            ),
            (filter(|f| drop(f.actors.insert("network".into(), vec!["web".into()]))), &start, true),
            (
                filter(|f| drop(f.actors.insert("network".into(), vec!["bridge".into()]))),
                &start,
                false,
            ),
            (filter(|f| f.scopes = vec!["swarm".into()]), &start, false),
        ];
        for (filter, event, expected) in cases {
            assert_eq!(filter.matches(event), expected, "{filter:?} on {}", event.action);
        }
    }

    #[tokio::test]
    async fn the_past_comes_before_the_present_and_nothing_twice() {
        let hub = EventHub::default();
        for second in 0..300 {
            hub.publish(event("start", second));
        }
        let mut reader = hub.subscribe(EventFilter::default(), Timestamp::from_second(298).ok());
        hub.publish(event("die", 300));
        let mut seen = Vec::new();
        for _ in 0..3 {
            let event = reader.next().await.unwrap();
            seen.push((event.action.clone(), event.at.as_second()));
        }
        assert_eq!(seen, [("start".into(), 298), ("start".into(), 299), ("die".into(), 300)]);
        let mut all = hub.subscribe(EventFilter::default(), Timestamp::from_second(0).ok());
        assert_eq!(std::iter::from_fn(|| all.next_past()).count(), HISTORY);
    }

    #[test]
    fn times_are_in_the_order_of_telling() {
        let at = |nanos: i128| Timestamp::from_nanosecond(nanos).unwrap();
        assert_eq!(in_order(at(100), at(200)), at(200));
        assert_eq!(in_order(at(100), at(100)), at(101));
        assert_eq!(in_order(at(100), at(50)), at(101));
        let (before, after) = (at(5_000_000_000), at(2_000_000_000));
        assert_eq!(in_order(before, after), after, "the clock was set back");
    }

    #[tokio::test]
    async fn a_reader_that_lags_is_cut_off() {
        let hub = EventHub::default();
        let mut reader = hub.subscribe(EventFilter::default(), None);
        for second in 0..2000 {
            hub.publish(event("start", second));
        }
        assert!(reader.next().await.is_none());
    }
}
