//! runc's version and what it can do, asked once.

use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;

use super::ComponentVersion;
use super::figures::Counted;
use crate::Engine;

/// Longer than any program needs to print its version, and shorter than a person waits.
const DEADLINE: Duration = Duration::from_secs(2);

/// The first kernel that changes all mounts below one at once (mount_setattr(2)).
const RECURSIVE_ATTRIBUTES: (u32, u32) = (5, 12);

/// Where runc is if it is not in the daemon's `PATH`.
const USUAL_FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What has been found out about the neighbours and does not change while they run.
#[derive(Debug, Default)]
pub struct Cache {
    runc: OnceCell<ComponentVersion>,
    recursive_read_only: OnceCell<bool>,
    counted: Counted,
}

impl Cache {
    /// What is counted along the way.
    pub(crate) fn counted(&self) -> &Counted {
        &self.counted
    }

    /// runc's version; a failure is forgotten, so that a runc installed later is found.
    pub(super) async fn runc_version(&self) -> Option<ComponentVersion> {
        self.runc.get_or_try_init(|| async { ask("runc").await.ok_or(()) }).await.ok().cloned()
    }
}

impl Engine {
    /// Whether mounts below a read-only mount can be made read-only too (moby `daemon/daemon_linux.go`,
    /// `supportsRecursivelyReadOnly`).
    pub(crate) async fn recursive_read_only(&self) -> bool {
        let cell = &self.system_cache().recursive_read_only;
        let known = cell
            .get_or_try_init(|| async {
                if self.host().kernel < RECURSIVE_ATTRIBUTES {
                    return Ok(false);
                }
                let features = output("runc", "features").await.ok_or(())?;
                Ok::<_, ()>(mount_options(&features).iter().any(|option| option == "rro"))
            })
            .await;
        known.is_ok_and(|known| *known)
    }
}

/// The mount options of `runc features`, which is there from 1.1 on (OCI runtime-spec `features.md`).
fn mount_options(features: &str) -> Vec<String> {
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Features {
        mount_options: Vec<String>,
    }
    serde_json::from_str::<Features>(features).unwrap_or_default().mount_options
}

async fn ask(program: &str) -> Option<ComponentVersion> {
    parse(&output(program, "--version").await?)
}

async fn output(program: &str, argument: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.arg(argument).env("PATH", format!("{path}:{USUAL_FOLDERS}")).kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    let output = tokio::time::timeout(DEADLINE, command.output()).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `runc version 1.1.5`, and a line `commit: …` that distributions fill differently (moby `daemon/info_unix.go`).
fn parse(output: &str) -> Option<ComponentVersion> {
    let version = output
        .lines()
        .find_map(|line| line.split_once(" version ").map(|(_, version)| version.trim()))?;
    let commit = output.lines().find_map(|line| line.strip_prefix("commit:")).unwrap_or_default();
    Some(ComponentVersion { version: version.to_owned(), commit: commit.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runcs_own_words() {
        let debian =
            "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\n";
        let found = parse(debian).unwrap();
        assert_eq!(
            (found.version.as_str(), found.commit.as_str()),
            ("1.1.5+ds1", "1.1.5+ds1-1+deb12u1")
        );
        assert_eq!(parse("crun version 1.8\n").unwrap().commit, "");
        assert_eq!(parse("something else"), None);
    }

    #[test]
    fn runcs_features() {
        assert_eq!(
            mount_options(r#"{"ociVersionMin":"1.0.0","mountOptions":["ro","rro"]}"#),
            ["ro", "rro"]
        );
        assert!(mount_options("Incorrect Usage").is_empty());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_has_no_version() {
        assert_eq!(ask("nerdctld-no-such-program").await, None);
    }
}
