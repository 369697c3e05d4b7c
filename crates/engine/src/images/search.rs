//! Looking for images on Docker Hub (moby `daemon/pkg/registry/search.go`).

use registry::SearchResult;

use super::Credentials;
use super::remote::for_registry;
use crate::{Engine, Error, Result};

/// As many as dockerd asks for when nobody says how many.
const DEFAULT: u32 = 25;
/// More are not asked for.
const MOST: u32 = 100;

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct SearchRequest {
    /// In names and descriptions; may begin with a registry's host.
    pub term: String,
    /// How many; 0 means the default.
    pub limit: i64,
    /// `is-official`.
    pub official: Option<bool>,
    /// `is-automated`; nothing is any more.
    pub automated: bool,
    /// `stars`: at least so many.
    pub stars: i64,
    /// For the registry that the term begins with.
    pub credentials: Credentials,
}

/// A repository that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundImage {
    /// `nginx`.
    pub name: String,
    /// For people.
    pub description: String,
    /// How many like it.
    pub stars: i64,
    /// Whether Docker looks after it.
    pub official: bool,
}

impl Engine {
    /// Repositories of Docker Hub, or of the registry that the term begins with.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`]; [`Error::Failed`] if the registry cannot be asked.
    pub async fn search_images(&self, request: &SearchRequest) -> Result<Vec<FoundImage>> {
        let term = &request.term;
        if request.automated {
            return Ok(Vec::new());
        }
        if term.contains("://") {
            return Err(Error::InvalidParameter(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let limit = match u32::try_from(request.limit) {
            Ok(0) => DEFAULT,
            Ok(limit) if limit <= MOST => limit,
            _ => {
                let limit = request.limit;
                return Err(Error::InvalidParameter(format!(
                    "limit {limit} is outside the range of [1, {MOST}]"
                )));
            }
        };
        let found =
            self.registry().search(term, limit, Some(for_registry(&request.credentials))).await;
        let found = found.map_err(|error| Error::failed(format!("search for {term:?}"), error))?;
        let wanted = |found: &SearchResult| {
            request.official.is_none_or(|official| official == found.is_official)
                && found.star_count >= request.stars
        };
        let wanted = found.into_iter().filter(wanted).map(|found| FoundImage {
            name: found.name,
            description: found.description,
            stars: found.star_count,
            official: found.is_official,
        });
        Ok(wanted.collect())
    }
}
