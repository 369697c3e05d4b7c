//! Addresses: as much of a URL as registries need.
//!
//! `http::Uri` parses; this adds what it leaves out: a scheme that is one of two, the port that follows from it, and the
//! resolving of a relative `Location` (RFC 3986 §5.2, without dot segments, which no registry sends).

use std::fmt;
use std::net::IpAddr;

use crate::Error;

/// How to speak to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(crate) const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An absolute HTTP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    /// As it stands in the address: a name, an IPv4 address, or an IPv6 address in brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// Path and query; starts with `/`.
    pub(crate) path: String,
}

impl Url {
    /// Reads an absolute address. One with a user name in it is refused: it would end up in logs.
    pub(crate) fn parse(address: &str) -> Result<Self, Error> {
        let invalid = |problem| Error::Address { address: without_secrets(address), problem };
        let uri: http::Uri = address.parse().map_err(|_| invalid("not a URL"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(invalid("the scheme must be http or https")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("a user name is not allowed here"));
        }
        if authority.host().is_empty() {
            return Err(invalid("no host"));
        }
        let behind = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if authority.port_u16().is_none() && !behind.is_empty() {
            return Err(invalid("invalid port"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { scheme, host: authority.host().to_owned(), port: authority.port_u16(), path })
    }

    /// The address that a `Location` header on an answer from `self` means.
    pub(crate) fn join(&self, location: &str) -> Result<Self, Error> {
        // A scheme comes before everything else; an address inside the query is none of ours.
        if location.split(['/', '?', '#']).next().is_some_and(|first| first.ends_with(':')) {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.as_str()));
        }
        let base = self.path.split('?').next().unwrap_or("/");
        let path = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{base}{location}")
        } else {
            let folder = base.rfind('/').map_or("/", |slash| &base[..=slash]);
            format!("{folder}{location}")
        };
        // Parsed again, so that what a server sent is checked before it becomes a request line.
        Self::parse(&format!("{}://{}{path}", self.scheme.as_str(), self.authority()))
    }

    /// Host, and port where it is not the scheme's.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The port to connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port())
    }

    /// The host as a name or address to connect to: without brackets.
    pub(crate) fn dial_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether this is an address at `host[:port]`; a port that is not there is the scheme's.
    pub(crate) fn is_at(&self, host: &str) -> bool {
        let (name, port) = split_port(host);
        self.host.eq_ignore_ascii_case(name)
            && self.port() == port.unwrap_or(self.scheme.default_port())
    }

    /// Whether credentials for `self` may also be sent to `other`.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.port() == other.port()
            && self.host.eq_ignore_ascii_case(&other.host)
    }
}

/// Without the query: redirects to storage carry signatures there.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", self.scheme.as_str(), self.authority())
    }
}

/// A text that should be an address, for errors: without user name, password and query.
#[must_use]
pub fn without_secrets(address: &str) -> String {
    let (scheme, rest) =
        address.find("://").map_or(("", address), |at| address.split_at(at + "://".len()));
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    match (rest[..end].rsplit_once('@'), rest[end..].contains('@')) {
        (Some((_, shown)), false) => format!("{scheme}{shown}"),
        (None, false) => format!("{scheme}{}", &rest[..end]),
        // The sign may belong to a password with a question mark in it.
        (_, true) => format!("{scheme}***"),
    }
}

/// The host of what may be a URL, a host with a path, or a host (moby daemon/pkg/registry/auth.go, ConvertToHostname).
pub(crate) fn hostname_of(address: &str) -> &str {
    let stripped = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    stripped.split('/').next().unwrap_or_default()
}

/// Splits `host[:port]`, leaving the brackets of an IPv6 address on.
pub(crate) fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port))
            if !name.ends_with(':') && (name.ends_with(']') || !name.contains(':')) =>
        {
            match port.parse() {
                Ok(port) => (name, Some(port)),
                Err(_) => (host, None),
            }
        }
        _ => (host, None),
    }
}

/// Whether a host name or address is this machine's (containerd core/remotes/docker/registry.go, MatchLocalhost).
pub(crate) fn is_localhost(host: &str) -> bool {
    let (name, _) = split_port(host);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_and_put_together() {
        let url = Url::parse("https://r.example:5000/v2/a/b?x=secret").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port(), url.path.as_str()),
            ("r.example", 5000, "/v2/a/b?x=secret")
        );
        assert_eq!(url.to_string(), "https://r.example:5000/v2/a/b");
        let url = Url::parse("http://[::1]").unwrap();
        assert_eq!((url.dial_host(), url.port(), url.path.as_str()), ("::1", 80, "/"));
        for bad in [
            "r.example/x",
            "ftp://r.example/",
            "https://user:pass@r.example/",
            "https:///x",
            "https://r.example:99999/",
            "https://r.example/a b",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("https://r.example:5000/v2/a/blobs/x?y=1").unwrap();
        let rows = [
            ("http://cdn.example/z?s=1", "http://cdn.example/z?s=1"),
            ("//cdn.example/z", "https://cdn.example/z"),
            ("/z?t=2", "https://r.example:5000/z?t=2"),
            ("/z?u=http://a.example/b", "https://r.example:5000/z?u=http://a.example/b"),
            ("?u=http://a.example", "https://r.example:5000/v2/a/blobs/x?u=http://a.example"),
            ("z", "https://r.example:5000/v2/a/blobs/z"),
            ("?n=2", "https://r.example:5000/v2/a/blobs/x?n=2"),
        ];
        for (location, expected) in rows {
            assert_eq!(base.join(location).unwrap(), Url::parse(expected).unwrap(), "{location}");
        }
        assert!(base.join("file:///etc/passwd").is_err());
        assert!(base.join("/a\r\nX: y").is_err());
    }

    #[test]
    fn what_is_refused_is_shown_without_secrets() {
        let rows = [
            ("https://ann:pw@r.example/x?sig=pw", "https://r.example/x"),
            ("https://ann:p/w@r.example/", "https://r.example/"),
            ("https://ann:p?pw@r.example/", "https://***"),
            ("ftp://r.example/x#pw", "ftp://r.example/x"),
            ("ann:pw@r.example", "r.example"),
            ("r.example/a b", "r.example/a b"),
        ];
        for (address, shown) in rows {
            match Url::parse(address) {
                Err(Error::Address { address: found, .. }) => assert_eq!(found, shown, "{address}"),
                other => panic!("{address}: {other:?}"),
            }
        }
    }

    #[test]
    fn hosts_are_compared_as_they_are_reached() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://R.example/v2").is_at("r.example"));
        assert!(url("https://r.example/v2").is_at("r.example:443"));
        assert!(url("https://[::1]:5000/v2").is_at("[::1]:5000"));
        assert!(!url("https://r.example/v2").is_at("r.example:5000"));
        assert!(!url("https://r.example/v2").is_at("m.example"));
    }

    #[test]
    fn origins_differ_by_scheme_host_or_port() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://a/x").same_origin(&url("https://A:443/y")));
        for other in ["http://a/", "https://b/", "https://a:444/"] {
            assert!(!url("https://a/").same_origin(&url(other)), "{other}");
        }
    }

    #[test]
    fn local_registries_are_recognised() {
        for local in
            ["localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000", "::1"]
        {
            assert!(is_localhost(local), "{local}");
        }
        for remote in
            ["localhost.example", "10.0.0.1:5000", "r.example", "[fe80::1]:80", "notlocalhost"]
        {
            assert!(!is_localhost(remote), "{remote}");
        }
    }
}
