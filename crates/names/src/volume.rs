//! Volumes: their name, which is their only identity.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::hex;
use crate::identifier::{self, checked_text};

/// The name of a volume. A part of it never means it.
///
/// Source of the pattern: moby `daemon/volume/local/local.go`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

checked_text!(VolumeName);

impl VolumeName {
    /// The name of a volume for which nobody gave one: 64 hex digits out of 32 random bytes.
    #[must_use]
    pub fn anonymous(random: [u8; 32]) -> Self {
        Self(hex::encode(&random))
    }
}

impl FromStr for VolumeName {
    type Err = InvalidVolumeName;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if !identifier::is_docker_name(given) {
            return Err(InvalidVolumeName { given: given.to_owned() });
        }
        Ok(Self(given.to_owned()))
    }
}

/// A text that cannot be the name of a volume. Prints Docker's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidVolumeName {
    /// The text that was given.
    pub given: String,
}

impl fmt::Display for InvalidVolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // moby has its own words for a name that is only too short.
        if self.given.len() == 1 {
            return f.write_str(
                "volume name is too short, names should be at least two alphanumeric characters",
            );
        }
        write!(
            f,
            "{:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
             If you intended to pass a host directory, use absolute path",
            self.given
        )
    }
}

impl Error for InvalidVolumeName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_local_drivers_pattern() {
        assert_eq!("data_1".parse::<VolumeName>().unwrap().as_str(), "data_1");
        assert_eq!(VolumeName::anonymous([0; 32]).as_str(), "0".repeat(64));
        for bad in ["", "a", "/data", "a/b", "_x"] {
            assert!(bad.parse::<VolumeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_message_suggests_an_absolute_path() {
        assert_eq!(
            "./x".parse::<VolumeName>().unwrap_err().to_string(),
            "\"./x\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
             If you intended to pass a host directory, use absolute path"
        );
    }
}
