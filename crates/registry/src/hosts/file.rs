//! One `hosts.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;

use super::{Capabilities, HostConfig};
use crate::Error;
use crate::tls::TlsSettings;
use crate::url::Url;

/// A file larger than this is not a `hosts.toml`.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads `hosts.toml` in `folder`. `None` if there is nothing usable in it, which containerd takes as if it were not there.
/// `insecure` is what the daemon's settings say of the registry.
pub(super) fn read(
    folder: &Path,
    origin: &HostConfig,
    insecure: bool,
) -> Result<Option<Vec<HostConfig>>, Error> {
    let path = folder.join("hosts.toml");
    let text = text_of(&path);
    if text.trim().is_empty() {
        return Ok(None);
    }
    let file: HostsFile = match toml::from_str(&text) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "hosts.toml cannot be read and is ignored");
            return Ok(None);
        }
    };
    let mut entries: Vec<_> = file.host.into_iter().collect();
    // The order of the file is the order of preference; a map forgets it, the positions of the keys do not.
    entries.sort_by_key(|(address, _)| address.span().start);
    let mut hosts = Vec::new();
    for (address, settings) in entries {
        hosts.push(host(address.get_ref(), settings, folder)?);
    }
    hosts.push(match file.server.as_deref().filter(|server| !server.is_empty()) {
        Some(server) => {
            let skip_verify = file.settings.skip_verify;
            let mut config = host(server, file.settings, folder)?;
            if insecure && config.base.is_at(&origin.base.authority()) {
                // The same host by its own name: what the daemon's settings say of it stands.
                config.tls.skip_verify = skip_verify.unwrap_or(true);
                config.tls.plain_fallback = true;
                config.tls.only_within.clone_from(&origin.tls.only_within);
            }
            config
        }
        None => own_settings(origin.clone(), file.settings, folder),
    });
    Ok(Some(hosts))
}

/// The file's text; empty if there is none. One that is there but cannot be read is not silently nothing: what it says may
/// keep requests away from a host.
fn text_of(path: &Path) -> String {
    let read = std::fs::metadata(path).and_then(|metadata| {
        if metadata.len() > MAX_FILE {
            return Err(std::io::Error::other(format!("it has more than {MAX_FILE} bytes")));
        }
        std::fs::read_to_string(path)
    });
    match read {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "hosts.toml cannot be read and is ignored");
            String::new()
        }
    }
}

/// The file's first level: the registry itself, and its mirrors.
#[derive(Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, HostSettings>,
    #[serde(flatten)]
    settings: HostSettings,
}

/// The settings of one host.
#[derive(Deserialize, Default)]
struct HostSettings {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// A PEM file with certificate and key, several of them, or pairs of files.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Client {
    One(String),
    Many(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

impl Client {
    fn into_pairs(self, folder: &Path) -> Vec<(PathBuf, Option<PathBuf>)> {
        let single = |file: String| (folder.join(file), None);
        match self {
            Self::One(file) => vec![single(file)],
            Self::Many(files) => files.into_iter().map(single).collect(),
            Self::Pairs(pairs) => pairs
                .into_iter()
                .filter_map(|pair| {
                    let mut pair = pair.into_iter();
                    let certificate = pair.next()?;
                    Some((
                        folder.join(certificate),
                        pair.next().filter(|key| !key.is_empty()).map(|key| folder.join(key)),
                    ))
                })
                .collect(),
        }
    }
}

/// A host named in the file. `/v2` is added to its path unless it ends so or the path is said to be whole.
fn host(address: &str, settings: HostSettings, folder: &Path) -> Result<HostConfig, Error> {
    let address =
        if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let mut base = Url::parse(&address)?;
    base.path = base.path.trim_end_matches('/').to_owned();
    if !settings.override_path && !base.path.ends_with("/v2") {
        base.path.push_str("/v2");
    }
    let host = HostConfig {
        base,
        capabilities: Capabilities::ALL,
        tls: TlsSettings::default(),
        headers: HeaderMap::new(),
    };
    Ok(own_settings(host, settings, folder))
}

fn own_settings(mut host: HostConfig, settings: HostSettings, folder: &Path) -> HostConfig {
    if let Some(capabilities) = settings.capabilities {
        let has = |name: &str| {
            capabilities.iter().any(|capability| capability.eq_ignore_ascii_case(name))
        };
        host.capabilities =
            Capabilities { pull: has("pull"), resolve: has("resolve"), push: has("push") };
    }
    let authorities = settings.ca.map(OneOrMany::into_vec).unwrap_or_default();
    host.tls.ca.extend(authorities.into_iter().map(|file| folder.join(file)));
    host.tls.client = settings.client.map(|client| client.into_pairs(folder)).unwrap_or_default();
    if let Some(skip_verify) = settings.skip_verify {
        host.tls.skip_verify = skip_verify;
    }
    for (name, values) in settings.header {
        for value in values.into_vec() {
            match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                (Ok(name), Ok(mut value)) => {
                    // Often a token.
                    value.set_sensitive(true);
                    host.headers.append(name, value);
                }
                _ => {
                    tracing::warn!(host = %host.base, header = name, "a header of hosts.toml is not a valid one and is left out");
                }
            }
        }
    }
    host
}
