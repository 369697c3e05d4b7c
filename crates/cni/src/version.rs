//! Versions of the CNI specification.

use std::fmt;
use std::str::FromStr;

/// A version like `1.0.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16, u16, u16);

impl Version {
    /// What a configuration without version means.
    pub const OLDEST: Self = Self(0, 1, 0);
    /// From here on, `DEL` and `CHECK` get the result of `ADD`.
    pub const WITH_PREVIOUS_RESULT: Self = Self(0, 4, 0);
    /// The newest that we, and nerdctl's hosts store, write.
    pub const NEWEST: Self = Self(1, 1, 0);
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers =
            text.splitn(3, '.').map(|number| number.parse().map_err(|_| UnknownVersion));
        let mut next = || numbers.next().unwrap_or(Err(UnknownVersion));
        Ok(Self(next()?, next()?, next()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownVersion;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("0.3.1") < Version::WITH_PREVIOUS_RESULT);
        assert!(version("1.0.0") < version("1.1.0"));
        assert!(version("0.10.0") > version("0.4.0"));
        assert_eq!(version("1.1.0").to_string(), "1.1.0");
        for bad in ["", "1", "1.0", "a.b.c", "1.0.0-rc1"] {
            assert_eq!(bad.parse::<Version>(), Err(UnknownVersion), "{bad}");
        }
    }
}
