//! Networks: their name, their id, and what a user types to mean one.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::hex;
use crate::identifier::checked_text;

/// The name of a network. Docker allows any text that is not blank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkName(String);

checked_text!(NetworkName);

impl NetworkName {
    /// Whether CNI accepts the name too: `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`.
    ///
    /// Only such a name may become part of a file name or of a CNI configuration
    /// (containernetworking/cni `pkg/utils/utils.go`).
    #[must_use]
    pub fn is_valid_for_cni(&self) -> bool {
        self.0.starts_with(|first: char| first.is_ascii_alphanumeric())
            && self
                .0
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    }
}

impl FromStr for NetworkName {
    type Err = EmptyNetworkName;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if given.trim().is_empty() {
            return Err(EmptyNetworkName);
        }
        Ok(Self(given.to_owned()))
    }
}

/// A network must have a name. Prints Docker's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyNetworkName;

impl fmt::Display for EmptyNetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid name: name is empty")
    }
}

impl Error for EmptyNetworkName {}

/// The id of a network: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(String);

checked_text!(NetworkId);

impl NetworkId {
    /// An id out of 32 bytes, random or the digest of something.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(&bytes))
    }

    /// The first twelve characters, as shown to people.
    #[must_use]
    pub fn short(&self) -> &str {
        hex::short(&self.0)
    }
}

impl FromStr for NetworkId {
    type Err = InvalidNetworkId;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if !hex::is_full_id(given) {
            return Err(InvalidNetworkId { given: given.to_owned() });
        }
        Ok(Self(given.to_owned()))
    }
}

/// A text that is not the id of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNetworkId {
    /// The text that was given.
    pub given: String,
}

impl fmt::Display for InvalidNetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid network id {:?}: must be 64 lower-case hex digits", self.given)
    }
}

impl Error for InvalidNetworkId {}

/// What a user typed to mean a network: a full id, a full name, or the start of an id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkRef(String);

checked_text!(NetworkRef);

impl FromStr for NetworkRef {
    type Err = EmptyNetworkName;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if given.is_empty() {
            return Err(EmptyNetworkName);
        }
        Ok(Self(given.to_owned()))
    }
}

impl From<&NetworkId> for NetworkRef {
    fn from(id: &NetworkId) -> Self {
        Self(id.0.clone())
    }
}

impl From<&NetworkName> for NetworkRef {
    fn from(name: &NetworkName) -> Self {
        Self(name.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_but_a_blank_one_is_a_name() {
        let name: NetworkName = "my net/ä".parse().unwrap();
        assert_eq!(name.as_str(), "my net/ä");
        assert!(!name.is_valid_for_cni());
        assert_eq!(" ".parse::<NetworkName>(), Err(EmptyNetworkName));
    }

    #[test]
    fn cni_wants_no_path_and_no_leading_separator() {
        let fits = |name: &str| name.parse::<NetworkName>().unwrap().is_valid_for_cni();
        assert!(fits("a") && fits("bridge") && fits("a.b_c-d"));
        assert!(!fits("../x") && !fits(".x") && !fits("a/b") && !fits("-a"));
    }

    #[test]
    fn ids_are_64_hex_digits() {
        let id = NetworkId::from_bytes([0xcd; 32]);
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_eq!(id.short(), "cdcdcdcdcdcd");
        assert!("cdcd".parse::<NetworkId>().is_err());
        assert!("CD".repeat(32).parse::<NetworkId>().is_err());
    }
}
