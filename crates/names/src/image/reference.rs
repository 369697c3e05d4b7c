//! Image references: `nginx` and what it stands for, `docker.io/library/nginx:latest`.
//!
//! Source of grammar, normalisation and messages: distribution/reference `regexp.go`, `reference.go`,
//! `normalize.go`. The grammar is small and regular, so it is written out here as plain functions.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use super::digest::{Digest, InvalidDigest};
use crate::hex;

const DEFAULT_DOMAIN: &str = "docker.io";
/// What Docker Hub was called once; it still stands in old configurations and scripts.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Bytes; without the domain.
const MAX_PATH_LEN: usize = 255;

/// A canonical reference to an image: domain, path, and perhaps a tag and a digest.
///
/// Parsing completes what users leave out, `Display` shows the canonical form and
/// [`familiar`](Self::familiar) the one that users expect.
///
/// ```
/// let image: names::ImageRef = "nginx:1.27".parse().unwrap();
/// assert_eq!(image.to_string(), "docker.io/library/nginx:1.27");
/// assert_eq!(image.familiar(), "nginx:1.27");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// The registry, with port if any: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within its registry: `library/nginx`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path, without tag and digest: `docker.io/library/nginx`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Whether there is neither a tag nor a digest.
    #[must_use]
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same reference, with the tag `latest` if there was neither a tag nor a digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository under `tag`, without digest.
    ///
    /// # Errors
    /// [`InvalidTag`] when the text cannot be a tag.
    pub fn with_tag(self, tag: &str) -> Result<Self, InvalidTag> {
        validate_tag(tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self })
    }

    /// The content `digest` in the same repository, without tag.
    #[must_use]
    pub fn with_digest(self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self }
    }

    /// The same repository, without tag and digest.
    #[must_use]
    pub fn without_tag_and_digest(self) -> Self {
        Self { tag: None, digest: None, ..self }
    }

    /// As users write it: without `docker.io/` and `library/`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// Domain and path as users write them: `nginx`, `quay.io/app`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(official) if !official.contains('/') => official.to_owned(),
            _ => self.path.clone(),
        }
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest.as_str());
        }
        name
    }

    /// Reads a reference that has its domain already.
    fn from_parts(domain: &str, rest: &str) -> Result<Self, InvalidImageRef> {
        // "@" appears nowhere else, and ":" neither in a path nor in a tag: both cuts are the grammar's.
        let (name_and_tag, digest) = cut(rest, '@');
        let (path, tag) = cut(name_and_tag, ':');
        let well_formed = is_domain(domain)
            && path.split('/').all(is_path_component)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest_shaped);
        if !well_formed {
            return Err(InvalidImageRef::Format);
        }
        if path.len() > MAX_PATH_LEN {
            return Err(InvalidImageRef::TooLong);
        }
        Ok(Self {
            domain: domain.to_owned(),
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::parse).transpose().map_err(InvalidImageRef::Digest)?,
        })
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImageRef;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if hex::is_full_id(given) {
            return Err(InvalidImageRef::Identifier(given.to_owned()));
        }
        let (domain, rest) = split_domain(given);
        // Docker prints the name that it completed ("library/Foo"), and looks no further than the first colon.
        let name = rest.split(':').next().unwrap_or_default();
        if name.chars().any(char::is_uppercase) {
            return Err(InvalidImageRef::Uppercase(name.to_owned()));
        }
        Self::from_parts(domain, &rest)
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.with_suffix(self.repository()))
    }
}

/// A text that is not a reference to an image. Prints Docker's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidImageRef {
    /// It does not follow the grammar.
    Format,
    /// The repository has upper-case letters. Holds the completed name.
    Uppercase(String),
    /// 64 hex digits are an id; they cannot be the name of a repository. Holds the text.
    Identifier(String),
    /// The repository has more than 255 bytes.
    TooLong,
    /// What follows `@` looks like a digest and is none.
    Digest(InvalidDigest),
}

