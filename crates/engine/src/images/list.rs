//! Listing: one entry per target digest, with all its names.
//!
//! As moby's containerd store lists them (moby `daemon/containerd/image_list.go`): filters choose
//! among names, so an image found by one of its names shows only the names that passed.

use std::collections::{BTreeMap, HashSet};

use containerd::images::Image;
use jiff::Timestamp;
use names::ImageRef;

use super::cache::Listed;
use super::make::PARENT;
use super::manifests::manifests;
use super::naming::{is_dangling, reference_of, repo_tags_and_digests};
use super::shared::{Shares, total};
use super::{ImageFacts, ImageFilter, ImageSummary, glob};
use crate::containers::{Container, MountPoint};
use crate::inventory::Snapshot;
use crate::{Engine, Result};

impl Engine {
    /// The images that pass the filter, newest first.
    ///
    /// # Errors
    /// [`crate::Error::NoSuchImage`] if `before` or `since` names none; [`crate::Error::ContainerdUnavailable`].
    pub async fn list_images(&self, filter: &ImageFilter) -> Result<Vec<ImageSummary>> {
        let listed = self.all_image_facts().await?;
        let filter = self.prepare(filter, &listed).await?;
        let containers = self.inventory().loaded().await?;
        let groups = group(&listed, &filter);
        let found = groups.into_values().filter_map(|records| {
            let facts = listed.facts.get(&records.first()?.target.digest)?;
            Some((records, facts.as_ref()))
        });
        let found: Vec<(Vec<&Image>, &ImageFacts)> = found.collect();
        let wanted = filter.filter;
        let shares = wanted.shared_size.then(|| {
            Shares::of(found.iter().map(|(_, facts)| *facts), |layer| {
                self.image_cache().size(layer)
            })
        });
        let summaries = found.iter().map(|(records, facts)| ImageSummary {
            shared_size: shares.as_ref().map(|shares| shares.shared(facts)),
            manifests: wanted.manifests.then(|| manifests(facts, &containers)),
            ..summary(records, facts, &containers)
        });
        let mut summaries: Vec<ImageSummary> = summaries.collect();
        summaries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(summaries)
    }

    /// Bytes of all images, what they share counted once.
    pub(crate) async fn size_of_images(&self) -> Result<u64> {
        let listed = self.all_image_facts().await?;
        let facts = listed.facts.values().map(AsRef::as_ref);
        Ok(total(facts, |layer| self.image_cache().size(layer)))
    }

    /// Looks up what the filter names.
    async fn prepare<'a>(&self, filter: &'a ImageFilter, listed: &Listed) -> Result<Prepared<'a>> {
        let mut prepared = Prepared::of(filter);
        for (names, times) in
            [(&filter.before, &mut prepared.before), (&filter.since, &mut prepared.since)]
        {
            for name in names {
                let found = self.find_image(name).await?;
                let created =
                    listed.facts.get(&found.record.target.digest).and_then(|facts| created(facts));
                times.extend(created);
            }
        }
        if !filter.all {
            prepared.intermediate = listed
                .records
                .iter()
                .filter_map(|record| record.labels.get(PARENT).cloned())
                .collect();
        }
        Ok(prepared)
    }
}

/// A filter with everything it refers to.
pub(super) struct Prepared<'a> {
    filter: &'a ImageFilter,
    before: Vec<Timestamp>,
    since: Vec<Timestamp>,
    /// Digests that the classic builder made on the way to others.
    intermediate: HashSet<String>,
}

/// The records that pass, by digest.
fn group<'a>(listed: &'a Listed, filter: &Prepared<'_>) -> BTreeMap<&'a str, Vec<&'a Image>> {
    let mut groups = BTreeMap::<&str, Vec<&Image>>::new();
    for record in listed.records.iter() {
        if let Some(facts) = listed.facts.get(&record.target.digest)
            && filter.passes(record, facts)
        {
            groups.entry(&record.target.digest).or_default().push(record);
        }
    }
    groups
}

impl<'a> Prepared<'a> {
    /// A filter that names no image.
    pub(super) fn of(filter: &'a ImageFilter) -> Self {
        Self { filter, before: Vec::new(), since: Vec::new(), intermediate: HashSet::new() }
    }

    pub(super) fn passes(&self, record: &Image, facts: &ImageFacts) -> bool {
        let created = created(facts);
        let filter = self.filter;
        let hidden = is_dangling(record) && self.intermediate.contains(&record.target.digest);
        !hidden
            && self.before.iter().all(|limit| created.is_some_and(|created| created < *limit))
            && self.since.iter().all(|limit| created.is_some_and(|created| created > *limit))
            && filter.until.is_none_or(|until| {
                Timestamp::try_from(record.created_at).is_ok_and(|made| made < until)
            })
            && filter.dangling.is_none_or(|dangling| dangling == reference_of(record).is_none())
            && has_labels(facts, &filter.label, &filter.label_not)
            && (filter.reference.is_empty()
                || filter.reference.iter().any(|pattern| is_called(record, pattern)))
    }
}

