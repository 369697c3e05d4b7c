//! Images with many names, as a machine has them that builds and tags.

use e2e::api::BUSYBOX;
use e2e::http::Request;
use e2e::{Result, ensure};
use serde_json::Value;

use super::{Daemon, HANDS, patient};
use crate::crowd::at_once;
use crate::rows::Clients;
use crate::side::Probe;

/// What is named.
const IMAGES: [&str; 3] = [BUSYBOX, "nginx:latest", "hello-world:latest"];
/// What the names begin with.
const REPOSITORY: &str = "bench/names";

/// Names that are taken away at the end.
struct Names<'a> {
    daemon: &'a Daemon,
    tags: Vec<String>,
}

/// Asks for the list of images with `count` names.
pub(super) fn probe(daemon: &Daemon, count: usize) -> Result<Probe<'_>> {
    for image in IMAGES {
        daemon.api.have(image)?;
    }
    let names = Names::make(daemon, count)?;
    let list = daemon.api.request("GET", "/images/json");
    names.check(&list)?;
    let mut ask = daemon.requests(list, Clients::ALONE)?;
    Ok(Box::new(move || {
        let _held = &names;
        ask()
    }))
}

impl<'a> Names<'a> {
    fn make(daemon: &'a Daemon, count: usize) -> Result<Self> {
        let names = Self { daemon, tags: (0..count).map(|number| format!("n{number}")).collect() };
        names.each(|number, tag| {
            let image = IMAGES[number % IMAGES.len()];
            let path = format!("/images/{image}/tag?repo={REPOSITORY}&tag={tag}");
            daemon.api.post(&path)?.expect(201).map(drop)
        })?;
        Ok(names)
    }

    /// A list must have all names, or fast answers would mean nothing.
    fn check(&self, list: &Request) -> Result<()> {
        let images = patient(&self.daemon.api)?.roundtrip(list)?.expect(200)?.json()?;
        let tags = |image: &Value| image["RepoTags"].as_array().map_or(0, Vec::len);
        let found: usize = images.as_array().into_iter().flatten().map(tags).sum();
        ensure!(found >= self.tags.len(), "{found} names of {}", self.tags.len());
        Ok(())
    }

    /// Does something to each name, several at once.
    fn each(&self, work: impl Fn(usize, &str) -> Result<()> + Sync) -> Result<()> {
        let numbered: Vec<(usize, &String)> = self.tags.iter().enumerate().collect();
        let hands = numbered.chunks(numbered.len().div_ceil(HANDS).max(1));
        at_once(hands, |some| {
            some.iter().try_for_each(|(number, tag)| work(*number, tag))?;
            Ok(Vec::new())
        })
        .map(drop)
    }
}

impl Drop for Names<'_> {
    fn drop(&mut self) {
        let remove = |tag: &str| self.daemon.api.delete(&format!("/images/{REPOSITORY}:{tag}"));
        let _ = self.each(|_, tag| {
            // One that cannot be removed does not keep the others.
            let _ = remove(tag);
            Ok(())
        });
    }
}
