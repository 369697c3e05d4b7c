//! Proxies from the environment, by the rules that Go programs follow
//! (golang.org/x/net/http/httpproxy), so that our daemon goes the way that dockerd and containerd go.

use std::net::IpAddr;

use base64::Engine as _;

use crate::url::{Url, is_localhost, split_port};
use crate::{Error, Secret};

/// Which requests go through which proxy.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: String,
    https: String,
    no_proxy: Vec<String>,
}

/// One proxy, ready to be dialled.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) url: Url,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<Secret>,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or their lower-case forms, through `lookup`.
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            lookup(name)
                .filter(|value| !value.is_empty())
                .or_else(|| lookup(&name.to_lowercase()))
                .unwrap_or_default()
        };
        let no_proxy = either("NO_PROXY")
            .split(',')
            .map(|entry| entry.trim().to_lowercase())
            .filter(|entry| !entry.is_empty())
            .collect();
        Self { http: either("HTTP_PROXY"), https: either("HTTPS_PROXY"), no_proxy }
    }

    /// What is wrong with the settings, if anything is; requests that need what is wrong fail.
    #[must_use]
    pub fn trouble(&self) -> Option<Error> {
        let set = [&self.http, &self.https].into_iter().filter(|setting| !setting.is_empty());
        set.filter_map(|setting| parse_proxy(setting).err()).next()
    }

    /// The proxy for a request to `url`, if it does not go straight there.
    pub(crate) fn for_url(&self, url: &Url) -> Result<Option<Proxy>, Error> {
        let setting = match url.scheme {
            crate::url::Scheme::Http => &self.http,
            crate::url::Scheme::Https => &self.https,
        };
        if setting.is_empty()
            || is_localhost(&url.host)
            || self.no_proxy.iter().any(|entry| excludes(entry, url))
        {
            return Ok(None);
        }
        parse_proxy(setting).map(Some)
    }
}

/// A proxy setting may lack its scheme and may carry a user name and password.
fn parse_proxy(setting: &str) -> Result<Proxy, Error> {
    let (scheme, rest) = setting.split_once("://").unwrap_or(("http", setting));
    let (user, address) =
        rest.rsplit_once('@').map_or((None, rest), |(user, address)| (Some(user), address));
    if scheme.to_ascii_lowercase().starts_with("socks") {
        let problem = "SOCKS proxies are not supported; HTTP_PROXY and HTTPS_PROXY take http:// and https:// ones";
        return Err(Error::Address { address: format!("{scheme}://{address}"), problem });
    }
    let url = Url::parse(&format!("{scheme}://{address}"))?;
    let authorization = user.map(|user| {
        Secret::new(format!(
            "Basic {}",
            base64::prelude::BASE64_STANDARD.encode(percent_decode(user))
        ))
    });
    Ok(Proxy { url, authorization })
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// Whether an entry of `NO_PROXY` covers the host: `*`, an address, a block of addresses, a domain (with its subdomains; only
/// these when it starts with a dot), each but the block optionally with a port.
fn excludes(entry: &str, url: &Url) -> bool {
    if entry == "*" {
        return true;
    }
    let host = url.dial_host().to_lowercase();
    let address = host.parse::<IpAddr>().ok();
    if let Some(block) = Block::parse(entry) {
        return address.is_some_and(|address| block.contains(address));
    }
    let (name, port) = split_port(entry);
    if port.is_some_and(|port| port != url.port()) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(excluded) = name.parse::<IpAddr>() {
        return address == Some(excluded);
    }
    let (domain, itself) = match name.trim_start_matches('*').strip_prefix('.') {
        Some(domain) => (domain, false),
        None => (name, true),
    };
    (itself && host == domain) || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// A block of addresses, as in `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    network: u128,
    mask: u128,
    v4: bool,
}

impl Block {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (IpAddr, u32) = (address.parse().ok()?, bits.parse().ok()?);
        let (value, v4) = number(address);
        let width: u32 = if v4 { 32 } else { 128 };
        let mask = match width.checked_sub(bits)? {
            128 => 0,
            host_bits => (u128::MAX >> (128 - width)) & (u128::MAX << host_bits),
        };
        Some(Self { network: value & mask, mask, v4 })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (value, v4) = number(address);
        v4 == self.v4 && value & self.mask == self.network
    }
}

fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), true),
        IpAddr::V6(address) => (u128::from(address), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        let no_proxy = no_proxy.to_owned();
        Proxies::from_lookup(move |name| match name {
            "HTTP_PROXY" => Some("proxy.example:3128".to_owned()),
            "https_proxy" => Some("http://ann:p%40ss@secure.example:3129/".to_owned()),
            "NO_PROXY" => Some(no_proxy.clone()),
            _ => None,
        })
    }

    fn way(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.for_url(&Url::parse(url).unwrap()).unwrap().map(|proxy| proxy.url.authority())
    }

    #[test]
    fn socks_is_refused_by_name_and_without_secrets() {
        let proxies = |value: &'static str| {
            Proxies::from_lookup(move |name| (name == "HTTPS_PROXY").then(|| value.to_owned()))
        };
        let trouble = proxies("socks5://ann:secret@proxy:1080").trouble().unwrap().to_string();
        assert!(trouble.contains("SOCKS") && trouble.contains("proxy:1080"), "{trouble}");
        assert!(!trouble.contains("secret"), "{trouble}");
        assert!(proxies("http://ann:secret@proxy:3128").trouble().is_none());
    }

    #[test]
    fn the_scheme_chooses_the_proxy() {
        let proxies = proxies("");
        assert_eq!(way(&proxies, "http://r.example/").as_deref(), Some("proxy.example:3128"));
        assert_eq!(way(&proxies, "https://r.example/").as_deref(), Some("secure.example:3129"));
        assert_eq!(way(&proxies, "https://localhost:5000/"), None);
        assert_eq!(way(&proxies, "https://127.0.0.1/"), None);
    }

    #[test]
    fn a_password_in_the_setting_becomes_a_header() {
        let proxy =
            proxies("").for_url(&Url::parse("https://r.example/").unwrap()).unwrap().unwrap();
        // base64 of "ann:p@ss"
        assert_eq!(proxy.authorization.as_ref().map(Secret::reveal), Some("Basic YW5uOnBAc3M="));
        assert!(!format!("{proxy:?}").contains("YW5u"));
    }

    #[test]
    fn exceptions_follow_go() {
        let rows = [
            ("*", "https://r.example/", true),
            ("r.example", "https://r.example/", true),
            ("r.example", "https://a.r.example/", true),
            ("r.example", "https://ar.example/", false),
            (".r.example", "https://r.example/", false),
            (".r.example", "https://a.r.example/", true),
            ("r.example:5000", "https://r.example/", false),
            ("r.example:443", "https://r.example/", true),
            ("10.0.0.0/8", "https://10.1.2.3:5000/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("fd00::/8", "https://[fd00::7]/", true),
            ("0.0.0.0/0", "https://11.1.2.3/", true),
            ("10.0.0.1", "https://10.0.0.1/", true),
            ("a, b ,R.Example", "https://r.example/", true),
        ];
        for (no_proxy, url, direct) in rows {
            assert_eq!(way(&proxies(no_proxy), url).is_none(), direct, "{no_proxy} {url}");
        }
    }
}
