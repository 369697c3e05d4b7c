//! API versions: which exist here, and how a path says one.
//!
//! A request without a version in its path has the newest (moby `daemon/server/server.go`). Comparing versions is for
//! this folder only: the table of routes (`since`), the negotiation below, and `compat`, which owns every difference.

use std::cmp::Ordering;
use std::fmt;

/// A version that this daemon speaks: `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::api) struct ApiVersion {
    major: u16,
    minor: u16,
}

/// The newest version, announced in every answer.
pub(in crate::api) const MAX: ApiVersion = ApiVersion::new(1, 55);
/// The oldest one served (moby's own floor, `daemon/config/config.go`).
pub(in crate::api) const MIN: ApiVersion = ApiVersion::new(1, 24);

impl ApiVersion {
    /// A version by its numbers.
    pub(in crate::api) const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Outside of `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum OutOfRange {
    /// Below.
    TooOld,
    /// Above.
    TooNew,
}

/// Judge the text of a path's version, which is made of digits and dots.
///
/// Components are compared as numbers and missing ones are 0, so that `1.9` is older than `1.10` (moby
/// `api/types/versions`).
///
/// # Errors
/// It is not served.
pub(in crate::api) fn negotiate(text: &str) -> Result<ApiVersion, OutOfRange> {
    let numbers: Vec<u16> = text.split('.').map(component).collect();
    if compare(&numbers, MIN) == Ordering::Less {
        return Err(OutOfRange::TooOld);
    }
    if compare(&numbers, MAX) == Ordering::Greater {
        return Err(OutOfRange::TooNew);
    }
    Ok(ApiVersion::new(numbers[0], numbers.get(1).copied().unwrap_or(0)))
}

/// Go's `strconv.Atoi` error counts as 0; a number too large for us is too large for every daemon.
fn component(text: &str) -> u16 {
    if text.is_empty() { 0 } else { text.parse().unwrap_or(u16::MAX) }
}

fn compare(numbers: &[u16], version: ApiVersion) -> Ordering {
    let ours = [version.major, version.minor];
    let length = numbers.len().max(ours.len());
    let padded = |numbers: &[u16]| -> Vec<u16> {
        (0..length).map(|at| numbers.get(at).copied().unwrap_or(0)).collect()
    };
    padded(numbers).cmp(&padded(&ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_is_judged_number_by_number() {
        for text in ["1.24", "1.41", "1.55", "1.55.0", "01.030"] {
            assert!(negotiate(text).is_ok(), "{text}");
        }
        for text in ["1.23", "1.9", "1", "0.99", ".", "1.", "1.23.99"] {
            assert_eq!(negotiate(text), Err(OutOfRange::TooOld), "{text}");
        }
        for text in ["1.56", "1.100", "2", "2.0", "1.55.1", "99999999999999999999"] {
            assert_eq!(negotiate(text), Err(OutOfRange::TooNew), "{text}");
        }
        assert_eq!(negotiate("1.41"), Ok(ApiVersion::new(1, 41)));
    }
}
