//! Removing names, and with the last one the image (moby `daemon/containerd/image_delete.go`).
//!
//! | Typed | What goes |
//! |---|---|
//! | a name that is not the only one | that name, whoever uses the image |
//! | the only name of an image that no container uses | name and image |
//! | the only name of an image that a container uses | nothing; with force the name |
//! | an id | all names and the image; several names, or stopped containers, need force; a running container forbids it |
//!
//! Names of the same repository by digest count as one with its only tag. What Kubernetes runs, or
//! has pinned, stays: the kubelet would not know where its image went.

use std::sync::Arc;

use containerd::images::Image;
use jiff::Timestamp;
use names::ImageRef;

use super::Removed;
use super::list::needs;
use super::naming::{is_dangling, reference_of};
use super::resolve::Found;
use crate::containers::{Container, Owner};
use crate::events::{Event, EventType};
use crate::{Engine, Error, Result};

/// What is to be removed, as it was found.
struct Removal<'a> {
    typed: &'a str,
    found: &'a Found,
    /// All records of the image.
    all: &'a [Image],
    /// All containers made of it.
    users: &'a [Arc<Container>],
}

/// What may stand against a removal.
#[derive(Clone, Copy)]
struct Checks {
    stopped_containers: bool,
    several_names: bool,
}

impl Engine {
    /// Removes what was typed, and tells what went.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousImage`], [`Error::InvalidReference`]; [`Error::ImageInUse`] if it must stay.
    pub async fn remove_image(&self, typed: &str, force: bool) -> Result<Vec<Removed>> {
        let found = self.find_image(typed).await?;
        // Two removals of one image see each other's work.
        let _turn = self.image_turn(&found.record.target.digest).await;
        let all = self.image_records(&found.record.target.digest).await?;
        if all.is_empty() {
            return Err(Error::NoSuchImage(found.selector.to_string()));
        }
        let users = self.users(&all).await?;
        self.remove_found(&Removal { typed, found: &found, all: &all, users: &users }, force).await
    }

    async fn remove_found(&self, removal: &Removal<'_>, force: bool) -> Result<Vec<Removed>> {
        let Removal { found, all, users, .. } = *removal;
        let checks = Checks { stopped_containers: !force, several_names: !force };
        if !found.by_name || is_dangling(&found.record) {
            return self.remove_all(removal, checks).await;
        }
        let same = same_reference(found, all);
        if same.len() != all.len() {
            return self.untag(removal, &same).await;
        }
        // All names are this one, by tag and by digest.
        let Some(user) = users.first() else {
            return self.remove_all(removal, Checks { several_names: false, ..checks }).await;
        };
        let familiar = familiar(&found.record);
        if !force {
            let user = short(user.id.as_str());
            let reason =
                format!("container {user} is using its referenced image {}", short_digest(all));
            return Err(Error::ImageInUse { image: familiar, force: "must be forced", reason });
        }
        self.check_kubernetes(removal, all.iter())?;
        // The container needs the content: only the name goes.
        if let [only] = all {
            self.keep_without_name(only).await?;
        }
        let mut removed = Vec::new();
        self.untag_one(&found.record, false, &mut removed).await?;
        Ok(removed)
    }

    /// Takes names away from an image that keeps others.
    async fn untag(&self, removal: &Removal<'_>, records: &[&Image]) -> Result<Vec<Removed>> {
        self.check_kubernetes(removal, records.iter().copied())?;
        let mut removed = Vec::new();
        for record in records {
            self.untag_one(record, false, &mut removed).await?;
        }
        Ok(removed)
    }

    /// Takes one record away, and tells it if a person knows the name.
    pub(super) async fn untag_one(
        &self,
        record: &Image,
        sync: bool,
        removed: &mut Vec<Removed>,
    ) -> Result<()> {
        if self.drop_image(record, sync).await? && reference_of(record).is_some() {
            let familiar = familiar(record);
            self.publish(record, "untag", &familiar);
            removed.push(Removed::Untagged(familiar));
        }
        Ok(())
    }

