//! Remove the images that nobody uses (moby `daemon/containerd/image_prune.go`).
//!
//! | Image | What goes |
//! |---|---|
//! | no container uses it | all its names that pass the filter, and with the last one the image |
//! | a container uses it | names that no container was made by, but never the last |
//! | Kubernetes manages or has pinned it | nothing, whoever uses it |
//!
//! Without `all`, only images that have no name are looked at. Records of other programs, whose names people cannot type,
//! are no lack of a name.
//!
//! Who needs an image is looked up again, under its turn, just before it goes: a container may be made at any time.

use std::collections::{BTreeMap, HashMap, HashSet};

use containerd::images::Image;
use jiff::Timestamp;

use super::cache::Listed;
use super::facts::ImageFacts;
use super::list::{Prepared, needs};
use super::naming::{is_dangling, is_nameless, reference_of};
use super::remove::{familiar, is_kubernetes};
use super::shared::layers;
use super::{ImageFilter, Removed};
use crate::containers::Container;
use crate::events::{Event, EventType};
use crate::inventory::Snapshot;
use crate::{Engine, Result};

/// Which images a prune may remove.
#[derive(Clone, Debug, Default)]
pub struct ImagePruneFilter {
    /// Also those with a name.
    pub all: bool,
    /// `label`: all must match.
    pub label: Vec<String>,
    /// `label!`.
    pub label_not: Vec<String>,
    /// `until`: made before.
    pub until: Option<Timestamp>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedImages {
    /// Names and digests.
    pub removed: Vec<Removed>,
    /// Bytes.
    pub reclaimed: u64,
}

/// The names of one image that are to go.
struct Doomed<'a> {
    records: Vec<&'a Image>,
    facts: Option<&'a ImageFacts>,
    /// No other name is left.
    whole: bool,
}

impl Engine {
    /// Removes the images that pass the filter and that no container needs, and tells what went.
    ///
    /// # Errors
    /// [`crate::Error::PruneRunning`]; [`crate::Error::NotLoaded`], [`crate::Error::ContainerdUnavailable`].
    pub async fn prune_images(&self, filter: &ImagePruneFilter) -> Result<PrunedImages> {
        let _turn = self.image_prunes().begin()?;
        let listed = self.all_image_facts().await?;
        let containers = self.inventory().loaded().await?;
        let doomed = doomed(&listed, filter, &containers, self.settings().manage_cri);
        let mut lines: Vec<Vec<Removed>> = Vec::new();
        for image in &doomed {
            let mut removed = Vec::new();
            for record in &image.records {
                if let Err(error) = self.prune_image(record, &mut removed).await {
                    let error = error.message();
                    tracing::warn!(image = record.name, error, "an image could not be pruned");
                }
            }
            lines.push(removed);
        }
        let mut pruned = PrunedImages::default();
        if lines.iter().any(|removed| !removed.is_empty()) {
            // What went is to be told even if nobody can say what that has freed.
            match self.tell_gone(&doomed, &mut lines).await {
                Ok(bytes) => pruned.reclaimed = bytes,
                Err(error) => {
                    let error = error.message();
                    tracing::warn!(error, "what a prune of images has freed is not known");
                }
            }
        }
        pruned.removed = lines.into_iter().flatten().collect();
        self.hub().publish(Event {
            kind: EventType::Image,
            action: "prune".to_owned(),
            actor: String::new(),
            attributes: [("reclaimed".to_owned(), pruned.reclaimed.to_string())].into(),
            at: Timestamp::now(),
        });
        Ok(pruned)
    }

    /// One name, unless somebody needs it by now.
    async fn prune_image(&self, record: &Image, removed: &mut Vec<Removed>) -> Result<()> {
        let _turn = self.image_turn(&record.target.digest).await;
        if self.is_needed_now(record).await? || !self.drop_image(record, false).await? {
            return Ok(());
        }
        let name = match reference_of(record) {
            Some(_) => familiar(record),
            None => record.target.digest.clone(),
        };
        self.publish(record, "untag", &name);
        removed.push(Removed::Untagged(name));
        Ok(())
    }

    /// Whether a container was made since the images were looked at, or is being made, for which this record must stay.
    async fn is_needed_now(&self, record: &Image) -> Result<bool> {
        let digest = record.target.digest.as_str();
        if self.image_cache().claims().has(digest) {
            return Ok(true);
        }
        let all = self.image_records(digest).await?;
        let names: Vec<&str> = all.iter().map(|record| record.name.as_str()).collect();
        let containers = self.inventory().loaded().await?;
        let mut going = vec![record];
        spare_used(&mut going, all.len(), &users(&containers, digest, &names));
        Ok(going.is_empty())
    }

