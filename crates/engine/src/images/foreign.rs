//! Images that others make, name and remove: nerdctl, `ctr`, the kubelet. Docker's clients hear of them in Docker's words.
//!
//! containerd tells of every record that changes, whoever changed it. Our own changes are told by the operations that
//! make them, which know more, so each of them is announced here before it is made ([`Expected`]) and containerd's news of
//! it are dropped. What a change meant is read off the records: the first name of an image is a *pull*, a further one a
//! *tag*, the last one that goes is *untag* and *delete*. Names that no person uses (CRI's digests) are no news.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use containerd::events::EventBody;
use containerd::images::Image;
use jiff::Timestamp;
use tokio::time::Instant;

use super::naming::reference_of;
use crate::Engine;
use crate::events::{Event, EventType};

/// Pause between tries to reach containerd.
const RETRY: Duration = Duration::from_secs(1);
/// News of our own changes come within moments; what has not come by then was lost with a connection.
const PATIENCE: Duration = Duration::from_secs(60);
/// Changes that are announced at the same time; more are told twice rather than remembered.
const MOST: usize = 4096;

/// What happens to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is new.
    Made,
    /// It stands for something else, or has other labels.
    Changed,
    /// It is gone.
    Removed,
}

/// Changes of ours that containerd has not told yet.
#[derive(Debug, Default)]
pub(crate) struct Expected(Mutex<VecDeque<(String, Change, Instant)>>);

impl Expected {
    fn announce(&self, name: &str, change: Change) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while waiting.front().is_some_and(|(.., at)| now - *at > PATIENCE || waiting.len() >= MOST)
        {
            waiting.pop_front();
        }
        waiting.push_back((name.to_owned(), change, now));
    }

    /// It has been told, or will never be; says whether it was ours.
    fn take(&self, name: &str, change: Change) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Their news will not come any more: what comes now is somebody else's.
        waiting.retain(|(.., at)| now - *at <= PATIENCE);
        let at = waiting.iter().position(|(known, what, _)| known == name && *what == change);
        at.and_then(|at| waiting.remove(at)).is_some()
    }
}

/// A change of ours that is being made. Dropped before it is known how that went, it is as good as somebody else's: whoever
/// gave it up tells nothing of it.
#[derive(Debug)]
#[must_use]
pub(super) struct Changing<'a> {
    expected: &'a Expected,
    name: &'a str,
    change: Change,
    made: bool,
}

impl<'a> Changing<'a> {
    fn begin(expected: &'a Expected, name: &'a str, change: Change) -> Self {
        expected.announce(name, change);
        Self { expected, name, change, made: false }
    }

    /// How it went: containerd tells nothing of what failed.
    pub(super) fn ended<T>(
        mut self,
        outcome: Result<T, containerd::Error>,
    ) -> Result<T, containerd::Error> {
        self.made = outcome.is_ok();
        outcome
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if !self.made {
            self.expected.take(self.name, self.change);
        }
    }
}

impl Engine {
    /// The record `name` is about to be changed by us; [`Changing::ended`] follows.
    pub(super) fn changing<'a>(&'a self, name: &'a str, change: Change) -> Changing<'a> {
        Changing::begin(self.image_cache().expected(), name, change)
    }