    /// Takes all names away and the image with them.
    async fn remove_all(&self, removal: &Removal<'_>, checks: Checks) -> Result<Vec<Removed>> {
        let all = removal.all;
        check_conflicts(all, removal.users, checks)?;
        self.check_unclaimed(all)?;
        self.check_kubernetes(removal, all.iter())?;
        let mut removed = Vec::new();
        for (at, record) in all.iter().enumerate() {
            // Waits for the garbage collector once, after the last name.
            self.untag_one(record, at + 1 == all.len(), &mut removed).await?;
        }
        let digest = removal.found.record.target.digest.clone();
        // Somebody gave it another name meanwhile.
        if !self.image_records(&digest).await?.is_empty() {
            return Ok(removed);
        }
        self.publish(&removal.found.record, "delete", &digest);
        removed.push(Removed::Deleted(digest));
        Ok(removed)
    }

    /// Refuses what must not be taken apart, whoever asks.
    pub(super) async fn check_removable(&self, typed: &str, all: &[Image]) -> Result<()> {
        let users = self.users(all).await?;
        let selector = typed
            .parse()
            .map_err(|error: names::InvalidImageRef| Error::InvalidReference(error.to_string()))?;
        let record = all.first().cloned().ok_or_else(|| Error::NoSuchImage(typed.to_owned()))?;
        let found = Found { selector, record, by_name: false };
        let removal = Removal { typed, found: &found, all, users: &users };
        self.check_unclaimed(all)?;
        self.check_kubernetes(&removal, all.iter())
    }

    /// Refuses to take away what a container is just being made of. To be asked under the image's turn.
    fn check_unclaimed(&self, all: &[Image]) -> Result<()> {
        let mut digests = all.iter().map(|image| image.target.digest.as_str());
        if !digests.any(|digest| self.image_cache().claims().has(digest)) {
            return Ok(());
        }
        let reason = "image is being used by a container that is being created".to_owned();
        Err(Error::ImageInUse { image: short_digest(all), force: "cannot be forced", reason })
    }

    /// Refuses to take away what the kubelet manages and uses, or has pinned.
    fn check_kubernetes<'a>(
        &self,
        removal: &Removal<'_>,
        mut going: impl Iterator<Item = &'a Image> + Clone,
    ) -> Result<()> {
        if self.settings().manage_cri {
            return Ok(());
        }
        let pinned = going.clone().any(is_pinned);
        let managed = going.any(is_managed);
        let pod = removal.users.iter().find_map(|container| match &container.owner {
            Owner::Kubernetes { namespace, pod, .. } => Some(format!("{namespace}/{pod}")),
            _ => None,
        });
        let reason = match pod {
            _ if pinned => "image is pinned by Kubernetes".to_owned(),
            Some(pod) if managed => format!("image is being used by the Kubernetes pod {pod}"),
            _ => return Ok(()),
        };
        let image = removal.typed.to_owned();
        Err(Error::ImageInUse { image, force: "cannot be forced", reason })
    }

    /// The containers made of an image, pods' and nerdctl's included. Waits until they are known.
    async fn users(&self, all: &[Image]) -> Result<Vec<Arc<Container>>> {
        let digest = all.first().map_or("", |image| image.target.digest.as_str());
        let names: Vec<&str> = all.iter().map(|image| image.name.as_str()).collect();
        let snapshot = self.inventory().loaded().await?;
        let users = snapshot.entries().filter(|entry| needs(&entry.container, digest, &names));
        Ok(users.map(|entry| Arc::clone(&entry.container)).collect())
    }

    pub(super) fn publish(&self, record: &Image, action: &str, name: &str) {
        self.hub().publish(Event {
            kind: EventType::Image,
            action: action.to_owned(),
            actor: record.target.digest.clone(),
            attributes: [("name".to_owned(), name.to_owned())].into(),
            at: Timestamp::now(),
        });
    }
}

