//! What a user types to mean an image: a reference, an id, or the start of an id.

use std::fmt;
use std::str::FromStr;

use super::digest::{Digest, ImageId};
use super::reference::{ImageRef, InvalidImageRef};
use crate::hex;

/// Docker looks for ids from this many hex digits on.
const MIN_ID_DIGITS: usize = 4;

/// What was typed to mean an image, as the possible meanings in the order in which they must be tried:
///
/// 1. [`reference`](Self::reference): an image of exactly this name (with a digest: the repository's name
///    must fit and the content be the digest's);
/// 2. [`id_prefix`](Self::id_prefix): the one image whose id starts with these hex digits.
///
/// A tag that looks like an id (`beef:latest` for `beef`) thus wins over the id. At least one of the two exists.
/// Source: moby `daemon/containerd/image.go` (`resolveImage`), distribution/reference `normalize.go`
/// (`ParseAnyReference`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageSelector {
    given: String,
    reference: Option<ImageRef>,
    id_prefix: Option<String>,
}

impl ImageSelector {
    /// The text that was typed.
    #[must_use]
    pub fn given(&self) -> &str {
        &self.given
    }

    /// The text as a reference, with the default tag; `None` when it can only be an id.
    #[must_use]
    pub fn reference(&self) -> Option<&ImageRef> {
        self.reference.as_ref()
    }

    /// The text as 4 to 64 hex digits, without `sha256:`; `None` when it can only be a reference.
    #[must_use]
    pub fn id_prefix(&self) -> Option<&str> {
        self.id_prefix.as_deref()
    }

    /// The id, when all of it was typed.
    #[must_use]
    pub fn full_id(&self) -> Option<ImageId> {
        let digits = self.id_prefix.as_deref().filter(|digits| digits.len() == 64)?;
        format!("sha256:{digits}").parse().ok()
    }
}

impl FromStr for ImageSelector {
    type Err = InvalidImageRef;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let digits = given.strip_prefix("sha256:").unwrap_or(given);
        let id_prefix = ((MIN_ID_DIGITS..=64).contains(&digits.len()) && hex::is_lower_hex(digits))
            .then(|| digits.to_owned());
        // A whole digest is an id and never the tag of a repository called "sha256".
        let reference = if given.parse::<Digest>().is_ok() {
            None
        } else {
            match given.parse::<ImageRef>() {
                Ok(reference) => Some(reference.with_default_tag()),
                Err(_) if id_prefix.is_some() => None,
                Err(error) => return Err(error),
            }
        };
        if reference.is_none() && id_prefix.is_none() {
            return Err(InvalidImageRef::Format);
        }
        Ok(Self { given: given.to_owned(), reference, id_prefix })
    }
}

/// Shows the text as Docker repeats it in messages: a familiar reference with its default tag, or a whole id.
impl fmt::Display for ImageSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reference, self.full_id()) {
            (Some(reference), _) => f.write_str(&reference.familiar()),
            (None, Some(id)) => id.fmt(f),
            (None, None) => f.write_str(&self.given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meanings(given: &str) -> (Option<String>, Option<String>) {
        let selector: ImageSelector = given.parse().unwrap();
        (selector.reference().map(ImageRef::familiar), selector.id_prefix().map(str::to_owned))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn short_hex_may_be_either() {
        assert_eq!(meanings("beef"), (some("beef:latest"), some("beef")));
        assert_eq!(meanings("sha256:beef"), (some("sha256:beef"), some("beef")));
        assert_eq!(meanings("bee"), (some("bee:latest"), None));
    }

    #[test]
    fn whole_ids_are_only_ids() {
        let digits = "ab".repeat(32);
        for given in [digits.clone(), format!("sha256:{digits}")] {
            assert_eq!(meanings(&given), (None, some(&digits)));
            let selector: ImageSelector = given.parse().unwrap();
            assert_eq!(selector.to_string(), format!("sha256:{digits}"));
            assert_eq!(selector.full_id().unwrap().hex(), digits);
        }
    }

    #[test]
    fn references_are_only_references() {
        assert_eq!(meanings("nginx"), (some("nginx:latest"), None));
        assert_eq!("nginx".parse::<ImageSelector>().unwrap().to_string(), "nginx:latest");
        let digested = format!("nginx@sha256:{}", "c".repeat(64));
        assert_eq!(meanings(&digested), (some(&digested), None));
    }

    #[test]
    fn neither_is_an_error() {
        assert_eq!(
            "No Such".parse::<ImageSelector>(),
            Err(InvalidImageRef::Uppercase("library/No Such".to_owned()))
        );
        let long = format!("sha512:{}", "a".repeat(128));
        assert_eq!(long.parse::<ImageSelector>(), Err(InvalidImageRef::Format));
    }
}
