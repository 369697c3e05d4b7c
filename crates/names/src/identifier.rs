//! containerd's identifiers: what it accepts as the id of a container, an exec or a namespace.
//!
//! Source: containerd `pkg/identifiers/validate.go`.

use std::error::Error;
use std::fmt;

/// containerd stores identifiers in file names and label values, and caps them at this many bytes.
const MAX_LEN: usize = 76;

/// A text that containerd would refuse as an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidIdentifier {
    /// What kind of thing was to be identified, for example `container id`.
    pub kind: &'static str,
    /// The text that was given.
    pub given: String,
}

impl fmt::Display for InvalidIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, given } = self;
        write!(
            f,
            "invalid {kind} {given:?}: must be 1 to {MAX_LEN} letters, digits, and single separators [._-] between them"
        )
    }
}

impl Error for InvalidIdentifier {}

/// `^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$`, at most 76 bytes.
pub(crate) fn check(kind: &'static str, given: &str) -> Result<(), InvalidIdentifier> {
    let runs_are_filled = given
        .split(['.', '_', '-'])
        .all(|run| !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if runs_are_filled && given.len() <= MAX_LEN {
        return Ok(());
    }
    Err(InvalidIdentifier { kind, given: given.to_owned() })
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`: Docker's pattern for names of containers and volumes.
pub(crate) fn is_docker_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() >= 2
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Gives a checked text type (`struct X(String)`) its ways out: `as_str`, `Display`, `AsRef`, `Borrow`,
/// `Into<String>`. The way in, `FromStr`, stays with each type because it carries the rule.
macro_rules! checked_text {
    ($type:ident) => {
        impl $type {
            /// The checked text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        // Sound because Eq, Ord and Hash are derived from the one String field.
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$type> for String {
            fn from(checked: $type) -> Self {
                checked.0
            }
        }
    };
}
pub(crate) use checked_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_stand_alone_between_runs() {
        for good in ["a", "A1", "a.b", "a_b-c.d", &"x".repeat(76)] {
            assert_eq!(check("id", good), Ok(()), "{good}");
        }
        for bad in ["", ".a", "a.", "a..b", "a/b", "a b", "ä", &"x".repeat(77)] {
            assert!(check("id", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn docker_names_have_two_characters_or_more() {
        for good in ["ab", "a_", "0-.", "web.1"] {
            assert!(is_docker_name(good), "{good}");
        }
        for bad in ["", "a", "_a", "-a", ".a", "a/b", "a b", "aä"] {
            assert!(!is_docker_name(bad), "{bad}");
        }
    }
}
