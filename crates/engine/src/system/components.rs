//! Versions of the programs that the daemon works with, asked once each.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::OnceCell;

use super::ComponentVersion;
use crate::Engine;

/// Longer than any program needs to print its version, and shorter than a person waits.
const DEADLINE: Duration = Duration::from_secs(2);

/// Where programs are that are not in the daemon's `PATH`.
const USUAL_FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the programs have said; a failure is forgotten, so that one that is installed later is found.
#[derive(Debug, Default)]
pub(super) struct Programs {
    runc: OnceCell<ComponentVersion>,
    init: OnceCell<ComponentVersion>,
    plugins: OnceCell<ComponentVersion>,
    buildkitd: OnceCell<ComponentVersion>,
}

impl Programs {
    /// runc's version.
    pub(super) async fn runc(&self) -> Option<ComponentVersion> {
        known(&self.runc, async { runc(&output("runc", &["--version"]).await?.0) }).await
    }

    async fn init(&self, program: &Path) -> Option<ComponentVersion> {
        known(&self.init, async { init(&output(program, &["--version"]).await?.0) }).await
    }

    async fn plugins(&self, bridge: &Path) -> Option<ComponentVersion> {
        // Without a command in its environment a plugin says what it is.
        known(&self.plugins, async { plugin(&output(bridge, &[]).await?.1) }).await
    }

    async fn buildkitd(&self) -> Option<ComponentVersion> {
        known(&self.buildkitd, async { buildkitd(&output("buildkitd", &["--version"]).await?.0) })
            .await
    }
}

impl Engine {
    /// The init that containers get, where there is one.
    pub(super) async fn init_version(&self) -> Option<ComponentVersion> {
        self.system_cache().programs().init(self.host().init.as_deref()?).await
    }

    /// The CNI plugins, which have one version for all.
    pub(super) async fn plugins_version(&self) -> Option<ComponentVersion> {
        let bridge = self.settings().cni_path.join("bridge");
        self.system_cache().programs().plugins(&bridge).await
    }

    /// buildkitd, while one answers that would build for us.
    pub(super) async fn buildkitd_version(&self) -> Option<ComponentVersion> {
        if self.ask_buildkitd().await.trouble.is_some() {
            return None;
        }
        Some(self.system_cache().programs().buildkitd().await.unwrap_or_default())
    }
}

async fn known(
    cell: &OnceCell<ComponentVersion>,
    ask: impl Future<Output = Option<ComponentVersion>>,
) -> Option<ComponentVersion> {
    cell.get_or_try_init(|| async { ask.await.ok_or(()) }).await.ok().cloned()
}

/// What a program prints on its standard output and error.
pub(super) async fn output(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: &[&str],
) -> Option<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", format!("{path}:{USUAL_FOLDERS}")).kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    let output = tokio::time::timeout(DEADLINE, Box::pin(command.output())).await.ok()?.ok()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some((text(output.stdout), text(output.stderr)))
}

/// `runc version 1.1.5`, and a line `commit: …` that distributions fill differently (moby `daemon/info_unix.go`).
fn runc(output: &str) -> Option<ComponentVersion> {
    let version = output
        .lines()
        .find_map(|line| line.split_once(" version ").map(|(_, version)| version.trim()))?;
    let commit = output.lines().find_map(|line| line.strip_prefix("commit:")).unwrap_or_default();
    Some(ComponentVersion { version: version.to_owned(), commit: commit.trim().to_owned() })
}

/// `tini version 0.19.0 - git.de40ad0` (moby `daemon/info_unix.go`, `parseInitVersion`).
fn init(output: &str) -> Option<ComponentVersion> {
    let rest = output.trim().strip_prefix("tini version ")?;
    let (version, commit) = rest.split_once(" - git.").unwrap_or((rest, ""));
    Some(ComponentVersion { version: version.to_owned(), commit: commit.to_owned() })
}

/// `CNI bridge plugin v1.4.0`, of older ones `CNI bridge plugin version v0.9.1`; distributions may leave it unknown.
fn plugin(output: &str) -> Option<ComponentVersion> {
    let (_, version) = output.lines().next()?.split_once(" plugin ")?;
    let version = version.strip_prefix("version ").unwrap_or(version).trim();
    Some(ComponentVersion { version: version.to_owned(), commit: String::new() })
}

/// `buildkitd github.com/moby/buildkit v0.12.5 bac3f2b673f3f9d33e79046008e7a38e856b3dc6`.
fn buildkitd(output: &str) -> Option<ComponentVersion> {
    let mut words = output.split_ascii_whitespace().skip(2);
    let version = words.next()?.to_owned();
    Some(ComponentVersion { version, commit: words.next().unwrap_or_default().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(found: Option<ComponentVersion>) -> Option<(String, String)> {
        found.map(|found| (found.version, found.commit))
    }

    fn some(version: &str, commit: &str) -> Option<(String, String)> {
        Some((version.to_owned(), commit.to_owned()))
    }

    #[test]
    fn programs_own_words() {
        let debian =
            "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\ngo: go1.19.8\n";
        assert_eq!(pair(runc(debian)), some("1.1.5+ds1", "1.1.5+ds1-1+deb12u1"));
        assert_eq!(pair(runc("crun version 1.8\n")), some("1.8", ""));
        assert_eq!(runc("something else"), None);
        assert_eq!(pair(init("tini version 0.19.0 - git.de40ad0\n")), some("0.19.0", "de40ad0"));
        assert_eq!(pair(init("tini version 0.19.0\n")), some("0.19.0", ""));
        assert_eq!(init("catatonit 0.1"), None);
        assert_eq!(pair(plugin("CNI bridge plugin v1.4.0\nCNI protocol …")), some("v1.4.0", ""));
        let old = "CNI bridge plugin version unknown\nCNI protocol versions supported: 0.1.0\n";
        assert_eq!(pair(plugin(old)), some("unknown", ""));
        assert_eq!(plugin(""), None);
        let built = "buildkitd github.com/moby/buildkit v0.12.5 bac3f2b6\n";
        assert_eq!(pair(buildkitd(built)), some("v0.12.5", "bac3f2b6"));
        assert_eq!(buildkitd("buildkitd"), None);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_says_nothing() {
        assert_eq!(output("nerdctld-no-such-program", &["--version"]).await, None);
    }
}