impl fmt::Display for InvalidImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("invalid reference format"),
            Self::Uppercase(name) => {
                write!(f, "invalid reference format: repository name ({name}) must be lowercase")
            }
            Self::Identifier(id) => {
                write!(
                    f,
                    "invalid repository name ({id}), cannot specify 64-byte hexadecimal strings"
                )
            }
            Self::TooLong => {
                write!(f, "repository name must not be more than {MAX_PATH_LEN} characters")
            }
            // Docker adds nothing to the digest's own message, so it is shown here and is no `source`.
            Self::Digest(error) => error.fmt(f),
        }
    }
}

impl Error for InvalidImageRef {}

/// A text that cannot be a tag. Prints Docker's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTag {
    /// The text that was given.
    pub given: String,
}

impl fmt::Display for InvalidTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid tag format")
    }
}

impl Error for InvalidTag {}

/// Checks a tag that was given apart from its repository.
///
/// # Errors
/// [`InvalidTag`] when the text does not match `[\w][\w.-]{0,127}`.
pub fn validate_tag(tag: &str) -> Result<(), InvalidTag> {
    if is_tag(tag) { Ok(()) } else { Err(InvalidTag { given: tag.to_owned() }) }
}

/// Decides whether the part before the first slash is a registry, and completes the name if it is Docker Hub's.
fn split_domain(given: &str) -> (&str, String) {
    let Some((first, rest)) = given.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL_PREFIX}{given}"));
    };
    let is_domain =
        first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase);
    let (domain, path) = match first {
        LEGACY_DEFAULT_DOMAIN => (DEFAULT_DOMAIN, rest),
        _ if is_domain => (first, rest),
        _ => (DEFAULT_DOMAIN, given),
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{path}"));
    }
    (domain, path.to_owned())
}

/// `text` before and after the first `mark`.
fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// A DNS name, an IPv4 address or a bracketed IPv6 address, with a port or without.
///
/// distribution also takes a first part that is no domain (`foo_bar.com/x`) as the start of a path without any
/// registry; nothing can be pulled from there, so it is refused here.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_number =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let is_ipv6 =
        host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| {
            !inner.is_empty() && inner.bytes().all(|byte| byte == b':' || byte.is_ascii_hexdigit())
        });
    port_is_number && (is_ipv6 || host.split('.').all(is_domain_label))
}

/// Letters, digits and inner dashes.
fn is_domain_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric())
}

/// Runs of `[a-z0-9]` joined by `.`, `_`, `__` or dashes.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let mut rest = component.as_bytes();
    loop {
        let run = rest.iter().take_while(|byte| is_alphanumeric(byte)).count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|byte| !is_alphanumeric(byte)).count();
        let joins = match &rest[..separator] {
            b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|byte| *byte == b'-'),
        };
        if !joins {
            return false;
        }
        rest = &rest[separator..];
    }
}

/// `[\w][\w.-]{0,127}`.
fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    (1..=128).contains(&tag.len())
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
        && tag.bytes().next().is_some_and(is_word)
}