/// Whether a record's name matches a pattern: with or without tag, familiar or full.
fn is_called(record: &Image, pattern: &str) -> bool {
    let Some(reference) = reference_of(record) else { return false };
    let full = reference.clone().with_default_tag().to_string();
    let forms = [reference.familiar(), reference.familiar_name(), full, reference.repository()];
    forms.iter().any(|form| glob::matches(pattern, form))
}

/// Whether one platform's config has all the labels and none of the unwanted ones.
fn has_labels(facts: &ImageFacts, wanted: &[String], unwanted: &[String]) -> bool {
    let checks: Vec<_> = wanted
        .iter()
        .map(|text| (text, false))
        .chain(unwanted.iter().map(|text| (text, true)))
        .collect();
    let mut configs = facts.manifests.iter().filter_map(|manifest| manifest.config.as_deref());
    checks.is_empty()
        || configs.any(|config| {
            checks.iter().all(|(text, negated)| label_passes(&config.labels, text, *negated))
        })
}

/// `key`, `key=value`, or `key!=value`, which turns the meaning around.
fn label_passes(labels: &BTreeMap<String, String>, text: &str, negated: bool) -> bool {
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
    let (key, negated) = key.strip_suffix('!').map_or((key, negated), |key| (key, !negated));
    let has = labels.get(key).is_some_and(|found| value.is_none_or(|value| value == found));
    has != negated
}

fn created(facts: &ImageFacts) -> Option<Timestamp> {
    facts.best(None)?.config.as_deref()?.created
}

/// One entry. `records` is not empty; all have the same target.
pub(super) fn summary(
    records: &[&Image],
    facts: &ImageFacts,
    containers: &Snapshot,
) -> ImageSummary {
    let target = records.first().map(|record| record.target.clone()).unwrap_or_default();
    let (repo_tags, repo_digests) = repo_tags_and_digests(records.iter().copied());
    let config = facts.best(None).and_then(|manifest| manifest.config.as_deref());
    let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    let used =
        containers.entries().filter(|entry| uses(&entry.container, &target.digest, &names)).count();
    ImageSummary {
        id: target.digest.clone(),
        repo_tags,
        repo_digests,
        created: config.and_then(|config| config.created),
        labels: config.map(|config| config.labels.clone()).unwrap_or_default(),
        size: facts.size(),
        shared_size: None,
        containers: used as u64,
        manifests: None,
        target: target.into(),
    }
}

/// Whether a container needs the image: it was made of it, or has it mounted.
pub(super) fn needs(container: &Container, digest: &str, names: &[&str]) -> bool {
    uses(container, digest, names)
        || container.mounts.iter().any(|mount| mounts(mount, digest, names))
}

/// Whether this is a mount of the image: by its id, or by name where another program has kept none.
fn mounts(mount: &MountPoint, digest: &str, names: &[&str]) -> bool {
    if mount.kind != "image" {
        return false;
    }
    if mount.source.starts_with("sha256:") {
        return mount.source == digest;
    }
    [&mount.name, &mount.source]
        .into_iter()
        .filter_map(|typed| typed.parse::<ImageRef>().ok())
        .any(|reference| names.contains(&reference.with_default_tag().to_string().as_str()))
}

/// Whether a container was made of the image: by what it remembers, or by name where it remembers nothing.
fn uses(container: &Container, digest: &str, names: &[&str]) -> bool {
    if container.image_id.is_empty() {
        names.contains(&container.image_name.as_str())
    } else {
        container.image_id == digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_images_are_found_by_what_was_recorded() {
        let mount = |kind: &str, name: &str, source: &str| MountPoint {
            kind: kind.to_owned(),
            name: name.to_owned(),
            source: source.to_owned(),
            destination: "/x".to_owned(),
            driver: String::new(),
            mode: String::new(),
            read_write: false,
            propagation: String::new(),
        };
        let names = ["docker.io/library/a:latest", "not a reference"];
        for (kind, name, source, needed) in [
            ("image", "a", "sha256:one", true),
            ("image", "a", "sha256:two", false), // the name has moved here since
            ("image", "a", "", true),
            ("image", "", "docker.io/library/a:latest", true),
            ("image", "b", "/some/view", false),
            ("image", "", "", false),
            ("volume", "a", "sha256:one", false),
        ] {
            let found = mounts(&mount(kind, name, source), "sha256:one", &names);
            assert_eq!(found, needed, "{kind} {name} {source}");
        }
    }

    #[test]
    fn label_filters_read_like_dockers() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (text, negated, passes) in [
            ("a", false, true),
            ("a=1", false, true),
            ("a=2", false, false),
            ("b", false, false),
            ("a!=1", false, false),
            ("a!=2", false, true),
            ("a", true, false),
            ("a=2", true, true),
            ("b", true, true),
            ("a!=1", true, true),
        ] {
            assert_eq!(label_passes(&labels, text, negated), passes, "{text} {negated}");
        }
    }
}
