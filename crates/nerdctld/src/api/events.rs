//! `GET /events`: what happened lately, and what happens from now on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use docker_wire::events::{EventActor, EventMessage};
use docker_wire::filters::Filters;
use docker_wire::{encode, time};
use engine::events::{Event, EventFilter, Subscription};
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use http::header::ACCEPT;
use jiff::Timestamp;

use super::call::{Answer, Call, chain};
use super::compat::events::{self, EventStyle};
use super::error::Refusal;
use super::reply::Reply;

/// Separates the objects of a JSON sequence (RFC 7464).
pub(super) const RECORD_SEPARATOR: u8 = 0x1e;
/// What asks for them.
pub(super) const JSON_SEQUENCE: &str = "application/json-seq";
/// What a client may choose by name (moby `daemon/server/router/system/system_routes.go`).
const CHOICES: [&str; 3] = ["application/jsonl", "application/x-ndjson", JSON_SEQUENCE];

/// Longest time that a stream waits for its `until`; nobody is connected for so long.
const FAR_AWAY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Filter keys that name actors of their own type; `image` is not among them, it looks at attributes too.
const ACTORS: [&str; 9] =
    ["container", "network", "volume", "daemon", "plugin", "node", "service", "secret", "config"];

/// `GET /events`. The subscription stands before the head goes out: clients start their work when they see it.
pub(super) async fn follow(call: Call) -> Answer {
    let since = moment(&call, "since")?;
    let until = moment(&call, "until")?;
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        let (since, until) = (call.query.text("since"), call.query.text("until"));
        let text = format!("`since` time ({since}) cannot be after `until` time ({until})");
        return Err(Refusal::BadParameter(text).into());
    }
    let filters = Filters::parse(call.query.text("filters")).map_err(Refusal::from)?;
    let style = events::style(call.version);
    let content_type = accepted(&call.headers).unwrap_or(style.content_type);
    // Only what comes is told, unless one end of the time is given (moby `daemon/events/events.go`).
    let past_from = since.or(until.map(|_| Timestamp::MIN));
    let subscription = call.engine.events(filter(&filters), past_from);
    let sequence = content_type == JSON_SEQUENCE;
    let lines = until_then(subscription, until).filter_map(move |event| {
        let line = line(style, &event, sequence);
        std::future::ready(line.map(Ok))
    });
    Ok(Reply::endless(content_type, lines))
}

fn moment(call: &Call, name: &str) -> Result<Option<Timestamp>, Refusal> {
    time::parse_unix(call.query.text(name)).map_err(|error| {
        Refusal::BadParameter(format!("invalid value for '{name}': {}", chain(&error)))
    })
}

/// A media type that the client names exactly; wildcards choose nothing.
pub(super) fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    let named = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = named
        .flat_map(|value| value.split(','))
        .map(|part| part.split(';').next().unwrap_or_default().trim());
    types.find_map(|given| CHOICES.into_iter().find(|choice| choice.eq_ignore_ascii_case(given)))
}

/// Keys that we do not know are ignored here, alone of all endpoints.
fn filter(given: &Filters) -> EventFilter {
    let values = |key: &str| given.values(key).map(str::to_owned).collect::<Vec<_>>();
    let actors = ACTORS.into_iter().filter(|kind| given.values(kind).next().is_some());
    EventFilter {
        types: values("type"),
        actions: values("event"),
        actors: actors.map(|kind| (kind.to_owned(), values(kind))).collect(),
        images: values("image"),
        labels: values("label"),
        scopes: values("scope"),
    }
}