    /// Adds the digests that went with the names, and gives the bytes that went. Waits for the garbage collector.
    async fn tell_gone(&self, doomed: &[Doomed<'_>], lines: &mut [Vec<Removed>]) -> Result<u64> {
        self.collect_now().await?;
        let left = self.list_stores().await?;
        let mut gone: HashMap<&str, u64> = HashMap::new();
        for (image, lines) in doomed.iter().zip(lines) {
            let Some(facts) = image.facts.filter(|_| image.whole && !lines.is_empty()) else {
                continue;
            };
            let manifests = facts.manifests.iter().filter_map(|manifest| manifest.blobs.first());
            let mut told = HashSet::new();
            for (digest, _) in facts.indexes.iter().chain(manifests) {
                if !left.has(digest) && told.insert(digest) {
                    lines.push(Removed::Deleted(digest.clone()));
                }
            }
            if let Some(record) = image.records.first().filter(|_| !told.is_empty()) {
                self.publish(record, "delete", &record.target.digest);
            }
            let blobs = facts.manifests.iter().flat_map(|manifest| &manifest.blobs);
            for (digest, size) in facts.indexes.iter().chain(blobs) {
                gone.insert(digest, *size);
            }
            for layer in layers(facts) {
                gone.insert(layer, self.image_cache().size(layer).unwrap_or(0));
            }
        }
        gone.retain(|name, _| !left.has(name));
        Ok(gone.values().copied().fold(0, u64::saturating_add))
    }
}

/// What is to go, image by image.
fn doomed<'a>(
    listed: &'a Listed,
    filter: &ImagePruneFilter,
    containers: &Snapshot,
    manage_cri: bool,
) -> Vec<Doomed<'a>> {
    let records = ImageFilter {
        label: filter.label.clone(),
        label_not: filter.label_not.clone(),
        until: filter.until,
        all: true,
        ..ImageFilter::default()
    };
    let passes = Prepared::of(&records);
    let mut images = BTreeMap::<&str, Vec<&Image>>::new();
    for record in listed.records.iter() {
        images.entry(&record.target.digest).or_default().push(record);
    }
    let doomed = images.into_iter().filter_map(|(digest, all)| {
        let facts = listed.facts.get(digest).map(AsRef::as_ref);
        let is_kept = !manage_cri && all.iter().any(|record| is_kubernetes(record));
        if is_kept || !(filter.all || all.iter().all(|record| is_nameless(record))) {
            return None;
        }
        let mut going: Vec<&Image> = all
            .iter()
            .copied()
            .filter(|record| facts.is_some_and(|facts| passes.passes(record, facts)))
            .collect();
        let names: Vec<&str> = all.iter().map(|record| record.name.as_str()).collect();
        spare_used(&mut going, all.len(), &users(containers, digest, &names));
        let whole = going.len() == all.len();
        (!going.is_empty()).then_some(Doomed { records: going, facts, whole })
    });
    doomed.collect()
}

/// The containers that need an image.
fn users<'a>(containers: &'a Snapshot, digest: &str, names: &[&str]) -> Vec<&'a Container> {
    let all = containers.entries().map(|entry| entry.container.as_ref());
    all.filter(|container| needs(container, digest, names)).collect()
}

/// Takes the names back that containers were made by, and the last one of an image in use.
fn spare_used(going: &mut Vec<&Image>, all: usize, users: &[&Container]) {
    if users.is_empty() {
        return;
    }
    going.retain(|record| {
        !is_dangling(record) && !users.iter().any(|user| user.image_name == record.name)
    });
    going.sort_by(|a, b| a.name.cmp(&b.name));
    if going.len() == all {
        going.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::naming::dangling_name;
    use crate::images::naming::tests::{DIGEST, record};

    fn listed(records: Vec<Image>) -> Listed {
        let facts = || ImageFacts { indexes: Vec::new(), manifests: Vec::new() };
        let facts = records
            .iter()
            .map(|record| (record.target.digest.clone(), std::sync::Arc::new(facts())))
            .collect();
        let limits = crate::images::TransferLimits::default();
        crate::images::Cache::new(limits).keep(records, facts, 0)
    }

    fn names(records: Vec<Image>, all: bool) -> Vec<String> {
        let listed = listed(records);
        let filter = ImagePruneFilter { all, ..ImagePruneFilter::default() };
        let doomed = doomed(&listed, &filter, &Snapshot::default(), false);
        let records = doomed.iter().flat_map(|image| &image.records);
        records.map(|record| record.name.clone()).collect()
    }

    #[test]
    fn kubernetes_images_stay() {
        for (key, value) in
            [("io.cri-containerd.image", "managed"), ("io.cri-containerd.pinned", "pinned")]
        {
            let mut managed = record("docker.io/library/a:1");
            managed.labels.insert(key.into(), value.into());
            let mut other = record("docker.io/library/b:1");
            let ours = record("docker.io/library/c:1");
            other.target.digest = "sha256:other".to_owned();
            assert_eq!(names(vec![managed, ours, other], true), ["docker.io/library/b:1"], "{key}");
        }
    }

    #[test]
    fn images_with_a_name_go_only_if_all_are_meant() {
        let nameless = || record(&dangling_name(DIGEST));
        let named = || vec![record("docker.io/library/a:1"), nameless()];
        assert_eq!(names(named(), true).len(), 2);
        assert_eq!(names(named(), false).len(), 0);
        assert_eq!(names(vec![nameless()], false).len(), 1);
        let others = || vec![record("what-ctr-was-told"), nameless()];
        assert_eq!(names(others(), false).len(), 0, "another program's name");
    }
}
