//! Execs: processes added to a running container.

use std::str::FromStr;

use crate::hex;
use crate::identifier::{self, InvalidIdentifier, checked_text};

/// The id of an exec. Ours are 64 hex digits; Docker never accepts a part of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecId(String);

checked_text!(ExecId);

impl ExecId {
    /// A new id out of 32 random bytes.
    #[must_use]
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(hex::encode(&random))
    }
}

impl FromStr for ExecId {
    type Err = InvalidIdentifier;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        identifier::check("exec id", given)?;
        Ok(Self(given.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_identifiers_of_containerd() {
        assert_eq!(ExecId::from_random([1; 32]).as_str().len(), 64);
        assert!("exec-1".parse::<ExecId>().is_ok());
        assert!("exec/1".parse::<ExecId>().is_err());
    }
}