/// Events until the moment, which may be over: then only those that were kept.
fn until_then(
    subscription: Subscription,
    until: Option<Timestamp>,
) -> impl Stream<Item = Arc<Event>> + Send {
    let deadline = until.map(|until| {
        let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
        tokio::time::Instant::now() + left.min(FAR_AWAY)
    });
    futures_util::stream::unfold(subscription, move |mut subscription| async move {
        let event = match deadline {
            None => subscription.next().await,
            Some(deadline) => match subscription.next_past() {
                Some(event) => Some(event),
                None => tokio::time::timeout_at(deadline, subscription.next()).await.ok().flatten(),
            },
        };
        let event = event.filter(|event| until.is_none_or(|until| event.at <= until))?;
        Some((event, subscription))
    })
}

fn line(style: EventStyle, event: &Event, sequence: bool) -> Option<Bytes> {
    let message = style.message(event, view(event))?;
    let mut line = if sequence { vec![RECORD_SEPARATOR] } else { Vec::new() };
    // Texts and numbers only: this cannot fail.
    line.extend(encode::to_vec_line(&message).unwrap_or_default());
    Some(line.into())
}

fn view(event: &Event) -> EventMessage {
    EventMessage {
        kind: event.kind.as_str().to_owned(),
        action: event.action.clone(),
        actor: EventActor { id: event.actor.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: event.at.as_second(),
        time_nano: i64::try_from(event.at.as_nanosecond()).unwrap_or(i64::MAX),
        ..EventMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use engine::events::{EventHub, EventType};
    use http::HeaderValue;

    use super::*;

    fn event(action: &str, second: i64) -> Event {
        Event {
            kind: EventType::Container,
            action: action.to_owned(),
            actor: "ab".to_owned(),
            attributes: [("name".to_owned(), "web".to_owned())].into(),
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    async fn told(hub: &EventHub, since: Option<i64>, until: i64) -> Vec<String> {
        let moment = |second| Timestamp::from_second(second).unwrap();
        let subscription =
            hub.subscribe(EventFilter::default(), Some(since.map_or(Timestamp::MIN, moment)));
        until_then(subscription, Some(moment(until)))
            .map(|event| event.action.clone())
            .collect()
            .await
    }

    #[tokio::test]
    async fn an_until_that_is_over_ends_with_what_was_kept() {
        let hub = EventHub::default();
        for (action, second) in [("create", 10), ("start", 20), ("die", 30)] {
            hub.publish(event(action, second));
        }
        assert_eq!(told(&hub, None, 25).await, ["create", "start"]);
        assert_eq!(told(&hub, Some(20), 25).await, ["start"]);
        assert_eq!(told(&hub, Some(20), 1000).await, ["start", "die"]);
    }

    #[test]
    fn clients_choose_only_by_name() {
        let chosen = |accept: &'static str| {
            accepted(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert_eq!(chosen("application/json-seq"), Some(JSON_SEQUENCE));
        assert_eq!(chosen("text/html, application/x-ndjson;q=0.9"), Some("application/x-ndjson"));
        assert_eq!(chosen("*/*"), None);
        assert_eq!(chosen("application/json"), None);
        assert_eq!(accepted(&HeaderMap::new()), None);
    }

    #[test]
    fn one_event_is_one_line() {
        let style =
            EventStyle { legacy_fields: false, image_create: true, content_type: CHOICES[0] };
        let text = |sequence| {
            String::from_utf8(line(style, &event("start", 7), sequence).unwrap().to_vec()).unwrap()
        };
        let plain = "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"ab\",\"Attributes\":{\"name\":\"web\"}},\"scope\":\"local\",\"time\":7,\"timeNano\":7000000000}\n";
        assert_eq!(text(false), plain);
        assert_eq!(text(true), format!("\u{1e}{plain}"));
    }

    #[test]
    fn unknown_filters_are_ignored_here() {
        let given = Filters::parse(
            r#"{"type":["container"],"container":["web"],"nonsense":["x"],"image":["a"]}"#,
        )
        .unwrap();
        let filter = filter(&given);
        assert_eq!(
            (filter.types, filter.images),
            (vec!["container".to_owned()], vec!["a".to_owned()])
        );
        assert_eq!(filter.actors.keys().collect::<Vec<_>>(), ["container"]);
    }
}