fn check_conflicts(all: &[Image], users: &[Arc<Container>], checks: Checks) -> Result<()> {
    let conflict =
        |force, reason| Err(Error::ImageInUse { image: short_digest(all), force, reason });
    if let Some(running) = users.iter().find(|user| user.state.phase.counts_as_running()) {
        let user = short(running.id.as_str());
        return conflict(
            "cannot be forced",
            format!("image is being used by running container {user}"),
        );
    }
    if let Some(stopped) = users.first().filter(|_| checks.stopped_containers) {
        let user = short(stopped.id.as_str());
        return conflict(
            "must be forced",
            format!("image is being used by stopped container {user}"),
        );
    }
    if checks.several_names && all.len() > 1 {
        return conflict(
            "must be forced",
            "image is referenced in multiple repositories".to_owned(),
        );
    }
    Ok(())
}

/// The records that go with one name: of its tag, and those of its repository by digest unless it has other tags. A name
/// that was typed with a digest means all tags of its repository (moby `getSameReferences`).
fn same_reference<'a>(found: &Found, all: &'a [Image]) -> Vec<&'a Image> {
    let record = &found.record;
    let Some(named) = reference_of(record) else {
        return all.iter().filter(|image| image.name == record.name).collect();
    };
    let any_tag = found.selector.reference().is_some_and(|typed| typed.digest().is_some());
    let mut same = Vec::new();
    let mut by_digest = Vec::new();
    let mut tag = named.tag().map(str::to_owned);
    let mut other_tags = false;
    for image in all {
        let Some(reference) = reference_of(image) else {
            // Names that are none go with the rest, but not CRI's with somebody else's.
            if !is_managed(image) || is_managed(record) {
                same.push(image);
            }
            continue;
        };
        if reference.repository() != named.repository() {
            continue;
        }
        match reference.tag() {
            Some(other) if any_tag || tag.as_deref().is_none_or(|tag| tag == other) => {
                tag = Some(other.to_owned());
                same.push(image);
            }
            Some(_) => other_tags = true,
            None => by_digest.push(image),
        }
    }
    if !other_tags {
        same.extend(by_digest);
    }
    same
}

/// Kubernetes manages or has pinned it.
pub(super) fn is_kubernetes(image: &Image) -> bool {
    is_managed(image) || is_pinned(image)
}

/// The kubelet must not remove it.
fn is_pinned(image: &Image) -> bool {
    has_label(image, "io.cri-containerd.pinned", "pinned")
}

/// CRI answers for this record.
fn is_managed(image: &Image) -> bool {
    has_label(image, "io.cri-containerd.image", "managed")
}

fn has_label(image: &Image, key: &str, value: &str) -> bool {
    image.labels.get(key).is_some_and(|found| found == value)
}

pub(super) fn familiar(record: &Image) -> String {
    record
        .name
        .parse::<ImageRef>()
        .map_or_else(|_| record.name.clone(), |reference| reference.familiar())
}

fn short(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

fn short_digest(all: &[Image]) -> String {
    all.first().map(|image| short(&image.target.digest).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::naming::tests::record;

    /// What goes when `typed` was typed and the first of the records found.
    fn same(typed: &str, records: &[&str]) -> Vec<String> {
        let all: Vec<Image> = records.iter().map(|name| record(name)).collect();
        let found =
            Found { selector: typed.parse().unwrap(), record: all[0].clone(), by_name: true };
        same_reference(&found, &all).into_iter().map(|image| image.name.clone()).collect()
    }

    #[test]
    fn digests_of_the_repository_go_with_its_only_tag() {
        let (one, two) = ("docker.io/library/a:1", "docker.io/library/a:2");
        let by_digest = format!("docker.io/library/a@sha256:{}", "a".repeat(64));
        assert_eq!(same("a:1", &[one, &by_digest]), [one, &by_digest]);
        assert_eq!(same("a:1", &[one, &by_digest, two]), [one]);
        assert_eq!(same("a:1", &[one, "quay.io/b:1"]), [one]);
        assert_eq!(same(&by_digest, &[one, "quay.io/b:1", two]), [one, two]);
    }
}