/// An algorithm, a colon and at least 32 hex digits: enough to be judged as a digest.
fn is_digest_shaped(digest: &str) -> bool {
    let Some((algorithm, digits)) = digest.split_once(':') else {
        return false;
    };
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(is_name)
        && digits.len() >= 32
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(given: &str) -> String {
        given
            .parse::<ImageRef>()
            .map_or_else(|error| format!("error: {error}"), |image| image.to_string())
    }

    #[test]
    fn familiar_names_are_completed() {
        for (given, expected) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("user/app", "docker.io/user/app"),
            ("user/app/part:x", "docker.io/user/app/part:x"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("docker.io/library/nginx", "docker.io/library/nginx"),
            ("index.docker.io/nginx", "docker.io/library/nginx"),
            ("index.docker.io/user/app", "docker.io/user/app"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("quay.io/app", "quay.io/app"),
            ("127.0.0.1:80/a/b", "127.0.0.1:80/a/b"),
            ("[::1]:5000/app", "[::1]:5000/app"),
            ("[2001:db8::1]/app:x", "[2001:db8::1]/app:x"),
            ("Registry/app", "Registry/app"),
            ("localhost", "docker.io/library/localhost"),
            ("a.b", "docker.io/library/a.b"),
            ("host:5000", "docker.io/library/host:5000"),
            ("sha256:abcd", "docker.io/library/sha256:abcd"),
            ("a__b---c.d_e", "docker.io/library/a__b---c.d_e"),
            ("x:_T.a-G", "docker.io/library/x:_T.a-G"),
        ] {
            assert_eq!(canonical(given), expected, "{given}");
        }
    }

    #[test]
    fn tag_and_digest_may_come_together() {
        let given = format!("nginx:1.27@sha256:{}", "a".repeat(64));
        let image: ImageRef = given.parse().unwrap();
        assert_eq!(image.tag(), Some("1.27"));
        assert_eq!(image.digest().map(Digest::short), Some("aaaaaaaaaaaa"));
        assert_eq!(image.familiar(), given);
        assert_eq!(image.repository(), "docker.io/library/nginx");
        assert_eq!(image.without_tag_and_digest().to_string(), "docker.io/library/nginx");
    }

    #[test]
    fn what_is_no_reference() {
        for given in [
            "",
            ":x",
            "@",
            "/",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a@",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a:.x",
            "a:b:c",
            "a@sha256:abc",
            "ex_ample.com/a",
            "[::g]/a",
            "a.b:x/c",
            "https://a.b/c",
            "ä",
            "a:ä",
            "a\n",
        ] {
            assert_eq!(canonical(given), "error: invalid reference format", "{given:?}");
        }
    }

    #[test]
    fn the_reason_is_told_where_docker_tells_it() {
        let hex = "a".repeat(64);
        for (given, expected) in [
            (
                "Foo".to_owned(),
                "invalid reference format: repository name (library/Foo) must be lowercase"
                    .to_owned(),
            ),
            (
                "user/Foo:x".to_owned(),
                "invalid reference format: repository name (user/Foo) must be lowercase".to_owned(),
            ),
            (
                hex.clone(),
                format!(
                    "invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"
                ),
            ),
            (format!("a@sha256:{}", "A".repeat(64)), "invalid checksum digest format".to_owned()),
            (format!("a@sha256:{}", "a".repeat(63)), "invalid checksum digest length".to_owned()),
            (format!("a@md5:{}", "a".repeat(32)), "unsupported digest algorithm".to_owned()),
            (
                format!("quay.io/{}", "a".repeat(256)),
                "repository name must not be more than 255 characters".to_owned(),
            ),
        ] {
            assert_eq!(canonical(&given), format!("error: {expected}"), "{given}");
        }
    }

    #[test]
    fn familiar_form_hides_docker_hub_only() {
        for familiar in [
            "nginx:1",
            "user/app:1",
            "library/a/b:1",
            "quay.io/library/nginx:1",
            "localhost/nginx:1",
        ] {
            assert_eq!(familiar.parse::<ImageRef>().unwrap().familiar(), familiar);
        }
    }

    #[test]
    fn latest_is_added_to_bare_names_only() {
        let with_default =
            |given: &str| given.parse::<ImageRef>().unwrap().with_default_tag().familiar();
        assert_eq!(with_default("nginx"), "nginx:latest");
        assert_eq!(with_default("nginx:1"), "nginx:1");
        let digested = format!("nginx@sha256:{}", "b".repeat(64));
        assert_eq!(with_default(&digested), digested);
    }

    #[test]
    fn a_new_tag_replaces_tag_and_digest() {
        let image: ImageRef = format!("nginx:1@sha256:{}", "b".repeat(64)).parse().unwrap();
        assert_eq!(image.clone().with_tag("2").unwrap().familiar(), "nginx:2");
        assert_eq!(image.with_tag("-2").unwrap_err().to_string(), "invalid tag format");
        assert!(validate_tag(&"t".repeat(128)).is_ok());
        assert!(validate_tag(&"t".repeat(129)).is_err());
    }
}
