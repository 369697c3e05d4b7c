//! Digests of content, and the image ids made of them.
//!
//! Source: opencontainers/go-digest `digest.go`, `algorithm.go`.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::hex;

/// The hash functions that OCI registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256: 64 hex digits. In practice the only one.
    Sha256,
    /// SHA-384: 96 hex digits.
    Sha384,
    /// SHA-512: 128 hex digits.
    Sha512,
}

impl DigestAlgorithm {
    /// The name before the colon: `sha256`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex digits follow the colon.
    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The digest of some content: `sha256:` and 64 lower-case hex digits, or its longer relatives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: DigestAlgorithm,
    /// Algorithm, colon, hex digits: kept whole because it is asked for most.
    text: String,
}

impl Digest {
    /// The digest whose SHA-256 sum is `sum`.
    #[must_use]
    pub fn from_sha256(sum: [u8; 32]) -> Self {
        Self { algorithm: DigestAlgorithm::Sha256, text: format!("sha256:{}", hex::encode(&sum)) }
    }

    /// The whole text: `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hash function.
    #[must_use]
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The hex digits after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// The first twelve hex digits, as shown to people.
    #[must_use]
    pub fn short(&self) -> &str {
        hex::short(self.hex())
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let (name, digits) = given.split_once(':').ok_or(InvalidDigest::Format)?;
        if name.is_empty() || digits.is_empty() {
            return Err(InvalidDigest::Format);
        }
        let Some(algorithm) = DigestAlgorithm::named(name) else {
            return Err(InvalidDigest::Unsupported);
        };
        if digits.len() != algorithm.hex_len() {
            return Err(InvalidDigest::Length);
        }
        if !hex::is_lower_hex(digits) {
            return Err(InvalidDigest::Format);
        }
        Ok(Self { algorithm, text: given.to_owned() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// A text that is not a digest. Prints go-digest's messages, which Docker passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidDigest {
    /// Not `algorithm:hex`, or not lower case.
    Format,
    /// Not the number of hex digits that the algorithm yields.
    Length,
    /// An algorithm that OCI does not register.
    Unsupported,
}

impl fmt::Display for InvalidDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "invalid checksum digest format",
            Self::Length => "invalid checksum digest length",
            Self::Unsupported => "unsupported digest algorithm",
        })
    }
}

impl Error for InvalidDigest {}

/// The id of an image: the SHA-256 digest of its target, an index or a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(Digest);

impl ImageId {
    /// The whole text: `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The 64 hex digits after `sha256:`.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.hex()
    }

    /// The first twelve hex digits, as shown to people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.short()
    }

    /// The id as a digest of content.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

impl TryFrom<Digest> for ImageId {
    type Error = InvalidDigest;

    /// Only SHA-256 digests are image ids.
    fn try_from(digest: Digest) -> Result<Self, Self::Error> {
        match digest.algorithm {
            DigestAlgorithm::Sha256 => Ok(Self(digest)),
            DigestAlgorithm::Sha384 | DigestAlgorithm::Sha512 => Err(InvalidDigest::Unsupported),
        }
    }
}

impl From<ImageId> for Digest {
    fn from(id: ImageId) -> Self {
        id.0
    }
}

impl FromStr for ImageId {
    type Err = InvalidDigest;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        given.parse::<Digest>().and_then(Self::try_from)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_digest() {
        let digest: Digest = format!("sha256:{}", "0123456789abcdef".repeat(4)).parse().unwrap();
        assert_eq!(digest.algorithm(), DigestAlgorithm::Sha256);
        assert_eq!(digest.hex().len(), 64);
        assert_eq!(digest.short(), "0123456789ab");
        assert_eq!(
            digest,
            Digest::from_sha256(
                [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(4).try_into().unwrap()
            )
        );
    }

    #[test]
    fn longer_hashes_are_digests_but_no_image_ids() {
        let text = format!("sha512:{}", "a".repeat(128));
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        assert_eq!(text.parse::<ImageId>(), Err(InvalidDigest::Unsupported));
    }

    #[test]
    fn what_is_wrong_with_a_digest() {
        let sixty_four = "a".repeat(64);
        for (given, error) in [
            (String::new(), InvalidDigest::Format),
            (sixty_four.clone(), InvalidDigest::Format),
            (format!(":{sixty_four}"), InvalidDigest::Format),
            ("sha256:".to_owned(), InvalidDigest::Format),
            ("sha256:abc".to_owned(), InvalidDigest::Length),
            (format!("sha256:{}", "A".repeat(64)), InvalidDigest::Format),
            (format!("md5:{}", "a".repeat(32)), InvalidDigest::Unsupported),
            (format!("SHA256:{sixty_four}"), InvalidDigest::Unsupported),
        ] {
            assert_eq!(given.parse::<Digest>(), Err(error), "{given}");
        }
    }
}
