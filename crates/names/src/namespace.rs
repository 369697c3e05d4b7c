//! containerd's namespaces: one daemon serves one of them.

use std::str::FromStr;

use crate::identifier::{self, InvalidIdentifier, checked_text};

/// A namespace of containerd, for example `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

checked_text!(Namespace);

impl Default for Namespace {
    /// `default`, as in nerdctl and ctr.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for Namespace {
    type Err = InvalidIdentifier;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        identifier::check("namespace", given)?;
        Ok(Self(given.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_a_valid_namespace() {
        let default = Namespace::default();
        assert_eq!(default.as_str().parse(), Ok(default));
    }

    #[test]
    fn a_path_is_no_namespace() {
        let error = "../x".parse::<Namespace>().unwrap_err();
        assert!(error.to_string().starts_with("invalid namespace \"../x\": "), "{error}");
    }
}
