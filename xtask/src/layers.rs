//! Who may know whom. ARCHITECTURE.md says why; this says it to the compiler's neighbour.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;

use crate::metadata;

/// The arrows between our own crates. A crate that is not here is a mistake.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("names", &[]),
    ("trust", &[]),
    ("docker-wire", &[]),
    ("containerd", &[]),
    ("nerdctl-store", &["names"]),
    ("cni", &[]),
    ("registry", &["names", "trust"]),
    ("io-monitor", &["names", "trust"]),
    ("networking", &["names", "cni", "nerdctl-store"]),
    (
        "engine",
        &["names", "containerd", "nerdctl-store", "cni", "registry", "io-monitor", "networking"],
    ),
    (
        "nerdctld",
        &[
            "names",
            "trust",
            "docker-wire",
            "engine",
            "networking",
            "nerdctl-store",
            "io-monitor",
            "cni",
        ],
    ),
    ("e2e", &["containerd", "cni"]),
    ("xtask", &[]),
];

/// Outside crates that only some of ours may name.
const ONLY: &[(&str, &[&str])] = &[
    ("tonic", &["containerd"]),
    ("prost", &["containerd"]),
    ("prost-types", &["containerd"]),
    ("containerd-client", &["containerd"]),
    ("hyper", &["nerdctld", "registry"]),
    ("http", &["nerdctld", "registry"]),
    ("tokio-rustls", &["trust", "registry", "io-monitor", "nerdctld"]),
    ("rustls-native-certs", &["trust"]),
    ("clap", &["nerdctld", "e2e"]),
    ("oci-spec", &["engine"]),
    ("bollard", &["e2e"]),
    ("anyhow", &["nerdctld", "e2e", "xtask"]),
];

/// Compare cargo's view with the two tables.
pub(crate) fn check() -> anyhow::Result<String> {
    let dependencies = metadata::dependencies()?;
    let wrong = violations(&dependencies);
    if wrong.is_empty() {
        return Ok(format!("{} crates know only whom they may", dependencies.len()));
    }
    bail!("{}", wrong.join("\n"))
}

fn violations(dependencies: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, knows) in dependencies {
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(known, _)| known == name) else {
            wrong.push(format!("{name}: not in the table of crates"));
            continue;
        };
        for other in knows {
            let ours = MAY_KNOW.iter().any(|(known, _)| known == other);
            if ours && !allowed.contains(&other.as_str()) {
                wrong.push(format!("{name} must not know {other}"));
            }
            if let Some((_, users)) = ONLY.iter().find(|(outside, _)| outside == other)
                && !users.contains(&name.as_str())
            {
                wrong.push(format!("{name} must not use {other}: only {} may", users.join(", ")));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(arrows: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        arrows.iter().map(|(name, knows)| ((*name).to_owned(), set(knows))).collect()
    }

    #[test]
    fn forbidden_arrows_are_named() {
        let wrong = violations(&workspace(&[
            ("engine", &["names", "serde", "docker-wire", "hyper"]),
            ("cni", &["engine"]),
            ("helpers", &[]),
        ]));
        assert_eq!(
            wrong,
            [
                "cni must not know engine",
                "engine must not know docker-wire",
                "engine must not use hyper: only nerdctld, registry may",
                "helpers: not in the table of crates",
            ]
        );
    }

    #[test]
    fn allowed_arrows_are_silent() {
        assert!(
            violations(&workspace(&[
                ("engine", &["names", "containerd"]),
                ("containerd", &["tonic"])
            ]))
            .is_empty()
        );
    }
}
