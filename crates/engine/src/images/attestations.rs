//! What is attested of an image: in-toto statements that BuildKit puts beside it in its index (moby
//! `daemon/containerd/image_attestations.go`).

use std::collections::HashSet;

use names::Platform;

use super::Descriptor;
use super::cache::Document;
use super::documents::{Kind, MAX_DOCUMENT};
use super::manifests::SUBJECT;
use crate::{Engine, Error, Result};

/// Annotation of a statement: what it says something about.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// Statements in one answer; BuildKit makes two or three.
const MAX_STATEMENTS: usize = 100;
/// Bytes of all statements in one answer, which is made in memory.
const MAX_TEXT: usize = 32 << 20;

/// Which statements are wanted.
#[derive(Clone, Debug, Default)]
pub struct AttestationFilter {
    /// Of which platform; without one what runs best here.
    pub platform: Option<Platform>,
    /// Predicate types; all if empty.
    pub predicates: Vec<String>,
    /// With their text.
    pub with_statement: bool,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Where it is.
    pub descriptor: Descriptor,
    /// What it says something about.
    pub predicate: String,
    /// Its JSON, if it was asked for.
    pub statement: Option<Vec<u8>>,
}

impl Engine {
    /// The statements about an image. There are none where there is no index to put them into.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] and what else can be wrong with a name; [`Error::NoSuchPlatform`]; [`Error::BadContent`] if a
    /// statement is not here, or too long.
    pub async fn image_attestations(
        &self,
        typed: &str,
        filter: &AttestationFilter,
    ) -> Result<Vec<Attestation>> {
        let target = Descriptor::from(self.find_image(typed).await?.record.target);
        if Kind::of(&target.media_type) != Kind::Index {
            return Ok(Vec::new());
        }
        let facts = self.image_facts(&target).await?;
        let image = facts.best(filter.platform.as_ref()).ok_or_else(|| Error::NoSuchPlatform {
            image: typed.to_owned(),
            platform: filter.platform.clone().unwrap_or_else(Platform::host).to_string(),
        })?;
        let attests = facts.manifests.iter().find(|manifest| {
            manifest.attestation
                && manifest.descriptor.annotations.get(SUBJECT) == Some(&image.descriptor.digest)
        });
        let Some(manifest) = attests else { return Ok(Vec::new()) };
        let Some(Document::Manifest(manifest)) = self.document(&manifest.descriptor).await? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        for layer in &manifest.layers {
            if !seen.insert(&layer.digest) {
                continue;
            }
            let Some(predicate) = layer.annotations.get(PREDICATE) else { continue };
            if !filter.predicates.is_empty() && !filter.predicates.contains(predicate) {
                continue;
            }
            let statement = match filter.with_statement {
                true => Some(self.statement(&layer.digest).await?),
                false => None,
            };
            bytes += statement.as_ref().map_or(0, Vec::len);
            if found.len() == MAX_STATEMENTS || bytes > MAX_TEXT {
                return Err(Error::BadContent(format!(
                    "image {typed} has more than {MAX_STATEMENTS} attestation statements, or {MAX_TEXT} bytes of them"
                )));
            }
            let (descriptor, predicate) = (layer.clone(), predicate.clone());
            found.push(Attestation { descriptor, predicate, statement });
        }
        Ok(found)
    }

    async fn statement(&self, digest: &str) -> Result<Vec<u8>> {
        self.read_document(digest).await?.ok_or_else(|| {
            Error::BadContent(format!(
                "attestation statement {digest} is not here, or has more than {MAX_DOCUMENT} bytes"
            ))
        })
    }
}
