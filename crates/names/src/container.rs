//! Containers: their id, their name, and what a user types to mean one.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::hex;
use crate::identifier::{self, InvalidIdentifier, checked_text};

/// The id of a container.
///
/// Ours are 64 lower-case hex digits. Any identifier that containerd accepts is allowed, because
/// containers made by other clients of containerd are shown too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

checked_text!(ContainerId);

impl ContainerId {
    /// A new id out of 32 random bytes.
    #[must_use]
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(hex::encode(&random))
    }

    /// The first twelve characters: shown to people, and the default host name.
    #[must_use]
    pub fn short(&self) -> &str {
        hex::short(&self.0)
    }

    /// Whether [`short`](Self::short) consists of decimal digits only.
    ///
    /// Such an id makes a host name that some programs take for a number; dockerd draws again
    /// (moby `daemon/internal/stringid`), and so should whoever calls [`from_random`](Self::from_random).
    #[must_use]
    pub fn short_is_numeric(&self) -> bool {
        self.short().bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl FromStr for ContainerId {
    type Err = InvalidIdentifier;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        identifier::check("container id", given)?;
        Ok(Self(given.to_owned()))
    }
}

/// Names are names of files, with something before and behind them while those are written. File names have 255 bytes.
const MAX_NAME_BYTES: usize = 200;

/// The name of a container, without the slash that Docker's API puts before it.
///
/// Source of the pattern: moby `daemon/names/names.go`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName(String);

checked_text!(ContainerName);

impl ContainerName {
    /// The name as Docker's API spells it: `/web`.
    #[must_use]
    pub fn with_slash(&self) -> String {
        format!("/{}", self.0)
    }
}

impl FromStr for ContainerName {
    type Err = InvalidContainerName;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let bare = given.strip_prefix('/').unwrap_or(given);
        if !identifier::is_docker_name(bare) || bare.len() > MAX_NAME_BYTES {
            return Err(InvalidContainerName { given: given.to_owned() });
        }
        Ok(Self(bare.to_owned()))
    }
}

/// A text that cannot be the name of a container. Prints Docker's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidContainerName {
    /// The text that was given.
    pub given: String,
}

impl fmt::Display for InvalidContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            self.given
        )
    }
}

impl Error for InvalidContainerName {}

/// What a user typed to mean a container: a full id, a name with or without slash, or the start of an id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerRef(String);

checked_text!(ContainerRef);

impl ContainerRef {
    /// The text as a name: without one leading slash.
    #[must_use]
    pub fn as_name(&self) -> &str {
        self.0.strip_prefix('/').unwrap_or(&self.0)
    }
}

impl FromStr for ContainerRef {
    type Err = EmptyContainerRef;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if given.is_empty() {
            return Err(EmptyContainerRef);
        }
        Ok(Self(given.to_owned()))
    }
}

impl From<&ContainerId> for ContainerRef {
    fn from(id: &ContainerId) -> Self {
        Self(id.0.clone())
    }
}

impl From<&ContainerName> for ContainerRef {
    fn from(name: &ContainerName) -> Self {
        Self(name.0.clone())
    }
}

/// No container can be meant by an empty text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyContainerRef;

impl fmt::Display for EmptyContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("container name or ID cannot be empty")
    }
}

impl Error for EmptyContainerRef {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_become_64_hex_digits() {
        let id = ContainerId::from_random([0xab; 32]);
        assert_eq!(id.as_str(), "ab".repeat(32));
        assert_eq!(id.short(), "abababababab");
        assert!(!id.short_is_numeric());
    }

    #[test]
    fn numeric_short_form_is_noticed() {
        assert!(ContainerId::from_random([0x12; 32]).short_is_numeric());
    }

    #[test]
    fn foreign_ids_of_containerd_are_ids() {
        let id: ContainerId = "kube-proxy.1".parse().unwrap();
        assert_eq!(id.short(), "kube-proxy.1");
        assert!("a/b".parse::<ContainerId>().is_err());
    }

    #[test]
    fn names_lose_their_slash() {
        let name: ContainerName = "/web".parse().unwrap();
        assert_eq!(name.as_str(), "web");
        assert_eq!(name.with_slash(), "/web");
    }

    #[test]
    fn bad_names_are_refused_in_dockers_words() {
        let error = "/-x".parse::<ContainerName>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "Invalid container name (/-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
        assert!("a".parse::<ContainerName>().is_err(), "one character is too few");
        assert!("a".repeat(200).parse::<ContainerName>().is_ok());
        assert!("a".repeat(201).parse::<ContainerName>().is_err(), "too long for a file");
        assert!("//web".parse::<ContainerName>().is_err(), "one slash at most");
    }

    #[test]
    fn references_keep_what_was_typed() {
        let reference: ContainerRef = "/web".parse().unwrap();
        assert_eq!((reference.as_str(), reference.as_name()), ("/web", "web"));
        assert_eq!("".parse::<ContainerRef>(), Err(EmptyContainerRef));
    }
}
