//! `--registry-mirror`, `--insecure-registry` and how much is transferred at once, by dockerd's rules (moby `daemon/pkg/registry/config.go`).

use engine::images::{RegistrySettings, TransferLimits};

use super::Mistake;
use crate::cli::Cli;

/// The settings, and what is wrong with them.
pub(super) fn read(cli: &Cli, mistakes: &mut Vec<Mistake>) -> RegistrySettings {
    let mut settings = RegistrySettings::default();
    for given in &cli.registry_mirror {
        match mirror(given) {
            Ok(mirror) if settings.mirrors.contains(&mirror) => {}
            Ok(mirror) => settings.mirrors.push(mirror),
            Err(reason) => mistakes.push(invalid("--registry-mirror", given, reason)),
        }
    }
    for given in &cli.insecure_registry {
        match insecure(given) {
            Ok(registry) => settings.insecure.push(registry),
            Err(reason) => mistakes.push(invalid("--insecure-registry", given, reason)),
        }
    }
    settings
}

/// How much is transferred at once. None is as much as usual (moby `daemon/config/config.go`).
pub(super) fn limits(cli: &Cli) -> TransferLimits {
    let usual = TransferLimits::default();
    let some = |given: Option<u16>, usual| given.filter(|number| *number > 0).unwrap_or(usual);
    TransferLimits {
        downloads: some(cli.max_concurrent_downloads, usual.downloads),
        uploads: some(cli.max_concurrent_uploads, usual.uploads),
        attempts: some(cli.max_download_attempts, usual.attempts),
    }
}

fn invalid(origin: &str, value: &str, reason: &str) -> Mistake {
    Mistake::Invalid {
        origin: origin.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// An address that ends in a slash, as dockerd shows them.
fn mirror(given: &str) -> Result<String, &'static str> {
    let uri: http::Uri = given.parse().map_err(|_| "not a URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("write http:// or https:// and the mirror's host");
    }
    let authority = uri.authority().ok_or("no host")?;
    if authority.as_str().contains('@') {
        return Err("a user name is not possible here");
    }
    if uri.query().is_some() || given.contains('#') {
        return Err("a query or fragment is not possible here");
    }
    Ok(format!("{}/", given.trim_end_matches('/')))
}

/// A host with or without port, or a block of addresses. A scheme is what dockerd forgives as well.
fn insecure(given: &str) -> Result<String, &'static str> {
    let bare = given.strip_prefix("http://").or_else(|| given.strip_prefix("https://"));
    let bare = bare.unwrap_or(given);
    if let Some((address, bits)) = bare.split_once('/') {
        let address: std::net::IpAddr = address
            .parse()
            .map_err(|_| "write a host, host:port, or a block such as 10.0.0.0/8")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits: Option<u8> = bits.parse().ok().filter(|bits| *bits <= most);
        return bits.map(|_| bare.to_owned()).ok_or("the size of the block is not possible");
    }
    if bare.is_empty() || bare.starts_with('-') || bare.ends_with('-') {
        return Err("not a host");
    }
    let authority: http::uri::Authority = bare.parse().map_err(|_| "not a host")?;
    let behind = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty() || authority.port_u16().is_none() && !behind.is_empty() {
        return Err("not a host");
    }
    Ok(bare.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn settings(flags: &[&str]) -> Result<RegistrySettings, Vec<Mistake>> {
        let cli = Cli::parse_from([&["nerdctld"], flags].concat());
        let mut mistakes = Vec::new();
        let settings = read(&cli, &mut mistakes);
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
    }

    #[test]
    fn flags_of_dockerd_are_understood() {
        let settings = settings(&[
            "--registry-mirror=https://m.example",
            "--registry-mirror=http://m.example:5000/hub/",
            "--registry-mirror=https://m.example/",
            "--insecure-registry=r.example:5000",
            "--insecure-registry=http://[::1]:5000",
            "--insecure-registry=10.0.0.0/8",
        ])
        .unwrap();
        assert_eq!(settings.mirrors, ["https://m.example/", "http://m.example:5000/hub/"]);
        assert_eq!(settings.insecure, ["r.example:5000", "[::1]:5000", "10.0.0.0/8"]);
    }

    #[test]
    fn transfers_are_limited_as_dockerd_limits_them() {
        let limits = |flags: &[&str]| limits(&Cli::parse_from([&["nerdctld"], flags].concat()));
        assert_eq!(limits(&[]), TransferLimits { downloads: 3, uploads: 5, attempts: 5 });
        assert_eq!(limits(&["--max-concurrent-downloads=0"]), limits(&[]));
        let all = limits(&[
            "--max-concurrent-downloads=20",
            "--max-concurrent-uploads=1",
            "--max-download-attempts=2",
        ]);
        assert_eq!(all, TransferLimits { downloads: 20, uploads: 1, attempts: 2 });
        let none = ["nerdctld", "--max-download-attempts=0"];
        assert!(Cli::try_parse_from(none).is_err(), "nothing is ever tried");
    }

    #[test]
    fn mistakes_are_told_by_flag_and_value() {
        for (flag, value) in [
            ("--registry-mirror", "m.example"),
            ("--registry-mirror", "ftp://m.example"),
            ("--registry-mirror", "https://ann:pw@m.example"),
            ("--registry-mirror", "https://m.example/?x=1"),
            ("--insecure-registry", "r.example/path"),
            ("--insecure-registry", "10.0.0.0/33"),
            ("--insecure-registry", "r.example:port"),
            ("--insecure-registry", "a b"),
        ] {
            let mistakes = settings(&[&format!("{flag}={value}")]).unwrap_err();
            let text = mistakes[0].to_string();
            assert!(text.starts_with(flag) && text.contains(value), "{text}");
        }
    }
}
