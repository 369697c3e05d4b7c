//! Every difference between API versions that is one of shape or default, and nothing else in the house knows versions.
//!
//! The engine and `docker-wire` speak only the newest version. [`requests`] lifts an old request to it before the request
//! is understood; [`responses`] and [`events`] lower the newest answer to what an old client expects. Each function is one
//! row of the history (moby `api/docs/CHANGELOG.md`), named by what changed, and says from which version on; each has a
//! test on both sides. The difference that an endpoint does not exist yet is `since` in the table of routes.

pub(in crate::api) mod events;
pub(in crate::api) mod requests;
pub(in crate::api) mod responses;

use super::version::ApiVersion;

/// Version 1.`minor`.
const fn v(minor: u16) -> ApiVersion {
    ApiVersion::new(1, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The version before a change and the version of the change.
    pub(super) fn around(minor: u16) -> (ApiVersion, ApiVersion) {
        (v(minor - 1), v(minor))
    }
}