    /// Tell what others do to images, for ever. What they did while containerd's events were not followed is not told.
    pub(crate) async fn follow_images(self) {
        loop {
            if let Err(error) = self.follow_image_stream().await {
                tracing::debug!(%error, "containerd's news of images are not heard");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow_image_stream(&self) -> Result<(), containerd::Error> {
        let namespace = self.settings().namespace.as_str();
        let filter = format!("namespace=={namespace},topic~=\"^/images/\"");
        let mut events = self.containerd().subscribe(&[&filter]).await?;
        let records = self.containerd().list_images(&[]).await?;
        let mut known = Known::new();
        for record in records {
            // How it is found is no news.
            notice(&mut known, &record.name, Some(&record));
        }
        while let Some(event) = events.next().await {
            let (name, change) = match event?.body {
                EventBody::ImageCreate { name } => (name, Change::Made),
                EventBody::ImageUpdate { name } => (name, Change::Changed),
                EventBody::ImageDelete { name } => (name, Change::Removed),
                _ => continue,
            };
            let record = match change {
                Change::Removed => None,
                Change::Made | Change::Changed => match self.containerd().get_image(&name).await {
                    Ok(record) => Some(record),
                    // Gone again: its removal is the next news.
                    Err(_) => continue,
                },
            };
            let news = notice(&mut known, &name, record.as_ref());
            if !self.image_cache().expected().take(&name, change) {
                self.tell_of_images(news);
            }
        }
        Ok(())
    }

    fn tell_of_images(&self, news: Vec<News>) {
        for News { action, actor, name } in news {
            self.hub().publish(Event {
                kind: EventType::Image,
                action: action.to_owned(),
                actor,
                attributes: [("name".to_owned(), name)].into(),
                at: Timestamp::now(),
            });
        }
    }
}

/// What the names that people use stand for, by containerd's name.
type Known = HashMap<String, Named>;

#[derive(Debug)]
struct Named {
    digest: String,
    familiar: String,
}

#[derive(Debug, PartialEq, Eq)]
struct News {
    action: &'static str,
    actor: String,
    name: String,
}

/// Take in how a record looks now (`None`: it is gone), and say what Docker would say of it.
fn notice(known: &mut Known, name: &str, record: Option<&Image>) -> Vec<News> {
    let has = |known: &Known, digest: &str| known.values().any(|other| other.digest == digest);
    let Some(record) = record else {
        let Some(Named { digest, familiar }) = known.remove(name) else { return Vec::new() };
        let last = !has(known, &digest);
        let untag = News { action: "untag", actor: digest.clone(), name: familiar };
        let delete = last.then(|| News { action: "delete", actor: digest.clone(), name: digest });
        return std::iter::once(untag).chain(delete).collect();
    };
    let Some(reference) = reference_of(record).filter(|found| found.digest().is_none()) else {
        return Vec::new();
    };
    let (digest, familiar) = (record.target.digest.clone(), reference.familiar());
    let had = has(known, &digest);
    let named = Named { digest: digest.clone(), familiar: familiar.clone() };
    let before = known.insert(name.to_owned(), named);
    if before.is_some_and(|before| before.digest == digest) {
        return Vec::new();
    }
    if had {
        return vec![News { action: "tag", actor: digest, name: familiar }];
    }
    vec![News { action: "pull", actor: familiar, name: reference.familiar_name() }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, letter: char) -> Image {
        let mut record = crate::images::naming::tests::record(name);
        record.target.digest = format!("sha256:{}", letter.to_string().repeat(64));
        record
    }

    fn said(known: &mut Known, record: &Image, gone: bool) -> Vec<String> {
        let news = notice(known, &record.name, (!gone).then_some(record));
        news.into_iter().map(|news| format!("{} {}", news.action, news.name)).collect()
    }

    #[test]
    fn what_others_do_is_read_off_the_records() {
        let mut known = Known::new();
        let (nginx, copy) =
            (record("docker.io/library/nginx:1", 'a'), record("docker.io/me/web:2", 'a'));
        assert_eq!(said(&mut known, &nginx, false), ["pull nginx"]);
        assert_eq!(said(&mut known, &nginx, false), [""; 0], "only labels have changed");
        assert_eq!(said(&mut known, &copy, false), ["tag me/web:2"]);
        assert_eq!(
            said(&mut known, &record("docker.io/library/nginx:1", 'b'), false),
            ["pull nginx"]
        );
        assert_eq!(
            said(&mut known, &copy, true),
            ["untag me/web:2".to_owned(), format!("delete sha256:{}", "a".repeat(64))]
        );
        assert_eq!(said(&mut known, &copy, true), [""; 0], "it is gone already");
    }

    #[test]
    fn names_that_nobody_uses_are_no_news() {
        let mut known = Known::new();
        let by_digest = format!("docker.io/library/nginx@sha256:{}", "a".repeat(64));
        for name in [
            by_digest,
            format!("sha256:{}", "a".repeat(64)),
            format!("moby-dangling@sha256:{}", "a".repeat(64)),
        ] {
            assert_eq!(said(&mut known, &record(&name, 'a'), false), [""; 0], "{name}");
        }
        // A digest that came first does not make the name a further one for people.
        assert_eq!(
            said(&mut known, &record("docker.io/library/nginx:1", 'a'), false),
            ["pull nginx"]
        );
    }

    #[test]
    fn our_own_changes_are_taken_once() {
        let expected = Expected::default();
        expected.announce("a", Change::Made);
        assert!(!expected.take("a", Change::Removed));
        assert!(expected.take("a", Change::Made));
        assert!(!expected.take("a", Change::Made));
        for number in 0..2 * MOST {
            expected.announce(&number.to_string(), Change::Changed);
        }
        assert!(!expected.take("0", Change::Changed), "bounded");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_told_in_time_is_not_ours_any_more() {
        let expected = Expected::default();
        expected.announce("a", Change::Made);
        tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
        assert!(!expected.take("a", Change::Made));
    }

    #[test]
    fn a_change_that_was_given_up_is_not_expected() {
        let expected = Expected::default();
        let begin = || Changing::begin(&expected, "a", Change::Removed);
        drop(begin());
        assert!(!expected.take("a", Change::Removed));
        assert!(begin().ended(Ok(())).is_ok());
        assert!(expected.take("a", Change::Removed));
    }
}
