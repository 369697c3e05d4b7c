//! Rules that CNI plugins leave behind.
//!
//! When a container's network namespace is gone, the `bridge` plugin releases the address but not the masquerading
//! rules. They carry the container's CNI id in a comment. Source: nerdctl `pkg/ocihook/ocihook_linux.go`; names of
//! chains: containernetworking/plugins `pkg/utils/utils.go`.

use std::collections::BTreeSet;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha512};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{NetworkingError, Result};

/// How long one run may take: rules are locked while others change them.
const DEADLINE: Duration = Duration::from_secs(60);

/// Which rules: those of IPv4 and of IPv6 are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    fn save(self) -> &'static str {
        match self {
            Self::V4 => "iptables-save",
            Self::V6 => "ip6tables-save",
        }
    }

    fn restore(self) -> &'static str {
        match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        }
    }
}

/// How often deletion is tried while others change rules in between.
const ATTEMPTS: u32 = 3;

/// iptables chains have names of at most this length.
const CHAIN_LENGTH: usize = 28;

/// The rules that translate addresses, as text; empty on a host without iptables.
///
/// # Errors
/// If they cannot be listed.
pub(crate) async fn saved_nat(family: Family) -> Result<String> {
    match run(family.save(), &["-t", "nat"], "").await {
        Err(NetworkingError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(String::new())
        }
        saved => saved,
    }
}

/// Deletes the rules of a container and its own chains, in all tables at once. A host without iptables has none.
///
/// # Errors
/// If the rules cannot be listed, or repeatedly not be deleted.
pub(crate) async fn delete_rules_of(family: Family, cni_id: &str, networks: &[&str]) -> Result<()> {
    let mut attempt = 1;
    loop {
        let saved = match run(family.save(), &[], "").await {
            Err(NetworkingError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            saved => saved?,
        };
        let script = deletions(&saved, cni_id, networks);
        if script.is_empty() {
            return Ok(());
        }
        match run(family.restore(), &["--noflush", "--wait"], &script).await {
            Ok(_) => return Ok(()),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            // A rule of the script is gone already: look again.
            Err(_) => attempt += 1,
        }
    }
}

async fn run(program: &'static str, args: &[&str], input: &str) -> Result<String> {
    let ended = tokio::time::timeout(DEADLINE, talk(program, args, input)).await;
    ended.unwrap_or_else(|_| {
        let said = format!("it took longer than {} s", DEADLINE.as_secs());
        Err(NetworkingError::Iptables { program, said })
    })
}

async fn talk(program: &'static str, args: &[&str], input: &str) -> Result<String> {
    let failed =
        |source: io::Error| NetworkingError::Io { doing: "run", path: program.into(), source };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(NetworkingError::Iptables { program, said });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What to feed to `iptables-restore`, given what `iptables-save` printed; empty if there is nothing to delete.
fn deletions(saved: &str, cni_id: &str, networks: &[&str]) -> String {
    let own_chains: BTreeSet<String> =
        networks.iter().flat_map(|network| chains(network, cni_id)).collect();
    let mut script = String::new();
    let mut table = TableDeletions::default();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = TableDeletions { name: name.to_owned(), ..TableDeletions::default() };
        } else if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split(' ').next().unwrap_or_default();
            table.chains.extend(own_chains.get(chain).cloned());
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            if !own_chains.contains(chain) && mentions(rule, cni_id) {
                table.rules.push(rule.to_owned());
            }
        } else if line == "COMMIT" {
            script.push_str(&table.script());
        }
    }
    script
}

/// What goes from one table: rules in chains that are shared, then the container's own chains with all in them.
#[derive(Default)]
struct TableDeletions {
    name: String,
    rules: Vec<String>,
    chains: Vec<String>,
}

impl TableDeletions {
    fn script(&self) -> String {
        if self.rules.is_empty() && self.chains.is_empty() {
            return String::new();
        }
        let mut lines = vec![format!("*{}", self.name)];
        lines.extend(self.rules.iter().map(|rule| format!("-D {rule}")));
        // They refer to each other, so all are emptied before one is deleted.
        lines.extend(self.chains.iter().map(|chain| format!("-F {chain}")));
        lines.extend(self.chains.iter().map(|chain| format!("-X {chain}")));
        lines.push("COMMIT\n".to_owned());
        lines.join("\n")
    }
}

/// Whether a rule names the id as a whole: one container's id may be the beginning of another's.
fn mentions(rule: &str, cni_id: &str) -> bool {
    let is_part_of_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    rule.match_indices(cni_id).any(|(at, _)| {
        let before = rule[..at].chars().next_back();
        let after = rule[at + cni_id.len()..].chars().next();
        !before.is_some_and(is_part_of_id) && !after.is_some_and(is_part_of_id)
    })
}

/// A container's own chains in a network: for masquerading, and for its published ports.
fn chains(network: &str, cni_id: &str) -> [String; 2] {
    let hash: String = Sha512::digest(format!("{network}{cni_id}"))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ["CNI-", "CNI-DN-"].map(|prefix| format!("{prefix}{hash}")[..CHAIN_LENGTH].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_chains_of_one_container_go() {
        let [masquerade, ports] = chains("bridge", "default-abc");
        let saved = format!(
            "# Generated by iptables-save v1.8.9\n\
             *filter\n:INPUT ACCEPT [0:0]\n:CNI-FORWARD - [0:0]\n\
             -A CNI-FORWARD -s 10.4.0.5/32 -j ACCEPT\nCOMMIT\n\
             # Completed\n\
             # Generated by iptables-save v1.8.9\n\
             *nat\n:PREROUTING ACCEPT [0:0]\n:{masquerade} - [0:0]\n:{ports} - [0:0]\n:CNI-other - [0:0]\n\
             -A POSTROUTING -s 10.4.0.5/32 -m comment --comment \"name: \\\"bridge\\\" id: \\\"default-abc\\\"\" -j {masquerade}\n\
             -A POSTROUTING -s 10.4.0.6/32 -m comment --comment \"name: \\\"bridge\\\" id: \\\"default-abcd\\\"\" -j CNI-other\n\
             -A {masquerade} -d 10.4.0.0/24 -m comment --comment \"name: \\\"bridge\\\" id: \\\"default-abc\\\"\" -j ACCEPT\n\
             COMMIT\n# Completed\n"
        );
        assert_eq!(
            deletions(&saved, "default-abc", &["bridge"]),
            format!(
                "*nat\n\
                 -D POSTROUTING -s 10.4.0.5/32 -m comment --comment \"name: \\\"bridge\\\" id: \\\"default-abc\\\"\" -j {masquerade}\n\
                 -F {masquerade}\n-F {ports}\n-X {masquerade}\n-X {ports}\nCOMMIT\n"
            )
        );
        assert_eq!(deletions(&saved, "default-zzz", &["bridge"]), "");
        assert_eq!(deletions("", "default-abc", &["bridge"]), "");
    }

    #[test]
    fn chains_are_named_as_the_plugins_name_them() {
        // FormatChainName("test", "1234") in the tests of containernetworking/plugins
        assert_eq!(chains("test", "1234")[0], "CNI-2bbe0c48b91a7d1b8a6753a8");
        assert!(chains("a", "b").iter().all(|chain| chain.len() == CHAIN_LENGTH));
    }
}
