//! The AppArmor profile of containers: written, and loaded into the kernel when it is not there.
//!
//! Distributions' updates unload profiles that they do not know, so it is looked for before every use (moby
//! `daemon/apparmor_linux.go`). Loading takes `apparmor_parser`, which compiles the text.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// nerdctl's name of it (`pkg/defaults`), so that both use one.
pub(crate) const DEFAULT_PROFILE: &str = "nerdctl-default";

/// What the kernel has loaded: `name (mode)` lines.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// What containers may do, beside the signals and traces among themselves (moby `profiles/apparmor`).
const ALLOWED: [&str; 5] =
    ["network", "capability", "file", "umount", "signal (receive) peer=unconfined"];

/// Runtimes that have a profile of their own and signal containers on our behalf.
const SIGNALLING: [&str; 2] = ["runc", "crun"];

/// What they may not do, root or not: families of sockets that namespaces do not keep apart, mounts, and writing to
/// what of `/proc` and `/sys` belongs to the host.
const DENIED: [&str; 16] = [
    "network alg",
    "network vsock",
    "mount",
    "@{PROC}/* w",
    "@{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w",
    "@{PROC}/sys/[^k]** w",
    "@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w",
    "@{PROC}/{sysrq-trigger,kcore} rwklx",
    "/sys/[^f]*/** wklx",
    "/sys/f[^s]*/** wklx",
    "/sys/fs/[^c]*/** wklx",
    "/sys/fs/c[^g]*/** wklx",
    "/sys/fs/cg[^r]*/** wklx",
    "/sys/firmware/** rwklx",
    "/sys/devices/virtual/powercap/** rwklx",
    "/sys/kernel/security/** rwklx",
];

/// Load the default profile if the kernel does not have it. Waits for the compiler.
///
/// # Errors
/// [`Error::Failed`] with the compiler's words.
pub(crate) fn ensure_default() -> Result<()> {
    let loaded = fs::read_to_string(LOADED).unwrap_or_default();
    if is_loaded(&loaded, DEFAULT_PROFILE) {
        return Ok(());
    }
    let has = |file: &str| Path::new("/etc/apparmor.d").join(file).exists();
    load(&profile(DEFAULT_PROFILE, &has)).map_err(|reason| {
        Error::failed(format!("load the AppArmor profile {DEFAULT_PROFILE}"), reason)
    })
}

fn is_loaded(profiles: &str, name: &str) -> bool {
    profiles.lines().any(|line| line.split(" (").next() == Some(name))
}

fn load(profile: &str) -> std::result::Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let mut parser = Command::new("apparmor_parser")
        .arg("-Kr")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(words)?;
    if let Some(mut stdin) = parser.stdin.take() {
        stdin.write_all(profile.as_bytes()).map_err(words)?;
    }
    let output = parser.wait_with_output().map_err(words)?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// The text of the profile. `has` says which of AppArmor's own files are installed: the third version of its language
/// is meant, since the fourth takes Unix sockets out of `network`.
fn profile(name: &str, has: &dyn Fn(&str) -> bool) -> String {
    let mut text = String::new();
    if has("abi/3.0") {
        text.push_str("abi <abi/3.0>,\n");
    }
    text.push_str(if has("tunables/global") {
        "#include <tunables/global>\n"
    } else {
        "@{PROC}=/proc/\n"
    });
    text.push_str(&format!("profile \"{name}\" flags=(attach_disconnected,mediate_deleted) {{\n"));
    if has("abstractions/base") {
        text.push_str("  #include <abstractions/base>\n");
    }
    for rule in ALLOWED {
        text.push_str(&format!("  {rule},\n"));
    }
    for runtime in SIGNALLING {
        text.push_str(&format!("  signal (receive) peer={runtime},\n"));
    }
    text.push_str(&format!("  signal (send,receive) peer=\"{name}\",\n"));
    text.push_str(&format!("  ptrace (trace,tracedby,read,readby) peer=\"{name}\",\n"));
    for rule in DENIED {
        text.push_str(&format!("  deny {rule},\n"));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_known_by_its_whole_name() {
        let loaded = "docker-default (enforce)\nnerdctl-default (enforce)\nx//y (complain)\n";
        assert!(is_loaded(loaded, "nerdctl-default") && is_loaded(loaded, "x//y"));
        assert!(!is_loaded(loaded, "nerdctl") && !is_loaded("", "nerdctl-default"));
    }

    #[test]
    fn what_is_installed_is_included() {
        let all = profile("p", &|_| true);
        assert!(
            all.starts_with("abi <abi/3.0>,\n#include <tunables/global>\nprofile \"p\" "),
            "{all}"
        );
        assert!(all.contains("  #include <abstractions/base>\n"));
        let none = profile("p", &|_| false);
        assert!(none.starts_with("@{PROC}=/proc/\nprofile \"p\" "), "{none}");
        for text in [all, none] {
            assert!(text.contains("  deny mount,\n") && text.ends_with("}\n"), "{text}");
            assert!(
                text.lines()
                    .filter(|line| line.starts_with("  ") && !line.contains('#'))
                    .all(|line| line.ends_with(','))
            );
        }
    }
}
